"""Which family a fit chooses, and what certifying one is expected to save."""

from dataclasses import replace

import numpy as np
import pytest
from msgspec.structs import replace as with_field

from suffice.encoders.base import default_encoder
from suffice.errors import InputError
from suffice.policy import (
    FittedPolicies,
    Goal,
    Observations,
    fit_policies,
    harms,
    observe_table,
    outcomes,
    play,
)
from suffice.policy.candidates import COST_POWER, PolicyFamily
from suffice.policy.choose import (
    COST_MARGIN,
    RANDOM_MARGIN,
    FamilyValue,
    best_value,
    certifiable_path,
    valued,
)
from suffice.policy.path import PolicyPath
from suffice.trials.table import CostUnit, TrialTable
from suffice.types import Signals

GOAL = Goal(alpha=0.05, delta=0.1, rows=400)


def table_of(
    quality: np.ndarray, cost: tuple[float, ...], *, answers: list[str] | None = None
) -> TrialTable:
    """Make trials whose texts tell nothing; `answers` are those of the first rung."""
    rows, rungs = quality.shape
    numbers = np.random.default_rng(7).integers(10**6, size=rows).tolist()
    others = [Signals(answer="y")] * (rungs - 1)
    return TrialTable(
        request_ids=tuple(f"q{i}" for i in range(rows)),
        texts=tuple(f"Task {number}" for number in numbers),
        groups=(None,) * rows,
        rungs=("low", "high") if rungs == 2 else ("low", "middle", "high"),
        quality=quality,
        signals=tuple((Signals(answer=a), *others) for a in answers or ["x"] * rows),
        cost=np.tile(cost, (rows, 1)),
        cost_unit=CostUnit.OUTPUT_TOKENS,
    )


def seen_of(table: TrialTable) -> Observations:
    return observe_table(table, reference=table.rungs[-1], encoder=default_encoder())


def fitted(table: TrialTable, goal: Goal = GOAL) -> FittedPolicies:
    return fit_policies(seen_of(table), outcomes(table, reference=table.rungs[-1]), goal)


def right(rows: int, *chances: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((rows, len(chances))) < chances).astype(float)


def test_where_nothing_is_known_a_random_part_is_certified_and_no_attempt_is_thrown_away() -> None:
    for seed in range(4):
        policy = fitted(table_of(right(500, 0.7, 1.0, seed=seed), (10.0, 60.0))).policy
        assert GOAL.alpha < policy.path.parts[1] < 0.06
        assert policy.path.parts[-1] == 1.0
        assert policy.path.families[-1] in ("fixed", "route")
        assert policy.at(100).reviewed == ()


def test_without_a_random_part_every_point_applies_to_all() -> None:
    goal = Goal(alpha=0.05, delta=0.1, rows=400, random_part=False)
    policy = fitted(table_of(right(500, 0.7, 1.0), (10.0, 60.0)), goal).policy
    assert (policy.path.parts == 1.0).all()


def test_a_fixed_rung_that_is_as_good_is_chosen() -> None:
    policy = fitted(table_of(np.repeat(right(500, 0.9), 2, axis=1), (10.0, 60.0))).policy
    assert policy.path.families[1] == "fixed"
    assert policy.at(1).reviewed == ()


def test_a_rung_between_can_be_chosen_when_the_cheapest_is_bad() -> None:
    table = table_of(right(500, 0.4, 1.0, 1.0), (10.0, 30.0, 60.0))
    policy = fitted(table).policy
    assert play(policy, harms(policy, seen_of(table))).shares()[1].max() > 0.9


def test_answers_that_tell_are_reviewed() -> None:
    quality = right(500, 0.6, 1.0)
    answers = ["2 + 2 = 4\n#### 4" if ok else "perhaps 7" for ok in quality[:, 0]]
    policy = fitted(table_of(quality, (2.0, 60.0), answers=answers)).policy
    assert policy.path.families[-1] == "review"
    assert policy.at(policy.points - 1).reviewed == ("low",)


def test_answers_that_tell_nothing_are_not_bought() -> None:
    policy = fitted(table_of(right(500, 0.7, 1.0, seed=3), (30.0, 60.0))).policy
    assert not any(policy.at(point).reviewed for point in range(policy.points))


def test_requests_of_known_groups_may_be_told_apart_by_a_table() -> None:
    quality = np.ones((600, 2))
    quality[::3, 0] = 0.0
    groups = tuple("abc"[row % 3] for row in range(600))
    table = replace(table_of(quality, (10.0, 60.0)), groups=groups)
    policy = fitted(table).table
    assert policy is not None
    assert policy.path.families[1] == "table"
    plays = play(policy, harms(policy, seen_of(table)), points=slice(1, 2))
    assert plays.shares()[0, 0] == pytest.approx(2 / 3)
    assert plays.losses(quality).sum() == 0


@pytest.mark.parametrize("known", [True, False])
def test_unknown_costs_are_read_as_shares(known: bool) -> None:
    table = table_of(right(500, 0.97, 1.0), (10.0, 60.0))
    table = table if known else replace(table, cost_unit=None)
    policy = fitted(table).policy
    assert play(policy, harms(policy, seen_of(table))).shares()[0].max() == 1.0


def test_nothing_that_saves_is_an_error() -> None:
    with pytest.raises(InputError, match="costs no less"):
        fitted(table_of(right(100, 0.9, 1.0), (60.0, 60.0)))


