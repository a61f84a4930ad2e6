"""From the losses of the certifying split to the point of the path that may be used."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from suffice.errors import InputError
from suffice.guarantee.bounds import binomial_p_value, first_true, rows_needed
from suffice.guarantee.clusters import Clusters, Per
from suffice.guarantee.losses import (
    Floats,
    Ints,
    LabelledLosses,
    Sample,
    check_binary,
    check_losses,
    check_probability,
)
from suffice.guarantee.methods import Method, clusters_needed, p_value, upper_bound
from suffice.guarantee.sequences import SequenceTest, bonferroni_grid, fixed_sequence

_CERTAIN = 1.0 - 1e-9  # the largest risk that a test can ask for
_REPEATED_POWER = 21  # values are repeated up to 2 ** 20 to see how many would do


class RiskKind(StrEnum):
    """What the risk is a mean of."""

    EXCESS_OVER_REFERENCE = "excess_over_reference"  # all requests; loss against the reference
    ERROR_AMONG_ANSWERED = "error_among_answered"  # only the requests that the rung answered
    NET_LOSS = "net_loss"  # all requests; quality of the reference less that of the choice


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Losses on the certifying split at every point of a path that was fixed without it.

    `losses` has shape (rows, points), points ordered from safe to cheap. With `answered`, a mask
    of that shape, the risk is the error among answered requests; with `net` the net loss, whose
    losses lie in [-1, 1]; else the excess over the reference among all. A judge's losses need
    `human` labels of a random part of the rows, in whole clusters. Without `clusters` every row is
    an independent draw. A point that applies to a random share of all requests, `parts` of shape
    (points,), has losses as if all of them were drawn: its risk is the part times their mean.
    """

    losses: Floats
    answered: NDArray[np.bool_] | None = None
    human: LabelledLosses | None = None
    clusters: Clusters | None = None
    net: bool = False
    parts: Floats | None = None

    def __post_init__(self) -> None:
        rows, points = _shape(self.losses)
        if self.parts is not None:
            _check_parts(self.parts, points, conditional=self.answered is not None)
        check_losses(self.losses, net=self.net)
        if self.answered is not None and self.answered.shape != (rows, points):
            raise InputError(f"answered has shape {self.answered.shape}, losses {(rows, points)}")
        if self.answered is not None and self.net:
            raise InputError("a net loss is a mean over all requests, not over those answered")
        if self.clusters is not None and self.clusters.codes.shape != (rows,):
            raise InputError(f"{len(self.clusters.codes)} cluster codes for {rows} rows")
        if self.human is not None:
            self.human.check_within(rows)
            if self.human.losses.shape[1:] != (points,):
                shape = self.human.losses.shape
                raise InputError(f"human losses have shape {shape}, losses {(rows, points)}")

    @property
    def risk_kind(self) -> RiskKind:
        """Which risk these losses measure."""
        if self.answered is not None:
            return RiskKind.ERROR_AMONG_ANSWERED
        return RiskKind.NET_LOSS if self.net else RiskKind.EXCESS_OVER_REFERENCE

    @property
    def per(self) -> Per:
        """What one unit of the promise is."""
        return Per.REQUEST if self.clusters is None else self.clusters.per

    @property
    def points(self) -> int:
        """How many points the path has."""
        return int(self.losses.shape[1])

    @property
    def tests(self) -> int:
        """How many hypotheses share delta: one on a walk, all points on a grid."""
        return 1 if self.answered is None else self.points

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Mark the rows that count at all, shape (rows,): not beyond the largest cluster's size."""
        everything = np.ones(len(self.losses), np.bool_)
        return everything if self.clusters is None else self.clusters.counted

    def counts(self) -> Ints:
        """Return how many rows each point's risk is a mean of; shape (points,)."""
        if self.answered is None:
            return np.full(self.points, self.counted.sum())
        counts: Ints = (self.answered & self.counted[:, None]).sum(axis=0, dtype=np.int64)
        return counts

    def totals(self) -> Floats:
        """Return the sum of the losses that count at each point; shape (points,)."""
        where = self.counted[:, None]
        total: Floats = self.losses.sum(
            axis=0, where=where if self.answered is None else self.answered & where
        )
        return total

    def part(self, point: int) -> float:
        """Return the share of requests that a point applies to."""
        return 1.0 if self.parts is None else float(self.parts[point])

    def sample(self, point: int) -> Sample:
        """Return what counts at one point of the path: a value a row, or a value a cluster."""
        keep = self.counted
        if self.answered is not None:
            keep = keep & self.answered[:, point]
        human = self.human
        if human is not None:
            human = LabelledLosses(rows=human.rows, losses=human.losses[:, point], net=human.net)
        return _sample(self.losses[:, point], keep, human, clusters=self.clusters, net=self.net)


