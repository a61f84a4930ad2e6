"""The top of a report: its finding in words, and the few numbers behind it."""

from datetime import date
from typing import Literal

from msgspec import Struct

from suffice.report.ledger_summary import LedgerReport
from suffice.report.style import (
    baseline_usd,
    known_words,
    saved_share,
    saving_words,
    show_spend,
    signed_usd,
    some,
)
from suffice.report.summary import CertifyVerdict, TrialsReport
from suffice.units import show_share, show_usd


class Tile(Struct, frozen=True, kw_only=True):
    """One large number at the top of the page, with its name and a note to compare it with."""

    name: str
    value: str
    note: str = ""
    tone: Literal["", "good", "bad"] = ""


class Opening(Struct, frozen=True, kw_only=True):
    """The top of the page: the kind of report, its finding, and the numbers behind it."""

    kicker: str
    headline: str
    lede: str
    tiles: tuple[Tile, ...]


def trials_opening(report: TrialsReport) -> Opening:
    """Return the opening of a report on trials: what was certified, or that nothing was."""
    verdict, rungs = report.verdict, len(report.frontier.rungs)
    size = f"{some(rungs, 'rung')}, {some(report.requests, 'request')}"
    kicker = f"Trials, {report.made:%-d %B %Y}: {size}"
    if verdict is None:
        return Opening(
            kicker=kicker,
            headline=f"{size}, side by side",
            lede="No policy was certified for this report: it shows what each rung gives.",
            tiles=(),
        )
    if not verdict.certified:
        return Opening(
            kicker=kicker,
            headline=f"Nothing could be certified at a risk of {_percent(verdict.alpha)}",
            lede=f"On {verdict.n:,} certifying requests the smallest risk that can be promised is "
            f"{show_share(verdict.bound)}. Until then every request belongs on {report.reference}.",
            tiles=_verdict_tiles(verdict),
        )
    return Opening(
        kicker=kicker,
        headline=_saving_headline(verdict, reference=report.reference),
        lede=_lede(verdict, reference=report.reference),
        tiles=_verdict_tiles(verdict),
    )


def _saving_headline(verdict: CertifyVerdict, *, reference: str) -> str:
    """Say what was saved on the reporting split, or that nothing was."""
    if verdict.saving is None:
        return "A cheaper choice, within a certified risk"
    if verdict.saving <= 0:
        more = show_share(abs(verdict.saving))
        return f"Within a certified risk, but nothing saved: {more} dearer than {reference}"
    return f"{show_share(verdict.saving)} of the cost saved, within a certified risk"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _lede(verdict: CertifyVerdict, *, reference: str) -> str:
    """Say what the certificate promises, and which rung would do as the reference."""
    promised, other = _promised(verdict, reference=reference), verdict.use_as_reference
    if other is None:
        return promised
    return f"{promised} Always {other} keeps this promise too: use {other} as your reference."


def _promised(verdict: CertifyVerdict, *, reference: str) -> str:
    """Return the promise of the certificate in one sentence."""
    most = f"With {_percent(1 - verdict.delta)} confidence, at most {_percent(verdict.alpha)}"
    if verdict.per == "session":
        return f"{most} of the full score is lost against {reference}, on average over sessions."
    if verdict.risk_kind == "net_loss":
        return f"{most} of average quality is lost against {reference}."
    if verdict.risk_kind == "excess_over_reference" and float(verdict.losses).is_integer():
        return f"{most} of requests get a worse answer than {reference} would have given."
    if verdict.risk_kind == "excess_over_reference":
        return f"{most} of the full score is lost against {reference}, on average over requests."
    return f"{most} of the requests answered without {reference} get a wrong answer."


