"""What is summed over the rows of a ledger, and by which of their columns.

A sum over requests is taken in two parts, each a plain sum over rows that never change: what the
requests say themselves, and what the audits that came later correct of it. So sums of disjoint rows
may be added, kept by the hour, and taken back when rows leave.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from suffice.ledger.records import ReferenceKnown, Role, Status
from suffice.ledger.schema import COUNTS, attempts, audited_by_reference, audits, requests
from suffice.types import CountSource, Spend
from suffice.units import usd_from_picousd

HOUR_US = 3_600_000_000
SPLIT = 10**6  # sums of 64-bit amounts are taken in two halves, so that no sum overflows
Column = sa.ColumnElement[Any]
_METADATA = sa.MetaData()

rollup_marks = sa.Table(
    "suffice_rollup_marks",
    _METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("requests_id", sa.BigInteger, nullable=False),
    sa.Column("attempts_id", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """Sums over `rows` by the `keys`, kept by the hour of `time_us` in `table`.

    The rows up to the `id` that the column `mark` of `suffice_rollup_marks` holds are in the table.
    """

    table: sa.Table
    mark: str
    rows: sa.FromClause
    id: Column
    time_us: Column
    keys: Mapping[str, Column]
    sums: Mapping[str, Column]
    where: tuple[sa.ColumnElement[bool], ...] = ()


def _sums_of_requests(reference: Column, reference_estimated: Column) -> dict[str, Column]:
    """Return the sums of money; `reference` is what the reference rung costs."""
    charge, estimated = requests.c.charge_picousd, requests.c.charge_estimated
    either_estimated = sa.or_(estimated, reference_estimated)
    return (
        spend_sums("reference", reference, reference_estimated)
        | spend_sums(
            "compared", sa.case((reference.is_not(None), charge)), either_estimated
        )
        | spend_sums("saved", reference - charge, either_estimated)
    )  # fmt: skip


def spend_sums(name: str, amount: Column, estimated: Column) -> dict[str, Column]:
    """Sum an amount in 1e-12 dollars apart by how it is known, each sum in two halves."""
    sums: dict[str, Column] = {f"{name}_unknown_count": sa.func.count() - sa.func.count(amount)}
    for part, condition in (("reported", sa.not_(estimated)), ("estimated", estimated)):
        sums |= {
            f"{name}_{part}_count": sa.func.count(sa.case((condition, amount))),
            f"{name}_{part}_high": _sum(sa.case((condition, amount // SPLIT))),
            f"{name}_{part}_low": _sum(sa.case((condition, amount % SPLIT))),
        }
    return sums


def spend_of(row: Mapping[str, Any] | sa.RowMapping, name: str) -> Spend:
    """Put an amount together again from its `spend_sums` in one row."""

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


def _token_sums(name: str) -> dict[str, Column]:
    tokens, source = attempts.c[f"{name}_tokens"], attempts.c[f"{name}_source"]
    unknown = sa.func.count() - sa.func.count(tokens)
    return {f"{name}_unknown_calls": unknown} | {
        f"{name}_{known.value}": _sum(sa.case((source == known.value, tokens)))
        for known in CountSource
    }


def _sum(amount: Column) -> Column:
    return sa.func.coalesce(sa.func.sum(amount), 0)


def _key(column: Column) -> Column:
    """Write a column as a text that is never null: "" for null, else the value after a sign."""
    return sa.func.coalesce("=" + column, "")


def _table(name: str, sums: Mapping[str, Column]) -> sa.Table:
    """Describe a table of hourly sums; `suffice.ledger.migrations` creates it."""
    return sa.Table(
        name,
        _METADATA,
        sa.Column("dimension", sa.Text, primary_key=True),
        sa.Column("hour", sa.BigInteger, primary_key=True),
        sa.Column("value", sa.Text, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in sums),
    )


_OWN = requests.c.reference_picousd, requests.c.reference_known != ReferenceKnown.MEASURED.value
_AUDITED = (
    sa.func.coalesce(audits.c.charge_picousd, _OWN[0]),
    sa.case((audits.c.charge_picousd.is_not(None), audits.c.charge_estimated), else_=_OWN[1]),
)
_REQUEST_SUMS: Mapping[str, Column] = {
    "requests": sa.func.count(),
    "audited": sa.func.count(sa.case((requests.c.audited, 1))),
    **{s.value: sa.func.count(sa.case((requests.c.status == s.value, 1))) for s in Status},
    **spend_sums("spend", requests.c.charge_picousd, requests.c.charge_estimated),
    **_sums_of_requests(*_OWN),
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
_CALL_SUMS: Mapping[str, Column] = {
    "calls": sa.func.count(),
    "failed": sa.func.count(attempts.c.error),
    **spend_sums("spend", attempts.c.charge_picousd, attempts.c.charge_estimated),
    **{label: column for name in COUNTS for label, column in _token_sums(name).items()},
}

REQUESTS = Measure(
    table=_table("suffice_request_sums", _REQUEST_SUMS),
    mark="requests_id",
    rows=requests,
    id=requests.c.id,
    time_us=requests.c.time_us,
    keys=_REQUEST_KEYS,
    sums=_REQUEST_SUMS,
)
CORRECTIONS = Measure(  # by audits of the reference: it is measured where it was estimated
    table=REQUESTS.table,
    mark="attempts_id",
    rows=requests.join(audits, audited_by_reference),
    id=audits.c.id,
    time_us=requests.c.time_us,
    keys=_REQUEST_KEYS,
    sums={
        name: column - _REQUEST_SUMS[name] for name, column in _sums_of_requests(*_AUDITED).items()
    },
)
CALLS = Measure(
    table=_table("suffice_call_sums", _CALL_SUMS),
    mark="attempts_id",
    rows=attempts.join(requests, requests.c.request_id == attempts.c.request_id),
    id=attempts.c.id,
    time_us=attempts.c.time_us,
    keys={
        "rung": _key(attempts.c.rung),
        "role": _key(attempts.c.role),
        "group": _key(requests.c.group_name),
    },
    sums=_CALL_SUMS,
)
FLOW = Measure(
    table=_table("suffice_flow_sums", {"requests": sa.func.count()}),
    mark="requests_id",
    rows=requests.join(attempts, requests.c.request_id == attempts.c.request_id),
    id=requests.c.id,
    time_us=requests.c.time_us,
    keys={
        "flow": sa.cast(sa.func.length(attempts.c.rung), sa.Text)
        + ":" + attempts.c.rung + _key(requests.c.rung)
    },
    sums={"requests": sa.func.count()},
    where=(attempts.c.ordinal == 0, attempts.c.role != Role.AUDIT.value),
)  # fmt: skip
MEASURES = (REQUESTS, CORRECTIONS, CALLS, FLOW)
