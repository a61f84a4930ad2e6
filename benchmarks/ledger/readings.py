"""What is read of a large ledger by one process, each reading timed inside it."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
from msgspec.structs import replace

from suffice.gateway.dashboard.snapshot import snapshot
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
from suffice.ledger import Ledger, Window, labelled_trials
from suffice.ledger.retention import prune
from suffice.ledger.spenders import spenders
from suffice.scoring.audit_rule import AuditRule
from suffice.scoring.guard import Guard

PRUNED_SHARE = 0.02  # of the year


def _dashboard(ledger: Ledger) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    snapshot(ledger, window=Window(since=now - timedelta(days=7)), now=now)


def _labelled(ledger: Ledger) -> None:
    labelled_trials(ledger)


def _guard(ledger: Ledger) -> None:
    Guard(ledger, _certificate(), rule=AuditRule(share=0.02)).catch_up(now=datetime.now(UTC))


def _spenders(ledger: Ledger) -> None:
    month = Window(since=datetime.now(UTC) - timedelta(days=30))
    spenders(ledger, by="key", window=month)


def _prune(ledger: Ledger) -> None:
    year = timedelta(days=365)
    prune(ledger, before=datetime.now(UTC) - (1 - PRUNED_SHARE) * year)


# In this order: the first of the two guards finds no checkpoint, and prune changes the ledger.
READINGS: Mapping[str, Callable[[Ledger], None]] = {
    "dashboard": _dashboard,
    "labelled": _labelled,
    "spenders": _spenders,
    "guard": _guard,
    "guard_again": _guard,
    "prune": _prune,
}


def timed_reading(name: str, ledger: str) -> tuple[float, float]:
    """Return the seconds, and the processor's, that one reading took."""
    if READINGS[name] is _guard:
        _certificate()  # whose making loads much, and is no part of a start
    with Ledger.open(ledger) as books:
        began_s, processor_s = time.perf_counter(), time.process_time()
        READINGS[name](books)
        return time.perf_counter() - began_s, time.process_time() - processor_s


@cache
def _certificate() -> Certificate:
    """Return the certificate that `fill` books audits under, with two groups of their own."""
    losses = np.zeros((200, 2))
    losses[:3, 1] = 1.0
    found = calibrate(Evidence(losses=losses), alpha=0.2, delta=0.1, method=Method.BINOMIAL)
    created = datetime(2026, 1, 1, tzinfo=UTC)
    terms = Terms(
        policy_hash="bench",
        reference="big",
        label_source=LabelSource.AGREEMENT,
        splits=Splits(fit="a", certify="b"),
        scope=Scope(groups=("group 1", "group 2")),
        created=created,
        lapses_at=created + timedelta(days=365),
    )
    return replace(issue(found, terms), certificate_id="bench")
