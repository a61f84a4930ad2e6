"""The policies that may be certified, with what the fitting rows expect each to lose and to cost.

Families: a `fixed` rung; the best `table` from group to rung; `route` before any attempt, by one
rung or by several; `review` of one rung's answers; `mixed`, where each rung is routed to, reviewed
or left out, from one rung up. All estimates are out of bag, or out of fold for tables.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from suffice.policy.observe import Flags, Floats
from suffice.policy.path import (
    LEAST_COST,
    ExpectedLosses,
    PathOutcomes,
    Places,
    PolicyPath,
    follow,
)

POINTS = 500  # of a family, from the safest to the cheapest
MOST_RUNGS = 6  # below the reference that families are built from
COST_POWER = 0.5  # of a saving, where it has a say in the order of requests
FOLDS = 4  # of a table's own estimate
PRIOR_ROWS = 20.0  # weight of the mean in a group's rate
_CHUNK = 100  # points that are played at once, to bound memory
_FOLD_SEED = 0

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class FittingRows:
    """The fitting rows with out-of-bag expectations.

    `losses` and `cost` have shape (rows, rungs), costs in mean costs of the reference: where costs
    are unknown the reference costs 1 and every other rung nothing. `reviewed` tells which rungs
    below the reference can be read, `cost_power` how much costs weigh in the order of requests.
    """

    expected: ExpectedLosses
    losses: Floats
    cost: Floats
    reviewed: tuple[bool, ...]
    cost_power: float = 0.0

    @cached_property
    def attempt_prices(self) -> Floats:
        """The prices of attempts at the power of these rows, shape (rows, rungs below)."""
        return self.expected.attempt_prices(self.cost_power)

    @cached_property
    def keep_prices(self) -> Floats:
        """The prices of kept answers at the power of these rows, shape (rows, rungs below)."""
        return self.expected.keep_prices(self.cost_power)

    @property
    def usable(self) -> tuple[int, ...]:
        """The rungs that families are built from: cheaper than the reference, the best if many."""
        cost, loss = self.cost.mean(axis=0), self.losses.mean(axis=0)
        cheaper = [int(rung) for rung in np.argsort(cost[:-1]) if cost[rung] < cost[-1]]
        if len(cheaper) <= MOST_RUNGS:
            return tuple(sorted(cheaper))
        lowest = np.minimum.accumulate(loss[cheaper])
        front = [rung for at, rung in enumerate(cheaper) if at == 0 or loss[rung] < lowest[at - 1]]
        spread = np.unique(np.linspace(0, len(front) - 1, MOST_RUNGS).round().astype(int))
        return tuple(sorted(front[at] for at in spread.tolist()))


@dataclass(frozen=True, kw_only=True, eq=False)
class PolicyFamily:
    """A family from safe to cheap, every request drawn, and its estimates, shape (points,).

    `seen` is the sum of losses on the fitting rows, `foreseen` what the scores expect of it; `cost`
    is the mean, in mean costs of the reference, and `kept` the share that the reference is spared.
    """

    path: PolicyPath
    seen: Floats
    foreseen: Floats
    cost: Floats
    kept: Floats

    @property
    def name(self) -> str:
        """The kind of its policies."""
        return self.path.families[0]

    def take(self, points: Ints) -> "PolicyFamily":
        """Return some points, in the order of `points`."""
        return PolicyFamily(
            path=self.path.take(points),
            seen=self.seen[points],
            foreseen=self.foreseen[points],
            cost=self.cost[points],
            kept=self.kept[points],
        )


def families(rows: FittingRows) -> list[PolicyFamily]:
    """Return all families, `fixed` first; a family without points is left out.

    Families that order requests by a score do so by the loss alone, and once more by the loss and
    the cost that it saves.
    """
    usable = rows.usable
    if not usable:
        return []
    fixed = _estimated(rows, _fixed(rows, usable))
    candidates = [fixed.take(np.argsort(fixed.seen, kind="stable")), *_table(rows, usable)]
    candidates += _ordered(rows, usable)
    if np.ptp(rows.expected.saved, axis=0).any() or np.ptp(rows.expected.spared, axis=0).any():
        candidates += _ordered(replace(rows, cost_power=COST_POWER), usable)
    return [family for family in candidates if len(family.path)]


def _ordered(rows: FittingRows, usable: Sequence[int]) -> list[PolicyFamily]:
    """Return the families that order requests by a score, by the rows' power of costs."""
    reviewed = [rung for rung in usable if rows.reviewed[rung]]
    prices = _prices(rows, usable)
    ordered = [_estimated(rows, _route(rows, rung)) for rung in usable]
    plans = [
        ("review", _Steps(rows=rows, rungs=(rung,), unread=False, read=True)) for rung in reviewed
    ]
    if len(usable) > 1:
        plans.append(("route", _Steps(rows=rows, rungs=usable, unread=True, read=False)))
    if reviewed:
        ladders = [usable[first:] for first in range(len(usable) - 1)]
        plans += [("mixed", _Steps(rows=rows, rungs=r, unread=True, read=True)) for r in ladders]
    ordered += [_estimated(rows, _planned(steps, prices, name=name)) for name, steps in plans]
    return ordered


