"""From trials to a certified policy: fit on one split, certify on another, report on a third."""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from suffice.certify.evidence import (
    LossRule,
    MarkedRequests,
    answered_cheaply,
    bounds_of,
    check_rows,
    grid_points,
    loss_rule,
    losses_of,
    marked,
    path_evidence,
)
from suffice.encoders.base import Encoder
from suffice.errors import InputError
from suffice.guarantee import (
    Calibration,
    Certificate,
    LabelSource,
    Method,
    PartBound,
    Per,
    RiskKind,
    Scope,
    Splits,
    Terms,
    calibrate,
    content_hash,
    issue,
)
from suffice.policy import (
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
    UNSCORED,
    CostUnit,
    Rows,
    TrialTable,
    split_rows,
)
from suffice.types import Say

SPLITS = ("fit", "certify", "report")
LAPSES_AFTER_S = 30 * 86400.0
_CALIBRATED = (  # fields that a result takes over from its calibration
    "bound",
    "n",
    "clusters",
    "largest",
    "losses",
    "risk_kind",
    "per",
    "method",
    "rows_needed",
    "clusters_needed",
)


class Target(Struct, frozen=True, kw_only=True):
    """What to promise: risk at most `alpha`, except with probability `delta`, to `reference`.

    `risk` says what the risk is, and `per` whether requests or sessions are counted.
    """

    reference: str
    label_source: LabelSource
    alpha: float = 0.05
    delta: float = 0.1
    seed: int = 0
    lapses_after_s: float = LAPSES_AFTER_S
    risk: RiskKind = RiskKind.EXCESS_OVER_REFERENCE
    per: Per = Per.REQUEST


