"""A promise about rows that depend on each other fails at most as often as it says.

The risk is exactly alpha, and rows of one cluster share their luck. Tests that count rows, weigh
clusters wrongly or bet past the largest cluster must fail the same checks.
"""

from collections.abc import Callable

import numpy as np
import pytest
from simulate import Simulated, correlated, net_losses, too_often

from suffice.guarantee import Clusters, Evidence, Method, Per, calibrate, number_clusters
from suffice.guarantee.bounds import BET_CAP, betting_p_value, binomial_p_value

ALPHA, DELTA = 0.1, 0.1
QUICK, LONG = 600, 6000
CORRELATIONS = (0.0, 0.3, 0.9, 1.0)
SIZES: dict[str, tuple[int, ...]] = {
    "copies": (5,),
    "sessions": (20,),
    "uneven": (1, 1, 2, 30),
}


def per_request(seen: Simulated) -> np.ndarray:
    return betting_p_value(
        seen.losses / seen.largest, weights=seen.sizes / seen.largest, alpha=ALPHA, delta=DELTA
    )


def per_session(seen: Simulated) -> np.ndarray:
    return betting_p_value(seen.losses / seen.sizes, alpha=ALPHA, delta=DELTA)


def passes(test: Callable[[Simulated], np.ndarray], seen: Simulated) -> np.ndarray:
    return test(seen) <= DELTA


# -- per request, per session -------------------------------------------------------------------


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("runs", [QUICK, pytest.param(LONG, marks=pytest.mark.slow)])
def test_cluster_sums_keep_the_promise_per_request(
    correlation: float, sizes: tuple[int, ...], runs: int
) -> None:
    rng = np.random.default_rng(runs)
    for clusters in (40, 200):
        seen = correlated(rng, ALPHA, sizes, (clusters, runs), correlation=correlation)
        assert not too_often(passes(per_request, seen), DELTA)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_the_promise_per_request_holds_where_long_sessions_are_worse(sizes) -> None:
    rng = np.random.default_rng(2)
    seen = correlated(rng, ALPHA, sizes, (150, QUICK), correlation=0.5, worse_when_long=True)
    assert not too_often(passes(per_request, seen), DELTA)


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("runs", [QUICK, pytest.param(LONG, marks=pytest.mark.slow)])
def test_cluster_means_keep_the_promise_per_session(
    correlation: float, sizes: tuple[int, ...], runs: int
) -> None:
    rng = np.random.default_rng(runs + 1)
    for clusters in (40, 200):
        seen = correlated(rng, ALPHA, sizes, (clusters, runs), correlation=correlation)
        assert not too_often(passes(per_session, seen), DELTA)


def rows_as_independent(seen: Simulated) -> np.ndarray:
    return binomial_p_value(seen.losses.sum(axis=0), seen.sizes.sum(axis=0), alpha=ALPHA)


def one_row_a_bet(seen: Simulated) -> np.ndarray:
    """Scale by the mean size: a large cluster then loses more than a bet can pay."""
    scale = seen.sizes.mean()
    gains = BET_CAP / (1 - ALPHA) * (ALPHA * seen.sizes - seen.losses) / scale
    return np.exp(-np.log1p(np.maximum(gains, -0.999)).cumsum(axis=0).max(axis=0).clip(0))


def means_for_requests(seen: Simulated) -> np.ndarray:
    return per_session(seen)


def larger_alpha(seen: Simulated) -> np.ndarray:
    weights = seen.sizes / seen.largest
    return betting_p_value(
        seen.losses / seen.largest, weights=weights, alpha=1.2 * ALPHA, delta=DELTA
    )


