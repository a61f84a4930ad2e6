"""Odd values in a response, an event or a chat request end in an answer, or in an error."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any

import pytest
from aiohttp import web
from response_server import CALL, CUSTOM_CALL, SEARCH, THOUGHT, asking, events_of, text_item

from suffice.engines.base import last
from suffice.engines.calls import written_in
from suffice.engines.custom_tools import names_of
from suffice.engines.response_replies import ResponseEvents, completion_of
from suffice.engines.response_requests import left_out, response_body
from suffice.engines.responses import ResponsesEngine
from suffice.errors import EngineError, EngineRefused
from suffice.types import Completion, Count, CountSource, Effort, Request, Rung

JSON = dict[str, Any]
RUNG = Rung(name="r", engine="o", model="gpt-5.5", effort=Effort.HIGH)
ODD = (None, 7, -1.5, True, "odd", "", [], [7], ["odd"], [{}], {}, {"odd": 1}, [None], {"type": 7})
MISSING = object()
PAGE = {"type": "url_citation", "url": "https://a.example", "start_index": 0, "end_index": 2}
LOGPROBS = [{"token": "4", "logprob": -0.5, "bytes": [52], "top_logprobs": []}]
RESPONSE: JSON = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1795000000,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-5.5",
    "output": [
        THOUGHT | {"content": [{"type": "reasoning_text", "text": "Four."}]},
        SEARCH,
        text_item("4", annotations=[PAGE], logprobs=LOGPROBS) | {"phase": "commentary"},
        {"id": "m2", "type": "message", "content": [{"type": "refusal", "refusal": "No."}]},
        CALL,
        CUSTOM_CALL,
    ],
    "service_tier": "default",
    "usage": {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 16},
        "output_tokens": 16,
        "output_tokens_details": {"reasoning_tokens": 9},
        "total_tokens": 36,
    },
}
REQUEST: JSON = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "How is it?"}]},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "https://a.example", "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:;base64,AA=="}},
            ],
        },
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "b", "type": "custom", "custom": {"name": "c", "input": "text"}},
            ],
            "response_items": [
                {"origin": "o/gpt-5.5", "item": {"type": "reasoning", "summary": []}},
                {
                    "origin": "o/gpt-5.5",
                    "item": {"type": "message", "phase": "commentary", "characters": 7},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "20 degrees"},
        {"role": "tool", "tool_call_id": "b", "content": "Done."},
    ],
    "params": {
        "temperature": 0.5,
        "reasoning_effort": "low",
        "reasoning": {"effort": "low"},
        "verbosity": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
        "logprobs": True,
        "top_logprobs": 2,
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {}}},
            {
                "type": "custom",
                "custom": {
                    "name": "c",
                    "format": {
                        "type": "grammar",
                        "grammar": {"syntax": "regex", "definition": "a*"},
                    },
                },
            },
        ],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{}]}},
        "parallel_tool_calls": False,
        "web_search_options": {"user_location": {"approximate": {"city": "Paris"}}},
        "max_tokens": 5,
        "stop": [],
        "n": 1,
        "logit_bias": {},
        "frequency_penalty": 0,
        "functions": [],
        "modalities": ["text"],
        "service_tier": "flex",
        "metadata": {"a": "b"},
    },
}


def variants(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a value with each odd value in the place of each part of it, and without the part."""
    parts = list(value.items() if isinstance(value, dict) else enumerate(value))
    for name, part in parts:
        rest = [(n, p) for n, p in parts if n != name]
        for odd in (*ODD, MISSING):
            changed = rest if odd is MISSING else [*rest, (name, odd)]
            yield f"{at}.{name}={odd!r}", _rebuilt(value, changed)
        if isinstance(part, dict | list):
            for where, inner in variants(part, f"{at}.{name}"):
                yield where, _rebuilt(value, [*rest, (name, inner)])


def _rebuilt(value: Any, parts: list[tuple[Any, Any]]) -> Any:
    if isinstance(value, dict):
        return dict(parts)
    return [part for _, part in sorted(parts, key=lambda part: part[0])]


class Script:
    """A server that answers with what it is told to."""

    def __init__(self) -> None:
        self.body = b""
        self.content_type = "application/json"

    async def answer(self, _: web.Request) -> web.Response:
        return web.Response(body=self.body, content_type=self.content_type)


@pytest.fixture
async def script() -> AsyncIterator[tuple[Script, ResponsesEngine]]:
    script = Script()
    async with asking(script.answer) as engine:
        yield script, engine


async def outcome(call: Any, *, at: str, told: bool) -> None:
    """See that a call ends in an answer or in an error with a hint, and what it is told to cost."""
    result: Any
    try:
        async with asyncio.timeout(5):
            result = await call
    except EngineError as error:
        result = error
    except Exception as error:
        raise AssertionError(at) from error
    if isinstance(result, EngineError):
        assert result.hint, at
        usage: Any = result.used
    else:
        assert isinstance(result, Completion), at
        usage = result.usage
    if told:
        assert usage is not None, at
        assert usage.output_tokens == Count(16, CountSource.REPORTED), at


SHARES = [101, pytest.param(1, marks=pytest.mark.slow)]


@pytest.mark.parametrize("every", SHARES)
async def test_a_whole_response(script: tuple[Script, ResponsesEngine], every: int) -> None:
    server, engine = script
    request = Request(request_id="r", messages=({"role": "user", "content": "How is it?"},))
    for at, response in islice(variants(RESPONSE), 0, None, every):
        server.body = json.dumps(response).encode()
        told = not at.startswith(".usage")
        await outcome(engine.complete(request, RUNG), at=at, told=told)


