"""The compound ledger's page shows what was measured, says what is not known, and escapes names."""

import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from math import log
from pathlib import Path

import pytest
from compound_support import LEVERS, NOW, PLAN, make_cell, make_factorial
from msgspec.structs import replace as with_changes

from suffice.compound import Compound, Factorial, compound
from suffice.report.compound import compound_opening, compound_page
from suffice.report.compound_figures import (
    cells_figure,
    compound_figures,
    interactions_figure,
    staircase_figure,
)

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def result() -> Compound:
    competent = replace(make_cell("sparse"), levers=frozenset({"competent"}))
    return compound(make_factorial(), PLAN, made=NOW, competent=competent)


@pytest.fixture(scope="module")
def uncertified() -> Compound:
    whole = make_factorial()
    cells = (*whole.cells[:-1], replace(whole.full, certificate=None))
    return compound(Factorial(levers=LEVERS, cells=cells), PLAN, made=NOW)


def points_of(figure, key: str) -> list[dict]:
    """Collect the points of all layers of a chart that have some field."""
    tree = figure.chart.to_dict()
    layers = tree.get("layer", [tree])
    found = [p for layer in layers for p in layer.get("data", {}).get("values", []) if key in p]
    return found or [p for values in tree.get("datasets", {}).values() for p in values if key in p]


def test_the_steps_lead_from_the_first_cost_to_the_last(result: Compound) -> None:
    figure = staircase_figure(result)
    steps = {p["name"]: p for p in points_of(figure, "label")}
    order = ["before", "paradigm", "output", "architecture", "silicon", "interaction", "after"]
    assert [row[0] for row in figure.rows] == order
    assert set(steps) == set(order)
    assert steps["before"]["end"] == result.identity.usd_before
    for one, two in pairwise(order[:-1]):
        assert steps[two]["start"] == steps[one]["end"]
    assert steps["interaction"]["end"] == pytest.approx(result.identity.usd_after, rel=1e-9)
    assert log(steps["output"]["start"] / steps["output"]["end"]) == pytest.approx(
        log(result.factors[1].alone.value)
    )


def test_the_opening_sets_the_whole_beside_the_product_and_the_baselines(result: Compound) -> None:
    opening = compound_opening(result)
    assert f"{result.reduction.value:.3g} times less" in opening.headline
    assert f"multiply to {result.product_of_factors.value:.3g}" in opening.lede
    assert f"{result.reduction_competent.value:.3g} times less" in opening.lede
    assert "90 % confidence at most 5 %" in opening.lede
    assert [tile.name.split(":")[0] for tile in opening.tiles] == [
        lever.vector.value for lever in LEVERS
    ]
    assert opening.tiles[0].note == "decodes per request: 1 \u2192 0.5 with all on"


def test_every_cell_is_drawn_and_listed(result: Compound) -> None:
    figure = cells_figure(result)
    assert len({p["name"] for p in points_of(figure, "times")}) == 16
    assert [row[0] for row in figure.rows][-1] == "competent"
    assert len(figure.rows) == 17


def test_only_interactions_that_matter_are_drawn_and_all_are_listed(result: Compound) -> None:
    figure = interactions_figure(result)
    drawn = {p["name"] for p in points_of(figure, "times")}
    assert drawn == {"\u25cf\u25cf\u25cb\u25cb"}, "latent and effort save the same dollars"
    assert len(figure.rows) == 11


def test_an_uncertified_whole_is_no_saving(uncertified: Compound) -> None:
    page = compound_page(uncertified)
    assert "No saving is reported" in page
    assert "What is promised" not in page
    assert staircase_figure(uncertified).chart is None
    assert cells_figure(uncertified).chart is None
    assert any("not certified" in row for row in cells_figure(uncertified).rows)
    assert "is not certified: nothing that needs it is reported" in page


def test_names_are_escaped(result: Compound) -> None:
    page = compound_page(with_changes(result, workload="<b>x</b>", notes=("<i>y</i>",)))
    assert "<b>x" not in page
    assert "<i>y" not in page


def test_every_figure_has_numbers_behind_it(result: Compound) -> None:
    for figure in compound_figures(result):
        assert figure.rows, figure.title
        assert all(len(row) == len(figure.header) for row in figure.rows)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian package chromium)")
def test_a_browser_draws_the_page_without_complaint(tmp_path: Path, result: Compound) -> None:
    page = tmp_path / "compound.html"
    page.write_text(compound_page(result), "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    flags += ["--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom"]
    shown = subprocess.run(
        [str(CHROMIUM), *flags, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert "CONSOLE" not in shown.stderr, shown.stderr
    assert 'data-drawn="4"' in shown.stdout
    assert len(re.findall(r"<svg[^>]*marks", shown.stdout)) == 4
