"""Reports of other people's gateways: what clients of today send, and what engines answer."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from gateway_support import DONE, HEAD, Call, Site, event, site, usage_event

JSON = dict[str, Any]
HI: JSON = {"role": "user", "content": "Hi"}
SPAWN: JSON = {"type": "function", "name": "spawn", "parameters": {"type": "object"}}
PATCH: JSON = {"type": "custom", "name": "patch", "description": "Mend."}
MORE: JSON = {
    "type": "additional_tools",
    "role": "developer",
    "id": "at_1",
    "tools": [{"type": "namespace", "name": "team", "tools": [SPAWN]}, PATCH],
}
WEATHER: JSON = {"name": "weather", "input_schema": {"type": "object"}, "defer_loading": True}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


async def sent(here: Site, path: str, body: JSON) -> JSON:
    """Post a request that is answered; returns what the engine got."""
    status, reply = await here.post({"model": "big", **body}, path=path)
    assert status == 200, reply
    return here.upstream.calls[-1].body


def names(body: JSON) -> list[str]:
    return [tool["function"]["name"] for tool in body.get("tools") or ()]


async def test_codex_offers_more_tools_as_an_item(here: Site) -> None:
    """mxyhi/token_proxy#307, 10/chatgpt-codex-proxy#9: the first request of a session failed."""
    body = await sent(here, "/v1/responses", {"input": [MORE, HI], "tools": [SPAWN]})
    assert names(body) == ["spawn", "team__spawn", "patch"]
    assert body["messages"] == [HI]
    empty = {**MORE, "tools": [{"type": "namespace", "name": "team", "tools": []}]}
    assert names(await sent(here, "/v1/responses", {"input": [empty, HI]})) == []
    odd = {**MORE, "tools": [{"type": "vendor_tool"}]}
    status, reply = await here.post({"model": "big", "input": [odd, HI]}, path="/v1/responses")
    assert status == 400
    assert "vendor_tool" in reply["error"]["message"]


async def test_tools_come_and_go_within_a_conversation(here: Site) -> None:
    """KarpelesLab/teamclaude#451: a tool that came later broke every request after it."""

    def change(kind: str) -> JSON:
        tool = {"type": "tool_reference", "name": "weather"}
        return {"role": "system", "content": [{"type": kind, "tool": tool}]}

    history = [HI, change("tool_addition"), {"role": "assistant", "content": "Ok."}, HI]
    ask = {"max_tokens": 9, "tools": [WEATHER]}
    body = await sent(here, "/v1/messages", {**ask, "messages": history})
    assert names(body) == ["weather"]
    assert body["messages"][1] == {"role": "system", "content": "The tool weather is available."}
    history += [change("tool_removal")]
    body = await sent(here, "/v1/messages", {**ask, "messages": history})
    assert names(body) == []
    assert body["messages"][-1]["content"] == "The tool weather is not available any more."
    back = [*history, change("tool_addition")]
    assert names(await sent(here, "/v1/messages", {**ask, "messages": back})) == ["weather"]


async def test_a_text_beside_an_empty_list_of_calls_is_text(here: Site) -> None:
    """BerriAI/litellm#29286: each piece of the text became an empty piece of a call."""

    async def script(call: Call) -> None:
        await call.events()
        for text in ("", "Rhi", "ne"):
            delta = {"content": text, "tool_calls": []}
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            await call.write(event({**HEAD, "choices": [choice]}))
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        await call.write(event({**HEAD, "choices": [end]}) + usage_event() + DONE)

    here.upstream.script = script
    body = {"model": "big", "max_tokens": 9, "stream": True, "messages": [HI]}
    async with here.http.post(here.url + "/v1/messages", json=body) as response:
        lines = (await response.text()).splitlines()
    data = [json.loads(line[5:]) for line in lines if line.startswith("data:")]
    deltas = [one["delta"] for one in data if one["type"] == "content_block_delta"]
    assert deltas == [{"type": "text_delta", "text": text} for text in ("Rhi", "ne")]


@pytest.mark.parametrize("content", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
async def test_an_instruction_may_come_in_the_middle(here: Site, content: Any) -> None:
    """anthropics/claude-code#63469: engines and gateways took users and assistants alone."""
    middle = {"role": "system", "content": content}
    history = [HI, {"role": "assistant", "content": "Ok."}, HI, middle]
    body = await sent(here, "/v1/messages", {"max_tokens": 9, "messages": history})
    assert body["messages"][-1] == {"role": "system", "content": "Be brief."}


async def test_a_tool_that_a_search_has_found_is_named(here: Site) -> None:
    """jwadow/kiro-gateway#89: a reference to a tool in a result locked the session."""
    found = {"type": "tool_reference", "tool_name": "weather"}
    use = {"type": "tool_use", "id": "t1", "name": "ToolSearch", "input": {"query": "rain"}}
    history = [
        HI,
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1",
                                      "content": [found]}]},
    ]  # fmt: skip
    ask = {"max_tokens": 9, "tools": [WEATHER], "messages": history}
    body = await sent(here, "/v1/messages", ask)
    assert body["messages"][-1]["content"] == "The tool weather is available."
    assert names(body) == ["weather"]


async def test_a_search_of_the_vendors_that_nobody_knows_is_passed_over(here: Site) -> None:
    """openai/codex#7073: the record of a search locked the session."""
    search = {"type": "web_search_call", "id": "ws_1", "action": {"type": "other"}}
    body = await sent(here, "/v1/responses", {"input": [HI, search, HI]})
    assert body["messages"] == [HI, HI]
