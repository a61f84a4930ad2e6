"""The figures of a report on trials: the certified choice, its baselines, and who answers."""

import math
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

import altair as alt

from suffice.report.charts import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MORE,
    VERMILION,
    Cells,
    Chart,
    Figure,
    Point,
    along,
    colour,
    data,
    dollars,
    down,
    is_ours,
    labelled,
    ladder_colours,
    quoted,
)
from suffice.report.rung_figures import flow_figure, tokens_figure
from suffice.report.style import change_words
from suffice.report.summary import BaselineFigures, CertifyVerdict, Side, TrialsReport
from suffice.trials.frontier import Frontier, RungPoint
from suffice.trials.resample import Estimate
from suffice.trials.table import CostUnit
from suffice.units import show_share, show_usd

BASELINES = {
    "always_reference": "always the reference",
    "always_cheapest": "always the cheapest",
    "cost_matched_random": "random at this cost",
    "random": "random, certified",
    "best_table": "best table by group",
    "route_only": "route only",
    "oracle": "oracle",
}
_OF_NOTE = {"suffice": BLUE, "oracle": GREEN}
_COST_FIELDS = {
    CostUnit.USD: "usd_per_answer",
    CostUnit.OUTPUT_TOKENS: "tokens_per_answer",
    CostUnit.OUTPUT_WORDS: "words_per_answer",
}
_COST_NAMES = {
    CostUnit.USD: "dollars",
    CostUnit.OUTPUT_TOKENS: "output tokens",
    CostUnit.OUTPUT_WORDS: "output words",
}
_FEW = 100
_CENT = 0.01  # dollars, from which amounts are rounded to cents elsewhere
_HEIGHT, _LINE = 320, 15  # pixels of the figure of ways, and of a line of text in it
_NEAR = 0.35  # of the widest saving, that a name may take


def trial_figures(report: TrialsReport) -> Iterator[Figure]:
    """Yield the figures of a report on trials, the most important first."""
    rungs = [point.rung for point in report.frontier.rungs]
    colours = ladder_colours(rungs, references=[report.reference])
    yield choice_figure(report.verdict)
    yield frontier_figure(report)
    share = report.verdict.share if report.verdict else {}
    yield flow_figure(report.flow, colours=colours, share=share)
    yield identity_figure(report.sides)
    yield tokens_figure(report.tokens, colours=colours)


def choice_figure(verdict: CertifyVerdict | None) -> Figure:
    """Plot risk against saving: suffice, its limit, and every other way of choosing rungs."""
    title = "Against other ways of choosing"
    if verdict is None:
        return Figure(title=title, caption="No policy was certified for this report.")
    points = _ways(verdict)
    rows = tuple((p["name"], show_share(p["saving"]), show_share(p["risk"])) for p in points)
    header = ("way of choosing", "cost saved", "risk")
    if verdict.saving is None or verdict.risk is None:
        why = "Some rung has trials without a cost, so what was saved is not known."
        return Figure(title=title, caption=why, header=header, rows=rows)
    known = [p for p in points if p["risk"] is not None and p["saving"] is not None]
    drawn = _apart(_merged(known))
    return Figure(
        title=_choice_title(verdict, verdict.baselines.get("cost_matched_random")),
        caption="Each dot is a way of choosing rungs for the same requests. None of these requests "
        "took part in fitting or certifying. Right is cheaper, down is safer. Risk is "
        f"{risk_words(verdict)}; the dashed line is the largest risk allowed.",
        alt="Scatter of risk against saving for suffice and for each baseline, with the limit.",
        chart=_choice_chart(drawn, alpha=verdict.alpha),
        height=_HEIGHT,
        header=header,
        rows=rows,
    )


def risk_words(verdict: CertifyVerdict) -> str:
    """Return the meaning of a verdict's risk in words."""
    if verdict.risk_kind == "excess_over_reference":
        return (
            f"how much worse answers are than the reference's, on average over all {verdict.per}s"
        )
    if verdict.risk_kind == "net_loss":
        return "how much lower average quality is than the reference's"
    return "the share of wrong answers among requests that the reference did not answer"


