"""Custom tools of clients of each API before engines that know them, and before others."""

import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from aiohttp.test_utils import TestServer
from gateway_support import Call, Site, completion, site
from response_server import CUSTOM_CALL, CUSTOM_TOOL, HOSTED, PATCH, ResponseServer, text_item

from suffice.gateway.apis.messages_reply import MessageWriter
from suffice.gateway.apis.responses_reply import ResponseWriter
from suffice.gateway.apis.responses_request import chat_of_response

JSON = dict[str, Any]
ENGINE = f"""{HOSTED}
[[ladder]]
name = "gpt"
engine = "hosted"
model = "gpt-5.5"
"""
ASKED = {"role": "user", "content": "Mend it."}
CHAT_TOOL = {
    "type": "custom",
    "custom": {
        "name": "apply_patch",
        "description": CUSTOM_TOOL["description"],
        "format": {
            "type": "grammar",
            "grammar": {n: CUSTOM_TOOL["format"][n] for n in ("syntax", "definition")},
        },
    },
}
TURNS = ["message", "message", "custom_tool_call", "custom_tool_call_output"]


@pytest.fixture
def server() -> ResponseServer:
    wire = ResponseServer()
    wire.output = [text_item("I mend it."), CUSTOM_CALL]
    return wire


@asynccontextmanager
async def opened(server: ResponseServer, tmp_path: Path, *, dialect: str = "openai") -> Any:
    """Open a gateway before a scripted engine."""
    async with TestServer(server.app()) as http:
        config = ENGINE.replace("max_retries = 0", f'max_retries = 0\ndialect = "{dialect}"')
        async with site(tmp_path, more=config.replace("{port}", str(http.port))) as at:
            yield at


@asynccontextmanager
async def before(server: ResponseServer, tmp_path: Path) -> Any:
    """Open a gateway, and a client of OpenAI's APIs before it."""
    async with opened(server, tmp_path) as at:
        url = f"{at.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
            yield client


def told_back(server: ResponseServer) -> None:
    """See that the second request holds the call and its result as those of a custom tool."""
    items = server.sent[-1]["input"]
    assert [item["type"] for item in items] == TURNS
    call = {name: CUSTOM_CALL[name] for name in ("type", "call_id", "name", "input")}
    assert items[2] == call
    assert items[3] == {"type": TURNS[3], "call_id": "call_2", "output": "Done."}
    assert [body["tools"] for body in server.sent] == [[CUSTOM_TOOL]] * len(server.sent)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_session_of_responses(tmp_path: Path, server: ResponseServer, stream: bool) -> None:
    turns: list[Any] = [ASKED]
    fields: Any = {"model": "gpt", "tools": [CUSTOM_TOOL]}
    async with before(server, tmp_path) as client:
        if stream:
            kind, told = "response.custom_tool_call_input", []
            async with client.responses.stream(input=turns, **fields) as events:
                async for event in events:
                    told += [event] if event.type.startswith(kind) else []
                response: Any = await events.get_final_response()
            pieces = [event.delta for event in told[:-1]]
            assert len(pieces) == 2, "the text comes on as its pieces came"
            assert "".join(pieces) == told[-1].input == PATCH
            assert {event.item_id for event in told} == {response.output[-1].id}
            assert {event.output_index for event in told} == {1}
        else:
            response = await client.responses.create(input=turns, **fields)
        message, call = response.output
        assert (message.type, call.type) == ("message", "custom_tool_call")
        assert (call.name, call.input, call.call_id) == ("apply_patch", PATCH, "call_2")
        turns += [item.model_dump(exclude_none=True) for item in response.output]
        output = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "Done."}
        choice: Any = {"type": "custom", "name": "apply_patch"}
        await client.responses.create(input=[*turns, output], tool_choice=choice, **fields)
    told_back(server)
    assert server.sent[-1]["tool_choice"] == choice


