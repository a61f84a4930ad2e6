"""Can one setting replace another? Every setting of some trials against a reference, by task.

A setting is a rung of the trials: a model, an effort, an agent. Its *net loss* on a task is the
reference's mean quality there less its own, over their runs, so that the noise of single runs
cancels. Tasks are the independent draws; runs of one task are not, nor are the requests of one
cluster or copies of one text, which count as one task.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import takewhile

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from suffice.certify.setting_costs import cost_unit_of, mean_costs
from suffice.errors import InputError
from suffice.guarantee.bounds import betting_p_value, betting_upper
from suffice.guarantee.losses import check_probability, check_reference
from suffice.trials.table import CostUnit, Floats, clusters_of
from suffice.types import Trial, TrialStatus
from suffice.units import show_share

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
    decide: None if decided, or if no number tried would do. `failed` calls gave no answer and are
    left out; `counting_failed` is the verdict where they, and those of the reference, are worth
    nothing: None where neither has any. Costs are means over runs of these tasks, in the
    comparison's unit, None where fewer than nine tenths of the runs have one; `cost_per_success`
    is None without a success. `reference_quality` and `reference_cost` are the reference's own on
    these tasks.
    """

    setting: str
    tasks: int
    runs: int
    failed: int
    quality: float
    reference_quality: float
    difference: float
    interval: tuple[float, float]
    verdict: Replacement
    counting_failed: Replacement | None
    tasks_needed: int | None
    cost_per_task: float | None
    cost_per_success: float | None
    reference_cost: float | None


