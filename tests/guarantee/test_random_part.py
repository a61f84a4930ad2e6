"""A policy for a random part of the requests: its risk is the part times what all would lose."""

import numpy as np
import pytest
from scipy import stats

from suffice.errors import InputError
from suffice.guarantee import Evidence, Method, calibrate
from suffice.guarantee.clusters import Clusters, Per

ALPHA, DELTA = 0.05, 0.1


def certified_part(losses: np.ndarray, parts: np.ndarray, *, method: Method) -> float:
    evidence = Evidence(losses=np.repeat(losses[:, None], len(parts), axis=1), parts=parts)
    found = calibrate(evidence, alpha=ALPHA, delta=DELTA, method=method)
    return found.part if found.certified else 0.0


def test_the_part_is_alpha_over_the_exact_bound() -> None:
    losses = np.r_[np.ones(60), np.zeros(240)]
    parts = np.linspace(0.06, 1.0, 3000)
    bound = stats.beta.ppf(1 - DELTA, 61, 240)
    evidence = Evidence(losses=np.repeat(losses[:, None], 3000, axis=1), parts=parts)
    found = calibrate(evidence, alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL)
    assert found.part == pytest.approx(ALPHA / bound, abs=1e-3)
    assert found.bound == pytest.approx(found.part * bound)
    assert found.bound <= ALPHA
    assert (found.n, found.losses) == (300, 60)


def test_a_part_of_at_most_alpha_is_safe_whatever_it_loses() -> None:
    parts = np.array([0.03, 0.05, 0.0501])
    assert certified_part(np.ones(400), parts, method=Method.BINOMIAL) == 0.05


def test_the_whole_is_tested_as_without_parts() -> None:
    losses = np.r_[np.ones(9), np.zeros(391)][:, None]
    plain, whole = (
        calibrate(evidence, alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL)
        for evidence in (Evidence(losses=losses), Evidence(losses=losses, parts=np.ones(1)))
    )
    assert (plain.bound, plain.certified) == (whole.bound, whole.certified)
    assert plain.p_values == pytest.approx(whole.p_values)


@pytest.mark.slow
@pytest.mark.parametrize("method", [Method.BINOMIAL, Method.BETTING])
def test_the_promise_is_broken_at_most_delta_of_the_time(method: Method) -> None:
    """The true risk is known, and the part that is certified times it must not exceed alpha."""
    draw, runs, parts = np.random.default_rng(0), 150, np.geomspace(ALPHA, 1.0, 120)[1:]
    scale = 0.7 if method is Method.BETTING else 1.0
    broken = 0
    for _ in range(runs):
        losses = scale * (draw.random(300) < 0.28)
        broken += certified_part(losses, parts, method=method) * 0.28 * scale > ALPHA
    assert stats.binom.sf(broken - 1, runs, DELTA) > 0.01, f"{broken} of {runs}"
    if method is Method.BINOMIAL:
        assert broken > 0, "a test of nothing: the bound is never tight"


def test_copies_of_a_request_say_no_more_than_one_of_it() -> None:
    losses = np.repeat((np.arange(100) % 4 == 0) * 1.0, 3)
    parts = np.geomspace(ALPHA, 1.0, 60)[1:]
    evidence = Evidence(
        losses=np.repeat(losses[:, None], len(parts), axis=1),
        parts=parts,
        clusters=Clusters(codes=np.repeat(np.arange(100), 3), largest=3, per=Per.REQUEST),
    )
    found = calibrate(evidence, alpha=ALPHA, delta=DELTA, method=Method.BETTING)
    assert found.certified
    assert found.part <= 1.1 * certified_part(losses[::3], parts, method=Method.BETTING)


@pytest.mark.parametrize("parts", [[0.5], [0.0, 1.0], [0.5, 1.5], [np.nan, 1.0]])
def test_parts_that_are_no_shares_are_refused(parts: list[float]) -> None:
    with pytest.raises(InputError, match="shares"):
        Evidence(losses=np.zeros((5, 2)), parts=np.array(parts))


def test_the_error_among_answered_requests_has_no_parts() -> None:
    with pytest.raises(InputError, match="any random part"):
        Evidence(losses=np.zeros((5, 1)), answered=np.ones((5, 1), np.bool_), parts=np.array([0.5]))
