"""What leaves a ledger: old requests whole, and the words and names of one key or conversation.

The books are append-only for every gateway: their triggers refuse changes. These two commands of an
operator take the triggers off for one transaction at a time, and put them back in the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from suffice.ledger.database import Ledger
from suffice.ledger.migrations import TABLES
from suffice.ledger.rollups import Subtraction
from suffice.ledger.schema import (
    attempts,
    is_sampled,
    outcomes,
    requests,
    scores,
    states,
    time_us,
)

_APPENDED = (*TABLES, "suffice_outcomes")
_BATCH = 5_000  # requests in one transaction: gateways write in between
_WORDS = ("answer", "reasoning", "samples")
_ERASED = "erased"


def prune(ledger: Ledger, *, before: datetime, sampled: bool = False) -> int:
    """Delete requests of before a time with calls, scores and outcomes; returns how many.

    Audited and shadowed requests stay unless `sampled` says otherwise: the guard reads its
    certificate's again at every start, and `recertify` needs both. Raises LedgerError.
    """
    old = [requests.c.time_us < time_us(before)]
    old += [] if sampled else [sa.not_(is_sampled)]
    after = requests.c.id > sa.bindparam("after")
    page = sa.select(requests.c.id).where(*old, after).order_by(requests.c.id).limit(_BATCH)
    removed, last, sums = 0, 0, Subtraction(ledger, before=before, sampled=sampled)
    while True:
        with _changeable(ledger) as connection:
            ids = list(connection.execute(page, {"after": last}).scalars())
            if ids:
                last = ids[-1]
                leaving = sa.and_(*old, requests.c.id.between(ids[0], last))
                sums.subtract(connection, first=ids[0], last=last)
                names = sa.select(requests.c.request_id).where(leaving)
                for table in (scores, attempts):
                    connection.execute(sa.delete(table).where(table.c.request_id.in_(names)))
                connection.execute(sa.delete(requests).where(leaving))
            else:
                known = sa.select(requests.c.session_id).where(requests.c.session_id.is_not(None))
                gone = outcomes.c.session_id.not_in(known)
                connection.execute(sa.delete(outcomes).where(gone))
        removed += len(ids)
        if not ids:
            return removed


def erase(ledger: Ledger, *, key_id: str | None = None, conversation_id: str | None = None) -> int:
    """Blank the words of a key's or a conversation's requests; returns how many there are.

    Text, answers, reasoning, errors and the conversation's id go, and kept responses; money and
    tokens stay, for the books must add up. Raises LedgerError.
    """
    mine = requests.c.key_id == key_id
    kept = states.c.key_id == (key_id or "")
    if conversation_id is not None:
        mine = requests.c.conversation_id == conversation_id
        kept = states.c.conversation_id == conversation_id
    last, count = 0, 0
    while True:
        with _changeable(ledger) as connection:
            page = (
                sa.select(requests.c.id, requests.c.request_id)
                .where(mine, requests.c.id > last)
                .order_by(requests.c.id)
                .limit(_BATCH)
            )
            rows = connection.execute(page).all()
            ids = [row.request_id for row in rows]
            erased = sa.case((attempts.c.error.is_not(None), _ERASED))  # it goes on being counted
            blank = sa.update(attempts).values({**dict.fromkeys(_WORDS), "error": erased})
            _in_pieces(connection, blank, attempts.c.request_id, ids)
            blank = sa.update(requests).values(
                text=None, error=None, conversation_id=None, session_id=None
            )
            _in_pieces(connection, blank, requests.c.request_id, ids)
            connection.execute(sa.delete(states).where(kept))
        count += len(rows)
        if len(rows) < _BATCH:
            return count
        last = rows[-1].id


def _in_pieces(
    connection: sa.Connection, statement: Any, column: sa.ColumnElement[str], ids: list[str]
) -> None:
    for start in range(0, len(ids), 500):
        connection.execute(statement.where(column.in_(ids[start : start + 500])))


@contextmanager
def _changeable(ledger: Ledger) -> Iterator[sa.Connection]:
    with ledger.writing() as connection:
        if connection.dialect.name == "postgresql":
            for table in _APPENDED:
                connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            yield connection
            for table in _APPENDED:
                connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE TRIGGER USER")
            return
        query = sa.text(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN :tables"
        ).bindparams(sa.bindparam("tables", list(_APPENDED), expanding=True))
        triggers = connection.execute(query).all()
        for trigger in triggers:
            connection.exec_driver_sql(f"DROP TRIGGER {trigger.name}")
        yield connection
        for trigger in triggers:
            connection.exec_driver_sql(trigger.sql)
