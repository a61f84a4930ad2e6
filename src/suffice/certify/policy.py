"""From trials to a certified policy: fit on one split, certify on another, report on a third."""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import UTC, datetime, timedelta
from math import floor
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from suffice.encoders.base import Encoder
from suffice.errors import InputError
from suffice.guarantee import (
    Calibration,
    Certificate,
    Evidence,
    LabelledLosses,
    LabelSource,
    Method,
    PartBound,
    RiskKind,
    Scope,
    Splits,
    Terms,
    calibrate,
    content_hash,
    issue,
    method_for,
    part_bounds,
    rows_needed,
)
from suffice.policy import (
    FEWEST_ROWS,
    Baseline,
    Observations,
    Outcomes,
    PathOutcomes,
    Policy,
    always_cheapest,
    always_reference,
    cost_matched_random,
    fit_policy,
    harms,
    observe_table,
    oracle,
    outcomes,
    play,
    policy_hash,
    saving,
)
from suffice.scoring.labels import HumanLabels, Pair, human_labels
from suffice.trials.order import on_ladder
from suffice.trials.table import (
    SPLIT_FRACTIONS,
    CostUnit,
    Floats,
    Rows,
    TrialTable,
    split_rows,
    split_sizes,
)
from suffice.types import Say

SPLITS = ("fit", "certify", "report")
LAPSES_AFTER_S = 30 * 86400.0
ROUNDING_ROWS = 3  # by which rounding can move the size of a split, in requests


class Target(Struct, frozen=True, kw_only=True):
    """What to promise: risk at most `alpha`, except with probability `delta`, to `reference`."""

    reference: str
    label_source: LabelSource
    alpha: float = 0.05
    delta: float = 0.1
    seed: int = 0
    lapses_after_s: float = LAPSES_AFTER_S


class CertifyResult(Struct, frozen=True, kw_only=True):
    """What certifying said; all but `n`, `losses` and `bound` is measured on the reporting split.

    `certified` is True when a cheaper choice than always the reference holds the promise; if not,
    the figures are those of always the reference. `share` is by rung. `saving` is a fraction of the
    reference's cost in `saving_unit`, discarded attempts paid; None where costs are unknown.
    `rung_bounds` hold together with confidence 1 - delta. `rows_needed` assumes the loss rate seen.
    With a judge's labels, risk and quality are the judge's, and no rung has a bound of its own.
    """

    certified: bool
    reference: str
    alpha: float
    delta: float
    seed: int
    share: dict[str, float]
    risk: float
    bound: float
    n: int
    losses: float
    saving: float | None
    saving_unit: CostUnit | None
    risk_kind: RiskKind
    method: Method
    label_source: LabelSource
    baselines: dict[str, Baseline]
    quality: float
    reference_quality: float
    rung_bounds: tuple[PartBound, ...]
    rows: dict[str, int]
    unscored: int
    rows_needed: int | None
    certificate: Certificate | None


@dataclass(frozen=True, kw_only=True, eq=False)
class CertifiedPolicy:
    """The policy at its certified point (always the reference if there is none), and the findings.

    `plays` is what it did with `reported`, the rows of the reporting split, at that one point.
    """

    policy: Policy
    result: CertifyResult
    reported: TrialTable
    plays: PathOutcomes


@dataclass(frozen=True, kw_only=True, eq=False)
class _Split:
    """Some rows of a table, as numbers and with what they came to."""

    table: TrialTable
    rows: Rows
    seen: Observations
    known: Outcomes


