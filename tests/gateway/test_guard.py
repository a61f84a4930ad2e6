"""The guard sounds when the risk has risen and rarely else, and all readers of a ledger agree."""

import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import sqrt
from pathlib import Path

import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from postgres_server import postgresql_server, server_binaries

from suffice.errors import InputError
from suffice.gateway.guard import (
    BLIND_AFTER,
    AuditRule,
    Guard,
    GuardState,
    excess_loss,
    fresh,
    watch,
    watching_labels,
)
from suffice.gateway.server import about_audits
from suffice.guarantee import (
    Certificate,
    Evidence,
    LabelSource,
    Method,
    RiskKind,
    Scope,
    Splits,
    Terms,
    calibrate,
    delay_limit,
    issue,
)
from suffice.ledger import Attempt, AuditedRequest, Entry, Label, Ledger, Role, Score, Status
from suffice.ledger.migrations import AUDIT_ORDER_LOCK
from suffice.scoring.audits import agreement_scores, is_drawn
from suffice.scoring.labels import agreement
from suffice.scoring.scorers import mark
from suffice.types import Charge

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ALPHA, DELTA = 0.1, 0.2
RULE = AuditRule(share=0.1)
LATER = NOON + timedelta(days=2)


def certificate(
    *, groups: tuple[str, ...] = ("sums", "law"), policy: str = "p", **changes: object
) -> Certificate:
    losses = np.zeros((200, 2))
    losses[:3, 1] = 1.0
    found = calibrate(Evidence(losses=losses), alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL)
    terms = Terms(
        policy_hash=policy,
        reference="big",
        label_source=LabelSource.AGREEMENT,
        splits=Splits(fit="a", certify="b"),
        scope=Scope(groups=groups),
        created=NOON,
        lapses_at=NOON + timedelta(days=30),
    )
    return issue(found, replace(terms, **changes))


CERTIFICATE = certificate()


def score(
    quality: float, label: Label = Label.AGREEMENT, *, rung: str | None = "small", **more: object
) -> Score:
    facts = {"request_id": "r", "time": NOON + SECOND} | more
    return Score(quality=quality, label=label, rung=rung, **facts)


def row(
    *scores: Score, number: int = 1, group: str | None = None, **more: object
) -> AuditedRequest:
    facts = {
        "request_id": f"r{number}",
        "time": NOON,
        "rung": "small",
        "reference_rung": "big",
    } | more
    return AuditedRequest(id=number, group=group, scores=scores, **facts)


def stream(losses: np.ndarray, groups: list[str | None]) -> Iterator[AuditedRequest]:
    for i, (loss, group) in enumerate(zip(losses, groups, strict=True), start=1):
        yield row(score(1 - loss), number=i, group=group)


def watched(
    rows: Iterator[AuditedRequest] | list[AuditedRequest], *, now: datetime = LATER
) -> GuardState:
    return watch(fresh(CERTIFICATE), rows, certificate=CERTIFICATE, rule=RULE, now=now)


# -- the promise, simulated ----------------------------------------------------------------------


def test_quiet_runs_rarely_alarm() -> None:
    rng, draw = np.random.default_rng(1), random.Random(1)
    alarms = []
    for _ in range(500):
        groups = draw.choices(["sums", "law", None], k=120)
        state = watched(stream((rng.random(120) < ALPHA).astype(float), groups))
        alarms.append(bool(state.alarm_times))
    assert np.mean(alarms) <= DELTA


def test_a_drift_of_one_group_alarms_in_time_and_only_there() -> None:
    """A quarter of the group's answers turn bad after 50 quiet audits of it."""
    rng, runs, quiet, miss = np.random.default_rng(2), 60, 50, 0.1
    shared = {"alpha": ALPHA, "delta": DELTA / 3, "quiet": quiet}
    limit = delay_limit(0.4, miss=miss, **shared)
    late = elsewhere = 0
    for _ in range(runs):
        sums = np.concatenate([rng.random(quiet) < 0.03, rng.random(limit) < 0.4]).astype(float)
        losses = np.zeros(2 * len(sums))
        losses[::2] = sums
        state = watched(stream(losses, ["sums", "law"] * len(sums)))
        late += "sums" not in state.alarm_times
        elsewhere += bool(state.alarm_times.keys() - {"sums"})
    assert late / runs <= miss + 3 * sqrt(miss * (1 - miss) / runs)
    assert elsewhere == 0


