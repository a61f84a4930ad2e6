import numpy as np
import pytest

from suffice.errors import InputError
from suffice.guarantee.bounds import binomial_p_value, clopper_pearson_upper
from suffice.guarantee.calibrate import (
    Evidence,
    RiskKind,
    calibrate,
    least_abstention,
    part_bounds,
)
from suffice.guarantee.losses import LabelledLosses, Sample
from suffice.guarantee.methods import Method, p_value, upper_bound

ALPHA, DELTA = 0.05, 0.1


def column(n: int, k: int) -> np.ndarray:
    return np.repeat([0.0, 1.0], [n - k, k])


def walk_evidence(*counts: int, n: int = 400) -> Evidence:
    return Evidence(losses=np.stack([column(n, k) for k in counts], axis=1))


def test_the_walk_certifies_the_last_point_with_few_enough_losses() -> None:
    found = calibrate(
        walk_evidence(0, 9, 14, 15, 3), alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL
    )
    assert found.certified
    assert (found.index, found.n, found.losses, found.tests) == (2, 400, 14.0, 1)
    assert found.risk_kind is RiskKind.EXCESS_OVER_REFERENCE
    assert found.bound == clopper_pearson_upper(14, 400, delta=DELTA) <= ALPHA
    expected = binomial_p_value([0, 9, 14, 15], 400, alpha=ALPHA)
    assert found.p_values == tuple(expected)
    assert found.rows_needed is None


def test_when_nothing_is_certified_it_says_what_could_be() -> None:
    found = calibrate(walk_evidence(0, 0, n=44), alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL)
    assert not found.certified
    assert (found.index, found.rows_needed) == (0, 45)
    assert found.bound > ALPHA
    for step, certified in [(1e-9, True), (-1e-9, False)]:
        alpha = found.bound + step
        again = calibrate(walk_evidence(0, n=44), alpha=alpha, delta=DELTA, method=Method.BINOMIAL)
        assert again.certified == certified


def test_more_rows_do_not_help_a_loss_rate_above_alpha() -> None:
    found = calibrate(walk_evidence(30), alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL)
    assert not found.certified
    assert found.rows_needed is None


@pytest.mark.parametrize("method", [Method.BETTING, Method.HOEFFDING_BENTKUS])
def test_rows_needed_are_those_of_the_method(method: Method) -> None:
    few = Evidence(losses=np.tile([0.0, 0.02, 0.04], 14)[:, None])
    found = calibrate(few, alpha=ALPHA, delta=DELTA, method=method)
    assert not found.certified
    assert found.rows_needed > found.n
    for rows, enough in [(found.rows_needed, True), (found.rows_needed - 1, False)]:
        more = Evidence(losses=np.resize(few.losses, (rows, 1)))
        assert calibrate(more, alpha=ALPHA, delta=DELTA, method=method).certified == enough
    hopeless = Evidence(losses=np.full((60, 1), ALPHA))
    assert calibrate(hopeless, alpha=ALPHA, delta=DELTA, method=method).rows_needed is None


def test_a_judge_short_of_labels_is_not_told_to_add_rows() -> None:
    few = Evidence(losses=np.zeros((900, 1)), human=labels(0, points=1))
    found = calibrate(few, alpha=ALPHA, delta=DELTA, method=Method.JUDGED)
    assert (found.certified, found.rows_needed, found.human_n) == (False, None, 1)


def grid_evidence() -> Evidence:
    """Points with 20, 300, 400 and 900 of 1000 rows answered, and 0, 2, 3 and 90 errors there."""
    answered, losses = np.zeros((1000, 4), bool), np.zeros((1000, 4))
    for point, (n, k) in enumerate([(20, 0), (300, 2), (400, 3), (900, 90)]):
        answered[:n, point] = True
        losses[:k, point] = 1.0
        losses[n:, point] = 1.0  # what was not answered must not count
    return Evidence(losses=losses, answered=answered)


def test_the_grid_certifies_the_largest_answered_share_that_passes() -> None:
    found = calibrate(grid_evidence(), alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL)
    assert found.certified
    assert (found.index, found.n, found.losses, found.tests) == (2, 400, 3.0, 4)
    assert found.risk_kind is RiskKind.ERROR_AMONG_ANSWERED
    assert found.bound == clopper_pearson_upper(3, 400, delta=DELTA / 4)
    assert len(found.p_values) == 4


def test_an_uncertified_grid_names_its_nearest_point() -> None:
    found = calibrate(grid_evidence(), alpha=0.01, delta=DELTA, method=Method.BINOMIAL)
    assert not found.certified
    assert found.index == int(np.argmin(found.p_values))
    assert found.bound > 0.01
    assert found.rows_needed is not None
    assert found.rows_needed > found.n


def test_nobody_answered_anywhere() -> None:
    evidence = Evidence(losses=np.zeros((50, 3)), answered=np.zeros((50, 3), bool))
    for method in (Method.BINOMIAL, Method.BETTING):
        found = calibrate(evidence, alpha=ALPHA, delta=DELTA, method=method)
        assert (found.certified, found.n, found.bound) == (False, 0, 1.0)


