"""The figures of the page of `suffice compound`."""

import math
from collections.abc import Sequence
from decimal import Decimal
from itertools import accumulate, pairwise
from operator import truediv

import altair as alt

from suffice.compound import Compound
from suffice.compound.result import CellReport
from suffice.report.charts import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    INK,
    MUTED,
    PURPLE,
    SKY,
    VERMILION,
    Cells,
    Chart,
    Figure,
    Point,
    colour,
    data,
    down,
    stacked,
)
from suffice.report.compound_tables import (
    evidence_figure,
    factors_figure,
    identity_figure,
    interval_of,
    parts_figure,
    show_ends,
    show_spread,
    show_times,
    value_of,
)
from suffice.report.style import change_words
from suffice.trials.resample import Estimate
from suffice.units import show_share, show_usd

NO_INTERACTION = 0.005  # of a logarithm; a smaller interaction is not shown
_HUES = {"paradigm": SKY, "output": BLUE, "architecture": GREEN, "silicon": AMBER}
_PARTS = {"answer": BLUE, "prompt": SKY, "other": PURPLE}
_PART_NAMES = {"answer": "answers", "prompt": "prompts", "other": "predictions"}
_STANDING = {"certified": BLUE, "reference": GREY, "not certified": VERMILION}


def compound_figures(result: Compound) -> tuple[Figure, ...]:
    """Return all figures of the page, the staircase of the identity first."""
    return (
        staircase_figure(result),
        cells_figure(result),
        interactions_figure(result),
        money_figure(result),
        identity_figure(result),
        factors_figure(result),
        evidence_figure(result),
        parts_figure(result),
    )


def staircase_figure(result: Compound) -> Figure:
    """Show the identity as steps on a logarithmic axis, the interaction last."""
    title = "Where the saving comes from"
    if result.product_of_factors is None or result.interaction is None or result.reduction is None:
        why = "A combination that it needs is not certified, so the steps cannot be drawn."
        return Figure(title=title, caption=why)
    steps = _steps(result)
    return Figure(
        title=f"Alone {show_times(result.product_of_factors)} times, together "
        f"{show_times(result.reduction)} times",
        caption="Cost per request = decodes \u00d7 tokens per decode \u00d7 work per token \u00d7 "
        "dollars per work. Each step is one factor, switched on alone. If factors multiplied, the "
        "last step would end at the cost that was paid; the interaction is the difference. "
        "The scale is logarithmic: equal lengths are equal factors.",
        alt="Steps from the baseline's cost per request to the one with every lever on.",
        chart=_staircase(steps),
        height=46 * len(steps),
        header=("step", "factor", "95 % interval", "cost per request after it"),
        rows=tuple(
            (str(s["name"]), str(s["factor"]), str(s["interval"]), _usd(s["end"])) for s in steps
        ),
    )


def _steps(result: Compound) -> list[Point]:
    """Return the steps end to end, from the baseline's cost to the full cell's."""
    moves: list[tuple[str, Estimate | None, str]] = [
        (factor.vector, factor.alone, _HUES[factor.vector])
        for factor in result.factors
        if factor.alone is not None
    ]
    hue = VERMILION if value_of(result.interaction) < 1 else PURPLE
    moves.append(("interaction", result.interaction, hue))
    start = result.identity.usd_before
    ends = list(
        accumulate((value_of(estimate) for _, estimate, _ in moves), truediv, initial=start)
    )
    steps: list[Point] = [_end("before", start, colour=GREY)]
    for (name, factor, own), (begin, end) in zip(moves, pairwise(ends), strict=True):
        steps.append(
            {
                "name": name,
                "start": begin,
                "end": end,
                "colour": own,
                "factor": change_words(value_of(factor)),
                "interval": " to ".join(map(change_words, interval_of(factor))),
            }
        )
    return [*steps, _end("after", result.identity.usd_after, colour=INK)]


def _end(name: str, usd: float, *, colour: str) -> Point:
    """Return the row of a total: a mark at its cost, without a step."""
    return {
        "name": name,
        "start": usd,
        "end": usd,
        "colour": colour,
        "factor": _usd(usd),
        "interval": "",
    }


