"""The ledger keeps what it was given, exactly, in SQLite and in a real PostgreSQL alike."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
import quick_ledgers
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from postgres_server import new_schema

from suffice.errors import InputError, LedgerError
from suffice.ledger import (
    Attempt,
    AuditedCosts,
    Entry,
    Flow,
    Label,
    Ledger,
    ReferenceKnown,
    Role,
    Score,
    Status,
    TokenSum,
    Totals,
    Window,
    audited_costs,
    calls,
    connections,
    entries,
    flow,
    kept_certificates,
    labelled_trials,
    migrations,
    schema,
    scores_of,
    totals,
)
from suffice.ledger.schema import COUNTS
from suffice.ledger.states import (
    State,
    erase_expired,
    erase_state,
    find_state,
    keep_state,
    states_before,
    states_of,
)
from suffice.types import (
    Charge,
    Count,
    CountSource,
    Finish,
    Spend,
    TrialStatus,
    Usage,
    Vector,
)
from suffice.units import picousd, usd_from_picousd

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REPORTED, ESTIMATED = CountSource.REPORTED, CountSource.ESTIMATED
EACH_BACKEND = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Give a function that names a new, empty place for a ledger."""
    if request.param == "sqlite":
        return lambda: str(tmp_path / f"{uuid.uuid4().hex}.db")
    url = request.getfixturevalue("postgresql")
    return lambda: new_schema(url)


@pytest.fixture
def ledger(fresh: Callable[[], str]) -> Iterator[Ledger]:
    with Ledger.open(fresh()) as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "suffice.db"


def attempt(
    rung: str = "low", *, usd: str | None = "0.001", role: Role = Role.ANSWER, **more: object
) -> Attempt:
    charge = Charge(usd=None if usd is None else Decimal(usd), price="p")
    return Attempt(rung=rung, role=role, **({"charge": charge} | more))


def entry(request_id: str = "r1", **more: object) -> Entry:
    facts: dict[str, object] = {
        "time": NOON,
        "status": Status.OK,
        "rung": "low",
        "reference_rung": "high",
        "attempts": (attempt(),),
    }
    return Entry(request_id=request_id, **(facts | more))


def only(ledger: Ledger) -> Totals:
    (found,) = totals(ledger)
    return found


names = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=12
)
times = st.integers(0, 2**51).map(
    lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)
amounts = st.none() | st.integers(-(10**15), 10**18).map(lambda n: Decimal(n).scaleb(-12))
counts = st.none() | st.builds(Count, st.integers(0, 10**12), st.sampled_from(CountSource))
kinds = st.dictionaries(
    names, st.builds(Count, st.integers(0, 10**12), st.sampled_from(CountSource)), max_size=2
)
usages = st.builds(
    Usage,
    **{f"{name}_tokens": counts for name in COUNTS},
    kinds=kinds,
    service_tier=st.none() | names,
    stated_usd=amounts,
)
charges = st.builds(Charge, usd=amounts, estimated=st.booleans(), price=st.none() | names)
reals = st.none() | st.floats(allow_nan=False, allow_infinity=False)
attempted = st.builds(
    Attempt,
    rung=names,
    role=st.sampled_from([Role.ANSWER, Role.DISCARDED]),
    charge=charges,
    usage=usages,
    time=times,
    finish=st.none() | st.sampled_from(Finish),
    duration_s=reals,
    ttft_s=reals,
    mean_logprob=reals,
    effort_seen=st.none() | st.booleans(),
    error=st.none() | names,
    answer=st.none() | names,
    reasoning=st.none() | names,
    samples=st.lists(names, max_size=2).map(tuple),
)
requests_made = st.builds(
    Entry,
    request_id=st.uuids().map(str),
    time=times,
    status=st.sampled_from(Status),
    reference_rung=names,
    attempts=st.lists(attempted, max_size=3).map(tuple),
    rung=st.none() | st.sampled_from(["low", "high"]),
    vector=st.sampled_from(Vector),
    group=st.none() | st.sampled_from(["a", "b"]),
    conversation_id=st.none() | names,
    key_id=st.none() | names,
    audited=st.booleans(),
    reference_usd=amounts,
    reference_known=st.sampled_from(ReferenceKnown),
    certificate_id=st.none() | names,
    error=st.none() | names,
    text=st.none() | names,
)
batches = st.lists(requests_made, max_size=6, unique_by=lambda e: e.request_id)


@EACH_BACKEND
@given(batch=batches)
def test_what_is_appended_comes_back_unchanged(
    fresh: Callable[[], str], batch: list[Entry]
) -> None:
    where = fresh()
    with Ledger.open(where, store_text=True) as ledger:
        ledger.append_many(batch)
    with Ledger.open(where, read_only=True) as again:
        assert list(entries(again)) == batch


