"""Contract rules: hindsight is the least, the proven ratio holds and is tight, advice adds up."""

import datetime as dt
import itertools

import numpy as np
import pytest
from benchmarks.contracts.rules import (
    Market,
    Outlook,
    advised_theta,
    all_reserved,
    break_even,
    hindsight,
    largest_rise,
    total,
)

from suffice.errors import InputError, PriceError
from suffice.forecast.advice import REGRET, Situation, advise
from suffice.forecast.contracts import TRUST, ContractTerms, guaranteed_ratio

START = dt.date(2026, 11, 23)


def random_market(rng: np.random.Generator, *, days: int) -> Market:
    """Spend in bursts of very different size, and fees that wander."""
    spend = rng.random(days) ** 3 * (rng.random(days) < rng.random()) * 10 ** rng.uniform(-1, 0.5)
    fee = np.exp(np.cumsum(rng.normal(0.0, rng.choice([0.0, 0.05, 0.3]), days)))
    return Market(spend=spend, fee=fee)


def cheapest_of_all(market: Market, terms: ContractTerms) -> float:
    days = range(len(market.spend))
    subsets = itertools.chain.from_iterable(
        itertools.combinations(days, count) for count in range(len(days) + 1)
    )
    return min(total(market, terms, list(signed)) for signed in subsets)


@pytest.mark.parametrize("seed", range(12))
def test_hindsight_is_the_cheapest_of_all_ways_to_sign(seed: int) -> None:
    rng = np.random.default_rng(seed)
    terms = ContractTerms(days=int(rng.integers(1, 5)), usage_rate=float(rng.choice([0.0, 0.4])))
    market = random_market(rng, days=9)
    advice = total(market, terms, hindsight(market, terms))
    assert advice == pytest.approx(cheapest_of_all(market, terms))


@pytest.mark.parametrize("usage_rate", [0.0, 0.4, 0.8])
@pytest.mark.parametrize("trust", [0.3, 0.75, 1.0])
def test_no_forecast_however_bad_breaks_the_guarantee(usage_rate: float, trust: float) -> None:
    rng = np.random.default_rng(round(10 * trust + 100 * usage_rate))
    for _ in range(250):
        terms = ContractTerms(days=int(rng.integers(2, 25)), usage_rate=usage_rate)
        market = random_market(rng, days=60)
        theta = np.exp(np.log(trust) * rng.uniform(-1.0, 1.0, 60))
        if rng.random() < 0.5:  # the extremes hurt most
            theta = np.where(rng.random(60) < 0.5, trust, 1 / trust)
        best = total(market, terms, hindsight(market, terms))
        bound = guaranteed_ratio(terms, trust=trust, rise=largest_rise(market.fee, terms))
        cost = total(market, terms, break_even(market, terms, theta))
        assert cost <= bound * best * (1 + 1e-9)


@pytest.mark.parametrize("usage_rate", [0.0, 0.5])
@pytest.mark.parametrize("trust", [0.5, 1.0])
def test_an_adversary_reaches_the_guarantee(usage_rate: float, trust: float) -> None:
    terms = ContractTerms(days=4000, usage_rate=usage_rate)
    stop = round(1000 * trust / (1 - usage_rate))  # the rule signs on this day, and need ends
    spend = np.where(np.arange(4000) < stop, 0.001, 0.0)
    market = Market(spend=spend, fee=np.ones(4000))
    signed = break_even(market, terms, np.full(4000, trust))
    assert signed == [stop - 1]
    best = total(market, terms, hindsight(market, terms))
    ratio = total(market, terms, signed) / best
    assert ratio == pytest.approx(guaranteed_ratio(terms, trust=trust), rel=0.01)


def test_rising_fees_make_it_worse_and_falling_ones_do_not() -> None:
    terms = ContractTerms(days=2, usage_rate=0.0)
    assert guaranteed_ratio(terms) == 2.0
    assert guaranteed_ratio(ContractTerms(days=2, usage_rate=0.3)) == pytest.approx(1.7)
    assert guaranteed_ratio(terms, trust=0.5) == pytest.approx(3.0)
    assert guaranteed_ratio(terms, rise=1.5) == pytest.approx(3.0)
    assert largest_rise(np.array([4.0, 3.0, 2.0]), terms) == 1.0
    assert largest_rise(np.array([1.0, 1.0, 1.0, 2.0, 9.0]), terms) == 9.0
    assert largest_rise(np.array([1.0, 1.0, 1.0, 1.0, 9.0]), ContractTerms(days=1)) == 9.0
    assert largest_rise(np.array([1.0, 1.5, 3.0]), ContractTerms(days=1)) == 2.0


def test_a_contract_covers_its_term_and_bills_its_use() -> None:
    market = Market(spend=np.full(5, 10.0), fee=np.full(5, 12.0))
    assert total(market, ContractTerms(days=3), []) == 50.0
    assert total(market, ContractTerms(days=3), [1]) == 32.0
    assert total(market, ContractTerms(days=3, usage_rate=0.5), [1]) == 47.0
    assert all_reserved(market, ContractTerms(days=3)) == [0, 3]
    assert hindsight(market, ContractTerms(days=3)) in ([0, 3], [0, 4], [1, 4])


