"""The order of the requests of a table, and that in which a policy climbs its rungs."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from suffice.errors import InputError
from suffice.trials.table import Floats, TrialTable


def name_key(name: str) -> tuple[tuple[tuple[int, str], ...], str]:
    """Return what puts names in order, the numbers in them by size: q2 before q10."""
    parts = re.split("([0-9]+)", name)
    numbers = (digits.lstrip("0") for digits in parts[1::2])
    sized = [(len(digits), digits) for digits in numbers]
    words = [(0, word) for word in parts[::2]]
    parted = [part for pair in zip(words, [*sized, (0, "")], strict=True) for part in pair]
    return tuple(parted), name


def on_ladder(table: TrialTable, *, reference: str) -> TrialTable:
    """Put a table's rungs in the order in which the policy climbs them, the reference last.

    With costs the cheapest comes first; without, the order of the table stands. Rungs that do not
    cost less than the reference are left out, whatever the unit, since climbing past it saves
    nothing. Raises InputError when no rung is left below it.
    """
    last = table.rung_index(reference)
    mean = mean_cost(table)
    below = [at for at in range(len(table.rungs)) if at != last]
    if mean is not None:
        below = sorted((at for at in below if mean[at] < mean[last]), key=mean.__getitem__)
    if not below:
        raise InputError(
            f"no rung costs less than the reference {reference!r}",
            hint="name a dearer rung as the reference",
        )
    return _ordered(table, [*below, last])


def cheapest_first(table: TrialTable) -> TrialTable:
    """Put a table's rungs in order of their mean cost; without costs their order stands."""
    mean = mean_cost(table)
    return table if mean is None else _ordered(table, np.argsort(mean, kind="stable").tolist())


def mean_cost(table: TrialTable) -> Floats | None:
    """Return each rung's mean cost over the rows in which all are known, shape (rungs,).

    A rung without any cost costs infinity. None where no row has all the others.
    """
    known = ~np.isnan(table.cost)
    priced = known.any(axis=0)
    rows = known[:, priced].all(axis=1)
    if not priced.any() or not rows.any():
        return None
    mean: Floats = np.full(len(table.rungs), np.inf)
    mean[priced] = table.cost[rows][:, priced].mean(axis=0)
    return mean


def _ordered(table: TrialTable, rungs: Sequence[int]) -> TrialTable:
    order = list(rungs)
    return replace(
        table,
        rungs=tuple(table.rungs[at] for at in order),
        quality=table.quality[:, order],
        cost=table.cost[:, order],
        unscored=table.unscored[:, order],
        signals=tuple(tuple(row[at] for at in order) for row in table.signals),
    )
