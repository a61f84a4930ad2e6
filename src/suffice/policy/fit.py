"""From the fitting split to a path of policies; the certifying split is never seen here."""

from dataclasses import dataclass, replace

import numpy as np

from suffice.errors import InputError
from suffice.policy.candidates import FittingRows, families
from suffice.policy.choose import (
    PARTS,
    Goal,
    best_value,
    certifiable_path,
    from_reference,
    growing_part,
    valued,
    walk_path,
)
from suffice.policy.observe import Flags, Floats, Observations
from suffice.policy.path import ExpectedLosses, Policy, PolicyPath, RungScore, follow
from suffice.policy.score import after_inputs, before_inputs, fit_score
from suffice.trials.table import Rows, TrialTable

FEWEST_ROWS = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """What some rows came to, rungs from the cheapest to the reference.

    `quality`, `cost` and `abstained` have shape (rows, rungs); no quality may be NaN, a cost is NaN
    if unknown. `weights`, shape (rows,), say how much each row counts in a mean; by default all
    count the same.
    """

    rungs: tuple[str, ...]
    quality: Floats
    cost: Floats
    abstained: Flags
    weights: Floats | None = None

    def mean(self, values: Floats) -> float:
        """Average one value a row."""
        return float(np.average(values, weights=self.weights))

    def subset(self, rows: Rows) -> "Outcomes":
        """Return some rows, in the order of `rows`."""
        return replace(
            self,
            quality=self.quality[rows],
            cost=self.cost[rows],
            abstained=self.abstained[rows],
            weights=None if self.weights is None else self.weights[rows],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedPolicies:
    """The policy to certify, and those that it is compared with; all share their scores.

    `fixed` has a point for every fixed rung that may be certified, the safest first; `random` sends
    a random part of the requests to the fixed rung that is expected to save most so, and is None
    where the goal allows no random part. `route` is the best policy that decides before any
    attempt, `table` the best table by group, if there are any. `first_passing` keeps the first
    answer that passes its check, from the cheapest checked rung up, for a growing random part of
    the requests where the goal allows it: it learns nothing from any row. None without checks, or
    where that costs no less than the reference.
    """

    policy: Policy
    fixed: Policy | None
    random: Policy | None
    route: Policy | None
    table: Policy | None
    first_passing: Policy | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _FittedScores:
    score: RungScore
    before: Floats  # loss, saving, reference's cost; out of bag
    after: Floats  # loss, reference's cost; the loss is NaN where the rung abstained


def outcomes(table: TrialTable, *, reference: str) -> Outcomes:
    """Return what a table's ladder came to, up to and including the reference rung."""
    rungs = slice(table.rung_index(reference) + 1)
    return Outcomes(
        rungs=table.rungs[rungs],
        quality=table.quality[:, rungs],
        cost=table.cost[:, rungs],
        abstained=np.array([[s.abstained for s in row[rungs]] for row in table.signals]),
    )


def fit_policy(seen: Observations, known: Outcomes, goal: Goal) -> Policy:
    """Fit the path of policies to certify, standing at point 0 (always reference).

    A rung can be reviewed if the fitting rows hold its answers. Raises `InputError` for too few
    rows, an unscored row, a ladder of one rung, or where nothing costs less than the reference.
    """
    return fit_policies(seen, known, goal).policy


def fit_policies(seen: Observations, known: Outcomes, goal: Goal) -> FittedPolicies:
    """Fit the policy to certify with those that it is compared with; errors as `fit_policy`."""
    _check(seen, known)
    cost = _relative(known.cost)
    below = range(len(known.rungs) - 1)
    fitted = [_fit_rung(seen, known.quality, cost, rung=rung) for rung in below]
    rows = FittingRows(
        expected=_expected(fitted, seen),
        losses=_losses(known.quality, goal),
        cost=cost,
        reviewed=tuple(f.score.after is not None for f in fitted),
    )
    kinds = families(rows)
    if not kinds:
        failing = ", failed its check" if seen.checked else ""
        raise InputError(
            f"every rung below {known.rungs[-1]!r} abstained on every request{failing}, or costs "
            "no less",
            hint="leave out what makes the cheaper rungs dear"
            if seen.checked
            else "a latent rung answers only what it was trained and certified for",
        )
    values = [valued(kind, goal, fitting_rows=len(seen)) for kind in kinds]

    def along(path: PolicyPath) -> Policy:
        return Policy(
            rungs=known.rungs,
            scores=tuple(f.score for f in fitted),
            path=path,
            encoder=seen.encoder,
            checked=seen.checked,
        )

    def best(*names: str) -> Policy | None:
        fitting = [v for v in values if not names or v.family.name in names]
        return along(certifiable_path(best_value(fitting), goal)) if fitting else None

    policy = best()
    assert policy is not None
    fixed = values[0] if kinds[0].name == "fixed" else None
    return FittedPolicies(
        policy=policy,
        fixed=along(walk_path(kinds[0])) if fixed else None,
        random=along(growing_part(fixed, goal)) if fixed and fixed.part > 0 else None,
        route=best("fixed", "route"),
        table=best("table"),
        first_passing=along(passing) if (passing := _first_passing(rows, seen, goal)) else None,
    )


def _first_passing(rows: FittingRows, seen: Observations, goal: Goal) -> PolicyPath | None:
    if not seen.checked:
        return None
    parts = np.geomspace(goal.alpha, 1.0, PARTS + 1)[1:] if goal.random_part else np.ones(1)
    tried = np.isin(np.arange(rows.losses.shape[1] - 1), seen.checked)
    always = np.tile(np.where(tried, np.inf, -np.inf), (len(parts), 1))
    path = PolicyPath(
        attempts=always,
        keeps=always,
        starts=np.zeros((len(parts), 1), dtype=np.int32),
        parts=parts,
        families=("check",) * len(parts),
    )
    spent = follow(path.take(np.arange(1)).whole(), rows.expected).costs(rows.cost)
    return from_reference(path) if spent.mean() < rows.cost[:, -1].mean() else None


def _fit_rung(seen: Observations, quality: Floats, cost: Floats, *, rung: int) -> _FittedScores:
    """Fit the scores of a rung; what fails its check is neither lost nor saved, only paid for."""
    reached, wanted = quality[:, rung], quality[:, -1]
    targets = np.stack([np.maximum(0.0, wanted - reached), reached, wanted], axis=1)
    reference = cost[:, -1:]
    attempts = seen.attempts[rung]
    stays = np.ones(len(seen))
    if rung in seen.checked and attempts is not None:
        stays -= attempts.abstained
    carried = np.hstack([stays[:, None] * reference - cost[:, rung, None], reference])
    kept = targets * np.column_stack([stays, np.ones((len(seen), 2))])
    before, unseen_before = fit_score(before_inputs(seen), kept, carried=carried)
    score, unseen_after = RungScore(before=before), unseen_before[:, [0, 2]]
    if attempts is not None:
        given = np.flatnonzero(attempts.given)
        if len(given) >= FEWEST_ROWS:
            answered = after_inputs(seen.subset(given), attempts.subset(given))
            after, unseen = fit_score(answered, targets[given], carried=reference[given])
            if after.slope[0] > 0:  # else reading the answers told nothing of the loss
                unseen_after[given] = unseen
                score = RungScore(before=before, after=after)
        unseen_after[attempts.abstained, 0] = np.nan
    return _FittedScores(score=score, before=unseen_before, after=unseen_after)


def _expected(fitted: list[_FittedScores], seen: Observations) -> ExpectedLosses:
    """Gather what the scores expect of rows that they did not see, every request drawn."""
    before = np.stack([f.before for f in fitted], axis=1)
    after = np.stack([f.after for f in fitted], axis=1)
    return ExpectedLosses(
        before=before[:, :, 0],
        after=after[:, :, 0],
        saved=before[:, :, 1],
        spared=after[:, :, 1],
        groups=seen.groups,
        draws=np.zeros(len(seen)),
    )


def _relative(cost: Floats) -> Floats:
    """Return costs in mean costs of the reference; where one is unknown, only the reference costs.

    What costs least then is what keeps the most requests from the reference.
    """
    mean = float(cost[:, -1].mean())
    if np.isfinite(cost).all() and mean > 0:
        return cost / mean
    unknown = np.zeros_like(cost)
    unknown[:, -1] = 1.0
    return unknown


def _losses(quality: Floats, goal: Goal) -> Floats:
    """Return the loss of each rung's answer, shape (rows, rungs); the reference loses nothing."""
    if goal.among_answered:
        losses = 1.0 - quality
        losses[:, -1] = 0.0
        return losses
    apart = quality[:, -1:] - quality
    return apart if goal.net else np.maximum(0.0, apart)


def _check(seen: Observations, known: Outcomes) -> None:
    if len(known.rungs) < 2:
        raise InputError(
            f"{known.rungs[-1]!r} is the cheapest rung, so there is nothing to save",
            hint="name a dearer rung as the reference",
        )
    if len(seen) < FEWEST_ROWS:
        raise InputError(
            f"{len(seen)} requests are too few to fit a policy",
            hint=f"the fitting split needs at least {FEWEST_ROWS}, better some hundreds",
        )
    if np.isnan(known.quality).any():
        raise InputError("a fitting row is unscored", hint="leave unscored requests out")
