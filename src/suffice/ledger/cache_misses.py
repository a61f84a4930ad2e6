"""Prompts that engines read anew although they had read them before, and why, by session or agent.

All follows from counts: who answered, when, how long the prompt was, and how much of it came from
the cache.
"""

from typing import Any, Literal

import sqlalchemy as sa
from msgspec import Struct

from suffice.ledger.database import Ledger
from suffice.ledger.records import ALL_TIME, Role, Window
from suffice.ledger.schema import attempts, requests, within

LEAST_TOKENS = 1024  # shorter prefixes are held by no provider's cache
MISSED_SHARE = 0.5  # of the prefix, at most, came from the cache
_SECOND_US = 1_000_000

MissCause = Literal["moved", "pause", "compaction", "changed"]
CAUSES: dict[MissCause, str] = {
    "moved": "another rung answered",
    "pause": "the cache had lapsed",
    "compaction": "the prompt was cut short",
    "changed": "its beginning changed, or the engine dropped it",
}


class CacheMisses(Struct, frozen=True, kw_only=True):
    """Calls that missed a prefix for one cause, and the tokens of it that were read anew."""

    name: str | None
    cause: MissCause
    calls: int
    tokens: int


def cache_misses(
    ledger: Ledger,
    *,
    by: Literal["session", "agent"] = "session",
    cache_life_s: float,
    compacted_share: float,
    window: Window = ALL_TIME,
) -> tuple[CacheMisses, ...]:
    """Sum the calls of agents that missed the prompt of the call before, by session or agent.

    A cache lives for `cache_life_s`; a prompt below `compacted_share` of the one before was
    compacted. Calls whose counts are unknown are in no sum. Raises LedgerError.
    """
    session = sa.func.coalesce(requests.c.session_id, requests.c.conversation_id)
    names = {"session": session, "agent": requests.c.conversation_id}

    def last(column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
        """Return a column of the agent's call before."""
        agent = [session, requests.c.conversation_id]
        return sa.func.lag(column).over(partition_by=agent, order_by=attempts.c.id).label(name)

    calls = (
        sa.select(
            names[by].label("name"),
            attempts.c.rung,
            attempts.c.time_us,
            attempts.c.input_tokens,
            attempts.c.cache_read_tokens,
            last(attempts.c.rung, "last_rung"),
            last(attempts.c.time_us, "last_us"),
            last(attempts.c.input_tokens, "last_tokens"),
        )
        .join(requests, requests.c.request_id == attempts.c.request_id)
        .where(
            attempts.c.role == Role.ANSWER.value,
            attempts.c.input_tokens.is_not(None),
            attempts.c.cache_read_tokens.is_not(None),
            requests.c.conversation_id.is_not(None),
            *within(requests.c.time_us, window),
        )
        .cte("calls")
    )
    c = calls.c
    shared = sa.case((c.input_tokens < c.last_tokens, c.input_tokens), else_=c.last_tokens)
    cause = sa.case(
        (c.rung != c.last_rung, "moved"),
        (c.time_us - c.last_us > int(cache_life_s * _SECOND_US), "pause"),
        (c.input_tokens < compacted_share * c.last_tokens, "compaction"),
        else_="changed",
    ).label("cause")
    missed = (
        sa.select(
            c.name,
            cause,
            sa.func.count().label("calls"),
            sa.func.sum(shared - c.cache_read_tokens).label("tokens"),
        )
        .where(shared > LEAST_TOKENS, c.cache_read_tokens < MISSED_SHARE * shared)
        .group_by(c.name, cause)
        .order_by(c.name, cause)
    )
    with ledger.reading() as connection:
        rows = connection.execute(missed).mappings().all()
    return tuple(CacheMisses(**{**row, "tokens": int(row["tokens"])}) for row in rows)
