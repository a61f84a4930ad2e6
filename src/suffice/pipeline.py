"""One request, from text to books: features -> policy -> rung -> engine -> meter -> ledger.

This is the file to read first. Everything it joins lives in a part of its own.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from suffice.bundle import Bundle
from suffice.config import Config
from suffice.engines import Engine
from suffice.errors import Abstained, CertificateError, ConfigError, EngineError, SufficeError
from suffice.features.signals import Signals
from suffice.guarantee import check
from suffice.ladder import Ladder, build_ladder
from suffice.ledger import Attempt, Entry, Ledger, ReferenceKnown, Role, Status
from suffice.meter import Price, charge, charge_without_answer, price_for
from suffice.policy import Router, policy_hash
from suffice.types import NO_TOKENS, Charge, Completion, Finish, Request, Rung, Vector


@dataclass(frozen=True, kw_only=True, eq=False)
class Pipeline:
    """Everything that answering needs; without a `bundle` the reference rung answers everything."""

    ladder: Ladder
    engines: Mapping[str, Engine]
    prices: Mapping[str, Price]
    ledger: Ledger
    bundle: Bundle | None = None
    router: Router | None = None
    policy_hash: str = ""


class Answer(Struct, frozen=True, kw_only=True):
    """What the caller gets, and the entry that the ledger holds about it.

    `fallback` says why the reference rung had to answer; None when the policy chose.
    """

    completion: Completion
    entry: Entry
    fallback: str | None = None


def build_pipeline(
    config: Config, *, engines: Mapping[str, Engine], ledger: Ledger, bundle: Bundle | None
) -> Pipeline:
    """Join the parts; raises ConfigError when the bundle's rungs are not those of the ladder."""
    from suffice.latent.encoder import default_encoder

    ladder = build_ladder(config)
    if bundle is not None:
        _check_rungs(bundle, ladder)
    return Pipeline(
        ladder=ladder,
        engines=engines,
        prices={name: price_for(name, price) for name, price in config.price.items()},
        ledger=ledger,
        bundle=bundle,
        router=None if bundle is None else Router(policy=bundle.policy, encoder=default_encoder()),
        policy_hash="" if bundle is None else policy_hash(bundle.policy),
    )


async def answer(pipeline: Pipeline, request: Request, *, audited: bool = False) -> Answer:
    """Answer one request on the cheapest rung that the policy keeps, and book it before returning.

    `audited` is noted in the books: it says that the request was drawn for an audit beforehand.

    A cheaper rung that fails is passed over for the reference rung; after one that abstains the
    policy says which is next. Raises the EngineError of the
    reference rung when that fails too, and LedgerError when the books cannot be written; what was
    spent is booked in every case, also when the caller leaves.
    """
    attempts: list[Attempt] = []
    fallback = _why_not(pipeline, request)
    try:
        rung, completion = await _climb(pipeline, request, attempts, by_policy=fallback is None)
    except BaseException as error:
        status = Status.FAILED if isinstance(error, Exception) else Status.CANCELLED
        entry = _entry(pipeline, request, attempts, by_policy=fallback is None, status=status)
        pipeline.ledger.append(entry)
        raise
    entry = _entry(pipeline, request, attempts, by_policy=fallback is None, answered_by=rung)
    entry = replace(entry, audited=audited)
    pipeline.ledger.append(entry)
    return Answer(completion=completion, entry=entry, fallback=fallback)


async def _climb(
    pipeline: Pipeline, request: Request, attempts: list[Attempt], *, by_policy: bool
) -> tuple[Rung, Completion]:
    """Ask rung after rung until an answer may stay; every call ends up in `attempts`."""
    reference = pipeline.ladder.reference
    router = pipeline.router if by_policy else None
    seen: dict[str, Signals] = {}
    rung = reference if router is None else pipeline.ladder.rung(router.decide(request).rung)
    while True:
        try:
            completion = await _ask(pipeline, request, rung, attempts)
        except Abstained:
            if router is None or rung == reference:
                raise
            seen[rung.name] = Signals(finish=Finish.ABSTAINED)
            rung = pipeline.ladder.rung(router.review(request, seen).rung)
            continue
        except EngineError:
            if rung == reference:
                raise
            rung, router = reference, None
            continue
        seen[rung.name] = signals_of(completion)
        step = None if router is None or rung == reference else router.review(request, seen)
        if step is None or step.keep:
            return rung, completion
        attempts[-1] = replace(attempts[-1], role=Role.DISCARDED)
        rung = pipeline.ladder.rung(step.rung)


async def ask(pipeline: Pipeline, request: Request, rung: Rung, *, role: Role) -> Attempt:
    """Ask one rung off the policy's path, as an audit does; an EngineError is in the attempt."""
    attempts: list[Attempt] = []
    with suppress(EngineError):
        await _ask(pipeline, request, rung, attempts)
    return replace(attempts[-1], role=role)


