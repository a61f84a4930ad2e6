"""HTTP connections with bounds: how many, from where, how large a head, and how long one may take.

uvicorn bounds none of these: what a stranger sends before a request is whole costs memory, and a
connection that sends nothing keeps a file descriptor.
"""

import asyncio
from collections import Counter
from typing import Any, ClassVar

import httptools
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from suffice.gateway.intake import source_of

HEAD_LIMIT_BYTES = 64 * 1024
HEAD_S = 10.0  # for all of a request's headers, from the first byte or the connection on
_FIELD_BYTES = 128  # what a header costs beside its text


class ConnectionLimits(Struct, frozen=True, kw_only=True):
    """How many connections may be open, in all and from one address."""

    total: int
    by_address: int


class BoundedProtocol(HttpToolsProtocol):
    """One connection; `limits` hold for the process, whose open connections `addresses` counts."""

    limits: ClassVar = ConnectionLimits(total=4096, by_address=1024)
    addresses: ClassVar[Counter[str]] = Counter()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self._in_head = True
        self._address = ""
        self._offer: list[tuple[bytes, bytes]] = []
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, or refuse it."""
        super().connection_made(transport)
        self._address = source_of(self.client[0]) if self.client else ""
        self.addresses[self._address] += 1
        many = self.addresses[self._address] > self.limits.by_address
        if many or len(self.connections) > self.limits.total:
            self._refuse(b"503 Service Unavailable", b"too many connections")
            return
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._unwatch_head()
        self.addresses[self._address] -= 1
        if self.addresses[self._address] <= 0:
            del self.addresses[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes before a head is whole; refuse a head that is too large."""
        if self.transport.is_closing():
            return
        in_head = self._in_head
        self._unset_keepalive_if_required()
        if in_head:
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as end_of_head:
            self._decline(rest=data[end_of_head.args[0] :])
            return
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return
        if not (in_head and self._in_head):
            return
        if self._head_bytes > HEAD_LIMIT_BYTES:
            self._refuse(b"431 Request Header Fields Too Large", b"the headers are too large")
        elif self._head_bytes and self._timer is None:
            self._watch_head()

    def on_message_begin(self) -> None:
        """Begin to count a head."""
        super().on_message_begin()
        self._head_bytes, self._in_head = 0, True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, also one that comes after a body, while there are not too many."""
        self._head_bytes += len(name) + len(value) + _FIELD_BYTES
        if self._head_bytes > 2 * HEAD_LIMIT_BYTES:
            raise ValueError("the headers are too large")  # the parser turns it into a refusal
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the request; one that offers another protocol is read again without its offer."""
        if sum(name == b"host" for name, _ in self.headers) > 1:
            raise ValueError("several hosts")  # whoever stands before us may mean another of them
        if self._is_offer():
            return
        self.headers += self._offer
        self._offer = []
        self._in_head, self._head_bytes = False, 0
        self._unwatch_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the request; another may follow on the connection."""
        if self._is_offer():
            return
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def _is_offer(self) -> bool:
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _decline(self, *, rest: bytes) -> None:
        """Read a request that offers another protocol, such as h2c, as one that does not.

        Java's HTTP client offers it with every request. The parser would leave the body unread.
        """
        self._offer = [header for header in self.headers if header[0] == b"upgrade"]
        head = [b"%b %b HTTP/1.1\r\n" % (self.parser.get_method(), self.url)]
        head += [b"%b: %b\r\n" % header for header in self.headers if header not in self._offer]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"%b\r\n%b" % (b"".join(head), rest))

    def _watch_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_S, self._too_slow)

    def _unwatch_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if not self.transport.is_closing() and (self.cycle is None or self._head_bytes):
            self._refuse(b"408 Request Timeout", b"the headers took too long")

    def _refuse(self, status: bytes, text: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%b" % (status, len(text), text)
            )
            self.transport.close()
