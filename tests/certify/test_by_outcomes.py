"""Certificates by outcomes of a roll-out: through the command, on simulated sessions."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from cli_support import Outcome, run
from msgspec import json
from msgspec.structs import replace
from scipy import stats

from suffice.certify.bundle import Bundle, load_bundle, save_bundle
from suffice.certify.by_outcomes import _arms
from suffice.gateway.server import about_audits
from suffice.guarantee import Per
from suffice.ledger import Attempt, Entry, Ledger, Role, Status
from suffice.ledger.outcomes import arm_outcomes, drawn_sessions
from suffice.ledger.schema import outcomes, time_us
from suffice.scoring.audit_rule import AuditRule
from suffice.types import Charge
from support import make_trials, settle_trials

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
ALPHA, DELTA = 0.1, 0.1


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    rows = [t for t in make_trials(requests=300) if t.rung in ("small", "big")]
    right = [replace(trial, quality=1.0, answer="4", group=None) for trial in rows]
    settled = settle_trials(right, per=Per.SESSION)
    assert settled.bundle is not None
    return settled.bundle


@dataclass
class Traffic:
    """Sessions of a roll-out: how often each arm comes out well, and how often nobody says so."""

    policy: float
    reference: float
    sessions: int = 400
    share: float = 0.5
    kept: float = 1.0  # share of the sessions for which the policy wishes for the cheap rung
    silent_failures: float = 0.0  # of the policy's sessions that fail
    lost_failures: bool = False  # whether the books lack the policy's sessions that fail
    seed: int = 0

    def entries(self, certificate_id: str) -> Iterator[tuple[Entry, float | None]]:
        draw = random.Random(self.seed)
        for number in range(self.sessions):
            by_policy, cheap = draw.random() < self.share, draw.random() < self.kept
            rung = "small" if by_policy and cheap else "big"
            chance = self.policy if rung == "small" else self.reference
            score: float | None = float(draw.random() < chance)
            if by_policy and score == 0 and draw.random() < self.silent_failures:
                score = None
            if by_policy and score == 0 and self.lost_failures:
                continue
            usd = Decimal("0.1" if rung == "small" else "1")
            call = Attempt(rung=rung, role=Role.ANSWER, charge=Charge(usd=usd))
            entry = Entry(
                request_id=f"r{self.seed}-{number}",
                time=NOON + timedelta(seconds=number),
                status=Status.OK,
                rung=rung,
                reference_rung="big",
                session_id=f"s{self.seed}-{number}",
                arm="policy" if by_policy else "reference",
                arm_chance=self.share if by_policy else 1 - self.share,
                wish="small" if cheap else "big",
                certificate_id=certificate_id if by_policy else None,
                attempts=(call,),
            )
            yield entry, score


def book(
    folder: Path,
    bundle: Bundle,
    traffic: Traffic,
    *,
    kinds: Sequence[str] = ("ci",),
    early: int = 0,
    heard: int | None = None,
) -> str:
    """Write the books of a roll-out; returns their path.

    The first `early` sessions have outcomes from before it, and only `heard` have any.
    """
    path = folder / f"books-{traffic.seed}.db"
    certificate = bundle.certificate
    with Ledger.open(path) as ledger:
        ledger.keep_certificate(certificate.certificate_id, json.encode(certificate).decode())
        rows = list(traffic.entries(certificate.certificate_id))
        ledger.append_many(entry for entry, _ in rows)
        said = [
            {
                "session_id": entry.session_id,
                "kind": kind,
                "score": score,
                "time_us": time_us(entry.time) - (number < early),
            }
            for number, (entry, score) in enumerate(rows[:heard])
            for kind in kinds
            if score is not None
        ]
        with ledger.writing() as connection:
            connection.execute(sa.insert(outcomes), said)
    return str(path)


def recertify(
    capsys: pytest.CaptureFixture[str], folder: Path, bundle: Bundle, books: str, *more: str
) -> Outcome:
    if not (folder / "bundle").exists():
        save_bundle(folder / "bundle", bundle)
    words = f"{books} --from outcomes --certificate {folder}/bundle --alpha {ALPHA} --delta {DELTA}"
    return run(capsys, "recertify", *words.split(), "--looks", "1", *more, "--json")


def test_an_equal_policy_is_certified_and_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bundle: Bundle
) -> None:
    books = book(tmp_path, bundle, Traffic(policy=0.9, reference=0.9, sessions=900))
    ended = recertify(capsys, tmp_path, bundle, books, "--out", str(tmp_path / "next"))
    assert ended.status == 0, ended.err
    result = ended.json
    assert (result["risk_kind"], result["per"], result["label_source"]) == (
        *("net_loss", "session"),
        "outcome",
    )
    assert 620 < result["n"] == result["clusters"] <= 630
    assert result["part"] == 1.0
    assert result["saving"] == pytest.approx(0.9)
    renewed = load_bundle(tmp_path / "next")
    assert renewed.policy.path.attempts[renewed.policy.point].tolist() == [float("inf")]
    assert renewed.certificate.terms.lineage.carries == (bundle.certificate.certificate_id,)
    [note] = about_audits(renewed.certificate, AuditRule(share=0.1))
    assert "keep gateway.rollout below 1" in note


def test_a_worse_policy_is_refused_and_a_small_part_of_it_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bundle: Bundle
) -> None:
    bad = book(tmp_path, bundle, Traffic(policy=0.6, reference=0.9, sessions=900))
    worst = book(tmp_path, bundle, Traffic(policy=0.0, reference=1.0, sessions=900, seed=1))
    result = recertify(capsys, tmp_path, bundle, bad).json
    assert 0.1 < result["part"] < 0.5
    ended = recertify(capsys, tmp_path, bundle, worst)
    assert ended.status == 3
    assert ended.json["share"] == {"small": 0.0, "big": 1.0}
    assert "no alpha below" in ended.err


def test_failures_that_nobody_reports_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bundle: Bundle
) -> None:
    """All of the policy's sessions that are heard of came out well; silence is no success."""
    traffic = Traffic(policy=0.6, reference=0.9, sessions=900, silent_failures=1.0)
    books = book(tmp_path, bundle, traffic)
    result = recertify(capsys, tmp_path, bundle, books).json
    assert result["part"] < 0.5
    with Ledger.open(books, read_only=True) as ledger:
        arms = _arms(drawn_sessions(ledger, kind="ci"), reference="big")
    assert arms.losses(0.5).mean() == pytest.approx(0.3, abs=0.07)