@pytest.mark.parametrize(
    ("loose", "sizes", "correlation", "worse_when_long"),
    [
        (rows_as_independent, (5,), 1.0, False),
        (rows_as_independent, (20,), 0.3, False),
        (one_row_a_bet, (1, 1, 2, 30), 0.9, False),
        (means_for_requests, (1, 1, 2, 30), 0.5, True),
        (larger_alpha, (1, 1, 2, 20), 0.0, False),
    ],
    ids=["rows", "rows of sessions", "mean size", "session means", "alpha"],
)
def test_a_loosened_cluster_test_is_caught(
    loose, sizes: tuple[int, ...], correlation: float, worse_when_long: bool
) -> None:
    rng = np.random.default_rng(5)
    seen = correlated(
        rng, ALPHA, sizes, (1000, 400), correlation=correlation, worse_when_long=worse_when_long
    )
    assert too_often(passes(loose, seen), DELTA)


# -- net loss -----------------------------------------------------------------------------------


def net(losses: np.ndarray, alpha: float) -> np.ndarray:
    return betting_p_value(losses, alpha=alpha, delta=DELTA, net=True)


@pytest.mark.parametrize("alpha", [0.02, 0.1])
@pytest.mark.parametrize("noise", [0.0, 0.16, 0.8])
@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("runs", [QUICK, pytest.param(LONG, marks=pytest.mark.slow)])
def test_a_net_loss_of_exactly_alpha_rarely_passes(
    alpha: float, noise: float, repeats: int, runs: int
) -> None:
    rng = np.random.default_rng([runs, repeats])
    for clusters in (20, 150):
        losses = net_losses(rng, alpha, (clusters, runs), noise=noise, repeats=repeats)
        assert not too_often(net(losses, alpha) <= DELTA, DELTA)


@pytest.mark.parametrize(
    "loose",
    [
        lambda losses, alpha: net(losses, 1.5 * alpha),
        lambda losses, alpha: betting_p_value(losses.clip(0, 1), alpha=2 * alpha, delta=DELTA),
        lambda losses, alpha: (losses.mean(axis=0) > alpha).astype(float),
        lambda losses, alpha: betting_p_value(np.maximum(losses, -0.0) / 2, alpha=alpha, delta=0.1),
    ],
    ids=["alpha", "clipped at twice alpha", "mean", "halved"],
)
def test_a_loosened_net_loss_is_caught(loose) -> None:
    losses = net_losses(np.random.default_rng(3), 0.1, (400, 600), noise=0.0, repeats=1)
    assert too_often(loose(losses, 0.1) <= DELTA, DELTA)


def test_two_runs_of_one_agent_are_as_good_as_each_other() -> None:
    """They disagree on 16 % of tasks; the clipped loss is 8 %, the net loss 0."""
    rng, tasks, certified = np.random.default_rng(4), 400, []
    for _ in range(40):
        losses = net_losses(rng, 0.0, (tasks, 1), noise=0.16, repeats=1)
        found = [
            calibrate(evidence, alpha=0.06, delta=DELTA, method=Method.BETTING).certified
            for evidence in (
                Evidence(losses=losses, net=True),
                Evidence(losses=losses.clip(0, 1)),
            )
        ]
        certified.append(found)
    shares = np.mean(certified, axis=0)
    assert shares[0] > 0.8
    assert shares[1] <= DELTA


# -- through calibrate --------------------------------------------------------------------------


@pytest.mark.parametrize("per", list(Per))
def test_a_walk_over_clusters_keeps_its_promise(per: Per) -> None:
    """Sessions of 1 to 12 turns that share their luck; the third point is just above alpha."""
    rng, risks, false = np.random.default_rng(9), np.array([0.02, 0.06, 0.1001, 0.2]), []
    for _ in range(150):
        sizes = rng.integers(1, 13, 80)
        session = np.repeat(np.arange(80), sizes)
        luck = rng.random(80)[session]
        own = rng.random(len(session))
        draw = np.where(rng.random(80)[session] < 0.5, luck, own)
        losses = (draw[:, None] < risks).astype(float)
        clusters = Clusters(codes=number_clusters(session.tolist()), largest=12, per=per)
        evidence = Evidence(losses=losses, clusters=clusters)
        found = calibrate(evidence, alpha=ALPHA, delta=DELTA, method=Method.BETTING)
        false.append(found.certified and risks[found.index] > ALPHA)
    assert not too_often(np.array(false), DELTA)
