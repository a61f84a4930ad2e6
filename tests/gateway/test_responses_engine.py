"""Clients of each API before an engine of the Responses API, whose thoughts must go back to it."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from aiohttp.test_utils import TestServer
from gateway_support import site
from response_server import CALL, HOSTED, THOUGHT, ResponseServer, text_item

from suffice.gateway.keys import KeyLimits, add_key

JSON = dict[str, Any]
ENGINE = f"""{HOSTED}
[price.list]
provider = "openai"
model = "gpt-5"

[[ladder]]
name = "gpt"
engine = "hosted"
model = "gpt-5.5"
price = "list"
effort = "high"
"""
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"name": "get_weather", "description": "Weather.", "parameters": PARAMETERS}


SEALED = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAAmore"}
PREAMBLE = text_item("I look it up.") | {"phase": "commentary"}


@pytest.fixture
def server() -> ResponseServer:
    wire = ResponseServer()
    wire.output = [THOUGHT, text_item("I look it up."), CALL]
    return wire


@pytest.mark.parametrize("thoughts", [[], [THOUGHT], [SEALED]])
@pytest.mark.parametrize("more", [[], [SEALED]])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", ["messages", "responses"])
async def test_all_that_is_sealed_comes_back_in_its_order(
    tmp_path: Path, api: str, stream: bool, thoughts: list[JSON], more: list[JSON]
) -> None:
    """Thoughts without a summary, and the phase of a preamble, have no block of their own."""
    server = ResponseServer()
    server.output = [*thoughts, PREAMBLE, *more, CALL]
    tool = {"type": "function", "strict": False, **FUNCTION}
    turns: list[Any] = [{"role": "user", "content": "Weather in Paris?"}]
    async with TestServer(server.app()) as http, here(tmp_path, http) as at:
        if api == "messages":
            claude = anthropic.AsyncAnthropic(base_url=at.url, api_key="x", max_retries=0)
            tool = {"name": "get_weather", "input_schema": PARAMETERS}
            fields: Any = {"model": "gpt", "tools": [tool], "max_tokens": 1000}
            if stream:
                async with claude.messages.stream(messages=turns, **fields) as events:
                    message = await events.get_final_message()
            else:
                message = await claude.messages.create(messages=turns, **fields)
            content = [block.model_dump(exclude_none=True) for block in message.content]
            (call_id,) = (block["id"] for block in content if block["type"] == "tool_use")
            result = {"type": "tool_result", "tool_use_id": call_id, "content": "20 degrees"}
            turns += [
                {"role": "assistant", "content": content},
                {"role": "user", "content": [result]},
            ]
            await claude.messages.create(messages=turns, **fields)
            await claude.close()
        else:
            client = openai.AsyncOpenAI(base_url=f"{at.url}/v1", api_key="x", max_retries=0)
            fields = {"model": "gpt", "tools": [tool], "include": ["reasoning.encrypted_content"]}
            if stream:
                async with client.responses.stream(input=turns, **fields) as events:
                    response: Any = await events.get_final_response()
            else:
                response = await client.responses.create(input=turns, **fields)
            turns += [item.model_dump(exclude_none=True) for item in response.output]
            (call_id,) = (i.call_id for i in response.output if i.type == "function_call")
            output = {"type": "function_call_output", "call_id": call_id, "output": "20 degrees"}
            await client.responses.create(input=[*turns, output], **fields)
            await client.close()
    _, *items, call, _ = server.sent[-1]["input"]
    expected = [*(one["encrypted_content"] for one in thoughts), "commentary"]
    expected += [one["encrypted_content"] for one in more]
    assert [item.get("encrypted_content") or item.get("phase") for item in items] == expected
    assert call["call_id"] == CALL["call_id"]


async def told_back(server: ResponseServer) -> list[str]:
    """Return the types of the second request's items, once the thought is the engine's own."""
    items = server.sent[-1]["input"]
    (thought,) = [item for item in items if item["type"] == "reasoning"]
    assert thought["encrypted_content"] == THOUGHT["encrypted_content"]
    assert thought["summary"] == THOUGHT["summary"]
    assert server.sent[-1]["reasoning"] == {"effort": "high"}
    return [item["type"] for item in items]


TURNS = ["message", "reasoning", "message", "function_call", "function_call_output"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_session_of_responses(tmp_path: Path, server: ResponseServer, stream: bool) -> None:
    async with TestServer(server.app()) as http, here(tmp_path, http) as at:
        client = openai.AsyncOpenAI(base_url=f"{at.url}/v1", api_key="x", max_retries=0)
        turns: list[Any] = [{"role": "user", "content": "Weather in Paris?"}]
        tools: Any = [{"type": "function", "strict": False, **FUNCTION}]
        fields: Any = {"model": "gpt", "tools": tools, "include": ["reasoning.encrypted_content"]}
        if stream:
            async with client.responses.stream(input=turns, **fields) as events:
                response = await events.get_final_response()
        else:
            response = await client.responses.create(input=turns, **fields)
        assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
        turns += [item.model_dump(exclude_none=True) for item in response.output]
        output = {"type": "function_call_output", "call_id": response.output[-1].call_id}
        await client.responses.create(input=[*turns, output | {"output": "20 degrees"}], **fields)
        await client.close()
        assert await told_back(server) == TURNS
        rows = at.rows()
    usd = (4 * Decimal("1.25") + 16 * Decimal("0.125") + 16 * 10) / 10**6
    assert [row["charge_picousd"] for row in rows] == [int(usd * 10**12)] * 2
    assert not any(row["charge_estimated"] for row in rows)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_session_of_messages(tmp_path: Path, server: ResponseServer, stream: bool) -> None:
    async with TestServer(server.app()) as http, here(tmp_path, http) as at:
        client = anthropic.AsyncAnthropic(base_url=at.url, api_key="x", max_retries=0)
        turns: list[Any] = [{"role": "user", "content": "Weather in Paris?"}]
        tools: Any = [{"name": "get_weather", "input_schema": PARAMETERS}]
        fields: Any = {"model": "gpt", "tools": tools, "max_tokens": 1000}
        if stream:
            async with client.messages.stream(messages=turns, **fields) as events:
                message = await events.get_final_message()
        else:
            message = await client.messages.create(messages=turns, **fields)
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
        assert message.stop_reason == "tool_use"
        content = [block.model_dump(exclude_none=True) for block in message.content]
        result = {"type": "tool_result", "tool_use_id": content[-1]["id"], "content": "20 degrees"}
        turns += [{"role": "assistant", "content": content}, {"role": "user", "content": [result]}]
        await client.messages.create(messages=turns, **fields)
        await client.close()
        assert await told_back(server) == TURNS


@pytest.mark.parametrize("stream", [False, True])
async def test_a_session_of_chat(tmp_path: Path, server: ResponseServer, stream: bool) -> None:
    async with TestServer(server.app()) as http, here(tmp_path, http) as at:
        client = openai.AsyncOpenAI(base_url=f"{at.url}/v1", api_key="x", max_retries=0)
        turns: list[Any] = [{"role": "user", "content": "Weather in Paris?"}]
        fields: Any = {"model": "gpt", "tools": [{"type": "function", "function": FUNCTION}]}
        if stream:
            async with client.chat.completions.stream(messages=turns, **fields) as events:
                completion: Any = await events.get_final_completion()
        else:
            completion = await client.chat.completions.create(messages=turns, **fields)
        choice = completion.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "I look it up."
        turns.append(choice.message.model_dump(exclude_none=True))
        result = {"role": "tool", "tool_call_id": CALL["call_id"], "content": "20 degrees"}
        raw = await client.chat.completions.with_raw_response.create(
            messages=[*turns, result], seed=3, **fields
        )
        await client.close()
        assert await told_back(server) == TURNS
        assert raw.headers["x-suffice-ignored"] == "seed"


async def test_a_budget_holds_for_the_fewest_tokens_that_the_api_takes(
    tmp_path: Path, server: ResponseServer
) -> None:
    """A limit of one token goes out as 16."""
    price = "input_usd_per_mtok = 1\noutput_usd_per_mtok = 1000"
    limits = KeyLimits(budget_usd_per_day=Decimal("0.015"))
    secret = add_key(tmp_path / "keys.json", "poor", limits=limits)
    asked = {"model": "gpt", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    async with TestServer(server.app()) as http:
        more = ENGINE.replace('provider = "openai"\nmodel = "gpt-5"', price)
        more = f'keys = "{tmp_path / "keys.json"}"\n' + more.replace("{port}", str(http.port))
        async with site(tmp_path, more=more) as at:
            status, told = await at.post(asked, authorization=f"Bearer {secret}")
    assert status == 429
    assert "budget" in told["error"]["message"]
    assert not server.sent


async def test_a_prompt_of_messages_is_counted_by_the_server(
    tmp_path: Path, server: ResponseServer
) -> None:
    asked = {"model": "gpt", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    async with TestServer(server.app()) as http, here(tmp_path, http) as at:
        status, told = await at.post(asked, path="/v1/messages/count_tokens")
    assert (status, told["input_tokens"], told["suffice"]["source"]) == (200, 20, "counted")


def here(tmp_path: Path, http: TestServer) -> Any:
    return site(tmp_path, more=ENGINE.replace("{port}", str(http.port)))
