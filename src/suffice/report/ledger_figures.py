"""The figures of a report on a ledger: the spend, the saving, and how they are known."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

import altair as alt

from suffice.ledger import CallTotals, TokenSum, Totals
from suffice.report.charts import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    VERMILION,
    Cells,
    Chart,
    Figure,
    Point,
    along,
    bars,
    data,
    dollars,
    down,
    ladder_colours,
    quoted,
    stacked,
)
from suffice.report.ledger_summary import LedgerReport
from suffice.report.rung_figures import flow_figure
from suffice.report.style import (
    VECTORS,
    baseline_usd,
    saved_share,
    saving_words,
    show_spend,
    signed_usd,
    some,
)
from suffice.types import CountSource, Spend
from suffice.units import show_share, show_usd

MOST_GROUPS = 12
_NO_REFERENCE = (
    "No request has both a known charge and a known cost at the reference rung, so the saving is "
    "unknown. Audits measure the reference; a price on every rung makes charges known."
)

_NO_SAVING = "Every request cost as much as on the reference, so nothing was saved."


def ledger_figures(report: LedgerReport) -> Iterator[Figure]:
    """Yield the figures of a report on a ledger, the most important first."""
    colours = _colours(report)
    yield spend_figure(report.days)
    yield vectors_figure(report.vectors)
    yield rungs_figure(report.rungs, colours=colours)
    yield groups_figure(report.groups)
    yield flow_figure(report.flow, colours=colours, share={})
    yield known_figure(report.whole)
    yield ends_figure(report)
    yield tokens_figure(report.calls)


def spend_figure(days: Sequence[Totals]) -> Figure:
    """Plot the reference's cost and suffice's, day by day, for requests where both are known."""
    title = "Spend against the reference"
    compared = [day for day in days if baseline_usd(day)]
    if not compared:
        return Figure(title=title, caption=_NO_REFERENCE)
    before = sum((baseline_usd(day) for day in compared), Decimal(0))
    after = sum((day.compared.known_usd for day in compared), Decimal(0))
    return Figure(
        title=f"{show_usd(after)} spent; the reference alone would have cost {show_usd(before)}",
        caption="By day in UTC, over the requests whose charge and reference cost are both known.",
        alt="The cost of the reference rung and of suffice, by day.",
        chart=_by_day(compared) if len(compared) > 1 else _one_day(compared[0]),
        height=280 if len(compared) > 1 else 96,
        header=("day", "requests", "the reference", "suffice", "difference"),
        rows=tuple(
            (
                str(day.key),
                f"{day.requests:,}",
                show_usd(baseline_usd(day)),
                show_usd(day.compared.known_usd),
                saving_words(day),
            )
            for day in compared
        ),
    )


def _by_day(days: Sequence[Totals]) -> Chart:
    points: list[Point] = [
        {"day": day.key, "before": float(baseline_usd(day)), "after": float(day.compared.known_usd)}
        for day in days
    ]
    ends = [0.0, *(point[side] for point in points for side in ("before", "after"))]
    dates = alt.Axis(title=None, format="%-d %b", tickCount=6, grid=False, labelOverlap=True)
    base = alt.Chart(data(points)).encode(x=alt.X("day:T", axis=dates, scale=alt.Scale(nice=False)))
    y = along(alt.Y, "before", ends, title="↑ dollars a day", form=dollars(ends), zero=True)
    tips = [alt.Tooltip("day:T"), alt.Tooltip("before:Q", format="$,.4~r", title="the reference")]
    tips.append(alt.Tooltip("after:Q", format="$,.4~r", title="suffice"))
    layers = [base.mark_area(color=GREEN, opacity=0.13).encode(y=y, y2=alt.Y2("after:Q"))]
    for key, name, hue in (("before", "the reference", GREY), ("after", "suffice", BLUE)):
        line = base.mark_line(color=hue, strokeWidth=2.5, point={"color": hue, "size": 34})
        layers.append(line.encode(y=alt.Y(f"{key}:Q"), tooltip=tips))
        best = max(points, key=lambda point: point[key])
        text = alt.Chart(data([best | {"name": name}])).mark_text(color=hue, dy=-13, fontWeight=600)
        layers.append(text.encode(x=alt.X("day:T"), y=alt.Y(f"{key}:Q"), text=alt.Text("name:N")))
    return alt.layer(*layers)


def _one_day(day: Totals) -> Chart:
    sides = (("the reference", baseline_usd(day), GREY), ("suffice", day.compared.known_usd, BLUE))
    points = [_bar(name, amount, hue=hue) for name, amount, hue in sides]
    return bars(points, title="dollars →")


def _bar(name: str, amount: Decimal, *, hue: str, label: str = "") -> Point:
    return {"name": name, "value": float(amount), "label": label or show_usd(amount), "colour": hue}


def vectors_figure(vectors: Sequence[Totals]) -> Figure:
    """Show the saving of each vector; it is negative if it cost more than the reference."""
    known = [
        vector for vector in vectors if vector.saved.reported_count + vector.saved.estimated_count
    ]
    if not any(vector.saved.known_usd for vector in known):
        return Figure(title="What saved it", caption=_NO_REFERENCE if not known else _NO_SAVING)
    known.sort(key=lambda vector: -vector.saved.known_usd)
    total = sum((vector.saved.known_usd for vector in known), Decimal(0))
    best = known[0]
    most = f"{VECTORS[str(best.key)]}: {signed_usd(best.saved.known_usd)} saved"
    return Figure(
        title=most if best.saved.known_usd == total else f"{most}, {signed_usd(total)} in all",
        caption="A request's saving is booked to the vector of its rung. "
        "Requests that the reference answered save nothing, and cost more if a cheaper answer "
        "was tried first and discarded.",
        alt="Bars of the dollars that each vector saved.",
        chart=bars(
            [
                _bar(
                    VECTORS[str(vector.key)],
                    vector.saved.known_usd,
                    hue=GREEN if vector.saved.known_usd >= 0 else VERMILION,
                    label=signed_usd(vector.saved.known_usd),
                )
                for vector in known
            ],
            title="dollars saved →",
        ),
        height=48 * len(known),
        header=("vector", "requests", "reference", "suffice", "saved", "of unknown saving"),
        rows=tuple(_vector_row(vector) for vector in known),
    )


def _vector_row(vector: Totals) -> Cells:
    return (
        VECTORS[str(vector.key)],
        f"{vector.requests:,}",
        show_usd(baseline_usd(vector)),
        show_usd(vector.compared.known_usd),
        signed_usd(vector.saved.known_usd),
        f"{vector.saved.unknown_count:,}",
    )


def rungs_figure(rungs: Sequence[Totals], *, colours: Mapping[str, str]) -> Figure:
    """Show each rung's share of the requests beside its share of the spend."""
    answered = [rung for rung in rungs if rung.key is not None]
    requests = sum(rung.requests for rung in answered)
    if not requests:
        return Figure(title="Share by rung", caption="No request was answered by a rung yet.")
    spent = sum((rung.spend.known_usd for rung in answered), Decimal(0))
    shares = {"requests": {str(rung.key): rung.requests / requests for rung in answered}}
    if spent:
        shares["spend"] = {str(rung.key): float(rung.spend.known_usd / spent) for rung in answered}
    most = max(answered, key=lambda rung: rung.requests)
    title = (
        f"{quoted(most.key)} answered {show_share(shares['requests'][str(most.key)])} of requests"
    )
    if spent:
        title += f" for {show_share(shares['spend'][str(most.key)])} of the spend"
    return Figure(
        title=title,
        caption="By the rung whose answer was kept; its spend includes the attempts that were "
        "discarded before it."
        + ("" if spent else " No charge is known, so the spend is not shown."),
        alt="Stacked bars of each rung's share of requests and of spend.",
        chart=stacked(shares, colours=colours),
        height=80 * len(shares),
        header=("rung", "requests", "spend", "of unknown charge"),
        rows=tuple(
            (
                str(rung.key),
                f"{rung.requests:,}",
                show_spend(rung.spend),
                f"{rung.spend.unknown_count:,}",
            )
            for rung in answered
        ),
    )


