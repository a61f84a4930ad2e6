"""Lines that say nothing, sent while a stream is silent: proxies close a connection that is."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

from suffice.gateway.exchange import Exchange


class KeepAlive:
    """Sends the keepalive of the exchange's API whenever a stream has said nothing for `every_s`.

    A stream that has not begun is begun with `begin` after `open_after_s`; None waits for its first
    word. What cannot be sent is left to the answer itself, which will see it too.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        every_s: float,
        open_after_s: float | None,
        begin: Callable[[], Awaitable[None]],
    ) -> None:
        self._exchange, self._every_s, self._begin = exchange, every_s, begin
        self._open_after_s = open_after_s
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._loop, self._since_s = asyncio.get_running_loop(), time.monotonic()
        first_s = self._every_s if self._open_after_s is None else self._open_after_s
        self._timer = self._loop.call_later(first_s, self._look)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._timer.cancel()
        if self._sending is not None:
            self._sending.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._sending

    def _look(self) -> None:
        """Send something if nothing was sent of late, and look again when that may be due."""
        wait_s = self._every_s
        if self._exchange.begun:
            silent_s = time.monotonic() - self._exchange.sent_s
            if silent_s < self._every_s:
                wait_s = self._every_s - silent_s
            else:
                self._do(lambda: self._exchange.send_aside(self._exchange.keepalive))
        elif self._open_after_s is not None:
            self._do(self._begin)
        self._timer = self._loop.call_later(wait_s, self._look)

    def _do(self, send: Callable[[], Awaitable[None]]) -> None:
        async def quietly() -> None:
            with suppress(Exception):
                await send()

        if self._sending is None or self._sending.done():
            self._sending = self._loop.create_task(quietly())
