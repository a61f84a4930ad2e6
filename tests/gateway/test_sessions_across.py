"""Sessions that change their API at any turn, or come from another gateway: carried, or refused in
the API's own shape; booked either way, and nothing is lost on the way."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from gateway_support import CHAT, Call, Site, completion, site

JSON = dict[str, Any]
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
OPAQUE = {"google": {"thought_signature": "sig+/="}}


async def calls_once(call: Call) -> None:
    """Call a tool in the first turn, with what the engine wants back; talk afterwards."""
    if any(message["role"] == "tool" for message in call.body["messages"]):
        await call.reply(completion("4"))
        return
    function = {"name": "add", "arguments": '{"a":2}'}
    made = {"id": "call:1", "type": "function", "function": function, "extra_content": OPAQUE}
    await call.reply(completion("", tool_calls=[made], reasoning_content="hm"))


def asked(path: str, history: list[JSON], tools: list[JSON] | None = None) -> JSON:
    if path == CHAT:
        return {"model": "big", "messages": history, "tools": tools}
    if path == RESPONSES:
        return {"model": "big", "input": history, "tools": tools}
    return {"model": "big", "messages": history, "tools": tools, "max_tokens": 9}


TOOLS: dict[str, list[JSON]] = {
    CHAT: [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}],
    RESPONSES: [{"type": "function", "name": "add", "parameters": {"type": "object"}}],
    MESSAGES: [{"name": "add", "input_schema": {"type": "object"}}],
}
USER = {"role": "user", "content": "What is 2 + 2?"}


def id_of_call(path: str, answer: JSON) -> str:
    """Return the id of the call as a client of that API sees it."""
    if path == CHAT:
        return str(answer["choices"][0]["message"]["tool_calls"][0]["id"])
    if path == RESPONSES:
        return str(next(i for i in answer["output"] if i["type"] == "function_call")["call_id"])
    return str(next(b for b in answer["content"] if b["type"] == "tool_use")["id"])


def history(path: str, call_id: str) -> list[JSON]:
    """Write the session so far in an API's form, as a client does that changes to it."""
    if path == CHAT:
        function = {"name": "add", "arguments": '{"a":2}'}
        call = {"id": call_id, "type": "function", "function": function}
        said = {"role": "assistant", "content": None, "tool_calls": [call]}
        return [USER, said, {"role": "tool", "tool_call_id": call_id, "content": "4"}]
    if path == RESPONSES:
        call = {"type": "function_call", "call_id": call_id, "name": "add", "arguments": '{"a":2}'}
        return [USER, call, {"type": "function_call_output", "call_id": call_id, "output": "4"}]
    used = {"type": "tool_use", "id": call_id, "name": "add", "input": {"a": 2}}
    result = {"type": "tool_result", "tool_use_id": call_id, "content": "4"}
    said = {"role": "assistant", "content": [used]}
    return [USER, said, {"role": "user", "content": [result]}]


@pytest.mark.parametrize("after", [CHAT, RESPONSES, MESSAGES])
@pytest.mark.parametrize("before", [RESPONSES, MESSAGES])
async def test_a_session_goes_on_in_another_api(tmp_path: Path, before: str, after: str) -> None:
    async with site(tmp_path) as here:
        here.upstream.script = calls_once
        status, first = await here.post(asked(before, [USER], TOOLS[before]), path=before)
        assert status == 200
        told = history(after, id_of_call(before, first))
        status, _ = await here.post(asked(after, told, TOOLS[after]), path=after)
        assert status == 200
        sent = here.upstream.calls[-1].body["messages"]
        [call] = sent[1]["tool_calls"]
        assert (call["id"], sent[2]["tool_call_id"]) == ("call:1", "call:1")
        assert call["extra_content"] == OPAQUE
        assert json.loads(call["function"]["arguments"]) == {"a": 2}
        assert [row["status"] for row in here.rows()] == ["ok", "ok"]


FOREIGN_ITEMS: dict[str, list[JSON]] = {
    CHAT: [
        {"role": "assistant", "content": "4", "reasoning_details": [{"data": "foreign"}]},
        {"role": "assistant", "content": "4", "thinking_blocks": [{"signature": "foreign"}]},
        {"role": "assistant", "content": "4", "vendor_field": 1},
    ],
    RESPONSES: [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA-foreign"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "item_reference", "id": "msg_of_another_gateway"},
        {"type": "vendor_item", "a": 1},
        {
            "id": "msg_9",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [],
        },
    ],
    MESSAGES: [
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "hm", "signature": "EqMBforeign"}],
        },
        {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "foreign"}]},
        {"role": "assistant", "content": [{"type": "vendor_block", "a": 1}]},
        {"role": "assistant", "content": [{"type": "server_tool_use", "id": "s", "name": "x"}]},
    ],
}
ODD_TOOLS: dict[str, list[JSON]] = {
    CHAT: [{"type": "vendor_tool"}, {"type": "custom", "custom": {"name": "c"}}],
    RESPONSES: [{"type": "vendor_tool"}, {"type": "mcp", "server_label": "x"}, {}],
    MESSAGES: [{"type": "vendor_tool_20301231", "name": "v"}, {"type": "custom"}, {"name": 3}],
}
ODD_IDS = ["functions.add:0", "x" * 300, "ü", "call-s1-", "call-s1-%%%", "-s1-e30", ""]


async def in_shape(here: Site, path: str, body: JSON) -> None:
    """Send a request that was put together at random, and check what every one must hold."""
    before = len({row["request_id"] for row in here.rows()})
    status, answer = await here.post(body, path=path)
    rows = here.rows()
    assert len({row["request_id"] for row in rows}) == before + 1, "not booked"
    assert rows[-1]["status"] == ("ok" if status == 200 else "refused")
    if status == 200:
        kind = {CHAT: "choices", RESPONSES: "output", MESSAGES: "content"}[path]
        assert kind in answer
        for message in here.upstream.calls[-1].body["messages"]:
            assert isinstance(message["role"], str)
        return
    assert 400 <= status < 500, answer
    assert answer["error"]["message"]
    assert answer["error"]["hint"]
    assert (answer.get("type") == "error") is (path == MESSAGES)


@pytest.mark.parametrize("seed", range(3))
async def test_foreign_history_and_odd_tools_are_carried_or_refused_clearly_and_booked(
    tmp_path: Path, seed: int
) -> None:
    async def talks(call: Call) -> None:
        await call.reply(completion("4"))

    draw = random.Random(seed)
    async with site(tmp_path) as here:
        here.upstream.script = talks
        for _ in range(25):
            path = draw.choice([CHAT, RESPONSES, MESSAGES])
            told = history(path, draw.choice(ODD_IDS)) if draw.random() < 0.5 else [USER]
            extra = draw.sample(FOREIGN_ITEMS[path], draw.randrange(3))
            told = [USER, *extra, *told[:1], *told[1:]]
            tools = TOOLS[path] + draw.sample(ODD_TOOLS[path], draw.randrange(2))
            await in_shape(here, path, asked(path, told, tools))