def _ways(verdict: CertifyVerdict) -> list[Point]:
    ways = {"suffice": BaselineFigures(risk=verdict.risk, saving=verdict.saving)}
    if verdict.risk_kind in ("excess_over_reference", "net_loss"):
        ways["always_reference"] = BaselineFigures(risk=0.0, saving=0.0)
    return [
        {
            "name": BASELINES.get(name, name),
            "risk": way.risk,
            "saving": way.saving,
            "colour": _OF_NOTE.get(name, GREY),
            "dy": -12 if name == "always_reference" else 2,
        }
        for name, way in (ways | verdict.baselines).items()
    ]


def _merged(points: Sequence[Point]) -> list[Point]:
    """Draw ways that come to the same as one dot, with the first name and a count of the others."""
    places: dict[tuple[float, float], list[Point]] = {}
    for point in points:
        places.setdefault((round(point["risk"], 4), round(point["saving"], 4)), []).append(point)
    return [
        alike[0] | {"name": f"{alike[0]['name']}{MORE}{len(alike) - 1} more"}
        if len(alike) > 1
        else alike[0]
        for alike in places.values()
    ]


def _apart(points: Sequence[Point]) -> list[Point]:
    """Move the names of near points up, so that none covers another; suffice is drawn last."""
    most = max(p["risk"] for p in points) or 1.0
    reach = _NEAR * max(p["saving"] for p in points)
    placed: list[tuple[float, float]] = []  # saving, pixels above risk 0
    apart = []
    for point in sorted(points, key=lambda point: float(point["risk"])):
        above = _HEIGHT * point["risk"] / most
        place = above - point["dy"]
        near = sorted(at for saving, at in placed if abs(saving - point["saving"]) < reach)
        for at in near:
            place = at + _LINE if abs(at - place) < _LINE else place
        placed.append((point["saving"], place))
        apart.append(point | {"dy": above - place})
    return sorted(apart, key=lambda point: is_ours(point["name"]))


def _choice_title(verdict: CertifyVerdict, random: BaselineFigures | None) -> str:
    saving, risk = show_share(verdict.saving), show_share(verdict.risk)
    title = f"suffice saves {saving} of the cost at a risk of {risk}"
    if random is None or random.risk is None:
        return title
    return f"{title}; choosing at random for the same cost, {show_share(random.risk)}"


def _choice_chart(points: Sequence[Point], *, alpha: float) -> Chart:
    savings, risks = [p["saving"] for p in points], [p["risk"] for p in points]
    x = along(alt.X, "saving", savings, title="cost saved →", form="%", zero=True)
    y = along(alt.Y, "risk", [*risks, alpha], title="↑ risk", form="%", zero=True)
    limit = alt.Chart(data([{"risk": alpha, "name": f"limit {show_share(alpha)}"}])).encode(y=y)
    tips = [alt.Tooltip("name:N")] + [
        alt.Tooltip(f"{key}:Q", format=".1%") for key in ("saving", "risk")
    ]
    dots = alt.Chart(data(points)).mark_circle(size=180, opacity=1)
    return (
        limit.mark_rule(color=VERMILION, strokeDash=[6, 4], strokeWidth=1.5)
        + limit.mark_text(color=VERMILION, align="right", dy=-8, x="width").encode(
            text=alt.Text("name:N")
        )
        + dots.encode(x=x, y=y, color=colour(), tooltip=tips)
        + labelled(points, x=x, y=y, middle=0.55 * max(savings))
    )


def frontier_figure(report: TrialsReport) -> Figure:
    """Plot quality against cost of each rung and of suffice, with intervals."""
    frontier, unit = report.frontier, report.frontier.cost_unit
    figure = Figure(
        title="Quality against cost",
        caption="The rungs have no common unit of cost, so quality is not plotted.",
        header=("rung", "answers", "right", f"{_COST_NAMES[unit] if unit else 'cost'} per answer"),
        rows=tuple(_frontier_row(point, unit) for point in frontier.rungs),
    )
    points = [] if unit is None else _frontier_points(report, unit)
    if unit is None or not points:
        return figure
    return Figure(
        title=_frontier_title(points, unit=unit, reference=report.reference, alike=frontier.alike),
        caption=_frontier_caption(frontier, suffice=points[-1]["name"] == "suffice"),
        alt="Scatter of the share of right answers against cost per answer, one dot for each rung.",
        chart=_frontier_chart(points, unit=unit),
        height=320,
        header=figure.header,
        rows=figure.rows,
    )


def _cost(point: RungPoint, unit: CostUnit | None) -> Estimate | None:
    return None if unit is None else getattr(point, _COST_FIELDS[unit])


