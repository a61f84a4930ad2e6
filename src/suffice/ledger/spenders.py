"""Who spends: requests and tokens of each key, tag, session or agent, summed over all rows.

The sums by hour do not hold them: a session counts once, however many hours it lasts.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace

from suffice.ledger.database import Ledger
from suffice.ledger.measures import spend_of, spend_terms, total
from suffice.ledger.records import ALL_TIME, ReferenceKnown, Window
from suffice.ledger.schema import attempts, on_path, requests, time_from_us, within
from suffice.ledger.tags import has_tag, tags_in
from suffice.types import Spend

Spender = Literal["key", "tag", "session", "agent"]

_NO_INDEX: sa.ColumnElement[str] = sa.literal_column("''")  # a column with it is read in no order
_NAMES: dict[Spender, sa.ColumnElement[str]] = {
    "key": requests.c.key_id + _NO_INDEX,  # else a month is sought in the index of a year's keys
    "tag": requests.c.tag,
    "session": sa.func.coalesce(requests.c.session_id, requests.c.conversation_id),
    "agent": requests.c.conversation_id,
}
_TOKENS = ("input", "cache_read", "cache_write", "output")


class SpenderTotals(Struct, frozen=True, kw_only=True):
    """What one spender's requests came to; `name` is None for requests that name none.

    `spend` is what serving cost, `saved` what the reference would have cost more. Tokens are of all
    calls on the path, `cache_read_tokens` and `cache_write_tokens` parts of `input_tokens`; calls
    whose count is unknown add nothing, and `uncounted_calls` lacked their input or output.
    """

    name: str | None
    requests: int
    sessions: int
    agents: int
    first: datetime
    last: datetime
    spend: Spend
    saved: Spend
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    uncounted_calls: int


def spenders(
    ledger: Ledger, *, by: Spender, window: Window = ALL_TIME, tag: str | None = None
) -> tuple[SpenderTotals, ...]:
    """Sum requests by who spent, the dearest first; only those with a tag, where one is given.

    A request without the id of a session is a session of its agent. One with several tags counts
    for each of them, and so do its session and agent. Raises LedgerError.
    """
    name = _NAMES[by].label("name")
    only = [*within(requests.c.time_us, window)]
    only += [] if tag is None else [has_tag(requests.c.tag, tag)]
    charge, estimated = requests.c.charge_picousd, requests.c.charge_estimated
    guessed = sa.or_(estimated, requests.c.reference_known != ReferenceKnown.MEASURED.value)
    whole = (
        sa.select(
            name,
            sa.func.count().label("requests"),
            sa.func.count(sa.distinct(_NAMES["session"])).label("sessions"),
            sa.func.count(sa.distinct(_NAMES["agent"])).label("agents"),
            sa.func.min(requests.c.time_us).label("first_us"),
            sa.func.max(requests.c.time_us).label("last_us"),
            *_labelled("spend", charge, estimated),
            *_labelled("saved", requests.c.reference_picousd - charge, guessed),
        )
        .where(*only)
        .group_by(name)
    )
    counts = [attempts.c[f"{kind}_tokens"] for kind in _TOKENS]
    uncounted = sa.case((sa.or_(counts[0].is_(None), counts[-1].is_(None)), 1))
    tokens = (
        sa.select(
            name,
            *(sa.func.sum(c).label(kind) for kind, c in zip(_TOKENS, counts, strict=True)),
            sa.func.count(uncounted).label("uncounted"),
        )
        .select_from(
            requests.join(attempts, attempts.c.request_id == requests.c.request_id + _NO_INDEX)
        )
        .where(*only, on_path)
        .group_by(name)
    )
    with ledger.reading() as connection:
        by_name = {row["name"]: row for row in connection.execute(tokens).mappings()}
        rows = connection.execute(whole).mappings().all()
    found = [_totals(row, by_name.get(row["name"])) for row in rows]
    if by == "tag":
        return _summed((tag, one) for one in found for tag in tags_in(one.name) or (None,))
    return _dearest_first(found)


def session_spend(ledger: Ledger, session_id: str, *, key_id: str | None) -> Spend:
    """Sum what serving one session of a key has cost so far; raises LedgerError.

    Another key's session of the same id is another session.
    """
    columns = _labelled("spend", requests.c.charge_picousd, requests.c.charge_estimated)
    query = sa.select(*columns).where(
        requests.c.session_id == session_id, requests.c.key_id.is_not_distinct_from(key_id)
    )
    with ledger.reading() as connection:
        return spend_of(connection.execute(query).mappings().one(), "spend")


def by_team(
    keys: Iterable[SpenderTotals], teams: Mapping[str, str | None]
) -> tuple[SpenderTotals, ...]:
    """Add up the totals of keys by the team of each; sessions of two keys count twice."""
    return _summed((None if one.name is None else teams.get(one.name), one) for one in keys)


def _summed(parts: Iterable[tuple[str | None, SpenderTotals]]) -> tuple[SpenderTotals, ...]:
    """Add totals up by their new names."""
    sums: dict[str | None, SpenderTotals] = {}
    for name, one in parts:
        before = sums.get(name)
        sums[name] = replace(one, name=name) if before is None else _added(before, one)
    return _dearest_first(sums.values())


def _dearest_first(totals: Iterable[SpenderTotals]) -> tuple[SpenderTotals, ...]:
    return tuple(sorted(totals, key=lambda one: (-one.spend.known_usd, one.name or "")))


def _added(one: SpenderTotals, other: SpenderTotals) -> SpenderTotals:
    sums = {
        name: getattr(one, name) + getattr(other, name)
        for name in SpenderTotals.__struct_fields__
        if name not in ("name", "first", "last")
    }
    return replace(one, first=min(one.first, other.first), last=max(one.last, other.last), **sums)


def _totals(row: sa.RowMapping, tokens: sa.RowMapping | None) -> SpenderTotals:
    counts = {f"{kind}_tokens": int((tokens and tokens[kind]) or 0) for kind in _TOKENS}
    return SpenderTotals(
        name=row["name"],
        requests=row["requests"],
        sessions=row["sessions"],
        agents=row["agents"],
        first=time_from_us(row["first_us"]),
        last=time_from_us(row["last_us"]),
        spend=spend_of(row, "spend"),
        saved=spend_of(row, "saved"),
        uncounted_calls=int((tokens and tokens["uncounted"]) or 0),
        **counts,
    )


def _labelled(
    name: str, amount: sa.ColumnElement[int], estimated: sa.ColumnElement[bool]
) -> list[sa.ColumnElement[Any]]:
    terms = spend_terms(name, amount, estimated).items()
    return [total(term).label(label) for label, term in terms]
