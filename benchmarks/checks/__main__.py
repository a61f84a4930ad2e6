"""What an operator's check certifies and saves: on programming tasks, and on agents' whole tasks.

MBPP (dshakes/firstpass, Apache-2.0): 974 tasks, Claude Haiku 4.5 below Claude Opus 4.8, each answer
with the verdict of the operator's own check and marked by hidden tests. `mbpp` certifies over seeds
that deal the splits: shares, savings and risks are what the worst of these policies makes of all
tasks, and `_reported` the mean of the reporting splits. `dear_sampling` is the same rule with five
samples of the cheap model below a reference at Sonnet's price, 60 % of Opus's.

WolfBench (wandb, Apache-2.0): agent trials on 50 tasks of Terminal-Bench. The task's own tests
stand in for the operator's check, which therefore never errs; a real check does. A cascade asks the
first setting, and the second where the first fails. Its figures are means over pairs of runs, and
their intervals come from 2,000 resamples of the tasks. `violations` takes the 50 tasks for a
population: it draws 160 from it with replacement, two runs each, certifies a net loss by task, with
the check and without it, and counts certificates whose policy loses more than alpha on the
population.

python -m benchmarks.checks --data DATA [--splits 200] [--json]
"""

import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from benchmarks.inputs import benchmark_parser, data_file
from suffice.certify.checking import without_checks
from suffice.certify.policy import CertifiedPolicy, certify
from suffice.certify.target import Target
from suffice.encoders.base import default_encoder
from suffice.errors import InputError
from suffice.guarantee import LabelSource, RiskKind
from suffice.policy import described, harms, observe_table, outcomes, play
from suffice.trials.importers import read_trials
from suffice.trials.order import on_ladder
from suffice.trials.tabulate import tabulate
from suffice.types import Trial, TrialStatus

MBPP = "outcomes/mbpp_check_haiku_opus.jsonl.gz"
WOLFBENCH = "outcomes/wolfbench_trials.csv.gz"
SEEDS, ALPHA, DELTA, NET_ALPHA = 20, 0.03, 0.1, 0.05
SAMPLES, SONNET = 5, Decimal("0.6")  # samples of the dear case; Sonnet's price in Opus's
PILOT = ("t2-minimax-m2.7", "t2-gpt-5.5-xhigh")
CASCADES = (
    PILOT,
    ("t2-kimi-k2.6", "t2-gpt-5.5-xhigh"),
    ("t2-minimax-m2.7", "t2-GPT-5.5"),
    ("t2-minimax-m2.7", "t2-claude-opus-4-6"),
    ("t2-gemini-3-flash", "t2-claude-opus-4-7"),
)
RESAMPLES, DRAWN_TASKS, DRAWN_RUNS = 2_000, 160, 2


class AgentRun(NamedTuple):
    """One trial of a task: whether it was solved, and its dollars; NaN where unknown."""

    solved: float
    usd: float


Setting = dict[str, list[AgentRun]]  # runs by task


def main() -> None:
    parser = benchmark_parser(__package__, __doc__, data=True)
    parser.add_argument("--splits", type=int, default=200, help="draws of tasks to certify")
    arguments = parser.parse_args()
    trials = read_trials(data_file(arguments.data, MBPP))
    settings, uncached = read_settings(data_file(arguments.data, WOLFBENCH))
    figures = {
        "mbpp": mbpp(trials),
        "dear_sampling": dear_sampling(trials),
        "wolfbench": [cascade(settings, *pair, uncached=uncached) for pair in CASCADES],
        "violations": {
            name: violations(settings, splits=arguments.splits, checked=checked)
            for name, checked in (("with the check", True), ("without", False))
        },
    }
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        show(figures)


def certified(trials: Sequence[Trial], *, reference: str, **changes: Any) -> CertifiedPolicy:
    """Certify trials, at alpha and delta of MBPP unless told otherwise."""
    target = Target(reference=reference, label_source=LabelSource.TARGET, alpha=ALPHA, delta=DELTA)
    table = on_ladder(tabulate(trials), reference=reference)
    return certify(table, replace(target, **changes), encoder=default_encoder())


