"""What requests say of a path of policies: the losses of each kind of risk, in clusters."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from math import floor

import numpy as np
from numpy.typing import NDArray

from suffice.errors import InputError
from suffice.guarantee import (
    Clusters,
    Evidence,
    LabelledLosses,
    Method,
    PartBound,
    Per,
    RiskKind,
    clusters_needed,
    largest_cluster,
    method_for,
    part_bounds,
)
from suffice.policy import FEWEST_ROWS, PathOutcomes
from suffice.policy.observe import is_given
from suffice.scoring.labels import HumanLabels
from suffice.trials.table import SPLIT_FRACTIONS, Floats, Rows, TrialTable, split_sizes

ROUNDING_ROWS = 3  # by which rounding can move the size of a split, in requests
GRID = 15  # points of a path that are tested where each of them spends a part of delta


@dataclass(frozen=True, kw_only=True, eq=False)
class MarkedRequests:
    """The requests that can be judged: every quality is known.

    `left_out` requests have no quality of the reference, or no answer of some rung. `worthless` of
    the others have an answer of a cheaper rung that no scorer could judge: it counts as worth
    nothing, because what a scorer cannot read is hardly ever a good answer left out by chance.
    `unmarked` requests have no mark, and count as lost where a cheaper rung answers. `failed` has
    the rows left out in which calls of cheaper rungs failed, and the reference's answer was scored.
    """

    table: TrialTable
    left_out: int
    worthless: int
    unmarked: int = 0
    failed: TrialTable | None = None


@dataclass(frozen=True, kw_only=True)
class LossRule:
    """How losses are counted: what the risk is, per what, and how many rows a cluster has at most.

    All of it is fixed before the certifying losses are seen.
    """

    risk: RiskKind
    per: Per
    method: Method
    largest: int

    @property
    def net(self) -> bool:
        """Whether better answers make up for worse ones."""
        return self.risk is RiskKind.NET_LOSS

    def clusters(self, codes: Rows) -> Clusters:
        """Return the clusters of some rows."""
        return Clusters(codes=codes, largest=self.largest, per=self.per)

    def weights(self, codes: Rows) -> Floats | None:
        """Return how much each of some rows counts in a mean per session; None per request."""
        if self.per is Per.REQUEST:
            return None
        return np.asarray(1.0 / np.bincount(codes)[codes])


def marked(table: TrialTable, *, reference: str, judged: bool) -> MarkedRequests:
    """Keep the requests that can be judged; where a judge gave the marks, only those marked whole.

    An answer that was given, and that no scorer could judge, is worth 0 beside a scored reference.
    """
    quality = table.quality.copy()
    answered = np.array([[is_given(signals) for signals in row] for row in table.signals])
    compared = ~np.isnan(quality[:, table.rung_index(reference)])
    answered = answered.reshape(quality.shape) | table.unscored
    silent = np.isnan(quality) & answered & compared[:, None]
    failed = np.isnan(quality) & ~answered & compared[:, None]
    if judged:
        silent[:] = False
    quality[silent] = 0.0
    whole = np.flatnonzero(~np.isnan(quality).any(axis=1))
    return MarkedRequests(
        failed=table.subset(np.flatnonzero(failed.any(axis=1))) if failed.any() else None,
        table=replaced(table, quality=quality).subset(whole),
        left_out=len(table) - len(whole),
        worthless=int(silent[whole].any(axis=1).sum()),
    )


def check_rows(table: TrialTable, *, alpha: float, delta: float, net: bool) -> None:
    """Refuse trials that could not certify `alpha` even without a single loss."""
    rows, clusters = len(table), len(table.cluster_names)
    method = Method.BETTING if net or clusters < rows else Method.BINOMIAL
    least = clusters_needed(alpha, delta, method=method, net=net)
    if least is None:
        raise InputError(
            f"no number of rows certifies alpha {alpha:g}", hint="ask for a larger alpha"
        )
    single = clusters == rows
    fewest = _fewest(certifying=least, fitting=FEWEST_ROWS if single else 1)
    unit = "requests" if single else "clusters of requests"
    if clusters < fewest:
        raise InputError(
            f"{clusters} scored {unit} are too few: {least} certifying "
            f"{'rows' if single else 'clusters'} are the fewest that can certify alpha {alpha:g} "
            f"at delta {delta:g}, without one loss, and {FEWEST_ROWS} rows the fewest that a "
            "policy is fitted on",
            hint=f"give {fewest} scored {unit} or more, or a larger alpha",
        )


def _fewest(*, certifying: int, fitting: int) -> int:
    """Return how many rows or clusters deal so many into the certifying and the fitting split."""
    fit, test, _ = SPLIT_FRACTIONS
    fewest = max(floor(fitting / fit), floor(certifying / test)) - ROUNDING_ROWS
    while split_sizes(fewest)[0] < fitting or split_sizes(fewest)[1] < certifying:
        fewest += 1
    return fewest


def loss_rule(fit: Floats, codes: Rows, *, risk: RiskKind, per: Per, judged: bool) -> LossRule:
    """Choose the test on the fitting rows: `fit` are their qualities, `codes` their clusters."""
    largest, net = largest_cluster(codes), risk is RiskKind.NET_LOSS
    against = np.ones_like(fit[:, -1:]) if risk is RiskKind.ERROR_AMONG_ANSWERED else fit[:, -1:]
    losses = against - fit if net else np.maximum(0.0, against - fit)
    method = method_for(losses, largest=largest, net=net)
    if judged:
        method = Method.JUDGED
    return LossRule(risk=risk, per=per, method=method, largest=largest)


def losses_of(plays: PathOutcomes, quality: Floats, *, rule: LossRule) -> Floats:
    """Return the loss of each request at each point, shape (rows, points)."""
    return _losses(plays.chosen.astype(np.intp), quality, rule=rule)


def answered_cheaply(plays: PathOutcomes) -> NDArray[np.bool_]:
    """Mark the requests that a rung below the reference answers, shape (rows, points)."""
    cheap: NDArray[np.bool_] = plays.chosen < len(plays.attempted) - 1
    return cheap


def path_evidence(
    plays: PathOutcomes,
    quality: Floats,
    codes: Rows,
    *,
    rule: LossRule,
    human: HumanLabels | None = None,
) -> Evidence:
    """Gather what certifying rows say of every point, and what people said of those they labelled.

    `quality` has shape (rows, rungs), `codes` (rows,); the rows of `human` are positions in them.
    """
    losses = losses_of(plays, quality, rule=rule)
    labels = None
    if human is None:
        losses = counted(losses, rule.method)
    else:
        chosen = plays.chosen[human.rows].astype(np.intp)
        mended = _losses(chosen, human.quality, rule=rule)
        labels = LabelledLosses(rows=human.rows, losses=mended, net=rule.net)
    conditional = rule.risk is RiskKind.ERROR_AMONG_ANSWERED
    return Evidence(
        losses=losses,
        answered=answered_cheaply(plays) if conditional else None,
        human=labels,
        clusters=rule.clusters(codes),
        net=rule.net,
    )


def grid_points(plays: PathOutcomes, *, rule: LossRule) -> Rows:
    """Return which points are tested: all on a walk, else a few whose shares lie evenly apart.

    Neither quality nor loss is looked at.
    """
    points = plays.chosen.shape[1]
    if rule.risk is not RiskKind.ERROR_AMONG_ANSWERED or points <= GRID:
        return np.arange(points)
    shares = answered_cheaply(plays).mean(axis=0)
    wanted = np.linspace(shares.min(), shares.max(), GRID)
    return np.unique(np.searchsorted(np.maximum.accumulate(shares), wanted).clip(0, points - 1))


def bounds_of(
    losses: Floats, parts: Sequence[str], codes: Rows, *, rule: LossRule, delta: float
) -> tuple[PartBound, ...]:
    """Bound the risk of each part of some rows, all at once; none where a judge gave the losses.

    The labels that mend a judge are too few to split up.
    """
    if rule.method is Method.JUDGED or not len(losses):
        return ()
    return part_bounds(
        counted(losses, rule.method),
        parts,
        delta=delta,
        method=rule.method,
        clusters=rule.clusters(codes),
        net=rule.net,
    )


def counted(losses: Floats, method: Method) -> Floats:
    """Count a part of a loss as a whole one where the test counts losses: it can only bound more.

    The fitting rows chose that test, so a rare fraction may first come up among the others.
    """
    return np.ceil(losses) if method is Method.BINOMIAL else losses


def _losses(chosen: NDArray[np.intp], quality: Floats, *, rule: LossRule) -> Floats:
    kept = np.take_along_axis(quality, chosen, axis=1)
    if rule.risk is RiskKind.ERROR_AMONG_ANSWERED:
        return np.asarray(1.0 - kept)
    apart = quality[:, -1:] - kept
    return np.asarray(apart if rule.net else np.maximum(0.0, apart))
