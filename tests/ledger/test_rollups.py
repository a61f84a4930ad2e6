"""Hourly sums equal the sums over all rows, whatever was written, audited, pruned and erased."""

import random
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from postgres_server import new_books

from suffice.cli.main import main
from suffice.ledger import (
    Attempt,
    Entry,
    Ledger,
    ReferenceKnown,
    Role,
    Status,
    Window,
    audit_spend,
    audited_costs,
    calls,
    flow,
    rollups,
    totals,
    traffic,
)
from suffice.ledger.measures import REQUESTS, rollup_marks
from suffice.ledger.retention import erase, prune
from suffice.ledger.rollup_statements import OTHERS
from suffice.ledger.rollups import advance, clear
from suffice.types import Charge, Count, CountSource, Usage, Vector

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REQUEST_KEYS = (
    None, "rung", "reference_rung", "vector", "group", "day", "status", "key_id", "tag",
    "certificate_id",
)  # fmt: skip
CALL_KEYS = (None, "rung", "role", "group", "day")


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_books(request.param, tmp_path, request)


@pytest.fixture
def ledger(where: str) -> Iterator[Ledger]:
    with Ledger.open(where) as books:
        yield books


class Traffic:
    """Random requests, some of them at ends of hours and some late, and audits of older ones."""

    def __init__(self, ledger: Ledger, *, seed: int) -> None:
        self.ledger = ledger
        self.random = random.Random(seed)
        self.known: list[Entry] = []

    def charge(self) -> Charge:
        amounts = (None, Decimal(0), Decimal("0.000000000001"), Decimal("4000000"))
        return Charge(
            usd=self.random.choice([*amounts, Decimal(self.random.randint(1, 10**9)) / 10**9]),
            estimated=self.random.random() < 0.3,
        )

    def moment(self) -> datetime:
        at = NOON + timedelta(seconds=self.random.randint(-30 * 3600, 30 * 3600))
        return at.replace(minute=0, second=0) if self.random.random() < 0.2 else at

    def call(self, rung: str, role: Role, at: datetime) -> Attempt:
        def count() -> Count | None:
            tokens = Count(self.random.randint(0, 10**6), self.random.choice(list(CountSource)))
            return tokens if self.random.random() < 0.8 else None

        return Attempt(
            rung=rung,
            role=role,
            charge=self.charge(),
            time=at + timedelta(seconds=self.random.randint(0, 5000)),
            usage=Usage(input_tokens=count(), output_tokens=count(), reasoning_tokens=count()),
            error="it broke" if self.random.random() < 0.1 else None,
        )

    def request(self) -> Entry:
        choose = self.random.choice
        at, rung = self.moment(), choose(["low", "mid:1", "high", None])
        attempts = [self.call("low", Role.DISCARDED, at)] * (self.random.random() < 0.3)
        attempts += [] if rung is None else [self.call(rung, Role.ANSWER, at)]
        return Entry(
            request_id=uuid.UUID(int=self.random.getrandbits(128)).hex,
            time=at,
            status=choose(list(Status)),
            rung=rung,
            reference_rung=choose(["high", "other"]),
            attempts=tuple(attempts),
            vector=choose(list(Vector)),
            group=choose([None, "", "=", "sums", "code\u00e9"]),
            key_id=choose([None, "alice", "bob"]),
            tags=choose([(), ("team a",), ("team b",), ("team a", "team b")]),
            audited=self.random.random() < 0.4,
            shadow_chance=0.1 if self.random.random() < 0.2 else None,
            reference_usd=self.charge().usd,
            reference_known=choose(list(ReferenceKnown)),
            certificate_id=choose([None, "c1"]),
        )

    def go_on(self, *, requests: int) -> None:
        fresh = [self.request() for _ in range(requests)]
        self.ledger.append_many(fresh)
        for entry in self.random.sample(self.known, min(len(self.known), requests // 3)):
            rung = self.random.choice(["high", "other"])
            if not any(a.role is Role.AUDIT and a.rung == rung for a in entry.attempts):
                audit = self.call(rung, Role.AUDIT, entry.time)
                self.ledger.audit(entry.request_id, audit)
                at = next(i for i, e in enumerate(self.known) if e.request_id == entry.request_id)
                self.known[at] = replace(entry, attempts=(*entry.attempts, audit))
        self.known += fresh


def windows(rng: random.Random) -> list[Window]:
    ends = sorted(NOON + timedelta(seconds=rng.randint(-40 * 3600, 40 * 3600)) for _ in range(2))
    hour, minutes = timedelta(hours=1), timedelta(minutes=7)
    return [
        Window(),
        Window(since=ends[0], until=ends[1]),
        Window(since=NOON - hour, until=NOON + 2 * minutes),
        Window(since=NOON + minutes, until=NOON + 40 * minutes),
    ]


def questions(ledger: Ledger, spans: list[Window]) -> list[object]:
    """Ask by every key once over all time, and by some of them over each stretch of it."""
    answers: list[object] = []
    for turn, window in enumerate(spans):
        by_call, by_request = CALL_KEYS[turn % len(CALL_KEYS) :][:1], REQUEST_KEYS[turn::5]
        answers += [totals(ledger, by=by, window=window) for by in by_request]
        answers += [calls(ledger, by=by, window=window) for by in by_call]
        answers += [flow(ledger, window=window), audit_spend(ledger, window=window)]
        answers += [traffic(ledger, window=window), audited_costs(ledger, window=window)]
    return answers


def without_sums(ledger: Ledger, spans: list[Window]) -> list[object]:
    clear(ledger)
    return questions(ledger, spans)


@pytest.mark.parametrize(("audited", "hourly_days"), [(True, 40), (False, 100_000)])
def test_kept_sums_equal_sums_over_all_rows(
    ledger: Ledger, audited: bool, hourly_days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "FIRST_BATCH", 17)
    monkeypatch.setattr(rollups, "BATCH", 17)
    monkeypatch.setattr(rollups, "HOURLY_DAYS", min(hourly_days, int(time.time() // 86_400)))
    world, rng = Traffic(ledger, seed=audited), random.Random(audited)
    spans = windows(rng)
    for within_s in (60.0, 0.0):
        world.go_on(requests=24)
        advance(ledger, within_s=within_s)
        world.go_on(requests=10)
    kept = questions(ledger, spans)
    assert advance(ledger)
    assert questions(ledger, spans) == kept
    world.go_on(requests=10)
    removed = prune(ledger, before=NOON - timedelta(hours=3), sampled=audited)
    assert removed
    erase(ledger, key_id="alice")
    kept = questions(ledger, spans)
    assert kept == without_sums(ledger, spans)


def test_what_is_pruned_leaves_no_sums(ledger: Ledger) -> None:
    Traffic(ledger, seed=5).go_on(requests=20)
    assert advance(ledger)
    assert prune(ledger, before=NOON + timedelta(days=9), sampled=True) == 20
    with ledger.reading() as connection:
        assert (
            connection.execute(sa.select(sa.func.count()).select_from(REQUESTS.table)).scalar_one()
            == 0
        )


def test_hours_long_past_are_forgotten_and_change_no_answer(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "HOURLY_DAYS", 10_000)
    world, spans = Traffic(ledger, seed=6), windows(random.Random(6))
    world.go_on(requests=30)
    assert advance(ledger)
    kept = questions(ledger, spans)
    assert rows_of_sums(ledger, hours=1)
    monkeypatch.setattr(rollups, "HOURLY_DAYS", 40)
    world.go_on(requests=1)
    assert advance(ledger)
    assert not rows_of_sums(ledger, hours=1)
    assert rows_of_sums(ledger, hours=24)
    kept = questions(ledger, spans)
    assert kept == without_sums(ledger, spans)


def rows_of_sums(ledger: Ledger, *, hours: int) -> int:
    table = REQUESTS.table
    query = sa.select(sa.func.count()).select_from(table).where(table.c.hours == hours)
    with ledger.reading() as connection:
        return int(connection.execute(query).scalar_one())


def test_words_of_clients_cannot_make_the_sums_as_large_as_the_rows(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "FIRST_BATCH", 7)
    monkeypatch.setattr(rollups, "BATCH", 7)
    monkeypatch.setattr(rollups, "MOST_VALUES", 3)
    world = Traffic(ledger, seed=7)
    entries = [
        replace(world.request(), time=NOON, tags=(f"tag {i % 20}",), group=f"group {i % 15}")
        for i in range(60)
    ]
    ledger.append_many(entries)
    whole = totals(ledger)
    assert advance(ledger)
    assert totals(ledger) == whole
    for by in ("tag", "group"):
        kept = totals(ledger, by=by)  # type: ignore[arg-type]
        assert len(kept) == 4
        assert OTHERS in {row.key for row in kept}
        assert sum(row.requests for row in kept) == 60
        for row in kept:
            if row.key != OTHERS:
                assert row.requests == sum(row.key in (e.group, *e.tags) for e in entries)
    assert OTHERS in {row.key for row in calls(ledger, by="group")}
    assert prune(ledger, before=NOON + timedelta(days=1), sampled=True) == 60
    assert not rows_of_sums(ledger, hours=24)


def test_a_writer_that_commits_late_is_summed_once(ledger: Ledger) -> None:
    """PostgreSQL gives ids before it commits: a later row must not carry the mark past this one."""
    if "books.db" in ledger.where:
        pytest.skip("SQLite has one writer at a time")
    world = Traffic(ledger, seed=1)
    late, began = threading.Event(), threading.Event()

    def write_late() -> None:
        with ledger.writing() as connection:
            row = {**rollups_row(world.request())}
            connection.execute(sa.insert(REQUESTS.rows), [row])  # type: ignore[arg-type]
            began.set()
            late.wait(10)

    writer = threading.Thread(target=write_late)
    writer.start()
    began.wait(10)
    world.go_on(requests=5)
    before_s = time.monotonic()
    assert not advance(ledger, within_s=5.0)
    assert time.monotonic() - before_s < 3
    late.set()
    writer.join()
    assert advance(ledger)
    assert totals(ledger)[0].requests == 6
    with ledger.reading() as connection:
        assert connection.execute(sa.select(rollup_marks.c.requests_id)).scalar_one() == 6


def rollups_row(entry: Entry) -> dict[str, object]:
    from suffice.ledger.schema import request_row

    return request_row(entry, store_text=False)


def test_the_command_sums_a_whole_ledger(
    ledger: Ledger, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Traffic(ledger, seed=2).go_on(requests=9)
    for flags in ([], ["--rebuild"]):
        with pytest.raises(SystemExit) as end:
            main(["ledger", "rollup", where, *flags])
        assert end.value.code == 0, capsys.readouterr().err
        with ledger.reading() as connection:
            assert connection.execute(sa.select(rollup_marks.c.requests_id)).scalar_one() == 9
