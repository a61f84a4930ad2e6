"""Common ground of the coverage tests: loss distributions with a known mean, and the verdict."""

from collections.abc import Callable
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
