"""Streams that are silent for long: comments keep their connection, and change nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway_support import (
    CHAT,
    CLAUDE,
    DONE,
    Call,
    Site,
    chunk,
    event,
    site,
    usage_event,
)

JSON = dict[str, Any]
MORE = "keepalive_s = 0.05\n"
COMMENT = ": keepalive"
PING = 'event: ping\ndata: {"type": "ping"}'
SILENCE = {CHAT: COMMENT, "/v1/responses": COMMENT, "/v1/messages": PING}
ASKS = {
    CHAT: {
        "messages": [{"role": "user", "content": "Hi"}],
        "stream_options": {"include_usage": True},
    },
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, more=MORE) as made:
        yield made


async def streamed(here: Site, path: str, model: str = "big") -> tuple[Any, str]:
    body = {"model": model, "stream": True, **ASKS[path]}
    async with here.http.post(here.url + path, json=body) as response:
        text = b""
        with suppress(aiohttp.ClientPayloadError):  # a stream that breaks off has no end
            async for part in response.content.iter_any():
                text += part
        return response, text.decode()


async def pauses(call: Call) -> None:
    """Write half a chunk before the silence, and half after it."""
    await call.events()
    await call.write(chunk(content="fo"))
    data = chunk(content="ur")
    await call.write(data[:30])
    await asyncio.sleep(0.3)
    await call.write(data[30:] + chunk(finish="stop") + usage_event() + DONE)


@pytest.mark.parametrize("path", ASKS)
async def test_a_silence_within_a_stream_is_filled(here: Site, path: str) -> None:
    here.upstream.script = pauses
    response, text = await streamed(here, path)
    assert response.headers["x-suffice-rung"] == "big"
    assert 2 <= text.count(SILENCE[path]) <= 8
    for block in text.split("\n\n"):
        assert block == SILENCE[path] or SILENCE[path] not in block
    told = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    words = json.dumps(told)
    assert '"fo"' in words
    assert '"ur"' in words
    assert here.rows()[-1]["status"] == "ok"


async def test_a_stream_that_flows_has_no_comments(here: Site) -> None:
    async def flows(call: Call) -> None:
        await call.events()
        for _ in range(10):
            await call.write(chunk(content="x"))
            await asyncio.sleep(0.02)
        await call.write(chunk(finish="stop") + usage_event() + DONE)

    here.upstream.script = flows
    _, text = await streamed(here, CHAT)
    assert text.count(COMMENT) <= 1, "a busy machine may be late once"


async def silent(call: Call) -> None:
    await asyncio.sleep(0.3)
    await call.events()
    await call.write(chunk(content="four") + chunk(finish="stop") + usage_event() + DONE)


@pytest.mark.parametrize("path", ASKS)
async def test_before_its_first_word_a_stream_is_begun_where_the_operator_wants_it(
    tmp_path: Path, path: str
) -> None:
    async with site(tmp_path, more=MORE + "open_after_s = 0.05\n") as here:
        here.upstream.script = silent
        response, text = await streamed(here, path)
        assert response.status == 200
        assert "x-suffice-rung" not in response.headers, "nobody knew it yet"
        row = here.rows()[-1]
        assert response.headers["x-suffice-request-id"] == row["request_id"]
        assert text.startswith(SILENCE[path])
        assert "four" in text
        assert '"rung":"big"' in text.replace(" ", "")


async def test_a_rung_that_fails_late_is_still_stood_in_for(tmp_path: Path) -> None:
    async def fails(call: Call) -> None:
        if call.body["model"] == "small-model":
            await asyncio.sleep(0.2)
            await call.reply({"error": {"message": "no"}}, status=500)
        else:
            await silent(call)

    async with site(tmp_path, more=MORE + "open_after_s = 0.05\n") as here:
        here.upstream.script = fails
        _, text = await streamed(here, CHAT, model="small")
        assert "four" in text
        assert here.rows()[-1]["rung"] == "big"


async def test_an_error_after_that_comes_in_the_stream(tmp_path: Path) -> None:
    async def fails(call: Call) -> None:
        await asyncio.sleep(0.2)
        await call.reply({"error": {"message": "no"}}, status=500)

    async with site(tmp_path, more=MORE + "open_after_s = 0.05\n") as here:
        here.upstream.script = fails
        response, text = await streamed(here, CHAT)
        assert response.status == 200
        assert '"error"' in text
        assert here.rows()[-1]["status"] == "failed"


async def test_without_it_an_error_keeps_its_status(here: Site) -> None:
    async def fails(call: Call) -> None:
        await asyncio.sleep(0.2)
        await call.reply({"error": {"message": "no"}}, status=500)

    here.upstream.script = fails
    response, _ = await streamed(here, CHAT)
    assert response.status >= 500


async def test_a_ping_never_stands_within_an_event_of_an_engine_of_the_same_api(
    tmp_path: Path,
) -> None:
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "4"}}

    async def halves(call: Call) -> None:
        await call.events()
        message = {"id": "msg_1", "role": "assistant", "content": [], "usage": {"input_tokens": 3}}
        await call.write(event({"type": "message_start", "message": message}))
        block = {"type": "text", "text": ""}
        await call.write(event({"type": "content_block_start", "index": 0, "content_block": block}))
        data = event(text)
        for part in (data[:30], data[30:-1], data[-1:]):
            await call.write(part)
            await asyncio.sleep(0.12)
        delta = {"stop_reason": "end_turn"}
        await call.write(event({"type": "content_block_stop", "index": 0}))
        usage = {"output_tokens": 2}
        await call.write(event({"type": "message_delta", "delta": delta, "usage": usage}))
        await call.write(event({"type": "message_stop"}))

    async with site(tmp_path, more=MORE + CLAUDE) as here:
        here.upstream.script = halves
        response, answer = await streamed(here, "/v1/messages", model="claude")
        assert response.headers["x-suffice-rung"] == "claude"
        blocks = [block for block in answer.split("\n\n") if block]
        assert blocks.count(PING) >= 2
        sent = [json.loads(block.split("data: ", 1)[1]) for block in blocks]
        assert text in sent


@pytest.mark.parametrize("path", ASKS)
async def test_a_client_that_goes_after_a_stream_began_early_ends_the_call(
    tmp_path: Path, path: str
) -> None:
    ended = asyncio.Event()

    async def never(call: Call) -> None:
        await call.gone()
        ended.set()

    async with site(tmp_path, more=MORE + "open_after_s = 0.05\n") as here:
        here.upstream.script = never
        body = {"model": "big", "stream": True, **ASKS[path]}
        response = await here.http.post(here.url + path, json=body)
        assert SILENCE[path] in (await response.content.readany()).decode()
        response.close()
        await asyncio.wait_for(ended.wait(), 2)
        async with asyncio.timeout(2):
            while not here.rows():
                await asyncio.sleep(0.02)
        assert here.rows()[-1]["status"] == "cancelled"
