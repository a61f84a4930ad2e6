from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace as with_field

from suffice.encoders.base import default_encoder
from suffice.errors import InputError
from suffice.policy import (
    Goal,
    Observations,
    Outcomes,
    Policy,
    PolicyPath,
    Router,
    always_cheapest,
    always_reference,
    cost_matched_random,
    fit_policy,
    harms,
    load_policy,
    observe,
    observe_table,
    oracle,
    outcomes,
    play,
    policy_hash,
    save_policy,
    saving,
)
from suffice.policy.forest import grow
from suffice.policy.score import FOLDS, _fit_rates, _fit_ridge
from suffice.policy.store import policy_bytes
from suffice.trials.table import CostUnit, TrialTable
from suffice.types import Finish, Request, Signals

RUNGS = ("small", "middle", "big")
COST = (1.0, 4.0, 20.0)
GOAL = Goal(alpha=0.05, delta=0.1, rows=320)
TOPICS = {"sums": 0.95, "poems": 0.6, "proofs": 0.15}  # how often the small rung is right


def make_table(rows: int, *, seed: int = 0, answers: bool = True) -> TrialTable:
    """Make trials whose topic and whose cheap answers tell something of the outcome, not all."""
    draw = np.random.default_rng(seed)
    topics = draw.choice(list(TOPICS), rows)
    chance = np.array([TOPICS[topic] for topic in topics])
    right = draw.random((rows, 3)) < np.stack([chance, 0.5 + chance / 2, np.full(rows, 0.97)], 1)
    signals = [
        tuple(Signals(answer=_answer(ok, draw)) if answers else Signals() for ok in row)
        for row in right
    ]
    numbers = draw.integers(100, size=(rows, 2)).tolist()
    return TrialTable(
        request_ids=tuple(f"r{i}" for i in range(rows)),
        texts=tuple(f"Do {t}: {a} and {b}" for t, (a, b) in zip(topics, numbers, strict=True)),
        groups=tuple(topics.tolist()),
        rungs=RUNGS,
        quality=right.astype(float),
        signals=tuple(signals),
        cost=np.tile(COST, (rows, 1)),
        cost_unit=CostUnit.OUTPUT_TOKENS,
    )


def _answer(right: bool, draw: np.random.Generator) -> str:
    clear = draw.random() < (0.9 if right else 0.2)
    return "2 + 2 = 4\n#### 4" if clear else "perhaps about 7, however unclear"


def seen(table: TrialTable, *, reference: str = "big") -> Observations:
    return observe_table(table, reference=reference, encoder=default_encoder())


def with_path(
    policy: Policy,
    attempts: list[list[float]],
    keeps: list[list[float]],
    *,
    parts: list[float] | None = None,
    starts: list[list[int]] | None = None,
    groups: tuple[str, ...] = (),
) -> Policy:
    """Give a policy a path made by hand, with the reference as its first point."""
    never = [-np.inf] * len(attempts[0])
    return with_field(
        policy,
        path=PolicyPath(
            attempts=np.array([never, *attempts]),
            keeps=np.array([never, *keeps]),
            starts=np.array([[0] * (len(groups) + 1), *(starts or [[0]] * len(attempts))], "<i4"),
            parts=np.array([1.0, *(parts or [1.0] * len(attempts))]),
            families=("reference", *("by hand",) * len(attempts)),
            groups=groups,
        ),
        point=0,
    )


def reviewing(policy: Policy, *, points: int = 200) -> Policy:
    """Try every rung and review its answer, with one threshold for all, from none to all kept."""
    levels = [*np.quantile(np.linspace(0, 0.9, 1000) ** 2, np.linspace(0, 1, points)), 1e9]
    below = len(policy.rungs) - 1
    keeps = [[float(level)] * below for level in levels]
    return with_path(policy, [[np.inf] * below] * len(levels), keeps)


def fitted(table: TrialTable, *, reference: str = "big") -> Policy:
    return fit_policy(seen(table, reference=reference), outcomes(table, reference=reference), GOAL)


@pytest.fixture(scope="module")
def train() -> TrialTable:
    return make_table(400)


