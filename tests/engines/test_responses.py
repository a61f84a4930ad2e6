"""The Responses API as an engine: what goes out, what comes back, whole and in events."""

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from response_server import CALL, SEARCH, THOUGHT, ResponseServer, events_of, text_item

from suffice.config import EngineConfig, PriceConfig
from suffice.engines.base import last
from suffice.engines.response_replies import ResponseEvents, completion_of
from suffice.engines.response_requests import left_out, response_body
from suffice.engines.responses import ResponsesEngine
from suffice.errors import EngineError, EngineRefused
from suffice.meter import charge, price_for
from suffice.types import Completion, CountSource, Effort, Finish, Request, Rung

JSON = dict[str, Any]
RUNG = Rung(name="r", engine="o", model="gpt-5.5", effort=Effort.HIGH)
ASKED = {"role": "user", "content": "How is it?"}
PAGE = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 1}
TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather.", "parameters": {}},
}


def chat(*messages: JSON, **params: object) -> Request:
    return Request(request_id="r", messages=messages or (ASKED,), params=params)


@pytest.fixture
async def server() -> AsyncIterator[ResponseServer]:
    wire = ResponseServer()
    async with TestServer(wire.app()) as http:
        wire.url = f"http://127.0.0.1:{http.port}/v1"  # type: ignore[attr-defined]
        yield wire


def engine_of(server: Any) -> ResponsesEngine:
    return ResponsesEngine(
        EngineConfig(kind="responses", url=server.url, max_retries=0), api_key="sk-x"
    )


async def answered(server: ResponseServer, request: Request, rung: Rung = RUNG) -> Completion:
    """Answer whole and in events, and see that both say the same."""
    async with engine_of(server) as engine:
        whole = await engine.complete(request, rung)
        streamed = await last(engine.stream(request, rung))
    for field in ("text", "reasoning", "finish", "tool_calls", "usage", "model", "logprobs"):
        assert getattr(whole, field) == getattr(streamed, field), field
    return whole


async def delta_of(server: ResponseServer, request: Request) -> tuple[JSON, JSON]:
    """Return the message of a whole answer, and what the deltas of a stream add up to."""
    async with engine_of(server) as engine:
        whole = json.loads((await engine.complete(request, RUNG)).wire or b"{}")
        data = b"".join([i async for i in engine.relay(request, RUNG).items if type(i) is bytes])
    joined: JSON = {}
    for line in data.decode().splitlines():
        if line.startswith("data:"):
            for choice in json.loads(line[5:])["choices"]:
                for name, value in choice["delta"].items():
                    joined[name] = value if joined.get(name) is None else joined[name] + value
    return whole["choices"][0]["message"], joined


