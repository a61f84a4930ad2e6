"""Trials as arrays: what each rung made of each request, and the random splits of the requests."""

import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from suffice.errors import InputError
from suffice.types import Signals

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

UNSCORED = "unscored"
FAILED = "failed calls"
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
    `unscored`, of the shape of `quality`, marks answers that no scorer could judge, whether or not
    signals hold the answer; by default none.
    `clusters`, shape (requests,), numbers the cluster of each row from 0 in the order of the rows,
    and `cluster_names` has one name a cluster: rows of one cluster are not independent. By default
    rows of the same text, as it is seen, are one cluster. `left_out` counts the requests that are
    not here, by reason; `notes` are sentences about them for people. Raises `InputError` for shapes
    that do not fit, repeated ids or rungs, or values out of range.
    """

    request_ids: tuple[str, ...]
    texts: tuple[str, ...]
    groups: tuple[str | None, ...]
    rungs: tuple[str, ...]
    quality: Floats
    signals: tuple[tuple[Signals, ...], ...]
    cost: Floats = field(default_factory=lambda: np.empty((0, 0)))
    cost_unit: CostUnit | None = None
    unscored: Flags = field(default_factory=lambda: np.empty((0, 0), dtype=np.bool_))
    clusters: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    cluster_names: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.cost_unit is None:
            object.__setattr__(self, "cost", np.full(self.quality.shape, np.nan))
        if not self.unscored.size:
            object.__setattr__(self, "unscored", np.zeros(self.quality.shape, dtype=np.bool_))
        _check_names(self)
        _check_shapes(self)
        if not self.cluster_names:
            clusters, names = clusters_of(self.request_ids, self.texts)
            object.__setattr__(self, "clusters", clusters)
            object.__setattr__(self, "cluster_names", names)
        _check_clusters(self)
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
        clusters, kept = numbered(self.clusters[at].tolist())
        return replace(
            self,
            request_ids=_pick(self.request_ids, at),
            texts=_pick(self.texts, at),
            groups=_pick(self.groups, at),
            quality=self.quality[at],
            signals=_pick(self.signals, at),
            cost=self.cost[at],
            unscored=self.unscored[at],
            clusters=clusters,
            cluster_names=tuple(self.cluster_names[cluster] for cluster in kept),
        )

    def scored(self) -> "TrialTable":
        """Return the requests that every rung has a quality for; the others are left out."""
        rows = np.flatnonzero(~np.isnan(self.quality).any(axis=1))
        if len(rows) == len(self):
            return self
        count = len(self) - len(rows) + self.left_out.get(UNSCORED, 0)
        return replace(self.subset(rows), left_out={**self.left_out, UNSCORED: count})

    def without_groups(self) -> "TrialTable":
        """Return the same trials with no group declared."""
        return replace(self, groups=(None,) * len(self))


def clusters_of(
    request_ids: Sequence[str],
    texts: Sequence[str],
    declared: Sequence[str | None] | None = None,
) -> tuple[Rows, tuple[str, ...]]:
    """Put each row into its declared cluster, or else with the rows of the same text.

    Neither spacing nor what cannot be seen tells texts apart; a row without text goes with its own
    request. Returns the number of each row's cluster, shape (rows,), and a name for each cluster:
    the declared one, or the id of its first row.
    """
    keys, names = [], dict[tuple[str, str], str]()
    nothing = (None,) * len(request_ids)
    for request_id, text, name in zip(request_ids, texts, declared or nothing, strict=True):
        words = visible_words(text)
        key = ("request", request_id)
        if name:
            key = ("cluster", name)
        elif words:
            key = ("text", words)
        names.setdefault(key, name or request_id)
        keys.append(key)
    return numbered(keys)[0], tuple(names.values())


def visible_words(text: str) -> str:
    """Return a text as it is seen: single spaces, composed letters (NFC), no invisible characters.

    Two writings of one text, as two systems store it, are one text.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
        text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return " ".join(text.split())


def numbered(keys: Sequence[K]) -> tuple[Rows, tuple[K, ...]]:
    """Give keys numbers from 0 in the order in which they first come; also return the keys."""
    places = {key: at for at, key in enumerate(dict.fromkeys(keys))}
    return np.array([places[key] for key in keys], dtype=np.int64), tuple(places)


def split_rows(
    clusters: int | Sequence[str] | Rows,
    *,
    seed: int,
    fractions: Sequence[float] = SPLIT_FRACTIONS,
    of_clusters: bool = False,
) -> tuple[Rows, ...]:
    """Deal rows at random into parts of the given sizes, each part sorted, no cluster torn apart.

    `clusters` names the cluster of each row; a number is that of rows that are clusters of their
    own. Parts come as near to the fractions of the rows as whole clusters allow, or with
    `of_clusters` to the fractions of the clusters, whatever their sizes. Depends on nothing
    but the seed, the fractions, and the names and sizes of the clusters, so no outcome can steer
    it. Raises `InputError` when a part would be empty.
    """
    if abs(sum(fractions) - 1.0) > 1e-9 or min(fractions) <= 0:
        raise InputError(f"fractions must be positive and sum to 1, got {tuple(fractions)}")
    of_each = np.arange(clusters) if isinstance(clusters, int) else np.asarray(clusters)
    names, cluster, sizes = np.unique(of_each, return_inverse=True, return_counts=True)
    if of_clusters:
        sizes = np.ones_like(sizes)
    targets = split_sizes(int(sizes.sum()), fractions=fractions)
    if 0 in targets or len(names) < len(fractions):
        raise InputError(
            f"{len(of_each)} requests in {len(names)} clusters are too few for "
            f"{len(fractions)} splits",
            hint="give at least a few hundred requests, of many clusters",
        )
    order = np.random.default_rng(seed).permutation(len(names))
    dealt = np.concatenate([[0], np.cumsum(sizes[order])])
    ends = [0]
    for part, end in enumerate(np.cumsum(targets[:-1]).tolist(), start=1):
        nearest = int(np.abs(dealt - end).argmin())
        ends.append(min(max(nearest, ends[-1] + 1), len(names) - len(fractions) + part))
    parts = np.split(order, ends[1:])
    return tuple(np.flatnonzero(np.isin(cluster, part)) for part in parts)


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
    arrays = {"quality": table.quality, "cost": table.cost, "unscored": table.unscored}
    for name, array in arrays.items():
        if array.shape != (rows, rungs):
            raise InputError(f"{name} has shape {array.shape}, expected {(rows, rungs)}")
    if any(len(attempts) != rungs for attempts in table.signals):
        raise InputError(f"each request needs signals of all {rungs} rungs")


def _check_clusters(table: TrialTable) -> None:
    rows, last = len(table), len(table.cluster_names) - 1
    if table.clusters.shape != (rows,) or set(table.clusters.tolist()) != set(range(last + 1)):
        raise InputError(f"clusters must number each of {rows} requests from 0 to {last}")


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
