"""One request through the real parts: recorded answers, a real ledger, a certified policy."""

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from suffice.certify.bundle import Bundle
from suffice.certify.bundling import Certification
from suffice.config import parse_config
from suffice.engines.replay import ReplayEngine
from suffice.errors import ConfigError, EngineError, EngineRefused, LedgerError
from suffice.ledger import Ledger, ReferenceKnown, Role, Status, entries
from suffice.ledger.records import Entry
from suffice.pipeline import Climb, Pipeline, answer, ask, build_pipeline
from suffice.policy import policy_hash
from suffice.types import (
    NO_TOKENS,
    Charge,
    Completion,
    Count,
    CountSource,
    Finish,
    Request,
    Rung,
    Trial,
    Usage,
    Vector,
)
from support import CONFIG, make_trials, path_of, settle_trials

CONFIG_OF = parse_config(CONFIG.format(trials="unused"))
USD = Decimal("0.000001")  # a token of either kind


def usd_of(trial: Trial) -> Decimal:
    """Price a trial a second way: every token costs the same."""
    return (trial.usage.input_tokens.tokens + trial.usage.output_tokens.tokens) * USD


class Faulty(ReplayEngine):
    """Replays, but does something else first for some calls."""

    def __init__(self, trials: Any, before: Callable[[Request, Rung], Any]) -> None:
        super().__init__(trials)
        self.before = before

    async def complete(self, request: Request, rung: Rung) -> Completion:
        doing = self.before(request, rung)
        if doing is not None:
            await doing
        return await super().complete(request, rung)


def on(name: str, error: Exception) -> Callable[[Request, Rung], Any]:
    """Raise on one rung."""

    def before(_request: Request, rung: Rung) -> None:
        if rung.name == name:
            raise error

    return before


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "books.db", store_text=True) as opened:
        yield opened


@pytest.fixture
def made(settled: Certification) -> dict[tuple[str, str], Trial]:
    return {(t.request_id, t.rung): t for t in settled.trials}


def pipeline_of(
    ledger: Ledger, settled: Certification, *, bundle: Bundle | None, **more: Any
) -> Pipeline:
    engine = more.get("engine") or ReplayEngine(settled.trials)
    config = more.get("config", CONFIG_OF)
    return build_pipeline(config, engines={"recorded": engine}, ledger=ledger, bundle=bundle)


def request_of(settled: Certification, request_id: str) -> Request:
    trial = next(t for t in settled.trials if t.request_id == request_id)
    return Request(
        request_id=request_id,
        messages=({"role": "user", "content": trial.text},),
        group=trial.group,
    )


def first_with(settled: Certification, path: list[str]) -> Request:
    """Find a request that the certified policy sends along this path."""
    ids = dict.fromkeys(t.request_id for t in settled.trials)
    return request_of(settled, next(i for i in ids if path_of(settled, i) == path))


def only_entry(ledger: Ledger) -> Entry:
    (entry,) = entries(ledger)
    return entry


async def test_the_cheap_rung_answers_where_the_policy_keeps_it(
    ledger: Ledger, settled: Certification, made: dict
) -> None:
    request = first_with(settled, ["small"])
    given = await answer(pipeline_of(ledger, settled, bundle=settled.bundle), request)
    trial, entry = made[request.request_id, "small"], given.entry
    assert given.completion.text == trial.answer
    assert given.fallback is None
    assert (entry.status, entry.rung, entry.vector) == (Status.OK, "small", Vector.OUTPUT)
    assert [(a.rung, a.role) for a in entry.attempts] == [("small", Role.ANSWER)]
    assert entry.charge.usd == usd_of(trial)
    assert entry.reference_usd == settled.bundle.mean_usd["big"]
    assert entry.reference_known is ReferenceKnown.ESTIMATED
    assert entry.certificate_id == settled.result.certificate.certificate_id
    assert only_entry(ledger).charge == entry.charge