@EACH_BACKEND
@given(batch=batches, by=st.sampled_from(["rung", "vector", "group", "status", "day", None]))
def test_totals_equal_the_same_sums_made_in_python(
    fresh: Callable[[], str], batch: list[Entry], by: str | None
) -> None:
    with Ledger.open(fresh()) as ledger:
        ledger.append_many(batch)
        found = {each.key: each for each in totals(ledger, by=by)}
    keys = {None if by is None else column(each, by) for each in batch} or (
        {None} if by is None else set()
    )
    assert set(found) == keys
    for key, sums in found.items():
        mine = [each for each in batch if by is None or column(each, by) == key]
        assert sums.requests == len(mine)
        assert sums.audited == sum(each.audited for each in mine)
        assert {s: n for s, n in sums.statuses.items() if n} == Counter(e.status for e in mine)
        assert sums.spend == apart((e.charge.usd, e.charge.estimated) for e in mine)
        assert sums.reference == apart((e.reference_usd, guessed(e)) for e in mine)
        assert sums.compared == apart(
            (None if difference(e) is None else e.charge.usd, guessed(e) or e.charge.estimated)
            for e in mine
        )
        assert sums.saved == apart((difference(e), guessed(e) or e.charge.estimated) for e in mine)


def column(each: Entry, by: str) -> str | None:
    value = each.time.date().isoformat() if by == "day" else getattr(each, by)
    return None if value is None else str(value)


def guessed(each: Entry) -> bool:
    return each.reference_known is not ReferenceKnown.MEASURED


def difference(each: Entry) -> Decimal | None:
    if each.reference_usd is None or each.charge.usd is None:
        return None
    return each.reference_usd - each.charge.usd


def apart(amounts: Iterator[tuple[Decimal | None, bool]]) -> Spend:
    """Sum in integers of 1e-12 dollars, apart by how the amount is known."""
    sums, numbers, unknown = {True: 0, False: 0}, {True: 0, False: 0}, 0
    for usd, estimated in amounts:
        if usd is None:
            unknown += 1
        else:
            sums[estimated] += int(usd * 10**12)
            numbers[estimated] += 1
    return Spend(
        reported_usd=Decimal(sums[False]) / 10**12,
        estimated_usd=Decimal(sums[True]) / 10**12,
        reported_count=numbers[False],
        estimated_count=numbers[True],
        unknown_count=unknown,
    )


def test_sums_do_not_overflow(ledger: Ledger) -> None:
    millions = attempt(usd="9000000.000000000001")
    ledger.append_many(entry(str(i), attempts=(millions,)) for i in range(5))
    assert only(ledger).spend.reported_usd == Decimal("45000000.000000000005")


def test_discarded_attempts_are_part_of_the_charge_and_audits_are_not(ledger: Ledger) -> None:
    ledger.append(
        entry(
            rung="high",
            attempts=(
                attempt("low", usd="0.001", role=Role.DISCARDED),
                attempt("high", usd="0.02"),
            ),
        )
    )
    ledger.audit("r1", attempt("mid", usd="5", role=Role.AUDIT))
    assert only(ledger).spend.usd == Decimal("0.021")
    by_role = {each.key: each.spend.usd for each in calls(ledger, by="role")}
    assert by_role == {
        "answer": Decimal("0.02"),
        "discarded": Decimal("0.001"),
        "audit": Decimal(5),
    }


def test_a_request_that_reached_no_engine_cost_nothing(ledger: Ledger) -> None:
    ledger.append(entry(status=Status.REFUSED, rung=None, attempts=()))
    assert only(ledger).spend == Spend(reported_count=1)


def test_one_unknown_attempt_makes_the_request_unknown(ledger: Ledger) -> None:
    ledger.append(entry(attempts=(attempt(usd=None, role=Role.DISCARDED), attempt())))
    assert only(ledger).spend == Spend(unknown_count=1)


def test_an_audit_by_the_reference_replaces_the_estimate_by_a_measurement(ledger: Ledger) -> None:
    guess = {"reference_usd": Decimal("0.5"), "reference_known": ReferenceKnown.ESTIMATED}
    ledger.append_many([entry("r1", audited=True, **guess), entry("r2", **guess)])
    ledger.audit("r1", attempt("high", usd="0.25", role=Role.AUDIT))
    ledger.audit("r1", attempt("mid", usd="0.125", role=Role.AUDIT))
    sums = only(ledger)
    assert sums.requests == 2
    assert (sums.reference.reported_usd, sums.reference.estimated_usd) == (
        Decimal("0.25"),
        Decimal("0.5"),
    )
    assert (sums.saved.reported_usd, sums.saved.estimated_usd) == (
        Decimal("0.249"),
        Decimal("0.499"),
    )


def test_an_audit_without_a_charge_leaves_the_estimate_standing(ledger: Ledger) -> None:
    guess = {"reference_usd": Decimal("0.5"), "reference_known": ReferenceKnown.ESTIMATED}
    ledger.append(entry(audited=True, **guess))
    ledger.audit("r1", attempt("high", usd=None, role=Role.AUDIT))
    assert only(ledger).reference == Spend(estimated_usd=Decimal("0.5"), estimated_count=1)


