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
from suffice.trials.resample import (
    CONFIDENCE,
    FEW_CLUSTERS,
    RESAMPLES,
    Estimate,
    bounded,
    drawn_sums,
    estimate,
)
from suffice.trials.table import CostUnit, Floats, Rows, clusters_of, numbered
from suffice.trials.tabulate import cost_of
from suffice.types import CountSource, Trial, TrialStatus
from suffice.units import show_share

WIDER_BELOW = 10  # groups, too few to show how they differ
MOST_WITHOUT_COST = 0.05  # share of the answers of a rung


class RungPoint(Struct, frozen=True, kw_only=True):
    """One rung: what it answered, how well, and at which cost.

    Figures cover scored trials only; `unscored` and `failed` ones are left out and counted. A cost
    in a unit that more than 5 % of the rung's answers lack is None; fewer are left out of it, with
    a note. `on_front` says that no other rung is at
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
    """All rungs in their order, how the intervals were made, and what a reader must know.

    `alike` says that all rungs have scores on the same requests; if not, what sets them apart may
    be the requests.
    """

    rungs: tuple[RungPoint, ...]
    cost_unit: CostUnit | None
    clustered_by: str
    clusters: int
    alike: bool = True
    resamples: int = RESAMPLES
    confidence: float = CONFIDENCE
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class _TrialSums:
    """Sums over scored trials, shape (clusters, rungs) or, once resampled, (1 + resamples, rungs).

    `priced` holds the answers that have a cost, the sum of their qualities, and that of the costs;
    all NaN throughout a rung's column where too many of its answers have none.
    """

    scored: Floats
    correct: Floats
    priced: dict[CostUnit, tuple[Floats, Floats, Floats]]

    def has_costs(self, unit: CostUnit) -> bool:
        """Whether costs in this unit tell the rungs apart: all are known, and not all are 0."""
        spent = self.priced[unit][2]
        return not np.isnan(spent).any() and bool(spent.any())


def frontier(trials: Sequence[Trial], *, seed: int = 0) -> Frontier:
    """Work out the frontier of some trials; `seed` draws the resamples.

    Clusters are those that all trials declare, or else their groups, or else requests of the same
    text. With fewer than 10 groups the wider interval of groups and requests counts. Raises
    InputError when no trial is scored.
    """
    scored = [trial for trial in trials if trial.status is TrialStatus.SCORED]
    if not scored:
        raise InputError(
            f"none of {len(trials)} trials is scored", hint="give the tasks targets, or labels"
        )
    rungs = tuple(dict.fromkeys(trial.rung for trial in trials))
    clustered_by, clusters = _clusters(scored)
    sums = _sums(scored, rungs=rungs, clusters=clusters)
    ways = [sums]
    if clustered_by == "group" and len(sums.scored) < WIDER_BELOW:
        ways.append(_sums(scored, rungs=rungs, clusters=_requests(scored)))
    unit = next((unit for unit in CostUnit if sums.has_costs(unit)), None)
    figures = [_figures(way, unit=unit, seed=seed) for way in ways]
    return Frontier(
        rungs=tuple(
            _point(i, trials, ways=ways, rung=rung, figures=figures) for i, rung in enumerate(rungs)
        ),
        cost_unit=unit,
        clustered_by=clustered_by,
        clusters=len(sums.scored),
        alike=_alike(scored),
        notes=(
            *_notes(trials, clustered_by=clustered_by, clusters=len(sums.scored)),
            *_cost_notes(scored, sums, rungs),
        ),
    )


_COSTS = tuple(
    f"{unit}_per_{what}" for unit in ("tokens", "usd", "words") for what in ("answer", "correct")
)


def _figures(sums: _TrialSums, *, unit: CostUnit | None, seed: int) -> dict[str, Floats]:
    """Work out each figure for all clusters in row 0, for resamples in the rest; by rung."""
    drawn = _resample(sums, seed=seed)
    figures = {"correct": drawn.correct, "accuracy": _divide(drawn.correct, drawn.scored)}
    for cost_unit, (answers, correct, cost) in drawn.priced.items():
        name = cost_unit.value.removeprefix("output_")
        figures[f"{name}_per_answer"] = _divide(cost, answers)
        figures[f"{name}_per_correct"] = _divide(cost, correct)
        if cost_unit is unit:
            front = _on_front(figures["accuracy"], figures[f"{name}_per_answer"])
            figures["on_front"] = front.astype(np.float64)
    return figures


def _point(
    i: int,
    trials: Sequence[Trial],
    *,
    rung: str,
    ways: list[_TrialSums],
    figures: list[dict[str, Floats]],
) -> RungPoint:
    """Read the figures of rung `i`; of several ways to resample the widest interval counts."""
    statuses = [trial.status for trial in trials if trial.rung == rung]
    estimates = {
        name: _widest(
            [
                estimate(drawn[name][:, i], clusters=int(np.count_nonzero(way.scored[:, i])))
                for way, drawn in zip(ways, figures, strict=True)
            ]
        )
        for name in ("accuracy", *_COSTS)
    }
    estimates["accuracy"] = _accuracy(ways[0], i, estimate=estimates["accuracy"])
    front = figures[0]["on_front"][:, i] if "on_front" in figures[0] else None
    return RungPoint(
        rung=rung,
        scored=statuses.count(TrialStatus.SCORED),
        unscored=statuses.count(TrialStatus.UNSCORED),
        failed=statuses.count(TrialStatus.FAILED),
        correct=float(figures[0]["correct"][0, i]),
        **estimates,
        on_front=None if front is None else bool(front[0]),
        front_share=None if front is None or len(front) == 1 else float(front[1:].mean()),
    )


def _clusters(scored: Sequence[Trial]) -> tuple[str, Rows]:
    """Choose what is independent of each other: declared clusters, groups, or requests."""
    if all(trial.cluster is not None for trial in scored):
        return "cluster", numbered([str(trial.cluster) for trial in scored])[0]
    if all(trial.group is not None for trial in scored) and len({t.group for t in scored}) > 1:
        return "group", numbered([str(trial.group) for trial in scored])[0]
    return "request", _requests(scored)


def _requests(scored: Sequence[Trial]) -> Rows:
    ids, texts = [trial.request_id for trial in scored], [trial.text for trial in scored]
    return clusters_of(ids, texts, [trial.cluster for trial in scored])[0]


def _sums(scored: Sequence[Trial], *, rungs: tuple[str, ...], clusters: Rows) -> _TrialSums:
    """Add up each cluster's trials by rung."""
    at = (clusters, np.array([rungs.index(trial.rung) for trial in scored]))

    def add(values: Floats) -> Floats:
        total = np.zeros((clusters.max() + 1, len(rungs)))
        np.add.at(total, at, values)
        return total

    correct = np.array([trial.quality or 0.0 for trial in scored])
    answers = add(np.ones(len(scored)))
    priced = {}
    for unit in CostUnit:
        costs = [cost_of(trial, unit) for trial in scored]
        cost = np.array([math.nan if usd is None else usd for usd in costs])
        known = ~np.isnan(cost)
        parts = (known.astype(np.float64), correct * known, np.where(known, cost, 0.0))
        enough = add(parts[0]).sum(axis=0) >= (1 - MOST_WITHOUT_COST) * answers.sum(axis=0)
        some, right, spent = (np.where(enough, add(part), math.nan) for part in parts)
        priced[unit] = (some, right, spent)
    return _TrialSums(scored=answers, correct=add(correct), priced=priced)


