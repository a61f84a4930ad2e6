from fractions import Fraction
from math import comb, e, exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.errors import InputError
from suffice.guarantee import bounds, judged, methods
from suffice.guarantee.losses import LabelledLosses, Sample
from suffice.guarantee.methods import Method

ALPHA, DELTA = 0.05, 0.1
probability = st.floats(0.001, 0.999)
unit_losses = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60)


def binomial_tail(k: int, n: int, risk: float) -> float:
    """Sum the binomial terms exactly, as a second calculation."""
    r = Fraction(risk)
    return float(sum(comb(n, i) * r**i * (1 - r) ** (n - i) for i in range(k + 1)))


# -- losses of 0 or 1 ---------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 45), (2, 100), (14, 400), (40, 40), (0, 0)])
def test_binomial_p_value_is_the_exact_tail(k: int, n: int) -> None:
    assert bounds.binomial_p_value(k, n, alpha=ALPHA) == pytest.approx(
        binomial_tail(k, n, ALPHA), rel=1e-10
    )


@given(n=st.integers(1, 3000), share=st.floats(0, 1), delta=probability)
@settings(deadline=None)
def test_clopper_pearson_is_where_the_p_value_is_delta(n: int, share: float, delta: float) -> None:
    k = int(share * (n - 1))
    upper = float(bounds.clopper_pearson_upper(k, n, delta=delta))
    assert k / n < upper or delta > 0.4
    assert bounds.binomial_p_value(k, n, alpha=upper) == pytest.approx(delta, rel=1e-6)


@given(n=st.integers(2, 500), alpha=probability, delta=probability)
@settings(deadline=None)
def test_more_losses_are_never_better(n: int, alpha: float, delta: float) -> None:
    k = np.arange(n + 1)
    assert np.all(np.diff(bounds.binomial_p_value(k, n, alpha=alpha)) >= -1e-12)
    assert np.all(np.diff(bounds.clopper_pearson_upper(k, n, delta=delta)) > 0)


def test_clopper_pearson_covers_the_ends() -> None:
    assert bounds.clopper_pearson_upper(0, 0, delta=DELTA) == 1.0
    assert bounds.clopper_pearson_upper(7, 7, delta=DELTA) == 1.0
    assert bounds.clopper_pearson_upper(0, 45, delta=DELTA) == pytest.approx(1 - DELTA ** (1 / 45))
    low, high = bounds.clopper_pearson_interval([0, 5, 10], 10, delta=DELTA)
    assert low[0] == 0.0
    assert high[2] == 1.0
    assert low[1] == pytest.approx(1 - high[1])


@pytest.mark.parametrize(
    ("alpha", "delta", "rows", "allowed"),
    [
        (0.01, 0.10, 230, (1, 5, 22, 86)),
        (0.02, 0.10, 114, (4, 13, 49, 181)),
        (0.05, 0.10, 45, (14, 40, 134, 471)),
        (0.05, 0.05, 59, (12, 38, 130, 463)),
        (0.10, 0.10, 22, (31, 87, 278, 961)),
    ],
)
def test_rows_needed_and_losses_allowed(
    alpha: float, delta: float, rows: int, allowed: tuple[int, ...]
) -> None:
    assert bounds.rows_needed(alpha, delta) == rows
    assert (1 - alpha) ** rows <= delta < (1 - alpha) ** (rows - 1)
    for n, k in zip((400, 1000, 3000, 10_000), allowed, strict=True):
        assert bounds.losses_allowed(n, alpha=alpha, delta=delta) == k


@given(alpha=st.floats(0.01, 0.5), delta=probability, tests=st.integers(1, 50))
@settings(deadline=None)
def test_losses_allowed_is_the_most_that_passes(alpha: float, delta: float, tests: int) -> None:
    n = 300
    k = bounds.losses_allowed(n, alpha=alpha, delta=delta, tests=tests)
    most = -1 if k is None else k
    assert k is None or bounds.binomial_p_value(k, n, alpha=alpha) <= delta / tests
    assert bounds.binomial_p_value(most + 1, n, alpha=alpha) > delta / tests


def test_rows_needed_counts_losses_and_tests() -> None:
    assert bounds.rows_needed(ALPHA, DELTA, tests=20) == bounds.rows_needed(ALPHA, DELTA / 20)
    n = bounds.rows_needed(ALPHA, DELTA, loss_rate=0.03)
    assert n is not None
    for rows, enough in [(n, True), (n - 1, False)]:
        allowed = bounds.losses_allowed(rows, alpha=ALPHA, delta=DELTA)
        assert (allowed >= 0.03 * rows) == enough
    assert bounds.rows_needed(0.5, 0.5) == 1
    assert bounds.rows_needed(ALPHA, DELTA, loss_rate=ALPHA) is None
    assert bounds.rows_needed(ALPHA, DELTA, loss_rate=0.04999999) is None


