"""From a snapshot to one HTML page that needs nothing but itself."""

from base64 import b64encode
from datetime import datetime
from hashlib import sha256
from importlib.resources import files
from string import Template

from msgspec import Struct

from suffice import __version__
from suffice.gateway.dashboard import sections as of
from suffice.gateway.dashboard.html import tile
from suffice.gateway.dashboard.snapshot import Snapshot
from suffice.ledger import Window
from suffice.report.style import (
    baseline_usd,
    head_of_page,
    known_words,
    saved_share,
    saving_words,
    show_spend,
    some,
)
from suffice.report.style import escaped as text
from suffice.units import show_seconds, show_share, show_usd

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'"
_SECTIONS = (
    of.guarantee_section,
    of.spend_section,
    of.vectors_section,
    of.rungs_section,
    of.latency_section,
    of.errors_section,
    of.audits_section,
    of.money_section,
)


class Page(Struct, frozen=True, kw_only=True):
    """What a page says of a window; `state`, `tiles` and `sections` are HTML, the rest is text."""

    time: datetime
    window: Window
    headline: str
    lede: str
    state: str
    tiles: str
    sections: tuple[str, ...]


def page(contents: Page) -> str:
    """Write a page; names that users gave are escaped, and only its own script may run."""
    script = _asset("refresh.js")
    script_hash = b64encode(sha256(script.encode()).digest()).decode()
    return Template(_asset("page.html")).substitute(
        head=head_of_page(
            f"{contents.headline} - suffice",
            style=_asset("page.css"),
            policy=f"{_POLICY}; script-src 'sha256-{script_hash}'",
        ),
        script=script,
        span=text(_span(contents)),
        state=contents.state,
        headline=text(contents.headline),
        lede=text(contents.lede),
        tiles=contents.tiles,
        sections="\n".join(contents.sections),
        footer=text(f"suffice {__version__}, read {contents.time:%-d %B %Y, %H:%M:%S} UTC"),
    )


def render(snapshot: Snapshot) -> str:
    """Write the page of a snapshot."""
    headline, lede = _opening(snapshot)
    return page(
        Page(
            time=snapshot.time,
            window=snapshot.window,
            headline=headline,
            lede=lede,
            state=_state(snapshot),
            tiles=_tiles(snapshot),
            sections=tuple(make(snapshot) for make in _SECTIONS),
        )
    )


def _opening(snapshot: Snapshot) -> tuple[str, str]:
    whole = snapshot.whole
    if not whole.requests:
        return "No requests yet", "They appear here as soon as one is answered."
    share = saved_share(whole)
    if share is None:
        headline = f"{some(whole.requests, 'request')}; what they saved is unknown"
        return headline, "A saving needs a known charge and a known reference cost."
    measured, estimated = whole.saved.reported_count, whole.saved.estimated_count
    known = known_words(snapshot.saving)
    how = f", {estimated:,} of them by estimate" if measured else ", all by estimate"
    return (
        f"{saving_words(whole)} than the reference alone",
        f"Over {some(measured + estimated, 'request')} whose cost and reference cost are known"
        f"{how if estimated else ''}. Audits are not part of it. {known}".rstrip(),
    )


def _state(snapshot: Snapshot) -> str:
    """Say in a word whether the promise stands."""
    fallen, certificate = of.alarms(snapshot.guard), snapshot.certificate
    if certificate is None:
        state, tone = "no certificate", ""
    elif fallen:
        state, tone = f"alarm: {', '.join(map(of.group_name, fallen))}", "bad"
    elif snapshot.time >= certificate.terms.lapses_at:
        state, tone = "certificate lapsed", "bad"
    elif snapshot.guard is None or snapshot.guard.as_of is None:
        state, tone = "certified, not watched yet", ""
    elif snapshot.guard.blind:
        state, tone = "certified, but nobody watches: no labels come", "bad"
    else:
        state, tone = "certified and watched", "good"
    return f'<span class="state {tone}">{text(state)}</span>'


def _tiles(snapshot: Snapshot) -> str:
    whole = snapshot.whole
    share = saved_share(whole)
    lost = whole.requests - whole.statuses["ok"]
    unknown = whole.spend.unknown_count
    slow = max(snapshot.latencies, key=lambda row: row.answers, default=None)
    tiles = [
        tile("spent", show_spend(whole.spend),
             note=f"{unknown:,} unknown on top" if unknown else "every charge known"),
        tile("the reference alone",
             show_usd(baseline_usd(whole) if share is not None else None),
             note="for the requests compared"),
        tile("saved", show_share(share),
             tone="" if share is None else "good" if share >= 0 else "bad",
             note=f"{whole.saved.unknown_count:,} not comparable"),
        tile("requests", f"{whole.requests:,}", note=f"{whole.audited:,} audited"),
        tile("without an answer", show_share(lost / whole.requests if whole.requests else None),
             note=some(lost, "request")),
        tile("median answer", show_seconds(slow.p50_s if slow else None),
             note=f"99 %: {show_seconds(slow.p99_s)}, {slow.rung}" if slow else ""),
    ]  # fmt: skip
    return "".join(tiles)


def _span(contents: Page) -> str:
    since, until = contents.window.since, contents.window.until or contents.time
    began = "from the beginning" if since is None else f"{since:%-d %b %H:%M}"
    return f"{began} to {until:%-d %b %H:%M} UTC"


def _asset(name: str) -> str:
    return files("suffice.gateway.dashboard").joinpath(name).read_text("utf-8")
