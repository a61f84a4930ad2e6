"""The gain of each lever alone, last, and order-free; and the interaction of all levers.

Gains are logarithms of cost per request, so factors add up. `v(S)` is the logarithm of the
baseline's cost over that of the cell of levers S.

- Alone: `v({j})`. Last: `v(all) - v(all without j)`.
- Share: the Shapley value, the mean gain of j over all orders in which levers can be switched on.
  The shares sum to `v(all)` exactly.
- Terms: the Möbius transform of v. The term of two or more levers is what they gain together beyond
  what their subsets explain. The terms of single levers are the levers alone, and all terms sum to
  `v(all)`. So the interaction, `v(all)` less the sum of the levers alone, is the sum of the terms
  of two levers or more.
"""

from dataclasses import dataclass
from math import factorial

import numpy as np

from suffice.compound.cells import Cell, Factorial, Levers, subsets
from suffice.trials.resample import Estimate, cluster_sums, drawn_sums, estimate
from suffice.trials.table import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class ResampledSums:
    """Sums over requests of the `Cell.COLUMNS` of some cells, in resamples of the clusters.

    `sums` has shape (1 + resamples, cells, columns). Row 0 is the sample itself. Each resample
    draws the same clusters for every cell.
    """

    sums: Floats

    def column(self, name: str, cell: int) -> Floats:
        """Return one column of one cell, shape (1 + resamples,)."""
        drawn: Floats = self.sums[:, cell, Cell.COLUMNS.index(name)]
        return drawn

    def usd(self) -> Floats:
        """Return the dollars of each cell, shape (1 + resamples, cells)."""
        at = [Cell.COLUMNS.index(name) for name in ("answer_usd", "prompt_usd", "other_usd")]
        total: Floats = self.sums[:, :, at].sum(axis=2)
        return total


def draw(cells: tuple[Cell, ...], *, seed: int) -> ResampledSums:
    """Resample the clusters of requests, the same ones for every cell."""
    side_by_side = np.concatenate([cell.columns() for cell in cells], axis=1)
    sums = drawn_sums(cluster_sums(side_by_side, cells[0].requests.clusters), seed=seed)
    return ResampledSums(sums=sums.reshape(len(sums), len(cells), -1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Effects:
    """Logarithms of reduction by set of levers: `gain` has shape (1 + resamples, cells)."""

    factorial: Factorial
    gain: Floats

    def of(self, levers: Levers) -> Floats:
        """Return the logarithm of the reduction with these levers on."""
        drawn: Floats = self.gain[:, self.factorial.index[levers]]
        return drawn

    def alone(self, lever: str) -> Floats:
        """Return the gain of a lever when no other is on."""
        return self.of(frozenset({lever}))

    def last(self, lever: str) -> Floats:
        """Return the gain of a lever when all others are on."""
        levers = self.factorial.full.levers
        return self.of(levers) - self.of(levers - {lever})

    def share(self, lever: str) -> Floats:
        """Return the Shapley value of a lever."""
        count = len(self.factorial.levers)
        others = self.factorial.full.levers - {lever}
        weights = {
            s: factorial(len(s)) * factorial(count - len(s) - 1) for s in subsets(sorted(others))
        }
        gains = [
            weight * (self.of(before | {lever}) - self.of(before))
            for before, weight in weights.items()
        ]
        return np.asarray(sum(gains) / factorial(count))

    def term(self, levers: Levers) -> Floats:
        """Return what some levers gain together beyond what their subsets explain."""
        parts = [(-1) ** (len(levers) - len(s)) * self.of(s) for s in subsets(sorted(levers))]
        return np.asarray(sum(parts))

    def separate(self) -> Floats:
        """Return the sum of the gains of the levers alone: what multiplying factors would claim."""
        return np.asarray(sum(self.alone(lever.name) for lever in self.factorial.levers))

    def interaction(self) -> Floats:
        """Return the gain of all levers together less the sum of their gains alone."""
        return self.of(self.factorial.full.levers) - self.separate()


def effects(factorial: Factorial, drawn: ResampledSums) -> Effects:
    """Turn the dollars of every cell into logarithms of reductions."""
    cost = np.log(drawn.usd()[:, : len(factorial.cells)])
    return Effects(factorial=factorial, gain=cost[:, :1] - cost)


def times(gain: Floats) -> Estimate:
    """Turn resampled logarithms into a factor with its interval."""
    factor = estimate(np.exp(gain))
    assert factor is not None, "costs are above 0, so their ratios are known"
    return factor


def touched_share(off: Cell, on: Cell) -> float:
    """Return the share of the dollars of `off` that the lever changed at all.

    Dollars are compared by request and part of cost (answer, prompt, other). Untouched dollars
    still have to be paid, so no lever divides the cost by more than 1 / (1 - share): Amdahl's law.
    """
    parts = ("answer_usd", "prompt_usd", "other_usd")
    before = np.stack([getattr(off, name) for name in parts])
    after = np.stack([getattr(on, name) for name in parts])
    return float(1 - before[before == after].sum() / before.sum())


def shuffled(factorial: Factorial, lever: str, *, seed: int) -> Estimate:
    """Return the factor of a lever that is dealt at random; an honest interval covers 1.

    A coin toss for each cluster swaps its costs with the lever on and off, so the two arms differ
    by chance only.
    """
    off, on = factorial.baseline, factorial.cell(lever)
    pair = cluster_sums(np.stack([off.usd, on.usd], axis=1), off.requests.clusters)
    swap = np.random.default_rng(seed).random(len(pair)) < 1 / 2
    pair[swap] = pair[swap][:, ::-1]
    drawn = np.log(drawn_sums(pair, seed=seed))
    return times(drawn[:, 0] - drawn[:, 1])
