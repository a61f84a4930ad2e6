"""A second, identical call where the first is slow to begin: whichever begins first stays."""

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
    """What became of a hedge."""

    WON = "won"  # the second call began first
    LOST = "lost"  # the first one did after all
    FAILED = "failed"  # neither gave anything
    NO_SLOT = "no_slot"  # it was due, and the rung was busy: no second call


@dataclass(frozen=True, kw_only=True, eq=False)
class Hedge:
    """When a second call is due, whether there is room for it, and who hears what became of both.

    `spare` is held while two calls run, and says whether they may. `lost` is told of each call but
    the one that the caller gets: why it ended, when it was made, and what it is known or guessed to
    have used, None where its error says that.
    """

    after_s: float
    spare: Callable[[], AbstractContextManager[bool]]
    lost: Callable[[BaseException, datetime, Usage | None], None]
    ended: Callable[[HedgeOutcome], None]


def hedged(start: Callable[[], Relay], hedge: Hedge) -> Relay:
    """Pass on the call that `start` makes, or a second one that yields something before it does.

    Raises the error of the call that failed last.
    """
    race = _Race(start, hedge)
    return Relay(items=race.items(), used=race.used)


def in_one_piece(engine: Engine, request: Request, rung: Rung) -> Relay:
    """Make a relay of an answer in one piece; what it has used is unknown until it is there."""

    async def items() -> AsyncGenerator[Item, None]:
        yield await engine.complete(request, rung)

    return Relay(items=items(), used=Usage)


class _HedgedCall:
    """A call; once begun, `first` waits for its first item."""

    first: "asyncio.Task[Item]"

    def __init__(self, relay: Relay) -> None:
        self.relay = relay

    def begin(self) -> "asyncio.Task[Item]":
        self.at = datetime.now(UTC)
        self.first = asyncio.create_task(self._next())
        return self.first

    @property
    def error(self) -> BaseException | None:
        """Why it gave nothing; None while it runs, and when it began well."""
        return self.first.exception() if self.first.done() else None

    @property
    def reported(self) -> Usage | None:
        """What it used by its own account, where the first item was the whole answer."""
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
    """`calls` may still answer: the first of them is the caller's own; `beaten` was given up."""

    def __init__(self, start: Callable[[], Relay], hedge: Hedge) -> None:
        self._start, self._hedge = start, hedge
        self._calls = [_HedgedCall(start())]
        self._beaten: list[_HedgedCall] = []

    def used(self) -> Usage:
        return self._calls[0].relay.used()

    async def items(self) -> AsyncGenerator[Item, None]:
        try:
            yield self._booked(await self._first())
            async with aclosing(self._calls[0].relay.items) as rest:
                async for item in rest:
                    yield self._booked(item)
        finally:
            await self._end()

    async def _first(self) -> Item:
        first = self._calls[0].begin()
        await asyncio.wait({first}, timeout=self._hedge.after_s)
        if first.done():
            return first.result()
        with self._hedge.spare() as free:
            if free:
                return await self._decided()
        self._hedge.ended(HedgeOutcome.NO_SLOT)
        return await first

    async def _decided(self) -> Item:
        """Make the second call, and return the first item that either of them yields."""
        second, outcome = _HedgedCall(self._start()), HedgeOutcome.FAILED
        self._calls.append(second)
        second.begin()
        try:
            while len(self._calls) > 1:
                await self._drop_one()
            item = await self._calls[0].first
            outcome = HedgeOutcome.WON if self._calls[0] is second else HedgeOutcome.LOST
        finally:
            self._hedge.ended(outcome)
        return item

    async def _drop_one(self) -> None:
        """Wait for either call: one that fails leaves it to the other, one that begins beats it."""
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
        self._beaten.append(behind)
        await behind.stop()

    def _booked(self, item: Item) -> Item:
        """Return the item; a whole answer says what the call that was given up may have used."""
        if isinstance(item, Completion):
            self._book_beaten(like=item.usage)
        return item

    async def _end(self) -> None:
        """Stop what still runs; where nobody has answered, a call's own counts must do."""
        for call in [*self._calls, *self._beaten]:
            await call.stop()
        self._beaten += self._calls[1:]
        self._book_beaten(like=Usage())

    def _book_beaten(self, *, like: Usage) -> None:
        for call in self._beaten:
            usage = call.reported or _likely(call.relay.used(), like=like)
            self._hedge.lost(EngineError(_GIVEN_UP), call.at, usage)
        self._beaten = []


def _likely(own: Usage, *, like: Usage) -> Usage:
    """Say what a call that was given up has used: what it read is what an identical call has read.

    It has written what is known of it, else as much as the other call did.
    """
    return Usage(
        input_tokens=_guess(like.input_tokens) or own.input_tokens,
        cache_read_tokens=_guess(like.cache_read_tokens),
        cache_write_tokens=_guess(like.cache_write_tokens),
        output_tokens=own.output_tokens or _guess(like.output_tokens),
        reasoning_tokens=own.reasoning_tokens or _guess(like.reasoning_tokens),
    )


def _guess(count: Count | None) -> Count | None:
    return None if count is None else Count(count.tokens, CountSource.ESTIMATED)
