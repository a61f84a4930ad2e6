"""The least that a proxy in Python can do: forward, read the usage of a whole answer, pass chunks.

It is the limit that the gateway is measured against: raw ASGI, aiohttp, no books and no policy.
UPSTREAM=http://127.0.0.1:PORT python -m uvicorn benchmarks.gateway.passthrough:app
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_JSON = [(b"content-type", b"application/json")]
_EVENTS = [(b"content-type", b"text/event-stream")]
_session: list[aiohttp.ClientSession] = []


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Forward every request to the upstream's chat completions."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    body = await _body(receive)
    streamed = msgspec.json.decode(body).get("stream", False) if body else False
    url = os.environ["UPSTREAM"] + scope["path"]
    async with _session[0].request(scope["method"], url, data=body) as reply:
        headers = _EVENTS if streamed else _JSON
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if streamed:
            async for data in reply.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        answer = await reply.read()
        msgspec.json.decode(answer)
        await send({"type": "http.response.body", "body": answer})


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    connector = aiohttp.TCPConnector(limit=0)
    _session.append(aiohttp.ClientSession(connector=connector, auto_decompress=False))
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await _session.pop().close()
    await send({"type": "lifespan.shutdown.complete"})
