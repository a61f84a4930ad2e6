"""What clients of the Responses API ask to be kept: responses, conversations and their items.

These rows lie beside the books and are no part of them: a client may erase its own, and each goes
at the end of its time. Going on from a row gives it the time of the newest one.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa
from msgspec import Struct

from suffice.ledger.database import Ledger
from suffice.ledger.schema import states, time_from_us, time_us


class State(Struct, frozen=True, kw_only=True):
    """One row: `body` is JSON; `previous_id` is the response it went on from.

    Only requests with the key `key_id` see it; None stands for a gateway without keys.
    """

    state_id: str
    key_id: str | None
    time: datetime
    body: str
    previous_id: str | None = None
    conversation_id: str | None = None


def keep_state(ledger: Ledger, state: State, *, ttl_s: float) -> None:
    """Write a row, and keep what it goes on from for as long; raises LedgerError."""
    expires_us = time_us(state.time + timedelta(seconds=ttl_s))
    older: sa.ColumnElement[bool] = states.c.state_id.in_(
        sa.select(_chain(state.previous_id).c.state_id)
    )
    if state.conversation_id is not None:
        older |= states.c.state_id == state.conversation_id
        older |= states.c.conversation_id == state.conversation_id
    row = {
        "state_id": state.state_id,
        "key_id": state.key_id or "",
        "previous_id": state.previous_id,
        "conversation_id": state.conversation_id,
        "time_us": time_us(state.time),
        "expires_us": expires_us,
        "body": state.body,
    }
    with ledger.writing() as connection:
        connection.execute(sa.insert(states), [row])
        renewed = sa.update(states).where(older, states.c.expires_us < expires_us)
        connection.execute(renewed.values(expires_us=expires_us))


def change_state(ledger: Ledger, state_id: str, *, key_id: str | None, body: str) -> bool:
    """Replace the body of a row; False where this key has none of this id."""
    mine = _mine(key_id) & (states.c.state_id == state_id)
    with ledger.writing() as connection:
        done = connection.execute(sa.update(states).where(mine).values(body=body))
    return done.rowcount > 0


def find_state(ledger: Ledger, state_id: str, *, key_id: str | None, now: datetime) -> State | None:
    """Return a row; None where this key has none of this id, or no more."""
    rows = _read(ledger, states.c.state_id == state_id, key_id=key_id, now=now)
    return rows[0] if rows else None


def states_before(
    ledger: Ledger, state_id: str, *, key_id: str | None, now: datetime
) -> list[State]:
    """Return a response and all those it went on from, oldest first."""
    chain = sa.select(_chain(state_id).c.state_id)
    return _read(ledger, states.c.state_id.in_(chain), key_id=key_id, now=now)


def states_of(
    ledger: Ledger, conversation_id: str, *, key_id: str | None, now: datetime
) -> list[State]:
    """Return what a conversation holds, oldest first."""
    return _read(ledger, states.c.conversation_id == conversation_id, key_id=key_id, now=now)


def erase_state(ledger: Ledger, state_id: str, *, key_id: str | None) -> bool:
    """Delete a row, and what a conversation of this id holds; False where this key has none."""
    mine, itself = _mine(key_id), states.c.state_id == state_id
    with ledger.writing() as connection:
        done = connection.execute(sa.delete(states).where(mine, itself))
        connection.execute(sa.delete(states).where(mine, states.c.conversation_id == state_id))
    return done.rowcount > 0


def erase_expired(ledger: Ledger, *, now: datetime) -> int:
    """Delete the rows whose time is over, and return how many there were."""
    with ledger.writing() as connection:
        done = connection.execute(sa.delete(states).where(states.c.expires_us <= time_us(now)))
    return done.rowcount


def _chain(state_id: str | None) -> sa.CTE:
    start = sa.select(states.c.state_id, states.c.previous_id).where(states.c.state_id == state_id)
    chain = start.cte("chain", recursive=True)
    before = sa.select(states.c.state_id, states.c.previous_id)
    return chain.union(before.where(states.c.state_id == chain.c.previous_id))


def _mine(key_id: str | None) -> sa.ColumnElement[bool]:
    return states.c.key_id == (key_id or "")


def _read(
    ledger: Ledger, which: sa.ColumnElement[bool], *, key_id: str | None, now: datetime
) -> list[State]:
    alive = states.c.expires_us > time_us(now)
    rows = sa.select(states).where(which, _mine(key_id), alive).order_by(states.c.id)
    with ledger.reading() as connection:
        return [
            State(
                state_id=row.state_id,
                key_id=row.key_id or None,
                time=time_from_us(row.time_us),
                body=row.body,
                previous_id=row.previous_id,
                conversation_id=row.conversation_id,
            )
            for row in connection.execute(rows)
        ]
