"""Hedging: a second, identical call if the first is slow to begin; the first to begin stays."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from suffice.engines.base import Engine
from suffice.engines.chunk import Relay
from suffice.errors import EngineError
from suffice.types import Completion, Count, CountSource, Request, Rung, Usage

Item = bytes | Completion
_GIVEN_UP = "given up: an identical call was faster, or nobody waited any longer"


class HedgeOutcome(StrEnum):
    """The outcome of a hedge."""

    WON = "won"  # the second call began first
    LOST = "lost"  # the first call began first
    FAILED = "failed"  # neither call gave anything
    NO_SLOT = "no_slot"  # the rung was busy, so there was no second call


@dataclass(frozen=True, kw_only=True, eq=False)
class Hedge:
    """When a second call is due, and the callbacks around it.

    `spare` is held while two calls run; it yields False if the rung has no room for a second.
    `lost` receives every call but the one that the caller gets: its error, its start, and its
    reported or estimated usage (None if the error holds the usage). `ended` receives the outcome.
    """

    after_s: float
    spare: Callable[[], AbstractContextManager[bool]]
    lost: Callable[[BaseException, datetime, Usage | None], None]
    ended: Callable[[HedgeOutcome], None]


def hedged(start: Callable[[], Relay], hedge: Hedge) -> Relay:
    """Relay the call that `start` makes, or a second one if that yields its first item earlier.

    If both fail, raises the error of the later failure.
    """
    race = _Race(start, hedge)
    return Relay(items=race.items(), used=race.used)


def in_one_piece(engine: Engine, request: Request, rung: Rung) -> Relay:
    """Return a relay of an answer in one piece; its usage is unknown until the answer is there."""

    async def items() -> AsyncGenerator[Item, None]:
        yield await engine.complete(request, rung)

    return Relay(items=items(), used=Usage)


class _HedgedCall:
    """A call; after `begin`, the task `first` waits for its first item."""

    first: "asyncio.Task[Item]"

    def __init__(self, relay: Relay) -> None:
        self.relay = relay

    def begin(self) -> "asyncio.Task[Item]":
        self.at = datetime.now(UTC)
        self.first = asyncio.create_task(self._next())
        return self.first

    @property
    def error(self) -> BaseException | None:
        """The error before its first item; None while it runs, and if it has begun."""
        return self.first.exception() if self.first.done() else None

    @property
    def reported(self) -> Usage | None:
        """The usage that it reported, if its first item was the whole answer."""
        ended = self.first.done() and not self.first.cancelled() and self.error is None
        item = self.first.result() if ended else None
        return item.usage if isinstance(item, Completion) else None

    async def stop(self) -> None:
        if not self.first.done():
            self.first.cancel()
            await asyncio.wait({self.first})
        await self.relay.items.aclose()

    async def _next(self) -> Item:
        return await anext(self.relay.items)


class _Race:
    """The calls that may still answer, the caller's own first, and those that were given up."""

    def __init__(self, start: Callable[[], Relay], hedge: Hedge) -> None:
        self._start, self._hedge = start, hedge
        self._calls = [_HedgedCall(start())]
        self._dropped: list[_HedgedCall] = []

    def used(self) -> Usage:
        return self._calls[0].relay.used()

    async def items(self) -> AsyncGenerator[Item, None]:
        try:
            yield self._accounted(await self._first_item())
            async with aclosing(self._calls[0].relay.items) as rest:
                async for item in rest:
                    yield self._accounted(item)
        finally:
            await self._stop_all()

    async def _first_item(self) -> Item:
        first = self._calls[0].begin()
        await asyncio.wait({first}, timeout=self._hedge.after_s)
        if first.done():
            return first.result()
        with self._hedge.spare() as free:
            if free:
                return await self._race_second()
        self._hedge.ended(HedgeOutcome.NO_SLOT)
        return await first

    async def _race_second(self) -> Item:
        """Start the second call, and return the first item of either call."""
        second, outcome = _HedgedCall(self._start()), HedgeOutcome.FAILED
        self._calls.append(second)
        second.begin()
        try:
            while len(self._calls) > 1:
                await self._drop_slower()
            item = await self._calls[0].first
            outcome = HedgeOutcome.WON if self._calls[0] is second else HedgeOutcome.LOST
        finally:
            self._hedge.ended(outcome)
        return item

    async def _drop_slower(self) -> None:
        """Wait until one call fails, or one begins; drop the failed or the slower call."""
        firsts = [call.first for call in self._calls]
        await asyncio.wait(firsts, return_when=asyncio.FIRST_COMPLETED)
        for call in self._calls:
            if (error := call.error) is not None:
                self._calls.remove(call)
                self._hedge.lost(error, call.at, None)
                return
        ahead = next(call for call in self._calls if call.first.done())
        behind = next(call for call in self._calls if call is not ahead)
        self._calls.remove(behind)
        self._dropped.append(behind)
        await behind.stop()

    def _accounted(self, item: Item) -> Item:
        """Return the item; a whole answer gives the usage to estimate that of a dropped call."""
        if isinstance(item, Completion):
            self._account_dropped(other=item.usage)
        return item

    async def _stop_all(self) -> None:
        """Stop all calls; without an answer, a dropped call's own counts are its usage."""
        for call in [*self._calls, *self._dropped]:
            await call.stop()
        self._dropped += self._calls[1:]
        self._account_dropped(other=Usage())

    def _account_dropped(self, *, other: Usage) -> None:
        for call in self._dropped:
            usage = call.reported or _estimated_usage(call.relay.used(), other=other)
            self._hedge.lost(EngineError(_GIVEN_UP), call.at, usage)
        self._dropped = []


def _estimated_usage(own: Usage, *, other: Usage) -> Usage:
    """Estimate the usage of a call that was given up, from that of the identical call.

    Both read the same tokens. Output is the call's own count, or else that of the other call.
    """
    return Usage(
        input_tokens=_estimate(other.input_tokens) or own.input_tokens,
        cache_read_tokens=_estimate(other.cache_read_tokens),
        cache_write_tokens=_estimate(other.cache_write_tokens),
        output_tokens=own.output_tokens or _estimate(other.output_tokens),
        reasoning_tokens=own.reasoning_tokens or _estimate(other.reasoning_tokens),
    )


def _estimate(count: Count | None) -> Count | None:
    return None if count is None else Count(count.tokens, CountSource.ESTIMATED)
