"""The figures of a report on a ledger: what was spent, what was saved, and how that is known."""

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
from suffice.report.summary import LedgerReport
from suffice.types import CountSource, Spend
from suffice.units import show_share, show_usd

MOST_GROUPS = 12
_NO_REFERENCE = (
    "No request has both a known charge and a known cost at the reference rung, so nothing can be "
    "said about savings. Audits measure the reference; a price on every rung makes charges known."
)

_NO_SAVING = "Every request cost just what the reference would have cost, so nothing was saved."


def ledger_figures(report: LedgerReport) -> Iterator[Figure]:
    """Make the figures of a report on a ledger, the most important first."""
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
    tips = ["day:T", alt.Tooltip("before:Q", format="$,.4~r", title="the reference")]
    tips.append(alt.Tooltip("after:Q", format="$,.4~r", title="suffice"))
    layers = [base.mark_area(color=GREEN, opacity=0.13).encode(y=y, y2="after:Q")]
    for key, name, hue in (("before", "the reference", GREY), ("after", "suffice", BLUE)):
        line = base.mark_line(color=hue, strokeWidth=2.5, point={"color": hue, "size": 34})
        layers.append(line.encode(y=alt.Y(f"{key}:Q"), tooltip=tips))
        best = max(points, key=lambda point: point[key])
        text = alt.Chart(data([best | {"name": name}])).mark_text(color=hue, dy=-13, fontWeight=600)
        layers.append(text.encode(x="day:T", y=f"{key}:Q", text="name:N"))
    return alt.layer(*layers)


def _one_day(day: Totals) -> Chart:
    sides = (("the reference", baseline_usd(day), GREY), ("suffice", day.compared.known_usd, BLUE))
    points = [_bar(name, amount, hue=hue) for name, amount, hue in sides]
    return bars(points, title="dollars →")


def _bar(name: str, amount: Decimal, *, hue: str, label: str = "") -> Point:
    return {"name": name, "value": float(amount), "label": label or show_usd(amount), "colour": hue}


def vectors_figure(vectors: Sequence[Totals]) -> Figure:
    """Show how much each vector saved; one that cost more than the reference stands below zero."""
    known = [each for each in vectors if each.saved.reported_count + each.saved.estimated_count]
    if not any(each.saved.known_usd for each in known):
        return Figure(title="What saved it", caption=_NO_REFERENCE if not known else _NO_SAVING)
    known.sort(key=lambda each: -each.saved.known_usd)
    total = sum((each.saved.known_usd for each in known), Decimal(0))
    best = known[0]
    most = f"{VECTORS[str(best.key)]}: {signed_usd(best.saved.known_usd)} saved"
    return Figure(
        title=most if best.saved.known_usd == total else f"{most}, {signed_usd(total)} in all",
        caption="A request's saving is booked to the one vector that its rung stands for. "
        "Requests that the reference answered save nothing, and cost more where a cheaper answer "
        "was tried first and discarded.",
        alt="Bars of the dollars that each vector saved.",
        chart=bars(
            [
                _bar(
                    VECTORS[str(each.key)],
                    each.saved.known_usd,
                    hue=GREEN if each.saved.known_usd >= 0 else VERMILION,
                    label=signed_usd(each.saved.known_usd),
                )
                for each in known
            ],
            title="dollars saved →",
        ),
        height=48 * len(known),
        header=("vector", "requests", "reference", "suffice", "saved", "of unknown saving"),
        rows=tuple(_vector_row(each) for each in known),
    )


def _vector_row(each: Totals) -> Cells:
    return (
        VECTORS[str(each.key)],
        f"{each.requests:,}",
        show_usd(baseline_usd(each)),
        show_usd(each.compared.known_usd),
        signed_usd(each.saved.known_usd),
        f"{each.saved.unknown_count:,}",
    )


def rungs_figure(rungs: Sequence[Totals], *, colours: Mapping[str, str]) -> Figure:
    """Set each rung's share of the requests against its share of the spend."""
    answered = [each for each in rungs if each.key is not None]
    requests = sum(each.requests for each in answered)
    if not requests:
        return Figure(title="Share by rung", caption="No request was answered by a rung yet.")
    spent = sum((each.spend.known_usd for each in answered), Decimal(0))
    shares = {"requests": {str(each.key): each.requests / requests for each in answered}}
    if spent:
        shares["spend"] = {str(each.key): float(each.spend.known_usd / spent) for each in answered}
    most = max(answered, key=lambda each: each.requests)
    title = (
        f"{quoted(most.key)} answered {show_share(shares['requests'][str(most.key)])} of requests"
    )
    if spent:
        title += f" for {show_share(shares['spend'][str(most.key)])} of the spend"
    return Figure(
        title=title,
        caption="By the rung whose answer was kept; its spend includes attempts discarded on the "
        "way to it." + ("" if spent else " No charge is known, so the spend is not shown."),
        alt="Stacked bars of each rung's share of requests and of spend.",
        chart=stacked(shares, colours=colours),
        height=80 * len(shares),
        header=("rung", "requests", "spend", "of unknown charge"),
        rows=tuple(
            (
                str(each.key),
                f"{each.requests:,}",
                show_spend(each.spend),
                f"{each.spend.unknown_count:,}",
            )
            for each in answered
        ),
    )