@pytest.fixture(scope="module")
def fresh() -> TrialTable:
    return make_table(300, seed=1)


@pytest.fixture(scope="module")
def chosen(train: TrialTable) -> Policy:
    """A policy on the path that the fit chooses."""
    return fitted(train)


@pytest.fixture(scope="module")
def policy(chosen: Policy) -> Policy:
    """The same scores on a path that reviews every answer."""
    return reviewing(chosen)


@pytest.fixture(scope="module")
def router(policy: Policy) -> Router:
    return Router(policy=policy.at(policy.points // 2), encoder=default_encoder())


def request(table: TrialTable, row: int, *, request_id: str = "x") -> Request:
    return Request(
        request_id=request_id,
        messages=({"role": "user", "content": table.texts[row]},),
        group=table.groups[row],
    )


# -- the path -------------------------------------------------------------------------------------


def test_the_ends_of_the_path_are_always_reference_and_always_cheapest(
    policy: Policy, fresh: TrialTable
) -> None:
    plays = play(policy, harms(policy, seen(fresh)))
    assert (plays.chosen[:, 0] == 2).all()
    assert not plays.attempted[:2, :, 0].any()
    assert (plays.chosen[:, -1] == 0).all()
    assert not plays.attempted[1:, :, -1].any()


def test_the_path_climbs_from_safe_to_cheap(policy: Policy, fresh: TrialTable) -> None:
    plays = play(policy, harms(policy, seen(fresh)))
    assert (np.diff(policy.path.keeps[1:], axis=0) > 0).all()
    assert (np.diff(plays.chosen.astype(int), axis=1) <= 0).all()
    assert (np.diff(plays.shares()[2]) <= 0).all()


def test_the_path_that_is_chosen_begins_at_the_reference_and_climbs(
    chosen: Policy, fresh: TrialTable
) -> None:
    plays = play(chosen, harms(chosen, seen(fresh)))
    shares, cost = plays.shares(), plays.costs(fresh.cost).mean(axis=0)
    assert chosen.family == "reference"
    assert (plays.chosen[:, 0] == 2).all()
    assert not plays.attempted[:2, :, 0].any()
    assert shares[2, -1] < 0.3 < shares[2, 1]
    assert cost[-1] < cost[len(cost) // 2] < cost[0]


def test_what_is_kept_or_passed_was_attempted_and_paid_for(
    policy: Policy, fresh: TrialTable
) -> None:
    plays = play(policy, harms(policy, seen(fresh)))
    for rung in range(3):
        kept = plays.chosen == rung
        assert plays.attempted[rung][kept].all()
        assert not plays.attempted[rung + 1 :, kept].any()
    paid = sum(cost * asked for cost, asked in zip(COST, plays.attempted, strict=True))
    np.testing.assert_allclose(plays.costs(fresh.cost), paid)


def test_losses_and_qualities_are_those_of_the_rung_kept(policy: Policy, fresh: TrialTable) -> None:
    plays = play(policy, harms(policy, seen(fresh)), points=slice(100, 101))
    for row, rung in enumerate(plays.chosen[:, 0].tolist()):
        reached, wanted = fresh.quality[row, rung], fresh.quality[row, 2]
        assert plays.qualities(fresh.quality)[row, 0] == reached
        assert plays.losses(fresh.quality)[row, 0] == max(0.0, wanted - reached)


def test_a_point_off_the_path_is_refused(policy: Policy) -> None:
    assert policy.at(policy.points - 1).point == policy.points - 1
    for point in (-1, policy.points):
        with pytest.raises(InputError, match="not on a path"):
            policy.at(point)


# -- what it learns -------------------------------------------------------------------------------


def test_it_loses_far_less_than_routing_at_random(policy: Policy, fresh: TrialTable) -> None:
    plays = play(policy, harms(policy, seen(fresh)))
    shares, risks = 1 - plays.shares()[2], plays.losses(fresh.quality).mean(axis=0)
    point = int(np.argmin(np.abs(shares - 0.5)))
    assert risks[point] < 0.5 * shares[point] * risks[-1]


def test_an_answer_tells_more_than_the_text_alone(policy: Policy, fresh: TrialTable) -> None:
    expected = harms(policy, seen(fresh))
    loss = np.maximum(0, fresh.quality[:, 2] - fresh.quality[:, 0])
    before, after = (np.corrcoef(e[:, 0], loss)[0, 1] for e in (expected.before, expected.after))
    assert after > before > 0.2


def test_expected_losses_are_near_what_happens(policy: Policy, fresh: TrialTable) -> None:
    expected = harms(policy, seen(fresh))
    loss = np.maximum(0, fresh.quality[:, 2:] - fresh.quality[:, :2])
    np.testing.assert_allclose(expected.after.mean(axis=0), loss.mean(axis=0), atol=0.06)


def test_noise_is_not_taken_for_knowledge() -> None:
    """Rates of tiny groups and of rare answers would leak a row's own outcome if made in fold."""
    table = make_table(400, seed=5)
    draw = np.random.default_rng(6)
    noise = np.stack([draw.random(400) < 0.5, np.ones(400), np.ones(400)], axis=1).astype(float)
    blind = replace(
        table,
        texts=("same",) * 400,
        groups=tuple(f"g{i // 3}" for i in range(400)),
        signals=tuple((Signals(answer=f"a{i // 3}"),) * 3 for i in range(400)),
        quality=noise,
    )
    policy = fitted(blind, reference="middle")
    expected = harms(policy, seen(blind, reference="middle")).after[:, 0]
    other = draw.permutation(400)  # the same observations, with outcomes that were not fitted
    lowest = expected <= np.quantile(expected, 0.25)
    assert expected[lowest].mean() > (1 - noise[other, 0])[lowest].mean() - 0.25


def test_qualities_between_0_and_1_are_learnt_too(train: TrialTable, fresh: TrialTable) -> None:
    graded = replace(train, quality=0.25 + train.quality / 2)
    expected = harms(fitted(graded, reference="middle"), seen(fresh, reference="middle"))
    assert 0 <= expected.after.min() <= expected.after.max() <= 0.5


@pytest.mark.parametrize("answers", [True, False])
def test_requests_without_text_or_group_are_no_obstacle(answers: bool) -> None:
    table = replace(make_table(120, answers=answers), texts=("",) * 120).without_groups()
    policy = fitted(table)
    plays = play(reviewing(policy), harms(policy, seen(table)))
    assert (plays.chosen[:, -1] == 0).all()
    assert policy.points > 1


# -- what it may not see --------------------------------------------------------------------------


@pytest.mark.slow
def test_ids_costs_of_other_requests_and_the_references_answers_are_not_read(
    train: TrialTable,
) -> None:
    changed = replace(
        train,
        request_ids=train.request_ids[::-1],
        signals=tuple(
            (*row[:2], Signals(answer="leak", mean_logprob=-9.0)) for row in train.signals
        ),
    )
    assert policy_hash(fitted(changed)) == policy_hash(fitted(train))


def test_the_references_answers_are_not_even_looked_at(fresh: TrialTable) -> None:
    assert len(seen(fresh).attempts) == 2
    assert len(seen(fresh, reference="middle").attempts) == 1


def test_decisions_depend_on_neither_outcomes_nor_row_order(
    policy: Policy, fresh: TrialTable
) -> None:
    order = np.random.default_rng(2).permutation(len(fresh))
    shuffled = replace(fresh.subset(order), quality=np.zeros((len(fresh), 3)), cost_unit=None)
    before = play(policy, harms(policy, seen(fresh)))
    after = play(policy, harms(policy, seen(shuffled)))
    np.testing.assert_array_equal(after.chosen, before.chosen[order])


def test_a_rung_that_was_not_attempted_is_not_read(policy: Policy, fresh: TrialTable) -> None:
    before = play(policy, harms(policy, seen(fresh)))
    changed = replace(
        fresh, signals=tuple((row[0], Signals(answer="#### 99"), row[2]) for row in fresh.signals)
    )
    after = play(policy, harms(policy, seen(changed)))
    unread = ~before.attempted[1]
    np.testing.assert_array_equal(after.chosen[unread], before.chosen[unread])
    assert (after.chosen != before.chosen).any()


def test_deciding_reads_the_text_and_the_group_alone(router: Router, fresh: TrialTable) -> None:
    for row in range(20):
        step = router.decide(request(fresh, row))
        assert step == router.decide(request(fresh, row, request_id="another"))
        assert not step.keep


# -- one request at a time ------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_live_steps_follow_the_table(policy: Policy, fresh: TrialTable, power: float) -> None:
    path = with_field(policy.path, cost_power=power)
    policy = with_field(policy, path=path, point=policy.points // 2)
    router = Router(policy=policy, encoder=default_encoder())
    plays = play(policy, harms(policy, seen(fresh)), points=slice(policy.point, policy.point + 1))
    for row in range(60):
        attempts: dict[str, Signals] = {}
        step = router.decide(request(fresh, row))
        while not step.keep:
            attempts[step.rung] = fresh.signals[row][RUNGS.index(step.rung)]
            step = router.review(request(fresh, row), attempts)
        assert RUNGS.index(step.rung) == plays.chosen[row, 0]
        assert [rung in attempts for rung in RUNGS] == plays.attempted[:, row, 0].tolist()
    assert len(np.unique(plays.chosen[:60])) == 3


def test_deciding_on_one_row_is_reviewing_nothing(policy: Policy, fresh: TrialTable) -> None:
    for point in (0, policy.points // 3, policy.points // 2, policy.points - 1):
        router = Router(policy=policy.at(point), encoder=default_encoder())
        for row in range(15):
            assert router.decide(request(fresh, row)) == router.review(request(fresh, row), {})


def test_an_answer_that_need_not_be_reviewed_is_settled(router: Router, fresh: TrialTable) -> None:
    blind = with_path(router.policy, [[0.3, 0.3]], [[np.inf, np.inf]]).at(1)
    unseen = Router(policy=blind, encoder=default_encoder())
    steps = [unseen.decide(request(fresh, row)) for row in range(30)]
    assert all(step.settled for step in steps)
    assert {step.rung for step in steps} >= {"small", "big"}
    assert not any(router.decide(request(fresh, row)).settled for row in range(10))
    safest = Router(policy=router.policy.at(0), encoder=default_encoder())
    assert all(safest.decide(request(fresh, row)).settled for row in range(10))


def test_an_answer_kept_unread_is_kept_whatever_it_says(router: Router, fresh: TrialTable) -> None:
    blind = with_path(router.policy, [[np.inf, -np.inf]], [[np.inf, -np.inf]]).at(1)
    unseen = Router(policy=blind, encoder=default_encoder())
    for signals in (Signals(), Signals(answer="no idea"), *(row[0] for row in fresh.signals[:9])):
        step = unseen.review(request(fresh, 0), {"small": signals})
        assert (step.rung, step.keep, step.expected_loss) == ("small", True, None)
    assert blind.reviewed == ()


def test_a_fixed_rung_reads_no_text(router: Router, fresh: TrialTable) -> None:
    class Unread:
        dim, fingerprint = 256, default_encoder().fingerprint

        def embed(self, texts: list[str]) -> np.ndarray:
            raise AssertionError("read")

    always = with_path(router.policy, [[-np.inf, np.inf]], [[-np.inf, np.inf]]).at(1)
    step = Router(policy=always, encoder=Unread()).decide(request(fresh, 0))
    assert (step.rung, step.settled) == ("middle", True)


def test_a_group_begins_at_its_own_rung(router: Router, fresh: TrialTable) -> None:
    table = with_path(
        router.policy,
        [[np.inf, np.inf]],
        [[np.inf, np.inf]],
        starts=[[0, 1, 2, 2]],
        groups=("sums", "poems", "proofs"),
    ).at(1)
    plays = play(table, harms(table, seen(fresh.without_groups())))
    assert (plays.chosen[:, 1] == 2).all(), "a group that was not seen is left to the reference"
    plays = play(table, harms(table, seen(fresh)))
    begins = {"sums": 0, "poems": 1, "proofs": 2}
    assert plays.chosen[:, 1].tolist() == [begins[group] for group in fresh.groups]
    live = Router(policy=table, encoder=default_encoder())
    for row in range(12):
        assert live.decide(request(fresh, row)).rung == RUNGS[begins[fresh.groups[row]]]


def test_a_random_part_is_drawn_by_the_id_alone_and_is_as_large_as_it_says(
    router: Router,
) -> None:
    part = with_path(router.policy, [[np.inf, -np.inf]], [[np.inf, -np.inf]], parts=[0.3]).at(1)
    table = make_table(1500, seed=3)
    plays = play(part, harms(part, seen(table)))
    drawn = plays.chosen[:, 1] == 0
    assert drawn.mean() == pytest.approx(0.3, abs=0.03)
    assert np.corrcoef(drawn, table.quality[:, 0])[0, 1] == pytest.approx(0, abs=0.05)
    live = Router(policy=part, encoder=default_encoder())
    for row in range(40):
        asked = request(table, row, request_id=table.request_ids[row])
        assert (live.decide(asked).rung == "small") == drawn[row]
    everybody = with_field(part, path=part.path.whole())
    assert (play(everybody, harms(part, seen(table))).chosen[:, 1] == 0).all()


def test_the_reference_needs_no_score(policy: Policy, fresh: TrialTable) -> None:
    step = Router(policy=policy, encoder=default_encoder()).decide(request(fresh, 0))
    assert (step.rung, step.keep, step.expected_loss) == ("big", False, None)


@pytest.mark.parametrize("silent", [150, 300])
def test_an_attempt_that_shows_nothing_is_judged_by_the_text(
    policy: Policy, fresh: TrialTable, silent: int
) -> None:
    signals = [(Signals(), *row[1:]) for row in fresh.signals[:silent]]
    table = replace(fresh, signals=(*signals, *fresh.signals[silent:]))
    expected, whole = harms(policy, seen(table)), harms(policy, seen(fresh))
    np.testing.assert_array_equal(expected.after[:silent, 0], expected.before[:silent, 0])
    np.testing.assert_array_equal(expected.after[silent:, 0], whole.after[silent:, 0])
    np.testing.assert_array_equal(expected.after[:, 1], whole.after[:, 1])
    assert (whole.after[:, 0] != whole.before[:, 0]).any()


def test_another_encoder_is_refused(policy: Policy, fresh: TrialTable) -> None:
    class Other:
        dim, fingerprint = 256, "other"
        embed = default_encoder().embed

    with pytest.raises(InputError, match="encoder"):
        Router(policy=policy, encoder=Other())
    with pytest.raises(InputError, match="encoder"):
        harms(policy, observe(["x"], ["g"], [None, None], request_ids=["i"], encoder=Other()))


# -- deferring ------------------------------------------------------------------------------------


def test_it_says_whose_output_it_needs(policy: Policy) -> None:
    assert policy.at(50).reviewed == ("small", "middle")
    assert policy.at(0).reviewed == ()
    mixed = with_path(policy, [[0.2, np.inf], [-np.inf, 0.3]], [[np.inf, 0.1], [0.2, 0.2]])
    assert (mixed.at(1).reviewed, mixed.at(2).reviewed) == (("middle",), ("middle",))


def test_without_answers_it_routes_and_pays_for_one_rung(fresh: TrialTable) -> None:
    policy = fitted(make_table(300, answers=False))
    plays = play(policy, harms(policy, seen(fresh)))
    assert not any(policy.at(point).reviewed for point in range(policy.points))
    assert (plays.attempted.sum(axis=0) == 1).all()


def test_an_attempt_that_does_not_pay_is_skipped(train: TrialTable, fresh: TrialTable) -> None:
    """The small rung costs more than half of the reference, and most of its answers do not stay."""
    pair = two_rungs(train, cost=(12.0, 20.0))
    free = replace(pair, cost_unit=None)
    spent = {}
    for name, table in {"known": pair, "unknown": free}.items():
        policy = fitted(table)
        plays = play(policy, harms(policy, seen(two_rungs(fresh, cost=(12.0, 20.0)))))
        point = int(np.argmin(np.abs(plays.shares()[0] - 0.25)))
        spent[name] = plays.costs(two_rungs(fresh, cost=(12.0, 20.0)).cost)[:, point].mean()
    assert spent["known"] < spent["unknown"]
    assert spent["known"] < 20.0


def two_rungs(table: TrialTable, *, cost: tuple[float, float]) -> TrialTable:
    return replace(
        table,
        rungs=("small", "big"),
        quality=table.quality[:, [0, 2]],
        unscored=table.unscored[:, [0, 2]],
        signals=tuple((row[0], row[2]) for row in table.signals),
        cost=np.tile(cost, (len(table), 1)),
    )


def test_a_rung_dearer_than_the_reference_is_never_tried(
    train: TrialTable, fresh: TrialTable
) -> None:
    policy = fitted(replace(train, cost=np.tile((30.0, 5.0, 20.0), (len(train), 1))))
    plays = play(policy, harms(policy, seen(fresh)))
    assert not plays.attempted[0].any()
    assert plays.attempted[1].any()


# -- keeping it -----------------------------------------------------------------------------------


def test_a_policy_comes_back_from_its_file_unchanged(
    policy: Policy, fresh: TrialTable, tmp_path: Path
) -> None:
    save_policy(tmp_path / "policy", policy.at(7))
    back = load_policy(tmp_path / "policy")
    assert (back.rungs, back.point, back.encoder) == (policy.rungs, 7, policy.encoder)
    assert policy_hash(back) == policy_hash(policy.at(7)) != policy_hash(policy)
    expected, again = harms(policy, seen(fresh)), harms(back, seen(fresh))
    np.testing.assert_array_equal(again.after, expected.after)
    np.testing.assert_array_equal(play(back, again).chosen, play(policy, expected).chosen)


def test_the_same_trials_give_the_same_policy(train: TrialTable, chosen: Policy) -> None:
    assert policy_hash(fitted(train)) == policy_hash(chosen)


def test_a_policy_of_an_earlier_form_says_what_to_do(policy: Policy, tmp_path: Path) -> None:
    whole = msgspec.msgpack.decode(policy_bytes(policy))
    earlier = {"version": 2, "policy": {"thresholds": [], "cutoffs": [], **whole["policy"]}}
    (tmp_path / "old").write_bytes(msgspec.msgpack.encode(earlier))
    with pytest.raises(InputError, match="format 2, this is format 5") as caught:
        load_policy(tmp_path / "old")
    assert "certify again" in caught.value.hint


def test_damaged_foreign_and_newer_files_are_refused(policy: Policy, tmp_path: Path) -> None:
    whole = policy_bytes(policy)
    newer = msgspec.msgpack.encode(msgspec.msgpack.decode(whole) | {"version": 99})
    pickled = whole.replace(b"<f8", b"|O8")
    reread = whole.replace(b"<f8", b"<i8")
    for content in (b"", b"\x80\x04.", whole[:-9], newer, pickled, reread):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(InputError, match="policy"):
            load_policy(tmp_path / "bad")
    with pytest.raises(InputError, match="cannot read"):
        load_policy(tmp_path / "none")
    with pytest.raises(InputError, match="cannot write"):
        save_policy(tmp_path / "no" / "folder", policy)


# -- fitting --------------------------------------------------------------------------------------


def test_too_few_or_unscored_rows_and_a_ladder_of_one_are_refused(train: TrialTable) -> None:
    with pytest.raises(InputError, match="too few"):
        fitted(train.subset(range(20)))
    with pytest.raises(InputError, match="nothing to save"):
        fitted(train, reference="small")
    unscored = train.quality.copy()
    unscored[3, 1] = np.nan
    with pytest.raises(InputError, match="unscored"):
        fitted(replace(train, quality=unscored))


@pytest.mark.parametrize("layer", ["ridge", "rates"])
def test_a_row_s_own_outcome_never_reaches_its_guess(layer: str) -> None:
    draw = np.random.default_rng(0)
    folds, targets = np.arange(80) % FOLDS, draw.random((80, 3))
    columns, keys = draw.normal(size=(80, 60)), tuple(f"k{i // 8}" for i in range(80))

    def guess(targets: np.ndarray) -> np.ndarray:
        if layer == "ridge":
            return _fit_ridge(columns, targets, folds=folds)[1]
        return _fit_rates(keys, targets, folds=folds, prior_rows=5.0)[1]

    changed = targets.copy()
    changed[folds == 2] = 1 - changed[folds == 2]
    np.testing.assert_allclose(guess(changed)[folds == 2], guess(targets)[folds == 2], atol=1e-12)
    assert (guess(changed)[folds != 2] != guess(targets)[folds != 2]).any()


def test_a_forest_reads_as_scikit_learn_does() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    from suffice.policy import forest as module

    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 8)).astype(np.float32)
    y = np.stack([(x[:, 0] > 0) * 1.0, draw.random(300)], axis=1)
    carried = 100 * draw.random((300, 2))
    forest, unseen = grow(x, y, carried=carried)
    reference = ExtraTreesRegressor(
        n_estimators=module.TREES,
        min_samples_leaf=module.LEAF_ROWS,
        max_depth=module.DEEPEST,
        max_features=module.COLUMN_SHARE,
        bootstrap=True,
        random_state=0,
    ).fit(x, y)
    other = draw.normal(size=(5000, 8)).astype(np.float32)
    np.testing.assert_allclose(
        forest.predict(other)[:, 0], reference.predict(other)[:, 0], atol=1e-12
    )
    assert forest.predict(other[:0]).shape == (0, 3)
    inside = np.abs(forest.predict(x)[:, 0] - y[:, 0]).mean()
    assert np.abs(unseen[:, 0] - y[:, 0]).mean() > inside
    np.testing.assert_allclose(forest.predict(x)[:, 1:].mean(axis=0), carried.mean(axis=0), atol=2)


def test_columns_that_do_not_vary_change_nothing() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 6)).astype(np.float32)
    y = np.stack([(x[:, 0] > 0) * 1.0, draw.random(200)], axis=1)
    none = np.empty((200, 0))
    wide = np.hstack(
        [np.ones((200, 3), np.float32), x[:, :2], np.zeros((200, 4), np.float32), x[:, 2:]]
    )
    (narrow, seen_narrow), (padded, seen_padded) = (grow(z, y, carried=none) for z in (x, wide))
    np.testing.assert_array_equal(padded.predict(wide), narrow.predict(x))
    np.testing.assert_array_equal(seen_padded, seen_narrow)


def test_where_nothing_varies_the_mean_is_expected() -> None:
    y = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]] * 20)
    forest, unseen = grow(np.ones((80, 5), np.float32), y, carried=y[:, 1:] * 8)
    np.testing.assert_array_equal(forest.predict(np.zeros((3, 5), np.float32)), [[0.5, 4.0]] * 3)
    np.testing.assert_array_equal(unseen, [[0.5, 4.0]] * 80)


