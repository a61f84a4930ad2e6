"""Engines of APIs other than chat completions: requests are translated, answers translated back."""

import asyncio
import operator
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from typing import Protocol

import aiohttp
import msgspec
from msgspec.structs import replace

from suffice.config import EngineConfig
from suffice.engines.base import Engine, Retries, repeated, retried
from suffice.engines.bounded import reply_bytes, reply_pieces
from suffice.engines.chunk import Chunk, Relay
from suffice.engines.fold import Fold
from suffice.engines.loose_json import decoded
from suffice.engines.refusals import error_in, retry_after_s
from suffice.engines.reply import Reply, as_events, effort_seen, shortcoming
from suffice.engines.stream import EventReader
from suffice.engines.transport import Transport, finish
from suffice.engines.usage import estimated_input, read_usage
from suffice.errors import EngineError, EngineProtocolError, EngineRefused
from suffice.types import (
    JSON,
    Completion,
    Count,
    CountSource,
    Effort,
    Request,
    Rung,
    Usage,
)

_COUNT_TIMEOUT_S = 5.0
# What reading an answer of another shape ends in.
_OTHER_SHAPE = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class ReplyEvents(Protocol):
    """Turns the events of one streamed answer into chunks of a chat completion.

    `ended` says that nothing can follow the last event.
    """

    ended: bool

    def chunk(self, event: JSON) -> JSON | None:
        """Return the chunk that an event makes; None where it makes none."""
        ...


