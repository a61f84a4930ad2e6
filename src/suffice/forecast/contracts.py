"""When to sign a contract: online rules with a proven worst case, and hindsight.

One block of chips is needed some of the time. A day on demand costs `spend`. A contract signed on
day t costs `fee[t]`, covers `term` days from t, and bills what is used meanwhile at `usage_rate`
(alpha) times its price on demand; a committed contract, paid whether used or not, has alpha 0.
This is the Bahncard problem (Fleischer, 2001) with prices that move, and for one block the
reservation problem of Wang, Li and Liang (arXiv 1305.5608), whose rule signs as soon as the spend
of the last `term` days that no contract covered reaches the break-even b(t) = fee[t] / (1 - alpha):
at constant fees it never costs more than 2 - alpha times hindsight, the best possible.

The forecast rule moves the break-even by a factor theta(t) between `trust` and 1 / `trust`.

Why it cannot cost more than `guaranteed_ratio`. Let hindsight sign on days s_1, s_2, ...; its
contract j covers the interval I_j. Write B_j for what our rule spends in I_j uncovered. Our
contracts do not overlap, so it signs at most once in I_j, and the uncovered days of I_j are one
stretch before that. On the last of them with spend, u, the rule did not sign, hence
B_j < b(u) / trust. Fees rise at most by a factor `rise` within two terms, so
(1 - alpha) B_j <= rise fee(s_j) / trust. Charge each of our fees once:

1. Signed in I_j, or less than a term after it with a part of B_j among the days that led to it:
   charge it to I_j. No second fee falls on I_j, because a contract signed in I_j covers the rest of
   it and a later one looks back only to the days after it was signed. With w the spend in I_j,
   we pay alpha w + (1 - alpha) B_j + rise fee(s_j) at most, hindsight fee(s_j) + alpha w. The ratio
   grows as w falls to B_j, and is largest at the largest B_j, or at B_j = 0 if alpha rise > 1.
2. All days that led to it are outside every I_j: hindsight paid them in full, at least
   trust b(t), and we paid them and the fee: a ratio of at most 1 + (1 - alpha) / trust.

Other days cost us no more than hindsight. So the ratio is at most the largest of

    rise (1 + trust (1 - alpha)) / (trust (1 - alpha) + alpha rise),  rise if alpha rise > 1,
    1 + (1 - alpha) / trust.

Falling fees cost nothing in it; rising ones do. With trust 1 and rise 1 it is 2 - alpha.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from suffice.errors import InputError
from suffice.forecast.process import Array

TRUST = 0.75


class ContractTerms(Struct, frozen=True, kw_only=True):
    """A contract's length in days, and the share of the price that use still costs under it."""

    days: int
    usage_rate: float = 0.0

    def __post_init__(self) -> None:
        if self.days < 1 or not 0 <= self.usage_rate < 1:
            raise InputError(
                f"a contract of {self.days} days at usage rate {self.usage_rate:g}",
                hint="at least one day, and a usage rate of at least 0 and below 1",
            )


class Market(Struct, frozen=True, kw_only=True):
    """Day by day: what the day's use costs on demand, and what a contract signed then costs."""

    spend: Array
    fee: Array

    def __post_init__(self) -> None:
        if self.spend.shape != self.fee.shape or not len(self.fee):
            raise InputError("spend and fee need one value a day each", hint="check their lengths")
        if not ((self.spend >= 0).all() and (self.fee > 0).all()):
            raise InputError("a spend is negative or a fee is not positive", hint="check the data")


class Outlook(Struct, frozen=True, kw_only=True):
    """What one may expect of a term: `price` on demand over today's, and how long demand lasts.

    Demand that has lasted for d days is still there s days later with probability
    (d + prior_days) / (d + prior_days + s): a hazard that nobody knows, seen once.
    """

    price: float = 1.0
    prior_days: float = 730.0


def total(market: Market, terms: ContractTerms, signed: Sequence[int]) -> float:
    """Dollars of all days when contracts are signed on the days given; they may overlap."""
    covered = np.zeros(len(market.spend), bool)
    for day in signed:
        covered[day : day + terms.days] = True
    rate = np.where(covered, terms.usage_rate, 1.0)
    return float((rate * market.spend).sum() + sum(market.fee[day] for day in signed))


