"""Audits off the client's path: the other rungs answer too, and agreement with the reference."""

import asyncio
import logging
from collections import deque
from typing import NamedTuple

from suffice.bench.audits import agreement_scores
from suffice.errors import SufficeError
from suffice.gateway.measure import measure_audit
from suffice.gateway.metrics import Metrics
from suffice.ledger import Entry, Ledger, Role
from suffice.pipeline import Pipeline, ask
from suffice.types import Request

MOST_WAITING = 1000  # an audit beyond is dropped, and shows as one that was never scored
_log = logging.getLogger("suffice.gateway")


class _Audit(NamedTuple):
    pipeline: Pipeline
    request: Request
    entry: Entry


class Auditor:
    """Audits answered requests, a few at a time, in the background."""

    def __init__(self, ledger: Ledger, metrics: Metrics, *, at_once: int) -> None:
        self.dropped = 0
        self._metrics = metrics
        self._ledger = ledger
        self._at_once = at_once
        self._waiting: deque[_Audit] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many audits are under way or still to come."""
        return len(self._waiting) + len(self._tasks)

    def submit(self, pipeline: Pipeline, request: Request, entry: Entry) -> None:
        """Audit a request that is booked; drops it when too many wait already."""
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(_Audit(pipeline, request, entry))
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
            try:
                await self._one(audit)
            except SufficeError as error:
                _log.warning("audit of %s: %s", audit.entry.request_id, error.message)

    async def _one(self, audit: _Audit) -> None:
        """Ask every rung below and at the reference that has not answered, and score them all."""
        ladder, request_id = audit.pipeline.ladder, audit.entry.request_id
        answers = {a.rung: a for a in audit.entry.attempts if a.error is None}
        for rung in (*ladder.below_reference, ladder.reference):
            if rung.name in answers:
                continue
            attempt = await ask(audit.pipeline, audit.request, rung, role=Role.AUDIT)
            await asyncio.to_thread(self._ledger.audit, request_id, attempt)
            measure_audit(self._metrics, attempt)
            if attempt.error is None:
                answers[rung.name] = attempt
        texts = {rung: attempt.answer or "" for rung, attempt in answers.items()}
        scores = list(agreement_scores(request_id, texts, reference=ladder.reference.name))
        await asyncio.to_thread(self._ledger.score, scores)