def certify(
    table: TrialTable,
    ask: Target,
    *,
    encoder: Encoder,
    labels: Mapping[Pair, float] | None = None,
    say: Say = lambda _stage: None,
) -> CertifiedPolicy:
    """Fit a path of policies and certify the furthest point that holds the promise.

    Requests without a quality on some rung are left out and counted. `labels` are human qualities
    that mend a judge's. Raises InputError for too few rows to certify anything (with how many it
    takes), an unknown reference, one that nothing is cheaper than, or labels that do not go with
    the label source.
    """
    _check_source(ask, labels)
    ordered = on_ladder(table, reference=ask.reference)
    human = None if labels is None else _find_labels(labels, table, ordered)
    scored = ordered.scored()
    _check_rows(len(scored), ask)
    say(f"reading {len(scored):,} requests")
    fit, test, report = _split(scored, ask, encoder=encoder)
    say(f"fitting the policy on {len(fit.rows):,} requests")
    policy = fit_policy(fit.seen, fit.known)
    say(f"certifying on {len(test.rows):,} others")
    method = _method(fit) if human is None else Method.PREDICTION_POWERED
    calibration = _calibrate(policy, test, human, ask=ask, method=method)
    policy = policy.at(calibration.index if calibration.certified else 0)
    certificate = None
    if calibration.certified:
        certificate = issue(
            calibration,
            _terms(policy, ask, splits=(fit, test, report), unscored=len(ordered) - len(scored)),
        )
    here = slice(policy.point, policy.point + 1)
    plays = play(policy, harms(policy, report.seen), points=here)
    found = _measured(report, plays, ask, method=method)
    return CertifiedPolicy(
        policy=policy,
        result=CertifyResult(
            certified=calibration.certified,
            bound=calibration.bound,
            n=calibration.n,
            losses=calibration.losses,
            risk_kind=calibration.risk_kind,
            rows_needed=calibration.rows_needed,
            rows={name: len(s.rows) for name, s in zip(SPLITS, (fit, test, report), strict=True)},
            unscored=len(ordered) - len(scored),
            certificate=certificate,
            **found,
        ),
        reported=report.table,
        plays=plays,
    )


def _find_labels(
    labels: Mapping[Pair, float], table: TrialTable, ordered: TrialTable
) -> HumanLabels:
    """Find the human labels of `ordered.scored()`; those of rungs and rows left out fall away."""
    left_out = {*table.rungs} - {*ordered.rungs}
    wanted = {pair: label for pair, label in labels.items() if pair[1] not in left_out}
    human = human_labels(ordered, wanted)
    scored = np.asarray(~np.isnan(ordered.quality).any(axis=1), dtype=np.bool_)
    kept = scored[human.rows]
    return HumanLabels(rows=(np.cumsum(scored) - 1)[human.rows[kept]], quality=human.quality[kept])


def _check_source(ask: Target, labels: Mapping[Pair, float] | None) -> None:
    judged = ask.label_source is LabelSource.JUDGE
    if judged and labels is None:
        raise InputError(
            "a judge marked these answers, and no human labels say how it errs",
            hint="label a random part of the requests by hand, or certify agreement instead",
        )
    if labels is not None and not judged:
        raise InputError(
            f"human labels mend a judge, and these qualities come from {ask.label_source.value}",
            hint="leave the labels out",
        )


def _check_rows(rows: int, ask: Target) -> None:
    """Refuse trials that could not certify `alpha` even without a single loss."""
    least = rows_needed(ask.alpha, ask.delta)
    if least is None:
        raise InputError(
            f"no number of rows certifies alpha {ask.alpha:g}", hint="ask for a larger alpha"
        )
    fewest = _fewest_rows(least)
    if rows < fewest:
        raise InputError(
            f"{rows} scored requests are too few: {least} certifying rows are the fewest that can "
            f"certify alpha {ask.alpha:g} at delta {ask.delta:g}, without one loss, and "
            f"{FEWEST_ROWS} the fewest that a policy is fitted on",
            hint=f"give {fewest} scored requests or more, or a larger alpha",
        )


def _fewest_rows(certifying: int) -> int:
    """Return how many requests deal so many into the certifying split, and enough for a fit."""
    fit, test, _ = SPLIT_FRACTIONS
    rows = max(floor(FEWEST_ROWS / fit), floor(certifying / test)) - ROUNDING_ROWS
    while split_sizes(rows)[0] < FEWEST_ROWS or split_sizes(rows)[1] < certifying:
        rows += 1
    return rows


def _split(table: TrialTable, ask: Target, *, encoder: Encoder) -> tuple[_Split, _Split, _Split]:
    """Observe all requests at once, then deal them out."""
    seen = observe_table(table, reference=ask.reference, encoder=encoder)
    known = outcomes(table, reference=ask.reference)
    fit, test, report = (
        _Split(
            table=table.subset(rows),
            rows=rows,
            seen=seen.subset(rows),
            known=replaced(
                known,
                quality=known.quality[rows],
                cost=known.cost[rows],
                abstained=known.abstained[rows],
            ),
        )
        for rows in split_rows(len(table), seed=ask.seed)
    )
    return fit, test, report


def _method(fit: _Split) -> Method:
    """Choose the test on the fitting rows, before the certifying losses are seen."""
    return method_for(np.maximum(0.0, fit.known.quality[:, -1:] - fit.known.quality))


