"""Serving, planning and fleets: two models agree, plans are feasible, the books add up."""

import json

import msgspec
import numpy as np
import pytest

from suffice.cli import plan as commands
from suffice.config import parse_config
from suffice.errors import InputError, SufficeError
from suffice.meter import charge, price_for
from suffice.silicon import first_token
from suffice.silicon.arrivals import replay, under_load
from suffice.silicon.catalog import find_chip
from suffice.silicon.fleet import Deployment, consolidate, size_fleet
from suffice.silicon.fleet_file import compare
from suffice.silicon.formats import Formats, resolve_formats
from suffice.silicon.layouts import LayoutQuestion, candidates, fits, spreads, stages
from suffice.silicon.measured import engine_index
from suffice.silicon.models import find_shape
from suffice.silicon.plan import make_plan, overlaps, price_block
from suffice.silicon.predict import predict
from suffice.silicon.question import PlanRequest, Slo, Workload
from suffice.silicon.queueing import (
    AnswerLengths,
    Lengths,
    Replica,
    crowded,
    poisson_arrivals,
    simulate,
    waiting,
)
from suffice.silicon.residual import ideal
from suffice.types import Count, CountSource, Usage

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


LONG, SHORT = {"input_tokens": 4000, "output_tokens": 300}, {"input_tokens": 200}


@pytest.mark.parametrize("percentile", [50, 95, 99])
@pytest.mark.parametrize("variation", [0.0, 1.0])
@pytest.mark.parametrize("work", [LONG, SHORT | {"output_tokens": 1500}], ids=["long", "short"])
def test_the_closed_form_agrees_with_the_event_model(percentile, variation, work):
    formats = resolve_formats(Formats.uniform("fp8", origin="test"), cache="fp8")
    question = LayoutQuestion(**work, formats=formats, engine=engine_index("vllm"))
    table = candidates(find_shape("mistral-small-4"), (find_chip("h200"),), question)
    table = table.take(fits(table))
    loaded = under_load(table, predict(table), percentile=percentile, variation=variation)
    usable = np.flatnonzero(np.isfinite(loaded.tpot_s) & (loaded.ttft_s < 3))
    rows = np.random.default_rng(0).choice(usable, 8, replace=False)
    replayed = np.array([replay(table, loaded, row) for row in rows])
    ttft, tpot = loaded.ttft_s[rows] / replayed[:, 0], loaded.tpot_s[rows] / replayed[:, 1]
    assert 0.9 < np.median(ttft) < 1.35
    assert 0.95 < np.median(tpot) < 1.2
    assert (ttft > 0.7).all()
    assert (tpot > 0.8).all()
    assert (tpot < 2).all()


def test_a_replica_that_starts_under_way_serves_its_first_requests_as_its_last():
    """A replica of 150 requests that starts empty needs several lifetimes to fill up."""
    rng, lengths = np.random.default_rng(0), AnswerLengths(mean=400, variation=1.0)
    slow = msgspec.structs.replace(REPLICA, places=1024, batches=(1, 1024), step_s=(0.01, 0.15))
    work = {
        "arrivals_s": poisson_arrivals(6000, requests_per_s=12, rng=rng),
        "input_tokens": np.full(6000, 20.0),
        "output_tokens": lengths.draw(6000, rng=rng),
    }
    usual = np.median(simulate(slow, **work).tpot_s[3000:])
    running = int(12 * 400 * usual)
    left = lengths.draw_left(running, rng=rng).tolist()
    from_empty, under_way = (
        np.median(simulate(slow, **work, left_tokens=tokens).tpot_s[:300]) for tokens in ([], left)
    )
    assert from_empty < 0.8 * usual
    assert under_way == pytest.approx(usual, rel=0.15)


