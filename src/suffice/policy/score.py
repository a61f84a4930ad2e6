"""The score of a rung: how much worse than the reference its answer is expected to be.

Three layers, fitted on one split. Rates: the mean outcome of a group, of a final answer, and of
both, shrunk towards the overall mean. Ridge: a linear fit on the standardised numbers and the text
vector. Forest: trees on the numbers, the main directions of the vectors, and the outputs of the
first two layers, which for fitting are made out of fold, so that the trees learn how far to trust
them. The targets are the loss and the qualities of rung and reference, all in [0, 1].
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from suffice.encoders.base import Vectors
from suffice.policy.forest import Forest, Singles, grow
from suffice.policy.observe import Attempts, Floats, Keys, Observations

FOLDS = 4
DIRECTIONS = 24  # of the vectors that the trees see
RIDGE_PENALTY = 10.0
NUMBER_SCALE = 0.3  # of a standardised number beside a vector of length 1
CLIP = 3.0  # standard deviations
PRIOR_ROWS = (20.0, 10.0, 10.0)  # weight of the mean in the rate of a group, an answer, both
_FOLD_SEED = 0

Folds = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What one score reads: numbers (rows, columns), vectors, and keys (kinds of key, rows)."""

    numbers: Floats
    vectors: Vectors
    keys: tuple[Keys, ...]


class Scaling(Struct, frozen=True, kw_only=True, eq=False):
    """How numbers and vectors are centred and scaled, and the main directions of the vectors."""

    mean: Floats
    spread: Floats
    centre: Floats
    directions: Floats

    def vectors(self, vectors: Vectors) -> Floats:
        """Centre vectors and give them length 1."""
        centred = vectors.astype(np.float64) - self.centre
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        unit: Floats = centred / np.maximum(length, 1e-9)
        return unit

    def linear(self, numbers: Floats, vectors: Floats) -> Floats:
        """Return the columns of the ridge fit, from numbers and vectors centred before."""
        scaled = np.clip((numbers - self.mean) / self.spread, -CLIP, CLIP)
        return np.hstack([NUMBER_SCALE * scaled, vectors])


class Ridge(Struct, frozen=True, kw_only=True, eq=False):
    """A linear fit of all targets: `columns @ weights + mean`."""

    weights: Floats
    mean: Floats

    def predict(self, columns: Floats) -> Floats:
        """Return shape (rows, targets)."""
        return columns @ self.weights + self.mean


class GroupMeans(Struct, frozen=True, kw_only=True, eq=False):
    """Shrunk mean targets by key; a key that is None or was not seen twice has the mean."""

    table: dict[str, int]
    means: Floats  # the last row is the overall mean

    def predict(self, keys: Keys) -> Floats:
        """Return shape (rows, targets)."""
        other = len(self.means) - 1
        at = [other if key is None else self.table.get(key, other) for key in keys]
        return self.means[at]


class FittedScore(Struct, frozen=True, kw_only=True, eq=False):
    """A fitted score; a pure function of the inputs."""

    scaling: Scaling
    ridge: Ridge
    rates: tuple[GroupMeans, ...]
    forest: Forest
    mean: Floats
    slope: Floats

    def predict(self, inputs: Inputs) -> Floats:
        """Return what to expect of each row: its loss and the carried values, (rows, outputs)."""
        return self.calibrated(self.forest.predict(self.columns(inputs)))

    def calibrated(self, raw: Floats) -> Floats:
        """Return predictions that are as far from their mean as the unseen rows bore out."""
        return self.mean + self.slope * (raw - self.mean)

    def columns(self, inputs: Inputs) -> Singles:
        """Return what the forest reads, shape (rows, columns)."""
        vectors = self.scaling.vectors(inputs.vectors)
        guesses = [
            self.ridge.predict(self.scaling.linear(inputs.numbers, vectors)),
            *(r.predict(k) for r, k in zip(self.rates, inputs.keys, strict=True)),
        ]
        return _tree_columns(inputs.numbers, vectors @ self.scaling.directions, guesses)


def fit_score(inputs: Inputs, targets: Floats, *, carried: Floats) -> tuple[FittedScore, Floats]:
    """Fit a score to targets of shape (rows, targets), the loss first, and to carried values.

    Also returns what the trees that did not see a row expect of it, shape (rows, outputs).
    """
    folds = np.random.default_rng(_FOLD_SEED).permutation(len(targets)) % FOLDS
    scaling = _fit_scaling(inputs)
    vectors = scaling.vectors(inputs.vectors)
    ridge, ridge_guess = _fit_ridge(scaling.linear(inputs.numbers, vectors), targets, folds=folds)
    rates, rate_guesses = [], []
    for keys, prior_rows in zip(inputs.keys, PRIOR_ROWS[: len(inputs.keys)], strict=True):
        fitted, guess = _fit_rates(keys, targets, folds=folds, prior_rows=prior_rows)
        rates.append(fitted)
        rate_guesses.append(guess)
    main = vectors @ scaling.directions
    columns = _tree_columns(inputs.numbers, main, [ridge_guess, *rate_guesses])
    forest, unseen = grow(columns, targets, carried=carried)
    actual = np.column_stack([targets[:, 0], carried])
    score = FittedScore(
        scaling=scaling,
        ridge=ridge,
        rates=tuple(rates),
        forest=forest,
        mean=actual.mean(axis=0),
        slope=_slopes(unseen, actual),
    )
    return score, score.calibrated(unseen)