# -- losses anywhere in [0, 1] ------------------------------------------------------------------


def test_hoeffding_bentkus_is_the_smaller_of_its_two_bounds() -> None:
    n, mean = 100, 0.021
    hoeffding = exp(-n * (mean * log(mean / ALPHA) + (1 - mean) * log((1 - mean) / (1 - ALPHA))))
    bentkus = e * binomial_tail(3, n, ALPHA)
    found = bounds.hoeffding_bentkus_p_value(mean, n, alpha=ALPHA)
    assert found == pytest.approx(min(hoeffding, bentkus))
    small = bounds.hoeffding_bentkus_p_value(0.0, 5000, alpha=ALPHA)
    assert small == pytest.approx((1 - ALPHA) ** 5000)


@given(mean=st.floats(0.0, 0.95), n=st.integers(1, 2000), delta=st.floats(0.01, 0.5))
@settings(deadline=None)
def test_hoeffding_bentkus_upper_inverts_its_p_value(mean: float, n: int, delta: float) -> None:
    upper = float(bounds.hoeffding_bentkus_upper(mean, n, delta=delta))
    assert mean <= upper <= 1.0
    assert bounds.hoeffding_bentkus_p_value(mean, n, alpha=upper - 1e-6) > delta
    if upper < 1.0:
        assert bounds.hoeffding_bentkus_p_value(mean, n, alpha=upper) <= delta


def bet_by_hand(losses: list[float], alpha: float, delta: float) -> float:
    """Play the same game one row at a time, as a second calculation."""
    wealth = most = 1.0
    variance, seen = 0.25, []
    squares = 0.0
    for t, loss in enumerate(losses, start=1):
        bet = min(sqrt(2 * log(1 / delta) / (len(losses) * variance)), 0.75 / (1 - alpha))
        wealth *= 1 + bet * (alpha - loss)
        most = max(most, wealth)
        seen.append(loss)
        squares += (loss - (0.5 + sum(seen)) / (t + 1)) ** 2
        variance = (0.25 + squares) / (t + 1)
    return 1 / most


@given(losses=unit_losses, alpha=probability, delta=probability)
@settings(deadline=None, max_examples=50)
def test_betting_p_value_is_the_game_played_row_by_row(
    losses: list[float], alpha: float, delta: float
) -> None:
    shuffled = bounds._shuffled(np.array(losses)).tolist()
    assert sorted(shuffled) == sorted(losses)
    found = bounds.betting_p_value(losses, alpha=alpha, delta=delta)
    assert found == pytest.approx(bet_by_hand(shuffled, alpha, delta), rel=1e-9)


def test_losses_allowed_may_be_all_but_one() -> None:
    assert bounds.losses_allowed(2, alpha=0.5, delta=0.8) == 1
    assert bounds.losses_allowed(3, alpha=ALPHA, delta=DELTA) is None


@given(losses=unit_losses, delta=st.floats(0.01, 0.5))
@settings(deadline=None, max_examples=50)
def test_betting_upper_inverts_its_p_value(losses: list[float], delta: float) -> None:
    upper = float(bounds.betting_upper(losses, delta=delta))
    assert np.mean(losses) <= upper + 1e-12
    assert upper <= 1.0
    if np.mean(losses) + 1e-6 < upper < 1.0:
        assert bounds.betting_p_value(losses, alpha=upper, delta=delta) <= delta
        assert bounds.betting_p_value(losses, alpha=upper - 1e-6, delta=delta) > delta


def test_betting_takes_many_points_at_once() -> None:
    losses = np.random.default_rng(1).random((50, 3)) * [0.05, 0.2, 1.0]
    together = bounds.betting_p_value(losses, alpha=0.2, delta=DELTA)
    alone = [bounds.betting_p_value(column, alpha=0.2, delta=DELTA) for column in losses.T]
    assert together.tolist() == alone
    assert together[0] < DELTA < together[2]


def test_betting_gains_where_losses_are_small_parts() -> None:
    losses = np.tile([0.05, 0.15], 500)
    hb = bounds.hoeffding_bentkus_upper(losses.mean(), 1000, delta=DELTA)
    assert 0.1 < bounds.betting_upper(losses, delta=DELTA) < hb


