"""The one protocol that every engine speaks, and the retries that they share."""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
)
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar, cast

from msgspec import Struct

from suffice.engines.chunk import Chunk, Relay
from suffice.engines.render import relayed
from suffice.engines.usage import estimated_prompt
from suffice.errors import EngineError, EngineRefused, EngineUnusable
from suffice.types import JSON, Completion, Count, Request, Rung, Usage

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")


class Engine(Protocol):
    """Something that answers requests; open it with `async with`, or call `close` when done.

    Every method raises an EngineError of `suffice.errors`; cancelling the task, or closing the
    iterator, stops the work at the engine too.
    """

    async def complete(self, request: Request, rung: Rung) -> Completion:
        """Answer in one piece; `ttft_s` stays None."""
        ...

    def stream(self, request: Request, rung: Rung) -> AsyncGenerator[Chunk | Completion, None]:
        """Yield chunks as they arrive; the last item is the whole Completion.

        Leave it early through `contextlib.aclosing`, so that the engine stops at once.
        """
        ...

    def relay(self, request: Request, rung: Rung) -> Relay:
        """Stream in the OpenAI form; engines with a server hand on its very bytes."""
        return relayed(self.stream(request, rung), request, model=rung.model)

    async def extend(self, request: Request, rung: Rung, *, written: str) -> Completion:  # noqa: ARG002
        """Go on from `written`, the raw start of an answer with the tags of its reasoning.

        The Completion's `text` is what comes next, as raw, within the rung's limit of tokens.
        Raises an EngineError where the engine cannot do that.
        """
        from suffice.engines.prefix import cannot_extend

        raise cannot_extend(type(self).__name__)

    def forward(
        self,
        path: str,
        body: JSON,  # noqa: ARG002
    ) -> "AbstractAsyncContextManager[aiohttp.ClientResponse]":
        """Post to another path of the engine's API; lends an answer of HTTP 200.

        Raises EngineUnusable where the engine has no such path.
        """
        raise EngineUnusable(
            f"{type(self).__name__} does not serve {path}", hint="ask another rung"
        )

    async def count_prompt(self, request: Request, rung: Rung) -> Count:  # noqa: ARG002
        """Count the tokens of the prompt without an answer; estimated where nothing can count."""
        return estimated_prompt(request)

    async def close(self) -> None:
        """Give back connections, threads and memory; closing twice is harmless."""
        ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


async def last(stream: AsyncIterator[Chunk | bytes | Completion]) -> Completion:
    """Read a stream to its end and return the Completion that closes it."""
    item: Chunk | bytes | Completion | None = None
    async for item in stream:  # noqa: B007 (the last item is what we are after)
        pass
    return cast("Completion", item)


class Retries(Struct, frozen=True, kw_only=True):
    """How often to try again, and how long to wait: doubling from `first_s`, with jitter.

    Only a call that was refused and used no tokens, or is known not to have begun, is made again:
    another has its cost, which only the caller can book. A server's Retry-After replaces the
    doubling; one longer than `longest_s` is not waited for, so that the caller may choose another
    rung.
    """

    limit: int = 2
    first_s: float = 0.5
    longest_s: float = 30.0

    def wait_s(self, error: EngineError, *, tried: int) -> float | None:
        """Return how long to wait after `tried` failures, or None to give up."""
        refused = isinstance(error, EngineRefused) and not used_tokens(error)
        if tried > self.limit or not (error.retryable and (refused or error.unbilled)):
            return None
        asked_s = error.retry_after_s if isinstance(error, EngineRefused) else None
        if asked_s is not None:
            return asked_s if asked_s <= self.longest_s else None
        backoff_s = min(self.longest_s, self.first_s * 2.0 ** (tried - 1))
        return backoff_s * random.uniform(0.5, 1.0)  # noqa: S311 (jitter, not a secret)


def used_tokens(error: EngineError) -> bool:
    """Whether a call that ended in an error is known to have used tokens, which somebody pays."""
    used = error.used if isinstance(error.used, Usage) else None
    counts = (used.input_tokens, used.output_tokens) if used is not None else ()
    return any(count is not None and count.tokens for count in counts)


async def repeated(attempt: Callable[[], Awaitable[T]], *, retries: Retries) -> T:
    """Return what `attempt()` returns; start over after a retryable error."""
    tried = 0
    while True:
        try:
            return await attempt()
        except EngineError as error:
            tried += 1
            wait_s = retries.wait_s(error, tried=tried)
            if wait_s is None:
                raise
            await asyncio.sleep(wait_s)


async def retried(
    attempt: Callable[[], AsyncGenerator[T, None]], *, retries: Retries
) -> AsyncGenerator[T, None]:
    """Yield from `attempt()`; start over after a retryable error while nothing was yielded yet."""
    begun = False
    for tried in itertools.count(1):
        try:
            async with aclosing(attempt()) as items:
                async for item in items:
                    begun = True
                    yield item
        except EngineError as error:
            wait_s = None if begun else retries.wait_s(error, tried=tried)
            if wait_s is None:
                raise
            await asyncio.sleep(wait_s)
        else:
            return


@asynccontextmanager
async def entered(
    attempt: Callable[[], AbstractAsyncContextManager[T]], *, retries: Retries
) -> AsyncGenerator[T, None]:
    """Lend what `attempt()` lends; start over after a retryable error while nothing was lent."""
    async with AsyncExitStack() as stack:
        yield await repeated(lambda: stack.enter_async_context(attempt()), retries=retries)
