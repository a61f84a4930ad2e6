"""Latent rungs on disk: arrays as `.npz`, the rest as JSON; loading executes no code."""

import io
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from suffice.encoders.base import Encoder, default_encoder
from suffice.errors import CertificateError, InputError
from suffice.files import reading_folder, write_folder
from suffice.guarantee import Certificate, RiskKind, from_json, to_json
from suffice.guarantee.folder_watch import FolderWatch, record_audits, refuse_alarmed
from suffice.latent.closed import plain_answer
from suffice.latent.joint import Joint
from suffice.latent.predictor import JoinedEncoder, Layers, Ngrams, Predictor, Trust, Voter
from suffice.latent.rung import LatentPolicy, LatentRung
from suffice.latent.template import Template
from suffice.types import Finish, Trial

Arrays = dict[str, NDArray[Any]]
PREDICTOR, RUNG, CERTIFICATE = "predictor.npz", "rung.json", "certificate.json"


class EncoderName(StrEnum):
    """The encoders that a rung can use."""

    WORDLLAMA = "wordllama"
    MINILM = "minilm"  # MiniLM and WordLlama side by side


def open_encoder(name: EncoderName) -> Encoder:
    """Open an encoder by name; raises MissingExtra if its file has not been built."""
    if name is EncoderName.WORDLLAMA:
        return default_encoder()
    from suffice.encoders.onnx import MiniLM

    return JoinedEncoder(MiniLM(), default_encoder())