def _frontier_row(point: RungPoint, unit: CostUnit | None) -> Cells:
    return (
        point.rung,
        f"{point.scored:,}",
        _interval(point.accuracy, show_share),
        _interval(_cost(point, unit), lambda cost: show_cost(cost, unit)),
    )


def _interval(estimate: Estimate | None, show: Callable[[float | None], str]) -> str:
    if estimate is None or estimate.interval is None:
        return show(estimate.value if estimate else None)
    low, high = (show(end) for end in estimate.interval)
    return f"{show(estimate.value)} ({low} to {high})"


def show_cost(cost: float | None, unit: CostUnit | None) -> str:
    """Return a mean cost in its unit as text."""
    if cost is None or unit is None:
        return "unknown"
    if unit is CostUnit.USD:
        return f"${cost:.3g}" if _CENT <= cost < 1 else show_usd(Decimal(repr(cost)))
    return f"{cost:,.1f}" if cost < _FEW else f"{cost:,.0f}"


def _frontier_points(report: TrialsReport, unit: CostUnit) -> list[Point]:
    """Return a dot for each rung with a known cost and quality, and one for suffice at the end."""
    points: list[Point] = []
    for rung in report.frontier.rungs:
        cost, quality = _cost(rung, unit), rung.accuracy
        if cost and quality and cost.value is not None and quality.value is not None:
            hue = GREY if rung.rung == report.reference else INK
            point = {"name": rung.rung, "front": bool(rung.on_front), "colour": hue, "dy": -9}
            points.append(point | _ends("cost", cost) | _ends("quality", quality))
    verdict = report.verdict
    mean = next((p["cost"] for p in points if p["name"] == report.reference), None)
    if verdict and verdict.quality is not None and verdict.saving is not None and mean:
        spent = Estimate(value=mean * (1 - verdict.saving), interval=None)
        quality = Estimate(value=verdict.quality, interval=None)
        ours = {"name": "suffice", "front": False, "colour": BLUE, "dy": -9}
        points.append(ours | _ends("cost", spent) | _ends("quality", quality))
    return points


def _ends(key: str, estimate: Estimate) -> Point:
    """Return an estimate with the ends of its interval; an unknown end is the estimate itself."""
    low, high = estimate.interval or (None, None)
    value = estimate.value
    return {
        key: value,
        f"{key}_low": value if low is None else low,
        f"{key}_high": value if high is None else high,
    }


def _frontier_title(points: Sequence[Point], *, unit: CostUnit, reference: str, alike: bool) -> str:
    """Compare the cheapest rung with the reference, or with the dearest if they are the same."""
    rungs = sorted((p for p in points if p["name"] != "suffice"), key=lambda p: p["cost"])
    cheap = rungs[0]
    other = next((p for p in rungs[1:] if p["name"] == reference), rungs[-1])
    if not alike:
        return "Quality against cost, each rung on its own requests"
    finding = f"{quoted(cheap['name'])} is right on {show_share(cheap['quality'])}"
    if other is cheap or not cheap["cost"]:
        return f"{finding} at {show_cost(cheap['cost'], unit)} an answer"
    times = other["cost"] / cheap["cost"]
    against = f"{quoted(other['name'])} on {show_share(other['quality'])}"
    return f"{finding}; {against} for {times:.2g} times the {_COST_NAMES[unit]}"


def _frontier_caption(frontier: Frontier, *, suffice: bool) -> str:
    parts = [
        f"Lines through a dot are {100 * frontier.confidence:.0f} % intervals, clustered by "
        f"{frontier.clustered_by}; the thin line joins the rungs that no other rung beats.",
        "The dot of suffice has its quality on the reporting split, and the reference's mean cost "
        "less the saving there."
        if suffice
        else "",
        *frontier.notes,
    ]
    return " ".join(part for part in parts if part)


