"""A roll-out by session, watched by outcomes: how much worse the policy's sessions come out.

A block ends when it has outcomes of both arms: its loss is the mean outcome of the reference's
sessions in it less that of the policy's. Sessions are drawn for an arm at random, so the losses of
all blocks have one mean, the net loss of the policy, and `Monitor` bets on it: the alarm may be
looked at after every outcome, and falls on a policy that loses at most `alpha` with a probability
of at most `delta`. Outcomes may come late or never, but not depending on the arm.
"""

from collections.abc import Iterable, Iterator
from math import exp, log
from statistics import fmean
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from suffice.errors import InputError
from suffice.guarantee.monitor import Monitor, update_many

LEAST_P = 0.001  # of the sizes of two arms; below it, sessions of one are missing


class ArmOutcome(NamedTuple):
    """How a session came out, in [0, 1]; `by_policy` says whether the policy chose for it."""

    by_policy: bool
    score: float


def block_losses(outcomes: Iterable[ArmOutcome]) -> Iterator[float]:
    """Yield the net loss of each block that has ended, in the order of outcomes."""
    policy: list[float] = []
    reference: list[float] = []
    for by_policy, score in outcomes:
        (policy if by_policy else reference).append(score)
        if policy and reference:
            yield fmean(reference) - fmean(policy)
            policy, reference = [], []


def canary(outcomes: Iterable[ArmOutcome], *, alpha: float, delta: float) -> Monitor:
    """Watch outcomes in the order in which they came; an alarm says to stop the roll-out."""
    losses = list(block_losses(outcomes))
    return update_many(Monitor(alpha=alpha, delta=delta, net=True), losses)


class DrawnArm(NamedTuple):
    """Which arm a session was drawn for, and how likely the policy's arm was."""

    by_policy: bool
    policy_chance: float


def imbalance(arms: Iterable[DrawnArm]) -> float:
    """Return a p-value of how many sessions each arm has, for the chances that were drawn with.

    Where it is tiny, sessions of one arm are missing, and no comparison of the arms holds. It is
    twice the bound of Chernoff on both tails, which holds for unequal chances too (Hoeffding, J.
    Am. Stat. Assoc. 58, 1963, theorem 1).
    """
    drawn = list(arms)
    if not drawn:
        return 1.0
    share = fmean(one.by_policy for one in drawn)
    expected = fmean(one.policy_chance for one in drawn)
    if not 0 < expected < 1:
        return 1.0 if share == expected else 0.0
    pairs = ((share, expected), (1 - share, 1 - expected))
    divergence = sum(own * log(own / other) for own, other in pairs if own > 0)
    return min(1.0, 2 * exp(-len(drawn) * divergence))


class LoggedChoice(NamedTuple):
    """A session as it was served: the rung that it was given, how likely that was, and its outcome.

    `would` is what the policy in question would give it, and `would_chance` how likely it was that
    the session was given that. `expected` is what a model expects of `would`, from other sessions.
    """

    rung: str
    chance: float
    score: float
    would: str
    would_chance: float
    expected: float = 0.0


class OffPolicyEstimate(Struct, frozen=True, kw_only=True):
    """What a policy that was never served would come to.

    `score` is None where it is not identifiable: on a share `unseen` of the sessions it would
    choose what nobody was ever given there. `experiment` is then the smallest one that would tell:
    the share of such sessions to give it to, so that `sessions_needed` more reach `precision`.
    """

    score: float | None
    standard_error: float | None
    sessions: int
    unseen: float
    sessions_needed: int | None = None


def off_policy(choices: Iterable[LoggedChoice], *, precision: float = 0.05) -> OffPolicyEstimate:
    """Estimate a policy's mean outcome, doubly robust: right if the chances or the model are.

    Dudik, Langford and Li, "Doubly robust policy evaluation and learning", ICML 2011. Without
    overlap it is not identifiable, and the answer says how many sessions would tell: those of a
    coin flip at `precision`, for half of it on either side. Raises InputError without a session, or
    for a chance outside (0, 1].
    """
    logged = list(choices)
    if not logged:
        raise InputError("no session has an outcome", hint="send outcomes: POST /v1/outcomes")
    if any(not 0 < one.chance <= 1 for one in logged):
        raise InputError("a logged chance is outside (0, 1]", hint="log what was drawn")
    unseen = float(np.mean([one.would_chance <= 0 for one in logged]))
    if unseen > 0:
        return OffPolicyEstimate(
            score=None,
            standard_error=None,
            sessions=len(logged),
            unseen=unseen,
            sessions_needed=int(np.ceil((1.96 / (2 * precision)) ** 2)),
        )
    values = np.array(
        [
            one.expected + (one.rung == one.would) / one.chance * (one.score - one.expected)
            for one in logged
        ]
    )
    spread = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return OffPolicyEstimate(
        score=float(values.mean()), standard_error=spread, sessions=len(logged), unseen=0.0
    )