async def test_a_rung_that_the_caller_names_saves_nothing(
    ledger: Ledger, settled: Certification, made: dict
) -> None:
    request = first_with(settled, ["small"])
    pipeline = pipeline_of(ledger, settled, bundle=settled.bundle)
    small = pipeline.ladder.rung("small")
    climb = Climb(pipeline, request, named=small)
    completion = await pipeline.engines[small.engine].complete(request, small)
    climb.answered(completion, at=datetime.now(UTC))
    entry = climb.entry()
    assert (entry.rung, entry.vector) == ("small", Vector.NONE)
    assert entry.reference_usd == entry.charge.usd == usd_of(made[request.request_id, "small"])
    assert entry.reference_known is ReferenceKnown.MEASURED


async def test_a_deferred_request_pays_for_both_attempts(
    ledger: Ledger, settled: Certification, made: dict
) -> None:
    request = first_with(settled, ["small", "big"])
    given = await answer(pipeline_of(ledger, settled, bundle=settled.bundle), request)
    small, big = (made[request.request_id, rung] for rung in ("small", "big"))
    assert given.completion.text == big.answer
    booked = only_entry(ledger)
    assert [(a.rung, a.role) for a in booked.attempts] == [
        ("small", Role.DISCARDED),
        ("big", Role.ANSWER),
    ]
    assert [a.answer for a in booked.attempts] == [small.answer, big.answer]
    assert booked.charge.usd == usd_of(small) + usd_of(big)
    assert booked.reference_usd == usd_of(big)
    assert booked.reference_known is ReferenceKnown.MEASURED
    assert (booked.rung, booked.vector) == ("big", Vector.NONE)
    assert (booked.text, booked.group) == (request.text, request.group)


async def test_live_decisions_are_those_that_were_certified(
    ledger: Ledger, settled: Certification
) -> None:
    """On the reporting split the pipeline answers as the certified figures say."""
    pipeline = pipeline_of(ledger, settled, bundle=settled.bundle)
    reported = settled.certified.reported
    chosen = settled.certified.plays.chosen[:, 0]
    for request_id, rung in zip(reported.request_ids, chosen.tolist(), strict=True):
        given = await answer(pipeline, request_of(settled, request_id))
        assert given.entry.rung == settled.certified.policy.rungs[rung]
    booked = list(entries(ledger))
    spent = sum(entry.charge.usd for entry in booked)
    whole = sum(
        usd_of(t)
        for t in settled.trials
        if t.rung == "big" and t.request_id in reported.request_ids
    )
    assert float(1 - spent / whole) == pytest.approx(settled.result.saving)


# -- falling back --------------------------------------------------------------------------------


async def test_without_a_certificate_the_reference_answers(
    ledger: Ledger, settled: Certification, made: dict
) -> None:
    request = first_with(settled, ["small"])
    given = await answer(pipeline_of(ledger, settled, bundle=None), request)
    assert given.fallback == "there is no certificate"
    assert [a.rung for a in given.entry.attempts] == ["big"]
    assert given.entry.reference_usd == usd_of(made[request.request_id, "big"])
    assert given.entry.certificate_id is None


def lapsed(bundle: Bundle) -> Bundle:
    """Move a certificate's times into the past."""
    terms, month = bundle.certificate.terms, timedelta(days=60)
    old = replace(terms, created=terms.created - month, lapses_at=terms.lapses_at - month)
    return replace(bundle, certificate=replace(bundle.certificate, terms=old))


async def test_a_lapsed_certificate_hands_over_to_the_reference(
    ledger: Ledger, settled: Certification
) -> None:
    pipeline = pipeline_of(ledger, settled, bundle=lapsed(settled.bundle))
    given = await answer(pipeline, first_with(settled, ["small"]))
    assert "lapsed" in given.fallback
    assert given.entry.rung == "big"
    assert given.entry.certificate_id is None, "no promise stood behind this answer"


async def test_a_group_that_was_not_certified_goes_to_the_reference(
    ledger: Ledger, settled: Certification
) -> None:
    request = replace(first_with(settled, ["small"]), group="poems")
    given = await answer(pipeline_of(ledger, settled, bundle=settled.bundle), request)
    assert "'poems'" in given.fallback
    assert given.entry.rung == "big"


# -- what goes wrong -----------------------------------------------------------------------------