class TranslatedEngine(Engine):
    """An engine whose API has another form; `config.url` ends in /v1.

    `api` is the API's name in errors, `path` where it answers, `count_path` where it counts a
    prompt. With `hides_reasoning` an answer may have thoughts that only its usage counts.
    """

    api: str
    path: str
    count_path: str
    hides_reasoning = False

    def __init__(self, config: EngineConfig, *, headers: dict[str, str], api_key: str | None):
        self._transport = Transport(config, headers=headers, key=api_key)
        self._retries = Retries(limit=config.max_retries)

    @abstractmethod
    def _body(self, request: Request, rung: Rung, *, stream: bool) -> JSON:
        """Build the body of a request; raises EngineRefused for what the API cannot hold."""

    @abstractmethod
    def _count_body(self, body: JSON) -> JSON:
        """Return what of a body counts as its prompt."""

    @abstractmethod
    def _events(self, request: Request, rung: Rung) -> ReplyEvents: ...

    @abstractmethod
    def _completion_of(self, answer: JSON, request: Request, rung: Rung) -> JSON:
        """Turn a whole answer into a chat completion; the usage stays the engine's."""

    def _headers(self, request: Request) -> dict[str, str]:  # noqa: ARG002
        return {}

    def _native(self, request: Request, event: JSON, data: str) -> JSON:  # noqa: ARG002
        """Return fields to add to the chunk of an event for a client of the engine's own API."""
        return {}

    async def complete(self, request: Request, rung: Rung) -> Completion:
        """Answer in one piece."""
        return await repeated(lambda: self._whole(request, rung), retries=self._retries)

    async def stream(
        self, request: Request, rung: Rung
    ) -> AsyncGenerator[Chunk | Completion, None]:
        """Yield chunks as they arrive."""
        events, reply = EventReader(), Reply()
        async with aclosing(self.relay(request, rung).items) as items:
            async for item in items:
                if isinstance(item, Completion):
                    yield item
                    return
                for data in events.feed(item):
                    for chunk in reply.add(decoded(data)):
                        yield chunk

    def relay(self, request: Request, rung: Rung) -> Relay:
        """Stream in the OpenAI form; the timeout bounds each silence."""
        folds = [Fold()]

        def attempt() -> AsyncGenerator[bytes | Completion, None]:
            folds.append(Fold())
            return self._streamed(request, rung, folds[-1])

        items = retried(attempt, retries=self._retries)
        return Relay(items=items, used=lambda: self._used(folds[-1], request, rung))

    async def count_prompt(self, request: Request, rung: Rung) -> Count:
        """Count with the server's own tokenizer where it offers that."""
        body = self._count_body(self._body(request, rung, stream=False))
        try:
            async with (
                asyncio.timeout(_COUNT_TIMEOUT_S),
                self._post(self.count_path, body, request) as response,
            ):
                tokens = decoded(await reply_bytes(response))["input_tokens"]
                return Count(operator.index(tokens), CountSource.COUNTED)
        except (EngineError, TimeoutError, *_OTHER_SHAPE):
            return await super().count_prompt(request, rung)

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        await self._transport.close()

    async def _whole(self, request: Request, rung: Rung) -> Completion:
        began_s = time.perf_counter()
        body = self._body(request, rung, stream=False)
        async with self._post(self.path, body, request) as response:
            data = await reply_bytes(response)
        answer, fold, reply = decoded(data), Fold(), Reply()
        with self._reading(answer, f"no answer of the {self.api}", response):
            error = error_in(answer)
            if error is not None:
                raise error
            whole = self._completion_of(answer, request, rung)
            fold.feed(as_events(whole))
            reply.add(whole)
        duration_s = time.perf_counter() - began_s
        completion = self._completion(fold, request, rung, duration_s=duration_s)
        cleaned = reply.cleaned(whole, usage=completion.usage)
        cleaned |= self._native(request, answer, data.decode())
        return replace(completion, wire=msgspec.json.encode(cleaned))

    async def _streamed(
        self, request: Request, rung: Rung, fold: Fold
    ) -> AsyncGenerator[bytes | Completion, None]:
        began_s = time.perf_counter()
        ttft_s: float | None = None
        events, first = self._events(request, rung), True
        body = self._body(request, rung, stream=True)
        async with (
            self._post(self.path, body, request) as response,
            aclosing(_events_of(response)) as data_of_events,
        ):
            async for data in data_of_events:
                event = decoded(data)
                with self._reading(event, f"no event of the {self.api}", response):
                    chunk = self._chunk(request, event, data, events=events)
                    if chunk is None:
                        continue
                    if first and chunk["choices"]:
                        chunk["choices"][0]["delta"]["role"] = "assistant"
                        first = False
                    ready = fold.feed(b"data: " + msgspec.json.encode(chunk) + b"\n\n")
                if ready and not fold.failed:
                    ttft_s = ttft_s or time.perf_counter() - began_s
                    yield ready
                if events.ended:
                    break
            await finish(response)
        duration_s = time.perf_counter() - began_s
        completion = self._completion(fold, request, rung, duration_s=duration_s)
        yield replace(completion, ttft_s=ttft_s, wire=fold.wire(completion.usage))

    def _post(
        self, path: str, body: JSON, request: Request
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        url = f"{self._transport.url}{path}"
        return self._transport.post(url, body, headers=self._headers(request))

    def _chunk(
        self, request: Request, event: JSON, data: str, *, events: ReplyEvents
    ) -> JSON | None:
        """Return the chunk of an event; raises EngineError for an error that it tells."""
        error = error_in(event)
        if error is not None:
            raise error
        chunk = events.chunk(event)
        native = self._native(request, event, data)
        return {**(chunk or {"choices": []}), **native} if native else chunk

    @contextmanager
    def _reading(
        self, answer: object, what: str, response: aiohttp.ClientResponse
    ) -> Iterator[None]:
        """Raise EngineProtocolError for another shape.

        An error carries the usage that the answer tells, and the wait that its head asks for.
        """
        try:
            yield
        except EngineError as error:
            error.used = error.used or _told_usage(answer)
            if isinstance(error, EngineRefused) and error.retry_after_s is None:
                error.retry_after_s = retry_after_s(response.headers.get("Retry-After"))
            raise
        except _OTHER_SHAPE as problem:
            other = EngineProtocolError(
                f"the engine sent what is {what}: {str(answer)[:200]}",
                hint=f"does its url end in /v1, and does it speak the {self.api}?",
            )
            other.used = _told_usage(answer)
            raise other from problem

    def _used(self, fold: Fold, request: Request, rung: Rung) -> Usage:
        """Return what a call has used until now: what the engine told of it, else estimates.

        An output whose thoughts may be hidden is unknown where the engine does not tell it.
        """
        usage = fold.used()
        output = usage.output_tokens
        effort = rung.effort or request.params.get("reasoning_effort")
        hidden = self.hides_reasoning and effort != Effort.NONE
        if hidden and output is not None and output.source is not CountSource.REPORTED:
            output = None
        return replace(
            usage,
            input_tokens=usage.input_tokens or estimated_input(request),
            output_tokens=output,
        )

    def _completion(
        self, fold: Fold, request: Request, rung: Rung, *, duration_s: float
    ) -> Completion:
        reply, usage = fold.reply(), self._used(fold, request, rung)
        error = shortcoming(reply, url=self._transport.url)
        if error is not None:
            error.used = usage if fold.output_is_final else None
            raise error
        first = reply.choices[0]
        assert first.finish is not None
        return Completion(
            text=first.text,
            finish=first.finish,
            usage=usage,
            duration_s=duration_s,
            reasoning=first.reasoning or None,
            logprobs=first.logprobs,
            tool_calls=first.tool_calls,
            effort_seen=effort_seen(
                rung, usage, reasoning=first.reasoning, shows_reasoning=False, samples=1
            ),
            model=reply.model,
        )


async def _events_of(response: aiohttp.ClientResponse) -> AsyncGenerator[str, None]:
    """Yield the data of each event; a body that is one JSON value is one event."""
    if response.content_type == "application/json":
        yield (await reply_bytes(response)).decode(errors="replace")
        return
    reader = EventReader()
    async for piece in reply_pieces(response):
        for data in reader.feed(piece):
            if data == "[DONE]":  # some servers send it, as in a stream of chat completions
                return
            yield data
    for data in reader.close():
        yield data


def _told_usage(answer: object) -> Usage | None:
    """Return the usage that stands in an answer, or in the answer of an event."""
    event = answer if isinstance(answer, dict) else {}
    for table in (event, event.get("response"), event.get("message")):
        raw = table.get("usage") if isinstance(table, dict) else None
        if isinstance(raw, dict) and raw:
            return read_usage(raw, reasoning="")
    return None
