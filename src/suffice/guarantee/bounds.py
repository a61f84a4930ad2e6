"""P-values and upper bounds for one risk: the mean of losses in [0, 1], or of differences.

Every p-value tests `risk > alpha`: a small one is evidence that the risk is at most `alpha`, and
`P(p <= u) <= u` for every `u` while the risk exceeds `alpha`. Every upper bound is the inversion
of its p-value and is exceeded by the true risk with probability at most `delta`.
Values are independent draws from one population. Nothing here is asymptotic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log, log1p, sqrt

import numpy as np
from numpy.typing import ArrayLike

from suffice.errors import InputError
from suffice.guarantee.losses import Floats, Ints, check_losses, check_probability

BET_CAP = 0.75  # share of the largest bet that cannot lose everything; 1/2 or 3/4 in the source
_ORDER_SEED = 2010_09686  # of the fixed shuffle that makes the betting order blind to the losses
_BISECTIONS = 50
_ROWS_MOST = 10**9


# -- losses of 0 or 1: exact --------------------------------------------------------------------


def binomial_p_value(losses: ArrayLike, n: ArrayLike, *, alpha: float | Floats) -> Floats:
    """Return P(Bin(n, alpha) <= losses), elementwise; 1 where n is 0."""
    from scipy import special

    for limit in (np.min(alpha), np.max(alpha)):
        check_probability("alpha", float(limit))
    k, rows = _counts(losses, n)
    p = special.bdtr(k, np.maximum(rows, 1), alpha)
    return np.where(k == rows, 1.0, p).astype(np.float64)


def clopper_pearson_upper(losses: ArrayLike, n: ArrayLike, *, delta: float) -> Floats:
    """Return the exact one-sided upper limit of the risk, elementwise; 1 where n is 0."""
    from scipy import special

    check_probability("delta", delta)
    k, rows = _counts(losses, n)
    upper = special.betaincinv(k + 1.0, np.maximum(rows - k, 1), 1.0 - delta)
    return np.where(k == rows, 1.0, upper).astype(np.float64)


def clopper_pearson_interval(
    losses: ArrayLike, n: ArrayLike, *, delta: float
) -> tuple[Floats, Floats]:
    """Return exact lower and upper limits that together miss with probability at most `delta`."""
    check_probability("delta", delta)
    k, rows = _counts(losses, n)
    lower = 1.0 - clopper_pearson_upper(rows - k, rows, delta=delta / 2)
    return lower, clopper_pearson_upper(k, rows, delta=delta / 2)


def rows_needed(
    alpha: float, delta: float, *, tests: int = 1, loss_rate: float = 0.0
) -> int | None:
    """Return how many rows certify `alpha` if `loss_rate` of them are losses of 1.

    Each of `tests` hypotheses gets `delta / tests`. None if `loss_rate` is not below `alpha`, or
    if a thousand million rows would not tell them apart.
    """
    check_probability("alpha", alpha)
    check_probability("delta", delta)

    def enough(n: int) -> bool:
        k = ceil(round(loss_rate * n, 9))
        return bool(binomial_p_value(k, n, alpha=alpha) <= delta / tests)

    without_loss = log(delta / tests) / log1p(-alpha)
    if without_loss > _ROWS_MOST:
        return None
    high = ceil(without_loss) + 1
    while not enough(high):
        if loss_rate >= alpha or high > _ROWS_MOST:
            return None
        high *= 2
    return first_true(enough, high=high)


def losses_allowed(n: int, *, alpha: float, delta: float, tests: int = 1) -> int | None:
    """Return the most losses among `n` rows that still certify `alpha`; None if not even 0 do."""
    check_probability("alpha", alpha)
    check_probability("delta", delta)

    def fails(losses: int) -> bool:
        return bool(binomial_p_value(losses, n, alpha=alpha) > delta / tests)

    return None if fails(0) else first_true(fails, high=n) - 1


# -- losses anywhere in [0, 1] ------------------------------------------------------------------


def hoeffding_bentkus_p_value(mean: ArrayLike, n: ArrayLike, *, alpha: ArrayLike) -> Floats:
    """Return the Hoeffding-Bentkus p-value of a mean of `n` losses, elementwise.

    The smaller of two bounds on the same tail (Bates et al., arXiv 2101.02703), so no correction is
    due for taking the minimum.
    """
    from scipy import special

    rows, level = np.asarray(n), np.asarray(alpha, dtype=np.float64)
    observed = check_losses(mean)
    capped = np.minimum(observed, level)
    entropy = special.rel_entr(capped, level) + special.rel_entr(1.0 - capped, 1.0 - level)
    total = np.ceil(np.round(rows * observed, 9))  # a sum of 3.0000000001 is 3
    p: Floats = np.minimum(np.exp(-rows * entropy), np.e * special.bdtr(total, rows, level))
    return p


def hoeffding_bentkus_upper(mean: ArrayLike, n: int, *, delta: float) -> Floats:
    """Return the largest risk that the Hoeffding-Bentkus test does not reject, elementwise."""
    check_probability("delta", delta)
    observed = check_losses(mean)
    return _invert(
        lambda risk: hoeffding_bentkus_p_value(observed, n, alpha=risk), low=observed, delta=delta
    )


def betting_p_value(
    losses: ArrayLike,
    *,
    alpha: float,
    delta: float,
    weights: Floats | None = None,
    net: bool = False,
) -> Floats:
    """Return one over the largest wealth reached by betting against `risk > alpha`.

    `losses` has shape (values,) or (values, points); the result has shape () or (points,). They lie
    in [0, 1], with `net` in [-1, 1]. With `weights` in [0, 1], of the same shape, the risk is
    the expected loss over the expected weight, and no loss may be larger than its weight.

    Predictable plug-in bets (Waudby-Smith and Ramdas, arXiv 2010.09686), tuned for a decision at
    `delta`, valid at every level by Ville's inequality. Each value pays `bet * (alpha * weight -
    loss)`, whose mean is at most 0 while the risk exceeds `alpha`; the bet is capped so that the
    worst value, a loss of 1 at weight 1, leaves wealth positive. Values are taken in a fixed
    shuffled order, so that a sorted file cannot break the martingale.
    """
    if not (-1.0 if net else 0.0) < alpha < 1.0:
        check_probability("alpha", alpha)
    check_probability("delta", delta)
    game = _Game.of(check_losses(losses, net=net), weights=weights, net=net, delta=delta)
    return game.p_value(np.asarray(alpha))


def betting_upper(
    losses: ArrayLike, *, delta: float, weights: Floats | None = None, net: bool = False
) -> Floats:
    """Return the largest risk that `betting_p_value` does not reject; shapes as there."""
    check_probability("delta", delta)
    game = _Game.of(check_losses(losses, net=net), weights=weights, net=net, delta=delta)
    total = len(game.losses) if weights is None else game.weights.sum(axis=0)
    return _invert(game.p_value, low=game.losses.sum(axis=0) / total, delta=delta)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Game:
    """Losses in the order of betting, the weight of each, and the bet on it before its cap."""

    losses: Floats
    weights: Floats
    bets: Floats

    @classmethod
    def of(cls, losses: Floats, *, weights: Floats | None, net: bool, delta: float) -> "_Game":
        """Shuffle the values and set the bets; raises `InputError` where there is no value."""
        shuffled = _shuffled(losses)
        return cls(
            losses=shuffled,
            weights=np.ones(()) if weights is None else _shuffled(weights),
            bets=_plug_in_bets(shuffled, delta=delta, net=net),
        )

    def p_value(self, alpha: Floats) -> Floats:
        """Return 1 / max wealth: decreasing in `alpha`, since only the cap on a bet depends on it.

        A capped bet pays 0.75 (alpha weight - loss) / (1 - alpha), which rises with `alpha`.
        """
        capped = np.minimum(self.bets, BET_CAP / np.maximum(1.0 - alpha, 1e-12))
        gains = capped * (alpha * self.weights - self.losses)
        log_wealth = np.cumsum(np.log1p(gains), axis=0)
        p: Floats = np.exp(-np.maximum(log_wealth.max(axis=0), 0.0))
        return p


def _plug_in_bets(losses: Floats, *, delta: float, net: bool = False) -> Floats:
    """Return the bet on each value, a function of the values before it only; shape as `losses`.

    Mean and variance start as if one value had stood in the middle of the interval, and one had
    missed the mean by half of its length.
    """
    middle, start = (0.0, 1.0) if net else (0.5, 0.25)
    n = len(losses)
    seen = np.arange(2.0, n + 2.0).reshape(-1, *[1] * (losses.ndim - 1))
    means = (middle + np.cumsum(losses, axis=0)) / seen
    variances = (start + np.cumsum((losses - means) ** 2, axis=0)) / seen
    before = np.concatenate([np.full_like(losses[:1], start), variances[:-1]])
    bets: Floats = sqrt(2.0 * log(1.0 / delta) / n) / np.sqrt(before)
    return bets


def _counts(losses: ArrayLike, n: ArrayLike) -> tuple[Ints, Ints]:
    k, rows = np.asarray(losses), np.asarray(n)
    if not (np.all(k == np.floor(k)) and np.all(rows == np.floor(rows))):
        raise InputError("losses and rows must be whole numbers", hint="use a betting bound")
    if not (np.all(k >= 0) and np.all(k <= rows)):
        raise InputError("losses must lie between 0 and the number of rows")
    return k.astype(np.int64), rows.astype(np.int64)


def _shuffled(losses: Floats) -> Floats:
    if not len(losses):
        raise InputError("no rows to bound a risk from", hint="give at least one scored row")
    shuffled: Floats = np.random.default_rng(_ORDER_SEED).permutation(losses, axis=0)
    return shuffled


def _invert(p: Callable[[Floats], Floats], *, low: Floats, delta: float) -> Floats:
    """Return the risk above `low` where a decreasing p-value passes `delta`, rounded up."""
    low, high = np.asarray(low, dtype=np.float64), np.ones_like(low)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        kept = p(middle) > delta
        low, high = np.where(kept, middle, low), np.where(kept, high, middle)
    return high


def first_true(holds: Callable[[int], bool], *, high: int) -> int:
    """Return an n that holds while n - 1 does not, given that `high` holds and 0 does not."""
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