# -- what a loss is ------------------------------------------------------------------------------


def loss(*scores: Score, labels: tuple[Label, ...], **more: object) -> float | None:
    return excess_loss(row(*scores, **more), labels=labels, by=NOON + timedelta(minutes=1))


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ((score(0.0),), (Label.AGREEMENT,), 1.0),
        ((score(0.25, rung=None),), (Label.AGREEMENT,), 0.75),
        ((score(0.0, rung="middle"),), (Label.AGREEMENT,), None),
        ((score(0.0),), (Label.TARGET,), None),
        ((score(0.0, Label.TARGET),), (Label.TARGET,), None),
        ((score(0.2, Label.TARGET), score(0.9, Label.TARGET, rung="big")), (Label.TARGET,), 0.7),
        ((score(1.0, Label.TARGET), score(0.0, Label.TARGET, rung="big")), (Label.TARGET,), 0.0),
        ((score(0.2, Label.TARGET), score(0.9, Label.SCORER, rung="big")), tuple(Label), None),
        ((score(0.4, Label.FEEDBACK, rung=None),), (Label.FEEDBACK,), 0.6),
        ((score(0.0, time=NOON + timedelta(hours=1)),), (Label.AGREEMENT,), None),
        ((score(1.0), score(0.0)), (Label.AGREEMENT,), 0.0),
        ((score(0.0, Label.FEEDBACK), score(1.0)), (Label.AGREEMENT, Label.FEEDBACK), 1.0),
    ],
)  # fmt: skip
def test_a_loss_is_read_from_the_first_labels_that_are_complete(
    scores: tuple[Score, ...], labels: tuple[Label, ...], expected: float | None
) -> None:
    assert loss(*scores, labels=labels) == (
        expected if expected is None else pytest.approx(expected)
    )


def test_the_reference_loses_nothing_against_itself_without_any_label() -> None:
    assert loss(labels=(Label.TARGET,), rung="big") == 0.0


def test_a_promise_about_answered_requests_leaves_the_reference_out() -> None:
    kind = RiskKind.ERROR_AMONG_ANSWERED
    conditional = replace(CERTIFICATE, risk_kind=kind)
    rows = [row(number=1, rung="big"), row(score(0.0), number=2), row(score(1.0), number=3)]
    state = watch(fresh(conditional), rows, certificate=conditional, rule=RULE, now=LATER)
    assert state.monitors is not None
    assert (state.monitors.rest.audits, state.monitors.rest.losses, state.cursor) == (2, 1.0, 3)


# -- the order -----------------------------------------------------------------------------------


def test_a_label_that_may_still_come_holds_up_all_that_follow() -> None:
    rows = [row(score(1.0), number=1), row(number=2), row(score(0.0), number=3)]
    soon = NOON + timedelta(seconds=RULE.label_wait_s)
    early = watched(rows, now=soon)
    assert (early.cursor, early.unlabelled) == (1, 0)
    late = watched(rows, now=soon + timedelta(minutes=2))
    assert (late.cursor, late.unlabelled) == (3, 1)
    assert late.monitors is not None
    assert late.monitors.rest.audits == 2


def test_an_audit_whose_reference_failed_is_not_waited_for() -> None:
    state = watched([row(number=1, reference_failed=True), row(score(1.0), number=2)], now=NOON)
    assert (state.cursor, state.unlabelled) == (2, 1)


def test_feedback_may_still_come_where_the_reference_failed() -> None:
    rule = replace(RULE, labels=(Label.FEEDBACK,))
    rows = [row(number=1, reference_failed=True)]
    state = watch(fresh(CERTIFICATE), rows, certificate=CERTIFICATE, rule=rule, now=NOON)
    assert state.cursor == 0


