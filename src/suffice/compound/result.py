"""What the levers of a factorial are worth, as one value for the page and for programs."""

from collections.abc import Sequence
from datetime import date, datetime

import numpy as np
from msgspec import Struct

from suffice.compound.cells import Cell, Factorial, Grade, Levers, refuse_other_work, subsets
from suffice.compound.effects import Effects, draw, effects, shuffled, times, touched_share
from suffice.compound.identity import CostIdentity, identity
from suffice.trials.resample import FEW_CLUSTERS, Estimate
from suffice.trials.table import Floats
from suffice.units import show_share

SHARE_SLACK = 0.05  # a note says if a part misses its declared share of the cost by more


class Preregistration(Struct, frozen=True, kw_only=True):
    """What was fixed before measuring: the promise, and each part's share of the baseline's cost.

    `prices` lists the sources of the rates, `source` that of the trials.
    """

    name: str
    fixed: date
    alpha: float
    delta: float
    shares: dict[str, float]
    source: str
    prices: tuple[str, ...]


class FactorEvidence(Struct, frozen=True, kw_only=True):
    """The evidence for one factor; no factor is published without it.

    `range` is the lowest and highest factor over all combinations of the other levers, with their
    intervals; None if one of those cells is not certified.
    """

    baseline: str
    workload: str
    share_of_cost: float
    range: tuple[float | None, float | None] | None
    grade: Grade
    date: date
    source: str


class Factor(Struct, frozen=True, kw_only=True):
    """By how much one lever divides the cost.

    `alone`: with no other lever on. `last`: with all others on. `share`: averaged over all orders
    (Shapley), so that the shares multiply to the whole reduction. Each is None if a cell that it
    needs is not certified. `ceiling` is the factor of the lever alone if everything that it touches
    cost nothing; None if it touches all cost. `shuffled` is a self-check: its interval covers 1.
    """

    lever: str
    vector: str
    alone: Estimate | None
    last: Estimate | None
    share: Estimate | None
    ceiling: float | None
    shuffled: Estimate
    evidence: FactorEvidence


class Interaction(Struct, frozen=True, kw_only=True):
    """What some levers give together over what their subsets explain; 1 means no interaction."""

    levers: tuple[str, ...]
    factor: Estimate | None


class CellReport(Struct, frozen=True, kw_only=True):
    """One combination of levers; `reduction` is None if its quality is not certified.

    `risk` is the mean loss against the reference on these requests, `bound` the certificate's.
    """

    levers: tuple[str, ...]
    usd_per_request: float
    reduction: Estimate | None
    quality: float
    risk: float
    standing: str
    bound: float | None
    certificate_id: str | None
    grade: Grade


class PartReport(Struct, frozen=True, kw_only=True):
    """One part of the workload: its share of the baseline's cost, and what became of it."""

    name: str
    requests: int
    share_declared: float
    share: float
    reduction: float | None


class Compound(Struct, frozen=True, kw_only=True):
    """What the levers of one workload are worth together, apart, and how sure that is.

    `reduction` is the baseline's dollars per request over those with every lever on;
    `reduction_competent` is the same against the competent baseline. `product_of_factors`
    multiplies the levers measured alone, and `interaction` is `reduction` over it. Each is None if
    a cell that it needs is not certified. `certified` is True if the cell with every lever on has a
    certificate, so that some of its answers are not the reference's; `limits` and `lapses_at` are
    those of that certificate. The workload was fixed on day `fixed` and replayed at `made`.
    """

    workload: str
    fingerprint: str
    requests: int
    clusters: int
    fixed: date
    made: datetime
    alpha: float
    delta: float
    certified: bool
    reduction: Estimate | None
    reduction_competent: Estimate | None
    product_of_factors: Estimate | None
    interaction: Estimate | None
    quality: float
    reference_quality: float
    grade: Grade
    factors: tuple[Factor, ...]
    interactions: tuple[Interaction, ...]
    identity: CostIdentity
    cells: tuple[CellReport, ...]
    competent: CellReport | None
    parts: tuple[PartReport, ...]
    source: str
    limits: tuple[str, ...] = ()
    lapses_at: datetime | None = None
    notes: tuple[str, ...] = ()


def compound(
    factorial: Factorial,
    plan: Preregistration,
    *,
    made: datetime,
    competent: Cell | None = None,
    notes: Sequence[str] = (),
    seed: int = 0,
) -> Compound:
    """Compute what the levers are worth; `seed` draws the resamples.

    `competent` is a second baseline on the same requests. Raises CertificateError for a certificate
    that had lapsed at `made`, and InputError for a baseline of another workload.
    """
    factorial.check(now=made)
    cells = factorial.cells if competent is None else (*factorial.cells, competent)
    refuse_other_work(cells)
    drawn = draw(cells, seed=seed)
    gains = effects(factorial, drawn)
    base, full = factorial.baseline, factorial.full
    usd = np.log(drawn.usd())
    against_competent = None
    if competent is not None and full.reportable and competent.reportable:
        against_competent = times(usd[:, -1] - usd[:, len(factorial.cells) - 1])
    whole = [frozenset[str](), full.levers]
    singles = [frozenset({lever.name}) for lever in factorial.levers]
    return Compound(
        workload=plan.name,
        fingerprint=base.requests.fingerprint,
        requests=len(base.requests),
        clusters=len(set(base.requests.clusters)),
        fixed=plan.fixed,
        made=made,
        alpha=plan.alpha,
        delta=plan.delta,
        certified=full.certificate is not None,
        reduction=_allowed(gains, whole, gains.of(full.levers)),
        reduction_competent=against_competent,
        product_of_factors=_allowed(gains, singles, gains.separate()),
        interaction=_allowed(gains, [*whole, *singles], gains.interaction()),
        quality=float(full.quality.mean()),
        reference_quality=float(base.quality.mean()),
        grade=_worst(factorial.cells),
        factors=tuple(
            _factor(gains, lever.name, plan=plan, made=made, seed=seed)
            for lever in factorial.levers
        ),
        interactions=tuple(
            Interaction(
                levers=tuple(sorted(levers)),
                factor=_allowed(gains, list(subsets(sorted(levers))), gains.term(levers)),
            )
            for levers in gains.factorial.index
            if len(levers) > 1
        ),
        identity=identity(base, full, drawn=drawn, places=(0, len(factorial.cells) - 1)),
        cells=tuple(_report(cell, base, gains.of(cell.levers)) for cell in factorial.cells),
        competent=None if competent is None else _report(competent, base, usd[:, 0] - usd[:, -1]),
        parts=_parts(base, full, plan=plan),
        source=plan.source,
        limits=full.certificate.limits if full.certificate else (),
        lapses_at=full.certificate.terms.lapses_at if full.certificate else None,
        notes=(*notes, *_notes(factorial, plan=plan)),
    )


