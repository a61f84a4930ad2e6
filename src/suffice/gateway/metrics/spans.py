"""A span for each request, with OpenTelemetry's GenAI names, where its SDK is installed."""

import time
from importlib.util import find_spec
from typing import Any

from suffice.ledger import Entry, Role

_NS = 1_000_000_000


class Spans:
    """Hands ended requests to OpenTelemetry; does nothing where it is not installed."""

    def __init__(self) -> None:
        self._tracer: Any = None
        if find_spec("opentelemetry") is not None and find_spec("opentelemetry.sdk") is not None:
            from opentelemetry import trace

            self._tracer = trace.get_tracer("suffice.gateway")

    def note(self, entry: Entry, *, model: str, total_s: float) -> None:
        """Record a request that just ended, as it was booked; no prompt and no answer."""
        if self._tracer is None:
            return
        now_ns = time.time_ns()
        span = self._tracer.start_span(f"chat {model}", start_time=now_ns - int(total_s * _NS))
        if span.is_recording():
            span.set_attributes(_attributes(entry, model=model))
        span.end(now_ns)


def _attributes(entry: Entry, *, model: str) -> dict[str, str | int]:
    """Use the names of https://opentelemetry.io/docs/specs/semconv/gen-ai/ where there are any."""
    attributes: dict[str, str | int] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "suffice",
        "gen_ai.request.model": model,
        "suffice.request_id": entry.request_id,
        "suffice.status": entry.status.value,
    }
    answers = [attempt for attempt in entry.attempts if attempt.role is Role.ANSWER]
    if answers:
        usage = answers[-1].usage
        counts = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
        for name, count in counts.items():
            if count is not None:
                attributes[f"gen_ai.usage.{name}"] = count.tokens
    optional = {
        "suffice.rung": entry.rung,
        "suffice.certificate": entry.certificate_id,
        "gen_ai.conversation.id": entry.conversation_id,
        "error.type": entry.status.value if entry.error else None,
    }
    return attributes | {name: value for name, value in optional.items() if value is not None}
