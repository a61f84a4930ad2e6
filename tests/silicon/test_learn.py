"""Learning: groups never leak, planted coefficients come back, intervals cover."""

import numpy as np
import pytest
from benchmarks.silicon import learn

from suffice.silicon.catalog import find_chip
from suffice.silicon.columns import make_table
from suffice.silicon.models import find_shape
from suffice.silicon.residual import STEP_START, ideal, step_seconds

RNG = np.random.default_rng(0)
MODELS = ("llama-3-8b", "llama-3-70b", "qwen3-32b", "gpt-oss-120b")
CHIPS = ("h100", "h200", "b200")


def world(rows=300, noise=0.05, offset=0.1):
    """Rows that obey planted coefficients, with an offset per group and noise."""
    rng = np.random.default_rng(1)
    table = make_table(
        tuple(find_shape(m) for m in MODELS),
        tuple(find_chip(c) for c in CHIPS),
        model=rng.integers(0, len(MODELS), rows),
        chip=rng.integers(0, len(CHIPS), rows),
        engine=rng.integers(0, 3, rows),
        tp=rng.choice([1, 2, 4, 8], rows),
        batch=np.exp(rng.uniform(0, 5, rows)),
        input_tokens=rng.choice([500, 1000, 8000], rows),
        output_tokens=rng.choice([500, 1000], rows),
        dense_bits=8,
        expert_bits=8,
    )
    group = np.array(
        [f"{m}|{c}|{e}" for m, c, e in zip(table.model, table.chip, table.engine, strict=True)]
    )
    shift = {name: offset * rng.standard_normal() for name in np.unique(group)}
    truth = step_seconds(ideal(table), PLANTED)
    error = np.array([shift[g] for g in group]) + noise * rng.standard_normal(rows)
    seconds = truth * np.exp(error)
    return learn.MeasuredRows(
        table=table, tpot_s=seconds, ttft_s=10 * seconds, group=group, weight=np.ones(rows)
    )


PLANTED = np.log(STEP_START) + 0.2 * RNG.standard_normal(len(STEP_START))


@pytest.fixture(scope="module")
def rows():
    return world()


@pytest.fixture(scope="module")
def held(rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learn, "CENTRES", 24)
        patch.setattr(learn, "PHYSICS_ROWS", 120)
        return learn.cross_validate(rows, keys=rows.group, count=3)


def test_no_group_is_on_both_sides_and_every_row_is_held_out_once(rows):
    held = np.zeros(len(rows.group), int)
    for train, test in learn.folds(rows.group, count=5):
        assert not set(rows.group[train]) & set(rows.group[test])
        held += test
    assert (held == 1).all()


def test_a_planted_world_is_predicted_for_groups_never_seen(rows, held):
    error = np.abs(np.log(rows.tpot_s) - held.tpot)
    assert np.median(error) < 0.15


def test_intervals_cover_groups_never_seen(rows, held):
    error = np.log(rows.tpot_s) - held.tpot
    covered = []
    for train, test in learn.folds(rows.group, count=4, seed=3):
        interval = learn.fit_interval(
            rows.table.take(train),
            error=error[train],
            distance=held.distance[train],
            group=rows.group[train],
        )
        half = learn.residual.interval_width(
            ideal(rows.table.take(test)), interval, distance=held.distance[test]
        )
        covered.append(np.abs(error[test]) <= half)
    assert 0.8 <= np.concatenate(covered).mean() <= 0.99


def test_the_kernel_finds_offsets_and_noise():
    world_rows = world(rows=400, noise=0.03, offset=0.3)
    error = np.log(world_rows.tpot_s / step_seconds(ideal(world_rows.table), PLANTED))
    kernel = learn.fit_kernel(world_rows.table, error=error, group=world_rows.group)
    assert sum(kernel.variances[:4]) == pytest.approx(0.09, rel=0.9)
    assert kernel.noise == pytest.approx(0.03**2, rel=0.5)


def test_three_points_remove_a_group_offset():
    world_rows = world(rows=400, noise=0.02, offset=0.5)
    error = np.log(world_rows.tpot_s / step_seconds(ideal(world_rows.table), PLANTED))
    kernel = learn.fit_kernel(world_rows.table, error=error, group=world_rows.group)
    shots = learn.few_shots(
        world_rows.table, error=error, group=world_rows.group, kernel=kernel, draws=3
    )
    left = np.concatenate([shot.left for shot in shots])
    assert np.median(np.abs(left)) < 0.06
    assert np.median(np.abs(error)) > 0.2
