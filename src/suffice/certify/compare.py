"""Can one setting replace another? Every setting of some trials against a reference, by task.

A setting is a rung of the trials: a model, an effort, an agent. Its *net loss* on a task is the
reference's mean quality there less its own, over their runs, so that the noise of single runs
cancels. Tasks are the independent draws; runs of one task are not, nor are the requests of one
cluster or copies of one text, which count as one task.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import takewhile

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from suffice.errors import InputError
from suffice.guarantee.bounds import betting_p_value, betting_upper
from suffice.guarantee.losses import check_probability
from suffice.trials.table import CostUnit, Floats, clusters_of
from suffice.trials.tabulate import cost_of
from suffice.types import Trial, TrialStatus

KNOWN_SHARE = 0.9  # of a setting's trials whose cost must be known for its mean to be shown
_ALONE: Mapping[str, int] = {}  # every request is a task of its own
MOST_TASKS = 2**20  # that are tried to see how many would decide


class Replacement(StrEnum):
    """Whether a setting may stand in for the reference."""

    AS_GOOD = "as good"  # its net loss is at most alpha
    WORSE = "worse"  # its net loss is more than alpha
    UNDECIDED = "undecided"


class Comparison(Struct, frozen=True, kw_only=True):
    """One setting beside the reference, on the `tasks` that both were run on.

    Requests of one cluster are one task, and their mean counts once.
    `difference` is its mean quality less the reference's, with a `1 - delta` interval of its own.
    `verdict` holds for all settings together. `tasks_needed` is how many tasks like these would
    decide: None if decided, or if no number tried would do. Costs are in the comparison's unit,
    None where fewer than nine tenths of the trials have one; `cost_per_success` is None without a
    success.
    """

    setting: str
    tasks: int
    runs: int
    quality: float
    difference: float
    interval: tuple[float, float]
    verdict: Replacement
    tasks_needed: int | None
    cost_per_task: float | None
    cost_per_success: float | None


class Comparisons(Struct, frozen=True, kw_only=True):
    """All settings beside one reference, the cheapest first where costs are known.

    With probability at least `1 - delta` no setting is called as good whose net loss is above
    `alpha`; the same holds of those called worse.
    """

    reference: Comparison
    alpha: float
    delta: float
    cost_unit: CostUnit | None
    settings: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()


def compare(
    trials: Sequence[Trial], *, reference: str, alpha: float = 0.05, delta: float = 0.1
) -> Comparisons:
    """Compare every setting of some trials with the reference, task by task.

    Betting on net losses in [-1, 1], one a task, tests each setting in both directions; Holm's
    correction (1979) makes the verdicts of each direction hold together. An answer that no scorer
    could judge is worth nothing where the reference's was scored, as in `certify`. Raises
    InputError for an unknown reference, or for a single setting.
    """
    judged = _judged(trials, reference=reference)
    notes, trials = _unscored(trials, judged), judged
    check_probability("alpha", alpha)
    check_probability("delta", delta)
    by_setting = _by_setting(trials)
    if reference not in by_setting:
        raise InputError(
            f"no scored trial of {reference!r}", hint=f"settings here: {', '.join(by_setting)}"
        )
    if len(by_setting) < 2:
        raise InputError(f"only {reference!r} has scored trials", hint="add another setting")
    unit = _unit(by_setting)
    means = {name: task_means(runs) for name, runs in by_setting.items()}
    tasks = _task_of(trials)
    others = [name for name in means if name != reference and means[name].keys() & means[reference]]
    losses = {name: net_losses(means[name], means[reference], tasks=tasks) for name in others}
    as_good, worse = (
        _holm({n: test(losses[n], alpha=alpha, delta=delta) for n in others}, delta=delta)
        for test in (net_loss_p_value, _p_worse)
    )
    settings = [
        _comparison(
            name,
            by_setting[name],
            losses[name],
            verdict=_verdict(name, as_good=as_good, worse=worse),
            quality=_mean(means[name], means[name].keys() & means[reference], tasks=tasks),
            terms=_Terms(alpha=alpha, delta=delta / len(others), interval_delta=delta, unit=unit),
        )
        for name in others
    ]
    alone = sorted(set(means) - {*others, reference})
    return Comparisons(
        reference=_comparison(
            reference,
            by_setting[reference],
            net_losses(means[reference], means[reference], tasks=tasks),
            verdict=Replacement.AS_GOOD,
            quality=_mean(means[reference], means[reference].keys(), tasks=tasks),
            terms=_Terms(alpha=alpha, delta=delta, interval_delta=delta, unit=unit),
        ),
        alpha=alpha,
        delta=delta,
        cost_unit=unit,
        settings=tuple(sorted(settings, key=_by_cost)),
        notes=(*notes, *(f"{name} shares no task with {reference}" for name in alone)),
    )


def _judged(trials: Sequence[Trial], *, reference: str) -> tuple[Trial, ...]:
    """Give quality 0 to answers that no scorer could judge beside a scored reference."""
    compared = {t.request_id for t in trials if t.rung == reference and t.quality is not None}
    return tuple(
        replace(trial, status=TrialStatus.SCORED, quality=0.0)
        if trial.status is TrialStatus.UNSCORED
        and trial.rung != reference
        and trial.request_id in compared
        else trial
        for trial in trials
    )


def _unscored(before: Sequence[Trial], judged: Sequence[Trial]) -> tuple[str, ...]:
    """Say how many trials without a quality count as worth nothing, and how many are left out."""
    lacking, left_out = (sum(t.quality is None for t in these) for these in (before, judged))
    worthless = lacking - left_out
    notes = {
        f"{worthless:,} answers that no scorer could judge count as worth nothing": worthless,
        f"{left_out:,} trials without a quality are left out": left_out,
    }
    return tuple(note for note, count in notes.items() if count)


class _Terms(Struct, frozen=True, kw_only=True):
    """What one setting is held to: its share of delta, and the delta of its own interval."""

    alpha: float
    delta: float
    interval_delta: float
    unit: CostUnit | None


def _by_setting(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    by_setting: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.quality is not None:
            by_setting[trial.rung].append(trial)
    return dict(by_setting)


def task_means(trials: Iterable[Trial]) -> dict[str, float]:
    """Return the mean quality of each request over its runs."""
    runs: dict[str, list[float]] = defaultdict(list)
    for trial in trials:
        runs[trial.request_id].append(trial.quality or 0.0)
    return {request: sum(qualities) / len(qualities) for request, qualities in runs.items()}


def _task_of(trials: Iterable[Trial]) -> dict[str, int]:
    """Map each request to the number of its task: its declared cluster, or else its text."""
    texts: dict[str, str] = {}
    declared: dict[str, str | None] = {}
    for trial in trials:
        texts[trial.request_id] = texts.get(trial.request_id) or trial.text or ""
        declared[trial.request_id] = declared.get(trial.request_id) or trial.cluster
    numbers, _ = clusters_of(tuple(texts), tuple(texts.values()), tuple(declared.values()))
    return dict(zip(texts, numbers.tolist(), strict=True))


def _mean(
    means: Mapping[str, float], requests: Iterable[str], *, tasks: Mapping[str, int]
) -> float:
    return float(_by_task({name: means[name] for name in requests}, tasks).mean())


def _by_task(values: Mapping[str, float], tasks: Mapping[str, int]) -> Floats:
    """Average the values of each task's requests, shape (tasks,)."""
    of_task: dict[int | str, list[float]] = defaultdict(list)
    for request in sorted(values):
        of_task[tasks.get(request, request)].append(values[request])
    return np.array([np.mean(each) for each in of_task.values()])


