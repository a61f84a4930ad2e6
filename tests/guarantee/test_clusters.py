import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.errors import InputError
from suffice.guarantee import bounds
from suffice.guarantee.bounds import BET_CAP, betting_p_value, betting_upper
from suffice.guarantee.calibrate import Evidence, RiskKind, calibrate, part_bounds
from suffice.guarantee.clusters import Clusters, Per, largest_cluster, number_clusters, ranks
from suffice.guarantee.losses import LabelledLosses, Sample
from suffice.guarantee.methods import Method, clusters_needed, method_for, p_value, upper_bound

ALPHA, DELTA = 0.05, 0.1
names = st.lists(st.sampled_from("abcde"), min_size=1, max_size=30)


def clusters(text: str, *, largest: int | None = None, per: Per = Per.REQUEST) -> Clusters:
    codes = number_clusters(text)
    return Clusters(codes=codes, largest=largest or largest_cluster(codes), per=per)


# -- which rows belong together -----------------------------------------------------------------


@given(names=names)
@settings(deadline=None)
def test_codes_number_the_names_in_the_order_in_which_they_come(names: list[str]) -> None:
    codes = number_clusters(names)
    first = list(dict.fromkeys(names))
    assert [first[code] for code in codes] == names
    assert largest_cluster(codes) == max(names.count(name) for name in names)
    assert ranks(codes).tolist() == [names[:at].count(name) for at, name in enumerate(names)]


def test_nothing_has_no_largest_cluster() -> None:
    assert largest_cluster(number_clusters([])) == 1
    with pytest.raises(InputError, match="largest cluster"):
        Clusters(codes=np.zeros(3, np.int64), largest=0)


# -- what enters the test -----------------------------------------------------------------------


def test_per_request_a_cluster_enters_with_its_sum_and_its_size() -> None:
    losses = np.array([[1.0], [0.0], [1.0], [1.0], [0.0]])
    sample = Evidence(losses=losses, clusters=clusters("aabba", largest=4)).sample(0)
    assert sample.losses.tolist() == [1 / 4, 2 / 4]
    assert sample.weights.tolist() == [3 / 4, 2 / 4]
    assert sample.risk == 3 / 5


def test_per_session_every_cluster_enters_with_its_mean() -> None:
    losses = np.array([[1.0], [0.0], [1.0], [1.0], [0.0]])
    sample = Evidence(losses=losses, clusters=clusters("aabba", per=Per.SESSION)).sample(0)
    assert sample.losses.tolist() == [1 / 3, 1.0]
    assert sample.weights is None


def test_rows_beyond_the_largest_cluster_do_not_count() -> None:
    losses = np.array([[0.0], [1.0], [0.0], [1.0], [1.0]])
    evidence = Evidence(losses=losses, clusters=clusters("aabaa", largest=2))
    assert evidence.sample(0).losses.tolist() == [1 / 2, 0.0]
    assert (evidence.counts().tolist(), evidence.totals().tolist()) == ([3], [1.0])
    found = calibrate(evidence, alpha=ALPHA, delta=DELTA, method=Method.BETTING)
    assert (found.n, found.clusters, found.largest, found.left_out) == (3, 2, 2, 2)


def test_only_answered_rows_of_a_cluster_count() -> None:
    losses = np.array([[0.0], [1.0], [1.0], [0.0]])
    answered = np.array([[True], [False], [True], [False]])
    for per, expected in [(Per.REQUEST, [0.0, 0.5]), (Per.SESSION, [0.0, 1.0])]:
        evidence = Evidence(losses=losses, answered=answered, clusters=clusters("aabb", per=per))
        assert evidence.sample(0).losses.tolist() == expected
    nobody = Evidence(losses=losses, answered=answered & False, clusters=clusters("aabb"))
    assert calibrate(nobody, alpha=ALPHA, delta=DELTA, method=Method.BETTING).bound == 1.0


def test_single_rows_in_clusters_are_what_they_are_without() -> None:
    losses = np.zeros((400, 3))
    losses[:9, 1] = losses[:15, 2] = 1.0
    alone = Clusters(codes=np.arange(400), largest=1)
    found, plain = (
        calibrate(
            Evidence(losses=losses, clusters=each), alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL
        )
        for each in (alone, None)
    )
    assert found == plain
    assert (found.clusters, found.per) == (400, Per.REQUEST)


# -- weights in the game ------------------------------------------------------------------------


