"""Run tasks over rungs into trials: concurrent, under a cap, and resumable after a kill.

A pair is one task on one rung. First every pair gets an answer. Then a judge, or the user's own
function, marks the answers that no program could mark at once. Each step is on disk before the
next one starts, so a kill loses no trial and repeats at most the calls that were in flight. The two
orders of a pairwise judgement count as one call.
"""

import asyncio
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from suffice.bench.budget import Budget, most_usd, refuse_unbounded, spent_at_most
from suffice.bench.judge import judge_requests, read_replies
from suffice.bench.outcome import (
    abstention_trial,
    answer_trial,
    failure_trial,
    is_marked_later,
    mark_by_program,
    with_checks,
    with_verdict,
)
from suffice.bench.progress import Progress, Silent
from suffice.bench.tasks import Task
from suffice.bench.trials_file import Fingerprint, TrialsFile, fingerprint, open_trials_file
from suffice.config import CheckConfig, Config, nearest
from suffice.deployment import build_checks, opened
from suffice.engines.base import Engine
from suffice.engines.response_requests import FEWEST_TOKENS
from suffice.errors import (
    Abstained,
    ConfigError,
    EngineError,
    EngineRefused,
    EngineUnusable,
    InputError,
    SufficeError,
)
from suffice.ladder import build_ladder
from suffice.meter import Price, charge, charge_without_answer, price_for
from suffice.scoring.checks import Checks
from suffice.scoring.scorers import JUDGED, ScorerVerdict
from suffice.types import Charge, Completion, Request, Rung, Spend, Trial, TrialStatus

PARALLEL = 4
GIVE_UP_AFTER = 5  # retryable failures in a row; then the engine counts as down
NOT_ABOUT_THE_REQUEST = frozenset({401, 402, 403, 404})  # key, balance, permission, model name

