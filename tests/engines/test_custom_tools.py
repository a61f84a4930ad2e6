"""Tools that take free text, before servers of the Responses API and of chat completions."""

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from response_server import CUSTOM_CALL, CUSTOM_TOOL, PATCH, ResponseServer, asking, text_item

from suffice.config import DialectName, EngineConfig
from suffice.engines.base import last
from suffice.engines.calls import ToolCalls
from suffice.engines.custom_tools import custom_of, input_of
from suffice.engines.fold import Fold
from suffice.engines.openai import OpenAIEngine
from suffice.engines.responses import ResponsesEngine
from suffice.errors import EngineRefused
from suffice.types import Completion, Finish, Request, Rung

JSON = dict[str, Any]
RUNG = Rung(name="r", engine="o", model="gpt-5.5")
ASKED = {"role": "user", "content": "Mend it."}
GRAMMAR = {name: CUSTOM_TOOL["format"][name] for name in ("syntax", "definition")}
CHAT_TOOL = {
    "type": "custom",
    "custom": {
        "name": "apply_patch",
        "description": CUSTOM_TOOL["description"],
        "format": {"type": "grammar", "grammar": GRAMMAR},
    },
}
CALLED = {
    "id": "call_2",
    "type": "custom",
    "custom": {"name": "apply_patch", "input": PATCH},
}
FUNCTION = {"type": "function", "function": {"name": "apply_patch", "parameters": {}}}
RESULT = {"role": "tool", "tool_call_id": "call_2", "content": "Done."}
ITEM = {"type": "custom_tool_call", "call_id": "call_2", "name": "apply_patch", "input": PATCH}
OUTPUT = {"type": "custom_tool_call_output", "call_id": "call_2", "output": "Done."}


@pytest.fixture
async def server() -> AsyncIterator[ResponseServer]:
    wire = ResponseServer()
    wire.output = [text_item("I mend it."), CUSTOM_CALL]
    async with TestServer(wire.app()) as http:
        wire.url = f"http://127.0.0.1:{http.port}/v1"  # type: ignore[attr-defined]
        yield wire


async def answered(
    server: Any, request: Request, *, stream: bool, dialect: DialectName = "openai"
) -> Completion:
    config = EngineConfig(kind="responses", url=server.url, max_retries=0, dialect=dialect)
    async with ResponsesEngine(config) as engine:
        if stream:
            return await last(engine.relay(request, RUNG).items)
        return await engine.complete(request, RUNG)


def of_chat(*messages: JSON, **params: object) -> Request:
    """Ask as a chat client does."""
    params = {"tools": [CHAT_TOOL]} | params
    return Request(request_id="r", messages=(ASKED, *messages), params=params)


def of_codex(*messages: JSON, **params: object) -> Request:
    """Ask as the gateway does for a client of the Responses API."""
    return Request(
        request_id="r",
        messages=(ASKED, *messages),
        params={"tools": [FUNCTION]} | params,
        custom_tools={"apply_patch": CUSTOM_TOOL},
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asks", [of_chat, of_codex])
async def test_a_custom_tool_goes_out_and_is_called_as_one(
    server: ResponseServer, asks: Any, stream: bool
) -> None:
    completion = await answered(server, asks(), stream=stream)
    assert server.sent[-1]["tools"] == [CUSTOM_TOOL]
    assert completion.tool_calls == (CALLED,)
    assert completion.finish is Finish.TOOL_CALLS
    assert completion.text == "I mend it."


@pytest.mark.parametrize(
    ("asks", "call"),
    [
        (of_chat, CALLED),
        (
            of_codex,
            {
                "id": "call_2",
                "type": "function",
                "function": {"name": "apply_patch", "arguments": json.dumps({"input": PATCH})},
            },
        ),
        (of_codex, CALLED),
    ],
)
async def test_calls_of_earlier_turns_and_their_results_are_items_of_custom_tools(
    server: ResponseServer, asks: Any, call: JSON
) -> None:
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    await answered(server, asks(turn, RESULT), stream=False)
    assert server.sent[-1]["input"][1:] == [ITEM, OUTPUT]


async def test_a_call_without_a_result_was_interrupted(server: ResponseServer) -> None:
    turn = {"role": "assistant", "tool_calls": [CALLED]}
    await answered(server, of_chat(turn, ASKED), stream=False)
    assert server.sent[-1]["input"][2]["type"] == "custom_tool_call_output"


@pytest.mark.parametrize(
    ("asks", "choice"),
    [
        (of_chat, {"type": "custom", "custom": {"name": "apply_patch"}}),
        (of_codex, {"type": "function", "function": {"name": "apply_patch"}}),
    ],
)
async def test_a_custom_tool_can_be_chosen(server: ResponseServer, asks: Any, choice: JSON) -> None:
    named = {"type": "custom", "name": "apply_patch"}
    await answered(server, asks(tool_choice=choice), stream=False)
    assert server.sent[-1]["tool_choice"] == named
    several = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [choice]}}
    await answered(server, asks(tool_choice=several), stream=False)
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [named]}
    assert server.sent[-1]["tool_choice"] == allowed


