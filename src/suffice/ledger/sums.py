"""Sums over a ledger by any column: money, tokens, and the flow between rungs."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any, Literal, cast

import sqlalchemy as sa
from msgspec import Struct

from suffice.ledger import schema
from suffice.ledger.database import Ledger
from suffice.ledger.records import ALL_TIME, ReferenceKnown, Role, Status, Window
from suffice.ledger.schema import attempts, audited_by_reference, audits, requests, within
from suffice.types import CountSource, Spend
from suffice.units import usd_from_picousd

RequestKey = Literal[
    "rung", "reference_rung", "vector", "group", "day", "status", "key_id", "certificate_id"
]
CallKey = Literal["rung", "role", "group", "day"]

_DAY_US = 86_400_000_000
_SPLIT = 10**6  # sums of 64-bit amounts are taken in two halves, so that no sum overflows


class Totals(Struct, frozen=True, kw_only=True):
    """Sums over requests that share `key`.

    `spend` is what serving cost, audits not included; `reference` what the reference rung alone
    would have cost, reported when measured. `saved` is their difference where both are known, and
    `compared` what serving just those requests cost: the reference cost them `compared + saved`.
    """

    key: str | None
    requests: int
    audited: int
    statuses: dict[str, int]
    spend: Spend
    reference: Spend
    compared: Spend
    saved: Spend


class TokenSum(Struct, frozen=True, kw_only=True):
    """Tokens of one kind, apart by how they are known; `unknown_calls` had no count at all."""

    reported: int
    counted: int
    estimated: int
    unknown_calls: int


class CallTotals(Struct, frozen=True, kw_only=True):
    """Sums over calls to engines that share `key`: discarded attempts and audits are calls too."""

    key: str | None
    calls: int
    failed: int
    spend: Spend
    input_tokens: TokenSum
    cache_read_tokens: TokenSum
    cache_write_tokens: TokenSum
    output_tokens: TokenSum
    reasoning_tokens: TokenSum


class AuditSpend(Struct, frozen=True, kw_only=True):
    """What audits cost, and when the last of them was made; None where there was none."""

    spend: Spend
    last: datetime | None


class Traffic(Struct, frozen=True, kw_only=True):
    """Answered requests, how many of them were audited, and when the first came; None for none."""

    requests: int
    audited: int
    first: datetime | None


class Flow(Struct, frozen=True, kw_only=True):
    """How many requests were first tried on one rung and answered by another, or by none."""

    first: str
    answered: str | None
    requests: int


def totals(
    ledger: Ledger, *, by: RequestKey | None = None, window: Window = ALL_TIME
) -> tuple[Totals, ...]:
    """Sum requests by one of their columns, sorted by it, or all together in one item."""
    charge, estimated = requests.c.charge_picousd, requests.c.charge_estimated
    either_estimated = sa.or_(estimated, _REFERENCE_ESTIMATED)
    query = (
        sa.select(
            _key(by, _REQUEST_KEYS).label("key"),
            sa.func.count().label("requests"),
            sa.func.count(sa.case((requests.c.audited, 1))).label("audited"),
            *(
                sa.func.count(sa.case((requests.c.status == s.value, 1))).label(s.value)
                for s in Status
            ),
            *_spend_columns("spend", charge, estimated),
            *_spend_columns("reference", _REFERENCE, _REFERENCE_ESTIMATED),
            *_spend_columns(
                "compared", sa.case((_REFERENCE.is_not(None), charge)), either_estimated
            ),
            *_spend_columns("saved", _REFERENCE - charge, either_estimated),
        )
        .select_from(requests.outerjoin(audits, audited_by_reference))
        .where(*within(requests.c.time_us, window))
    )
    if by is not None:
        query = query.group_by("key").order_by("key")
    with ledger.reading() as connection:
        rows = connection.execute(query).all()
    return tuple(
        Totals(
            key=_shown(row.key, by),
            requests=row.requests,
            audited=row.audited,
            statuses={s.value: row._mapping[s.value] for s in Status},
            spend=_spend(row._mapping, "spend"),
            reference=_spend(row._mapping, "reference"),
            compared=_spend(row._mapping, "compared"),
            saved=_spend(row._mapping, "saved"),
        )
        for row in rows
    )


def calls(
    ledger: Ledger, *, by: CallKey | None = None, window: Window = ALL_TIME
) -> tuple[CallTotals, ...]:
    """Sum calls to engines and their tokens by one column, sorted by it, or all together."""
    query = (
        sa.select(
            _key(by, _CALL_KEYS).label("key"),
            sa.func.count().label("calls"),
            sa.func.count(attempts.c.error).label("failed"),
            *_spend_columns("spend", attempts.c.charge_picousd, attempts.c.charge_estimated),
            *(column for name in schema.COUNTS for column in _token_columns(name)),
        )
        .select_from(attempts.join(requests, requests.c.request_id == attempts.c.request_id))
        .where(*within(attempts.c.time_us, window))
    )
    if by is not None:
        query = query.group_by("key").order_by("key")
    with ledger.reading() as connection:
        rows = connection.execute(query).all()
    return tuple(
        CallTotals(
            key=_shown(row.key, by),
            calls=row.calls,
            failed=row.failed,
            spend=_spend(row._mapping, "spend"),
            **{f"{name}_tokens": _token_sum(row._mapping, name) for name in schema.COUNTS},
        )
        for row in rows
    )


def flow(ledger: Ledger, *, window: Window = ALL_TIME) -> tuple[Flow, ...]:
    """Count requests by the rung that was tried first and the rung that answered."""
    query = (
        sa.select(attempts.c.rung.label("first"), requests.c.rung, sa.func.count().label("n"))
        .join(requests, requests.c.request_id == attempts.c.request_id)
        .where(attempts.c.ordinal == 0, attempts.c.role != Role.AUDIT.value)
        .where(*within(requests.c.time_us, window))
        .group_by(attempts.c.rung, requests.c.rung)
        .order_by(attempts.c.rung, requests.c.rung)
    )
    with ledger.reading() as connection:
        rows = connection.execute(query).all()
    return tuple(Flow(first=row.first, answered=row.rung, requests=row.n) for row in rows)


def audit_spend(ledger: Ledger, *, window: Window = ALL_TIME) -> AuditSpend:
    """Sum what audits cost; an index of its own keeps this as quick as the audits are few."""
    query = sa.select(
        *_spend_columns("spend", attempts.c.charge_picousd, attempts.c.charge_estimated),
        sa.func.max(attempts.c.time_us).label("last_us"),
    ).where(schema.is_audit, *within(attempts.c.time_us, window))
    with ledger.reading() as connection:
        row = connection.execute(query).one()
    last = None if row.last_us is None else schema.time_from_us(row.last_us)
    return AuditSpend(spend=_spend(row._mapping, "spend"), last=last)


def traffic(ledger: Ledger, *, window: Window = ALL_TIME) -> Traffic:
    """Count the answered requests of a window; quicker than `totals`, for it joins nothing."""
    query = sa.select(
        sa.func.count().label("requests"),
        sa.func.count(sa.case((requests.c.audited, 1))).label("audited"),
        sa.func.min(requests.c.time_us).label("first_us"),
    ).where(requests.c.status == Status.OK.value, *within(requests.c.time_us, window))
    with ledger.reading() as connection:
        row = connection.execute(query).one()
    first = None if row.first_us is None else schema.time_from_us(row.first_us)
    return Traffic(requests=row.requests, audited=row.audited, first=first)


def answer_seconds(
    ledger: Ledger, *, window: Window = ALL_TIME, most: int = 10_000
) -> dict[str, tuple[float, ...]]:
    """List how long each rung's latest answers took, ascending; at most `most` in all."""
    query = (
        sa.select(attempts.c.rung, attempts.c.duration_s)
        .select_from(requests.join(attempts, requests.c.request_id == attempts.c.request_id))
        .where(attempts.c.role == Role.ANSWER.value, attempts.c.duration_s.is_not(None))
        .where(*within(requests.c.time_us, window))
        .order_by(requests.c.id.desc())
        .limit(most)
    )
    with ledger.reading() as connection:
        rows = sorted(tuple(row) for row in connection.execute(query))
    return {
        rung: tuple(duration_s for _, duration_s in group)
        for rung, group in groupby(rows, key=lambda row: row[0])
    }


