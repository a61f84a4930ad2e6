"""How much a rung is given at once, and when a rung that keeps failing is left alone."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from suffice.config import GatewayConfig
from suffice.engines import Chunk, Engine
from suffice.engines.base import Relay
from suffice.errors import EngineError, EngineUnreachable
from suffice.gateway.problems import Problem
from suffice.types import Completion, Request, Rung


class Slots:
    """Lets so many through at once, has so many wait in line, and turns the rest away with 429."""

    def __init__(self, name: str, config: GatewayConfig) -> None:
        self.inside = 0
        self._name, self._config = name, config
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    async def enter(self) -> None:
        """Wait for a place; raises Problem 429 when the line is full or too slow."""
        if self.inside < self._config.rung_concurrency:
            self.inside += 1
            return
        if len(self._line) >= self._config.rung_queue:
            raise self._turned_away("has as many requests waiting as it may")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            async with asyncio.timeout(self._config.queue_timeout_s):
                await place
        except BaseException as error:
            self._step_back(place)
            if isinstance(error, TimeoutError):
                raise self._turned_away("had no place in time") from error
            raise

    def leave(self) -> None:
        """Give the place to the next in line."""
        while self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.inside -= 1

    def _step_back(self, place: "asyncio.Future[None]") -> None:
        if place in self._line:
            self._line.remove(place)
        elif place.done() and not place.cancelled():
            self.leave()  # the place was given just as its owner left

    def _turned_away(self, why: str) -> Problem:
        return Problem(
            f"rung {self._name!r} {why}",
            status=429,
            code="rung_busy",
            hint="try again later; the operator may raise gateway.rung_concurrency",
            retry_after_s=1,
        )


class Breaker:
    """Opens after some failures in a row, and lets one call through to try again after a while."""

    def __init__(self, name: str, config: GatewayConfig) -> None:
        self.failures = 0
        self._name, self._config = name, config
        self._shut_until_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls are turned away at the moment."""
        return time.monotonic() < self._shut_until_s

    def check(self) -> None:
        """Raise EngineUnreachable while open; the first call after that is the trial."""
        if self.is_open:
            raise EngineUnreachable(
                f"rung {self._name!r} failed {self.failures} times in a row and is left alone",
                hint="it is tried again by itself; see to its engine",
                retryable=True,
                unsent=True,
            )
        if self.failures >= self._config.breaker_failures:
            self._shut_until_s = time.monotonic() + self._config.breaker_open_s

    def note(self, error: EngineError | None) -> None:
        """Take the outcome of a call: an error that a retry cannot mend says nothing of health."""
        if error is None or not error.retryable:
            self.failures, self._shut_until_s = 0, 0.0
            return
        self.failures += 1
        if self.failures >= self._config.breaker_failures:
            self._shut_until_s = time.monotonic() + self._config.breaker_open_s


class Limited(Engine):
    """An engine behind a number of slots and a breaker for each rung that it serves."""

    def __init__(self, engine: Engine, *, slots: dict[str, Slots], breakers: dict[str, Breaker]):
        self._engine, self._slots, self._breakers = engine, slots, breakers

    async def complete(self, request: Request, rung: Rung) -> Completion:
        """Answer in one piece, within the limits."""
        async with self._place(rung):
            return await self._engine.complete(request, rung)

    async def stream(
        self, request: Request, rung: Rung
    ) -> AsyncGenerator[Chunk | Completion, None]:
        """Yield chunks as they arrive, within the limits."""
        async with self._place(rung), aclosing(self._engine.stream(request, rung)) as items:
            async for item in items:
                yield item

    def relay(self, request: Request, rung: Rung) -> Relay:
        """Hand on a stream, within the limits."""
        inner = self._engine.relay(request, rung)

        async def items() -> AsyncGenerator[bytes | Completion, None]:
            async with self._place(rung), aclosing(inner.items) as stream:
                async for item in stream:
                    yield item

        return Relay(items=items(), used=inner.used)

    async def close(self) -> None:
        """Close the engine."""
        await self._engine.close()

    @asynccontextmanager
    async def _place(self, rung: Rung) -> AsyncIterator[None]:
        slots, breaker = self._slots[rung.name], self._breakers[rung.name]
        breaker.check()
        await slots.enter()
        try:
            yield
        except EngineError as error:
            breaker.note(error)
            raise
        else:
            breaker.note(None)
        finally:
            slots.leave()
