"""A CLIENT span for each call to an engine, with OpenTelemetry's GenAI names.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans. Its parent is the request that the
call belongs to, and the engine gets a `traceparent` with it as the parent.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from suffice.config import Config, EngineConfig
from suffice.engines.base import Engine
from suffice.engines.chunk import Chunk, Relay
from suffice.engines.servers import DIALECTS, vendor_at
from suffice.engines.transport import TRACE_HEADERS
from suffice.errors import EngineRefused
from suffice.gateway.metrics.spans import find_tracer
from suffice.types import JSON, Completion, Count, Request, Rung

# Well-known values of gen_ai.provider.name; other servers are told by the name of their dialect.
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "kimi": "moonshot_ai",
    "mistral": "mistral_ai",
}
_USAGE = {
    "input_tokens": "input_tokens",
    "cache_read_tokens": "cache_read.input_tokens",
    "cache_write_tokens": "cache_creation.input_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "reasoning.output_tokens",
}


def traced(engines: Mapping[str, Engine], config: Config) -> dict[str, Engine]:
    """Trace the calls to engines; without a tracer provider they stay as they are."""
    tracer = find_tracer()
    if tracer is None:
        return dict(engines)
    return {
        name: TracedEngine(engine, tracer=tracer, server=_server(config.engine[name]))
        for name, engine in engines.items()
    }


class EngineCall:
    """The span of one call; no prompt and no answer is in it."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def answered(self, completion: Completion) -> None:
        """Record what came of it."""
        self._span.set_attribute("gen_ai.response.finish_reasons", [completion.finish.value])
        if completion.model is not None:
            self._span.set_attribute("gen_ai.response.model", completion.model)
        if completion.ttft_s is not None:
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", completion.ttft_s)
        for field, name in _USAGE.items():
            count: Count | None = getattr(completion.usage, field)
            if count is not None:
                self._span.set_attribute(f"gen_ai.usage.{name}", count.tokens)

    def failed(self, error: BaseException) -> None:
        """Record an error by its kind: its words may hold a prompt."""
        from opentelemetry.trace import StatusCode

        name = type(error).__name__ if isinstance(error, Exception) else "cancelled"
        if isinstance(error, EngineRefused):
            self._span.set_attribute("http.response.status_code", error.status)
            name = str(error.status)
        self._span.set_attribute("error.type", name)
        self._span.set_status(StatusCode.ERROR, name)


class TracedEngine(Engine):
    """An engine whose calls are traced; `server` says who answers."""

    def __init__(self, engine: Engine, *, tracer: Any, server: JSON) -> None:
        self._engine, self._tracer, self._server = engine, tracer, server

    async def complete(self, request: Request, rung: Rung) -> Completion:
        """Answer in one piece."""
        with self._call(rung) as call:
            completion = await self._engine.complete(request, rung)
            call.answered(completion)
            return completion

    async def stream(
        self, request: Request, rung: Rung
    ) -> AsyncGenerator[Chunk | Completion, None]:
        """Yield chunks as they arrive."""
        items = self._items(self._engine.stream(request, rung), rung)
        async with aclosing(items) as chunks:
            async for chunk in chunks:
                yield chunk

    def relay(self, request: Request, rung: Rung) -> Relay:
        """Stream in the OpenAI form."""
        relay = self._engine.relay(request, rung)
        return Relay(items=self._items(relay.items, rung), used=relay.used)

    async def extend(self, request: Request, rung: Rung, *, written: str) -> Completion:
        """Go on from `written`."""
        with self._call(rung) as call:
            completion = await self._engine.extend(request, rung, written=written)
            call.answered(completion)
            return completion

    @asynccontextmanager
    async def forward(self, path: str, body: JSON) -> AsyncIterator[aiohttp.ClientResponse]:
        """Post to another path of the engine's API."""
        operation = "embeddings" if path == "/embeddings" else "text_completion"
        with self._call(None, operation=operation, model=body.get("model")):
            async with self._engine.forward(path, body) as response:
                yield response

    async def count_prompt(self, request: Request, rung: Rung) -> Count:
        """Count the tokens of the prompt, which is no call to a model."""
        return await self._engine.count_prompt(request, rung)

    async def close(self) -> None:
        """Close the engine."""
        await self._engine.close()

    @contextmanager
    def _call(
        self, rung: Rung | None, *, operation: str = "chat", model: Any = None
    ) -> Iterator[EngineCall]:
        """Trace what happens within, as the parent of what it sends."""
        from opentelemetry.trace import SpanKind, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        propagator = TraceContextTextMapPropagator()
        model = rung.model if rung is not None else model
        facts = {"gen_ai.operation.name": operation, "gen_ai.request.model": model, **self._server}
        facts |= {} if rung is None else {"suffice.rung": rung.name}
        span = self._tracer.start_span(
            f"{operation} {model}",
            context=propagator.extract(dict(TRACE_HEADERS.get())),
            kind=SpanKind.CLIENT,
            attributes={name: value for name, value in facts.items() if value is not None},
        )
        headers: dict[str, str] = {}
        propagator.inject(headers, context=set_span_in_context(span))
        before, call = TRACE_HEADERS.set(headers), EngineCall(span)
        try:
            yield call
        except BaseException as error:
            call.failed(error)
            raise
        finally:
            span.end(time.time_ns())
            with suppress(ValueError):  # a stream may be closed in another context than it began
                TRACE_HEADERS.reset(before)

    async def _items(
        self, items: AsyncGenerator[Any, None], rung: Rung
    ) -> AsyncGenerator[Any, None]:
        with self._call(rung) as call:
            async with aclosing(items):
                async for item in items:
                    if isinstance(item, Completion):
                        call.answered(item)
                    yield item


def _server(config: EngineConfig) -> JSON:
    """Say who answers, by the names of the conventions."""
    if config.kind not in ("openai", "responses"):
        provider: str = config.kind
    else:
        dialect = vendor_at(config.first_url, dialect=DIALECTS[config.dialect]).name
        provider = _PROVIDERS.get(dialect, dialect)
    url = urlsplit(config.first_url)
    port = url.port or {"https": 443, "http": 80}.get(url.scheme)
    return {
        "gen_ai.provider.name": provider,
        "server.address": url.hostname,
        "server.port": port if url.hostname else None,
    }
