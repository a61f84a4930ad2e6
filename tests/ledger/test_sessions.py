"""Sessions in the books, in both databases: what is remembered of agents, what was drawn for."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from postgres_server import new_books

from suffice.ledger import Entry, Ledger, Status
from suffice.ledger.outcomes import OutcomeReceipt, SessionOutcome, book_outcome, drawn_sessions
from suffice.ledger.sessions import find_session, keep_session

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(new_books(request.param, tmp_path, request)) as books:
        yield books


def turn(name: str, *, session: str, arm: str, wish: str = "small", minute: int = 0) -> Entry:
    return Entry(
        request_id=name,
        time=NOON + timedelta(minutes=minute),
        status=Status.OK,
        rung="big",
        reference_rung="big",
        session_id=session,
        arm=arm,
        arm_chance=0.5,
        wish=wish,
    )


def outcome(session: str, *, minute: int, score: float = 1.0) -> SessionOutcome:
    time = NOON + timedelta(minutes=minute)
    return SessionOutcome(session_id=session, kind="ci", score=score, time=time)


def test_whoever_writes_sees_what_another_has_written(ledger: Ledger) -> None:
    assert find_session(ledger, "s", agent="a") is None
    seen: list[str | None] = []

    def add(text: str, *, minute: int) -> None:
        def body(before: str | None) -> str:
            seen.append(before)
            return (before or "") + text

        keep_session(ledger, "s", agent="a", body=body, at=NOON + timedelta(minutes=minute))

    add("1", minute=1)
    add("2", minute=0)  # a late one
    assert seen == [None, "1"]
    assert find_session(ledger, "s", agent="a") == "12"
    assert find_session(ledger, "s", agent="b") is None


def test_a_session_is_counted_by_all_it_did(ledger: Ledger) -> None:
    ledger.append_many(
        [
            turn("1", session="later", arm="policy", wish="big"),
            turn("2", session="later", arm="policy", wish="small", minute=1),
            turn("3", session="both", arm="policy"),
            turn("4", session="both", arm="reference", minute=1),
            turn("5", session="plain", arm="reference", wish="big"),
            turn("6", session="before", arm="policy", minute=5),
        ]
    )
    for session, minute in (("later", 9), ("both", 9), ("plain", 9), ("before", 4)):
        assert book_outcome(ledger, outcome(session, minute=minute)) is OutcomeReceipt.BOOKED
    drawn = {one.session_id: one for one in drawn_sessions(ledger, kind="ci")}
    assert {name: (one.wish, one.mixed) for name, one in drawn.items()} == {
        "later": ("small", False),
        "both": ("small", True),
        "plain": ("big", False),
    }
    assert {one.score for one in drawn.values()} == {1.0}