def test_weighted_betting_is_the_game_played_by_hand() -> None:
    weights = np.array([0.2, 1.0, 0.5, 0.4])
    losses = np.array([0.0, 0.3, 0.5, 0.0])

    order = bounds._shuffled(np.arange(4.0)).astype(int)
    wealth = most = 1.0
    bets = bounds._plug_in_bets(losses[order], delta=DELTA)
    for at, row in enumerate(order):
        bet = min(bets[at], BET_CAP / (1 - 0.3))
        wealth *= 1 + bet * (0.3 * weights[row] - losses[row])
        most = max(most, wealth)
    found = betting_p_value(losses, alpha=0.3, delta=DELTA, weights=weights)
    assert found == pytest.approx(1 / most)


@given(seed=st.integers(0, 500), delta=st.floats(0.01, 0.5), net=st.booleans())
@settings(deadline=None, max_examples=40)
def test_weighted_upper_inverts_its_p_value(seed: int, delta: float, net: bool) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.random(50)
    losses = weights * (2 * rng.random(50) - 1 if net else rng.random(50)) * 0.5
    how = {"weights": weights, "delta": delta, "net": net}
    upper, risk = float(betting_upper(losses, **how)), losses.sum() / weights.sum()
    assert risk <= upper + 1e-12
    if risk + 1e-6 < upper < 1.0:
        assert betting_p_value(losses, alpha=upper, **how) <= delta
        assert betting_p_value(losses, alpha=upper - 1e-6, **how) > delta


@pytest.mark.parametrize("alpha", [0.02, 0.1, 0.5])
def test_net_losses_without_gains_play_nearly_as_plain_ones(alpha: float) -> None:
    """Nearly always within 0.03; one shuffle in some hundreds is further off (seed 77: 0.041)."""
    draws = [(np.random.default_rng(seed).random(400) < alpha / 3) for seed in range(100)]
    gaps = [
        abs(betting_upper(losses, delta=DELTA, net=True) - betting_upper(losses, delta=DELTA))
        for losses in (draw.astype(float) for draw in draws)
    ]
    assert np.mean(gaps) < 0.01
    assert np.mean(np.array(gaps) > 0.03) <= 0.01
    assert max(gaps) < 0.05


def test_gains_make_up_for_losses_in_a_net_loss_alone() -> None:
    differences = np.tile([[0.5], [-0.5]], (300, 1))
    found = calibrate(
        Evidence(losses=differences, net=True), alpha=ALPHA, delta=DELTA, method=Method.BETTING
    )
    assert found.certified
    assert found.risk_kind is RiskKind.NET_LOSS
    assert found.losses == 0.0
    better = Evidence(losses=np.full((300, 1), -0.4), net=True)
    improved = calibrate(better, alpha=ALPHA, delta=DELTA, method=Method.BETTING)
    assert -0.4 < improved.bound < -0.2
    assert improved.bound == pytest.approx(
        upper_bound(better.sample(0), delta=DELTA, method=Method.BETTING)
    )


# -- which method ------------------------------------------------------------------------------


def test_only_single_rows_are_counted_exactly() -> None:
    assert method_for([0, 1]) is Method.BINOMIAL
    assert method_for([0, 1], largest=2) is Method.BETTING
    assert method_for([0, 1], net=True) is Method.BETTING
    assert method_for([-0.5], net=True) is Method.BETTING
    pairs = Evidence(losses=np.zeros((60, 1)), clusters=clusters("ab" * 30))
    for method in (Method.BINOMIAL, Method.HOEFFDING_BENTKUS):
        with pytest.raises(InputError, match="single rows"):
            calibrate(pairs, alpha=ALPHA, delta=DELTA, method=method)
        with pytest.raises(InputError, match="single rows"):
            p_value(Sample(losses=np.zeros(3), net=True), alpha=ALPHA, delta=DELTA, method=method)


def test_a_session_longer_than_all_fitting_ones_counts_as_lost_in_an_exact_test() -> None:
    losses = np.zeros((61, 1))
    losses[0] = 1.0
    codes = np.r_[0, np.arange(60)]
    evidence = Evidence(losses=losses, clusters=Clusters(codes=codes, largest=1, per=Per.SESSION))
    found = calibrate(evidence, alpha=0.1, delta=DELTA, method=Method.BINOMIAL)
    assert found.p_values == (
        p_value(Sample(losses=np.eye(1, 60)[0]), alpha=0.1, delta=DELTA, method=Method.BINOMIAL),
    )