@pytest.mark.parametrize("stream", [False, True])
async def test_a_session_of_chat(tmp_path: Path, server: ResponseServer, stream: bool) -> None:
    turns: list[Any] = [ASKED]
    fields: Any = {"model": "gpt", "tools": [CHAT_TOOL]}
    async with before(server, tmp_path) as client:
        if stream:
            parts: list[JSON] = []
            chunks = await client.chat.completions.create(messages=turns, stream=True, **fields)
            async for chunk in chunks:
                for choice in chunk.choices:
                    parts += [
                        p.model_dump(exclude_none=True) for p in choice.delta.tool_calls or ()
                    ]
                    finish = choice.finish_reason
            assert {part["index"] for part in parts} == {0}
            name, text = parts[0]["custom"]["name"], [part["custom"]["input"] for part in parts]
            assert len(text) == 3
            call = {key: parts[0][key] for key in ("id", "type")}
            call["custom"] = {"name": name, "input": "".join(text)}
        else:
            completion = await client.chat.completions.create(messages=turns, **fields)
            (first,) = completion.choices[0].message.tool_calls
            call, finish = first.model_dump(exclude_none=True), completion.choices[0].finish_reason
        assert finish == "tool_calls"
        assert call == {
            "id": "call_2",
            "type": "custom",
            "custom": {"name": "apply_patch", "input": PATCH},
        }
        turns.append({"role": "assistant", "content": "I mend it.", "tool_calls": [call]})
        turns.append({"role": "tool", "tool_call_id": "call_2", "content": "Done."})
        await client.chat.completions.create(messages=turns, **fields)
    told_back(server)


async def test_a_server_that_has_no_custom_tools_gets_functions(
    tmp_path: Path, server: ResponseServer
) -> None:
    call = {"id": "fc_2", "type": "function_call", "call_id": "call_2", "name": "apply_patch"}
    server.output = [call | {"arguments": json.dumps({"input": PATCH})}]
    async with opened(server, tmp_path, dialect="vllm") as at:
        asked = {"model": "gpt", "input": "Mend it.", "tools": [CUSTOM_TOOL]}
        status, told = await at.post(asked, path="/v1/responses")
    assert status == 200
    (tool,) = server.sent[-1]["tools"]
    assert tool["type"] == "function"
    assert CUSTOM_TOOL["format"]["definition"] in tool["description"]
    (item,) = told["output"]
    assert (item["type"], item["input"]) == ("custom_tool_call", PATCH)


async def test_the_tokens_of_a_prompt_with_a_custom_tool_are_counted(
    tmp_path: Path, server: ResponseServer
) -> None:
    async with before(server, tmp_path) as client:
        counted = await client.responses.input_tokens.count(
            model="gpt", input="Mend it.", tools=[CUSTOM_TOOL]
        )
    assert counted.input_tokens == 20


async def test_a_chat_client_hears_what_an_engine_without_custom_tools_cannot_do(
    tmp_path: Path, server: ResponseServer
) -> None:
    async with opened(server, tmp_path, dialect="ollama") as at:
        asked = {"model": "gpt", "messages": [ASKED], "tools": [CHAT_TOOL]}
        status, told = await at.post(asked)
    assert status == 400
    assert told["error"]["param"] == "tools"
    assert "dialect" in told["error"]["hint"]


def test_tools_of_a_kept_response_keep_their_own_form() -> None:
    body = {"model": "m", "input": "Hi", "tools": [CUSTOM_TOOL, {"type": "custom", "name": "a b"}]}
    translated = chat_of_response(body)
    first, second = (tool["function"]["name"] for tool in translated.chat["tools"])
    assert translated.custom_tools == {
        first: CUSTOM_TOOL,
        second: {"type": "custom", "name": "a b"},
    }
    assert first == "apply_patch"
    assert second != "a b", "no function may be called so"


PIECES = [
    {"index": 0, "id": "c", "type": "custom", "custom": {"name": "apply_patch", "input": ""}},
    {"index": 0, "custom": {"input": PATCH[:30]}},
    {"index": 0, "custom": {"input": PATCH[30:]}},
]


def chunks() -> list[JSON]:
    """Call a custom tool as a chat completion does in a stream."""
    deltas = [{"tool_calls": [piece]} for piece in PIECES]
    told = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return [*told, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]