_REFERENCE = sa.func.coalesce(audits.c.charge_picousd, requests.c.reference_picousd)
_REFERENCE_ESTIMATED = sa.case(
    (audits.c.charge_picousd.is_not(None), audits.c.charge_estimated),
    else_=requests.c.reference_known != ReferenceKnown.MEASURED.value,
)


def _key(by: str | None, columns: Mapping[str, sa.ColumnElement[Any]]) -> sa.ColumnElement[Any]:
    return sa.null() if by is None else columns[by]


_REQUEST_KEYS: Mapping[str, sa.ColumnElement[Any]] = {
    "rung": requests.c.rung,
    "reference_rung": requests.c.reference_rung,
    "vector": requests.c.vector,
    "group": requests.c.group_name,
    "day": requests.c.time_us // _DAY_US,
    "status": requests.c.status,
    "key_id": requests.c.key_id,
    "certificate_id": requests.c.certificate_id,
}
_CALL_KEYS: Mapping[str, sa.ColumnElement[Any]] = {
    "rung": attempts.c.rung,
    "role": attempts.c.role,
    "group": requests.c.group_name,
    "day": attempts.c.time_us // _DAY_US,
}


def _shown(key: Any, by: str | None) -> str | None:
    if key is None or by != "day":
        return cast("str | None", key)
    return (date(1970, 1, 1) + timedelta(days=key)).isoformat()