# -- which labels count --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "risk", "expected"),
    [
        (LabelSource.AGREEMENT, RiskKind.EXCESS_OVER_REFERENCE, (Label.AGREEMENT,)),
        (LabelSource.TARGET, RiskKind.EXCESS_OVER_REFERENCE, (Label.TARGET, Label.AGREEMENT)),
        (LabelSource.TARGET, RiskKind.ERROR_AMONG_ANSWERED, (Label.TARGET, Label.FEEDBACK)),
        (LabelSource.SCORER, RiskKind.EXCESS_OVER_REFERENCE, (Label.SCORER, Label.FEEDBACK)),
        (LabelSource.JUDGE, RiskKind.EXCESS_OVER_REFERENCE, (Label.JUDGE, Label.FEEDBACK)),
    ],
)
def test_agreement_stands_in_only_where_it_bounds_the_loss(
    source: LabelSource, risk: RiskKind, expected: tuple[Label, ...]
) -> None:
    terms = replace(CERTIFICATE.terms, label_source=source)
    made = replace(CERTIFICATE, terms=terms, risk_kind=risk)
    assert watching_labels(made) == expected
    state = watch(fresh(made), [row(score(0.0))], certificate=made, rule=RULE, now=LATER)
    assert state.labels == expected
    assert state.unlabelled == (Label.AGREEMENT not in expected)
    chosen = replace(RULE, labels=(Label.AGREEMENT,))
    assert (
        watch(fresh(made), [row(score(0.0))], certificate=made, rule=chosen, now=LATER).silent == 0
    )


@pytest.mark.parametrize(
    ("source", "chosen", "told"),
    [
        (LabelSource.AGREEMENT, (), None),
        (LabelSource.TARGET, (), "stands in for target"),
        (LabelSource.SCORER, (), "nobody watches the certificate until"),
        (LabelSource.SCORER, (Label.AGREEMENT,), "stands in for scorer"),
    ],
)
def test_an_operator_is_told_at_the_start_what_watches(
    source: LabelSource, chosen: tuple[Label, ...], told: str | None
) -> None:
    made = replace(CERTIFICATE, terms=replace(CERTIFICATE.terms, label_source=source))
    notes = about_audits(made, replace(RULE, labels=chosen))
    assert [str(told) in note for note in notes] == ([] if told is None else [True])


def test_audits_that_never_come_are_told_too() -> None:
    assert about_audits(CERTIFICATE, AuditRule(share=0.0))


@given(
    st.text("aB1 <>/.", max_size=12), st.text("aB1 <>/.", max_size=12), st.text("ab1", max_size=3)
)
@settings(deadline=None)
def test_answers_that_agree_get_the_same_mark_against_a_target(
    answer: str, reference: str, target: str
) -> None:
    """The reason why agreement may stand in for targets: it is never the smaller loss."""
    agreed = agreement(answer, reference)
    if agreed is None:
        return
    for scorer in ("exact", "numeric"):
        ask = {"scorer": scorer, "target": target, "options": {"ignore_case": True}}
        better, mine = mark(reference, **ask).quality, mark(answer, **ask).quality
        assert 1 - agreed >= better - mine


def test_a_guard_whose_audits_get_no_labels_is_blind_until_one_comes() -> None:
    unlabelled = [row(number=i) for i in range(1, BLIND_AFTER + 1)]
    assert not watched(unlabelled[:-1]).blind
    assert watched(unlabelled).blind
    spared = row(number=98, rung="big")
    assert watched([*unlabelled, spared]).blind, "the reference's own answer needs no label"
    assert not watched([*unlabelled, spared, row(score(1.0), number=99)]).blind


# -- with a ledger -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    if server_binaries() is None:
        pytest.skip("no PostgreSQL server binaries here (Debian package postgresql)")
    with postgresql_server() as url:
        yield url


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "suffice.db") as opened:
        yield opened


def book(
    ledger: Ledger, i: int, *, loss: float | None, made: Certificate = CERTIFICATE, **more: object
) -> None:
    """Put one audited request into the ledger, and its score where there is a loss."""
    call = Attempt(rung="small", role=Role.ANSWER, charge=Charge(usd=Decimal("0.001")))
    facts = {
        "time": NOON + i * SECOND,
        "status": Status.OK,
        "rung": "small",
        "group": "sums",
        "audited": True,
        "certificate_id": made.certificate_id,
    }
    entry = Entry(request_id=f"r{i}", reference_rung="big", attempts=(call,), **(facts | more))
    ledger.append(entry)
    if loss is not None:
        ledger.score([score(1 - loss, request_id=entry.request_id, time=entry.time)])


