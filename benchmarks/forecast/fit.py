"""Fit the process of one kind of price to its history: counts of regimes, deciles of moves."""

import datetime as dt
from collections import Counter
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from suffice.errors import InputError
from suffice.forecast.process import QUANTILES, Array, Process

DAYS_PER_MONTH = 30.4375
DRIFT_MONTHS = 6
STILL = 0.01  # a log move smaller than this is rounding


class Series(Struct, frozen=True, kw_only=True):
    """One price over time; prices of a `group` (a provider, a vendor) tend to move together.

    A quoted price holds until the next quote; a market price moves between two records.
    """

    group: str
    dates: tuple[dt.date, ...]
    usd: tuple[float, ...]
    quoted: bool = True


def fit_process(series: Sequence[Series], *, source: str, date: str, command: str) -> Process:
    """Count regimes and moves of monthly prices; InputError for series under three months."""
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
        drift=round(_drift(series), 4),
    )


def monthly(series: Series) -> Array:
    """Return a price at the months from its first day on."""
    return _on_grid(series, step_days=DAYS_PER_MONTH)


def daily(series: Series) -> Array:
    """Return a price at the days from its first to its last."""
    return _on_grid(series, step_days=1.0)


def regimes(moves: Array) -> NDArray[np.intp]:
    """Return the regime of each monthly log move, as its index in REGIMES."""
    return np.where(np.abs(moves) < STILL, 0, np.where(moves < 0, 1, 2)).astype(np.intp)


def _on_grid(series: Series, *, step_days: float) -> Array:
    """Hold each quote until the next; interpolate a market price geometrically."""
    days = np.array([(day - series.dates[0]).days for day in series.dates])
    grid = np.arange(0.0, days[-1] + 1e-9, step_days)
    usd = np.asarray(series.usd)
    if not series.quoted:
        return np.asarray(np.exp(np.interp(grid, days, np.log(usd))))
    held: Array = usd[np.searchsorted(days, grid, side="right") - 1]
    return held


def _drift(series: Sequence[Series]) -> float:
    """Root mean square of mean monthly moves over half-years, of prices that are not quoted.

    A group counts as one series, however long it is.
    """
    by_group: dict[str, list[float]] = {}
    for one in series:
        logs = np.log(monthly(one)) if not one.quoted else np.zeros(0)
        moves = (logs[DRIFT_MONTHS:] - logs[:-DRIFT_MONTHS]) / DRIFT_MONTHS
        by_group.setdefault(one.group, []).extend(moves.tolist())
    squares = [float(np.mean(np.square(moves))) for moves in by_group.values() if moves]
    return float(np.sqrt(np.mean(squares))) if squares else 0.0


def _deciles(sizes: Array, weights: Array, *, sign: int) -> tuple[float, ...]:
    """Return the deciles of signed moves; without any, from the smallest move to a halving."""
    if not len(sizes):
        return tuple(float(x) for x in sign * np.linspace(STILL, np.log(2.0), 11))
    deciles = np.quantile(sizes, QUANTILES, weights=weights, method="inverted_cdf")
    return tuple(round(float(x), 4) for x in sign * deciles)
