"""Common ground of the coverage tests: loss distributions with a known mean, and the verdict."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np

Draw = Callable[[np.random.Generator, float, tuple[int, ...]], np.ndarray]


def bernoulli(rng: np.random.Generator, mean: float, shape: tuple[int, ...]) -> np.ndarray:
    return (rng.random(shape) < mean).astype(float)


def halves(rng: np.random.Generator, mean: float, shape: tuple[int, ...]) -> np.ndarray:
    """Losses of 0, 1/2 and 1: half of the mean from each kind."""
    draw = rng.random(shape)
    return np.where(draw < mean / 2, 1.0, np.where(draw < 1.5 * mean, 0.5, 0.0))


def spread(rng: np.random.Generator, mean: float, shape: tuple[int, ...]) -> np.ndarray:
    return rng.beta(4 * mean, 4 * (1 - mean), shape)


def sparse(rng: np.random.Generator, mean: float, shape: tuple[int, ...]) -> np.ndarray:
    """Mostly 0, else anything up to 1."""
    return (rng.random(shape) < 2 * mean) * rng.random(shape)


DRAWS: dict[str, Draw] = {f.__name__: f for f in (bernoulli, halves, spread, sparse)}


def too_often(failures: np.ndarray, delta: float) -> bool:
    """Whether failures pass delta by more than three standard errors of the simulation."""
    runs = failures.size
    return failures.mean() > delta + 3 * sqrt(delta * (1 - delta) / runs)


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulated:
    """Clusters of rows with losses of 0 or 1; `losses` sums them, `largest` bounds `sizes`.

    Both arrays have shape (clusters, runs).
    """

    losses: np.ndarray
    sizes: np.ndarray
    largest: int


def correlated(
    rng: np.random.Generator,
    risk: float,
    sizes: tuple[int, ...],
    shape: tuple[int, int],
    *,
    correlation: float,
    worse_when_long: bool = False,
) -> Simulated:
    """Draw clusters, each size as likely, whose rows are lost together in a part of them.

    In a share `correlation` of clusters all rows have one fate, else each its own. The risk per
    request is `risk` exactly, and so is the one per session unless long ones are worse.
    """
    size = rng.choice(np.array(sizes), shape)
    chance = np.full(shape, risk)
    if worse_when_long:
        possible = np.array(sizes, dtype=float)
        chance = size * risk * possible.sum() / (possible**2).sum()
        assert chance.max() <= 1.0
    together = rng.random(shape) < correlation
    apart = rng.binomial(size, chance)
    losses = np.where(together, size * (rng.random(shape) < chance), apart)
    return Simulated(losses=losses.astype(float), sizes=size.astype(float), largest=max(sizes))


def net_losses(
    rng: np.random.Generator, mean: float, shape: tuple[int, int], *, noise: float, repeats: int
) -> np.ndarray:
    """Draw mean differences of `repeats` pairs of runs, in [-1, 1], whose mean is `mean`.

    A pair differs by chance alone with probability `noise`, half of the time to either side.
    """
    together = rng.random(shape) < mean
    differences = np.zeros(shape)
    for _ in range(repeats):
        draw = rng.random(shape)
        swing = np.where(draw < noise / 2, 1.0, np.where(draw < noise, -1.0, 0.0))
        differences += np.where(together, 1.0, swing)
    return differences / repeats
