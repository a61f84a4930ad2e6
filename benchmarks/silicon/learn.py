"""Learn coefficients, residual and interval from measured rows (needs scipy, scikit-learn).

Only `benchmarks` calls this; the product evaluates what it made (`residual`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suffice.silicon.basis import activations, lift, standardise
from suffice.silicon.calibrate import krige, parts
from suffice.silicon.columns import ConfigTable
from suffice.silicon.intervals import Coverage, Interval
from suffice.silicon.predict import LIMIT
from suffice.silicon.residual import (
    FIRST_START,
    PARTS,
    STEP_START,
    Kernel,
    LearnedTarget,
    Trained,
    features,
    first_seconds,
    ideal,
    step_seconds,
)
from suffice.silicon.roofline import Array

Groups = NDArray[np.str_]
CENTRES = 256
PHYSICS_ROWS = 1500
KERNEL_ROWS = 100
OUTLIER = 3.0
POINTS = 3
RIDGE = 1.0
TPOT_CLIP = 0.7
TTFT_CLIP = 1.2
SOFT = 0.1
PRIOR = 0.02
COVERAGE = 0.92
EMPHASIS = {
    "shares": (7, 1.6),
    "times": (2, 1.6),
    "load": (5, 1.6),
    "layout": (4, 0.6),
    "chip": (5, 1.0),
    "model": (8, 1.0),
    "formats": (2, 1.0),
    "prefill": (2, 1.0),
    "waiting": (1, 1.0),
    "flags": (8, 1.0),
    "engine": (3, 1.0),
}
"""How many features each block has, in order, and how much distances along them count."""


@dataclass(frozen=True, kw_only=True)
class MeasuredRows:
    """Measured rows: a table, seconds (NaN where not measured), and the group of each row."""

    table: ConfigTable
    tpot_s: Array
    ttft_s: Array
    group: Groups
    weight: Array

    def take(self, rows: Array) -> "MeasuredRows":
        """Return the rows that a mask or index picks."""
        return MeasuredRows(
            table=self.table.take(rows),
            tpot_s=self.tpot_s[rows],
            ttft_s=self.ttft_s[rows],
            group=self.group[rows],
            weight=self.weight[rows],
        )


@dataclass(frozen=True, kw_only=True)
class PointPredictors:
    """Point predictors for both targets, before an interval is known."""

    tpot: Array
    ttft: Array
    mean: Array
    scale: Array
    centres: Array
    weights: Array
    bias: Array

    def predict(self, table: ConfigTable) -> tuple[Array, Array, Array]:
        """Log seconds per token, log seconds to the first, and distance from the data."""
        times = ideal(table)
        step_s = step_seconds(times, self.tpot)
        x = standardise(
            features(times, table=table, step_s=step_s), mean=self.mean, scale=self.scale
        )
        basis, distance = activations(x, lifted=lift(self.centres))
        moved = self.weights @ basis + self.bias[:, None]
        moved = np.clip(moved, -LIMIT, LIMIT)
        tpot = np.log(step_s) + moved[0]
        first = first_seconds(times, self.ttft, tpot_s=np.exp(tpot))
        return tpot, np.log(first) + moved[1], distance


def fit(rows: MeasuredRows, *, seed: int = 0) -> PointPredictors:
    """Fit physics first, then the residual of both targets on shared centres."""
    times = ideal(rows.table)
    few = rows.take(_sample(rows, seed=seed))
    at_few = ideal(few.table)
    step = fit_physics(
        lambda q: step_seconds(at_few, q), start=STEP_START, seconds=few.tpot_s, weight=few.weight
    )
    step_s = step_seconds(times, step)
    raw = features(times, table=rows.table, step_s=step_s).astype(float)
    mean, scale = raw.mean(axis=1), np.maximum(raw.std(axis=1), 0.3) / emphasis()
    x = standardise(raw, mean=mean, scale=scale)
    centres = _centres(x.T, seed=seed)
    basis = activations(x, lifted=lift(centres))[0].T
    weights, bias = np.zeros((2, len(centres))), np.zeros(2)
    gram, _ = activations(centres.T, lifted=lift(centres))
    weights[0], bias[0] = _fit_residual(
        basis, gram, error=np.log(rows.tpot_s / step_s), weight=rows.weight, clip=TPOT_CLIP
    )
    tpot_s = step_s * np.exp(basis @ weights[0] + bias[0])
    known = np.flatnonzero(np.isfinite(rows.ttft_s))
    some = known[_sample(rows.take(known), seed=seed)]
    at_some = ideal(rows.table.take(some))
    first = fit_physics(
        lambda q: first_seconds(at_some, q, tpot_s=tpot_s[some]),
        start=FIRST_START,
        seconds=rows.ttft_s[some],
        weight=rows.weight[some],
    )
    guess = first_seconds(ideal(rows.table.take(known)), first, tpot_s=tpot_s[known])
    error = np.log(rows.ttft_s[known] / guess)
    weights[1], bias[1] = _fit_residual(
        basis[known], gram, error=error, weight=rows.weight[known], clip=TTFT_CLIP
    )
    return PointPredictors(
        tpot=step, ttft=first, mean=mean, scale=scale, centres=centres, weights=weights, bias=bias
    )


def fit_physics(
    model: Callable[[Array], Array], *, start: tuple[float, ...], seconds: Array, weight: Array
) -> Array:
    """Minimise the robust log error over log coefficients, held gently to `start`."""
    from scipy.optimize import least_squares

    origin, target = np.log(start), np.log(seconds)
    pull, scale = PRIOR * np.sqrt(weight.sum()), np.sqrt(weight)

    def loss(q: Array) -> Array:
        return np.concatenate([scale * (np.log(model(q)) - target), pull * (q - origin)])

    return np.asarray(least_squares(loss, origin, loss="soft_l1", f_scale=0.1, max_nfev=30).x)


def folds(group: Groups, *, count: int, seed: int = 0) -> Iterator[tuple[Array, Array]]:
    """Split rows so that no group is on both sides; yields masks (train, held out)."""
    names, sizes = np.unique(group, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    load, place = np.zeros(count), {}
    for i in order[np.argsort(-sizes[order], kind="stable")]:
        place[names[i]] = int(load.argmin())
        load[place[names[i]]] += sizes[i]
    fold = np.array([place[name] for name in group])
    for k in range(count):
        yield fold != k, fold == k


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Log predictions for rows whose group was not seen, distance, and what their width needs."""

    tpot: Array
    ttft: Array
    distance: Array