class Calibration(Struct, frozen=True, kw_only=True):
    """What the certifying split allows.

    If `certified`, `P(risk at index <= alpha) >= 1 - delta` and `index` is the accepted point.
    If not, `index` is the point nearest to it (smallest p-value) and `bound` the smallest alpha
    that these rows can certify there. `bound` uses `delta / tests`. On a walk that was certified it
    belongs to its point alone and is not corrected for having chosen that point: the promise is
    `alpha`. `n` rows in `clusters` clusters and `losses` (the rows' sum) stand behind it, `human_n`
    rows or clusters labelled; with a `part` below 1 the losses are those of all rows, and `bound`
    is that of the part. `largest` rows of a cluster count at most, and `left_out` rows were
    beyond. `clusters_needed` is how many clusters would do if they were like these, and
    `rows_needed` how many rows those hold: None if certified, if no number would do, or if human
    labels are what is short.
    """

    certified: bool
    index: int
    alpha: float
    delta: float
    method: Method
    risk_kind: RiskKind
    tests: int
    n: int
    losses: float
    bound: float
    p_values: tuple[float, ...]
    per: Per = Per.REQUEST
    clusters: int = 0
    largest: int = 1
    left_out: int = 0
    part: float = 1.0
    human_n: int | None = None
    rows_needed: int | None = None
    clusters_needed: int | None = None


class PartBound(Struct, frozen=True, kw_only=True):
    """The risk of one part of the rows: a rung, a group. `bound` is 1 where nothing was seen."""

    part: str
    n: int
    clusters: int
    losses: float
    bound: float


def calibrate(evidence: Evidence, *, alpha: float, delta: float, method: Method) -> Calibration:
    """Certify a point of the path at `alpha`, or say what these rows could certify.

    A walk from safe to cheap for the excess over the reference; a Bonferroni grid over all points,
    largest answered share first, for the error among answered. `method` must be chosen before
    these losses are seen (`method_for` on the fitting split).
    """
    check_probability("alpha", alpha)
    check_probability("delta", delta)
    _check_labels(evidence, method=method)
    _check_clusters(evidence, alpha=alpha, delta=delta, method=method)
    walk = _search(evidence, alpha=alpha, delta=delta, method=method)
    index = int(np.argmin(walk.p_values)) if walk.accepted is None else walk.accepted
    sample = _whole(evidence.sample(index), evidence.clusters, method=method)
    n = int(evidence.counts()[index])
    tests, needed, part = evidence.tests, None, evidence.part(index)
    if walk.accepted is None:
        needed = _clusters_needed(
            sample, alpha=min(alpha / part, _CERTAIN), delta=delta / tests, method=method
        )
    return Calibration(
        certified=walk.accepted is not None,
        index=index,
        alpha=alpha,
        delta=delta,
        method=method,
        risk_kind=evidence.risk_kind,
        tests=tests,
        n=n,
        losses=float(evidence.totals()[index]),
        bound=part * upper_bound(sample, delta=delta / tests, method=method),
        part=part,
        p_values=walk.p_values,
        per=evidence.per,
        clusters=len(sample.losses),
        largest=1 if evidence.clusters is None else evidence.clusters.largest,
        left_out=int((~evidence.counted).sum()),
        human_n=None if sample.human is None else len(sample.human.rows),
        rows_needed=needed and ceil(needed * max(n, 1) / max(len(sample.losses), 1)),
        clusters_needed=needed,
    )


