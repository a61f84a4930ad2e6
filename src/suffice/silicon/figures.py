"""Figures of the planner: cost against interactivity, and the law of unique experts."""

from typing import Any

import numpy as np

from suffice.silicon.plan import Plan
from suffice.silicon.roofline import SKEW, skewed_experts, unique_experts


def frontier_figure(plan: Plan) -> str:
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
    return _page(
        rows, x="tokens a second per user", y="dollars per million output tokens", colour="chip"
    )


def law_figure(*, experts: int = 128, active: int = 4) -> str:
    """Draw how many experts a batch reads: uniform routing, two skews, and the two wrong laws."""
    batches = np.unique(np.rint(np.geomspace(1, 1024, 60)))
    laws = {
        "E(1-(1-k/E)^B), uniform": unique_experts(np.array(experts), np.array(active), batches),
        "skew 0.5": skewed_experts(experts, active, tokens=batches, exponent=0.5),
        f"skew {SKEW}": skewed_experts(experts, active, tokens=batches, exponent=SKEW),
        "all experts": np.full(len(batches), float(experts)),
        "k only": np.full(len(batches), float(active)),
    }
    rows = [
        {"tokens in the batch": float(b), "experts read": float(e), "law": law}
        for law, values in laws.items()
        for b, e in zip(batches, values, strict=True)
    ]
    return _page(rows, x="tokens in the batch", y="experts read", colour="law")


def _page(rows: list[dict[str, Any]], *, x: str, y: str, colour: str) -> str:
    """One self-contained page: data and script inside, no network."""
    import altair as alt

    chart = (
        alt.Chart(alt.Data(values=rows))  # type: ignore[no-untyped-call]
        .mark_line(point=True)
        .encode(
            x=alt.X(x, type="quantitative", scale=alt.Scale(type="log")),
            y=alt.Y(y, type="quantitative", scale=alt.Scale(type="log")),
            color=alt.Color(colour, type="nominal"),
            tooltip=[alt.Tooltip(name, type="nominal") for name in (rows[0] if rows else {})],
        )
        .properties(width=640, height=400)
    )
    return str(chart.to_html(inline=True))
