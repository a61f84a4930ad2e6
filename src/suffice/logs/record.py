"""What a log may say of one request, whoever wrote it: the one record that all readers give."""

import types
from datetime import datetime
from decimal import Decimal
from typing import Any, Union, get_args, get_origin, get_type_hints

from msgspec import Struct


class LogRecord(Struct, frozen=True, kw_only=True):
    """One request of a log, or a row of a usage report that sums several up (`requests`).

    `input_tokens` is the whole prompt: cache reads and writes are parts of it, and
    `cache_write_1h_tokens` of the writes. `output_tokens` includes `reasoning_tokens`.
    `prefix_tokens` counts how much of the prompt an earlier request of the same agent had sent,
    `pause_s` how long that agent was idle before; few logs say either. `stated_usd` is what the log
    says that the request cost. `key` is whose request it was, a key or a user. `prompt_hash` and
    `answer_hash` stand for texts, which are not kept. `zoned` says whether the time had a zone.
    `span` and `parent` are hashes of a traced call's name and of the call above it. `ended` says
    whether a stream's end was logged; where it was not, `output_tokens` may be too low.
    `long_context` says of a report's row whether its prompts are at the higher rates of long ones.
    `request_id` is the provider's name of the call, where `id` is that of the message it gave.
    `run_sum` says that a row sums up all calls of a printed run, by model.
    """

    source: str
    file: int
    id: str | None = None
    request_id: str | None = None
    time: datetime | None = None
    zoned: bool | None = None
    session: str | None = None
    agent: str | None = None
    model: str | None = None
    provider: str | None = None
    requests: float = 1
    input_tokens: float | None = None
    cache_read_tokens: float | None = None
    cache_write_tokens: float | None = None
    cache_write_1h_tokens: float | None = None
    output_tokens: float | None = None
    reasoning_tokens: float | None = None
    prefix_tokens: float | None = None
    pause_s: float | None = None
    tier: str | None = None
    effort: str | None = None
    stated_usd: Decimal | None = None
    currency: str | None = None
    key: str | None = None
    tags: tuple[str, ...] | None = None
    error: str | None = None
    latency_s: float | None = None
    prompt_hash: int | None = None
    answer_hash: int | None = None
    span: int | None = None
    parent: int | None = None
    ended: bool | None = None
    long_context: bool | None = None
    run_sum: bool | None = None
    problem: str | None = None


BEYOND_USD = 10**11  # more dollars than any log can state
_SQL_TYPES = {
    str: "VARCHAR",
    int: "UBIGINT",
    float: "DOUBLE",
    bool: "BOOLEAN",
    datetime: "TIMESTAMPTZ",
    Decimal: "DECIMAL(24, 12)",
    tuple: "VARCHAR[]",
}
COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)


def columns() -> dict[str, str]:
    """Return the name and the SQL type of every column of the table of records."""
    hints = get_type_hints(LogRecord)
    return {name: _SQL_TYPES[_plain(hints[name])] for name in LogRecord.__struct_fields__}


def _plain(hint: Any) -> Any:
    """Take the None and the parameters off a type."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    return get_origin(hint) or hint


class Skipped(Struct, frozen=True, kw_only=True):
    """Why some rows, or a whole file (`rows` None), are not in the bill."""

    path: str
    reason: str
    rows: int | None = None