def test_sessions_that_the_policy_leaves_to_the_reference_lose_nothing(
    tmp_path: Path, bundle: Bundle
) -> None:
    traffic = Traffic(policy=0.5, reference=0.9, kept=0.25, sessions=4000)
    with Ledger.open(book(tmp_path, bundle, traffic), read_only=True) as ledger:
        arms = _arms(drawn_sessions(ledger, kind="ci"), reference="big")
    for constant in (0.0, 0.5, 0.9):
        assert arms.losses(constant).mean() == pytest.approx(0.1, abs=0.04)


def later(path: str, traffic: Traffic, bundle: Bundle, **changed: object) -> None:
    """Book a second request of each session of a roll-out."""
    certificate_id = bundle.certificate.certificate_id
    with Ledger.open(path) as ledger:
        for number, (entry, _) in enumerate(traffic.entries(certificate_id)):
            ledger.append(replace(entry, request_id=f"second-{number}", **changed))


def test_a_session_is_the_policys_wherever_in_it_the_policy_chose(
    tmp_path: Path, bundle: Bundle
) -> None:
    """The first request may be left to the reference, and a later one or a sub-agent not."""
    traffic = Traffic(policy=0.5, reference=0.9, kept=0.0, sessions=1500)
    path = book(tmp_path, bundle, traffic)
    with Ledger.open(path, read_only=True) as ledger:
        assert not any(one.wish == "small" for one in drawn_sessions(ledger, kind="ci"))
    later(path, traffic, bundle, wish="small")
    with Ledger.open(path, read_only=True) as ledger:
        sessions = drawn_sessions(ledger, kind="ci")
    assert {(one.wish, one.mixed) for one in sessions} == {("small", False)}
    assert _arms(sessions, reference="big").differs.all()


