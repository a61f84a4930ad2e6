"""A policy: which rung to try first, and whether its answer may stay.

Policies form one path ordered from safe to cheap. Point 0 always takes the reference rung, the
last point always keeps the cheapest rung's answer; in between one threshold on the expected loss
decides. A rung that abstains has no answer to keep, at any point.
"""

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from suffice.errors import InputError
from suffice.policy.observe import Flags, Floats, Observations
from suffice.policy.score import FittedScore, after_inputs, before_inputs

Choices = NDArray[np.int8]


class RungScore(Struct, frozen=True, kw_only=True, eq=False):
    """The scores of one rung: `before` an attempt, and `after` it; None if it is not reviewed."""

    before: FittedScore
    after: FittedScore | None = None


class Policy(Struct, frozen=True, kw_only=True, eq=False):
    """One point of a path over a ladder; a pure function of text, group and attempted answers.

    `rungs` run from the cheapest to the reference, which is last and has no score. At `point`, a
    rung is attempted if its expected loss before is at most `cutoffs[point, rung]`, and its answer
    kept if the expected loss after is at most `thresholds[point]`. `encoder` is the fingerprint of
    the encoder that the scores were fitted with.
    """

    rungs: tuple[str, ...]
    scores: tuple[RungScore, ...]
    thresholds: Floats
    cutoffs: Floats
    encoder: str
    point: int = 0

    @property
    def reference(self) -> str:
        """The rung whose quality is promised."""
        return self.rungs[-1]

    @property
    def reviewed(self) -> tuple[str, ...]:
        """The rungs whose output the policy reads once they have answered."""
        pairs = zip(self.rungs, self.scores, strict=False)
        return tuple(rung for rung, score in pairs if score.after is not None)

    @property
    def points(self) -> int:
        """How many points the path has."""
        return len(self.thresholds)

    def at(self, point: int) -> "Policy":
        """Return the policy at another point of the same path; raises `InputError` outside it."""
        if not 0 <= point < self.points:
            raise InputError(f"point {point} is not on a path of {self.points} points")
        return msgspec.structs.replace(self, point=point)


class ExpectedLosses(Struct, frozen=True, kw_only=True, eq=False):
    """Expected losses of the rungs below the reference, both of shape (rows, rungs below).

    `after` equals `before` where there is nothing to review: the rung is not reviewed, or its
    answer is missing. It is NaN where the rung abstained: no threshold keeps that.
    """

    before: Floats
    after: Floats


class PathOutcomes(Struct, frozen=True, kw_only=True, eq=False):
    """What happens at some points of a path: `chosen` of shape (rows, points) is the rung kept.

    `attempted` of shape (rungs, rows, points) tells which rungs were asked, and so are paid for.
    """

    chosen: Choices
    attempted: Flags

    def shares(self) -> Floats:
        """Return the share of requests that each rung answers, shape (rungs, points)."""
        answered = [(self.chosen == rung).mean(axis=0) for rung in range(len(self.attempted))]
        return np.array(answered)

    def losses(self, quality: Floats) -> Floats:
        """Return how much worse than the reference each kept answer is, shape (rows, points).

        `quality` has shape (rows, rungs), the policy's rungs in its order.
        """
        excess = np.maximum(0.0, quality[:, -1:] - quality)
        losses: Floats = np.take_along_axis(excess, self.chosen.astype(np.intp), axis=1)
        return losses

    def qualities(self, quality: Floats) -> Floats:
        """Return the quality of each kept answer, from and in the shapes of `losses`."""
        kept: Floats = np.take_along_axis(quality, self.chosen.astype(np.intp), axis=1)
        return kept

    def costs(self, cost: Floats) -> Floats:
        """Return what all attempts cost together, shape (rows, points); NaN where one is unknown.

        `cost` has shape (rows, rungs), the policy's rungs in its order.
        """
        total = np.zeros(self.chosen.shape)
        for rung, asked in enumerate(self.attempted):
            total += np.where(asked, cost[:, rung, None], 0.0)
        return total


def harms(policy: Policy, seen: Observations) -> ExpectedLosses:
    """Score all rungs below the reference; raises `InputError` for another encoder's vectors."""
    if seen.encoder != policy.encoder:
        raise InputError(
            f"the policy was fitted with encoder {policy.encoder}, not {seen.encoder}",
            hint="use the encoder of the fit, or fit and certify again",
        )
    start = before_inputs(seen)
    before = [score.before.predict(start) for score in policy.scores]
    after = [
        _review(score, seen, rung, fallback=fallback)
        for rung, (score, fallback) in enumerate(zip(policy.scores, before, strict=True))
    ]
    return ExpectedLosses(before=np.stack(before, axis=1), after=np.stack(after, axis=1))


def play(policy: Policy, expected: ExpectedLosses, *, points: slice = slice(None)) -> PathOutcomes:
    """Follow the policy at `points` of its path, all at once."""
    thresholds, cutoffs = policy.thresholds[points], policy.cutoffs[points]
    reference = len(policy.rungs) - 1
    shape = (len(expected.before), len(thresholds))
    chosen = np.full(shape, reference, dtype=np.int8)
    attempted = np.zeros((len(policy.rungs), *shape), dtype=np.bool_)
    undecided = np.ones(shape, dtype=np.bool_)
    for rung in range(reference):
        attempted[rung] = undecided & (expected.before[:, rung, None] <= cutoffs[:, rung])
        kept = attempted[rung] & (expected.after[:, rung, None] <= thresholds)
        chosen[kept] = rung
        undecided &= ~kept
    attempted[reference] = undecided
    return PathOutcomes(chosen=chosen, attempted=attempted)


def _review(score: RungScore, seen: Observations, rung: int, *, fallback: Floats) -> Floats:
    attempts = seen.attempts[rung]
    if attempts is None:
        return fallback
    after = fallback
    if score.after is not None:
        reviewed = score.after.predict(after_inputs(seen, attempts))
        after = np.where(attempts.given, reviewed, fallback)
    return np.where(attempts.abstained, np.nan, after)
