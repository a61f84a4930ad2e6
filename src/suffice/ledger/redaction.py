"""What an operator's own function makes of texts before they are kept."""

import logging
from collections.abc import Callable

from msgspec.structs import replace

from suffice.ledger.records import Attempt, Entry

Redact = Callable[[str], str]
_log = logging.getLogger("suffice.ledger")


def redacted_entry(entry: Entry, redact: Redact) -> Entry:
    """Return an entry whose text, answers, reasoning and errors went through `redact`."""
    return replace(
        entry,
        text=_redacted(entry.text, redact),
        error=_redacted(entry.error, redact),
        attempts=tuple(redacted_attempt(attempt, redact) for attempt in entry.attempts),
    )


def redacted_attempt(attempt: Attempt, redact: Redact) -> Attempt:
    """Return an attempt whose texts went through `redact`."""
    return replace(
        attempt,
        answer=_redacted(attempt.answer, redact),
        reasoning=_redacted(attempt.reasoning, redact),
        error=_redacted(attempt.error, redact),
        samples=tuple(_redacted(sample, redact) or "" for sample in attempt.samples),
    )


def _redacted(text: str | None, redact: Redact) -> str | None:
    """Redact a text; one that the function fails on is not kept, and its row is."""
    if text is None:
        return None
    try:
        return str(redact(text))
    except Exception as error:  # noqa: BLE001 - a stranger's function must lose no row of the books
        _log.error("gateway.redact failed, so a text was not kept: %s", type(error).__name__)
        return "redaction failed"
