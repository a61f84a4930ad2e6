"""How well a saving is known: what the reference would have cost is mostly an estimate.

A request that a cheaper rung answered is booked with the reference's mean charge in the
certificate's trials. Audits ask the reference too, for requests drawn at random, so the mean
difference between their charges and that mean corrects the estimate of all other requests, and its
spread says how well (the difference estimator of survey sampling: Cochran, Sampling Techniques,
1977, section 7.4).
"""

from collections import Counter
from collections.abc import Collection, Sequence
from decimal import Decimal
from math import sqrt
from statistics import NormalDist

from msgspec import Struct

from suffice.ledger.database import Ledger
from suffice.ledger.measures import AUDITS, SPLIT
from suffice.ledger.records import ALL_TIME, Window
from suffice.ledger.rollups import summed
from suffice.ledger.sums import Totals, totals

LEAST_AUDITS = 30  # below which a spread says too little
_CONFIDENCE = 0.95
_PICO = 1e12
_STEPS_IN_SQUARE_USD = 1e16


class AuditedCosts(Struct, frozen=True, kw_only=True):
    """How far the reference's charges for audited requests lie above their estimates.

    `mean_usd` and `spread_usd` (a standard deviation) are those of the differences of `audits`
    requests; None where there are too few to tell.
    """

    audits: int
    mean_usd: float | None
    spread_usd: float | None


class SavingEstimate(Struct, frozen=True, kw_only=True):
    """What was saved in dollars, with its 95 % interval.

    `estimated` requests have a reference cost that is an estimate, and `audits` correct it. `usd`
    is corrected, and has an `interval`, from `LEAST_AUDITS` on; it is None where nothing is known.
    """

    usd: Decimal | None
    interval: tuple[Decimal, Decimal] | None
    estimated: int
    audits: int


class ComparedTotals(Struct, frozen=True, kw_only=True):
    """A window beside the reference: all requests, those of each rung, and what was saved."""

    whole: Totals
    rungs: tuple[Totals, ...]
    references: tuple[str, ...]
    saving: SavingEstimate


def compared_totals(ledger: Ledger, *, window: Window = ALL_TIME) -> ComparedTotals:
    """Sum a window, and correct what it saved by its audits."""
    (whole,), rungs = totals(ledger, window=window), totals(ledger, by="rung", window=window)
    references = tuple(str(row.key) for row in totals(ledger, by="reference_rung", window=window))
    audited = audited_costs(ledger, window=window)
    return ComparedTotals(
        whole=whole,
        rungs=rungs,
        references=references,
        saving=saving_estimate(whole, rungs, references=references, audited=audited),
    )


def audited_costs(ledger: Ledger, *, window: Window = ALL_TIME) -> AuditedCosts:
    """Compare the reference's charges for audited requests with the estimates booked for them."""
    sums = Counter(summed(ledger, (AUDITS,), by=None, window=window).get(None))
    count = sums["audits"]
    if count < 2:
        return AuditedCosts(audits=count, mean_usd=None, spread_usd=None)
    mean = (sums["beyond_high"] * SPLIT + sums["beyond_low"]) / _PICO / count
    squares = (sums["squares_high"] * SPLIT + sums["squares_low"]) / _STEPS_IN_SQUARE_USD
    variance = max(0.0, squares - count * mean * mean) / (count - 1)
    return AuditedCosts(audits=count, mean_usd=mean, spread_usd=sqrt(variance))


def saving_estimate(
    whole: Totals, rungs: Sequence[Totals], *, references: Collection[str], audited: AuditedCosts
) -> SavingEstimate:
    """Correct the saving of a window by its audits; `rungs` are its totals by rung."""
    saved = whole.saved
    estimated = sum(r.reference.estimated_count for r in rungs if r.key not in references)
    if not saved.reported_count + saved.estimated_count:
        return SavingEstimate(usd=None, interval=None, estimated=estimated, audits=audited.audits)
    usd, interval = saved.known_usd, None
    if not estimated:
        interval = (usd, usd)
    elif audited.audits >= LEAST_AUDITS and audited.mean_usd is not None:
        usd += _usd(estimated * audited.mean_usd)
        spread = (audited.spread_usd or 0.0) * sqrt(estimated * (1 + estimated / audited.audits))
        quantile = _student_quantile((1 + _CONFIDENCE) / 2, freedom=audited.audits - 1)
        reach = _usd(quantile * spread)
        interval = (usd - reach, usd + reach)
    return SavingEstimate(usd=usd, interval=interval, estimated=estimated, audits=audited.audits)


def _student_quantile(p: float, *, freedom: int) -> float:
    """Return Student's quantile, right to 1e-4 from ten degrees of freedom on.

    Four terms of the expansion about the normal quantile (Abramowitz and Stegun, 26.7.5): a gateway
    shows this, and does without scipy.
    """
    x = NormalDist().inv_cdf(p)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))


def _usd(amount: float) -> Decimal:
    """Turn an estimate into dollars, to the nearest 1e-12."""
    return Decimal(amount).quantize(Decimal("1e-12"))
