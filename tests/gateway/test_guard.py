"""The guard sounds when the risk has risen and rarely else, and all readers of a ledger agree."""

import random
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from math import sqrt
from pathlib import Path

import numpy as np
import psycopg
import pytest
from guard_support import (
    ALPHA,
    CERTIFICATE,
    DELTA,
    LATER,
    NOON,
    RULE,
    SECOND,
    book,
    certificate,
    score,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from postgres_server import new_schema

from suffice.certify.bundle import Bundle
from suffice.certify.bundling import Certification
from suffice.errors import InputError
from suffice.features.groups import learn_text_groups
from suffice.gateway.server import about_audits
from suffice.guarantee import (
    Certificate,
    LabelSource,
    RiskKind,
    Scope,
    delay_limit,
)
from suffice.ledger import Attempt, AuditedRequest, Label, Ledger, Role, Score, Status
from suffice.ledger.migrations import AUDIT_ORDER_LOCK
from suffice.scoring.audit_rule import AuditRule, share_within
from suffice.scoring.audits import agreement_scores, audited_loss, is_drawn, watching_labels
from suffice.scoring.guard import Guard
from suffice.scoring.guard_state import BLIND_AFTER, GuardState, fresh, watch
from suffice.scoring.labels import agreement
from suffice.scoring.scorers import mark
from suffice.types import Charge


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


@pytest.mark.slow
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
    shared = {"alpha": ALPHA, "delta": DELTA / 4, "quiet": quiet}
    limit = delay_limit(0.4, miss=miss, **shared)
    late = elsewhere = 0
    for _ in range(runs):
        sums = np.concatenate([rng.random(quiet) < 0.03, rng.random(limit) < 0.4]).astype(float)
        losses = np.zeros(2 * len(sums))
        losses[::2] = sums
        state = watched(stream(losses, ["sums", "law"] * len(sums)))
        late += "sums" not in state.alarm_times
        elsewhere += bool(state.alarm_times.keys() - {"sums", None})
    assert late / runs <= miss + 3 * sqrt(miss * (1 - miss) / runs)
    assert elsewhere == 0


# -- what a loss is ------------------------------------------------------------------------------


def loss(
    *scores: Score,
    labels: tuple[Label, ...],
    kind: RiskKind = RiskKind.EXCESS_OVER_REFERENCE,
    final: bool = False,
    **more: object,
) -> float | None:
    by = NOON + timedelta(minutes=1)
    return audited_loss(row(*scores, **more), kind, labels=labels, by=by, final=final)


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
        ((score(0.0, Label.FEEDBACK), score(1.0)), (Label.AGREEMENT, Label.FEEDBACK), 0.0),
        ((score(0.0, Label.FEEDBACK),), (Label.AGREEMENT, Label.FEEDBACK), None),
    ],
)  # fmt: skip
def test_a_loss_is_read_from_the_first_labels_that_are_complete(
    scores: tuple[Score, ...], labels: tuple[Label, ...], expected: float | None
) -> None:
    assert loss(*scores, labels=labels) == (
        expected if expected is None else pytest.approx(expected)
    )


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ((score(0.2, Label.FEEDBACK),), (Label.SCORER, Label.FEEDBACK), 0.8),
        ((score(0.9, Label.SCORER, rung="big"),), (Label.SCORER,), 0.9),
        ((score(0.9, Label.SCORER),), (Label.SCORER,), None),
        ((score(0.9, Label.SCORER, rung="big"), score(1.0, Label.FEEDBACK)), tuple(Label), 0.9),
        ((), (Label.SCORER, Label.FEEDBACK), None),
    ],
)
def test_once_no_label_is_waited_for_what_is_missing_counts_against_the_answer(
    scores: tuple[Score, ...], labels: tuple[Label, ...], expected: float | None
) -> None:
    """Feedback counts where nothing else came; an answer no scorer could mark is worth nothing."""
    assert loss(*scores, labels=labels) is None
    assert loss(*scores, labels=labels, final=True) == (
        expected if expected is None else pytest.approx(expected)
    )


def test_a_net_loss_may_be_a_gain() -> None:
    better = (score(0.9, Label.TARGET), score(0.2, Label.TARGET, rung="big"))
    assert loss(*better, labels=(Label.TARGET,), kind=RiskKind.NET_LOSS) == pytest.approx(-0.7)
    assert loss(*better, labels=(Label.TARGET,)) == 0.0


def test_the_reference_loses_nothing_against_itself_without_any_label() -> None:
    assert loss(labels=(Label.TARGET,), rung="big") == 0.0


def test_a_promise_about_answered_requests_leaves_the_reference_out() -> None:
    kind = RiskKind.ERROR_AMONG_ANSWERED
    conditional = replace(CERTIFICATE, risk_kind=kind)
    rows = [row(number=1, rung="big"), row(score(0.0), number=2), row(score(1.0), number=3)]
    state = watch(fresh(conditional), rows, certificate=conditional, rule=RULE, now=LATER)
    assert state.monitors is not None
    assert (state.monitors.pooled.audits, state.monitors.pooled.losses, state.cursor) == (2, 1.0, 3)