def _estimated(rows: FittingRows, path: PolicyPath) -> PolicyFamily:
    """Play a path on the fitting rows; leave out points that keep nothing or save nothing."""
    whole = rows.expected
    seen, foreseen, cost, kept = [], [], [], []
    for first in range(0, len(path), _CHUNK):
        part = path.take(np.arange(first, min(first + _CHUNK, len(path))))
        plays = follow(part, whole)
        chosen = plays.chosen.astype(np.intp)
        seen.append(np.take_along_axis(rows.losses, chosen, axis=1).sum(axis=0))
        foreseen.append(foreseen_losses(part, plays, whole))
        cost.append(plays.costs(rows.cost).mean(axis=0))
        kept.append((plays.chosen < rows.cost.shape[1] - 1).mean(axis=0))
    family = PolicyFamily(
        path=path,
        seen=np.concatenate([*seen, []]),
        foreseen=np.concatenate([*foreseen, []]),
        cost=np.concatenate([*cost, []]),
        kept=np.concatenate([*kept, []]),
    )
    return family.take(np.flatnonzero((family.kept > 0) & (family.cost < rows.cost[:, -1].mean())))


def foreseen_losses(path: PolicyPath, plays: PathOutcomes, expected: ExpectedLosses) -> Floats:
    """Return the sum of the losses that the scores expect of the kept answers, shape (points,)."""
    total = np.zeros(len(path))
    for rung in range(expected.before.shape[1]):
        kept = plays.chosen == rung
        after = np.nan_to_num(expected.after[:, rung])
        unread = np.isposinf(path.keeps[:, rung])
        total += np.where(unread, expected.before[:, rung] @ kept, after @ kept)
    return total


def _path(
    rows: FittingRows,
    attempts: Sequence[Floats],
    keeps: Sequence[Floats],
    *,
    name: str,
    groups: tuple[str, ...] = (),
    starts: Sequence[Places] | None = None,
) -> PolicyPath:
    points, below = len(attempts), rows.losses.shape[1] - 1
    return PolicyPath(
        attempts=np.array(attempts, dtype=np.float64).reshape(points, below),
        keeps=np.array(keeps, dtype=np.float64).reshape(points, below),
        starts=np.array(
            np.zeros((points, 1)) if starts is None else starts, dtype=np.int32
        ).reshape(points, len(groups) + 1),
        parts=np.ones(points),
        families=(name,) * points,
        groups=groups,
        cost_power=rows.cost_power,
    )


def _only(rows: FittingRows, rung: int, value: float) -> Floats:
    """Return `value` for one rung below the reference, and never for the others."""
    only = np.full(rows.losses.shape[1] - 1, -np.inf)
    only[rung] = value
    return only


def _fixed(rows: FittingRows, usable: Sequence[int]) -> PolicyPath:
    """Return every fixed rung."""
    always = [_only(rows, rung, np.inf) for rung in usable]
    return _path(rows, always, always, name="fixed")