@pytest.mark.parametrize("variation", [0.0, 0.5, 1.0, 1.5, 2.5])
def test_answers_have_the_mean_and_the_variation_that_were_asked_for(variation):
    drawn = AnswerLengths(mean=300, variation=variation).draw(400_000, rng=np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(300, rel=0.02)
    assert drawn.std() / 300 == pytest.approx(variation, rel=0.06)
    assert drawn.min() >= 1


def test_answers_of_variation_one_are_exponential_as_in_chat():
    drawn = AnswerLengths(mean=300, variation=1.0).draw(200_000, rng=np.random.default_rng(0))
    for tokens in (3, 30, 300, 1500):
        assert (drawn > tokens).mean() == pytest.approx(np.exp(-tokens / 300), rel=0.1)


def test_short_answers_vary_most_in_seconds_per_token():
    """A prompt between two steps is a tenth of a short answer and a hundredth of a long one."""
    rng = np.random.default_rng(0)
    outputs = np.where(np.arange(4000) % 2, 10.0, 200.0)
    served = simulate(
        REPLICA,
        arrivals_s=poisson_arrivals(4000, requests_per_s=8, rng=rng),
        input_tokens=np.full(4000, 1000.0),
        output_tokens=outputs,
    )
    short, long = served.tpot_s[outputs == 10], served.tpot_s[outputs == 200]
    assert np.percentile(short, 99) / short.mean() > 1.5 > np.percentile(long, 99) / long.mean()


def test_a_plan_works_out_its_physics_once(monkeypatch):
    calls = []
    monkeypatch.setattr(first_token, "ideal", lambda table: calls.append(1) or ideal(table))
    work = Workload(input_tokens=1000, output_tokens=500)
    make_plan(PlanRequest(model=find_shape("llama-3-8b"), workload=work, chips=("h100",)))
    assert len(calls) == 1
    make_plan(
        PlanRequest(model=find_shape("llama-3-8b"), workload=work, chips=("h100",), percentile=95)
    )
    assert len(calls) == 2


def test_a_crowd_is_read_off_the_curve_of_its_own_layout():
    """Two layouts in one table: each row's percentile lies on its layout's curve, or nowhere."""
    formats = resolve_formats(Formats.uniform("fp8", origin="test"))
    question = LayoutQuestion(**LONG, formats=formats, engine=engine_index("vllm"))
    table = candidates(find_shape("llama-3-70b"), (find_chip("h200"), find_chip("b200")), question)
    table = table.take(fits(table))
    together = under_load(table, predict(table), percentile=95, variation=0.0)
    for chip in (0, 1):
        mine = table.chip == chip
        alone = table.take(mine)
        apart = under_load(alone, predict(alone), percentile=95, variation=0.0)
        assert together.tpot_s[mine] == pytest.approx(apart.tpot_s, rel=1e-4)
        assert (apart.tpot_s > 0.999 * predict(alone).tpot_s).all()


def test_a_replica_that_cannot_keep_up_waits_for_ever():
    wait = waiting(np.array([0.0, 0.5, 0.9, 1.2]), service_s=0.1, variation=0.0, percentile=95)
    assert wait[0] == 0
    assert 0 < wait[1] < wait[2] < np.inf
    assert wait[3] == np.inf


def test_a_slower_step_widens_the_crowd():
    calm, steep = crowded(np.array(100.0), elasticity=np.array([0.0, 0.75]), percentile=97.725)
    assert calm == pytest.approx(120, rel=1e-3)
    assert steep == pytest.approx(140, rel=1e-3)


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


def test_with_prefill_apart_decoding_begins_when_the_prompt_was_read():
    served = simulate(
        msgspec.structs.replace(REPLICA, apart=True, start_s=0.2),
        arrivals_s=np.array([0.0, 0.0]),
        input_tokens=np.array([10_000.0, 10_000.0]),
        output_tokens=np.array([101.0, 101.0]),
    )
    assert served.ttft_s == pytest.approx([0.5 + 0.2, 1.0 + 0.2])
    assert served.tpot_s == pytest.approx([0.010, 0.010], rel=0.02)


def test_waiting_prompts_share_a_chunk():
    served = simulate(
        msgspec.structs.replace(REPLICA, chunk_tokens=2000),
        arrivals_s=np.zeros(5),
        input_tokens=np.full(5, 500.0),
        output_tokens=np.full(5, 3.0),
    )
    first = 2000 * REPLICA.read_token_s
    assert served.ttft_s[:4] == pytest.approx(first)
    assert served.ttft_s[4] == pytest.approx(first + 500 * REPLICA.read_token_s + 0.0104)


def test_many_short_prompts_do_not_each_take_a_step():
    """Ten prompts a step of 100 ms keep up: they are read together, not one after each step."""
    slow = msgspec.structs.replace(REPLICA, batches=(1.0, 64.0), step_s=(0.1, 0.1), places=64)
    served = serve(slow, rate=30, inputs=50, count=400, outputs=10)
    assert served.percentile("ttft_s", 99) < 1


def test_a_full_memory_makes_requests_wait():
    tight = msgspec.structs.replace(REPLICA, places=4)
    assert serve(tight, rate=10, count=300).percentile("ttft_s", 50) > 1


def test_tokens_out_are_tokens_asked():
    served = serve(REPLICA, rate=5, count=500)
    assert not np.isnan(served.ttft_s).any()
    assert served.tokens_per_s == pytest.approx(5 * 200, rel=0.15)


def request(**changes):
    fields = {
        "model": find_shape("mistral-small-4"),
        "chips": ("h100", "h200", "mi355x", "mtia-400"),
        "workload": Workload(input_tokens=1000, output_tokens=500, requests_per_s=20),
        "slo": Slo(ttft_s=1.0, tpot_s=0.05),
    }
    return PlanRequest(**(fields | changes))


@pytest.fixture(scope="module")
def usual_plan():
    return make_plan(request())


def test_a_plan_without_its_frontier_is_else_the_same(usual_plan):
    short = make_plan(request(), with_frontier=False)
    assert short == msgspec.structs.replace(usual_plan, frontier=())
    assert len(usual_plan.frontier) > len(usual_plan.ranking)


def test_every_option_meets_the_target_and_is_priced_or_says_so(usual_plan):
    for option in usual_plan.ranking:
        assert option.ttft_s <= 1.0
        assert option.tpot_s <= 0.05
        if option.usd_per_mtok is None:
            assert any("--price" in note for note in option.notes)
        else:
            assert option.usd_per_mtok_low <= option.usd_per_mtok <= option.usd_per_mtok_high
            assert option.price_source
    priced = [o.usd_per_mtok for o in usual_plan.ranking if o.usd_per_mtok is not None]
    assert priced == sorted(priced)
    assert usual_plan.ranking[-1].chip == "mtia-400"


def test_dollars_agree_with_a_second_calculation(usual_plan):
    for option in usual_plan.ranking[:3]:
        per_hour = float(option.chip_usd_per_hour) * option.replica_chips
        tokens = option.requests_per_s * 500 * 3600
        assert option.usd_per_mtok == pytest.approx(per_hour / tokens * 1e6)
        assert option.usd_per_mtok_total == pytest.approx(option.usd_per_mtok / 3)


def test_the_two_rates_of_a_price_add_up_to_the_cost_of_a_request(usual_plan):
    for option in usual_plan.ranking:
        busy_s = 1000 / option.read_tokens_per_s + 500 / option.output_tokens_per_s
        assert busy_s == pytest.approx(1 / option.requests_per_s)


def test_a_price_named_by_the_user_wins():
    from decimal import Decimal

    plan = make_plan(request(prices={"mtia-400": Decimal("0.01")}))
    assert plan.ranking[0].chip == "mtia-400"
    assert plan.ranking[0].price_source.startswith("stated by you")


def test_the_price_block_is_a_price_that_the_configuration_accepts(usual_plan):
    import tomllib

    from suffice.config import PriceConfig

    for option in usual_plan.frontier:
        if option.usd_per_mtok is None:
            continue
        table = tomllib.loads(price_block(option, name="x", plan=usual_plan, date="2026-11-23"))
        price = msgspec.convert(table["price"]["x"], PriceConfig, strict=False)
        per_s = float(price.chip_usd_per_hour) * price.chips / 3600
        busy_s = 1000 / price.input_tokens_per_s + 500 / price.output_tokens_per_s
        assert per_s * busy_s / 500 * 1e6 == pytest.approx(option.usd_per_mtok, rel=1e-3)


def test_a_percentile_costs_more_and_is_confirmed_by_the_event_model(usual_plan):
    plan = make_plan(request(percentile=99, slo=Slo(tpot_s=0.03)))
    usual = {o.chip: o for o in make_plan(request(slo=Slo(tpot_s=0.03))).ranking}
    assert plan.percentile == 99
    assert usual_plan.percentile is None
    for option in plan.ranking:
        assert option.tpot_s <= 0.03
        assert option.tpot_low_s < option.tpot_s < option.tpot_high_s
        if option.usd_per_mtok is not None:
            assert option.usd_per_mtok > usual[option.chip].usd_per_mtok


def test_lengths_that_vary_cost_more_under_a_percentile():
    work = Workload(input_tokens=1000, output_tokens=500, variation=1.0)
    slo = Slo(ttft_s=0.15, tpot_s=0.03)
    same = make_plan(request(percentile=99, slo=slo)).ranking[0]
    varied = make_plan(request(percentile=99, slo=slo, workload=work)).ranking[0]
    assert varied.usd_per_mtok > same.usd_per_mtok


def test_what_the_event_model_never_confirms_is_left_out(monkeypatch):
    monkeypatch.setattr("suffice.silicon.candidates.replay", lambda *_: (9.0, 9.0))
    with pytest.raises(InputError, match="nearest is"):
        make_plan(request(percentile=95))


@pytest.mark.parametrize("percentile", [-1, 10, 100])
def test_a_percentile_out_of_range_is_refused(percentile):
    with pytest.raises(InputError, match="percentile"):
        make_plan(request(percentile=percentile))


def test_a_rung_priced_by_a_plan_is_charged_what_the_plan_says_as_an_estimate(capsys):
    arguments = ["--model", "llama-3-8b", "--chips", "h100", "--workload", "in=900,out=300"]
    option = msgspec.json.decode(run(*arguments, "--json", capsys=capsys))["ranking"][0]
    block = run(*arguments, "--as-price", "own", capsys=capsys)
    rung = 'name = "r"\nengine = "e"\nmodel = "m"\nprice = "own"\n'
    engine = '[engine.e]\nkind = "openai"\nurl = "http://localhost:8000/v1"\n'
    config = parse_config(f'reference = "r"\n{engine}[[ladder]]\n{rung}{block}')
    tokens = {"input_tokens": 900, "cache_read_tokens": 0, "cache_write_tokens": 0}
    counts = tokens | {"output_tokens": 300}
    usage = Usage(**{k: Count(n, CountSource.REPORTED) for k, n in counts.items()})
    charged = charge(usage, price_for("own", config.price["own"]))
    assert charged.estimated
    assert float(charged.usd) / 300 * 1e6 == pytest.approx(option["usd_per_mtok"], rel=1e-3)


def test_a_safe_plan_costs_no_less(usual_plan):
    safe = {o.chip: o for o in make_plan(request(safe=True)).ranking}
    for option in usual_plan.ranking:
        if option.chip in safe and option.usd_per_mtok is not None:
            assert safe[option.chip].usd_per_mtok >= option.usd_per_mtok - 1e-12
            assert safe[option.chip].tpot_high_s <= 0.05


def test_the_frontier_trades_speed_for_cost(usual_plan):
    for chip in ("h100", "h200"):
        points = [o for o in usual_plan.frontier if o.chip == chip]
        assert [o.tpot_s for o in points] == sorted(o.tpot_s for o in points)
        cost = [o.usd_per_mtok for o in points]
        assert cost == sorted(cost, reverse=True)


def test_chips_for_the_peak_count_whole_replicas_and_a_spare(usual_plan):
    for option in usual_plan.ranking:
        replicas = int(np.ceil(20 / option.requests_per_s)) + 1
        assert option.chips_needed == int(np.ceil(replicas * option.replica_chips))


def test_overlapping_intervals_are_not_settled(usual_plan):
    first, second = usual_plan.ranking[:2]
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


def test_peaks_that_do_not_coincide_are_worth_chips(usual_plan):
    option = usual_plan.ranking[0]
    peak = 3 * option.requests_per_s
    day = [Deployment(name="day", option=option, requests_per_s=(peak, 1.0))]
    night = [Deployment(name="night", option=option, requests_per_s=(1.0, peak))]
    result = consolidate([*day, *night], together=option)
    assert result.deployments_saved == 0.5
    assert result.chips_saved > 0.3
    assert result.usd_saved == pytest.approx(result.chips_saved)
    same = consolidate(day, together=option)
    assert same.chips_saved == 0


def test_a_fleet_without_a_price_has_no_dollars(usual_plan):
    unpriced = usual_plan.ranking[-1]
    fleet = size_fleet([Deployment(name="x", option=unpriced, requests_per_s=(1.0,))])
    assert fleet.usd_per_hour is None
    assert 0 < fleet.busy < 1


@pytest.mark.parametrize("curve", [(), (0.0,), (-1.0, 2.0)])
def test_no_demand_is_refused(usual_plan, curve):
    with pytest.raises(InputError):
        size_fleet([Deployment(name="x", option=usual_plan.ranking[0], requests_per_s=curve)])


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


def test_the_law_is_printed_for_models_with_experts(capsys):
    printed = run("law", "--model", "mistral-small-4", "--json", capsys=capsys)
    rows = msgspec.json.decode(printed)["law"]
    uniform = {row["tokens"]: row["uniform"] for row in rows}
    assert [uniform[n] for n in (1, 8, 64)] == pytest.approx([4.0, 28.7, 111.2], abs=0.05)
    assert all(row["skewed"] <= row["uniform"] + 1e-6 for row in rows)
    assert "uniform" in run("law", "--model", "mistral-small-4", capsys=capsys)


@pytest.mark.slow
def test_the_figure_is_one_file_without_network(tmp_path, capsys):
    path = tmp_path / "frontier.html"
    run("--model", "llama-3-8b", "--chips", "h100", "--figure", str(path), capsys=capsys)
    text = path.read_text()
    assert "tokens a second per user" in text
    assert 'src="http' not in text
    run("law", "--model", "olmoe-1b-7b", "--figure", str(path), capsys=capsys)
    assert "experts read" in path.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model", "nobody"],
        ["--model", "llama-3-8b", "--workload", "in=10"],
        ["--model", "llama-3-8b", "--workload", "in=-1,out=5"],
        ["--model", "llama-3-8b", "--workload", "in=10,out=5,variation=9"],
        ["--model", "llama-3-8b", "--workload", "in=10,out=5,variation=0.5"],
        ["--model", "llama-3-8b", "--percentile", "100"],
        ["law", "--model", "llama-3-8b"],
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


CHIP = """[source.s]
title = "t"
date = "2026-01-01"
[chip.x]
title = "X"
vendor = "x"
bf16 = { value = 1, unit = "TFLOP/s"SOURCE }
memory = { value = 1, unit = "GB", source = "s" }
bandwidth = { value = 1, unit = "TB/s", source = "s" }
"""
SHAPE = {"model_type": "llama", "hidden_size": 64, "vocab_size": 100, "num_hidden_layers": 2}
POINT = (
    "model,chip,engine,batch,input_tokens,output_tokens,tpot_ms\nllama-3-8b,h100,vllm,8,9,9,TPOT"
)


@pytest.mark.parametrize(
    ("name", "text", "arguments", "words"),
    [
        ("c.toml", CHIP.replace("SOURCE", ""), ["--model", "llama-3-8b", "--chip-file"], "source"),
        ("c.toml", CHIP, ["--model", "llama-3-8b", "--chip-file"], "cannot read"),
        ("m.csv", POINT.replace("TPOT", "0.02"), ["calibrate"], "milliseconds"),
        ("m.csv", POINT.replace("TPOT", "0.02"), ["--model", "olmoe", "--measured"], "tpot_ms"),
        ("config.json", json.dumps(SHAPE), ["--model"], "num_attention_heads"),
        ("config.json", json.dumps(SHAPE | {"model_type": "new"}), ["--model"], "not known"),
        ("fleet.toml", "redundancy = 1\n", ["consolidate"], "together"),
    ],
)
def test_files_that_cannot_be_used_are_errors_with_status_2(tmp_path, name, text, arguments, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SufficeError) as caught:
        commands.app([*arguments, str(path)], standalone_mode=False)
    assert caught.value.exit_status == 2
    assert words in f"{caught.value} {caught.value.hint}"