async def test_items_become_one_chat_message(server: ResponseServer) -> None:
    second = text_item("Yes.", annotations=[PAGE | {"end_index": 3}])
    server.output = [THOUGHT, SEARCH, text_item("Let me see."), second, CALL]
    completion = await answered(server, chat())
    assert completion.text == "Let me see.\n\nYes."
    assert completion.reasoning == "Twice two is four.\n\nSo I say it."
    assert completion.finish is Finish.TOOL_CALLS
    (call,) = completion.tool_calls
    assert (call["id"], call["function"]["name"]) == ("call_1", "get_weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    assert server.headers[-1]["Authorization"] == "Bearer sk-x"
    whole, streamed = await delta_of(server, chat())
    for message in (whole, streamed):
        (page,) = message["annotations"]
        assert page["url_citation"]["start_index"] == len("Let me see.\n\n") + 1
        assert [given["item"]["type"] for given in message["response_items"]] == [
            "reasoning",
            "web_search_call",
        ]
        assert not any("id" in given["item"] for given in message["response_items"])


async def test_thoughts_go_back_to_the_model_that_gave_them_alone(server: ResponseServer) -> None:
    server.output = [THOUGHT, CALL]
    message, _ = await delta_of(server, chat(tools=[TOOL]))
    result = {"role": "tool", "tool_call_id": "call_1", "content": "20 degrees"}
    await answered(server, chat(ASKED, message, result, tools=[TOOL]))
    user, thought, call, output = server.sent[-1]["input"]
    assert user["content"] == [{"type": "input_text", "text": "How is it?"}]
    assert thought["encrypted_content"] == THOUGHT["encrypted_content"]
    assert thought["summary"] == THOUGHT["summary"]
    assert call == {name: CALL[name] for name in ("type", "call_id", "name", "arguments")}
    assert output == {"type": "function_call_output", "call_id": "call_1", "output": "20 degrees"}
    other = Rung(name="s", engine="o", model="gpt-5.5-mini", effort=Effort.LOW)
    await answered(server, chat(ASKED, message, result), other)
    assert [item["type"] for item in server.sent[-1]["input"]] == [
        "message",
        "function_call",
        "function_call_output",
    ]


@pytest.mark.parametrize(
    ("changes", "asked", "sent"),
    [
        ({"effort": Effort.LOW}, {"reasoning_effort": "high"}, {"reasoning": {"effort": "low"}}),
        ({"effort": Effort.NONE}, {}, {"reasoning": {"effort": "none"}}),
        ({"effort": None}, {"reasoning_effort": "xhigh"}, {"reasoning": {"effort": "xhigh"}}),
        (
            {"params": {"reasoning": {"summary": "auto"}}},
            {},
            {"reasoning": {"summary": "auto", "effort": "high"}},
        ),
        ({"max_output_tokens": 64}, {"max_tokens": 1}, {"max_output_tokens": 16}),
        ({"params": {"truncation": "auto"}}, {"store": True}, {"truncation": "auto"}),
        ({}, {"verbosity": "low"}, {"text": {"verbosity": "low"}}),
        (
            {},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {}},
                }
            },
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": {}}}},
        ),
        (
            {},
            {"response_format": {"type": "json_object"}},
            {"text": {"format": {"type": "json_object"}}},
        ),
        (
            {},
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tool_choice": {"type": "function", "name": "f"}},
        ),
        (
            {},
            {"web_search_options": {"search_context_size": "low"}},
            {"tools": [{"type": "web_search", "search_context_size": "low"}]},
        ),
        (
            {},
            {"web_search_options": {}, "max_tool_calls": 2},
            {"tools": [{"type": "web_search"}], "max_tool_calls": 2},
        ),
        ({}, {"prompt_cache_key": "k", "service_tier": "flex"}, {"prompt_cache_key": "k"}),
    ],
)
async def test_fields_have_their_names_there(
    server: ResponseServer, changes: JSON, asked: JSON, sent: JSON
) -> None:
    rung = Rung(**{"name": "r", "engine": "o", "model": "m", "effort": Effort.HIGH, **changes})
    await answered(server, chat(temperature=1, top_p=1.0, **asked), rung)
    assert server.sent[-1].items() >= sent.items()
    assert server.sent[-1]["store"] is False
    thinks = server.sent[-1].get("reasoning", {}).get("effort") != "none"
    assert ("include" in server.sent[-1]) == thinks


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("n", {"n": 2}),
        ("logit_bias", {"logit_bias": {"1": 5}}),
        ("presence_penalty", {"presence_penalty": 1}),
        ("tools", {"tools": [{"type": "custom"}]}),
        ("modalities", {"modalities": ["text", "audio"]}),
    ],
)
def test_what_changes_an_answer_and_has_no_equal_is_refused(name: str, asked: JSON) -> None:
    with pytest.raises(EngineRefused) as caught:
        response_body(chat(**asked), RUNG, stream=False)
    assert caught.value.status == 400
    assert caught.value.detail.param == name


