"""From trials to a certified policy: fit on one split, certify on another, report on a third."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from msgspec.structs import replace

from suffice.certify.certifying import (
    CertifyingRows,
    RequestSplit,
    as_good_rung,
    deal,
    regrouped,
    rival_policies,
)
from suffice.certify.checking import calibrated, check_errors
from suffice.certify.evidence import (
    LossRule,
    MarkedRequests,
    answered_cheaply,
    bounds_of,
    check_rows,
    loss_rule,
    losses_of,
    marked,
)
from suffice.certify.labelling import LabelPlan, marked_among, planned
from suffice.certify.result import CertifyResult
from suffice.certify.savings import beside_saving, saving_interval
from suffice.certify.target import GroupSource, Target, goal_of
from suffice.encoders.base import Encoder
from suffice.errors import InputError
from suffice.features.groups import PREFIX, learn_text_groups
from suffice.guarantee import (
    CheckErrors,
    LabelSource,
    RiskKind,
    Scope,
    Splits,
    Terms,
    content_hash,
    issue,
)
from suffice.guarantee.losses import check_reference
from suffice.policy import (
    Baseline,
    PathOutcomes,
    Policy,
    always,
    always_cheapest,
    always_reference,
    cost_matched_random,
    described,
    fit_policies,
    harms,
    oracle,
    play,
    policy_hash,
)
from suffice.scoring.labels import HumanLabels, Pair, human_labels
from suffice.trials.order import on_ladder
from suffice.trials.table import (
    FAILED,
    UNSCORED,
    TrialTable,
)
from suffice.types import Say

SPLITS = ("fit", "certify", "report")
CALIBRATED = (  # fields that a result takes over from its calibration
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


@dataclass(frozen=True, kw_only=True, eq=False)
class CertifiedPolicy:
    """The policy at its certified point (always the reference if there is none), and the findings.

    `plays` is what it did with `reported`, the rows of the reporting split, at that one point.
    `kept_cheap` names the requests beyond the fitting split that a cheaper rung answers.
    """

    policy: Policy
    result: CertifyResult
    reported: TrialTable
    plays: PathOutcomes
    kept_cheap: frozenset[str]


def certify(
    table: TrialTable,
    ask: Target,
    *,
    encoder: Encoder,
    labels: Mapping[Pair, float] | None = None,
    plan: LabelPlan | None = None,
    say: Say = lambda _stage: None,
) -> CertifiedPolicy:
    """Fit a path of policies and certify the furthest point that holds the promise.

    Requests without a quality of the reference, or an answer of some rung, are left out and
    counted; an answer that no scorer could judge is worth nothing. `labels` are human qualities
    that mend a judge's. With a `plan` of what to mark, a request without a mark counts as lost
    wherever it is kept, and no other policy is certified beside. Raises InputError for too few rows
    to certify anything (with how many it takes), an unknown reference, one that nothing is cheaper
    than, labels that do not go with the label source, or marks that do not go with the plan.
    """
    _check_source(ask, labels)
    ordered = on_ladder(table, reference=ask.reference)
    human = None if labels is None else _find_labels(labels, table, ordered)
    if plan is None:
        kept = marked(ordered, reference=ask.reference, judged=human is not None)
    else:
        kept = planned(ordered, plan, ask)
    check_rows(kept.table, alpha=ask.alpha, delta=ask.level, net=ask.risk is RiskKind.NET_LOSS)
    _check_quality(kept, ask)
    say(f"reading {len(kept.table):,} requests")
    fit, test, report = deal(
        kept.table, reference=ask.reference, seed=ask.seed, per=ask.per, encoder=encoder
    )
    if plan is not None:
        fit, report = fit.only(marked_among(ordered, plan.fit)), report.only({*plan.report})
    text_groups = None
    if ask.groups is GroupSource.TEXT or _told_before(fit.table):
        text_groups = learn_text_groups(fit.table.texts, fit.table.groups)
    if ask.groups is not GroupSource.DECLARED or text_groups is not None:
        fit, test, report = (regrouped(split, text_groups) for split in (fit, test, report))
    say(f"fitting the policy on {len(fit.rows):,} requests")
    random_part = ask.random_part and human is None and plan is None
    fitted = fit_policies(fit.seen, fit.known, goal_of(ask, test, random_part=random_part))
    say(f"certifying on {len(test.rows):,} others")
    rule = loss_rule(
        fit.known.quality,
        fit.table.clusters,
        risk=ask.risk,
        per=ask.per,
        judged=human is not None,
    )
    report = report.weighing(rule.weights(report.table.clusters))
    certifying = CertifyingRows(
        split=test,
        rule=rule,
        alpha=ask.alpha,
        delta=ask.level,
        expected=harms(fitted.policy, test.seen),
        human=human,
    )
    chosen = calibrated(fitted, certifying, fit, first_passing=human is None and plan is None)
    tests = chosen.calibration.tests * ask.lineage.planned
    calibration = replace(chosen.calibration, delta=ask.delta, tests=tests)
    policy = chosen.policy.at(calibration.index if calibration.certified else 0)
    policy = replace(policy, text_groups=text_groups)
    checks = check_errors((fit, test, report), rule=rule, delta=ask.delta)
    certificate = None
    if calibration.certified:
        promised = certifying.group_bounds(policy)
        judging = content_hash([_hash(fit), _hash(test)]) if chosen.on_fitting_rows else _hash(test)
        splits = Splits(fit=_hash(fit), certify=judging, report=_hash(report))
        scope = Scope(
            groups=tuple(
                promised_groups := sorted({g for g in test.table.groups if g is not None})
            ),
            unscored=kept.left_out,
            promised=dict.fromkeys(promised_groups, 1.0) | promised,
        )
        terms = _terms(policy, ask, splits=splits, scope=scope, checks=checks)
        certificate = issue(calibration, terms)
    expected, here = harms(policy, report.seen), slice(policy.point, policy.point + 1)
    plays = play(policy, expected, points=here)
    certified_plays = play(policy, certifying.expected, points=here)
    rivals = {} if plan else rival_policies(fitted, certifying, report, expected)
    found = _measured(report, plays, ask, rule=rule, rivals=rivals)
    return CertifiedPolicy(
        policy=policy,
        result=CertifyResult(
            certified=calibration.certified,
            family=policy.family,
            part=policy.part,
            use_as_reference=None if plan else as_good_rung(fitted, certifying, report),
            **{name: getattr(calibration, name) for name in CALIBRATED},
            rows={name: len(s.rows) for name, s in zip(SPLITS, (fit, test, report), strict=True)},
            beyond_largest=int((~rule.clusters(kept.table.clusters).counted).sum()),
            unscored=kept.left_out,
            worthless=kept.worthless,
            unmarked=kept.unmarked,
            left_out={**table.left_out, **_left_out(kept)},
            **beside_saving(found["saving"], found["share"], kept, reference=ask.reference),
            certificate=certificate,
            checks=checks,
            **found,
        ),
        reported=report.table,
        plays=plays,
        kept_cheap=frozenset(
            _kept_cheap(test.table, certified_plays) + _kept_cheap(report.table, plays)
        ),
    )


def _left_out(kept: MarkedRequests) -> dict[str, int]:
    failed = len(kept.failed or ())
    counts = {FAILED: failed, UNSCORED: kept.left_out - failed}
    return {why: count for why, count in counts.items() if count}


def _kept_cheap(table: TrialTable, plays: PathOutcomes) -> list[str]:
    """Name the requests that a cheaper rung answers, at the one point of `plays`."""
    return [table.request_ids[row] for row in np.flatnonzero(answered_cheaply(plays)[:, 0])]


def _told_before(table: TrialTable) -> bool:
    """Say whether the groups come from the books of a gateway that told them from the text."""
    return any(group is not None and group.startswith(PREFIX) for group in table.groups)


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


def _check_quality(kept: MarkedRequests, ask: Target) -> None:
    """Refuse a promise against the reference that no policy could break."""
    if ask.risk is not RiskKind.ERROR_AMONG_ANSWERED:
        reached = float(kept.table.quality[:, -1].mean())
        check_reference(ask.reference, reached, alpha=ask.alpha)


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


def _terms(
    policy: Policy,
    ask: Target,
    *,
    splits: Splits,
    scope: Scope,
    checks: dict[str, CheckErrors],
) -> Terms:
    created = datetime.now(UTC)
    return Terms(
        policy_hash=policy_hash(policy),
        reference=ask.reference,
        label_source=ask.label_source,
        splits=splits,
        scope=scope,
        created=created,
        lapses_at=created + timedelta(seconds=ask.lapses_after_s),
        lineage=ask.lineage,
        checks=checks,
    )


def _hash(split: RequestSplit) -> str:
    return content_hash((split.table.request_ids, split.known.quality.tolist()))


def _measured(
    report: RequestSplit,
    plays: PathOutcomes,
    ask: Target,
    *,
    rule: LossRule,
    rivals: dict[str, Baseline],
) -> dict[str, Any]:
    """Measure one point of the path on the reporting rows, beside its baselines."""
    known, rungs = report.known, report.known.rungs
    losses, cheap = losses_of(plays, known.quality, rule=rule)[:, 0], answered_cheaply(plays)[:, 0]
    counts = cheap if ask.risk is RiskKind.ERROR_AMONG_ANSWERED else np.ones_like(cheap)
    shown, wanted = described(known, plays), known.mean(known.quality[:, -1])
    spared = 1.0 - shown.share[ask.reference]
    weights = rule.weights(report.table.clusters[counts])

    def judged(ways: dict[str, Baseline]) -> dict[str, Baseline]:
        if not rule.net:
            return ways
        return {name: replace(way, risk=wanted - way.quality) for name, way in ways.items()}

    return {
        "reference": ask.reference,
        "alpha": ask.alpha,
        "delta": ask.delta,
        "seed": ask.seed,
        "lineage": ask.lineage,
        "label_source": ask.label_source,
        "share": shown.share,
        "risk": float(np.average(losses[counts], weights=weights)) if counts.any() else None,
        "saving": shown.saving,
        "saving_interval": None if shown.saving is None else saving_interval(report, plays),
        "saving_unit": report.table.cost_unit,
        "quality": shown.quality,
        "reference_quality": wanted,
        "baselines": judged(
            {
                "cost_matched_random": cost_matched_random(
                    known, share=spared, saving=shown.saving
                ),
                "always_cheapest": always_cheapest(known),
                "always_reference": always_reference(known),
                **rivals,
                "oracle": oracle(known),
            }
        ),
        "fixed_rungs": judged({rung: always(known, rung) for rung in rungs}),
        "rung_bounds": bounds_of(
            losses[cheap],
            [rungs[at] for at in plays.chosen[cheap, 0].tolist()],
            report.table.clusters[cheap],
            rule=rule,
            delta=ask.delta,
        ),
    }
