"""What each kind of step of a full solution is worth: short trainings that leave it out.

Each run goes on from the model that ships for the same few tokens, on solutions without some kinds
of step; kinds that no family has in common share a run. `accuracy` is that of effort high on
held-out questions, with all steps and without the kind, over the families that write it; `lost` is
the difference, and `tokens` are what the kind adds to a solution of these families.
A run whose folder is there already is not trained again, so that a cut-off run can be taken up.

python -m benchmarks.steps [--json] [--start GGUF] [--out runs/steps] [--tokens 2000000]
"""

import argparse
import json
from itertools import islice
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from msgspec.structs import replace
from rich.console import Console
from rich.table import Table
from tools.reference_model.evaluate import Accuracy
from tools.reference_model.questions import OWN, ReasoningQuestion, Spec, held_out, read_spec
from tools.reference_model.solutions import KINDS, solution
from tools.reference_model.tokenizer import build_tokenizer

from benchmarks.inputs import benchmark_parser
from suffice.engines.embedded import packaged_path
from suffice.types import Effort

try:
    from tools.reference_model.train import LOG, Schedule, Training
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"error: no module {missing.name}\nhint: make venv-train installs it"
    ) from None

SPEC = Path(__file__).parents[1] / "effort" / "effort.toml"
PEAK_RATE, WARM_UP_STEPS = 5e-4, 20
ALL = "all"
# Letters are numbered as words are spelled, so that without the spelling there are no numbers.
RUNS = {
    ALL: (),
    "columns": ("columns", "marks", "reverse", "rules", "select", "state"),
    "restate": ("names", "restate", "total"),
    "spell": ("marks", "spell"),
    "check": ("check",),
}
READ_FROM = {kind: run for run, kinds in reversed(RUNS.items()) for kind in kinds}


def main() -> None:
    """Train what is not there yet, ask, and print."""
    parser = benchmark_parser(__package__, __doc__, data=False)
    parser.add_argument("--start", type=Path, default=packaged_path("suffice-moe-13m"))
    parser.add_argument("--out", type=Path, default=Path("runs/steps"))
    parser.add_argument("--tokens", type=int, default=2_000_000, help="of each short training")
    parser.add_argument("--count", type=int, default=100, help="questions of each family")
    arguments = parser.parse_args()
    spec = read_spec(SPEC)
    families = {name: ranges for name, ranges in spec.families.items() if name not in OWN}
    spec = replace(spec, families=families)
    accuracies = {
        run: _accuracy(spec, run, arguments) for run in dict.fromkeys([ALL, *READ_FROM.values()])
    }
    worth = {kind: _worth(spec, kind, accuracies) for kind in sorted(KINDS)}
    if arguments.json:
        print(json.dumps(worth, indent=2))
    else:
        _show(worth)


def _accuracy(spec: Spec, run: str, arguments: argparse.Namespace) -> Accuracy:
    """Return the accuracy by family and effort after the short training of a run."""
    folder: Path = arguments.out / run
    schedule = Schedule(
        tokens=arguments.tokens,
        peak_rate=PEAK_RATE,
        warm_up_steps=WARM_UP_STEPS,
        judge_every=2 * arguments.tokens,  # at the end alone
        judged=arguments.count,
    )
    if _judged(folder) is None:
        training = Training(
            spec,
            folder,
            schedule=schedule,
            start=arguments.start,
            without=frozenset(RUNS[run]),
        )
        Console(stderr=True).print(f"training without: {', '.join(RUNS[run]) or 'nothing'}")
        training.run(lambda _: None)
    accuracy = _judged(folder)
    assert accuracy is not None
    return accuracy


def _judged(folder: Path) -> Accuracy | None:
    """Read what a finished training wrote last; None for one that has not ended."""
    log = folder / LOG
    last = json.loads(log.read_text("utf-8").splitlines()[-1]) if log.is_file() else {}
    accuracy: Accuracy | None = last.get("accuracy")
    return accuracy


def _worth(spec: Spec, kind: str, accuracies: dict[str, Accuracy]) -> dict[str, Any]:
    """Compare a run without a kind with the run that has all, over the families that write it."""
    written = {
        name: fmean(_tokens(question, kind) for question in islice(questions, 50))
        for name, questions in held_out(spec).items()
    }
    families = [name for name, tokens in written.items() if tokens]
    full = fmean(accuracies[ALL][name]["high"] for name in families)
    short = fmean(accuracies[READ_FROM[kind]][name]["high"] for name in families)
    return {
        "families": families,
        "accuracy": {"with": full, "without": short},
        "lost": full - short,
        "tokens": fmean(written[name] for name in families),
    }


def _tokens(question: ReasoningQuestion, kind: str) -> int:
    """Count the tokens of a kind in a full solution."""
    steps = solution(question, Effort.HIGH, Random(0))
    text = "".join(step.text for step in steps if step.kind == kind)
    return len(build_tokenizer().encode(text).ids)


def _show(worth: dict[str, Any]) -> None:
    table = Table("left out", "families", "with", "without", "lost", title="accuracy at high")
    for kind, figures in worth.items():
        accuracy = figures["accuracy"]
        cells = (f"{value:.3f}" for value in (accuracy["with"], accuracy["without"]))
        table.add_row(kind, ", ".join(figures["families"]), *cells, f"{figures['lost']:+.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
