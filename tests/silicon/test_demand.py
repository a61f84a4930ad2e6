"""Several workloads on one deployment, a day's curve, chips in stock."""

from decimal import Decimal

import pytest

from suffice.errors import InputError
from suffice.silicon.demand import cost_by_workload, day_on_chip, mixture, use_stock
from suffice.silicon.models import find_shape
from suffice.silicon.plan import make_plan
from suffice.silicon.question import PlanRequest, Slo, Workload

CHAT = Workload(input_tokens=500, output_tokens=500, requests_per_s=30)
AGENT = Workload(input_tokens=8000, output_tokens=200, requests_per_s=10, cache_hit=0.9)


def plan(workload=CHAT, chips=("h100", "h200"), **request):
    return make_plan(
        PlanRequest(
            model=find_shape("llama-3-8b"),
            workload=workload,
            chips=chips,
            slo=Slo(tpot_s=0.05),
            **request,
        )
    )


def test_a_mixture_has_the_means_of_its_requests_and_the_hits_of_its_tokens():
    both = mixture([CHAT, AGENT], percentile=None)
    assert both.requests_per_s == 40
    assert both.input_tokens == pytest.approx((30 * 500 + 10 * 8000) / 40)
    assert both.output_tokens == pytest.approx((30 * 500 + 10 * 200) / 40)
    assert both.cache_hit == pytest.approx(10 * 8000 * 0.9 / (30 * 500 + 10 * 8000))
    assert both.variation == 0


def test_under_arrivals_the_lengths_of_a_mixture_vary():
    both = mixture([CHAT, AGENT], percentile=95.0)
    mean = (30 * 500 + 10 * 8000) / 40
    square = (30 * 500**2 + 10 * 8000**2) / 40
    assert both.variation == pytest.approx((square / mean**2 - 1) ** 0.5)


def test_one_workload_is_itself_and_several_need_rates():
    assert mixture([CHAT], percentile=None) is CHAT
    with pytest.raises(InputError, match="rate"):
        mixture([CHAT, Workload(input_tokens=1, output_tokens=1)], percentile=None)


def test_the_parts_of_a_mixture_cost_what_the_whole_costs():
    both = mixture([CHAT, AGENT], percentile=None)
    result = plan(both, mixture=(CHAT, AGENT))
    option, parts = result.ranking[0], result.by_workload
    assert sum(part.share_of_time for part in parts) == pytest.approx(1)
    hourly = sum(p.usd_per_request * p.workload.requests_per_s for p in parts) * 3600
    per_token = hourly / (both.requests_per_s * both.output_tokens * 3600) * 1e6
    assert per_token == pytest.approx(option.usd_per_mtok, rel=0.02)
    assert cost_by_workload(option, [CHAT, CHAT])[0].share_of_time == pytest.approx(0.5)


def test_a_day_follows_its_curve_an_interval_ahead_and_costs_no_more_than_the_peak():
    option = plan().ranking[0]
    rate = 0.8 * option.requests_per_s
    day = day_on_chip(option, [rate, rate, 5 * rate, rate], redundancy=1)
    assert day.replicas == (2, 6, 6, 2)
    assert day.chip_hours == pytest.approx(6 * option.replica_chips * (2 + 6 + 6 + 2))
    assert day.fixed_chip_hours == 24 * 6 * option.replica_chips
    assert day.usd == option.chip_usd_per_hour * Decimal(day.chip_hours)
    assert day.usd < day.fixed_usd


@pytest.mark.parametrize("curve", [[5.0], [0.0, 0.0], [3.0, -1.0], []])
def test_a_day_without_demand_or_with_less_than_none_is_refused(curve):
    with pytest.raises(InputError, match="day"):
        day_on_chip(plan().ranking[0], curve, redundancy=1)


def test_stock_is_used_cheapest_first_and_says_what_is_missing():
    result = plan(stock={"h100": 64, "h200": 64})
    assert [use.chip for use in result.stock] == [result.ranking[0].chip]
    assert sum(use.requests_per_s for use in result.stock) == pytest.approx(30)
    first, second = result.ranking
    demand = first.requests_per_s + 0.5 * second.requests_per_s
    one = int(first.replica_chips)
    uses = use_stock(result.ranking, {first.chip: one, second.chip: 8}, requests_per_s=demand)
    assert [use.chip for use in uses] == [first.chip, second.chip]
    assert sum(use.requests_per_s for use in uses) == pytest.approx(demand)
    with pytest.raises(InputError, match="in stock serve"):
        use_stock(result.ranking, {first.chip: one}, requests_per_s=1e6)


def test_no_replica_is_larger_than_the_stock():
    result = make_plan(
        PlanRequest(
            model=find_shape("llama-3-70b"),
            workload=Workload(input_tokens=500, output_tokens=500, requests_per_s=1),
            chips=("h100",),
            slo=Slo(tpot_s=0.05),
            stock={"h100": 2},
            weight_format="fp8",
        )
    )
    assert result.ranking[0].replica_chips <= 2


def test_stock_needs_a_demand():
    with pytest.raises(InputError, match="demand"):
        plan(Workload(input_tokens=500, output_tokens=500), stock={"h100": 8})


def test_no_workload_of_a_mixture_may_be_longer_than_the_context():
    long = Workload(input_tokens=200_000, output_tokens=500, requests_per_s=0.1)
    both = mixture([CHAT, long], percentile=None)
    assert both.input_tokens < 2000
    with pytest.raises(InputError, match="200000 tokens in"):
        plan(both, mixture=(CHAT, long))
