"""Chat completions drawn at random, whole and cut into chunks, for the APIs beside chat."""

from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import strategies as st

JSON = dict[str, Any]
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 5,
    "total_tokens": 25,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
words = st.text(max_size=12)
arguments = st.dictionaries(st.text(max_size=3), st.integers(-9, 9) | words, max_size=2)


@st.composite
def replies(draw: st.DrawFn) -> JSON:
    """Draw a reply that thinks, says something, and calls tools, or not."""
    message: JSON = {"role": "assistant", "content": draw(words) or None}
    if thought := draw(words):
        message["reasoning_content"] = thought
    calls = [
        {
            "id": f"call_{i}",
            "type": "function",
            "function": {"name": f"f{i}", "arguments": msgspec.json.encode(given).decode()},
        }
        for i, given in enumerate(draw(st.lists(arguments, max_size=2)))
    ]
    if calls:
        message["tool_calls"] = calls
    finish = "tool_calls" if calls else draw(st.sampled_from(["stop", "length"]))
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"model": "m", "created": 1700000000, "choices": [choice], "usage": USAGE}


def chunks(reply: JSON, cuts: list[int]) -> Iterator[JSON]:
    """Cut a reply into chunks, each text at the places that `cuts` names in turn."""
    left = iter([*cuts] * 50)
    [choice] = reply["choices"]
    for delta in _deltas(choice["message"], left):
        yield _chunk(reply, {"index": 0, "delta": delta, "finish_reason": None})
    yield _chunk(reply, {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]})
    yield {"model": reply["model"], "choices": [], "usage": reply["usage"]}


STYLES = ["index", "no index", "index 0", "id of each part"]


def call_chunks(calls: list[JSON], *, style: str) -> Iterator[JSON]:
    """Stream calls of f0, f1 ... with the ids c0, c1 ..., in the style of some server."""
    for number, given in enumerate(calls):
        text = msgspec.json.encode(given).decode()
        for i, part in enumerate((text[:1], text[1:4], text[4:])):
            call: JSON = {"function": {"arguments": part}}
            if i == 0:
                call = {"id": f"c{number}", "function": {"name": f"f{number}", "arguments": part}}
            elif style == "id of each part":
                call["id"] = f"c{number}-{i}"
            if style != "no index":
                call["index"] = 0 if style == "index 0" else number
            choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}
            yield {"model": "m", "choices": [choice]}


def _chunk(reply: JSON, choice: JSON) -> JSON:
    return {"model": reply["model"], "created": reply["created"], "choices": [choice]}


def _deltas(message: JSON, left: Iterator[int]) -> Iterator[JSON]:
    yield {"role": "assistant", "content": ""}
    for field in ("reasoning_content", "content"):
        for text in _cut(message.get(field) or "", next(left)):
            yield {field: text}
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        first = {**call, "index": index, "function": {**function, "arguments": ""}}
        yield {"tool_calls": [first]}
        for text in _cut(function["arguments"], next(left)):
            yield {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


def _cut(text: str, at: int) -> list[str]:
    return [part for part in (text[:at], text[at:]) if part]


_NAMES = st.sampled_from(
    [
        "type", "role", "content", "text", "input", "output", "model", "messages", "system",
        "tools", "name", "parameters", "input_schema", "tool_choice", "id", "call_id",
        "tool_use_id", "arguments", "source", "data", "media_type", "url", "thinking",
        "budget_tokens", "reasoning", "effort", "format", "schema", "stream", "image_url",
        "file_data", "summary", "is_error", "stop_sequences", "max_tokens", "metadata", "user_id",
        "output_config", "cache_control", "store", "include",
    ]
)  # fmt: skip
_KINDS = st.sampled_from(
    [
        "message", "user", "assistant", "function", "function_call", "function_call_output",
        "reasoning", "reasoning_text", "input_text", "output_text", "input_image", "input_file",
        "refusal", "text", "image", "document", "tool_use", "tool_result", "thinking", "enabled",
        "adaptive", "disabled", "base64", "json_schema", "auto", "any", "tool", "custom",
    ]
)  # fmt: skip
_SCALARS = st.none() | st.booleans() | st.integers() | _KINDS | words
bodies = st.dictionaries(
    _NAMES,
    st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=5,
)
