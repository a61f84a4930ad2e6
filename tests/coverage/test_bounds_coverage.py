"""Every bound fails at most as often as it says, and a loosened one is caught by the same check.

Binomial bounds are enumerated: no simulation, no noise. The others are simulated with the risk
exactly at alpha, where a test has the least excuse.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy import special, stats
from simulate import DRAWS, bernoulli, sparse, too_often

from suffice.guarantee import bounds, judged
from suffice.guarantee.losses import LabelledLosses, Sample

pytestmark = pytest.mark.slow

RUNS = 3000
SIZES = (1, 2, 7, 45, 200, 1001)
DELTAS = (0.01, 0.1, 0.5)


# -- exact ----------------------------------------------------------------------------------------


def worst_miss(upper: Callable[..., np.ndarray], n: int, delta: float) -> float:
    """The largest chance over all risks that an upper bound falls below the risk.

    The chance jumps up just above each value that the bound can take, so those risks suffice.
    """
    k = np.arange(n + 1)
    values = np.asarray(upper(k, n, delta=delta))
    risks = np.nextafter(values[values < 1], 1.0)
    missed = values[:, None] < risks[None, :]
    return float((stats.binom.pmf(k[:, None], n, risks[None, :]) * missed).sum(axis=0).max())


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("delta", DELTAS)
def test_clopper_pearson_misses_exactly_as_often_as_it_says(n: int, delta: float) -> None:
    assert worst_miss(bounds.clopper_pearson_upper, n, delta) == pytest.approx(delta, rel=1e-6)


LOOSE_UPPERS = {
    "one loss dropped": lambda k, n, delta: bounds.clopper_pearson_upper(
        np.maximum(k - 1, 0), n, delta=delta
    ),
    "mean, no bound": lambda k, n, delta: k / n,
    "one row too many": lambda k, n, delta: bounds.clopper_pearson_upper(k, n + 1, delta=delta),
    "delta 10 % larger": lambda k, n, delta: bounds.clopper_pearson_upper(k, n, delta=1.1 * delta),
    "normal approximation": lambda k, n, delta: (
        k / n + stats.norm.isf(delta) * np.sqrt(k * (n - k) / n**3)
    ),
    "mid-p": lambda k, n, delta: (
        (
            bounds.clopper_pearson_upper(k, n, delta=delta)
            + bounds.clopper_pearson_upper(np.maximum(k - 1, 0), n, delta=delta)
        )
        / 2
    ),
}


@pytest.mark.parametrize("name", LOOSE_UPPERS)
@pytest.mark.parametrize("n", [7, 200])
def test_a_loosened_clopper_pearson_is_caught(name: str, n: int) -> None:
    assert worst_miss(LOOSE_UPPERS[name], n, 0.1) > 0.1 * (1 + 1e-6)


@pytest.mark.parametrize("n", SIZES)
def test_the_interval_misses_on_either_side_at_most_half(n: int) -> None:
    def from_below(k: np.ndarray, n: int, *, delta: float) -> np.ndarray:
        return 1 - bounds.clopper_pearson_interval(n - k, n, delta=delta)[0]

    def from_above(k: np.ndarray, n: int, *, delta: float) -> np.ndarray:
        return bounds.clopper_pearson_interval(k, n, delta=delta)[1]

    for side in (from_below, from_above):
        assert worst_miss(side, n, 0.1) == pytest.approx(0.05, rel=1e-6)


def passes_at(p_value: Callable[..., np.ndarray], n: int, alpha: float, delta: float) -> float:
    """The exact chance of passing the test when the risk is alpha."""
    k = np.arange(n + 1)
    passed = np.asarray(p_value(k, n, alpha=alpha)) <= delta
    return float(stats.binom.pmf(k, n, alpha)[passed].sum())


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3, 0.9])
@pytest.mark.parametrize("delta", DELTAS)
def test_the_binomial_test_passes_at_most_delta_at_alpha(
    n: int, alpha: float, delta: float
) -> None:
    assert passes_at(bounds.binomial_p_value, n, alpha, delta) <= delta * (1 + 1e-9)


LOOSE_P_VALUES = {
    "fewer than k": lambda k, n, alpha: special.bdtr(k - 1, n, alpha) * (k > 0),
    "alpha 10 % larger": lambda k, n, alpha: bounds.binomial_p_value(k, n, alpha=1.1 * alpha),
    "one loss too few": lambda k, n, alpha: bounds.binomial_p_value(
        np.maximum(k - 1, 0), n, alpha=alpha
    ),
    "mean at most alpha": lambda k, n, alpha: (k / n > alpha).astype(float),
}


@pytest.mark.parametrize("name", LOOSE_P_VALUES)
def test_a_loosened_binomial_test_is_caught(name: str) -> None:
    chances = [passes_at(LOOSE_P_VALUES[name], n, 0.05, 0.1) for n in (45, 200, 1001)]
    assert max(chances) > 0.1 * (1 + 1e-9)


# -- simulated ------------------------------------------------------------------------------------


def hoeffding_bentkus(losses: np.ndarray, alpha: float, delta: float) -> np.ndarray:
    return bounds.hoeffding_bentkus_p_value(losses.mean(axis=0), len(losses), alpha=alpha)


def betting(losses: np.ndarray, alpha: float, delta: float) -> np.ndarray:
    return bounds.betting_p_value(losses, alpha=alpha, delta=delta)


@pytest.mark.parametrize("test", [hoeffding_bentkus, betting])
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("alpha", [0.02, 0.2, 0.5])
@pytest.mark.parametrize("n", [20, 100, 500])
def test_bounded_losses_pass_at_most_delta_at_alpha(test, draw, alpha: float, n: int) -> None:
    rng = np.random.default_rng([n, int(100 * alpha)])
    losses = draw(rng, alpha, (n, RUNS))
    p = test(losses, alpha, 0.1)
    for level in (0.02, 0.1, 0.3):  # a p-value is valid at every level, not just the tuned one
        assert not too_often(p <= level, level)


@pytest.mark.parametrize(
    "upper",
    [
        lambda x: bounds.hoeffding_bentkus_upper(x.mean(axis=0), len(x), delta=0.1),
        lambda x: bounds.betting_upper(x, delta=0.1),
    ],
    ids=["hoeffding_bentkus", "betting"],
)
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_upper_bounds_fall_below_the_risk_at_most_delta(upper, draw) -> None:
    losses = draw(np.random.default_rng(7), 0.1, (150, 1000))
    assert not too_often(upper(losses) < 0.1, 0.1)


def wald(losses: np.ndarray, alpha: float, delta: float) -> np.ndarray:
    error = np.maximum(losses.std(axis=0), 1e-9) / np.sqrt(len(losses))
    return stats.norm.cdf((losses.mean(axis=0) - alpha) / error)


def alpha_scaled(test, losses: np.ndarray, alpha: float, delta: float) -> np.ndarray:
    return test(losses, 1.1 * alpha, delta)


def observed_mean(losses: np.ndarray, alpha: float, delta: float) -> np.ndarray:
    return (losses.mean(axis=0) > alpha).astype(float)


LOOSE_TESTS = {
    "hoeffding-bentkus, alpha 10 % larger": partial(alpha_scaled, hoeffding_bentkus),
    "betting, alpha 10 % larger": partial(alpha_scaled, betting),
    "normal approximation": wald,
    "mean at most alpha": observed_mean,
}


def caught(test) -> bool:
    settings = [(bernoulli, 0.5, 500), (sparse, 0.02, 100), (sparse, 0.02, 20)]
    rng = np.random.default_rng(11)
    return any(
        too_often(test(draw(rng, alpha, (n, RUNS)), alpha, 0.1) <= 0.1, 0.1)
        for draw, alpha, n in settings
    )


@pytest.mark.parametrize("name", LOOSE_TESTS)
def test_a_loosened_test_of_bounded_losses_is_caught(name: str) -> None:
    assert caught(LOOSE_TESTS[name])


def test_what_the_check_does_not_catch_is_the_real_thing() -> None:
    assert not caught(betting)
    assert not caught(hoeffding_bentkus)


def test_a_bet_that_sees_its_own_row_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = bounds._plug_in_bets

    def peeking(losses: np.ndarray, *, delta: float, net: bool) -> np.ndarray:
        return np.where(losses > 0.0, 0.5, 1.0) * honest(losses, delta=delta, net=net)

    monkeypatch.setattr(bounds, "_plug_in_bets", peeking)
    assert caught(betting)


def test_sorted_rows_would_break_the_game_and_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = np.sort(bernoulli(np.random.default_rng(5), 0.2, (200, RUNS)), axis=0)
    assert not too_often(betting(losses, 0.2, 0.1) <= 0.1, 0.1)
    monkeypatch.setattr(bounds, "_shuffled", lambda rows: rows)
    assert too_often(betting(losses, 0.2, 0.1) <= 0.1, 0.1)


# -- a judge --------------------------------------------------------------------------------------

JUDGES = {
    "right": lambda human, rng: human,
    "lenient": lambda human, rng: human * (rng.random(human.shape) < 0.4),
    "harsh": lambda human, rng: np.maximum(human, rng.random(human.shape) < 0.1),
    "noisy": lambda human, rng: np.abs(human - (rng.random(human.shape) < 0.2)),
    "in parts": lambda human, rng: 0.3 * human + 0.2 * rng.random(human.shape),
}


def judged_passes(judge, test, *, runs: int = 250) -> np.ndarray:
    """Passes of `risk <= alpha` while the human risk is exactly alpha."""
    rng, alpha, passes = np.random.default_rng(3), 0.15, []
    for _ in range(runs):
        human = bernoulli(rng, alpha, (400,))
        rows = rng.permutation(400)[:100]
        labels = LabelledLosses(rows=rows, losses=human[rows])
        sample = Sample(losses=judge(human, rng), human=labels)
        passes.append(test(sample, alpha=alpha, delta=0.1) <= 0.1)
    return np.array(passes)


@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
def test_no_judge_breaks_the_prediction_powered_test(judge) -> None:
    assert not too_often(judged_passes(judge, judged.prediction_powered_p_value), 0.1)


@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
@pytest.mark.parametrize("least", [0, 5000])
def test_no_judge_breaks_the_test_of_labels_and_judge(
    judge, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judged, "JUDGED_LEAST", least)
    assert not too_often(judged_passes(judge, judged.judged_p_value, runs=150), 0.1)


def test_trusting_a_lenient_judge_is_caught() -> None:
    def trusting(sample: Sample, *, alpha: float, delta: float) -> float:
        return float(bounds.betting_p_value(sample.losses, alpha=alpha, delta=delta))

    def mean_rectified(sample: Sample, *, alpha: float, delta: float) -> float:
        shift = (sample.human.losses - sample.losses[sample.human.rows]).mean()
        bound = float(bounds.betting_upper(sample.losses, delta=delta)) + shift
        return 0.0 if bound <= alpha else 1.0

    for loose in (trusting, mean_rectified):
        assert too_often(judged_passes(JUDGES["lenient"], loose), 0.1)
