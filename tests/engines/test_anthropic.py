"""The Messages API as an engine, against a server that keeps its own books."""

import json
from decimal import Decimal
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from charging_server import ChargingServer

from suffice.config import EngineConfig, PriceConfig
from suffice.engines.anthropic import AnthropicEngine
from suffice.engines.base import last
from suffice.engines.messages import message_body
from suffice.errors import EngineRefused
from suffice.meter import charge, price_for
from suffice.types import Completion, Effort, Finish, Request, Rung

JSON = dict[str, Any]
RUNG = Rung(name="r", engine="a", model="claude-sonnet-4-5", price="list")
SIGNED = {"type": "thinking", "thinking": "dry or wet?", "signature": "c2lnbmVk"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "set_oven", "input": {"celsius": 230}}


@pytest.fixture
def server() -> ChargingServer:
    return ChargingServer()


async def answered(
    server: ChargingServer, request: Request, rung: Rung = RUNG, *, stream: bool
) -> tuple[Completion, list[JSON]]:
    async with TestServer(server.app()) as http:
        config = EngineConfig(
            kind="anthropic", url=f"http://127.0.0.1:{http.port}/v1", max_retries=0
        )
        async with AnthropicEngine(config, api_key="sk-x") as engine:
            if not stream:
                completion = await engine.complete(request, rung)
                return completion, [json.loads(completion.wire or b"{}")]
            items = [item async for item in engine.relay(request, rung).items]
            data = b"".join(item for item in items if isinstance(item, bytes))
            events = [
                json.loads(line[5:]) for line in data.split(b"\n") if line.startswith(b"data:")
            ]
            completion = items[-1]
            assert isinstance(completion, Completion)
            return completion, events


def chat(*messages: JSON, **params: object) -> Request:
    return Request(request_id="r", messages=messages, params=params)


ASKED = {"role": "user", "content": "How is it?"}


@pytest.mark.parametrize("stream", [False, True])
async def test_blocks_become_parts_of_a_chat_message(server: ChargingServer, stream: bool) -> None:
    server.content = [SIGNED, {"type": "text", "text": "Mild"}, CALL]
    server.stop_reason = "tool_use"
    completion, events = await answered(server, chat(ASKED), stream=stream)
    assert completion.text == "Mild"
    assert completion.reasoning == "dry or wet?"
    assert completion.finish is Finish.TOOL_CALLS
    (call,) = completion.tool_calls
    assert (call["id"], call["function"]["name"]) == ("toolu_1", "set_oven")
    assert json.loads(call["function"]["arguments"]) == {"celsius": 230}
    assert "c2lnbmVk" in json.dumps(events)
    assert server.headers[-1]["x-api-key"] == "sk-x"
    assert server.headers[-1]["anthropic-version"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_whole_session_costs_what_the_server_charges(
    server: ChargingServer, stream: bool
) -> None:
    price = price_for("list", PriceConfig(provider="anthropic", model="claude-sonnet-4-5"))
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    system = [{"type": "text", "text": "You help with code. " * 90, **hour}]
    turns: list[JSON] = [{"role": "system", "content": system}]
    tool = {"type": "function", "function": {"name": "set_oven", "parameters": {"type": "object"}}}
    usd = Decimal(0)
    for turn in range(6):
        part = {
            "type": "text",
            "text": f"Turn {turn}. " * 50,
            "cache_control": {"type": "ephemeral"},
        }
        turns.append({"role": "user", "content": [part]})
        server.content = [SIGNED, {"type": "text", "text": "Mild"}, CALL]
        completion, _ = await answered(server, chat(*turns, tools=[tool]), stream=stream)
        charged = charge(completion.usage, price)
        assert charged.usd is not None
        assert not charged.estimated
        usd += charged.usd
        call = {
            "id": "toolu_1",
            "type": "function",
            "function": completion.tool_calls[0]["function"],
        }
        turns.append(
            {
                "role": "assistant",
                "content": "Mild",
                "thinking_blocks": [SIGNED],
                "tool_calls": [call],
            }
        )
        turns.append({"role": "tool", "tool_call_id": "toolu_1", "content": "ok"})
    assert usd == server.usd
    sent = server.sent[-1]
    assert sent["system"][0]["cache_control"]["ttl"] == "1h"
    assert sent["messages"][1]["content"][0] == SIGNED
    assert sent["messages"][1]["content"][2] == CALL
    assert sent["messages"][2]["content"][0]["type"] == "tool_result"
    assert [turn["role"] for turn in sent["messages"][:3]] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        (
            {"effort": Effort.HIGH},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        ),
        ({"effort": Effort.NONE}, {"thinking": {"type": "disabled"}}),
        (
            {"thinking_budget_tokens": 2048},
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        ),
        ({"max_output_tokens": 64}, {"max_tokens": 16}),
    ],
)
async def test_the_settings_of_a_rung_win(
    server: ChargingServer, changes: JSON, fields: JSON
) -> None:
    rung = Rung(name="r", engine="a", model="m", **changes)
    asked = {"thinking": {"type": "enabled", "budget_tokens": 9}, "max_completion_tokens": 16}
    request = chat({"role": "developer", "content": "Be brief."}, ASKED, stop="x", **asked)
    await answered(server, request, rung, stream=False)
    sent = server.sent[-1]
    assert sent.items() >= fields.items()
    assert sent["system"] == [{"type": "text", "text": "Be brief."}]
    assert sent["stop_sequences"] == ["x"]