# -- how many clusters --------------------------------------------------------------------------


@pytest.mark.parametrize("net", [False, True])
def test_clusters_needed_is_the_fewest_that_pass(net: bool) -> None:
    least = clusters_needed(ALPHA, DELTA, method=Method.BETTING, net=net)
    for n, passes in [(least, True), (least - 1, False)]:
        lossless = Sample(losses=np.zeros(n), net=net)
        p = p_value(lossless, alpha=ALPHA, delta=DELTA, method=Method.BETTING)
        assert (p <= DELTA) == passes
    assert clusters_needed(ALPHA, DELTA, method=Method.BINOMIAL) == 45


@pytest.mark.parametrize("method", [Method.BETTING, Method.BINOMIAL])
def test_one_cluster_is_refused_with_how_many_it_takes(method: Method) -> None:
    evidence = Evidence(losses=np.zeros((500, 1)), clusters=clusters("a" * 500))
    with pytest.raises(InputError, match="one cluster") as caught:
        calibrate(evidence, alpha=ALPHA, delta=DELTA, method=method)
    assert str(clusters_needed(ALPHA, DELTA, method=method)) in caught.value.hint


def test_advice_counts_clusters_and_the_rows_they_hold() -> None:
    few = Evidence(losses=np.zeros((60, 1)), clusters=Clusters(codes=np.arange(60) // 3, largest=3))
    found = calibrate(few, alpha=ALPHA, delta=DELTA, method=Method.BETTING)
    assert not found.certified
    assert found.clusters == 20
    assert found.clusters_needed == clusters_needed(ALPHA, DELTA, method=Method.BETTING)
    assert found.rows_needed == 3 * found.clusters_needed


# -- parts and people ---------------------------------------------------------------------------


def test_parts_are_bounded_by_their_clusters() -> None:
    losses, parts = np.zeros(80), ["low", "high"] * 40
    together = Clusters(codes=np.arange(80) // 4, largest=4)
    high, low = part_bounds(losses, parts, delta=DELTA, method=Method.BETTING, clusters=together)
    assert (high.part, high.n, high.clusters, low.n, low.clusters) == ("high", 40, 20, 40, 20)
    alone = part_bounds(losses, parts, delta=DELTA, method=Method.BETTING)
    assert high.bound > alone[0].bound


def judged(*labelled: int, largest: int = 2, per: Per = Per.REQUEST) -> Evidence:
    """Fifty clusters of two rows, whose judge sees half of every loss."""
    human = np.repeat((np.arange(50) % 10 == 0).astype(float), 2)[:, None]
    rows = np.array(labelled, np.int64)
    return Evidence(
        losses=human / 2,
        human=LabelledLosses(rows=rows, losses=human[rows]),
        clusters=Clusters(codes=np.repeat(np.arange(50), 2), largest=largest, per=per),
    )


@pytest.mark.parametrize("per", list(Per))
def test_a_judge_is_mended_cluster_by_cluster(per: Per) -> None:
    sample = judged(*range(8), *range(40, 44), per=per).sample(0)
    assert sample.human.rows.tolist() == [0, 1, 2, 3, 20, 21]
    assert sample.human.losses.tolist() == [1.0, 0, 0, 0, 1.0, 0]
    assert sample.losses[[0, 20]].tolist() == [0.5, 0.5]
    bound = upper_bound(sample, delta=DELTA, method=Method.JUDGED)
    assert 0.1 < bound <= 1.0


def test_clusters_that_people_labelled_in_part_are_refused() -> None:
    with pytest.raises(InputError, match="on a part of their rows"):
        judged(0, 1, 2).sample(0)
    assert judged(0, 2, largest=1).sample(0).human.rows.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"clusters": clusters("ab")}, "2 cluster codes for 3 rows"),
        ({"net": True, "answered": np.ones((3, 1), bool)}, "net loss"),
    ],
)
def test_evidence_whose_parts_do_not_fit_is_refused(kwargs, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Evidence(losses=np.zeros((3, 1)), **kwargs)


def test_a_loss_above_its_weight_is_refused() -> None:
    with pytest.raises(InputError, match="larger than its weight"):
        Sample(losses=np.array([0.5]), weights=np.array([0.4]))
    with pytest.raises(InputError, match="weights for"):
        Sample(losses=np.array([0.5]), weights=np.array([0.5, 1.0]))
    with pytest.raises(InputError, match=r"\[-1, 1\]"):
        Sample(losses=np.array([-1.5]), net=True)