def streams() -> Iterator[tuple[str, list[JSON]]]:
    events = list(events_of(RESPONSE))
    for number, event in enumerate(events):
        for at, odd in variants(event, event["type"]):
            yield at, [*events[:number], odd, *events[number + 1 :]]


@pytest.mark.parametrize("every", SHARES)
async def test_the_events_of_a_stream(script: tuple[Script, ResponsesEngine], every: int) -> None:
    server, engine = script
    server.content_type = "text/event-stream"
    request = Request(request_id="r", messages=({"role": "user", "content": "How is it?"},))
    for at, events in islice(streams(), 0, None, every):
        server.body = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()
        told = at.startswith("response.completed.response.") and "usage" not in at
        await outcome(last(engine.stream(request, RUNG)), at=at, told=told)


def test_a_chat_request() -> None:
    for at, chat in variants(REQUEST):
        messages, params = chat.get("messages"), chat.get("params")
        if not isinstance(messages, list) or not isinstance(params, dict):
            continue
        if not all(isinstance(message, dict) for message in messages):
            continue
        request = Request(request_id="r", messages=tuple(messages), params=params)
        for rung in (RUNG, Rung(name="r", engine="o", model="gpt-5.5")):
            refusal = None
            try:
                response_body(request, rung, stream=False)
                names_of(request)
                left_out(params, rung)
            except EngineRefused as error:
                refusal = error
            except Exception as error:
                raise AssertionError(at) from error
            if refusal is not None:
                assert refusal.hint, at
                assert refusal.status == 400, at


def random_item(dice: random.Random, number: int) -> JSON:
    kinds = ["reasoning", "message", "message", "function_call", "web_search_call"]
    kind = dice.choice([*kinds, "custom_tool_call", "a call of c"])
    text, item = f"{number}-{'ü🍞 '[: dice.randrange(4)]}", {"id": f"id_{number}", "type": kind}
    if kind == "reasoning":
        shown = [{"type": "summary_text", "text": text}] * dice.randrange(3)
        return item | {"summary": shown, "encrypted_content": f"sealed {number}"}
    if kind == "message":
        phase = {"phase": dice.choice(["commentary", "final_answer"])} if number % 2 else {}
        return text_item(text, annotations=[PAGE] * dice.randrange(2)) | item | phase
    if kind == "custom_tool_call":
        return item | {"call_id": f"call_{number}", "name": "c", "input": text}
    if kind == "a call of c":
        call = {"type": "function_call", "call_id": f"call_{number}", "name": "c"}
        return item | call | {"arguments": json.dumps({"input": text})}
    if kind == "function_call":
        return item | {"call_id": f"call_{number}", "name": "f", "arguments": f'{{"a": {number}}}'}
    return SEARCH | item


def mangled(dice: random.Random, whole: JSON) -> Iterator[JSON]:
    """Write a stream as some server does: with other ids or indices, and not with every event."""
    ids, indices = dice.choice(
        [("same", "right"), ("change", "right"), ("same", "zero"), ("same", "no")]
    )
    drops = ["", ".delta", "output_item.done"]
    drops += ["output_item.added", "output_item."] if indices == "right" else []
    dropped = dice.choice(drops)
    for number, plain in enumerate(events_of(whole)):
        if dropped and dropped in plain["type"] and "response" not in plain:
            continue
        event = json.loads(json.dumps(plain))
        if "output_index" in event:
            event["output_index"] *= indices == "right"
            if indices == "no":
                del event["output_index"]
        if ids == "change":
            for place in (event, event.get("item", {})):
                place |= {name: f"id {number}" for name in ("id", "item_id") if name in place}
            for n, item in enumerate(event.get("response", {}).get("output", ())):
                item["id"] = f"last {n}"
        yield event


def test_a_stream_of_any_server_says_what_the_whole_response_says() -> None:
    for seed in range(400):
        dice = random.Random(seed)
        output = [random_item(dice, number) for number in range(dice.randrange(1, 7))]
        whole = RESPONSE | {"output": output}
        events, message = ResponseEvents(origin="o/m", customs={"c": "c"}), {}
        calls: dict[int, str] = {}
        for event in mangled(dice, whole):
            chunk = events.chunk(event)
            for name, value in (
                chunk["choices"][0]["delta"] if chunk and chunk["choices"] else {}
            ).items():
                if name == "tool_calls":
                    for call in value:
                        text = written_in(call)
                        calls[call["index"]] = calls.get(call["index"], "") + text
                else:
                    message[name] = message[name] + value if name in message else value
        whole_chat = completion_of(whole, origin="o/m", customs={"c": "c"})
        expected = whole_chat["choices"][0]["message"]
        for name in ("content", "reasoning_content"):
            assert message.get(name) == expected.get(name), (seed, name)
        told = [written_in(call) for call in expected.get("tool_calls", ())]
        texts = [item for item in output if item.get("name") == "c"]
        custom = [call for call in expected.get("tool_calls", ()) if call["type"] == "custom"]
        assert [call["custom"]["input"] for call in custom] == [
            one.get("input") or json.loads(one["arguments"])["input"] for one in texts
        ]
        assert [text for _, text in sorted(calls.items())] == told, seed
        for name in ("response_items", "annotations"):
            both = [json.dumps(one.get(name, []), sort_keys=True) for one in (message, expected)]
            assert both[0] == both[1], (seed, name)
