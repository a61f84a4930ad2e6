"""Time to first token: a lone request, what load and chunks add, what is never narrower."""

import numpy as np
import pytest

from suffice.silicon.catalog import find_chip
from suffice.silicon.columns import make_table
from suffice.silicon.first_token import CHUNK_TOKENS, prompt_reading, under_arrivals
from suffice.silicon.models import find_shape
from suffice.silicon.predict import predict
from suffice.silicon.residual import ideal


def grid(model="llama-3-8b", chip="h100", **columns):
    columns = {"engine": 1, "output_tokens": 250, "batch": 1, "input_tokens": 500} | columns
    return make_table((find_shape(model),), (find_chip(chip),), **columns)


def arrivals(table):
    return under_arrivals(table, predict(table))


def test_a_lone_request_takes_its_prompt_and_a_step_and_a_half():
    table = grid()
    parts = prompt_reading(table, predict(table))
    arrived = arrivals(table)
    expected = ideal(table).loaded_read_s + 1.5 * parts.step_s
    assert arrived.ttft_s == pytest.approx(expected, rel=0.05)


def test_measured_tensor_parallel_latency_is_within_the_interval():
    table = grid("llama-3-70b", tp=4, batch=40, input_tokens=547)
    arrived = arrivals(table)
    assert arrived.ttft_low_s[0] < 0.092 < arrived.ttft_high_s[0]
    assert arrived.ttft_s[0] < 0.15 < predict(table).ttft_s[0]


def test_a_long_prompt_waits_for_a_step_after_each_chunk():
    lengths = np.array([CHUNK_TOKENS, CHUNK_TOKENS + 1, 4 * CHUNK_TOKENS], float)
    parts = prompt_reading(grid(input_tokens=lengths), predict(grid(input_tokens=lengths)))
    assert parts.between_s / parts.step_s == pytest.approx([1, 2, 4])


def test_load_makes_a_prompt_wait_and_widens_the_interval():
    arrived = arrivals(grid(batch=np.array([1.0, 16, 64, 256])))
    assert (np.diff(arrived.ttft_s) > 0).all()
    width = arrived.ttft_high_s / arrived.ttft_low_s
    assert width[1] < width[2] < width[3]
    assert width[3] > 2 * width[0]


def test_experts_read_longer_than_dense_layers_of_the_same_work():
    dense, mixed = grid(), grid("mixtral-8x7b", tp=2)
    ratios = [
        prompt_reading(t, predict(t)).extra_s / ideal(t).loaded_read_s for t in (dense, mixed)
    ]
    assert ratios[0] < 0.25
    assert ratios[1] > 2


def test_a_chip_never_measured_keeps_its_wider_interval():
    seen, foreign = arrivals(grid()), arrivals(grid(chip="mtia-400"))
    assert foreign.ttft_high_s / foreign.ttft_s >= seen.ttft_high_s / seen.ttft_s
    table = grid(chip="mtia-400")
    closed = predict(table)
    assert foreign.ttft_high_s / foreign.ttft_s >= 0.999 * closed.ttft_high_s / closed.ttft_s


def test_seconds_per_token_are_left_alone():
    table = grid(batch=np.array([1.0, 64]))
    assert np.array_equal(arrivals(table).tpot_s, predict(table).tpot_s)
