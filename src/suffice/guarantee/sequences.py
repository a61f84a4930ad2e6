"""Learn-then-Test: which points of a policy path may be used, from one p-value a point.

The path or grid is fixed before the certifying losses are seen. Each point's p-value tests
`risk > alpha` at that point (`bounds`). Source: Angelopoulos et al., arXiv 2110.01052.
"""

from collections.abc import Iterable

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike

from suffice.errors import InputError
from suffice.guarantee.losses import check_probability


class SequenceTest(Struct, frozen=True):
    """The outcome of a search: the `accepted` index or None, and the p-values it looked at."""

    accepted: int | None
    p_values: tuple[float, ...]


def fixed_sequence(p_values: Iterable[float], *, delta: float) -> SequenceTest:
    """Walk from safe to cheap while `p <= delta`, stop at the first failure, keep the last pass.

    `P(risk at the accepted point > alpha) <= delta` with no correction for the number of points:
    a false acceptance needs the first point whose risk exceeds alpha to pass. `p_values` may be a
    generator; nothing behind the first failure is asked for.
    """
    check_probability("delta", delta)
    seen: list[float] = []
    for p in p_values:
        seen.append(_checked(float(p)))
        if p > delta:
            return SequenceTest(len(seen) - 2 if len(seen) > 1 else None, tuple(seen))
    return SequenceTest(len(seen) - 1 if seen else None, tuple(seen))


def bonferroni_grid(p_values: ArrayLike, shares: ArrayLike, *, delta: float) -> SequenceTest:
    """Accept the point with the largest share among those with `p <= delta / points`.

    For risks that do not rise along the path, such as the error among answered requests, where a
    walk would stop at the first point with few answers. All points that pass hold together with
    probability at least `1 - delta`, so any of them may be chosen. Ties go to the smaller p-value.
    """
    check_probability("delta", delta)
    p = np.array([_checked(float(value)) for value in np.ravel(np.asarray(p_values))])
    share = np.asarray(shares, dtype=np.float64)
    if p.shape != share.shape:
        raise InputError(f"{p.size} p-values but {share.size} shares")
    passing = np.flatnonzero(p <= delta / max(p.size, 1))
    best = max(passing, key=lambda point: (share[point], -p[point]), default=None)
    return SequenceTest(None if best is None else int(best), tuple(p.tolist()))


def _checked(p: float) -> float:
    if not 0.0 <= p <= 1.0:
        raise InputError(f"a p-value must lie in [0, 1], got {p}")
    return p
