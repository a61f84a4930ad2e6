"""The requests dealt into three, and what the certifying ones say of a policy."""

from collections.abc import Container
from dataclasses import dataclass, replace

import numpy as np
from msgspec.structs import replace as with_field

from suffice.certify.evidence import (
    LossRule,
    answered_cheaply,
    bounds_of,
    grid_points,
    losses_of,
    path_evidence,
)
from suffice.encoders.base import Encoder
from suffice.errors import InputError
from suffice.features.groups import TextGroups
from suffice.guarantee import Calibration, Per, RiskKind, calibrate
from suffice.policy import (
    Baseline,
    ExpectedLosses,
    FittedPolicies,
    Observations,
    Outcomes,
    PathOutcomes,
    Policy,
    described,
    observe_table,
    outcomes,
    play,
)
from suffice.policy.baselines import saving
from suffice.scoring.labels import HumanLabels
from suffice.trials.table import Floats, Rows, TrialTable, split_rows


@dataclass(frozen=True, kw_only=True, eq=False)
class RequestSplit:
    """Some rows of a table, as numbers and with what they came to."""

    table: TrialTable
    rows: Rows
    seen: Observations
    known: Outcomes

    def only(self, request_ids: Container[str]) -> "RequestSplit":
        """Return the rows of some requests."""
        names = enumerate(self.table.request_ids)
        at = np.array([row for row, name in names if name in request_ids], dtype=np.int64)
        return _picked(self.table, self.seen, self.known, at, rows=self.rows[at])

    def weighing(self, weights: Floats | None) -> "RequestSplit":
        """Return the same rows, which count so much in a mean."""
        return replace(self, known=replace(self.known, weights=weights))


def _picked(
    table: TrialTable, seen: Observations, known: Outcomes, at: Rows, *, rows: Rows
) -> RequestSplit:
    return RequestSplit(
        table=table.subset(at),
        rows=rows,
        seen=seen.subset(at),
        known=known.subset(at),
    )


def deal(
    table: TrialTable, *, reference: str, seed: int, per: Per, encoder: Encoder
) -> tuple[RequestSplit, RequestSplit, RequestSplit]:
    """Observe all requests at once, then deal whole clusters out: to fit, certify and report.

    Raises InputError where one cluster is so large that nothing else is left to certify on.
    """
    parts = dealt_rows(table, seed=seed, per=per)
    if len(np.unique(table.clusters[parts[1]])) == 1 < len(np.unique(table.clusters)):
        raise InputError(
            f"one cluster holds {len(parts[1]):,} of the {len(table):,} requests: the certifying "
            "split has no other",
            hint="promise per session (--per session), or give more of the other clusters",
        )
    seen = observe_table(table, reference=reference, encoder=encoder)
    known = outcomes(table, reference=reference)
    fit, test, report = (_picked(table, seen, known, rows, rows=rows) for rows in parts)
    return fit, test, report


def dealt_rows(table: TrialTable, *, seed: int, per: Per) -> tuple[Rows, ...]:
    """Deal rows to fit, certify and report: shares of the requests, or of the sessions."""
    return split_rows(table.clusters, seed=seed, of_clusters=per is Per.SESSION)


def regrouped(split: RequestSplit, text_groups: TextGroups | None) -> RequestSplit:
    """Return the same requests in the groups that their texts tell, or in none."""
    groups = tuple(
        text_groups.group_of(text) if text_groups else None for text in split.table.texts
    )
    table, seen = replace(split.table, groups=groups), replace(split.seen, groups=groups)
    return replace(split, table=table, seen=seen)


