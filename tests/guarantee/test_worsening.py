"""Recent losses tell when rows are no longer of one population, and rarely otherwise."""

import numpy as np
import pytest

from suffice.guarantee.worsening import LEVEL, worse_since


@pytest.mark.slow
def test_a_steady_stream_rarely_looks_changed() -> None:
    rng = np.random.default_rng(0)
    for risk in (0.02, 0.3):
        seen = [worse_since(rng.random(1000) < risk) is not None for _ in range(2000)]
        assert np.mean(seen) <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / 2000)


def test_a_rise_is_found_near_where_it_began() -> None:
    rng, found = np.random.default_rng(1), []
    for _ in range(100):
        lost = np.concatenate([rng.random(2000) < 0.01, rng.random(200) < 0.12])
        found.append(worse_since(lost))
    assert sum(at is not None for at in found) >= 98
    assert np.median([at for at in found if at is not None]) == 2000


def test_a_fall_and_too_few_rows_show_nothing() -> None:
    assert worse_since(np.arange(400) < 200) is None
    assert worse_since(np.ones(40, np.bool_)) is None
    assert worse_since(np.zeros(0, np.bool_)) is None
