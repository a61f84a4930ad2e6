"""The sections of the page: a section states its finding and shows what is behind it."""

from datetime import date, datetime
from decimal import Decimal
from math import log

from suffice.gateway.dashboard.html import Bar, Pair, bars, columns, facts, legend, section, table
from suffice.gateway.dashboard.snapshot import Snapshot
from suffice.guarantee import Certificate
from suffice.ledger import Totals
from suffice.report.style import VECTORS, baseline_usd, saving_words, show_spend, signed_usd, some
from suffice.scoring.guard_state import GroupWatch, GuardState
from suffice.types import Vector
from suffice.units import show_seconds, show_share, show_usd

_HUES = ("blue", "green", "amber", "purple", "sky")


def spend_section(snapshot: Snapshot) -> str:
    """Compare what was spent with what the reference alone would have cost, by day."""
    whole, days = snapshot.whole, [day for day in snapshot.days if baseline_usd(day)]
    if not days:
        return section(
            "Spend against the reference: unknown",
            caption="No request has both a known charge and a known reference cost yet.",
            wide=True,
        )
    pairs = [
        Pair(
            name=f"{date.fromisoformat(str(day.key)):%-d %b}",
            back=float(baseline_usd(day)),
            front=float(day.compared.known_usd),
            label=f"{show_usd(day.compared.known_usd)} of {show_usd(baseline_usd(day))}",
        )
        for day in days
    ]
    highest = max(max(baseline_usd(day), day.compared.known_usd) for day in days)
    spent, would = show_usd(whole.compared.known_usd), show_usd(baseline_usd(whole))
    return section(
        f"{spent} spent; the reference alone would have cost {would}",
        columns(pairs, back="grey", front="blue"),
        legend((("the reference", "grey"), ("suffice", "blue"))),
        caption="By day in UTC, over requests whose charge and reference cost are both known. "
        f"The highest column is {show_usd(highest)}.",
        wide=True,
    )


def vectors_section(snapshot: Snapshot) -> str:
    """Show what each factor of cost saved."""
    saved = [
        row
        for row in snapshot.vectors
        if row.key != Vector.NONE and row.saved.reported_count + row.saved.estimated_count
    ]
    if not saved:
        return section("Saving by vector", caption="Nothing is known to have been saved yet.")
    saved.sort(key=lambda row: row.saved.known_usd, reverse=True)
    most = max((abs(row.saved.known_usd) for row in saved), default=Decimal(0)) or Decimal(1)
    rows = [
        Bar(
            name=VECTORS.get(str(row.key), str(row.key)),
            value=signed_usd(row.saved.known_usd),
            parts=(
                (_part(abs(row.saved.known_usd), most),
                 "green" if row.saved.known_usd >= 0 else "vermilion"),
            ),
            note=f"{some(row.requests, 'request')}; {_how_known(row)}",
        )
        for row in saved
    ]  # fmt: skip
    total = sum((row.saved.known_usd for row in snapshot.vectors), Decimal(0))
    return section(f"{signed_usd(total)} saved, by what saved it", bars(rows))