def test_spared_requests_wait_for_the_label_of_the_next_cheap_answer() -> None:
    spared = [row(number=i, rung="big") for i in range(1, 10)]
    assert watched(spared).monitors.pooled.audits == 0
    unlabelled = watched([*spared, row(number=10)])
    assert (unlabelled.monitors.pooled.audits, unlabelled.unlabelled) == (0, 1)
    labelled = watched([*spared, row(score(0.0), number=10)])
    assert (labelled.monitors.pooled.audits, labelled.monitors.pooled.losses) == (10, 1.0)


def test_labels_for_a_tenth_of_cheap_answers_do_not_hide_a_risk_that_has_doubled() -> None:
    rng, alarms = np.random.default_rng(7), []
    limit = delay_limit(2 * ALPHA, alpha=ALPHA, delta=DELTA / 2, miss=0.1)
    for _ in range(20):
        rows = []
        for i in range(12 * limit):
            cheap, lost, told = rng.random(3) < (0.5, 4 * ALPHA, 0.1)
            marks = (score(1.0 - lost),) if cheap and told else ()
            rows.append(row(*marks, number=i + 1, rung="small" if cheap else "big"))
        alarms.append(None in watched(rows).alarm_times)
    assert np.mean(alarms) >= 0.8


# -- the order -----------------------------------------------------------------------------------


def test_a_label_that_may_still_come_holds_up_all_that_follow() -> None:
    rows = [row(score(1.0), number=1), row(number=2), row(score(0.0), number=3)]
    soon = NOON + timedelta(seconds=RULE.label_wait_s)
    early = watched(rows, now=soon)
    assert (early.cursor, early.unlabelled) == (1, 0)
    late = watched(rows, now=soon + timedelta(minutes=2))
    assert (late.cursor, late.unlabelled) == (3, 1)
    assert late.monitors is not None
    assert late.monitors.pooled.audits == 2


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
        (LabelSource.TARGET, RiskKind.NET_LOSS, (Label.TARGET,)),
        (LabelSource.AGREEMENT, RiskKind.NET_LOSS, (Label.AGREEMENT,)),
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


def test_an_operator_is_told_at_the_start_what_an_unchanged_client_gets(
    settled: Certification,
) -> None:
    policy = settled.certified.policy
    [note] = Bundle(policy=policy, certificate=CERTIFICATE).about_groups()
    assert "sums, law" in note
    assert "x-suffice-group" in note
    assert Bundle(policy=policy, certificate=certificate(groups=())).about_groups() == []
    told = learn_text_groups(["add", "sue"], ["sums", "law"])
    [note] = Bundle(
        policy=replace(policy, text_groups=told), certificate=CERTIFICATE
    ).about_groups()
    assert "need not change" in note


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


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "suffice.db") as opened:
        yield opened


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
    for i in range(480):
        group = "law" if i % 8 else "sums"
        book(ledger, i, loss=float(group == "sums" and i % 24 == 0), group=group)
    state = guard.catch_up(now=LATER)
    assert not guard.allowed("sums")
    assert guard.allowed("law")
    assert guard.allowed(None)
    at = state.monitors.groups["sums"].alarm_at
    assert state.alarm_times == {"sums": NOON + 8 * (at - 1) * SECOND}
    again = guard_of(ledger)
    again.catch_up(now=LATER)
    assert not again.allowed("sums"), "a restart does not end an alarm"
    renewed = guard_of(ledger, certificate(policy="p2"))
    renewed.catch_up(now=LATER)
    assert renewed.allowed("sums"), "a new certificate does"


def test_a_pooled_alarm_closes_all(ledger: Ledger) -> None:
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
    assert steady.state.monitors.pooled.audits == 60


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
    book(ledger, 4, loss=1.0, status=Status.FAILED)
    book(ledger, 5, loss=1.0)
    assert guard_of(ledger).catch_up(now=LATER).monitors.pooled.audits == 1


def test_an_answer_that_the_client_cut_off_counts_for_the_rung_that_gave_it(ledger: Ledger) -> None:
    book(ledger, 1, loss=1.0, status=Status.CANCELLED, rung=None)
    nothing = Attempt(rung="small", role=Role.DISCARDED, charge=Charge(usd=None))
    book(ledger, 2, loss=1.0, status=Status.CANCELLED, rung=None, attempts=(nothing,))
    state = guard_of(ledger).catch_up(now=LATER)
    assert (state.monitors.pooled.audits, state.monitors.pooled.losses) == (1, 1.0)