def _colours(report: LedgerReport) -> dict[str, str]:
    """Return the colours of rungs, from the cheapest to the dearest; references are grey."""

    def dearness(totals: Totals) -> tuple[bool, Decimal]:
        return totals.key in report.references, totals.spend.known_usd / totals.requests

    names = [
        str(totals.key) for totals in sorted(report.rungs, key=dearness) if totals.key is not None
    ]
    names += [totals.first for totals in report.flow if totals.first not in names]
    return ladder_colours(tuple(dict.fromkeys(names)), references=report.references)


def groups_figure(groups: Sequence[Totals]) -> Figure:
    """Show the spend of each group beside the cost of the reference."""
    compared = sorted((g for g in groups if baseline_usd(g)), key=baseline_usd, reverse=True)
    if len(compared) < 2:
        why = (
            "Fewer than two groups of requests have a known saving, so there is nothing to compare."
        )
        return Figure(title="By group", caption=why)
    largest = compared[:MOST_GROUPS]
    best = max(largest, key=lambda group: saved_share(group) or 0.0)
    worst = min(largest, key=lambda group: saved_share(group) or 0.0)
    rest = f" The {len(compared) - len(largest)} smaller groups are left out." * (
        largest != compared
    )
    return Figure(
        title=f"{_named(best)} costs {saving_words(best)} than the reference, "
        f"{_named(worst)} {saving_words(worst)}",
        caption=f"Grey is what the reference would have cost, blue what was spent.{rest}",
        alt="For each group, the reference's cost and the spend.",
        chart=_dumbbells(largest),
        height=40 * len(largest) + 20,
        header=("group", "requests", "the reference", "suffice", "difference"),
        rows=tuple(
            (
                _group(group),
                f"{group.requests:,}",
                show_usd(baseline_usd(group)),
                show_usd(group.compared.known_usd),
                saving_words(group),
            )
            for group in compared
        ),
    )