def part_bounds(
    losses: Floats,
    parts: Sequence[str],
    *,
    delta: float,
    method: Method,
    clusters: Clusters | None = None,
    net: bool = False,
) -> tuple[PartBound, ...]:
    """Bound the risk of each part named in `parts`, one name a row, all at once at `delta`.

    Each of the parts seen gets `delta / parts`; they come sorted by name. Rows of the reporting
    split make these bounds hold as they stand; rows of the certifying split also chose the policy.
    """
    check_probability("delta", delta)
    labels = np.asarray(parts)
    names = sorted(set(parts))
    if labels.shape != np.shape(losses):
        raise InputError(f"{labels.size} part names for {np.size(losses)} losses")
    counted = np.ones(len(labels), np.bool_) if clusters is None else clusters.counted
    bounds = []
    for name in names:
        keep = counted & (labels == name)
        sample = _sample(losses, keep, None, clusters=clusters, net=net)
        sample = _whole(sample, clusters, method=method)
        bounds.append(
            PartBound(
                part=name,
                n=int(keep.sum()),
                clusters=len(sample.losses),
                losses=float(losses[keep].sum()),
                bound=upper_bound(sample, delta=delta / len(names), method=method),
            )
        )
    return tuple(bounds)


def least_abstention(error: float, *, alpha: float) -> float:
    """Return the share that must go unanswered at least, for an error of `alpha` among answered.

    `error` is the error if all were answered. Even a perfect score that abstains on nothing but
    errors needs (error - alpha) / (1 - alpha) (arXiv 2606.29054): print it before calibrating.
    """
    check_probability("alpha", alpha)
    return max(0.0, (float(check_losses(error)) - alpha) / (1.0 - alpha))


def _search(evidence: Evidence, *, alpha: float, delta: float, method: Method) -> SequenceTest:
    """Search the path; a point's risk exceeds alpha where its losses' mean exceeds alpha / part.

    A part of at most alpha cannot lose more than alpha, whatever the losses.
    """
    level = delta / evidence.tests
    single_rows = evidence.clusters is None or evidence.clusters.single_rows
    parts = np.ones(evidence.points) if evidence.parts is None else evidence.parts

    def tested(point: int) -> float:
        if parts[point] <= alpha:
            return 0.0
        sample = _whole(evidence.sample(point), evidence.clusters, method=method)
        return p_value(sample, alpha=float(alpha / parts[point]), delta=level, method=method)

    if method is Method.BINOMIAL and single_rows:
        check_binary(evidence.losses)
        levels = np.minimum(alpha / parts, _CERTAIN)
        counted = binomial_p_value(evidence.totals(), evidence.counts(), alpha=levels)
        p_values = iter(np.where(parts <= alpha, 0.0, counted))
    else:
        p_values = map(tested, range(evidence.points))
    if evidence.answered is None:
        return fixed_sequence(p_values, delta=delta)
    return bonferroni_grid(list(p_values), evidence.counts(), delta=delta)


def _sample(
    losses: Floats,
    keep: NDArray[np.bool_],
    human: LabelledLosses | None,
    *,
    clusters: Clusters | None,
    net: bool,
) -> Sample:
    """Return the kept rows of one point, or the clusters of those; `losses` has shape (rows,)."""
    if clusters is None:
        mended = None if human is None else _kept_labels(human, keep)
        return Sample(losses=losses[keep], net=net, human=mended)
    values, weights = clusters.means(losses, keep)
    mended = None if human is None else _cluster_labels(human, keep, clusters)
    return Sample(losses=values, weights=weights, net=net, human=mended)


