"""One request, from text to books: features -> policy -> rung -> engine -> meter -> ledger.

This is the file to read first. Everything it joins lives in a part of its own.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from suffice.certify.bundle import Bundle, check_rungs, why_barred
from suffice.config import Config
from suffice.deployment import build_checks
from suffice.engines import Engine, last
from suffice.engines.chunk import Relay
from suffice.engines.hedge import Hedge, HedgeOutcome, hedged, in_one_piece
from suffice.errors import Abstained, EngineError, describe
from suffice.ladder import Ladder, build_ladder
from suffice.ledger import Attempt, Entry, Ledger, ReferenceKnown, Role, Status
from suffice.meter import Price, charge, charge_without_answer, price_for, used_before
from suffice.policy import PolicyStep, Router, policy_hash
from suffice.scoring.checks import CheckedAnswer, Checks, CheckVerdict
from suffice.types import (
    NO_TOKENS,
    Charge,
    Completion,
    Finish,
    Generation,
    Request,
    Rung,
    Signals,
    Usage,
    Vector,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pipeline:
    """Everything that answering needs; without a `bundle` the reference rung answers everything.

    With `failover`, the next rung up stands in for one that fails where the reference cannot.
    `place` waits until a rung may be asked; an error that it raises means that none was. A rung in
    `hedge_after_s` that has begun no answer by then is asked a second time, where it is `spare`.
    """

    ladder: Ladder
    engines: Mapping[str, Engine]
    prices: Mapping[str, Price]
    ledger: Ledger
    bundle: Bundle | None = None
    router: Router | None = None
    policy_hash: str = ""
    failover: bool = False
    place: Callable[[Rung], AbstractAsyncContextManager[None]] = lambda _rung: nullcontext()
    hedge_after_s: Mapping[str, float] = field(default_factory=dict)
    spare: Callable[[Rung], AbstractContextManager[bool]] = lambda _rung: nullcontext(True)  # noqa: FBT003
    checks: Checks | None = None

    def grouped(self, request: Request) -> Request:
        """Return a request in the group that the policy tells from its text, if it does that."""
        told = self.bundle.policy.text_groups if self.bundle is not None else None
        return request if told is None else replace(request, group=told.group_of(request.text))


class Answer(Struct, frozen=True, kw_only=True):
    """What the caller gets, and the entry that the ledger holds about it.

    `fallback` says why the reference rung had to answer; None when the policy chose.
    """

    completion: Completion
    entry: Entry
    fallback: str | None = None


def build_pipeline(
    config: Config,
    *,
    engines: Mapping[str, Engine],
    ledger: Ledger,
    bundle: Bundle | None,
) -> Pipeline:
    """Join the parts; raises ConfigError when the bundle's rungs are not those of the ladder."""
    from suffice.encoders.base import default_encoder

    ladder, checks = build_ladder(config), build_checks(config, engines)
    if bundle is not None:
        check_rungs(bundle, ladder, checks)
    return Pipeline(
        ladder=ladder,
        engines=engines,
        prices={name: price_for(name, price) for name, price in config.price.items()},
        ledger=ledger,
        bundle=bundle,
        router=None if bundle is None else Router(policy=bundle.policy, encoder=default_encoder()),
        policy_hash="" if bundle is None else policy_hash(bundle.policy),
        checks=checks,
    )