# -- baselines ------------------------------------------------------------------------------------

KNOWN = Outcomes(
    rungs=("small", "big"),
    quality=np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.5, 0.75]]),
    cost=np.tile((1.0, 4.0), (4, 1)),
    abstained=np.zeros((4, 2), np.bool_),
)


def test_baselines_are_what_a_hand_calculation_gives() -> None:
    low, high, best = always_cheapest(KNOWN), always_reference(KNOWN), oracle(KNOWN)
    assert low.share == {"small": 1.0, "big": 0.0}
    assert (low.risk, low.quality, low.saving) == (1.25 / 4, 2.5 / 4, 0.75)
    assert (high.risk, high.quality, high.saving) == (0.0, 2.75 / 4, 0.0)
    assert best.share == {"small": 0.5, "big": 0.5}
    assert (best.risk, best.quality, best.saving) == (0.0, 3.75 / 4, 0.375)


def test_random_routing_is_matched_by_cost_and_without_costs_by_share() -> None:
    matched = cost_matched_random(KNOWN, share=0.9, saving=0.3)
    assert matched.share["small"] == pytest.approx(0.4)
    assert matched.saving == pytest.approx(0.3)
    assert matched.risk == pytest.approx(0.4 * 1.25 / 4)
    assert matched.quality == pytest.approx(0.4 * 2.5 / 4 + 0.6 * 2.75 / 4)
    free = replace(KNOWN, cost=np.full((4, 2), np.nan))
    assert cost_matched_random(free, share=0.9, saving=None).share["small"] == 0.9
    assert always_cheapest(free).saving is None


