import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from suffice.errors import InputError
from suffice.trials.table import (
    SPLIT_FRACTIONS,
    CostUnit,
    TrialTable,
    clusters_of,
    split_rows,
)
from suffice.types import Signals


def table(**changes: object) -> TrialTable:
    values: dict = {
        "request_ids": ("a", "b", "c"),
        "texts": ("one", "two", "three"),
        "groups": ("x", None, "y"),
        "rungs": ("small", "big"),
        "quality": np.array([[0.0, 1.0], [np.nan, 1.0], [0.5, 0.25]]),
        "signals": tuple((Signals(answer=f"s{i}"), Signals(answer=f"b{i}")) for i in range(3)),
        "cost": np.array([[1.0, 9.0], [2.0, np.nan], [3.0, 7.0]]),
        "cost_unit": CostUnit.OUTPUT_TOKENS,
    }
    return TrialTable(**(values | changes))


def test_subset_keeps_every_field_of_the_rows_in_the_order_asked() -> None:
    part = table().subset([2, 0])
    assert part.request_ids == ("c", "a")
    assert part.texts == ("three", "one")
    assert part.groups == ("y", "x")
    assert [row[1].answer for row in part.signals] == ["b2", "b0"]
    np.testing.assert_array_equal(part.quality, [[0.5, 0.25], [0.0, 1.0]])
    np.testing.assert_array_equal(part.cost, [[3.0, 7.0], [1.0, 9.0]])
    assert part.cost_unit is CostUnit.OUTPUT_TOKENS


def test_scored_leaves_out_requests_that_a_rung_has_no_quality_for() -> None:
    assert table().scored().request_ids == ("a", "c")


def test_without_groups_changes_nothing_else() -> None:
    bare = table().without_groups()
    assert bare.groups == (None, None, None)
    assert (bare.texts, bare.signals) == (table().texts, table().signals)
    np.testing.assert_array_equal(bare.cost, table().cost)


def test_costs_without_a_unit_are_unknown() -> None:
    assert np.isnan(table(cost_unit=None).cost).all()


def test_a_rung_is_found_by_name_and_a_wrong_name_lists_the_right_ones() -> None:
    assert table().rung_index("big") == 1
    with pytest.raises(InputError, match="small, big"):
        table().rung_index("huge")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rungs": ("big", "big")}, "each named once"),
        ({"request_ids": ("a", "b", "a")}, "'a' occurs twice"),
        ({"texts": ("one",)}, "1 texts for 3 requests"),
        ({"quality": np.zeros((2, 2))}, "quality has shape"),
        ({"cost": np.zeros((3, 1))}, "cost has shape"),
        ({"signals": ((Signals(),),) * 3}, "all 2 rungs"),
        ({"quality": np.array([[0, 1], [0, 1], [0, 1.5]])}, "'c', rung 'big': quality 1.5"),
        ({"cost": np.full((3, 2), -1.0)}, "negative"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        table(**changes)


def test_a_split_deals_every_row_once_in_the_sizes_asked() -> None:
    parts = split_rows(1000, seed=3, fractions=(0.5, 0.4, 0.1))
    assert [len(part) for part in parts] == [500, 400, 100]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(1000))


def test_a_split_depends_on_the_seed_alone() -> None:
    first, again, other = split_rows(500, seed=1), split_rows(500, seed=1), split_rows(500, seed=2)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


def test_every_row_is_as_likely_to_certify_as_any_other() -> None:
    counts = np.zeros(50)
    for seed in range(2000):
        counts[split_rows(50, seed=seed)[1]] += 1
    assert np.abs(counts / 2000 - 0.4).max() < 5 * np.sqrt(0.4 * 0.6 / 2000)


@pytest.mark.parametrize("fractions", [(0.5, 0.4), (1.2, -0.2), (0.5, 0.5, 0.0)])
def test_fractions_that_make_no_split_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="sum to 1"):
        split_rows(100, seed=0, fractions=fractions)


def test_too_few_rows_for_a_split_are_refused() -> None:
    with pytest.raises(InputError, match="too few"):
        split_rows(2, seed=0)


def test_rows_of_the_same_text_are_one_cluster_and_rows_without_text_are_alone() -> None:
    texts = ("one two", "", " one\ntwo ", "One two", "")
    ids = ("a", "b", "c", "d", "e")
    clusters, names = clusters_of(ids, texts)
    assert clusters.tolist() == [0, 1, 0, 2, 3]
    assert names == ("a", "b", "d", "e")


