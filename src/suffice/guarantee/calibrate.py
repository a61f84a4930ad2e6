"""From the losses of the certifying split to the point of the path that may be used."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from suffice.errors import InputError
from suffice.guarantee.bounds import (
    Floats,
    Ints,
    LabelledLosses,
    Method,
    Sample,
    binomial_p_value,
    check_binary,
    check_losses,
    check_probability,
    first_true,
    p_value,
    rows_needed,
    upper_bound,
)
from suffice.guarantee.sequences import SequenceTest, bonferroni_grid, fixed_sequence

_REPEATED_POWER = 21  # rows are repeated up to 2 ** 20 to see how many would do


class RiskKind(StrEnum):
    """What the risk is a mean of."""

    EXCESS_OVER_REFERENCE = "excess_over_reference"  # all requests; loss against the reference
    ERROR_AMONG_ANSWERED = "error_among_answered"  # only the requests that the rung answered


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Losses on the certifying split at every point of a path that was fixed without it.

    `losses` has shape (rows, points), points ordered from safe to cheap. With `answered`, a mask
    of that shape, the risk is the error among answered requests; without it, the excess over the
    reference among all. A judge's losses need `human` labels of a random part of the rows.
    """

    losses: Floats
    answered: NDArray[np.bool_] | None = None
    human: LabelledLosses | None = None

    def __post_init__(self) -> None:
        rows, points = _shape(self.losses)
        check_losses(self.losses)
        if self.answered is not None and self.answered.shape != (rows, points):
            raise InputError(f"answered has shape {self.answered.shape}, losses {(rows, points)}")
        if self.human is not None:
            self.human.check_within(rows)
            if self.human.losses.shape[1:] != (points,):
                shape = self.human.losses.shape
                raise InputError(f"human losses have shape {shape}, losses {(rows, points)}")

    @property
    def risk_kind(self) -> RiskKind:
        """Which risk these losses measure."""
        if self.answered is None:
            return RiskKind.EXCESS_OVER_REFERENCE
        return RiskKind.ERROR_AMONG_ANSWERED

    @property
    def points(self) -> int:
        """How many points the path has."""
        return int(self.losses.shape[1])

    @property
    def tests(self) -> int:
        """How many hypotheses share delta: one on a walk, all points on a grid."""
        return 1 if self.answered is None else self.points

    def counts(self) -> Ints:
        """Return how many rows each point's risk is a mean of; shape (points,)."""
        if self.answered is None:
            return np.full(self.points, len(self.losses))
        counts: Ints = self.answered.sum(axis=0, dtype=np.int64)
        return counts

    def totals(self) -> Floats:
        """Return the sum of the losses that count at each point; shape (points,)."""
        total: Floats = self.losses.sum(
            axis=0, where=True if self.answered is None else self.answered
        )
        return total

    def sample(self, point: int) -> Sample:
        """Return the rows that count at one point of the path."""
        column = self.losses[:, point]
        keep = np.ones(len(column), np.bool_) if self.answered is None else self.answered[:, point]
        if self.human is None:
            return Sample(losses=column[keep])
        kept = keep[self.human.rows]
        places = (np.cumsum(keep) - 1)[self.human.rows[kept]]
        labels = LabelledLosses(rows=places, losses=self.human.losses[kept, point])
        return Sample(losses=column[keep], human=labels)


