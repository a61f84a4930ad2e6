"""Sums of a ledger by hour and day: a question about ten million rows reads a few thousand.

A row counts once: in the sums if its id is up to the mark, else by itself. Marks and sums move in
one transaction, so a reader always finds sums that equal those over all rows, however far `advance`
has come. `prune` takes out of the sums what it deletes.

Days are kept for ever, hours for the latest `HOURLY_DAYS`. Groups and tags are words of clients: a
day keeps the first `MOST_VALUES` of them, and the others together under `OTHERS`.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import inf
from typing import NamedTuple

import sqlalchemy as sa

from suffice.ledger.database import Ledger
from suffice.ledger.measures import DAY_US, HOUR_US, MEASURES, Measure, rollup_marks
from suffice.ledger.records import Window
from suffice.ledger.rollup_queries import Conditions, kept_sums, late_rows, rows_between
from suffice.ledger.rollup_statements import DAY, HOUR, names_of_sums, taking_in, taking_out
from suffice.ledger.schema import attempts, requests, time_us

HOURLY_DAYS = 40
MOST_VALUES = 200
FIRST_BATCH, BATCH = 1_000, 10_000  # rows in one transaction: gateways write in between
_SHORT_S, _LONG_S = 0.5, 2.0  # a transaction that is shorter is followed by a larger one
_WRITERS_S = 1.0  # longest wait for writers that began before the ids were read
_POLL_S = 0.005
_MARKED = {"requests_id": requests.c.id, "attempts_id": attempts.c.id}
Sums = dict[str, int]


class _Stretches(NamedTuple):
    """A window in pieces: sums of so many hours from and before hours, and rows by their time."""

    kept: list[tuple[int, int, int]]
    rows: list[tuple[int, int]]


def summed(
    ledger: Ledger,
    measures: Sequence[Measure],
    *,
    by: str | None,
    window: Window,
    only: Conditions = (),
) -> dict[str | int | None, Sums]:
    """Add measures of one table up by one of their keys, `day` or nothing; raises LedgerError.

    Days are numbered from 1970. `only` narrows the rows that are read one by one, for a caller that
    looks at no other keys.
    """
    totals: dict[str | int | None, Sums] = {}
    since_us, until_us = _microseconds(window)
    with ledger.reading() as connection:
        _without_compiling(connection)
        marks = connection.execute(sa.select(rollup_marks)).one()._mapping
        stretches = _stretches(since_us, until_us, hourly_from=marks["hourly_from"])
        kept = kept_sums(measures[0].table, by)
        queries = [
            (kept, {"hours": hours, "since": since, "until": until})
            for hours, since, until in stretches.kept
        ]
        for measure in measures:
            mark, asked = {"mark": marks[measure.mark]}, (measure, by, only, ledger.dialect)
            queries.append((late_rows(*asked), {"since": since_us, "until": until_us} | mark))
            queries += [
                (rows_between(*asked), {"since": since, "until": until} | mark)
                for since, until in stretches.rows
            ]
        for query, values in queries:
            for row in connection.execute(query, values).mappings():
                sums = totals.setdefault(_shown(row["value"], by), {})
                for name in row:
                    if name != "value":
                        sums[name] = sums.get(name, 0) + int(row[name])
    return totals


def advance(ledger: Ledger, *, within_s: float = inf) -> bool:
    """Take rows into the sums; False where some were left for another time.

    Another process that does so at the same time goes on alone. Raises LedgerError.
    """
    ends_s = time.monotonic() + within_s
    for measure in MEASURES:
        taking_in(measure, ledger.dialect)  # compiled before a transaction, in which others wait
    horizon, batch = _horizon(ledger), FIRST_BATCH
    while horizon is not None:
        began_s = time.monotonic()
        with ledger.writing() as connection:
            upto = _take_in(connection, horizon, batch=batch)
        if upto is None:
            return False
        if upto == horizon:
            return True
        ended_s = time.monotonic()
        if ended_s >= ends_s:
            return False
        if ended_s - began_s < _SHORT_S:
            batch = min(2 * batch, BATCH)
        elif ended_s - began_s > _LONG_S:
            batch = max(batch // 2, FIRST_BATCH // 10)
    return False


def _take_in(
    connection: sa.Connection, horizon: Mapping[str, int], *, batch: int
) -> Mapping[str, int] | None:
    """Move the marks on by a batch of rows at most; returns them, None where another moves them."""
    _without_compiling(connection)
    locked = sa.select(rollup_marks).with_for_update(skip_locked=True)
    marks = connection.execute(locked).mappings().one_or_none()
    if marks is None:
        return None
    hourly_from = _forget_hours(connection, marks["hourly_from"])
    upto = {name: min(horizon[name], marks[name] + batch) for name in _MARKED}
    for measure in MEASURES:
        after, last = marks[measure.mark], upto[measure.mark]
        if last > after:
            values = {"after": after, "upto": last, "most": MOST_VALUES}
            values["from_us"] = hourly_from * HOUR_US
            for sql, constants in taking_in(measure, connection.dialect.name):
                connection.exec_driver_sql(sql, {**constants, **values})
    connection.execute(sa.update(rollup_marks).values(upto))
    return upto


def clear(ledger: Ledger) -> None:
    """Empty the sums: rows count by themselves until `advance`; raises LedgerError."""
    with ledger.writing() as connection:
        connection.execute(sa.select(rollup_marks).with_for_update())
        for table in {measure.table for measure in MEASURES}:
            connection.execute(sa.delete(table))
        nothing = dict.fromkeys((*_MARKED, "hourly_from"), 0)
        connection.execute(sa.update(rollup_marks).values(nothing))


class Subtraction:
    """Takes old requests out of the sums, compiled before the transactions that do so."""

    def __init__(self, ledger: Ledger, *, before: datetime, sampled: bool) -> None:
        self._before_us, self._sampled = time_us(before), sampled
        for measure in MEASURES:
            taking_out(measure, ledger.dialect, sampled=sampled)

    def subtract(self, connection: sa.Connection, *, first: int, last: int) -> None:
        """Take those from an id to another out; the caller deletes them in the same transaction."""
        _without_compiling(connection)
        marks = connection.execute(sa.select(rollup_marks).with_for_update()).mappings().one()
        values = {"before_us": self._before_us, "first": first, "last": last}
        values["from_us"] = marks["hourly_from"] * HOUR_US
        for measure in MEASURES:
            values["mark"] = marks[measure.mark]
            statements = taking_out(measure, connection.dialect.name, sampled=self._sampled)
            for sql, constants in statements:
                connection.exec_driver_sql(sql, {**constants, **values})
        for measure in MEASURES:
            empty = (measure.table.c[name] == 0 for name in names_of_sums(measure.table))
            connection.execute(sa.delete(measure.table).where(*empty))


def _without_compiling(connection: sa.Connection) -> None:
    """Keep PostgreSQL from compiling sums of a hundred terms: it takes longer than the sums."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL jit = off")