def guard_of(ledger: Ledger, made: Certificate | None = CERTIFICATE, **rule: object) -> Guard:
    return Guard(ledger, made, rule=replace(RULE, **rule))


def bad_times(ledger: Ledger, requests: int = 60) -> None:
    draw = random.Random(3)
    for i in range(requests):
        book(ledger, i, loss=float(draw.random() < 0.5), group=draw.choice(["sums", "sums", "law"]))


def test_an_alarm_closes_its_group_for_good_and_no_other(ledger: Ledger) -> None:
    guard = guard_of(ledger)
    assert not guard.allowed("sums"), "nothing is known before the first look"
    guard.catch_up(now=NOON)
    assert guard.allowed("sums")
    for i in range(60):
        book(ledger, i, loss=1.0 if i < 20 else 0.0)
    state = guard.catch_up(now=LATER)
    assert not guard.allowed("sums")
    assert guard.allowed("law")
    assert guard.allowed(None)
    at = state.monitors.groups["sums"].alarm_at
    assert state.alarm_times == {"sums": NOON + (at - 1) * SECOND}
    again = guard_of(ledger)
    again.catch_up(now=LATER)
    assert not again.allowed("sums"), "a restart does not end an alarm"
    renewed = guard_of(ledger, certificate(policy="p2"))
    renewed.catch_up(now=LATER)
    assert renewed.allowed("sums"), "a new certificate does"


def test_an_alarm_of_the_rest_closes_all(ledger: Ledger) -> None:
    guard = guard_of(ledger)
    for i in range(20):
        book(ledger, i, loss=1.0, group=None)
    guard.catch_up(now=LATER)
    assert not guard.allowed("law")
    assert not guard.allowed(None)


def test_restart_and_neighbour_come_to_the_same_state(ledger: Ledger) -> None:
    steady = guard_of(ledger)
    draw = random.Random(5)
    for i in range(60):
        book(ledger, i, loss=float(draw.random() < 0.2), group=draw.choice(["sums", "law", None]))
        if draw.random() < 0.2:
            steady.catch_up(now=LATER)
    steady.catch_up(now=LATER)
    restarted = guard_of(ledger)
    assert restarted.catch_up(now=LATER) == steady.state
    assert steady.state.monitors is not None
    assert sum(each.audits for each in steady.state.watches) == 60


def test_labels_that_arrive_out_of_order_change_nothing(ledger: Ledger) -> None:
    for i in range(30):
        book(ledger, i, loss=None)
    guard = guard_of(ledger)
    order = random.Random(7).sample(range(30), 30)
    for i in order:
        at = NOON + i * SECOND
        ledger.score([score(float(i % 12 > 0), request_id=f"r{i}", time=at)])
        guard.catch_up(now=NOON)
    ledger.score([score(0.0, request_id="r1", time=NOON + 2 * SECOND)])
    assert guard.catch_up(now=NOON) == guard_of(ledger).catch_up(now=NOON)
    assert guard.state.monitors.groups["sums"].losses == 3


def test_only_answers_that_were_audited_under_the_certificate_count(ledger: Ledger) -> None:
    book(ledger, 1, loss=1.0, audited=False)
    book(ledger, 2, loss=1.0, certificate_id=None)
    book(ledger, 3, loss=1.0, made=certificate(policy="old"))
    book(ledger, 4, loss=1.0, status=Status.CANCELLED)
    book(ledger, 5, loss=1.0)
    state = guard_of(ledger).catch_up(now=LATER)
    assert sum(each.audits for each in state.watches) == 1


def new_schema(url: str, name: str) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{url}&options=-csearch_path%3D{name}"


def test_audited_rows_of_postgresql_are_written_in_turn_and_others_are_not(postgresql: str) -> None:
    with (
        Ledger.open(new_schema(postgresql, "guard_turns")) as ledger,
        psycopg.connect(postgresql) as other,
    ):
        other.execute("SELECT pg_advisory_xact_lock(%s)", [AUDIT_ORDER_LOCK])
        book(ledger, 1, loss=None, audited=False)
        waiting = threading.Thread(target=book, args=(ledger, 2), kwargs={"loss": None})
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        other.rollback()
        waiting.join()
        assert guard_of(ledger).catch_up(now=LATER).unlabelled == 1