def _calibrate(
    policy: Policy, test: _Split, human: HumanLabels | None, *, ask: Target, method: Method
) -> Calibration:
    """Calibrate from the first point that keeps any answer of a cheaper rung.

    Points before it cannot lose, so a walk from point 1 on gets there too; but a promise about them
    would be one about nothing. The index returned is the path's own.
    """
    expected = harms(policy, test.seen)
    kept = play(policy, expected).chosen < len(policy.rungs) - 1
    first = int(kept.any(axis=0).argmax())
    plays = play(policy, expected, points=slice(first, None))
    evidence = _evidence(plays, test, human, method=method)
    found = calibrate(evidence, alpha=ask.alpha, delta=ask.delta, method=method)
    return replace(found, index=found.index + first)


def _evidence(
    plays: PathOutcomes, test: _Split, human: HumanLabels | None, *, method: Method
) -> Evidence:
    """Work out the losses at every point, and what people said of those they labelled."""
    losses = plays.losses(test.known.quality)
    if human is None:
        return Evidence(losses=counted(losses, method))
    labelled = np.isin(human.rows, test.rows)
    at = np.searchsorted(test.rows, human.rows[labelled])
    excess = np.maximum(0.0, human.quality[labelled, -1:] - human.quality[labelled])
    chosen = plays.chosen[at].astype(np.intp)
    labels = LabelledLosses(rows=at, losses=np.take_along_axis(excess, chosen, axis=1))
    return Evidence(losses=losses, human=labels)


def _terms(
    policy: Policy, ask: Target, *, splits: tuple[_Split, _Split, _Split], unscored: int
) -> Terms:
    fit, test, report = splits
    created = datetime.now(UTC)
    return Terms(
        policy_hash=policy_hash(policy),
        reference=ask.reference,
        label_source=ask.label_source,
        splits=Splits(fit=_hash(fit), certify=_hash(test), report=_hash(report)),
        scope=Scope(
            groups=tuple(sorted({g for g in test.table.groups if g is not None})),
            unscored=unscored,
        ),
        created=created,
        lapses_at=created + timedelta(seconds=ask.lapses_after_s),
    )


def _hash(split: _Split) -> str:
    return content_hash((split.table.request_ids, split.known.quality.tolist()))


def _measured(
    report: _Split, plays: PathOutcomes, ask: Target, *, method: Method
) -> dict[str, Any]:
    """Measure one point of the path on the reporting rows, beside its baselines."""
    known, rungs = report.known, report.known.rungs
    losses = plays.losses(known.quality)[:, 0]
    share = dict(zip(rungs, plays.shares()[:, 0].tolist(), strict=True))
    saved = saving(plays.costs(known.cost)[:, 0], known.cost[:, -1])
    matched = cost_matched_random(known, share=1.0 - share[ask.reference], saving=saved)
    return {
        "reference": ask.reference,
        "alpha": ask.alpha,
        "delta": ask.delta,
        "seed": ask.seed,
        "label_source": ask.label_source,
        "method": method,
        "share": share,
        "risk": float(losses.mean()),
        "saving": saved,
        "saving_unit": report.table.cost_unit,
        "quality": float(plays.qualities(known.quality)[:, 0].mean()),
        "reference_quality": float(known.quality[:, -1].mean()),
        "baselines": {
            "cost_matched_random": matched,
            "always_cheapest": always_cheapest(known),
            "always_reference": always_reference(known),
            "oracle": oracle(known),
        },
        "rung_bounds": _rung_bounds(losses, plays, rungs, delta=ask.delta, method=method),
    }


def _rung_bounds(
    losses: Floats, plays: PathOutcomes, rungs: tuple[str, ...], *, delta: float, method: Method
) -> tuple[PartBound, ...]:
    """Bound the risk of each cheaper rung that answered; the reference's is 0 by definition.

    A judge's losses have none: the labels that mend them are too few to split up.
    """
    kept = plays.chosen[:, 0] < len(rungs) - 1
    if method is Method.PREDICTION_POWERED or not kept.any():
        return ()
    answered_by = [rungs[at] for at in plays.chosen[kept, 0].tolist()]
    return part_bounds(counted(losses[kept], method), answered_by, delta=delta, method=method)


def counted(losses: Floats, method: Method) -> Floats:
    """Count a part of a loss as a whole one where the test counts losses: it can only bound more.

    The fitting rows chose that test, so a rare fraction may first come up among the others.
    """
    return np.ceil(losses) if method is Method.BINOMIAL else losses