@dataclass(frozen=True, kw_only=True, eq=False)
class CertifyingRows:
    """The rows that policies of one fit are held against, and how losses are counted.

    `expected` are the scores of the rows in `split`, which all those policies share.
    """

    split: RequestSplit
    rule: LossRule
    alpha: float
    delta: float
    expected: ExpectedLosses
    human: HumanLabels | None = None

    def calibrate(self, policy: Policy) -> Calibration:
        """Calibrate from the first point that keeps any answer of a cheaper rung.

        Points before it cannot lose, so a walk from point 1 on gets there too; but a promise about
        them would be one about nothing. The index returned is the path's own. A random part is
        judged by what all requests would lose.
        """
        whole = with_field(policy, path=policy.path.whole())
        kept = answered_cheaply(play(whole, self.expected))
        first = int(kept.any(axis=0).argmax())
        plays = play(whole, self.expected, points=slice(first, None))
        points = grid_points(plays, rule=self.rule)
        plays = PathOutcomes(
            chosen=plays.chosen[:, points], attempted=plays.attempted[:, :, points]
        )
        evidence = path_evidence(
            plays,
            self.split.known.quality,
            self.split.table.clusters,
            rule=self.rule,
            human=self._labels(),
        )
        parts = policy.path.parts[first:][points]
        if (parts < 1).any():
            evidence = replace(evidence, parts=parts)
        found = calibrate(evidence, alpha=self.alpha, delta=self.delta, method=self.rule.method)
        return with_field(found, index=int(points[found.index]) + first)

    def group_bounds(self, policy: Policy) -> dict[str, float]:
        """Bound the risk of each group at the policy's point; it is watched against no less."""
        table, here = self.split.table, slice(policy.point, policy.point + 1)
        plays = play(policy, self.expected, points=here)
        counts = np.array([group is not None for group in table.groups])
        if self.rule.risk is RiskKind.ERROR_AMONG_ANSWERED:
            counts &= answered_cheaply(plays)[:, 0]
        rows = np.flatnonzero(counts)
        bounds = bounds_of(
            losses_of(plays, self.split.known.quality, rule=self.rule)[rows, 0],
            [str(table.groups[row]) for row in rows.tolist()],
            table.clusters[rows],
            rule=self.rule,
            delta=self.delta,
        )
        return {bound.part: min(1.0, max(self.alpha, bound.bound)) for bound in bounds}

    def _labels(self) -> HumanLabels | None:
        """Return the human labels of these rows, by their places among them."""
        if self.human is None:
            return None
        labelled = np.isin(self.human.rows, self.split.rows)
        at = np.searchsorted(self.split.rows, self.human.rows[labelled])
        return HumanLabels(rows=at, quality=self.human.quality[labelled])


def rival_policies(
    fitted: FittedPolicies,
    certifying: CertifyingRows,
    report: RequestSplit,
    expected: ExpectedLosses,
) -> dict[str, Baseline]:
    """Certify simpler policies on the same rows, and measure them on the reporting rows.

    `expected` are the scores of `report`. What is not certified leaves all to the reference.
    """
    found = {}
    rivals = {"random": fitted.random, "best_table": fitted.table, "route_only": fitted.route}
    for name, policy in rivals.items():
        if policy is not None:
            calibration = certifying.calibrate(policy)
            point = calibration.index if calibration.certified else 0
            plays = play(policy, expected, points=slice(point, point + 1))
            found[name] = described(report.known, plays)
    return found


def as_good_rung(
    fitted: FittedPolicies, certifying: CertifyingRows, report: RequestSplit
) -> str | None:
    """Name the cheapest fixed rung that is certified for every request, without any check.

    Rungs are tested in the order of their losses on the fitting rows, and a dearer one that loses
    more is left out, so the last that passes is the cheapest. None where it costs no less than the
    reference on the rows that nothing was fitted on.
    """
    if fitted.fixed is None:
        return None
    calibration = certifying.calibrate(fitted.fixed)
    if not calibration.certified:
        return None
    at = int(fitted.fixed.path.attempts[calibration.index].argmax())
    costs = np.concatenate([split.known.cost for split in (certifying.split, report)])
    saved = saving(costs[:, at], costs[:, -1])
    if at in fitted.fixed.checked or (saved is not None and saved <= 0):
        return None
    return fitted.fixed.rungs[at]
