"""Two identical calls: the first to begin is passed on, the other is stopped and accounted for."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest

from suffice.engines import last
from suffice.engines.chunk import Relay
from suffice.engines.hedge import Hedge, HedgeOutcome, Item, hedged
from suffice.errors import EngineUnreachable
from suffice.types import Completion, Count, CountSource, Finish, Usage

REPORTED, ESTIMATED = CountSource.REPORTED, CountSource.ESTIMATED
USED = Usage(input_tokens=Count(20, REPORTED), output_tokens=Count(5, REPORTED))
NO = EngineUnreachable("no connection", retryable=True)


def whole(text: str = "4", *, usage: Usage = USED) -> Completion:
    return Completion(text=text, finish=Finish.STOP, usage=usage, duration_s=0.1)


class Stage:
    """Relays that do as they are told, and what the hedge was told of them."""

    def __init__(self, *, free: bool = True, after_s: float = 0.01) -> None:
        self.free, self.after_s = free, after_s
        self.running: list[int] = []
        self.inside = 0
        self.calls = 0
        self.lost: list[tuple[BaseException, Usage | None]] = []
        self.outcomes: list[HedgeOutcome] = []

    def play(self, *scripts: list[object], own: Usage = Usage()) -> Relay:  # noqa: B008
        """Each script lists items to yield, times and events to wait for, and errors to raise."""

        def start() -> Relay:
            number, self.calls = self.calls, self.calls + 1
            return Relay(items=self._items(number, scripts[number]), used=lambda: own)

        hedge = Hedge(
            after_s=self.after_s, spare=self._spare, lost=self._lost, ended=self.outcomes.append
        )
        return hedged(start, hedge)

    async def _items(self, number: int, script: list[object]) -> AsyncGenerator[Item, None]:
        self.running.append(number)
        try:
            for step in script:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.running.remove(number)

    @contextmanager
    def _spare(self) -> Iterator[bool]:
        self.inside += 1
        yield self.free
        self.inside -= 1

    def _lost(self, error: BaseException, at: datetime, usage: Usage | None) -> None:
        self.lost.append((error, usage))


async def test_a_call_that_begins_in_time_is_the_only_one() -> None:
    stage = Stage(after_s=5.0)
    assert [i async for i in stage.play([b"a", 0.05, whole()]).items] == [b"a", whole()]
    assert (stage.calls, stage.outcomes, stage.lost) == (1, [], [])


@pytest.mark.parametrize(
    ("first", "second", "text", "outcome"),
    [
        ([9.0, whole("first")], [whole("second")], "second", HedgeOutcome.WON),
        ([0.05, whole("first")], [9.0, whole("second")], "first", HedgeOutcome.LOST),
    ],
)
async def test_the_first_to_answer_is_used_and_the_other_stopped_and_estimated(
    first: list[object], second: list[object], text: str, outcome: HedgeOutcome
) -> None:
    stage = Stage()
    assert (await last(stage.play(first, second).items)).text == text
    assert (stage.running, stage.inside, stage.outcomes) == ([], 0, [outcome])
    [(_, usage)] = stage.lost
    assert usage.input_tokens == Count(20, ESTIMATED)
    assert usage.output_tokens == Count(5, ESTIMATED)


async def test_a_dropped_call_that_is_done_too_has_its_reported_usage() -> None:
    stage, both = Stage(), asyncio.Event()
    more = Usage(input_tokens=Count(20, REPORTED), output_tokens=Count(900, REPORTED))
    relay = stage.play([both, whole("first")], [both, whole("second", usage=more)])
    asyncio.get_running_loop().call_later(0.1, both.set)
    assert (await last(relay.items)).text == "first"
    assert (stage.outcomes, [usage for _, usage in stage.lost]) == ([HedgeOutcome.LOST], [more])


async def test_a_stream_that_has_begun_is_never_asked_again() -> None:
    stage = Stage()
    items = [i async for i in stage.play([b"a", 0.1, b"b", whole()]).items]
    assert items == [b"a", b"b", whole()]
    assert stage.calls == 1


async def test_a_dropped_stream_has_its_own_output_and_the_other_s_input() -> None:
    stage = Stage()
    own = Usage(input_tokens=Count(7, ESTIMATED), output_tokens=Count(0, ESTIMATED))
    relay = stage.play([9.0], [b"a", whole()], own=own)
    assert [i async for i in relay.items] == [b"a", whole()]
    [(_, usage)] = stage.lost
    assert usage.input_tokens == Count(20, ESTIMATED)
    assert usage.output_tokens == Count(0, ESTIMATED)


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [([0.05, NO], [0.1, whole()], HedgeOutcome.WON), ([0.1, whole()], [NO], HedgeOutcome.LOST)],
)
async def test_a_call_that_fails_leaves_it_to_the_other(
    first: list[object], second: list[object], outcome: HedgeOutcome
) -> None:
    stage = Stage()
    assert await last(stage.play(first, second).items) == whole()
    assert stage.lost == [(NO, None)]
    assert stage.outcomes == [outcome]


async def test_when_both_fail_the_last_error_is_raised() -> None:
    late = EngineUnreachable("too late")
    stage = Stage()
    with pytest.raises(EngineUnreachable, match="too late"):
        await last(stage.play([0.1, late], [NO]).items)
    assert stage.lost == [(NO, None)]
    assert stage.outcomes == [HedgeOutcome.FAILED]


async def test_without_a_spare_slot_there_is_no_second_call() -> None:
    stage = Stage(free=False)
    assert await last(stage.play([0.05, whole()]).items) == whole()
    assert (stage.calls, stage.outcomes, stage.inside) == (1, [HedgeOutcome.NO_SLOT], 0)


@pytest.mark.parametrize("began", [False, True])
async def test_whoever_leaves_stops_both_calls_and_both_are_accounted_for(began: bool) -> None:
    stage = Stage()
    second = [b"a", 9.0] if began else [9.0]
    relay = stage.play([9.0], second)
    reading = asyncio.create_task(last(relay.items))
    await asyncio.sleep(0.1)
    assert stage.running == ([1] if began else [0, 1])
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert stage.running == []
    assert [usage for _, usage in stage.lost] == [Usage()]  # unknown is not 0
