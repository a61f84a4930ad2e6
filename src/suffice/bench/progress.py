"""The progress of a bench on standard error: a bar on a terminal, plain lines in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from suffice.types import Spend
from suffice.units import show_seconds, show_usd

LINES = 10  # in a log, at most
QUIET_S = 20.0  # between two of them, the last apart


class Progress(Protocol):
    """Shows how many steps are done, and what the file has cost so far."""

    def step(self, done: int, spend: Spend) -> None:
        """Show that `done` steps are done and `spend` is spent."""
        ...


class Silent:
    """A progress that shows nothing, and its own context manager."""

    def __init__(self, total: int) -> None:
        self._total = total

    def step(self, done: int, spend: Spend) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


class _Bar:
    def __init__(self, bar: Bar, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task("answers", total=total, cost="")

    def step(self, done: int, spend: Spend) -> None:
        self._bar.update(self._task, completed=done, cost=show_spend(spend))


class _Lines:
    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._first, self._tenths = 0, -1
        self._started_s = time.monotonic()
        self._shown_s = -QUIET_S

    def step(self, done: int, spend: Spend) -> None:
        """Print the first step, the last, and each tenth of the way that is not reached at once."""
        self._first = self._first or done
        tenths, now_s = done * LINES // self._total, time.monotonic() - self._started_s
        waited = now_s - self._shown_s >= QUIET_S or done >= self._total
        if tenths > self._tenths and waited:
            self._tenths, self._shown_s = tenths, now_s
            self._console.print(
                f"answers: {done} of {self._total}, {show_spend(spend)}, {self._left(done)} left",
                highlight=False,
            )

    def _left(self, done: int) -> str:
        """Estimate the time left from the pace of this run; unknown before its second step."""
        steps = done - self._first
        took_s = time.monotonic() - self._started_s
        return show_seconds(took_s / steps * (self._total - done) if steps else None)


@contextmanager
def show_progress(total: int, *, console: Console | None = None) -> Iterator[Progress]:
    """Show `total` steps on standard error, as a bar where it is a terminal."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[cost]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        yield _Bar(bar, total)


def show_spend(spend: Spend) -> str:
    """Return the spend in words, with the number of calls of unknown cost."""
    known = spend.reported_usd + spend.estimated_usd
    if not spend.unknown_count:
        return show_usd(known)
    if not spend.reported_count + spend.estimated_count:
        return "cost unknown"
    return f"{show_usd(known)} and {spend.unknown_count} calls of unknown cost"
