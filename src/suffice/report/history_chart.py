"""The history of a training run as a chart: accuracy over tokens, a point for each checkpoint."""

from typing import Any

from suffice.trials.history import History


def history_chart(history: History) -> Any:
    """Draw accuracy over the tokens of an answer, joined in the order of the steps."""
    import altair as alt

    points = [
        {
            "run": one.run or "run",
            "step": one.step,
            "tokens": one.tokens_per_answer and one.tokens_per_answer.value,
            "accuracy": one.accuracy and one.accuracy.value,
        }
        for one in history.checkpoints
    ]
    base: Any = alt.Chart(alt.Data(values=points)).encode(  # type: ignore[no-untyped-call]
        x=alt.X("tokens:Q", title="output tokens of an answer"),
        y=alt.Y("accuracy:Q", scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("run:N", title=None),
        order=alt.Order("step:Q"),
        tooltip=[
            alt.Tooltip("run:N"),
            alt.Tooltip("step:Q"),
            alt.Tooltip("tokens:Q"),
            alt.Tooltip("accuracy:Q"),
        ],
    )
    labels = base.mark_text(dy=-10).encode(text=alt.Text("step:Q"))
    return (base.mark_line(point=True) + labels).properties(width=640, height=400)
