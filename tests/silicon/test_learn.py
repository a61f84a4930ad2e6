"""Learning: groups never leak, planted coefficients come back, intervals cover."""

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.silicon import intervals, learn
from benchmarks.silicon.older import OlderRuns, older_factors

from suffice.silicon.catalog import find_chip
from suffice.silicon.columns import make_table
from suffice.silicon.intervals import TERMS
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


def errors_of(rows, held, source="lab"):
    """Errors of rows whose group was held out, as `intervals.fit_interval` takes them."""
    return intervals.collect(
        rows,
        {"group": (rows.group, held, 3)},
        target=0,
        source=np.full(len(rows.group), source),
    )


def test_intervals_cover_groups_never_seen(rows, held):
    errors = errors_of(rows, held)
    covered = []
    for train, test in learn.folds(errors.group, count=4, seed=3):
        interval = intervals.fit_interval(errors.take(train), sources=9, engines=9)
        half = intervals.widths(interval, errors.terms[test])
        covered.append(np.abs(errors.error[test]) <= half)
    assert 0.8 <= np.concatenate(covered).mean() <= 0.99


def test_errors_of_a_source_left_out_make_the_interval_of_a_new_source_wider(rows, held):
    errors = errors_of(rows, held)
    away = replace(
        errors,
        error=errors.error + 0.6,
        terms=np.where(np.arange(len(TERMS)) == TERMS.index("source"), 1.0, errors.terms),
        left_out=np.full(len(errors.error), intervals.SOURCE),
    )
    both = intervals.join_errors([errors, away])
    interval = intervals.fit_interval(both, sources=3, engines=9)
    known, new = intervals.widths(interval, errors.terms), intervals.widths(interval, away.terms)
    assert np.median(new / known) > 2
    assert (np.abs(away.error) <= new).mean() >= 0.8


def test_fewer_sources_make_an_interval_wider():
    factors = [intervals.few(count) for count in (3, 4, 10, 100)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(1, abs=0.02)


def test_older_engines_are_slower_by_vendor_and_no_chip_judges_itself():
    vendors = tuple(find_chip(c) for c in ("a100", "h100", "mi250", "mi300x", "gaudi2"))
    table = make_table(
        (find_shape("llama-3-8b"),),
        vendors,
        chip=np.arange(5),
        batch=8,
        input_tokens=500,
        output_tokens=500,
    )
    runs = OlderRuns(
        table=table,
        seconds=np.ones(5),
        chip=np.array([chip.key for chip in vendors]),
        without_room=0,
    )
    error = np.log(np.array([1.4, 1.4, 2.0, 4.0, 1.5]))
    factors = older_factors(runs, error)
    assert factors["nvidia"] == pytest.approx(1.4)
    assert factors["amd"] == pytest.approx(8**0.5, rel=1e-3)
    assert "intel" not in factors
    assert older_factors(runs, error, without="gaudi2")["other"] == pytest.approx(
        (1.4 * 1.4 * 2 * 4) ** 0.25, rel=1e-3
    )


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