def _allowed(gains: Effects, needed: Sequence[Levers], gain: Floats) -> Estimate | None:
    """Return a figure if every cell that it needs may be reported, else None."""
    cells = [gains.factorial.cells[gains.factorial.index[levers]] for levers in needed]
    return times(gain) if all(cell.reportable for cell in cells) else None


def _worst(cells: Sequence[Cell]) -> Grade:
    modelled = any(cell.grade is Grade.MODELLED for cell in cells)
    return Grade.MODELLED if modelled else Grade.MEASURED


def _factor(
    gains: Effects, lever: str, *, plan: Preregistration, made: datetime, seed: int
) -> Factor:
    factorial = gains.factorial
    off, on = factorial.baseline, factorial.cell(lever)
    every = list(factorial.index)
    full = factorial.full.levers
    touched = touched_share(off, on)
    return Factor(
        lever=lever,
        vector=next(one.vector.value for one in factorial.levers if one.name == lever),
        alone=_allowed(gains, [off.levers, on.levers], gains.alone(lever)),
        last=_allowed(gains, [full, full - {lever}], gains.last(lever)),
        share=_allowed(gains, every, gains.share(lever)),
        ceiling=1 / (1 - touched) if touched < 1 else None,
        shuffled=shuffled(factorial, lever, seed=seed),
        evidence=FactorEvidence(
            baseline=off.name,
            workload=f"{plan.name} ({off.requests.fingerprint})",
            share_of_cost=touched,
            range=_range(gains, lever),
            grade=_worst([off, on]),
            date=made.date(),
            source="; ".join((plan.source, *plan.prices)),
        ),
    )


def _range(gains: Effects, lever: str) -> tuple[float | None, float | None] | None:
    """Return the lowest and highest factor of a lever over all combinations of the others."""
    without = [levers for levers in gains.factorial.index if lever not in levers]
    steps = [
        _allowed(gains, [off, off | {lever}], gains.of(off | {lever}) - gains.of(off))
        for off in without
    ]
    ends = [(step.interval or (step.value, step.value)) for step in steps if step is not None]
    if len(ends) < len(steps):
        return None
    lows, highs = [low for low, _ in ends if low is not None], [h for _, h in ends if h is not None]
    return (
        min(lows) if len(lows) == len(ends) else None,
        max(highs) if len(highs) == len(ends) else None,
    )


def _report(cell: Cell, base: Cell, gain: Floats) -> CellReport:
    certificate = cell.certificate
    standing = "reference" if cell.as_reference else "certified" if certificate else "not certified"
    return CellReport(
        levers=tuple(sorted(cell.levers)),
        usd_per_request=float(cell.usd.mean()),
        reduction=times(gain) if cell.reportable else None,
        quality=float(cell.quality.mean()),
        risk=float(np.maximum(0.0, base.quality - cell.quality).mean()),
        standing=standing,
        bound=None if certificate is None else certificate.bound,
        certificate_id=None if certificate is None else certificate.certificate_id,
        grade=cell.grade,
    )


def _parts(base: Cell, full: Cell, *, plan: Preregistration) -> tuple[PartReport, ...]:
    """Report the cost of each part of the workload before, and its reduction."""
    parts = np.array(base.requests.parts)
    reports = []
    for name, declared in plan.shares.items():
        rows = parts == name
        before, after = float(base.usd[rows].sum()), float(full.usd[rows].sum())
        reports.append(
            PartReport(
                name=name,
                requests=int(rows.sum()),
                share_declared=declared,
                share=before / float(base.usd.sum()),
                reduction=before / after if after and full.reportable else None,
            )
        )
    return tuple(reports)


def _notes(factorial: Factorial, *, plan: Preregistration) -> list[str]:
    """Return the notes that the figures need."""
    base, requests = factorial.baseline, factorial.baseline.requests
    notes = []
    clusters = len(set(requests.clusters))
    if clusters < FEW_CLUSTERS:
        notes.append(f"Intervals rest on only {clusters} clusters and may still be too narrow.")
    if clusters < len(requests):
        notes.append(
            f"{len(requests):,} requests come in {clusters:,} clusters. Intervals resample whole "
            "clusters; certificates count single requests."
        )
    notes.extend(
        f"Part {part.name!r} makes up {show_share(part.share)} of the baseline's cost; "
        f"{show_share(part.share_declared)} was declared."
        for part in _parts(base, factorial.full, plan=plan)
        if abs(part.share - part.share_declared) > SHARE_SLACK
    )
    notes.extend(
        f"Cell {cell.name!r} is not certified: nothing that needs it is reported."
        for cell in factorial.cells
        if not cell.reportable
    )
    return notes