def whole() -> JSON:
    called = {"name": "apply_patch", "input": PATCH}
    calls = [{"id": "c", "type": "custom", "custom": called}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


@pytest.mark.parametrize("stream", [False, True])
def test_a_custom_call_is_a_tools_use_in_the_messages_api(stream: bool) -> None:
    """That API has objects alone; only a tool of the rung's own can be called so there."""
    writer = MessageWriter({"model": "m"}, request_id="r", prompt_tokens=1)
    for chunk in chunks() if stream else [whole()]:
        writer.feed(chunk)
    writer.end()
    message = anthropic.types.Message.model_validate(writer.result())
    (block,) = message.content
    assert block.type == "tool_use"
    assert (block.name, block.input) == ("apply_patch", {"input": PATCH})
    assert message.stop_reason == "tool_use"


@pytest.mark.parametrize("tools", [[], [CUSTOM_TOOL]])
@pytest.mark.parametrize("stream", [False, True])
def test_a_custom_call_is_one_in_the_responses_api(stream: bool, tools: list[JSON]) -> None:
    writer = ResponseWriter({"model": "m", "tools": tools, "input": "Hi"}, request_id="r")
    events = [
        event for chunk in (chunks() if stream else [whole()]) for event in writer.feed(chunk)
    ]
    events += writer.end()
    (item,) = writer.result()["output"]
    assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", "apply_patch", PATCH)
    deltas = [e["delta"] for e in events if e["type"] == "response.custom_tool_call_input.delta"]
    assert "".join(deltas) == PATCH
    assert len(deltas) == (2 if stream else 1)
    (added,) = [e["item"] for e in events if e["type"] == "response.output_item.added"]
    assert (added["type"], added["input"], added["status"]) == (item["type"], "", "in_progress")
    assert not any("function_call" in event["type"] for event in events)


# -- Codex in its code mode: tools stand in an item alone, in namespaces, and some are custom ------

EXEC = CUSTOM_TOOL | {"name": "exec"}
SPAWN = {"type": "function", "name": "spawn", "parameters": {"type": "object"}}
MORE = {
    "type": "additional_tools",
    "role": "developer",
    "id": "at_1",
    "tools": [
        {"type": "namespace", "name": "functions", "description": "", "tools": [EXEC]},
        {"type": "namespace", "name": "agents", "description": "Agents.", "tools": [SPAWN]},
    ],
}
FLAT = {"name": "functions__exec"}
SCRIPT = {"name": "exec", "namespace": "functions", "input": "text(1)"}


async def test_a_custom_tool_of_a_namespace_is_called_by_both_names(
    tmp_path: Path, server: ResponseServer
) -> None:
    server.output = [CUSTOM_CALL | FLAT | {"input": "text(1)"}]
    asked: JSON = {"model": "gpt", "input": [MORE, {"type": "message", **ASKED}]}
    async with opened(server, tmp_path) as at:
        status, told = await at.post(asked, path="/v1/responses")
        assert status == 200
        (call,) = told["output"]
        output = {"type": "custom_tool_call_output", "call_id": "call_2", "output": "1"}
        asked["input"] += [call, output]
        choice = {"type": "custom", "name": "exec", "namespace": "functions"}
        status, _ = await at.post(asked | {"tool_choice": choice}, path="/v1/responses")
        assert status == 200
    assert {name: call[name] for name in SCRIPT} == SCRIPT
    custom, function = server.sent[-1]["tools"]
    assert custom == EXEC | FLAT
    assert (function["type"], function["name"]) == ("function", "agents__spawn")
    assert server.sent[-1]["tool_choice"] == {"type": "custom", **FLAT}
    items = server.sent[-1]["input"][1:]
    assert items == [
        {"type": "custom_tool_call", "call_id": "call_2", "input": "text(1)", **FLAT},
        output,
    ]


async def calls_exec(call: Call) -> None:
    function = {"name": "functions__exec", "arguments": json.dumps({"input": "text(1)"})}
    calls = [{"id": "c1", "type": "function", "function": function}]
    await call.reply(completion("", tool_calls=calls))


async def test_tools_that_stand_in_an_item_alone_keep_their_form(tmp_path: Path) -> None:
    """They came back as functions, which Codex does not know; from a kept response too."""
    async with site(tmp_path, more='responses_ttl = "1h"\n') as here:
        here.upstream.script = calls_exec
        first = await called(here, {"input": [MORE, ASKED]})
        output = {"type": "custom_tool_call_output", "call_id": "c1", "output": "1"}
        await called(here, {"input": [output], "previous_response_id": first})


async def called(here: Site, body: JSON) -> str:
    """Post a request whose answer calls the tool; returns the id of the response."""
    status, told = await here.post({"model": "big", "store": True, **body}, path="/v1/responses")
    assert status == 200
    (item,) = told["output"]
    assert item["type"] == "custom_tool_call"
    assert {name: item[name] for name in SCRIPT} == SCRIPT
    (exec_tool, _) = here.upstream.calls[-1].body["tools"]
    assert exec_tool["function"]["name"] == "functions__exec"
    assert exec_tool["function"]["parameters"]["required"] == ["input"]
    return str(told["id"])
