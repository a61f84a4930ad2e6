"""Cached prompts, guessed tokens, adapters, wide experts: what each does, what it may not do."""

import numpy as np
import pytest

from suffice.errors import InputError
from suffice.silicon.adapters import Adapters, adapter_bytes
from suffice.silicon.catalog import find_chip
from suffice.silicon.columns import make_table, memory_bytes, points
from suffice.silicon.first_token import under_arrivals
from suffice.silicon.layouts import cache_splits, spreads, wide_spreads
from suffice.silicon.models import find_shape
from suffice.silicon.plan import make_plan, price_block
from suffice.silicon.predict import predict, tokens_per_step
from suffice.silicon.question import PlanRequest, Slo, Workload
from suffice.silicon.residual import ideal
from suffice.silicon.roofline import capacity, decode, prefill, weight_bytes
from suffice.silicon.shapes import profile
from suffice.silicon.speculation import Speculation, drafting

HEADS = find_shape("deepseek-v3")
DENSE = find_shape("llama-3-70b")


def table(model="llama-3-70b", chip="h100", **columns):
    columns = {"engine": 1, "tp": 8, "dense_bits": 8, "expert_bits": 8, "batch": 16} | columns
    lengths = {"input_tokens": 8000, "output_tokens": 500}
    return make_table((find_shape(model),), (find_chip(chip),), **(lengths | columns))


def plan(model="llama-3-70b", *, work=None, chips=("h100",), slo=None, **request):
    lengths = {"input_tokens": 4000, "output_tokens": 400} | (work or {})
    return make_plan(
        PlanRequest(
            model=find_shape(model),
            workload=Workload(**lengths),
            chips=chips,
            slo=slo or Slo(tpot_s=0.05),
            **request,
        )
    )


def test_a_cached_prompt_is_not_read_and_is_still_looked_at():
    at = points(table())
    whole = prefill(at, tokens=np.array([8000.0]))
    rest = prefill(at, tokens=np.array([800.0]), before=np.array([7200.0]))
    assert rest.compute / whole.compute == pytest.approx(0.1)
    scores = rest.compute_attention / whole.compute_attention
    assert scores == pytest.approx(800 * 7600 / (8000 * 4000))


@pytest.mark.parametrize("lower", [0.0, 0.3, 0.6])
def test_a_higher_hit_rate_makes_first_tokens_and_steps_quicker_and_requests_cheaper(lower):
    rows = table(cache_hit=np.array([lower, lower + 0.3]))
    prediction = under_arrivals(rows, predict(rows))
    assert prediction.ttft_s[1] < prediction.ttft_s[0]
    assert prediction.tpot_s[1] < prediction.tpot_s[0]
    dear, cheap = (plan(work={"cache_hit": hit}).ranking[0] for hit in (lower, lower + 0.3))
    assert cheap.usd_per_mtok < dear.usd_per_mtok


def test_a_cache_that_holds_all_leaves_one_token_to_read():
    rows = table(cache_hit=1.0)
    assert rows.new_tokens == pytest.approx(1)
    assert np.isfinite(predict(rows).ttft_s).all()
    assert plan(work={"cache_hit": 1.0}).ranking[0].read_tokens_per_s > 0


def test_no_hit_is_the_plan_without_a_cache():
    assert plan(work={"cache_hit": 0.0}) == plan()


