"""An upstream that sends more than any answer has ends in an error, streamed, packed or whole."""

import gzip
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from gateway_support import CHAT, Call, site

from suffice.engines import bounded

ASK = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", "sk-upstream-secret")
    monkeypatch.setattr(bounded, "REPLY_LIMIT_BYTES", 100_000)


async def packed(call: Call) -> None:
    data = gzip.compress(b'{"x": "' + b"0" * 10_000_000)
    length = {"content-encoding": "gzip", "content-length": str(len(data))}
    await call.head(**{"content-type": "application/json"}, **length)
    await call.write(data)


async def endless(call: Call) -> None:
    await call.events()
    for _ in range(1000):
        await call.write(b"data: " + b"x" * 10_000)


async def comments(call: Call) -> None:
    await call.events()
    for _ in range(1000):
        await call.write(b": still here " + b"x" * 1000 + b"\n\n")


@pytest.mark.parametrize(("script", "stream"), [(packed, False), (endless, True), (comments, True)])
async def test_a_reply_beyond_the_limit_is_an_error(
    tmp_path: Path, script: object, stream: bool
) -> None:
    async with site(tmp_path, more="failover = false\n") as here:
        here.upstream.script = script
        body = ASK | {"stream": stream}
        async with here.http.post(here.url + CHAT, json=body) as reply:
            text = b""
            with suppress(aiohttp.ClientPayloadError):  # a stream that breaks off has no end
                async for piece in reply.content.iter_any():
                    text += piece
        assert reply.status == 502 or b"error" in text
        assert b"[DONE]" not in text
        row = await here.row()
        assert row["status"] == "failed"
        assert "more than" in (row["call_error"] or row["error"])