def test_writers_of_postgresql_cannot_slip_a_row_in_behind_the_cursor(postgresql: str) -> None:
    """Many writers, and a reader that never looks back: it must have missed nothing."""
    where = new_schema(postgresql, "guard_order")
    with Ledger.open(where) as writer:
        several = [Ledger.open(where) for _ in range(4)]
        work: list[Callable[[], None]] = [
            lambda k=k, one=one: [book(one, 1000 * k + i, loss=0.0) for i in range(30)]
            for k, one in enumerate(several)
        ]
        threads = [threading.Thread(target=each) for each in work]
        guard = guard_of(writer)
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            guard.catch_up(now=NOON)
        assert guard.catch_up(now=NOON) == guard_of(writer).catch_up(now=NOON)
        assert guard.state.monitors.groups["sums"].audits == 120
        for one in several:
            one.close()


# -- who is audited ------------------------------------------------------------------------------


def test_the_draw_follows_share_and_seed_and_nothing_else(ledger: Ledger) -> None:
    ids = [f"chatcmpl-{i}" for i in range(20_000)]
    drawn = {each for each in ids if is_drawn(each, share=0.05, seed=0)}
    assert abs(len(drawn) - 1000) < 4 * sqrt(950)
    assert drawn == {each for each in ids if guard_of(ledger, share=0.05).drawn(each)}
    assert drawn != {each for each in ids if is_drawn(each, share=0.05, seed=1)}
    assert drawn < {each for each in ids if is_drawn(each, share=0.1, seed=0)}
    assert not any(is_drawn(each, share=0.0, seed=0) for each in ids)
    assert all(is_drawn(each, share=1.0, seed=0) for each in ids)


def audit(ledger: Ledger, i: int, usd: str | None, *, at: datetime) -> None:
    book(ledger, i, loss=None)
    charge = Charge(usd=None if usd is None else Decimal(usd))
    ledger.audit(f"r{i}", Attempt(rung="big", role=Role.AUDIT, charge=charge, time=at))


def test_a_spent_budget_pauses_audits_until_midnight_and_says_since_when(ledger: Ledger) -> None:
    guard = guard_of(ledger, share=1.0, usd_per_day=Decimal("0.05"), assumed_usd=Decimal("0.02"))
    audit(ledger, 1, "0.03", at=NOON)
    assert guard.catch_up(now=NOON).paused_since is None
    assert guard.drawn("r9")
    audit(ledger, 2, None, at=NOON + SECOND)
    state = guard.catch_up(now=NOON + 5 * SECOND)
    assert state.paused_since == NOON + SECOND
    assert (state.audit_spend.known_usd, state.audit_spend.unknown_count) == (Decimal("0.03"), 1)
    assert not guard.drawn("r9")
    assert guard.catch_up(now=NOON + timedelta(hours=12)).paused_since is None
    assert guard.drawn("r9")


def test_without_a_certificate_it_draws_and_allows_nobody(ledger: Ledger) -> None:
    guard = guard_of(ledger, None, share=1.0)
    state = guard.catch_up(now=NOON)
    assert guard.drawn("r1")
    assert not guard.allowed(None)
    assert state.watches == ()


@pytest.mark.parametrize("wrong", [{"share": 1.1}, {"share": 0.1, "usd_per_day": Decimal(1)}])
def test_a_rule_that_cannot_be_kept_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        AuditRule(**wrong)


def test_agreement_marks_every_rung_but_not_against_an_empty_answer() -> None:
    answers = {"small": "<answer>Yes</answer>", "middle": "no", "big": "yes"}
    made = list(agreement_scores("r1", answers, reference="big"))
    assert {each.rung: each.quality for each in made} == {"small": 1.0, "middle": 0.0, "big": 1.0}
    assert {each.label for each in made} == {Label.AGREEMENT}
    assert not list(agreement_scores("r1", answers | {"big": " "}, reference="big"))
    assert not list(agreement_scores("r1", {"small": "yes"}, reference="big"))


def test_an_alarm_says_what_it_saw(ledger: Ledger) -> None:
    bad_times(ledger)
    state = guard_of(ledger).catch_up(now=LATER)
    sums = {each.group: each for each in state.watches}["sums"]
    assert sums.alarm_time is not None
    assert sums.wealth >= sums.limit == pytest.approx(3 / DELTA)
    assert 0 < sums.losses <= sums.audits
