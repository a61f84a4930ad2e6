"""How far a certificate's audits have been taken in, and what they had shown by then.

No books: a checkpoint says what the rows before it say, and saves reading them again.
"""

from datetime import UTC, datetime

import sqlalchemy as sa

from suffice.ledger.database import Ledger
from suffice.ledger.schema import time_us

_METADATA = sa.MetaData()

watches = sa.Table(
    "suffice_watches",
    _METADATA,
    sa.Column("watch_id", sa.Text, primary_key=True),
    sa.Column("last_id", sa.BigInteger, nullable=False),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)


def find_watch(ledger: Ledger, watch_id: str) -> str | None:
    """Return the text of a checkpoint; None where there is none. Raises LedgerError."""
    query = sa.select(watches.c.body).where(watches.c.watch_id == watch_id)
    with ledger.reading() as connection:
        return connection.execute(query).scalar_one_or_none()


def keep_watch(ledger: Ledger, watch_id: str, *, last: int, body: str) -> None:
    """Keep a checkpoint up to a request's id, unless another is further; raises LedgerError."""
    at_us = time_us(datetime.now(UTC))
    row = {"watch_id": watch_id, "last_id": last, "time_us": at_us, "body": body}
    with ledger.writing() as connection:
        connection.execute(_UPSERT, row)


_UPSERT = sa.text(
    "INSERT INTO suffice_watches (watch_id, last_id, time_us, body) "
    "VALUES (:watch_id, :last_id, :time_us, :body) "
    "ON CONFLICT (watch_id) DO UPDATE SET "
    "last_id = excluded.last_id, time_us = excluded.time_us, body = excluded.body "
    "WHERE suffice_watches.last_id < excluded.last_id"
)
