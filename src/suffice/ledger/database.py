"""The open ledger: a database behind a lock, appended to in whole transactions."""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from suffice.errors import InputError, LedgerError
from suffice.ledger import migrations, schema
from suffice.ledger.connections import ledger_engine, ledger_url
from suffice.ledger.failures import leads_nowhere, translated
from suffice.ledger.patience import Patience
from suffice.ledger.records import OFF_PATH, Attempt, Entry, Score
from suffice.ledger.redaction import Redact, redacted_attempt, redacted_entry

WRITE_TIMEOUT_S = 10.0  # for a transaction, while requests wait for it
READ_TIMEOUT_S = 300.0  # for a report
_PATIENCE = Patience()


class Ledger:
    """An append-only log in SQLite (WAL) or PostgreSQL; one may be shared between threads.

    Calls block while they wait for the disk or for another writer: keep them off an event loop.

    What `append` returned for survives a kill of the process; with `fsync`, a power cut too
    (PostgreSQL always keeps its own promise). All methods raise LedgerError, `retryable` where
    the same call may succeed later; a refused call has written nothing.
    """

    def __init__(
        self, engine: sa.Engine, *, where: str, store_text: bool, redact: Redact | None = None
    ) -> None:
        self.where = where
        self.store_text = store_text
        self._redact = redact
        self._engine = engine
        self._lock = threading.Lock()
        self._file: tuple[Path, os.stat_result] | None = None  # of SQLite, as it was opened
        self._is_postgresql = engine.dialect.name == "postgresql"
        self._insert_into = _inserts(engine.dialect)

    @classmethod
    def open(
        cls,
        where: str | os.PathLike[str],
        *,
        read_only: bool = False,
        fsync: bool = False,
        store_text: bool = False,
        redact: Redact | None = None,
    ) -> Self:
        """Open a path or a database URL, creating or upgrading the ledger unless `read_only`.

        With `store_text`, prompts and answers are kept: `suffice recertify` needs those of audited
        requests. All texts go through `redact` before. Raises LedgerError, and MissingExtra for
        PostgreSQL without its driver.
        """
        url = ledger_url(where)
        name = url.database if url.drivername == "sqlite" else url.render_as_string()
        ledger = cls(
            ledger_engine(url, read_only=read_only, fsync=fsync),
            where=str(name),
            store_text=store_text,
            redact=redact,
        )
        try:
            ledger._prepare(read_only=read_only)
            if url.drivername == "sqlite" and url.database:
                path = Path(url.database)
                ledger._file = path, path.stat()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def append(self, entry: Entry) -> None:
        """Write one request; raises LedgerError when its id is in the ledger already."""
        self.append_many([entry])

    def append_many(self, entries: Iterable[Entry]) -> None:
        """Write requests in one transaction: all of them or, on an error, none.

        With no entries it raises what any entry would meet: tables that are away, missing rights.
        """
        rows, attempts, audited = [], [], False
        for original in entries:
            entry = original if self._redact is None else redacted_entry(original, self._redact)
            audited |= entry.audited
            rows.append(schema.request_row(entry, store_text=self.store_text))
            attempts += [
                schema.attempt_row(
                    attempt,
                    request_id=entry.request_id,
                    ordinal=ordinal,
                    at=entry.time,
                    store_text=self.store_text,
                )
                for ordinal, attempt in enumerate(entry.attempts)
            ]
        self._insert((schema.requests, rows), (schema.attempts, attempts), in_order=audited)

    def unwritten(self, entries: Iterable[Entry]) -> list[Entry]:
        """Leave out what is in the ledger: a connection may be lost just after its commit."""
        missing = {entry.request_id: entry for entry in entries}
        column = schema.requests.c.request_id
        query = sa.select(column).where(column.in_(list(missing)))
        with self.reading() as connection:
            for request_id in connection.execute(query).scalars():
                del missing[request_id]
        return list(missing.values())

    def audit(self, request_id: str, attempt: Attempt) -> None:
        """Add what another rung answered to a request that is in the ledger, off its path."""
        if attempt.role not in OFF_PATH:
            raise InputError(
                f"an attempt of role {attempt.role.value!r} cannot be added to {request_id}",
                hint="only audits and shadows come after their request",
            )
        row = schema.attempt_row(
            attempt if self._redact is None else redacted_attempt(attempt, self._redact),
            request_id=request_id,
            ordinal=0,
            at=datetime.now(UTC),
            store_text=self.store_text,
        )
        with self.writing() as connection:
            connection.execute(_HOLD_REQUEST, row)
            row["ordinal"] = connection.execute(_NEXT_ORDINAL, row).scalar_one()
            connection.execute(sa.insert(schema.attempts), [row])

    def score(self, scores: Iterable[Score]) -> None:
        """Add scores in one transaction; a later score of the same answer counts, not an earlier.

        Raises LedgerError when a request is not in the ledger, InputError for a quality
        outside [0, 1].
        """
        rows = [schema.score_row(score) for score in scores]
        for row in rows:
            if not 0 <= row["quality"] <= 1:
                raise InputError(
                    f"score of {row['request_id']}: quality {row['quality']} is outside [0, 1]",
                    hint="1 is right, 0 is wrong",
                )
        self._insert((schema.scores, rows), in_order=True)

    def keep_certificate(self, certificate_id: str, document: str) -> None:
        """Keep the certificate that requests are answered under, once for all writers."""
        table, at = schema.certificates, schema.time_us(datetime.now(UTC))
        values = sa.select(*map(sa.literal, (certificate_id, at, document)))
        known = sa.exists().where(table.c.certificate_id == certificate_id)
        row = sa.insert(table).from_select(
            ["certificate_id", "time_us", "document"], values.where(~known)
        )
        with self.writing() as connection:
            migrations.take_turns(connection, migrations.AUDIT_ORDER_LOCK)
            connection.execute(row)

    def check_in_place(self) -> None:
        """Raise LedgerError where SQLite's file was moved away: what is written goes on into it.

        Microseconds for each request: looking once a second would lose a second of answers.
        """
        if self._file is None:
            return
        path, opened = self._file
        try:
            in_place = os.path.samestat(path.stat(), opened)
        except OSError:
            in_place = False
        if not in_place:
            raise LedgerError(
                f"{self.where} is not the file any more that was opened",
                hint="put it back, or start again with the one that is there",
                retryable=True,
            )

    @property
    def dialect(self) -> str:
        """The database's kind: `sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Lend a connection for queries that sees one state of the ledger throughout."""
        snapshot = {"isolation_level": "REPEATABLE READ"} if self._is_postgresql else {}
        with (
            translated(self.where),
            self._engine.connect() as connection,
            self._within(READ_TIMEOUT_S, connection),
        ):
            yield connection.execution_options(**snapshot)

    def close(self) -> None:
        """Give back every connection; closing twice is harmless."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _insert(self, *tables: tuple[sa.Table, list[schema.Row]], in_order: bool) -> None:
        """Insert all or nothing; rows put in `in_order` show in the order of their ids.

        SQLite has one writer at a time. PostgreSQL gives ids before it commits, so a reader that
        goes on from the last id it saw could miss a row: such writers take turns there.
        """
        with self._inserting() as cursor:
            if in_order and self._is_postgresql:
                cursor.execute(migrations.TAKE_TURNS.format(migrations.AUDIT_ORDER_LOCK))
            for table, rows in tables:
                if rows:
                    cursor.executemany(self._insert_into[table], rows)
                elif not any(rows for _, rows in tables):
                    names = ", ".join(one.name for one in table.columns if one.name != "id")
                    cursor.execute(_NO_ROW.format(table.name, names))

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Lend a connection in a write transaction that commits at the end."""
        alone = nullcontext() if self._is_postgresql else self._lock
        with alone, translated(self.where), self._engine.connect() as connection:
            connection.execution_options(suffice_begin="BEGIN IMMEDIATE")
            with self._within(WRITE_TIMEOUT_S, connection), connection.begin():
                yield connection

    @contextmanager
    def _inserting(self) -> Iterator[Any]:
        """Do as `writing`, and lend the driver's own cursor.

        What SQLAlchemy does around a statement costs more than the statement, and a request that
        comes alone waits for it.
        """
        dialect = self._engine.dialect
        driver_error = dialect.loaded_dbapi.Error
        with (
            self._lock,
            translated(self.where),
            self._engine.connect() as connection,
            self._within(WRITE_TIMEOUT_S, connection),
            closing(connection.connection.cursor()) as cursor,
        ):
            try:
                if not self._is_postgresql:
                    cursor.execute("BEGIN IMMEDIATE")
                yield cursor
                connection.connection.commit()
            except driver_error as error:
                lost = dialect.is_disconnect(error, connection.connection, cursor)
                if lost or leads_nowhere(error):
                    connection.invalidate(error)
                    self._engine.dispose()  # the others are as stale
                raise DBAPIError.instance(
                    None, None, error, driver_error, dialect=dialect
                ) from error

    def _within(self, seconds: float, connection: sa.Connection) -> AbstractContextManager[None]:
        """Break the connection when a block takes longer; SQLite's own timeout bounds its waits."""
        if not self._is_postgresql:
            return nullcontext()
        return _PATIENCE.within(seconds, fileno=connection.connection.fileno())

    def _prepare(self, *, read_only: bool) -> None:
        if not read_only:
            with self.writing() as connection:
                now_us = schema.time_us(datetime.now(UTC))
                migrations.migrate(connection, where=self.where, now_us=now_us)
            return
        with self.reading() as connection:
            version = migrations.version_of(connection, where=self.where)
        if version < migrations.MIGRATIONS[-1].version:
            raise LedgerError(
                f"{self.where} is an older ledger, of version {version}"
                if version
                else f"{self.where} holds no ledger",
                hint="open it for writing once, as `suffice serve` does, to bring it up to date",
            )


_NO_ROW = "INSERT INTO {0} ({1}) SELECT {1} FROM {0} WHERE 1 = 0"
_HOLD_REQUEST = (
    sa.select(schema.requests.c.id)
    .where(schema.requests.c.request_id == sa.bindparam("request_id"))
    .with_for_update()
)
_NEXT_ORDINAL = sa.select(sa.func.coalesce(sa.func.max(schema.attempts.c.ordinal), -1) + 1).where(
    schema.attempts.c.request_id == sa.bindparam("request_id")
)


def _inserts(dialect: sa.Dialect) -> Mapping[sa.Table, str]:
    """Compile each table's insert once: doing so for every request would double a row's cost."""
    if dialect.name not in _INSERTS:
        _INSERTS[dialect.name] = {
            table: str(
                sa.insert(table).compile(
                    dialect=dialect,
                    column_keys=[column.name for column in table.columns if column.name != "id"],
                )
            )
            for table in schema.TABLES
        }
    return _INSERTS[dialect.name]


_INSERTS: dict[str, Mapping[sa.Table, str]] = {}
