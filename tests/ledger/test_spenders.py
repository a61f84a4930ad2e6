"""Who spends: sums by key, team, tag, session and agent equal those over the rows."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from postgres_server import new_books
from query_plans import plans_of

from suffice.ledger import Ledger, ReferenceKnown, Role, Status, Window, totals
from suffice.ledger.records import Attempt, Entry
from suffice.ledger.spenders import Spender, by_team, spenders
from suffice.types import Charge, Count, CountSource, Spend, Usage

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def tokens(number: int) -> Count:
    return Count(number, CountSource.REPORTED)


def entry(number: int, *, usd: str | None = "0.5", estimated: bool = False, **names: Any) -> Entry:
    amount = None if usd is None else Decimal(usd)
    attempt = Attempt(
        rung="big",
        role=Role.ANSWER,
        charge=Charge(usd=amount, estimated=estimated),
        usage=Usage(
            input_tokens=tokens(100),
            cache_read_tokens=tokens(80),
            cache_write_tokens=tokens(10),
            output_tokens=None if usd is None else tokens(7),
        ),
    )
    return Entry(
        request_id=f"r{number}",
        time=NOON + timedelta(minutes=number),
        status=Status.OK,
        rung="big",
        reference_rung="big",
        attempts=(attempt,),
        reference_usd=Decimal(2),
        reference_known=ReferenceKnown.MEASURED,
        **names,
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    where = new_books(request.param, tmp_path, request)
    with Ledger.open(where) as books:
        books.append(entry(1, key_id="ann", tags=("web",), session_id="s1", conversation_id="a1"))
        books.append(entry(2, key_id="ann", session_id="s1", conversation_id="a2", usd="0.25"))
        books.append(entry(3, key_id="bob", tags=("web",), conversation_id="a3", estimated=True))
        books.append(entry(4, usd=None, conversation_id="a4"))
    with Ledger.open(where, read_only=True) as books:
        yield books


def test_each_spender_has_its_own_and_unknown_stays_unknown(ledger: Ledger) -> None:
    ann, bob, nobody = spenders(ledger, by="key")
    assert (ann.name, ann.requests, ann.sessions, ann.agents) == ("ann", 2, 1, 2)
    assert (ann.spend.reported_usd, ann.saved.known_usd) == (Decimal("0.75"), Decimal("3.25"))
    assert (ann.first, ann.last) == (NOON + timedelta(minutes=1), NOON + timedelta(minutes=2))
    assert (ann.input_tokens, ann.cache_read_tokens, ann.cache_write_tokens) == (200, 160, 20)
    assert bob.spend.estimated_usd == Decimal("0.5")
    assert (nobody.name, nobody.spend.usd, nobody.spend.unknown_count) == (None, None, 1)
    assert nobody.uncounted_calls == 1


def test_a_request_without_a_session_is_its_agents(ledger: Ledger) -> None:
    assert [one.name for one in spenders(ledger, by="session")] == ["s1", "a3", "a4"]
    assert len(spenders(ledger, by="agent")) == 4


def test_a_window_and_a_tag_narrow_it(ledger: Ledger) -> None:
    later = Window(since=NOON + timedelta(minutes=2))
    assert [one.name for one in spenders(ledger, by="session", window=later, tag="web")] == ["a3"]


def test_teams_add_their_keys_up(ledger: Ledger) -> None:
    teams = {"ann": "core", "bob": "core"}
    core, none = by_team(spenders(ledger, by="key"), teams)
    assert (core.name, core.requests, core.spend.known_usd) == ("core", 3, Decimal("1.25"))
    assert (core.first, core.last) == (NOON + timedelta(minutes=1), NOON + timedelta(minutes=3))
    assert none.name is None


def test_a_request_with_several_tags_is_in_the_sums_of_each(tmp_path: Path) -> None:
    """The total counts it once, upper and lower case differ, and a part of a word is no tag."""
    with Ledger.open(tmp_path / "books.db") as books:
        books.append(entry(1, tags=("night", "web"), session_id="s1"))
        books.append(entry(2, tags=("web",), session_id="s2"))
        books.append(entry(3, tags=("Web", "webs"), session_id="s3"))
        books.append(entry(4, session_id="s4"))
        by_tag = {one.name: one.requests for one in spenders(books, by="tag")}
        assert by_tag == {"web": 2, "night": 1, "Web": 1, "webs": 1, None: 1}
        assert {row.key: row.requests for row in totals(books, by="tag")} == by_tag
        whole = sum((one.spend for one in spenders(books, by="session")), Spend())
        assert totals(books)[0].spend == whole
        sums = {row.key: row.spend for row in totals(books, by="tag")}
        assert sums == {one.name: one.spend for one in spenders(books, by="tag")}
        assert [one.name for one in spenders(books, by="session", tag="web")] == ["s1", "s2"]


@pytest.mark.parametrize("by", get_args(Spender))
def test_a_month_is_found_by_its_time(tmp_path: Path, by: Spender) -> None:
    """Else the spenders of a month read a year of requests, or all calls."""
    month = Window(since=NOON - timedelta(days=30))
    with Ledger.open(tmp_path / "books.db") as books:
        plans = plans_of(books, lambda: spenders(books, by=by, window=month))
    assert len(plans) == 2
    for steps in plans:
        assert "INDEX suffice_requests_time (time_us>?)" in steps[0], steps
        assert not [step for step in steps if step.startswith("SCAN")], steps
