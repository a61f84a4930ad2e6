import asyncio
from collections.abc import AsyncGenerator

import pytest

from suffice.engines.base import Retries, last, retried
from suffice.engines.chunk import Chunk
from suffice.errors import EngineError, EngineRefused, EngineUnreachable
from suffice.types import Completion, Finish, Usage

BUSY = EngineRefused("busy", status=503, retryable=True)
DROPPED = EngineUnreachable("it dropped the line", retryable=True)
UNSENT = EngineUnreachable("nobody listens", retryable=True, unsent=True)
BROKEN = EngineError("broken")
DONE = Completion(text="4", finish=Finish.STOP, usage=Usage(), duration_s=1.0)
AT_ONCE = Retries(limit=2, first_s=0.0)


def plays(*plots: list[object]) -> tuple[list[int], object]:
    """Make an attempt that plays one plot after the other, raising what is an error."""
    tried: list[int] = []

    async def attempt() -> AsyncGenerator[object, None]:
        tried.append(len(tried))
        for item in plots[min(len(tried), len(plots)) - 1]:
            if isinstance(item, Exception):
                raise item
            yield item

    return tried, attempt


async def drain(attempt: object, retries: Retries = AT_ONCE) -> list[object]:
    return [item async for item in retried(attempt, retries=retries)]


async def test_a_retryable_error_starts_over() -> None:
    tried, attempt = plays([BUSY], [BUSY], [1, 2])
    assert await drain(attempt) == [1, 2]
    assert len(tried) == 3


@pytest.mark.parametrize(
    ("plots", "attempts"),
    [
        (([BUSY],), 3),
        (([UNSENT],), 3),
        (([BROKEN],), 1),
        (([DROPPED],), 1),
        (([BUSY], [DROPPED]), 2),
        (([1, BUSY],), 1),
        (([BUSY], [1, BUSY]), 2),
    ],
)
async def test_what_no_retry_helps_is_raised(
    plots: tuple[list[object], ...], attempts: int
) -> None:
    tried, attempt = plays(*plots)
    with pytest.raises(EngineError):
        await drain(attempt)
    assert len(tried) == attempts


async def test_no_retries_means_one_attempt() -> None:
    tried, attempt = plays([BUSY])
    with pytest.raises(EngineError):
        await drain(attempt, Retries(limit=0))
    assert len(tried) == 1


def test_waits_double_with_jitter_up_to_a_longest() -> None:
    retries = Retries(limit=9, first_s=1.0, longest_s=5.0)
    for tried, full_s in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (9, 5.0)):
        waits = [retries.wait_s(BUSY, tried=tried) for _ in range(200)]
        assert all(wait is not None and full_s / 2 <= wait <= full_s for wait in waits)
        assert len(set(waits)) > 1
    assert retries.wait_s(BUSY, tried=10) is None
    assert retries.wait_s(BROKEN, tried=1) is None


@pytest.mark.parametrize(("asked_s", "wait_s"), [(0.0, 0.0), (5.0, 5.0), (5.1, None)])
def test_a_servers_wish_replaces_the_doubling(asked_s: float, wait_s: float | None) -> None:
    error = EngineRefused("busy", status=429, retryable=True, retry_after_s=asked_s)
    assert Retries(longest_s=5.0).wait_s(error, tried=1) == wait_s


async def test_waiting_for_a_retry_can_be_cancelled() -> None:
    _, attempt = plays([BUSY])
    task = asyncio.create_task(drain(attempt, Retries(first_s=30.0)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_leaving_early_closes_the_attempt() -> None:
    closed = asyncio.Event()

    async def attempt() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            closed.set()

    items = retried(attempt, retries=AT_ONCE)
    assert await anext(items) == 1
    await items.aclose()
    assert closed.is_set()


async def test_last_returns_the_completion() -> None:
    async def stream() -> AsyncGenerator[Chunk | Completion, None]:
        yield Chunk(text="4")
        yield DONE

    assert await last(stream()) is DONE