# -- a judge ------------------------------------------------------------------------------------


def judge_sample(*, judge: np.ndarray, human: np.ndarray, labelled: int) -> Sample:
    rows = np.arange(labelled)
    return Sample(losses=judge, human=LabelledLosses(rows=rows, losses=human[rows]))


def test_a_perfect_judge_costs_little_and_a_lenient_one_does_not_fool_the_bound() -> None:
    human = (np.random.default_rng(3).random(4000) < 0.04).astype(float)
    perfect = judge_sample(judge=human, human=human, labelled=500)
    lenient = judge_sample(judge=np.zeros(4000), human=human, labelled=500)
    assert human.mean() < judged.prediction_powered_upper(perfect, delta=DELTA) < 0.07
    assert judged.prediction_powered_upper(lenient, delta=DELTA) > human.mean()
    assert judged.prediction_powered_p_value(perfect, alpha=0.08, delta=DELTA) <= DELTA
    assert judged.prediction_powered_p_value(lenient, alpha=0.04, delta=DELTA) > DELTA


def test_the_judge_and_the_rectifier_split_delta() -> None:
    human = np.tile([0.0, 0.0, 0.0, 1.0], 50)
    sample = judge_sample(judge=human * 0.5, human=human, labelled=80)
    judge_part = bounds.betting_upper(human * 0.5, delta=0.01)
    rectified = bounds.betting_upper((human[:80] * 0.5 + 1) / 2, delta=0.09)
    expected = judge_part + 2 * rectified - 1
    assert judged.prediction_powered_upper(sample, delta=DELTA) == pytest.approx(expected)
    hopeless = judge_sample(judge=human * 0.0, human=human * 0 + 1, labelled=80)
    assert judged.prediction_powered_upper(hopeless, delta=DELTA) == 1.0
    assert judged.prediction_powered_p_value(hopeless, alpha=0.5, delta=DELTA) == 1.0