async def test_a_format_of_text_goes_out_as_it_is(server: ResponseServer) -> None:
    plain: JSON = {"name": "say", "format": {"type": "text"}}
    bare: JSON = {"name": "note"}
    tools = [{"type": "custom", "custom": one} for one in (plain, bare)]
    await answered(server, of_chat(tools=tools), stream=False)
    assert server.sent[-1]["tools"] == [{"type": "custom", **plain}, {"type": "custom", **bare}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (json.dumps({"input": PATCH}), PATCH),
        (json.dumps({"patch": PATCH}), PATCH),
        (PATCH, PATCH),
        ("", ""),
    ],
)
async def test_a_server_without_custom_tools_gets_a_function(
    server: ResponseServer, stream: bool, arguments: str, text: str
) -> None:
    """https://github.com/ggml-org/llama.cpp/pull/23041: it leaves other tools out."""
    call = {"id": "fc_2", "type": "function_call", "call_id": "call_2", "name": "apply_patch"}
    server.output = [call | {"arguments": arguments}]
    completion = await answered(server, of_codex(), stream=stream, dialect="llamacpp")
    (tool,) = server.sent[-1]["tools"]
    assert (tool["type"], tool["name"]) == ("function", "apply_patch")
    (called,) = completion.tool_calls
    assert called["custom"] == {"name": "apply_patch", "input": text}
    with pytest.raises(EngineRefused, match="custom") as caught:
        await answered(server, of_chat(), stream=stream, dialect="llamacpp")
    assert "dialect" in (caught.value.hint or "")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_calls_a_custom_tool_as_a_function_has_called_it(
    server: ResponseServer, stream: bool
) -> None:
    """https://github.com/router-for-me/CLIProxyAPI/issues/5753: servers of other models do so."""
    call = {"id": "fc_2", "type": "function_call", "call_id": "call_2", "name": "apply_patch"}
    server.output = [call | {"arguments": json.dumps({"input": PATCH})}]
    for asks in (of_chat, of_codex):
        completion = await answered(server, asks(), stream=stream)
        assert completion.tool_calls == (CALLED,)


async def test_the_name_of_a_tool_is_the_engines_there_and_the_chats_here(
    server: ResponseServer,
) -> None:
    """Functions have shorter names, of fewer characters."""
    server.output = [CUSTOM_CALL | {"name": "a tool"}]
    function = {"type": "function", "function": {"name": "a_tool_1"}}
    request = Request(
        request_id="r",
        messages=(ASKED,),
        params={"tools": [function]},
        custom_tools={"a_tool_1": CUSTOM_TOOL | {"name": "a tool"}},
    )
    completion = await answered(server, request, stream=True)
    assert server.sent[-1]["tools"][0]["name"] == "a tool"
    assert completion.tool_calls[0]["custom"]["name"] == "a_tool_1"


async def test_the_text_of_a_custom_tool_comes_in_pieces() -> None:
    """Events of gpt-5-nano: https://github.com/Oaklight/llm-rosetta/issues/182."""
    place = {"item_id": "ctc_1", "output_index": 0}
    item = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "call_1", "name": "shell"}
    whole = item | {"input": "echo hello", "status": "completed"}
    kind = "response.custom_tool_call_input"
    events = [
        {"type": "response.created", "response": {"id": "resp_1", "model": "gpt-5-nano"}},
        {"type": "response.output_item.added", "item": item | {"input": ""}, "output_index": 0},
        {"type": f"{kind}.delta", "delta": "echo", **place},
        {"type": f"{kind}.delta", "delta": " hello", **place},
        {"type": f"{kind}.done", "input": "echo hello", **place},
        {"type": "response.output_item.done", "item": whole, "output_index": 0},
        {"type": "response.completed", "response": {"output": [whole], "status": "completed"}},
    ]
    for left_out in ((), (2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5)):
        told = [event for number, event in enumerate(events) if number not in left_out]

        async def answer(request: web.Request, told: list[JSON] = told) -> web.StreamResponse:
            stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await stream.prepare(request)
            for event in told:
                await stream.write(f"data: {json.dumps(event)}\n\n".encode())
            return stream

        tool = {"type": "custom", "custom": {"name": "shell"}}
        async with asking(answer) as engine:
            items = [i async for i in engine.relay(of_chat(tools=[tool]), RUNG).items]
        chunks = [json.loads(i[6:]) for i in items[:-1] if isinstance(i, bytes)]
        parts = [
            part
            for chunk in chunks
            for choice in chunk["choices"]
            for part in choice["delta"].get("tool_calls", ())
        ]
        assert (parts[0]["id"], parts[0]["type"]) == ("call_1", "custom")
        assert {part["index"] for part in parts} == {0}
        texts = [part["custom"]["input"] for part in parts]
        assert "".join(texts) == "echo hello"
        if not left_out:
            assert texts == ["", "echo", " hello"]
        assert items[-1].tool_calls[0]["custom"] == {"name": "shell", "input": "echo hello"}


