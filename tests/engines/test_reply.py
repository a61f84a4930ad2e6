from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.engines.reply import Reply, effort_seen
from suffice.engines.usage import read_usage
from suffice.errors import EngineError, EngineProtocolError
from suffice.types import JSON, Count, CountSource, Effort, Finish, Rung, Usage, estimated
from suffice.units import TOKENS_PER_MTOK, picousd


def event(index: int = 0, finish: str | None = None, **part: object) -> JSON:
    return {"choices": [{"index": index, "delta": part, "finish_reason": finish}]}


def read(*events: JSON) -> Reply:
    reply = Reply()
    for one in events:
        reply.add(one)
    return reply


def token(text: str, logprob: float) -> JSON:
    return {"token": text, "logprob": logprob}


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning": "hm", "content": "4"},  # vLLM
        {"reasoning_content": "hm", "content": "4"},  # SGLang, llama.cpp, older vLLM
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "4"},
            ]
        },  # Mistral
        {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "4"}]},
        {"content": "<think>hm</think>4"},  # no parser
        {"content": "[THINK]hm[/THINK]4"},
    ],
)
def test_reasoning_is_found_wherever_an_engine_puts_it(message: JSON) -> None:
    for part in ("message", "delta"):
        item = {"index": 0, part: message, "finish_reason": "stop"}
        (choice,) = read({"choices": [item]}).choices
        assert (choice.reasoning, choice.text) == ("hm", "4")


def test_a_server_that_parts_reasoning_keeps_tags_in_the_text() -> None:
    (choice,) = read(
        event(content="\n"), event(reasoning="hm"), event(content="<think>"), event(finish="stop")
    ).choices
    assert (choice.reasoning, choice.text) == ("hm", "\n<think>")


def test_what_is_held_back_comes_out_at_the_end() -> None:
    reply = Reply()
    assert reply.add(event(content="<thi")) == []
    (chunk,) = reply.add(event(finish="length"))
    assert chunk.text == "<thi"
    assert reply.choices[0].finish is Finish.LENGTH


def test_a_lone_closing_tag_is_parted_only_on_request() -> None:
    (choice,) = read(event(content="hm</think>4", finish="stop")).choices
    assert choice.text == "hm</think>4"
    choice.split_unopened()
    assert (choice.reasoning, choice.text) == ("hm", "4")
    (choice,) = read(event(reasoning="hm"), event(content="a</think>b", finish="stop")).choices
    choice.split_unopened()
    assert (choice.reasoning, choice.text) == ("hm", "a</think>b")


def test_a_refusal_is_the_answer() -> None:
    assert read(event(content=None, refusal="No.", finish="stop")).choices[0].text == "No."


@pytest.mark.parametrize(
    ("finish", "means"),
    [
        ("stop", Finish.STOP),
        ("length", Finish.LENGTH),
        ("model_length", Finish.LENGTH),
        ("tool_calls", Finish.TOOL_CALLS),
        ("function_call", Finish.TOOL_CALLS),
        ("content_filter", Finish.CONTENT_FILTER),
        ("abort", Finish.CANCELLED),
    ],
)
def test_reasons_to_finish(finish: str, means: Finish) -> None:
    reply = read(event(content="4"))
    assert not reply.finished
    reply.add(event(finish=finish))
    assert reply.finished
    assert reply.choices[0].finish is means


def test_empty_reasons_are_none() -> None:
    assert not read(event(content="4", finish="")).finished


def test_tool_calls_are_put_together_from_pieces() -> None:
    call = {"index": 0, "id": "a", "type": "function"}
    reply = read(
        event(tool_calls=[call | {"function": {"name": "f", "arguments": ""}}]),
        event(tool_calls=[{"index": 0, "function": {"arguments": '{"x"'}}]),
        event(tool_calls=[{"index": 1, "id": "b", "function": {"name": "g"}}]),
        event(tool_calls=[{"index": 0, "id": None, "function": {"arguments": ": 1}"}}]),
        event(tool_calls=[{"index": 1, "function": {"name": None, "arguments": {"y": 2}}}]),
        event(finish="tool_calls"),
    )
    assert reply.choices[0].tool_calls == (
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"id": "b", "function": {"name": "g", "arguments": '{"y":2}'}},
    )


