"""Trials out of the books: who answered, what its checks said and cost, and nothing else."""

import random
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace
from postgres_server import new_books
from query_plans import plans_of

from suffice.ledger import (
    Attempt,
    Entry,
    Label,
    Ledger,
    Role,
    Score,
    Status,
    TrialSample,
    audited_under,
    entries,
    labelled,
    labelled_trials,
    scores_of,
)
from suffice.types import Charge, Count, CountSource, Usage

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def test_a_check_is_a_cost_of_the_answer_before_it_and_no_rung(tmp_path: Path) -> None:
    def call(rung: str, role: Role, usd: str, **fields: object) -> Attempt:
        return Attempt(rung=rung, role=role, charge=Charge(usd=Decimal(usd)), **fields)

    entry = Entry(
        request_id="r",
        time=NOON,
        status=Status.OK,
        rung="small",
        reference_rung="big",
        audited=True,
        text="Hi",
        attempts=(
            call("small", Role.ANSWER, "0.1", check=True),
            call("check:tests", Role.CHECK, "0.02", check=True, duration_s=3.0),
            call("check:form", Role.CHECK, "0", check=True, duration_s=0.1),
        ),
    )
    with Ledger.open(tmp_path / "books.db", store_text=True) as ledger:
        ledger.append(entry)
        ledger.audit("r", call("big", Role.AUDIT, "1"))
        scores = [
            Score(request_id="r", time=NOON, quality=1.0, label=Label.AGREEMENT, rung=rung)
            for rung in ("small", "big")
        ]
        ledger.score(scores)
        small, big = labelled_trials(ledger).trials
    assert (small.rung, small.check, small.charge_usd) == ("small", True, Decimal("0.12"))
    assert (small.check_usd, small.check_s) == (Decimal("0.02"), 3.0)
    assert (big.rung, big.check, big.charge_usd, big.check_usd) == ("big", None, Decimal(1), None)


def by_values(ledger: Ledger, sample: TrialSample) -> list[tuple[object, ...]]:
    """Say what trials a sample comes to, from the entries and scores as values."""
    shadows = sample is TrialSample.SHADOWS
    drawn = [e for e in entries(ledger) if (e.shadow_chance is not None if shadows else e.audited)]
    names, given = {e.request_id for e in drawn}, scores_of(ledger)
    others = {r for r, _ in given if r in names and given[r, _].label is not Label.FEEDBACK}
    answered = [
        {a.rung for a in e.attempts if a.role is not Role.CHECK} - {e.reference_rung}
        for e in drawn
        if e.reference_rung in {a.rung for a in e.attempts}
    ]
    tried = Counter(rung for rungs in answered for rung in sorted(rungs))
    most = max(tried, key=lambda rung: (tried[rung], [-ord(c) for c in rung]), default=None)
    trials = []
    for e in drawn:
        marks = {
            rung: score.quality
            for (name, rung), score in given.items()
            if name == e.request_id and (not others or score.label is not Label.FEEDBACK)
        }
        last = {a.rung: a for a in e.attempts if a.role is not Role.CHECK}
        for rung, a in last.items():
            if shadows and rung not in (e.reference_rung, most):
                continue
            quality = marks.get(rung, marks.get(None) if rung == e.rung else None)
            quality = None if a.error is not None else quality
            cluster = e.session_id or e.conversation_id
            trials.append((e.request_id, rung, quality, a.charge.usd, a.usage, e.text, cluster))
    return trials


@pytest.mark.parametrize("sample", TrialSample)
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_trials_read_by_columns_are_those_of_the_entries(
    backend: str,
    sample: TrialSample,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(labelled, "_PAGE", 3)
    dice = random.Random(sample.value)
    where = new_books(backend, tmp_path, request)
    with Ledger.open(where, store_text=True) as ledger:
        for number in range(40):
            calls = tuple(
                Attempt(
                    rung=dice.choice(["big", "mid", "small"]),
                    role=Role.ANSWER if at == 0 else Role.DISCARDED,
                    charge=Charge(usd=dice.choice([None, Decimal("0.25"), Decimal("1e-12")])),
                    usage=Usage(
                        input_tokens=Count(dice.randrange(9), CountSource.REPORTED),
                        output_tokens=dice.choice([None, Count(3, CountSource.ESTIMATED)]),
                        kinds=dice.choice([{}, {"web_searches": Count(1, CountSource.REPORTED)}]),
                    ),
                    error=dice.choice([None, None, "reset"]),
                )
                for at in range(dice.randrange(4))
            )
            entry = Entry(
                request_id=f"r{number}",
                time=NOON,
                status=Status.OK,
                rung=calls[0].rung if calls else None,
                reference_rung="big",
                audited=dice.random() < 0.7,
                shadow_chance=dice.choice([None, 0.5]),
                group=dice.choice([None, "g"]),
                session_id=dice.choice([None, "s"]),
                conversation_id=dice.choice([None, "c"]),
                text=f"question {number}",
                attempts=calls,
            )
            ledger.append(entry)
            for _ in range(dice.randrange(3)):
                mark = Score(
                    request_id=entry.request_id,
                    time=NOON,
                    quality=dice.random(),
                    label=dice.choice([Label.SCORER, Label.SCORER, Label.FEEDBACK]),
                    rung=dice.choice([None, "big", "small"]),
                )
                if mark.label is Label.SCORER or number % 2:  # one kind for each request
                    ledger.score([replace(mark, label=Label.FEEDBACK) if number % 2 else mark])
        found = labelled_trials(ledger, sample=sample)
        expected = by_values(ledger, sample)
    assert [
        (t.request_id, t.rung, t.quality, t.charge_usd, t.usage, t.text, t.cluster)
        for t in found.trials
    ] == expected
    assert len({name for name, *_ in expected}) > 2 * 3


def test_the_audited_rows_of_a_ledger_are_found_through_indexes(tmp_path: Path) -> None:
    """Else one page of some audits reads all requests of a year."""
    with Ledger.open(tmp_path / "books.db", store_text=True) as ledger:
        ledger.append(
            Entry(
                request_id="r",
                time=NOON,
                status=Status.OK,
                rung="big",
                reference_rung="big",
                audited=True,
                text="Hi",
                certificate_id="c",
                attempts=(Attempt(rung="big", role=Role.ANSWER, charge=Charge(usd=None)),),
            )
        )
        plans = plans_of(
            ledger, lambda: (labelled_trials(ledger), list(audited_under(ledger, "c")))
        )
    assert len(plans) > 5
    for steps in plans:
        assert steps
        assert all("USING" in step and "INDEX" in step for step in steps), steps