def test_an_order_that_weighs_costs_is_taken_where_it_clearly_saves_more() -> None:
    """Every tenth request is long, dear, and no likelier to be lost than the others."""
    table = table_of(right(800, 0.8, 1.0), (1.0, 60.0))
    long = np.arange(800) % 10 == 0
    texts = tuple(
        f"{text} " + "word " * (200 * at) for text, at in zip(table.texts, long, strict=True)
    )
    dear = np.where(long[:, None], (30.0, 1800.0), table.cost)
    assert fitted(replace(table, texts=texts, cost=dear)).policy.path.cost_power > 0
    assert fitted(replace(table, texts=texts)).policy.path.cost_power == 0


# -- by hand -------------------------------------------------------------------------------------


def family(seen: list[float], cost: list[float], *, name: str = "route") -> PolicyFamily:
    points = len(seen)
    return PolicyFamily(
        path=PolicyPath(
            attempts=np.linspace(0, 1, points)[:, None],
            keeps=np.full((points, 1), np.inf),
            starts=np.zeros((points, 1), np.int32),
            parts=np.ones(points),
            families=(name,) * points,
        ),
        seen=np.array(seen),
        foreseen=np.array(seen),
        cost=np.array(cost),
        kept=1 - np.array(cost),
    )


def test_sharp_scores_are_walked_and_blunt_ones_drawn() -> None:
    share = np.linspace(0.01, 1.0, 100)
    blunt = family((120 * share).tolist(), (1 - share).tolist())
    sharp = family((120 * np.maximum(0, share - 0.7) / 0.3).tolist(), (1 - share).tolist())
    assert valued(blunt, GOAL, fitting_rows=400).by_part
    assert not valued(sharp, GOAL, fitting_rows=400).by_part


def test_a_walk_is_worth_what_its_end_is_expected_to_save() -> None:
    """Each point has one loss more, and at most 14 of 400 rows may lose."""
    steps = family(list(range(1, 29)), [1 - 0.02 * n for n in range(1, 29)])
    assert valued(steps, GOAL, fitting_rows=400).walk == pytest.approx(0.02 * 14.5, abs=0.02)


def test_the_path_costs_less_at_every_point_and_a_part_grows_to_the_whole() -> None:
    kind = family([1, 2, 3, 4, 5], [0.9, 0.95, 0.7, 0.8, 0.4])
    walk = FamilyValue(family=kind, walk=0.5, first=0, part=0.0, point=0, sure=0.0)
    assert certifiable_path(walk, GOAL).attempts[1:, 0].tolist() == [0.0, 0.5, 1.0]
    drawn = FamilyValue(family=kind, walk=0.1, first=0, part=0.5, point=2, sure=0.0)
    path = certifiable_path(drawn, GOAL)
    assert (np.diff(path.parts[1:-1]) > 0).all()
    assert path.parts[-2:].tolist() == [1.0, 1.0]
    assert path.attempts[-2:, 0].tolist() == [0.5, 1.0]
    assert drawn.best == pytest.approx(0.5 / (1 + RANDOM_MARGIN))


def test_no_random_part_is_made_for_the_error_among_answered_requests() -> None:
    goal = Goal(alpha=0.05, delta=0.1, rows=400, among_answered=True)
    value = valued(family([1, 2, 40], [0.9, 0.8, 0.2]), goal, fitting_rows=400)
    assert not value.by_part
    assert value.walk == pytest.approx(0.2)


def test_of_fixed_rungs_the_walk_begins_at_the_best_one() -> None:
    value = valued(family([2, 3, 200], [0.9, 0.5, 0.1], name="fixed"), GOAL, fitting_rows=400)
    assert value.first == 1
    assert value.walk == pytest.approx(0.5, abs=1e-3)


def value(
    saving: float, *, sure: float = 0.0, part: float = 0.0, name: str = "route", power: float = 0.0
) -> FamilyValue:
    kind = family([1.0], [0.5], name=name)
    ordered = replace(kind, path=with_field(kind.path, cost_power=power))
    return FamilyValue(family=ordered, walk=saving, first=0, part=part, point=0, sure=sure)


def test_luck_is_taken_where_judgement_promises_no_more_within_its_error() -> None:
    luck = value(0.0, part=0.22, name="fixed")
    for sure, chosen in ((0.21, False), (0.19, True)):
        judging = value(0.25, sure=sure)
        assert (best_value([luck, judging]) is luck) is chosen
    certain = value(0.22, name="fixed")  # a fixed rung for all requests is no luck
    judging = value(0.25, sure=0.19)
    assert best_value([certain, judging]) is judging


def test_an_order_by_loss_alone_is_taken_unless_weighing_costs_saves_clearly_more() -> None:
    plain = value(0.40)
    for saving in (0.44, 0.48):
        weighed = value(saving, power=COST_POWER)
        best = best_value([weighed, plain])
        assert best is (plain if saving < 0.40 * (1 + COST_MARGIN) else weighed)


def test_an_estimate_is_surer_the_more_losses_it_rests_on() -> None:
    steps = list(range(1, 100))
    few, many = (
        valued(family(steps, [1 - 0.01 * n for n in steps]), goal, fitting_rows=goal.rows)
        for goal in (
            Goal(alpha=0.05, delta=0.1, rows=rows, random_part=False) for rows in (400, 1600)
        )
    )
    assert few.sure / few.best < many.sure / many.best < 1
