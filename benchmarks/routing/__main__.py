"""The certified share of recorded requests that a cheap rung answers, and how often promises break.

For each set of outcomes, at alpha 0.05 and delta 0.1:
- `share`, `risk`: mean over 20 seeds of the share that the cheap rung answers at the certified
  point and of its loss against the reference, both on split C, which nothing was chosen on;
- `share_without_group`: the same share when no group is declared;
- `random_share`: the share that routing at random certifies on the same splits;
- `violations`: the part of 200 seeds whose true risk exceeds alpha. True risk is that over splits B
  and C together: the finite population that B was drawn from, so it is known exactly.
Split A fits the policy, split B certifies its point. Requests are turned into numbers once; every
seed splits, fits and certifies anew. `--soak` takes 1000 seeds for the violations.

python -m benchmarks.routing --data ../shared/data [--json] [--soak]
"""

import argparse
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

import numpy as np
from msgspec import Struct
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.inputs import data_file
from suffice.encoders.base import default_encoder
from suffice.guarantee import Calibration, Evidence, Method, calibrate
from suffice.policy import (
    Observations,
    Outcomes,
    fit_policy,
    harms,
    observe_table,
    outcomes,
    play,
)
from suffice.policy.observe import Floats
from suffice.trials.importers import read_table
from suffice.trials.table import split_rows

