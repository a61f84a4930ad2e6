"""Audits and shadows, off the client's path: other rungs answer too, and all answers are marked."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from suffice.engines.transport import TRACE_HEADERS
from suffice.errors import ConfigError, SufficeError, describe
from suffice.gateway.metrics.families import LOST_AUDITS, LOST_SHADOWS
from suffice.gateway.metrics.record import measure_off_path
from suffice.gateway.metrics.registry import Metrics
from suffice.ledger import Attempt, Entry, Label, Ledger, Role, Score, Status
from suffice.pipeline import Pipeline, ask
from suffice.scoring.audits import AGREEMENTS, agreement_scores, compared_text
from suffice.scoring.scorers import find_scorer, mark
from suffice.types import Charge, Request, Rung

MOST_WAITING = {Role.AUDIT: 1000, Role.SHADOW: 100}  # beyond, they are dropped and never scored
_LOST = {Role.AUDIT: LOST_AUDITS, Role.SHADOW: LOST_SHADOWS}
Marker = Callable[[Request, Mapping[str, str], str], list[Score]]
_log = logging.getLogger("suffice.gateway")


class _Audit(NamedTuple):
    pipeline: Pipeline
    request: Request
    entry: Entry
    rungs: Sequence[Rung]
    trace: Mapping[str, str]  # headers of the request that is audited


class Auditor:
    """Has other rungs answer requests that were answered, a few at a time, in the background.

    `role` says what for. Audits wait for a rung that is busy; shadows are dropped. `scorer` is as
    for `marker`. Nothing that goes wrong with one audit ends the others: it is logged, and counted
    by its reason. Raises InputError for an unknown scorer.
    """

    def __init__(
        self,
        ledger: Ledger,
        metrics: Metrics,
        *,
        at_once: int,
        scorer: str = "exact",
        role: Role = Role.AUDIT,
    ) -> None:
        self._metrics, self._role = metrics, role
        self._ledger = ledger
        self._at_once = at_once
        self._scores, self._scorer = marker(scorer), scorer
        self._waiting: deque[_Audit] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many audits are under way or still to come."""
        return len(self._waiting) + len(self._tasks)

    def submit(
        self, pipeline: Pipeline, request: Request, entry: Entry, *, rungs: Sequence[Rung]
    ) -> None:
        """Have `rungs` answer a request that is booked; drops it when too many wait already."""
        if len(self._waiting) >= MOST_WAITING[self._role]:
            self._metrics.add(_LOST[self._role], ("dropped",))
            return
        self._waiting.append(_Audit(pipeline, request, entry, rungs, TRACE_HEADERS.get()))
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
                self._metrics.add(_LOST[self._role], ("failed",))
                why = describe(error, text=False)
                _log.warning("%s of %s: %s", self._role.value, request_id, why)
            except Exception:  # noqa: BLE001 - the audits that wait must go on
                self._metrics.add(_LOST[self._role], ("unforeseen",))
                _log.exception("an error inside the %s of %s", self._role.value, request_id)

    async def _one(self, audit: _Audit) -> None:
        """Ask every rung that has not answered, and score them all.

        An answer that the client cut off ended in an error, so its rung is asked again.
        """
        ladder, request_id = audit.pipeline.ladder, audit.entry.request_id
        answers = {
            a.rung: a for a in audit.entry.attempts if a.error is None and a.role is not Role.CHECK
        }
        for rung in audit.rungs:
            if rung.name in answers:
                continue
            if self._role is Role.SHADOW:
                with audit.pipeline.spare(rung) as free:
                    pass
                if not free:
                    self._metrics.add(LOST_SHADOWS, ("busy",))
                    return
            attempt = await self._ask_rung(audit, rung)
            await asyncio.to_thread(self._ledger.audit, request_id, attempt)
            measure_off_path(self._metrics, attempt)
            if attempt.error is None:
                answers[rung.name] = attempt
        texts = {rung: attempt.answer or "" for rung, attempt in answers.items()}
        if self._scorer in AGREEMENTS:
            texts = {r: compared_text(one, scorer=self._scorer) for r, one in answers.items()}
        scores = await asyncio.to_thread(self._scores, audit.request, texts, ladder.reference.name)
        await asyncio.to_thread(self._ledger.score, scores)

    async def _ask_rung(self, audit: _Audit, rung: Rung) -> Attempt:
        """Ask a rung; a call that ends in an error nobody foresaw is booked, its cost unknown."""
        called = datetime.now(UTC)
        try:
            return await ask(audit.pipeline, audit.request, rung, role=self._role)
        except SufficeError:
            raise
        except Exception as error:  # noqa: BLE001 - what was spent must be booked
            _log.exception("an error inside a call to %s off the path", rung.name)
            self._metrics.add(_LOST[self._role], ("unforeseen",))
            return Attempt(
                rung=rung.name,
                role=self._role,
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
    return Label.AGREEMENT if scorer in AGREEMENTS else Label.SCORER


def marker(scorer: str) -> Marker:
    """Return what marks the answers to a request, by rung, given the reference rung's name.

    `exact`, `choice`, `numeric` and `calls` compare with the reference's answer. A
    `package.module:function` judges each answer alone: it is called with the answer, None, and the
    request's text as the option `prompt`. Raises InputError for another name.
    """
    if scorer in AGREEMENTS:
        return lambda request, texts, reference: list(
            agreement_scores(request.request_id, texts, reference=reference, scorer=scorer)
        )
    if ":" not in scorer:
        raise ConfigError(
            f"gateway.audit_scorer: {scorer!r} cannot mark live answers",
            hint=f"write {', '.join(sorted(AGREEMENTS))}, or package.module:function",
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
