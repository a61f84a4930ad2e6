"""How far the reference's estimated cost may be off, told from audits drawn at random."""

from decimal import Decimal

import numpy as np
import pytest

from suffice.ledger.savings import LEAST_AUDITS, AuditedCosts, SavingEstimate, saving_estimate
from suffice.ledger.sums import Totals
from suffice.types import Spend

MEAN = 0.002  # dollars that the reference is estimated to cost
SPENT_ABOVE = Spend(estimated_usd=Decimal(9), estimated_count=9)


def sums(key: str | None, *, saved: Spend, reference: Spend) -> Totals:
    return Totals(
        key=key,
        requests=0,
        audited=0,
        statuses={},
        spend=Spend(),
        reference=reference,
        compared=Spend(),
        saved=saved,
    )


def estimate_of(costs: np.ndarray, audited: int) -> SavingEstimate:
    """Estimate what was saved by serving for nothing, where the first few were audited."""
    asked, others = costs[:audited], len(costs) - audited
    saved = Spend(
        reported_usd=Decimal(float(asked.sum())),
        reported_count=audited,
        estimated_usd=Decimal(MEAN * others),
        estimated_count=others,
    )
    mean = float((asked - MEAN).mean()) if audited > 1 else None
    spread = float((asked - MEAN).std(ddof=1)) if audited > 1 else None
    return saving_estimate(
        sums(None, saved=saved, reference=saved),
        [
            sums("low", saved=saved, reference=saved),
            sums(
                "high", saved=Spend(), reference=Spend(estimated_usd=Decimal(9), estimated_count=9)
            ),
        ],
        references=("high",),
        audited=AuditedCosts(audits=audited, mean_usd=mean, spread_usd=spread),
    )


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_the_interval_holds_the_saving_nineteen_times_in_twenty(shift: float) -> None:
    held = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        costs = rng.gamma(2.0, shift * MEAN / 2.0, size=2000)
        estimate = estimate_of(costs, 100)
        assert estimate.interval is not None
        low, high = map(float, estimate.interval)
        held += low <= costs.sum() <= high
    assert 0.925 <= held / 400 <= 0.975


def test_without_enough_audits_nothing_is_corrected_and_no_interval_is_given() -> None:
    costs = np.full(100, 0.004)
    few, enough = estimate_of(costs, LEAST_AUDITS - 1), estimate_of(costs, LEAST_AUDITS)
    assert few.interval is None
    assert float(few.usd or 0) == pytest.approx(29 * 0.004 + 71 * MEAN)
    assert enough.interval is not None
    assert float(enough.usd or 0) == pytest.approx(0.4)
    assert (enough.estimated, enough.audits) == (70, LEAST_AUDITS)


def test_what_is_measured_whole_is_exact_and_what_nobody_knows_is_unknown() -> None:
    whole = Spend(reported_usd=Decimal("1.5"), reported_count=3)
    none = AuditedCosts(audits=0, mean_usd=None, spread_usd=None)
    total = sums(None, saved=whole, reference=whole)
    known = saving_estimate(total, [], references=(), audited=none)
    assert (known.usd, known.interval) == (Decimal("1.5"), (Decimal("1.5"), Decimal("1.5")))
    nothing = sums(None, saved=Spend(unknown_count=2), reference=Spend(unknown_count=2))
    assert saving_estimate(nothing, [], references=(), audited=none).usd is None