def test_a_policy_that_costs_more_than_the_reference_is_matched_by_no_cheap_answer() -> None:
    assert cost_matched_random(KNOWN, share=0.9, saving=-0.1).share["small"] == 0.0


def test_a_saving_is_unknown_when_one_cost_is() -> None:
    assert saving(np.array([1.0, 2.0]), np.array([4.0, 4.0])) == 0.625
    assert saving(np.array([1.0, np.nan]), np.array([4.0, 4.0])) is None
    assert saving(np.array([0.0]), np.array([0.0])) is None


def test_values_are_frozen(policy: Policy) -> None:
    with pytest.raises(AttributeError):
        policy.point = 3  # type: ignore[misc]
    assert with_field(policy, point=3).point == 3


# -- rungs that abstain ---------------------------------------------------------------------------

DECLINED = Signals(finish=Finish.ABSTAINED)


def some_declined(table: TrialTable, *, share: float = 0.3, seed: int = 5) -> TrialTable:
    """Let the cheapest rung abstain on a random part of the requests."""
    declined = np.random.default_rng(seed).random(len(table)) < share
    quality = table.quality.copy()
    quality[declined, 0] = 0.0
    signals = tuple(
        (DECLINED, *row[1:]) if no else row
        for row, no in zip(table.signals, declined.tolist(), strict=True)
    )
    return replace(table, quality=quality, signals=signals)