async def test_a_failing_cheap_rung_climbs_to_the_reference(
    ledger: Ledger, settled: Certification, made: dict
) -> None:
    request = first_with(settled, ["small"])
    engine = Faulty(settled.trials, on("small", EngineRefused("HTTP 429", status=429)))
    pipeline = pipeline_of(ledger, settled, bundle=settled.bundle, engine=engine)
    given = await answer(pipeline, request)
    assert given.entry.rung == "big"
    booked = only_entry(ledger)
    failed, kept = booked.attempts
    assert (failed.rung, failed.role, failed.error) == ("small", Role.DISCARDED, "HTTP 429")
    assert kept.role is Role.ANSWER
    assert booked.charge.usd == usd_of(made[request.request_id, "big"]), "a refusal is free"
    assert booked.reference_known is ReferenceKnown.MEASURED


@pytest.mark.parametrize(
    "error", [EngineError("the stream broke"), EngineRefused("HTTP 500", status=500)]
)
async def test_a_broken_call_may_have_been_billed(
    ledger: Ledger, settled: Certification, error: EngineError
) -> None:
    engine = Faulty(settled.trials, on("small", error))
    pipeline = pipeline_of(ledger, settled, bundle=settled.bundle, engine=engine)
    given = await answer(pipeline, first_with(settled, ["small"]))
    assert given.entry.rung == "big"
    assert given.entry.charge.usd is None


async def test_what_came_before_a_refusal_for_the_same_answer_is_booked(
    ledger: Ledger, settled: Certification, made: dict
) -> None:
    error, request = EngineRefused("HTTP 429", status=429), first_with(settled, ["small"])
    error.used = made[request.request_id, "small"].usage
    engine = Faulty(settled.trials, on("small", error))
    pipeline = pipeline_of(ledger, settled, bundle=settled.bundle, engine=engine)
    failed, _ = (await answer(pipeline, request)).entry.attempts
    assert (failed.role, failed.usage) == (Role.DISCARDED, error.used)
    assert failed.charge.usd == usd_of(made[request.request_id, "small"])


async def test_a_failing_reference_is_booked_and_raised(
    ledger: Ledger, settled: Certification
) -> None:
    engine = Faulty(settled.trials, on("big", EngineRefused("HTTP 429", status=429)))
    pipeline = pipeline_of(ledger, settled, bundle=settled.bundle, engine=engine)
    with pytest.raises(EngineRefused, match="429"):
        await answer(pipeline, first_with(settled, ["small", "big"]), audited=True)
    booked = only_entry(ledger)
    assert (booked.status, booked.rung, booked.error) == (Status.FAILED, None, "HTTP 429")
    assert [a.role for a in booked.attempts] == [Role.DISCARDED, Role.DISCARDED]
    assert booked.charge.usd == booked.attempts[0].charge.usd > 0
    assert booked.reference_usd is None, "a request without an answer has saved nothing"
    assert booked.reference_known is ReferenceKnown.UNKNOWN
    assert not booked.audited


async def test_a_defect_is_not_booked_as_the_client_leaving(
    ledger: Ledger, settled: Certification
) -> None:
    engine = Faulty(settled.trials, on("small", ZeroDivisionError("a defect")))
    pipeline = pipeline_of(ledger, settled, bundle=settled.bundle, engine=engine)
    with pytest.raises(ZeroDivisionError):
        await answer(pipeline, first_with(settled, ["small"]))
    assert only_entry(ledger).status is Status.FAILED


@pytest.mark.parametrize("rung", ["small", "big"])
async def test_a_caller_who_leaves_is_booked(
    ledger: Ledger, settled: Certification, rung: str
) -> None:
    reached = asyncio.Event()

    def before(_request: Request, asked: Rung) -> Any:
        if asked.name == rung:
            reached.set()
            return asyncio.Event().wait()
        return None

    engine = Faulty(settled.trials, before)
    pipeline = pipeline_of(ledger, settled, bundle=settled.bundle, engine=engine)
    path = ["small", "big"][: 1 + (rung == "big")]
    task = asyncio.create_task(answer(pipeline, first_with(settled, ["small", "big"])))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    booked = only_entry(ledger)
    assert booked.status is Status.CANCELLED
    assert [a.rung for a in booked.attempts] == path
    assert booked.attempts[-1].error == "CancelledError"
    assert booked.charge.usd is None, "what was generated may have been billed"


