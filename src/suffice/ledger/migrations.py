"""The ledger's schema as numbered steps, each applied once, in one transaction, and recorded."""

import sqlalchemy as sa
from msgspec import Struct

from suffice.errors import LedgerError
from suffice.ledger.books_view import BOOKS
from suffice.ledger.sums_tables import SUMS, TABLES_OF_SUMS

ADVISORY_LOCK = 7_836_342_332  # any constant of our own: two workers must not migrate at once
AUDIT_ORDER_LOCK = 7_836_342_333
EVENTS_LOCK = 7_836_342_334
TAKE_TURNS = "SELECT pg_advisory_xact_lock({})"
TABLES = ("suffice_requests", "suffice_attempts", "suffice_scores")


class Migration(Struct, frozen=True, kw_only=True):
    """One step: statements for every database, then those that only one of them understands.

    `{key}` stands for the database's own counting primary key.
    """

    version: int
    statements: tuple[str, ...]
    sqlite: tuple[str, ...] = ()
    postgresql: tuple[str, ...] = ()


def _sqlite_refuses_changes(table: str) -> tuple[str, ...]:
    return tuple(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        for verb in ("UPDATE", "DELETE")
    )


def _sqlite_refuses_replacing(table: str, match: str) -> str:
    """REPLACE deletes the old row without firing its triggers, so the insert must be refused."""
    statement = """CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table}
        WHEN EXISTS (SELECT 1 FROM {table} WHERE {match})
        BEGIN SELECT RAISE(ABORT, 'already in the ledger'); END"""
    return statement.replace("{table}", table).replace("{match}", match)


def _postgresql_refuses_changes(table: str) -> str:
    return (
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION suffice_append_only()"
    )


def _added(*columns: str) -> tuple[str, ...]:
    return tuple(f"ALTER TABLE suffice_requests ADD COLUMN {column}" for column in columns)