def _colours(report: LedgerReport) -> dict[str, str]:
    """Colour rungs from the cheapest a request to the dearest, references last and grey."""

    def dearness(each: Totals) -> tuple[bool, Decimal]:
        return each.key in report.references, each.spend.known_usd / each.requests

    names = [str(each.key) for each in sorted(report.rungs, key=dearness) if each.key is not None]
    names += [each.first for each in report.flow if each.first not in names]
    return ladder_colours(tuple(dict.fromkeys(names)), references=report.references)


def groups_figure(groups: Sequence[Totals]) -> Figure:
    """Show by group what the reference would have cost and what was spent."""
    compared = sorted((g for g in groups if baseline_usd(g)), key=baseline_usd, reverse=True)
    if len(compared) < 2:
        why = (
            "Fewer than two groups of requests have a known saving, so there is nothing to compare."
        )
        return Figure(title="By group", caption=why)
    shown = compared[:MOST_GROUPS]
    best = max(shown, key=lambda each: saved_share(each) or 0.0)
    worst = min(shown, key=lambda each: saved_share(each) or 0.0)
    rest = f" The {len(compared) - len(shown)} smaller groups are left out." * (shown != compared)
    return Figure(
        title=f"{_named(best)} costs {saving_words(best)} than the reference, "
        f"{_named(worst)} {saving_words(worst)}",
        caption=f"Grey is what the reference would have cost, blue what was spent.{rest}",
        alt="For each group, the reference's cost and the spend.",
        chart=_dumbbells(shown),
        height=40 * len(shown) + 20,
        header=("group", "requests", "the reference", "suffice", "difference"),
        rows=tuple(
            (
                _group(each),
                f"{each.requests:,}",
                show_usd(baseline_usd(each)),
                show_usd(each.compared.known_usd),
                saving_words(each),
            )
            for each in compared
        ),
    )


def _group(totals: Totals) -> str:
    return "no group" if totals.key is None else totals.key


def _named(totals: Totals) -> str:
    return "No group" if totals.key is None else quoted(totals.key)


def _dumbbells(groups: Sequence[Totals]) -> Chart:
    points: list[Point] = [
        {"name": _group(each), "before": float(baseline_usd(each))}
        | {"after": float(each.compared.known_usd)}
        for each in groups
    ]
    ends = [0.0, *(point[side] for point in points for side in ("before", "after"))]
    rows = alt.Chart(data(points)).encode(y=down([point["name"] for point in points]))
    x = along(alt.X, "before", ends, title="dollars →", form=dollars(ends), zero=True)
    layers = [rows.mark_rule(color=GREEN, opacity=0.35, strokeWidth=5).encode(x=x, x2="after:Q")]
    for side, hue in (("before", GREY), ("after", BLUE)):
        layers.append(rows.mark_circle(color=hue, size=150, opacity=1).encode(x=f"{side}:Q"))
    return alt.layer(*layers)


def known_figure(whole: Totals) -> Figure:
    """Show how much of the spend rests on reported counts, on estimates, and on nothing."""
    spend, total = whole.spend, whole.spend.known_usd
    header = ("", "requests", "amount")
    rows = (
        ("reported", f"{spend.reported_count:,}", show_usd(spend.reported_usd)),
        ("estimated", f"{spend.estimated_count:,}", show_usd(spend.estimated_usd)),
        ("unknown", f"{spend.unknown_count:,}", "unknown"),
    )
    caption = (
        "Estimated amounts rest on a guessed token count. Requests of unknown charge, for want of "
        "a price or of a count, are in no sum on this page: they come on top."
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
    """Say how requests ended, how many were audited, and what discarded calls and audits cost."""
    whole = report.whole
    failed, audited = whole.statuses["failed"], whole.audited
    roles = {str(role.key): role for role in report.roles}
    return Figure(
        title=f"{_of(failed, whole.requests)} of requests failed, "
        f"{_of(audited, whole.requests)} were audited",
        caption="Failed and cancelled requests are charged for what was generated. Audits ask the "
        "reference off the client's path; their cost is not part of the spend above.",
        header=("", "number", "cost"),
        rows=(
            *((f"requests: {status}", f"{n:,}", "") for status, n in whole.statuses.items()),
            ("requests: audited", f"{audited:,}", ""),
            *(
                (f"calls: {role}", f"{roles[role].calls:,}", _amount(roles[role].spend))
                for role in ("answer", "discarded", "audit")
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
    """Lay out the tokens of all calls by kind, apart by how they are known."""
    kinds: tuple[tuple[str, TokenSum], ...] = (
        ("input", calls.input_tokens),
        ("of which read from cache", calls.cache_read_tokens),
        ("of which written to cache", calls.cache_write_tokens),
        ("output", calls.output_tokens),
        ("of which reasoning", calls.reasoning_tokens),
    )
    amounts = (calls.input_tokens, calls.output_tokens)
    read, written = (each.reported + each.counted + each.estimated for each in amounts)
    return Figure(
        title=f"{read:,} tokens read, {written:,} written, in {some(calls.calls, 'call')}",
        caption="Reported by the engine, counted by us with the model's own tokenizer, or "
        "estimated. Calls without a count are not guessed at.",
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
