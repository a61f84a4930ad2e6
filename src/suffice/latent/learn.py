"""A latent rung from trials: the reference rung's answers fit it, certify it, and report on it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter

import msgspec
import numpy as np
from msgspec import Struct

from suffice.encoders.base import CachedEncoder, Encoder
from suffice.errors import InputError
from suffice.guarantee import (
    Certificate,
    LabelSource,
    RiskKind,
    Scope,
    Splits,
    Terms,
    content_hash,
    issue,
)
from suffice.latent import fitting
from suffice.latent.certify import CertifiedThreshold, Feasibility, certify
from suffice.latent.predictor import Predictor
from suffice.latent.rung import LatentPolicy
from suffice.latent.template import Template, learn_template
from suffice.trials.table import split_rows
from suffice.types import Finish, Say, Trial

FEWEST_OF_AN_ANSWER = 5  # fitting rows; a rarer answer counts as none of the list
CLOSED_SHARE = 0.5  # of a group's answers that must not be rare
TIMED = 200  # decisions
KINDS = (fitting.PredictorKind.HEAD, fitting.PredictorKind.JOINT)
SPLITS = ("fit", "certify", "report")

Asked = list[tuple[str, str | None]]  # text, and the reference's answer


class LatentTarget(Struct, frozen=True, kw_only=True):
    """What to promise, and about which requests.

    Without `group` the trials must hold one closed group; without `answers` the list is what the
    reference rung answered. With it, any other answer counts as out of scope. `label_source` says
    whether the answers of the trials are the reference's own, or true targets put in their place.
    """

    reference: str
    alpha: float
    delta: float
    lapses_after_s: float
    risk_kind: RiskKind = RiskKind.ERROR_AMONG_ANSWERED
    group: str | None = None
    answers: tuple[str, ...] = ()
    label_source: LabelSource = LabelSource.AGREEMENT
    seed: int = 0


class LearnedRung(Struct, frozen=True, kw_only=True):
    """What came of it; `answered` and `error_among_answered` are those of the reporting split.

    `certified` is the promise; `bound`, `n` and `errors` stand behind it. `predictor` is the kind
    that looked better out of fold. `decision_s` is the median time of a decision on this machine.
    `out_of_scope_share` is None if no certifying row was out of scope.
    """

    certified: bool
    reference: str
    alpha: float
    delta: float
    risk_kind: RiskKind
    feasibility: Feasibility
    group: str | None
    answers: int
    predictor: fitting.PredictorKind
    bound: float
    n: int
    errors: float
    rows: dict[str, int]
    left_out: int
    out_of_scope_share: float | None
    answered: float
    error_among_answered: float | None
    decision_s: float
    certificate: Certificate | None


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentFit:
    """The rung, None if nothing could be certified, and the figures."""

    policy: LatentPolicy | None
    learned: LearnedRung


@dataclass(frozen=True, kw_only=True, eq=False)
class _ChosenPredictor:
    """The predictor that looked better out of fold, and what its certifying rows allow."""

    kind: fitting.PredictorKind
    predictor: Predictor
    found: CertifiedThreshold


@dataclass(frozen=True, kw_only=True, eq=False)
class _Parts:
    """The rows of each split, the template cut off; an answer that is not on the list is None."""

    wanted: LatentTarget
    fit: fitting.LabelledTexts
    certify: fitting.LabelledTexts
    report: fitting.LabelledTexts
    template: Template
    group: str | None
    left_out: int

    def hash_of(self, name: str) -> str:
        rows = getattr(self, name)
        return content_hash([list(rows.texts), list(rows.answers)])


def learn_rung(
    trials: Iterable[Trial], wanted: LatentTarget, *, encoder: Encoder, say: Say
) -> LatentFit:
    """Fit a rung on half of the requests, certify it on four tenths, report on the last tenth.

    Answers that are rare in the fitting rows count as out of scope: they teach it to abstain.
    Raises InputError if the trials hold no closed group, several of which none is named, or too few
    rows for any promise.
    """
    parts = _split(trials, wanted)
    seen = CachedEncoder(encoder)
    say(f"fitting on {len(parts.fit.texts):,} requests")
    fits = {kind: fitting.fit(parts.fit, encoder=seen, kind=kind) for kind in KINDS}
    kind = max(fits, key=lambda kind: fits[kind].share_at(wanted.alpha))
    say(f"certifying on {len(parts.certify.texts):,} others")
    predictor = replace(fits[kind].predictor, encoder=encoder)
    found = certify(
        predictor,
        parts.certify,
        grid=fits[kind].grid(),
        alpha=wanted.alpha,
        delta=wanted.delta,
        risk_kind=wanted.risk_kind,
    )
    fitted = _ChosenPredictor(kind=kind, predictor=predictor, found=found)
    policy = _policy(fitted, parts)
    certificate = None
    if policy is not None:
        certificate = issue(found.calibration, _terms(policy, parts, found=found))
    learned = _learned(fitted, parts, certificate=certificate)
    return LatentFit(policy=policy, learned=learned)


def plain_answer(text: str) -> str:
    """Return the answer inside a reply: a JSON string, or the only string of a JSON object."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text.strip()
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    return value if isinstance(value, str) else text.strip()


def _split(trials: Iterable[Trial], wanted: LatentTarget) -> _Parts:
    groups, left_out = _by_group(trials, wanted.reference)
    group = _closed_group(groups, wanted)
    asked = groups[group]
    dealt = [[asked[i] for i in rows] for rows in split_rows(len(asked), seed=wanted.seed)]
    template = learn_template([text for text, _ in dealt[0]])
    listed = _listed(dealt[0], wanted.answers)
    fit, test, report = (_rows(part, template, listed=listed) for part in dealt)
    return _Parts(
        wanted=wanted,
        fit=fit,
        certify=test,
        report=report,
        template=template,
        group=group,
        left_out=left_out[group],
    )


