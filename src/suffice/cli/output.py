"""The output of commands: tables and sentences for people, one JSON object for programs.

All text passes through `printable`, so that no name in the data can control the terminal.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
import typer

from suffice import __version__
from suffice.errors import InputError
from suffice.units import printable, show_share, show_usd

if TYPE_CHECKING:
    from suffice.batch import BatchResult
    from suffice.bench.run import BenchResult
    from suffice.certify.compare import Comparison, Comparisons
    from suffice.compound import Compound
    from suffice.selective.timeline import TimedStep
    from suffice.stream import StreamResult
    from suffice.trials.frontier import Frontier, RungPoint
    from suffice.trials.resample import Estimate
    from suffice.types import Say, Spend

PIPE_WIDTH = 10_000  # wide enough for every row of a table
CLOSED_PIPE = 141  # 128 + SIGPIPE, as shells report it
SHOWN_NOTES = 6
SHOWN_SETTINGS = 25
WHOLE_TOKENS = 100
COST_COLUMNS = {
    "tokens_per_correct": "tokens/correct",
    "usd_per_correct": "$/correct",
    "words_per_correct": "words/correct",
}


def say(text: str) -> None:
    """Print text on standard output."""
    _print(text, sys.stdout)


def note(text: str) -> None:
    """Print text on standard error, so that standard output stays readable for programs."""
    _print(text, sys.stderr)


def print_json(command: str, result: Any) -> None:
    """Print a result as one JSON object: `command`, `suffice` (the version), and its own keys.

    Decimals become strings, so that no digit is lost.
    """
    document = {"command": command, "suffice": __version__, **msgspec.to_builtins(result)}
    try:
        text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the result holds a name that is not UTF-8: {error.object!r}", hint="rename the file"
        ) from error
    _print(text, sys.stdout)


def print_error(message: str, *, hint: str | None, code: str, json: bool) -> None:
    """Print an error with its hint on standard error; with `json`, as one JSON object on a line."""
    if json:
        document = {"error": {"message": printable(message), "hint": hint, "code": code}}
        _print(msgspec.json.encode(document).decode(), sys.stderr)
    else:
        note(f"error: {message}" if hint is None else f"error: {message}\nhint: {hint}")


def print_notes(notes: Iterable[tuple[str, str]], *, explain: bool) -> None:
    """Print notes with their subjects; equal notes become one line with a count.

    Without `explain`, only the first few are printed.
    """
    subjects: dict[str, list[str]] = {}
    for subject, text in notes:
        subjects.setdefault(text, []).append(subject)
    lines = [
        f"note: {text} ({len(names)}: {', '.join(names)})" if any(names) else f"note: {text}"
        for text, names in subjects.items()
    ]
    visible = lines if explain or len(lines) <= SHOWN_NOTES else lines[: SHOWN_NOTES - 1]
    for line in visible:
        note(line)
    if len(visible) < len(lines):
        note(f"note: {len(lines) - len(visible)} more: --explain")


def print_table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table, folded to the terminal; in a pipe, every row is one line.

    Columns of numbers are aligned to the right.
    """
    from rich.console import Console  # which takes as long to load as half of a command
    from rich.table import Table
    from rich.text import Text

    table, cells = Table(box=None, pad_edge=False), list(rows)
    for at, title in enumerate(header):
        numbers = all(row[at][:1].isdigit() for row in cells)
        table.add_column(title, overflow="fold", justify="right" if numbers else "left")
    for row in cells:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)
    with _pipe():
        console.print(table)