def test_audited_rows_of_postgresql_are_written_in_turn_and_others_are_not(postgresql: str) -> None:
    with (
        Ledger.open(new_schema(postgresql)) as ledger,
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
    where = new_schema(postgresql)
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
    book(ledger, 0, loss=None, time=NOON - timedelta(days=1), audited=False)
    audit(ledger, 1, "0.03", at=NOON)
    assert guard.catch_up(now=NOON).paused_since is None
    assert any(guard.drawn(f"x{i}") for i in range(50))
    audit(ledger, 2, None, at=NOON + SECOND)
    state = guard.catch_up(now=NOON + 5 * SECOND)
    assert state.paused_since == NOON + SECOND
    assert (state.audit_spend.known_usd, state.audit_spend.unknown_count) == (Decimal("0.03"), 1)
    assert not any(guard.drawn(f"x{i}") for i in range(50))
    assert guard.catch_up(now=NOON + timedelta(hours=12)).paused_since is None
    assert any(guard.drawn(f"x{i}") for i in range(50))


BUDGET = AuditRule(share=0.5, usd_per_day=Decimal(1), assumed_usd=Decimal("0.01"))


def a_day_of_traffic(ledger: Ledger) -> None:
    """Five requests an hour at night, fifty by day; the first one audited, for a cent."""
    audit(ledger, 0, "0.01", at=NOON - timedelta(days=1))
    for hour in range(1, 25):
        at = NOON - timedelta(days=1) + timedelta(hours=hour, minutes=-1)
        for i in range(50 if 8 <= at.hour < 20 else 5):
            book(ledger, 100 * hour + i, loss=None, time=at, audited=False)


def test_a_budget_is_spread_over_the_requests_of_the_day(ledger: Ledger) -> None:
    """A hundred audits are paid for, and so many of yesterday's requests are still to come."""
    a_day_of_traffic(ledger)
    shares = {}
    for hour, left_usd in [(12, 1), (18, 1), (18, "0.1"), (23, 1), (18, 0)]:
        now = NOON.replace(hour=hour)
        share = share_within(ledger, BUDGET, left_usd=Decimal(left_usd), now=now)
        shares[hour, str(left_usd)] = share
    still_to_come = {12: 8 * 50 + 4 * 5, 18: 2 * 50 + 4 * 5, 23: 5}
    assert shares[12, "1"] == pytest.approx(100 / still_to_come[12], rel=0.05)
    assert shares[18, "1"] == pytest.approx(100 / still_to_come[18], rel=0.05)
    assert shares[18, "0.1"] == pytest.approx(10 / still_to_come[18], rel=0.05)
    assert (shares[23, "1"], shares[18, "0"]) == (1.0, 0.0)


def test_a_young_ledger_is_paced_by_the_hours_it_has_seen(ledger: Ledger) -> None:
    for i in range(200):
        book(ledger, i, loss=None, time=NOON + i * SECOND, audited=False)
    now = NOON + timedelta(minutes=10)
    share = share_within(ledger, BUDGET, left_usd=Decimal(1), now=now)
    assert share == pytest.approx(100 / (200 * (12 - 1 / 6)), rel=0.01)


def test_the_pace_is_set_anew_every_minute_and_never_above_the_share(ledger: Ledger) -> None:
    guard = Guard(ledger, CERTIFICATE, rule=BUDGET)
    assert guard.catch_up(now=NOON).share == BUDGET.share
    for i in range(2000):
        book(ledger, i, loss=None, time=NOON + SECOND, audited=False)
    assert guard.catch_up(now=NOON + 30 * SECOND).share == BUDGET.share
    paced = guard.catch_up(now=NOON + 61 * SECOND).share
    assert paced == pytest.approx(100 / (2000 * 12), rel=0.02)
    drawn = sum(guard.drawn(f"x{i}") for i in range(20_000))
    assert abs(drawn - 20_000 * paced) < 4 * sqrt(20_000 * paced)


def test_a_session_is_watched_once_where_the_certificate_is_about_sessions(ledger: Ledger) -> None:
    for i in range(40):
        book(ledger, i, loss=1.0 if i < 20 else 0.0, conversation_id=f"c{i // 20}", group=None)
    rows = replace(CERTIFICATE, largest=1)
    assert guard_of(ledger, rows).catch_up(now=LATER).monitors.pooled.alarm_at is not None
    sessions = replace(CERTIFICATE, largest=20)
    guard = guard_of(ledger, sessions, share=1.0)
    state = guard.catch_up(now=LATER)
    assert (state.monitors.pooled.audits, state.monitors.pooled.losses) == (2, 1.0)
    assert state.share == 1 / 20
    book(ledger, 40, loss=1.0, conversation_id="c1", group=None)
    book(ledger, 41, loss=1.0, conversation_id="c2", group=None)
    assert guard.catch_up(now=LATER).monitors.pooled.audits == 3


def test_a_group_is_watched_against_what_was_promised_of_it(ledger: Ledger) -> None:
    scope = Scope(groups=("sums", "law"), promised={"sums": 0.6, "law": 1.0})
    made = certificate(scope=scope)
    state = fresh(made)
    assert {name: one.alpha for name, one in state.monitors.groups.items()} == {"sums": 0.6}
    assert state.monitors.pooled.alpha == ALPHA
    assert [each.alpha for each in state.watches] == [0.6, ALPHA]


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
    assert sums.wealth >= sums.limit == pytest.approx(4 / DELTA)
    assert 0 < sums.losses <= sums.audits
