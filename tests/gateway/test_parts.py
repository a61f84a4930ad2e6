"""The parts of the gateway alone: group commit, slots, breaker, conversations."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from suffice.certify.bundling import Certification
from suffice.config import GatewayConfig, parse_config
from suffice.engines.replay import ReplayEngine
from suffice.errors import EngineRefused, EngineUnreachable, LedgerError
from suffice.gateway.concurrency import CLIENT, Breaker, Places, Slots
from suffice.gateway.group_commit import Books
from suffice.gateway.problems import Problem
from suffice.gateway.route import Conversations, leaving_pays
from suffice.ledger import Attempt, Entry, Ledger, Role, Status, entries
from suffice.pipeline import build_pipeline
from suffice.sessions.identity import agent_of
from suffice.types import Charge, Count, CountSource, Request, Rung, Usage
from support import CONFIG


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "books.db") as opened:
        yield opened


def entry(request_id: str) -> Entry:
    return Entry(
        request_id=request_id, time=datetime.now(UTC), status=Status.OK, reference_rung="big"
    )


async def test_many_entries_go_into_few_transactions(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, append_many = [], Ledger.append_many

    def counted(self: Ledger, batch: list[Entry]) -> None:
        batches.append(len(batch))
        append_many(self, batch)

    monkeypatch.setattr(Ledger, "append_many", counted)
    books = Books(ledger)
    await asyncio.gather(*(books.add(entry(f"r{i}")) for i in range(500)))
    await books.close()
    assert sum(batches) == 500
    assert len(batches) < 100
    assert len(list(entries(ledger))) == 500


async def test_a_row_is_durable_once_its_future_is_done(ledger: Ledger, tmp_path: Path) -> None:
    books = Books(ledger)
    await books.add(entry("r1"))
    with Ledger.open(tmp_path / "books.db", read_only=True) as other:
        assert [one.request_id for one in entries(other)] == ["r1"]
    await books.close()


async def test_a_bad_entry_takes_no_other_with_it(ledger: Ledger) -> None:
    ledger.append(entry("twice"))
    books = Books(ledger)
    futures = [books.add(entry(name)) for name in ("r1", "twice", "r2")]
    done = await asyncio.gather(*futures, return_exceptions=True)
    await books.close()
    assert [isinstance(one, LedgerError) for one in done] == [False, True, False]
    assert books.failing is None


OVERSIZED = Attempt(
    rung="big",
    role=Role.ANSWER,
    charge=Charge(usd=None),
    usage=Usage(input_tokens=Count(2**63, CountSource.REPORTED)),
)


async def test_what_the_database_cannot_hold_stops_nothing(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    books = Books(ledger)
    bad = replace(entry("bad"), attempts=(OVERSIZED,))
    futures = [books.add(one) for one in (entry("r1"), bad, entry("r2"))]
    done = await asyncio.gather(*futures, return_exceptions=True)
    assert [isinstance(one, LedgerError) for one in done] == [False, True, False]
    await books.add(entry("r3"))
    await books.close()
    assert (books.failing, books.lost) == (None, 1)
    assert "bad" in caplog.text
    assert [one.request_id for one in entries(ledger)] == ["r1", "r2", "r3"]


async def test_a_bad_entry_among_those_kept_does_not_hold_up_the_others(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    down, append_many = [True], Ledger.append_many

    def append(self: Ledger, batch: list[Entry]) -> None:
        if down:
            raise LedgerError("the disk is full", retryable=True)
        append_many(self, batch)

    monkeypatch.setattr(Ledger, "append_many", append)
    monkeypatch.setattr("suffice.gateway.batch_thread.RETRY_S", 0.01)
    books = Books(ledger)
    kept = [books.add(one) for one in (replace(entry("bad"), attempts=(OVERSIZED,)), entry("r1"))]
    await asyncio.gather(*kept, return_exceptions=True)
    assert books.failing is not None
    down.clear()
    async with asyncio.timeout(10):
        while books.failing is not None:
            await asyncio.sleep(0.01)
    await books.add(entry("r2"))
    await books.close()
    assert books.lost == 1
    assert [one.request_id for one in entries(ledger)] == ["r1", "r2"]


async def test_a_ledger_that_takes_nothing_at_all_keeps_every_entry(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Ledger, __: list[Entry]) -> None:
        raise LedgerError("it may not be written to")

    books = Books(ledger)
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "append_many", refuse)
        with pytest.raises(LedgerError):
            await books.add(entry("r1"))
        assert books.failing is not None
    await books.close()
    assert books.lost == 0
    assert [one.status for one in entries(ledger)] == [Status.FAILED]


def test_an_error_has_one_of_a_few_labels() -> None:
    assert Problem("x", status=504, code="deadline").label == "deadline"
    assert Problem("x", status=404).label == "404"
    assert Problem("x", status=418).label == "other"
    assert Problem("x", status=502, code="an upstream's word").label == "other"  # type: ignore[arg-type]


async def test_places_are_given_in_turn_and_given_back() -> None:
    slots = Slots("big", GatewayConfig(rung_concurrency=1, rung_queue=2))
    await slots.enter()
    order: list[int] = []

    async def enter(number: int) -> None:
        await slots.enter()
        order.append(number)
        slots.leave()

    tasks = [asyncio.create_task(enter(i)) for i in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Problem, match="waiting"):
        await slots.enter()
    tasks[0].cancel()
    slots.leave()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [1]
    assert (slots.inside, slots.waiting) == (0, 0)


async def test_who_waits_too_long_is_told_to_come_back() -> None:
    slots = Slots("big", GatewayConfig(rung_concurrency=1, queue_timeout_s=0.01))
    await slots.enter()
    with pytest.raises(Problem, match="in time") as caught:
        await slots.enter()
    assert (caught.value.status, caught.value.retry_after_s) == (429, 1)
    assert (slots.inside, slots.waiting) == (1, 0)


async def test_a_breaker_minds_the_failures_that_a_retry_could_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(
        "suffice.gateway.concurrency.time", SimpleNamespace(monotonic=lambda: now_s)
    )
    monkeypatch.setattr("suffice.gateway.concurrency.TRIAL_WAIT_S", 0.01)
    breaker = Breaker("big", GatewayConfig(breaker_failures=2, breaker_open_s=10))
    for _ in range(3):
        breaker.note(EngineRefused("bad request", status=400))
    await breaker.admit()
    for _ in range(2):
        breaker.note(EngineUnreachable("down", retryable=True))
    with pytest.raises(EngineUnreachable) as caught:
        await breaker.admit()
    assert caught.value.unbilled
    now_s += 10
    assert breaker.state == 1
    await breaker.admit()  # the trial
    assert breaker.state == 2
    await breaker.admit()  # waits for the trial, whose lasting is a sign of life
    breaker.note(None)
    assert breaker.state == 0
    await breaker.admit()


@pytest.mark.parametrize("back", [True, False])
async def test_calls_during_a_trial_wait_for_what_becomes_of_it(*, back: bool) -> None:
    down = EngineUnreachable("down", retryable=True)
    breaker = Breaker("big", GatewayConfig(breaker_failures=1, breaker_open_s=0.01))
    breaker.note(down)
    await asyncio.sleep(0.02)
    await breaker.admit()
    others = [asyncio.create_task(breaker.admit()) for _ in range(5)]
    await asyncio.sleep(0)
    assert not any(other.done() for other in others)
    breaker.note(None if back else down)
    found = await asyncio.gather(*others, return_exceptions=True)
    assert all(isinstance(each, EngineUnreachable) != back for each in found)


POISON = EngineRefused("it fell over", status=500, retryable=True)


async def test_one_client_does_not_shut_the_others_out() -> None:
    breaker = Breaker("big", GatewayConfig(breaker_failures=3, breaker_open_s=10))
    CLIENT.set("mallory")
    for _ in range(20):
        breaker.note(POISON)
    with pytest.raises(EngineUnreachable):
        await breaker.admit()
    CLIENT.set("alice")
    await breaker.admit()
    breaker.note(POISON)
    await breaker.admit()
    CLIENT.set("bob")
    breaker.note(POISON)  # three clients in a row: it is the engine
    assert breaker.state == 2
    for client in ("alice", "bob", "carol"):
        CLIENT.set(client)
        with pytest.raises(EngineUnreachable):
            await breaker.admit()


@pytest.mark.parametrize("status", [502, 503, 529])
async def test_an_engine_that_is_down_is_left_alone_for_all(status: int) -> None:
    breaker = Breaker("big", GatewayConfig(breaker_failures=3, breaker_open_s=10))
    CLIENT.set("alice")
    for _ in range(3):
        breaker.note(EngineRefused("bad gateway", status=status, retryable=True))
    CLIENT.set("bob")
    with pytest.raises(EngineUnreachable):
        await breaker.admit()


def test_a_second_call_needs_a_slot_and_a_rung_that_is_well() -> None:
    places = Places(["big"], GatewayConfig(rung_concurrency=2, breaker_failures=1))
    rung = Rung(name="big", engine="stub", model="m")
    with places.spare(rung) as first, places.spare(rung) as second, places.spare(rung) as third:
        assert (first, second, third) == (True, True, False)
    assert places.idle
    places.breakers["big"].note(EngineUnreachable("down", retryable=True))
    with places.spare(rung) as free:
        assert not free
    assert places.idle


def test_turns_of_a_conversation_share_its_name() -> None:
    start = ({"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"})
    later = (*start, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "2 + 2?"})
    other = (start[0], {"role": "user", "content": "Hello!"})
    names = [
        agent_of(Request(request_id="r", messages=messages)) for messages in (start, later, other)
    ]
    assert names[0] == names[1] != names[2]


def test_only_the_latest_conversations_are_remembered() -> None:
    known = Conversations(most=2)
    for name in ("a", "b", "a", "c"):
        known.note(name, "big")
    assert [known.rung_of(name) for name in "abc"] == ["big", None, "big"]


@pytest.mark.parametrize(("words", "pays"), [(10, True), (100_000, False)])
def test_a_long_conversation_stays_where_its_prompt_is_cached(
    settled: Certification, ledger: Ledger, words: int, pays: bool
) -> None:
    cached = "input_usd_per_mtok = 1\ncache_read_usd_per_mtok = 0.1"
    text = CONFIG.format(trials="unused").replace("input_usd_per_mtok = 1", cached)
    engines = {"recorded": ReplayEngine(settled.trials)}
    pipeline = build_pipeline(
        parse_config(text), engines=engines, ledger=ledger, bundle=settled.bundle
    )
    request = Request(
        request_id="r", messages=({"role": "user", "content": "word " * words},), group="sums"
    )
    assert leaving_pays(pipeline, request, pipeline.ladder.rung("small")) == pays


def test_a_conversation_stays_where_nobody_knows_the_prices(
    settled: Certification, ledger: Ledger
) -> None:
    bundle = replace(settled.bundle, mean_usd={"big": Decimal(1)})
    engines = {"recorded": ReplayEngine(settled.trials)}
    config = parse_config(CONFIG.format(trials="unused"))
    pipeline = build_pipeline(config, engines=engines, ledger=ledger, bundle=bundle)
    request = Request(request_id="r", messages=({"role": "user", "content": "Hi"},))
    assert not leaving_pays(pipeline, request, pipeline.ladder.rung("small"))