async def _ask(
    pipeline: Pipeline, request: Request, rung: Rung, attempts: list[Attempt]
) -> Completion:
    """Call one engine and note what it gave and cost, also when it fails or is cancelled."""
    called, price = datetime.now(UTC), pipeline.prices.get(rung.price or "")
    try:
        completion = await pipeline.engines[rung.engine].complete(request, rung)
    except BaseException as error:
        charged = charge_without_answer(error, price, at=called)
        attempts.append(_failed(rung, error, charged, at=called))
        raise
    charged = charge(completion.usage, price, at=called)
    attempts.append(_answered(rung, completion, charged, at=called))
    return completion


def _answered(rung: Rung, completion: Completion, charged: Charge, *, at: datetime) -> Attempt:
    return Attempt(
        rung=rung.name,
        role=Role.ANSWER,
        charge=charged,
        usage=completion.usage,
        time=at,
        finish=completion.finish,
        duration_s=completion.duration_s,
        ttft_s=completion.ttft_s,
        mean_logprob=completion.mean_logprob,
        effort_seen=completion.effort_seen,
        answer=completion.text,
        samples=completion.samples,
    )


def _failed(rung: Rung, error: BaseException, charged: Charge, *, at: datetime) -> Attempt:
    """Book a call that gave no answer; an abstention is not an error."""
    if isinstance(error, Abstained):
        return Attempt(
            rung=rung.name,
            role=Role.DISCARDED,
            charge=charged,
            usage=NO_TOKENS,
            time=at,
            finish=Finish.ABSTAINED,
        )
    return Attempt(
        rung=rung.name,
        role=Role.DISCARDED,
        charge=charged,
        time=at,
        error=error.message if isinstance(error, SufficeError) else type(error).__name__,
    )


def _entry(
    pipeline: Pipeline,
    request: Request,
    attempts: list[Attempt],
    *,
    by_policy: bool,
    answered_by: Rung | None = None,
    status: Status = Status.OK,
) -> Entry:
    """Write the books' line for a request; one without an answer has saved nothing."""
    rung = answered_by
    reference_usd, known = (
        _reference_cost(pipeline, attempts) if rung else (None, ReferenceKnown.UNKNOWN)
    )
    saved = rung is not None and rung != pipeline.ladder.reference
    bundle = pipeline.bundle
    return Entry(
        request_id=request.request_id,
        time=attempts[0].time or datetime.now(UTC) if attempts else datetime.now(UTC),
        status=status,
        reference_rung=pipeline.ladder.reference.name,
        attempts=tuple(attempts),
        rung=None if rung is None else rung.name,
        vector=rung.vector if rung is not None and saved else Vector.NONE,
        group=request.group,
        reference_usd=reference_usd,
        reference_known=known,
        certificate_id=bundle.certificate.certificate_id if bundle and by_policy else None,
        error=attempts[-1].error if attempts and rung is None else None,
        text=request.text,
    )


def _reference_cost(
    pipeline: Pipeline, attempts: list[Attempt]
) -> tuple[Decimal | None, ReferenceKnown]:
    """Take the reference's own charge where it answered, else its mean in the bundle's trials."""
    name = pipeline.ladder.reference.name
    for attempt in attempts:
        if attempt.rung == name and attempt.error is None and attempt.charge.usd is not None:
            estimated = attempt.charge.estimated
            known = ReferenceKnown.ESTIMATED if estimated else ReferenceKnown.MEASURED
            return attempt.charge.usd, known
    mean_usd = pipeline.bundle.mean_usd.get(name) if pipeline.bundle else None
    known = ReferenceKnown.UNKNOWN if mean_usd is None else ReferenceKnown.ESTIMATED
    return mean_usd, known


def _why_not(pipeline: Pipeline, request: Request) -> str | None:
    """Say why the policy may not choose for this request; None when its certificate covers it."""
    if pipeline.bundle is None:
        return "there is no certificate"
    certificate = pipeline.bundle.certificate
    if request.group is None and certificate.terms.scope.groups:
        return "the certificate covers declared groups, and the request declares none"
    try:
        check(
            certificate,
            now=datetime.now(UTC),
            policy_hash=pipeline.policy_hash,
            group=request.group,
        )
    except CertificateError as error:
        return error.message
    return None


def _check_rungs(bundle: Bundle, ladder: Ladder) -> None:
    names = {rung.name for rung in ladder}
    missing = [rung for rung in bundle.policy.rungs if rung not in names]
    if missing:
        raise ConfigError(
            f"the certified policy uses rung {missing[0]!r}, which the ladder does not have",
            hint=f"rungs of the ladder: {', '.join(sorted(names))}",
        )
    if bundle.policy.reference != ladder.reference.name:
        raise ConfigError(
            f"the certificate is against {bundle.policy.reference!r}, the ladder's reference is "
            f"{ladder.reference.name!r}",
            hint="use the ladder that was certified, or certify this one",
        )


def signals_of(completion: Completion) -> Signals:
    """Show the policy what it may see of an answer."""
    return Signals(
        answer=completion.text,
        finish=completion.finish,
        mean_logprob=completion.mean_logprob,
        samples=completion.samples,
    )
