"""The order in which a policy climbs the rungs of a table."""

from dataclasses import replace

import numpy as np

from suffice.errors import InputError
from suffice.trials.table import CostUnit, Floats, TrialTable


def on_ladder(table: TrialTable, *, reference: str) -> TrialTable:
    """Put a table's rungs in the order in which the policy climbs them, the reference last.

    With costs the cheapest comes first; without, the order of the file stands. Rungs that cost more
    dollars than the reference are left out, since climbing past it saves nothing. Raises
    InputError when no rung is left below it.
    """
    last = table.rung_index(reference)
    mean = _mean_cost(table)
    below = [at for at in range(len(table.rungs)) if at != last]
    if mean is not None:
        below.sort(key=mean.__getitem__)
        if table.cost_unit is CostUnit.USD:
            below = [at for at in below if mean[at] < mean[last]]
    if not below:
        raise InputError(
            f"no rung costs less than the reference {reference!r}",
            hint="name a dearer rung as the reference",
        )
    order = [*below, last]
    return replace(
        table,
        rungs=tuple(table.rungs[at] for at in order),
        quality=table.quality[:, order],
        cost=table.cost[:, order],
        signals=tuple(tuple(row[at] for at in order) for row in table.signals),
    )


def _mean_cost(table: TrialTable) -> Floats | None:
    """Return each rung's mean known cost, infinite for a rung without one; None without costs."""
    if table.cost_unit is None:
        return None
    known = (~np.isnan(table.cost)).sum(axis=0)
    mean: Floats = np.nansum(table.cost, axis=0) / np.maximum(known, 1)
    return np.where(known == 0, np.inf, mean)