def _route(rows: FittingRows, rung: int) -> PolicyPath:
    """Return routing to one rung, at thresholds that let equal shares of the rows through."""
    thresholds = _levels(rows.attempt_prices[:, rung])
    attempts = [_only(rows, rung, float(threshold)) for threshold in thresholds]
    return _path(rows, attempts, [_only(rows, rung, np.inf)] * len(attempts), name="route")


def _prices(rows: FittingRows, usable: Sequence[int]) -> Floats:
    """Return losses per saved reference cost at which a choice may turn, from low to high."""
    rungs = list(usable)
    before, after = rows.attempt_prices[:, rungs], rows.keep_prices[:, rungs]
    prices = _levels(np.concatenate([before.ravel(), after.ravel()]))
    return prices[prices > 0]


def _levels(values: Floats) -> Floats:
    known = values[np.isfinite(values)]
    return np.unique(np.quantile(known, np.linspace(0.0, 1.0, POINTS))) if len(known) else known


@dataclass(frozen=True, kw_only=True, eq=False)
class _Steps:
    """Which rungs a family may use, and whether an answer may stay unread or after review."""

    rows: FittingRows
    rungs: Sequence[int]
    unread: bool
    read: bool


def _planned(steps: _Steps, prices: Floats, *, name: str) -> PolicyPath:
    """Return the cheapest policy of its kind for every price of a loss, from dear losses to cheap.

    A loss costs `1 / price`, in mean costs of the reference.
    """
    before = steps.rows.attempt_prices
    orders = {rung: np.argsort(before[:, rung], kind="stable") for rung in steps.rungs}
    points = [_cheapest(steps, orders, loss_cost=1.0 / price) for price in prices.tolist()]
    return _path(steps.rows, [a for a, _ in points], [k for _, k in points], name=name)


def _cheapest(steps: _Steps, orders: dict[int, Ints], *, loss_cost: float) -> tuple[Floats, Floats]:
    """Work down from the reference, and ask what each rung is worth below the rungs above it.

    A rung is tried on the rows with the least expected loss per saving, up to where the sum of
    what trying it saves peaks. An answer that was read stays where its expected loss costs less
    than going on does on average.
    """
    rows = steps.rows
    ahead = rows.cost[:, -1]  # what it costs to go on from here, losses included
    attempts, keeps = (np.full(rows.losses.shape[1] - 1, -np.inf) for _ in range(2))
    for rung in sorted(steps.rungs, reverse=True):
        order, best = orders[rung], 0.0
        tried_ahead = ahead
        for keep in _keeps(steps, rung, ahead=float(ahead.mean()), loss_cost=loss_cost):
            spent = rows.cost[:, rung] + _answer_cost(rows, rung, keep, ahead, loss_cost)
            gains = np.cumsum((spent - ahead)[order])
            last = int(gains.argmin())
            if gains[last] < best:
                best = float(gains[last])
                dearest = rows.attempt_prices[order[last], rung]
                attempts[rung] = np.inf if last == len(order) - 1 else dearest
                keeps[rung] = keep
                tried = rows.attempt_prices[:, rung] <= attempts[rung]
                tried_ahead = np.where(tried, spent, ahead)
        ahead = tried_ahead
    return attempts, keeps


def _keeps(steps: _Steps, rung: int, *, ahead: float, loss_cost: float) -> Iterator[float]:
    if steps.unread:
        yield np.inf
    if steps.read and steps.rows.reviewed[rung]:
        yield ahead / loss_cost


def _answer_cost(
    rows: FittingRows, rung: int, keep: float, ahead: Floats, loss_cost: float
) -> Floats:
    """Return what follows an attempt: the loss of an answer that stays, or the cost of going on."""
    expected = rows.expected
    abstained = np.isnan(expected.after[:, rung])
    if keep == np.inf:
        return np.where(abstained, ahead, loss_cost * expected.before[:, rung])
    stays = rows.keep_prices[:, rung] <= keep
    return np.where(stays, loss_cost * expected.after[:, rung], ahead)


