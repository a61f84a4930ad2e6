"""From the fitting split to a path of policies; the certifying split is never seen here."""

from dataclasses import dataclass

import numpy as np

from suffice.errors import InputError
from suffice.policy.observe import Flags, Floats, Observations
from suffice.policy.path import Policy, RungScore
from suffice.policy.score import after_inputs, before_inputs, fit_score
from suffice.trials.table import TrialTable

POINTS = 500  # of the path between always reference and always cheapest
FEWEST_ROWS = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """What the fitting rows came to, rungs from the cheapest to the reference.

    `quality`, `cost` and `abstained` have shape (rows, rungs); no quality may be NaN, a cost is NaN
    if unknown.
    """

    rungs: tuple[str, ...]
    quality: Floats
    cost: Floats
    abstained: Flags


@dataclass(frozen=True, kw_only=True, eq=False)
class _FittedScores:
    score: RungScore
    before: Floats  # out of bag
    after: Floats  # NaN where the rung abstained


def outcomes(table: TrialTable, *, reference: str) -> Outcomes:
    """Return what a table's ladder came to, up to and including the reference rung."""
    rungs = slice(table.rung_index(reference) + 1)
    return Outcomes(
        rungs=table.rungs[rungs],
        quality=table.quality[:, rungs],
        cost=table.cost[:, rungs],
        abstained=np.array([[s.abstained for s in row[rungs]] for row in table.signals]),
    )


def fit_policy(seen: Observations, known: Outcomes) -> Policy:
    """Fit a path of policies, standing at point 0 (always reference).

    A rung is reviewed after its attempt if the fitting rows hold its answers. Raises `InputError`
    for too few rows, an unscored row, or a ladder of one rung.
    """
    _check(seen, known)
    fitted = [_fit_rung(seen, known.quality, rung) for rung in range(len(known.rungs) - 1)]
    thresholds = _thresholds(np.concatenate([f.after for f in fitted]))
    cutoffs = [
        _cutoffs(f, thresholds, price=price)
        for f, price in zip(fitted, _prices(known.cost), strict=True)
    ]
    return Policy(
        rungs=known.rungs,
        scores=tuple(f.score for f in fitted),
        thresholds=thresholds,
        cutoffs=np.stack(cutoffs, axis=1),
        encoder=seen.encoder,
    )


def _fit_rung(seen: Observations, quality: Floats, rung: int) -> _FittedScores:
    reached, wanted = quality[:, rung], quality[:, -1]
    targets = np.stack([np.maximum(0.0, wanted - reached), reached, wanted], axis=1)
    before, unseen_before = fit_score(before_inputs(seen), targets)
    attempts = seen.attempts[rung]
    if attempts is None:
        return _FittedScores(
            score=RungScore(before=before), before=unseen_before, after=unseen_before
        )
    score, unseen_after = RungScore(before=before), unseen_before.copy()
    given = np.flatnonzero(attempts.given)
    if len(given) >= FEWEST_ROWS:
        answered = after_inputs(seen.subset(given), attempts.subset(given))
        after, unseen_after[given] = fit_score(answered, targets[given])
        score = RungScore(before=before, after=after)
    unseen_after[attempts.abstained] = np.nan
    return _FittedScores(score=score, before=unseen_before, after=unseen_after)


def _thresholds(expected: Floats) -> Floats:
    """Return thresholds that let equal shares of the fitting rows through, from none to all."""
    levels = np.linspace(0.0, 1.0, POINTS)
    known = expected[~np.isnan(expected)]
    if not len(known):
        raise InputError(
            "every rung below the reference abstained on every request",
            hint="a latent rung answers only what it was trained and certified for",
        )
    return np.concatenate([[-np.inf], np.unique(np.quantile(known, levels)), [np.inf]])


def _prices(cost: Floats) -> list[float | None]:
    """Return each rung's mean cost over the reference's, None where unknown."""
    means = cost.mean(axis=0).tolist()
    known = [mean / means[-1] if means[-1] > 0 else np.nan for mean in means[:-1]]
    return [price if np.isfinite(price) else None for price in known]


def _cutoffs(fitted: _FittedScores, thresholds: Floats, *, price: float | None) -> Floats:
    """Return the largest expected loss before an attempt at which trying a rung still pays.

    `price` is the rung's mean cost over the reference's; where that is unknown a reviewed rung is
    always tried. Trying costs `price` and saves a reference call if the answer stays, so
    the rows with the least expected loss are tried up to where the sum of savings peaks. One more
    answer that stays can only move that peak up, so cutoffs rise with the thresholds. A rung that
    is not reviewed is tried where it is kept.
    """
    if fitted.score.after is None:
        return thresholds
    always = np.where(np.isneginf(thresholds), -np.inf, np.inf)
    if price is None:
        return always
    order = np.argsort(fitted.before, kind="stable")
    kept = fitted.after[order, None] <= thresholds
    saved = np.cumsum(kept - price, axis=0)
    best = saved.argmax(axis=0)
    pays = saved[best, np.arange(len(thresholds))] > 0
    cutoffs = np.where(pays, fitted.before[order][best], -np.inf)
    cutoffs[pays & (best == len(order) - 1)] = np.inf
    cutoffs[-1] = np.inf
    return cutoffs


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
