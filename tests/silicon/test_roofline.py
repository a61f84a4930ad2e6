"""The physics: laws in their limits, and against calculations by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.silicon import roofline
from suffice.silicon.catalog import find_chip
from suffice.silicon.columns import make_table, memory_bytes, points
from suffice.silicon.models import find_shape
from suffice.silicon.roofline import soft_maximum, unique_experts
from suffice.silicon.routing import skewed_experts


def at(model="llama-3-8b", chip="h100", **columns):
    columns = {"batch": 1, "input_tokens": 1000, "output_tokens": 1000} | columns
    return points(make_table((find_shape(model),), (find_chip(chip),), **columns))


def test_unique_experts_by_hand():
    counts = unique_experts(np.float64(128), np.float64(4), np.array([1.0, 8, 32, 64, 128]))
    assert counts == pytest.approx([4.0, 28.7, 81.7, 111.2, 125.8], abs=0.05)


def test_unique_experts_agree_with_random_routing():
    rng = np.random.default_rng(0)
    drawn = [
        len({e for _ in range(16) for e in rng.choice(64, 8, replace=False)}) for _ in range(400)
    ]
    law = unique_experts(np.float64(64), np.float64(8), np.float64(16))
    assert np.mean(drawn) == pytest.approx(float(law), abs=0.3)


@given(experts=st.integers(2, 512), share=st.floats(0.01, 1), tokens=st.floats(1, 1e4))
def test_unique_experts_stay_between_k_and_all(experts, share, tokens):
    active = max(1.0, np.floor(share * experts))
    counts = float(unique_experts(np.float64(experts), np.float64(active), np.float64(tokens)))
    assert active - 1e-6 <= counts <= experts + 1e-6


def test_skewed_routing_touches_fewer_and_no_skew_is_the_law():
    tokens = np.array([1.0, 16, 64])
    law = unique_experts(np.float64(128), np.float64(4), tokens)
    assert skewed_experts(128, 4, tokens=tokens, exponent=0.0) == pytest.approx(law, rel=1e-6)
    skewed = skewed_experts(128, 4, tokens=tokens, exponent=1.1)
    assert skewed[0] == pytest.approx(4, abs=1e-3)
    assert (skewed[1:] < law[1:]).all()


def test_a_soft_maximum_lies_between_the_largest_and_the_sum():
    a, b = np.float64(3), np.float64(4)
    assert soft_maximum([a, b], power=1) == pytest.approx(7)
    assert soft_maximum([a, b], power=2) == pytest.approx(5)
    assert soft_maximum([a, b], power=60) == pytest.approx(4, rel=0.01)


def test_one_token_on_one_chip_is_the_weights_over_the_bandwidth():
    step = roofline.decode(at())
    weights = 2 * (8.03e9 - 128256 * 4096)  # bf16, the embedding table is not read
    assert step.weights == pytest.approx(weights / 3.35e12, rel=0.001)
    assert step.experts == 0
    assert step.wire == 0
    assert step.messages == 0


def test_cache_reads_by_hand_and_cannot_be_split_past_the_heads():
    context = 1000 + 1000 / 2
    one = roofline.decode(at(batch=4)).cache
    assert one == pytest.approx(4 * 131072 * context / 3.35e12, rel=1e-6)
    assert roofline.decode(at(batch=4, tp=8)).cache == pytest.approx(one / 8)
    assert roofline.decode(at(batch=4, tp=16)).cache == pytest.approx(one / 8)


def test_tensor_parallelism_copies_a_latent_cache_and_data_parallelism_splits_it():
    columns = {
        "model": "deepseek-v3",
        "chip": "h200",
        "batch": 64,
        "dense_bits": 8,
        "expert_bits": 8,
    }
    tensor = roofline.decode(at(**columns, tp=8)).cache
    data = roofline.decode(at(**columns, tp=1, dp=8, ep=8)).cache
    assert tensor == pytest.approx(8 * data)


def test_a_window_caps_what_is_read():
    short = roofline.decode(at("gpt-oss-120b", input_tokens=100, output_tokens=2)).cache
    long = roofline.decode(at("gpt-oss-120b", input_tokens=10_000, output_tokens=2)).cache
    by_hand = (18 * 1024 * 10_001 + 18 * 1024 * 128) / (36 * 1024 * 101)
    assert long / short == pytest.approx(by_hand, rel=1e-3)


def test_linear_attention_reads_the_same_at_any_length():
    step = [
        roofline.decode(
            at("qwen3-5-397b-a17b", "b300", tp=8, input_tokens=n, output_tokens=2)
        ).cache
        for n in (1000, 101_000)
    ]
    growth = 30720 * 100_000 / 7.75e12 / 2
    assert step[1] - step[0] == pytest.approx(growth, rel=0.01)


def test_expert_parallelism_splits_experts_and_pays_on_the_wire():
    columns = {"model": "gpt-oss-120b", "chip": "b300", "batch": 64}
    alone = roofline.decode(at(**columns))
    spread = roofline.decode(at(**columns, dp=8, ep=8))
    assert spread.experts == pytest.approx(alone.experts / 8)
    assert spread.wire > 0
    assert spread.messages > 0


@pytest.mark.parametrize(("law", "count"), [("all", 128), ("topk", 4)])
def test_the_other_laws_read_all_or_k(law, count):
    step = roofline.decode(at("gpt-oss-120b", batch=32), experts=law)
    assert step.experts == pytest.approx(36 * count * 3 * 2880 * 2880 * 2 / 3.35e12)


def test_prefill_flops_by_hand():
    at_one = at(input_tokens=2000)
    work = roofline.prefill(at_one, tokens=np.float64(2000))
    assert work.compute == pytest.approx(2 * 2000 * 7.50e9 / 989e12, rel=0.002)
    scores = 32 * 4 * 32 * 128 * 2000 * 1000
    assert work.compute_attention == pytest.approx(scores / 989e12, rel=1e-6)


def test_capacity_by_hand_and_a_full_memory_cuts_the_batch():
    table = make_table(
        (find_shape("llama-3-8b"),),
        (find_chip("h100"),),
        batch=1000,
        input_tokens=7000,
        output_tokens=2000,
    )
    held = points(table).work.batch
    room = 0.88 * 85.9e9 - 2 * 8.03e9
    assert held == pytest.approx(room / (131072 * 8000), rel=0.001)
    assert memory_bytes(table) == 85.9e9


def test_beyond_the_scale_up_network_messages_are_slower():
    inside = roofline.decode(at("llama-3-70b", batch=64, tp=8)).wire
    outside = roofline.decode(at("llama-3-70b", batch=64, tp=16)).wire
    assert outside > 5 * inside


def test_a_pipeline_is_slower_by_its_hops_and_holds_more():
    columns = {"model": "llama-3-70b", "dense_bits": 8}
    one = roofline.decode(at(**columns, tp=8, batch=16))
    four = roofline.decode(at(**columns, tp=8, pp=4, batch=64))
    for term in ("weights", "cache", "compute", "compute_attention", "sequences"):
        assert getattr(four, term) == pytest.approx(getattr(one, term))
    hops = 3 * 8192 * 2 * 16 / 50e9  # between servers, over the network
    assert four.wire - one.wire == pytest.approx(hops)
    assert four.messages - one.messages == 3
    held = [at(**columns, tp=8, pp=pp, batch=1e6).work.batch * pp for pp in (1, 4)]
    assert held[1] > 4 * held[0]
