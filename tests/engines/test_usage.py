"""Usage in every shape that engines give it: names, places, totals that tell, counts refuted."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.engines.usage import (
    against_text,
    merged_usage,
    openai_usage,
    read_usage,
    usage_in,
)
from suffice.types import JSON, Count, CountSource, Request, Usage

REPORTED, ESTIMATED = CountSource.REPORTED, CountSource.ESTIMATED


def details(prompt: JSON | None = None, output: JSON | None = None) -> JSON:
    tables = {"prompt_tokens_details": prompt, "completion_tokens_details": output}
    return {name: table for name, table in tables.items() if table is not None}


def openai(prompt: object, output: object, total: object = None, **more: object) -> JSON:
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": total, **more}


def read(raw: object, *, reasoning: str = "") -> Usage:
    return read_usage(raw, reasoning=reasoning)


def sides(raw: object) -> tuple[object, ...]:
    usage = read(raw)
    assert usage.input_tokens is not None
    assert usage.output_tokens is not None
    return (*(count.tokens for count in (usage.input_tokens, usage.output_tokens)),)


@pytest.mark.parametrize(
    "raw",
    [
        {"prompt_tokens": 6000, "completion_tokens": 50},
        {"input_tokens": 6000, "output_tokens": 50},
        {"prompt_eval_count": 6000, "eval_count": 50},
        {"promptTokenCount": 6000, "candidatesTokenCount": 50},
        {"inputTokens": 6000, "outputTokens": 50},
        {"prompt_tokens": 6000.0, "completion_tokens": "50"},
        {"prompt_tokens": 0, "completion_tokens": None, "input_tokens": 6000, "output_tokens": 50},
        {"prompt_tokens": 6000, "total_tokens": 6050},
        {"total_tokens": 6050, "completion_tokens": 50},
        {"billed_units": {"input_tokens": 6000, "output_tokens": 50}, "cached_tokens": 64},
        {"prompt_cache_hit_tokens": 40, "prompt_cache_miss_tokens": 5960, "completion_tokens": 50},
        {"promptTokenCount": 5800, "toolUsePromptTokenCount": 200, "candidatesTokenCount": 50},
        {"inputTokens": 5900, "cacheReadInputTokens": 100, "outputTokens": 50},
    ],
)
def test_counts_are_read_under_every_name(raw: JSON) -> None:
    usage = read(raw)
    assert usage.input_tokens == Count(6000, REPORTED)
    assert usage.output_tokens == Count(50, REPORTED)


@pytest.mark.parametrize(
    "raw",
    [
        details({"cached_tokens": 40}),
        {"input_tokens_details": {"cached_tokens": 40}},
        {"prompt_cache_hit_tokens": 40, "prompt_cache_miss_tokens": 60},
        {"cached_tokens": 40},
        {"cache_read_input_tokens": 40},
        {"cached_tokens": 40, **details({"cached_tokens": 0})},
        {"cached_tokens": 40, **details(None)},
        {"num_cached_tokens": 40},
        {"prompt_token_details": {"cached_tokens": 40}},
    ],
)
def test_cache_reads_are_read_under_every_name(raw: JSON) -> None:
    assert read(openai(100, 5, 105) | raw).cache_read_tokens == Count(40, REPORTED)


@pytest.mark.parametrize("value", [None, -1, 2.5, "many", "-3", True, [], {}, 10**12])
def test_what_is_no_count_is_none(value: object) -> None:
    usage = read({"prompt_tokens": value, "completion_tokens": value})
    assert usage == Usage()


ROWS = [
    ("reasoning within", openai(100, 50, 150, **details(None, {"reasoning_tokens": 40})), 100, 50),
    ("reasoning beside", openai(100, 50, 190, **details(None, {"reasoning_tokens": 40})), 100, 90),
    ("cache within", openai(100, 50, 150, **details({"cached_tokens": 80})), 100, 50),
    ("cache beside", openai(20, 50, 150, **details({"cached_tokens": 80})), 100, 50),
    ("both beside", openai(20, 50, 190, cached_tokens=80, reasoning_tokens=40), 100, 90),
    (
        "Anthropic",
        {"input_tokens": 3, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 7,
         "output_tokens": 5},
        100, 5,
    ),
    (
        "Anthropic's names with a total that holds the caches",
        {"input_tokens": 100, "cache_read_input_tokens": 90, "output_tokens": 5,
         "total_tokens": 105},
        100, 5,
    ),
    (
        "LiteLLM",
        openai(100, 5, 105, cache_read_input_tokens=90, cache_creation_input_tokens=0),
        100, 5,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("what", "raw", "prompt", "output"), ROWS)
def test_the_total_tells_what_lies_beside(what: str, raw: JSON, prompt: int, output: int) -> None:
    usage = read(raw)
    assert usage.input_tokens == Count(prompt, REPORTED)
    assert usage.output_tokens == Count(output, REPORTED)


CONTRADICTIONS = [
    ("thoughts in the total alone", openai(100, 50, 400), 100, 300),
    ("a prompt of 0", openai(0, 50, 400), 350, 50),
    ("less in all than in parts", openai(100, 50, 120), 100, 50),
    ("more reasoning than output", openai(100, 50, reasoning_tokens=70), 100, 120),
    ("more cache than prompt", openai(20, 50, **details({"cached_tokens": 80})), 100, 50),
]  # fmt: skip


@pytest.mark.parametrize(("what", "raw", "prompt", "output"), CONTRADICTIONS)
def test_what_cannot_be_explained_is_an_estimate(
    what: str, raw: JSON, prompt: int, output: int
) -> None:
    usage = read(raw)
    assert sides(raw) == (prompt, output)
    assert usage.input_tokens is not None
    assert usage.output_tokens is not None
    assert ESTIMATED in (usage.input_tokens.source, usage.output_tokens.source)


numbers = st.none() | st.integers(0, 400) | st.sampled_from(["7", 7.0, -1])


@given(
    st.dictionaries(
        st.sampled_from(
            ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "cached_tokens",
             "reasoning_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]
        ),
        numbers,
    )
)  # fmt: skip
def test_parts_never_exceed_what_they_are_parts_of(raw: JSON) -> None:
    usage = read(raw)
    if usage.input_tokens and usage.output_tokens:
        cached = [usage.cache_read_tokens, usage.cache_write_tokens]
        assert sum(c.tokens for c in cached if c) <= usage.input_tokens.tokens
        reasoning = usage.reasoning_tokens.tokens if usage.reasoning_tokens else 0
        assert reasoning <= usage.output_tokens.tokens


def test_kinds_fees_tiers_and_stated_costs_are_kept() -> None:
    usage = read(
        openai(
            1000, 500, 1500,
            **details(
                {"audio_tokens": 900, "image_tokens": 0, "cached_tokens": 100,
                 "cached_tokens_details": {"audio_tokens": 60}},
                {"audio_tokens": 400},
            ),
            server_tool_use={"web_search_requests": 3},
            num_sources_used=6,
            prompt_audio_seconds=30,
            service_tier="flex",
            cost=0.0125,
        )
    )  # fmt: skip
    assert {name: count.tokens for name, count in usage.kinds.items()} == {
        "input_audio_tokens": 900,
        "cache_audio_read_tokens": 60,
        "output_audio_tokens": 400,
        "web_searches": 3,
        "search_sources": 6,
        "input_audio_seconds": 30,
    }
    assert usage.service_tier == "flex"
    assert usage.stated_usd == Decimal("0.0125")


def test_calls_beside_a_message_are_counted_with_it() -> None:
    """Claude lists compactions, by the same model, and an advisor's calls, by another."""
    own = {"input_tokens": 45, "cache_read_input_tokens": 100, "output_tokens": 1234}
    message = {"type": "message", **own}
    compaction = {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500}
    usage = read_usage({**own, "iterations": [compaction, message]}, reasoning="")
    assert usage.input_tokens == Count(180_145, REPORTED)
    assert usage.cache_read_tokens == Count(100, REPORTED)
    assert usage.output_tokens == Count(4734, REPORTED)
    assert not usage.kinds
    advisor = {"type": "advisor_message", "model": "claude-opus-4-8", "input_tokens": 823}
    advisor |= {"cache_read_input_tokens": 10, "output_tokens": 1612}
    usage = read_usage({**own, "iterations": [message, advisor, "odd"]}, reasoning="")
    assert usage.input_tokens == Count(145, REPORTED)
    assert {name: count.tokens for name, count in usage.kinds.items()} == {
        "advisor_input_tokens": 833,
        "advisor_output_tokens": 1612,
    }