async def test_a_conversation_without_caches_is_cached_to_its_end(server: ChargingServer) -> None:
    turns = [
        ASKED,
        {"role": "assistant", "content": "Mild"},
        {"role": "user", "content": "And now?"},
    ]
    await answered(server, chat({"role": "system", "content": "Be brief."}, *turns), stream=False)
    sent = server.sent[-1]
    assert "cache_control" in sent["system"][-1]
    assert "cache_control" in sent["messages"][-1]["content"][-1]
    await answered(server, chat(ASKED), stream=False)
    assert "cache_control" not in json.dumps(server.sent[-1])


async def test_a_conversation_about_caches_is_cached_too(server: ChargingServer) -> None:
    turns = [
        {"role": "user", "content": "What is cache_control?"},
        {"role": "assistant", "content": "Mild"},
        {"role": "user", "content": '{"cache_control": 1}'},
    ]
    await answered(server, chat(*turns), stream=False)
    assert "cache_control" in server.sent[-1]["messages"][-1]["content"][-1]


async def test_a_client_that_caches_the_result_of_a_tool_is_left_to_it(
    server: ChargingServer,
) -> None:
    result = [{"type": "text", "text": "3", "cache_control": {"type": "ephemeral"}}]
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": result},
        {"role": "user", "content": "And now?"},
    ]
    await answered(server, chat(*turns), stream=False)
    assert json.dumps(server.sent[-1]).count("cache_control") == 1


async def test_errors_are_read_with_their_code(server: ChargingServer) -> None:
    for stream in (False, True):
        with pytest.raises(EngineRefused) as caught:
            await answered(server, chat({"role": "user", "content": "refuse"}), stream=stream)
        assert caught.value.detail.code == "context_length_exceeded"
        assert caught.value.status == 400


async def test_a_stream_that_breaks_off_is_no_answer(server: ChargingServer) -> None:
    server.stop_reason = None  # type: ignore[assignment]
    async with TestServer(server.app()) as http:
        config = EngineConfig(
            kind="anthropic", url=f"http://127.0.0.1:{http.port}/v1", max_retries=0
        )
        async with AnthropicEngine(config) as engine:
            with pytest.raises(Exception, match="without saying why it stopped"):
                await last(engine.stream(chat(ASKED), RUNG))


@pytest.mark.parametrize("arguments", ['{"celsius": 23', "[1]", "", "null", {"celsius": 230}])
def test_calls_of_earlier_turns_are_objects_whatever_a_model_wrote(arguments: Any) -> None:
    call = {"id": "t1", "function": {"name": "set_oven", "arguments": arguments}}
    turns = ({"role": "user", "content": "Bake"}, {"role": "assistant", "tool_calls": [call]})
    body = message_body(Request(request_id="r", messages=turns), RUNG, stream=False)
    (block,) = body["messages"][1]["content"]
    wrapped = {"INVALID_JSON": arguments}
    kept = {"": {}, str({"celsius": 230}): {"celsius": 230}}.get(str(arguments), wrapped)
    assert block["input"] == kept