def _group(totals: Totals) -> str:
    return "no group" if totals.key is None else totals.key


def _named(totals: Totals) -> str:
    return "No group" if totals.key is None else quoted(totals.key)


def _dumbbells(groups: Sequence[Totals]) -> Chart:
    points: list[Point] = [
        {"name": _group(group), "before": float(baseline_usd(group))}
        | {"after": float(group.compared.known_usd)}
        for group in groups
    ]
    ends = [0.0, *(point[side] for point in points for side in ("before", "after"))]
    rows = alt.Chart(data(points)).encode(y=down([point["name"] for point in points]))
    x = along(alt.X, "before", ends, title="dollars →", form=dollars(ends), zero=True)
    layers = [
        rows.mark_rule(color=GREEN, opacity=0.35, strokeWidth=5).encode(x=x, x2=alt.X2("after:Q"))
    ]
    for side, hue in (("before", GREY), ("after", BLUE)):
        layers.append(rows.mark_circle(color=hue, size=150, opacity=1).encode(x=alt.X(f"{side}:Q")))
    return alt.layer(*layers)


def known_figure(whole: Totals) -> Figure:
    """Show how much of the spend is from reported counts, from estimates, and unknown."""
    spend, total = whole.spend, whole.spend.known_usd
    header = ("", "requests", "amount")
    rows = (
        ("reported", f"{spend.reported_count:,}", show_usd(spend.reported_usd)),
        ("estimated", f"{spend.estimated_count:,}", show_usd(spend.estimated_usd)),
        ("unknown", f"{spend.unknown_count:,}", "unknown"),
    )
    caption = (
        "Estimated amounts are from an estimated token count. A charge is unknown if the price or "
        "a count is missing; such requests are in no sum on this page and come on top."
    )
    unknown = f"{spend.unknown_count:,} of {some(whole.requests, 'request')} without a known charge"
    if not total:
        return Figure(title=unknown, caption=caption, header=header, rows=rows)
    share = float(spend.reported_usd / total)
    shares = {"spend": {"reported": share, "estimated": float(spend.estimated_usd / total)}}
    return Figure(
        title=f"{show_share(share)} of the spend is from reported counts; {unknown}",
        caption=caption,
        alt="A bar of the spend from reported and from estimated counts.",
        chart=stacked(shares, colours={"reported": BLUE, "estimated": AMBER}),
        height=80,
        header=header,
        rows=rows,
    )


def ends_figure(report: LedgerReport) -> Figure:
    """List how requests ended, how many were audited, and the cost of the other calls."""
    whole = report.whole
    failed, audited = whole.statuses["failed"], whole.audited
    roles = {str(role.key): role for role in report.roles}
    return Figure(
        title=f"{_of(failed, whole.requests)} of requests failed, "
        f"{_of(audited, whole.requests)} were audited",
        caption="Failed and cancelled requests are charged for the text that was generated. Audits "
        "and shadows call rungs off the client's path; their cost is not part of the spend above.",
        header=("", "number", "cost"),
        rows=(
            *((f"requests: {status}", f"{n:,}", "") for status, n in whole.statuses.items()),
            ("requests: audited", f"{audited:,}", ""),
            *(
                (f"calls: {role}", f"{roles[role].calls:,}", _amount(roles[role].spend))
                for role in ("answer", "discarded", "check", "audit", "shadow")
                if role in roles
            ),
        ),
    )


def _of(part: int, whole: int) -> str:
    return show_share(part / whole if whole else None)


def _amount(spend: Spend) -> str:
    known = show_spend(spend)
    partly = spend.unknown_count and known != "unknown"
    return f"{known}, and {spend.unknown_count:,} unknown" if partly else known


def tokens_figure(calls: CallTotals) -> Figure:
    """List the tokens of all calls by kind and by count source."""
    kinds: tuple[tuple[str, TokenSum], ...] = (
        ("input", calls.input_tokens),
        ("of which read from cache", calls.cache_read_tokens),
        ("of which written to cache", calls.cache_write_tokens),
        ("output", calls.output_tokens),
        ("of which reasoning", calls.reasoning_tokens),
    )
    amounts = (calls.input_tokens, calls.output_tokens)
    read, written = (amount.reported + amount.counted + amount.estimated for amount in amounts)
    return Figure(
        title=f"{read:,} tokens read, {written:,} written, in {some(calls.calls, 'call')}",
        caption="Counts are reported by the engine, counted by suffice with the model's own "
        "tokenizer, or estimated. Calls without a count are not in the sums.",
        header=("tokens", *(source.value for source in CountSource), "calls without a count"),
        rows=tuple(
            (
                name,
                f"{sums.reported:,}",
                f"{sums.counted:,}",
                f"{sums.estimated:,}",
                f"{sums.unknown_calls:,}",
            )
            for name, sums in kinds
        ),
    )