def _spend_columns(
    name: str, amount: sa.ColumnElement[Any], estimated: sa.ColumnElement[Any]
) -> list[sa.ColumnElement[Any]]:
    """Sum an amount in 1e-12 dollars apart by how it is known, each sum in two halves."""
    count, total = sa.func.count, sa.func.sum
    columns: list[sa.ColumnElement[Any]] = [
        (sa.func.count() - count(amount)).label(f"{name}_unknown_count")
    ]
    for part, condition in (("reported", sa.not_(estimated)), ("estimated", estimated)):
        columns += [
            count(sa.case((condition, amount))).label(f"{name}_{part}_count"),
            total(sa.case((condition, amount // _SPLIT))).label(f"{name}_{part}_high"),
            total(sa.case((condition, amount % _SPLIT))).label(f"{name}_{part}_low"),
        ]
    return columns


def _spend(row: sa.RowMapping, name: str) -> Spend:
    def usd(part: str) -> Decimal:
        high, low = row[f"{name}_{part}_high"] or 0, row[f"{name}_{part}_low"] or 0
        return usd_from_picousd(int(high) * _SPLIT + int(low))

    return Spend(
        reported_usd=usd("reported"),
        estimated_usd=usd("estimated"),
        reported_count=row[f"{name}_reported_count"],
        estimated_count=row[f"{name}_estimated_count"],
        unknown_count=row[f"{name}_unknown_count"],
    )


def _token_columns(name: str) -> list[sa.ColumnElement[Any]]:
    tokens, source = attempts.c[f"{name}_tokens"], attempts.c[f"{name}_source"]
    unknown = sa.func.count() - sa.func.count(tokens)
    sums = (
        sa.func.sum(sa.case((source == known.value, tokens))).label(f"{name}_{known.value}")
        for known in CountSource
    )
    return [unknown.label(f"{name}_unknown_calls"), *sums]


def _token_sum(row: sa.RowMapping, name: str) -> TokenSum:
    sums = {known.value: int(row[f"{name}_{known.value}"] or 0) for known in CountSource}
    return TokenSum(unknown_calls=row[f"{name}_unknown_calls"], **sums)