def test_kinds_are_read_from_lists() -> None:
    prompt = [{"modality": "TEXT", "tokenCount": 10}, {"modality": "AUDIO", "tokenCount": 90}]
    raw = {"promptTokenCount": 100, "candidatesTokenCount": 8, "promptTokensDetails": prompt}
    raw["candidatesTokensDetails"] = [{"modality": "IMAGE", "tokenCount": "7"}, "odd", {}]
    kinds = {"input_audio_tokens": 90, "output_image_tokens": 7}
    assert read(raw).kinds == {name: Count(count, REPORTED) for name, count in kinds.items()}
    writes = [{"ttl": "1h", "inputTokens": 30}, {"ttl": "5m", "inputTokens": 10}]
    usage = read({"inputTokens": 1, "outputTokens": 2, "cacheDetails": writes})
    assert usage.cache_write_tokens == Count(40, REPORTED)
    assert usage.kinds["cache_write_1h_tokens"] == Count(30, REPORTED)


@pytest.mark.parametrize(
    ("traffic", "tier"),
    [("ON_DEMAND_PRIORITY", "priority"), ("ON_DEMAND_FLEX", "flex"), ("ON_DEMAND", "on_demand")],
)
def test_the_traffic_type_of_vertex_is_a_service_tier(traffic: str, tier: str) -> None:
    inside = {"extra_properties": {"google": {"traffic_type": traffic}}}
    assert read(openai(9, 3, 12) | inside).service_tier == tier
    assert read({"promptTokenCount": 9, "trafficType": traffic}).service_tier == tier


