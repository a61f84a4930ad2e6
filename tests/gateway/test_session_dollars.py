"""A coding agent's whole session: our dollars are the server's own, to the picodollar."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from charging_server import ChargingServer
from gateway_support import Site, site

JSON = dict[str, Any]
PATH = "/v1/messages?beta=true"
CLAUDE = """
[engine.claude]
kind = "anthropic"
url = "http://127.0.0.1:{port}/v1"
max_retries = 0

[price.list]
provider = "anthropic"
model = "claude-sonnet-4-5"

[[ladder]]
name = "claude"
engine = "claude"
model = "claude-sonnet-4-5"
price = "list"
"""
HOUR = {"type": "ephemeral", "ttl": "1h"}
TOOLS = [{"name": "Bash", "description": "Run.", "input_schema": {"type": "object"}}]
CALL = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}}
THOUGHT = {"type": "thinking", "thinking": "dry or wet?", "signature": "c2lnbmVk"}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Rhine.md " * 80}


def text(words: str, **fields: Any) -> JSON:
    return {"type": "text", "text": words, **fields}


def body(turns: list[JSON], *, system: str, stream: bool) -> JSON:
    """Write a request as Claude Code does: the last block is marked, and the system's second."""
    *before, last = turns
    *blocks, end = last["content"]
    marked = {**end, "cache_control": {"type": "ephemeral"}}
    return {
        "model": "claude",
        "max_tokens": 32_000,
        "stream": stream,
        "metadata": {"user_id": "user_1_account__session_9"},
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "system": [
            text("x-anthropic-billing-header: cch=00001;"),
            text(system, cache_control=HOUR),
        ],
        "tools": TOOLS,
        "messages": [*before, {**last, "content": [*blocks, marked]}],
    }


async def ask(here: Site, turns: list[JSON], **fields: Any) -> None:
    async with here.http.post(here.url + PATH, json=body(turns, **fields)) as response:
        assert response.status == 200
        assert b"message_stop" in await response.read() or not fields["stream"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_session_with_its_sub_agent_costs_what_the_server_charges(
    tmp_path: Path, stream: bool
) -> None:
    stub = ChargingServer()
    http = TestServer(stub.app())
    await http.start_server()
    async with http, site(tmp_path, more=CLAUDE.replace("{port}", str(http.port))) as here:
        turns: list[JSON] = []
        agent = [{"role": "user", "content": [text("Name the river. " * 30)]}]
        for number in range(8):
            turns.append({"role": "user", "content": [text(f"Turn {number}. " * 60)]})
            stub.content, stub.stop_reason = [THOUGHT, text("Look."), CALL], "tool_use"
            await ask(here, turns, system="You help with code. " * 200, stream=stream)
            turns.append({"role": "assistant", "content": stub.content})
            turns.append({"role": "user", "content": [RESULT]})
            stub.content, stub.stop_reason = [text("The Rhine.")], "end_turn"
            await ask(here, turns, system="You help with code. " * 200, stream=stream)
            turns.append({"role": "assistant", "content": stub.content})
            if number % 3 == 0:
                await ask(here, agent, system="You are an agent. " * 90, stream=stream)
        rows = here.rows()
    assert len(rows) == len(stub.sent) == 19
    assert {(row["status"], row["charge_estimated"]) for row in rows} == {("ok", 0)}
    assert sum(row["charge_picousd"] for row in rows) == stub.usd * Decimal(10**12)
    sent = json.dumps(stub.sent)
    assert sent.count('"ttl": "1h"') == 19