ALPHA, DELTA = 0.05, 0.1
SHARE_SEEDS, VIOLATION_SEEDS, SOAK_SEEDS = 20, 200, 1000
WORKERS = 2
SETS = {
    "mmlu": ("outcomes/routellm_mmlu.jsonl.gz", "gpt4_1106"),
    "gsm8k": ("outcomes/routellm_gsm8k.jsonl.gz", "gpt4_1106"),
    "bbh": ("outcomes/bbh_none_vs_cot.jsonl.gz", "cot"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class OutcomeSet:
    """One set of outcomes: what a policy may see of each request, and what it came to."""

    seen: Observations
    known: Outcomes


class FitJob(Struct, frozen=True, kw_only=True):
    """One fit and certificate to make."""

    name: str
    seed: int
    grouped: bool


class SeedResult(Struct, frozen=True, kw_only=True):
    """What one seed gave: on split C, on B and C together, and for routing at random."""

    job: FitJob
    share: float
    risk: float
    true_risk: float
    random_share: float


class SetFigures(Struct, frozen=True, kw_only=True):
    """The published figures of one set."""

    share: float
    risk: float
    random_share: float
    share_without_group: float
    violations: float


def main() -> None:
    """Print the figures of all sets, as one JSON object with `--json`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--soak", action="store_true", help=f"{SOAK_SEEDS} seeds for violations")
    arguments = parser.parse_args()
    files = {name: data_file(arguments.data, file) for name, (file, _) in SETS.items()}
    seeds = SOAK_SEEDS if arguments.soak else VIOLATION_SEEDS
    found = measure(files, seeds=seeds)
    if arguments.json:
        print(json.dumps({name: _plain(figures) for name, figures in found.items()}, indent=2))
    else:
        _show(found, seeds=seeds)


def measure(files: dict[str, Path], *, seeds: int) -> dict[str, SetFigures]:
    """Read each set, then fit and certify all seeds on two processes."""
    with Progress(console=Console(stderr=True)) as progress:
        reading = progress.add_task("reading", total=len(files))
        sets = {}
        for name, path in files.items():
            sets[name] = _record(path, reference=SETS[name][1])
            progress.advance(reading)
        jobs = list(_jobs(sets, seeds=seeds))
        fitting = progress.add_task("fitting and certifying", total=len(jobs))
        drawn = []
        for one in _run(sets, jobs):
            drawn.append(one)
            progress.advance(fitting)
    return {name: _figures([d for d in drawn if d.job.name == name]) for name in sets}


def draw(job: FitJob, recorded: OutcomeSet) -> SeedResult:
    """Split by the seed, fit on A, certify on B, and measure on C and on B with C."""
    seen = recorded.seen if job.grouped else recorded.seen.without_groups()
    fit, certify, report = split_rows(len(seen), seed=job.seed)
    policy = fit_policy(seen.subset(fit), _rows(recorded.known, fit))
    held_out = np.concatenate([certify, report])
    quality = recorded.known.quality[held_out]
    plays = play(policy, harms(policy, seen.subset(held_out)))
    losses, at_b = plays.losses(quality), slice(len(certify))
    point = _certified(losses[at_b])
    kept = plays.chosen[len(certify) :, point] != len(policy.rungs) - 1
    return SeedResult(
        job=job,
        share=float(kept.mean()),
        risk=float(losses[len(certify) :, point].mean()),
        true_risk=float(losses[:, point].mean()),
        random_share=_random_share(quality, rows=len(certify), seed=job.seed),
    )


def _record(path: Path, *, reference: str) -> OutcomeSet:
    table = read_table(path).scored()
    seen = observe_table(table, reference=reference, encoder=default_encoder())
    return OutcomeSet(seen=seen, known=outcomes(table, reference=reference))


def _rows(known: Outcomes, rows: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Outcomes:
    return replace(known, quality=known.quality[rows], cost=known.cost[rows])


def _certified(losses: Floats) -> int:
    """Return the furthest certified point of a path whose point 0 is always the reference."""
    found: Calibration = calibrate(
        Evidence(losses=losses), alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL
    )
    return found.index if found.certified else 0


def _random_share(quality: Floats, *, rows: int, seed: int) -> float:
    """Certify routing at random on the first `rows` rows; return its share on the others."""
    luck = np.random.default_rng([seed, 1]).random((len(quality), 1))
    kept = np.asarray(luck < np.linspace(0.0, 1.0, 501), dtype=np.float64)
    losses = kept * np.maximum(0.0, quality[:, -1:] - quality[:, :1])
    return float(kept[rows:, _certified(losses[:rows])].mean())


def _jobs(sets: dict[str, OutcomeSet], *, seeds: int) -> Iterator[FitJob]:
    """List the longest sets first, so that both processes end together."""
    for name in sorted(sets, key=lambda name: -len(sets[name].seen)):
        yield from (FitJob(name=name, seed=seed, grouped=True) for seed in range(seeds))
        yield from (FitJob(name=name, seed=seed, grouped=False) for seed in range(SHARE_SEEDS))


_recorded: dict[str, OutcomeSet] = {}  # of a worker process, set once when it starts


def _start(sets: dict[str, OutcomeSet]) -> None:
    _recorded.update(sets)


def _work(job: FitJob) -> SeedResult:
    return draw(job, _recorded[job.name])


def _run(sets: dict[str, OutcomeSet], jobs: list[FitJob]) -> Iterator[SeedResult]:
    """Work on two fresh processes with one thread each: more threads only wait for each other."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with ProcessPoolExecutor(
        WORKERS, mp_context=get_context("spawn"), initializer=_start, initargs=(sets,)
    ) as workers:
        yield from workers.map(_work, jobs)


def _figures(drawn: list[SeedResult]) -> SetFigures:
    grouped = [one for one in drawn if one.job.grouped]
    first = [one for one in grouped if one.job.seed < SHARE_SEEDS]
    return SetFigures(
        share=fmean(one.share for one in first),
        risk=fmean(one.risk for one in first),
        random_share=fmean(one.random_share for one in first),
        share_without_group=fmean(one.share for one in drawn if not one.job.grouped),
        violations=fmean(one.true_risk > ALPHA for one in grouped),
    )


def _plain(figures: SetFigures) -> dict[str, float]:
    return {name: round(getattr(figures, name), 4) for name in figures.__struct_fields__}


def _show(found: dict[str, SetFigures], *, seeds: int) -> None:
    table = Table(
        title=f"alpha {ALPHA}, delta {DELTA}, {SHARE_SEEDS} seeds ({seeds} for violations)"
    )
    for name in ("set", *SetFigures.__struct_fields__):
        table.add_column(name.replace("_", " "))
    for name, figures in found.items():
        table.add_row(name, *(f"{value:.3f}" for value in _plain(figures).values()))
    Console().print(table)


if __name__ == "__main__":
    main()
