"""A scripted upstream and a gateway in front of it, on real ports, in the loop of the test."""

import asyncio
import json
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import openai
import uvicorn
import uvicorn.server

from suffice.certify.bundle import Bundle, save_bundle
from suffice.gateway.app import Gateway
from suffice.gateway.protocol import BoundedProtocol
from suffice.gateway.serving import Settings

JSON = dict[str, Any]
CHAT = "/v1/chat/completions"

LADDER = """
reference = "big"

[engine.stub]
kind = "openai"
url = "{url}"
dialect = "{dialect}"
max_retries = 0
timeout_s = 5
api_key_env = "STUB_KEY"

[price.flat]
input_usd_per_mtok = 1
output_usd_per_mtok = 1

[[ladder]]
name = "small"
engine = "stub"
model = "small-model"
price = "flat"

[[ladder]]
name = "big"
engine = "stub"
model = "big-model"
price = "flat"

[gateway]
ledger = "{ledger}"
audit_share = 0
"""
CLAUDE = """
[engine.claude]
kind = "anthropic"
url = "{url}"
max_retries = 0

[[ladder]]
name = "claude"
engine = "claude"
model = "claude-x"
price = "flat"
"""


class QuickAsyncio:
    """asyncio for uvicorn's server: it looks for its end every 5 ms, where its own 100 add up."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.005))


uvicorn.server.asyncio = QuickAsyncio()  # type: ignore[assignment]


@dataclass
class Call:
    """One request as the upstream saw it, and the hand that writes the answer."""

    body: JSON
    headers: dict[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self, status: int = 200, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{k}: {v}" for k, v in headers.items())]
        await self.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, value: object, *, status: int = 200, **headers: str) -> None:
        data = json.dumps(value).encode()
        length = {"content-type": "application/json", "content-length": str(len(data))}
        await self.head(status, **length, **headers)
        await self.write(data)

    async def events(self) -> None:
        await self.head(**{"content-type": "text/event-stream", "connection": "close"})

    async def gone(self) -> None:
        """Wait until the caller closes the connection."""
        assert not await self.reader.read(1)


Script = Callable[[Call], Awaitable[None]]


def completion(content: str = "4", *, usage: JSON | None = None, **message: Any) -> JSON:
    return {
        "id": "chatcmpl-upstream",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "served-model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, **message},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": usage or {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
        "system_fingerprint": "fp_1",
    }


HEAD = {"id": "chatcmpl-upstream", "object": "chat.completion.chunk", "model": "served-model"}


def chunk(content: str | None = None, *, finish: str | None = None, **delta: Any) -> bytes:
    text = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": {**text, **delta}, "finish_reason": finish}
    return event({**HEAD, "choices": [choice]})


def usage_event(prompt: int = 20, answer: int = 5) -> bytes:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
    }
    return event({**HEAD, "choices": [], "usage": usage})


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


async def answer(call: Call) -> None:
    """Answer `4`, in four pieces where it is streamed."""
    if not call.body["stream"]:
        await call.reply(completion())
        return
    await call.events()
    for piece in (chunk("4", role="assistant"), chunk(finish="stop"), usage_event(), DONE):
        await call.write(piece)


class Upstream:
    """Does as its `script` says for each request; `calls` are those it has had."""

    def __init__(self) -> None:
        self.script: Script = answer
        self.calls: list[Call] = []
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                call = await self._next(reader, writer)
                await self.script(call)
                if call.body.get("stream"):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.open -= 1
            writer.close()

    async def _next(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.calls.append(Call(body=body, headers=headers, reader=reader, writer=writer))
        return self.calls[-1]


@dataclass
class Site:
    """A gateway that runs, its upstream, and its books."""

    url: str
    server: uvicorn.Server
    upstream: Upstream
    gateway: Gateway
    ledger: Path
    folder: Path
    http: aiohttp.ClientSession
    clients: list[openai.AsyncOpenAI] = field(default_factory=list)

    @property
    def client(self) -> openai.AsyncOpenAI:
        """The official client, without retries of its own."""
        if not self.clients:
            made = openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0)
            self.clients.append(made)
        return self.clients[0]

    async def chat(self, text: str = "What is 2 + 2?", **fields: Any) -> Any:
        """Ask through the official client."""
        fields = {"model": "suffice", "messages": [{"role": "user", "content": text}]} | fields
        return await self.client.chat.completions.create(**fields)

    async def post(self, body: object, *, path: str = CHAT, **headers: str) -> tuple[int, JSON]:
        """Post JSON, or bytes as they are; returns status and answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.post(self.url + path, data=data, headers=headers) as response:
            return response.status, json.loads(await response.read())

    def rows(self) -> list[JSON]:
        """Read the books: one line for each attempt, and one for a request without any."""
        with sqlite3.connect(self.ledger) as connection:
            connection.row_factory = sqlite3.Row
            found = connection.execute(
                "SELECT r.*, a.role, a.rung AS asked, a.charge_picousd AS call_picousd,"
                " a.input_tokens, a.output_tokens, a.output_source, a.error AS call_error"
                " FROM suffice_requests r LEFT JOIN suffice_attempts a USING (request_id)"
                " ORDER BY r.id, a.ordinal"
            ).fetchall()
        connection.close()
        return [dict(row) for row in found]

    async def row(self, number: int = -1) -> JSON:
        """Return one line of the books, once there is one."""
        for _ in range(100):
            if self.rows():
                break
            await asyncio.sleep(0.02)
        return self.rows()[number]


@asynccontextmanager
async def site(
    folder: Path,
    *,
    more: str = "",
    dialect: str = "openai",
    bundle: Bundle | None = None,
    ledger: str | None = None,
    observe: bool = False,
    ladder: str | None = None,
) -> AsyncIterator[Site]:
    """Run a gateway over a scripted upstream, with `LADDER` or another `ladder`.

    `more` goes to the end of its configuration. `{url}` in it is the upstream's.
    """
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    books = folder / "books.db"
    text = (ladder or LADDER).format(url=url, dialect=dialect, ledger=ledger or books)
    (folder / "suffice.toml").write_text(text + more.replace("{url}", url))
    if bundle is not None:
        save_bundle(folder / "bundle", bundle)
    policy = None if bundle is None else folder / "bundle"
    gateway = Gateway(Settings(ladder=folder / "suffice.toml", policy=policy, observe=observe))
    async with server, running(gateway) as (address, uvicorns), aiohttp.ClientSession() as http:
        made = Site(
            url=address,
            server=uvicorns,
            upstream=upstream,
            gateway=gateway,
            ledger=books,
            folder=folder,
            http=http,
        )
        try:
            yield made
        finally:
            for client in made.clients:
                await client.close()
            for call in upstream.calls:
                call.writer.close()


@asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[tuple[str, uvicorn.Server]]:
    """Serve a gateway with uvicorn on a free port; yields its URL, and what stops it."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        gateway,
        http=BoundedProtocol,
        lifespan="on",
        log_config=None,
        log_level="critical",
        ws="none",
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        assert not task.done(), "the gateway did not start"
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", server
    finally:
        server.should_exit = True
        await task
