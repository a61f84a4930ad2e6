"""Books whose server becomes a standby: rows wait, none is lost, and a new connection is made."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from benchmarks.gateway.postgres import pooled, replicated
from booked import NOON, answered
from postgres_server import new_schema, postgresql_server, server_binaries

from suffice.errors import LedgerError
from suffice.gateway.group_commit import Books
from suffice.ledger import Ledger, entries
from suffice.ledger.accounts import held_accounts

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
        time.sleep(0.02)


def test_a_read_only_server_is_left_and_asked_again_later(server: str) -> None:
    with Ledger.open(server) as ledger:
        ledger.append(answered("before"))
        read_only(server, on=True)
        for write in (
            lambda: ledger.append(answered("during")),
            lambda: list(held(ledger)),
        ):
            before = backend(ledger)
            with pytest.raises(LedgerError) as caught:
                write()
            assert backend(ledger) != before  # the connection is made anew, to whoever writes now
            assert caught.value.retryable
            assert "target_session_attrs" in (caught.value.hint or "")
        read_only(server, on=False)
        ledger.append(answered("after"))
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
            await books.add(answered("late"))
        assert (books.lost, books.failing is None) == (0, False)
        read_only(server, on=False)
        await books.close()
        assert "late" in {row.request_id for row in entries(ledger)}


@pytest.mark.slow
async def test_books_behind_a_pooler_go_on_with_the_standby() -> None:
    """The pooler is led to the standby; each request is in its books once, the late ones too."""
    with replicated() as servers:
        assert servers is not None
        with pooled(servers.primary.url) as pooler:
            if pooler is None:
                pytest.skip("needs PgBouncer (Debian package pgbouncer)")
            with Ledger.open(pooler.url) as ledger:
                books, names = Books(ledger), [f"r{number}" for number in range(120)]
                waiting = []
                for number, name in enumerate(names):
                    if number == 40:
                        await asyncio.to_thread(servers.primary.kill)
                    if number == 80:
                        await asyncio.to_thread(servers.promote)
                        pooler.repoint(servers.standby.url)
                    waiting.append(books.add(answered(name)))
                    await asyncio.sleep(0.02)
                ends = await asyncio.gather(*waiting, return_exceptions=True)
                assert ends[-1] is None, "the last of them went to the standby"
                await books.close()
                assert books.lost == 0
        with Ledger.open(servers.standby.url, read_only=True) as ledger:
            assert Counter(row.request_id for row in entries(ledger)) == Counter(names)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_rows_wait_for_tables_that_are_being_restored(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What the whole ledger refuses was once taken for a fault of the row, which was lost."""
    where = str(tmp_path / "books.db")
    if backend == "postgresql":
        where = new_schema(request.getfixturevalue("server"))
    with Ledger.open(where) as ledger:
        rename: Callable[[str, str], str] = "ALTER TABLE {} RENAME TO {}".format
        books = Books(ledger)
        with ledger.writing() as connection:
            connection.execute(sa.text(rename("suffice_attempts", "suffice_away")))
        with pytest.raises(LedgerError):
            await books.add(answered("meanwhile"))
        assert (books.lost, books.failing is None) == (0, False)
        with ledger.writing() as connection:
            connection.execute(sa.text(rename("suffice_away", "suffice_attempts")))
        for _ in range(100):
            if books.failing is None:
                break
            await asyncio.sleep(0.02)
        with pytest.raises(LedgerError):  # it is in the books: now the row is to blame, alone
            await books.add(answered("meanwhile"))
        assert (books.lost, books.failing) == (1, None)
        await books.close()
        assert [row.request_id for row in entries(ledger)] == ["meanwhile"]
