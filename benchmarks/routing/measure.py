"""One fit and certificate a seed: what the certified policy and its rivals come to."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
from msgspec import Struct
from msgspec.structs import replace as with_field
from rich.console import Console
from rich.progress import Progress

from benchmarks.inputs import OUTCOME_SETS
from benchmarks.workers import spread
from suffice.encoders.base import default_encoder
from suffice.guarantee import Evidence, Method, calibrate
from suffice.guarantee.bounds import clopper_pearson_upper
from suffice.policy import (
    ExpectedLosses,
    Goal,
    Observations,
    Outcomes,
    PathOutcomes,
    Policy,
    fit_policies,
    harms,
    observe_table,
    outcomes,
    play,
)
from suffice.trials.importers import read_table
from suffice.trials.order import on_ladder
from suffice.trials.table import split_rows

ALPHA, DELTA = 0.05, 0.1
SHARE_SEEDS = 20
CALL_PRICES = (1.0, 24.5)  # of RouteLLM's two models, which have no tokens on record
CALLS = "calls at 1 to 24.5, RouteLLM's published price ratio"


@dataclass(frozen=True, kw_only=True, eq=False)
class OutcomeSet:
    """One set of outcomes: what a policy may see of each request, and what it came to."""

    seen: Observations
    known: Outcomes
    cost_unit: str


class FitJob(Struct, frozen=True, kw_only=True):
    """One fit and certificate to make."""

    name: str
    seed: int
    grouped: bool


class PolicyFigures(Struct, frozen=True, kw_only=True):
    """What one policy comes to on split C, and its risk on B and C together."""

    share: float
    risk: float
    saving: float
    true_risk: float


class SeedResult(Struct, frozen=True, kw_only=True):
    """What one seed gave: the certified policy, and what it is compared with."""

    job: FitJob
    policy: PolicyFigures
    random: PolicyFigures
    fixed: PolicyFigures
    route: PolicyFigures


class SetFigures(Struct, frozen=True, kw_only=True):
    """The published figures of one set."""

    share: float
    risk: float
    saving: float
    saving_random: float
    saving_best_fixed: float
    saving_route_only: float
    random_share: float
    share_without_group: float
    violations: float
    cost_unit: str


def measure(files: dict[str, Path], *, seeds: int) -> dict[str, SetFigures]:
    """Read each set, then fit and certify all seeds on two processes."""
    with Progress(console=Console(stderr=True)) as progress:
        reading = progress.add_task("reading", total=len(files))
        sets = {}
        for name, path in files.items():
            sets[name] = _record(path, reference=OUTCOME_SETS[name][1])
            progress.advance(reading)
        jobs = list(_jobs(sets, seeds=seeds))
        fitting = progress.add_task("fitting and certifying", total=len(jobs))
        drawn = []
        for result in spread(_work, [(job,) for job in jobs], start=_start, inputs=(sets,)):
            drawn.append(result)
            progress.advance(fitting)
    return {
        name: _figures([d for d in drawn if d.job.name == name], cost_unit=recorded.cost_unit)
        for name, recorded in sets.items()
    }


def draw(job: FitJob, recorded: OutcomeSet) -> SeedResult:
    """Split by the seed, fit on A, certify on B, and measure on C and on B with C."""
    seen = recorded.seen if job.grouped else recorded.seen.without_groups()
    fit, certify, report = split_rows(len(seen), seed=job.seed)
    goal = Goal(alpha=ALPHA, delta=DELTA, rows=len(certify))
    fitted = fit_policies(seen.subset(fit), recorded.known.subset(fit), goal)
    held_out = np.concatenate([certify, report])
    known = recorded.known.subset(held_out)
    expected = harms(fitted.policy, seen.subset(held_out))

    def measured(policy: Policy | None) -> PolicyFigures:
        return _nothing() if policy is None else _certified(policy, expected, known, certify.size)

    return SeedResult(
        job=job,
        policy=measured(fitted.policy),
        random=_random(recorded.known.subset(fit), known, certify.size),
        fixed=measured(fitted.fixed),
        route=measured(fitted.route),
    )


def _record(path: Path, *, reference: str) -> OutcomeSet:
    table = on_ladder(read_table(path).scored(), reference=reference)
    seen = observe_table(table, reference=reference, encoder=default_encoder())
    known = outcomes(table, reference=reference)
    if table.cost_unit is None:
        known = replace(known, cost=np.tile(CALL_PRICES, (len(table), 1)))
    unit = table.cost_unit.replace("_", " ") if table.cost_unit else CALLS
    return OutcomeSet(seen=seen, known=known, cost_unit=unit)


def _certified(
    policy: Policy, expected: ExpectedLosses, known: Outcomes, rows: int
) -> PolicyFigures:
    """Certify a policy on the first `rows` rows, and measure it; nothing if it is not certified."""
    plays = play(with_field(policy, path=policy.path.whole()), expected)
    evidence = Evidence(losses=plays.losses(known.quality)[:rows, 1:], parts=policy.path.parts[1:])
    calibration = calibrate(evidence, alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL)
    if not calibration.certified:
        return _nothing()
    point = calibration.index + 1
    return _measured(plays, known, rows, point=point, part=float(policy.path.parts[point]))


def _measured(
    plays: PathOutcomes, known: Outcomes, rows: int, *, point: int, part: float
) -> PolicyFigures:
    """Measure a point on the rows after the first `rows`, a random part by its expectation."""
    losses = plays.losses(known.quality)[:, point]
    spent, reference = plays.costs(known.cost)[rows:, point].sum(), known.cost[rows:, -1].sum()
    kept = plays.chosen[rows:, point] != len(known.rungs) - 1
    return PolicyFigures(
        share=part * float(kept.mean()),
        risk=part * float(losses[rows:].mean()),
        saving=part * float(1.0 - spent / reference),
        true_risk=part * float(losses.mean()),
    )


def _nothing() -> PolicyFigures:
    return PolicyFigures(share=0.0, risk=0.0, saving=0.0, true_risk=0.0)


def _random(fit: Outcomes, known: Outcomes, rows: int) -> PolicyFigures:
    """Certify routing at random to one rung; the fitting rows choose the rung.

    The test is the policy's own: all certifying rows say what the rung loses, and the largest part
    that passes is drawn.
    """
    best, figures = 0.0, _nothing()
    for rung in range(len(known.rungs) - 1):
        loss = np.maximum(0.0, fit.quality[:, -1] - fit.quality[:, rung]).mean()
        saving = 1.0 - fit.cost[:, rung].sum() / fit.cost[:, -1].sum()
        hope = saving * min(1.0, ALPHA / max(float(loss), 1e-9))
        if hope > best:
            best, figures = hope, _random_part(known, rung, rows)
    return figures


def _random_part(known: Outcomes, rung: int, rows: int) -> PolicyFigures:
    shape = (len(known.quality), 1)
    attempted = np.zeros((len(known.rungs), *shape), dtype=np.bool_)
    attempted[rung] = True
    plays = PathOutcomes(chosen=np.full(shape, rung, dtype=np.int8), attempted=attempted)
    lost = int(plays.losses(known.quality)[:rows].sum())
    bound = float(clopper_pearson_upper(lost, rows, delta=DELTA))
    return _measured(plays, known, rows, point=0, part=min(1.0, ALPHA / bound))


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


def _figures(drawn: list[SeedResult], *, cost_unit: str) -> SetFigures:
    grouped = [seed for seed in drawn if seed.job.grouped]
    first = [seed for seed in grouped if seed.job.seed < SHARE_SEEDS]
    return SetFigures(
        share=fmean(seed.policy.share for seed in first),
        risk=fmean(seed.policy.risk for seed in first),
        saving=fmean(seed.policy.saving for seed in first),
        saving_random=fmean(seed.random.saving for seed in first),
        saving_best_fixed=fmean(seed.fixed.saving for seed in first),
        saving_route_only=fmean(seed.route.saving for seed in first),
        random_share=fmean(seed.random.share for seed in first),
        share_without_group=fmean(seed.policy.share for seed in drawn if not seed.job.grouped),
        violations=fmean(seed.policy.true_risk > ALPHA for seed in grouped),
        cost_unit=cost_unit,
    )