def _frontier_chart(points: Sequence[Point], *, unit: CostUnit) -> Chart:
    costs = [p[key] for p in points for key in ("cost", "cost_low", "cost_high")]
    shares = [p[key] for p in points for key in ("quality", "quality_low", "quality_high")]
    form = dollars(costs) if unit is CostUnit.USD else ",.3~r"
    x = along(alt.X, "cost", costs, title=f"{_COST_NAMES[unit]} per answer →", form=form)
    y = along(alt.Y, "quality", shares, title="↑ right answers", form="%")
    dots = alt.Chart(data(points)).encode(x=x, y=y, color=colour())
    front = alt.Chart(data([p for p in points if p["front"]])).encode(x=x, y=y)
    tips = [
        alt.Tooltip("name:N"),
        alt.Tooltip("quality:Q", format=".1%"),
        alt.Tooltip("cost:Q", format=".4~g"),
    ]
    middle = math.sqrt(min(costs) * max(costs)) if min(costs) > 0 else sum(costs) / len(costs)
    return (
        front.mark_line(color=GREY, strokeWidth=1.5, opacity=0.7)
        + dots.mark_rule(strokeWidth=2).encode(
            y=alt.Y("quality_low:Q"), y2=alt.Y2("quality_high:Q")
        )
        + dots.mark_rule(strokeWidth=2).encode(x=alt.X("cost_low:Q"), x2=alt.X2("cost_high:Q"))
        + dots.mark_circle(size=160, opacity=1).encode(tooltip=tips)
        + labelled(points, x=x, y=y, middle=middle)
    )


_TOTAL = "cost per request"
_FACTORS: tuple[tuple[str, Callable[[Side], float | None], Callable[[float], str]], ...] = (
    ("decodes per request", lambda side: side.decodes_per_request, lambda x: f"{x:.3g}"),
    ("tokens per decode", lambda side: side.tokens_per_decode, lambda x: f"{x:,.4g}"),
    ("dollars per token", lambda side: side.usd_per_token, lambda x: f"${x * 1e6:.3g} a million"),
    (_TOTAL, lambda side: side.usd_per_request, lambda x: show_cost(x, CostUnit.USD)),
)


def identity_figure(sides: tuple[Side, Side] | None) -> Figure:
    """Show by how much each factor of the cost identity changed, on one logarithmic axis."""
    title = "Where the saving comes from"
    if sides is None:
        why = "The split of the cost of a request needs a policy and priced trials."
        return Figure(title=title, caption=why)
    before, after = sides
    known = [
        (name, old, new, show)
        for name, value, show in _FACTORS
        if (old := value(before)) and (new := value(after))
    ]
    points: list[Point] = [
        {"name": name, "times": old / new, "label": change_words(old / new), "one": 1.0}
        | {"colour": GREEN if name == _TOTAL else BLUE}
        for name, old, new, _ in known
    ]
    if points[-1]["name"] != _TOTAL:
        why = "Some of the trials that were paid for lack a charge or a token count."
        return Figure(title=title, caption=why)
    times = points[-1]["times"]
    less = f"{times:.3g} times less" if times >= 1 else f"{1 / times:.3g} times more"
    return Figure(
        title=f"A request costs {less} than with {before.name}",
        caption="Cost per request = decodes per request \u00d7 tokens per decode \u00d7 dollars "
        "per token. The scale is logarithmic: the blue bars add up to the green one. Dollars per "
        "token include the cost of reading the prompt, so they rise if answers get shorter.",
        alt="Bars of the factor by which each part of the cost per request changed.",
        chart=_identity_chart(points),
        height=50 * len(points),
        header=("", before.name, after.name, "change"),
        rows=tuple(
            (name, show(old), show(new), change_words(old / new)) for name, old, new, show in known
        ),
    )


def _identity_chart(points: Sequence[Point]) -> Chart:
    reach = max(1.2, *(max(point["times"], 1 / point["times"]) for point in points)) ** 2
    span = alt.Scale(type="log", domain=[1 / reach, reach], nice=False)
    x = alt.X("times:Q", scale=span, axis=None)
    names = down([point["name"] for point in points])
    rows = alt.Chart(data(points)).encode(y=names)
    layers = [
        rows.mark_bar(size=24, cornerRadius=2).encode(x=x, x2=alt.X2("one:Q"), color=colour())
    ]
    one = alt.Chart(data(points[:1])).mark_rule(color=INK, strokeWidth=1.5)
    layers.append(one.encode(x=alt.X("one:Q", scale=span, axis=None)))
    for less in (True, False):
        side = alt.Chart(data([point for point in points if (point["times"] >= 1) is less]))
        text = side.mark_text(align="left" if less else "right", dx=7 if less else -7)
        layers.append(text.encode(x=x, y=names, text=alt.Text("label:N")))
    return alt.layer(*layers)