@given(seed=st.integers(0, 1000), alpha=st.floats(0.02, 0.5))
@settings(deadline=None, max_examples=25)
def test_prediction_powered_test_and_bound_agree(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    human = (rng.random(300) < rng.random() / 3).astype(float)
    sample = judge_sample(judge=np.abs(human - (rng.random(300) < 0.1)), human=human, labelled=100)
    upper = judged.prediction_powered_upper(sample, delta=DELTA)
    if abs(upper - alpha) > 1e-9:
        passes = judged.prediction_powered_p_value(sample, alpha=alpha, delta=DELTA) <= DELTA
        assert passes == (upper < alpha)


def test_few_judged_values_leave_the_labels_alone_and_many_share_delta_with_them() -> None:
    rng = np.random.default_rng(4)
    human = (rng.random(judged.JUDGED_LEAST) < 0.03).astype(float)
    few = judge_sample(judge=human[:1000], human=human[:1000], labelled=300)
    alone = bounds.betting_upper(human[:300], delta=DELTA)
    assert judged.judged_upper(few, delta=DELTA) == alone
    assert judged.judged_p_value(few, alpha=0.08, delta=DELTA) == bounds.betting_p_value(
        human[:300], alpha=0.08, delta=DELTA
    )
    many = judge_sample(judge=human, human=human, labelled=300)
    share = judged.LABEL_SHARE
    assert judged.judged_upper(many, delta=DELTA) == min(
        bounds.betting_upper(human[:300], delta=share * DELTA),
        judged.prediction_powered_upper(many, delta=(1 - share) * DELTA),
    )


def test_labels_must_fit_the_rows() -> None:
    for rows, losses in [([0, 0], [0.0, 1.0]), ([1, 2], [0.0]), ([1], [0.0, 0.0])]:
        with pytest.raises(InputError, match="do not fit"):
            LabelledLosses(rows=np.array(rows), losses=np.array(losses))
    with pytest.raises(InputError, match="losses must lie"):
        LabelledLosses(rows=np.array([0]), losses=np.array([2.0]))
    for outside in (5, -1):
        labels = LabelledLosses(rows=np.array([outside]), losses=np.zeros(1))
        with pytest.raises(InputError, match="outside the 5 rows"):
            Sample(losses=np.zeros(5), human=labels)
    with pytest.raises(InputError, match="without human labels"):
        judged.prediction_powered_upper(Sample(losses=np.zeros(5)), delta=DELTA)


def test_labels_at_both_ends_fit() -> None:
    labels = LabelledLosses(rows=np.array([0, 4]), losses=np.zeros(2))
    assert not Sample(losses=np.zeros(5), human=labels).empty


# -- one door, and bad input --------------------------------------------------------------------


def test_the_door_leads_to_each_method() -> None:
    binary = np.array([0.0] * 95 + [1.0] * 5)
    parts, sample = binary * 0.5, Sample(losses=binary)
    half = Sample(losses=parts)
    judge = judge_sample(judge=parts, human=binary, labelled=60)
    pairs = [
        (sample, Method.BINOMIAL, bounds.clopper_pearson_upper(5, 100, delta=DELTA)),
        (half, Method.BETTING, bounds.betting_upper(parts, delta=DELTA)),
        (half, Method.HOEFFDING_BENTKUS, bounds.hoeffding_bentkus_upper(0.025, 100, delta=DELTA)),
        (judge, Method.JUDGED, judged.judged_upper(judge, delta=DELTA)),
    ]
    for given_sample, method, expected in pairs:
        upper = methods.upper_bound(given_sample, delta=DELTA, method=method)
        assert upper == expected
        for alpha, passes in [(upper + 1e-6, True), (upper - 1e-6, False)]:
            p = methods.p_value(given_sample, alpha=alpha, delta=DELTA, method=method)
            assert (p <= DELTA) == passes, method


@pytest.mark.parametrize("method", list(Method))
def test_nothing_seen_is_the_widest_bound(method: Method) -> None:
    nothing = Sample(losses=np.zeros(0))
    assert methods.p_value(nothing, alpha=ALPHA, delta=DELTA, method=method) == 1.0
    assert methods.upper_bound(nothing, delta=DELTA, method=method) == 1.0
    nobody = LabelledLosses(rows=np.zeros(0, int), losses=np.zeros(0))
    unlabelled = Sample(losses=np.zeros(9), human=nobody)
    assert methods.p_value(unlabelled, alpha=ALPHA, delta=DELTA, method=method) == 1.0
    assert methods.upper_bound(unlabelled, delta=DELTA, method=method) == 1.0


def test_method_for_looks_at_the_kind_of_loss() -> None:
    assert methods.method_for([0, 1, 1]) is Method.BINOMIAL
    assert methods.method_for([0.0, 0.5]) is Method.BETTING
    sample = Sample(losses=np.array([0.5]))
    with pytest.raises(InputError, match="losses of 0 or 1"):
        methods.p_value(sample, alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_alpha_and_delta_must_lie_between_0_and_1(bad: float) -> None:
    sample = Sample(losses=np.zeros(3))
    calls = [
        lambda: bounds.rows_needed(bad, DELTA),
        lambda: bounds.rows_needed(ALPHA, bad),
        lambda: bounds.losses_allowed(10, alpha=bad, delta=DELTA),
        lambda: bounds.losses_allowed(10, alpha=ALPHA, delta=bad),
        lambda: bounds.clopper_pearson_interval(1, 10, delta=bad),
        lambda: bounds.hoeffding_bentkus_upper(0.1, 10, delta=bad),
        lambda: bounds.betting_p_value([0.1], alpha=bad, delta=DELTA),
        lambda: bounds.betting_upper([0.1], delta=bad),
        lambda: methods.p_value(sample, alpha=ALPHA, delta=bad, method=Method.BETTING),
        lambda: methods.upper_bound(sample, delta=bad, method=Method.BINOMIAL),
    ]
    for call in calls:
        with pytest.raises(InputError, match="strictly between 0 and 1"):
            call()


@pytest.mark.parametrize("bad", [[float("nan")], [0.1, 1.1], [-0.1], [float("inf")]])
def test_losses_outside_0_to_1_are_refused(bad: list[float]) -> None:
    with pytest.raises(InputError, match=r"losses must lie in \[0, 1\]"):
        Sample(losses=np.array(bad))
    with pytest.raises(InputError, match=r"losses must lie in \[0, 1\]"):
        bounds.betting_upper(bad, delta=DELTA)


@pytest.mark.parametrize(("k", "n"), [(3, 2), (-1, 2), (0.5, 2), (float("nan"), 2)])
def test_counts_that_make_no_sense_are_refused(k: float, n: float) -> None:
    with pytest.raises(InputError):
        bounds.binomial_p_value(k, n, alpha=ALPHA)
    with pytest.raises(InputError, match="no rows"):
        bounds.betting_upper([], delta=DELTA)