def _staircase(steps: Sequence[Point]) -> Chart:
    costs = [float(step[key]) for step in steps for key in ("start", "end")]
    room = (max(costs) / min(costs)) ** 0.28
    span = alt.Scale(type="log", domain=[min(costs) / 1.15, max(costs) * room], nice=False)
    x = alt.X("start:Q", scale=span, axis=None)
    names = down([str(step["name"]) for step in steps])
    points = [
        step | {"right": max(step["start"], step["end"]), "label": step["factor"]} for step in steps
    ]
    rows = alt.Chart(data(points)).encode(y=names)
    moved = alt.Chart(data([p for p in points if p["start"] != p["end"]])).encode(y=names)
    still = alt.Chart(data([p for p in points if p["start"] == p["end"]])).encode(y=names)
    joints = [
        {"name": one["name"], "next": two["name"], "at": one["end"]}
        for one, two in pairwise(points)
    ]
    ties = alt.Chart(data(joints)).mark_rule(color=MUTED, strokeDash=[2, 3])
    return (
        ties.encode(x=alt.X("at:Q", scale=span, axis=None), y=names, y2=alt.Y2("next:N"))
        + moved.mark_bar(size=24, cornerRadius=2).encode(x=x, x2=alt.X2("end:Q"), color=colour())
        + still.mark_tick(thickness=5, size=28).encode(x=x, color=colour())
        + rows.mark_text(align="left", dx=9).encode(
            x=alt.X("right:Q", scale=span, axis=None), text=alt.Text("label:N")
        )
    )


def cells_figure(result: Compound) -> Figure:
    """Show every combination of levers: its reduction, and whether it is certified."""
    order = [factor.lever for factor in result.factors]
    known = [cell for cell in result.cells if cell.reduction is not None]
    figure = Figure(
        title=f"All {len(result.cells)} combinations, from the same trials",
        caption=f"Circles stand for {', '.join(order)}, in this order; a filled circle is a lever "
        "that is on. A dot is how many times cheaper the combination is than no lever, with its "
        "95 % interval; the small tick is the product of the levers alone. Blue is certified; "
        "grey has the reference's own answers.",
        alt="Dots of the reduction of cost for every combination of levers.",
        header=("levers", "cheaper", "cost per request", "quality", "risk seen", "bound", "known"),
        rows=tuple(_cell_row(cell) for cell in (*result.cells, result.competent) if cell),
    )
    if len(known) < len(result.cells):
        return figure
    points = [_cell_point(cell, result, order=order) for cell in known]
    return Figure(
        title=figure.title,
        caption=figure.caption,
        alt=figure.alt,
        chart=_cells_chart(points),
        height=28 * len(points) + 40,
        header=figure.header,
        rows=figure.rows,
    )


def _cell_row(cell: CellReport) -> Cells:
    return (
        " + ".join(cell.levers) or "none",
        cell.standing if cell.reduction is None else show_spread(cell.reduction),
        _usd(cell.usd_per_request),
        show_share(cell.quality),
        show_share(cell.risk),
        "" if cell.bound is None else show_share(cell.bound),
        f"{cell.standing}, {cell.grade}",
    )


def _cell_point(cell: CellReport, result: Compound, *, order: Sequence[str]) -> Point:
    alone = {f.lever: value_of(f.alone) for f in result.factors if f.alone is not None}
    value, product = value_of(cell.reduction), math.prod(alone[lever] for lever in cell.levers)
    low, high = interval_of(cell.reduction)
    return {
        "name": _circles(cell.levers, order),
        "times": value,
        "low": low,
        "high": high,
        "product": product,
        "edge": max(high, product),
        "label": f"{value:.3g}",
        "colour": _STANDING[cell.standing],
    }


def _circles(levers: Sequence[str], order: Sequence[str]) -> str:
    return "".join("\u25cf" if lever in levers else "\u25cb" for lever in order)


def _cells_chart(points: Sequence[Point]) -> Chart:
    top = max(p["edge"] for p in points)
    low = min(min(p["low"], p["product"]) for p in points)
    span = alt.Scale(type="log", domain=[low / 1.1, top * top**0.12], nice=False)
    axis = alt.Axis(title="times cheaper \u2192", tickCount=5, format="~r")
    x = alt.X("times:Q", scale=span, axis=axis)
    rows = alt.Chart(data(points)).encode(y=down([str(p["name"]) for p in points]))
    tips = [
        alt.Tooltip("name:N"),
        alt.Tooltip("times:Q", format=".3~g"),
        alt.Tooltip("product:Q", format=".3~g"),
    ]
    label = alt.X("edge:Q", scale=span, axis=axis)
    return (
        rows.mark_rule(strokeWidth=2).encode(
            x=alt.X("low:Q", scale=span, axis=axis), x2=alt.X2("high:Q"), color=colour()
        )
        + rows.mark_tick(thickness=2, size=12, color=MUTED).encode(
            x=alt.X("product:Q", scale=span, axis=axis)
        )
        + rows.mark_circle(size=110, opacity=1).encode(x=x, color=colour(), tooltip=tips)
        + rows.mark_text(align="left", dx=12).encode(x=label, text=alt.Text("label:N"))
    )