def rungs_section(snapshot: Snapshot) -> str:
    """Show which rung answered how much, and for what."""
    answered = [row for row in snapshot.rungs if row.key is not None]
    if not answered:
        return section("Share by rung", caption="No request was answered yet.")
    all_of_them = sum(row.requests for row in answered)
    hues = iter(_HUES * (len(answered) // len(_HUES) + 1))
    rows = [
        Bar(
            name=f"{row.key}{' (reference)' if row.key in snapshot.references else ''}",
            value=show_share(row.requests / all_of_them),
            parts=(
                (row.requests / all_of_them,
                 "grey" if row.key in snapshot.references else next(hues)),
            ),
            note=f"{some(row.requests, 'request')}, {show_spend(row.spend)}",
        )
        for row in sorted(answered, key=lambda row: -row.requests)
    ]  # fmt: skip
    cheap = sum(row.requests for row in answered if row.key not in snapshot.references)
    return section(f"{show_share(cheap / all_of_them)} answered below the reference", bars(rows))


def guarantee_section(snapshot: Snapshot) -> str:
    """Show the certificate, and how far each group's evidence is from the alarm."""
    certificate, guard = snapshot.certificate, snapshot.guard
    if certificate is None:
        return section(
            "No certificate: the reference answers everything",
            caption="suffice certify makes one from trials, suffice recertify from audits.",
            wide=True,
        )
    if guard is None or guard.as_of is None:
        promise = facts(_promise(certificate))
        return section("The guarantee is not watched yet", promise, wide=True)
    rows = [_watch(watch) for watch in guard.watches]
    return section(
        _guard_finding(guard),
        bars(rows),
        facts([*_promise(certificate), ("watched by", ", ".join(guard.labels))]),
        caption="The bar is how far the evidence (an e-process) that the risk passed its alpha "
        "has come on its way to the alarm, on a logarithmic scale.",
        wide=True,
    )


def latency_section(snapshot: Snapshot) -> str:
    """Show how long answers take."""
    if not snapshot.latencies:
        return section("Latency", caption="No answer was timed yet.")
    rows = [
        (row.rung, f"{row.answers:,}", *map(show_seconds, (row.p50_s, row.p95_s, row.p99_s)))
        for row in snapshot.latencies
    ]
    return section(
        "How long an answer takes",
        table(("rung", "answers", "median", "95 %", "99 %"), rows),
        caption="Of the call that gave the answer, over the latest answers.",
    )


def errors_section(snapshot: Snapshot) -> str:
    """Show requests without an answer, and calls that failed."""
    statuses = snapshot.whole.statuses
    lost = snapshot.whole.requests - statuses["ok"]
    failed = sum(row.failed for row in snapshot.calls)
    rows = [
        (str(row.key), f"{row.calls:,}", f"{row.failed:,}", show_share(row.failed / row.calls))
        for row in snapshot.calls
    ]
    counts = ", ".join(f"{statuses[name]:,} {name}" for name in ("failed", "cancelled", "refused"))
    return section(
        f"{some(lost, 'request')} without an answer, {some(failed, 'failed call')}",
        table(("rung", "calls", "failed", "share"), rows) if rows else "",
        caption=f"Requests: {counts}. A failed call may have been mended by the reference.",
    )


def audits_section(snapshot: Snapshot) -> str:
    """Show how much is audited, at what cost, and whether audits pause."""
    guard = snapshot.guard
    rows = [("audited requests", f"{snapshot.whole.audited:,} of {snapshot.whole.requests:,}")]
    if guard is not None and guard.as_of is not None:
        unknown = guard.audit_spend.unknown_count
        more = f", and {some(unknown, 'call')} of unknown charge" if unknown else ""
        rows += [
            ("spent on audits today", show_spend(guard.audit_spend) + more),
            ("without a label in time", f"{guard.unlabelled:,}"),
            ("ledger read", _clock(guard.as_of)),
        ]
    paused = guard.paused_since if guard is not None else None
    title = "Audits" if paused is None else f"Audits pause since {_clock(paused)}: budget spent"
    caption = "" if paused is None else "Until midnight UTC nothing new is learnt about the risk."
    return section(title, facts(rows), caption=caption)


def money_section(snapshot: Snapshot) -> str:
    """Show how well the money is known."""
    rows = []
    for name, spend in (
        ("spend", snapshot.whole.spend),
        ("reference cost", snapshot.whole.reference),
    ):
        rows.append((name, show_usd(spend.reported_usd), show_usd(spend.estimated_usd),
                     some(spend.unknown_count, "request")))  # fmt: skip
    return section(
        "How well the money is known",
        table(("", "reported", "estimated", "unknown"), rows),
        caption="Requests of unknown charge are in no sum of dollars.",
    )


def alarms(guard: GuardState | None) -> list[GroupWatch]:
    """List the groups whose alarm has fallen."""
    return [] if guard is None else [w for w in guard.watches if w.alarm_time is not None]


def group_name(watch: GroupWatch) -> str:
    """Name a watched group for people."""
    return "all requests" if watch.group is None else watch.group


def _watch(watch: GroupWatch) -> Bar:
    """Show a watched group: half way to the alarm is amber, an alarm is vermilion."""
    fallen = watch.alarm_time is not None
    way = log(max(watch.wealth, 1.0)) / log(watch.limit)
    seen = f"{watch.losses:g} lost in {some(watch.audits, 'audit')}"
    rate = f" ({show_share(watch.losses / watch.audits)})" if watch.audits else ""
    state = f"evidence {watch.wealth:.2g}, alarm at {watch.limit:.3g}"
    return Bar(
        name=group_name(watch),
        value=f"ALARM {_clock(watch.alarm_time)}" if watch.alarm_time else state,
        parts=(
            (1.0 if fallen else way, "vermilion" if fallen else "amber" if way > 0.5 else "green"),
        ),
        note=f"{seen}{rate}; alpha {show_share(watch.alpha)}",
    )


def _guard_finding(guard: GuardState) -> str:
    fallen = alarms(guard)
    if fallen:
        names = ", ".join(map(group_name, fallen))
        return f"Alarm: the reference answers for {names} until there is a new certificate"
    if guard.blind:
        return f"Nobody watches: the last {some(guard.silent, 'audit')} got no label"
    audits = guard.watches[-1].audits
    return f"No alarm in {some(audits, 'audit')}"


def _promise(certificate: Certificate) -> list[tuple[str, str]]:
    terms = certificate.terms
    return [
        ("promise", f"P(risk \u2264 {certificate.alpha:g}) \u2265 {1 - certificate.delta:g}"),
        ("risk", f"{certificate.risk_kind.value.replace('_', ' ')} per {certificate.per.value}"),
        ("against", terms.reference),
        ("losses from", terms.label_source.value),
        ("certified on", f"{some(certificate.n, 'request')}, {certificate.losses:g} lost"),
        ("lapses", f"{terms.lapses_at:%-d %B %Y, %H:%M %Z}"),
        ("certificate", certificate.certificate_id),
    ]


def _how_known(totals: Totals) -> str:
    """Say how a saving is known, and how much of it is not."""
    saved = totals.saved
    parts = [(saved.reported_count, "measured"), (saved.estimated_count, "estimated"),
             (saved.unknown_count, "unknown")]  # fmt: skip
    known = ", ".join(f"{count:,} {how}" for count, how in parts if count)
    words = saving_words(totals)
    return f"{words}; {known}"


def _part(amount: Decimal, most: Decimal) -> float:
    return float(amount / most)


def _clock(at: datetime) -> str:
    return f"{at:%-d %b %H:%M} UTC"
