"""Rows that depend on each other, and the two promises that can be made about them.

Turns of a session, runs of a task and copies of a text are not independent draws: their clusters
are. A promise *per request* bounds the mean loss over requests, so a long session weighs more. A
promise *per session* bounds the mean over clusters of each cluster's mean loss, so all weigh the
same. Where every cluster is a single row the two are one.

Per request, a cluster c with m_c rows and losses that sum to S_c enters the test as
(alpha m_c - S_c) / M, whose mean is negative exactly while E[S] / E[m] > alpha. `largest` is M: it
must bound the size of every cluster, and be fixed before the losses are seen.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from suffice.errors import InputError
from suffice.guarantee.losses import Floats, Ints

Flags = NDArray[np.bool_]


class Per(StrEnum):
    """What one unit of the promise is."""

    REQUEST = "request"  # a cluster counts as often as it has requests
    SESSION = "session"  # every cluster counts once


@dataclass(frozen=True, kw_only=True, eq=False)
class Clusters:
    """Which rows depend on each other: `codes` of shape (rows,), equal within a cluster.

    Per request, at most `largest` rows of a cluster count, the first in order: with `largest` 1
    every row that counts is a cluster of its own. Per session all rows count.
    """

    codes: Ints
    largest: int
    per: Per = Per.REQUEST

    def __post_init__(self) -> None:
        if self.largest < 1:
            raise InputError(f"the largest cluster must have a row at least, got {self.largest}")

    @cached_property
    def counted(self) -> Flags:
        """Mark the rows that count, shape (rows,)."""
        if self.per is Per.SESSION:
            return np.ones(len(self.codes), dtype=np.bool_)
        return ranks(self.codes) < self.largest

    @property
    def single_rows(self) -> bool:
        """Whether every row that counts is a cluster of its own."""
        return self.per is Per.REQUEST and self.largest == 1

    def means(self, values: Floats, keep: Flags) -> tuple[Floats, Floats | None]:
        """Return losses and weights of the clusters that have a kept row; shapes (clusters,).

        Per request the weights are sizes over `largest`; per session there are none.
        """
        sizes = np.bincount(self.codes[keep])
        sums = np.bincount(self.codes[keep], weights=values[keep])
        there = sizes > 0
        if self.per is Per.SESSION:
            return sums[there] / sizes[there], None
        weights = None if self.largest == 1 else sizes[there] / self.largest
        return sums[there] / self.largest, weights


def number_clusters(names: Sequence[Hashable]) -> Ints:
    """Return a code for each name, from 0, in the order in which names first come."""
    places: dict[Hashable, int] = {}
    return np.array([places.setdefault(name, len(places)) for name in names], dtype=np.int64)


def largest_cluster(codes: Ints) -> int:
    """Return the number of rows of the largest cluster; 1 where there are no rows."""
    return int(np.unique(codes, return_counts=True)[1].max(initial=1))


def ranks(codes: Ints) -> Ints:
    """Return how many earlier rows each row's cluster has; shape (rows,)."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(codes)])
    earlier = np.empty(len(codes), dtype=np.int64)
    earlier[order] = np.arange(len(codes)) - np.repeat(starts, lengths)
    return earlier
