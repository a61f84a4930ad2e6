"""Intervals widen with everything that was never measured, and say nothing narrower for it."""

import numpy as np
import pytest

from suffice.silicon.catalog import find_chip
from suffice.silicon.columns import make_table
from suffice.silicon.first_token import under_arrivals
from suffice.silicon.intervals import (
    NOVELTIES,
    TERMS,
    Coverage,
    Interval,
    half_width,
    novelties,
    split_version,
    version_side,
)
from suffice.silicon.measured import Record, engine_index, engine_release, table_of
from suffice.silicon.models import find_shape
from suffice.silicon.predict import predict
from suffice.silicon.residual import trained

MEASURED = Coverage(
    vendors=("nvidia",),
    groups=(("llama-3-70b", "h100", 1), ("llama-3-8b", "h200", 1), ("llama-3-70b", "h200", 0)),
    formats=(("h100", 1, 1), ("h200", 1, 1), ("h200", 2, 2)),
)


def table(model="llama-3-70b", chip="h100", **columns):
    columns = {"engine": 1, "tp": 8, "dense_bits": 8, "expert_bits": 8, "batch": 16} | columns
    lengths = {"input_tokens": 1000, "output_tokens": 1000}
    return make_table((find_shape(model),), (find_chip(chip),), **(lengths | columns))


def novel(**columns):
    """Names of NOVELTIES of one row."""
    flags = novelties(table(**columns), MEASURED)[:, 0]
    return {name for name, flag in zip(NOVELTIES, flags, strict=True) if flag}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, set()),
        ({"model": "qwen3-32b"}, {"model"}),
        ({"chip": "b200"}, {"chip"}),
        ({"chip": "mi300x"}, {"chip", "vendor"}),
        ({"engine": 2}, {"engine"}),
        ({"engine": -1}, {"engine"}),
        ({"model": "llama-3-8b"}, {"group"}),
        ({"dense_bits": 16, "expert_bits": 16}, {"format"}),
        ({"dense_bits": 4.25}, {"format"}),
        ({"version": -1}, {"version"}),
        ({"version": 1}, {"version"}),
        ({"pp": 2}, {"chip", "vendor"}),
        (
            {"model": "qwen3-32b", "chip": "gaudi3", "engine": -1},
            {"model", "chip", "vendor", "engine"},
        ),
    ],
)
def test_each_novelty_is_seen_once(row, expected):
    assert novel(**row) == expected


def interval(**weights):
    values = {"one": -1.0} | dict.fromkeys(TERMS[1:], 0.2) | weights
    return Interval(
        weights=tuple(values[name] for name in TERMS),
        quantile=1.1,
        few_sources=1.4,
        few_engines=1.8,
    )


def half(source=1.0, distance=0.5, **columns):
    rows = table(**columns)
    terms = dict.fromkeys(TERMS[1:6], np.zeros(1)) | {
        "source": np.full(1, source),
        "distance": np.full(1, distance),
    }
    return float(half_width(interval(), terms, unseen=novelties(rows, MEASURED))[0])


@pytest.mark.parametrize(
    "unknown",
    [{"model": "qwen3-32b"}, {"chip": "b200"}, {"engine": -1}, {"version": 1}, {"distance": 1.5}],
)
def test_every_novelty_and_distance_widen(unknown):
    assert half(**unknown) > 1.05 * half()


def test_a_new_source_is_wider_than_one_that_was_trained_on():
    assert half(source=1.0) == pytest.approx(1.4 * np.exp(0.2) * half(source=0.0))


def test_no_interval_is_wider_than_a_factor_of_twelve():
    assert half(distance=50.0) <= 2.5


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("vllm", ("vllm", "")),
        ("vLLM 0.6.3", ("vLLM", "0.6.3")),
        ("vllm@0.6.3.post1", ("vllm", "0.6.3.post1")),
        ("sglang v0.5.6.post2", ("sglang", "0.5.6.post2")),
        ("TensorRT-LLM:1.2.0rc6", ("TensorRT-LLM", "1.2.0rc6")),
        ("tensorrt_llm-0.20", ("tensorrt_llm", "0.20")),
        ("ATOM", ("ATOM", "")),
    ],
)
def test_an_engine_and_its_release_are_told_apart(text, parts):
    assert split_version(text) == parts


@pytest.mark.parametrize(
    ("version", "side"),
    [("0.10.2", -1), ("0.11", 0), ("0.11.2", 0), ("0.19.0", 0), ("0.19.1", 1), ("1", 1), ("", 0)],
)
def test_releases_are_compared_by_number(version, side):
    assert version_side(version, ("0.11.2", "0.19.0")) == side


def record(engine, model="llama-3-70b", chip="h100", **fields):
    values = {"batch": 16, "input_tokens": 1000, "output_tokens": 1000, "tp": 4} | fields
    return Record(model=model, chip=chip, engine=engine, dense_format="fp8", **values)


def width(*records):
    prediction = predict(table_of(records))
    return np.log(prediction.tpot_high_s / prediction.tpot_s)


def test_what_ships_widens_for_releases_engines_and_short_answers_behind_long_prompts():
    usual, older, newer, foreign = width(
        record("vllm"), record("vllm 0.6"), record("vllm 9.0"), record("lmdeploy")
    )
    assert min(older, newer, foreign) > 1.2 * usual
    long = width(record("vllm", input_tokens=32_000, output_tokens=128, batch=32))[0]
    assert long > 1.2 * usual


def test_engines_of_2024_are_slower_and_of_no_effect_where_no_release_is_named():
    new, old = predict(table_of([record("vllm"), record("vllm 0.6")])).tpot_s
    assert old / new == pytest.approx(trained().older["nvidia"], rel=1e-5)
    assert engine_index("vllm 0.6") == engine_index("vllm") == 1
    assert (engine_release("vllm"), engine_release("vllm 0.6"), engine_release("x 1")) == (0, -1, 0)


def test_the_first_token_of_a_chip_never_measured_is_no_surer_than_its_steps():
    rows = table_of([record("vllm", chip="tpu-v6e")])
    prediction = under_arrivals(rows, predict(rows))
    steps = prediction.tpot_high_s / prediction.tpot_s
    assert (prediction.ttft_high_s / prediction.ttft_s >= steps - 1e-9).all()
