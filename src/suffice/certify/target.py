"""What a certificate is to promise, as `certify` takes it."""

from enum import StrEnum

from msgspec import Struct

from suffice.certify.certifying import RequestSplit
from suffice.guarantee import LabelSource, Lineage, Per, RiskKind
from suffice.policy import Goal

LAPSES_AFTER_S = 30 * 86400.0


class GroupSource(StrEnum):
    """Where a certified policy has the group of a request from."""

    DECLARED = "declared"  # the client names it, and one that names none is not covered
    TEXT = "text"  # a classifier of the text, learned on the fitting split
    NONE = "none"  # it has no groups


class Target(Struct, frozen=True, kw_only=True):
    """What to promise: risk at most `alpha`, except with probability `delta`, to `reference`.

    `risk` says what the risk is, and `per` whether requests or sessions are counted. With
    `random_part` the policy may be one that applies to a random part of the requests only.
    `groups` says what groups its requests have, `lineage` how many looks share delta.
    """

    reference: str
    label_source: LabelSource
    alpha: float = 0.05
    delta: float = 0.1
    seed: int = 0
    lapses_after_s: float = LAPSES_AFTER_S
    risk: RiskKind = RiskKind.EXCESS_OVER_REFERENCE
    per: Per = Per.REQUEST
    random_part: bool = True
    groups: GroupSource = GroupSource.DECLARED
    lineage: Lineage = Lineage()

    @property
    def level(self) -> float:
        """The part of delta that this look may spend."""
        return self.delta / self.lineage.planned


def goal_of(ask: Target, test: RequestSplit, *, random_part: bool) -> Goal:
    """Say what the fit is for, on which certifying rows."""
    return Goal(
        alpha=ask.alpha,
        delta=ask.level,
        rows=len(test.table.cluster_names),
        net=ask.risk is RiskKind.NET_LOSS,
        among_answered=ask.risk is RiskKind.ERROR_AMONG_ANSWERED,
        random_part=random_part,
    )