def _resample(sums: _TrialSums, *, seed: int) -> _TrialSums:
    """Sum all clusters in row 0, and in each further row as many clusters drawn at random."""
    parts = [
        sums.scored,
        sums.correct,
        *(part for sums_of_unit in sums.priced.values() for part in sums_of_unit),
    ]
    drawn = drawn_sums(np.concatenate(parts, axis=1), seed=seed)
    scored, correct, *rest = np.split(drawn, len(parts), axis=1)
    priced = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
    return _TrialSums(
        scored=scored, correct=correct, priced=dict(zip(sums.priced, priced, strict=True))
    )


def _divide(top: Floats, bottom: Floats) -> Floats:
    """Divide; infinite where only `bottom` is 0, NaN where both are."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(top / bottom, dtype=np.float64)


def _widest(estimates: list[Estimate | None]) -> Estimate | None:
    """Take the lowest and the highest end that there is; None, without bound, is the highest."""
    first = estimates[0]
    intervals = [
        estimate.interval for estimate in estimates if estimate is not None and estimate.interval
    ]
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


def _cost_notes(scored: Sequence[Trial], sums: _TrialSums, rungs: tuple[str, ...]) -> Iterator[str]:
    """Say which answers have no cost, where the costs of their rung are shown without them."""
    answers = sums.scored.sum(axis=0)
    for unit, (priced, _, _) in sums.priced.items():
        for rung, missing in zip(rungs, (answers - priced.sum(axis=0)).tolist(), strict=True):
            if missing > 0:  # NaN where the costs are unknown altogether
                of_rung = sum(trial.rung == rung for trial in scored)
                yield (
                    f"{missing:,.0f} of {of_rung:,} answers of {rung!r} have no cost in "
                    f"{unit.replace('_', ' ')} and are left out of it."
                )


def _notes(trials: Sequence[Trial], *, clustered_by: str, clusters: int) -> Iterator[str]:
    """Say what the figures do not show by themselves."""
    if clustered_by == "request":
        yield "Fewer than two groups are declared: intervals treat single requests as independent."
    if clusters < FEW_CLUSTERS:
        yield f"Intervals rest on {clusters} clusters only, and may still be too narrow."
    for status, why in ((TrialStatus.UNSCORED, "unscored"), (TrialStatus.FAILED, "failed")):
        left_out = sum(trial.status is status for trial in trials)
        if left_out:
            yield f"{left_out} of {len(trials)} trials are {why} and left out of every figure."
    if not _alike([trial for trial in trials if trial.status is TrialStatus.SCORED]):
        yield "The rungs have scores on different requests: they are not compared like with like."
        yield from _unanswered(trials)
    guessed = sum(_is_guessed(trial) for trial in trials)
    if guessed:
        yield f"{guessed} of {len(trials)} trials have an estimated count or charge."


def _alike(scored: Sequence[Trial]) -> bool:
    """Whether all rungs have scores on the same requests."""
    requests: dict[str, set[str]] = {}
    for trial in scored:
        requests.setdefault(trial.rung, set()).add(trial.request_id)
    return all(ids == next(iter(requests.values())) for ids in requests.values())


def _unanswered(trials: Sequence[Trial]) -> Iterator[str]:
    """Say how accurate each rung is where calls without a score count as wrong."""
    for rung in dict.fromkeys(trial.rung for trial in trials):
        qualities = [trial.quality for trial in trials if trial.rung == rung]
        lacking = qualities.count(None)
        if lacking:
            right = sum(quality or 0.0 for quality in qualities) / len(qualities)
            yield (
                f"{lacking:,} of {len(qualities):,} calls of {rung!r} have no score: if they "
                f"count as wrong, its accuracy is {show_share(right)}."
            )


def _is_guessed(trial: Trial) -> bool:
    tokens = trial.usage.output_tokens
    return trial.charge_estimated or (tokens is not None and tokens.source is CountSource.ESTIMATED)
