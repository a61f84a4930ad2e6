"""Figures of the planner: cost against interactivity, and the law of unique experts."""

from typing import Any

import numpy as np

from suffice.silicon.plan import Plan
from suffice.silicon.roofline import unique_experts
from suffice.silicon.routing import SKEW, skewed_experts


def frontier_chart(plan: Plan) -> Any:
    """Draw dollars per million output tokens against tokens a second per user, one line a chip."""
    rows = [
        {
            "chip": option.chip,
            "tokens a second per user": option.tokens_per_s_per_user,
            "dollars per million output tokens": option.usd_per_mtok,
            "layout": option.layout,
            "batch": option.batch,
        }
        for option in plan.frontier
        if option.usd_per_mtok is not None
    ]
    return _lines(
        rows,
        x="tokens a second per user",
        y="dollars per million output tokens",
        colour="chip",
        title="The cheapest layouts of each chip, by speed per user",
    )


def law_chart(*, experts: int = 128, active: int = 4) -> Any:
    """Draw how many experts a batch reads: even routing, two skews, and the two wrong laws."""
    batches = 2.0 ** np.arange(11)
    laws = {
        "all experts (wrong)": np.full(len(batches), float(experts)),
        "even routing: E(1-(1-k/E)^B)": unique_experts(
            np.array(experts), np.array(active), batches
        ),
        "skewed routing, popularity rank^-0.5": skewed_experts(
            experts, active, tokens=batches, exponent=0.5
        ),
        f"skewed routing, popularity rank^-{SKEW}": skewed_experts(
            experts, active, tokens=batches, exponent=SKEW
        ),
        "k only (wrong)": np.full(len(batches), float(active)),
    }
    rows = [
        {"tokens in the batch": float(b), "experts read in one layer": float(e), "law": law}
        for law, values in laws.items()
        for b, e in zip(batches, values, strict=True)
    ]
    return _lines(
        rows,
        x="tokens in the batch",
        y="experts read in one layer",
        colour="law",
        title=f"Experts that a batch of B tokens reads: E = {experts}, k = {active} for each token",
    )


def _lines(rows: list[dict[str, Any]], *, x: str, y: str, colour: str, title: str) -> Any:
    """Draw one line for each colour on two logarithmic axes; colours in the rows' order."""
    import altair as alt

    scale = alt.Scale(type="log", nice=False, padding=8)
    return (
        alt.Chart(alt.Data(values=rows))  # type: ignore[no-untyped-call]
        .mark_line(point=True)
        .encode(
            x=alt.X(x, type="quantitative", scale=scale),
            y=alt.Y(y, type="quantitative", scale=scale),
            color=alt.Color(colour, type="nominal", sort=None, legend=alt.Legend(labelLimit=300)),
            tooltip=[alt.Tooltip(name, type="nominal") for name in (rows[0] if rows else {})],
        )
        .properties(width=640, height=400, title=title)
    )
