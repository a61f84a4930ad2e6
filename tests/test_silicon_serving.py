"""Serving, planning and fleets: two models agree, plans are feasible, the books add up."""

import msgspec
import numpy as np
import pytest

from suffice.errors import InputError, SufficeError
from suffice.silicon import commands
from suffice.silicon.catalog import find_chip
from suffice.silicon.fleet import Deployment, consolidate, size_fleet
from suffice.silicon.fleet_file import compare
from suffice.silicon.layouts import spreads, stages
from suffice.silicon.plan import PlanRequest, Slo, Workload, make_plan, overlaps, price_block
from suffice.silicon.serving import Lengths, Replica, poisson_arrivals, simulate, steady_batch
from suffice.silicon.shapes import find_shape

REPLICA = Replica(
    batches=(1, 16, 64, 256), step_s=(0.010, 0.012, 0.018, 0.040), read_token_s=5e-5, places=128
)


def serve(replica, *, rate, count=2000, inputs=500, outputs=200, variation=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return simulate(
        replica,
        arrivals_s=poisson_arrivals(count, requests_per_s=rate, rng=rng),
        input_tokens=Lengths(mean=inputs, variation=variation).draw(count, rng=rng),
        output_tokens=Lengths(mean=outputs, variation=variation).draw(count, rng=rng),
    )


def test_one_request_alone_takes_its_prompt_and_its_steps():
    served = simulate(
        REPLICA,
        arrivals_s=np.array([0.0]),
        input_tokens=np.array([1000.0]),
        output_tokens=np.array([101.0]),
    )
    assert served.ttft_s[0] == pytest.approx(1000 * 5e-5)
    assert served.tpot_s[0] == pytest.approx(0.010)


@pytest.mark.parametrize("rate", [2.0, 6.0, 12.0])
@pytest.mark.parametrize("apart", [False, True])
def test_the_closed_form_agrees_with_the_event_model(rate, apart):
    replica = msgspec.structs.replace(REPLICA, apart=apart)
    served = serve(replica, rate=rate)
    batch = steady_batch(replica, requests_per_s=rate, input_tokens=500, output_tokens=200)
    reading = 0 if apart else rate * 500 * 5e-5
    step = np.interp(batch, REPLICA.batches, REPLICA.step_s) / (1 - reading)
    assert np.mean(served.tpot_s) == pytest.approx(step, rel=0.12)


def test_percentiles_grow_with_load_and_with_spread_of_lengths():
    light, heavy = serve(REPLICA, rate=2), serve(REPLICA, rate=14)
    assert heavy.percentile("ttft_s", 99) > 2 * light.percentile("ttft_s", 99)
    assert heavy.percentile("tpot_s", 50) > light.percentile("tpot_s", 50)
    wild = serve(REPLICA, rate=14, variation=1.0)
    assert wild.percentile("ttft_s", 99) > heavy.percentile("ttft_s", 99)


def test_disaggregated_prefill_keeps_decode_undisturbed():
    both = serve(REPLICA, rate=10, inputs=2000)
    apart = serve(msgspec.structs.replace(REPLICA, apart=True), rate=9, inputs=2000)
    assert apart.percentile("tpot_s", 95) < both.percentile("tpot_s", 95)


def test_a_full_memory_makes_requests_wait():
    tight = msgspec.structs.replace(REPLICA, places=4)
    assert serve(tight, rate=10, count=300).percentile("ttft_s", 50) > 1
    assert steady_batch(tight, requests_per_s=10, input_tokens=500, output_tokens=200) == float(
        "inf"
    )


def test_tokens_out_are_tokens_asked():
    served = serve(REPLICA, rate=5, count=500)
    assert not np.isnan(served.ttft_s).any()
    assert served.tokens_per_s == pytest.approx(5 * 200, rel=0.15)


def request(**changes):
    given = {
        "model": find_shape("mistral-small-4"),
        "chips": ("h100", "h200", "mi355x", "mtia-400"),
        "workload": Workload(input_tokens=1000, output_tokens=500, requests_per_s=20),
        "slo": Slo(ttft_s=1.0, tpot_s=0.05),
    }
    return PlanRequest(**(given | changes))


@pytest.fixture(scope="module")
def made():
    return make_plan(request())


def test_every_option_meets_the_target_and_is_priced_or_says_so(made):
    for option in made.ranking:
        assert option.ttft_s <= 1.0
        assert option.tpot_s <= 0.05
        if option.usd_per_mtok is None:
            assert any("--price" in note for note in option.notes)
        else:
            assert option.usd_per_mtok_low <= option.usd_per_mtok <= option.usd_per_mtok_high
            assert option.price_source
    priced = [o.usd_per_mtok for o in made.ranking if o.usd_per_mtok is not None]
    assert priced == sorted(priced)
    assert made.ranking[-1].chip == "mtia-400"


def test_dollars_agree_with_a_second_calculation(made):
    for option in made.ranking[:3]:
        per_hour = float(option.chip_usd_per_hour) * option.replica_chips
        tokens = option.requests_per_s * 500 * 3600
        assert option.usd_per_mtok == pytest.approx(per_hour / tokens * 1e6)
        assert option.usd_per_mtok_total == pytest.approx(option.usd_per_mtok / 3)


def test_the_two_rates_of_a_price_add_up_to_the_cost_of_a_request(made):
    for option in made.ranking:
        busy_s = 1000 / option.read_tokens_per_s + 500 / option.output_tokens_per_s
        assert busy_s == pytest.approx(1 / option.requests_per_s)


def test_a_price_named_by_the_user_wins():
    from decimal import Decimal

    plan = make_plan(request(prices={"mtia-400": Decimal("0.01")}))
    assert plan.ranking[0].chip == "mtia-400"
    assert plan.ranking[0].price_source.startswith("stated by you")


def test_the_price_block_is_a_price_that_the_configuration_accepts(made):
    import tomllib

    from suffice.config import PriceConfig

    table = tomllib.loads(price_block(made.ranking[0], name="x", plan=made, date="2026-11-23"))
    assert msgspec.convert(table["price"]["x"], PriceConfig, strict=False).chips >= 1


def test_a_safe_plan_costs_no_less(made):
    safe = {o.chip: o for o in make_plan(request(safe=True)).ranking}
    for option in made.ranking:
        if option.chip in safe and option.usd_per_mtok is not None:
            assert safe[option.chip].usd_per_mtok >= option.usd_per_mtok - 1e-12
            assert safe[option.chip].tpot_high_s <= 0.05


def test_the_frontier_trades_speed_for_cost(made):
    for chip in ("h100", "h200"):
        points = [o for o in made.frontier if o.chip == chip]
        assert [o.tpot_s for o in points] == sorted(o.tpot_s for o in points)
        cost = [o.usd_per_mtok for o in points]
        assert cost == sorted(cost, reverse=True)


def test_chips_for_the_peak_count_whole_replicas_and_a_spare(made):
    for option in made.ranking:
        replicas = int(np.ceil(20 / option.requests_per_s)) + 1
        assert option.chips_needed == int(np.ceil(replicas * option.replica_chips))


def test_overlapping_intervals_are_not_settled(made):
    first, second = made.ranking[:2]
    far = msgspec.structs.replace(second, usd_per_mtok_low=first.usd_per_mtok_high * 2)
    assert overlaps(first, msgspec.structs.replace(second, usd_per_mtok_low=first.usd_per_mtok))
    assert not overlaps(first, far)


def test_what_nobody_can_meet_names_the_nearest():
    with pytest.raises(InputError, match="nearest is"):
        make_plan(request(slo=Slo(tpot_s=1e-5)))
    with pytest.raises(InputError, match="fits no layout"):
        make_plan(request(model=find_shape("kimi-k2"), chips=("l40s",), weight_format="fp32"))


def test_spreads_respect_heads_experts_and_domain():
    dense, mixed = find_shape("llama-3-8b"), find_shape("deepseek-v3")
    assert {tp for tp, _, _ in spreads(dense, find_chip("h100"))} == {1, 2, 4, 8}
    assert all(ep == 1 for _, _, ep in spreads(dense, find_chip("gb200")))
    assert (1, 64, 64) in spreads(mixed, find_chip("gb200"))
    assert all(tp * dp <= 8 for tp, dp, _ in spreads(mixed, find_chip("h200")))


def test_pipelines_hold_what_the_scale_up_network_cannot():
    model = find_shape("kimi-k2")
    plan = make_plan(request(model=model, chips=("l40s",), weight_format="bf16", slo=Slo()))
    assert "pp 8" in plan.ranking[0].layout
    assert stages(model, (8, 1, 1), share=0.0) == (1, 2, 4, 8)
    assert stages(model, (8, 1, 8), share=0.0) == stages(model, (8, 1, 1), share=0.5) == (1,)


def test_peaks_that_do_not_coincide_are_worth_chips(made):
    option = made.ranking[0]
    peak = 3 * option.requests_per_s
    day = [Deployment(name="day", option=option, requests_per_s=(peak, 1.0))]
    night = [Deployment(name="night", option=option, requests_per_s=(1.0, peak))]
    result = consolidate([*day, *night], together=option)
    assert result.deployments_saved == 0.5
    assert result.chips_saved > 0.3
    assert result.usd_saved == pytest.approx(result.chips_saved)
    same = consolidate(day, together=option)
    assert same.chips_saved == 0


def test_a_fleet_without_a_price_has_no_dollars(made):
    unpriced = made.ranking[-1]
    fleet = size_fleet([Deployment(name="x", option=unpriced, requests_per_s=(1.0,))])
    assert fleet.usd_per_hour is None
    assert 0 < fleet.busy < 1


@pytest.mark.parametrize("curve", [(), (0.0,), (-1.0, 2.0)])
def test_no_demand_is_refused(made, curve):
    with pytest.raises(InputError):
        size_fleet([Deployment(name="x", option=made.ranking[0], requests_per_s=curve)])


def test_a_consolidation_file_is_planned_and_compared(tmp_path):
    part = 'model = "llama-3-8b"\nchip = "h100"\ninput_tokens = 500\noutput_tokens = 200\n'
    path = tmp_path / "fleet.toml"
    path.write_text(
        f"[together]\n{part}"
        + "".join(
            f'[[deployment]]\nname = "{n}"\n{part}requests_per_s = [{n}.0, 1.0]\n' for n in (1, 2)
        )
    )
    assert compare(path).apart.deployments == 2
    path.write_text("[together]\nmodel = 3\n")
    with pytest.raises(SufficeError):
        compare(path)


def run(*arguments, capsys):
    commands.app(list(arguments), standalone_mode=False)
    return capsys.readouterr().out


def test_the_command_prints_a_table_or_json(capsys):
    arguments = ["--model", "llama-3-8b", "--chips", "h100,l40s", "--slo", "tpot=50ms"]
    assert "$/Mtok out" in run(*arguments, capsys=capsys)
    decoded = msgspec.json.decode(run(*arguments, "--json", capsys=capsys))
    assert decoded["ranking"][0]["usd_per_mtok"] > 0
    assert "[price.mine]" in run(*arguments, "--as-price", "mine", capsys=capsys)


@pytest.mark.slow
def test_the_figure_is_one_file_without_network(tmp_path, capsys):
    path = tmp_path / "frontier.html"
    run("--model", "llama-3-8b", "--chips", "h100", "--figure", str(path), capsys=capsys)
    text = path.read_text()
    assert "tokens a second per user" in text
    assert 'src="http' not in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model", "nobody"],
        ["--model", "llama-3-8b", "--workload", "in=10"],
        ["--model", "llama-3-8b", "--workload", "in=-1,out=5"],
        ["--model", "llama-3-8b", "--slo", "ttft=fast"],
        ["--model", "llama-3-8b", "--slo", "speed=1s"],
        ["--model", "llama-3-8b", "--chips", "h1000"],
        ["--model", "llama-3-8b", "--price", "h100=-2"],
        ["--model", "llama-3-8b", "--price-kind", "stolen"],
        ["--model", "llama-3-8b", "--format", "fp7"],
        ["--model", "llama-3-8b", "--chips", "mtia-300", "--as-price", "x"],
    ],
)
def test_bad_arguments_are_errors_with_status_2(arguments):
    with pytest.raises(SufficeError) as caught:
        commands.app(arguments, standalone_mode=False)
    assert caught.value.exit_status == 2
    assert caught.value.hint