def test_audits_tell_how_far_the_estimates_of_the_reference_are_off(ledger: Ledger) -> None:
    guess = {"reference_usd": Decimal("0.5"), "reference_known": ReferenceKnown.ESTIMATED}
    known = {"reference_usd": Decimal("0.5"), "reference_known": ReferenceKnown.MEASURED}
    audited = [entry(f"r{i}", audited=True, **guess) for i in range(3)]
    ledger.append_many([*audited, entry("r3", **guess), entry("r4", audited=True, **known)])
    assert audited_costs(ledger) == AuditedCosts(audits=0, mean_usd=None, spread_usd=None)
    for i, usd in enumerate(("0.25", "0.5", "0.75")):
        ledger.audit(f"r{i}", attempt("high", usd=usd, role=Role.AUDIT))
        ledger.audit(f"r{i}", attempt("mid", usd="9", role=Role.AUDIT))
    ledger.audit("r4", attempt("high", usd="9", role=Role.AUDIT))
    costs = audited_costs(ledger)
    assert costs.audits == 3
    assert costs.mean_usd == pytest.approx(0.0)
    assert costs.spread_usd == pytest.approx(0.25)


def test_audits_come_back_with_their_request_in_the_order_made(ledger: Ledger) -> None:
    ledger.append(entry())
    for rung in ("mid", "high"):
        ledger.audit("r1", attempt(rung, role=Role.AUDIT, time=NOON + timedelta(seconds=9)))
    (found,) = entries(ledger)
    assert [each.rung for each in found.attempts] == ["low", "mid", "high"]
    assert found.attempts[2].time == NOON + timedelta(seconds=9)
    assert found.charge.usd == Decimal("0.001")


def test_only_audits_come_after_their_request(ledger: Ledger) -> None:
    ledger.append(entry())
    with pytest.raises(InputError, match="role 'answer' cannot be added"):
        ledger.audit("r1", attempt())
    with pytest.raises(LedgerError, match="not in the ledger"):
        ledger.audit("nobody", attempt(role=Role.AUDIT))


def test_tokens_are_summed_apart_by_how_they_are_known(ledger: Ledger) -> None:
    known = Usage(
        input_tokens=Count(10, REPORTED),
        output_tokens=Count(7, REPORTED),
        reasoning_tokens=Count(5, CountSource.COUNTED),
    )
    guess = Usage(input_tokens=Count(4, ESTIMATED), output_tokens=Count(2, ESTIMATED))
    ledger.append_many(
        [
            entry("r1", attempts=(attempt(usage=known),)),
            entry("r2", attempts=(attempt(usage=guess), attempt(usage=known))),
            entry("r3", attempts=(attempt("high", error="timed out"),)),
        ]
    )
    (everything,) = calls(ledger)
    assert (everything.calls, everything.failed) == (4, 1)
    assert everything.input_tokens == TokenSum(reported=20, counted=0, estimated=4, unknown_calls=1)
    assert everything.reasoning_tokens == TokenSum(
        reported=0, counted=10, estimated=0, unknown_calls=2
    )
    assert [(each.key, each.calls) for each in calls(ledger, by="rung")] == [
        ("high", 1),
        ("low", 3),
    ]


def test_the_flow_counts_where_requests_began_and_ended(ledger: Ledger) -> None:
    deferred = (attempt("low", role=Role.DISCARDED), attempt("high"))
    ledger.append_many(
        [
            entry("kept"),
            entry("up", rung="high", attempts=deferred),
            entry("up too", rung="high", attempts=deferred),
            entry("lost", rung=None, status=Status.FAILED, attempts=deferred[:1]),
        ]
    )
    expected = {("low", "low"): 1, ("low", "high"): 2, ("low", None): 1}
    assert {(each.first, each.answered): each.requests for each in flow(ledger)} == expected
    assert all(isinstance(each, Flow) for each in flow(ledger))


def test_a_window_keeps_its_start_and_leaves_out_its_end(ledger: Ledger) -> None:
    moments = [NOON + timedelta(days=day) for day in range(4)]
    ledger.append_many(entry(str(i), time=moment) for i, moment in enumerate(moments))
    window = Window(since=moments[1], until=moments[3])
    assert [each.request_id for each in entries(ledger, window=window)] == ["1", "2"]
    assert [each.key for each in totals(ledger, by="day", window=window)] == [
        "2026-03-02",
        "2026-03-03",
    ]
    assert sum(each.calls for each in calls(ledger, window=window)) == 2
    assert sum(each.requests for each in flow(ledger, window=window)) == 2