@contextmanager
def stages() -> Iterator["Say"]:
    """Show the present stage of a long computation on a terminal; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda _stage: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("starting") as status:
        yield lambda stage: status.update(Text(printable(stage)))


def print_frontier(frontier: "Frontier", *, explain: bool = False) -> None:
    """Print the cost of a right answer on each rung; empty cost columns are left out."""
    costs = [name for name in COST_COLUMNS if any(getattr(p, name) for p in frontier.rungs)]
    print_table(
        ("rung", "answers", "accuracy", *(COST_COLUMNS[name] for name in costs), "on front"),
        (
            (
                point.rung,
                str(point.scored),
                _show_accuracy(point),
                *(_show_cost(getattr(point, name)) for name in costs),
                _show_front(point),
            )
            for point in frontier.rungs
        ),
    )
    print_notes((("", text) for text in frontier.notes), explain=explain)


def print_comparisons(result: "Comparisons", *, explain: bool = False) -> None:
    """Print whether each setting may replace the reference; without `explain`, the first ones."""
    reference = result.reference
    counts = Counter(one.verdict.value for one in result.settings)
    say(
        f"{', '.join(f'{count} {verdict}' for verdict, count in counts.items())}: "
        f"{_some(len(result.settings), 'setting')} beside {reference.setting} "
        f"({show_share(reference.quality)} right), net loss at most {show_share(result.alpha)}"
    )
    visible = result.settings if explain else result.settings[:SHOWN_SETTINGS]
    unit = (result.cost_unit or "cost").replace("_", " ")
    print_table(
        ("setting", "verdict", "quality", "difference", "tasks", f"{unit} a task", "a success"),
        (
            (
                one.setting,
                "reference" if one is reference else _show_verdict(one),
                show_share(one.quality),
                "" if one is reference else _show_difference(one),
                str(one.tasks),
                _show_amount(one.cost_per_task),
                _show_amount(one.cost_per_success),
            )
            for one in (reference, *visible)
        ),
    )
    left_out = len(result.settings) - len(visible)
    if left_out:
        note(f"note: {left_out} more settings: --explain")
    print_notes((("", text) for text in result.notes), explain=explain)


def _show_verdict(one: "Comparison") -> str:
    needed = f" (about {one.tasks_needed:,} tasks)" if one.tasks_needed else ""
    counting = one.counting_failed
    failing = "" if counting in {None, one.verdict} else f"; {counting.value} with failed calls"
    return one.verdict.value + needed + failing


def _show_difference(one: "Comparison") -> str:
    return f"{one.difference:+.1%} ({one.interval[0]:+.1%} to {one.interval[1]:+.1%})"


def _some(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def print_compound(result: "Compound", *, explain: bool = False) -> None:
    """Print what the levers are worth together and apart."""
    factors = {
        "all levers together": result.reduction,
        "the levers alone, multiplied": result.product_of_factors,
        "interaction": result.interaction,
        "against the competent baseline": result.reduction_competent,
    } | {f"  {factor.vector}: {factor.lever} alone": factor.alone for factor in result.factors}
    print_table(
        ("times cheaper", "", "95 % interval"),
        ((name, *_show_factor(estimate)) for name, estimate in factors.items()),
    )
    promise = f"{'' if result.certified else 'NOT '}certified at alpha {result.alpha:g}"
    quality = f"{show_share(result.quality)}, {show_share(result.reference_quality)} before"
    say(f"{promise}; right answers {quality}; {result.requests:,} requests")
    print_notes((("", text) for text in result.notes), explain=explain)


def print_bench(result: "BenchResult") -> None:
    """Print the result of a bench: its answers, its cost, and the frontier."""
    from suffice.trials.frontier import frontier

    say(f"{result.answered:,} answers now, {result.kept:,} kept from before")
    say(f"spent on this file: {_show_spend(result.spend)}")
    if any(trial.quality is not None for trial in result.trials):
        print_frontier(frontier(result.trials))


def print_answers(result: "BatchResult") -> None:
    """Print the result of a batch: which rungs answered, the cost, and the fallbacks."""
    shares = ", ".join(f"{rung} {show_share(share)}" for rung, share in result.share.items())
    say(f"{result.answered:,} answered ({shares or 'none'}), {result.failed:,} failed")
    if result.kept:
        say(f"{result.kept:,} were in the ledger already and were not asked again")
    if result.kept_unanswered:
        note(
            f"note: {result.kept_unanswered:,} of those had failed or been cancelled; "
            "to ask again, give them new ids"
        )
    say(f"spent: {_show_spend(result.spend)}")
    if result.audited:
        say(f"audited: {result.audited:,} requests, {_show_spend(result.audit_spend)} on top")
    for reason, requests in result.fallbacks.items():
        note(f"note: the reference answered {requests:,} requests because {reason}")


def print_step(timed: "TimedStep") -> None:
    """Print one event of a stream: its time, the reason of its decode or `held`, its answer."""
    step = timed.step
    why = "held" if step.reason is None else step.reason.value
    say(f"{timed.at_s:10.1f}  {why:8}{step.answer}")


def print_stream(result: "StreamResult") -> None:
    """Print the decodes and ages of a stream beside the bounds that hold for every stream."""
    say(
        f"{result.decodes:,} of {result.events:,} events decoded "
        f"({show_share(result.saving)} saved); bound: {result.most_decodes:,.0f}\n"
        f"the oldest held answer was {result.longest_stale_events:,} events old; "
        f"bound: {result.most_stale_events:,}"
    )


def _print(text: str, stream: TextIO) -> None:
    with _pipe():
        print(printable(text), file=stream, flush=True)


@contextmanager
def _pipe() -> Iterator[None]:
    """End the command quietly if the reader of its output, such as `head`, has gone."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing left to flush
        raise typer.Exit(CLOSED_PIPE) from None


def _show_accuracy(point: "RungPoint") -> str:
    if point.accuracy is None:
        return "unknown"
    value, ends = show_share(point.accuracy.value), point.accuracy.interval
    return (
        value if ends is None else f"{value} [{', '.join(f'{100 * (e or 0):.1f}' for e in ends)}]"
    )


def _show_cost(estimate: "Estimate | None") -> str:
    """Return a cost with its interval as text; there is none without a right answer."""

    def amount(value: float | None) -> str:
        if value is None:
            return "none correct"
        return f"{value:,.0f}" if value >= WHOLE_TOKENS else f"{value:.3g}"

    if estimate is None:
        return "unknown"
    value, ends = amount(estimate.value), estimate.interval
    return value if ends is None else f"{value} [{', '.join(map(amount, ends))}]"


def _show_amount(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _show_front(point: "RungPoint") -> str:
    if point.on_front is None:
        return "unknown"
    share = "" if point.front_share is None else f" ({point.front_share:.0%})"
    return ("yes" if point.on_front else "no") + share


def _show_factor(estimate: "Estimate | None") -> tuple[str, str]:
    """Write a factor of cost and its interval; ratios of costs have no unbounded end."""
    if estimate is None:
        return "not certified", ""
    low, high = estimate.interval or (estimate.value, estimate.value)
    return f"{estimate.value:.3g}", f"{low:.3g} to {high:.3g}"


def _show_spend(spend: "Spend") -> str:
    parts = []
    if spend.reported_count or not (spend.estimated_count or spend.unknown_count):
        parts.append(show_usd(spend.reported_usd))
    if spend.estimated_count:
        parts.append(f"about {show_usd(spend.estimated_usd)}, estimated")
    if spend.unknown_count:
        parts.append(f"{spend.unknown_count:,} calls of unknown charge")
    return "; ".join(parts)
