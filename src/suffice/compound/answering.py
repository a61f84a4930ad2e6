"""Who answers when some answering levers are on, fitted, certified and played on three splits.

Rungs that decode nothing decide by themselves, and come first. What they leave goes to the effort
policy, and what that leaves to the reference. The clusters of requests are dealt into three splits:
one fits the policy, one certifies each combination of levers, one is what all figures are about.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from suffice.certify.evidence import counted
from suffice.compound.cells import Levers, subsets
from suffice.compound.recorded import Decoded, Flags, RecordedRequests
from suffice.compound.workload import CompoundWorkload
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
COMPETENT: Levers = frozenset({"competent"})  # no levers of ours: a name for the second baseline


@dataclass(frozen=True, kw_only=True, eq=False)
class RungAnswers:
    """Who was asked and how good the answers are, on the reporting requests.

    `asked` says by rung which requests it was asked, and so paid, for. Without a certificate the
    reference answers everything, and `note` says what was found instead.
    """

    levers: Levers
    asked: Mapping[str, Flags]
    quality: Floats
    certificate: Certificate | None
    note: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitWorkload:
    """A workload's trials with its requests dealt out, and the test that suits their losses."""

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
    """A path of ways to answer, from safe to cheap; arrays over all requests.

    `quality` has shape (requests, points), `asked` by rung the same. `identity` is what the
    certificate is bound to.
    """

    quality: Floats
    asked: Mapping[str, Flags]
    identity: str


def deal(
    workload: CompoundWorkload, recorded: RecordedRequests, *, now: datetime, seed: int
) -> SplitWorkload:
    """Deal the clusters into splits; raises InputError when too few requests could certify."""
    fit, certify, report = split_rows(recorded.requests.clusters, seed=seed, fractions=FRACTIONS)
    least = rows_needed(workload.alpha, delta_each(workload))
    if least is None or len(certify) < least:
        raise InputError(
            f"{len(certify)} certifying requests are too few for alpha {workload.alpha:g} "
            f"and delta {workload.delta:g}, shared by {_settings(workload)} combinations of levers",
            hint=f"it takes {least} of them without one loss: run more requests, or a larger alpha"
            if least
            else "ask for a larger alpha",
        )
    reference = recorded.decoded[workload.reference].quality
    below = [each.quality for each in recorded.decoded.values()]
    guessed = np.where(recorded.guesses.answered, recorded.guesses.quality, reference)
    losses = np.maximum(0.0, reference - np.stack([*below, guessed]))
    return SplitWorkload(
        workload=workload,
        recorded=recorded,
        fit=fit,
        certify=certify,
        report=report,
        method=method_for(losses[:, fit]),
        now=now,
    )


def delta_each(workload: CompoundWorkload) -> float:
    """Return the share of delta that each combination gets, so that all promises hold together."""
    return workload.delta / max(1, _settings(workload))


def answer_all(dealt: SplitWorkload, *, encoder: Encoder) -> dict[Levers, RungAnswers]:
    """Settle who answers for every combination of the answering levers, few levers first."""
    workload = dealt.workload
    guessing, effort = (workload.lever_of(v) for v in (Vector.PARADIGM, Vector.OUTPUT))
    policy_path = None if effort is None else _effort_path(dealt, encoder=encoder)
    always = _always_reference(dealt)
    found: dict[Levers, RungAnswers] = {}
    for levers in subsets(name for name in (guessing, effort) if name is not None):
        path = always if effort not in levers or policy_path is None else policy_path
        if guessing in levers:
            path = _guess_first(dealt, path)
        settled = _settle(dealt, path, levers=levers, delta=delta_each(workload))
        found[levers] = settled if settled.certificate else _fall_back(settled, found)
    return found


def _fall_back(settled: RungAnswers, found: Mapping[Levers, RungAnswers]) -> RungAnswers:
    """Leave off the lever that spoils the promise: effort goes on alone, else the guesses do."""
    for part in reversed(tuple(found.values())):
        if part.levers < settled.levers and part.certificate is not None:
            return replace(part, levers=settled.levers, note=settled.note)
    return settled


def cheapest_fixed(dealt: SplitWorkload) -> RungAnswers:
    """Settle on the cheapest rung that meets the target for every request alike."""
    workload, decoded = dealt.workload, dealt.recorded.decoded
    rows = len(dealt.recorded.requests)
    by_cost = sorted(decoded, key=lambda rung: -float(decoded[rung].output_tokens[dealt.fit].sum()))
    rungs = by_cost[by_cost.index(workload.reference) :]
    quality = np.stack([decoded[rung].quality for rung in rungs], axis=1)
    asked = {
        rung: np.broadcast_to(np.arange(len(rungs)) == at, (rows, len(rungs)))
        for at, rung in enumerate(rungs)
    }
    path = _Path(quality=quality, asked=asked, identity=content_hash(rungs))
    return _settle(dealt, path, levers=COMPETENT, delta=workload.delta)


def _settings(workload: CompoundWorkload) -> int:
    """Count the combinations of answering levers that need a promise of their own."""
    levers = [workload.lever_of(v) for v in (Vector.PARADIGM, Vector.OUTPUT)]
    return (1 << sum(lever is not None for lever in levers)) - 1


def _always_reference(dealt: SplitWorkload) -> _Path:
    rows = len(dealt.recorded.requests)
    return _Path(
        quality=dealt.reference.quality[:, None],
        asked={dealt.workload.reference: np.ones((rows, 1), dtype=np.bool_)},
        identity="reference",
    )