def test_more_rows_than_a_page_come_back_once_each(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suffice.ledger.rows._PAGE", 3)
    ledger.append_many(entry(str(i), audited=i % 2 == 0) for i in range(10))
    assert [each.request_id for each in entries(ledger)] == [str(i) for i in range(10)]
    audited = [each.request_id for each in entries(ledger, audited=True)]
    assert audited == ["0", "2", "4", "6", "8"]


def test_text_is_kept_only_when_asked_for(fresh: Callable[[], str]) -> None:
    told = attempt(answer="42", reasoning="6*7=42", samples=("41", "42"))
    spoken = entry(text="my secret", attempts=(told,))
    for store_text in (False, True):
        with Ledger.open(fresh(), store_text=store_text) as ledger:
            ledger.append(spoken)
            (found,) = entries(ledger)
            (made,) = found.attempts
            kept = (found.text, made.answer, made.reasoning, made.samples)
            everything = ("my secret", "42", "6*7=42", ("41", "42"))
            assert kept == (everything if store_text else (None, None, None, ()))


def test_text_that_a_database_cannot_hold_loses_no_row(fresh: Callable[[], str]) -> None:
    odd = "a\0b\ud800c \N{SNOWMAN}"
    with Ledger.open(fresh(), store_text=True) as ledger:
        spoken = (attempt(answer=odd, samples=(odd,), error=odd),)
        ledger.append(entry(text=odd, group=odd, error=odd, attempts=spoken))
        (found,) = entries(ledger)
    kept = "a\ufffdb?c \N{SNOWMAN}"
    assert (found.text, found.group, found.error) == (kept, kept, kept)
    assert (found.attempts[0].answer, found.attempts[0].samples) == (kept, (kept,))


def test_a_request_is_written_once_and_a_batch_wholly_or_not_at_all(ledger: Ledger) -> None:
    ledger.append(entry("r1"))
    with pytest.raises(LedgerError) as refusal:
        ledger.append_many([entry("r2"), entry("r1")])
    assert not refusal.value.retryable
    assert only(ledger).requests == 1
    ledger.append(entry("r2"))
    assert only(ledger).requests == 2


CHANGES = [
    "UPDATE suffice_requests SET charge_picousd = 0",
    "DELETE FROM suffice_requests",
    "UPDATE suffice_attempts SET output_tokens = 0",
    "DELETE FROM suffice_attempts",
    "UPDATE suffice_scores SET quality = 1",
    "DELETE FROM suffice_scores",
    "UPDATE suffice_certificates SET document = ''",
    "DELETE FROM suffice_certificates",
]


def full(ledger: Ledger) -> None:
    ledger.append(entry(audited=True))
    ledger.audit("r1", attempt("high", role=Role.AUDIT))
    ledger.score([Score(request_id="r1", time=NOON, quality=0.5, label=Label.TARGET)])
    ledger.keep_certificate("c1", "{}")


@pytest.mark.parametrize("statement", CHANGES)
def test_the_database_itself_refuses_changes(ledger: Ledger, statement: str) -> None:
    full(ledger)
    with pytest.raises(LedgerError, match="append-only"), ledger.writing() as connection:
        connection.exec_driver_sql(statement)


def test_postgresql_refuses_to_truncate(postgresql: str) -> None:
    with Ledger.open(new_schema(postgresql)) as ledger:
        for table in (*migrations.TABLES, "suffice_certificates"):
            with (
                pytest.raises(LedgerError, match="append-only"),
                ledger.writing() as connection,
            ):
                connection.exec_driver_sql(f"TRUNCATE {table} CASCADE")


@pytest.mark.parametrize(
    ("table", "same"),
    [
        ("suffice_requests", "id = 1"),
        ("suffice_requests", "request_id = 'r1'"),
        ("suffice_attempts", "id = 1"),
        ("suffice_attempts", "ordinal = 0"),
        ("suffice_attempts", "role = 'audit'"),
        ("suffice_scores", "id = 1"),
        ("suffice_certificates", "certificate_id = 'c1'"),
    ],
)
def test_replace_is_refused_too(path: Path, table: str, same: str) -> None:
    with Ledger.open(path) as ledger:
        full(ledger)
        before = list(entries(ledger)), scores_of(ledger)
        with sqlite3.connect(path) as other:
            columns = [row[1] for row in other.execute(f"PRAGMA table_info({table})")]
            fixed = same.split(" = ")[0]
            kept = [name for name in columns if name != "id" or fixed == "id"]
            if fixed == "role":
                chosen = ["99 AS ordinal" if name == "ordinal" else name for name in kept]
            else:
                chosen = kept
            with pytest.raises(sqlite3.IntegrityError, match="already in the ledger"):
                other.execute(
                    f"REPLACE INTO {table} ({', '.join(kept)}) "
                    f"SELECT {', '.join(chosen)} FROM {table} WHERE {same}"
                )
        other.close()
        assert (list(entries(ledger)), scores_of(ledger)) == before


def test_the_tables_are_those_that_the_queries_expect(ledger: Ledger) -> None:
    with ledger.reading() as connection:
        inspector = sa.inspect(connection)
        for table in schema.TABLES:
            found = {each["name"]: each["nullable"] for each in inspector.get_columns(table.name)}
            found.pop("id")
            expected = {c.name: c.nullable for c in table.columns if c.name != "id"}
            assert found == expected


def test_a_view_shows_one_row_for_each_request_in_dollars_and_tokens(ledger: Ledger) -> None:
    used = Usage(input_tokens=Count(10, REPORTED), output_tokens=Count(7, REPORTED))
    spent = (attempt("low", usage=used, role=Role.DISCARDED), attempt("high", usage=used))
    ledger.append(entry(rung="high", attempts=spent, reference_usd=Decimal("0.25")))
    ledger.audit("r1", attempt("mid", role=Role.AUDIT, usage=used))
    ledger.append(entry("r2", attempts=()))
    with ledger.reading() as connection:
        first, second = connection.exec_driver_sql("SELECT * FROM suffice_books ORDER BY id").all()
    assert (first.calls, first.input_tokens, first.output_tokens) == (2, 20, 14)
    assert first.reasoning_tokens is None
    assert float(first.charge_usd) == pytest.approx(0.002)
    assert float(first.reference_usd) == 0.25
    assert float(first.time_s) == NOON.timestamp()
    assert second.input_tokens is None


def test_a_later_score_counts_and_an_earlier_stays_written(ledger: Ledger) -> None:
    ledger.append(entry(audited=True))
    given = [
        Score(request_id="r1", time=NOON, quality=0.0, label=Label.SCORER),
        Score(request_id="r1", time=NOON, quality=1.0, label=Label.FEEDBACK),
        Score(request_id="r1", time=NOON, quality=0.5, label=Label.JUDGE, rung="high"),
    ]
    ledger.score(given)
    assert scores_of(ledger) == {("r1", None): given[1], ("r1", "high"): given[2]}
    assert scores_of(ledger, audited=False) == {}
    with ledger.reading() as connection:
        assert (
            connection.execute(sa.select(sa.func.count()).select_from(schema.scores)).scalar() == 3
        )


@pytest.mark.parametrize("quality", [-0.1, 1.1, float("nan")])
def test_a_quality_outside_its_range_is_refused(ledger: Ledger, quality: float) -> None:
    ledger.append(entry())
    bad = Score(request_id="r1", time=NOON, quality=quality, label=Label.TARGET)
    with pytest.raises(InputError, match=r"quality .* is outside \[0, 1\]"):
        ledger.score([bad])


def test_a_score_needs_a_request(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="not in the ledger"):
        ledger.score([Score(request_id="nobody", time=NOON, quality=1.0, label=Label.TARGET)])


def audited_pair(request_id: str, **more: object) -> Entry:
    return entry(
        request_id,
        audited=True,
        group="g",
        text=f"question {request_id}",
        attempts=(
            attempt(
                "low",
                answer="a",
                reasoning="so a",
                mean_logprob=-0.5,
                finish=Finish.STOP,
                samples=("a", "b"),
            ),
            attempt("high", role=Role.AUDIT, usd="0.02", answer="b"),
        ),
        **more,
    )


def test_audited_and_scored_requests_become_trials(fresh: Callable[[], str]) -> None:
    with Ledger.open(fresh(), store_text=True) as ledger:
        ledger.append_many([audited_pair("r1"), audited_pair("r2"), entry("not audited")])
        ledger.score(
            [
                Score(request_id="r1", time=NOON, quality=0.25, label=Label.TARGET),
                Score(request_id="r1", time=NOON, quality=1.0, label=Label.TARGET, rung="high"),
                Score(request_id="not audited", time=NOON, quality=1, label=Label.FEEDBACK),
            ]
        )
        found = labelled_trials(ledger)
    quality = {(t.request_id, t.rung): (t.status, t.quality) for t in found.trials}
    assert quality == {
        ("r1", "low"): (TrialStatus.SCORED, 0.25),
        ("r1", "high"): (TrialStatus.SCORED, 1.0),
        ("r2", "low"): (TrialStatus.UNSCORED, None),
        ("r2", "high"): (TrialStatus.UNSCORED, None),
    }
    assert (found.audited, found.unscored, found.without_text) == (2, 2, 0)
    assert found.labels == (Label.TARGET,)
    low = found.trials[0]
    assert (low.text, low.group, low.answer, low.samples) == ("question r1", "g", "a", ("a", "b"))
    assert low.reasoning == "so a"
    assert (low.mean_logprob, low.finish, low.charge_usd) == (-0.5, Finish.STOP, Decimal("0.001"))


def test_a_failed_attempt_is_a_failed_trial(fresh: Callable[[], str]) -> None:
    with Ledger.open(fresh(), store_text=True) as ledger:
        broken = replace(audited_pair("r1"), attempts=(attempt(error="reset"),))
        ledger.append(broken)
        ledger.score([Score(request_id="r1", time=NOON, quality=1.0, label=Label.TARGET)])
        (trial,) = labelled_trials(ledger).trials
    assert (trial.status, trial.quality, trial.error) == (TrialStatus.FAILED, None, "reset")


def test_an_abstention_is_a_trial_worth_nothing_however_it_is_scored(
    fresh: Callable[[], str],
) -> None:
    declined = attempt(answer=None, finish=Finish.ABSTAINED, role=Role.DISCARDED)
    with Ledger.open(fresh(), store_text=True) as ledger:
        ledger.append(replace(audited_pair("r1"), attempts=(declined, attempt("high"))))
        ledger.score([Score(request_id="r1", time=NOON, quality=1.0, label=Label.TARGET)])
        low, _ = labelled_trials(ledger).trials
    assert (low.status, low.quality, low.finish) == (TrialStatus.SCORED, 0.0, Finish.ABSTAINED)


def test_without_audits_or_text_there_are_no_trials_and_it_says_so(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="has no audited requests"):
        labelled_trials(ledger)
    ledger.append(audited_pair("r1"))
    with pytest.raises(LedgerError, match="has 1 audited requests but not the text of any") as no:
        labelled_trials(ledger)
    assert "store_text" in str(no.value.hint)


def test_a_newer_ledger_is_left_alone(fresh: Callable[[], str]) -> None:
    where = fresh()
    with Ledger.open(where) as ledger, ledger.writing() as connection:
        connection.exec_driver_sql("INSERT INTO suffice_migrations VALUES (999, 0)")
    for read_only in (False, True):
        with pytest.raises(LedgerError, match="ledger version 999; this suffice reads up to"):
            Ledger.open(where, read_only=read_only)


def with_step(monkeypatch: pytest.MonkeyPatch, *statements: str) -> int:
    version = migrations.MIGRATIONS[-1].version + 1
    step = migrations.Migration(version=version, statements=statements)
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, step))
    return version