def test_the_rule_forgets_spend_older_than_a_term() -> None:
    spend = np.array([5.0, 0.0, 0.0, 5.0, 0.0, 5.0])
    market = Market(spend=spend, fee=np.full(6, 10.0))
    assert break_even(market, ContractTerms(days=3)) == [5]
    assert break_even(market, ContractTerms(days=2)) == []


def test_the_forecast_signs_early_where_need_is_steady_and_late_where_it_is_not() -> None:
    terms = ContractTerms(days=100)
    fee = np.full(300, 60.0)
    outlook = (Outlook(prior_days=200.0),) * 300
    steady = Market(spend=np.ones(300), fee=fee)
    rare = Market(spend=(np.arange(300) % 5 == 0).astype(float), fee=fee)
    assert set(advised_theta(steady, terms, outlook=outlook)) == {TRUST}
    assert advised_theta(rare, terms, outlook=outlook)[-1] == 1 / TRUST
    falling = tuple(Outlook(price=0.5, prior_days=200.0) for _ in range(300))
    assert advised_theta(steady, terms, outlook=falling)[-1] == 1 / TRUST


def test_the_forecast_looks_only_back() -> None:
    terms = ContractTerms(days=20)
    rng = np.random.default_rng(3)
    market = random_market(rng, days=80)
    outlook = (Outlook(),) * 80
    full = advised_theta(market, terms, outlook=outlook)
    for day in (10, 40, 79):
        part = Market(spend=market.spend[:day], fee=market.fee[:day])
        assert (advised_theta(part, terms, outlook=outlook[:day]) == full[:day]).all()
        early = [at for at in break_even(market, terms, full) if at < day]
        assert break_even(part, terms, full[:day]) == early


@pytest.mark.parametrize(
    "bad",
    [
        lambda: ContractTerms(days=0),
        lambda: ContractTerms(days=3, usage_rate=1.0),
        lambda: Market(spend=np.ones(2), fee=np.ones(3)),
        lambda: Market(spend=-np.ones(2), fee=np.ones(2)),
        lambda: Market(spend=np.ones(2), fee=np.zeros(2)),
        lambda: guaranteed_ratio(ContractTerms(days=1), trust=0.0),
        lambda: advise(Situation(start=START, busy=0.0)),
        lambda: advise(Situation(start=START, lasts=1.5)),
        lambda: advise(Situation(start=START, months=1)),
        lambda: advise(Situation(start=START, spent_usd=-1.0)),
        lambda: advise(Situation(start=START, regime="sideways")),
    ],
)
def test_invalid_terms_and_markets_are_refused(bad: object) -> None:
    with pytest.raises(InputError) as caught:
        bad()
    assert caught.value.hint


def situation(**params: object) -> Situation:
    usual = {"start": START, "on_demand_usd": 4.0, "contract_usd": 2.0, "paths": 2000}
    return Situation(**(usual | params))


def test_advice_follows_what_the_need_is_worth() -> None:
    assert advise(situation(lasts=1.0)).choice == "reserve"
    assert advise(situation(busy=0.2)).choice == "on_demand"
    assert advise(situation(contract_usd=3.9, lasts=0.3)).choice in ("on_demand", "wait")


def test_regret_is_the_cost_over_hindsight() -> None:
    advice = advise(situation(lasts=0.5))
    assert advice.regret_quantiles == REGRET
    for outcome in advice.outcomes.values():
        assert outcome.mean_usd >= advice.hindsight_usd
        assert list(outcome.regret_usd) == sorted(outcome.regret_usd)
        assert min(outcome.regret_usd) >= -1e-9
    lowest = min(outcome.mean_usd for outcome in advice.outcomes.values())
    assert advice.outcomes[advice.choice].mean_usd == lowest
    reserve = advice.outcomes["reserve"]
    assert reserve.mean_usd == pytest.approx(2.0 * 730.5 * 12)


def test_advice_is_the_same_for_the_same_seed_only() -> None:
    assert advise(situation()) == advise(situation())
    assert advise(situation()) != advise(situation(seed=1))


def test_the_rule_with_a_guarantee_signs_within_trust_of_the_break_even() -> None:
    advice = advise(situation(lasts=1.0))
    assert advice.sign_at_usd == pytest.approx(2.0 * 730.5 * 12)
    assert not advice.rule_signs
    early = advise(situation(lasts=1.0, spent_usd=TRUST * advice.sign_at_usd + 1))
    assert early.rule_signs
    late = situation(busy=0.2, spent_usd=advice.sign_at_usd)
    assert not advise(late).rule_signs
    assert advice.guaranteed_ratio == pytest.approx(1 + 1 / TRUST)


def test_a_chip_without_prices_asks_for_them() -> None:
    with pytest.raises(PriceError, match="mtia-400"):
        advise(Situation(start=START, chip="mtia-400"))
    with pytest.raises(PriceError, match="cannot cost"):
        advise(situation(contract_usd=float("nan")))
    advice = advise(situation(chip="mtia-400"))
    assert all(text.endswith("stated by you") for text in advice.basis)