@pytest.mark.parametrize(
    "messages",
    [
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},),
        ({"role": "user", "content": [{"text": "no type"}]},),
        (ASKED, {"role": "assistant", "tool_calls": [{"id": "a"}]}, ASKED),
        ({"content": "nobody's"},),
    ],
)
def test_messages_of_another_shape_are_refused(messages: tuple[JSON, ...]) -> None:
    with pytest.raises(EngineRefused):
        response_body(chat(*messages), RUNG, stream=False)


def test_fields_that_do_not_go_out_are_named() -> None:
    asked = {"seed": 1, "temperature": 0, "tools": [], "min_p": None, "chat_template": "x"}
    named = ("chat_template", "seed", "temperature")
    assert left_out({**asked, "reasoning_effort": "high"}, RUNG) == named
    assert "reasoning_effort" in left_out({**asked, "reasoning_effort": "low"}, RUNG)


def test_pictures_and_files_go_out_as_parts_also_in_results() -> None:
    picture = {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"},
    }
    file = {
        "type": "file",
        "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
    }
    call = {"id": "c" * 70, "type": "function", "function": {"name": "f", "arguments": ""}}
    body = response_body(
        chat(
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Look."}, picture, file]},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c" * 70, "content": [picture]},
        ),
        RUNG,
        stream=False,
    )
    order, user, called, result = body["input"]
    shown = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
    assert order == {
        "type": "message",
        "role": "developer",
        "content": [{"type": "input_text", "text": "Be brief."}],
    }
    assert user["content"][1:] == [shown, {"type": "input_file", **file["file"]}]
    assert called["arguments"] == "{}"
    assert called["call_id"] == result["call_id"]
    assert len(called["call_id"]) <= 64
    assert result["output"] == [shown]


@pytest.mark.parametrize(
    ("changes", "finish"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "content_filter",
        ),
        ({"status": "incomplete", "incomplete_details": None}, "length"),
    ],
)
async def test_an_incomplete_response_says_why(
    server: ResponseServer, changes: JSON, finish: str
) -> None:
    server.changes = changes
    assert (await answered(server, chat())).finish == finish


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "server_error"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_response_is_an_error_with_its_usage(
    server: ResponseServer, code: str, stream: bool
) -> None:
    server.changes = {"status": "failed", "error": {"code": code, "message": "no"}}
    async with engine_of(server) as engine:
        call = last(engine.stream(chat(), RUNG)) if stream else engine.complete(chat(), RUNG)
        with pytest.raises(EngineRefused) as caught:
            await call
    assert caught.value.status == (429 if code == "rate_limit_exceeded" else 500)
    assert caught.value.retryable
    assert caught.value.used is not None
    assert caught.value.used.input_tokens is not None


async def test_a_refusal_is_a_refusal(server: ResponseServer) -> None:
    refusal = {"type": "refusal", "refusal": "I will not."}
    server.output = [{"id": "m", "type": "message", "role": "assistant", "content": [refusal]}]
    for message in await delta_of(server, chat()):
        assert message["refusal"] == "I will not."
        assert not message.get("content")


async def test_dollars_are_those_of_the_price_list(server: ResponseServer) -> None:
    price = price_for("list", PriceConfig(provider="openai", model="gpt-5"))
    completion = await answered(server, chat())
    usage = completion.usage
    assert usage.cache_read_tokens is not None
    assert usage.cache_read_tokens.tokens == 16
    assert usage.reasoning_tokens is not None
    assert usage.reasoning_tokens.tokens == 9
    assert usage.service_tier == "default"
    charged = charge(usage, price)
    # https://openai.com/api/pricing: 1.25, 0.125 and 10 dollars a million for gpt-5
    assert charged.usd == (4 * Decimal("1.25") + 16 * Decimal("0.125") + 16 * 10) / 10**6
    assert not charged.estimated


async def test_searches_are_counted(server: ResponseServer) -> None:
    opened = {**SEARCH, "id": "ws_3", "action": {"type": "open_page", "url": "https://a.example"}}
    found = {**SEARCH, "id": "ws_2", "action": {"type": "search", "query": "a"}}
    server.output = [SEARCH, found, opened, text_item("Yes.")]
    completion = await answered(server, chat(web_search_options={}))
    assert completion.usage.kinds["web_searches"].tokens == 2
    assert completion.usage.kinds["web_searches"].source is CountSource.REPORTED


