"""Figures about rungs for both kinds of report: which rung answers, and at what length."""

from collections import Counter
from collections.abc import Mapping, Sequence

import altair as alt

from suffice.ledger import Flow
from suffice.report.charts import (
    GREY,
    INK,
    VERMILION,
    Chart,
    Figure,
    Point,
    along,
    colour,
    data,
    down,
    quoted,
    stacked,
)
from suffice.report.summary import TokenSpread
from suffice.units import show_share


def flow_figure(
    flow: Sequence[Flow], *, colours: Mapping[str, str], share: Mapping[str, float]
) -> Figure:
    """Show the shares of requests by the rung tried first and by the rung that answered."""
    shares = _flow_shares(flow) or ({"answered": dict(share)} if share else {})
    if not shares:
        why = "No policy chose between the rungs, so there is no flow between them to show."
        return Figure(title="Who answers", caption=why)
    present = {rung for parts in shares.values() for rung in parts}
    hues = {**colours, **dict.fromkeys(sorted(present - {*colours}), VERMILION)}
    hues = {rung: hue for rung, hue in hues.items() if rung in present}
    ranked = sorted(shares["answered"].items(), key=lambda item: -item[1])
    return Figure(
        title=", ".join(f"{quoted(rung)} answers {show_share(part)}" for rung, part in ranked[:3]),
        caption="If one rung is tried first and another answers, the policy saw the first answer "
        "and asked a dearer rung; both are paid for."
        if len(shares) > 1
        else "Share of requests by the rung whose answer was kept.",
        alt="Stacked bars of the share of requests by the rung tried first and the one answering.",
        chart=stacked(shares, colours=hues),
        height=80 * len(shares),
        header=("", *hues),
        rows=tuple(
            (name, *(show_share(parts.get(rung, 0.0)) for rung in hues))
            for name, parts in shares.items()
        ),
    )


def _flow_shares(flow: Sequence[Flow]) -> dict[str, dict[str, float]]:
    total = sum(path.requests for path in flow)
    first, answered = Counter[str](), Counter[str]()
    for path in flow:
        first[path.first] += path.requests
        answered[path.answered or "nobody"] += path.requests
    counted = {"tried first": first, "answered": answered} if total else {}
    return {name: {k: n / total for k, n in bar.items()} for name, bar in counted.items()}


def tokens_figure(spreads: Sequence[TokenSpread], *, colours: Mapping[str, str]) -> Figure:
    """Show the lengths of each rung's answers: median, middle half, and middle 90 %."""
    if not spreads:
        why = "No rung has a token count for every answer."
        return Figure(title="How long answers are", caption=why)
    longest = max(spreads, key=lambda spread: spread.quantiles[2])
    shortest = min(spreads, key=lambda spread: spread.quantiles[2])
    within = f"end within {shortest.quantiles[2]:,.0f} tokens"
    halves = f"Half of the answers of {quoted(shortest.rung)} {within}"
    estimated = [spread.rung for spread in spreads if spread.estimated]
    return Figure(
        title=halves
        if longest is shortest
        else f"{halves}, of {quoted(longest.rung)} within {longest.quantiles[2]:,.0f}",
        caption="The tick is the median, the bar the middle half of the answers, the line the "
        "middle 90 %. Reasoning tokens are counted."
        + (f" Counts of {', '.join(estimated)} are partly estimated." if estimated else ""),
        alt="For each rung, the range of output tokens of its answers.",
        chart=_tokens_chart(spreads, colours=colours),
        height=52 * len(spreads),
        header=("rung", "answers", "5 %", "25 %", "median", "75 %", "95 %"),
        rows=tuple(
            (spread.rung, f"{spread.answers:,}", *(f"{q:,.0f}" for q in spread.quantiles))
            for spread in spreads
        ),
    )


def _tokens_chart(spreads: Sequence[TokenSpread], *, colours: Mapping[str, str]) -> Chart:
    points: list[Point] = [
        {"name": spread.rung, "colour": colours.get(spread.rung, GREY)}
        | dict(zip(("p5", "p25", "p50", "p75", "p95"), spread.quantiles, strict=True))
        for spread in spreads
    ]
    ends = [point[key] for point in points for key in ("p5", "p95")]
    x = along(alt.X, "p5", ends, title="output tokens →", form=",.3~r")
    rows = alt.Chart(data(points)).encode(
        y=down([spread.rung for spread in spreads]), color=colour()
    )
    return (
        rows.mark_rule(strokeWidth=2).encode(x=x, x2=alt.X2("p95:Q"))
        + rows.mark_bar(size=18, cornerRadius=2).encode(x=alt.X("p25:Q"), x2=alt.X2("p75:Q"))
        + rows.mark_tick(thickness=3, size=26).encode(x=alt.X("p50:Q"), color=alt.ColorValue(INK))
    )