def test_whole_tool_calls_need_no_index() -> None:
    calls = [{"id": i, "function": {"name": i, "arguments": "{}"}} for i in ("a", "b")]
    reply = read({"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]})
    assert reply.choices[0].tool_calls == tuple(calls)


def test_samples_come_in_the_order_of_their_index() -> None:
    reply = read(event(1, content="b"), event(0, content="a"), event(1, "stop"), event(0, "stop"))
    assert [choice.text for choice in reply.choices] == ["a", "b"]


def test_logprobs_are_those_of_all_tokens_reasoning_included() -> None:
    tokens = [("h", -1.0), ("m", -2.0), ("</think>", -3.0), ("4", -4.0), ("2", -5.0), ("<e>", -6.0)]
    entries = [token(*pair) for pair in tokens]
    item = {"message": {"content": "42"}, "logprobs": {"content": entries}, "finish_reason": "stop"}
    (plain,) = read({"choices": [item]}).choices
    item["message"] = {"content": "42", "reasoning": "hm"}
    (thought,) = read({"choices": [item]}).choices
    assert plain.logprobs == thought.logprobs == (-1.0, -2.0, -3.0, -4.0, -5.0, -6.0)


def test_answers_without_logprobs_have_none() -> None:
    assert read(event(content="4", finish="stop")).choices[0].logprobs is None


@pytest.mark.parametrize(
    "shape",
    [
        None,
        [],
        "text",
        {"choices": 3},
        {"choices": [None]},
        {"choices": [{"delta": "text"}]},
        {"choices": [{"delta": {"content": 3}}]},
        {"choices": [{"delta": {"content": ["text"]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": "f"}]}}]},
        {"choices": [{"delta": {}, "logprobs": []}, {"logprobs": [1], "delta": {}}]},
    ],
)
def test_other_shapes_are_protocol_errors(shape: object) -> None:
    with pytest.raises(EngineProtocolError) as caught:
        Reply().add(shape)
    assert caught.value.hint


NONSENSE = st.sampled_from([None, True, 3, 2.5, "", "text", [], ["text"], {}, {"a": 1}, "stop"])
TEXTS = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(("type", "text"), NONSENSE)))
FUNCTIONS = st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "arguments"), NONSENSE))
PARTS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("reasoning", "reasoning_content", "refusal"), NONSENSE),
        "content": NONSENSE | TEXTS,
        "tool_calls": NONSENSE
        | st.lists(st.fixed_dictionaries({"function": FUNCTIONS | NONSENSE, "index": NONSENSE})),
    },
)
ENTRIES = st.lists(st.fixed_dictionaries({"token": NONSENSE, "logprob": NONSENSE}), max_size=2)
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "index": NONSENSE,
        "delta": PARTS | NONSENSE,
        "message": PARTS | NONSENSE,
        "finish_reason": NONSENSE,
        "logprobs": NONSENSE | st.fixed_dictionaries({"content": ENTRIES | NONSENSE}),
    },
)
EVENTS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICES | NONSENSE, max_size=2) | NONSENSE},
    optional={
        **dict.fromkeys(("model", "error"), NONSENSE),
        "usage": NONSENSE
        | st.dictionaries(
            st.sampled_from(
                ["prompt_tokens", "prompt_tokens_details", "completion_tokens_details"]
            ),
            NONSENSE,
        ),
    },
)


@settings(deadline=None)
@given(st.lists(EVENTS, max_size=3))
def test_no_nonsense_gets_past_the_errors_of_the_tree(events: list[JSON]) -> None:
    reply = Reply(prefill="te")
    try:
        for one in events:
            reply.add(one)
    except EngineError:
        return
    for choice in reply.choices:
        choice.split_unopened()
        assert isinstance(choice.written, str)
        assert isinstance(choice.logprobs, tuple | None)
    assert isinstance(read_usage(reply.usage, reasoning=""), Usage)


@pytest.mark.parametrize("told", [None, {}, [], {"prompt_tokens": None}, {"completion_tokens": -1}])
def test_counts_that_are_not_told_are_none(told: object) -> None:
    assert read_usage(told, reasoning="") == Usage()


