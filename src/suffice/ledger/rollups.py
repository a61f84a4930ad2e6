"""Hourly sums of a ledger, so that a question about ten million rows reads a few thousand.

A row counts once: in the hourly sums if its id is up to the mark, else by itself. Marks and sums
move in one transaction, so a reader always finds sums that equal those over all rows, however far
`advance` has come. `prune` takes out of the sums what it deletes.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import inf
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from suffice.ledger.database import Ledger
from suffice.ledger.measures import HOUR_US, MEASURES, Column, Measure, rollup_marks
from suffice.ledger.records import Window
from suffice.ledger.schema import attempts, requests, time_us

DAY_US = 24 * HOUR_US
BATCH = 5_000  # rows in one transaction: gateways write in between
_WRITERS_S = 1.0  # longest wait for writers that began before the ids were read
_POLL_S = 0.005
_MARKED = {"requests_id": requests.c.id, "attempts_id": attempts.c.id}
Sums = dict[str, int]
Conditions = tuple[sa.ColumnElement[bool], ...]


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
    hours, edges = _hours(window), _edges(window)
    bounds = dict(zip(("since", "until"), _microseconds(window), strict=True))
    with ledger.reading() as connection:
        marks = connection.execute(sa.select(rollup_marks)).one()._mapping
        queries: list[tuple[sa.Select[Any], dict[str, int | None]]] = []
        if hours is not None:
            queries.append((_kept(measures[0].table, by), {"since": hours[0], "until": hours[1]}))
        for measure in measures:
            mark = {"mark": marks[measure.mark]}
            queries.append((_late(measure, by, only), bounds | mark))
            queries += [(_edge(measure, by, only), edge | mark) for edge in edges]
        for query, values in queries:
            for row in connection.execute(query, values).mappings():
                sums = totals.setdefault(_shown(row["value"], by), {})
                for name in row:
                    if name != "value":
                        sums[name] = sums.get(name, 0) + int(row[name])
    return totals


def advance(ledger: Ledger, *, within_s: float = inf) -> bool:
    """Take rows into the hourly sums; False where some were left for another time.

    Another process that does so at the same time goes on alone. Raises LedgerError.
    """
    ends = time.monotonic() + within_s
    horizon = _horizon(ledger)
    while horizon is not None:
        with ledger.writing() as connection:
            locked = sa.select(rollup_marks).with_for_update(skip_locked=True)
            marks = connection.execute(locked).mappings().one_or_none()
            if marks is None:
                return False
            upto = {name: min(horizon[name], marks[name] + BATCH) for name in _MARKED}
            for measure in MEASURES:
                mark = measure.mark
                if upto[mark] > marks[mark]:
                    rows = measure.id > marks[mark], measure.id <= upto[mark]
                    connection.execute(_addition(measure, rows, dialect=connection.dialect.name))
            connection.execute(sa.update(rollup_marks).values(upto))
        if upto == horizon:
            return True
        if time.monotonic() >= ends:
            return False
    return False


def clear(ledger: Ledger) -> None:
    """Empty the hourly sums: rows count by themselves until `advance`; raises LedgerError."""
    with ledger.writing() as connection:
        connection.execute(sa.select(rollup_marks).with_for_update())
        for table in {measure.table for measure in MEASURES}:
            connection.execute(sa.delete(table))
        connection.execute(sa.update(rollup_marks).values(dict.fromkeys(_MARKED, 0)))


def subtract(connection: sa.Connection, leaving: sa.ColumnElement[bool]) -> None:
    """Take requests out of the hourly sums; the caller deletes them in the same transaction."""
    marks = connection.execute(sa.select(rollup_marks).with_for_update()).mappings().one()
    for measure in MEASURES:
        rows = leaving, measure.id <= marks[measure.mark]
        connection.execute(_addition(measure, rows, sign=-1, dialect=connection.dialect.name))
    for measure in MEASURES:
        empty = (measure.table.c[name] == 0 for name in _names(measure.table))
        connection.execute(sa.delete(measure.table).where(*empty))


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


def _addition(
    measure: Measure, rows: Iterable[sa.ColumnElement[bool]], *, dialect: str, sign: int = 1
) -> sa.Insert:
    """Return the statement that adds rows to the hourly sums, or takes them out again."""
    keys = {name: column.label(f"by_{name}") for name, column in measure.keys.items()}
    hour = (measure.time_us // HOUR_US).label("hour")
    finest = (
        sa.select(hour, *keys.values(), *(sum_.label(n) for n, sum_ in measure.sums.items()))
        .select_from(measure.rows)
        .where(*measure.where, *rows)
        .group_by("hour", *(key.name for key in keys.values()))
        .cte("finest")
    )
    sums = [(sign * sa.func.sum(finest.c[name])).label(name) for name in measure.sums]
    dimensions = {"": sa.literal("")} | {name: finest.c[key.name] for name, key in keys.items()}
    by_dimension = [
        sa.select(sa.literal(name).label("dimension"), finest.c.hour, value.label("value"), *sums)
        .group_by(finest.c.hour, *([value] if name else []))
        for name, value in dimensions.items()
    ]  # fmt: skip
    table = measure.table
    missing = {name: sa.literal(0).label(name) for name in _names(table) - measure.sums.keys()}
    every = sa.union_all(*by_dimension).subquery("every")
    rows_of_sums = sa.select(*every.c, *missing.values()).where(sa.true())
    adding = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    upsert: sa.Insert = adding.from_select(
        [*every.c.keys(), *missing], rows_of_sums
    ).on_conflict_do_update(
        index_elements=list(table.primary_key.columns.keys()),
        set_={name: table.c[name] + adding.excluded[name] for name in measure.sums},
    )
    return upsert


def _names(table: sa.Table) -> set[str]:
    return set(table.columns.keys()) - set(table.primary_key.columns.keys())


@cache
def _kept(table: sa.Table, by: str | None) -> sa.Select[Any]:
    """Return the query that adds whole hours up, from `since` to before `until`."""
    value: Column = {None: sa.literal(""), "day": table.c.hour // 24}.get(by, table.c.value)
    sums = (sa.func.sum(table.c[name]).label(name) for name in _names(table))
    return (
        sa.select(value.label("value"), *sums)
        .where(table.c.dimension == ("" if by == "day" else by or ""))
        .where(table.c.hour >= _SINCE, table.c.hour < _UNTIL)
        .group_by(value)
    )


@cache
def _late(measure: Measure, by: str | None, only: Conditions) -> sa.Select[Any]:
    """Return the query that adds up the rows after a `mark`, found by their id."""
    time_us = measure.time_us + 0  # no index on it is of use here
    return _direct(measure, by).where(
        measure.id > sa.bindparam("mark"), time_us >= _SINCE, time_us < _UNTIL, *only
    )


@cache
def _edge(measure: Measure, by: str | None, only: Conditions) -> sa.Select[Any]:
    """Return the query that adds up the rows of a stretch of time up to a `mark`."""
    return _direct(measure, by).where(
        measure.id + 0 <= sa.bindparam("mark"),
        measure.time_us >= _SINCE,
        measure.time_us < _UNTIL,
        *only,
    )


_SINCE = sa.bindparam("since", type_=sa.BigInteger)
_UNTIL = sa.bindparam("until", type_=sa.BigInteger)
_EVER = 2**62


def _direct(measure: Measure, by: str | None) -> sa.Select[Any]:
    value: Column = sa.literal("")
    if by is not None:
        value = measure.time_us // DAY_US if by == "day" else measure.keys[by]
    sums = (column.label(name) for name, column in measure.sums.items())
    query = sa.select(value.label("value"), *sums).select_from(measure.rows)
    return query.where(*measure.where).group_by("value")


def _microseconds(window: Window) -> tuple[int, int]:
    return (
        -_EVER if window.since is None else time_us(window.since),
        _EVER if window.until is None else time_us(window.until),
    )


def _hours(window: Window) -> tuple[int, int] | None:
    """Return the first whole hour of a window and that after the last; None where it has none."""
    since_us, until_us = _microseconds(window)
    hours = -(-since_us // HOUR_US), until_us // HOUR_US
    return hours if hours[0] < hours[1] else None


def _edges(window: Window) -> list[dict[str, int]]:
    """Return the ends of a window that are no whole hours."""
    since_us, until_us = _microseconds(window)
    hours = _hours(window)
    ends = [(since_us, until_us)]
    if hours is not None:
        ends = [(since_us, hours[0] * HOUR_US), (hours[1] * HOUR_US, until_us)]
    open_ = {-_EVER, _EVER}
    return [
        {"since": since, "until": until}
        for since, until in ends
        if since < until and not {since, until} & open_
    ]


def _shown(value: str | int, by: str | None) -> str | int | None:
    """Read a key as it was before it was written as a text."""
    if by is None or value == "":
        return None
    return value if isinstance(value, int) or by == "flow" else value.removeprefix("=")