class CertifyResult(Struct, frozen=True, kw_only=True):
    """What certifying said; shares, risk, saving and quality are those of the reporting split.

    `certified` is True when a cheaper choice than always the reference holds the promise; if not,
    the figures are those of always the reference. `share` is by rung. `saving` is a fraction of the
    reference's cost in `saving_unit`, discarded attempts paid; None where costs are unknown.
    `rung_bounds` hold together with confidence 1 - delta. `clusters_needed`, and the `rows_needed`
    in them, assume the loss rate seen. With a judge's labels, risk and quality are the judge's, and
    no rung has a bound of its own. `n`, `clusters`, `largest`, `losses` and `bound` are those of
    the certificate. `unscored` requests were left out; `worthless` ones have an answer that no
    scorer could judge. The risk of baselines is the excess, or for a net loss the net loss.
    """

    certified: bool
    reference: str
    alpha: float
    delta: float
    seed: int
    share: dict[str, float]
    risk: float | None
    bound: float
    n: int
    clusters: int
    largest: int
    losses: float
    saving: float | None
    saving_unit: CostUnit | None
    risk_kind: RiskKind
    per: Per
    method: Method
    label_source: LabelSource
    baselines: dict[str, Baseline]
    quality: float
    reference_quality: float
    rung_bounds: tuple[PartBound, ...]
    rows: dict[str, int]
    unscored: int
    worthless: int
    left_out: dict[str, int]
    rows_needed: int | None
    clusters_needed: int | None
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

    Requests without a quality of the reference, or an answer of some rung, are left out and
    counted; an answer that no scorer could judge is worth nothing. `labels` are human qualities
    that mend a judge's. Raises InputError for too few rows to certify anything (with how many it
    takes), an unknown reference, one that nothing is cheaper than, or labels that do not go with
    the label source.
    """
    _check_source(ask, labels)
    ordered = on_ladder(table, reference=ask.reference)
    human = None if labels is None else _find_labels(labels, table, ordered)
    kept = marked(ordered, reference=ask.reference, judged=human is not None)
    check_rows(kept.table, alpha=ask.alpha, delta=ask.delta, net=ask.risk is RiskKind.NET_LOSS)
    say(f"reading {len(kept.table):,} requests")
    fit, test, report = _split(kept.table, ask, encoder=encoder)
    say(f"fitting the policy on {len(fit.rows):,} requests")
    policy = fit_policy(fit.seen, fit.known)
    say(f"certifying on {len(test.rows):,} others")
    rule = loss_rule(
        fit.known.quality,
        fit.table.clusters,
        risk=ask.risk,
        per=ask.per,
        judged=human is not None,
    )
    calibration = _calibrate(policy, test, human, ask=ask, rule=rule)
    policy = policy.at(calibration.index if calibration.certified else 0)
    certificate = None
    if calibration.certified:
        terms = _terms(policy, ask, splits=(fit, test, report), kept=kept, rule=rule)
        certificate = issue(calibration, terms)
    here = slice(policy.point, policy.point + 1)
    plays = play(policy, harms(policy, report.seen), points=here)
    found = _measured(report, plays, ask, rule=rule)
    return CertifiedPolicy(
        policy=policy,
        result=CertifyResult(
            certified=calibration.certified,
            **{name: getattr(calibration, name) for name in _CALIBRATED},
            rows={name: len(s.rows) for name, s in zip(SPLITS, (fit, test, report), strict=True)},
            unscored=kept.left_out,
            worthless=kept.worthless,
            left_out={**table.left_out, **({UNSCORED: kept.left_out} if kept.left_out else {})},
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
        for rows in split_rows(table.clusters, seed=ask.seed)
    )
    return fit, test, report


def _calibrate(
    policy: Policy, test: _Split, human: HumanLabels | None, *, ask: Target, rule: LossRule
) -> Calibration:
    """Calibrate from the first point that keeps any answer of a cheaper rung.

    Points before it cannot lose, so a walk from point 1 on gets there too; but a promise about them
    would be one about nothing. The index returned is the path's own.
    """
    expected = harms(policy, test.seen)
    kept = answered_cheaply(play(policy, expected))
    first = int(kept.any(axis=0).argmax())
    plays = play(policy, expected, points=slice(first, None))
    points = grid_points(plays, rule=rule)
    plays = PathOutcomes(chosen=plays.chosen[:, points], attempted=plays.attempted[:, :, points])
    if human is not None:
        labelled = np.isin(human.rows, test.rows)
        at = np.searchsorted(test.rows, human.rows[labelled])
        human = HumanLabels(rows=at, quality=human.quality[labelled])
    evidence = path_evidence(plays, test.known.quality, test.table.clusters, rule=rule, human=human)
    found = calibrate(evidence, alpha=ask.alpha, delta=ask.delta, method=rule.method)
    return replace(found, index=int(points[found.index]) + first)


def _terms(
    policy: Policy,
    ask: Target,
    *,
    splits: tuple[_Split, _Split, _Split],
    kept: MarkedRequests,
    rule: LossRule,
) -> Terms:
    fit, test, report = splits
    created = datetime.now(UTC)
    groups = tuple(sorted({g for g in test.table.groups if g is not None}))
    return Terms(
        policy_hash=policy_hash(policy),
        reference=ask.reference,
        label_source=ask.label_source,
        splits=Splits(fit=_hash(fit), certify=_hash(test), report=_hash(report)),
        scope=Scope(
            groups=groups,
            unscored=kept.left_out,
            promised=dict.fromkeys(groups, 1.0) | _promised(policy, test, ask, rule=rule),
        ),
        created=created,
        lapses_at=created + timedelta(seconds=ask.lapses_after_s),
    )


def _promised(policy: Policy, test: _Split, ask: Target, *, rule: LossRule) -> dict[str, float]:
    """Bound the risk of each group at the certified point; it is watched against no less."""
    here = slice(policy.point, policy.point + 1)
    plays = play(policy, harms(policy, test.seen), points=here)
    counts = np.array([group is not None for group in test.table.groups])
    if rule.risk is RiskKind.ERROR_AMONG_ANSWERED:
        counts &= answered_cheaply(plays)[:, 0]
    rows = np.flatnonzero(counts)
    bounds = bounds_of(
        losses_of(plays, test.known.quality, rule=rule)[rows, 0],
        [str(test.table.groups[row]) for row in rows.tolist()],
        test.table.clusters[rows],
        rule=rule,
        delta=ask.delta,
    )
    return {bound.part: min(1.0, max(ask.alpha, bound.bound)) for bound in bounds}


def _hash(split: _Split) -> str:
    return content_hash((split.table.request_ids, split.known.quality.tolist()))


def _measured(
    report: _Split, plays: PathOutcomes, ask: Target, *, rule: LossRule
) -> dict[str, Any]:
    """Measure one point of the path on the reporting rows, beside its baselines."""
    known, rungs = report.known, report.known.rungs
    losses, cheap = losses_of(plays, known.quality, rule=rule)[:, 0], answered_cheaply(plays)[:, 0]
    counts = cheap if ask.risk is RiskKind.ERROR_AMONG_ANSWERED else np.ones_like(cheap)
    share = dict(zip(rungs, plays.shares()[:, 0].tolist(), strict=True))
    saved = saving(plays.costs(known.cost)[:, 0], known.cost[:, -1])
    wanted = float(known.quality[:, -1].mean())
    matched = cost_matched_random(known, share=1.0 - share[ask.reference], saving=saved)
    return {
        "reference": ask.reference,
        "alpha": ask.alpha,
        "delta": ask.delta,
        "seed": ask.seed,
        "label_source": ask.label_source,
        "share": share,
        "risk": float(losses[counts].mean()) if counts.any() else None,
        "saving": saved,
        "saving_unit": report.table.cost_unit,
        "quality": float(plays.qualities(known.quality)[:, 0].mean()),
        "reference_quality": wanted,
        "baselines": {
            name: replace(way, risk=wanted - way.quality) if rule.net else way
            for name, way in {
                "cost_matched_random": matched,
                "always_cheapest": always_cheapest(known),
                "always_reference": always_reference(known),
                "oracle": oracle(known),
            }.items()
        },
        "rung_bounds": bounds_of(
            losses[cheap],
            [rungs[at] for at in plays.chosen[cheap, 0].tolist()],
            report.table.clusters[cheap],
            rule=rule,
            delta=ask.delta,
        ),
    }
