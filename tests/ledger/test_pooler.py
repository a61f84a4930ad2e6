"""Books behind PgBouncer in transaction mode: every transaction may meet another connection."""

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from benchmarks.gateway.postgres import pooled
from booked import NOON, answered
from postgres_server import postgresql_server, server_binaries

from suffice.errors import LedgerError
from suffice.ledger import (
    Attempt,
    Label,
    Ledger,
    Role,
    Score,
    entries,
    scores_of,
    totals,
)
from suffice.ledger.accounts import Reservation, held_accounts
from suffice.ledger.retention import prune
from suffice.ledger.rollups import advance
from suffice.types import Charge

WRITERS, EACH = 8, 8
POOLER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
pytestmark = pytest.mark.skipif(
    server_binaries() is None or not Path(POOLER).exists(),
    reason="needs PostgreSQL and PgBouncer (Debian packages postgresql and pgbouncer)",
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.mark.slow
def test_gateways_share_the_books_through_a_pooler(server: str) -> None:
    def write(ledger: Ledger, writer: int) -> None:
        audit = Attempt(rung="high", role=Role.AUDIT, charge=Charge(usd=Decimal("0.01")))
        for at in range(EACH):
            name = f"{writer}-{at}"
            with held_accounts(ledger, ["alice"], now=NOON) as page:
                page.reserve(Reservation(request_id=name, key_id="alice", day=page.day, until_s=0))
            ledger.append(answered(name, key_id="alice", audited=True))
            ledger.audit(name, audit)
            ledger.score([Score(request_id=name, time=NOON, quality=1.0, label=Label.AGREEMENT)])
            if at % 10 == 0:
                advance(ledger, within_s=0.0)
            totals(ledger, by="key_id")

    with pooled(server) as pooler:
        assert pooler is not None
        ledgers = [Ledger.open(pooler.url) for _ in range(2)]
        with ThreadPoolExecutor(WRITERS) as pool:
            tasks = [pool.submit(write, ledgers[i % 2], i) for i in range(WRITERS)]
            for task in tasks:
                task.result()
        books = ledgers[0]
        while not advance(books):
            time.sleep(0.05)
        (whole,) = totals(books)
        assert (
            whole.requests == len(list(entries(books))) == len(scores_of(books)) == WRITERS * EACH
        )
        assert whole.spend.known_usd == Decimal("0.064")
        assert whole.reference.reported_usd == Decimal("0.64")
        assert prune(books, before=NOON + timedelta(days=1), sampled=True) == WRITERS * EACH
        assert totals(books)[0].requests == 0
        for ledger in ledgers:
            ledger.close()


def test_the_books_go_on_after_a_pooler_that_was_restarted(server: str) -> None:
    with pooled(server) as pooler:
        assert pooler is not None
        ledger = Ledger.open(pooler.url)
        ledger.append(answered("before"))
    with pytest.raises(LedgerError) as caught:
        ledger.append(answered("while it is away"))
    assert caught.value.retryable
    ledger.close()
    with pooled(server) as pooler:
        assert pooler is not None
        with Ledger.open(pooler.url) as again:
            again.append(answered("after"))
            assert {row.request_id for row in entries(again)} >= {"before", "after"}
