"""Connections to the ledger's database: a SQLite file, or PostgreSQL by its URL."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from suffice.errors import LedgerError, MissingExtra
from suffice.ledger.failures import leads_nowhere

BUSY_TIMEOUT_S = 10
CONNECT_TIMEOUT_S = 5


def ledger_url(where: str | os.PathLike[str]) -> sa.URL:
    """Read a path, a `sqlite:///` or a `postgresql://` URL; raises LedgerError on any other."""
    if "://" not in str(where):
        return sa.URL.create("sqlite", database=str(where))
    try:
        url = sa.make_url(str(where))
    except sa.exc.ArgumentError as error:
        raise LedgerError("the ledger's URL cannot be read", hint=_URL_HINT) from error
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite" or not url.database:
        raise LedgerError(f"no ledger can be kept in {url.render_as_string()}", hint=_URL_HINT)
    return sa.URL.create("sqlite", database=url.database)


_URL_HINT = "give a path such as suffice.db, or postgresql://USER:PASSWORD@HOST/DATABASE"


def ledger_engine(url: sa.URL, *, read_only: bool, fsync: bool) -> sa.Engine:
    """Return what connects to a database; raises LedgerError for a file that is not there."""
    if url.drivername != "sqlite":
        return _postgresql(url)
    path = Path(str(url.database))
    if read_only and not path.is_file():
        raise LedgerError(f"there is no ledger {path}", hint="is the path right?")
    mode = "ro" if read_only else "rwc"
    engine = sa.create_engine(
        sa.URL.create(
            "sqlite", database=path.absolute().as_uri(), query={"mode": mode, "uri": "true"}
        ),
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        paramstyle="named",
    )

    @sa.event.listens_for(engine, "connect")
    def set_up(raw: Any, _record: object) -> None:
        raw.isolation_level = None  # SQLAlchemy says BEGIN below, not the driver at some later time
        raw.execute("PRAGMA foreign_keys = ON")
        if not read_only:
            _write_ahead(raw)
            raw.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        connection.exec_driver_sql(options.get("suffice_begin", "BEGIN"))

    return engine


def _write_ahead(raw: Any) -> None:
    """Keep a log beside the file; SQLite itself does not wait while another opens a new file."""
    patience_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            raw.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > patience_s:
                raise
            time.sleep(0.01)
        else:
            return


def _postgresql(url: sa.URL) -> sa.Engine:
    try:
        engine = sa.create_engine(
            url,
            pool_timeout=CONNECT_TIMEOUT_S,
            # A pooler in transaction mode hands on no prepared statements.
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "prepare_threshold": None},
        )
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "PostgreSQL needs a driver that is not installed",
            hint="pip install 'suffice[postgres]'",
        ) from error

    @sa.event.listens_for(engine, "handle_error")
    def handle_error(context: sa.ExceptionContext) -> None:
        context.is_disconnect |= leads_nowhere(context.original_exception)

    return engine
