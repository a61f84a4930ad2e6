"""The bill itself: what was spent, by what, on what, and beside what the log says."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from suffice.bill.charges import PARTS
from suffice.logs.record import Skipped
from suffice.units import usd_from_picousd

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST_LINES = 10
UNNAMED = "unknown"
RETRY_S = 120
DIMENSIONS: Mapping[str, str] = {
    "model": "model",
    "day": "strftime(time, '%Y-%m-%d')",
    "session": "session",
    "agent": "CASE WHEN agent = 'main' THEN 'main agent' WHEN agent IS NOT NULL THEN "
    "'sub-agents and others' END",
    "key": "key",
    "tag": "unnest(coalesce(nullif(tags, []), ['no tag']))",
}
_TOKENS = ("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning")


class Line(Struct, frozen=True, kw_only=True):
    """One line of the bill: dollars by part, tokens by kind.

    `usd` is the whole; the parts add up to it but for `unsplit_usd`, which a log states for models
    without a price. Tokens of a kind that no request states are None. `unknown_requests` have
    neither a price nor a stated cost.
    """

    name: str
    requests: int
    usd: Decimal
    input_usd: Decimal
    read_usd: Decimal
    write_usd: Decimal
    output_usd: Decimal
    reasoning_usd: Decimal
    unsplit_usd: Decimal
    tokens: Mapping[str, int | None]
    unknown_requests: int

    def share(self, part: str) -> float:
        """Return the share of a part (`input`, `read`, ...) in the dollars that are split."""
        split = self.usd - self.unsplit_usd
        return float(getattr(self, f"{part}_usd") / split) if split else 0.0


class Stated(Struct, frozen=True, kw_only=True):
    """Stated beside computed dollars of one model, over the requests that have both, and why."""

    model: str
    requests: int
    stated_usd: Decimal
    computed_usd: Decimal
    reason: str


class Mishaps(Struct, frozen=True, kw_only=True):
    """Requests that failed, and those that followed one of the same agent within 2 minutes."""

    errors: int
    error_usd: Decimal
    errors_unknown: int
    retries: int
    retry_usd: Decimal


class Period(Struct, frozen=True, kw_only=True):
    """First and last time of the log, and the days between them; None without times.

    Days begin at midnight in `timezone`.
    """

    first: datetime | None
    last: datetime | None
    days: float | None
    timezone: str


def sum_lines(store: "DuckDBPyConnection") -> tuple[Line, dict[str, tuple[Line, ...]]]:
    """Return the whole bill, and its lines by each dimension, the dearest first, days in order."""
    whole = _line(_rows(store, "'all'", "")[0])
    lines = {}
    for name, expression in DIMENSIONS.items():
        rows = _rows(store, expression, "ORDER BY 1" if name == "day" else "ORDER BY 3 DESC, 1")
        named = [_line(row) for row in rows]
        if name != "day" and len(named) > MOST_LINES + 1:
            named = [*named[:MOST_LINES], _rest(named[MOST_LINES:])]
        lines[name] = tuple(named)
    return whole, lines


def _rows(store: "DuckDBPyConnection", expression: str, order: str) -> list[Any]:
    parts = ", ".join(f"coalesce(sum(pico_{p}) FILTER (computed IS NOT NULL), 0)" for p in PARTS)
    tokens = ", ".join(f"sum({t}_tokens)" for t in _TOKENS)
    return store.execute(
        f"""SELECT name, sum(requests), coalesce(sum(usd), 0), {parts},
            coalesce(sum(usd) FILTER (computed IS NULL), 0), {tokens},
            count(*) FILTER (usd IS NULL)
        FROM (SELECT *, coalesce({expression}, '{UNNAMED}') AS name FROM bill)
        GROUP BY 1 {order}"""
    ).fetchall()


def _line(row: Any) -> Line:
    name, requests, usd, *rest = row
    parts, unsplit, tokens = rest[: len(PARTS)], rest[len(PARTS)], rest[len(PARTS) + 1 : -1]
    return Line(
        name=str(name),
        requests=int(requests),
        usd=usd_from_picousd(int(usd)),
        unsplit_usd=usd_from_picousd(int(unsplit)),
        tokens={
            kind: None if count is None else int(count)
            for kind, count in zip(_TOKENS, tokens, strict=True)
        },
        unknown_requests=int(rest[-1]),
        **{
            f"{part}_usd": usd_from_picousd(int(pico))
            for part, pico in zip(PARTS, parts, strict=True)
        },
    )


def _rest(lines: list[Line]) -> Line:
    sums: dict[str, Any] = {
        name: sum((getattr(line, name) for line in lines), Decimal(0))
        for name in Line.__struct_fields__
        if name.endswith("_usd") or name == "usd"
    }
    return Line(
        name=f"{len(lines):,} more",
        requests=sum(line.requests for line in lines),
        tokens={kind: _known_sum(line.tokens[kind] for line in lines) for kind in _TOKENS},
        unknown_requests=sum(line.unknown_requests for line in lines),
        **sums,
    )


def _known_sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def period(store: "DuckDBPyConnection") -> Period:
    """Return what time the log spans."""
    row = store.execute(
        "SELECT min(time), max(time), epoch(max(time)) - epoch(min(time)), "
        "current_setting('TimeZone') FROM bill"
    )
    first, last, seconds, timezone = row.fetchone() or (None, None, None, "UTC")
    days = None if seconds is None else seconds / 86400
    return Period(first=first, last=last, days=days, timezone=timezone)


def mishaps(store: "DuckDBPyConnection") -> Mishaps:
    """Sum up failed requests and those that came after them."""
    row = store.execute(
        f"""SELECT count(*) FILTER (failed), coalesce(sum(usd) FILTER (failed), 0),
            count(*) FILTER (failed AND usd IS NULL), count(*) FILTER (retried),
            coalesce(sum(usd) FILTER (retried), 0)
        FROM (SELECT usd, error IS NOT NULL AS failed, coalesce(
                lag(error) OVER w IS NOT NULL AND session IS NOT NULL
                AND epoch(time) - epoch(lag(time) OVER w) <= {RETRY_S}, false) AS retried
            FROM bill WINDOW w AS (PARTITION BY session, agent, model ORDER BY time))"""
    ).fetchone()
    assert row is not None
    return Mishaps(
        errors=row[0],
        error_usd=usd_from_picousd(int(row[1])),
        errors_unknown=row[2],
        retries=row[3],
        retry_usd=usd_from_picousd(int(row[4])),
    )


def compare_stated(store: "DuckDBPyConnection") -> tuple[Stated, ...]:
    """Put stated beside computed dollars, model by model, and name the difference where one fits.

    Cost reports have no requests of their own: they stand beside all that the model has.
    """
    rows = store.execute(
        """SELECT model, count(*) FILTER (NOT cost_row), sum(stated), sum(computed) FILTER (
                stated IS NOT NULL OR billed), sum(input_tokens::HUGEINT * v.input + pico_output
                + pico_reasoning), sum(pico_input + pico_output + pico_reasoning),
            stddev_pop(stated::DOUBLE / nullif(computed, 0)), count(*) FILTER (
                stated = 0 AND computed > 0)
        FROM (SELECT *, bool_or(cost_row) OVER (PARTITION BY model) AS billed FROM bill)
        WHERE (stated IS NOT NULL AND (computed IS NOT NULL OR cost_row)) OR (billed
            AND computed IS NOT NULL)
        GROUP BY 1 HAVING sum(stated) IS NOT NULL AND sum(computed) IS NOT NULL
        ORDER BY sum(stated) DESC"""
    ).fetchall()
    return tuple(
        Stated(
            model=row[0] or UNNAMED,
            requests=int(row[1]),
            stated_usd=usd_from_picousd(int(row[2])),
            computed_usd=usd_from_picousd(int(row[3] or 0)),
            reason=_reason(*(float(value or 0) for value in row[2:8])),
        )
        for row in rows
    )


def _reason(
    stated: float, computed: float, uncached: float, reads_free: float, spread: float, zeros: float
) -> str:
    """Name what makes the stated dollars of the computed ones; half a percent is as good as 0."""
    near = 0.005
    if computed and abs(stated / computed - 1) <= near:
        return "the same"
    if zeros and not stated:
        return "the log states 0: not priced there, or free"
    if uncached and abs(stated / uncached - 1) <= near:
        return "the log charges cached tokens at the full price"
    if reads_free and abs(stated / reads_free - 1) <= near:
        return "the log leaves out cache reads and writes"
    if computed and spread < near:
        return f"the log states {stated / computed:.3f} of the list price on every request"
    return "no single cause: other prices, tiers or counts"


class Bill(Struct, frozen=True, kw_only=True):
    """What a log cost: see each part. `notes` are sentences on what the figures leave open."""

    sources: tuple[str, ...]
    formats: Mapping[str, int]
    files: int
    bytes: int
    period: Period
    whole: Line
    lines: Mapping[str, tuple[Line, ...]]
    stated: tuple[Stated, ...]
    mishaps: Mishaps
    unpriced: tuple[Any, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    what_if: tuple[Any, ...] = ()