def _slopes(unseen: Floats, actual: Floats) -> Floats:
    """Return how far to trust each prediction, from 0 (take the mean instead) to 1.

    The least squares slope of what happened on what was predicted for unseen rows, drawn towards 0
    by its own uncertainty (James and Stein). Above 1, predictions could leave the range of values.
    """
    x, y = unseen - unseen.mean(axis=0), actual - actual.mean(axis=0)
    squares = (x * x).sum(axis=0)
    slope = (x * y).sum(axis=0) / np.maximum(squares, 1e-300)
    left = ((y - slope * x) ** 2).sum(axis=0) / max(1, len(x) - 2)
    signal = slope**2 * squares
    kept = np.maximum(0.0, 1.0 - left / np.maximum(signal, 1e-300))
    trust: Floats = np.clip(slope * kept, 0.0, 1.0)
    return trust


def before_inputs(seen: Observations) -> Inputs:
    """Return what a score may read before any attempt."""
    return Inputs(numbers=seen.numbers, vectors=seen.vectors, keys=(seen.groups,))


def after_inputs(seen: Observations, attempts: Attempts) -> Inputs:
    """Return what a score may read once a rung has answered."""
    return Inputs(
        numbers=np.hstack([seen.numbers, attempts.numbers]),
        vectors=seen.vectors,
        keys=(seen.groups, attempts.finals, _both(seen.groups, attempts.finals)),
    )


def _both(groups: Keys, finals: Keys) -> Keys:
    return tuple(
        None if group is None or final is None else f"{group}\n{final}"
        for group, final in zip(groups, finals, strict=True)
    )


def _tree_columns(numbers: Floats, main: Floats, guesses: Sequence[Floats]) -> Singles:
    return np.hstack([numbers, main, *guesses]).astype(np.float32)


def _fit_scaling(inputs: Inputs) -> Scaling:
    spread = inputs.numbers.std(axis=0)
    scaling = Scaling(
        mean=inputs.numbers.mean(axis=0),
        spread=np.where(spread > 1e-9, spread, np.inf),
        centre=inputs.vectors.mean(axis=0, dtype=np.float64),
        directions=np.empty((0, 0)),
    )
    vectors = scaling.vectors(inputs.vectors)
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    return Scaling(
        mean=scaling.mean,
        spread=scaling.spread,
        centre=scaling.centre,
        directions=axes[:, ::-1][:, :DIRECTIONS].copy(),
    )


def _fit_ridge(columns: Floats, targets: Floats, *, folds: Folds) -> tuple[Ridge, Floats]:
    """Fit on all rows; also predict each fold from the others, its part of the sums taken out.

    Where no column varies, folds would differ by nothing but their rows' own outcomes: the guess is
    the mean.
    """
    sums = [_RidgeSums.of(columns[folds == fold], targets[folds == fold]) for fold in range(FOLDS)]
    guess = np.broadcast_to(targets.mean(axis=0), targets.shape).copy()
    for fold in range(FOLDS) if np.ptp(columns, axis=0).any() else ():
        others = _RidgeSums.total([part for at, part in enumerate(sums) if at != fold])
        guess[folds == fold] = others.solved().predict(columns[folds == fold])
    return _RidgeSums.total(sums).solved(), guess


@dataclass(frozen=True, kw_only=True, eq=False)
class _RidgeSums:
    """All that a ridge fit needs to know of some rows; parts add up."""

    rows: int
    columns: Floats
    targets: Floats
    squares: Floats
    products: Floats

    @classmethod
    def of(cls, columns: Floats, targets: Floats) -> "_RidgeSums":
        return cls(
            rows=len(columns),
            columns=columns.sum(axis=0),
            targets=targets.sum(axis=0),
            squares=columns.T @ columns,
            products=columns.T @ targets,
        )

    @classmethod
    def total(cls, parts: "list[_RidgeSums]") -> "_RidgeSums":
        return cls(
            rows=sum(part.rows for part in parts),
            columns=np.sum([part.columns for part in parts], axis=0),
            targets=np.sum([part.targets for part in parts], axis=0),
            squares=np.sum([part.squares for part in parts], axis=0),
            products=np.sum([part.products for part in parts], axis=0),
        )

    def solved(self) -> Ridge:
        """Fit what the mean target leaves over."""
        mean = self.targets / self.rows
        penalty = RIDGE_PENALTY * np.eye(len(self.columns))
        left = self.products - np.outer(self.columns, mean)
        weights: Floats = np.linalg.solve(self.squares + penalty, left).astype(np.float64)
        return Ridge(weights=weights, mean=mean)


def _fit_rates(
    keys: Keys, targets: Floats, *, folds: Folds, prior_rows: float
) -> tuple[GroupMeans, Floats]:
    """Fit on all rows, keys seen once aside; also predict each fold from the others.

    Where all rows share one key, the guess is its rate.
    """
    counts = Counter(key for key in keys if key is not None)
    names = [name for name, count in counts.items() if count > 1]
    table = {name: at for at, name in enumerate(names)}
    at = np.array([len(names) if key is None else table.get(key, len(names)) for key in keys])
    means = _shrunk(at, targets, kinds=len(names), prior_rows=prior_rows)
    guess = means[at]
    for fold in range(FOLDS) if np.ptp(at) else ():
        out = folds == fold
        others = _shrunk(at[~out], targets[~out], kinds=len(names), prior_rows=prior_rows)
        guess[out] = others[at[out]]
    return GroupMeans(table=table, means=means), guess


def _shrunk(at: Folds, targets: Floats, *, kinds: int, prior_rows: float) -> Floats:
    """Return the shrunk mean of each kind, and in a last row the overall mean."""
    mean = targets.mean(axis=0)
    counts = np.bincount(at, minlength=kinds + 1)[:, None]
    sums = np.stack([np.bincount(at, t, minlength=kinds + 1) for t in targets.T], axis=1)
    means: Floats = (sums + prior_rows * mean) / (counts + prior_rows)
    means[kinds] = mean
    return means
