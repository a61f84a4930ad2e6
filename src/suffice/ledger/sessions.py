"""What is remembered of each agent of a session, where every worker and replica finds it."""

from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa

from suffice.ledger.database import Ledger
from suffice.ledger.schema import sessions, time_us


def find_session(ledger: Ledger, session_id: str, *, agent: str) -> str | None:
    """Return the JSON that was kept of an agent; None for an unknown one. Raises LedgerError."""
    mine = (sessions.c.session_id == session_id) & (sessions.c.agent == agent)
    with ledger.reading() as connection:
        return connection.execute(sa.select(sessions.c.body).where(mine)).scalar_one_or_none()


def keep_session(
    ledger: Ledger,
    session_id: str,
    *,
    agent: str,
    body: Callable[[str | None], str],
    at: datetime,
) -> None:
    """Write what is to be remembered of an agent in place of what was; raises LedgerError.

    `body` is called with the JSON that is kept by then, None for an unknown agent: a request that
    ran at the same time may have written it.
    """
    mine = (sessions.c.session_id == session_id) & (sessions.c.agent == agent)
    before = sa.select(sessions.c.body).where(mine).with_for_update()
    with ledger.writing() as connection:
        text = body(connection.execute(before).scalar_one_or_none())
        row = {"session_id": session_id, "agent": agent, "time_us": time_us(at), "body": text}
        connection.execute(_UPSERT, row)


def forget_sessions(ledger: Ledger, *, before: datetime) -> int:
    """Erase what is remembered of agents unheard of since then; returns how many."""
    old = sa.delete(sessions).where(sessions.c.time_us < time_us(before))
    with ledger.writing() as connection:
        return connection.execute(old).rowcount


_UPSERT = sa.text(
    "INSERT INTO suffice_sessions (session_id, agent, time_us, body) "
    "VALUES (:session_id, :agent, :time_us, :body) "
    "ON CONFLICT (session_id, agent) DO UPDATE SET "
    "body = excluded.body, time_us = CASE WHEN suffice_sessions.time_us > excluded.time_us "
    "THEN suffice_sessions.time_us ELSE excluded.time_us END"
)