@pytest.mark.parametrize(
    "told",
    [
        {"completion_tokens_details": {"reasoning_tokens": 5}},
        {"reasoning_tokens": 5},  # SGLang
        {"completion_tokens_details": {"reasoning_tokens": None}, "reasoning_tokens": 5},
    ],
)
def test_reasoning_tokens_are_read_where_they_are(told: JSON) -> None:
    assert read_usage(told, reasoning="").reasoning_tokens == Count(5, CountSource.REPORTED)


def test_no_reasoning_tokens_are_believed_only_where_none_are_seen() -> None:
    told = {"reasoning_tokens": 0}
    assert read_usage(told, reasoning="").reasoning_tokens == Count(0, CountSource.REPORTED)
    assert read_usage(told, reasoning="hm").reasoning_tokens is None


@pytest.mark.parametrize("field", ["cache_write_tokens", "created_cache_tokens"])
def test_cache_writes_have_two_names(field: str) -> None:
    usage = read_usage({"prompt_tokens_details": {field: 3}}, reasoning="")
    assert usage.cache_write_tokens == Count(3, CountSource.REPORTED)


def test_flags_are_no_counts() -> None:
    assert read_usage({"prompt_tokens": True}, reasoning="").input_tokens is None


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2)])
def test_estimates_round_up(text: str, tokens: int) -> None:
    assert estimated(text) == Count(tokens, CountSource.ESTIMATED)


@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
def test_a_count_that_no_call_can_have_is_none(field: str) -> None:
    assert read_usage({field: 10**30}, reasoning="") == Usage()
    assert read_usage({field: 10**9 + 1}, reasoning="") == Usage()


def test_what_a_believed_count_costs_fits_the_books() -> None:
    count = read_usage({"prompt_tokens": 10**9}, reasoning="").input_tokens
    assert count is not None
    assert picousd(count.tokens * Decimal(1000) / TOKENS_PER_MTOK) < 2**63  # at $1,000 a million


def test_estimates_count_bytes() -> None:
    assert estimated("日本語文").tokens == 3


def seen(
    effort: Effort | None,
    *,
    reasoning: str = "",
    tokens: int | None = None,
    shows: bool = False,
    budget: int | None = None,
    samples: int = 1,
) -> bool | None:
    rung = Rung(name="r", engine="e", model="m", effort=effort, thinking_budget_tokens=budget)
    count = None if tokens is None else Count(tokens, CountSource.REPORTED)
    return effort_seen(
        rung,
        Usage(reasoning_tokens=count),
        reasoning=reasoning,
        shows_reasoning=shows,
        samples=samples,
    )


def test_a_rung_without_effort_has_nothing_to_see() -> None:
    assert seen(None, reasoning="hm", tokens=5, shows=True) is None


def test_no_thinking_is_seen_in_a_count_or_in_an_open_reply() -> None:
    assert seen(Effort.NONE) is None
    assert seen(Effort.NONE, tokens=0) is True
    assert seen(Effort.NONE, shows=True) is True
    assert seen(Effort.NONE, tokens=1) is False
    assert seen(Effort.NONE, reasoning="hm") is False


@pytest.mark.parametrize("effort", [e for e in Effort if e is not Effort.NONE])
def test_thinking_is_seen_in_a_count_or_in_the_text(effort: Effort) -> None:
    slight = effort in {Effort.MINIMAL, Effort.LOW}
    assert seen(effort) is None
    assert seen(effort, tokens=1) is True
    assert seen(effort, reasoning="hm") is True
    assert seen(effort, tokens=0) is (None if slight else False)
    assert seen(effort, shows=True) is (None if slight else False)


@pytest.mark.parametrize(
    ("tokens", "samples", "kept"), [(100, 1, True), (157, 1, True), (158, 1, False), (300, 2, True)]
)
def test_a_budget_that_is_passed_was_ignored(tokens: int, samples: int, kept: bool) -> None:
    assert seen(Effort.HIGH, tokens=tokens, budget=100, samples=samples) is kept
    assert seen(Effort.HIGH, reasoning="hm", budget=100) is True
