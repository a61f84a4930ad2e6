"""The compound workload that ships, measured live: every rung asked, every combination replayed."""

import asyncio
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from statistics import median

from msgspec import Struct

from suffice.bench.predicted import Benched, PredictedRung, gate_trials, latent_trials
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


class Measured(Struct, frozen=True, kw_only=True, eq=False):
    """The trials of every rung, and the worth of the levers.

    `decision_s` is the median time of an answer of each rung that decodes nothing.
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


def measure_compound(config: Config, *, out: Path, seed: int = 0, say: Say) -> Measured:
    """Ask all rungs of a ladder the shipped requests, into `out`, and replay every combination.

    Resumes from the trials in `out`. The trials of rungs that decode nothing are made anew and
    written beside it. `suffice compound` gives the same figures from both files with the same seed.
    Raises what `suffice bench` and `suffice compound` raise.
    """
    with as_file(files("suffice") / "data" / TASKS) as tasks:
        benched = bench_tasks(
            config, str(tasks), out=out, max_usd=None, judge=None, show=show_progress
        )
    return replay_deal(benched, out=out, seed=seed, say=say)


def replay_deal(benched: BenchResult, *, out: Path, seed: int, say: Say) -> Measured:
    """Replay every combination for one deal of the requests into splits."""
    guesses = guess(shipped_workload(), shipped_tasks(), benched.trials, seed=seed, say=say)
    beside = out.with_name(f"{out.stem}-guesses.jsonl")
    write_trials(beside, guesses)
    compound = compound_trials(
        shipped_workload(),
        (*benched.trials, *guesses),
        made=datetime.now(UTC),
        source=f"{out.name}, {beside.name}",
        seed=seed,
        say=say,
    )
    return Measured(benched=benched, compound=compound, decision_s=_decision_s(guesses))


def guess(
    workload: CompoundWorkload,
    tasks: tuple[Task, ...],
    trials: tuple[Trial, ...],
    *,
    seed: int = 0,
    say: Say,
) -> tuple[Trial, ...]:
    """Make the trials of the latent rung and of the gate from those of the rungs that decode."""
    benched = Benched(workload=workload, tasks=tasks, trials=trials, seed=seed)
    return (
        *latent_trials(benched, LATENT, encoder=default_encoder(), say=say),
        *asyncio.run(gate_trials(benched, GATE, say=say)),
    )


def _decision_s(guesses: tuple[Trial, ...]) -> dict[str, float]:
    times: dict[str, list[float]] = {}
    for trial in guesses:
        if trial.duration_s is not None:
            times.setdefault(trial.rung, []).append(trial.duration_s)
    return {rung: median(values) for rung, values in times.items()}
