"""The moves of one price: regimes (still, falling, rising) that last, and moves within them.

A quoted price stays for months, then steps. A market price falls or rises for months. Both are a
Markov chain over three regimes, fitted by counting. Every path draws its own transition matrix,
size of moves, level and half-life, so a short history makes a wide fan. A market also drifts for
longer than its regimes last: a glut of years was followed by a shortage, so a path's drift is as
large as those seen before, and of either sign.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Array = NDArray[np.float64]
REGIMES = ("still", "falling", "rising")
PRIOR_MONTHS = 0.5  # Jeffreys' prior of each transition
QUANTILES = np.linspace(0.0, 1.0, 11)


class Process(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fitted monthly moves of one kind of price, in natural logarithms.

    `transitions[i][j]` counts months of regime i that were followed by regime j; a group counts as
    one series. `falls` and `rises` are the eleven deciles of monthly moves. `spells` is the number
    of spells of falling or rising: the independent observations behind them. `drift` is the
    standard deviation of a path's own move a month, 0 for prices that are quoted.
    """

    transitions: tuple[tuple[float, ...], ...]
    falls: tuple[float, ...]
    rises: tuple[float, ...]
    spells: float
    source: str
    date: str
    command: str
    drift: float = 0.0


class Level(Struct, frozen=True, kw_only=True):
    """The level that a price is pulled to: log ratios to today's price, and months to half-way."""

    low: float
    high: float
    half_life_months: tuple[float, float]


class Simulation(Struct, frozen=True, kw_only=True):
    """What to simulate; `regime` is today's, None if it is unknown."""

    months: int
    paths: int
    regime: int | None = None
    level: Level | None = None


def simulate(process: Process, run: Simulation, *, rng: np.random.Generator) -> Array:
    """Return paths of the log price over today's, shape (paths, 1 + months)."""
    rows = np.arange(run.paths)
    counts = np.asarray(process.transitions) + PRIOR_MONTHS
    weights = rng.gamma(counts, size=(run.paths, 3, 3))
    cumulated = np.cumsum(weights / weights.sum(axis=2, keepdims=True), axis=2)
    scale = np.exp(rng.normal(0.0, 1.0 / np.sqrt(max(process.spells, 1.0)), run.paths))
    target, pull = _pulls(run, rng=rng)
    regime = _first_regimes(counts, run, rng=rng)
    drift = rng.normal(0.0, process.drift, run.paths) if process.drift else np.zeros(run.paths)
    logs = np.zeros((run.paths, run.months + 1))
    for month in range(1, run.months + 1):
        chance = rng.random(run.paths)
        regime = np.minimum((chance[:, None] > cumulated[rows, regime]).sum(axis=1), 2)
        before = logs[:, month - 1]
        move = scale * _moves(process, regime, rng.random(run.paths)) + drift
        logs[:, month] = before + move + pull * (target - before)
    return logs


def _moves(process: Process, regime: NDArray[np.intp], chance: Array) -> Array:
    falls = np.interp(chance, QUANTILES, process.falls)
    rises = np.interp(chance, QUANTILES, process.rises)
    return np.select([regime == 1, regime == 2], [falls, rises], 0.0)


def _first_regimes(counts: Array, run: Simulation, *, rng: np.random.Generator) -> NDArray[np.intp]:
    if run.regime is not None:
        return np.full(run.paths, run.regime, np.intp)
    visits = counts.sum(axis=1)
    return rng.choice(3, size=run.paths, p=visits / visits.sum()).astype(np.intp)


def _pulls(run: Simulation, *, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw each path's level, and the share of the way to it that it goes in a month."""
    if run.level is None:
        return np.zeros(run.paths), np.zeros(run.paths)
    short, long = run.level.half_life_months
    half_life = np.exp(rng.uniform(np.log(short), np.log(long), run.paths))
    target = rng.uniform(run.level.low, run.level.high, run.paths)
    return target, 1.0 - 0.5 ** (1.0 / half_life)
