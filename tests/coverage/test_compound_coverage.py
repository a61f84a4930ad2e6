"""Intervals of factors and interactions hold the truth about as often as they say."""

from math import log

import numpy as np
import pytest
from simulate import too_often

from suffice.trials import resample
from suffice.trials.resample import cluster_sums, drawn_sums

RUNS, CLUSTERS, EACH = 250, 60, 4
UNDER = 0.08  # percentile intervals of 95 % miss a little more often than 5 % with 60 clusters


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample, "RESAMPLES", 200)


def workload(seed: int) -> np.ndarray:
    """Draw costs of four cells, whose clusters differ in size of request and in what it saves.

    One lever halves cost, the other quarters that of about every second cluster, so it is worth
    1 / 0.625 = 1.6. Together they give what the better of them gives to each cluster: 1 / 0.375.
    """
    draw = np.random.default_rng(seed)
    size = np.repeat(draw.gamma(2.0, 1.0, CLUSTERS), EACH) * draw.gamma(4.0, 0.25, CLUSTERS * EACH)
    kept = np.repeat(np.where(draw.random(CLUSTERS) < 0.5, 0.25, 1.0), EACH)
    return np.stack([size, size / 2, size * kept, size * np.minimum(kept, 1 / 2)], axis=1)


def misses(names: list[str], pick, truth: float) -> np.ndarray:
    missed = []
    for seed in range(RUNS):
        cost = np.log(drawn_sums(cluster_sums(workload(seed), names), seed=seed))
        low, high = np.quantile(pick(cost)[1:], [0.025, 0.975])
        missed.append(not low <= truth <= high)
    return np.array(missed)


BY_CLUSTER = [str(i // EACH) for i in range(CLUSTERS * EACH)]
BY_REQUEST = [str(i) for i in range(CLUSTERS * EACH)]


def second_lever(cost: np.ndarray) -> np.ndarray:
    return cost[:, 0] - cost[:, 2]


def test_a_factor_is_covered() -> None:
    assert not too_often(misses(BY_CLUSTER, second_lever, log(1.6)), UNDER)


def test_resampling_requests_in_place_of_clusters_would_not_cover() -> None:
    assert too_often(misses(BY_REQUEST, second_lever, log(1.6)), UNDER)


def test_an_interaction_is_covered() -> None:
    def interaction(cost: np.ndarray) -> np.ndarray:
        return cost[:, 1] + cost[:, 2] - cost[:, 0] - cost[:, 3]

    assert not too_often(misses(BY_CLUSTER, interaction, log(0.5 * 0.625 / 0.375)), UNDER)
