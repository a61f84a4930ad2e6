"""Entries for tests of the books: one answered request with one call, as plain as may be."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from suffice.ledger import Attempt, Entry, Role, Status
from suffice.types import Charge

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def answered(name: str, **fields: Any) -> Entry:
    """Return an answer of the rung `low`, of a tenth of a cent, under an id."""
    call = Attempt(rung="low", role=Role.ANSWER, charge=Charge(usd=Decimal("0.001")))
    return Entry(
        request_id=name,
        time=NOON,
        status=Status.OK,
        rung="low",
        reference_rung="high",
        attempts=(call,),
        **fields,
    )
