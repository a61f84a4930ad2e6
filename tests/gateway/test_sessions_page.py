"""The page about sessions: what they cost and missed, and why, from the books alone."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from gateway_support import CHAT, site

from suffice.gateway.dashboard.sessions import render_sessions, sessions_snapshot
from suffice.ledger import Attempt, Entry, Ledger, Role, Status, Window
from suffice.ledger.cache_misses import cache_misses
from suffice.ledger.outcomes import SessionOutcome, book_outcome
from suffice.types import Charge, Count, CountSource, Usage

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
ASK = {"model": "big", "messages": [{"role": "user", "content": "Hi"}]}


def call(
    number: int, *, at_s: float, tokens: int, read: int | None, rung: str = "big", **names: Any
) -> Entry:
    usage = Usage(
        input_tokens=Count(tokens, CountSource.REPORTED),
        cache_read_tokens=None if read is None else Count(read, CountSource.REPORTED),
        cache_write_tokens=Count(0, CountSource.REPORTED),
        output_tokens=Count(5, CountSource.REPORTED),
    )
    at = NOW + timedelta(seconds=at_s)
    charge = Charge(usd=Decimal("0.5"))
    attempt = Attempt(rung=rung, role=Role.ANSWER, time=at, charge=charge, usage=usage)
    facts = {"session_id": "s1", "conversation_id": "a1", "rung": rung, "reference_rung": "big"}
    return Entry(
        request_id=f"r{number}", time=at, status=Status.OK, attempts=(attempt,), **(facts | names)
    )


def book(books: Ledger) -> None:
    """One agent that misses for each cause, and a second one that it must not be confused with."""
    books.append(call(1, at_s=0, tokens=10_000, read=0))
    books.append(call(2, at_s=5, tokens=9_000, read=0, conversation_id="a2"))  # a sub-agent begins
    books.append(call(3, at_s=10, tokens=11_000, read=10_000))
    books.append(call(4, at_s=20, tokens=12_000, read=0, rung="small"))
    books.append(call(5, at_s=30, tokens=13_000, read=0))
    books.append(call(6, at_s=400, tokens=14_000, read=0))
    books.append(call(7, at_s=410, tokens=5_000, read=1_000))
    books.append(call(8, at_s=420, tokens=6_000, read=0))
    books.append(call(9, at_s=430, tokens=7_000, read=None))  # nobody knows
    books.append(call(10, at_s=440, tokens=7_000, read=5_900))
    books.append(call(11, at_s=0, tokens=900, read=0, session_id="s2", conversation_id="a3"))
    books.append(call(12, at_s=1, tokens=950, read=0, session_id="s2", conversation_id="a3"))
    outcome = SessionOutcome(session_id="s1", kind="tests", score=0.5, time=NOW)
    book_outcome(books, outcome)


def test_misses_have_their_causes(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "books.db") as books:
        book(books)
        misses = cache_misses(books, cache_life_s=300, compacted_share=0.6)
        longer = cache_misses(books, cache_life_s=3600, compacted_share=0.6)
    assert {(one.name, one.cause): (one.calls, one.tokens) for one in misses} == {
        ("s1", "moved"): (2, 11_000 + 12_000),
        ("s1", "pause"): (1, 13_000),
        ("s1", "compaction"): (1, 4_000),
        ("s1", "changed"): (1, 5_000),
    }
    assert {one.cause: one.calls for one in longer} == {"moved": 2, "changed": 2, "compaction": 1}


def test_the_page_says_what_sessions_cost(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "books.db") as books:
        seen = sessions_snapshot(books, window=Window(), now=NOW, cache_life_s=300)
        assert "No sessions yet" in render_sessions(seen)
        book(books)
        seen = sessions_snapshot(books, window=Window(), now=NOW, cache_life_s=300)
        page = render_sessions(seen)
    assert "2 sessions have cost $6" in page
    assert "<td>tests 0.5</td>" in page
    assert "5 calls read a prompt anew" in page
    assert "the cache had lapsed" in page
    assert page.index("<td>s1</td>") < page.index("<td>s2</td>")


async def test_the_page_is_served_to_who_may_see_it(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.post(ASK, path=CHAT, session_id="one")
        async with here.http.get(here.url + "/sessions") as reply:
            page = await reply.text()
    assert reply.status == 200
    assert "1 session has cost" in page
    assert 'formaction="/sessions"' in page
    assert "default-src" in page
