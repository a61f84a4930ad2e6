"""Which family is certified, and along which path: decided on the fitting rows alone.

A family is walked point by point from safe to cheap. Or one of its points applies to a random part
of the requests, and the part grows: all certifying rows then say how much that point loses, so that
little is left to chance. That is better where scores know little or rows are few; the walk is
better where scores are sharp.

What is expected to save most is taken, unless luck, a fixed rung for a random part, saves as much
within one standard error: the best of many noisy estimates is too high by about that much. An order
of requests by loss and cost must save clearly more than one by loss alone, which keeps more
requests from the reference.

Both expectations take losses for independent and 0 or 1. Where the certificate's test is another
one, they are off by a little and choose less well; what is certified does not depend on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from suffice.guarantee import losses_allowed
from suffice.policy.candidates import PolicyFamily
from suffice.policy.observe import Floats
from suffice.policy.path import PolicyPath

COST_MARGIN = 0.15  # by which an order by loss and cost must save more than one by loss alone
RANDOM_MARGIN = 0.1  # by which a random part must save more than a walk
SAFETY = 0.85  # of alpha, that an estimated error among answered requests may come to
PARTS = 400  # of the requests, that a random part is tried at
_LEVELS = (np.arange(32) + 0.5) / 32  # of probability, over which expectations are taken


class Goal(Struct, frozen=True, kw_only=True):
    """What a policy is to be certified for: risk at most `alpha`, on `rows` independent rows.

    With `net` better answers make up for worse ones. With `among_answered` the risk is the error
    among the requests that a cheaper rung answers. With `random_part` False no policy may depend on
    a random draw.
    """

    alpha: float
    delta: float
    rows: int
    net: bool = False
    among_answered: bool = False
    random_part: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class FamilyValue:
    """What certifying a family is expected to save, as a share of the reference's cost.

    `walk` is for a walk from point `first` on. `part` is for a random part of the requests at the
    best single point, `point`. `sure` is what it saves if its estimate is one standard error
    too high.
    """

    family: PolicyFamily
    walk: float
    first: int
    part: float
    point: int
    sure: float

    @property
    def by_part(self) -> bool:
        """Whether the random part saves more, by a margin."""
        return self.part > self.walk * (1 + RANDOM_MARGIN)

    @property
    def best(self) -> float:
        """The saving that the family is chosen by."""
        saving = max(self.walk, self.part / (1 + RANDOM_MARGIN))
        return saving / (1 + COST_MARGIN * (self.family.path.cost_power > 0))


def valued(family: PolicyFamily, goal: Goal, *, fitting_rows: int) -> FamilyValue:
    """Work out what a family is expected to save once certified."""
    saving = np.maximum(0.0, 1.0 - family.cost)
    losses = _certifying_losses(family, goal, fitting_rows=fitting_rows)
    fixed = family.name == "fixed"
    if goal.among_answered:
        worth = saving * (losses <= SAFETY * goal.alpha * family.kept * goal.rows)
        walk, part = float(worth.max()), np.zeros(len(saving))
    elif fixed:
        worth = saving * _chance(losses, goal)
        walk, part = float(worth.max()), saving * _expected_part(losses, goal)
    else:
        worth = np.zeros(1)
        walk, part = _walk_saving(losses, saving, goal), saving * _expected_part(losses, goal)
    if not goal.random_part:
        part = np.zeros(len(saving))
    counted = np.maximum(family.seen, family.foreseen)
    allowed = losses_allowed(goal.rows, alpha=goal.alpha, delta=goal.delta) or 0
    return FamilyValue(
        family=family,
        walk=walk,
        first=int(worth.argmax()) if fixed else 0,
        part=float(part.max()),
        point=int(part.argmax()),
        sure=max(
            walk * (1 - _error(allowed * fitting_rows / goal.rows)),
            float(part.max()) / (1 + RANDOM_MARGIN) * (1 - _error(counted[part.argmax()])),
        ),
    )


def best_value(values: Sequence[FamilyValue]) -> FamilyValue:
    """Return the family that is expected to save most, or luck if it may save as much."""
    best = max(values, key=lambda value: value.best)
    luck = (v for v in values if v.family.name == "fixed" and v.by_part and v.best >= best.sure)
    return next(luck, best)


def certifiable_path(value: FamilyValue, goal: Goal) -> PolicyPath:
    """Return the path to be walked, always the reference first, each point cheaper than the last.

    A random part grows to the whole, after which the walk goes on along the family. A part of
    `alpha` or less would be safe whatever it lost, so it proves nothing and is left out.
    """
    family, path = value.family, value.family.path
    if value.by_part:
        return growing_part(value, goal)
    later = np.arange(value.first, len(path))
    return from_reference(path.take(later[_records(family.cost[later])]))


def growing_part(value: FamilyValue, goal: Goal) -> PolicyPath:
    """Return the path on which a random part of the requests grows, as `certifiable_path` says."""
    family, path = value.family, value.family.path
    later = np.arange(value.point, len(path))
    later = later[_records(family.cost[later])][1:]
    grown = path.take(np.concatenate([np.full(PARTS, value.point), later]))
    growing = np.geomspace(goal.alpha, 1.0, PARTS + 1)[1:]
    parts = np.concatenate([growing, np.ones(len(later))])
    return from_reference(replace(grown, parts=parts))


def walk_path(family: PolicyFamily) -> PolicyPath:
    """Return a family from its first point on, as `certifiable_path` does for a walk."""
    return from_reference(family.path.take(np.flatnonzero(_records(family.cost))))


def _certifying_losses(family: PolicyFamily, goal: Goal, *, fitting_rows: int) -> Floats:
    """Return the losses to be expected among the certifying rows, at every point.

    What the fitting rows lost is noisy, and points chosen by it lost little by luck; what the
    scores foresee is smooth, and may be off. Their mean is better than either.
    """
    seen = family.seen
    if not goal.net:
        seen = (family.seen + family.foreseen) / 2
    return np.clip(seen * goal.rows / fitting_rows, 0.0, goal.rows)


def _error(losses: float) -> float:
    """Return the relative standard error of an estimate that rests on so many losses."""
    return float(1.0 / np.sqrt(max(1.0, losses)))


def _chance(losses: Floats, goal: Goal) -> Floats:
    """Return how likely each point is to be certified by itself."""
    from scipy import special

    allowed = losses_allowed(goal.rows, alpha=goal.alpha, delta=goal.delta)
    if allowed is None:
        return np.zeros(len(losses))
    chance: Floats = special.bdtr(allowed, goal.rows, losses / goal.rows)
    return chance


def _walk_saving(losses: Floats, saving: Floats, goal: Goal) -> float:
    """Return what a walk is expected to save: it ends at the first loss that is one too many."""
    from scipy import stats

    allowed = losses_allowed(goal.rows, alpha=goal.alpha, delta=goal.delta)
    if allowed is None:
        return 0.0
    order = np.argsort(losses, kind="stable")
    best = np.concatenate([[0.0], np.maximum.accumulate(saving[order])])
    ends = stats.gamma.ppf(_LEVELS, allowed + 1)
    return float(best[np.searchsorted(losses[order], ends, side="right")].mean())


def _expected_part(losses: Floats, goal: Goal) -> Floats:
    """Return the random part of the requests that is expected to be certified at each point."""
    from scipy import special

    counts, place = np.unique(losses, return_inverse=True)
    spread = np.sqrt(counts * (1.0 - counts / goal.rows))
    drawn = counts[:, None] + spread[:, None] * special.ndtri(_LEVELS)
    drawn = np.clip(drawn, 0.0, goal.rows - 1.0)
    bound = special.betaincinv(drawn + 1.0, goal.rows - drawn, 1.0 - goal.delta)
    part: Floats = np.minimum(1.0, goal.alpha / bound).mean(axis=1)[place]
    return part


def _records(cost: Floats) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Mark the points that cost less than all before them."""
    before = np.concatenate([[np.inf], np.minimum.accumulate(cost)[:-1]])
    return np.asarray(cost < before, dtype=np.bool_)


def from_reference(path: PolicyPath) -> PolicyPath:
    """Put a point before all others that leaves everything to the reference."""
    never = np.full((1, path.attempts.shape[1]), -np.inf)
    return replace(
        path,
        attempts=np.concatenate([never, path.attempts]),
        keeps=np.concatenate([never, path.keeps]),
        starts=np.concatenate([np.zeros_like(path.starts[:1]), path.starts]),
        parts=np.concatenate([[1.0], path.parts]),
        families=("reference", *path.families),
    )