class Climb:
    """One request on its way up the ladder: which rung to ask next, and what was asked so far.

    The one place that knows how to climb. The policy chooses, unless a rung is `named` or the
    policy is `barred` for a reason; it reads `read` where that is not the whole request, and its id
    draws where the policy applies to a random part. A request
    whose group the policy tells comes `grouped`. `rung` is to be asked next; with `settled`, its
    answer stays whatever it says. Call `answered` or `failed` after each attempt, and `entry` at
    the end. `hedges` names the rungs that a second call was due to, and what became of each.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        request: Request,
        *,
        named: Rung | None = None,
        barred: str | None = None,
        read: Request | None = None,
    ) -> None:
        self.pipeline, self.request = pipeline, request
        self.attempts: list[Attempt] = []
        self.hedges: list[tuple[str, HedgeOutcome]] = []
        self._named = named is not None
        self.fallback = (
            None
            if named
            else barred or why_barred(pipeline.bundle, request, policy_hash=pipeline.policy_hash)
        )
        self._router = None if named or self.fallback else pipeline.router
        self._by_policy = self._router is not None
        self._seen: dict[str, Signals] = {}
        self._verdicts: tuple[CheckVerdict, ...] = ()
        self.rung, self.settled = named or pipeline.ladder.reference, True
        self._draw_id = (read or request).request_id
        if self._router is not None:
            self._follow(self._router.decide(read or request))

    @property
    def certified(self) -> bool:
        """Whether the certificate speaks of this: the policy chose, among the rungs it knows."""
        bundle = self.pipeline.bundle
        return self._by_policy and bundle is not None and self.rung.name in bundle.policy.rungs

    @property
    def goes_by_check(self) -> bool:
        """Whether the policy keeps answers of the rung if they pass the operator's checks."""
        return self._router is not None and self._router.policy.goes_by_check(self.rung.name)

    def take(self, rung: Rung) -> None:
        """Ask a rung that the caller may choose, whose answer stays whatever it says."""
        self.rung, self.settled = rung, True

    async def checked(self, completion: Completion, *, at: datetime) -> Completion:
        """Have the operator's checks look at an answer, where the policy goes by what they say."""
        if self.settled or self._router is None:
            return completion
        policy = self._router.policy
        if policy.rungs.index(self.rung.name) not in policy.checked:
            return completion
        return await self.looked_at(completion, at=at)

    async def looked_at(self, completion: Completion, *, at: datetime) -> Completion:
        """Have the operator's checks of the rung, if any, look at an answer to a call at `at`."""
        checks, rung = self.pipeline.checks, self.rung.name
        if checks is None or not checks.covers(rung):
            return completion
        try:
            result = await checks.look(self.request, rung, completion.text)
        except BaseException:  # the client left: the answer was paid for
            self._note_answer(completion, role=Role.DISCARDED, at=at)
            raise
        self._verdicts = result.verdicts
        return replace(completion, check=result.passed)

    def note_check(self, result: CheckedAnswer) -> None:
        """Note what the checks said of the answer that stays, and what that cost."""
        answer = max(i for i, one in enumerate(self.attempts) if one.role is Role.ANSWER)
        noted = self.attempts[answer]
        self.attempts[answer] = replace(noted, check=result.passed)
        self.attempts += [one.attempt(noted.time or datetime.now(UTC)) for one in result.verdicts]

    def answered(self, completion: Completion, *, at: datetime) -> bool:
        """Note an answer to a call made at `at`; False when the next rung is to be asked."""
        self._note_answer(completion, role=Role.ANSWER, at=at)
        answer = len(self.attempts) - 1
        self.attempts += [verdict.attempt(at) for verdict in self._verdicts]
        self._verdicts = ()
        self._seen[self.rung.name] = completion.generation.signals
        if self.settled or self._router is None:
            return True
        step = self._review(self._router)
        if step.keep:
            return True
        self.attempts[answer] = replace(self.attempts[answer], role=Role.DISCARDED)
        self._follow(step)
        return False

    def failed(
        self,
        error: BaseException,
        *,
        at: datetime | None,
        usage: Usage | None = None,
        given: bool = False,
    ) -> bool:
        """Note a call that gave no whole answer; True when another rung is to be asked instead.

        `at` is None where the engine was not asked in the end. `usage` is what the call is known
        to have used; `given` says that the client has got part of the answer.
        """
        if at is not None:
            self.lost(error, at, usage, given=given)
        if isinstance(error, Abstained) and self._router is not None:
            self._seen[self.rung.name] = Signals(finish=Finish.ABSTAINED)
            self._follow(self._review(self._router))
            return True
        higher = self._higher() if isinstance(error, EngineError) else None
        if higher is None:
            return False
        self.rung, self.settled, self._router = higher, True, None
        return True

    def lost(
        self, error: BaseException, at: datetime, usage: Usage | None, *, given: bool = False
    ) -> None:
        """Note a call that gave no whole answer, and that another may stand in for on this rung."""
        price = self.pipeline.prices.get(self.rung.price or "")
        used = used_before(error) or usage
        if used is None:
            charged = charge_without_answer(error, price, at=at)
        else:
            charged = charge(used, price, at=at)
        if isinstance(error, Abstained):  # which is no error
            generation = Generation(finish=Finish.ABSTAINED, usage=used or NO_TOKENS)
        else:
            message = describe(error, text=self.pipeline.ledger.store_text)
            generation = Generation(error=message, usage=used or Usage())
        role = Role.ANSWER if given else Role.DISCARDED
        self._note(generation, role=role, charged=charged, at=at)

    def entry(self, status: Status = Status.OK) -> Entry:
        """Write the books' line.

        A request without an answer has saved nothing, nor has one whose rung the caller named: it
        would have cost the same without a policy.
        """
        pipeline, attempts, ok = self.pipeline, self.attempts, status is Status.OK
        bundle = pipeline.bundle if self.certified else None
        entry = Entry(
            request_id=self.request.request_id,
            time=min((a.time for a in attempts if a.time), default=datetime.now(UTC)),
            status=status,
            reference_rung=pipeline.ladder.reference.name,
            attempts=tuple(attempts),
            rung=self.rung.name if ok else None,
            group=self.request.group,
            certificate_id=bundle.certificate.certificate_id if bundle else None,
            error=attempts[-1].error if attempts and not ok else None,
            text=self.request.text if pipeline.ledger.store_text else None,
        )
        if not ok:
            return entry
        below = not self._named and self.rung != pipeline.ladder.reference
        reference = entry.charge if self._named else _reference_charge(pipeline, attempts)
        return replace(
            entry,
            vector=self.rung.vector if below else Vector.NONE,
            reference_usd=reference.usd,
            reference_known=ReferenceKnown.of(reference),
        )

    def _note_answer(self, completion: Completion, *, role: Role, at: datetime) -> None:
        price = self.pipeline.prices.get(self.rung.price or "")
        charged = charge(completion.usage, price, at=at)
        self._note(completion.generation, role=role, charged=charged, at=at)
        if completion.tool_calls:
            self.attempts[-1] = replace(self.attempts[-1], tool_calls=completion.tool_calls)

    def _note(self, generation: Generation, *, role: Role, charged: Charge, at: datetime) -> None:
        name, fields = self.rung.name, generation.generation_fields
        self.attempts.append(Attempt(rung=name, role=role, charge=charged, time=at, **fields))

    def _review(self, router: Router) -> PolicyStep:
        return router.review(replace(self.request, request_id=self._draw_id), self._seen)

    def _follow(self, step: PolicyStep) -> None:
        self.rung, self.settled = self.pipeline.ladder.rung(step.rung), step.settled

    def _higher(self) -> Rung | None:
        """Return the rung that stands in for a failed one: the reference, or the next one up."""
        ladder = self.pipeline.ladder
        if self._by_policy and self.rung in ladder.below_reference:
            return ladder.reference
        return ladder.above(self.rung) if self.pipeline.failover else None