async def test_books_that_cannot_be_written_are_an_error(
    ledger: Ledger, settled: Certification
) -> None:
    pipeline = pipeline_of(ledger, settled, bundle=settled.bundle)
    request = first_with(settled, ["small"])
    await answer(pipeline, request)
    with pytest.raises(LedgerError):
        await answer(pipeline, request)  # an id stands for one request


# -- what the reference would have cost ----------------------------------------------------------


async def test_without_charges_in_the_trials_the_reference_cost_is_unknown(
    ledger: Ledger, settled: Certification
) -> None:
    bare = Bundle(policy=settled.bundle.policy, certificate=settled.bundle.certificate)
    given = await answer(pipeline_of(ledger, settled, bundle=bare), first_with(settled, ["small"]))
    assert given.entry.reference_usd is None
    assert given.entry.reference_known is ReferenceKnown.UNKNOWN


async def test_a_rung_without_a_price_has_no_charge(ledger: Ledger, settled: Certification) -> None:
    config = parse_config(CONFIG.format(trials="unused").replace('price = "flat"', ""))
    pipeline = pipeline_of(ledger, settled, bundle=settled.bundle, config=config)
    given = await answer(pipeline, first_with(settled, ["small", "big"]))
    assert given.entry.charge.usd is None
    assert given.entry.reference_usd == settled.bundle.mean_usd["big"]
    assert given.entry.reference_known is ReferenceKnown.ESTIMATED


async def test_an_estimated_count_makes_the_reference_cost_an_estimate(
    ledger: Ledger, settled: Certification
) -> None:
    guess = Usage(
        input_tokens=Count(7, CountSource.REPORTED), output_tokens=Count(9, CountSource.ESTIMATED)
    )
    engine = ReplayEngine(replace(trial, usage=guess) for trial in settled.trials)
    given = await answer(
        pipeline_of(ledger, settled, bundle=None, engine=engine), first_with(settled, ["small"])
    )
    assert given.entry.reference_usd == 16 * USD
    assert given.entry.reference_known is ReferenceKnown.ESTIMATED


async def test_the_vector_is_that_of_the_rung_that_answered(
    ledger: Ledger, settled: Certification
) -> None:
    toml = CONFIG.format(trials="unused").replace(
        'model = "small-model"', 'model = "small-model"\nvector = "architecture"'
    )
    pipeline = pipeline_of(ledger, settled, bundle=settled.bundle, config=parse_config(toml))
    given = await answer(pipeline, first_with(settled, ["small"]))
    assert given.entry.vector is Vector.ARCHITECTURE


# -- audits, and parts that do not fit -----------------------------------------------------------


async def test_an_audit_asks_off_the_path(
    ledger: Ledger, settled: Certification, made: dict
) -> None:
    pipeline = pipeline_of(ledger, settled, bundle=settled.bundle)
    request = first_with(settled, ["small"])
    attempt = await ask(pipeline, request, pipeline.ladder.rung("big"), role=Role.AUDIT)
    assert attempt.role is Role.AUDIT
    assert attempt.answer == made[request.request_id, "big"].answer
    assert attempt.charge.usd == usd_of(made[request.request_id, "big"])
    assert not list(entries(ledger)), "asking books nothing by itself"


async def test_a_failing_audit_is_an_attempt_too(ledger: Ledger, settled: Certification) -> None:
    engine = Faulty(settled.trials, on("big", EngineError("gone")))
    pipeline = pipeline_of(ledger, settled, bundle=settled.bundle, engine=engine)
    request = first_with(settled, ["small"])
    attempt = await ask(pipeline, request, pipeline.ladder.rung("big"), role=Role.AUDIT)
    assert (attempt.role, attempt.error, attempt.charge.usd) == (Role.AUDIT, "gone", None)


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('name = "small"', 'name = "tiny"', "'small', which the ladder does not have"),
        ('reference = "big"', 'reference = "small"', "against 'big'"),
    ],
)
def test_a_bundle_for_another_ladder_is_refused(
    ledger: Ledger, settled: Certification, before: str, after: str, complaint: str
) -> None:
    config = parse_config(CONFIG.format(trials="unused").replace(before, after))
    with pytest.raises(ConfigError, match=complaint) as caught:
        pipeline_of(ledger, settled, bundle=settled.bundle, config=config)
    assert caught.value.hint


