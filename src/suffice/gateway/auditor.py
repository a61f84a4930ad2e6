"""Audits off the client's path: the other rungs answer too, and every answer is marked."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from suffice.engines.transport import TRACE_HEADERS
from suffice.errors import ConfigError, SufficeError, describe
from suffice.gateway.metrics.families import LOST_AUDITS
from suffice.gateway.metrics.record import measure_audit
from suffice.gateway.metrics.registry import Metrics
from suffice.ledger import Attempt, Entry, Label, Ledger, Role, Score, Status
from suffice.pipeline import Pipeline, ask
from suffice.scoring.audits import agreement_scores
from suffice.scoring.labels import WITH_TARGETS
from suffice.scoring.scorers import find_scorer, mark
from suffice.types import Charge, Request, Rung

MOST_WAITING = 1000  # an audit beyond is dropped, and shows as one that was never scored
Marker = Callable[[Request, Mapping[str, str], str], list[Score]]
_log = logging.getLogger("suffice.gateway")


class _Audit(NamedTuple):
    pipeline: Pipeline
    request: Request
    entry: Entry
    trace: Mapping[str, str]  # headers of the request that is audited


class Auditor:
    """Audits answered requests, a few at a time, in the background.

    `scorer` is as for `marker`. Nothing that goes wrong with one audit ends the others: it is
    logged, and counted by its reason. Raises InputError for an unknown scorer.
    """

    def __init__(
        self, ledger: Ledger, metrics: Metrics, *, at_once: int, scorer: str = "exact"
    ) -> None:
        self._metrics = metrics
        self._ledger = ledger
        self._at_once = at_once
        self._scores = marker(scorer)
        self._waiting: deque[_Audit] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many audits are under way or still to come."""
        return len(self._waiting) + len(self._tasks)

    def submit(self, pipeline: Pipeline, request: Request, entry: Entry) -> None:
        """Audit a request that is booked; drops it when too many wait already."""
        if len(self._waiting) >= MOST_WAITING:
            self._metrics.add(LOST_AUDITS, ("dropped",))
            return
        self._waiting.append(_Audit(pipeline, request, entry, TRACE_HEADERS.get()))
        if len(self._tasks) < self._at_once:
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self, *, within_s: float) -> None:
        """Finish what is under way, but for no longer than that."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=within_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _work(self) -> None:
        while self._waiting:
            audit = self._waiting.popleft()
            TRACE_HEADERS.set(audit.trace)
            request_id = audit.entry.request_id
            try:
                await self._one(audit)
            except SufficeError as error:
                self._metrics.add(LOST_AUDITS, ("failed",))
                _log.warning("audit of %s: %s", request_id, describe(error, text=False))
            except Exception:  # noqa: BLE001 - the audits that wait must go on
                self._metrics.add(LOST_AUDITS, ("unforeseen",))
                _log.exception("an error inside the audit of %s", request_id)

    async def _one(self, audit: _Audit) -> None:
        """Ask every rung below and at the reference that has not answered, and score them all.

        An answer that the client cut off ended in an error, so its rung is asked again.
        """
        ladder, request_id = audit.pipeline.ladder, audit.entry.request_id
        answers = {a.rung: a for a in audit.entry.attempts if a.error is None}
        for rung in (*ladder.below_reference, ladder.reference):
            if rung.name in answers:
                continue
            attempt = await self._ask_rung(audit, rung)
            await asyncio.to_thread(self._ledger.audit, request_id, attempt)
            measure_audit(self._metrics, attempt)
            if attempt.error is None:
                answers[rung.name] = attempt
        texts = {rung: attempt.answer or "" for rung, attempt in answers.items()}
        scores = await asyncio.to_thread(self._scores, audit.request, texts, ladder.reference.name)
        await asyncio.to_thread(self._ledger.score, scores)

    async def _ask_rung(self, audit: _Audit, rung: Rung) -> Attempt:
        """Ask a rung; a call that ends in an error nobody foresaw is booked, its cost unknown."""
        called = datetime.now(UTC)
        try:
            return await ask(audit.pipeline, audit.request, rung, role=Role.AUDIT)
        except SufficeError:
            raise
        except Exception as error:  # noqa: BLE001 - what was spent must be booked
            _log.exception("an error inside an audit's call to %s", rung.name)
            self._metrics.add(LOST_AUDITS, ("unforeseen",))
            return Attempt(
                rung=rung.name,
                role=Role.AUDIT,
                charge=Charge(usd=None),
                time=called,
                error=type(error).__name__,
            )


def auditable(entry: Entry) -> bool:
    """Whether the client got an answer, or so much of one that it had enough and left."""
    has_answer = any(attempt.role is Role.ANSWER for attempt in entry.attempts)
    return entry.status is Status.OK or (entry.status is Status.CANCELLED and has_answer)


def label_written(scorer: str) -> Label:
    """Say what kind of label the gateway writes itself with a scorer."""
    return Label.AGREEMENT if scorer in WITH_TARGETS else Label.SCORER


def marker(scorer: str) -> Marker:
    """Return what marks the answers to a request, by rung, given the reference rung's name.

    `exact`, `choice` and `numeric` compare with the reference's answer. A `package.module:function`
    judges each answer alone: it is called with the answer, None, and the request's text as the
    option `prompt`. Raises InputError for another name.
    """
    if scorer in WITH_TARGETS:
        return lambda request, texts, reference: list(
            agreement_scores(request.request_id, texts, reference=reference, scorer=scorer)
        )
    if ":" not in scorer:
        raise ConfigError(
            f"gateway.audit_scorer: {scorer!r} cannot mark live answers",
            hint=f"write {', '.join(sorted(WITH_TARGETS))}, or package.module:function",
        )
    find_scorer(scorer, at="gateway.audit_scorer")
    return lambda request, texts, _reference: list(_judged(request, texts, scorer=scorer))


def _judged(request: Request, texts: Mapping[str, str], *, scorer: str) -> Iterator[Score]:
    for rung, text in texts.items():
        verdict = mark(text, scorer=scorer, target=None, options={"prompt": request.text})
        if verdict.quality is None:
            _log.warning("audit of %s on %s: %s", request.request_id, rung, verdict.reason)
            continue
        yield Score(
            request_id=request.request_id,
            time=datetime.now(UTC),
            quality=verdict.quality,
            label=Label.SCORER,
            rung=rung,
        )
