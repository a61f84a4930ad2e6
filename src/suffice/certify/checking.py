"""What an operator's check is worth: a policy that needs nothing else, and how often it errs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from msgspec.structs import replace as with_field

from suffice.certify.certifying import CertifyingRows, RequestSplit
from suffice.certify.evidence import LossRule, path_evidence
from suffice.guarantee import Calibration, CheckErrors, Method, calibrate, part_bounds
from suffice.policy import FittedPolicies, PathOutcomes, Policy, described, harms, play
from suffice.types import Trial


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibratedPolicy:
    """A policy and what the certifying rows say of it; some were the fitting rows as well."""

    policy: Policy
    calibration: Calibration
    on_fitting_rows: bool = False


def calibrated(
    fitted: FittedPolicies, certifying: CertifyingRows, fit: RequestSplit, *, first_passing: bool
) -> CalibratedPolicy:
    """Calibrate the fitted policy, and beside it the one that keeps the first passing answer.

    The two share delta: the second has half of it, the first the other half, and all of it once
    the second is certified (the fallback procedure of Wiens, 2003). Either may be served once it is
    certified: the one that saves more on the certifying rows is.
    """
    passing = fitted.first_passing if first_passing else None
    if passing is None:
        return CalibratedPolicy(
            policy=fitted.policy, calibration=certifying.calibrate(fitted.policy)
        )
    test, half = certifying.split, replace(certifying, delta=certifying.delta / 2)
    simple = CalibratedPolicy(
        policy=passing,
        calibration=_calibrated_on_both(passing, (fit, test), half),
        on_fitting_rows=True,
    )
    left = certifying if simple.calibration.certified else half
    learnt = CalibratedPolicy(policy=fitted.policy, calibration=left.calibrate(fitted.policy))

    def worth(way: CalibratedPolicy) -> float:
        here = slice(way.calibration.index, way.calibration.index + 1)
        expected = harms(way.policy, test.seen)
        figures = described(test.known, play(way.policy, expected, points=here))
        kept = 1.0 - figures.share[way.policy.reference]
        return kept if figures.saving is None else figures.saving

    ways = [way for way in (simple, learnt) if way.calibration.certified] or [simple]
    best = max(ways, key=worth)
    shared = 1 if best is learnt and left is certifying else 2
    tests = best.calibration.tests * shared
    return replace(best, calibration=with_field(best.calibration, tests=tests))


def _calibrated_on_both(
    policy: Policy, splits: Sequence[RequestSplit], certifying: CertifyingRows
) -> Calibration:
    """Calibrate a policy that learns from no row: the fitting rows may judge it too."""
    whole = with_field(policy, path=policy.path.whole())
    chosen, quality, clusters, before = [], [], [], 0
    for split in splits:
        plays = play(whole, harms(policy, split.seen), points=slice(1, None))
        chosen.append(plays.chosen)
        quality.append(split.known.quality)
        clusters.append(split.table.clusters + before)
        before += len(split.table.cluster_names)
    plays = PathOutcomes(
        chosen=np.concatenate(chosen), attempted=np.zeros((0, 0, 0), dtype=np.bool_)
    )
    rule = certifying.rule
    evidence = path_evidence(plays, np.concatenate(quality), np.concatenate(clusters), rule=rule)
    parts = policy.path.parts[1:]
    if (parts < 1).any():
        evidence = replace(evidence, parts=parts)
    result = calibrate(evidence, alpha=certifying.alpha, delta=certifying.delta, method=rule.method)
    return with_field(result, index=result.index + 1)


def check_errors(
    splits: Iterable[RequestSplit], *, rule: LossRule, delta: float
) -> dict[str, CheckErrors]:
    """Say of each checked rung how often its check errs, on all rows: it learnt from none.

    An answer is bad if it is worse than the reference's. Each pair of bounds holds with confidence
    1 - delta.
    """
    rows = list(splits)
    return {
        rows[0].known.rungs[rung]: _errors(rows, rung, rule=rule, delta=delta)
        for rung in rows[0].seen.checked
    }


def _errors(splits: list[RequestSplit], rung: int, *, rule: LossRule, delta: float) -> CheckErrors:
    quality = np.concatenate([split.known.quality for split in splits])
    passed = np.array([row[rung].check is True for s in splits for row in s.table.signals])
    names = [name for s in splits for name in np.array(s.table.cluster_names)[s.table.clusters]]
    clusters = np.unique(names, return_inverse=True)[1].astype(np.int64)
    bad = quality[:, rung] < quality[:, -1]
    errors = (passed == bad).astype(np.float64)
    kinds = np.where(bad, "accept", "reject").tolist()
    method = Method.BINOMIAL if rule.largest == 1 else Method.BETTING
    parts = part_bounds(errors, kinds, delta=delta, method=method, clusters=rule.clusters(clusters))
    bounds = {part.part: part.bound for part in parts}
    return CheckErrors(
        bad=int(bad.sum()),
        good=int((~bad).sum()),
        false_accepts=int((passed & bad).sum()),
        false_rejects=int((~passed & ~bad).sum()),
        false_accept_bound=bounds.get("accept", 1.0),
        false_reject_bound=bounds.get("reject", 1.0),
    )


def without_checks(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Return trials as if nobody had checked their answers, nor paid for that."""
    return tuple(
        with_field(
            trial,
            check=None,
            charge_usd=None
            if trial.charge_usd is None
            else trial.charge_usd - (trial.check_usd or 0),
        )
        for trial in trials
    )
