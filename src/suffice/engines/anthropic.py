"""Anthropic's own API: chat requests go out as messages, answers come back as chat completions."""

import asyncio
import operator
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing

import aiohttp
import msgspec
from msgspec.structs import replace

from suffice.config import EngineConfig
from suffice.engines.base import Engine, Retries, repeated, retried
from suffice.engines.bounded import reply_bytes, reply_pieces
from suffice.engines.chunk import Chunk, Relay
from suffice.engines.fold import NATIVE, Fold
from suffice.engines.loose_json import decoded
from suffice.engines.message_replies import MessageEvents, completion_of
from suffice.engines.messages import count_body, message_body, native_body
from suffice.engines.refusals import error_in
from suffice.engines.reply import Reply, as_events, effort_seen
from suffice.engines.stream import EventReader
from suffice.engines.transport import Transport
from suffice.engines.usage import estimated_input, read_usage
from suffice.errors import EngineError, EngineProtocolError
from suffice.types import JSON, Completion, Count, CountSource, Request, Rung, Usage

_VERSION = "2023-06-01"
_COUNT_TIMEOUT_S = 5.0
# What reading an answer of another shape ends in.
_NO_MESSAGE = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class AnthropicEngine(Engine):
    """An engine that speaks the Messages API; `config.url` ends in /v1.

    Thinking blocks with their signatures travel as `thinking_blocks` of chat messages, both ways;
    `cache_control` stays on the parts that carry it. A request of this API goes out as its client
    wrote it, and each chunk of its answer holds the event that it was made of.
    """

    def __init__(self, config: EngineConfig, *, api_key: str | None = None) -> None:
        headers = {"anthropic-version": _VERSION}
        headers |= {} if api_key is None else {"x-api-key": api_key}
        self._transport = Transport(config, headers=headers, key=api_key)
        self._retries = Retries(limit=config.max_retries)

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

        def used() -> Usage:
            usage = folds[-1].used()
            return replace(usage, input_tokens=usage.input_tokens or estimated_input(request))

        def attempt() -> AsyncGenerator[bytes | Completion, None]:
            folds.append(Fold())
            return self._streamed(request, rung, folds[-1])

        return Relay(items=retried(attempt, retries=self._retries), used=used)

    async def count_prompt(self, request: Request, rung: Rung) -> Count:
        """Count with the server's own tokenizer where it offers that."""
        url = f"{self._transport.url}/messages/count_tokens"
        body, headers = count_body(_body(request, rung, stream=False)), _beta_headers(request)
        try:
            async with (
                asyncio.timeout(_COUNT_TIMEOUT_S),
                self._transport.post(url, body, headers=headers) as response,
            ):
                tokens = decoded(await reply_bytes(response))["input_tokens"]
                return Count(operator.index(tokens), CountSource.COUNTED)
        except (EngineError, TimeoutError, *_NO_MESSAGE):
            return await super().count_prompt(request, rung)

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        await self._transport.close()

    async def _whole(self, request: Request, rung: Rung) -> Completion:
        began_s = time.perf_counter()
        async with self._post(request, rung, stream=False) as response:
            data = await reply_bytes(response)
        message = decoded(data)
        error = error_in(message)
        if error is not None:
            raise error
        try:
            whole = completion_of(message)
        except _NO_MESSAGE as problem:
            raise EngineProtocolError(
                f"the engine sent what is no message: {str(message)[:200]}",
                hint="does its url end in /v1, and does it speak the Messages API?",
            ) from problem
        fold = Fold()
        fold.feed(as_events(whole))
        completion = self._completion(fold, rung, duration_s=time.perf_counter() - began_s)
        reply = Reply()
        reply.add(whole)
        cleaned = reply.cleaned(whole, usage=completion.usage)
        if request.native is not None:
            typed = message.get("type") == "message"  # some servers leave it out
            native = data if typed else msgspec.json.encode({**message, "type": "message"})
            cleaned = {**cleaned, NATIVE: native.decode()}
        return replace(completion, wire=msgspec.json.encode(cleaned))

    async def _streamed(
        self, request: Request, rung: Rung, fold: Fold
    ) -> AsyncGenerator[bytes | Completion, None]:
        began_s = time.perf_counter()
        ttft_s: float | None = None
        reader, events = EventReader(), MessageEvents()
        native = request.native is not None
        async with self._post(request, rung, stream=True) as response:
            async for piece in reply_pieces(response):
                for data in reader.feed(piece):
                    ready = self._read(data, events, fold, native=native)
                    if ready:
                        ttft_s = ttft_s or time.perf_counter() - began_s
                        yield ready
        duration_s = time.perf_counter() - began_s
        completion = self._completion(fold, rung, duration_s=duration_s)
        yield replace(completion, ttft_s=ttft_s, wire=fold.wire(completion.usage))

    def _post(
        self, request: Request, rung: Rung, *, stream: bool
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._transport.post(
            f"{self._transport.url}/messages",
            _body(request, rung, stream=stream),
            headers=_beta_headers(request),
        )

    def _read(self, data: str, events: MessageEvents, fold: Fold, *, native: bool) -> bytes:
        if data == "[DONE]":  # servers that are like Anthropic's may send it
            return b""
        event = decoded(data)
        error = error_in(event)
        if error is not None:
            raise error
        try:
            chunk = events.chunk(event)
        except _NO_MESSAGE as problem:
            raise EngineProtocolError(
                f"the engine sent what is no event of a message: {data[:200]}",
                hint="does its url end in /v1, and does it speak the Messages API?",
            ) from problem
        if native and event.get("type"):
            chunk = {**(chunk or {"choices": []}), NATIVE: data}
        return b"" if chunk is None else fold.feed(b"data: " + msgspec.json.encode(chunk) + b"\n\n")

    def _completion(self, fold: Fold, rung: Rung, *, duration_s: float) -> Completion:
        reply = fold.reply()
        usage = read_usage(reply.usage, reasoning="")
        if not reply.finished:
            problem = EngineProtocolError(
                f"{self._transport.url} ended its message without saying why it stopped",
                hint="the answer is cut off: the server, or a proxy before it, broke the stream",
                retryable=True,
            )
            problem.used = usage if fold.output_is_final else None
            raise problem
        first = reply.choices[0]
        assert first.finish is not None
        return Completion(
            text=first.text,
            finish=first.finish,
            usage=usage,
            duration_s=duration_s,
            reasoning=first.reasoning or None,
            tool_calls=first.tool_calls,
            effort_seen=effort_seen(
                rung, usage, reasoning=first.reasoning, shows_reasoning=False, samples=1
            ),
            model=reply.model,
        )


def _body(request: Request, rung: Rung, *, stream: bool) -> JSON:
    if request.native is not None:
        return native_body(request.native.body, rung, stream=stream)
    return message_body(request, rung, stream=stream)


def _beta_headers(request: Request) -> dict[str, str]:
    betas = request.native.betas if request.native is not None else None
    return {"anthropic-beta": betas} if betas else {}
