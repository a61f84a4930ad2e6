"""Logs, in plain lines or one JSON object a line; no line holds a secret or words of a client."""

import logging
import sys
from datetime import UTC, datetime

import msgspec

from suffice.gateway.exchange import Exchange
from suffice.masking import masked
from suffice.types import JSON

_LOGGERS = ("suffice", "uvicorn")
_access = logging.getLogger("suffice.access")


class JsonLines(logging.Formatter):
    """Writes time, level, logger and message, the traceback of an error, and `request` fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        line: JSON = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        line |= getattr(record, "request", {})
        return masked(msgspec.json.encode(line).decode())


class MaskedLines(logging.Formatter):
    """Writes what logging writes by itself, without what looks like a secret."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        return masked(super().format(record))


def log_masked() -> None:
    """Have this process log to stderr in plain lines, without secrets."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(MaskedLines())


def log_as_json() -> None:
    """Have this process log to stderr in lines of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
    _access.setLevel(logging.INFO)


def log_request(exchange: Exchange, *, route: str, seconds: float) -> None:
    """Log that a request ended, and what the books say of it; `route` is no text of a client."""
    entry = exchange.served.entry if exchange.served is not None else None
    request: JSON = {
        "request_id": exchange.request_id,
        "method": exchange.method if exchange.method in _METHODS else "other",
        "route": route,
        "status": exchange.status,
        "seconds": round(seconds, 4),
        "client": exchange.client,
    }
    if entry is not None:
        request |= {"key": entry.key_id, "rung": entry.rung, "ended": entry.status.value}
    _access.info("request", extra={"request": request})


_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