def _guess_first(dealt: SplitWorkload, path: _Path) -> _Path:
    """Put the rungs that decode nothing in front of a path."""
    guesses = dealt.recorded.guesses
    answered = guesses.answered[:, None]
    shape = path.quality.shape
    asked = {rung: mask & ~answered for rung, mask in path.asked.items()}
    asked |= {
        rung: np.broadcast_to(mask[:, None], shape).copy() for rung, mask in guesses.asked.items()
    }
    return _Path(
        quality=np.where(answered, guesses.quality[:, None], path.quality),
        asked=asked,
        identity=content_hash([*guesses.asked, path.identity]),
    )


def _effort_path(dealt: SplitWorkload, *, encoder: Encoder) -> _Path:
    """Fit the effort policy on its split, and play every point of its path on all requests."""
    reference = dealt.workload.reference
    table = on_ladder(_table(dealt), reference=reference)
    seen = observe_table(table, reference=reference, encoder=encoder)
    known = outcomes(table, reference=reference)
    fitting = replace(known, quality=known.quality[dealt.fit], cost=known.cost[dealt.fit])
    goal = Goal(
        alpha=dealt.workload.alpha,
        delta=delta_each(dealt.workload),
        rows=len(dealt.certify),
        random_part=False,
    )
    policy = fit_policy(seen.subset(dealt.fit), fitting, goal)
    plays = play(policy, harms(policy, seen))
    return _Path(
        quality=plays.qualities(known.quality),
        asked=dict(zip(policy.rungs, plays.attempted, strict=True)),
        identity=policy_hash(policy),
    )


def _table(dealt: SplitWorkload) -> TrialTable:
    """Lay the decoding rungs out as a table whose costs are those of the full deployment."""
    decoded, workload = dealt.recorded.decoded, dealt.workload
    at = (workload.sides(Vector.ARCHITECTURE)[1], workload.sides(Vector.SILICON)[1])
    trials = (trial for rung in decoded.values() for trial in rung.trials)
    table = tabulate(trials, costs=False)
    usd = {rung: each.prompt_usd[at] + each.answer_usd[at] for rung, each in decoded.items()}
    return replace(
        table,
        cost=np.stack([usd[rung] for rung in table.rungs], axis=1),
        cost_unit=CostUnit.USD,
    )


def _settle(dealt: SplitWorkload, path: _Path, *, levers: Levers, delta: float) -> RungAnswers:
    """Certify the furthest point of a path; the reference answers, with the reason, if none is."""
    excess = np.maximum(0.0, dealt.reference.quality[:, None] - path.quality)
    saves = ~path.asked.get(dealt.workload.reference, np.zeros(excess.shape, dtype=np.bool_))
    first = int(saves[dealt.certify].any(axis=0).argmax())
    if not saves[dealt.certify].any():
        return _by_reference(dealt, levers=levers, note="answers nothing without the reference")
    found = calibrate(
        Evidence(losses=counted(excess[dealt.certify, first:], dealt.method)),
        alpha=dealt.workload.alpha,
        delta=delta,
        method=dealt.method,
    )
    if not found.certified:
        bound = f"no risk below {show_share(found.bound)} can be certified on {found.n:,} requests"
        return _by_reference(dealt, levers=levers, note=bound)
    point = first + found.index
    identity = content_hash([path.identity, point])
    return RungAnswers(
        levers=levers,
        asked={rung: mask[dealt.report, point] for rung, mask in path.asked.items()},
        quality=path.quality[dealt.report, point],
        certificate=issue(found, _terms(dealt, identity)),
    )


def _by_reference(dealt: SplitWorkload, *, levers: Levers, note: str) -> RungAnswers:
    always = _always_reference(dealt)
    name = " + ".join(sorted(levers))
    return RungAnswers(
        levers=levers,
        asked={rung: mask[dealt.report, 0] for rung, mask in always.asked.items()},
        quality=always.quality[dealt.report, 0],
        certificate=None,
        note=f"{name}: {note}." if levers else None,
    )


def _terms(dealt: SplitWorkload, identity: str) -> Terms:
    """Write down what a certificate is about."""
    workload, groups = dealt.workload, np.array(dealt.recorded.groups)[dealt.certify]
    share = _out_of_scope_share(dealt)
    fit, certify, report = (
        content_hash(dealt.recorded.requests.subset(rows).ids)
        for rows in (dealt.fit, dealt.certify, dealt.report)
    )
    return Terms(
        policy_hash=identity,
        reference=workload.reference,
        label_source=dealt.recorded.labels,
        splits=Splits(fit=fit, certify=certify, report=report),
        scope=Scope(groups=tuple(sorted(set(groups.tolist()))), out_of_scope_share=share or None),
        created=dealt.now,
        lapses_at=dealt.now + timedelta(seconds=seconds(workload.lapses_after)),
    )


def _out_of_scope_share(dealt: SplitWorkload) -> float:
    """Return the share of the certifying requests that no closed answer set covers."""
    recorded, parts = dealt.recorded, dealt.workload.part
    outside = 0
    for row in dealt.certify.tolist():
        part = parts[recorded.requests.parts[row]]
        answer = plain_answer(dealt.reference.trials[row].answer or "")
        outside += recorded.groups[row] in part.out_of_scope or answer in part.out_of_scope_answers
    return outside / len(dealt.certify)
