"""Streams whose choices hold messages in place of deltas, or neither: clients get deltas."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.engines.fold import Fold
from suffice.engines.reply import Reply, ReplyChoice
from suffice.types import JSON, Usage

PIECES = st.lists(st.sampled_from(["a", "bc", " d", "ü😀", "\n\n", "<x>"]), unique=True, max_size=6)
CALL: JSON = {"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
OTHER: JSON = {**CALL, "id": "u"}


def passed(choices: list[JSON]) -> tuple[list[JSON], ReplyChoice]:
    """Fold a stream of one choice: the choices that go on, and what it came to."""
    fold = Fold()
    data = b"".join(
        fold.feed(b"data: " + json.dumps({"model": "m", "choices": [choice]}).encode() + b"\n\n")
        for choice in choices
    )
    events = [json.loads(event[5:]) for event in data.split(b"\n\n") if event]
    return [event["choices"][0] for event in events], fold.reply().choices[0]


def told(choices: list[JSON], name: str) -> str:
    assert not any("message" in choice for choice in choices)
    return "".join(choice["delta"].get(name) or "" for choice in choices)


def streamed(habit: str, thoughts: list[str], texts: list[str]) -> list[JSON]:
    """Write a stream as one kind of server does."""
    parts: list[JSON] = [{"reasoning_content": piece} for piece in thoughts]
    parts += [{"content": piece} for piece in texts]
    sums = [
        {"reasoning_content": "".join(thoughts[: i + 1]), "content": "".join(texts[:j])}
        for i, j in [
            *((i, 0) for i in range(len(thoughts))),
            *((len(thoughts), j + 1) for j in range(len(texts))),
        ]
    ]
    whole = {"reasoning_content": "".join(thoughts), "content": "".join(texts)}
    end: JSON = {"index": 0, "finish_reason": "stop"}
    match habit:
        case "pieces":
            return [*({"index": 0, "message": part} for part in parts), end | {"message": {}}]
        case "sums":
            return [*({"index": 0, "message": part} for part in sums), end | {"message": whole}]
        case "text":
            return [*({"index": 0, "text": piece} for piece in texts), end]
        case "beside":
            pairs = zip(parts, sums, strict=True)
            return [*({"index": 0, "delta": a, "message": b} for a, b in pairs), end]
        case "after":
            deltas = [{"index": 0, "delta": part} for part in parts]
            return [*deltas, end | {"delta": {"content": ""}, "message": whole}]
    return [end | {"message": whole}]


@pytest.mark.parametrize("habit", ["pieces", "sums", "beside", "after", "whole", "text"])
@given(thoughts=PIECES, texts=PIECES)
def test_messages_become_deltas_with_each_text_once(
    habit: str, thoughts: list[str], texts: list[str]
) -> None:
    thoughts = [] if habit == "text" else thoughts
    choices, choice = passed(streamed(habit, thoughts, texts))
    assert told(choices, "reasoning_content") == choice.reasoning == "".join(thoughts)
    assert told(choices, "content") == choice.text == "".join(texts)
    assert choices[-1]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "choices",
    [
        [{"message": {"tool_calls": [CALL, OTHER]}, "finish_reason": "tool_calls"}],
        [{"message": {"tool_calls": [CALL]}}, {"message": {"tool_calls": [CALL, OTHER]}}],
        [{"message": {"tool_calls": [CALL]}}, {"message": {"tool_calls": [OTHER]}}],
        [
            {"delta": {"tool_calls": [{**CALL, "index": 0}, {**OTHER, "index": 1}]}},
            {"message": {"tool_calls": [CALL, OTHER]}},
        ],
        [{"delta": {"content": "Ok"}}, {"message": {"tool_calls": [CALL, OTHER]}}],
    ],
)
def test_each_call_of_messages_is_told_once(choices: list[JSON]) -> None:
    ends = [] if choices[-1].get("finish_reason") else [{"finish_reason": "tool_calls"}]
    events, choice = passed([*choices, *ends])
    parts = [part for event in events for part in event["delta"].get("tool_calls", ())]
    assert [(part["index"], part["id"]) for part in parts] == [(0, "t"), (1, "u")]
    assert [call["id"] for call in choice.tool_calls] == ["t", "u"]
    assert all(call["function"]["arguments"] == '{"a": 1}' for call in choice.tool_calls)


def test_a_single_call_may_come_without_its_list() -> None:
    """huggingface/text-generation-inference wrote one call as an object, whole and in parts."""
    begin = {**CALL, "index": 0, "function": {"name": "f", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"a": 1}'}}
    parts = [{"delta": {"tool_calls": part}} for part in (begin, more)]
    events, choice = passed([*parts, {"delta": {}, "finish_reason": "tool_calls"}])
    told_calls = [part for event in events for part in event["delta"].get("tool_calls", ())]
    assert told_calls == [begin, more]
    assert choice.tool_calls == (CALL,)
    reply = Reply()
    choice_told = {"message": {"tool_calls": CALL}, "finish_reason": "tool_calls"}
    reply.add({"choices": [choice_told]})
    [cleaned] = reply.cleaned({"choices": [choice_told]}, usage=Usage())["choices"]
    assert cleaned["message"]["tool_calls"] == [CALL]


@pytest.mark.parametrize("part", [{}, {"delta": None}, {"delta": None, "message": None}])
def test_every_choice_of_a_stream_has_a_delta(part: dict[str, Any]) -> None:
    events, choice = passed([{"delta": {"content": "4"}}, {**part, "finish_reason": "stop"}])
    assert events[-1]["delta"] == {}
    assert choice.text == "4"
