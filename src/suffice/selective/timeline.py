"""The figure of a stream: the change score over time, with its decodes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from suffice.errors import InputError
from suffice.files import save_figure
from suffice.selective.decoder import DecodeStep


class TimedStep(Struct, frozen=True, kw_only=True):
    """A step with its time; `took_s` is the seconds of the gate, and of the decode if any."""

    at_s: float
    step: DecodeStep
    took_s: float | None = None


def draw_timeline(steps: Sequence[TimedStep], path: Path, *, title: str) -> None:
    """Write the figure of a stream; raises InputError for no steps, or as `save_figure` does."""
    if not steps:
        raise InputError("there is no step to draw", hint="give a stream with events")
    import altair as alt

    def over(values: list[dict[str, Any]]) -> Any:
        return alt.Chart(alt.InlineData(values=values))

    rows = [
        {
            "seconds": item.at_s,
            "score": item.step.score,
            "decoded": None if item.step.reason is None else str(item.step.reason.value),
            "answer": item.step.answer,
        }
        for item in steps
    ]
    decodes = [row for row in rows if row["decoded"]]
    subtitle = f"{len(decodes)} of {len(rows)} events decoded"
    time = alt.X("seconds:Q", title="time (s)")
    line = (
        over(rows).mark_line(strokeWidth=1).encode(x=time, y=alt.Y("score:Q", title="change score"))
    )
    marks = (
        over(decodes)
        .mark_rule()
        .encode(
            x=time, color=alt.Color("decoded:N", title="decoded because of"), tooltip=["answer:N"]
        )
    )
    chart = (marks + line).properties(
        width=800, height=200, title=alt.TitleParams(title, subtitle=subtitle)
    )
    save_figure(path, chart)