def test_an_older_ledger_is_upgraded_once_and_keeps_its_rows(
    fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = fresh()
    with Ledger.open(where) as ledger:
        ledger.append(entry())
    version = with_step(monkeypatch, "CREATE TABLE suffice_extra (id INTEGER)")
    with pytest.raises(LedgerError, match="is an older ledger"):
        Ledger.open(where, read_only=True)
    for _ in range(2):
        with Ledger.open(where) as ledger:
            assert [each.request_id for each in entries(ledger)] == ["r1"]
            with ledger.reading() as connection:
                assert migrations.version_of(connection, where=where) == version


def test_a_ledger_from_before_reasoning_was_kept_takes_it_up(
    fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = fresh()
    with monkeypatch.context() as then:
        then.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:2])
        Ledger.open(where).close()
    with Ledger.open(where, store_text=True) as ledger:
        ledger.append(entry(attempts=(attempt(answer="42", reasoning="6*7=42"),)))
        (found,) = entries(ledger)
    assert found.attempts[0].reasoning == "6*7=42"


def test_a_step_that_fails_leaves_the_ledger_as_it_was(
    fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = fresh()
    with Ledger.open(where) as ledger:
        ledger.append(entry())
    with monkeypatch.context() as broken:
        with_step(broken, "CREATE TABLE suffice_extra (id INTEGER)", "CREATE TABLE nonsense (")
        with pytest.raises((LedgerError, sa.exc.DBAPIError)):
            Ledger.open(where)
    with Ledger.open(where) as ledger, ledger.reading() as connection:
        assert "suffice_extra" not in sa.inspect(connection).get_table_names()
        assert only(ledger).requests == 1


def test_threads_opening_a_new_ledger_at_once_make_one(fresh: Callable[[], str]) -> None:
    where, barrier, failures = fresh(), threading.Barrier(4), []

    def work(name: str) -> None:
        barrier.wait()
        try:
            with Ledger.open(where) as ledger:
                for i in range(10):
                    ledger.append(entry(f"{name}-{i}"))
        except LedgerError as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(str(n),)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
    with Ledger.open(where, read_only=True) as ledger:
        assert only(ledger).requests == 40


def test_a_database_of_something_else_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="is a SQLite database but not a ledger"):
        Ledger.open(path, read_only=True)
    with pytest.raises(LedgerError, match="is a SQLite database but not a ledger"):
        Ledger.open(path)
    assert sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall() == [
        ("recipes",)
    ]
    assert len(path.read_bytes()) == len(before)


