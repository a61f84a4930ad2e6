"""Extremely randomised trees: grown by scikit-learn, kept and read as plain arrays."""

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Nodes = NDArray[np.int32]

TREES = 80
LEAF_ROWS = 6
DEEPEST = 20
COLUMN_SHARE = 0.2  # of the columns, tried at each split
_SEED = 0
_LEAF = -1
_NO_SAY = 1e-9  # scale of a carried value beside a target: too small to move a split
_CHUNK = 4096  # rows read at once, to bound memory


class Forest(Struct, frozen=True, kw_only=True, eq=False):
    """Trees end to end: node i sends `x[column[i]] <= threshold[i]` to `left[i]`, else `right[i]`.

    A leaf has column -1; `value`, of shape (nodes, outputs), holds its mean of the first target and
    of the carried values. `roots` are where trees begin.
    """

    roots: Nodes
    column: Nodes
    threshold: Floats
    left: Nodes
    right: Nodes
    value: Floats

    def predict(self, x: Singles) -> Floats:
        """Return the mean over trees of the leaf values, shape (rows, outputs).

        `x` has shape (rows, columns).
        """
        chunks = [
            self.value[self._leaves(x[at : at + _CHUNK])].mean(axis=1)
            for at in range(0, len(x), _CHUNK)
        ]
        return np.concatenate(chunks) if chunks else np.empty((0, self.value.shape[1]))

    def _leaves(self, x: Singles) -> Nodes:
        """Return the leaf that each row reaches in each tree, shape (rows, trees)."""
        trees = len(self.roots)
        node = np.tile(self.roots, len(x))
        active = np.flatnonzero(self.column[node] != _LEAF)
        while active.size:
            here = node[active]
            seen = x[active // trees, self.column[here]]
            here = np.where(seen <= self.threshold[here], self.left[here], self.right[here])
            node[active] = here
            active = active[self.column[here] != _LEAF]
        return node.reshape(len(x), trees)


class RowForest:
    """A forest for one row at a time, with the same results: all trees take a step together.

    A leaf leads to itself, so that no step has to ask which trees have ended.
    """

    def __init__(self, forest: Forest) -> None:
        leaf = forest.column == _LEAF
        here = np.arange(len(leaf))
        self._roots, self._value = forest.roots.astype(np.intp), forest.value
        self._column = np.where(leaf, 0, forest.column)
        self._threshold = forest.threshold
        sides = [np.where(leaf, here, forest.right), np.where(leaf, here, forest.left)]
        self._next = np.stack(sides, axis=1).ravel()  # of node i: right at 2i, left at 2i + 1
        self._steps = 0
        node = self._roots
        while not leaf[node].all():
            node = np.concatenate([forest.left[node], forest.right[node]])
            node = node[~leaf[node]]
            self._steps += 1

    def predict(self, x: Singles) -> Floats:
        """Return what `Forest.predict` does for `x` of shape (1, columns): shape (1, outputs)."""
        row, node = x[0], self._roots
        for _ in range(self._steps):
            left = row[self._column[node]] <= self._threshold[node]
            node = self._next[2 * node + left]
        mean: Floats = self._value[node[None]].mean(axis=1)
        return mean


def grow(x: Singles, targets: Floats, *, carried: Floats) -> tuple[Forest, Floats]:
    """Grow a forest on all targets at once, shape (rows, targets).

    It predicts the first target, and the mean of the `carried` values (rows, values), which have no
    say in the splits.

    Splits that serve the other targets (was each rung right?) too are steadier than splits on the
    first alone. Columns that do not vary are left out, so that no tree spends a draw on them.
    Also returns the out-of-bag predictions, shape (rows, outputs): means over the trees that did
    not see the row. Where no column varies, every prediction is the mean.
    """
    from sklearn import config_context
    from sklearn.tree import ExtraTreeRegressor

    outputs = np.column_stack([targets[:, 0], carried])
    varying = np.flatnonzero(np.ptp(x, axis=0) > 0).astype(np.int32)
    if not varying.size:
        return _stump(outputs.mean(axis=0)), np.tile(outputs.mean(axis=0), (len(x), 1))
    rows, seen = len(x), np.ascontiguousarray(x[:, varying], dtype=np.float32)
    wanted = np.column_stack([targets, _NO_SAY * carried])
    rng, trees = np.random.RandomState(_SEED), []
    sums, votes = np.zeros(wanted.shape), np.zeros(rows)
    with config_context(skip_parameter_validation=True):
        for seed in rng.randint(np.iinfo(np.int32).max, size=TREES):
            drawn = np.random.RandomState(seed).randint(0, rows, rows, dtype=np.int32)
            weights = np.bincount(drawn, minlength=rows).astype(np.float64)
            tree = ExtraTreeRegressor(
                min_samples_leaf=LEAF_ROWS,
                max_depth=DEEPEST,
                max_features=COLUMN_SHARE,
                random_state=seed,
            ).fit(seen, wanted, sample_weight=weights, check_input=False)
            left_out = np.flatnonzero(weights == 0)
            sums[left_out] += tree.tree_.predict(seen[left_out]).reshape(-1, wanted.shape[1])
            votes[left_out] += 1
            trees.append(tree.tree_)
    places = [0, *range(targets.shape[1], targets.shape[1] + carried.shape[1])]
    unseen = (sums / np.maximum(votes, 1)[:, None])[:, places]
    unseen[:, 1:] /= _NO_SAY
    return _frozen(trees, columns=varying, places=places), unseen


def _stump(value: Floats) -> Forest:
    """Return the forest of one leaf."""
    leaf, zero = np.array([_LEAF], np.int32), np.zeros(1, np.int32)
    return Forest(
        roots=zero,
        column=leaf,
        threshold=np.zeros(1),
        left=leaf,
        right=leaf,
        value=value[None],
    )


def _frozen(parts: list[Any], *, columns: Nodes, places: list[int]) -> Forest:
    """Read a forest as arrays; `columns` are those that it was grown on, `places` its outputs."""
    starts = np.cumsum([0, *(part.node_count for part in parts)])[:-1].astype(np.int32)
    leaf = [part.children_left == _LEAF for part in parts]
    value = np.concatenate([part.value[:, places, 0] for part in parts])
    value[:, 1:] /= _NO_SAY

    def joined(arrays: list[Any], kind: type) -> Any:
        return np.concatenate(arrays).astype(kind)

    return Forest(
        roots=starts,
        column=joined(
            [np.where(e, _LEAF, columns[p.feature]) for p, e in zip(parts, leaf, strict=True)],
            np.int32,
        ),
        threshold=joined([p.threshold for p in parts], np.float64),
        left=joined([p.children_left + s for p, s in zip(parts, starts, strict=True)], np.int32),
        right=joined([p.children_right + s for p, s in zip(parts, starts, strict=True)], np.int32),
        value=value,
    )
