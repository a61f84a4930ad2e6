"""The cluster bootstrap: sums over whole clusters, drawn again with replacement, and percentiles.

All figures of one table are drawn with the same clusters, so that differences between them have
honest intervals too (Field and Welsh, J. R. Statist. Soc. B 69, 2007).
"""

from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct

from suffice.trials.table import Floats, Rows

RESAMPLES = 1000
CONFIDENCE = 0.95
FEW_CLUSTERS = 30  # below which intervals are warned of
_WEIGHTS_AT_ONCE = 2_000_000


class Estimate(Struct, frozen=True, kw_only=True):
    """A figure with its 95 % interval.

    `value` or an end of `interval` is None where it is without bound, because what it is divided by
    is 0; `interval` is None where one cluster leaves nothing to resample.
    """

    value: float | None
    interval: tuple[float | None, float | None] | None


def cluster_sums(columns: Floats, clusters: Sequence[str]) -> Floats:
    """Add up the rows of each cluster; shape (clusters, columns), in the order they first come."""
    places = {name: at for at, name in enumerate(dict.fromkeys(clusters))}
    rows: Rows = np.array([places[name] for name in clusters], dtype=np.int64)
    sums = np.zeros((len(places), columns.shape[1]))
    np.add.at(sums, rows, columns)
    return sums


def drawn_sums(sums: Floats, *, seed: int) -> Floats:
    """Sum all clusters in row 0, and in each further row as many clusters drawn at random.

    `sums` has shape (clusters, columns); a single cluster leaves nothing to draw, and row 0 alone.
    """
    return np.concatenate([weights @ sums for weights in _weights(len(sums), seed=seed)])


def estimate(drawn: Floats, *, clusters: int | None = None) -> Estimate | None:
    """Read a figure from place 0 and its interval from the others; None where it is not known.

    Percentiles of few `clusters` are too near to each other; those of the expanded interval miss
    the truth about as often as they say (Hesterberg, The American Statistician 69, 2015).
    """
    if np.isnan(drawn[0]):
        return None
    others = drawn[1:][~np.isnan(drawn[1:])]
    interval = None
    if len(others):
        tail = _tail(clusters)
        low = np.quantile(others, tail, method="lower")
        high = np.quantile(others, 1 - tail, method="higher")
        interval = (bounded(low), bounded(high))
    return Estimate(value=bounded(drawn[0]), interval=interval)


def _tail(clusters: int | None) -> float:
    """Return the probability beyond each end; t quantiles for the spread seen in few clusters."""
    tail = (1 - CONFIDENCE) / 2
    if clusters is None or clusters < 2:
        return tail
    from scipy import stats

    wider = np.sqrt(clusters / (clusters - 1)) * stats.t.ppf(tail, clusters - 1)
    return float(stats.norm.cdf(wider))


def bounded(value: np.float64) -> float | None:
    """Turn an infinity into None."""
    return float(value) if np.isfinite(value) else None


def _weights(clusters: int, *, seed: int) -> Iterator[Floats]:
    """Yield how often each cluster counts, in blocks of rows; a single one leaves no choice."""
    yield np.ones((1, clusters))
    random = np.random.default_rng(seed)
    block = max(1, _WEIGHTS_AT_ONCE // clusters)
    for start in range(0, RESAMPLES if clusters > 1 else 0, block):
        size = min(block, RESAMPLES - start)
        drawn = random.multinomial(clusters, np.full(clusters, 1 / clusters), size=size)
        yield drawn.astype(np.float64)
