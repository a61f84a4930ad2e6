"""Certified stopping rules in a folder: the rules as JSON, the certificate beside it."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from suffice.early_stop.engine import EarlyStop, EarlyStopping, check_stopping, stopping_hash
from suffice.early_stop.rule import ReasoningTags, StopRule, Trace, replay
from suffice.engines.base import Engine
from suffice.errors import InputError
from suffice.files import reading_folder, write_folder
from suffice.guarantee import Certificate, check, from_json, to_json
from suffice.guarantee.folder_watch import FolderWatch, record_audits, refuse_alarmed
from suffice.types import Rung

RULES, CERTIFICATE = "rules.json", "certificate.json"


class RulesFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules by request group, and the reasoning tags of their model."""

    rules: dict[str, StopRule]
    tags: ReasoningTags


def save_stopping(folder: Path, file: RulesFile, certificate: Certificate) -> None:
    """Write rules into a folder; raises InputError if the disk refuses."""
    write_folder(
        folder,
        {
            RULES: msgspec.json.encode(file) + b"\n",
            CERTIFICATE: to_json(certificate) + b"\n",
        },
    )


def load_stopping(folder: Path, rung: Rung) -> EarlyStopping:
    """Read the rules of a rung.

    Raises InputError if the folder holds no rules, and ConfigError if early stop cannot be used
    with the rung. Raises CertificateError if the rung's settings differ from the certified ones, if
    the certificate has lapsed, or if an alarm ended it.
    """
    check_stopping(rung)
    file, certificate = read_rules(folder)
    policy_hash = stopping_hash(file.rules, file.tags, rung)
    check(certificate, now=datetime.now(UTC), policy_hash=policy_hash)
    refuse_alarmed(folder, certificate.certificate_id)
    return EarlyStopping(rules=file.rules, tags=file.tags, certificate=certificate)


def watch_rules(folder: Path, traces: Iterable[Trace]) -> FolderWatch:
    """Audit rules on fresh traces, and return the state of their watch.

    The traces must be of a random part of the requests. Traces with an unscored answer and traces
    of other groups are ignored. Raises InputError if none is left.
    """
    file, certificate = read_rules(folder)
    groups = certificate.terms.scope.groups
    losses: dict[str, float] = {}
    for trace in traces:
        if not trace.scored or (groups and trace.group not in groups):
            continue
        rule = file.rules.get((trace.group or "") if groups else "")
        stopped = None if rule is None else replay(trace, rule).stopped
        lost = 0.0 if stopped is None else (trace.quality or 0.0) - (stopped.quality or 0.0)
        losses[trace.request_id] = max(0.0, lost)
    if not losses:
        raise InputError(
            "no trace can audit these rules",
            hint="give scored traces of the certified groups: suffice latent stop --traces FILE",
        )
    return record_audits(
        folder,
        certificate.certificate_id,
        losses,
        alpha=certificate.alpha,
        delta=certificate.delta,
    )


def read_rules(folder: Path) -> tuple[RulesFile, Certificate]:
    """Read rules and certificate, valid or not; raises InputError if the folder holds none."""
    with reading_folder(
        folder,
        "stopping rules",
        file=RULES,
        make="suffice latent stop TASKS --ladder FILE --rung RUNG --out FOLDER",
        again="make it again",
    ):
        file = msgspec.json.decode((folder / RULES).read_bytes(), type=RulesFile)
        certificate = from_json((folder / CERTIFICATE).read_bytes())
    return file, certificate


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