def interactions_figure(result: Compound) -> Figure:
    """Show what levers give together beyond what fewer of them explain."""
    order = [factor.lever for factor in result.factors]
    known = [term for term in result.interactions if term.factor is not None]
    title = "Which levers get in each other's way"
    if not known or len(known) < len(result.interactions):
        why = "This needs two levers or more, and every combination of them certified."
        return Figure(title=title, caption=why)
    most = max(known, key=lambda term: abs(math.log(value_of(term.factor))))
    points: list[Point] = [
        {"name": _circles(term.levers, order), "times": value_of(term.factor), "one": 1.0}
        | dict(zip(("low", "high"), interval_of(term.factor), strict=True))
        | {"colour": VERMILION if value_of(term.factor) < 1 else PURPLE}
        | {"label": f"{value_of(term.factor):.3g}", "edge": max(1.0, interval_of(term.factor)[1])}
        for term in known
        if abs(math.log(value_of(term.factor))) >= NO_INTERACTION
    ]
    return Figure(
        title=f"{' and '.join(most.levers)}: together a factor of {value_of(most.factor):.3g}"
        if abs(math.log(value_of(most.factor))) >= NO_INTERACTION
        else "No two levers get in each other's way",
        caption=f"Circles stand for {', '.join(order)}. Left of 1, levers save the same dollars; "
        "right of 1, one makes room for the other. Terms of three or more levers are what pairs "
        "do not explain. All terms multiply to the interaction. Terms within half a per cent of 1 "
        "are in the table only.",
        alt="Bars of the interaction of every two or more levers.",
        chart=_interactions_chart(points) if points else None,
        height=34 * len(points) + 10,
        header=("levers", "factor", "95 % interval"),
        rows=tuple(
            (" + ".join(term.levers), f"{value_of(term.factor):.3g}", show_ends(term.factor))
            for term in known
        ),
    )


def _interactions_chart(points: Sequence[Point]) -> Chart:
    far = max(max(p["high"], 1 / p["low"]) for p in points) ** 1.5
    span = alt.Scale(type="log", domain=[1 / far, far], nice=False)
    x = alt.X("times:Q", scale=span, axis=None)
    rows = alt.Chart(data(points)).encode(y=down([str(p["name"]) for p in points]))
    one = alt.Chart(data(points[:1])).mark_rule(color=INK, strokeWidth=1.5)
    layers = [
        rows.mark_bar(size=16, cornerRadius=2).encode(x=x, x2=alt.X2("one:Q"), color=colour()),
        rows.mark_rule(strokeWidth=1.5, color=INK).encode(
            x=alt.X("low:Q", scale=span, axis=None), x2=alt.X2("high:Q")
        ),
        one.encode(x=alt.X("one:Q", scale=span, axis=None)),
        rows.mark_text(align="left", dx=9).encode(
            x=alt.X("edge:Q", scale=span, axis=None), text=alt.Text("label:N")
        ),
    ]
    return alt.layer(*layers)


def money_figure(result: Compound) -> Figure:
    """Show what each dollar pays for, before and after."""
    sides = {"before": result.identity.shares_before, "after": result.identity.shares_after}
    shares = {
        side: {_PART_NAMES[part]: share for part, share in parts.items()}
        for side, parts in sides.items()
    }
    hues = {_PART_NAMES[part]: hue for part, hue in _PARTS.items()}
    return Figure(
        title=f"Answers are {show_share(shares['before']['answers'])} of the cost before, "
        f"{show_share(shares['after']['answers'])} after",
        caption="A part that no lever shortens becomes a larger share; so factors seldom multiply. "
        "Predictions are the cost of rungs that decode nothing.",
        alt="Two bars of the shares of cost by what is paid for.",
        chart=stacked(shares, colours=hues),
        height=80 * len(shares),
        header=("", *hues),
        rows=tuple(
            (side, *(show_share(parts[name]) for name in hues)) for side, parts in shares.items()
        ),
    )


def _usd(usd: float) -> str:
    return show_usd(Decimal(repr(usd)))