class Comparisons(Struct, frozen=True, kw_only=True):
    """All settings beside one reference, the cheapest beside it first where costs are known.

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
    InputError for an unknown reference, one that is right on no more than alpha, or for a single
    setting.
    """
    judged = _judged(trials, reference=reference)
    notes = _unscored(trials, judged)
    check_probability("alpha", alpha)
    check_probability("delta", delta)
    by_setting = _by_setting(judged)
    if reference not in by_setting:
        raise InputError(
            f"no scored trial of {reference!r}", hint=f"settings here: {', '.join(by_setting)}"
        )
    if len(by_setting) < 2:
        raise InputError(f"only {reference!r} has scored trials", hint="add another setting")
    tasks = _task_of(judged)
    means = {name: task_means(runs) for name, runs in by_setting.items()}
    quality = _mean(means[reference], means[reference], tasks=tasks)
    check_reference(reference, quality, alpha=alpha)
    others = [name for name in means if name != reference and means[name].keys() & means[reference]]
    losses = {name: net_losses(means[name], means[reference], tasks=tasks) for name in others}
    terms = _Terms(
        reference=reference,
        tasks=tasks,
        alpha=alpha,
        delta=delta,
        settings=len(others),
        unit=cost_unit_of(by_setting),
        verdicts=_verdicts(losses, alpha=alpha, delta=delta),
        failed=Counter(trial.rung for trial in judged if trial.status is TrialStatus.FAILED),
        counting_failed=_counting_failed(judged, others, reference, alpha=alpha, delta=delta),
    )
    settings = [_comparison(name, by_setting, means, losses[name], terms=terms) for name in others]
    own = net_losses(means[reference], means[reference], tasks=tasks)
    return Comparisons(
        reference=_comparison(reference, by_setting, means, own, terms=terms),
        alpha=alpha,
        delta=delta,
        cost_unit=terms.unit,
        settings=tuple(sorted(settings, key=_by_cost)),
        notes=(
            *notes,
            *_failed_notes(judged, terms.failed),
            *_apart(settings, reference, tasks=len(own)),
            *(
                f"{name} shares no task with {reference}"
                for name in sorted(set(means) - {*others, reference})
            ),
        ),
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
    """What all settings are held to, and what was found for them together."""

    reference: str
    tasks: Mapping[str, int]
    alpha: float
    delta: float
    settings: int
    unit: CostUnit | None
    verdicts: Mapping[str, Replacement]
    failed: Mapping[str, int]
    counting_failed: Mapping[str, Replacement]


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


def _verdicts(
    losses: Mapping[str, Floats], *, alpha: float, delta: float
) -> dict[str, Replacement]:
    """Decide for all settings together; `losses` has the net losses of each."""
    as_good, worse = (
        _holm({n: test(of, alpha=alpha, delta=delta) for n, of in losses.items()}, delta=delta)
        for test in (net_loss_p_value, _p_worse)
    )
    return (
        dict.fromkeys(losses, Replacement.UNDECIDED)
        | dict.fromkeys(worse, Replacement.WORSE)
        | dict.fromkeys(as_good, Replacement.AS_GOOD)
    )


def _counting_failed(
    trials: Sequence[Trial], settings: Sequence[str], reference: str, *, alpha: float, delta: float
) -> dict[str, Replacement]:
    """Decide as if a failed call were an answer worth nothing; settings without one are left out.

    Leaving them out flatters a setting that fails where requests are hard.
    """
    failing = {trial.rung for trial in trials if trial.status is TrialStatus.FAILED}
    if not failing:
        return {}
    counted = [
        replace(trial, status=TrialStatus.SCORED, quality=0.0)
        if trial.status is TrialStatus.FAILED
        else trial
        for trial in trials
    ]
    means = {name: task_means(runs) for name, runs in _by_setting(counted).items()}
    tasks = _task_of(counted)
    losses = {name: net_losses(means[name], means[reference], tasks=tasks) for name in settings}
    found = _verdicts(losses, alpha=alpha, delta=delta)
    return {name: verdict for name, verdict in found.items() if failing & {name, reference}}


def _failed_notes(trials: Sequence[Trial], failed: Mapping[str, int]) -> Iterator[str]:
    """Say whose calls failed, and how many of them."""
    if failed:
        calls = Counter(trial.rung for trial in trials)
        shares = ", ".join(f"{name} {failed.get(name, 0):,} of {calls[name]:,}" for name in calls)
        yield f"calls that failed, of each setting: {shares}"


def _apart(settings: Iterable[Comparison], reference: str, *, tasks: int) -> Iterator[str]:
    """Say where the reference stands on the tasks of each setting that has not run on all."""
    for one in settings:
        if one.tasks < tasks:
            cost = "" if one.reference_cost is None else f", and costs {one.reference_cost:.3g}"
            yield (
                f"{one.setting} has {one.tasks:,} of the {tasks:,} tasks of {reference}, which is "
                f"right on {show_share(one.reference_quality)} of them{cost}"
            )


def _comparison(
    name: str,
    by_setting: Mapping[str, Sequence[Trial]],
    means: Mapping[str, Mapping[str, float]],
    losses: Floats,
    *,
    terms: _Terms,
) -> Comparison:
    worst, best = (
        float(betting_upper(way, delta=terms.delta / 2, net=True)) for way in (losses, -losses)
    )
    both = means[name].keys() & means[terms.reference].keys()
    runs, base = (
        [trial for trial in by_setting[of] if trial.request_id in both]
        for of in (name, terms.reference)
    )
    per_task, per_success = mean_costs(runs, terms.unit)
    verdict = terms.verdicts.get(name, Replacement.AS_GOOD)
    return Comparison(
        setting=name,
        tasks=len(losses),
        runs=len(runs),
        failed=terms.failed.get(name, 0),
        quality=_mean(means[name], both, tasks=terms.tasks),
        reference_quality=_mean(means[terms.reference], both, tasks=terms.tasks),
        difference=float(0.0 - losses.mean()),
        interval=(-worst, best),
        verdict=verdict,
        counting_failed=terms.counting_failed.get(name),
        tasks_needed=tasks_needed(losses, alpha=terms.alpha, delta=terms.delta / terms.settings)
        if verdict is Replacement.UNDECIDED
        else None,
        cost_per_task=per_task,
        cost_per_success=per_success,
        reference_cost=mean_costs(base, terms.unit)[0],
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


def _by_cost(comparison: Comparison) -> tuple[bool, float, float, float]:
    """Order settings by their cost beside the reference's on the same tasks, then by itself."""
    cost, base = comparison.cost_per_task, comparison.reference_cost
    beside = cost / base if cost is not None and base else 0.0
    return cost is None, beside, cost or 0.0, -comparison.difference