@pytest.mark.parametrize("method", [Method.BETTING, Method.HOEFFDING_BENTKUS])
def test_bounded_losses_are_certified_point_by_point(method: Method) -> None:
    losses = np.random.default_rng(0).random((600, 4)) * [0.02, 0.06, 0.3, 0.01]
    found = calibrate(Evidence(losses=losses), alpha=ALPHA, delta=DELTA, method=method)
    assert found.certified
    assert (found.index, len(found.p_values)) == (1, 3)
    sample = Sample(losses=losses[:, 1])
    assert found.bound == upper_bound(sample, delta=DELTA, method=method) <= ALPHA


def test_a_bounded_grid_looks_at_answered_rows_only() -> None:
    losses = np.full((400, 2), 0.02)
    answered = np.ones((400, 2), bool)
    losses[300:, 0], answered[300:, 0] = 1.0, False
    losses[200:, 1] = 0.2
    evidence = Evidence(losses=losses, answered=answered)
    found = calibrate(evidence, alpha=ALPHA, delta=DELTA, method=Method.BETTING)
    assert (found.certified, found.index, found.n) == (True, 0, 300)
    for point, p in enumerate(found.p_values):
        sample = evidence.sample(point)
        assert p == p_value(sample, alpha=ALPHA, delta=DELTA / 2, method=Method.BETTING)


def judge_evidence(*, answered: bool = False) -> Evidence:
    rng = np.random.default_rng(5)
    human = (rng.random((3000, 1)) < [[0.01, 0.2]]).astype(float)
    rows = rng.permutation(3000)[:600]
    mask = None
    if answered:
        mask = np.ones((3000, 2), bool)
        mask[:1500, 0] = False
    labels = LabelledLosses(rows=rows, losses=human[rows])
    return Evidence(losses=human * 0.5, answered=mask, human=labels)


def test_a_judge_is_certified_through_the_human_labels() -> None:
    method = Method.JUDGED
    found = calibrate(judge_evidence(), alpha=ALPHA, delta=DELTA, method=method)
    assert (found.certified, found.index, found.n, found.human_n) == (True, 0, 3000, 600)
    assert found.losses / found.n < found.bound <= ALPHA


def test_a_judge_among_answered_rows_uses_the_labels_of_those_rows() -> None:
    evidence = judge_evidence(answered=True)
    sample = evidence.sample(0)
    answered = set(np.flatnonzero(evidence.answered[:, 0]))
    kept = [i for i, row in enumerate(evidence.human.rows) if row in answered]
    assert len(sample.losses) == 1500
    assert sample.human.losses.tolist() == evidence.human.losses[kept, 0].tolist()
    judge_at = evidence.losses[evidence.human.rows[kept], 0]
    assert sample.losses[sample.human.rows].tolist() == judge_at.tolist()
    found = calibrate(evidence, alpha=0.1, delta=DELTA, method=Method.JUDGED)
    assert (found.certified, found.index, found.human_n) == (True, 0, len(kept))


def test_part_bounds_share_delta() -> None:
    losses = np.array([0.0] * 50 + [1.0] + [0.0] * 20)
    parts = ["large"] * 51 + ["cheap"] * 20
    cheap, large = part_bounds(losses, parts, delta=DELTA, method=Method.BINOMIAL)
    assert (cheap.part, cheap.n, cheap.losses) == ("cheap", 20, 0.0)
    assert cheap.bound == clopper_pearson_upper(0, 20, delta=DELTA / 2)
    assert large.bound == clopper_pearson_upper(1, 51, delta=DELTA / 2)
    assert part_bounds(np.zeros(0), [], delta=DELTA, method=Method.BINOMIAL) == ()


@pytest.mark.parametrize(("error", "least"), [(0.04, 0.0), (0.05, 0.0), (0.24, 0.2), (1.0, 1.0)])
def test_least_abstention(error: float, least: float) -> None:
    assert least_abstention(error, alpha=ALPHA) == pytest.approx(least)


def labels(row: int, *, points: int) -> LabelledLosses:
    return LabelledLosses(rows=np.array([row]), losses=np.zeros((1, points)))


@pytest.mark.parametrize(
    ("losses", "kwargs", "message"),
    [
        (np.zeros(5), {}, "shape"),
        (np.zeros((0, 3)), {}, "shape"),
        (np.full((5, 1), np.nan), {}, "NaN"),
        (np.zeros((5, 2)), {"answered": np.ones((5, 1), bool)}, "answered"),
        (np.zeros((5, 2)), {"human": labels(0, points=1)}, "human losses have shape"),
        (np.zeros((5, 2)), {"human": labels(9, points=2)}, "outside"),
    ],
)
def test_evidence_that_does_not_fit_is_refused(losses, kwargs, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Evidence(losses=losses, **kwargs)


def test_methods_that_do_not_fit_the_evidence_are_refused() -> None:
    with pytest.raises(InputError, match="human labels"):
        calibrate(walk_evidence(0), alpha=ALPHA, delta=DELTA, method=Method.JUDGED)
    with pytest.raises(InputError, match="human labels"):
        calibrate(judge_evidence(), alpha=ALPHA, delta=DELTA, method=Method.BETTING)
    halves = Evidence(losses=np.full((50, 1), 0.5))
    with pytest.raises(InputError, match="0 or 1"):
        calibrate(halves, alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL)
    with pytest.raises(InputError, match="alpha"):
        calibrate(walk_evidence(0), alpha=1.0, delta=DELTA, method=Method.BINOMIAL)
    with pytest.raises(InputError, match="part names"):
        part_bounds(np.zeros(2), ["a"], delta=DELTA, method=Method.BINOMIAL)
