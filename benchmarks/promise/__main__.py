"""How often certificates are false, and alarms late, on traffic that is built to break them.

Each cell is 60 runs (`--soak`: 200) of one way to break a promise, on simulated traffic whose risk
is known exactly. `violations` is the share of runs in which a certificate was issued whose risk on
fresh requests is above its alpha, or in which the alarm fell later than the monitor's own bound;
`noise` is two standard errors of that share where the promise just holds; `acted` is the share of
runs with a certificate or an alarm at all. A cell holds while violations are at most delta and
noise. The runs call what `suffice certify`, `suffice recertify` and the gateway's guard call, in
this process: starting each command anew would take hours.

With `--data`, `labels_mmlu` and `labels_bbh` say which share of the marks a label plan asks for, in
all and of the certifying requests, and which share of requests cheaper rungs answer with those
marks and with all of them: 4,000 requests a draw, a third as many draws.

python -m benchmarks.promise [--data DATA] [--json] [--soak] [--cells NAME ...] [--runs N]
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from msgspec import Struct
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.promise.cells import ALPHA, CELLS, DELTA, SESSION_ALPHA, RunOutcome, run_cell
from benchmarks.promise.labels import (
    SETS,
    LabelFigures,
    LabelOutcome,
    check_data,
    label_figures,
    run_labels,
)
from benchmarks.workers import rounded, spread

T = TypeVar("T")
RUNS, SOAK_RUNS = 60, 200


class CellFigures(Struct, frozen=True, kw_only=True):
    """The figures of one cell."""

    violations: float
    noise: float
    runs: int
    acted: float
    holds: bool


def main() -> None:
    """Print the figures of all cells, as JSON with `--json`; exit with 1 unless all hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of outcomes, for the label plans")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--soak", action="store_true", help=f"{SOAK_RUNS} runs a cell")
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--runs", type=int, help=f"runs a cell, {RUNS}")
    arguments = parser.parse_args()
    runs = arguments.runs or (SOAK_RUNS if arguments.soak else RUNS)
    if arguments.data is not None:
        check_data(arguments.data)
    figures = measure(arguments.cells, runs=runs)
    labels: dict[str, LabelFigures] = {}
    if arguments.data is not None:
        labels = measure_labels(str(arguments.data), runs=max(1, runs // 3))
    if arguments.json:
        cells: dict[str, CellFigures | LabelFigures] = {**figures, **labels}
        print(json.dumps({name: rounded(cell) for name, cell in cells.items()}, indent=2))
    else:
        _show(figures, f"alpha {ALPHA} (sessions {SESSION_ALPHA}), delta {DELTA}")
        _show(labels, f"label plans at alpha {ALPHA}, delta {DELTA}")
    sys.exit(0 if all(cell.holds for cell in figures.values()) else 1)


def measure(cells: list[str], *, runs: int) -> dict[str, CellFigures]:
    """Run all cells."""
    jobs = [(name, seed) for name in cells for seed in range(runs)]
    outcomes: dict[str, list[RunOutcome]] = defaultdict(list)
    for (name, _), outcome in zip(jobs, _run(run_cell, jobs), strict=True):
        outcomes[name].append(outcome)
    return {name: figures_of(outcomes[name]) for name in cells}


def measure_labels(data: str, *, runs: int) -> dict[str, LabelFigures]:
    """Plan and certify draws of each set."""
    jobs = [(data, name, seed) for name in SETS for seed in range(runs)]
    outcomes: dict[str, list[LabelOutcome]] = defaultdict(list)
    for (_, name, _), outcome in zip(jobs, _run(run_labels, jobs), strict=True):
        outcomes[f"labels_{name}"].append(outcome)
    return {name: label_figures(draws) for name, draws in outcomes.items()}


def _run(work: Callable[..., T], jobs: list[Any]) -> Iterator[T]:
    """Spread work over processes, and show how far it is."""
    with Progress(console=Console(stderr=True)) as progress:
        running = progress.add_task("certifying", total=len(jobs))
        for outcome in spread(work, jobs):
            progress.advance(running)
            yield outcome


def figures_of(outcomes: list[RunOutcome]) -> CellFigures:
    """Sum up the runs of a cell."""
    violations = fmean(outcome.violated for outcome in outcomes)
    noise = 2 * sqrt(DELTA * (1 - DELTA) / len(outcomes))
    return CellFigures(
        violations=violations,
        noise=noise,
        runs=len(outcomes),
        acted=fmean(outcome.acted for outcome in outcomes),
        holds=violations <= DELTA + noise,
    )


def _show(figures: Mapping[str, CellFigures | LabelFigures], title: str) -> None:
    if not figures:
        return
    table = Table(title=title)
    for name in ("", *next(iter(figures.values())).__struct_fields__):
        table.add_column(name.replace("_", " "))
    for name, cell in figures.items():
        table.add_row(name, *(str(value) for value in rounded(cell).values()))
    Console().print(table)


if __name__ == "__main__":
    main()