def cross_validate(rows: MeasuredRows, *, keys: Groups, count: int, seed: int = 0) -> HeldOut:
    """Predict every row by a fit that has not seen its key (a group, a chip, a vendor)."""
    out = np.full((3, len(rows.group)), np.nan)
    for train, test in folds(keys, count=count, seed=seed):
        out[:, test] = fit(rows.take(train), seed=seed).predict(rows.table.take(test))
    return HeldOut(tpot=out[0], ttft=out[1], distance=out[2])


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where trained parameters come from: the command, the tables it read, the day."""

    made_by: str
    data: tuple[str, ...]
    date: str


def assemble(
    fitted: PointPredictors,
    *,
    intervals: tuple[Interval, Interval],
    kernels: tuple[Kernel, Kernel],
    coverage: Coverage,
    older: dict[str, float],
    origin: Provenance,
) -> Trained:
    """Join a fit, its intervals and kernels into what ships."""
    targets = [
        LearnedTarget(
            coefficients=_plain(q), weights=_plain(w), bias=float(b), interval=i, kernel=k
        )
        for q, w, b, i, k in zip(
            (fitted.tpot, fitted.ttft), fitted.weights, fitted.bias, intervals, kernels, strict=True
        )
    ]
    return Trained(
        mean=_plain(fitted.mean),
        scale=_plain(fitted.scale),
        centres=tuple(tuple(row) for row in np.round(fitted.centres, 4).tolist()),
        tpot=targets[0],
        ttft=targets[1],
        coverage=coverage,
        older=older,
        made_by=origin.made_by,
        data=origin.data,
        date=origin.date,
    )


def fit_kernel(table: ConfigTable, *, error: Array, group: Groups, seed: int = 0) -> Kernel:
    """Learn how large the parts of a group's error are, by maximum likelihood over held-out errors.

    `error` is log(measured / predicted) over the half width of the row's interval.
    Groups count by the root of their rows, and large ones are sampled, so that none dominates.
    """
    from scipy.optimize import minimize

    rng = np.random.default_rng(seed)
    known = np.flatnonzero(np.isfinite(error))
    data = []
    for name in np.unique(group[known]):
        rows = known[group[known] == name]
        rows = rows if len(rows) <= KERNEL_ROWS else rng.choice(rows, KERNEL_ROWS, replace=False)
        part = table.take(rows)
        data.append((np.clip(error[rows], -OUTLIER, OUTLIER), parts(part, part)))

    def loss(logs: Array) -> tuple[float, Array]:
        variances, total, slope = np.exp(logs), 0.0, np.zeros(len(logs))
        for y, pieces in data:
            cov = np.tensordot(variances[:-1], pieces, 1) + variances[-1] * np.eye(len(y))
            inverse, share = np.linalg.inv(cov), len(y) ** -0.5
            a = inverse @ y
            total += share * 0.5 * (y @ a + np.linalg.slogdet(cov)[1])
            outer = np.outer(a, a) - inverse
            slope[:-1] -= share * 0.5 * variances[:-1] * np.einsum("ij,kij->k", outer, pieces)
            slope[-1] -= share * 0.5 * variances[-1] * np.trace(outer)
        return total, slope

    start = np.full(len(PARTS), np.log(0.05))
    bounds = [(-10.0, 3.0)] * len(PARTS)
    optimum = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60}
    )
    return Kernel(variances=_plain(np.exp(optimum.x)))


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One draw of `points` to calibrate on: the other `rows`, what error is `left`, its `sigma`.

    Both in units of the row's interval, like the errors that were given.
    """

    points: Array
    rows: Array
    left: Array
    sigma: Array


