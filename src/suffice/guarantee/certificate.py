"""The certificate: what was promised, on which evidence, for which policy, and until when."""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from math import ceil
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from suffice.errors import CertificateError, InputError
from suffice.guarantee.calibrate import Calibration, RiskKind
from suffice.guarantee.clusters import Per
from suffice.guarantee.lineage import Lineage
from suffice.guarantee.methods import Method

Probability = Annotated[float, Meta(gt=0.0, lt=1.0)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Difference = Annotated[float, Meta(ge=-1.0, le=1.0)]
Natural = Annotated[int, Meta(ge=0)]


class LabelSource(StrEnum):
    """Where the losses came from; it decides what the promise is about."""

    TARGET = "target"  # compared with a known right answer
    SCORER = "scorer"  # a program's verdict on the answer
    JUDGE = "judge"  # a judge model's verdict, mended by human labels
    AGREEMENT = "agreement"  # compared with the reference rung's own answer
    OUTCOME = "outcome"  # how sessions came out, of two arms that were drawn at random


_SHARED = (  # fields that a certificate takes over from its calibration
    "alpha",
    "delta",
    "risk_kind",
    "per",
    "method",
    "index",
    "tests",
    "n",
    "clusters",
    "largest",
    "losses",
    "bound",
    "human_n",
)
FORM: Literal[3] = 3  # of the file; 2 says what one unit of the promise is, 3 its lineage
_ABOUT_LABELS = {
    LabelSource.TARGET: "Losses compare answers with known targets: wrong targets are not covered.",
    LabelSource.SCORER: "Losses are a program's verdict: what it cannot see is not covered.",
    LabelSource.JUDGE: "Losses are a judge's, mended by human labels: the humans count as right.",
    LabelSource.AGREEMENT: "Losses are disagreement with the reference rung: agreeing with it says "
    "nothing about being right.",
    LabelSource.OUTCOME: "Losses are outcomes of sessions drawn for the policy or the reference: "
    "what nobody reports is not covered.",
}
_AVERAGED = {
    (Per.REQUEST, True): "all requests",
    (Per.REQUEST, False): "answered requests",
    (Per.SESSION, True): "sessions, each with the mean of its requests",
    (Per.SESSION, False): "sessions, each with the mean of its answered requests",
}
_AGAIN = "certify again on fresh rows: suffice recertify LEDGER"


class Splits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content hashes of the rows that fitted the policy, certified it, and reported on it."""

    fit: str
    certify: str
    report: str | None = None


class Scope(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which traffic the calibration sample stood for.

    `groups` are the declared groups seen, empty where none were declared. `out_of_scope_share` is
    the share of calibration rows that the rung was not made for; None means there were none, and
    the certificate is void for such requests. `unscored` requests had no quality on some rung and
    were left out: nothing is promised about their like. `promised` is the risk that a group may
    have: an average over all groups says nothing of each, so they are watched against this; a group
    that is not in it is watched against `alpha`.
    """

    groups: tuple[str, ...] = ()
    out_of_scope_share: Share | None = None
    unscored: Natural = 0
    promised: dict[str, Share] = {}


class CheckErrors(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often an operator's check erred.

    `bad` answers are worse than the reference's, `good` ones are not. A bad answer that passed is a
    false accept, a good one that did not is a false reject. The bounds are upper ones of the rates.
    """

    bad: Natural
    good: Natural
    false_accepts: Natural
    false_rejects: Natural
    false_accept_bound: Share
    false_reject_bound: Share


class Terms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a certificate is about, besides the numbers.

    `policy_hash` covers the policy and its encoder; rungs are known by name, which `limits` says.
    `lineage` says how many looks share delta. `checks` says by rung how the operator's check erred,
    where its answers stay only if they pass. Times need a time zone.
    """

    policy_hash: str
    reference: str
    label_source: LabelSource
    splits: Splits
    scope: Scope
    created: Annotated[datetime, Meta(tz=True)]
    lapses_at: Annotated[datetime, Meta(tz=True)]
    lineage: Lineage = Lineage()
    checks: dict[str, CheckErrors] = {}


class Certificate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A promise, `P(risk <= alpha) >= 1 - delta`, with what stands behind it.

    `certificate_id` is the start of the hash of all other fields: it shows a slip, not a forgery.
    `index` is the accepted point of the policy path; `per`, `n`, `clusters`, `largest`, `losses`
    and `bound` are as in `Calibration`.
    """

    form: Literal[3]
    certificate_id: str
    alpha: Probability
    delta: Probability
    risk_kind: RiskKind
    per: Per
    method: Method
    index: Natural
    tests: Annotated[int, Meta(ge=1)]
    n: Annotated[int, Meta(ge=1)]
    clusters: Annotated[int, Meta(ge=1)]
    largest: Annotated[int, Meta(ge=1)]
    losses: float
    bound: Difference
    human_n: Natural | None
    terms: Terms
    limits: tuple[str, ...]


def issue(calibration: Calibration, terms: Terms) -> Certificate:
    """Make the certificate of a calibration that certified something.

    Raises `CertificateError` if it did not, if the terms lapse before they begin, or if the label
    source does not fit the method.
    """
    if not calibration.certified:
        raise CertificateError(
            f"nothing could be certified at alpha {calibration.alpha:g}",
            hint=_way_out(calibration),
        )
    _check_terms(terms, calibration.method)
    draft = Certificate(
        form=FORM,
        certificate_id="",
        terms=terms,
        limits=_limits(calibration, terms),
        **{name: getattr(calibration, name) for name in _SHARED},
    )
    return msgspec.structs.replace(draft, certificate_id=_identify(draft))


def check(
    certificate: Certificate,
    *,
    now: datetime,
    policy_hash: str,
    group: str | None = None,
    revoked: Collection[str] = (),
) -> None:
    """Raise `CertificateError` unless the certificate covers this policy and group at this time.

    `revoked` holds the ids of certificates that an alarm has ended. With `group` None the group
    is not checked.
    """
    terms = certificate.terms
    _check_zone("now", now)
    if certificate.certificate_id in revoked:
        raise CertificateError("the certificate was revoked by an alarm", hint=_AGAIN)
    if policy_hash != terms.policy_hash:
        raise CertificateError(
            "the certificate belongs to another policy or encoder",
            hint="load the policy it was made for, or certify this one",
        )
    if now < terms.created:
        raise CertificateError("the certificate is not valid yet", hint="check the system clock")
    if now >= terms.lapses_at:
        raise CertificateError(f"the certificate lapsed at {terms.lapses_at}", hint=_AGAIN)
    if group is not None and terms.scope.groups and group not in terms.scope.groups:
        raise CertificateError(
            f"the certificate does not cover group {group!r}",
            hint=f"groups covered: {', '.join(terms.scope.groups)}",
        )


def to_json(certificate: Certificate) -> bytes:
    """Return the certificate as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(certificate), indent=2)


def from_json(data: bytes | str) -> Certificate:
    """Read a certificate; raise `CertificateError` if a field is unknown, wrong or was altered.

    Raises `InputError` for one of an earlier form.
    """
    try:
        certificate = msgspec.json.decode(data, type=Certificate)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _refuse_earlier_form(data)
        raise CertificateError(
            f"the certificate cannot be read: {error}",
            hint="it may be cut short, edited, or from a newer version of suffice",
        ) from error
    if certificate.certificate_id != _identify(certificate):
        raise CertificateError(
            "the certificate was altered after it was issued",
            hint="restore the file that suffice wrote, or certify again",
        )
    return certificate


def content_hash(value: object) -> str:
    """Return the SHA-256 of a value's canonical JSON, for policies, splits and certificates."""
    return sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()


def _refuse_earlier_form(data: bytes | str) -> None:
    """Raise `InputError` where a file is a whole certificate of a form that is no longer read."""
    try:
        fields = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if isinstance(fields, dict) and {"certificate_id", "terms"} <= fields.keys():
        form = fields.get("form", 1)
        if form != FORM:
            raise InputError(
                f"the certificate has form {form}, and this suffice reads form {FORM}",
                hint="certify again on the same trials; the old file is left as it is",
            )


def _limits(calibration: Calibration, terms: Terms) -> tuple[str, ...]:
    """Return, in plain sentences, what the certificate does not promise."""
    whole = calibration.risk_kind is not RiskKind.ERROR_AMONG_ANSWERED
    unit = "session" if calibration.per is Per.SESSION else "request"
    sentences = [
        "Live requests must come from the same population as the certifying rows.",
        f"The risk is an average over {_AVERAGED[calibration.per, whole]}, "
        f"not a promise for each {unit} or group.",
        _ABOUT_LABELS[terms.label_source],
        "Each answer was seen once: a rung whose answers vary from run to run is covered on "
        "average, and only while it varies as it did then.",
    ]
    if whole:
        sentences.append("Errors of the reference rung itself are not covered.")
    if calibration.risk_kind is RiskKind.NET_LOSS:
        sentences.append(
            "Better answers make up for worse ones: it is the average quality that is promised."
        )
    if terms.checks:
        sentences.append(
            f"Answers of {', '.join(sorted(terms.checks))} stay only if they pass the operator's "
            "check: a check that changes, or runs on other files, is not covered."
        )
    if terms.checks and calibration.per is Per.SESSION:
        sentences.append(
            "A session that failed its check counts as the reference's: live, it moves up at its "
            "next boundary, and what it did before stays. Outcomes of sessions tell the difference."
        )
    if calibration.part < 1:
        sentences.append(
            f"A random {calibration.part:.1%} of requests, drawn by their ids, may be kept from "
            "the reference, and losses are counted as if all were: ids must not follow what "
            "requests are about."
        )
    if calibration.left_out:
        sentences.append(
            f"The first {calibration.largest} requests of a session or text counted; "
            f"{calibration.left_out} later ones did not, and their like are not covered."
        )
    sentences.append(
        "Rungs are known by name: each must go on meaning the same engine, model and settings."
    )
    if terms.scope.unscored:
        sentences.append(
            f"{terms.scope.unscored} requests could not be scored on every rung and were left out: "
            "requests like them are not covered."
        )
    if terms.scope.out_of_scope_share is None:
        sentences.append("Void for out-of-scope requests: none were in the certifying rows.")
    return tuple(sentences)


def _identify(certificate: Certificate) -> str:
    return content_hash(msgspec.structs.replace(certificate, certificate_id=""))[:32]


def _way_out(calibration: Calibration) -> str:
    """Say what would certify: a larger alpha at these losses, or more rows."""
    least = ceil(calibration.bound * 10_000) / 10_000
    larger = f"these {calibration.n} rows certify no alpha below {least:.4f}"
    if calibration.method is Method.JUDGED:
        return f"{larger}; more human labels would bring it down"
    if calibration.rows_needed is None:
        return f"{larger}; the loss rate itself is too high for more rows to help"
    needed = f"{calibration.rows_needed} rows"
    if calibration.clusters < calibration.n:
        needed += f" in {calibration.clusters_needed} clusters"
    return f"{larger}; at this loss rate {needed} would do"


def _check_terms(terms: Terms, method: Method) -> None:
    _check_zone("created", terms.created)
    _check_zone("lapses_at", terms.lapses_at)
    if terms.lapses_at <= terms.created:
        raise CertificateError("a certificate must lapse after it is made")
    if (terms.label_source is LabelSource.JUDGE) != (method is Method.JUDGED):
        raise CertificateError(
            f"labels from {terms.label_source.value!r} do not go with method {method.value!r}",
            hint="a judge needs human labels and method 'judged'; without any human "
            "labels certify 'agreement' with the reference",
        )


def _check_zone(name: str, when: datetime) -> None:
    if when.tzinfo is None:
        raise InputError(f"{name} has no time zone", hint="use datetime.now(UTC)")
