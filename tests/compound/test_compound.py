"""What levers are worth together and apart, on cells whose factors are known; and every refusal."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from math import log

import numpy as np
import pytest
from compound_support import (
    CERTIFICATE,
    LEVERS,
    NOW,
    PLAN,
    make_cell,
    make_certificate,
    make_factorial,
    make_requests,
)

from suffice.compound import Cell, Compound, Factorial, Grade, Lever, compound
from suffice.compound.cells import subsets
from suffice.compound.effects import draw, effects, shuffled, touched_share
from suffice.compound.identity import identity
from suffice.errors import CertificateError, InputError
from suffice.types import Vector

CLOSE = 1e-9
NAMES = [lever.name for lever in LEVERS]


@pytest.fixture(scope="module")
def factorial() -> Factorial:
    return make_factorial()


@pytest.fixture(scope="module")
def result(factorial: Factorial) -> Compound:
    competent = replace(make_cell("sparse", "chip"), levers=frozenset({"competent"}))
    return compound(factorial, PLAN, made=NOW, competent=competent)


def mean_usd(*levers: str) -> float:
    return float(make_cell(*levers).usd.mean())


def log_sum(estimates) -> float:
    return sum(log(each.value) for each in estimates)


# -- what the figures are ------------------------------------------------------------------------


def test_the_reduction_is_the_ratio_of_costs(result: Compound) -> None:
    whole = mean_usd() / mean_usd(*NAMES)
    assert result.reduction.value == pytest.approx(whole, rel=CLOSE)
    low, high = result.reduction.interval
    assert low < whole < high
    assert result.reduction_competent.value == pytest.approx(
        mean_usd("sparse", "chip") / mean_usd(*NAMES), rel=CLOSE
    )
    assert result.certified


def test_levers_that_scale_every_price_multiply(result: Compound) -> None:
    alone = {factor.lever: factor.alone for factor in result.factors}
    assert alone["sparse"].value == pytest.approx(2, rel=CLOSE)
    assert alone["chip"].value == pytest.approx(3, rel=CLOSE)
    pair = next(i for i in result.interactions if set(i.levers) == {"sparse", "chip"})
    assert pair.factor.value == pytest.approx(1, rel=CLOSE)
    assert pair.factor.interval == pytest.approx((1, 1), rel=CLOSE)


def test_levers_that_save_the_same_dollars_do_not_multiply(result: Compound) -> None:
    pair = next(i for i in result.interactions if set(i.levers) == {"latent", "effort"})
    by_hand = (mean_usd("latent") * mean_usd("effort")) / (
        mean_usd("latent", "effort") * mean_usd()
    )
    assert pair.factor.value == pytest.approx(by_hand, rel=CLOSE)
    assert by_hand < 1


def test_interaction_is_the_whole_over_the_product(result: Compound) -> None:
    product = np.prod([mean_usd() / mean_usd(name) for name in NAMES])
    assert result.product_of_factors.value == pytest.approx(product, rel=CLOSE)
    whole = result.reduction.value / result.product_of_factors.value
    assert result.interaction.value == pytest.approx(whole, rel=CLOSE)
    terms = log_sum(each.factor for each in result.interactions)
    assert terms == pytest.approx(log(result.interaction.value), abs=CLOSE)


def test_shares_are_means_over_all_orders_and_multiply_to_the_whole(result: Compound) -> None:
    total = log_sum(factor.share for factor in result.factors)
    assert total == pytest.approx(log(result.reduction.value), abs=CLOSE)
    for factor in result.factors:
        gains = []
        for order in permutations(NAMES):
            before = order[: order.index(factor.lever)]
            gains.append(log(mean_usd(*before) / mean_usd(*before, factor.lever)))
        assert log(factor.share.value) == pytest.approx(np.mean(gains), abs=CLOSE)


def test_last_is_the_gain_when_all_others_are_on(result: Compound) -> None:
    effort = next(factor for factor in result.factors if factor.lever == "effort")
    by_hand = mean_usd("latent", "sparse", "chip") / mean_usd(*NAMES)
    assert effort.last.value == pytest.approx(by_hand, rel=CLOSE)
    low, high = effort.evidence.range
    assert low <= effort.last.value <= high
    assert low <= effort.alone.value <= high


def test_no_lever_passes_its_ceiling(factorial: Factorial, result: Compound) -> None:
    ceilings = {factor.lever: factor.ceiling for factor in result.factors}
    base = make_cell()
    answers = base.answer_usd.sum() / base.usd.sum()
    assert ceilings["effort"] == pytest.approx(1 / (1 - answers), rel=CLOSE)
    assert ceilings["sparse"] is None
    for factor in result.factors:
        assert factor.ceiling is None or factor.alone.value <= factor.ceiling
    assert touched_share(base, base) == 0


def test_a_shuffled_lever_gives_1_within_its_interval(factorial: Factorial) -> None:
    missed = 0
    for seed in range(40):
        low, high = shuffled(factorial, "effort", seed=seed).interval
        missed += not low <= 1 <= high
    assert missed <= 7


def test_evidence_travels_with_every_factor(result: Compound) -> None:
    for factor in result.factors:
        evidence = factor.evidence
        assert evidence.baseline == "no lever"
        assert result.fingerprint in evidence.workload
        assert 0 < evidence.share_of_cost <= 1
        assert evidence.grade is Grade.MEASURED
        assert evidence.date == NOW.date()
        assert "trials.jsonl" in evidence.source


def test_the_worst_grade_is_the_grade() -> None:
    cells = list(make_factorial().cells)
    cells[1] = replace(cells[1], grade=Grade.MODELLED)
    found = compound(Factorial(levers=LEVERS, cells=tuple(cells)), PLAN, made=NOW)
    assert found.grade is Grade.MODELLED
    assert [f.evidence.grade for f in found.factors].count(Grade.MODELLED) == 1


# -- the identity --------------------------------------------------------------------------------


def terms_of(before: Cell, after: Cell) -> dict[str, float]:
    found = identity(before, after, drawn=draw((before, after), seed=0), places=(0, 1))
    assert found.reduction.value == pytest.approx(before.usd.sum() / after.usd.sum(), rel=CLOSE)
    total = log_sum(term.factor for term in found.terms)
    assert total == pytest.approx(log(found.reduction.value), abs=CLOSE)
    return {term.vector: term.factor.value for term in found.terms}


@pytest.mark.parametrize("levers", list(subsets(NAMES)), ids=lambda some: "+".join(sorted(some)))
@pytest.mark.parametrize("seed", [0, 1])
def test_terms_multiply_to_the_whole_both_ways(levers: frozenset[str], seed: int) -> None:
    before, after = make_cell(seed=seed), make_cell(*levers, seed=seed)
    there, back = terms_of(before, after), terms_of(after, before)
    for vector, factor in there.items():
        assert back[vector] == pytest.approx(1 / factor, rel=CLOSE)


def test_terms_are_plain_ratios_where_cost_is_one_product() -> None:
    free = {"prompt_usd": np.zeros(300), "other_usd": np.zeros(300)}
    before, after = make_cell(**free), make_cell(*NAMES, **free)
    found = terms_of(before, after)
    assert found["paradigm"] == pytest.approx(before.decodes.sum() / after.decodes.sum(), rel=CLOSE)
    assert found["architecture"] == pytest.approx(2, rel=CLOSE)
    assert found["silicon"] == pytest.approx(3, rel=CLOSE)
    assert found["prompt"] == pytest.approx(1, rel=CLOSE)


def test_a_change_of_price_alone_moves_no_other_term() -> None:
    found = terms_of(make_cell(), make_cell("chip"))
    assert found["silicon"] == pytest.approx(3, rel=CLOSE)
    assert [found[v] for v in ("paradigm", "output", "architecture", "prompt")] == [1, 1, 1, 1]


def test_a_part_of_cost_that_disappears_is_booked_to_the_paradigm() -> None:
    nothing = {name: np.zeros(300) for name in Cell.COLUMNS[:-1]}
    after = make_cell("latent", **nothing)
    found = terms_of(make_cell(), after)
    assert found["paradigm"] == pytest.approx(mean_usd() / after.usd.mean(), rel=CLOSE)
    assert found["output"] == 1


def test_shares_of_cost_are_those_of_each_side(result: Compound) -> None:
    base, full = make_cell(), make_cell(*NAMES)
    shares = result.identity.shares_before
    assert shares["answer"] == pytest.approx(base.answer_usd.sum() / base.usd.sum())
    assert shares["other"] == 0
    assert sum(result.identity.shares_after.values()) == pytest.approx(1)
    assert result.identity.usd_after == pytest.approx(full.usd.mean())


# -- what is refused -----------------------------------------------------------------------------


def test_cells_of_different_workloads_are_refused() -> None:
    cells = list(make_factorial().cells)
    cells[5] = replace(cells[5], requests=make_requests(salt="!"))
    with pytest.raises(InputError, match="different workloads"):
        Factorial(levers=LEVERS, cells=tuple(cells))


def test_a_baseline_of_another_workload_is_refused(factorial: Factorial) -> None:
    other = replace(make_cell("chip"), requests=make_requests(salt="!"))
    with pytest.raises(InputError, match="different workloads"):
        compound(factorial, PLAN, made=NOW, competent=other)


def test_the_fingerprint_does_not_depend_on_order_but_cells_must_agree_on_it() -> None:
    requests = make_requests()
    turned = requests.subset(np.arange(len(requests))[::-1])
    assert turned.fingerprint == requests.fingerprint
    cells = [make_cell(), replace(make_cell("chip"), requests=turned)]
    with pytest.raises(InputError, match="different orders"):
        Factorial(levers=(LEVERS[3],), cells=tuple(cells))


def test_missing_cells_are_named() -> None:
    cells = [c for c in make_factorial().cells if c.levers != {"latent", "chip"}]
    with pytest.raises(InputError, match=r"1 of 16 cells are missing: chip \+ latent"):
        Factorial(levers=LEVERS, cells=tuple(cells))


@pytest.mark.parametrize(
    ("levers", "cells", "said"),
    [
        (LEVERS[:1], (make_cell(), make_cell("latent"), make_cell()), "given twice"),
        (LEVERS[:1], (make_cell(), make_cell("latent"), make_cell("chip")), "not among the levers"),
        ((), (make_cell(),), "no lever"),
        ((LEVERS[0], Lever(name="more", vector=Vector.PARADIGM)), (), "the vector 'paradigm'"),
        ((LEVERS[0], Lever(name="latent", vector=Vector.OUTPUT)), (), "the name 'latent'"),
    ],
)
def test_cells_that_do_not_fit_the_levers_are_refused(levers, cells, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Factorial(levers=levers, cells=cells)


def at(row: int, value: float, column: str) -> dict[str, np.ndarray]:
    changed = np.array(getattr(make_cell(), column))
    changed[row] = value
    return {column: changed}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (at(7, np.nan, "answer_usd"), "answer_usd is unknown for 1 of 300 requests, first 'c2/7'"),
        (at(7, 0, "output_tokens"), "zero output tokens for 1 decoded requests, first 'c2/7'"),
        (at(7, 0, "input_tokens"), "zero input tokens"),
        (at(7, -1, "prompt_usd"), "negative"),
        (at(7, np.nan, "quality"), "quality is unknown"),
        ({"other_usd": np.zeros(3)}, "shape"),
        ({f"{part}_usd": np.zeros(300) for part in ("answer", "prompt", "other")}, "costs nothing"),
    ],
)
def test_unknown_and_zero_are_named_and_refused(changed: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_cell(**changed)


def test_cells_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        make_cell().answer_usd[0] = 0


def test_a_lapsed_certificate_is_refused_by_name(factorial: Factorial) -> None:
    with pytest.raises(CertificateError, match="cell 'latent': its certificate lapsed"):
        compound(factorial, PLAN, made=CERTIFICATE.terms.lapses_at)
    cells = list(factorial.cells)
    early = make_certificate(lapses_at=NOW + timedelta(days=1))
    cells[-1] = replace(cells[-1], certificate=early)
    late = Factorial(levers=LEVERS, cells=tuple(cells))
    with pytest.raises(CertificateError, match="chip \\+ effort \\+ latent \\+ sparse"):
        compound(late, PLAN, made=NOW + timedelta(days=2))


def test_nothing_that_needs_an_uncertified_cell_is_reported(factorial: Factorial) -> None:
    cells = [
        replace(c, certificate=None) if c.levers == {"latent", "effort"} else c
        for c in factorial.cells
    ]
    found = compound(Factorial(levers=LEVERS, cells=tuple(cells)), PLAN, made=NOW)
    assert found.reduction is not None, "the full cell is certified still"
    assert found.product_of_factors is not None
    factors = {factor.lever: factor for factor in found.factors}
    assert all(factor.share is None for factor in found.factors)
    assert factors["latent"].alone is not None
    assert factors["latent"].evidence.range is None
    assert (
        next(i for i in found.interactions if set(i.levers) == {"latent", "effort"}).factor is None
    )
    assert next(c for c in found.cells if set(c.levers) == {"latent", "effort"}).reduction is None
    assert any("'effort + latent' is not certified" in note for note in found.notes)


def test_without_a_certificate_for_all_levers_no_saving_is_claimed(factorial: Factorial) -> None:
    cells = (*factorial.cells[:-1], replace(factorial.full, certificate=None))
    competent = replace(make_cell(), levers=frozenset({"competent"}))
    found = compound(Factorial(levers=LEVERS, cells=cells), PLAN, made=NOW, competent=competent)
    assert not found.certified
    assert found.reduction is None
    assert found.interaction is None
    assert found.reduction_competent is None
    assert found.product_of_factors is not None


def test_a_part_that_misses_its_declared_share_is_noted(factorial: Factorial) -> None:
    from msgspec.structs import replace as with_changes

    plan = with_changes(PLAN, shares={"all": 0.5})
    found = compound(factorial, plan, made=NOW)
    assert any("100.0 % of the baseline's cost; 50.0 % was declared" in n for n in found.notes)


def test_gains_are_drawn_with_the_same_clusters_for_every_cell(factorial: Factorial) -> None:
    found = effects(factorial, draw(factorial.cells, seed=3))
    assert np.allclose(found.alone("chip"), log(3))
    assert np.ptp(found.alone("effort")) > 0