Pair = tuple[Task, Rung]
Job = Callable[[Task, Rung], Awaitable[None]]
Show = Callable[[int], AbstractContextManager[Progress]]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Every task on every rung, into the trials file `out`; prices and `parallel` are by name.

    `parallel` is the number of calls in flight at once at each engine (4 if it is not named).
    `fewest_tokens` is the least limit of an answer that the API of an engine takes. `judge` is the
    rung that marks open-ended answers; `pairwise` compares with `reference`.
    """

    tasks: tuple[Task, ...]
    rungs: tuple[Rung, ...]
    out: Path
    prices: Mapping[str, Price] = field(default_factory=dict)
    parallel: Mapping[str, int] = field(default_factory=dict)
    fewest_tokens: Mapping[str, int] = field(default_factory=dict)
    max_usd: Decimal | None = None
    judge: Rung | None = None
    reference: str | None = None
    check: Mapping[str, CheckConfig] = field(default_factory=dict)


class BenchResult(Struct, frozen=True, kw_only=True):
    """The trials, task by task in ladder order, and what was spent on this file so far.

    `answered` counts the engine calls that gave an answer in this run, and `kept` the trials of
    earlier runs. `spend` covers every call, also failed, interrupted and judging ones.
    """

    trials: tuple[Trial, ...]
    answered: int
    kept: int
    spend: Spend


def bench_of(
    config: Config, *, tasks: tuple[Task, ...], out: Path, max_usd: Decimal | None = None
) -> Bench:
    """Return a bench of the whole ladder of a configuration; raises ConfigError or PriceError."""
    return Bench(
        tasks=tasks,
        rungs=config.ladder,
        out=out,
        prices={name: price_for(name, price) for name, price in config.price.items()},
        parallel={name: engine.parallel for name, engine in config.engine.items()},
        fewest_tokens={n: FEWEST_TOKENS for n, e in config.engine.items() if e.kind == "responses"},
        max_usd=max_usd,
        reference=config.reference,
        check=config.check,
    )


async def run_bench(
    bench: Bench,
    *,
    engines: Mapping[str, Engine],
    checks: Checks | None = None,
    show: Show = Silent,
) -> BenchResult:
    """Answer and mark what is missing in `bench.out`, and return all its trials.

    A failed request becomes a trial with status FAILED; a later run repeats those that are
    retryable. Raises BudgetExceeded at the cap, and an EngineError if an engine is down, refuses
    all requests, or gave no answer at all; all trials are kept. Raises InputError, ConfigError or
    PriceError before the first call.
    """
    _check(bench, engines)
    with open_trials_file(bench.out, _fingerprint(bench)) as file:
        spent = spent_at_most(file.most_usd) if bench.max_usd is not None else Decimal(0)
        budget = Budget(bench.max_usd, spent_usd=spent)
        run = _BenchRun(bench, engines=engines, checks=checks, file=file, budget=budget)
        kept = len(file.trials)
        await run.answer_and_mark(show)
        trials = tuple(
            file.trials[task.request.request_id, rung.name] for task, rung in pairs(bench)
        )
        return BenchResult(trials=trials, answered=run.answered, kept=kept, spend=file.spend)


def pairs(bench: Bench) -> Iterator[Pair]:
    """Yield all pairs, task by task, so that an interrupted bench has whole requests."""
    return ((task, rung) for task in bench.tasks for rung in bench.rungs)


class _BenchRun:
    """The state of one run: its budget, its progress, and the error that stopped it."""

    def __init__(
        self,
        bench: Bench,
        *,
        engines: Mapping[str, Engine],
        checks: Checks | None,
        file: TrialsFile,
        budget: Budget,
    ) -> None:
        self.bench, self.engines, self.file, self.budget = bench, engines, file, budget
        self.checks = checks
        self.answered = 0
        self._done = 0
        self._progress: Progress = Silent(0)
        self._stopped: SufficeError | None = None
        self._failure: EngineError | None = None
        self._failed_in_a_row = dict.fromkeys(engines, 0)

    async def answer_and_mark(self, show: Show) -> None:
        """Answer, then mark; raises the first error that concerns more than one request."""
        to_answer = [pair for pair in pairs(self.bench) if self._lacks_answer(*pair)]
        to_mark = [pair for pair in pairs(self.bench) if self._lacks_marking(*pair)]
        marked_later = sum(is_marked_later(task) for task, _ in to_answer)
        with show(len(to_answer) + len(to_mark) + marked_later) as self._progress:
            await self._drain(to_answer, self._answer, engine_of=lambda _, rung: rung.engine)
            to_mark = [pair for pair in pairs(self.bench) if self._lacks_marking(*pair)]
            await self._drain(to_mark, self._mark, engine_of=self._marker)
        statuses = {trial.status for trial in self.file.trials.values()}
        if self._failure is not None and statuses == {TrialStatus.FAILED}:
            raise self._failure

    def _trial(self, task: Task, rung: Rung) -> Trial | None:
        return self.file.trials.get((task.request.request_id, rung.name))

    def _lacks_answer(self, task: Task, rung: Rung) -> bool:
        trial = self._trial(task, rung)
        return trial is None or (trial.status is TrialStatus.FAILED and trial.retryable)

    def _lacks_marking(self, task: Task, rung: Rung) -> bool:
        trial = self._trial(task, rung)
        return trial is not None and trial.status is TrialStatus.UNSCORED and trial.retryable

    def _marker(self, task: Task, _rung: Rung) -> str:
        """Name the engine that marks a task's answers; empty for the user's own function."""
        return self.bench.judge.engine if self.bench.judge and task.scorer in JUDGED else ""

    async def _drain(
        self, work: Iterable[Pair], do: Job, *, engine_of: Callable[[Task, Rung], str]
    ) -> None:
        """Do the work, at most `parallel` at once at each engine; stop at the first hard error.

        Calls that are in flight at that moment are finished and kept.
        """
        queues: dict[str, deque[Pair]] = {}
        for pair in work:
            queues.setdefault(engine_of(*pair), deque()).append(pair)
        async with asyncio.TaskGroup() as group:
            for engine, queue in queues.items():
                for _ in range(self.bench.parallel.get(engine, PARALLEL) if engine else 1):
                    group.create_task(self._work(queue, do))
        if self._stopped is not None:
            raise self._stopped

    async def _work(self, queue: deque[Pair], do: Job) -> None:
        while queue and self._stopped is None:
            try:
                await do(*queue.popleft())
            except SufficeError as error:
                self._stopped = self._stopped or error

    async def _answer(self, task: Task, rung: Rung) -> None:
        """Answer one pair and put its trial on disk."""
        try:
            completion, charged = await self._call(task.request, rung)
        except Abstained as error:
            self._failed_in_a_row[rung.engine] = 0
            charged = charge_without_answer(error, self.bench.prices.get(rung.price or ""))
            trial = abstention_trial(task, rung, error=error, charged=charged)
            self._keep(trial, steps=1 + is_marked_later(task))
            return
        except EngineError as error:
            if concerns_all(error):
                raise
            self._keep(failure_trial(task, rung, error=error), steps=1 + is_marked_later(task))
            self._failure = self._failure or error
            self._count_failure(rung.engine, error)
            return
        self.answered += 1
        self._failed_in_a_row[rung.engine] = 0
        trial = answer_trial(task, rung, completion=completion, charged=charged)
        if self.checks is not None and self.checks.covers(rung.name):
            result = await self.checks.look(task.request, rung.name, completion.text)
            trial = with_checks(trial, result)
        self._keep(trial)

    async def _mark(self, task: Task, rung: Rung) -> None:
        """Let the judge, or the user's own function, mark an answer that is on disk."""
        trial = self.file.trials[task.request.request_id, rung.name]
        if task.scorer not in JUDGED or self.bench.judge is None:
            verdict = await asyncio.to_thread(mark_by_program, task, trial.answer or "")
            self._keep(with_verdict(trial, verdict))
            return
        try:
            self._keep(await self._judged(task, trial, judge=self.bench.judge))
        except EngineError as error:
            if concerns_all(error):
                raise
            self._keep(replace(trial, error=f"the judge failed: {error.message}"))
            self._count_failure(self.bench.judge.engine, error)

    async def _judged(self, task: Task, trial: Trial, *, judge: Rung) -> Trial:
        """Ask the judge about one answer; `pairwise` cannot without an answer of the reference."""
        if task.scorer == "pairwise" and trial.rung == self.bench.reference:
            return with_verdict(trial, ScorerVerdict(quality=1.0))
        reference_trial = self.file.trials.get((trial.request_id, self.bench.reference or ""))
        reference = reference_trial.answer if reference_trial else None
        if task.scorer == "pairwise" and reference is None:
            return replace(trial, error="the reference rung has no answer to compare with")
        requests = judge_requests(task, answer=trial.answer or "", reference=reference or "")
        replies = [(await self._call(request, judge))[0].text for request in requests]
        return with_verdict(trial, read_replies(tuple(replies)))

    async def _call(self, request: Request, rung: Rung) -> tuple[Completion, Charge]:
        """Make one paid call within the budget, with its cost in the journal."""
        price = self.bench.prices.get(rung.price or "")
        fewest = self.bench.fewest_tokens.get(rung.engine, 0)
        most = most_usd(request, rung, price=price, fewest_tokens=fewest)
        await self.budget.reserve(most)
        call, charged = self.file.start(most), Charge(usd=None)
        try:
            completion = await self.engines[rung.engine].complete(request, rung)
            charged = charge(completion.usage, price)
        except EngineError as error:
            charged = charge_without_answer(error, price)
            raise
        finally:
            self.file.settle(call, charged)
            await self.budget.settle(most, charged.usd)
        return completion, charged

    def _count_failure(self, engine: str, error: EngineError) -> None:
        """Count a failure of an engine; raises its error after `GIVE_UP_AFTER` in a row."""
        self._failed_in_a_row[engine] += error.retryable
        if self._failed_in_a_row[engine] >= GIVE_UP_AFTER:
            raise error

    def _keep(self, trial: Trial, *, steps: int = 1) -> None:
        self.file.append(trial)
        self._done += steps
        self._progress.step(self._done, self.file.spend)


