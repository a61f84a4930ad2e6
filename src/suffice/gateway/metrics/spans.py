"""A SERVER span for each request, with OpenTelemetry's GenAI names, where a provider is set up.

A caller's trace goes on (https://www.w3.org/TR/trace-context/): engines get `traceparent` with our
span as the parent, or as it came where there is no provider.
"""

import re
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from msgspec import Struct

from suffice.ledger import Entry, Role

_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LONGEST_STATE = 512  # characters that a tracestate must at least be kept for


class Served(Struct, kw_only=True):
    """One request as a span tells it; what is not known is None.

    `operation` is GenAI's name for it; `error` a name of what went wrong.
    """

    operation: str
    path: str
    model: str | None = None
    status: int | None = None
    error: str | None = None
    entry: Entry | None = None


class RequestTrace:
    """The trace of one request; `headers` go with every call to an engine."""

    def __init__(self, headers: dict[str, str], span: Any = None) -> None:
        self.headers = headers
        self._span = span

    def end(self, served: Served) -> None:
        """Record how the request ended, as it was booked; no prompt and no answer."""
        if self._span is None:
            return
        if self._span.is_recording():
            from opentelemetry.trace import StatusCode

            if served.model is not None:
                self._span.update_name(f"{served.operation} {served.model}")
            self._span.set_attributes(_attributes(served))
            if served.error is not None:
                self._span.set_status(StatusCode.ERROR, served.error)
        self._span.end(time.time_ns())


def find_tracer() -> Any:
    """Return the tracer; None where OpenTelemetry has no provider."""
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        return None
    from opentelemetry import trace

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    return trace.get_tracer("suffice.gateway")


class Spans:
    """Begins the traces of requests; without OpenTelemetry it hands on those of the callers."""

    def __init__(self) -> None:
        self._tracer = find_tracer()

    def begin(self, headers: Mapping[bytes, bytes], *, operation: str) -> RequestTrace:
        """Go on with the caller's trace, or begin one."""
        carried = _carried(headers)
        if self._tracer is None:
            return RequestTrace(carried)
        from opentelemetry.trace import SpanKind, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        propagator = TraceContextTextMapPropagator()
        context = propagator.extract(carried)
        span = self._tracer.start_span(operation, context=context, kind=SpanKind.SERVER)
        outgoing: dict[str, str] = {}
        propagator.inject(outgoing, context=set_span_in_context(span))
        return RequestTrace(outgoing, span)


def _carried(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return a caller's trace headers; none where `traceparent` is missing or none."""
    parent = headers.get(b"traceparent")
    if parent is None:
        return {}
    text = parent.decode("latin-1").strip()
    if not _PARENT.match(text):
        return {}
    state = headers.get(b"tracestate", b"").decode("latin-1").strip()
    kept = state and state.isprintable() and len(state) <= _LONGEST_STATE
    return {"traceparent": text, **({"tracestate": state} if kept else {})}


def _attributes(served: Served) -> dict[str, str | int]:
    """Use the names of https://opentelemetry.io/docs/specs/semconv/gen-ai/ where there are any."""
    entry = served.entry
    optional: dict[str, str | int | None] = {
        "gen_ai.operation.name": served.operation,
        "gen_ai.provider.name": "suffice",
        "gen_ai.request.model": served.model,
        "http.request.method": "POST",
        "url.path": served.path,
        "http.response.status_code": served.status,
        "error.type": served.error,
    }
    if entry is not None:
        optional |= {
            "suffice.request_id": entry.request_id,
            "suffice.status": entry.status.value,
            "suffice.rung": entry.rung,
            "suffice.certificate": entry.certificate_id,
            "gen_ai.conversation.id": entry.conversation_id,
        }
        answers = [attempt for attempt in entry.attempts if attempt.role is Role.ANSWER]
        usage = answers[-1].usage if answers else None
        for name in ("input_tokens", "output_tokens"):
            count = getattr(usage, name, None)
            optional[f"gen_ai.usage.{name}"] = None if count is None else count.tokens
    return {name: value for name, value in optional.items() if value is not None}
