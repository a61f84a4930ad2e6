"""What reasoning effort is worth on the model that ships: accuracy, tokens, and a certified policy.

Held-out questions of the reasoning families that `effort.toml` fixed before training,
each answered by the embedded model at the efforts none, low and high (temperature 0).
- `accuracy`, `output_tokens` (mean of a question) by effort; `families`: accuracy by family and
  effort, also of the two families made here, which are not in the mean;
- `harder`: the mean accuracy of the families that the specification names so, whose main steps are
  hard to say without the work inside them, and how far high lies above none and above low; absent
  where it names none;
- `auto`: a policy that routes and defers, certified to lose at most 0.02 against high (delta 0.1)
  on a uniform mix of the families; tokens of discarded attempts counted. Means over 10 random
  splits, measured on the tenth of the questions that nothing was fitted or certified on.
  `certified` is true when every split gave a certificate.
- `saving_vs_best_fixed`: output tokens against the best choice that looks at the family alone,
  found on the same fitting rows and certified in the same way on the same certifying rows.

python -m benchmarks.effort [--json] [--count 600] [--trials FILE] [--model GGUF] [--spec FILE]
"""

import asyncio
import json
import tempfile
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tools.reference_model.questions import OWN, ReasoningQuestion, Spec, held_out, read_spec

from benchmarks.inputs import benchmark_parser
from suffice.bench.progress import show_progress
from suffice.bench.run import Bench, BenchResult, run_bench
from suffice.bench.tasks import Task
from suffice.certify.policy import certify
from suffice.certify.target import Target
from suffice.config import Config, parse_config
from suffice.deployment import opened
from suffice.encoders.base import default_encoder
from suffice.guarantee import Evidence, LabelSource, Method, calibrate
from suffice.ladder import example_text
from suffice.trials.table import Floats, Rows, TrialTable, split_rows
from suffice.trials.tabulate import tabulate
from suffice.types import Request, Trial

SPEC = Path(__file__).with_name("effort.toml")
ALPHA, DELTA = 0.02, 0.1
SEEDS = 10
EFFORTS = ("none", "low", "high")
NONE, HIGH = 0, 2


class Auto(Struct, frozen=True, kw_only=True):
    """The figures of one certified policy, and of what it is compared with, on split C."""

    certified: bool
    saving_tokens: float
    saving_vs_best_fixed: float
    risk: float
    quality: float
    reference_quality: float
    oracle_saving_tokens: float


@dataclass(frozen=True, kw_only=True, eq=False)
class FamilyRows:
    """Some rows of the table: family of each, quality and output tokens by effort."""

    families: tuple[str, ...]
    quality: Floats
    tokens: Floats


def main() -> None:
    """Ask, mark, certify, and print."""
    parser = benchmark_parser(__package__, __doc__, data=False)
    parser.add_argument("--count", type=int, default=600, help="questions of each family")
    parser.add_argument("--trials", type=Path, help="keep the trials here, and take up from there")
    parser.add_argument("--model", type=Path, help="another GGUF than the one that ships")
    parser.add_argument("--spec", type=Path, default=SPEC, help="families, ranges and seeds")
    arguments = parser.parse_args()
    spec = read_spec(arguments.spec)
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.trials or Path(scratch) / "effort-trials.jsonl"
        asked = tasks(arguments.count, spec=spec)
        trials = ask_all(asked, out=out, model=arguments.model)
    report = figures(trials, harder=spec.harder)
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        _show(report)


def ask_all(tasks: tuple[Task, ...], *, out: Path, model: Path | None) -> tuple[Trial, ...]:
    """Ask every task at all efforts, in this process."""
    config = ladder(model)
    bench = Bench(tasks=tasks, rungs=config.ladder, out=out, parallel={"here": 4})
    return asyncio.run(_run(bench, config)).trials


async def _run(bench: Bench, config: Config) -> BenchResult:
    async with AsyncExitStack() as stack:
        engines = await opened(stack, config)
        return await run_bench(bench, engines=engines, show=show_progress)


def ladder(model: Path | None) -> Config:
    """Return the shipped ladder of the embedded model, or that of another file."""
    config = parse_config(example_text("embedded"))
    if model is None:
        return config
    engine = replace(config.engine["here"], model_path=str(model))
    return replace(config, engine={"here": engine})


def tasks(
    count: int, *, without: Collection[str] = (), spec: Spec | None = None
) -> tuple[Task, ...]:
    """Make the first held-out questions of every family, but those named, tasks."""
    return tuple(
        task(question, number)
        for family, questions in held_out(spec or read_spec(SPEC)).items()
        if family not in without
        for number, question in enumerate(islice(questions, count))
    )


def task(question: ReasoningQuestion, number: int) -> Task:
    """Make a question a task whose answer is marked by comparison."""
    request = Request(
        request_id=f"{question.family}-{number}",
        messages=({"role": "user", "content": question.text},),
        group=question.family,
    )
    return Task(request=request, target=question.answer, scorer="exact")


