"""The queries that read a ledger's sums, and add up the rows that are not in them.

Compiling the hundreds of terms of a measure takes longer than the sums of a year. So the terms of
each measure are compiled once, and stand in its queries as text.
"""

from functools import cache
from typing import Any

import sqlalchemy as sa

from suffice.ledger.measures import DAY_US, Column, Measure, total
from suffice.ledger.rollup_statements import compiled_text, names_of_sums

Conditions = tuple[sa.ColumnElement[bool], ...]
_SINCE = sa.bindparam("since", type_=sa.BigInteger)
_UNTIL = sa.bindparam("until", type_=sa.BigInteger)


@cache
def kept_sums(table: sa.Table, by: str | None) -> sa.Select[Any]:
    """Return the query that adds sums of `hours` up, from `since` to before `until`."""
    value: Column = {None: sa.literal(""), "day": table.c.hour // 24}.get(by, table.c.value)
    sums = ", ".join(f"SUM({name}) AS {name}" for name in sorted(names_of_sums(table)))
    return (
        sa.select(value.label("value"), sa.text(sums))
        .where(table.c.dimension == ("" if by == "day" else by or ""))
        .where(table.c.hours == sa.bindparam("hours", type_=sa.BigInteger))
        .where(table.c.hour >= _SINCE, table.c.hour < _UNTIL)
        .group_by(value)
    )


@cache
def late_rows(measure: Measure, by: str | None, only: Conditions, dialect: str) -> sa.Select[Any]:
    """Return the query that adds up the rows after a `mark`, found by their id."""
    time_us = measure.time_us + 0  # no index on it is of use here
    return _rows(measure, by, dialect).where(
        measure.id > sa.bindparam("mark"), time_us >= _SINCE, time_us < _UNTIL, *only
    )


@cache
def rows_between(
    measure: Measure, by: str | None, only: Conditions, dialect: str
) -> sa.Select[Any]:
    """Return the query that adds up the rows of a stretch of time up to a `mark`."""
    return _rows(measure, by, dialect).where(
        measure.id + 0 <= sa.bindparam("mark"),
        measure.time_us >= _SINCE,
        measure.time_us < _UNTIL,
        *only,
    )


def _rows(measure: Measure, by: str | None, dialect: str) -> sa.Select[Any]:
    value: Column = sa.literal("")
    if by is not None:
        value = measure.time_us // DAY_US if by == "day" else measure.keys[by]
    query = sa.select(value.label("value"), _sums(measure, dialect)).select_from(measure.rows)
    return query.where(*measure.where).group_by("value")


@cache
def _sums(measure: Measure, dialect: str) -> sa.TextClause:
    terms = (
        f"{compiled_text(total(term), dialect)} AS {name}" for name, term in measure.terms.items()
    )
    return sa.text(", ".join(terms))
