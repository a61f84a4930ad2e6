"""Whether the latest rows lose more than those before: then they are not draws of one population.

A certificate needs rows that are exchangeable with each other and with what is to come. If they
are, every order of them is as likely, so the number of losses among the last w of n rows is
hypergeometric: an exact test, whatever the risk is.
"""

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.01  # chance of seeing a change where there is none
_SHORTEST = 25  # rows of the shortest stretch that is looked at


def worse_since(lost: NDArray[np.bool_], *, level: float = LEVEL) -> int | None:
    """Return the row from which losses are more frequent than before; None where nothing shows.

    `lost` has shape (rows,), in order of time, one row a cluster. Stretches of 25, 50, 100 and so
    on, up to half of the rows, share `LEVEL`; of several that show a change the clearest counts.
    """
    from scipy import stats

    rows, losses = len(lost), int(lost.sum())
    lengths = [_SHORTEST << power for power in range(rows.bit_length())]
    lengths = [length for length in lengths if 2 * length <= rows]
    p_values = [
        float(stats.hypergeom.sf(int(lost[-length:].sum()) - 1, rows, losses, length))
        for length in lengths
    ]
    if not p_values or min(p_values) > level / len(lengths):
        return None
    clearest = p_values.index(min(p_values))
    return rows - lengths[clearest]
