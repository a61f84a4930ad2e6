"""Certified stopping rules in a folder: the rules as JSON, the certificate beside it."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from suffice.early_stop.engine import EarlyStop, EarlyStopping, check_stopping, stopping_hash
from suffice.early_stop.rule import ReasoningTags, StopRule
from suffice.engines.base import Engine
from suffice.errors import InputError, writing
from suffice.guarantee import Certificate, check, from_json, to_json
from suffice.types import Rung

RULES, CERTIFICATE = "rules.json", "certificate.json"


class RulesFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules by request group, and the tags of the model that they were made for."""

    rules: dict[str, StopRule]
    tags: ReasoningTags


def save_stopping(folder: Path, file: RulesFile, certificate: Certificate) -> None:
    """Write rules into a folder, made if need be; raises InputError when the disk refuses."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RULES).write_bytes(msgspec.json.encode(file) + b"\n")
        (folder / CERTIFICATE).write_bytes(to_json(certificate) + b"\n")


def load_stopping(folder: Path, rung: Rung) -> EarlyStopping:
    """Read the rules of a rung.

    Raises InputError if the folder holds none, ConfigError if early stop cannot be used with the
    rung, and CertificateError if the rung has other settings than certified or the certificate has
    lapsed.
    """
    check_stopping(rung)
    try:
        file = msgspec.json.decode((folder / RULES).read_bytes(), type=RulesFile)
        certificate = from_json((folder / CERTIFICATE).read_bytes())
    except OSError as error:
        raise InputError(
            f"{folder} holds no stopping rules: {error.strerror}",
            hint="make one with: suffice latent stop TASKS --ladder FILE --rung RUNG --out FOLDER",
        ) from error
    except msgspec.DecodeError as error:
        raise InputError(f"{folder / RULES} is damaged: {error}", hint="make it again") from error
    policy_hash = stopping_hash(file.rules, file.tags, rung)
    check(certificate, now=datetime.now(UTC), policy_hash=policy_hash)
    return EarlyStopping(rules=file.rules, tags=file.tags, certificate=certificate)


def with_early_stop(engine: Engine, rungs: Iterable[Rung]) -> EarlyStop:
    """Return an engine that stops the reasoning of the rungs with an `early_stop` folder."""
    return EarlyStop(
        engine,
        {
            rung.name: load_stopping(Path(rung.early_stop), rung)
            for rung in rungs
            if rung.early_stop is not None
        },
    )
