"""What outcomes say of a roll-out: its two arms, and a candidate that was never served."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from msgspec import Struct

from suffice.certify.bundle import load_bundle
from suffice.encoders.base import default_encoder
from suffice.errors import InputError
from suffice.guarantee.canary import (
    ArmOutcome,
    DrawnArm,
    LoggedChoice,
    OffPolicyEstimate,
    canary,
    imbalance,
    off_policy,
)
from suffice.ledger.outcomes import ArmRecord
from suffice.policy import Router
from suffice.types import Request

REFERENCE, POLICY = "reference", "policy"


class ArmSummary(Struct, frozen=True, kw_only=True):
    """Outcomes of one arm; their `mean` is None without any."""

    outcomes: int
    mean: float | None


class RollOutResult(Struct, frozen=True, kw_only=True):
    """Both arms, and the `evidence` that the policy loses more than alpha: an e-value at any time.

    `stopped` says that it once reached 1 / delta. `imbalance` is a p-value of how many sessions
    with outcomes each arm has: where it is tiny, outcomes are missing in one of them.
    """

    arms: dict[str, ArmSummary]
    evidence: float
    stopped: bool
    imbalance: float
    candidate: OffPolicyEstimate | None = None


def compare_arms(
    records: Sequence[ArmRecord], *, alpha: float, delta: float, candidate: Path | None = None
) -> RollOutResult:
    """Compare the arms of a roll-out; raises InputError where a candidate cannot be estimated."""
    watch = canary(
        (ArmOutcome(one.arm == POLICY, one.score) for one in records), alpha=alpha, delta=delta
    )
    sessions = {one.session_id: one for one in records}.values()
    scores = {arm: [one.score for one in records if one.arm == arm] for arm in (POLICY, REFERENCE)}
    return RollOutResult(
        arms={
            arm: ArmSummary(outcomes=len(values), mean=fmean(values) if values else None)
            for arm, values in scores.items()
        },
        evidence=watch.wealth,
        stopped=watch.alarm_at is not None,
        imbalance=imbalance(DrawnArm(one.arm == POLICY, _share(one)) for one in sessions),
        candidate=None if candidate is None else _estimated(records, candidate),
    )


def _estimated(records: Sequence[ArmRecord], folder: Path) -> OffPolicyEstimate:
    """Estimate what a certified policy would come to; a rung's mean outcome is the model of it."""
    bundle = load_bundle(folder)
    router, reference = (
        Router(policy=bundle.policy, encoder=default_encoder()),
        bundle.policy.reference,
    )
    if any(one.text is None for one in records):
        raise InputError(
            "the books hold no text of these sessions, so nobody knows what the candidate would do",
            hint="set gateway.store_text = true, and roll out again",
        )
    by_rung: dict[str, list[float]] = {}
    for one in records:
        by_rung.setdefault(_given(one, reference), []).append(one.score)
    overall = fmean(one.score for one in records) if records else 0.0

    def expected(rung: str, without: float | None = None) -> float:
        values = by_rung.get(rung, [])
        if without is None:
            return fmean(values) if values else overall
        return (sum(values) - without) / (len(values) - 1) if len(values) > 1 else overall

    choices = []
    for one in records:
        request = Request(
            request_id=one.session_id, messages=({"role": "user", "content": one.text},)
        )
        step = router.decide(request)
        would, given = step.rung if step.settled else reference, _given(one, reference)
        share = _share(one)
        chances = {reference: 1.0 - share}
        chances[one.wish] = chances.get(one.wish, 0.0) + share
        own = one.score if would == given else None
        choices.append(
            LoggedChoice(
                rung=given,
                chance=chances[given],
                score=one.score,
                would=would,
                would_chance=chances.get(would, 0.0),
                expected=expected(would, own),
            )
        )
    return off_policy(choices)


def _given(record: ArmRecord, reference: str) -> str:
    return record.wish if record.arm == POLICY else reference


def _share(record: ArmRecord) -> float:
    """Return the share of the sessions that were drawn for the policy."""
    return record.arm_chance if record.arm == POLICY else 1.0 - record.arm_chance