def test_the_price_block_charges_cached_tokens_no_time():
    cached = plan(work={"cache_hit": 0.75})
    option = cached.ranking[0]
    block = price_block(option, name="own", plan=cached, date="2026-11-30")
    (line,) = [line for line in block.splitlines() if line.startswith("input_tokens_per_s")]
    whole = option.replica_chips / -(-option.replica_chips // 1)
    rate = float(line.split(" = ")[1]) * whole
    assert rate == pytest.approx(4 * option.read_tokens_per_s, rel=1e-3)


@pytest.mark.parametrize(
    ("drafts", "acceptance", "expected"),
    [(0, 0.7, 1.0), (1, 0.8, 1.8), (3, 0.7, 1 + 0.7 + 0.49 + 0.343), (4, 1.0, 5.0), (4, 0.0, 1.0)],
)
def test_tokens_a_step_are_the_geometric_sum(drafts, acceptance, expected):
    rows = table(draft_tokens=drafts, acceptance=acceptance)
    assert tokens_per_step(rows)[0] == pytest.approx(expected, rel=1e-4)


def test_checking_guesses_reads_weights_and_cache_once_and_multiplies_arithmetic():
    at = points(table())
    one, four = decode(at), decode(at, tokens=np.array([4.0]))
    assert four.weights == pytest.approx(one.weights)
    assert four.cache == pytest.approx(one.cache)
    assert four.compute / one.compute == pytest.approx(4)
    experts = points(table("deepseek-v3"))
    more = decode(experts, tokens=np.array([4.0])).experts / decode(experts).experts
    assert 1 < more < 4


def test_guesses_pay_in_small_batches_and_not_where_nothing_is_accepted():
    def ratio(batch, acceptance):
        rows = table(
            batch=batch,
            input_tokens=500,
            draft_tokens=np.array([0.0, 3]),
            acceptance=acceptance,
            draft_cost=0.05,
        )
        alone, guessed = predict(rows).tpot_s
        return guessed / alone

    assert ratio(1, 0.8) < 0.6
    assert ratio(1, 0.0) > 1.1
    assert ratio(256, 0.8) > ratio(1, 0.8)


def test_guesses_widen_the_interval():
    rows = table(draft_tokens=np.array([0.0, 2]), acceptance=0.7, draft_cost=0.03)
    prediction = predict(rows)
    widths = np.log(prediction.tpot_high_s / prediction.tpot_s)
    assert widths[1] > 1.2 * widths[0]


def test_draft_heads_cost_a_layer_and_the_head_and_take_memory():
    heads = drafting(Speculation(tokens=1, acceptance=0.8), HEADS)
    counts = profile(HEADS)
    layer = (counts.active - counts.head) / counts.layers
    assert heads.cost == pytest.approx((layer + counts.head) / counts.active)
    assert heads.held_bytes == HEADS.mtp
    rows = table("deepseek-v3", held_bytes=np.array([0.0, 8e9]))
    held = weight_bytes(points(rows))
    assert held[1] - held[0] == pytest.approx(1e9)


def test_a_draft_model_costs_its_share_of_the_parameters():
    small = find_shape("llama-3-8b")
    model = drafting(Speculation(tokens=3, acceptance=0.7, draft=small), DENSE)
    assert model.cost == pytest.approx(profile(small).active / profile(DENSE).active)
    assert model.held_bytes == pytest.approx(2 * profile(small).total)


@pytest.mark.parametrize(
    ("speculation", "words"),
    [
        (Speculation(tokens=0, acceptance=0.7, draft_cost=0.1), "1 to 16"),
        (Speculation(tokens=17, acceptance=0.7, draft_cost=0.1), "1 to 16"),
        (Speculation(tokens=3, acceptance=1.2, draft_cost=0.1), "0 to 1"),
        (Speculation(tokens=3, acceptance=-0.1, draft_cost=0.1), "0 to 1"),
        (Speculation(tokens=3, acceptance=0.7, draft_cost=1.0), "draft cost"),
        (Speculation(tokens=3, acceptance=0.7), "no draft heads"),
    ],
)
def test_speculation_that_cannot_be_is_refused(speculation, words):
    with pytest.raises(InputError, match=words):
        plan(speculation=speculation)


@pytest.mark.parametrize("hit", [-0.1, 1.01, float("nan")])
def test_a_hit_rate_outside_0_to_1_is_refused(hit):
    with pytest.raises(InputError, match="cache"):
        plan(work={"cache_hit": hit})


def test_adapters_take_memory_for_all_and_time_for_those_in_use():
    size = adapter_bytes(Adapters(count=1, rank=16), DENSE)
    assert size == pytest.approx(2 * 207e6, rel=0.02)  # PEFT: 207M at rank 16 on all linear layers
    bytes_each = size * np.array([0, 1, 1])
    rows = table(adapters=np.array([0.0, 1, 64]), adapter_bytes=bytes_each, batch=8)
    held, read = weight_bytes(points(rows)), decode(points(rows)).weights
    assert (held[2] - held[0]) / (held[1] - held[0]) == pytest.approx(64)
    assert 7 < (read[2] - read[0]) / (read[1] - read[0]) < 8.01
    assert plan(adapters=Adapters(count=64, rank=16)).ranking[0].usd_per_mtok > (
        plan().ranking[0].usd_per_mtok
    )


@pytest.mark.parametrize(("count", "rank"), [(0, 8), (4, 0), (10**6, 8), (4, 10**6)])
def test_adapters_that_cannot_be_are_refused(count, rank):
    with pytest.raises(InputError, match="adapters"):
        adapter_bytes(Adapters(count=count, rank=rank), DENSE)


def test_latent_experts_may_reach_over_nodes_and_others_stay_inside():
    chip = find_chip("h100")
    assert (1, 64, 64) in wide_spreads(HEADS, chip)
    assert wide_spreads(DENSE, chip) == wide_spreads(find_shape("minimax-m2"), chip) == []
    assert max(tp * dp for tp, dp, _ in spreads(DENSE, chip)) == 8
    wide, one_node = (
        ideal(table("deepseek-v3", tp=1, dp=np.array([8, 32]), ep=np.array([8, 32]))),
        1,
    )
    assert wide.step.wire[1] > one_node * wide.step.wire[0]


def test_prefill_may_have_many_ratios_to_decode():
    ratios = {
        option.layout.partition(" x ")[2]
        for option in plan(work={"input_tokens": 6000}, chips=("b200", "h200", "h100")).frontier
        if "prefill" in option.layout
    }
    assert len(ratios) >= 3


def test_a_cache_that_is_split_by_tokens_is_read_and_held_in_parts_and_costs_messages():
    rows = table("deepseek-v3", chip="h200", cp=np.array([1, 2, 8]), batch=1)
    at = points(rows)
    steps = decode(at)
    assert steps.cache[0] / steps.cache == pytest.approx([1, 2, 8])
    assert steps.wire[0] < steps.wire[1] < steps.wire[2]
    added = 2 * at.model.layers * np.array([0, 1, 3])
    assert steps.messages - steps.messages[0] == pytest.approx(added)
    room = capacity(at, memory=memory_bytes(rows))
    assert room / room[0] == pytest.approx([1, 2, 8])
    assert weight_bytes(at)[0] == weight_bytes(at)[2]


def test_what_is_exchanged_are_queries_out_and_answers_back():
    """Llama 3 70B over 16 chips, 8 of which hold copies: 64 heads of 128 on 80 layers."""
    rows = table("llama-3-70b", tp=16, cp=np.array([1, 2]), batch=2)
    wires = decode(points(rows)).wire
    numbers = 2 * 80 * 64 * 128 * (2 - 1) / 16
    network = points(rows).hardware.network[0]
    assert wires[1] - wires[0] == pytest.approx(2 * numbers * 2 / network)


@pytest.mark.parametrize(
    ("model", "tp", "splits"),
    [("llama-3-70b", 8, (1,)), ("llama-3-70b", 16, (1, 2)), ("deepseek-v3", 8, (1, 2, 4, 8))],
)
def test_only_copies_are_split(model, tp, splits):
    assert cache_splits(find_shape(model), tp) == splits


def test_caches_are_split_where_asked_and_it_helps_behind_long_prompts():
    work = {"input_tokens": 60_000, "output_tokens": 1000}
    asked = {"work": work, "chips": ("h200",), "slo": Slo(tpot_s=0.04), "weight_format": "fp8"}
    usual = plan("deepseek-r1", **asked).ranking[0]
    split = plan("deepseek-r1", context_parallel=True, **asked).ranking[0]
    assert "cp" not in usual.layout
    assert "cp 8" in split.layout
    assert split.usd_per_mtok < usual.usd_per_mtok
    assert split.tpot_high_s / split.tpot_s > usual.tpot_high_s / usual.tpot_s
    assert any("by tokens" in note for note in split.notes)
    assert plan(context_parallel=True) == plan()