async def test_a_policy_beyond_the_certified_point_never_decides(
    ledger: Ledger, settled: Certification
) -> None:
    policy = settled.bundle.policy
    greedy = replace(settled.bundle, policy=policy.at(policy.points - 1))
    assert policy_hash(greedy.policy) != policy_hash(policy)
    given = await answer(
        pipeline_of(ledger, settled, bundle=greedy), first_with(settled, ["small"])
    )
    assert "another policy" in given.fallback
    assert given.entry.rung == "big"


async def test_what_is_returned_is_what_is_booked(ledger: Ledger, settled: Certification) -> None:
    pipeline = pipeline_of(ledger, settled, bundle=None)
    given = await answer(pipeline, first_with(settled, ["small"]), audited=True)
    booked = only_entry(ledger)
    assert booked.audited
    assert msgspec.to_builtins(replace(booked, time=given.entry.time)) == msgspec.to_builtins(
        given.entry
    )


async def test_a_request_without_a_group_is_not_covered_by_a_certificate_on_groups(
    ledger: Ledger, settled: Certification
) -> None:
    request = replace(first_with(settled, ["small"]), group=None)
    pipeline = pipeline_of(ledger, settled, bundle=settled.bundle)
    given = await answer(pipeline, request)
    assert given.entry.rung == "big"
    assert "declares none" in (given.fallback or "")


# -- rungs that abstain -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def hesitant() -> Certification:
    """Trials whose cheap rung abstains on a random third of the requests."""
    draw = random.Random(3)
    declining = {f"r{i}" for i in range(600) if draw.random() < 1 / 3}
    trials = [
        replace(
            t,
            answer=None,
            quality=0.0,
            mean_logprob=None,
            finish=Finish.ABSTAINED,
            usage=NO_TOKENS,
            charge_usd=Decimal(0),
        )
        if t.rung == "small" and t.request_id in declining
        else t
        for t in make_trials(600)
    ]
    return settle_trials(trials)


async def test_after_an_abstention_the_policy_goes_up_and_the_attempt_is_booked(
    ledger: Ledger, hesitant: Certification
) -> None:
    made = {(t.request_id, t.rung): t for t in hesitant.trials}
    asked = next(
        i
        for i, rung in made
        if rung == "small"
        and made[i, rung].finish is Finish.ABSTAINED
        and path_of(hesitant, i) == ["small", "big"]
    )
    pipeline = pipeline_of(ledger, hesitant, bundle=hesitant.bundle)
    given = await answer(pipeline, request_of(hesitant, asked))
    assert given.fallback is None
    assert given.completion.text == made[asked, "big"].answer
    small, big = only_entry(ledger).attempts
    assert (small.rung, small.role, small.finish) == ("small", Role.DISCARDED, Finish.ABSTAINED)
    assert (small.error, small.answer, small.usage) == (None, None, NO_TOKENS)
    assert small.charge == Charge(usd=Decimal(0), price="flat")
    assert (big.rung, big.role) == ("big", Role.ANSWER)


def test_certified_figures_never_count_an_abstention_as_an_answer(hesitant: Certification) -> None:
    certified = hesitant.certified
    assert certified.result.certified
    small = certified.plays.chosen[:, 0] == 0
    declined = [row[0].abstained for row in certified.reported.signals]
    assert any(declined)
    assert small.any()
    assert not (small & declined).any()


async def test_an_audit_books_an_abstention_without_calling_it_an_error(
    ledger: Ledger, hesitant: Certification
) -> None:
    declined = next(t for t in hesitant.trials if t.finish is Finish.ABSTAINED)
    pipeline = pipeline_of(ledger, hesitant, bundle=hesitant.bundle)
    rung = pipeline.ladder.rung("small")
    attempt = await ask(pipeline, request_of(hesitant, declined.request_id), rung, role=Role.AUDIT)
    assert (attempt.role, attempt.finish, attempt.error) == (Role.AUDIT, Finish.ABSTAINED, None)
