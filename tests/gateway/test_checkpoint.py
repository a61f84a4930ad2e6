"""A guard that goes on from a checkpoint comes to what taking in every audit would, to the bit."""

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from guard_support import CERTIFICATE, LATER, NOON, RULE, SECOND, book, certificate, score
from msgspec.structs import replace

from suffice.errors import LedgerError
from suffice.guarantee import Certificate, Monitor, RiskKind, update_many
from suffice.ledger import Label, Ledger, watches
from suffice.ledger.schema import requests
from suffice.scoring import checkpoint, guard
from suffice.scoring.guard import Guard, Heritage
from suffice.scoring.guard_state import GuardState


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "suffice.db") as opened:
        yield opened


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "CHECKPOINT_EVERY", 7)


def state_of(ledger: Ledger, made: Certificate = CERTIFICATE, **rule: object) -> GuardState:
    return Guard(ledger, made, rule=replace(RULE, **rule)).catch_up(now=LATER)


def replayed(ledger: Ledger, made: Certificate = CERTIFICATE, **rule: object) -> GuardState:
    """Return the state without any checkpoint."""
    with ledger.writing() as connection:
        connection.execute(sa.delete(watches.watches))
    return state_of(ledger, made, **rule)


def checkpoints(ledger: Ledger) -> int:
    count = sa.select(sa.func.count()).select_from(watches.watches)
    with ledger.reading() as connection:
        return int(connection.execute(count).scalar_one())


def audits(ledger: Ledger, draw: random.Random, *, first: int, count: int, **more: object) -> None:
    for i in range(first, first + count):
        session = f"s{draw.randrange(30)}" if draw.random() < 0.8 else None
        book(
            ledger,
            i,
            loss=None if draw.random() < 0.3 else draw.random() ** 3,
            group=draw.choice(["sums", "law", "other", None]),
            session_id=session,
            rung=draw.choice(["small", "big"]),
            **more,
        )


@pytest.mark.parametrize("kind", list(RiskKind))
@pytest.mark.parametrize("largest", [1, 4])
def test_a_restart_from_a_checkpoint_equals_a_full_replay(
    ledger: Ledger, kind: RiskKind, largest: int
) -> None:
    scope = replace(CERTIFICATE.terms.scope, promised={"sums": 0.2, "law": 0.05})
    made = replace(CERTIFICATE, risk_kind=kind, terms=replace(CERTIFICATE.terms, scope=scope))
    made = replace(made, per="session", largest=largest) if largest > 1 else made
    draw, steady = random.Random(largest), Guard(ledger, made, rule=RULE)
    for turn in range(6):
        audits(ledger, draw, first=20 * turn, count=20, made=made)
        steady.catch_up(now=LATER)
        restarted = state_of(ledger, made)
        assert checkpoints(ledger) == 1
        assert restarted == steady.state
    assert replayed(ledger, made) == steady.state


def test_what_a_checkpoint_holds_is_not_read_again(ledger: Ledger) -> None:
    audits(ledger, random.Random(1), first=0, count=40)
    whole = state_of(ledger)
    with ledger.writing() as connection:
        connection.exec_driver_sql("DROP TRIGGER suffice_requests_no_update")
        connection.execute(sa.update(requests).values(audited=False))
    assert state_of(ledger) == whole
    assert replayed(ledger).cursor == 0


def test_an_audit_that_waits_for_its_label_is_in_no_checkpoint(ledger: Ledger) -> None:
    for i in range(20):
        book(ledger, i, loss=0.0 if i < 10 else None)
    early = NOON + timedelta(minutes=2)
    assert Guard(ledger, CERTIFICATE, rule=RULE).catch_up(now=early).cursor == 10
    at = NOON + 15 * SECOND
    ledger.score([score(0.5, request_id=f"r{i}", time=at) for i in range(10, 20, 2)])
    kept = Guard(ledger, CERTIFICATE, rule=RULE).catch_up(now=early)
    assert kept.monitors is not None
    assert kept.monitors.pooled.losses == 0.5
    assert replayed(ledger) == state_of(ledger)


@pytest.mark.parametrize("change", [{"label_wait_s": 1.0}, {"labels": (Label.FEEDBACK,)}])
def test_another_rule_makes_its_own_checkpoint(ledger: Ledger, change: dict[str, object]) -> None:
    audits(ledger, random.Random(2), first=0, count=30)
    state_of(ledger)
    other = state_of(ledger, **change)
    assert checkpoints(ledger) == 2
    assert other == replayed(ledger, **change)


def test_another_promise_and_other_heirlooms_make_their_own(ledger: Ledger) -> None:
    first = certificate(policy="first")
    audits(ledger, random.Random(3), first=0, count=30, made=first)
    ids = ("first", first.certificate_id)
    rules = {"rule": RULE, "heritage": Heritage(certificate_ids=ids, alarm_times={"law": NOON})}
    state_of(ledger, first)
    heir = Guard(ledger, first, **rules).catch_up(now=LATER)
    assert checkpoints(ledger) == 2
    assert heir.alarm_times["law"] == NOON
    assert state_of(ledger, first).alarm_times.get("law") != NOON


def test_of_two_workers_the_one_that_is_further_counts(ledger: Ledger) -> None:
    watches.keep_watch(ledger, "w", last=9, body="far")
    watches.keep_watch(ledger, "w", last=5, body="near")
    assert watches.find_watch(ledger, "w") == "far"


@pytest.mark.parametrize("body", ["", "{}", '{"cursor": 40', "null", "later form"])
def test_a_checkpoint_that_cannot_be_read_is_as_none(ledger: Ledger, body: str) -> None:
    audits(ledger, random.Random(4), first=0, count=30)
    whole = state_of(ledger)
    with ledger.writing() as connection:
        connection.execute(sa.update(watches.watches).values(body=body))
    assert state_of(ledger) == whole


def test_a_checkpoint_that_cannot_be_written_stops_no_watch(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise LedgerError("the disk is full", retryable=True)

    audits(ledger, random.Random(5), first=0, count=30)
    monkeypatch.setattr(guard, "keep_watch", refuse)
    assert state_of(ledger).cursor == 30
    monkeypatch.undo()
    assert state_of(ledger) == replayed(ledger)


def test_other_betting_needs_another_form_of_checkpoint() -> None:
    """Whoever must change this figure raises `checkpoint.FORM`: old states say something else."""
    draw = random.Random(6)
    losses = [draw.random() ** 4 for _ in range(200)]
    after = update_many(Monitor(alpha=0.3, delta=0.1), losses)
    assert checkpoint.FORM == 1
    assert after.wealth == pytest.approx(0.5804784173249162, rel=1e-12)