class Calibration(Struct, frozen=True, kw_only=True):
    """What the certifying split allows.

    If `certified`, `P(risk at index <= alpha) >= 1 - delta` and `index` is the accepted point.
    If not, `index` is the point nearest to it (smallest p-value) and `bound` the smallest alpha
    that these rows can certify there. `bound` uses `delta / tests`. On a walk that was certified it
    belongs to its point alone and is not corrected for having chosen that point: the promise is
    `alpha`. `n` rows and `losses` (their sum) stand behind it, `human_n` of them labelled.
    `rows_needed` is how many rows would do if their losses were spread as these are: None if
    certified, if no number of rows would do, or if human labels are what is short.
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
    human_n: int | None = None
    rows_needed: int | None = None


class PartBound(Struct, frozen=True, kw_only=True):
    """The risk of one part of the rows: a rung, a group. `bound` is 1 where nothing was seen."""

    part: str
    n: int
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
    walk = _search(evidence, alpha=alpha, delta=delta, method=method)
    index = int(np.argmin(walk.p_values)) if walk.accepted is None else walk.accepted
    sample = evidence.sample(index)
    n, losses = len(sample.losses), float(sample.losses.sum())
    tests = evidence.tests
    return Calibration(
        certified=walk.accepted is not None,
        index=index,
        alpha=alpha,
        delta=delta,
        method=method,
        risk_kind=evidence.risk_kind,
        tests=tests,
        n=n,
        losses=losses,
        bound=upper_bound(sample, delta=delta / tests, method=method),
        p_values=walk.p_values,
        human_n=None if sample.human is None else len(sample.human.rows),
        rows_needed=None
        if walk.accepted is not None
        else _rows_needed(sample, alpha=alpha, delta=delta / tests, method=method),
    )


def part_bounds(
    losses: Floats, parts: Sequence[str], *, delta: float, method: Method
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
    samples = {name: Sample(losses=losses[labels == name]) for name in names}
    return tuple(
        PartBound(
            part=name,
            n=len(sample.losses),
            losses=float(sample.losses.sum()),
            bound=upper_bound(sample, delta=delta / len(names), method=method),
        )
        for name, sample in samples.items()
    )


def least_abstention(error: float, *, alpha: float) -> float:
    """Return the share that must go unanswered at least, for an error of `alpha` among answered.

    `error` is the error if all were answered. Even a perfect score that abstains on nothing but
    errors needs (error - alpha) / (1 - alpha) (arXiv 2606.29054): print it before calibrating.
    """
    check_probability("alpha", alpha)
    return max(0.0, (float(check_losses(error)) - alpha) / (1.0 - alpha))


def _search(evidence: Evidence, *, alpha: float, delta: float, method: Method) -> SequenceTest:
    level = delta / evidence.tests
    if method is Method.BINOMIAL:
        check_binary(evidence.losses)
        p_values = iter(binomial_p_value(evidence.totals(), evidence.counts(), alpha=alpha))
    else:
        samples = map(evidence.sample, range(evidence.points))
        p_values = (p_value(s, alpha=alpha, delta=level, method=method) for s in samples)
    if evidence.answered is None:
        return fixed_sequence(p_values, delta=delta)
    return bonferroni_grid(list(p_values), evidence.counts(), delta=delta)


def _rows_needed(sample: Sample, *, alpha: float, delta: float, method: Method) -> int | None:
    """Return how many rows like these would certify, by repeating them if need be."""
    rate = float(sample.losses.mean()) if len(sample.losses) else 0.0
    if method is Method.BINOMIAL:
        return rows_needed(alpha, delta, loss_rate=rate)
    if method is Method.PREDICTION_POWERED or rate >= alpha:
        return None

    def enough(n: int) -> bool:
        repeated = Sample(losses=np.resize(sample.losses, n))
        return p_value(repeated, alpha=alpha, delta=delta, method=method) <= delta

    sizes = (2**power for power in range(_REPEATED_POWER))
    high = next((n for n in sizes if enough(n)), None)
    return None if high is None else first_true(enough, high=high)


def _check_labels(evidence: Evidence, *, method: Method) -> None:
    if (method is Method.PREDICTION_POWERED) != (evidence.human is not None):
        raise InputError(
            f"method {method.value!r} and human labels do not go together as given",
            hint="a judge's losses with human labels need 'prediction_powered', and only they do",
        )


def _shape(losses: Floats) -> tuple[int, int]:
    if losses.ndim != 2 or 0 in losses.shape:
        raise InputError(
            f"losses must have shape (rows, points), both at least 1, got {losses.shape}",
            hint="give at least one scored row and one point of the path",
        )
    return losses.shape
