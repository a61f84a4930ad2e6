"""What levers are worth alone, last, and order-free; and how far they fail to multiply.

Everything is in logarithms of cost per request, where factors add up. With `v(S)` the logarithm of
how many times cheaper the cell of levers S is than the baseline:

- alone: `v({j})`; last: `v(all) - v(all without j)`;
- share: the Shapley value, the mean gain of j over all orders in which levers can be switched on;
  the shares sum to `v(all)` exactly, whatever the order;
- terms: the Möbius transform of v. The term of two or more levers is what they do together beyond
  everything that their subsets explain; all terms sum to `v(all)`, and those of single levers are
  the levers alone. So the interaction, `v(all)` less the sum of the levers alone, is the sum of the
  terms of two levers or more.
"""

from dataclasses import dataclass
from math import factorial

import numpy as np

from suffice.compound.cells import Cell, Factorial, Levers, subsets
from suffice.trials.resample import Estimate, cluster_sums, drawn_sums, estimate
from suffice.trials.table import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class ResampledSums:
    """Sums over requests of the `Cell.COLUMNS` of some cells, the same clusters drawn for all.

    `sums` has shape (1 + resamples, cells, columns); place 0 is the sample itself.
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
    """Draw clusters of requests again and again, the same ones for every cell."""
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
        """Return what a lever gives when no other is on."""
        return self.of(frozenset({lever}))

    def last(self, lever: str) -> Floats:
        """Return what a lever still gives when all others are on."""
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
        """Return what some levers do together beyond all that their subsets explain."""
        parts = [(-1) ** (len(levers) - len(s)) * self.of(s) for s in subsets(sorted(levers))]
        return np.asarray(sum(parts))

    def separate(self) -> Floats:
        """Return the sum of the levers alone: what multiplying separate factors would claim."""
        return np.asarray(sum(self.alone(lever.name) for lever in self.factorial.levers))

    def interaction(self) -> Floats:
        """Return what all levers give together less what they give one by one."""
        return self.of(self.factorial.full.levers) - self.separate()


def effects(factorial: Factorial, drawn: ResampledSums) -> Effects:
    """Turn the dollars of every cell into logarithms of reductions."""
    cost = np.log(drawn.usd()[:, : len(factorial.cells)])
    return Effects(factorial=factorial, gain=cost[:, :1] - cost)


def times(gain: Floats) -> Estimate:
    """Turn logarithms into a factor with its interval."""
    found = estimate(np.exp(gain))
    assert found is not None, "costs are above 0, so their ratios are known"
    return found


def touched_share(off: Cell, on: Cell) -> float:
    """Return the share of a cell's dollars that switching a lever on changed at all.

    Counted by request and part of cost (answer, prompt, other). What was not touched still has to
    be paid, so the lever cannot do better than 1 / (1 - share): Amdahl's law.
    """
    parts = ("answer_usd", "prompt_usd", "other_usd")
    before = np.stack([getattr(off, name) for name in parts])
    after = np.stack([getattr(on, name) for name in parts])
    return float(1 - before[before == after].sum() / before.sum())


def shuffled(factorial: Factorial, lever: str, *, seed: int) -> Estimate:
    """Return the factor of a lever that is on for a random half of the clusters in both arms.

    Each cluster's two costs, with the lever on and off, are swapped at the toss of a coin, so that
    nothing but chance tells the arms apart. An honest bootstrap then covers 1.
    """
    off, on = factorial.baseline, factorial.cell(lever)
    pair = cluster_sums(np.stack([off.usd, on.usd], axis=1), off.requests.clusters)
    swap = np.random.default_rng(seed).random(len(pair)) < 1 / 2
    pair[swap] = pair[swap][:, ::-1]
    drawn = np.log(drawn_sums(pair, seed=seed))
    return times(drawn[:, 0] - drawn[:, 1])