async def answer(
    pipeline: Pipeline, request: Request, *, audited: bool = False, barred: str | None = None
) -> Answer:
    """Answer one request on the cheapest rung that the policy keeps, and book it before returning.

    `audited` is noted in the books: it says that the request was drawn for an audit beforehand.
    `barred` says why the policy may not choose, if it may not.

    A cheaper rung that fails is passed over for the reference rung; after one that abstains the
    policy says which is next. Raises the EngineError of the reference rung when that fails too, and
    LedgerError when the books cannot be written; what was spent is booked in every case, also when
    the caller leaves.
    """
    climb = Climb(pipeline, pipeline.grouped(request), barred=barred)
    try:
        completion = await ascend(climb)
    except BaseException as error:
        pipeline.ledger.append(climb.entry(status_of(error)))
        raise
    entry = replace(climb.entry(), audited=audited)
    pipeline.ledger.append(entry)
    return Answer(completion=completion, entry=entry, fallback=climb.fallback)


async def ascend(climb: Climb) -> Completion:
    """Ask rung after rung until an answer may stay; raises the last rung's EngineError."""
    while True:
        pipeline, rung, called = climb.pipeline, climb.rung, None
        try:
            async with pipeline.place(rung):
                called = datetime.now(UTC)
                completion = await _completed(climb)
        except BaseException as error:
            if not climb.failed(error, at=called):
                raise
            continue
        completion = await climb.checked(completion, at=called)
        if climb.answered(completion, at=called):
            return completion


def relay(climb: Climb) -> Relay:
    """Stream the answer of the rung that is to be asked, hedged where the pipeline says so."""
    engine, request, rung = climb.pipeline.engines[climb.rung.engine], climb.request, climb.rung
    if rung.name not in climb.pipeline.hedge_after_s:
        return engine.relay(request, rung)
    return hedged(lambda: engine.relay(request, rung), _hedge(climb))


async def _completed(climb: Climb) -> Completion:
    engine, request, rung = climb.pipeline.engines[climb.rung.engine], climb.request, climb.rung
    if rung.name not in climb.pipeline.hedge_after_s:
        return await engine.complete(request, rung)
    race = hedged(lambda: in_one_piece(engine, request, rung), _hedge(climb))
    return await last(race.items)


def _hedge(climb: Climb) -> Hedge:
    rung = climb.rung
    return Hedge(
        after_s=climb.pipeline.hedge_after_s[rung.name],
        spare=lambda: climb.pipeline.spare(rung),
        lost=climb.lost,
        ended=lambda outcome: climb.hedges.append((rung.name, outcome)),
    )


def status_of(error: BaseException) -> Status:
    """Say how a request ended that an error ended: an error that is no failure is a leaving."""
    return Status.FAILED if isinstance(error, Exception) else Status.CANCELLED


async def ask(pipeline: Pipeline, request: Request, rung: Rung, *, role: Role) -> Attempt:
    """Ask one rung off the policy's path, as an audit does; an EngineError is in the attempt.

    Its charge includes the checks of the answer.
    """
    climb = Climb(pipeline, request, named=rung)
    async with pipeline.place(rung):
        called = datetime.now(UTC)
        try:
            completion = await pipeline.engines[rung.engine].complete(request, rung)
        except EngineError as error:
            climb.failed(error, at=called)
        else:
            climb.answered(await climb.looked_at(completion, at=called), at=called)
    charges = [attempt.charge for attempt in climb.attempts]
    return replace(climb.attempts[0], role=role, charge=sum(charges[1:], charges[0]))


def _reference_charge(pipeline: Pipeline, attempts: list[Attempt]) -> Charge:
    """Take the reference's own charge where it answered, else its mean in the bundle's trials."""
    name = pipeline.ladder.reference.name
    for attempt in attempts:
        if attempt.rung == name and attempt.error is None and attempt.charge.usd is not None:
            return attempt.charge
    mean_usd = pipeline.bundle.mean_usd.get(name) if pipeline.bundle else None
    return Charge(usd=mean_usd, estimated=True)