def _forget_hours(connection: sa.Connection, hourly_from: int) -> int:
    """Delete the hourly sums of days that are long past; returns the first hour that stays."""
    wanted = (int(time.time() // 86_400) - HOURLY_DAYS) * 24
    if wanted <= hourly_from:
        return hourly_from
    for measure in MEASURES:
        table = measure.table
        connection.execute(
            sa.delete(table).where(
                table.c.dimension.in_(["", *measure.keys]),
                table.c.hours == HOUR,
                table.c.hour < wanted,
            )
        )
    connection.execute(sa.update(rollup_marks).values(hourly_from=wanted))
    return wanted


def _horizon(ledger: Ledger) -> Mapping[str, int] | None:
    """Return ids up to which every row can be seen; None while an old writer is still at work.

    PostgreSQL gives ids before it commits. Whoever holds an id below the highest that can be seen
    has held its lock on the table since before, so it is enough to wait for those that hold one.
    """
    highest = {
        name: sa.select(sa.func.coalesce(sa.func.max(column), 0))
        for name, column in _MARKED.items()
    }
    with ledger.reading() as connection:
        horizon = {name: connection.execute(query).scalar_one() for name, query in highest.items()}
        if connection.dialect.name != "postgresql":
            return horizon
        ends, writers = time.monotonic() + _WRITERS_S, set(connection.execute(_WRITERS).scalars())
        while writers and time.monotonic() < ends:
            time.sleep(_POLL_S)
            writers &= set(connection.execute(_WRITERS).scalars())
    return None if writers else horizon


_WRITERS = sa.text(
    "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation'"
    " AND relation IN ('suffice_requests'::regclass, 'suffice_attempts'::regclass)"
    " AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'AccessExclusiveLock')"
    " AND granted AND pid <> pg_backend_pid()"
)


_EVER = 2**62


def _microseconds(window: Window) -> tuple[int, int]:
    return (
        -_EVER if window.since is None else time_us(window.since),
        _EVER if window.until is None else time_us(window.until),
    )


def _stretches(since_us: int, until_us: int, *, hourly_from: int) -> _Stretches:
    """Cover a window by whole days, by hours at its ends, and by rows where there are no hours."""
    kept, rows = [], []
    first, last = -(-since_us // DAY_US), until_us // DAY_US
    ends = [(since_us, until_us)]
    if first < last:
        kept.append((DAY, first * DAY, last * DAY))
        ends = [(since_us, first * DAY_US), (last * DAY_US, until_us)]
    for start_us, end_us in ends:
        if start_us >= end_us or {start_us, end_us} & {-_EVER, _EVER}:
            continue  # an open window ends in a day without rows
        first, last = max(-(-start_us // HOUR_US), hourly_from), end_us // HOUR_US
        if first < last:
            kept.append((HOUR, first, last))
            rows += [(start_us, first * HOUR_US), (last * HOUR_US, end_us)]
        else:
            rows.append((start_us, end_us))
    return _Stretches(kept=kept, rows=[(start, end) for start, end in rows if start < end])


def _shown(value: str | int, by: str | None) -> str | int | None:
    """Read a key as it was before it was written as a text."""
    if by is None or value == "":
        return None
    return value if isinstance(value, int) or by == "flow" else value[1:]
