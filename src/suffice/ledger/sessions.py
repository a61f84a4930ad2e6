"""What is remembered of each agent of a session, where every worker and replica finds it."""

from datetime import datetime

import sqlalchemy as sa

from suffice.ledger.database import Ledger
from suffice.ledger.schema import sessions, time_us


def find_session(ledger: Ledger, session_id: str, *, agent: str) -> str | None:
    """Return the JSON that was kept of an agent; None for an unknown one. Raises LedgerError."""
    mine = (sessions.c.session_id == session_id) & (sessions.c.agent == agent)
    with ledger.reading() as connection:
        return connection.execute(sa.select(sessions.c.body).where(mine)).scalar_one_or_none()


def keep_session(ledger: Ledger, session_id: str, *, agent: str, body: str, at: datetime) -> None:
    """Write what is to be remembered of an agent in place of what was; raises LedgerError."""
    row = {"session_id": session_id, "agent": agent, "time_us": time_us(at), "body": body}
    with ledger.writing() as connection:
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
    "time_us = excluded.time_us, body = excluded.body "
    "WHERE suffice_sessions.time_us <= excluded.time_us"
)
