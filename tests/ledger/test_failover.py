"""Books whose server becomes a standby: rows wait, none is lost, and a new connection is made."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa
from postgres_server import postgresql_server, server_binaries

from suffice.errors import LedgerError
from suffice.gateway.group_commit import Books
from suffice.ledger import Attempt, Entry, Ledger, Role, Status, entries
from suffice.ledger.accounts import held_accounts
from suffice.types import Charge

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
pytestmark = pytest.mark.skipif(
    server_binaries() is None, reason="needs PostgreSQL (Debian package postgresql)"
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


def read_only(server: str, *, on: bool) -> None:
    """Let the server refuse writes, or take them again, as one does that fails over."""
    engine = sa.create_engine(
        server.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(sa.text("SET default_transaction_read_only = off"))
        connection.execute(
            sa.text(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'}")
        )
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    engine.dispose()
    state = ""
    while state != ("on" if on else "off"):  # who connects after a reload shows that all know of it
        with engine.connect() as connection:
            state = connection.execute(sa.text("SHOW default_transaction_read_only")).scalar_one()
        engine.dispose()


def entry(name: str) -> Entry:
    call = Attempt(rung="low", role=Role.ANSWER, charge=Charge(usd=Decimal("0.001")))
    return Entry(
        request_id=name,
        time=NOON,
        status=Status.OK,
        rung="low",
        reference_rung="high",
        attempts=(call,),
    )


def test_a_read_only_server_is_left_and_asked_again_later(server: str) -> None:
    with Ledger.open(server) as ledger:
        ledger.append(entry("before"))
        read_only(server, on=True)
        for write in (
            lambda: ledger.append(entry("during")),
            lambda: list(held(ledger)),
        ):
            before = backend(ledger)
            with pytest.raises(LedgerError) as caught:
                write()
            assert backend(ledger) != before  # the connection is made anew, to whoever writes now
            assert caught.value.retryable
            assert "target_session_attrs" in (caught.value.hint or "")
        read_only(server, on=False)
        ledger.append(entry("after"))
        list(held(ledger))


def backend(ledger: Ledger) -> int:
    with ledger.reading() as connection:
        return int(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())


def held(ledger: Ledger) -> Iterator[str]:
    with held_accounts(ledger, ["alice"], now=NOON) as page:
        yield from page.held


async def test_rows_wait_for_a_server_that_writes(server: str) -> None:
    """A refusal to write was once taken for one of the row, which was logged and lost."""
    with Ledger.open(server) as ledger:
        books = Books(ledger)
        read_only(server, on=True)
        with pytest.raises(LedgerError):
            await books.add(entry("late"))
        assert (books.lost, books.failing is None) == (0, False)
        read_only(server, on=False)
        await books.close()
        assert "late" in {row.request_id for row in entries(ledger)}