def concerns_all(error: EngineError) -> bool:
    """Whether all other requests would fail as well, for example because of the key."""
    if isinstance(error, EngineRefused):
        return error.status in NOT_ABOUT_THE_REQUEST
    return isinstance(error, EngineUnusable)


def _check(bench: Bench, engines: Mapping[str, Engine]) -> None:
    """Raise InputError, ConfigError or PriceError for a bench that cannot work."""
    if not bench.tasks:
        raise InputError("there is no task to run", hint="give at least one")
    rungs = [*bench.rungs, *([bench.judge] if bench.judge else [])]
    for rung in rungs:
        if rung.engine not in engines:
            raise ConfigError(
                f"rung {rung.name!r}: engine {rung.engine!r} is not open",
                hint=nearest(rung.engine, tuple(engines)),
            )
    for engine, parallel in bench.parallel.items():
        if parallel < 1:
            raise ConfigError(
                f"engine {engine!r}: {parallel} calls at once get nothing done",
                hint="set parallel to 1 or more",
            )
    _check_judged(bench)
    if bench.max_usd is not None:
        for task, rung in pairs(bench):
            refuse_unbounded(task.request, rung, price=bench.prices.get(rung.price or ""))
        if bench.judge is not None:
            request = Request(request_id="of the judge", messages=())
            price = bench.prices.get(bench.judge.price or "")
            refuse_unbounded(request, bench.judge, price=price)


def _judged_scorers(bench: Bench) -> list[str]:
    return sorted({task.scorer for task in bench.tasks if task.scorer} & set(JUDGED))


def _fingerprint(bench: Bench) -> Fingerprint:
    """Hash the tasks, the rungs, the checks, and what the marks depend on."""
    judged = _judged_scorers(bench)
    reference = bench.reference if "pairwise" in judged else None
    depends = (bench.rungs, bench.judge if judged else None, reference)
    return fingerprint(bench.tasks, (*depends, bench.check) if bench.check else depends)


def _check_judged(bench: Bench) -> None:
    judged = _judged_scorers(bench)
    if judged and bench.judge is None:
        raise InputError(
            f"scorer {judged[0]!r} needs a judge, and none is given",
            hint="name a rung as the judge, or score these tasks by a program",
        )
    names = tuple(rung.name for rung in bench.rungs)
    if "pairwise" in judged and bench.reference not in names:
        raise ConfigError(
            f"scorer 'pairwise' compares with the reference rung, and {bench.reference!r} is none",
            hint=nearest(bench.reference or "", names),
        )


def bench_tasks(
    config: Config,
    tasks: tuple[Task, ...],
    *,
    out: Path,
    max_usd: Decimal | None,
    judge: str | None,
    show: Show,
) -> BenchResult:
    """Run tasks on every rung of a ladder, into `out`."""
    ladder = build_ladder(config)
    plan = bench_of(config, tasks=tasks, out=out, max_usd=max_usd)
    if judge is not None:
        plan = dataclasses.replace(plan, judge=ladder.rung(judge))

    async def run() -> BenchResult:
        async with AsyncExitStack() as stack:
            engines = await opened(stack, config)
            checks = build_checks(config, engines)
            if checks is not None:
                stack.push_async_callback(checks.close)
            return await run_bench(plan, engines=engines, checks=checks, show=show)

    return asyncio.run(run())