def _by_group(
    trials: Iterable[Trial], reference: str
) -> tuple[dict[str | None, Asked], Counter[str | None]]:
    """Gather what the reference rung answered, and count what it has no whole answer to."""
    groups: dict[str | None, Asked] = {}
    left_out: Counter[str | None] = Counter()
    for trial in trials:
        if trial.rung != reference:
            continue
        if trial.answer is None or trial.finish not in (None, Finish.STOP):
            left_out[trial.group] += 1
        else:
            asked = groups.setdefault(trial.group, [])
            asked.append((trial.text, plain_answer(trial.answer)))
    if not groups:
        raise InputError(
            f"no trial of the reference rung {reference!r} has an answer",
            hint="give trials that `suffice bench` recorded: those hold the answers",
        )
    return groups, left_out


def _closed_group(groups: dict[str | None, Asked], wanted: LatentTarget) -> str | None:
    """Find the group that was asked for, or the only one with few distinct answers."""
    if wanted.group is not None:
        if wanted.group not in groups:
            known = ", ".join(sorted(str(group) for group in groups))
            raise InputError(f"no group {wanted.group!r}", hint=f"groups here: {known}")
        return wanted.group
    closed = [group for group, asked in groups.items() if _is_closed(asked)]
    if len(closed) == 1:
        return closed[0]
    if not closed:
        raise InputError(
            "no group of requests has few distinct answers, each given often",
            hint="a latent rung predicts answers from a list; name one with --group if this is one",
        )
    names = ", ".join(sorted(str(group) for group in closed))
    raise InputError(
        f"{len(closed)} groups have few distinct answers: {names}",
        hint="a rung predicts one list of answers: name one with --group",
    )


def _is_closed(asked: Asked) -> bool:
    counts = Counter(answer for _, answer in asked)
    often = [count for count in counts.values() if count >= FEWEST_OF_AN_ANSWER]
    return len(often) > 1 and sum(often) >= CLOSED_SHARE * len(asked)


def _listed(fit: Asked, given: tuple[str, ...]) -> frozenset[str]:
    """Return the answers that the predictor learns: on the list, and not rare."""
    counts = Counter(answer for _, answer in fit)
    often = {
        answer
        for answer, count in counts.items()
        if answer is not None and count >= FEWEST_OF_AN_ANSWER
    }
    return frozenset(often & {*given} if given else often)


def _rows(part: Asked, template: Template, *, listed: frozenset[str]) -> fitting.LabelledTexts:
    """Cut the template off; a prompt without it becomes an empty text, which is never answered."""
    return fitting.LabelledTexts(
        texts=[template.variable(text) or "" for text, _ in part],
        answers=[answer if answer in listed else None for _, answer in part],
    )


def _policy(fitted: _ChosenPredictor, parts: _Parts) -> LatentPolicy | None:
    if fitted.found.threshold is None:
        return None
    return LatentPolicy(
        predictor=fitted.predictor,
        threshold=fitted.found.threshold,
        template=parts.template,
        groups=frozenset([parts.group]),
        rare=frozenset(parts.wanted.answers) - {*fitted.predictor.answers},
    )


def _terms(policy: LatentPolicy, parts: _Parts, *, found: CertifiedThreshold) -> Terms:
    created = datetime.now(UTC)
    return Terms(
        policy_hash=policy.policy_hash,
        reference=parts.wanted.reference,
        label_source=parts.wanted.label_source,
        splits=Splits(**{name: parts.hash_of(name) for name in SPLITS}),
        scope=Scope(
            groups=() if parts.group is None else (parts.group,),
            out_of_scope_share=found.out_of_scope_share,
            unscored=parts.left_out,
        ),
        created=created,
        lapses_at=created + timedelta(seconds=parts.wanted.lapses_after_s),
    )


def _learned(
    fitted: _ChosenPredictor, parts: _Parts, *, certificate: Certificate | None
) -> LearnedRung:
    predictor, found, wanted = fitted.predictor, fitted.found, parts.wanted
    guesses = predictor.guess(parts.report.texts)
    given = guesses.trust >= (np.inf if found.threshold is None else found.threshold)
    wrong = given & ~fitting.right(guesses, parts.report.answers, predictor.answers)
    return LearnedRung(
        certified=certificate is not None,
        reference=wanted.reference,
        alpha=wanted.alpha,
        delta=wanted.delta,
        risk_kind=wanted.risk_kind,
        feasibility=found.feasibility,
        group=parts.group,
        answers=len(predictor.answers),
        predictor=fitted.kind,
        bound=found.calibration.bound,
        n=found.calibration.n,
        errors=found.calibration.losses,
        rows={name: len(getattr(parts, name).texts) for name in SPLITS},
        left_out=parts.left_out,
        out_of_scope_share=found.out_of_scope_share,
        answered=float(given.mean()),
        error_among_answered=float(wrong.sum() / given.sum()) if given.any() else None,
        decision_s=_decision_s(predictor, parts.report.texts[:TIMED]),
        certificate=certificate,
    )


def _decision_s(predictor: Predictor, texts: Sequence[str]) -> float:
    times = []
    for text in texts:
        begun = perf_counter()
        predictor.guess([text])
        times.append(perf_counter() - begun)
    return median(times)
