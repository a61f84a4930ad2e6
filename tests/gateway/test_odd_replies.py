"""Engines whose replies have a field of another type, one at a time: answered or refused, no 500.

The client's answer is whole, or says that the engine's was not; nothing is an error of ours.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway_support import CLAUDE, DONE, Call, completion, event, site

from suffice.gateway.apis.shape import fitted
from suffice.types import JSON

ODD: list[Any] = ["x", "", [1], [None], [], 5, 1.5, True, None, {"a": 1}, {"b": None}, {}]
ASKS: dict[str, JSON] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/messages": {"max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]},
    "/v1/responses": {"input": "Hi"},
}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PAGE = {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0}}
LOGPROBS = {"content": [{"token": "4", "logprob": -0.1, "bytes": [52], "top_logprobs": []}]}
SEARCH = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "u"}]}


def chat_reply() -> JSON:
    parts = {"reasoning_content": "r", "refusal": None, "tool_calls": [CALL], "annotations": [PAGE]}
    reply = completion("4", **parts)
    reply["choices"][0]["logprobs"] = LOGPROBS
    reply["usage"]["prompt_tokens_details"] = {"cached_tokens": 1}
    reply["usage"]["completion_tokens_details"] = {"reasoning_tokens": 1}
    return reply


def chat_events() -> list[JSON]:
    reply = chat_reply()
    choice = reply["choices"][0]
    delta = {**choice.pop("message"), "tool_calls": [{**CALL, "index": 0}]}
    first = {**reply, "choices": [{**choice, "delta": delta, "finish_reason": None}]}
    return [first, {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]


def message_reply() -> JSON:
    text = {"type": "text", "text": "4", "citations": [{"type": "web", "url": "u", "title": "t"}]}
    use = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    thought = {"type": "thinking", "thinking": "t", "signature": "s"}
    cached = {"cache_read_input_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 1}}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [thought, SEARCH, FOUND, text, use],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 5, **cached},
    }


def message_events() -> list[JSON]:
    reply = message_reply()
    content, usage = reply.pop("content"), reply["usage"]
    events: list[JSON] = [{"type": "message_start", "message": {**reply, "content": []}}]
    for index, block in enumerate(content):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        if block["type"] == "text":
            delta = {"type": "text_delta", "text": "5"}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    events.append({"type": "message_delta", "delta": ended, "usage": usage})
    return [*events, {"type": "message_stop"}]


def mutants(value: Any) -> Iterator[Any]:
    """Yield copies of a value, each with another value at one place in it."""
    for path in places(value):
        for odd in ODD:
            copy = json.loads(json.dumps(value))
            inner = copy
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = odd
            yield copy


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for step, below in inner:
        yield (step,)
        if isinstance(below, dict | list):
            yield from ((step, *rest) for rest in places(below))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", ASKS)
@pytest.mark.parametrize("model", ["small", "claude"])
@pytest.mark.parametrize("streams", [False, True])
async def test_no_odd_reply_is_our_error(
    tmp_path: Path, model: str, path: str, streams: bool, caplog: pytest.LogCaptureFixture
) -> None:
    sent: Any = None

    async def script(call: Call) -> None:
        if not streams:
            await call.reply(sent)
            return
        await call.events()
        for one in sent:
            await call.write(event(one))
        await call.write(b"" if model == "claude" else DONE)

    whole = message_reply() if model == "claude" else chat_reply()
    events = message_events() if model == "claude" else chat_events()
    async with site(tmp_path, more=CLAUDE) as here:
        here.upstream.script = script
        for sent in mutants(events if streams else whole):
            body = {"model": model, **ASKS[path], "stream": streams}
            async with here.http.post(here.url + path, json=body) as response:
                assert response.status != 500, sent
                try:
                    await response.read()
                except aiohttp.ClientPayloadError:  # cut off where the engine's answer was
                    continue
    ours = [record.getMessage() for record in caplog.records if record.exc_info]
    assert not ours


def test_fields_of_another_type_are_left_out_and_all_others_stay() -> None:
    message = {"refusal": 5, "content": [1], "odd": {"x": [2]}, "tool_calls": [None, CALL, "x"]}
    chunk = {"created": "now", "model": "m", "choices": [{"index": 0, "message": message}, 7]}
    kept = {"refusal": None, "content": [1], "odd": {"x": [2]}, "tool_calls": [CALL]}
    assert fitted(chunk) == {
        "created": None,
        "model": "m",
        "choices": [{"index": 0, "message": kept}],
    }
