"""Certified quality and cost of every setting in the recorded outcomes of others, on one page.

For each set the reference is the setting with the best mean quality; `suffice compare` does the
rest (alpha 0.05, delta 0.1, tasks as clusters).
- `sets`: by set, how many settings are as good, worse and undecided, and `told_apart`: of the
  neighbours on the board, how many differ at all (sign flips by task, p at most 0.1);
- `self`: two runs of each agent setting against two others of its own: the share of settings that
  are certified at net loss 0.10 and 0.15, and whether all together certify 0.02;
- `violations`: over random pairs of agent settings, certified at 0.15 on half of the tasks, how
  often the other half says more; delta is 0.1;
- `tasks_needed`: median number of tasks at which an agent setting would be as good as itself at
  net loss 0.05.

python -m benchmarks.board --data DATA [--out board.html] [--json]
"""

import csv
import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import altair as alt
import numpy as np

from benchmarks.inputs import benchmark_parser, data_file
from suffice.certify.compare import (
    Comparisons,
    compare,
    net_loss_p_value,
    net_losses,
    task_means,
    tasks_needed,
)
from suffice.files import save_figure
from suffice.report.comparison import comparison_chart
from suffice.trials.importers import read_trials
from suffice.trials.table import Floats
from suffice.types import Count, CountSource, Trial, TrialStatus, Usage

ALPHA, DELTA = 0.05, 0.1
FLIPS, PAIRS = 2_000, 400
FILES = {
    "mmlu": "outcomes/routellm_mmlu.jsonl.gz",
    "gsm8k": "outcomes/routellm_gsm8k.jsonl.gz",
    "bbh": "outcomes/bbh_none_vs_cot.jsonl.gz",
    "crux": "outcomes/crux_llama8_70.jsonl.gz",
}
AGENTS = "outcomes/wolfbench_trials.csv.gz"
ECONOMY = "outcomes/lrm_token_economy_evaluation_stats.csv"


def main() -> None:
    """Print the figures, and write the page."""
    parser = benchmark_parser(__package__, __doc__, data=True)
    parser.add_argument("--out", type=Path, default=Path("board.html"))
    arguments = parser.parse_args()
    runs = agent_runs(data_file(arguments.data, AGENTS))
    sets = {name: read_trials(data_file(arguments.data, file)) for name, file in FILES.items()}
    sets["token_economy"] = economy_trials(data_file(arguments.data, ECONOMY))
    sets["agents"] = tuple(trial for run in runs.values() for trial in run)
    boards = {name: board(trials) for name, trials in sets.items()}
    report = {
        "sets": {name: _summary(boards[name], sets[name]) for name in boards},
        "self": self_certified(runs),
        "violations": violations(runs),
    }
    charts = [comparison_chart(result).properties(title=name) for name, result in boards.items()]
    save_figure(arguments.out, alt.vconcat(*charts))
    print(json.dumps(report, indent=None if arguments.json else 2))


def agent_runs(path: Path) -> dict[tuple[str, str], list[Trial]]:
    """Read agent trials by setting and run; a trial without a reward is left out."""
    runs: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["reward"]:
                trial = Trial(
                    request_id=row["task"],
                    rung=row["group"],
                    status=TrialStatus.SCORED,
                    text="",
                    quality=float(row["reward"]),
                    charge_usd=Decimal(row["usd"]) if row["usd"] else None,
                )
                runs[row["group"], row["run"]].append(trial)
    return dict(runs)


def economy_trials(path: Path) -> tuple[Trial, ...]:
    """Read the runs of reasoning models on short prompts; their cost is output tokens."""
    with path.open(encoding="utf-8") as file:
        return tuple(
            Trial(
                request_id=row["prompt_id"],
                rung=row["model_name"],
                status=TrialStatus.SCORED,
                text="",
                quality=float(row["success_rate"]),
                usage=Usage(
                    output_tokens=Count(int(float(row["tokens_completion"])), CountSource.REPORTED)
                ),
            )
            for row in csv.DictReader(file)
            if row["success_rate"] and row["tokens_completion"]
        )


def board(trials: Sequence[Trial]) -> Comparisons:
    """Compare all settings with the one of the best mean quality."""
    quality: dict[str, list[float]] = defaultdict(list)
    for trial in trials:
        if trial.quality is not None:
            quality[trial.rung].append(trial.quality)
    best = max(quality, key=lambda name: fmean(quality[name]))
    return compare(trials, reference=best, alpha=ALPHA, delta=DELTA)


def _summary(result: Comparisons, trials: Sequence[Trial]) -> dict[str, Any]:
    order = sorted((result.reference, *result.settings), key=lambda one: -one.quality)
    by_setting: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.quality is not None:
            by_setting[trial.rung].append(trial)
    means = {setting: task_means(scored) for setting, scored in by_setting.items()}
    apart = [
        flip_p_value(net_losses(means[other.setting], means[one.setting])) <= DELTA
        for one, other in pairwise(order)
    ]
    return {
        "reference": result.reference.setting,
        **Counter(one.verdict.value for one in result.settings),
        "neighbours": len(apart),
        "told_apart": sum(apart),
    }


def flip_p_value(differences: Floats, *, seed: int = 0) -> float:
    """Test that the mean difference is 0 by flipping the signs of tasks at random, two-sided."""
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (FLIPS, len(differences)))
    means = np.abs(signs @ differences)
    return float((1 + (means >= abs(differences.sum()) - 1e-9).sum()) / (1 + FLIPS))


def self_certified(runs: dict[tuple[str, str], list[Trial]]) -> dict[str, Any]:
    """Certify two runs of each setting against two others of its own."""
    losses = [
        net_losses(_pooled(runs, name, names[2:4]), _pooled(runs, name, names[:2]))
        for name, names in _runs_of(runs).items()
        if len(names) >= 4
    ]
    needed = [tasks_needed(one, alpha=ALPHA, delta=DELTA) for one in losses]
    return {
        "settings": len(losses),
        **{
            f"certified_at_{alpha:g}": fmean(_certified(one, alpha=alpha) for one in losses)
            for alpha in (0.10, 0.15)
        },
        "pooled_at_0.02": _certified(np.concatenate(losses), alpha=0.02),
        "tasks_needed": median(tasks for tasks in needed if tasks is not None),
        "never_decided": sum(tasks is None for tasks in needed),
    }


def violations(runs: dict[tuple[str, str], list[Trial]]) -> float:
    """Certify pairs on half of the tasks; count where the other half says that they may not."""
    rng = np.random.default_rng(0)
    names = sorted(_runs_of(runs))
    means = {name: _pooled(runs, name, _runs_of(runs)[name]) for name in names}
    wrong = 0
    for _ in range(PAIRS):
        one, other = rng.choice(names, 2, replace=False)
        losses = rng.permutation(net_losses(means[other], means[one]))
        half = len(losses) // 2
        wrong += _certified(losses[:half], alpha=0.15) and losses[half:].mean() > 0.15
    return wrong / PAIRS


def _certified(losses: Floats, *, alpha: float) -> bool:
    return net_loss_p_value(losses, alpha=alpha, delta=DELTA) <= DELTA


def _runs_of(runs: dict[tuple[str, str], list[Trial]]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = defaultdict(list)
    for setting, run in sorted(runs):
        names[setting].append(run)
    return dict(names)


def _pooled(
    runs: dict[tuple[str, str], list[Trial]], setting: str, names: Sequence[str]
) -> dict[str, float]:
    trials = [trial for run in names for trial in runs[setting, run]]
    return task_means(trials)


if __name__ == "__main__":
    main()
