"""Quality per generated token: ratios of sums, honest intervals, and what is left out."""

import json
from decimal import Decimal

import msgspec
import numpy as np
import pytest

from suffice.cli.output import print_frontier
from suffice.errors import InputError
from suffice.trials.frontier import RungPoint, frontier
from suffice.trials.resample import drawn_sums, estimate
from suffice.trials.table import CostUnit
from suffice.types import Count, CountSource, Trial, TrialStatus, Usage

REPORTED = CountSource.REPORTED


def trial(
    request_id: object,
    rung: str,
    quality: float | None,
    *,
    tokens: int | None = 10,
    usd: str | None = None,
    group: object = None,
    source: CountSource = REPORTED,
) -> Trial:
    return Trial(
        request_id=str(request_id),
        rung=rung,
        status=TrialStatus.UNSCORED if quality is None else TrialStatus.SCORED,
        text="",
        group=None if group is None else str(group),
        quality=quality,
        usage=Usage(output_tokens=None if tokens is None else Count(tokens, source)),
        charge_usd=None if usd is None else Decimal(usd),
    )


def point(trials: list[Trial], rung: str = "r") -> RungPoint:
    return next(p for p in frontier(trials).rungs if p.rung == rung)


def draw(rows: int, groups: int, *, seed: int, spread: float = 0.0) -> list[Trial]:
    """Draw trials whose accuracy varies from group to group by `spread`."""
    random = np.random.default_rng(seed)
    chance = np.clip(0.6 + spread * random.standard_normal(groups), 0, 1)
    return [
        trial(
            i,
            "r",
            float(random.random() < chance[i % groups]),
            tokens=int(random.integers(1, 99)),
            usd=str(random.integers(1, 9)),
            group=i % groups,
        )
        for i in range(rows)
    ]


def test_figures_are_ratios_of_sums_not_means_of_ratios() -> None:
    rows = [
        trial("a", "r", 1.0, tokens=100, usd="1"),
        trial("b", "r", 0.0, tokens=900, usd="2"),
        trial("c", "r", 0.5, tokens=500, usd="6"),
    ]
    found = point(rows)
    assert found.correct == 1.5
    assert found.accuracy is not None
    assert found.accuracy.value == 0.5
    for name, value in {
        "tokens_per_answer": 500,
        "tokens_per_correct": 1000,
        "usd_per_answer": 3,
        "usd_per_correct": 6,
    }.items():
        assert getattr(found, name).value == pytest.approx(value)


def test_figures_agree_with_a_second_calculation() -> None:
    rows = draw(200, 10, seed=1)
    found = point(rows)
    correct = sum(t.quality or 0 for t in rows)
    tokens = sum(t.usage.output_tokens.tokens for t in rows if t.usage.output_tokens)
    usd = sum((t.charge_usd or Decimal(0) for t in rows), Decimal(0))
    assert found.tokens_per_correct is not None
    assert found.tokens_per_correct.value == pytest.approx(tokens / correct, rel=1e-12)
    assert found.usd_per_correct is not None
    assert found.usd_per_correct.value == pytest.approx(float(usd) / correct, rel=1e-12)


def test_no_correct_answer_is_without_bound_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [trial(i, "r", 0.0) for i in range(20)]
    result = frontier(rows)
    found = result.rungs[0]
    assert found.tokens_per_correct is not None
    assert found.tokens_per_correct.value is None
    assert found.tokens_per_correct.interval == (None, None)
    assert (
        json.loads(msgspec.json.encode(result))["rungs"][0]["tokens_per_correct"]["value"] is None
    )
    print_frontier(result)
    assert "none correct" in capsys.readouterr().out


def test_a_nearly_always_wrong_rung_has_an_open_interval() -> None:
    rows = [trial(i, "r", float(i == 0)) for i in range(20)]
    found = point(rows).tokens_per_correct
    assert found is not None
    assert found.value == 200
    assert found.interval is not None
    assert found.interval[0] is not None
    assert found.interval[0] < 200
    assert found.interval[1] is None


def test_all_right_is_not_certainly_right() -> None:
    """The exact interval for 20 independent clusters: 0.025 ** (1 / 20) is its lower end."""
    found = point([trial(i, "r", 1.0) for i in range(20)]).accuracy
    assert found is not None
    assert found.value == 1.0
    assert found.interval == (pytest.approx(0.025 ** (1 / 20)), 1.0)


def test_all_right_in_few_groups_says_less_than_in_many() -> None:
    low = []
    for groups in (4, 40):
        found = point([trial(i, "r", 1.0, group=i % groups) for i in range(80)]).accuracy
        assert found is not None
        assert found.interval is not None
        low.append(found.interval[0])
    assert low[0] == pytest.approx(0.025 ** (1 / 4))
    assert low[1] == pytest.approx(0.025 ** (1 / 40))