@pytest.mark.parametrize("damage", [b"not a database at all\n" * 100, None])
def test_a_damaged_file_is_named_so(path: Path, damage: bytes | None) -> None:
    with Ledger.open(path) as ledger:
        ledger.append_many(entry(str(i)) for i in range(200))
    whole = path.read_bytes()
    path.write_bytes(damage or whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(LedgerError, match="damaged") as refusal, Ledger.open(path) as ledger:
        list(entries(ledger))
    assert not refusal.value.retryable
    assert refusal.value.hint


def test_reading_makes_no_ledger(path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger"):
        Ledger.open(path, read_only=True)
    assert not path.exists()
    path.touch()
    with pytest.raises(LedgerError, match="holds no ledger"):
        Ledger.open(path, read_only=True)


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be opened") as refusal:
        Ledger.open(tmp_path / "nowhere" / "suffice.db")
    assert "folder" in str(refusal.value.hint)


def test_a_ledger_opened_for_reading_cannot_be_written(path: Path) -> None:
    Ledger.open(path).close()
    ledger = Ledger.open(path, read_only=True)
    with ledger, pytest.raises(LedgerError, match="may not be written") as refusal:
        ledger.append(entry())
    assert not refusal.value.retryable


def test_a_held_ledger_can_be_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BUSY_TIMEOUT_S", 0.05)
    with Ledger.open(path) as ledger:
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="another process holds it") as refusal:
            ledger.append(entry())
        assert refusal.value.retryable
        holder.execute("ROLLBACK")
        holder.close()
        ledger.append(entry())
        assert only(ledger).requests == 1


def test_readers_do_not_wait_for_a_writer(path: Path) -> None:
    with Ledger.open(path) as ledger, ledger.writing():
        assert only(ledger).requests == 0


@pytest.mark.parametrize(("fsync", "level"), [(False, 1), (True, 2)])
def test_fsync_asks_for_power_loss_safety(path: Path, fsync: bool, level: int) -> None:
    with Ledger.open(path, fsync=fsync) as ledger, ledger.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == level
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


WRITER = """
import itertools, sys
from datetime import UTC, datetime
from suffice.ledger import Entry, Ledger, Status
ledger = Ledger.open(sys.argv[1])
for i in itertools.count():
    ledger.append(
        Entry(request_id=str(i), time=datetime.now(UTC), status=Status.OK, reference_rung="high")
    )
    print(i, flush=True)
"""


def test_every_row_that_append_returned_for_survives_a_kill(path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) == 200:
            writer.send_signal(signal.SIGKILL)
            break
    last = [200, *(int(line) for line in writer.stdout if line.endswith("\n"))][-1]
    assert writer.wait() == -signal.SIGKILL
    writer.stdout.close()
    with Ledger.open(path) as ledger:
        kept = [each.request_id for each in entries(ledger)]
        assert kept[: last + 1] == [str(i) for i in range(last + 1)]
        ledger.append(entry("after"))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "tiny"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    mounted = os.getuid() == 0 and not subprocess.run(mount, check=False).returncode
    if not mounted:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(ledger: Ledger) -> tuple[int, LedgerError]:
    """Append until the ledger refuses; returns how many it took, and why it stopped."""
    for i in range(100_000):
        try:
            ledger.append(entry(f"filler {i} {'x' * 200}"))
        except LedgerError as error:
            return i, error
    raise AssertionError("the disk never filled")


def test_a_full_disk_refuses_the_row_and_loses_none(tiny_disk: Path) -> None:
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes(100_000))
    with Ledger.open(tiny_disk / "suffice.db") as ledger:
        taken, refusal = fill(ledger)
        assert taken > 0
        assert refusal.retryable
        assert "disk" in refusal.message
        assert only(ledger).requests == taken
        ballast.unlink()
        ledger.append(entry("after"))
        assert only(ledger).requests == taken + 1


