"""Quality per generated token: what a correct answer costs on each rung, and which rungs pay.

"Correct answers" is the sum of qualities, so that a half-right answer counts half. All figures are
ratios of sums (all tokens over all correct answers), never means of ratios. Intervals resample
whole clusters of requests with replacement, the same clusters for every rung, and take percentiles
(cluster bootstrap: Field and Welsh, J. R. Statist. Soc. B 69, 2007).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from suffice.errors import InputError
from suffice.guarantee.bounds import clopper_pearson_interval
from suffice.trials.importers import cost_of, cost_unit
from suffice.trials.resample import (
    CONFIDENCE,
    FEW_CLUSTERS,
    RESAMPLES,
    Estimate,
    bounded,
    drawn_sums,
    estimate,
)
from suffice.trials.table import CostUnit, Floats
from suffice.types import CountSource, Trial, TrialStatus


class RungPoint(Struct, frozen=True, kw_only=True):
    """One rung: what it answered, how well, and at which cost.

    Figures cover scored trials only; `unscored` and `failed` ones are left out and counted. A cost
    in a unit that some of the rung's answers lack is None. `on_front` says that no other rung is at
    least as accurate for at most the same cost per answer; `front_share` is the share of resamples
    in which that holds; both are None when the rungs have no common unit of cost.
    """

    rung: str
    scored: int
    unscored: int
    failed: int
    correct: float
    accuracy: Estimate | None
    tokens_per_answer: Estimate | None
    tokens_per_correct: Estimate | None
    usd_per_answer: Estimate | None
    usd_per_correct: Estimate | None
    words_per_answer: Estimate | None
    words_per_correct: Estimate | None
    on_front: bool | None
    front_share: float | None


class Frontier(Struct, frozen=True, kw_only=True):
    """All rungs in their order, how the intervals were made, and what a reader must know."""

    rungs: tuple[RungPoint, ...]
    cost_unit: CostUnit | None
    clustered_by: str
    clusters: int
    resamples: int = RESAMPLES
    confidence: float = CONFIDENCE
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class _TrialSums:
    """Sums over scored trials, shape (clusters, rungs) or, once resampled, (1 + resamples, rungs).

    `costs` is NaN throughout a rung's column where one of its answers has no such cost.
    """

    scored: Floats
    correct: Floats
    costs: dict[CostUnit, Floats]


def frontier(trials: Sequence[Trial], *, seed: int = 0) -> Frontier:
    """Work out the frontier of some trials; `seed` draws the resamples.

    Clusters are the declared groups, or single requests where fewer than two groups are declared.
    With fewer than 10 groups the wider interval of both counts. Raises InputError when no trial is
    scored.
    """
    scored = [trial for trial in trials if trial.status is TrialStatus.SCORED]
    if not scored:
        raise InputError(
            f"none of {len(trials)} trials is scored", hint="give the tasks targets, or labels"
        )
    by_group = len({t.group for t in scored}) > 1 and all(t.group is not None for t in scored)
    rungs = tuple(dict.fromkeys(trial.rung for trial in trials))
    requests = _sums(scored, rungs=rungs, clusters=[trial.request_id for trial in scored])
    sums, wider = requests, None
    if by_group:
        sums = _sums(scored, rungs=rungs, clusters=[str(trial.group) for trial in scored])
        wider = requests if len(sums.scored) < FEW_CLUSTERS else None
    unit = cost_unit(scored)
    ways = [_figures(each, unit=unit, seed=seed) for each in (sums, wider) if each is not None]
    return Frontier(
        rungs=tuple(
            _point(i, trials, sums=sums, rung=rung, ways=ways) for i, rung in enumerate(rungs)
        ),
        cost_unit=unit,
        clustered_by="group" if by_group else "request",
        clusters=len(sums.scored),
        notes=tuple(_notes(trials, by_group=by_group, clusters=len(sums.scored))),
    )


_COSTS = tuple(
    f"{unit}_per_{what}" for unit in ("tokens", "usd", "words") for what in ("answer", "correct")
)


def _figures(sums: _TrialSums, *, unit: CostUnit | None, seed: int) -> dict[str, Floats]:
    """Work out each figure for all clusters in row 0, for resamples in the rest; by rung."""
    drawn = _resample(sums, seed=seed)
    figures = {"correct": drawn.correct, "accuracy": _divide(drawn.correct, drawn.scored)}
    for each, cost in drawn.costs.items():
        name = each.value.removeprefix("output_")
        figures[f"{name}_per_answer"] = _divide(cost, drawn.scored)
        figures[f"{name}_per_correct"] = _divide(cost, drawn.correct)
    if unit is not None:
        cost = _divide(drawn.costs[unit], drawn.scored)
        figures["on_front"] = _on_front(figures["accuracy"], cost).astype(np.float64)
    return figures


def _point(
    i: int, trials: Sequence[Trial], *, sums: _TrialSums, rung: str, ways: list[dict[str, Floats]]
) -> RungPoint:
    """Read the figures of rung `i`; of several ways to resample the widest interval counts."""
    statuses = [trial.status for trial in trials if trial.rung == rung]
    estimates = {
        name: _widest([estimate(figures[name][:, i]) for figures in ways])
        for name in ("accuracy", *_COSTS)
    }
    estimates["accuracy"] = _accuracy(sums, i, estimate=estimates["accuracy"])
    front = ways[0]["on_front"][:, i] if "on_front" in ways[0] else None
    return RungPoint(
        rung=rung,
        scored=statuses.count(TrialStatus.SCORED),
        unscored=statuses.count(TrialStatus.UNSCORED),
        failed=statuses.count(TrialStatus.FAILED),
        correct=float(ways[0]["correct"][0, i]),
        **estimates,
        on_front=None if front is None else bool(front[0]),
        front_share=None if front is None or len(front) == 1 else float(front[1:].mean()),
    )


def _sums(scored: list[Trial], *, rungs: tuple[str, ...], clusters: list[str]) -> _TrialSums:
    """Add up each cluster's trials by rung."""
    rows = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    at = (
        np.array([rows[name] for name in clusters]),
        np.array([rungs.index(trial.rung) for trial in scored]),
    )

    def add(values: list[float]) -> Floats:
        total = np.zeros((len(rows), len(rungs)))
        np.add.at(total, at, values)
        return total

    costs = {}
    for unit in CostUnit:
        each = [cost_of(trial, unit) for trial in scored]
        total = add([math.nan if cost is None else cost for cost in each])
        costs[unit] = np.where(np.isnan(total).any(axis=0), math.nan, total)
    return _TrialSums(
        scored=add([1.0] * len(scored)),
        correct=add([t.quality or 0.0 for t in scored]),
        costs=costs,
    )