def test_unscored_and_failed_trials_are_left_out_and_counted() -> None:
    rows = [trial(i, "r", 1.0, tokens=10) for i in range(10)]
    more = [
        trial("u", "r", None, tokens=10_000),
        Trial(request_id="f", rung="r", status=TrialStatus.FAILED, text=""),
    ]
    result = frontier(rows + more)
    found = result.rungs[0]
    assert (found.scored, found.unscored, found.failed) == (10, 1, 1)
    assert found.tokens_per_correct == point(rows).tokens_per_correct
    assert any("1 of 12 trials are unscored" in note for note in result.notes)
    assert any("1 of 12 trials are failed" in note for note in result.notes)


def test_a_rung_whose_answers_lack_scores_is_said_with_its_accuracy_if_they_are_wrong() -> None:
    rows = [trial(i, "big", float(i < 9), tokens=10) for i in range(10)]
    rows += [trial(i, "small", 1.0 if i < 7 else None, tokens=10) for i in range(10)]
    result = frontier(rows)
    assert not result.alike
    assert (
        "3 of 10 calls of 'small' have no score: if they count as wrong, its accuracy is 70.0 %."
        in result.notes
    )
    assert frontier(rows[:10]).alike


def test_an_unknown_cost_is_unknown_and_not_left_out_quietly() -> None:
    rows = [trial(i, "r", 1.0, tokens=None if i == 3 else 10, usd="1") for i in range(10)]
    found = point(rows)
    assert found.tokens_per_correct is None
    assert found.usd_per_correct is not None