def test_no_point_of_the_path_keeps_an_abstention(train: TrialTable, fresh: TrialTable) -> None:
    table = some_declined(fresh)
    chosen = fitted(some_declined(train))
    policy = reviewing(chosen)
    declined = np.array([row[0].abstained for row in table.signals])
    plays = play(policy, harms(policy, seen(table)))
    assert not (plays.chosen[declined] == 0).any()
    assert (plays.chosen[~declined, -1] == 0).all()
    assert plays.attempted[0, :, -1].all()
    assert plays.attempted[1, declined, -1].all()
    assert not (play(chosen, harms(chosen, seen(table))).chosen[declined] == 0).any()


def test_the_loss_after_an_abstention_is_that_of_the_rung_that_answers(train: TrialTable) -> None:
    table = some_declined(train)
    policy = reviewing(fitted(table))
    declined = np.array([row[0].abstained for row in table.signals])
    plays = play(policy, harms(policy, seen(table)), points=slice(policy.points - 1, None))
    middle = np.maximum(0.0, table.quality[:, 2] - table.quality[:, 1])
    np.testing.assert_array_equal(plays.losses(table.quality)[declined, 0], middle[declined])


def test_a_live_abstention_goes_to_the_policy_s_next_rung(
    policy: Policy, fresh: TrialTable
) -> None:
    router = Router(policy=policy.at(policy.points - 1), encoder=default_encoder())
    asked = request(fresh, 0)
    assert router.decide(asked).rung == "small"
    step = router.review(asked, {"small": DECLINED})
    assert (step.rung, step.keep) == ("middle", False)


def test_a_rung_that_always_abstains_is_no_obstacle_but_alone_below_the_reference_it_is(
    train: TrialTable,
) -> None:
    never = some_declined(train, share=1.1)
    policy = fitted(never)
    assert not any("small" in policy.at(point).reviewed for point in range(policy.points))
    assert not (play(policy, harms(policy, seen(never))).chosen == 0).any()
    alone = replace(
        never,
        rungs=("small", "big"),
        quality=never.quality[:, [0, 2]],
        unscored=never.unscored[:, [0, 2]],
        cost=never.cost[:, [0, 2]],
        signals=tuple((row[0], row[2]) for row in never.signals),
    )
    with pytest.raises(InputError, match="abstained on every request"):
        fitted(alone)


def test_in_hindsight_too_an_abstention_is_no_answer() -> None:
    wrong = replace(
        KNOWN,
        quality=np.zeros((4, 2)),
        abstained=np.array([[True, False], [True, False], [False, False], [False, False]]),
    )
    assert oracle(wrong).share == {"small": 0.5, "big": 0.5}