def net_losses(
    setting: Mapping[str, float],
    reference: Mapping[str, float],
    *,
    tasks: Mapping[str, int] = _ALONE,
) -> Floats:
    """Return the reference's quality less the setting's on each task of both, shape (tasks,).

    `tasks` numbers the task of each request; a request that is not there is a task of its own.
    """
    both = setting.keys() & reference
    return _by_task({name: reference[name] - setting[name] for name in both}, tasks)


def net_loss_p_value(losses: Floats, *, alpha: float, delta: float) -> float:
    """Test that the net loss is above alpha; `losses` has one net loss a task."""
    return float(betting_p_value(losses, alpha=alpha, delta=delta, net=True))


def _p_worse(losses: Floats, *, alpha: float, delta: float) -> float:
    """Test that the net loss is at most alpha: that `(alpha - loss) / (1 + alpha)` averages 0."""
    gains = (alpha - losses) / (1 + alpha)
    return float(betting_p_value(gains, alpha=0.0, delta=delta, net=True))


def _holm(p_values: Mapping[str, float], *, delta: float) -> set[str]:
    """Return the names whose hypothesis Holm's step-down procedure rejects at delta."""
    ordered = sorted(p_values, key=p_values.__getitem__)
    rejected = takewhile(
        lambda pair: p_values[pair[1]] <= delta / (len(ordered) - pair[0]), enumerate(ordered)
    )
    return {name for _, name in rejected}