def mbpp(trials: Sequence[Trial]) -> dict[str, Any]:
    """Certify the check as signal, and the same trials without it, over seeds."""
    reference = trials[1].rung
    fits = [certified(trials, reference=reference, seed=s) for s in range(SEEDS)]
    results = [fit.result for fit in fits]
    table = on_ladder(tabulate(trials), reference=reference)
    seen = observe_table(table, reference=reference, encoder=default_encoder())
    whole = [
        described(
            outcomes(table, reference=reference),
            play(fit.policy, harms(fit.policy, seen), points=slice(p := fit.policy.point, p + 1)),
        )
        for fit in fits
    ]
    unchecked = [
        certified(without_checks(trials), reference=reference, seed=s).result for s in range(SEEDS)
    ]
    errors = results[0].checks[trials[0].rung]
    return {
        "alpha": ALPHA,
        "certified": sum(result.certified for result in results),
        "seeds": SEEDS,
        "cheap_share": min(1 - way.share[reference] for way in whole),
        "saving": min(way.saving or 0.0 for way in whole),
        "risk": max(way.risk for way in whole),
        "cheap_share_reported": float(np.mean([1 - r.share[reference] for r in results])),
        "saving_reported": float(np.mean([result.saving for result in results])),
        "bound": float(np.mean([result.bound for result in results])),
        "cheap_share_without": float(np.mean([1 - r.share[reference] for r in unchecked])),
        "saving_without": float(np.mean([result.saving for result in unchecked])),
        "false_accept_rate": errors.false_accepts / errors.bad,
        "false_reject_rate": errors.false_rejects / errors.good,
    }


def dear_sampling(trials: Sequence[Trial]) -> dict[str, Any]:
    """Certify the rule where it costs more than the reference."""
    cheap, reference = trials[0].rung, trials[1].rung
    dear = [
        replace(t, charge_usd=t.charge_usd * (SAMPLES if t.rung == cheap else SONNET))
        for t in trials
        if t.charge_usd is not None
    ]
    usd: dict[str, Decimal] = defaultdict(Decimal)
    for trial in dear:
        usd[trial.rung] += trial.charge_usd or Decimal(0)
    try:
        saving = certified(dear, reference=reference).result.saving
    except InputError as error:
        return {"refused": True, "why": error.message, "cost": float(usd[cheap] / usd[reference])}
    return {"refused": False, "saving": saving, "cost": float(usd[cheap] / usd[reference])}


def read_settings(path: Path) -> tuple[dict[str, Setting], frozenset[str]]:
    """Read the runs of each setting, and which settings report no cached token on any trial."""
    settings: dict[str, Setting] = defaultdict(lambda: defaultdict(list))
    cached: dict[str, float] = defaultdict(float)
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            run = AgentRun(float(row["reward"] or 0), float(row["usd"] or "nan"))
            settings[row["group"]][row["task"]].append(run)
            cached[row["group"]] += float(row["tc"] or 0)
    return settings, frozenset(name for name, tokens in cached.items() if tokens == 0)


def cascade(
    settings: dict[str, Setting], first: str, second: str, *, uncached: frozenset[str]
) -> dict[str, Any]:
    """Return quality and dollars a task of a cascade and of its settings, with intervals."""
    tasks = sorted(settings[first].keys() & settings[second].keys())
    low, high = (
        np.array([[np.nanmean(np.array(settings[s][task]), axis=0)] for task in tasks])[:, 0]
        for s in (first, second)
    )
    both = np.column_stack(
        [low[:, 0] + (1 - low[:, 0]) * high[:, 0], low[:, 1] + (1 - low[:, 0]) * high[:, 1]]
    )
    drawn = np.random.default_rng(0).integers(len(tasks), size=(RESAMPLES, len(tasks)))

    def figures(values: np.ndarray[Any, Any]) -> dict[str, Any]:
        ends = np.quantile(values[drawn].mean(axis=1), (0.05, 0.95), axis=0)
        quality, usd = values.mean(axis=0).tolist()
        return {
            "quality": quality,
            "quality_interval": ends[:, 0].tolist(),
            "usd": usd,
            "usd_interval": ends[:, 1].tolist(),
        }

    return {
        "first": first,
        "second": second,
        "tasks": len(tasks),
        "cache_unreported": [name for name in (first, second) if name in uncached],
        "cascade": figures(both),
        "first_alone": figures(low),
        "second_alone": figures(high),
        "quality_gain_interval": np.quantile(
            (both - high)[drawn].mean(axis=1)[:, 0], (0.05, 0.95)
        ).tolist(),
        "usd_change_interval": np.quantile(
            (both - high)[drawn].mean(axis=1)[:, 1], (0.05, 0.95)
        ).tolist(),
    }