@pytest.mark.parametrize("other", [{"arm": "reference"}, {"arm": "policy"}, {"arm": None}])
def test_sessions_of_both_arms_count_as_the_worst(
    tmp_path: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str], other: dict[str, str | None]
) -> None:
    """Where the share is changed, sessions go on under the other arm: they tell nothing apart."""
    traffic = Traffic(policy=0.9, reference=0.9, sessions=300)
    path = book(tmp_path, bundle, traffic)
    later(path, traffic, bundle, certificate_id=bundle.certificate.certificate_id, **other)
    with Ledger.open(path, read_only=True) as ledger:
        sessions = drawn_sessions(ledger, kind="ci")
    assert {one.mixed for one in sessions} == {True, False}
    arms = _arms(sessions, reference="big")
    by_policy = other["arm"] == "reference"
    assert set(arms.score[arms.by_policy == by_policy]) == {0.0 if by_policy else 1.0}
    assert "gateway.rollout changed meanwhile" in recertify(capsys, tmp_path, bundle, path).err


def test_an_outcome_from_before_the_draw_is_nobodys(tmp_path: Path, bundle: Bundle) -> None:
    """A session that was running, and judged, when the roll-out began says nothing of its arm."""
    path = book(tmp_path, bundle, Traffic(policy=0.5, reference=0.9), early=100)
    with Ledger.open(path, read_only=True) as ledger:
        assert len(drawn_sessions(ledger, kind="ci")) == 300
        assert len(arm_outcomes(ledger)) == 300


def test_arms_that_lack_sessions_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bundle: Bundle
) -> None:
    """Where the policy's failures are not even in the books, the rest of it looks well."""
    traffic = Traffic(policy=0.6, reference=0.9, sessions=600, lost_failures=True)
    path = book(tmp_path, bundle, traffic)
    ended = recertify(capsys, tmp_path, bundle, path)
    assert ended.status == 2
    assert "sessions of one arm are missing" in ended.err
    shown = run(capsys, "rollout", path)
    assert "those of one arm are missing" in shown.err + shown.out


def test_few_outcomes_are_too_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bundle: Bundle
) -> None:
    path = book(tmp_path, bundle, Traffic(policy=0.5, reference=0.9, kept=0.0), heard=1)
    ended = recertify(capsys, tmp_path, bundle, path)
    assert ended.status == 2
    assert "too few, or all of one arm" in ended.err


def test_what_is_ambiguous_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bundle: Bundle
) -> None:
    books = book(tmp_path, bundle, Traffic(policy=1, reference=1), kinds=("ci", "ticket"))
    assert "ci (400), ticket (400)" in recertify(capsys, tmp_path, bundle, books).err
    assert recertify(capsys, tmp_path, bundle, books, "--kind", "ci").status == 0
    assert "'review'" in recertify(capsys, tmp_path, bundle, books, "--kind", "review").err
    asked = recertify(capsys, tmp_path, bundle, books, "--kind", "ci", "--per", "request")
    assert "net loss per session" in asked.err
    bare = run(capsys, "recertify", books, "--reference", "big")
    assert "it has outcomes: recertify with --from outcomes" in bare.err
    without = run(capsys, "recertify", books, "--from", "outcomes")
    assert "--certificate FOLDER" in without.err


def test_a_policy_that_was_not_rolled_out_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bundle: Bundle
) -> None:
    other = replace(bundle.certificate, certificate_id="another")
    books = book(tmp_path, replace(bundle, certificate=other), Traffic(policy=1, reference=1))
    assert "no session was drawn for this policy" in recertify(
        capsys, tmp_path, bundle, books
    ).err  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_the_promise_holds_however_many_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bundle: Bundle, share: float
) -> None:
    """A policy that loses a little more than alpha is certified whole at most as often as delta."""
    loss, runs, broken = ALPHA + 0.01, 60, 0
    for seed in range(runs):
        traffic = Traffic(policy=0.9 - loss, reference=0.9, sessions=500, share=share, seed=seed)
        ended = recertify(capsys, tmp_path, bundle, book(tmp_path, bundle, traffic))
        broken += ended.json["certified"] and ended.json["part"] * loss > ALPHA
    assert stats.binom.sf(broken - 1, runs, DELTA) > 0.01, f"{broken} of {runs}"
