"""A certificate takes over alarms of the requests it rests on, and audits of those it renews."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from guard_support import ALPHA, LATER, NOON, RULE, book, certificate
from msgspec.structs import replace

from suffice.guarantee import Certificate, Lineage, sketch_of
from suffice.ledger import Ledger, kept_certificates
from suffice.scoring.guard import Guard, alarms_of
from suffice.scoring.guard_state import GuardState

TRIALS = [f"t{i}" for i in range(400)]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "suffice.db") as opened:
        yield opened


def made(policy: str, *, ids: list[str] = TRIALS, carries: tuple[str, ...] = ()) -> Certificate:
    lineage = Lineage(sketch=sketch_of(ids), carries=carries)
    return certificate(groups=(), policy=policy, lineage=lineage)


def watch(ledger: Ledger, served: Certificate) -> Guard:
    guard = Guard(ledger, served, rule=RULE)
    guard.begin()
    guard.catch_up(now=LATER)
    return guard


def state_of(ledger: Ledger, served: Certificate) -> GuardState:
    return watch(ledger, served).state


def alarm(ledger: Ledger, served: Certificate, *, first: int = 0) -> None:
    for i in range(first, first + 20):
        book(ledger, i, loss=1.0, group=None, made=served)
    assert not watch(ledger, served).allowed(None)


def test_certifying_the_same_trials_again_ends_no_alarm(ledger: Ledger) -> None:
    first = made("p")
    watch(ledger, first)
    alarm(ledger, first)
    again = watch(ledger, made("another seed"))
    assert not again.allowed(None)
    most = watch(ledger, made("some more", ids=[*TRIALS[100:], *(f"n{i}" for i in range(100))]))
    assert not most.allowed(None)
    fresh = watch(ledger, made("fresh", ids=[f"m{i}" for i in range(400)]))
    assert fresh.allowed(None)


def test_a_looser_promise_on_the_same_trials_ends_no_alarm_either(ledger: Ledger) -> None:
    first = made("p")
    watch(ledger, first)
    alarm(ledger, first)
    looser = replace(made("q"), alpha=0.9, certificate_id="looser")
    assert not watch(ledger, looser).allowed(None)


def test_a_renewal_goes_on_with_the_wealth_of_what_it_renews(ledger: Ledger) -> None:
    first = made("p")
    watch(ledger, first)
    for i in range(4):
        book(ledger, i, loss=float(i < 2), group=None, made=first)
    before = state_of(ledger, first).monitors.pooled
    assert before.wealth > 1.5
    renewed = made("q", ids=[f"r{i}" for i in range(4)], carries=(first.certificate_id,))
    after = state_of(ledger, renewed).monitors.pooled
    assert (after.audits, after.wealth) == (before.audits, before.wealth)
    alone = state_of(ledger, made("r", ids=["x"])).monitors.pooled
    assert alone.audits == 0
    book(ledger, 9, loss=0.0, group=None, made=renewed)
    assert state_of(ledger, renewed).monitors.pooled.audits == 5


def test_audits_of_a_promise_that_allowed_more_do_not_count(ledger: Ledger) -> None:
    loose = replace(made("p"), alpha=2 * ALPHA, certificate_id="loose")
    ledger.keep_certificate("loose", msgspec.json.encode(loose).decode())
    for i in range(4):
        book(ledger, i, loss=1.0, group=None, made=loose)
    strict = made("q", ids=["x"], carries=("loose",))
    assert state_of(ledger, strict).monitors.pooled.audits == 0


def test_a_chain_of_renewals_carries_everything_and_keeps_each_certificate_once(
    ledger: Ledger,
) -> None:
    chain = [made("p0", ids=["a"])]
    watch(ledger, chain[0])
    for i in range(1, 6):
        carries = tuple(one.certificate_id for one in chain)
        chain.append(made(f"p{i}", ids=[f"a{i}"], carries=carries))
        book(ledger, i, loss=0.0, group=None, made=chain[-2])
        assert state_of(ledger, chain[-1]).monitors.pooled.audits == i
    assert len(kept_certificates(ledger)) == 6
    watch(ledger, chain[2])
    assert len(kept_certificates(ledger)) == 6


def test_alarms_are_listed_with_their_time_and_unreadable_certificates_skipped(
    ledger: Ledger,
) -> None:
    ledger.keep_certificate("old", '{"form": 1, "certificate_id": "old", "terms": {}}')
    first, second = made("p"), made("q", ids=["x"])
    for served in (first, second):
        watch(ledger, served)
    assert [at for _, at in alarms_of(ledger, rule=RULE, now=LATER)] == [None, None]
    alarm(ledger, second)
    (one, never), (other, at) = alarms_of(ledger, rule=RULE, now=LATER)
    assert (one.certificate_id, never) == (first.certificate_id, None)
    assert other.certificate_id == second.certificate_id
    assert NOON <= at <= NOON + timedelta(seconds=20)