def violations(settings: dict[str, Setting], *, splits: int, checked: bool) -> dict[str, Any]:
    """Count certificates of the pilot that lose more than alpha on the population of tasks."""
    trials = pilot_trials(settings, checked=checked)
    by_task: dict[str, dict[str, list[Trial]]] = defaultdict(lambda: defaultdict(list))
    for trial in trials:
        by_task[trial.cluster or ""][trial.request_id].append(trial)
    tasks, encoder = sorted(by_task), default_encoder()
    population = on_ladder(tabulate(trials), reference=PILOT[1])
    seen = observe_table(population, reference=PILOT[1], encoder=encoder)
    quality = outcomes(population, reference=PILOT[1]).quality
    count = violated = 0
    savings = []
    for split in range(splits):
        random = np.random.default_rng(split)
        sample = [
            replace(trial, request_id=f"{at}/{run}", cluster=f"{at}")
            for at, task in enumerate(random.choice(tasks, size=DRAWN_TASKS))
            for run in random.choice(sorted(by_task[str(task)]), size=DRAWN_RUNS, replace=False)
            for trial in by_task[str(task)][str(run)]
        ]
        found = certified(
            sample, reference=PILOT[1], alpha=NET_ALPHA, risk=RiskKind.NET_LOSS, seed=split
        )
        if not found.result.certified:
            continue
        count += 1
        savings.append(found.result.saving or 0.0)
        policy = found.policy
        whole = replace(policy, path=policy.path.whole())
        here = slice(policy.point, policy.point + 1)
        kept = play(whole, harms(whole, seen), points=here).qualities(quality)[:, 0]
        violated += policy.part * float((quality[:, -1] - kept).mean()) > NET_ALPHA
    return {
        "alpha": NET_ALPHA,
        "delta": DELTA,
        "splits": splits,
        "certified": count,
        "violations": int(violated),
        "mean_saving": float(np.mean(savings)) if savings else None,
    }


def pilot_trials(settings: dict[str, Setting], *, checked: bool) -> list[Trial]:
    """Return the pilot's runs as trials, clusters by task."""
    return [
        Trial(
            request_id=f"{task}#{number}",
            rung=rung,
            status=TrialStatus.SCORED,
            text="",
            quality=run.solved,
            charge_usd=Decimal(repr(run.usd)),
            cluster=task,
            check=run.solved == 1 if checked and rung == PILOT[0] else None,
        )
        for rung in PILOT
        for task, runs in settings[rung].items()
        for number, run in enumerate(runs)
        if np.isfinite(run.usd)
    ]


def show(figures: dict[str, Any]) -> None:
    console = Console(width=150)
    for name in ("mbpp", "dear_sampling"):
        console.print(name, figures[name])
    table = Table("first, then second", "quality", "dollars a task", "second alone", "dollars")
    for one in figures["wolfbench"]:
        mark = " (cache unreported)" if one["cache_unreported"] else ""
        both, alone = one["cascade"], one["second_alone"]
        cells = (
            f"{way[key]:.3f} ({way[f'{key}_interval'][0]:.3f} to {way[f'{key}_interval'][1]:.3f})"
            for way in (both, alone)
            for key in ("quality", "usd")
        )
        table.add_row(f"{one['first']}, {one['second']}{mark}", *cells)
    console.print(table, figures["violations"])


if __name__ == "__main__":
    main()
