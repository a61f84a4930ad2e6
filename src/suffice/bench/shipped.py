"""Measure the compound workload that ships: answer it on every rung, replay every combination."""

import asyncio
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from statistics import median

from msgspec import Struct

from suffice.bench.predicted import BenchedWorkload, PredictedRung, gate_trials, latent_trials
from suffice.bench.progress import show_progress
from suffice.bench.run import BenchResult, bench_tasks
from suffice.bench.tasks import Task, read_tasks
from suffice.compound import Compound, CompoundWorkload, compound_trials, read_workload
from suffice.config import Config
from suffice.encoders.base import default_encoder
from suffice.trials.importers import write_trials
from suffice.types import Say, Trial

WORKLOAD, TASKS = "compound.toml", "compound_tasks.jsonl.gz"
LATENT = PredictedRung(rung="latent", group="closed_set")
GATE = PredictedRung(rung="gate", group="stream_state")


class CompoundMeasurement(Struct, frozen=True, kw_only=True, eq=False):
    """The trials of every rung, and what the levers are worth.

    `decision_s` is the median time of an answer, by rung that decodes nothing.
    """

    benched: BenchResult
    compound: Compound
    decision_s: dict[str, float]


def shipped_workload() -> CompoundWorkload:
    """Read the workload that ships."""
    with as_file(files("suffice") / "data" / WORKLOAD) as path:
        return read_workload(path)


def shipped_tasks() -> tuple[Task, ...]:
    """Read the tasks of the workload that ships."""
    with as_file(files("suffice") / "data" / TASKS) as path:
        return read_tasks(path)


def measure_compound(config: Config, *, out: Path, seed: int = 0, say: Say) -> CompoundMeasurement:
    """Run the shipped requests on all rungs of a ladder, and replay every combination.

    Trials go to `out`, and a second run resumes from them. The trials of rungs that decode nothing
    are computed again and written to a file beside it. `suffice compound` gives the same figures
    from both files with the same seed. Raises the errors of `suffice bench` and `suffice compound`.
    """
    tasks = shipped_tasks()
    benched = bench_tasks(config, tasks, out=out, max_usd=None, judge=None, show=show_progress)
    return replay_deal(benched, out=out, seed=seed, say=say)


def replay_deal(benched: BenchResult, *, out: Path, seed: int, say: Say) -> CompoundMeasurement:
    """Replay every combination for one deal of the requests into splits."""
    predicted = predicted_trials(
        shipped_workload(), shipped_tasks(), benched.trials, seed=seed, say=say
    )
    beside = out.with_name(f"{out.stem}-predicted.jsonl")
    write_trials(beside, predicted)
    compound = compound_trials(
        shipped_workload(),
        (*benched.trials, *predicted),
        made=datetime.now(UTC),
        source=f"{out.name}, {beside.name}",
        seed=seed,
        say=say,
    )
    return CompoundMeasurement(
        benched=benched, compound=compound, decision_s=_decision_s(predicted)
    )


def predicted_trials(
    workload: CompoundWorkload,
    tasks: tuple[Task, ...],
    trials: tuple[Trial, ...],
    *,
    seed: int = 0,
    say: Say,
) -> tuple[Trial, ...]:
    """Return the trials of the latent rung and the gate, learned from those of decoding rungs."""
    benched = BenchedWorkload(workload=workload, tasks=tasks, trials=trials, seed=seed)
    return (
        *latent_trials(benched, LATENT, encoder=default_encoder(), say=say),
        *asyncio.run(gate_trials(benched, GATE, say=say)),
    )


def _decision_s(predicted: tuple[Trial, ...]) -> dict[str, float]:
    times: dict[str, list[float]] = {}
    for trial in predicted:
        if trial.duration_s is not None:
            times.setdefault(trial.rung, []).append(trial.duration_s)
    return {rung: median(values) for rung, values in times.items()}
