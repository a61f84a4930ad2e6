"""What is summed over the rows of a ledger, and by which of their columns.

A sum over requests is taken in two parts, each a plain sum over rows that never change: what the
requests say themselves, and what the audits that came later correct of it. So sums of disjoint rows
may be added, kept by the hour, and taken back when rows leave.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from suffice.ledger.records import ReferenceKnown, Status
from suffice.ledger.schema import (
    COUNTS,
    attempts,
    audited_by_reference,
    audits,
    is_audited,
    on_path,
    requests,
)
from suffice.types import CountSource, Spend
from suffice.units import usd_from_picousd

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
SPLIT = 10**6  # sums of 64-bit amounts are taken in two halves, so that no sum overflows
Column = sa.ColumnElement[Any]
_ONE, _NOUGHT = sa.literal_column("1", sa.BigInteger), sa.literal_column("0", sa.BigInteger)
_METADATA = sa.MetaData()

rollup_marks = sa.Table(
    "suffice_rollup_marks",
    _METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("requests_id", sa.BigInteger, nullable=False),
    sa.Column("attempts_id", sa.BigInteger, nullable=False),
    sa.Column("hourly_from", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """Sums of the `terms` of `rows` by the `keys`, kept by hour and day of `time_us` in `table`.

    The rows up to the `id` that the column `mark` of `suffice_rollup_marks` holds are in the table.
    Keys in `many` have many values, those in `capped` as many as clients like.
    """

    table: sa.Table
    mark: str
    rows: sa.FromClause
    id: Column
    time_us: Column
    keys: Mapping[str, Column]
    terms: Mapping[str, Column]
    where: tuple[sa.ColumnElement[bool], ...] = ()
    many: frozenset[str] = frozenset()
    capped: frozenset[str] = frozenset()


def _terms_of_requests(reference: Column, reference_estimated: Column) -> dict[str, Column]:
    """Return the terms of money; `reference` is what the reference rung costs."""
    charge, estimated = requests.c.charge_picousd, requests.c.charge_estimated
    either_estimated = sa.or_(estimated, reference_estimated)
    return (
        spend_terms("reference", reference, reference_estimated)
        | spend_terms(
            "compared", sa.case((reference.is_not(None), charge)), either_estimated
        )
        | spend_terms("saved", reference - charge, either_estimated)
    )  # fmt: skip


def spend_terms(name: str, amount: Column, estimated: Column) -> dict[str, Column]:
    """Tell an amount in 1e-12 dollars apart by how it is known, each part in two halves."""
    terms: dict[str, Column] = {f"{name}_unknown_count": _whether(amount.is_(None))}
    for part, condition in (("reported", sa.not_(estimated)), ("estimated", estimated)):
        known = sa.and_(condition, amount.is_not(None))
        terms |= {
            f"{name}_{part}_count": _whether(known),
            f"{name}_{part}_high": sa.case((known, amount // SPLIT), else_=_NOUGHT),
            f"{name}_{part}_low": sa.case((known, amount % SPLIT), else_=_NOUGHT),
        }
    return terms


def total(term: Column) -> Column:
    """Sum a term over rows; 0 over none."""
    return sa.func.coalesce(sa.func.sum(term), 0)


def spend_of(row: Mapping[str, Any] | sa.RowMapping, name: str) -> Spend:
    """Put an amount together again from the sums of its `spend_terms`."""

    def usd(part: str) -> Decimal:
        high, low = (int(row[f"{name}_{part}_{half}"]) for half in ("high", "low"))
        return usd_from_picousd(high * SPLIT + low)

    return Spend(
        reported_usd=usd("reported"),
        estimated_usd=usd("estimated"),
        reported_count=row[f"{name}_reported_count"],
        estimated_count=row[f"{name}_estimated_count"],
        unknown_count=row[f"{name}_unknown_count"],
    )


def _token_terms(name: str) -> dict[str, Column]:
    tokens, source = attempts.c[f"{name}_tokens"], attempts.c[f"{name}_source"]
    return {f"{name}_unknown_calls": _whether(tokens.is_(None))} | {
        f"{name}_{known.value}": sa.case(
            (sa.and_(source == known.value, tokens.is_not(None)), tokens), else_=_NOUGHT
        )
        for known in CountSource
    }


def _whether(condition: sa.ColumnElement[bool]) -> Column:
    return sa.case((condition, _ONE), else_=_NOUGHT)


def _key(column: Column) -> Column:
    """Write a column as a text that is never null: "" for null, else the value after a sign."""
    return sa.func.coalesce("=" + column, "")


def _table(name: str, terms: Mapping[str, Column]) -> sa.Table:
    """Describe a table of sums over `hours` from `hour` on; the migrations create it."""
    return sa.Table(
        name,
        _METADATA,
        sa.Column("dimension", sa.Text, primary_key=True),
        sa.Column("hours", sa.BigInteger, primary_key=True),
        sa.Column("hour", sa.BigInteger, primary_key=True),
        sa.Column("value", sa.Text, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in terms),
    )


_OWN = requests.c.reference_picousd, requests.c.reference_known != ReferenceKnown.MEASURED.value
_AUDITED = (
    sa.func.coalesce(audits.c.charge_picousd, _OWN[0]),
    sa.case((audits.c.charge_picousd.is_not(None), audits.c.charge_estimated), else_=_OWN[1]),
)
_REQUEST_TERMS: Mapping[str, Column] = {
    "requests": _ONE,
    "audited": _whether(requests.c.audited),
    **{s.value: _whether(requests.c.status == s.value) for s in Status},
    **spend_terms("spend", requests.c.charge_picousd, requests.c.charge_estimated),
    **_terms_of_requests(*_OWN),
}
_REQUEST_KEYS: Mapping[str, Column] = {
    "rung": _key(requests.c.rung),
    "reference_rung": _key(requests.c.reference_rung),
    "vector": _key(requests.c.vector),
    "group": _key(requests.c.group_name),
    "status": _key(requests.c.status),
    "key_id": _key(requests.c.key_id),
    "tag": _key(requests.c.tag),
    "certificate_id": _key(requests.c.certificate_id),
}
_CALL_TERMS: Mapping[str, Column] = {
    "calls": _ONE,
    "failed": _whether(attempts.c.error.is_not(None)),
    **spend_terms("spend", attempts.c.charge_picousd, attempts.c.charge_estimated),
    **{label: column for name in COUNTS for label, column in _token_terms(name).items()},
}

REQUESTS = Measure(
    table=_table("suffice_request_sums", _REQUEST_TERMS),
    mark="requests_id",
    rows=requests,
    id=requests.c.id,
    time_us=requests.c.time_us,
    keys=_REQUEST_KEYS,
    terms=_REQUEST_TERMS,
    many=frozenset({"group", "key_id", "tag"}),
    capped=frozenset({"group", "tag"}),
)
CORRECTIONS = replace(  # by audits of the reference: it is measured where it was estimated
    REQUESTS,
    mark="attempts_id",
    rows=requests.join(audits, audited_by_reference),
    id=audits.c.id,
    terms={
        name: column - _REQUEST_TERMS[name]
        for name, column in _terms_of_requests(*_AUDITED).items()
    },
)
CALLS = Measure(
    table=_table("suffice_call_sums", _CALL_TERMS),
    mark="attempts_id",
    rows=attempts.join(requests, requests.c.request_id == attempts.c.request_id),
    id=attempts.c.id,
    time_us=attempts.c.time_us,
    keys={
        "rung": _key(attempts.c.rung),
        "role": _key(attempts.c.role),
        "group": _key(requests.c.group_name),
    },
    terms=_CALL_TERMS,
    many=frozenset({"group"}),
    capped=frozenset({"group"}),
)
FLOW = Measure(
    table=_table("suffice_flow_sums", {"requests": _ONE}),
    mark="requests_id",
    rows=requests.join(attempts, requests.c.request_id == attempts.c.request_id),
    id=requests.c.id,
    time_us=requests.c.time_us,
    keys={
        "flow": sa.cast(sa.func.length(attempts.c.rung), sa.Text)
        + ":" + attempts.c.rung + _key(requests.c.rung)
    },
    terms={"requests": _ONE},
    where=(attempts.c.ordinal == 0, on_path),
)  # fmt: skip
_BEYOND = audits.c.charge_picousd - requests.c.reference_picousd
_STEPS = sa.case(  # in 1e-8 dollars, and at most 30 dollars: the square is a 64-bit number
    (_BEYOND > 30 * 10**12, 3 * 10**9),
    (_BEYOND < -30 * 10**12, -3 * 10**9),
    else_=_BEYOND // 10**4,
)
_AUDIT_TERMS: Mapping[str, Column] = {
    "audits": _ONE,
    "beyond_high": _BEYOND // SPLIT,
    "beyond_low": _BEYOND % SPLIT,
    "squares_high": _STEPS * _STEPS // SPLIT,
    "squares_low": _STEPS * _STEPS % SPLIT,
}
AUDITS = Measure(  # how far the reference costs more than was estimated, and the squares of that
    table=_table("suffice_audit_sums", _AUDIT_TERMS),
    mark="attempts_id",
    rows=requests.join(audits, audited_by_reference),
    id=audits.c.id,
    time_us=requests.c.time_us,
    keys={},
    terms=_AUDIT_TERMS,
    where=(
        is_audited,
        requests.c.reference_known == ReferenceKnown.ESTIMATED.value,
        requests.c.charge_picousd.is_not(None),
        _BEYOND.is_not(None),
    ),
)
MEASURES = (REQUESTS, CORRECTIONS, CALLS, FLOW, AUDITS)
