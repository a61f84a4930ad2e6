"""New SQLite ledgers by the schema that the migrations came to, without going through each of them.

Some thousand tests make a ledger; only those of the migrations themselves need every step.
"""

import sqlalchemy as sa

from suffice.ledger import migrations

MIGRATIONS = migrations.MIGRATIONS
migrate = migrations.migrate
_dump: list[str] = []


def migrate_quickly(connection: sa.Connection, *, where: str, now_us: int) -> None:
    """Do as `migrate`; an empty SQLite database gets the tables and rows of a migrated one."""
    usual = connection.dialect.name == "sqlite" and migrations.MIGRATIONS is MIGRATIONS
    if not usual or connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar():
        migrate(connection, where=where, now_us=now_us)
        return
    raw = connection.connection.driver_connection
    assert raw is not None
    for statement in _dump or migrated():
        raw.execute(statement)


def migrated() -> list[str]:
    """Migrate a database in memory, and keep the statements that make it again."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        migrate(connection, where="memory", now_us=0)
        raw = connection.connection.driver_connection
        assert raw is not None
        _dump.extend(
            line for line in raw.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;")
        )
    engine.dispose()
    return _dump
