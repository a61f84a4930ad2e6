"""Many requests through the pipeline: answered, booked, and a random share of them audited."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import msgspec
from msgspec import Struct

from suffice.bench.progress import Progress, Silent
from suffice.bench.run import GIVE_UP_AFTER, Show, concerns_all
from suffice.bench.sources import load_tasks
from suffice.bench.tasks import Task
from suffice.certify.bundle import load_bundle
from suffice.config import load_config
from suffice.deployment import opened
from suffice.errors import EngineError, InputError, SufficeError, writing
from suffice.ledger import Attempt, Entry, Label, Ledger, Role, Score, Status, entries
from suffice.meter import total
from suffice.pipeline import Answer, Pipeline, answer, ask, build_pipeline
from suffice.scoring.audit_rule import AuditRule
from suffice.scoring.audits import agreement_scores, compared_text, is_drawn
from suffice.scoring.guard import Guard
from suffice.scoring.labels import WITH_TARGETS
from suffice.scoring.scorers import SCORERS, mark
from suffice.types import Finish, Spend


class Batch(Struct, frozen=True, kw_only=True):
    """Requests to answer, and where everything is; `requests` is what `load_tasks` takes.

    Of each audited request every rung answers, and its scorer marks each answer.
    """

    requests: str
    ladder: Path
    ledger: str
    out: Path
    bundle: Path | None = None
    audit_share: float = 0.0
    seed: int = 0
    store_text: bool = False
    allow_code: bool = False


class BatchResult(Struct, frozen=True, kw_only=True):
    """How a batch ended; `spend` covers serving, failed requests too, and `audit_spend` the audits.

    `kept` requests were in the ledger already and were not asked again; `kept_unanswered` of them
    had failed or been cancelled. `fallbacks` counts requests that the policy was not allowed to
    choose for, by reason; an alarm of the audits is one.
    """

    answered: int
    failed: int
    kept: int
    kept_unanswered: int
    share: dict[str, float]
    spend: Spend
    audited: int
    audit_spend: Spend
    fallbacks: dict[str, int]


def answer_requests(batch: Batch, *, show: Show) -> BatchResult:
    """Answer what the ledger does not hold yet, appending each answer to `out` as it comes.

    A request that fails is booked as failed and counted; the batch goes on. Raises InputError or
    ConfigError before the first call. Stops early, keeping everything, with a LedgerError, or with
    an EngineError when the reference's engine is down, refuses all requests, or gave no answer.
    """
    if not 0 <= batch.audit_share <= 1:
        raise InputError(f"audit share {batch.audit_share} is outside [0, 1]", hint="0.02 is usual")
    tasks = load_tasks(batch.requests, allow_code=batch.allow_code)
    with Ledger.open(batch.ledger, store_text=batch.store_text) as ledger:
        return asyncio.run(_run(batch, tasks, ledger, show=show))


async def _run(batch: Batch, tasks: tuple[Task, ...], ledger: Ledger, *, show: Show) -> BatchResult:
    config = load_config(batch.ladder)
    bundle = None if batch.bundle is None else load_bundle(batch.bundle)
    known = {entry.request_id: entry.status for entry in entries(ledger)}
    todo = [task for task in tasks if task.request.request_id not in known]
    kept = [known[task.request.request_id] for task in tasks if task.request.request_id in known]
    async with AsyncExitStack() as stack:
        engines = await opened(stack, config)
        pipeline = build_pipeline(config, engines=engines, ledger=ledger, bundle=bundle)
        out = stack.enter_context(_appending(batch.out))
        parallel = min(engine.parallel for engine in config.engine.values())
        rule = AuditRule(
            share=batch.audit_share,
            seed=batch.seed,
            labels=tuple(map(Label, config.gateway.audit_labels)),
        )
        guard = Guard(ledger, bundle.certificate if bundle else None, rule=rule)
        guard.begin()
        guard.catch_up(now=datetime.now(UTC))
        run = _Batch(batch, pipeline, out, guard=guard)
        with show(len(todo)) as run.progress:
            await run.all(todo, at_once=parallel)
    request_ids = {task.request.request_id for task in todo}
    booked = [entry for entry in entries(ledger) if entry.request_id in request_ids]
    return run.result(booked, kept=kept)


class _Batch:
    """The tallies of one run, and why it stopped."""

    def __init__(self, batch: Batch, pipeline: Pipeline, out: TextIO, *, guard: Guard) -> None:
        self.batch, self.pipeline, self.out, self.guard = batch, pipeline, out, guard
        self.progress: Progress = Silent(0)
        self.rungs: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()
        self.spend = Spend()
        self.failed = self.audited = 0
        self._failed_in_a_row = 0
        self._failure: EngineError | None = None
        self._stopped: SufficeError | None = None

    async def all(self, tasks: Iterable[Task], *, at_once: int) -> None:
        """Answer all, so many at a time; what is in flight when it stops is finished and kept."""
        queue = deque(tasks)
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._work(queue))
        if self._stopped is not None:
            raise self._stopped
        if self._failure is not None and not self.rungs:
            raise self._failure

    async def _work(self, queue: deque[Task]) -> None:
        while queue and self._stopped is None:
            try:
                await self._one(queue.popleft())
            except SufficeError as error:
                self._stopped = self._stopped or error

    async def _one(self, task: Task) -> None:
        """Answer one request, and audit it if it is drawn; a failure is counted, not raised."""
        share, seed = self.batch.audit_share, self.batch.seed
        drawn = is_drawn(task.request.request_id, share=share, seed=seed)
        watched = self.pipeline.bundle is not None
        ended = watched and not self.guard.allowed(task.request.group)
        barred = "an alarm has ended the certificate for this group" if ended else None
        try:
            served = await answer(self.pipeline, task.request, audited=drawn, barred=barred)
        except EngineError as error:
            self._count_failure(error)
        else:
            self._count(served)
            if drawn:
                await audit(self.pipeline, task, served)
                self.audited += 1
                self.guard.catch_up(now=datetime.now(UTC))
        self.progress.step(self.rungs.total() + self.failed, self.spend)

    def _count_failure(self, error: EngineError) -> None:
        """Give up on an engine that is down, or that refuses everybody; raises its error."""
        self.failed += 1
        self._failure = error
        self._failed_in_a_row += error.retryable
        if concerns_all(error) or self._failed_in_a_row >= GIVE_UP_AFTER:
            raise error

    def _count(self, served: Answer) -> None:
        entry = served.entry
        self.rungs[entry.rung or ""] += 1
        self.spend += total([entry.charge])
        self._failed_in_a_row = 0
        if served.fallback is not None:
            self.fallbacks[served.fallback] += 1
        line = {
            "request_id": entry.request_id,
            "rung": entry.rung,
            "answer": served.completion.text,
            "charge_usd": entry.charge.usd,
        }
        self.out.write(msgspec.json.encode(line).decode() + "\n")
        self.out.flush()

    def result(self, booked: list[Entry], *, kept: list[Status]) -> BatchResult:
        """Sum the run up; the money is what the books hold about its requests."""
        answered = self.rungs.total()
        attempts = [attempt for entry in booked for attempt in entry.attempts]
        return BatchResult(
            answered=answered,
            failed=self.failed,
            kept=len(kept),
            kept_unanswered=sum(status is not Status.OK for status in kept),
            share={rung: count / answered for rung, count in self.rungs.items()},
            spend=total(entry.charge for entry in booked),
            audited=self.audited,
            audit_spend=total(a.charge for a in attempts if a.role is Role.AUDIT),
            fallbacks=dict(self.fallbacks),
        )


async def audit(pipeline: Pipeline, task: Task, served: Answer) -> None:
    """Ask every rung that has not answered yet, score all answers, and book both.

    A task with a target is marked by its scorer; any other by agreement with the reference rung.
    """
    answers = {a.rung: a for a in served.entry.attempts if a.error is None}
    for rung in pipeline.ladder:
        if rung.name not in answers:
            attempt = await ask(pipeline, task.request, rung, role=Role.AUDIT)
            pipeline.ledger.audit(task.request.request_id, attempt)
            if attempt.error is None:
                answers[rung.name] = attempt
    pipeline.ledger.score(_scores(task, answers, reference=pipeline.ladder.reference.name))


def _scores(task: Task, answers: dict[str, Attempt], *, reference: str) -> Iterator[Score]:
    """Mark every answer that can be marked."""
    if task.scorer not in SCORERS:
        texts = {rung: compared_text(attempt) for rung, attempt in answers.items()}
        yield from agreement_scores(task.request.request_id, texts, reference=reference)
        return
    label = Label.TARGET if task.scorer in WITH_TARGETS else Label.SCORER
    for rung, attempt in answers.items():
        if attempt.finish is Finish.ABSTAINED:
            continue
        verdict = mark(
            attempt.answer or "", scorer=task.scorer, target=task.target, options=task.options
        )
        if verdict.quality is not None:
            yield Score(
                request_id=task.request.request_id,
                time=datetime.now(UTC),
                quality=verdict.quality,
                label=label,
                rung=rung,
            )


@contextmanager
def _appending(path: Path) -> Iterator[TextIO]:
    with writing(path):
        file = path.open("a", encoding="utf-8")
    with file:
        yield file
