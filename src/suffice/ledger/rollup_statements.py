"""The statements that add rows to a ledger's sums by hour and day, or take them out again."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import sqlalchemy as sa

from suffice.ledger.measures import HOUR_US, Column, Measure, total
from suffice.ledger.schema import is_sampled, requests

Statements = tuple[tuple[str, Mapping[str, Any]], ...]
HOUR, DAY = 1, 24  # the hours that a sum covers
OTHERS = "(others)"
_OTHERS = f"+{OTHERS}"  # no key begins with this sign


@cache
def taking_in(measure: Measure, dialect: str) -> Statements:
    """Return what takes rows `after` an id, `upto` another, in: statements and their constants."""
    rows = measure.id > _bound("after"), measure.id <= _bound("upto")
    return _compiled(
        (
            *(_registration(measure, key, rows) for key in sorted(measure.capped)),
            *(_addition(measure, rows, hours=hours, dialect=dialect) for hours in (DAY, HOUR)),
        ),
        dialect,
    )


@cache
def taking_out(measure: Measure, dialect: str, *, sampled: bool) -> Statements:
    """Return what takes requests `before_us`, of ids `first` to `last`, out of sums up to a mark.

    Audited and shadowed requests stay unless `sampled` says otherwise.
    """
    rows: list[sa.ColumnElement[bool]] = [requests.c.id.between(_bound("first"), _bound("last"))]
    rows += [requests.c.time_us < _bound("before_us")]
    rows += [measure.id + 0 <= _bound("mark")]  # nearly all rows are: no index on it is of use
    rows += [] if sampled else [sa.not_(is_sampled)]
    return _compiled(
        tuple(
            _addition(measure, rows, hours=hours, sign=-1, dialect=dialect) for hours in (DAY, HOUR)
        ),
        dialect,
    )


def _compiled(statements: Iterable[sa.Insert], dialect: str) -> Statements:
    """Compile once: SQLAlchemy spends longer on a statement of a hundred terms than SQLite."""
    compiled = [statement.compile(dialect=_dialect(dialect)) for statement in statements]
    return tuple((str(one), one.params) for one in compiled)


def compiled_text(expression: Column, dialect: str) -> str:
    """Write an expression with its constants as text, for `sa.text`."""
    own = _dialect(dialect, paramstyle="named")  # `sa.text` doubles its own percent signs
    return str(expression.compile(dialect=own, compile_kwargs={"literal_binds": True}))


def _bound(name: str) -> sa.BindParameter[int]:
    return sa.bindparam(name, type_=sa.BigInteger)


def _dialect(name: str, *, paramstyle: str | None = None) -> sa.Dialect:
    """Return a dialect as its driver wants parameters; the other one is not even imported."""
    make: Any
    if name == "postgresql":
        from sqlalchemy.dialects.postgresql import psycopg

        make = psycopg.dialect
    else:
        from sqlalchemy.dialects import sqlite

        make, paramstyle = sqlite.dialect, "named"
    dialect: sa.Dialect = make(paramstyle=paramstyle)
    return dialect


def _registration(measure: Measure, name: str, rows: Iterable[sa.ColumnElement[bool]]) -> sa.Insert:
    """Return the statement that gives new values of a key a place in their day, while it has some.

    A value is kept by its name if its day has a row for it, so that it always counts in one place.
    """
    table = measure.table
    day = table.c.dimension == name, table.c.hours == DAY
    new = (
        sa.select(_slot(measure, DAY).label("hour"), measure.keys[name].label("value"))
        .select_from(measure.rows)
        .where(*measure.where, *rows)
        .distinct()
        .subquery("new")
    )
    days = (
        sa.select(table.c.hour, sa.func.count().label("places"))
        .where(*day, table.c.hour.in_(sa.select(new.c.hour)))
        .group_by(table.c.hour)
        .subquery("days")
    )
    known = sa.exists().where(
        *day, table.c.hour == new.c.hour, table.c.value.in_([new.c.value, _OTHERS])
    )
    place = sa.func.row_number().over(partition_by=new.c.hour, order_by=new.c.value)
    ranked = (
        sa.select(new, (place + sa.func.coalesce(days.c.places, 0)).label("place"))
        .select_from(new.outerjoin(days, days.c.hour == new.c.hour))
        .where(new.c.value != "", ~known)
        .subquery("ranked")
    )
    sums = dict.fromkeys(sorted(names_of_sums(table)), sa.literal(0))
    fresh = sa.select(
        sa.literal(name), sa.literal(DAY), ranked.c.hour, ranked.c.value, *sums.values()
    ).where(ranked.c.place <= _bound("most"))
    return sa.insert(table).from_select([*table.primary_key.columns.keys(), *sums], fresh)


def _addition(
    measure: Measure,
    rows: Iterable[sa.ColumnElement[bool]],
    *,
    hours: int,
    dialect: str,
    sign: int = 1,
) -> sa.Insert:
    """Return the statement that adds rows to the sums of so many hours, or takes them out again.

    Keys of few values are summed from the sums by all of them together.
    """
    table, few = measure.table, sorted(measure.keys.keys() - measure.many)
    recent = [measure.time_us >= _bound("from_us")]
    slot = _slot(measure, hours).label("hour")
    names = [column.label(f"by_{name}") for name, column in measure.keys.items()]
    finest = (
        sa.select(slot, *names, *(total(term).label(name) for name, term in measure.terms.items()))
        .select_from(measure.rows)
        .where(*measure.where, *rows, *(recent if hours == HOUR else []))
        .group_by("hour", *(name.name for name in names))
        .cte("finest")
    )

    def grouped(source: sa.CTE, keys: Mapping[str, Column]) -> sa.Select[Any]:
        sums = (sa.func.sum(source.c[name]).label(name) for name in measure.terms)
        columns = [column.label(name) for name, column in keys.items()]
        return sa.select(source.c.hour, *columns, *sums).group_by(source.c.hour, *keys.values())

    coarse = grouped(finest, {f"by_{name}": finest.c[f"by_{name}"] for name in few}).cte("coarse")
    by_dimension = {"": grouped(coarse, {})}
    by_dimension |= {name: grouped(coarse, {"value": coarse.c[f"by_{name}"]}) for name in few}
    for name in sorted(measure.many):
        fine = grouped(finest, {"value": finest.c[f"by_{name}"]})
        if name in measure.capped:
            values = fine.cte(f"values_{name}")
            fine = grouped(values, {"value": _capped(values, table, name=name)})
        by_dimension[name] = fine
    parts = []
    for name, query in by_dimension.items():
        part = query.subquery()
        value = part.c.value if name else sa.literal("").label("value")
        sums = ((sign * part.c[term]).label(term) for term in measure.terms)
        keys = sa.literal(name).label("dimension"), sa.literal(hours).label("hours")
        parts.append(sa.select(*keys, part.c.hour, value, *sums))
    missing = {
        name: sa.literal(0).label(name) for name in names_of_sums(table) - measure.terms.keys()
    }
    every = sa.union_all(*parts).subquery("every")
    rows_of_sums = sa.select(*every.c, *missing.values()).where(sa.true())
    adding = _insert(table, dialect)
    upsert: sa.Insert = adding.from_select(
        [*every.c.keys(), *missing], rows_of_sums
    ).on_conflict_do_update(
        index_elements=list(table.primary_key.columns.keys()),
        set_={name: table.c[name] + adding.excluded[name] for name in measure.terms},
    )
    return upsert


def _insert(table: sa.Table, dialect: str) -> Any:
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)


def _capped(values: sa.CTE, table: sa.Table, *, name: str) -> Column:
    """Return the value where its day has a place for it, else that of all others."""
    known = table.alias()
    kept = sa.exists().where(
        known.c.dimension == name,
        known.c.hours == DAY,
        known.c.hour == values.c.hour // DAY * DAY,
        known.c.value == values.c.value,
    )
    return sa.case((sa.or_(values.c.value == "", kept), values.c.value), else_=_OTHERS)


def _slot(measure: Measure, hours: int) -> Column:
    return measure.time_us // (hours * HOUR_US) * hours


def names_of_sums(table: sa.Table) -> set[str]:
    """List the columns of a table that are sums, not keys."""
    return set(table.columns.keys()) - set(table.primary_key.columns.keys())