MIGRATIONS = (
    Migration(
        version=1,
        statements=(
            """CREATE TABLE suffice_requests (
                id {key},
                request_id TEXT NOT NULL UNIQUE,
                time_us BIGINT NOT NULL,
                status TEXT NOT NULL,
                rung TEXT,
                reference_rung TEXT NOT NULL,
                vector TEXT NOT NULL,
                group_name TEXT,
                conversation_id TEXT,
                key_id TEXT,
                audited BOOLEAN NOT NULL,
                charge_picousd BIGINT,
                charge_estimated BOOLEAN NOT NULL,
                reference_picousd BIGINT,
                reference_known TEXT NOT NULL,
                certificate_id TEXT,
                error TEXT,
                text TEXT
            )""",
            "CREATE INDEX suffice_requests_time ON suffice_requests (time_us)",
            """CREATE TABLE suffice_attempts (
                id {key},
                request_id TEXT NOT NULL REFERENCES suffice_requests (request_id),
                ordinal INTEGER NOT NULL,
                role TEXT NOT NULL,
                rung TEXT NOT NULL,
                time_us BIGINT NOT NULL,
                input_tokens BIGINT,
                input_source TEXT,
                cache_read_tokens BIGINT,
                cache_read_source TEXT,
                cache_write_tokens BIGINT,
                cache_write_source TEXT,
                output_tokens BIGINT,
                output_source TEXT,
                reasoning_tokens BIGINT,
                reasoning_source TEXT,
                charge_picousd BIGINT,
                charge_estimated BOOLEAN NOT NULL,
                price TEXT,
                finish TEXT,
                duration_s DOUBLE PRECISION,
                ttft_s DOUBLE PRECISION,
                mean_logprob DOUBLE PRECISION,
                effort_seen BOOLEAN,
                error TEXT,
                answer TEXT,
                samples TEXT,
                UNIQUE (request_id, ordinal)
            )""",
            """CREATE UNIQUE INDEX suffice_attempts_audit
                ON suffice_attempts (request_id, rung) WHERE role = 'audit'""",
            """CREATE TABLE suffice_scores (
                id {key},
                request_id TEXT NOT NULL REFERENCES suffice_requests (request_id),
                rung TEXT,
                quality DOUBLE PRECISION NOT NULL CHECK (quality BETWEEN 0 AND 1),
                label TEXT NOT NULL,
                time_us BIGINT NOT NULL
            )""",
            "CREATE INDEX suffice_scores_request ON suffice_scores (request_id)",
            BOOKS.replace("{on_path}", "role <> 'audit'"),
        ),
        sqlite=(
            *(statement for table in TABLES for statement in _sqlite_refuses_changes(table)),
            _sqlite_refuses_replacing(
                "suffice_requests", "request_id = NEW.request_id OR id = NEW.id"
            ),
            _sqlite_refuses_replacing(
                "suffice_attempts",
                "id = NEW.id OR request_id = NEW.request_id AND "
                "(ordinal = NEW.ordinal OR role = 'audit' AND NEW.role = 'audit' "
                "AND rung = NEW.rung)",
            ),
            _sqlite_refuses_replacing("suffice_scores", "id = NEW.id"),
        ),
        postgresql=(
            """CREATE FUNCTION suffice_append_only() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$""",
            *(_postgresql_refuses_changes(table) for table in TABLES),
        ),
    ),
    Migration(
        version=2,
        statements=(
            """CREATE INDEX suffice_requests_audited
                ON suffice_requests (certificate_id, id) WHERE audited""",
            """CREATE INDEX suffice_attempts_audits
                ON suffice_attempts (time_us) WHERE role = 'audit'""",
        ),
    ),
    Migration(
        version=3,
        statements=("ALTER TABLE suffice_attempts ADD COLUMN reasoning TEXT",),
    ),
    Migration(
        version=4,
        statements=(
            "ALTER TABLE suffice_attempts ADD COLUMN usage_kinds TEXT",
            "ALTER TABLE suffice_attempts ADD COLUMN service_tier TEXT",
            "ALTER TABLE suffice_attempts ADD COLUMN stated_picousd BIGINT",
        ),
    ),
    Migration(  # no books: clients may erase these rows, and time does
        version=5,
        statements=(
            """CREATE TABLE suffice_states (
                id {key},
                state_id TEXT NOT NULL UNIQUE,
                key_id TEXT NOT NULL,
                previous_id TEXT,
                conversation_id TEXT,
                time_us BIGINT NOT NULL,
                expires_us BIGINT NOT NULL,
                body TEXT NOT NULL
            )""",
            "CREATE INDEX suffice_states_conversation ON suffice_states (conversation_id)",
            "CREATE INDEX suffice_states_expiry ON suffice_states (expires_us)",
        ),
    ),
    Migration(
        version=6,
        statements=(
            """CREATE TABLE suffice_certificates (
                id {key},
                certificate_id TEXT NOT NULL UNIQUE,
                time_us BIGINT NOT NULL,
                document TEXT NOT NULL
            )""",
        ),
        sqlite=(
            *_sqlite_refuses_changes("suffice_certificates"),
            _sqlite_refuses_replacing(
                "suffice_certificates", "id = NEW.id OR certificate_id = NEW.certificate_id"
            ),
        ),
        postgresql=(_postgresql_refuses_changes("suffice_certificates"),),
    ),
    Migration(  # suffice_sessions is no book either: it says what caches may hold
        version=7,
        statements=(
            "ALTER TABLE suffice_requests ADD COLUMN session_id TEXT",
            """CREATE INDEX suffice_requests_session
                ON suffice_requests (session_id, time_us) WHERE session_id IS NOT NULL""",
            """CREATE TABLE suffice_sessions (
                session_id TEXT NOT NULL,
                agent TEXT NOT NULL,
                time_us BIGINT NOT NULL,
                body TEXT NOT NULL,
                PRIMARY KEY (session_id, agent)
            )""",
            "CREATE INDEX suffice_sessions_time ON suffice_sessions (time_us)",
        ),
    ),
    Migration(
        version=8,
        statements=(
            """CREATE TABLE suffice_accounts (
                key_id TEXT PRIMARY KEY,
                day BIGINT NOT NULL,
                booked_picousd BIGINT NOT NULL,
                unknown_picousd BIGINT NOT NULL,
                requests_left DOUBLE PRECISION,
                requests_at_s DOUBLE PRECISION NOT NULL,
                tokens_left DOUBLE PRECISION,
                tokens_at_s DOUBLE PRECISION NOT NULL
            )""",
            """CREATE TABLE suffice_reservations (
                request_id TEXT PRIMARY KEY,
                key_id TEXT NOT NULL,
                day BIGINT NOT NULL,
                picousd BIGINT NOT NULL,
                tokens BIGINT NOT NULL,
                until_s DOUBLE PRECISION NOT NULL
            )""",
            "CREATE INDEX suffice_reservations_key ON suffice_reservations (key_id)",
            """CREATE INDEX suffice_requests_key
                ON suffice_requests (key_id, time_us, request_id, charge_picousd)""",
        ),
    ),
    Migration(
        version=9,
        statements=(
            """CREATE TABLE suffice_events (
                id {key},
                time_us BIGINT NOT NULL,
                subject TEXT NOT NULL,
                state TEXT,
                origin TEXT NOT NULL
            )""",
        ),
        sqlite=_sqlite_refuses_changes("suffice_events"),
        postgresql=(_postgresql_refuses_changes("suffice_events"),),
    ),
    Migration(
        version=10,
        statements=("ALTER TABLE suffice_attempts ADD COLUMN check_passed BOOLEAN",),
    ),
    Migration(
        version=11,
        statements=(
            "ALTER TABLE suffice_requests ADD COLUMN tag TEXT",
            "CREATE INDEX suffice_attempts_time ON suffice_attempts (time_us)",
            "CREATE INDEX suffice_requests_audits ON suffice_requests (id) WHERE audited",
        ),
    ),
    Migration(
        version=12,
        statements=(
            """CREATE TABLE suffice_outcomes (
                id {key}, session_id TEXT NOT NULL, kind TEXT NOT NULL,
                score DOUBLE PRECISION NOT NULL, key_id TEXT, time_us BIGINT NOT NULL,
                UNIQUE (session_id, kind)
            )""",
        ),
        sqlite=_sqlite_refuses_changes("suffice_outcomes"),
        postgresql=(_postgresql_refuses_changes("suffice_outcomes"),),
    ),
    Migration(
        version=13,
        statements=_added("turn INTEGER", "arm TEXT", "arm_chance DOUBLE PRECISION", "wish TEXT"),
    ),
    Migration(
        version=14,
        statements=(
            """CREATE TABLE suffice_reserves (
                request_id TEXT NOT NULL, account TEXT NOT NULL,
                time_us BIGINT NOT NULL, picousd BIGINT NOT NULL,
                PRIMARY KEY (account, request_id)
            )""",
        ),
    ),
    Migration(  # sums of rows that are there: no books, and made again at will
        version=15,
        statements=(
            *(f"DROP TABLE IF EXISTS {name}" for name in ("suffice_rollup_marks", *SUMS)),
            """CREATE TABLE suffice_rollup_marks (
                id INTEGER PRIMARY KEY,
                requests_id BIGINT NOT NULL,
                attempts_id BIGINT NOT NULL,
                hourly_from BIGINT NOT NULL
            )""",
            "INSERT INTO suffice_rollup_marks VALUES (1, 0, 0, 0)",
        ),
        sqlite=tuple(f"{statement} WITHOUT ROWID" for statement in TABLES_OF_SUMS),
        postgresql=TABLES_OF_SUMS,
    ),
    Migration(
        version=16,
        statements=(
            *_added("shadow_chance DOUBLE PRECISION"),
            "DROP VIEW suffice_books",
            BOOKS.replace("{on_path}", "role NOT IN ('audit', 'shadow')"),
        ),
    ),
    Migration(
        version=17,
        statements=(
            """CREATE TABLE suffice_watches (
                watch_id TEXT PRIMARY KEY, last_id BIGINT NOT NULL,
                time_us BIGINT NOT NULL, body TEXT NOT NULL
            )""",
        ),
    ),
)