async def test_a_prompt_is_counted_where_the_server_counts(server: ResponseServer) -> None:
    async with engine_of(server) as engine:
        count = await engine.count_prompt(chat(tools=[TOOL]), RUNG)
    assert (count.tokens, count.source) == (20, CountSource.COUNTED)


RESPONSE = {
    "id": "resp_1",
    "status": "completed",
    "model": "m",
    "output": [THOUGHT, text_item("Let me see."), text_item("Yes."), CALL],
    "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
}


def without_index(event: JSON) -> JSON:
    return {name: value for name, value in event.items() if name != "output_index"}


def with_other_ids(event: JSON, *, number: int) -> JSON:
    return {**event, "item_id": f"obfuscated{number}"} if "item_id" in event else event


NO_DELTAS = [event for event in events_of(RESPONSE) if not event["type"].endswith(".delta")]
SHAPES: dict[str, list[JSON]] = {
    "all": list(events_of(RESPONSE)),
    "no deltas": NO_DELTAS,
    "the end alone": [event for event in NO_DELTAS if event["type"] == "response.completed"],
    "whole items": [event for event in NO_DELTAS if event["type"] != "response.output_item.added"],
    "ids alone": [  # llama.cpp
        without_index(event)
        for event in events_of({**RESPONSE, "output": [THOUGHT, text_item("Yes."), CALL]})
    ],
    "an id that changes with each event": [  # Copilot
        with_other_ids(event, number=number) for number, event in enumerate(events_of(RESPONSE))
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_stream_tells_each_item_once(shape: str) -> None:
    events, joined = ResponseEvents(origin="o/m"), {"content": "", "reasoning_content": ""}
    arguments, finishes, items = "", [], []
    for event in SHAPES[shape]:
        chunk = events.chunk(event)
        for choice in chunk["choices"] if chunk else ():
            delta = choice["delta"]
            for name in joined:
                joined[name] += delta.get(name, "")
            for call in delta.get("tool_calls", ()):
                assert call["index"] == 0
                arguments += call["function"]["arguments"]
            items += delta.get("response_items", [])
            finishes += [choice["finish_reason"]] if choice["finish_reason"] else []
    alone = shape == "ids alone"
    assert joined["content"] == ("Yes." if alone else "Let me see.\n\nYes.")
    assert joined["reasoning_content"] == "Twice two is four.\n\nSo I say it."
    assert json.loads(arguments) == {"city": "Paris"}
    assert [given["item"]["type"] for given in items] == ["reasoning"]
    assert finishes == ["tool_calls"]


def test_a_whole_response_is_read_like_its_events() -> None:
    message = completion_of(RESPONSE, origin="o/m")["choices"][0]["message"]
    assert message["content"] == "Let me see.\n\nYes."
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["get_weather"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "body", [{"choices": []}, {"output": "text", "status": "completed"}, {"output": [{}]}, [], "no"]
)
async def test_what_is_no_response_is_an_error_of_the_engine(stream: bool, body: Any) -> None:
    async def answer(_: web.Request) -> web.Response:
        if stream:
            data = f"data: {json.dumps(body)}\n\n"
            return web.Response(text=data, content_type="text/event-stream")
        return web.json_response(body)

    app = web.Application()
    app.router.add_post("/v1/responses", answer)
    async with TestServer(app) as http:
        config = EngineConfig(
            kind="responses", url=f"http://127.0.0.1:{http.port}/v1", max_retries=0
        )
        async with ResponsesEngine(config) as engine, asyncio.timeout(5):
            call = last(engine.stream(chat(), RUNG)) if stream else engine.complete(chat(), RUNG)
            with pytest.raises(EngineError):
                await call
