"""Learn how wide intervals must be, from errors of whole groups, chips, vendors, sources left out.

Only `benchmarks` calls this; the product evaluates what it made (`suffice.silicon.intervals`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.silicon import learn
from benchmarks.silicon.learn import Groups, HeldOut, MeasuredRows
from suffice.silicon.columns import ConfigTable
from suffice.silicon.intervals import (
    NOVELTIES,
    TERMS,
    Coverage,
    Interval,
    coverage_of,
    half_width,
    novelties,
)
from suffice.silicon.residual import ideal, interval_terms
from suffice.silicon.roofline import Array

COVERED = 0.9
SMALLEST_ERROR = 0.02
SMOOTH = 0.05
RIDGE = 1e-3
NOVELTY = 0.1
"""What was never measured widens an interval by a tenth at least, even where leaving it out did not
show it: those left out were like the others."""
BOUNDS = [
    (-5.0, 2.0),
    *[(0.0, 2.5)] * (len(TERMS) - 1 - len(NOVELTIES)),
    *[(NOVELTY, 2.5)] * len(NOVELTIES),
]
SOURCE = "source"
OLDER = "older engines"


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Errors of rows left out: TERMS by column, log(measured / predicted), and where each is from.

    `group` names what counts as one observation, `left_out` what was left out, `source` who
    measured the row.
    """

    terms: Array
    error: Array
    group: Groups
    left_out: Groups
    source: Groups

    def take(self, rows: Array) -> "Errors":
        """Return the rows that a mask picks."""
        return Errors(**{name: column[rows] for name, column in vars(self).items()})


def term_columns(
    table: ConfigTable, *, distance: Array, coverage: Coverage, own_source: bool = False
) -> Array:
    """Compute TERMS for every row, one column a term; `own_source` if its source was trained on."""
    terms = interval_terms(ideal(table), distance=distance)
    if own_source:
        terms["source"] = np.zeros(len(table))
    known = np.array([np.ones(len(table)), *(terms[name] for name in TERMS[1:6])])
    return np.concatenate([known, novelties(table, coverage)]).T


def collect(
    rows: MeasuredRows,
    errors: Mapping[str, tuple[Groups, HeldOut, int]],
    *,
    target: int,
    source: Groups,
) -> Errors:
    """Put the errors of several ways of leaving out in one table.

    `errors` maps what was left out to its keys, the predictions, and how many folds those had.
    """
    parts = []
    for name, (keys, held, count) in errors.items():
        seconds = rows.ttft_s if target else rows.tpot_s
        error = np.log(seconds) - (held.ttft if target else held.tpot)
        for train, test in learn.folds(keys, count=count):
            at = np.flatnonzero(test & np.isfinite(error))
            if not len(at):
                continue
            terms = term_columns(
                rows.table.take(at),
                distance=held.distance[at],
                coverage=coverage_of(rows.table.take(train), versions={}),
                own_source=name != SOURCE,
            )
            parts.append(
                Errors(
                    terms=terms,
                    error=error[at],
                    group=np.array([f"{name}|{group}" for group in rows.group[at]]),
                    left_out=np.full(len(at), name),
                    source=source[at],
                )
            )
    return join_errors(parts)


def join_errors(parts: Sequence[Errors]) -> Errors:
    """Stack errors of several tables."""
    names = list(vars(parts[0]))
    return Errors(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def fit_interval(errors: Errors, *, sources: int, engines: int) -> Interval:
    """Fit a quantile (COVERAGE) of |error| as exp(weights x TERMS); no term makes it narrower.

    Groups count by the root of their rows, and every way of leaving out counts the same. The factor
    on top is the mean of the row-wise quantile of scores and of the median over groups of each
    group's own (group-wise conformal), at least 1.
    """
    from scipy.optimize import minimize

    weight = _weights(errors)
    size = np.log(np.maximum(np.abs(errors.error), SMALLEST_ERROR))

    def loss(b: Array) -> tuple[float, Array]:
        z = (size - errors.terms @ b) / SMOOTH
        value = SMOOTH * np.logaddexp(0, z) - (1 - learn.COVERAGE) * SMOOTH * z
        slope = 1 / (1 + np.exp(-z)) - (1 - learn.COVERAGE)
        pull = RIDGE * np.concatenate([[0.0], b[1:]])
        return float((weight * value).mean() + pull @ b), (
            2 * pull - errors.terms.T @ (weight * slope) / len(weight)
        )

    start = np.array([-1.0] + [low for low, _ in BOUNDS[1:]])
    weights = np.round(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=BOUNDS).x, 6)
    score = np.abs(errors.error) / np.exp(errors.terms @ weights)
    own = [np.quantile(score[errors.group == g], learn.COVERAGE) for g in np.unique(errors.group)]
    factor = (np.quantile(score, learn.COVERAGE) + np.median(own)) / 2
    return Interval(
        weights=tuple(weights.tolist()),
        quantile=float(max(factor, 1.0)),
        few_sources=few(sources),
        few_engines=few(engines),
    )


def few(count: int) -> float:
    """How much wider an interval of so few levels is: Student's t over the normal quantile."""
    from scipy.stats import norm, t

    tail = (1 + COVERED) / 2
    return float(t.ppf(tail, max(count - 1, 2)) / norm.ppf(tail))


def widths(interval: Interval, terms: Array) -> Array:
    """Half widths in log time of rows whose TERMS are columns."""
    named = {name: terms[:, TERMS.index(name)] for name in TERMS[1:6]}
    return half_width(interval, named, unseen=terms[:, 6:].T)


def _weights(errors: Errors) -> Array:
    _, place, count = np.unique(errors.group, return_inverse=True, return_counts=True)
    weight = 1 / np.sqrt(count[place])
    for name in np.unique(errors.left_out):
        here = errors.left_out == name
        weight[here] /= weight[here].sum()
    return np.asarray(weight * len(weight) / weight.sum())