def _verdict(name: str, *, as_good: set[str], worse: set[str]) -> Replacement:
    if name in as_good:
        return Replacement.AS_GOOD
    return Replacement.WORSE if name in worse else Replacement.UNDECIDED


def _comparison(
    name: str,
    trials: Sequence[Trial],
    losses: Floats,
    *,
    verdict: Replacement,
    quality: float,
    terms: "_Terms",
) -> Comparison:
    side = terms.interval_delta / 2
    worst = float(betting_upper(losses, delta=side, net=True))
    best = float(betting_upper(-losses, delta=side, net=True))
    per_task, per_success = _costs(trials, terms.unit)
    undecided = verdict is Replacement.UNDECIDED
    return Comparison(
        setting=name,
        tasks=len(losses),
        runs=len(trials),
        quality=quality,
        difference=float(0.0 - losses.mean()),
        interval=(-worst, best),
        verdict=verdict,
        tasks_needed=tasks_needed(losses, alpha=terms.alpha, delta=terms.delta)
        if undecided
        else None,
        cost_per_task=per_task,
        cost_per_success=per_success,
    )


def tasks_needed(losses: Floats, *, alpha: float, delta: float) -> int | None:
    """Return how many tasks with net losses like these would decide at delta; None if none would.

    The losses seen are repeated: a rough figure, for planning.
    """
    test = net_loss_p_value if losses.mean() <= alpha else _p_worse
    tasks = len(losses)
    while tasks <= MOST_TASKS:
        if test(np.resize(losses, tasks), alpha=alpha, delta=delta) <= delta:
            return tasks
        tasks = int(tasks * 1.25) + 1
    return None


def _unit(by_setting: Mapping[str, Sequence[Trial]]) -> CostUnit | None:
    """Return the unit that the most settings have a mean cost in; of equals, dollars come first.

    Dollars that are all 0 are no unit: they tell no setting from another.
    """
    known = {
        unit: sum(_costs(trials, unit)[0] is not None for trials in by_setting.values())
        for unit in CostUnit
    }
    if not any(trial.charge_usd for trials in by_setting.values() for trial in trials):
        known[CostUnit.USD] = 0
    best = max(known, key=known.__getitem__)
    return best if known[best] else None


def _costs(trials: Sequence[Trial], unit: CostUnit | None) -> tuple[float | None, float | None]:
    """Return the cost of a task and of a success, None where too few costs are known."""
    pairs = [(cost_of(trial, unit), trial.quality or 0.0) for trial in trials]
    known = [(cost, quality) for cost, quality in pairs if cost is not None]
    if not known or len(known) < KNOWN_SHARE * len(pairs):
        return None, None
    total, successes = sum(cost for cost, _ in known), sum(quality for _, quality in known)
    return total / len(known), total / successes if successes else None


def _by_cost(comparison: Comparison) -> tuple[bool, float, float]:
    cost = comparison.cost_per_task
    return cost is None, cost or 0.0, -comparison.difference