class Header(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The metadata of a predictor file; `voters` names the kind of each voter."""

    encoder: str
    answers: tuple[str, ...]
    voters: tuple[str, ...]
    trust_intercept: float
    fingerprint: str


class RungFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a rung, beside its predictor and its certificate."""

    encoder: EncoderName
    threshold: float
    template: Template
    groups: tuple[str | None, ...]
    rare: tuple[str, ...]


def save_rung(
    folder: Path, policy: LatentPolicy, certificate: Certificate, *, encoder: EncoderName
) -> None:
    """Write a rung into a folder; raises InputError if the disk refuses."""
    rung = RungFile(
        encoder=encoder,
        threshold=policy.threshold,
        template=policy.template,
        groups=tuple(sorted(policy.groups, key=str)),
        rare=tuple(sorted(policy.rare)),
    )
    files = {
        PREDICTOR: predictor_bytes(policy.predictor),
        RUNG: msgspec.json.encode(rung) + b"\n",
        CERTIFICATE: to_json(certificate) + b"\n",
    }
    write_folder(folder, files)


def load_rung(folder: Path) -> LatentRung:
    """Read a rung that may answer.

    Raises InputError if the folder holds none. Raises CertificateError if its encoder, predictor or
    threshold differ from the certified ones, if the certificate lapsed, or if an alarm ended it.
    """
    policy, certificate = read_rung(folder)
    refuse_alarmed(folder, certificate.certificate_id)
    return LatentRung(policy, certificate)


def watch_rung(folder: Path, trials: Iterable[Trial]) -> FolderWatch:
    """Audit a rung on fresh answers of its reference rung, and return the state of its watch.

    `trials` must be of a random part of the requests. Trials of other groups and trials without a
    whole answer are ignored. Raises InputError if none is left.
    """
    policy, certificate = read_rung(folder)
    marginal = certificate.risk_kind is not RiskKind.ERROR_AMONG_ANSWERED
    audits = [
        trial
        for trial in trials
        if trial.rung == certificate.terms.reference
        and trial.group in policy.groups
        and trial.answer is not None
        and trial.finish in (None, Finish.STOP)
    ]
    if not audits:
        raise InputError(
            f"no answer of {certificate.terms.reference!r} can audit this rung",
            hint="give trials of its reference rung on a random part of its requests",
        )
    predictions = policy.predictor.predict([policy.template.variable(t.text) or "" for t in audits])
    losses: dict[str, float] = {}
    for trial, answer, trust in zip(audits, predictions.answers, predictions.trust, strict=True):
        if trust >= policy.threshold:
            right = policy.predictor.answers[int(answer)] == plain_answer(trial.answer or "")
            losses[trial.request_id] = float(not right)
        elif marginal:
            losses[trial.request_id] = 0.0
    return record_audits(
        folder,
        certificate.certificate_id,
        losses,
        alpha=certificate.alpha,
        delta=certificate.delta,
    )


def read_rung(folder: Path) -> tuple[LatentPolicy, Certificate]:
    """Read a rung and its certificate, valid or not; raises InputError or CertificateError."""
    with reading_folder(
        folder,
        "latent rung",
        file=RUNG,
        make="suffice latent fit TRIALS --reference RUNG --out FOLDER",
        again="fit it again",
    ):
        rung = msgspec.json.decode((folder / RUNG).read_bytes(), type=RungFile)
        certificate = from_json((folder / CERTIFICATE).read_bytes())
    policy = LatentPolicy(
        predictor=load_predictor(folder / PREDICTOR, encoder=open_encoder(rung.encoder)),
        threshold=rung.threshold,
        template=rung.template,
        groups=frozenset(rung.groups),
        rare=frozenset(rung.rare),
    )
    return policy, certificate


def predictor_bytes(predictor: Predictor) -> bytes:
    """Return the bytes of a predictor's file; the file names the encoder but does not hold it."""
    header = Header(
        encoder=predictor.encoder.fingerprint,
        answers=predictor.answers,
        voters=tuple(type(voter).__name__ for voter in predictor.voters),
        trust_intercept=predictor.trust.intercept,
        fingerprint=predictor.fingerprint,
    )
    arrays: Arrays = {
        f"{i}.{name}": array
        for i, voter in enumerate(predictor.voters)
        for name, array in voter.arrays().items()
    }
    arrays["trust"] = predictor.trust.weights
    arrays["header"] = np.frombuffer(msgspec.json.encode(header), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def load_predictor(path: Path, *, encoder: Encoder) -> Predictor:
    """Read a predictor for use with `encoder`.

    Raises CertificateError if it was fitted on another encoder or another quantisation of it, and
    InputError if the file is damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        header = msgspec.json.decode(arrays.pop("header").tobytes(), type=Header)
        predictor = _build(header, arrays, encoder=encoder)
    except (OSError, ValueError, KeyError, BadZipFile, msgspec.MsgspecError) as error:
        raise InputError(f"{path} is not a predictor: {error}", hint="train it again") from error
    if header.encoder != encoder.fingerprint:
        raise CertificateError(
            f"the predictor was fitted on encoder {header.encoder}, not {encoder.fingerprint}",
            hint="use that encoder, or fit and certify again on this one",
        )
    if predictor.fingerprint != header.fingerprint:
        raise InputError(f"{path} was altered after it was written", hint="train it again")
    return predictor


def _build(header: Header, arrays: Arrays, *, encoder: Encoder) -> Predictor:
    trust = Trust(weights=arrays.pop("trust"), intercept=header.trust_intercept)
    voters = tuple(
        _voter(kind, {n.split(".", 1)[1]: a for n, a in arrays.items() if n.startswith(f"{i}.")})
        for i, kind in enumerate(header.voters)
    )
    return Predictor(answers=header.answers, encoder=encoder, voters=voters, trust=trust)


def _voter(kind: str, arrays: Arrays) -> Voter:
    match kind:
        case "Layers":
            depth = len(arrays) // 2
            return Layers(
                weights=tuple(arrays[f"w{i}"] for i in range(depth)),
                biases=tuple(arrays[f"b{i}"] for i in range(depth)),
            )
        case "Ngrams":
            return Ngrams(**arrays)
        case "Joint":
            return Joint(**arrays)
        case _:
            raise InputError(f"unknown kind of voter {kind!r}", hint="update suffice")
