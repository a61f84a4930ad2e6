"""Which rung answers each request when some answering levers are on.

Rungs that decode nothing come first and decide by themselves whether to answer. The effort policy
takes the requests that they leave, and the reference takes the rest. The clusters of requests are
dealt into three splits: one fits the policy, one certifies each combination of levers, and all
figures are computed on the third.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from suffice.certify.evidence import counted
from suffice.compound.cells import Levers, subsets
from suffice.compound.recorded import Decoded, Flags, RecordedRequests
from suffice.compound.workload import ANSWERING, CompoundWorkload
from suffice.encoders.base import Encoder
from suffice.errors import InputError
from suffice.guarantee import (
    Certificate,
    Evidence,
    Method,
    Scope,
    Splits,
    Terms,
    calibrate,
    content_hash,
    issue,
    method_for,
    rows_needed,
)
from suffice.latent.closed import plain_answer
from suffice.policy import Goal, fit_policy, harms, observe_table, outcomes, play, policy_hash
from suffice.trials.order import on_ladder
from suffice.trials.table import CostUnit, Floats, Rows, TrialTable, split_rows
from suffice.trials.tabulate import tabulate
from suffice.types import Vector
from suffice.units import seconds, show_share

FRACTIONS = (0.3, 0.4, 0.3)  # of the clusters: fit, certify, report
COMPETENT: Levers = frozenset({"competent"})  # the competent baseline, named like a combination


@dataclass(frozen=True, kw_only=True, eq=False)
class RungAnswers:
    """Which rungs answered the reporting requests, and how well.

    `attempted` marks, by rung, the requests that the rung was called (and paid) for. Without a
    certificate the reference answers everything, and `note` gives the reason.
    """

    levers: Levers
    attempted: Mapping[str, Flags]
    quality: Floats
    certificate: Certificate | None
    note: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitWorkload:
    """A workload's trials, its requests dealt into splits, and the test that suits their losses."""

    workload: CompoundWorkload
    recorded: RecordedRequests
    fit: Rows
    certify: Rows
    report: Rows
    method: Method
    now: datetime

    @property
    def reference(self) -> Decoded:
        """What the reference rung generated."""
        return self.recorded.decoded[self.workload.reference]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Path:
    """A path of ways to answer, from safe to cheap; arrays of shape (requests, points).

    A certificate is bound to `identity`.
    """

    quality: Floats
    attempted: Mapping[str, Flags]
    identity: str


def deal(
    workload: CompoundWorkload, recorded: RecordedRequests, *, now: datetime, seed: int
) -> SplitWorkload:
    """Deal the clusters into splits; raises InputError if too few requests are left to certify."""
    fit, certify, report = split_rows(recorded.requests.clusters, seed=seed, fractions=FRACTIONS)
    least = rows_needed(workload.alpha, delta_per_combination(workload))
    if least is None or len(certify) < least:
        raise InputError(
            f"{len(certify)} certifying requests are too few for alpha {workload.alpha:g} "
            f"and delta {workload.delta:g}, shared by {_combinations(workload)} "
            "combinations of levers",
            hint=f"{least} requests without a loss are needed: run more, or set a larger alpha"
            if least
            else "set a larger alpha",
        )
    reference = recorded.decoded[workload.reference].quality
    below = [decoded.quality for decoded in recorded.decoded.values()]
    quality = np.where(recorded.predicted.answered, recorded.predicted.quality, reference)
    losses = np.maximum(0.0, reference - np.stack([*below, quality]))
    return SplitWorkload(
        workload=workload,
        recorded=recorded,
        fit=fit,
        certify=certify,
        report=report,
        method=method_for(losses[:, fit]),
        now=now,
    )


def delta_per_combination(workload: CompoundWorkload) -> float:
    """Return each combination's share of delta; together they keep all promises (Bonferroni)."""
    return workload.delta / max(1, _combinations(workload))


def answer_all(split: SplitWorkload, *, encoder: Encoder) -> dict[Levers, RungAnswers]:
    """Choose the answering rungs for every combination of answering levers, few levers first."""
    workload = split.workload
    predicting, effort = (workload.lever_of(vector) for vector in ANSWERING)
    policy_path = None if effort is None else _effort_path(split, encoder=encoder)
    always = _always_reference(split)
    answers: dict[Levers, RungAnswers] = {}
    for levers in subsets(name for name in (predicting, effort) if name is not None):
        path = always if effort not in levers or policy_path is None else policy_path
        if predicting in levers:
            path = _predicted_first(split, path)
        certified = _certified_answers(
            split, path, levers=levers, delta=delta_per_combination(workload)
        )
        answers[levers] = certified if certified.certificate else _fall_back(certified, answers)
    return answers


def _fall_back(uncertified: RungAnswers, answers: Mapping[Levers, RungAnswers]) -> RungAnswers:
    """Use the largest certified part of the levers, and keep the note; the reference if none is."""
    for part in reversed(tuple(answers.values())):
        if part.levers < uncertified.levers and part.certificate is not None:
            return replace(part, levers=uncertified.levers, note=uncertified.note)
    return uncertified


def cheapest_fixed(split: SplitWorkload) -> RungAnswers:
    """Choose the cheapest single rung that meets the target when it answers every request."""
    workload, decoded = split.workload, split.recorded.decoded
    rows = len(split.recorded.requests)
    by_cost = sorted(decoded, key=lambda rung: -float(decoded[rung].output_tokens[split.fit].sum()))
    rungs = by_cost[by_cost.index(workload.reference) :]
    quality = np.stack([decoded[rung].quality for rung in rungs], axis=1)
    attempted = {
        rung: np.broadcast_to(np.arange(len(rungs)) == at, (rows, len(rungs)))
        for at, rung in enumerate(rungs)
    }
    path = _Path(quality=quality, attempted=attempted, identity=content_hash(rungs))
    return _certified_answers(split, path, levers=COMPETENT, delta=workload.delta)


