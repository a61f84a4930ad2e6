"""Learn a latent rung from trials: fit, certify and report on the reference rung's answers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter

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
from suffice.latent.closed import plain_answer
from suffice.latent.predictor import Predictor
from suffice.latent.rung import LatentPolicy
from suffice.latent.template import Template, learn_template
from suffice.trials.table import split_rows
from suffice.types import Finish, Say, Trial

FEWEST_OF_AN_ANSWER = 5  # fitting rows; a rarer answer counts as out of scope
CLOSED_SHARE = 0.5  # in a closed group, at least this share of the answers is not rare
TIMED = 200  # decisions
KINDS = (fitting.PredictorKind.HEAD, fitting.PredictorKind.JOINT)
SPLITS = ("fit", "certify", "report")

AnsweredTexts = list[tuple[str, str]]  # a request's text with the reference's answer


class LatentTarget(Struct, frozen=True, kw_only=True):
    """The promise to certify, and the requests that it covers.

    Without `group`, the trials must hold exactly one closed group. Without `answers`, the list is
    the reference rung's answers; with it, any other answer counts as out of scope. `label_source`
    tells whether the answers of the trials are the reference's own or true targets.
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
    """The figures of a fit.

    `answered` and `error_among_answered` are those of the reporting split; `bound`, `n` and
    `errors` those of the certifying split. `predictor` is the kind chosen on the fitting split.
    `decision_s` is the median time of a decision on this machine. `out_of_scope_share` is None if
    no certifying row was out of scope.
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
    """The policy of the rung, None if nothing could be certified, and the figures."""

    policy: LatentPolicy | None
    learned: LearnedRung


@dataclass(frozen=True, kw_only=True, eq=False)
class _Parts:
    """The rows of each split without the template; an answer off the list is None."""

    target: LatentTarget
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
    trials: Iterable[Trial], target: LatentTarget, *, encoder: Encoder, say: Say
) -> LatentFit:
    """Fit a rung on half of the requests, certify it on four tenths, report on the last tenth.

    Requests of equal text go into one split. The predictor is the kind that would certify most, by
    its predictions on the fitting rows. Answers that are rare there count as out of scope; they
    teach it to abstain. Raises InputError if the trials hold no closed group, if they hold several
    and the target names none, or if there are too few rows for any promise.
    """
    parts = _split(trials, target)
    cached = CachedEncoder(encoder)
    say(f"fitting on {len(parts.fit.texts):,} requests")
    fits = {kind: fitting.fit(parts.fit, encoder=cached, kind=kind) for kind in KINDS}
    distinct = int(fitting.text_clusters(parts.certify.texts).max()) + 1
    grids = {
        kind: fitted.grid(
            distinct, alpha=target.alpha, delta=target.delta, risk_kind=target.risk_kind
        )
        for kind, fitted in fits.items()
    }
    kind = max(KINDS, key=lambda kind: grids[kind].expected_share)
    say(f"certifying on {len(parts.certify.texts):,} others")
    predictor = replace(fits[kind].predictor, encoder=encoder)
    threshold = certify(
        predictor,
        parts.certify,
        grid=grids[kind].thresholds,
        alpha=target.alpha,
        delta=target.delta,
        risk_kind=target.risk_kind,
    )
    policy = certificate = None
    if threshold.threshold is not None:
        policy = LatentPolicy(
            predictor=predictor,
            threshold=threshold.threshold,
            template=parts.template,
            groups=frozenset([parts.group]),
            rare=frozenset(target.answers) - {*predictor.answers},
        )
        certificate = issue(threshold.calibration, _terms(policy, parts, threshold=threshold))
    predictions = predictor.predict(parts.report.texts)
    answered = predictions.trust >= (np.inf if policy is None else policy.threshold)
    wrong = answered & ~fitting.is_right(predictions, parts.report.answers, predictor.answers)
    learned = LearnedRung(
        certified=certificate is not None,
        reference=target.reference,
        alpha=target.alpha,
        delta=target.delta,
        risk_kind=target.risk_kind,
        feasibility=threshold.feasibility,
        group=parts.group,
        answers=len(predictor.answers),
        predictor=kind,
        bound=threshold.calibration.bound,
        n=threshold.calibration.n,
        errors=threshold.calibration.losses,
        rows={name: len(getattr(parts, name).texts) for name in SPLITS},
        left_out=parts.left_out,
        out_of_scope_share=threshold.out_of_scope_share,
        answered=float(answered.mean()),
        error_among_answered=float(wrong.sum() / answered.sum()) if answered.any() else None,
        decision_s=_decision_s(predictor, parts.report.texts[:TIMED]),
        certificate=certificate,
    )
    return LatentFit(policy=policy, learned=learned)


def _split(trials: Iterable[Trial], target: LatentTarget) -> _Parts:
    groups, left_out = _by_group(trials, target.reference)
    group = _closed_group(groups, target)
    rows = groups[group]
    clusters = fitting.text_clusters([text for text, _ in rows])
    splits = [[rows[i] for i in places] for places in split_rows(clusters, seed=target.seed)]
    template = learn_template([text for text, _ in splits[0]])
    counts = Counter(answer for _, answer in splits[0])
    answers = {answer for answer, count in counts.items() if count >= FEWEST_OF_AN_ANSWER}
    if target.answers:
        answers &= {*target.answers}
    fit, test, report = (_labelled(part, template, answers=answers) for part in splits)
    return _Parts(
        target=target,
        fit=fit,
        certify=test,
        report=report,
        template=template,
        group=group,
        left_out=left_out[group],
    )


def _by_group(
    trials: Iterable[Trial], reference: str
) -> tuple[dict[str | None, AnsweredTexts], Counter[str | None]]:
    """Return the reference's answers by group, and how many trials have no whole answer."""
    groups: dict[str | None, AnsweredTexts] = {}
    left_out: Counter[str | None] = Counter()
    for trial in trials:
        if trial.rung != reference:
            continue
        if trial.answer is None or trial.finish not in (None, Finish.STOP):
            left_out[trial.group] += 1
        else:
            rows = groups.setdefault(trial.group, [])
            rows.append((trial.text, plain_answer(trial.answer)))
    if not groups:
        raise InputError(
            f"no trial of the reference rung {reference!r} has an answer",
            hint="give trials that `suffice bench` recorded, which hold the answers",
        )
    return groups, left_out


