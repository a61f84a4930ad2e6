"""How SQLite goes about the queries of some code: the steps that touch the ledger's tables."""

from collections.abc import Callable

import sqlalchemy as sa

from suffice.ledger import Ledger


def plans_of(ledger: Ledger, read: Callable[[], object]) -> list[list[str]]:
    """Return the steps of each query that `read` makes."""
    statements: list[tuple[str, object]] = []

    def note(*event: object) -> None:
        statements.append((str(event[2]), event[3]))

    sa.event.listen(ledger._engine, "before_cursor_execute", note)
    read()
    sa.event.remove(ledger._engine, "before_cursor_execute", note)
    with ledger.reading() as connection:
        return [
            [
                row.detail
                for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + sql, values)
                if "suffice_" in row.detail
            ]
            for sql, values in statements
            if sql.startswith("SELECT")
        ]