def _kept_labels(human: LabelledLosses, keep: NDArray[np.bool_]) -> LabelledLosses:
    kept = keep[human.rows]
    places = (np.cumsum(keep) - 1)[human.rows[kept]]
    return LabelledLosses(rows=places, losses=human.losses[kept], net=human.net)


def _cluster_labels(
    human: LabelledLosses, keep: NDArray[np.bool_], clusters: Clusters
) -> LabelledLosses:
    """Join the labels of each cluster; raises `InputError` for one that is labelled in part."""
    labelled, spread = np.zeros(len(keep), np.bool_), np.zeros(len(keep))
    labelled[human.rows], spread[human.rows] = True, human.losses
    labelled &= keep
    codes = clusters.codes
    if np.isin(codes[keep & ~labelled], codes[labelled]).any():
        raise InputError(
            "some clusters have human labels on a part of their rows only",
            hint="label whole clusters: every request of a session, every copy of a text",
        )
    losses, _ = clusters.means(spread, labelled)
    rows = np.searchsorted(np.unique(codes[keep]), np.unique(codes[labelled]))
    return LabelledLosses(rows=rows, losses=losses, net=human.net)


def _whole(sample: Sample, clusters: Clusters | None, *, method: Method) -> Sample:
    """Count a session with any loss as lost where the fitting sessions were single rows.

    The fitting rows chose the exact test, so a longer session may first come up among the others.
    """
    if clusters is None or clusters.per is Per.REQUEST or method is not Method.BINOMIAL:
        return sample
    return Sample(losses=np.ceil(sample.losses), net=sample.net, human=sample.human)


def _clusters_needed(sample: Sample, *, alpha: float, delta: float, method: Method) -> int | None:
    """Return how many values like these would certify, by repeating them if need be."""
    rate = sample.risk if len(sample.losses) else 0.0
    if method is Method.BINOMIAL:
        return rows_needed(alpha, delta, loss_rate=rate)
    if method is Method.JUDGED or rate >= alpha or not len(sample.losses):
        return None

    def enough(n: int) -> bool:
        return p_value(sample.repeated(n), alpha=alpha, delta=delta, method=method) <= delta

    sizes = (2**power for power in range(_REPEATED_POWER))
    high = next((n for n in sizes if enough(n)), None)
    return None if high is None else first_true(enough, high=high)


def _check_clusters(evidence: Evidence, *, alpha: float, delta: float, method: Method) -> None:
    """Refuse rows that are all one draw: they say nothing about how much draws differ."""
    if evidence.clusters is None or len(np.unique(evidence.clusters.codes)) > 1:
        return
    least = clusters_needed(alpha, delta, method=method, net=evidence.net)
    raise InputError(
        f"all {len(evidence.losses)} certifying rows belong to one cluster",
        hint=f"it takes {least or 'more'} clusters without a loss to certify alpha {alpha:g} at "
        f"delta {delta:g}: give sessions, tasks or texts that differ",
    )


def _check_parts(parts: Floats, points: int, *, conditional: bool) -> None:
    if parts.shape != (points,) or not ((parts > 0) & (parts <= 1)).all():
        raise InputError(f"parts must be {points} shares above 0 and up to 1")
    if conditional:
        raise InputError("the error among answered requests is that of any random part of them")


def _check_labels(evidence: Evidence, *, method: Method) -> None:
    if (method is Method.JUDGED) != (evidence.human is not None):
        raise InputError(
            f"method {method.value!r} and human labels do not go together as given",
            hint="a judge's losses with human labels need 'judged', and only they do",
        )


def _shape(losses: Floats) -> tuple[int, int]:
    if losses.ndim != 2 or 0 in losses.shape:
        raise InputError(
            f"losses must have shape (rows, points), both at least 1, got {losses.shape}",
            hint="give at least one scored row and one point of the path",
        )
    return losses.shape
