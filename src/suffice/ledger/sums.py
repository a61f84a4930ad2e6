"""Sums over a ledger by any column: money, tokens, and the flow between rungs."""

from collections import Counter
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Literal, cast

import sqlalchemy as sa
from msgspec import Struct

from suffice.ledger import schema
from suffice.ledger.database import Ledger
from suffice.ledger.measures import CALLS, CORRECTIONS, FLOW, REQUESTS, spend_of
from suffice.ledger.records import ALL_TIME, Role, Status, Window
from suffice.ledger.rollups import Sums, summed
from suffice.ledger.schema import attempts, requests, within
from suffice.ledger.tags import tags_in
from suffice.types import CountSource, Spend

RequestKey = Literal[
    "rung",
    "reference_rung",
    "vector",
    "group",
    "day",
    "status",
    "key_id",
    "tag",
    "certificate_id",
]
CallKey = Literal["rung", "role", "group", "day"]


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
    """Sum requests by one of their columns, sorted by it, or all together in one item.

    A request with several tags is in the sums of each, so these come to more than all requests.
    """
    sums = summed(ledger, (REQUESTS, CORRECTIONS), by=by, window=window)
    sums = _by_each_tag(sums) if by == "tag" else sums
    return tuple(
        Totals(
            key=_shown(key, by),
            requests=row["requests"],
            audited=row["audited"],
            statuses={s.value: row[s.value] for s in Status},
            spend=spend_of(row, "spend"),
            reference=spend_of(row, "reference"),
            compared=spend_of(row, "compared"),
            saved=spend_of(row, "saved"),
        )
        for key, row in _in_order(sums, by)
        if row["requests"] or by is None
    )


def calls(
    ledger: Ledger, *, by: CallKey | None = None, window: Window = ALL_TIME
) -> tuple[CallTotals, ...]:
    """Sum calls to engines and their tokens by one column, sorted by it, or all together."""
    sums = summed(ledger, (CALLS,), by=by, window=window)
    return tuple(
        CallTotals(
            key=_shown(key, by),
            calls=row["calls"],
            failed=row["failed"],
            spend=spend_of(row, "spend"),
            **{f"{name}_tokens": _token_sum(row, name) for name in schema.COUNTS},
        )
        for key, row in _in_order(sums, by)
        if row["calls"] or by is None
    )


def flow(ledger: Ledger, *, window: Window = ALL_TIME) -> tuple[Flow, ...]:
    """Count requests by the rung that was tried first and the rung that answered."""
    sums = summed(ledger, (FLOW,), by="flow", window=window)
    flows = []
    for key, row in sums.items():
        length, _, names = str(key).partition(":")
        first, answered = names[: int(length)], names[int(length) :]
        flows.append(
            Flow(
                first=first,
                answered=answered.removeprefix("=") if answered else None,
                requests=row["requests"],
            )
        )
    present = (one for one in flows if one.requests)
    return tuple(sorted(present, key=lambda one: (one.first, one.answered or "")))


def audit_spend(ledger: Ledger, *, window: Window = ALL_TIME) -> AuditSpend:
    """Sum what audits cost."""
    sums = summed(ledger, (CALLS,), by="role", window=window, only=(schema.is_audit,))
    query = sa.select(sa.func.max(attempts.c.time_us)).where(
        schema.is_audit, *within(attempts.c.time_us, window)
    )
    with ledger.reading() as connection:
        last_us = connection.execute(query).scalar_one()
    return AuditSpend(
        spend=spend_of(Counter(sums.get(Role.AUDIT.value)), "spend"),
        last=None if last_us is None else schema.time_from_us(last_us),
    )


def traffic(ledger: Ledger, *, window: Window = ALL_TIME) -> Traffic:
    """Count the answered requests of a window; quicker than `totals`, for it joins nothing."""
    sums = summed(ledger, (REQUESTS,), by="status", window=window)
    answered = Counter(sums.get(Status.OK.value))
    query = (
        sa.select(requests.c.time_us)
        .where(requests.c.status == Status.OK.value, *within(requests.c.time_us, window))
        .order_by(requests.c.time_us)
        .limit(1)
    )
    with ledger.reading() as connection:
        first_us = connection.execute(query).scalar_one_or_none()
    return Traffic(
        requests=answered["requests"],
        audited=answered["audited"],
        first=None if first_us is None else schema.time_from_us(first_us),
    )


def answer_seconds(
    ledger: Ledger, *, window: Window = ALL_TIME, most: int = 10_000
) -> dict[str, tuple[float, ...]]:
    """List how long each rung's latest answers took, ascending; at most `most` in all."""
    query = (
        sa.select(attempts.c.rung, attempts.c.duration_s)
        .select_from(requests.join(attempts, requests.c.request_id == attempts.c.request_id))
        .where(attempts.c.role == Role.ANSWER.value, attempts.c.duration_s.is_not(None))
        .where(*within(requests.c.time_us, window))
        .order_by(requests.c.time_us.desc())
        .limit(most)
    )
    with ledger.reading() as connection:
        rows = sorted(tuple(row) for row in connection.execute(query))
    return {
        rung: tuple(duration_s for _, duration_s in group)
        for rung, group in groupby(rows, key=lambda row: row[0])
    }


def _by_each_tag(lists: dict[str | int | None, Sums]) -> dict[str | int | None, Sums]:
    """Add the sums of lists of tags up by each of their tags."""
    sums: dict[str | int | None, Counter[str]] = {}
    for text, row in lists.items():
        for tag in tags_in(None if text is None else str(text)) or (None,):
            total = sums.setdefault(tag, Counter())
            for name, amount in row.items():
                total[name] += amount
    return {tag: dict(row) for tag, row in sums.items()}


def _in_order(
    sums: dict[str | int | None, Sums], by: str | None
) -> list[tuple[str | int | None, Counter[str]]]:
    """Return the sums by their key, the null first; those of no rows where nothing is asked for."""
    keys = sorted(sums, key=lambda key: (key is not None, key)) if by else [None]
    return [(key, Counter(sums.get(key))) for key in keys]


def _shown(key: str | int | None, by: str | None) -> str | None:
    if by == "day" and isinstance(key, int):
        return (date(1970, 1, 1) + timedelta(days=key)).isoformat()
    return cast("str | None", key)


def _token_sum(row: Counter[str], name: str) -> TokenSum:
    sums = {known.value: row[f"{name}_{known.value}"] for known in CountSource}
    return TokenSum(unknown_calls=row[f"{name}_unknown_calls"], **sums)
