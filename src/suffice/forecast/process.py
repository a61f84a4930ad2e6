"""How one price moves: regimes (still, falling, rising) that last, and moves drawn within them.

A price that is quoted stays where it is for months, then steps; a market falls or rises for months
on end. Both are one Markov chain over three regimes with its own moves, fitted by counting. Every
path draws its own transition matrix, size of moves, level and half-life, so that what a short
history cannot tell widens the fan.
"""

import datetime as dt
from collections import Counter
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from suffice.errors import InputError

Array = NDArray[np.float64]
REGIMES = ("still", "falling", "rising")
DAYS_PER_MONTH = 30.4375
STILL = 0.01  # a log move smaller than this is rounding
PRIOR_MONTHS = 0.5  # Jeffreys' prior of each transition
QUANTILES = np.linspace(0.0, 1.0, 11)


class Series(Struct, frozen=True, kw_only=True):
    """One price over time; prices of a `group` (a provider, a vendor) tend to move together.

    A quoted price holds until the next quote; one that is not (a market) moves in between.
    """

    group: str
    dates: tuple[dt.date, ...]
    usd: tuple[float, ...]
    quoted: bool = True


class Process(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fitted moves of one kind of price, a month a step, in natural logarithms.

    `transitions[i][j]` counts months of regime i that a month of regime j followed, a group
    counting as one series; `falls` and `rises` are the eleven deciles of monthly moves, `spells` of
    falling or rising is how many independent observations they rest on.
    """

    transitions: tuple[tuple[float, ...], ...]
    falls: tuple[float, ...]
    rises: tuple[float, ...]
    spells: float
    source: str
    date: str
    command: str


class Level(Struct, frozen=True, kw_only=True):
    """Where a price is pulled to: log ratios to today's price, and the months to go half-way."""

    low: float
    high: float
    half_life_months: tuple[float, float]


class Simulation(Struct, frozen=True, kw_only=True):
    """What to simulate: `regime` is today's, None where nobody looked."""

    months: int
    paths: int
    regime: int | None = None
    level: Level | None = None


def simulate(process: Process, run: Simulation, *, rng: np.random.Generator) -> Array:
    """Draw paths of the log price over today's, one row a path, one column a month from 0 on."""
    rows = np.arange(run.paths)
    counts = np.asarray(process.transitions) + PRIOR_MONTHS
    weights = rng.gamma(counts, size=(run.paths, 3, 3))
    cumulated = np.cumsum(weights / weights.sum(axis=2, keepdims=True), axis=2)
    scale = np.exp(rng.normal(0.0, 1.0 / np.sqrt(max(process.spells, 1.0)), run.paths))
    target, pull = _pulls(run, rng=rng)
    regime = _first_regimes(counts, run, rng=rng)
    logs = np.zeros((run.paths, run.months + 1))
    for month in range(1, run.months + 1):
        chance = rng.random(run.paths)
        regime = np.minimum((chance[:, None] > cumulated[rows, regime]).sum(axis=1), 2)
        before = logs[:, month - 1]
        move = scale * _moves(process, regime, rng.random(run.paths))
        logs[:, month] = before + move + pull * (target - before)
    return logs


def fit_process(series: Sequence[Series], *, source: str, date: str, command: str) -> Process:
    """Count regimes and moves of monthly prices; raises InputError where nothing was followed."""
    groups = Counter(one.group for one in series)
    counts, spells = np.zeros((3, 3)), 0.0
    moves, weights = [np.zeros(0)], [np.zeros(0)]
    for one in series:
        steps = np.diff(np.log(monthly(one)))
        kinds = regimes(steps)
        share = 1.0 / groups[one.group]
        np.add.at(counts, (kinds[:-1], kinds[1:]), share)
        spells += share * float(((kinds > 0) & (np.diff(kinds, prepend=0) != 0)).sum())
        moves.append(steps)
        weights.append(np.full(len(steps), share))
    moves_all, weight = np.concatenate(moves), np.concatenate(weights)
    if not counts.sum():
        raise InputError("no price was followed for three months", hint="give longer price series")
    kinds = regimes(moves_all)
    return Process(
        transitions=tuple(tuple(float(n) for n in np.round(row, 2)) for row in counts),
        falls=_deciles(-moves_all[kinds == 1], weight[kinds == 1], sign=-1),
        rises=_deciles(moves_all[kinds == 2], weight[kinds == 2], sign=1),
        spells=round(spells, 1),
        source=source,
        date=date,
        command=command,
    )


def monthly(series: Series) -> Array:
    """Put a price on a grid of months from its first day."""
    return _on_grid(series, step_days=DAYS_PER_MONTH)


def daily(series: Series) -> Array:
    """Put a price on a grid of days from its first to its last."""
    return _on_grid(series, step_days=1.0)


def regimes(moves: Array) -> NDArray[np.intp]:
    """Name the regime of each monthly log move: its index in REGIMES."""
    return np.where(np.abs(moves) < STILL, 0, np.where(moves < 0, 1, 2)).astype(np.intp)


def _on_grid(series: Series, *, step_days: float) -> Array:
    """Hold each quote until the next, or go from one to the next geometrically."""
    days = np.array([(day - series.dates[0]).days for day in series.dates])
    grid = np.arange(0.0, days[-1] + 1e-9, step_days)
    usd = np.asarray(series.usd)
    if not series.quoted:
        return np.asarray(np.exp(np.interp(grid, days, np.log(usd))))
    held: Array = usd[np.searchsorted(days, grid, side="right") - 1]
    return held


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
    """Draw for each path the level it is pulled to, and the share of the way it goes in a month."""
    if run.level is None:
        return np.zeros(run.paths), np.zeros(run.paths)
    short, long = run.level.half_life_months
    half_life = np.exp(rng.uniform(np.log(short), np.log(long), run.paths))
    target = rng.uniform(run.level.low, run.level.high, run.paths)
    return target, 1.0 - 0.5 ** (1.0 / half_life)


def _deciles(sizes: Array, weights: Array, *, sign: int) -> tuple[float, ...]:
    """Deciles of signed moves; with none seen, from the smallest that counts to a halving."""
    if not len(sizes):
        return tuple(float(x) for x in sign * np.linspace(STILL, np.log(2.0), 11))
    deciles = np.quantile(sizes, QUANTILES, weights=weights, method="inverted_cdf")
    return tuple(round(float(x), 4) for x in sign * deciles)
