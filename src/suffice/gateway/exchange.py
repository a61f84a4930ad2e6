"""One HTTP request and its response over raw ASGI, and whether its client is still there."""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from suffice.gateway.intake import Intake, check_shape, source_of
from suffice.gateway.metrics.spans import Served
from suffice.gateway.problems import Problem
from suffice.types import JSON, NativeBody

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Result = TypeVar("Result")

LARGE_BYTES = 64 * 1024  # a larger request is read in a thread, beside the loop
HEADER_LIMIT_BYTES = 64 * 1024
WATCH_AFTER_S = 0.05
BODY_S = 120.0  # for a whole body: a slow sender keeps memory
TRACE_ID = b"x-request-id"
COMMENT = b": keepalive\n\n"
_PLAIN_ID = re.compile(rb"[!-~]{1,200}")
JSON_TYPE = (b"content-type", b"application/json")


async def beside_loop(work: Callable[[], Result], *, body: bytes) -> Result:
    """Do work on a request: in a thread where its body is large, else at once."""
    return await asyncio.to_thread(work) if len(body) > LARGE_BYTES else work()


class ClientGone(Exception):
    """The client closed its connection, or stopped reading for too long."""


class Exchange:
    """A request to be answered once; `begun` says that a status has gone out.

    `sent_s` is when something was sent last, by the clock `time.monotonic`.
    `request_id` is its id in the books. The client's own `x-request-id` is sent back to it, or else
    that id; so is what was `ignored` of the request. `fields` is the body as its client sent it,
    where that is no chat request; `native` the one for engines of its own API, and `custom_tools`
    are those of `Request`. `extra_headers` go with every answer; `served` is what a trace tells of
    it. A client that does not read for `write_timeout_s` counts as gone, and so does one that sends
    nothing for that long in the middle of its body. `keepalive` is what may fill a silence in a
    stream.
    """

    write_timeout_s = 60.0

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.receive = receive
        self.begun = False
        self.sent_s = 0.0
        self.status: int | None = None
        self.request_id = secrets.token_hex(12)
        self.ignored: list[str] = []
        self.fields: JSON = {}
        self.extra_headers: Headers = []
        self.keepalive = COMMENT
        self.served: Served | None = None
        self.native: NativeBody | None = None
        self.custom_tools: dict[str, JSON] = {}
        self.client: str = (scope.get("client") or ("",))[0]
        self.intake: Intake | None = None
        self._held = 0
        self._send = send

    async def body(self, *, limit: int) -> bytes:
        """Read the whole body; raises Problem over a limit, ClientGone when it breaks off.

        It counts as held by the client until `release`.
        """
        if sum(len(k) + len(v) for k, v in self.headers.items()) > HEADER_LIMIT_BYTES:
            raise Problem("the headers are too large", status=431, hint="send less in headers")
        coding = self.headers.get(b"content-encoding", b"identity").strip().lower()
        if coding not in (b"", b"identity"):
            raise Problem(
                f"the body is compressed: {coding.decode('latin-1')}",
                status=415,
                hint="switch off the compression of requests in the client",
            )
        length = self.headers.get(b"content-length", b"0")
        parts: list[bytes] = []
        size = int(length) if length.isdigit() else 0
        if size <= limit:
            self._hold(size)
            size, deadline_s = 0, time.monotonic() + BODY_S
            while size <= limit and time.monotonic() < deadline_s:
                message = await self._next()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                self._hold(size - self._held)
                if not message.get("more_body", False):
                    break
            else:
                if size <= limit:
                    raise Problem(
                        "the body took too long",
                        status=408,
                        hint=f"send it within {BODY_S:.0f} s",
                    )
        if size > limit:
            raise Problem(
                f"the body is larger than {limit} bytes",
                status=413,
                hint="send less, or raise gateway.body_limit_bytes",
            )
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        await check_shape(body)
        return body

    def release(self) -> None:
        """Count the body as held no more."""
        if self.intake is not None and self._held:
            self.intake.give_back(source_of(self.client), self._held)
            self._held = 0

    def _hold(self, size: int) -> None:
        if self.intake is not None and size > 0:
            self.intake.take(source_of(self.client), size)
            self._held += size

    def answer_natively(self) -> None:
        """Take notice that the engine got the body as it came."""

    async def begin(self, status: int, headers: Headers) -> None:
        """Send the status and the headers."""
        self.begun, self.status, self.sent_s = True, status, time.monotonic()
        headers = [*headers, (TRACE_ID, self.trace_id), *self.extra_headers]
        if self.ignored:
            names = ", ".join(dict.fromkeys(self.ignored))
            headers.append((b"x-suffice-ignored", names.encode("ascii", "backslashreplace")))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    @property
    def trace_id(self) -> bytes:
        """The client's own `x-request-id`, where it is short and plain, else the request's id."""
        theirs = self.headers.get(TRACE_ID, b"")
        return theirs if _PLAIN_ID.fullmatch(theirs) else self.request_id.encode()

    def ignore(self, name: str) -> None:
        """Note a field of the request that was not kept."""
        self.ignored.append(name)

    async def send(self, data: bytes, *, more: bool) -> None:
        """Send a part of the body; waits while the client does not read, else ClientGone."""
        self.sent_s = time.monotonic()
        message: Message = {"type": "http.response.body", "body": data, "more_body": more}
        if not _waits(self._send):
            await self._send(message)
            return
        try:
            async with asyncio.timeout(self.write_timeout_s):
                await self._send(message)
        except TimeoutError:
            await self._abort()
            raise ClientGone from None

    async def send_aside(self, data: bytes) -> None:
        """Send what is no part of the answer, between two parts of a stream."""
        await Exchange.send(self, data, more=True)

    async def hang_up(self) -> None:
        """Close the connection of a response that cannot be whole, once what was sent is out.

        Returns when it is closed: uvicorn logs a return before that as a mistake.
        """
        transport = _transport(self._send)
        if transport is None:
            return
        transport.close()
        try:
            async with asyncio.timeout(self.write_timeout_s):
                await self._closed()
        except TimeoutError:
            await self._abort()

    async def _abort(self) -> None:
        """Drop the connection at once: closing it would wait until the client has read all."""
        transport = _transport(self._send)
        if transport is not None:
            transport.abort()
            await self._closed()

    async def _closed(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> Message:
        """Receive the next part of the body."""
        try:
            async with asyncio.timeout(self.write_timeout_s):
                message = await self.receive()
        except TimeoutError:
            await self._abort()
            raise ClientGone from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message

    async def reply(
        self, body: bytes, *, status: int = 200, headers: Headers | None = None
    ) -> None:
        """Send a whole response, as JSON unless the headers say otherwise."""
        more = headers or []
        kind = [] if any(name == b"content-type" for name, _ in more) else [JSON_TYPE]
        length = (b"content-length", str(len(body)).encode())
        await self.begin(status, [*kind, length, *more])
        await self.send(body if self.method != "HEAD" else b"", more=False)

    async def reply_json(self, value: object, *, status: int = 200) -> None:
        """Send a value as JSON."""
        await self.reply(msgspec.json.encode(value), status=status)


def _transport(send: Send) -> asyncio.Transport | None:
    """Find the connection: ASGI has no word for it; uvicorn's `send` belongs to what holds it."""
    return getattr(getattr(send, "__self__", None), "transport", None)


def _waits(send: Send) -> bool:
    """Whether a send may have to wait until the client reads; uvicorn tells, any other may."""
    flow = getattr(getattr(send, "__self__", None), "flow", None)
    return flow is None or flow.write_paused


class Presence:
    """Cancels the work of a block when the client goes, and raises ClientGone in its place.

    It begins to watch after `WATCH_AFTER_S`: most answers of a fast upstream are there before, and
    need no task of their own.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._main = task
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._begin)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self._gone and self._main.uncancel() == 0 and kind is asyncio.CancelledError:
            raise ClientGone from error

    def _begin(self) -> None:
        self._watch = asyncio.create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._main.cancel()