def figures(trials: tuple[Trial, ...], *, harder: Collection[str] = ()) -> dict[str, Any]:
    """Work out what is published from the trials of all families at all efforts."""
    unpriced = [replace(trial, charge_usd=None) for trial in trials]  # the cost is output tokens
    table = tabulate(unpriced).scored()
    own = np.array([group in OWN for group in table.groups])
    reasoning = table.subset(np.flatnonzero(~own))
    hard = np.array([group in harder for group in table.groups])
    splits = [auto(reasoning, seed=seed) for seed in range(SEEDS)]
    return {
        "accuracy": _by_effort(reasoning.quality),
        "output_tokens": _by_effort(reasoning.cost),
        **({"harder": _harder(table.quality[hard])} if hard.any() else {}),
        "families": {
            family: _by_effort(table.quality[[group == family for group in table.groups]])
            for family in dict.fromkeys(table.groups)
            if family is not None
        },
        "auto": {
            "certified": all(one.certified for one in splits),
            **{
                name: round(fmean(getattr(one, name) for one in splits), 4)
                for name in Auto.__struct_fields__
                if name != "certified"
            },
        },
        "questions": len(table),
        "alpha": ALPHA,
        "delta": DELTA,
        "splits": SEEDS,
    }


def _harder(quality: Floats) -> dict[str, float]:
    none, low, high = quality.mean(axis=0).tolist()
    gaps = {"high_above_none": high - none, "high_above_low": high - low}
    return _by_effort(quality) | {name: round(gap, 4) for name, gap in gaps.items()}


def auto(table: TrialTable, *, seed: int) -> Auto:
    """Certify a policy on one random split, and set it against the alternatives on split C."""
    ask = Target(
        reference="high", label_source=LabelSource.TARGET, alpha=ALPHA, delta=DELTA, seed=seed
    )
    certified = certify(table, ask, encoder=default_encoder())
    result = certified.result
    assert result.risk is not None, "an excess has a mean over all requests"
    fit, test, report = (_part(table, rows) for rows in split_rows(table.clusters, seed=seed))
    spent = float(certified.plays.costs(report.tokens)[:, 0].sum())
    return Auto(
        certified=result.certified,
        saving_tokens=1.0 - spent / float(report.tokens[:, HIGH].sum()),
        saving_vs_best_fixed=1.0 - spent / _best_fixed(fit, test, report),
        risk=result.risk,
        quality=result.quality,
        reference_quality=result.reference_quality,
        oracle_saving_tokens=result.baselines["oracle"].saving or 0.0,
    )


def _part(table: TrialTable, rows: Rows) -> FamilyRows:
    families = tuple(table.groups[row] or "" for row in rows.tolist())
    return FamilyRows(families=families, quality=table.quality[rows], tokens=table.cost[rows])


def _best_fixed(fit: FamilyRows, test: FamilyRows, report: FamilyRows) -> float:
    """Return the tokens on split C of the best certified choice of effort by family.

    Two ways are tried, each a path from always high to ever cheaper choices: one effort for all,
    and the table by family whose next change loses least for each token that it saves, as seen on
    the fitting rows. Each is certified by the walk that certifies the policy; the cheaper counts.
    """
    families = tuple(dict.fromkeys(fit.families))
    single = [dict.fromkeys(families, effort) for effort in (2, 1, 0)]
    spent = []
    for path in (single, _tables(fit, families)):
        losses = np.stack([_losses(test, choice) for choice in path], axis=1)
        walk = calibrate(Evidence(losses=losses), alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL)
        spent.append(float(_tokens(report, path[walk.index if walk.certified else 0]).sum()))
    return min(spent)


def _tables(fit: FamilyRows, families: tuple[str, ...]) -> list[dict[str, int]]:
    """Order tables of efforts by family: each step cheapens one family by its best bargain."""
    choice = dict.fromkeys(families, HIGH)
    path = [dict(choice)]
    while any(effort > NONE for effort in choice.values()):
        steps = [(family, effort) for family in families for effort in range(choice[family])]
        family, effort = min(steps, key=lambda step: _bargain(fit, choice, *step))
        choice[family] = effort
        path.append(dict(choice))
    return path


def _bargain(
    fit: FamilyRows, choice: dict[str, int], family: str, effort: int
) -> tuple[float, float]:
    """Return how much loss a step adds for each token it saves; among equals, the larger saving."""
    changed = {**choice, family: effort}
    lost = float(_losses(fit, changed).sum() - _losses(fit, choice).sum())
    saved = float(_tokens(fit, choice).sum() - _tokens(fit, changed).sum())
    return (lost / saved if saved > 0 else float("inf"), -saved)


def _efforts(part: FamilyRows, choice: dict[str, int]) -> NDArray[np.intp]:
    return np.array([choice.get(family, HIGH) for family in part.families])


def _losses(part: FamilyRows, choice: dict[str, int]) -> Floats:
    rows = np.arange(len(part.families))
    quality = part.quality[rows, _efforts(part, choice)]
    return np.maximum(0.0, part.quality[:, HIGH] - quality)


def _tokens(part: FamilyRows, choice: dict[str, int]) -> Floats:
    spent: Floats = part.tokens[np.arange(len(part.families)), _efforts(part, choice)]
    return spent


def _by_effort(values: Floats) -> dict[str, float]:
    return dict(
        zip(EFFORTS, (round(float(value), 4) for value in values.mean(axis=0)), strict=True)
    )


def _show(report: dict[str, Any]) -> None:
    table = Table(title="accuracy by effort")
    for name in ("family", *EFFORTS):
        table.add_column(name)
    for family, by_effort in {**report["families"], "mean": report["accuracy"]}.items():
        table.add_row(family, *(f"{value:.3f}" for value in by_effort.values()))
    if "harder" in report:
        harder = [report["harder"][effort] for effort in EFFORTS]
        table.add_row("mean of the harder", *(f"{value:.3f}" for value in harder))
    table.add_row("output tokens", *(f"{value:.1f}" for value in report["output_tokens"].values()))
    console = Console()
    console.print(table)
    for name, value in report["auto"].items():
        console.print(f"{name.replace('_', ' ')}: {value}")


if __name__ == "__main__":
    main()