def _combinations(workload: CompoundWorkload) -> int:
    """Count the combinations of answering levers; each needs its own promise."""
    levers = [workload.lever_of(vector) for vector in ANSWERING]
    return (1 << sum(lever is not None for lever in levers)) - 1


def _always_reference(split: SplitWorkload) -> _Path:
    rows = len(split.recorded.requests)
    return _Path(
        quality=split.reference.quality[:, None],
        attempted={split.workload.reference: np.ones((rows, 1), dtype=np.bool_)},
        identity="reference",
    )


def _predicted_first(split: SplitWorkload, path: _Path) -> _Path:
    """Put the rungs that decode nothing in front of a path."""
    predicted = split.recorded.predicted
    answered = predicted.answered[:, None]
    shape = path.quality.shape
    attempted = {rung: mask & ~answered for rung, mask in path.attempted.items()}
    attempted |= {
        rung: np.broadcast_to(mask[:, None], shape).copy()
        for rung, mask in predicted.attempted.items()
    }
    return _Path(
        quality=np.where(answered, predicted.quality[:, None], path.quality),
        attempted=attempted,
        identity=content_hash([*predicted.attempted, path.identity]),
    )


def _effort_path(split: SplitWorkload, *, encoder: Encoder) -> _Path:
    """Fit the effort policy on its split, and play every point of its path on all requests."""
    reference = split.workload.reference
    table = on_ladder(_table(split), reference=reference)
    seen = observe_table(table, reference=reference, encoder=encoder)
    known = outcomes(table, reference=reference)
    goal = Goal(
        alpha=split.workload.alpha,
        delta=delta_per_combination(split.workload),
        rows=len(split.certify),
        random_part=False,
    )
    policy = fit_policy(seen.subset(split.fit), known.subset(split.fit), goal)
    plays = play(policy, harms(policy, seen))
    return _Path(
        quality=plays.qualities(known.quality),
        attempted=dict(zip(policy.rungs, plays.attempted, strict=True)),
        identity=policy_hash(policy),
    )


def _table(split: SplitWorkload) -> TrialTable:
    """Tabulate the decoding rungs, with their costs in the deployment that has every lever on."""
    decoded, workload = split.recorded.decoded, split.workload
    at = (workload.sides(Vector.ARCHITECTURE)[1], workload.sides(Vector.SILICON)[1])
    trials = (trial for rung in decoded.values() for trial in rung.trials)
    table = tabulate(trials, costs=False)
    usd = {
        rung: rung_answers.prompt_usd[at] + rung_answers.answer_usd[at]
        for rung, rung_answers in decoded.items()
    }
    return replace(
        table,
        cost=np.stack([usd[rung] for rung in table.rungs], axis=1),
        cost_unit=CostUnit.USD,
    )


def _certified_answers(
    split: SplitWorkload, path: _Path, *, levers: Levers, delta: float
) -> RungAnswers:
    """Certify the cheapest point of a path that keeps the promise; else the reference answers."""
    excess = np.maximum(0.0, split.reference.quality[:, None] - path.quality)
    saves = ~path.attempted.get(split.workload.reference, np.zeros(excess.shape, dtype=np.bool_))
    first = int(saves[split.certify].any(axis=0).argmax())
    if not saves[split.certify].any():
        return _by_reference(split, levers=levers, note="answers nothing without the reference")
    calibration = calibrate(
        Evidence(losses=counted(excess[split.certify, first:], split.method)),
        alpha=split.workload.alpha,
        delta=delta,
        method=split.method,
    )
    if not calibration.certified:
        least = show_share(calibration.bound)
        note = f"no risk below {least} can be certified on {calibration.n:,} requests"
        return _by_reference(split, levers=levers, note=note)
    point = first + calibration.index
    identity = content_hash([path.identity, point])
    return RungAnswers(
        levers=levers,
        attempted={rung: mask[split.report, point] for rung, mask in path.attempted.items()},
        quality=path.quality[split.report, point],
        certificate=issue(calibration, _terms(split, identity)),
    )


def _by_reference(split: SplitWorkload, *, levers: Levers, note: str) -> RungAnswers:
    always = _always_reference(split)
    name = " + ".join(sorted(levers))
    return RungAnswers(
        levers=levers,
        attempted={rung: mask[split.report, 0] for rung, mask in always.attempted.items()},
        quality=always.quality[split.report, 0],
        certificate=None,
        note=f"{name}: {note}." if levers else None,
    )


def _terms(split: SplitWorkload, identity: str) -> Terms:
    """Return the terms of a certificate; no closed answer set covers the out-of-scope share."""
    workload, recorded = split.workload, split.recorded
    groups = [recorded.groups[row] for row in split.certify.tolist()]
    outside = 0
    for row, group in zip(split.certify.tolist(), groups, strict=True):
        part = workload.part[recorded.requests.parts[row]]
        answer = plain_answer(split.reference.trials[row].answer or "")
        outside += group in part.out_of_scope or answer in part.out_of_scope_answers
    fit, certify, report = (
        content_hash(recorded.requests.subset(rows).ids)
        for rows in (split.fit, split.certify, split.report)
    )
    return Terms(
        policy_hash=identity,
        reference=workload.reference,
        label_source=recorded.labels,
        splits=Splits(fit=fit, certify=certify, report=report),
        scope=Scope(
            groups=tuple(sorted(set(groups))),
            out_of_scope_share=outside / len(groups) if outside else None,
        ),
        created=split.now,
        lapses_at=split.now + timedelta(seconds=seconds(workload.lapses_after)),
    )
