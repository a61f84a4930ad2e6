import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.errors import InputError
from suffice.guarantee.sequences import bonferroni_grid, fixed_sequence

DELTA = 0.1
p_lists = st.lists(st.floats(0.0, 1.0), max_size=30)


@pytest.mark.parametrize(
    ("p_values", "accepted", "looked_at"),
    [
        ([], None, 0),
        ([0.2, 0.0], None, 1),
        ([0.0, 0.1, 0.100001, 0.0], 1, 3),
        ([0.01, 0.02], 1, 2),
    ],
)
def test_the_walk_keeps_the_last_pass_before_the_first_failure(
    p_values: list[float], accepted: int | None, looked_at: int
) -> None:
    walk = fixed_sequence(p_values, delta=DELTA)
    assert walk.accepted == accepted
    assert walk.p_values == tuple(p_values[:looked_at])


def test_the_walk_asks_for_nothing_behind_the_first_failure() -> None:
    def p_values():
        yield 0.0
        yield 0.5
        raise AssertionError("looked too far")

    assert fixed_sequence(p_values(), delta=DELTA).accepted == 0


@given(p_lists)
def test_every_point_up_to_the_accepted_one_passed(p_values: list[float]) -> None:
    accepted = fixed_sequence(p_values, delta=DELTA).accepted
    end = 0 if accepted is None else accepted + 1
    assert all(p <= DELTA for p in p_values[:end])
    assert end == len(p_values) or p_values[end] > DELTA


def test_the_grid_takes_the_largest_share_that_passes_its_part_of_delta() -> None:
    p_values = [0.5, 0.025, 0.001, 0.026]
    assert bonferroni_grid(p_values, [10, 30, 20, 90], delta=DELTA).accepted == 1
    assert bonferroni_grid(p_values, [10, 20, 20, 90], delta=DELTA).accepted == 2
    assert bonferroni_grid([0.026] * 4, [1, 2, 3, 4], delta=DELTA).accepted is None
    assert bonferroni_grid([], [], delta=DELTA).accepted is None


@given(p_lists)
def test_what_the_grid_accepts_passes_alone_at_delta_over_points(p_values: list[float]) -> None:
    shares = np.arange(len(p_values))
    accepted = bonferroni_grid(p_values, shares, delta=DELTA).accepted
    passing = [i for i, p in enumerate(p_values) if p <= DELTA / len(p_values)]
    assert accepted == (passing[-1] if passing else None)


@pytest.mark.parametrize("bad", [float("nan"), -0.1, 1.1])
def test_p_values_outside_0_to_1_are_refused(bad: float) -> None:
    with pytest.raises(InputError, match="p-value"):
        fixed_sequence([bad], delta=DELTA)
    with pytest.raises(InputError, match="p-value"):
        bonferroni_grid([bad], [1], delta=DELTA)


def test_bad_levels_and_shapes_are_refused() -> None:
    for search in (
        lambda d: fixed_sequence([], delta=d),
        lambda d: bonferroni_grid([], [], delta=d),
    ):
        with pytest.raises(InputError, match="delta"):
            search(0.0)
    with pytest.raises(InputError, match="2 p-values but 1 shares"):
        bonferroni_grid([0.1, 0.2], [1], delta=DELTA)
