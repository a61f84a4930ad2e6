"""Old rows leave whole, words are erased and money is not, and the books stay append-only."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from postgres_server import new_books

from suffice.cli.main import main
from suffice.errors import LedgerError
from suffice.ledger import (
    Attempt,
    Entry,
    Label,
    Ledger,
    Role,
    Score,
    Status,
    entries,
    retention,
    scores_of,
    totals,
)
from suffice.ledger.measures import MEASURES
from suffice.ledger.retention import erase, prune
from suffice.ledger.rollup_statements import taking_out
from suffice.types import Charge

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    where = new_books(request.param, tmp_path, request)
    with Ledger.open(where, store_text=True) as books:
        yield books


def fill(ledger: Ledger) -> None:
    for day in range(10):
        call = Attempt(
            rung="small",
            role=Role.ANSWER,
            charge=Charge(usd=Decimal(1)),
            answer="secret answer",
            reasoning="secret thought",
        )
        ledger.append(
            Entry(
                request_id=f"r{day}",
                time=NOW - timedelta(days=day),
                status=Status.OK,
                rung="small",
                reference_rung="big",
                attempts=(call,),
                key_id="alice" if day % 2 else "bob",
                conversation_id=f"c{day % 3}",
                audited=day == 9,
                shadow_chance=0.05 if day == 6 else None,
                text="secret prompt",
            )
        )
    ledger.score([Score(request_id="r8", time=NOW, quality=1.0, label=Label.FEEDBACK)])


def test_old_requests_leave_with_all_that_belongs_to_them(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_BATCH", 2)
    fill(ledger)
    assert prune(ledger, before=NOW - timedelta(days=4, hours=1)) == 3
    assert {row.request_id for row in entries(ledger)} == {"r0", "r1", "r2", "r3", "r4", "r6", "r9"}
    assert not scores_of(ledger)
    assert prune(ledger, before=NOW - timedelta(days=4, hours=1), sampled=True) == 2
    with pytest.raises(LedgerError), ledger.writing() as connection:
        connection.exec_driver_sql("DELETE FROM suffice_requests")


@pytest.mark.parametrize(
    ("who", "count"), [({"key_id": "alice"}, 5), ({"conversation_id": "c0"}, 4)]
)
def test_words_are_erased_and_the_money_stays(
    ledger: Ledger, who: dict[str, str], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_BATCH", 2)
    fill(ledger)
    before = totals(ledger)
    assert erase(ledger, **who) == count
    blank = [row for row in entries(ledger) if row.text is None]
    assert len(blank) == count
    assert not any(row.conversation_id for row in blank)
    assert "secret" not in repr(blank)
    assert totals(ledger) == before


def test_the_tables_are_exported_as_parquet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger.open(tmp_path / "books.db", store_text=True) as books:
        fill(books)
    with pytest.raises(SystemExit) as end:
        main(["ledger", "export", str(tmp_path / "books.db"), "--out", str(tmp_path / "out")])
    assert end.value.code == 0, capsys.readouterr().err
    with duckdb.connect() as database:
        read: Callable[[str], object] = lambda query: database.execute(query).fetchone()  # noqa: E731
        rows = read(
            "SELECT count(*), sum(charge_picousd), min(time_us), bool_or(audited)"
            f" FROM '{tmp_path / 'out' / 'suffice_requests.parquet'}'"
        )
    first_us = int((NOW - timedelta(days=9)).timestamp()) * 1_000_000
    assert rows == (10, 10 * 10**12, first_us, True)


def test_a_batch_that_leaves_is_found_by_its_ids(tmp_path: Path) -> None:
    """Else each batch of 5,000 requests reads every call of a ledger of millions."""
    with Ledger.open(tmp_path / "books.db") as books, books.reading() as connection:
        values = {"before_us": 9, "first": 1, "last": 5, "mark": 7, "from_us": 0}
        for measure in MEASURES:
            for sql, constants in taking_out(measure, "sqlite", sampled=False):
                plan = "EXPLAIN QUERY PLAN " + sql
                rows = connection.exec_driver_sql(plan, {**constants, **values})
                steps = [row.detail for row in rows if "suffice_" in row.detail]
                reads = [step for step in steps if "sums" not in step]
                assert re.search(r"\b(row)?id>\? AND (row)?id<\?", reads[0]), reads
                assert not [step for step in reads if step.startswith("SCAN")], reads