def test_a_file_is_a_document() -> None:
    file = {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}
    turns = ({"role": "user", "content": [{"type": "file", "file": file}]},)
    body = message_body(Request(request_id="r", messages=turns), RUNG, stream=False)
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    block = {"type": "document", "source": source, "title": "a.pdf"}
    assert body["messages"][0]["content"] == [block]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]},
        {"role": "assistant", "tool_calls": [{"id": "t"}]},
        {"role": "tool", "content": "no id"},
        {"content": "no role"},
        {"role": "user", "content": ["text"]},
        {"role": "user", "content": [{"type": "image_url"}]},
    ],
)
def test_a_message_of_another_shape_is_the_clients_fault(message: dict[str, Any]) -> None:
    with pytest.raises(EngineRefused) as caught:
        message_body(Request(request_id="r", messages=(message,)), RUNG, stream=False)
    assert (caught.value.status, caught.value.retryable) == (400, False)


# -- what a chat request says in other words, or what no message can hold --------------------------

SCHEMA = {"type": "object", "properties": {"river": {"type": "string"}}}
NAMED = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}


def body_of(*messages: JSON, rung: Rung | None = None, **params: Any) -> JSON:
    rung = rung or Rung(name="r", engine="a", model="m")
    return message_body(chat(*messages or (ASKED,), **params), rung, stream=False)


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({"response_format": NAMED}, {"format": {"type": "json_schema", "schema": SCHEMA}}),
        ({"reasoning_effort": "high"}, {"effort": "high"}),
        ({"reasoning_effort": "minimal"}, {"effort": "low"}),
        (
            {"reasoning_effort": "low", "response_format": NAMED},
            {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        ),
    ],
)
def test_an_effort_and_a_schema_are_carried(params: JSON, fields: JSON) -> None:
    body = body_of(**params)
    assert body["output_config"] == fields
    assert ("thinking" in body) is ("effort" in fields)
    assert body_of(reasoning_effort="none")["thinking"] == {"type": "disabled"}
    rung = Rung(name="r", engine="a", model="m", effort=Effort.MEDIUM)
    assert body_of(rung=rung, **params)["output_config"]["effort"] == "medium"


def test_a_web_search_has_the_limit_of_the_request() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    assert body_of(web_search_options={})["tools"] == [search]
    limited = body_of(web_search_options={}, max_tool_calls=2)["tools"]
    assert limited == [search | {"max_uses": 2}]


@pytest.mark.parametrize(
    "params",
    [
        {"n": 3},
        {"logprobs": True},
        {"logit_bias": {"5": 1}},
        {"frequency_penalty": 0.5},
        {"presence_penalty": -1},
        {"tools": [{"type": "custom", "custom": {"name": "x"}}]},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_what_no_message_can_hold_is_refused_by_name(params: JSON) -> None:
    with pytest.raises(EngineRefused) as caught:
        body_of(**params)
    assert (caught.value.status, caught.value.detail.param) == (400, next(iter(params)))
    assert caught.value.hint
    assert body_of(n=1, logprobs=False, logit_bias={}, response_format={"type": "text"})


def test_thinking_of_a_rung_goes_with_no_forced_call_and_no_sampling() -> None:
    rung = Rung(name="r", engine="a", model="m", thinking_budget_tokens=2048)
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = body_of(rung=rung, temperature=0.2, top_k=5, tools=tools)
    assert body.keys().isdisjoint({"temperature", "top_k"})
    assert body["thinking"]["budget_tokens"] == 2048
    forced = body_of(rung=rung, temperature=0.2, tools=tools, tool_choice="required")
    assert (forced["thinking"], forced["tool_choice"]["type"]) == ({"type": "disabled"}, "any")
    assert body_of(temperature=0.2, top_k=5)["temperature"] == 0.2


def test_no_message_is_empty() -> None:
    alone = body_of({"role": "system", "content": "Name a river."})
    assert alone["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Name a river."}]}
    ]
    assert "system" not in alone
    turns = body_of(ASKED, {"role": "assistant", "content": ""}, ASKED)["messages"]
    assert all(turn["content"] for turn in turns)
    assert [turn["role"] for turn in turns] == ["user"]