# -- chat completions: the form that https://github.com/openai/openai-openapi/issues/576 shows -----

PARTS = [
    {"index": 0, "id": "call_2", "type": "custom", "custom": {"name": "apply_patch", "input": ""}},
    {"index": 0, "type": "custom", "custom": {"input": PATCH[:9]}},
    {"index": 0, "type": "custom", "custom": {"input": PATCH[9:]}},
]


async def test_custom_calls_of_a_chat_engine_reach_the_client() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked.append(body)
        if not body.get("stream"):
            message = {"role": "assistant", "content": None, "tool_calls": [CALLED]}
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            return web.json_response({"id": "c", "object": "chat.completion", "choices": [choice]})
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        for number, part in enumerate([*PARTS, None]):
            delta = {} if part is None else {"tool_calls": [part]}
            finish = "tool_calls" if part is None else None
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            chunk = {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}
            await stream.write(f"data: {json.dumps(chunk | {'created': number})}\n\n".encode())
        await stream.write(b"data: [DONE]\n\n")
        return stream

    asked: list[JSON] = []
    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with TestServer(app) as http:
        url = f"http://127.0.0.1:{http.port}/v1"
        config = EngineConfig(kind="openai", url=url, max_retries=0, dialect="azure")
        async with OpenAIEngine(config) as engine:
            whole = await engine.complete(of_chat(), RUNG)
            items = [item async for item in engine.relay(of_chat(), RUNG).items]
            turn = {"role": "assistant", "content": None, "tool_calls": [CALLED]}
            await engine.complete(of_chat(turn, RESULT), RUNG)
    assert asked.pop()["messages"][1:] == [turn, RESULT], "as OpenAI's own API takes them"
    assert [body["tools"] for body in asked] == [[CHAT_TOOL]] * 2
    assert whole.tool_calls == items[-1].tool_calls == (CALLED,)
    assert json.loads(whole.wire or b"")["choices"][0]["message"]["tool_calls"] == [CALLED]
    data = b"".join(item for item in items if isinstance(item, bytes)).decode()
    chunks = [json.loads(line[6:]) for line in data.splitlines() if line]
    told = [part for c in chunks for part in c["choices"][0]["delta"].get("tool_calls", ())]
    assert told == PARTS


def test_custom_calls_side_by_side_stay_apart() -> None:
    calls = ToolCalls()
    second = {
        "index": 0,
        "id": "call_3",
        "type": "custom",
        "custom": {"name": "say", "input": "{}"},
    }
    ready = calls.add([*PARTS, second])
    assert [part["index"] for part in ready] == [0, 0, 0, 1]
    assert [call["custom"]["input"] for call in calls.calls] == [PATCH, "{}"]
    assert calls.end() == [], "no text is whole without a word, and none is made up"


def test_an_empty_custom_beside_a_function_says_nothing() -> None:
    """https://github.com/earendil-works/pi/issues/8504."""
    function = {"name": "f", "arguments": '{"a": 1}'}
    part = {"index": 0, "id": "call_1", "type": "function", "function": function, "custom": {}}
    calls = ToolCalls()
    assert calls.add([part])[0]["function"] == function
    assert calls.calls[0]["function"] == function
    assert "custom" not in calls.calls[0]
    assert custom_of(part) is None


def test_what_a_custom_call_has_used_is_estimated_from_its_text() -> None:
    fold = Fold()
    delta = {"tool_calls": [PARTS[0] | {"custom": {"name": "apply_patch", "input": "x" * 4000}}]}
    chunk = {"choices": [{"index": 0, "delta": delta}]}
    fold.feed(b"data: " + msgspec.json.encode(chunk) + b"\n\n")
    output = fold.used().output_tokens
    assert output is not None
    assert output.tokens > 500
    assert fold.reply().choices[0].written == "apply_patch" + "x" * 4000


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input": "a\\nb"}', "a\nb"),
        ('{"input": 3}', "3"),
        ('{"patch": "p"}', "p"),
        ('{"a": "p", "b": "q"}', '{"a":"p","b":"q"}'),
        ("{}", ""),
        ("", ""),
        ("plain", "plain"),
        ('["a"]', '["a"]'),
    ],
)
def test_the_text_of_a_function_is_found(arguments: str, text: str) -> None:
    assert input_of(arguments) == text