def _table(rows: FittingRows, usable: Sequence[int]) -> list[PolicyFamily]:
    """Return the best rung of each group for every price of a loss; none without groups.

    The estimates are out of fold: each row's rung is chosen by the rates of the other folds.
    """
    names = tuple(sorted({group for group in rows.expected.groups if group is not None}))
    if len(names) < 2:
        return []
    places = {name: at for at, name in enumerate(names)}
    at = np.array([len(names) if g is None else places[g] for g in rows.expected.groups])
    fold = np.random.default_rng(_FOLD_SEED).permutation(len(at)) % FOLDS
    rates = _GroupRates(*_first_answers(rows, usable), at=at, groups=len(names))
    whole = rates.of(np.ones(len(at), np.bool_))
    others = [rates.of(fold != part) for part in range(FOLDS)]
    foreseen = np.stack([losses for losses, _ in others])
    savings = np.maximum(whole[1][:-1, -1:] - whole[1][:-1, usable], LEAST_COST)
    prices = np.maximum(_levels((whole[0][:-1, usable] / savings).ravel()), LEAST_COST**2)
    reference, every = rows.losses.shape[1] - 1, np.arange(len(at))
    spans: dict[bytes, list[float]] = {}  # prices at which a table is the best
    for price in prices.tolist():
        table = _best_rungs(whole, usable, price=price)
        if (table < reference).any():
            spans.setdefault(table.tobytes(), []).append(price)
    figures = []
    for span in spans.values():
        price = float(np.sqrt(span[0] * span[-1]))
        choices = np.stack([_best_rungs(other, usable, price=price) for other in others])
        chosen = choices[fold, at].astype(np.intp)
        figures.append(
            [
                rates.losses[every, chosen].sum(),
                foreseen[fold, at, chosen].sum(),
                rates.cost[every, chosen].mean(),
                (chosen < reference).mean(),
            ]
        )
    always = np.where(np.isin(np.arange(reference), usable), np.inf, -np.inf)
    starts = [np.frombuffer(table, np.int32) for table in spans]
    every_point = [always] * len(starts)
    path = _path(rows, every_point, every_point, name="table", groups=names, starts=starts)
    seen, scored, cost, kept = np.array(figures).reshape(-1, 4).T
    family = PolicyFamily(path=path, seen=seen, foreseen=scored, cost=cost, kept=kept)
    order = np.argsort(seen, kind="stable")
    return [family.take(order[cost[order] < rows.cost[:, -1].mean()])]


def _first_answers(rows: FittingRows, usable: Sequence[int]) -> tuple[Floats, Floats]:
    """Return losses and costs where a rung that abstains hands on to the next, (rows, rungs)."""
    losses, cost, above = rows.losses.copy(), rows.cost.copy(), rows.losses.shape[1] - 1
    for rung in sorted(usable, reverse=True):
        abstained = np.isnan(rows.expected.after[:, rung])
        losses[abstained, rung] = losses[abstained, above]
        cost[abstained, rung] += cost[abstained, above]
        above = rung
    return losses, cost


@dataclass(frozen=True, eq=False)
class _GroupRates:
    """Losses and costs, shape (rows, rungs), and the place of each row's group."""

    losses: Floats
    cost: Floats
    at: NDArray[np.intp]
    groups: int

    def of(self, keep: Flags) -> tuple[Floats, Floats]:
        """Return shrunk mean losses and costs of some rows, shape (groups + 1, rungs)."""
        at, size = self.at[keep], self.groups + 1
        counts = np.bincount(at, minlength=size)[:, None] + PRIOR_ROWS
        means = []
        for values in (self.losses[keep], self.cost[keep]):
            sums = np.stack(
                [np.bincount(at, column, minlength=size) for column in values.T], axis=1
            )
            means.append((sums + PRIOR_ROWS * values.mean(axis=0)) / counts)
        return means[0], means[1]


def _best_rungs(rates: tuple[Floats, Floats], usable: Sequence[int], *, price: float) -> Places:
    """Return the rung with the least cost, losses included, of each group; shape (groups + 1,).

    A request of another group is answered by the reference.
    """
    allowed = np.array([*usable, rates[0].shape[1] - 1])
    total = rates[1][:, allowed] + rates[0][:, allowed] / price
    best: Places = allowed[total.argmin(axis=1)].astype(np.int32)
    best[-1] = allowed[-1]
    return best
