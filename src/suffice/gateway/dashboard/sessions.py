"""The page about sessions: what each cost, what it read from caches, what it missed, and why."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from suffice.gateway.dashboard.html import Bar, bars, section, table, tile
from suffice.gateway.dashboard.page import Page, page
from suffice.ledger import Ledger, Window
from suffice.ledger.cache_misses import CAUSES, CacheMisses, cache_misses
from suffice.ledger.outcomes import SessionOutcome, outcomes_of
from suffice.ledger.spenders import SpenderTotals, spenders
from suffice.report.style import show_spend, some
from suffice.sessions.boundary import COMPACTED_SHARE
from suffice.types import Spend
from suffice.units import show_share, show_usd

MOST_SESSIONS = 50
_SHOWN = 12  # characters of the hash that stands for a session


class SessionsSnapshot(Struct, frozen=True, kw_only=True):
    """The sessions of a window at one moment, the dearest first."""

    time: datetime
    window: Window
    sessions: tuple[SpenderTotals, ...]
    misses: tuple[CacheMisses, ...]
    outcomes: tuple[SessionOutcome, ...]


def sessions_snapshot(
    ledger: Ledger, *, window: Window, now: datetime, cache_life_s: float
) -> SessionsSnapshot:
    """Read the sessions of a window row by row. Blocks: keep it off an event loop."""
    named = spenders(ledger, by="session", window=window)
    return SessionsSnapshot(
        time=now,
        window=window,
        sessions=tuple(one for one in named if one.name is not None),
        misses=cache_misses(
            ledger, cache_life_s=cache_life_s, compacted_share=COMPACTED_SHARE, window=window
        ),
        outcomes=outcomes_of(ledger, window=window),
    )


def render_sessions(snapshot: SessionsSnapshot) -> str:
    """Write the page."""
    sessions = snapshot.sessions
    spend = sum((one.spend for one in sessions), Spend())
    lost = sum(one.tokens for one in snapshot.misses)
    headline = "No sessions yet"
    if sessions:
        verb = "has" if len(sessions) == 1 else "have"
        headline = f"{some(len(sessions), 'session')} {verb} cost {show_spend(spend)}"
    return page(
        Page(
            time=snapshot.time,
            window=snapshot.window,
            headline=headline,
            lede="A session is one conversation or one run of an agent, with its sub-agents. Its "
            "name is a hash; a request without the id of a session is one of its agent.",
            state="",
            tiles=_tiles(sessions, spend, lost),
            sections=(_misses(snapshot.misses), _costs(snapshot)),
        )
    )


def _tiles(sessions: Sequence[SpenderTotals], spend: Spend, lost: int) -> str:
    inputs = sum(one.input_tokens for one in sessions)
    read = sum(one.cache_read_tokens for one in sessions)
    agents = sum(one.agents for one in sessions)
    mean = spend.known_usd / len(sessions) if sessions else None
    return "".join(
        (
            tile("sessions", f"{len(sessions):,}", note=some(agents, "agent")),
            tile("a session, on average", show_usd(mean)),
            tile("input from caches", show_share(read / inputs if inputs else None)),
            tile("read anew", f"{lost:,}", note="tokens that a cache had held",
                 tone="bad" if inputs and lost > inputs / 10 else ""),
        )
    )  # fmt: skip


def _costs(snapshot: SessionsSnapshot) -> str:
    """List the dearest sessions."""
    sessions = snapshot.sessions[:MOST_SESSIONS]
    if not sessions:
        return section("Cost by session", caption="No request was answered yet.", wide=True)
    missed = Counter[str | None]()
    for one in snapshot.misses:
        missed[one.name] += one.calls
    ended: dict[str, list[str]] = {}
    for outcome in snapshot.outcomes:
        ended.setdefault(outcome.session_id, []).append(f"{outcome.kind} {outcome.score:g}")
    rows = [
        (
            str(one.name)[:_SHOWN],
            f"{one.first:%-d %b %H:%M}",
            f"{one.requests:,}",
            f"{one.agents:,}",
            show_spend(one.spend),
            _saved(one.saved),
            f"{one.cache_read_tokens:,}",
            f"{one.cache_write_tokens:,}",
            f"{one.input_tokens - one.cache_read_tokens - one.cache_write_tokens:,}",
            f"{one.output_tokens:,}",
            f"{missed[one.name]:,}",
            ", ".join(ended.get(str(one.name), ())) or "none",
        )
        for one in sessions
    ]
    whole = sum((one.spend.known_usd for one in snapshot.sessions), Decimal(0))
    top = sum((one.spend.known_usd for one in sessions), Decimal(0))
    finding = "Cost by session"
    if len(snapshot.sessions) > len(sessions) and whole:
        share = show_share(float(top / whole))
        finding = f"The {len(sessions)} dearest sessions are {share} of the cost"
    header = ("session", "began", "requests", "agents", "cost", "saved", "read", "written")
    return section(
        finding,
        table((*header, "other input", "output", "misses", "outcome"), rows),
        caption="Tokens read from caches, written to them, and other input are the whole input. "
        "Saved is what the reference would have cost more.",
        wide=True,
    )


def _saved(saved: Spend) -> str:
    known = saved.reported_count + saved.estimated_count
    return show_usd(saved.known_usd) if known else "unknown"


def _misses(misses: Sequence[CacheMisses]) -> str:
    """Say why prompts were read anew."""
    by_cause = {cause: [one for one in misses if one.cause == cause] for cause in CAUSES}
    whole = sum(one.tokens for one in misses)
    if not whole:
        return section(
            "No cached prompt was read anew",
            caption="Only calls whose engine counts cache reads can be looked at.",
            wide=True,
        )
    rows = [
        Bar(
            name=CAUSES[cause],
            value=f"{sum(one.tokens for one in ones):,} tokens",
            parts=((sum(one.tokens for one in ones) / whole, "amber"),),
            note=f"{some(sum(one.calls for one in ones), 'call')} in "
            f"{some(len({one.name for one in ones}), 'session')}",
        )
        for cause, ones in by_cause.items()
        if ones
    ]
    return section(
        f"{some(sum(one.calls for one in misses), 'call')} read a prompt anew, and why",
        bars(rows),
        caption="A miss had less than half of the prompt of the call before in the cache. Only "
        "calls whose engine counts cache reads are looked at.",
        wide=True,
    )
