"""A roll-out is stopped when its sessions come out worse, and hardly ever otherwise."""

import numpy as np
import pytest

from suffice.errors import InputError
from suffice.guarantee.canary import (
    LEAST_P,
    ArmOutcome,
    DrawnArm,
    LoggedChoice,
    block_losses,
    canary,
    imbalance,
    off_policy,
)
from suffice.sessions.rollout import RollOut, drawn


def outcomes(random: np.random.Generator, *, policy: float, reference: float, share: float):
    for _ in range(1500):
        by_policy = bool(random.random() < share)
        chance = policy if by_policy else reference
        yield ArmOutcome(by_policy, float(random.random() < chance))


def alarms(policy: float, *, share: float = 0.3) -> float:
    runs = [
        canary(
            outcomes(np.random.default_rng(seed), policy=policy, reference=0.8, share=share),
            alpha=0.05,
            delta=0.1,
        )
        for seed in range(40)
    ]
    return float(np.mean([run.alarm_at is not None for run in runs]))


def test_a_policy_that_holds_its_promise_is_rarely_stopped() -> None:
    assert alarms(0.75) <= 0.15  # just within alpha; at most delta, 40 runs
    assert alarms(0.8) <= 0.05


def test_a_bad_policy_is_stopped() -> None:
    assert alarms(0.5) >= 0.9


def test_a_block_ends_with_outcomes_of_both_arms() -> None:
    scores = [(False, 1.0), (False, 0.0), (True, 1.0), (True, 0.0), (False, 1.0), (False, 1.0)]
    assert list(block_losses(ArmOutcome(*one) for one in scores)) == [-0.5, 1.0]


def test_sessions_stay_with_their_arm() -> None:
    rollout = RollOut(0.05)
    arms = [rollout.arm(f"s{i}", wish="small") for i in range(4000)]
    assert [rollout.arm(f"s{i}", wish="small") for i in range(4000)] == arms
    assert np.mean([arm.by_policy for arm in arms]) == pytest.approx(0.05, abs=0.015)
    assert {arm.chance for arm in arms} == {0.05, 0.95}
    assert not RollOut(1.0).partial
    assert RollOut(1.0).admits("any")
    assert 0 <= drawn("") < 1


def choice(would: str = "small", **fields: object) -> LoggedChoice:
    known = {"rung": "small", "chance": 0.25, "score": 1.0, "would": would, "would_chance": 0.25}
    return LoggedChoice(**(known | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("expected", [0.0, 0.9])
def test_an_estimate_is_right_whatever_the_model(expected: float) -> None:
    """The truth is 0.4 for small and 0.7 for big; a wrong model only widens the error."""
    random = np.random.default_rng(0)
    means = {"small": 0.4, "big": 0.7}
    logged = []
    for _ in range(20_000):
        rung = "small" if random.random() < 0.25 else "big"
        logged.append(
            LoggedChoice(
                rung=rung,
                chance=0.25 if rung == "small" else 0.75,
                score=float(random.random() < means[rung]),
                would="small",
                would_chance=0.25,
                expected=expected,
            )
        )
    estimate = off_policy(logged)
    assert estimate.score == pytest.approx(0.4, abs=4 * estimate.standard_error)
    assert estimate.standard_error < 0.02


def test_without_overlap_it_is_not_identifiable() -> None:
    estimate = off_policy([choice(), choice("middle", would_chance=0.0)])
    assert (estimate.score, estimate.unseen) == (None, 0.5)
    assert estimate.sessions_needed == 385
    with pytest.raises(InputError, match="no session has an outcome"):
        off_policy([])
    with pytest.raises(InputError, match="outside"):
        off_policy([choice(chance=0.0)])


def test_arms_of_the_wrong_size_are_told_apart_from_luck() -> None:
    fair = [DrawnArm(index % 5 == 0, 0.2) for index in range(1000)]
    assert imbalance(fair) == 1.0
    missing = fair[:600] + [arm for arm in fair[600:] if not arm.by_policy]
    assert imbalance(missing) < LEAST_P
    assert imbalance([]) == 1.0
    assert imbalance([DrawnArm(True, 1.0)]) == 1.0
    mixed = [DrawnArm(index < 50, 0.5) for index in range(100)] + [DrawnArm(False, 0.01)] * 100
    assert imbalance(mixed) > 0.5


def test_luck_is_rarely_taken_for_missing_sessions() -> None:
    draw = np.random.default_rng(0)
    for share, sessions in ((0.05, 60), (0.5, 40), (0.5, 900)):
        counts = draw.binomial(sessions, share, size=2000)
        values = [
            imbalance([DrawnArm(row < count, share) for row in range(sessions)])
            for count in set(counts)
        ]
        wrong = dict(zip(set(counts), values, strict=True))
        assert np.mean([wrong[count] < 0.05 for count in counts]) <= 0.05
