"""Trials as arrays: what each rung made of each request, and the random splits of the requests."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from suffice.errors import InputError
from suffice.types import Signals

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
T = TypeVar("T")

SPLIT_FRACTIONS = (0.5, 0.4, 0.1)  # fit, certify, report


class CostUnit(StrEnum):
    """What a cost is counted in; one table has one unit."""

    USD = "usd"
    OUTPUT_TOKENS = "output_tokens"
    OUTPUT_WORDS = "output_words"


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialTable:
    """Trials of every request on every rung, cheapest rung first.

    `quality` and `cost` have shape (requests, rungs): quality in [0, 1] or NaN where unscored, cost
    in `cost_unit` or NaN where unknown. `signals` holds one tuple a request, one entry a rung.
    Raises `InputError` for shapes that do not fit, repeated ids or rungs, or values out of range.
    """

    request_ids: tuple[str, ...]
    texts: tuple[str, ...]
    groups: tuple[str | None, ...]
    rungs: tuple[str, ...]
    quality: Floats
    signals: tuple[tuple[Signals, ...], ...]
    cost: Floats = field(default_factory=lambda: np.empty((0, 0)))
    cost_unit: CostUnit | None = None

    def __post_init__(self) -> None:
        if self.cost_unit is None:
            object.__setattr__(self, "cost", np.full(self.quality.shape, np.nan))
        _check_names(self)
        _check_shapes(self)
        _check_values(self)

    def __len__(self) -> int:
        """How many requests there are."""
        return len(self.request_ids)

    def rung_index(self, rung: str) -> int:
        """Where `rung` stands on the ladder; raises `InputError` for a name that is not there."""
        if rung not in self.rungs:
            raise InputError(f"no rung {rung!r}", hint=f"rungs here: {', '.join(self.rungs)}")
        return self.rungs.index(rung)

    def subset(self, rows: Sequence[int] | Rows) -> "TrialTable":
        """Return the table of some requests, in the order of `rows`."""
        at = np.asarray(rows, dtype=np.int64)
        return TrialTable(
            request_ids=_pick(self.request_ids, at),
            texts=_pick(self.texts, at),
            groups=_pick(self.groups, at),
            rungs=self.rungs,
            quality=self.quality[at],
            signals=_pick(self.signals, at),
            cost=self.cost[at],
            cost_unit=self.cost_unit,
        )

    def scored(self) -> "TrialTable":
        """Return the requests that every rung has a quality for."""
        return self.subset(np.flatnonzero(~np.isnan(self.quality).any(axis=1)))

    def without_groups(self) -> "TrialTable":
        """Return the same trials with no group declared."""
        return TrialTable(
            request_ids=self.request_ids,
            texts=self.texts,
            groups=(None,) * len(self),
            rungs=self.rungs,
            quality=self.quality,
            signals=self.signals,
            cost=self.cost,
            cost_unit=self.cost_unit,
        )


def split_rows(
    rows: int, *, seed: int, fractions: Sequence[float] = SPLIT_FRACTIONS
) -> tuple[Rows, ...]:
    """Deal `rows` positions at random into parts of the given sizes, each part sorted.

    Depends on nothing but `rows`, `seed` and `fractions`, so no outcome can steer it. Raises
    `InputError` when a part would be empty.
    """
    if abs(sum(fractions) - 1.0) > 1e-9 or min(fractions) <= 0:
        raise InputError(f"fractions must be positive and sum to 1, got {tuple(fractions)}")
    sizes = split_sizes(rows, fractions=fractions)
    order = np.random.default_rng(seed).permutation(rows)
    parts = tuple(np.sort(part) for part in np.split(order, np.cumsum(sizes)[:-1]))
    if 0 in sizes:
        raise InputError(
            f"{rows} requests are too few for {len(fractions)} splits",
            hint="give at least a few hundred scored requests",
        )
    return parts


def split_sizes(rows: int, *, fractions: Sequence[float] = SPLIT_FRACTIONS) -> tuple[int, ...]:
    """Return how many of `rows` positions each part gets; they add up to `rows`."""
    ends = np.rint(np.cumsum(fractions) * rows).astype(np.int64)
    return tuple(np.diff(ends, prepend=0).tolist())


def _pick(values: tuple[T, ...], at: Rows) -> tuple[T, ...]:
    return tuple(values[i] for i in at.tolist())


def _check_names(table: TrialTable) -> None:
    if len(table.rungs) < 2 or len(set(table.rungs)) != len(table.rungs):
        raise InputError(
            f"a ladder needs two rungs or more, each named once, got {table.rungs}",
            hint="give trials of a cheap rung and of the reference rung",
        )
    if len(set(table.request_ids)) != len(table.request_ids):
        twice = next(i for i in table.request_ids if table.request_ids.count(i) > 1)
        raise InputError(f"request_id {twice!r} occurs twice", hint="give each request one id")


def _check_shapes(table: TrialTable) -> None:
    rows, rungs = len(table.request_ids), len(table.rungs)
    lengths = {"texts": table.texts, "groups": table.groups, "signals": table.signals}
    for name, values in lengths.items():
        if len(values) != rows:
            raise InputError(f"{len(values)} {name} for {rows} requests")
    for name, array in {"quality": table.quality, "cost": table.cost}.items():
        if array.shape != (rows, rungs):
            raise InputError(f"{name} has shape {array.shape}, expected {(rows, rungs)}")
    if any(len(attempts) != rungs for attempts in table.signals):
        raise InputError(f"each request needs signals of all {rungs} rungs")


def _check_values(table: TrialTable) -> None:
    outside = (table.quality < 0) | (table.quality > 1)
    if outside.any():
        row, rung = np.argwhere(outside)[0]
        raise InputError(
            f"request {table.request_ids[row]!r}, rung {table.rungs[rung]!r}: "
            f"quality {table.quality[row, rung]} is outside [0, 1]",
            hint="scale the score to [0, 1]",
        )
    if (table.cost < 0).any():
        raise InputError("a cost is negative", hint="costs are amounts of 0 or more")