def few_shots(
    table: ConfigTable,
    *,
    error: Array,
    group: Groups,
    kernel: Kernel,
    draws: int = 20,
) -> Iterator[Shot]:
    """Calibrate each group on three random rows, `draws` times; smaller groups are left out."""
    rng = np.random.default_rng(0)
    for name in np.unique(group):
        rows = np.flatnonzero((group == name) & np.isfinite(error))
        for _ in range(draws if len(rows) > POINTS else 0):
            picked = rng.choice(rows, POINTS, replace=False)
            rest = np.setdiff1d(rows, picked)
            moved, sigma = krige(
                table.take(picked), error[picked], at=table.take(rest), kernel=kernel
            )
            yield Shot(points=picked, rows=rest, left=error[rest] - moved, sigma=sigma)


def emphasis() -> Array:
    """Return how much the distance along each feature counts."""
    return np.concatenate([np.full(count, weight) for count, weight in EMPHASIS.values()])


def _plain(values: Array) -> tuple[float, ...]:
    return tuple(np.round(values, 6).tolist())


def _sample(rows: MeasuredRows, *, seed: int) -> Array:
    """Pick at most PHYSICS_ROWS rows: the two dozen coefficients need no more."""
    count = min(PHYSICS_ROWS, len(rows.group))
    return np.random.default_rng(seed).choice(len(rows.group), count, replace=False)


def _centres(x: Array, *, seed: int) -> Array:
    from sklearn.cluster import KMeans

    count = min(CENTRES, len(x))
    return np.asarray(
        KMeans(count, n_init=1, max_iter=30, random_state=seed).fit(x).cluster_centers_
    )


def _fit_residual(
    basis: Array, gram: Array, *, error: Array, weight: Array, clip: float
) -> tuple[Array, float]:
    """Least absolute error by reweighted ridge regression; returns weights and bias."""
    m = basis.shape[1]
    design = np.column_stack([basis, np.ones(len(basis))])
    penalty = np.zeros((m + 1, m + 1))
    penalty[:m, :m] = RIDGE * gram
    penalty += 1e-6 * np.eye(m + 1)
    target, pull, solution = np.clip(error, -clip, clip), weight.copy(), np.zeros(m + 1)
    for _ in range(4):
        scaled = design * pull[:, None]
        solution = np.linalg.solve(scaled.T @ design + penalty, scaled.T @ target)
        pull = weight * 2 * SOFT / np.maximum(np.abs(target - design @ solution), SOFT)
    return solution[:m], float(solution[m])
