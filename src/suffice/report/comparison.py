"""The figure of a comparison: each setting's difference in quality, with its interval."""

from typing import Any

from suffice.certify.compare import Comparisons, Replacement
from suffice.report.style import PALETTE

COLOURS = {
    Replacement.AS_GOOD: PALETTE["green"][0],
    Replacement.WORSE: PALETTE["vermilion"][0],
    Replacement.UNDECIDED: PALETTE["grey"][0],
}


def comparison_chart(result: Comparisons) -> Any:
    """Draw one line for each setting, the best first; the dashed line is the allowed loss."""
    import altair as alt

    rows = [
        {
            "setting": one.setting,
            "difference": one.difference,
            "low": one.interval[0],
            "high": one.interval[1],
            "verdict": one.verdict.value,
        }
        for one in sorted(result.settings, key=lambda one: -one.difference)
    ]
    names = [str(row["setting"]) for row in rows]
    title = f"quality less that of {result.reference.setting}"
    colour = alt.Color(
        "verdict",
        type="nominal",
        scale=alt.Scale(domain=[r.value for r in COLOURS], range=list(COLOURS.values())),
    )
    base = alt.Chart(alt.Data(values=rows)).encode(  # type: ignore[no-untyped-call]
        y=alt.Y("setting", type="nominal", sort=names, title=None, axis=alt.Axis(labelLimit=300)),
        color=colour,
    )
    spans = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low", type="quantitative", title=title, axis=alt.Axis(format="+.0%")),
        x2="high",
    )
    points = base.mark_point(filled=True, size=60).encode(
        x=alt.X("difference", type="quantitative")
    )
    limit = (
        alt.Chart(alt.Data(values=[{"x": -result.alpha}]))  # type: ignore[no-untyped-call]
        .mark_rule(strokeDash=[4, 4])
        .encode(x=alt.X("x", type="quantitative"))
    )
    return alt.layer(limit, spans, points).properties(
        width=560, title=f"Can it replace {result.reference.setting}? At alpha {result.alpha:g}"
    )
