"""Searches over many points accept one whose risk exceeds alpha at most delta of the time."""

import numpy as np
import pytest
from simulate import DRAWS, too_often

from suffice.guarantee.bounds import binomial_p_value
from suffice.guarantee.calibrate import Evidence, calibrate
from suffice.guarantee.methods import Method
from suffice.guarantee.sequences import bonferroni_grid, fixed_sequence

pytestmark = pytest.mark.slow

ALPHA, DELTA, RUNS = 0.1, 0.1, 2000


def independent_points(risks: np.ndarray, n: int) -> np.ndarray:
    """P-values, shape (runs, points), of points that share no rows."""
    k = np.random.default_rng(n).binomial(n, risks, (RUNS, len(risks)))
    return binomial_p_value(k, n, alpha=ALPHA)


def nested_points(risks: np.ndarray, n: int) -> np.ndarray:
    """P-values of one path on the same rows: a row lost at a safe point stays lost."""
    latent = np.random.default_rng(n).random((RUNS, n))
    k = np.stack([np.searchsorted(np.sort(run), risks) for run in latent])
    return binomial_p_value(k, n, alpha=ALPHA)


def share_false(search, p_values: np.ndarray, risks: np.ndarray) -> np.ndarray:
    accepted = [search(run) for run in p_values]
    return np.array([at is not None and risks[at] > ALPHA for at in accepted])


def walk(p: np.ndarray) -> int | None:
    return fixed_sequence(p, delta=DELTA).accepted


def grid(p: np.ndarray) -> int | None:
    return bonferroni_grid(p, np.arange(len(p)), delta=DELTA).accepted


def last_pass(p: np.ndarray) -> int | None:
    return max(np.flatnonzero(p <= DELTA), default=None)


def one_failure_forgiven(p: np.ndarray) -> int | None:
    failures = np.flatnonzero(p > DELTA)
    end = failures[1] if len(failures) > 1 else len(p)
    return max(np.flatnonzero(p[:end] <= DELTA), default=None)


STEEP = np.linspace(0.0, 2 * ALPHA, 101)  # crosses alpha in the middle
JUST_ABOVE = np.full(40, ALPHA * (1 + 1e-9))
UNEVEN = np.tile([0.05, 0.1001, 0.02, 0.3], 10)  # a path that is not ordered after all
PATHS = {"steep": STEEP, "just above": JUST_ABOVE, "uneven": UNEVEN}


@pytest.mark.parametrize("search", [walk, grid])
@pytest.mark.parametrize("risks", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("n", [60, 400])
def test_searches_keep_their_promise(search, risks: np.ndarray, n: int) -> None:
    assert not too_often(share_false(search, independent_points(risks, n), risks), DELTA)
    if np.all(np.diff(risks) >= 0):
        assert not too_often(share_false(search, nested_points(risks, n), risks), DELTA)


@pytest.mark.parametrize("search", [last_pass, one_failure_forgiven])
def test_a_loosened_search_is_caught(search) -> None:
    p_values = independent_points(JUST_ABOVE, 400)
    assert too_often(share_false(search, p_values, JUST_ABOVE), DELTA)


def test_a_grid_without_its_correction_is_caught() -> None:
    def uncorrected(p: np.ndarray) -> int | None:
        return bonferroni_grid(p, np.arange(len(p)), delta=min(len(p) * DELTA, 0.999)).accepted

    p_values = independent_points(JUST_ABOVE[:9], 400)
    assert too_often(share_false(uncorrected, p_values, JUST_ABOVE), DELTA)


# -- from losses to the certified point -----------------------------------------------------------


def certified(evidence: Evidence, method: Method, risks: np.ndarray) -> bool:
    found = calibrate(evidence, alpha=ALPHA, delta=DELTA, method=method)
    return found.certified and risks[found.index] > ALPHA


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_walk_over_bounded_losses_keeps_its_promise(draw) -> None:
    rng, risks = np.random.default_rng(1), np.array([0.02, 0.06, 0.1001, 0.15])
    false = []
    for _ in range(300):
        losses = np.stack([draw(rng, risk, (150,)) for risk in risks], axis=1)
        false.append(certified(Evidence(losses=losses), Method.BETTING, risks))
    assert not too_often(np.array(false), DELTA)


def selective_runs(*, thresholds: np.ndarray, runs: int = 1000) -> list[Evidence]:
    """Scores uniform on [0, 1] that are the chance of an error; answered below a threshold."""
    rng, made = np.random.default_rng(2), []
    for _ in range(runs):
        score = rng.random((300, 1))
        errors = np.broadcast_to(rng.random((300, 1)) < score, (300, len(thresholds)))
        made.append(Evidence(losses=errors.astype(float), answered=score < thresholds))
    return made


THRESHOLDS = np.linspace(0.05, 0.6, 23)
CONDITIONAL = THRESHOLDS / 2  # the error among answered below each threshold


def test_the_error_among_answered_keeps_its_promise() -> None:
    runs = selective_runs(thresholds=THRESHOLDS)
    false = [certified(run, Method.BINOMIAL, CONDITIONAL) for run in runs]
    assert not too_often(np.array(false), DELTA)


def test_a_threshold_chosen_without_a_test_is_caught() -> None:
    def largest_that_looks_right(evidence: Evidence) -> int:
        rates = evidence.totals() / np.maximum(evidence.counts(), 1)
        return int(max(np.flatnonzero(rates <= ALPHA), default=0))

    runs = selective_runs(thresholds=THRESHOLDS)
    false = [CONDITIONAL[largest_that_looks_right(run)] > ALPHA for run in runs]
    assert too_often(np.array(false), DELTA)