_KEYS = {
    "sqlite": "INTEGER PRIMARY KEY",
    "postgresql": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
}


def take_turns(connection: sa.Connection, lock: int) -> None:
    """Wait for other holders of a lock until the transaction ends; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(TAKE_TURNS.format(lock))


def migrate(connection: sa.Connection, *, where: str, now_us: int) -> None:
    """Bring a ledger up to date inside the caller's transaction; it needs the write lock.

    Raises LedgerError for a ledger that is newer than this program, and for a SQLite file that
    holds something else.
    """
    take_turns(connection, ADVISORY_LOCK)
    version = version_of(connection, where=where)
    if version == 0:
        connection.exec_driver_sql(
            "CREATE TABLE suffice_migrations (version INTEGER PRIMARY KEY, time_us BIGINT NOT NULL)"
        )
    for step in MIGRATIONS:
        if step.version > version:
            _apply(step, connection)
            connection.execute(
                sa.text("INSERT INTO suffice_migrations VALUES (:version, :now_us)"),
                {"version": step.version, "now_us": now_us},
            )


def version_of(connection: sa.Connection, *, where: str) -> int:
    """Read the version of a ledger, 0 for an empty database; raises LedgerError as migrate does."""
    tables = sa.inspect(connection).get_table_names()
    if "suffice_migrations" not in tables:
        if tables and connection.dialect.name == "sqlite":
            raise LedgerError(
                f"{where} is a SQLite database but not a ledger",
                hint="name another file; nothing was changed in this one",
            )
        return 0
    version = connection.exec_driver_sql("SELECT MAX(version) FROM suffice_migrations").scalar_one()
    latest = MIGRATIONS[-1].version
    if version > latest:
        raise LedgerError(
            f"{where} has ledger version {version}; this suffice reads up to {latest}",
            hint="upgrade suffice; nothing was changed in the ledger",
        )
    return int(version)


def _apply(step: Migration, connection: sa.Connection) -> None:
    dialect = connection.dialect.name
    for statement in (*step.statements, *getattr(step, dialect)):
        connection.exec_driver_sql(statement.replace("{key}", _KEYS[dialect]))