def all_reserved(market: Market, terms: ContractTerms) -> list[int]:
    """Sign on the first day, and again whenever the contract ends."""
    return list(range(0, len(market.spend), terms.days))


def break_even(market: Market, terms: ContractTerms, theta: Array | None = None) -> list[int]:
    """Sign when the uncovered spend of the last term reaches `theta` times the break-even.

    Uses only what is known on the day: `theta` (1 if None) may be worked out day by day.
    """
    factor = np.ones(len(market.spend)) if theta is None else theta
    wanted = factor * market.fee / (1.0 - terms.usage_rate)
    open_spend = np.zeros(len(market.spend))
    signed: list[int] = []
    window, covered_until = 0.0, 0
    for day, spend in enumerate(market.spend):
        window -= open_spend[day - terms.days] if day >= terms.days else 0.0
        if day < covered_until:
            continue
        open_spend[day] = spend
        window += spend
        if spend > 0 and window >= wanted[day] * (1 - 1e-12):
            signed.append(day)
            covered_until = day + terms.days
            window -= spend  # a covered day
            open_spend[day] = 0.0
    return signed


def advised_theta(
    market: Market, terms: ContractTerms, *, outlook: Sequence[Outlook], trust: float = TRUST
) -> Array:
    """Say day by day how far from the break-even to sign, in [trust, 1 / trust].

    `trust` where the expected spend of the coming term, at the recent rate of use and the expected
    price, is worth the fee; 1 / `trust` where it is not.
    """
    _check(trust)
    days = np.arange(len(market.spend))
    used = np.cumsum(market.spend)
    back = np.minimum(days + 1, terms.days)
    recent = (used - np.concatenate([np.zeros(terms.days), used])[: len(days)]) / back
    age = days - int(np.argmax(market.spend > 0)) + 1.0
    prior = np.array([one.prior_days for one in outlook])
    price = np.array([one.price for one in outlook])
    lasting = (age + prior) / terms.days * np.log1p(terms.days / np.maximum(age + prior, 1.0))
    expected = recent * terms.days * lasting * price
    worth = expected >= market.fee / (1.0 - terms.usage_rate)
    return np.where(worth, trust, 1.0 / trust)


def hindsight(market: Market, terms: ContractTerms) -> list[int]:
    """Find the cheapest days to sign, all spend and fees known: dynamic programming, day by day."""
    days = len(market.spend)
    used = np.concatenate([[0.0], np.cumsum(market.spend)])
    best = np.zeros(days + 1)
    signs = np.zeros(days, bool)
    for day in range(days - 1, -1, -1):
        end = min(day + terms.days, days)
        sign = market.fee[day] + terms.usage_rate * (used[end] - used[day]) + best[end]
        wait = market.spend[day] + best[day + 1]
        signs[day] = sign < wait
        best[day] = min(sign, wait)
    return _walk(signs, terms)


def guaranteed_ratio(terms: ContractTerms, *, trust: float = 1.0, rise: float = 1.0) -> float:
    """Bound the cost of `break_even` over hindsight for theta in [trust, 1 / trust].

    `rise` is the largest factor by which fees rise within two terms (`largest_rise`); the module
    has the proof.
    """
    _check(trust)
    paid, kept = 1.0 - terms.usage_rate, terms.usage_rate * rise
    inside = rise * (1.0 + trust * paid) / (trust * paid + kept)
    return max(inside, rise if kept > 1.0 else 1.0, 1.0 + paid / trust)


def largest_rise(fee: Array, terms: ContractTerms) -> float:
    """Largest factor from a fee to a later one less than two terms on; 1 if none rises."""
    span = min(2 * terms.days - 1, len(fee) - 1)
    reach = np.concatenate([fee, np.full(span, -np.inf)])
    highest = np.lib.stride_tricks.sliding_window_view(reach, span + 1).max(axis=1)
    return float((highest / fee).max())


def _check(trust: float) -> None:
    if not 0 < trust <= 1:
        raise InputError(f"trust {trust:g}", hint="above 0; 1 follows no forecast")


def _walk(signs: np.ndarray[tuple[int], np.dtype[np.bool_]], terms: ContractTerms) -> list[int]:
    signed, day = [], 0
    while day < len(signs):
        if signs[day]:
            signed.append(day)
        day += terms.days if signs[day] else 1
    return signed
