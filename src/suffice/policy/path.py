"""A policy: which rung to try first, and whether its answer may stay.

Policies form one path ordered from safe to cheap, and all points of it have one form. A point names
for every rung below the reference the largest expected loss at which it is tried, and the largest
at which its answer stays. Routing, review, fixed rungs and tables by group are points of that form.
A rung that abstains has no answer to keep, at any point.
"""

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from suffice.errors import InputError
from suffice.features.groups import TextGroups
from suffice.policy.observe import Flags, Floats, Keys, Observations
from suffice.policy.score import FittedScore, after_inputs, before_inputs
from suffice.trials.table import Rows

Choices = NDArray[np.int8]
Places = NDArray[np.int32]

LEAST_COST = 1e-3  # that an expected cost is taken for, in mean costs of the reference


class RungScore(Struct, frozen=True, kw_only=True, eq=False):
    """The scores of one rung: `before` an attempt, and `after` it; None if it cannot be reviewed.

    `before` expects the loss, the reference cost that keeping the answer unread saves, and the
    reference's own cost; `after` expects the loss and the reference's cost. Costs are in mean costs
    of the reference.
    """

    before: FittedScore
    after: FittedScore | None = None


class PolicyPath(Struct, frozen=True, kw_only=True, eq=False):
    """Ways to choose among the rungs, from safe to cheap; one entry a point in every field.

    A price is an expected loss over the cost that it saves, to the power of `cost_power`: with 0 it
    is the loss alone. A rung is tried if the price of an attempt is at most `attempts[point, rung]`
    (+inf: always, -inf: never). Its answer stays if the price of keeping it is at most
    `keeps[point, rung]`; with +inf it stays unread, and is not reviewed. `starts[point, group]` is
    the lowest rung that a group may use, in the order of `groups`; the last column is for all other
    requests. `parts` is the share of requests, drawn at random by their ids, that the point applies
    to: the reference answers the rest. `families` names the kind of each point.
    """

    attempts: Floats
    keeps: Floats
    starts: Places
    parts: Floats
    families: tuple[str, ...]
    groups: tuple[str, ...] = ()
    cost_power: float = 0.0

    def __len__(self) -> int:
        return len(self.parts)

    def take(self, points: NDArray[np.int64]) -> "PolicyPath":
        """Return some points, in the order of `points`."""
        return PolicyPath(
            attempts=self.attempts[points],
            keeps=self.keeps[points],
            starts=self.starts[points],
            parts=self.parts[points],
            families=tuple(self.families[point] for point in points.tolist()),
            groups=self.groups,
            cost_power=self.cost_power,
        )

    def whole(self) -> "PolicyPath":
        """Return the same points with every request drawn."""
        return msgspec.structs.replace(self, parts=np.ones(len(self)))

    def places(self, groups: Keys) -> Places:
        """Return the column of `starts` that each request's group has."""
        column = {group: at for at, group in enumerate(self.groups)}
        other = len(self.groups)
        return np.array([column.get(g, other) if g else other for g in groups], dtype=np.int32)


class Policy(Struct, frozen=True, kw_only=True, eq=False):
    """One point of a path over a ladder; a pure function of text, group and attempted answers.

    Only where a part of the requests is drawn does it read their ids. `rungs` run from the cheapest
    to the reference, which is last and has no score. Point 0 always takes the reference. `encoder`
    is the fingerprint of the encoder that the scores were fitted with. Groups are those that
    `text_groups` tells from the text; None leaves them to be declared. `checked` are the places of
    the rungs whose answers stay only if they pass the operator's check.
    """

    rungs: tuple[str, ...]
    scores: tuple[RungScore, ...]
    path: PolicyPath
    encoder: str
    point: int = 0
    text_groups: TextGroups | None = None
    checked: tuple[int, ...] = ()

    @property
    def reference(self) -> str:
        """The rung whose quality is promised."""
        return self.rungs[-1]

    @property
    def family(self) -> str:
        """The kind of policy that its point is."""
        return self.path.families[self.point]

    @property
    def part(self) -> float:
        """The share of requests, drawn at random, that may be kept from the reference."""
        return float(self.path.parts[self.point])

    @property
    def reviewed(self) -> tuple[str, ...]:
        """The rungs whose output the policy reads, at its point, once they have answered."""
        tried = self.path.attempts[self.point] > -np.inf
        read = tried & np.isfinite(self.path.keeps[self.point])
        return tuple(rung for rung, yes in zip(self.rungs, read.tolist(), strict=False) if yes)

    def settles(self, rung: int) -> bool:
        """Whether an answer of a rung stays whatever it says, at the policy's point."""
        return rung not in self.checked and bool(self.path.keeps[self.point, rung] == np.inf)

    def goes_by_check(self, rung: str) -> bool:
        """Whether an answer of a rung stays if it passes the check, and only then."""
        at = self.rungs.index(rung) if rung in self.rungs else -1
        return at in self.checked and bool(self.path.keeps[self.point, at] == np.inf)

    @property
    def points(self) -> int:
        """How many points the path has."""
        return len(self.path)

    def at(self, point: int) -> "Policy":
        """Return the policy at another point of the same path; raises `InputError` outside it."""
        if not 0 <= point < self.points:
            raise InputError(f"point {point} is not on a path of {self.points} points")
        return msgspec.structs.replace(self, point=point)


