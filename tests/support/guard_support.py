"""Certificates and audited requests for the tests of what watches them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
from msgspec.structs import replace

from suffice.guarantee import (
    Certificate,
    Evidence,
    LabelSource,
    Method,
    Scope,
    Splits,
    Terms,
    calibrate,
    issue,
)
from suffice.ledger import Attempt, Entry, Label, Ledger, Role, Score, Status
from suffice.scoring.audit_rule import AuditRule
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
    facts = {"attempts": (call,)} | facts | more
    entry = Entry(request_id=f"r{i}", reference_rung="big", **facts)
    ledger.append(entry)
    if loss is not None:
        ledger.score([score(1 - loss, request_id=entry.request_id, time=entry.time)])