def test_intervals_grow_with_the_likeness_inside_groups() -> None:
    alike = [trial(i, "r", float(i // 20 % 2), group=i // 20) for i in range(400)]
    mixed = [trial(i, "r", float(i % 2), group=i // 20) for i in range(400)]
    width = []
    for rows in (alike, mixed):
        found = point(rows).accuracy
        assert found is not None
        assert found.interval is not None
        width.append(found.interval[1] - found.interval[0])
    assert width[0] > 0.3
    assert width[1] < 0.05


@pytest.mark.parametrize("groups", [None, "one"])
def test_fewer_than_two_groups_fall_back_to_requests_and_say_so(groups: str | None) -> None:
    result = frontier([trial(i, "r", float(i % 2), group=groups) for i in range(50)])
    assert result.clustered_by == "request"
    assert result.clusters == 50
    assert any("single requests as independent" in note for note in result.notes)


def test_groups_cluster_where_all_have_one() -> None:
    result = frontier(draw(60, 30, seed=3))
    assert (result.clustered_by, result.clusters, result.notes) == ("group", 30, ())
    for groups in (3, 29):
        few = frontier(draw(60, groups, seed=3))
        assert any(f"{groups} clusters only" in note for note in few.notes)


def test_declared_clusters_come_before_groups_and_equal_texts_before_requests() -> None:
    rows = [
        msgspec.structs.replace(t, cluster=f"c{i % 40}") for i, t in enumerate(draw(80, 2, seed=1))
    ]
    assert (frontier(rows).clustered_by, frontier(rows).clusters) == ("cluster", 40)
    texts = [trial(i, "r", float(i % 2)) for i in range(80)]
    texts = [msgspec.structs.replace(t, text=f"text {i % 50}") for i, t in enumerate(texts)]
    assert (frontier(texts).clustered_by, frontier(texts).clusters) == ("request", 50)


def test_one_row_without_tokens_among_many_leaves_the_front_known_and_is_said() -> None:
    rows = [
        trial(i, rung, float(i % 3 > 0), tokens=None if (i, rung) == (7, "a") else 10)
        for rung in ("a", "b")
        for i in range(100)
    ]
    result = frontier(rows)
    assert [p.on_front for p in result.rungs] == [True, True]
    cost = result.rungs[0].tokens_per_answer
    assert cost is not None
    assert cost.value == 10.0
    assert any("1 of 100 answers of 'a' have no cost in output tokens" in n for n in result.notes)


def test_dollars_that_are_all_0_are_no_unit() -> None:
    assert frontier([trial(i, "a", 1.0, usd="0") for i in range(5)]).cost_unit is (
        CostUnit.OUTPUT_TOKENS
    )


@pytest.mark.slow
def test_intervals_of_twelve_groups_miss_about_as_often_as_they_say() -> None:
    """Plain percentiles of 12 groups miss 9.7 % of 1,500 times, the expanded interval 5.7 %."""
    random = np.random.default_rng(12)
    groups, each, spread, missed = 12, 20, 0.15, np.zeros(2)
    truth = np.clip(0.6 + spread * random.standard_normal(10**6), 0, 1).mean()
    for seed in range(1500):
        chance = np.clip(0.6 + spread * random.standard_normal(groups), 0, 1)
        sums = np.stack([random.binomial(each, chance), np.full(groups, each)], axis=1)
        drawn = drawn_sums(sums.astype(np.float64), seed=seed)
        for way, clusters in enumerate((None, groups)):
            found = estimate(drawn[:, 0] / drawn[:, 1], clusters=clusters)
            low, high = found.interval
            missed[way] += not low <= truth <= high
    plain, expanded = missed / 1500
    assert plain > 0.08
    assert expanded < 0.07


def test_two_like_groups_do_not_make_sure() -> None:
    """Resampling two groups of the same accuracy alone would give an interval of no width."""
    found = point([trial(i, "r", float(i % 4 < 2), group=i % 2) for i in range(16)]).accuracy
    assert found is not None
    assert found.interval is not None
    low, high = found.interval
    assert low is not None
    assert high is not None
    assert low < 0.35
    assert high > 0.65


def test_one_request_leaves_nothing_to_resample() -> None:
    found = point([trial("a", "r", 0.5)])
    assert found.accuracy is not None
    assert found.accuracy.interval is None
    assert found.tokens_per_correct is not None
    assert found.tokens_per_correct.interval is None
    assert found.front_share is None


@pytest.mark.slow
def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Groups whose accuracy varies: resampling groups covers, resampling requests would not."""
    covered = {"group": 0, "request": 0}
    spread = np.random.default_rng(0).standard_normal(10**6) * 0.25
    truth = np.clip(0.6 + spread, 0, 1).mean()
    for seed in range(120):
        rows = draw(400, 40, seed=seed, spread=0.25)
        alone = [msgspec.structs.replace(t, group=None) for t in rows]
        for name, trials in (("group", rows), ("request", alone)):
            found = point(trials).accuracy
            assert found is not None
            assert found.interval is not None
            covered[name] += found.interval[0] <= truth <= found.interval[1]
    assert covered["group"] >= 104  # of 120; 95 % would be 114
    assert covered["request"] < 96


def test_the_front_holds_the_rungs_that_no_other_beats() -> None:
    accuracy_and_tokens = {
        "cheap": (0.5, 10),
        "beaten": (0.4, 20),
        "same_but_dearer": (0.5, 30),
        "good": (0.9, 100),
    }
    rows = [
        trial(i, rung, float(i < 100 * accuracy), tokens=tokens, group=i % 20)
        for rung, (accuracy, tokens) in accuracy_and_tokens.items()
        for i in range(100)
    ]
    result = frontier(rows)
    assert result.cost_unit is CostUnit.OUTPUT_TOKENS
    assert {p.rung for p in result.rungs if p.on_front} == {"cheap", "good"}
    share = {p.rung: p.front_share for p in result.rungs}
    assert share["cheap"] == 1.0
    assert share["same_but_dearer"] == 0.0
    assert share["beaten"] is not None
    assert share["beaten"] < 0.1


def test_equal_rungs_share_the_front() -> None:
    rows = [trial(i, rung, 1.0) for rung in ("a", "b") for i in range(5)]
    assert [p.on_front for p in frontier(rows).rungs] == [True, True]


def test_without_a_common_unit_there_is_no_front() -> None:
    rows = [trial(i, "a", 1.0, tokens=None) for i in range(5)]
    rows += [trial(i, "b", 1.0, tokens=5) for i in range(5)]
    result = frontier(rows)
    assert result.cost_unit is None
    assert [(p.on_front, p.front_share) for p in result.rungs] == [(None, None)] * 2


def test_what_is_guessed_or_unlike_is_noted() -> None:
    rows = [trial("a", "r", 1.0, source=CountSource.ESTIMATED), trial("b", "r", 1.0)]
    notes = frontier([*rows, trial("a", "s", 1.0)]).notes
    assert any("1 of 3 trials have an estimated" in note for note in notes)
    assert any("not compared like with like" in note for note in notes)


def test_a_seed_gives_the_same_frontier_again() -> None:
    rows = draw(50, 10, seed=5)
    assert frontier(rows, seed=1) == frontier(rows, seed=1)
    assert frontier(rows, seed=1) != frontier(rows, seed=2)


def test_nothing_scored_is_refused() -> None:
    with pytest.raises(InputError, match="none of 1 trials is scored"):
        frontier([trial("a", "r", None)])


def test_the_table_shows_what_is_known_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_frontier(frontier(draw(60, 12, seed=3)))
    text = capsys.readouterr().out
    assert "tokens/correct" in text
    assert "$/correct" in text
    assert "words/correct" not in text
    assert "yes (100%)" in text
    unpriced = [trial(i, "a", 1.0, usd="1") for i in range(3)]
    unpriced += [trial(i, "b", 1.0) for i in range(3)]
    print_frontier(frontier(unpriced))
    assert "unknown" in capsys.readouterr().out