@pytest.mark.parametrize(
    "copy",
    [
        "Re\u0301sume\u0301 du cafe\u0301",
        "R\u00e9sum\u00e9 du caf\u00e9\u200b",
        "\ufeffR\u00e9sum\u00e9\u00a0du caf\u00e9",
        "R\u00e9\u00adsum\u00e9 du caf\u00e9 \u2060",
    ],
    ids=["letters in parts", "zero width", "byte order mark", "soft hyphen"],
)
def test_two_writings_of_one_text_are_one_cluster(copy: str) -> None:
    """One system composes its letters and another does not: the prompt is still one draw."""
    texts = ("R\u00e9sum\u00e9 du caf\u00e9", copy, "Resume du cafe", "\u200b", "\u200b")
    clusters, _ = clusters_of(("a", "b", "c", "d", "e"), texts)
    assert clusters.tolist() == [0, 0, 1, 2, 3]


def test_an_empty_name_of_a_cluster_is_none() -> None:
    """Tables of others write nothing as an empty text: their rows are no single cluster."""
    clusters, names = clusters_of(("a", "b", "c"), ("one", "two", "two"), ("", "", None))
    assert (clusters.tolist(), names) == ([0, 1, 1], ("a", "b"))


def test_clusters_follow_their_rows() -> None:
    whole = table(clusters=np.array([0, 1, 0]), cluster_names=("s", "t"))
    assert whole.subset([1, 2]).clusters.tolist() == [0, 1]
    assert whole.subset([1, 2]).cluster_names == ("t", "s")
    assert whole.without_groups().clusters.tolist() == [0, 1, 0]
    assert whole.scored().cluster_names == ("s",)
    assert table(texts=("same", "same", "other")).clusters.tolist() == [0, 0, 1]


@pytest.mark.parametrize("clusters", [[0, 1], [0, 2, 0], [0, -1, 1], [1, 1, 1]])
def test_clusters_that_do_not_fit_are_refused(clusters: list[int]) -> None:
    with pytest.raises(InputError, match="must number each of 3 requests from 0 to 1"):
        table(clusters=np.array(clusters), cluster_names=("s", "t"))


def test_rows_that_are_clusters_of_their_own_are_dealt_as_if_counted() -> None:
    for one, other in zip(split_rows(200, seed=4), split_rows(np.arange(200), seed=4), strict=True):
        np.testing.assert_array_equal(one, other)


@given(sizes=st.lists(st.integers(1, 60), min_size=3, max_size=40), seed=st.integers(0, 1000))
def test_a_split_tears_no_cluster_and_leaves_no_part_empty(sizes: list[int], seed: int) -> None:
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    assume(len(clusters) >= 10)
    parts = split_rows(clusters, seed=seed)
    dealt = [set(clusters[part].tolist()) for part in parts]
    assert all(dealt)
    assert sum(map(len, dealt)) == len(set.union(*dealt)) == len(sizes)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(clusters)))


def test_parts_are_as_near_to_the_fractions_as_whole_clusters_allow() -> None:
    clusters = np.repeat(np.arange(100), np.arange(1, 101) % 7 + 1)
    shares = np.array(SPLIT_FRACTIONS)
    for seed in range(50):
        sizes = np.array([len(part) for part in split_rows(clusters, seed=seed)])
        assert np.abs(np.cumsum(sizes) - np.cumsum(shares) * len(clusters)).max() <= 7 / 2 + 0.5


def test_sessions_are_dealt_by_their_number_where_each_counts_once() -> None:
    clusters = np.array([0] * 200 + list(range(1, 201)))
    for seed in range(20):
        parts = split_rows(clusters, seed=seed, of_clusters=True)
        assert [len(np.unique(clusters[part])) for part in parts] == [100, 81, 20]


def test_every_cluster_is_as_likely_to_certify_as_any_other_of_its_size() -> None:
    clusters = np.repeat(np.arange(30), 5)
    counts = np.zeros(30)
    for seed in range(2000):
        counts[np.unique(clusters[split_rows(clusters, seed=seed)[1]])] += 1
    assert np.abs(counts / 2000 - 0.4).max() < 5 * np.sqrt(0.4 * 0.6 / 2000)


def test_fewer_clusters_than_parts_are_refused_however_many_the_rows() -> None:
    with pytest.raises(InputError, match="400 requests in 2 clusters"):
        split_rows(["a", "b"] * 200, seed=0)