def _closed_group(groups: dict[str | None, AnsweredTexts], target: LatentTarget) -> str | None:
    """Return the group that the target names, or the only one with few distinct answers."""
    if target.group is not None:
        if target.group not in groups:
            names = ", ".join(sorted(str(group) for group in groups))
            raise InputError(f"no group {target.group!r}", hint=f"groups here: {names}")
        return target.group
    closed = [group for group, rows in groups.items() if _is_closed(rows)]
    if len(closed) == 1:
        return closed[0]
    if not closed:
        raise InputError(
            "no group of requests has few distinct answers, each given often",
            hint="a latent rung predicts answers from a list; name one with --group",
        )
    names = ", ".join(sorted(str(group) for group in closed))
    raise InputError(
        f"{len(closed)} groups have few distinct answers: {names}",
        hint="a rung predicts one list of answers: name one with --group",
    )


def _is_closed(rows: AnsweredTexts) -> bool:
    counts = Counter(answer for _, answer in rows)
    frequent = [count for count in counts.values() if count >= FEWEST_OF_AN_ANSWER]
    return len(frequent) > 1 and sum(frequent) >= CLOSED_SHARE * len(rows)


def _labelled(
    part: AnsweredTexts, template: Template, *, answers: set[str]
) -> fitting.LabelledTexts:
    """Remove the template; a prompt without it becomes an empty text, which is never answered."""
    return fitting.LabelledTexts(
        texts=[template.variable(text) or "" for text, _ in part],
        answers=[answer if answer in answers else None for _, answer in part],
    )


def _terms(policy: LatentPolicy, parts: _Parts, *, threshold: CertifiedThreshold) -> Terms:
    created = datetime.now(UTC)
    return Terms(
        policy_hash=policy.policy_hash,
        reference=parts.target.reference,
        label_source=parts.target.label_source,
        splits=Splits(**{name: parts.hash_of(name) for name in SPLITS}),
        scope=Scope(
            groups=() if parts.group is None else (parts.group,),
            out_of_scope_share=threshold.out_of_scope_share,
            unscored=parts.left_out,
        ),
        created=created,
        lapses_at=created + timedelta(seconds=parts.target.lapses_after_s),
    )


def _decision_s(predictor: Predictor, texts: Sequence[str]) -> float:
    times = []
    for text in texts:
        start_s = perf_counter()
        predictor.predict([text])
        times.append(perf_counter() - start_s)
    return median(times)
