"""What `suffice frontier --history` prints."""

from typing import TYPE_CHECKING

from suffice.cli.output import print_notes, print_table

if TYPE_CHECKING:
    from suffice.trials.history import Checkpoint, History
    from suffice.trials.resample import Estimate


def print_history(history: "History", *, explain: bool) -> None:
    """Print a row for each checkpoint, in the order of training."""
    print_table(
        ("run", "step", "answers", "accuracy", "per 1,000 tokens", "tokens/right", "on front"),
        (_row(one) for one in history.checkpoints),
    )
    print_notes((("", text) for text in history.notes), explain=explain)


def _row(one: "Checkpoint") -> tuple[str, ...]:
    front = {True: "yes", False: "no", None: "unknown"}[one.on_front]
    return (
        one.run or "",
        f"{one.step:,}",
        str(one.answers),
        _show(one.accuracy, ".3f"),
        _show(one.accuracy_per_1000_tokens, ".3g"),
        _show(one.tokens_per_correct, ",.0f"),
        front,
    )


def _show(figure: "Estimate | None", digits: str) -> str:
    if figure is None:
        return "unknown"
    if figure.value is None:
        return "none right"
    low, high = figure.interval or (None, None)
    ends = "" if low is None or high is None else f" ({low:{digits}} to {high:{digits}})"
    return f"{figure.value:{digits}}{ends}"
