"""Online rules that sign contracts, and the best days to sign in hindsight.

`break_even` is the rule that `suffice.forecast.contracts` proves a bound for.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from suffice.errors import InputError
from suffice.forecast.contracts import TRUST, ContractTerms, check_trust
from suffice.forecast.process import Array


class Market(Struct, frozen=True, kw_only=True):
    """By day: the cost of the day's use on demand, and the fee of a contract signed on that day."""

    spend: Array
    fee: Array

    def __post_init__(self) -> None:
        if self.spend.shape != self.fee.shape or not len(self.fee):
            raise InputError("spend and fee need one value a day each", hint="check their lengths")
        if not ((self.spend >= 0).all() and (self.fee > 0).all()):
            raise InputError("a spend is negative or a fee is not positive", hint="check the data")


class Outlook(Struct, frozen=True, kw_only=True):
    """The expectation for a term: the price on demand over today's, and how long demand lasts.

    Demand that has lasted for d days is still there s days later with probability
    (d + prior_days) / (d + prior_days + s): the hazard is unknown, and seen once.
    """

    price: float = 1.0
    prior_days: float = 730.0


def total(market: Market, terms: ContractTerms, signed: Sequence[int]) -> float:
    """Return the dollars of all days for contracts signed on some days; they may overlap."""
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

    The rule uses only what is known on the day. `theta` (1 if None) may differ from day to day.
    """
    factor = np.ones(len(market.spend)) if theta is None else theta
    least = factor * market.fee / (1.0 - terms.usage_rate)
    open_spend = np.zeros(len(market.spend))
    signed: list[int] = []
    window, covered_until = 0.0, 0
    for day, spend in enumerate(market.spend):
        window -= open_spend[day - terms.days] if day >= terms.days else 0.0
        if day < covered_until:
            continue
        open_spend[day] = spend
        window += spend
        if spend > 0 and window >= least[day] * (1 - 1e-12):
            signed.append(day)
            covered_until = day + terms.days
            window -= spend  # a covered day
            open_spend[day] = 0.0
    return signed


def advised_theta(
    market: Market, terms: ContractTerms, *, outlook: Sequence[Outlook], trust: float = TRUST
) -> Array:
    """Return for each day the factor on the break-even: `trust` or 1 / `trust`.

    It is `trust` if the expected spend of the coming term, at the recent rate of use and the
    expected price, is worth the fee, and 1 / `trust` if not.
    """
    check_trust(trust)
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
    """Return the cheapest days to sign if all spend and fees are known (dynamic programming)."""
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


def largest_rise(fee: Array, terms: ContractTerms) -> float:
    """Return the largest factor by which fees rise in less than two terms; 1 if none rises."""
    span = min(2 * terms.days - 1, len(fee) - 1)
    reach = np.concatenate([fee, np.full(span, -np.inf)])
    highest = np.lib.stride_tricks.sliding_window_view(reach, span + 1).max(axis=1)
    return float((highest / fee).max())


def _walk(signs: np.ndarray[tuple[int], np.dtype[np.bool_]], terms: ContractTerms) -> list[int]:
    signed, day = [], 0
    while day < len(signs):
        if signs[day]:
            signed.append(day)
        day += terms.days if signs[day] else 1
    return signed