def _resample(sums: _TrialSums, *, seed: int) -> _TrialSums:
    """Sum all clusters in row 0, and in each further row as many clusters drawn at random."""
    parts = [sums.scored, sums.correct, *sums.costs.values()]
    drawn = drawn_sums(np.concatenate(parts, axis=1), seed=seed)
    scored, correct, *costs = np.split(drawn, len(parts), axis=1)
    return _TrialSums(
        scored=scored, correct=correct, costs=dict(zip(sums.costs, costs, strict=True))
    )


def _divide(top: Floats, bottom: Floats) -> Floats:
    """Divide; infinite where only `bottom` is 0, NaN where both are."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(top / bottom, dtype=np.float64)


def _widest(estimates: list[Estimate | None]) -> Estimate | None:
    """Take the lowest and the highest end that there is; None, without bound, is the highest."""
    first = estimates[0]
    intervals = [each.interval for each in estimates if each is not None and each.interval]
    if first is None or not intervals:
        return first
    low, high = (
        [math.inf if end is None else end for end in ends] for ends in zip(*intervals, strict=True)
    )
    ends = (bounded(np.float64(min(low))), bounded(np.float64(max(high))))
    return Estimate(value=first.value, interval=ends)


def _accuracy(sums: _TrialSums, i: int, *, estimate: Estimate | None) -> Estimate | None:
    """Where all answers are right, or all wrong, take the exact interval for so many clusters.

    Resampling cannot show that such a run of luck may end.
    """
    if estimate is None or estimate.value not in {0.0, 1.0}:
        return estimate
    clusters = int(np.count_nonzero(sums.scored[:, i]))
    hits = clusters if estimate.value else 0
    low, high = clopper_pearson_interval(hits, clusters, delta=1 - CONFIDENCE)
    return Estimate(value=estimate.value, interval=(float(low), float(high)))


def _on_front(accuracy: Floats, cost: Floats) -> NDArray[np.bool_]:
    """Say for each row which rungs no other one beats; shapes (rows, rungs).

    One beats another that is no more accurate and no cheaper, and worse in one of the two. A rung
    without an answer in a row is not on its front.
    """
    better = accuracy[:, :, None] >= accuracy[:, None, :]
    cheaper = cost[:, :, None] <= cost[:, None, :]
    strictly = (accuracy[:, :, None] > accuracy[:, None, :]) | (cost[:, :, None] < cost[:, None, :])
    beaten = (better & cheaper & strictly).any(axis=1)
    return ~beaten & ~np.isnan(accuracy) & ~np.isnan(cost)


def _notes(trials: Sequence[Trial], *, by_group: bool, clusters: int) -> Iterator[str]:
    """Say what the figures do not show by themselves."""
    if not by_group:
        yield "Fewer than two groups are declared: intervals treat single requests as independent."
    if clusters < FEW_CLUSTERS:
        yield f"Intervals rest on {clusters} clusters only, and may still be too narrow."
    for status, why in ((TrialStatus.UNSCORED, "unscored"), (TrialStatus.FAILED, "failed")):
        left_out = sum(trial.status is status for trial in trials)
        if left_out:
            yield f"{left_out} of {len(trials)} trials are {why} and left out of every figure."
    requests: dict[str, set[str]] = {}
    for trial in trials:
        if trial.status is TrialStatus.SCORED:
            requests.setdefault(trial.rung, set()).add(trial.request_id)
    if any(ids != next(iter(requests.values())) for ids in requests.values()):
        yield "The rungs have scores on different requests: they are not compared like with like."
    guessed = sum(_is_guessed(trial) for trial in trials)
    if guessed:
        yield f"{guessed} of {len(trials)} trials have an estimated count or charge."


def _is_guessed(trial: Trial) -> bool:
    tokens = trial.usage.output_tokens
    return trial.charge_estimated or (tokens is not None and tokens.source is CountSource.ESTIMATED)