class ExpectedLosses(Struct, frozen=True, kw_only=True, eq=False):
    """Expected losses of the rungs below the reference, shape (rows, rungs below), and their worth.

    `after` equals `before` where there is nothing to review: the rung is not reviewed, or its
    answer is missing. It is NaN where the rung abstained: no threshold keeps that. `saved` is the
    expected saving of an answer kept unread and `spared` the reference's expected cost once a rung
    has answered, both in the reference's mean cost. `groups` and `draws`, shape (rows,), are the
    declared groups and uniform random numbers.
    """

    before: Floats
    after: Floats
    saved: Floats
    spared: Floats
    groups: Keys
    draws: Floats

    def subset(self, rows: Rows) -> "ExpectedLosses":
        """Return some rows, in the order of `rows`."""
        return ExpectedLosses(
            before=self.before[rows],
            after=self.after[rows],
            saved=self.saved[rows],
            spared=self.spared[rows],
            groups=tuple(self.groups[row] for row in rows.tolist()),
            draws=self.draws[rows],
        )

    def attempt_prices(self, power: float) -> Floats:
        """Return expected loss over expected saving to a power; inf where nothing is saved."""
        saves = self.saved > LEAST_COST
        return np.where(saves, self.before / np.maximum(self.saved, LEAST_COST) ** power, np.inf)

    def keep_prices(self, power: float) -> Floats:
        """Return expected loss over the reference's cost to a power; NaN after an abstention."""
        prices: Floats = self.after / np.maximum(self.spared, LEAST_COST) ** power
        return prices


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
        _review(score, seen, rung, fallback=fallback[:, [0, 2]])
        for rung, (score, fallback) in enumerate(zip(policy.scores, before, strict=True))
    ]
    loss, saved, _ = np.moveaxis(np.stack(before, axis=1), 2, 0)
    loss_after, spared = np.moveaxis(np.stack(after, axis=1), 2, 0)
    return ExpectedLosses(
        before=loss,
        after=loss_after,
        saved=saved,
        spared=spared,
        groups=seen.groups,
        draws=seen.draws,
    )


def play(policy: Policy, expected: ExpectedLosses, *, points: slice = slice(None)) -> PathOutcomes:
    """Follow the policy at `points` of its path, all at once."""
    at = np.arange(policy.points)[points]
    return follow(policy.path.take(at), expected)


def follow(path: PolicyPath, expected: ExpectedLosses) -> PathOutcomes:
    """Follow all points of a path at once."""
    before = expected.attempt_prices(path.cost_power)
    after = expected.keep_prices(path.cost_power)
    starts = path.starts[:, path.places(expected.groups)].T
    rows, reference = before.shape
    shape = (rows, len(path))
    chosen = np.full(shape, reference, dtype=np.int8)
    attempted = np.zeros((reference + 1, *shape), dtype=np.bool_)
    undecided = np.ones(shape, dtype=np.bool_)
    drawn = expected.draws[:, None] < path.parts
    for rung in range(reference):
        pays = before[:, rung, None] <= path.attempts[:, rung]
        attempted[rung] = undecided & drawn & (starts <= rung) & pays
        kept = attempted[rung] & (after[:, rung, None] <= path.keeps[:, rung])
        chosen[kept] = rung
        undecided &= ~kept
    attempted[reference] = undecided
    return PathOutcomes(chosen=chosen, attempted=attempted)


def _review(score: RungScore, seen: Observations, rung: int, *, fallback: Floats) -> Floats:
    """Return the expected loss and reference cost after an attempt, shape (rows, 2)."""
    attempts = seen.attempts[rung]
    if attempts is None:
        return fallback
    after = fallback.copy()
    if score.after is not None:
        reviewed = score.after.predict(after_inputs(seen, attempts))
        after = np.where(attempts.given[:, None], reviewed, fallback)
    after[attempts.abstained, 0] = np.nan
    return after