def test_a_database_at_its_size_limit_is_a_full_disk(path: Path) -> None:
    with Ledger.open(path) as ledger:
        sa.event.listen(
            ledger._engine,
            "checkout",
            lambda raw, _record, _proxy: raw.execute("PRAGMA max_page_count = 60"),
        )
        taken, refusal = fill(ledger)
        assert (refusal.retryable, "the disk is full" in refusal.message) == (True, True)
        assert only(ledger).requests == taken


def test_a_lost_connection_can_be_tried_again(postgresql: str) -> None:
    with Ledger.open(new_schema(postgresql)) as ledger:
        ledger.append(entry("r1"))
        with psycopg.connect(postgresql) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        with pytest.raises(LedgerError) as refusal:
            ledger.append(entry("r2"))
        assert refusal.value.retryable
        ledger.append(entry("r2"))
        assert only(ledger).requests == 2


def test_a_connection_that_cannot_be_made_is_an_error_of_the_ledger(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    with Ledger.open(folder / "suffice.db") as ledger:
        ledger.close()
        shutil.rmtree(folder)
        with pytest.raises(LedgerError, match="cannot be opened"):
            ledger.append(entry("r1"))


def test_errors_never_show_a_password(tmp_path: Path) -> None:
    where = f"postgresql://me:hunter2@/books?host={tmp_path}"
    with pytest.raises(LedgerError) as refusal:
        Ledger.open(where)
    assert refusal.value.retryable
    assert "hunter2" not in str(refusal.value)
    with pytest.raises(LedgerError, match="no ledger can be kept in") as refusal:
        Ledger.open("mysql://me:hunter2@host/books")
    assert "hunter2" not in str(refusal.value)
    with pytest.raises(LedgerError, match="cannot be read"):
        Ledger.open("://nonsense")


def test_a_sqlite_url_is_a_path(path: Path) -> None:
    with Ledger.open(f"sqlite:///{path}") as ledger:
        ledger.append(entry())
    with Ledger.open(path, read_only=True) as ledger:
        assert only(ledger).requests == 1


@given(st.integers(-(2**62), 2**62))
def test_dollars_become_picodollars_and_back_exactly(amount: int) -> None:
    assert picousd(usd_from_picousd(amount)) == amount


def test_a_certificate_is_kept_once_by_however_many_writers(fresh: Callable[[], str]) -> None:
    where = fresh()
    with Ledger.open(where) as one, Ledger.open(where) as other:
        for ledger, name in ((one, "b"), (other, "b"), (other, "a"), (one, "a")):
            ledger.keep_certificate(name, f"{name} kept")
        assert kept_certificates(one) == ("b kept", "a kept")


def test_a_finer_amount_goes_to_the_nearest_picodollar_and_halves_to_even() -> None:
    halves = [Decimal(n).scaleb(-13) for n in (4, 5, 6, 15, 25)]
    assert [picousd(half) for half in halves] == [0, 0, 1, 2, 2]


# -- what clients ask to be kept, beside the books


def state(name: str, **fields: object) -> State:
    return State(**{"state_id": name, "key_id": "a", "time": NOON, "body": "{}"} | fields)


def test_going_on_gives_all_before_the_time_of_the_newest(ledger: Ledger) -> None:
    keep_state(ledger, state("r1"), ttl_s=100)
    later = NOON + timedelta(seconds=90)
    keep_state(ledger, state("r2", previous_id="r1", time=later), ttl_s=100)
    keep_state(ledger, state("lone"), ttl_s=100)
    at = NOON + timedelta(seconds=150)
    names = [row.state_id for row in states_before(ledger, "r2", key_id="a", now=at)]
    assert names == ["r1", "r2"]
    assert find_state(ledger, "lone", key_id="a", now=at) is None
    assert erase_expired(ledger, now=at) == 1
    assert states_before(ledger, "r2", key_id=None, now=at) == []
    end = NOON + timedelta(seconds=190)
    assert states_before(ledger, "r2", key_id="a", now=end) == []


def test_erasing_a_conversation_erases_what_it_holds_of_this_key_alone(ledger: Ledger) -> None:
    keep_state(ledger, state("c"), ttl_s=100)
    keep_state(ledger, state("i", conversation_id="c"), ttl_s=100)
    assert not erase_state(ledger, "c", key_id="b")
    assert len(states_of(ledger, "c", key_id="a", now=NOON)) == 1
    assert erase_state(ledger, "c", key_id="a")
    assert states_of(ledger, "c", key_id="a", now=NOON) == []


# -- marks of one kind


def score_as(label: Label, rung: str | None, quality: float, *, request_id: str = "r1") -> Score:
    return Score(request_id=request_id, time=NOON, quality=quality, label=label, rung=rung)


@pytest.mark.parametrize(
    ("said", "qualities", "labels"),
    [
        ([("agreement", "low", 0), ("agreement", "high", 1), ("feedback", None, 1)], [0, 1],
         (Label.AGREEMENT,)),
        ([("agreement", "low", 0), ("agreement", "high", 1), ("target", "low", 1)], [0, 1],
         (Label.AGREEMENT,)),
        ([("agreement", "low", 0), ("agreement", "high", 1), ("target", "low", 1),
          ("target", "high", 1)], [1, 1], (Label.TARGET,)),
        ([("feedback", None, 1)], [1, None], (Label.FEEDBACK,)),
        ([("scorer", "high", 1), ("feedback", None, 1)], [None, 1], (Label.SCORER,)),
    ],
)  # fmt: skip
def test_answers_are_compared_by_one_kind_of_mark_and_feedback_replaces_none(
    fresh: Callable[[], str],
    said: list[tuple[str, str | None, float]],
    qualities: list[float | None],
    labels: tuple[Label, ...],
) -> None:
    with Ledger.open(fresh(), store_text=True) as ledger:
        ledger.append(audited_pair("r1"))
        ledger.score([score_as(Label(kind), rung, quality) for kind, rung, quality in said])
        found = labelled_trials(ledger)
    assert [trial.quality for trial in found.trials] == qualities
    assert found.labels == labels


def test_feedback_from_the_well_disposed_fills_no_gap_that_others_left(
    fresh: Callable[[], str],
) -> None:
    with Ledger.open(fresh(), store_text=True) as ledger:
        ledger.append_many([audited_pair("r1"), audited_pair("r2")])
        ledger.score([score_as(Label.SCORER, rung, 0.0) for rung in ("low", "high")])
        ledger.score([score_as(Label.FEEDBACK, None, 1.0, request_id="r2")])
        found = labelled_trials(ledger)
    assert [trial.quality for trial in found.trials] == [0.0, 0.0, None, None]


def test_ledgers_of_tests_are_those_that_the_migrations_make(tmp_path: Path) -> None:
    dumps = []
    for migrate in (quick_ledgers.migrate, quick_ledgers.migrate_quickly):
        path = tmp_path / f"{migrate.__name__}.db"
        engine = sa.create_engine(f"sqlite:///{path}")
        with engine.begin() as connection:
            migrate(connection, where="here", now_us=0)
        engine.dispose()
        with closing(sqlite3.connect(path)) as database:
            dumps.append(list(database.iterdump()))
    assert dumps[0] == dumps[1]
    assert len(dumps[0]) > 40