def _verdict_tiles(verdict: CertifyVerdict) -> tuple[Tile, ...]:
    within = verdict.risk is not None and verdict.risk <= verdict.alpha
    quality, ends = verdict.quality, verdict.saving_interval
    between = f" (95 %: {show_share(ends[0])} to {show_share(ends[1])})" if ends else ""
    return (
        Tile(
            name="cost saved",
            value=show_share(verdict.saving),
            note=f"of the reference's, deferral paid{between}",
        ),
        Tile(
            name="risk seen",
            value=show_share(verdict.risk),
            note=f"on fresh requests; limit {_percent(verdict.alpha)}",
            tone="" if verdict.risk is None else "good" if within else "bad",
        ),
        Tile(
            name="right answers",
            value=show_share(quality),
            note=f"{show_share(verdict.reference_quality)} with the reference",
        ),
        Tile(
            name="certifying requests",
            value=f"{verdict.n:,}",
            note=f"{verdict.losses:g} lost; bound {show_share(verdict.bound)}",
        ),
    )


def ledger_opening(report: LedgerReport) -> Opening:
    """Return the opening of a report on a ledger: the saving, and how well it is known."""
    whole, share = report.whole, saved_share(report.whole)
    days = [f"{date.fromisoformat(str(day.key)):%-d %B %Y}" for day in report.days]
    span = f", {days[0]} to {days[-1]}" if len(days) > 1 else "".join(f", {day}" for day in days)
    kicker = f"Ledger of {some(whole.requests, 'request')}{span}"
    if not whole.requests:
        return Opening(
            kicker=kicker,
            headline="This ledger holds no requests yet"
            if report.window.since is None
            else f"This ledger holds no requests since {report.window.since:%-d %B %Y}",
            lede="They appear here as soon as one is answered.",
            tiles=(),
        )
    known = whole.saved.reported_count + whole.saved.estimated_count
    if share is None:
        headline, lede = "What was saved is not known", "No request has both costs known."
    else:
        headline = f"{saving_words(whole)} than the reference alone"
        before, after = show_usd(baseline_usd(whole)), show_usd(whole.compared.known_usd)
        lede = (
            f"{after} was spent on {some(known, 'request')} that would have cost {before} on the "
            f"reference rung. {_how_known(report)} {known_words(report.saving)}".rstrip()
        )
    return Opening(kicker=kicker, headline=headline, lede=lede, tiles=_ledger_tiles(report))


def _how_known(report: LedgerReport) -> str:
    saved = report.whole.saved
    parts = [
        f"{saved.reported_count:,} of these differences are measured and "
        f"{saved.estimated_count:,} estimated"
    ]
    if saved.unknown_count:
        parts.append(f"one side is unknown for {some(saved.unknown_count, 'more request')}")
    return "; ".join(parts) + "."


def _ledger_tiles(report: LedgerReport) -> tuple[Tile, ...]:
    whole, share = report.whole, saved_share(report.whole)
    failed = whole.statuses["failed"]
    return (
        Tile(
            name="spent",
            value=show_spend(whole.spend),
            note=f"and {some(whole.spend.unknown_count, 'request')} of unknown charge"
            if whole.spend.unknown_count
            else "every charge is known",
        ),
        Tile(
            name="saved",
            value="unknown" if share is None else signed_usd(whole.saved.known_usd),
            note=_audit_note(report),
            tone="bad" if share is not None and share < 0 else "",
        ),
        Tile(
            name="requests",
            value=f"{whole.requests:,}",
            note=f"{whole.audited:,} audited",
        ),
        Tile(
            name="failed",
            value=show_share(failed / whole.requests),
            note=f"{failed:,} failed, {whole.statuses['cancelled']:,} cancelled",
            tone="bad" if failed else "",
        ),
    )


def _audit_note(report: LedgerReport) -> str:
    spends = {str(role.key): role.spend for role in report.roles}
    costs = []
    for kind in ("audit", "shadow"):
        if (spend := spends.get(kind)) is not None:
            more = f" and {spend.unknown_count:,} of unknown cost" if spend.unknown_count else ""
            costs.append(f"{show_spend(spend)} for {kind}s{more}")
    return f"before {', '.join(costs)}" if costs else "nothing was audited"