@pytest.mark.parametrize(
    "beside",
    [
        {"perf_metrics": {"cached-prompt-tokens": "40"}},  # Fireworks
        {"timings": {"cache_n": 40, "prompt_n": 60}},  # llama.cpp
    ],
)
def test_cached_tokens_are_read_beside_the_usage(beside: JSON) -> None:
    assert read(usage_in({"usage": openai(100, 5, 105), **beside})).cache_read_tokens == Count(
        40, REPORTED
    )
    assert usage_in(beside) is None


def byok(cost: float, *, own_key: bool, upstream: float | None) -> JSON:
    """Write OpenRouter's costs: of any call, and of one with the operator's own key."""
    details = {"upstream_inference_cost": upstream}
    return {"cost": cost, "is_byok": own_key, "cost_details": details}


def test_usages_of_several_choices_share_the_prompt() -> None:
    inner = [openai(9, 5, 14, cached_tokens=4), openai(9, 7, 16, cached_tokens=4)]
    usage = read(usage_in({"choices": [{"usage": told} for told in inner]}))
    assert (usage.input_tokens, usage.output_tokens) == (Count(9, REPORTED), Count(12, REPORTED))
    assert usage.cache_read_tokens == Count(4, REPORTED)


def test_cache_writes_by_lifetime_are_parts_of_all_writes() -> None:
    usage = read(
        {"input_tokens": 3, "cache_creation_input_tokens": 30, "output_tokens": 5,
         "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}}
    )  # fmt: skip
    assert usage.cache_write_tokens == Count(30, REPORTED)
    assert usage.kinds["cache_write_1h_tokens"] == Count(20, REPORTED)
    assert usage.input_tokens == Count(33, REPORTED)


@pytest.mark.parametrize("place", ["cache_creation", "cache_creation_token_details"])
def test_cache_writes_by_lifetime_may_stand_in_the_details(place: str) -> None:
    """DashScope and LiteLLM: a write for an hour costs more than one for five minutes."""
    writes = {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}
    details: JSON = {"cached_tokens": 4, "cache_creation_tokens": 30, place: writes}
    details["web_search_requests"] = 2
    usage = read(openai(99, 5, 104, prompt_tokens_details=details))
    assert usage.kinds["web_searches"] == Count(2, REPORTED)
    assert usage.cache_write_tokens == Count(30, REPORTED)
    assert usage.kinds["cache_write_1h_tokens"] == Count(20, REPORTED)
    assert usage.input_tokens == Count(99, REPORTED)


@pytest.mark.parametrize(
    ("raw", "usd"),
    [
        ({"cost": 0}, Decimal(0)),
        (byok(0.001, own_key=False, upstream=0.001), Decimal("0.001")),
        (byok(0.0001, own_key=True, upstream=0.002), Decimal("0.0021")),
        (byok(0.0001, own_key=True, upstream=None), None),
        ({"cost": {"total_cost": 0.5}}, Decimal("0.5")),
        ({"estimated_cost": 0.5}, Decimal("0.5")),
        ({"cost_in_usd_ticks": 12_345}, Decimal("0.0000012345")),
        ({"cost": "free"}, None),
        ({"cost": -1}, None),
        ({"cost": True}, None),
        ({"cost": float("nan")}, None),
        ({}, None),
    ],
)
def test_a_stated_cost_is_exact_or_unknown(raw: JSON, usd: Decimal | None) -> None:
    assert read(raw).stated_usd == usd


@pytest.mark.parametrize(
    ("usages", "prompt", "output"),
    [
        ([openai(9, 3, 12), {}], 9, 3),
        ([openai(9, 3, 12), openai(0, 0, 0)], 9, 3),
        ([openai(9, 3, 12), {"prompt_tokens": None}], 9, 3),
        ([openai(9, 0, 9), openai(9, 3, 12)], 9, 3),
        ([openai(9, 0, 9), {"completion_tokens": 3}], 9, 3),
        ([{"input_tokens": 9, "output_tokens": 1}, {"output_tokens": 3}], 9, 3),
        ([openai(9, 1, 10), openai(9, 2, 11), openai(9, 3, 12)], 9, 3),
    ],
)
def test_usages_of_one_stream_add_to_each_other(
    usages: list[JSON], prompt: int, output: int
) -> None:
    joined: JSON | None = None
    for usage in usages:
        joined = merged_usage(joined, usage)
    assert sides(joined) == (prompt, output)
    assert read(joined).output_tokens == Count(output, REPORTED)


def held_against(raw: JSON, *, written: str = "", prompt: object = "") -> Usage:
    request = Request(request_id="r", messages=({"role": "user", "content": prompt},))
    return against_text(read(raw), written=written, request=request)


@pytest.mark.parametrize(
    "written", ["word " * 80, "字" * 400, "x" * 4000, "слово " * 80, "\U0001f35e" * 100]
)
@pytest.mark.parametrize("told", [0, 1])
def test_counts_too_small_for_the_text_are_estimates(written: str, told: int) -> None:
    output = held_against(openai(9, told), written=written).output_tokens
    assert output is not None
    assert output.source is ESTIMATED
    assert output.tokens > 40
    parts = [{"type": "text", "text": written}]
    for prompt in (written * 9, [*parts * 9, {"type": "image_url", "image_url": {}}]):
        count = held_against(openai(told, 9), prompt=prompt).input_tokens
        assert count is not None
        assert count.source is ESTIMATED
        assert count.tokens > 40


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("word " * 80, 80),
        ("-" * 1000, 16),
        (" " * 1000, 8),
        ("字" * 400, 130),
        (json.dumps({"a": [0] * 90}), 92),
        ("", 0),
        ("hm", 900),
    ],
)
def test_plausible_counts_are_believed(written: str, told: int) -> None:
    assert held_against(openai(9, told), written=written).output_tokens == Count(told, REPORTED)


def test_clients_are_told_reported_counts_under_the_names_that_they_know() -> None:
    raw = {"input_tokens": 20, "cache_read_input_tokens": 80, "output_tokens": 5, "extra": "kept"}
    assert openai_usage(read(raw), raw) == {
        **raw,
        "prompt_tokens": 100,
        "completion_tokens": 5,
        "total_tokens": 105,
        "prompt_tokens_details": {"cached_tokens": 80},
    }
    for plain in (openai(9, 3, 12), {"prompt_tokens": 9, "completion_tokens": 3}):
        assert openai_usage(read(plain), plain) == plain
