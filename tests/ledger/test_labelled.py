"""Trials out of the books: who answered, what its checks said and cost, and nothing else."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from suffice.ledger import Attempt, Entry, Label, Ledger, Role, Score, Status, labelled_trials
from suffice.types import Charge

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
