"""Everything that the page shows, read at one moment; reading sums all rows of the window."""

from datetime import datetime
from math import ceil

from msgspec import Struct

from suffice.guarantee import Certificate
from suffice.ledger import (
    CallTotals,
    Ledger,
    SavingEstimate,
    Totals,
    Window,
    answer_seconds,
    calls,
    compared_totals,
    totals,
)
from suffice.scoring.guard_state import GuardState


class Latency(Struct, frozen=True, kw_only=True):
    """How long a rung's latest answers took."""

    rung: str
    answers: int
    p50_s: float
    p95_s: float
    p99_s: float


class Snapshot(Struct, frozen=True, kw_only=True):
    """One moment: sums over the window, the guard and its certificate; None where there is none."""

    time: datetime
    window: Window
    whole: Totals
    saving: SavingEstimate
    days: tuple[Totals, ...]
    vectors: tuple[Totals, ...]
    rungs: tuple[Totals, ...]
    calls: tuple[CallTotals, ...]
    latencies: tuple[Latency, ...]
    references: tuple[str, ...]
    guard: GuardState | None = None
    certificate: Certificate | None = None


def snapshot(
    ledger: Ledger,
    *,
    window: Window,
    now: datetime,
    guard: GuardState | None = None,
    certificate: Certificate | None = None,
) -> Snapshot:
    """Read a window of the ledger. Blocks: keep it off an event loop, and a few seconds apart."""
    compared = compared_totals(ledger, window=window)
    return Snapshot(
        time=now,
        window=window,
        whole=compared.whole,
        saving=compared.saving,
        days=totals(ledger, by="day", window=window),
        vectors=totals(ledger, by="vector", window=window),
        rungs=compared.rungs,
        calls=calls(ledger, by="rung", window=window),
        latencies=tuple(
            _latency(rung, took) for rung, took in answer_seconds(ledger, window=window).items()
        ),
        references=compared.references,
        guard=guard,
        certificate=certificate,
    )


def _latency(rung: str, took: tuple[float, ...]) -> Latency:
    """Take percentiles by nearest rank: every one is a duration that was seen."""
    p50, p95, p99 = (took[ceil(share * len(took)) - 1] for share in (0.5, 0.95, 0.99))
    return Latency(rung=rung, answers=len(took), p50_s=p50, p95_s=p95, p99_s=p99)
