"""A setting is called as good, worse or undecided as often wrongly as delta allows, and no more."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from suffice.certify.compare import Comparisons, Replacement, compare, tasks_needed
from suffice.errors import InputError
from suffice.report.comparison import comparison_chart
from suffice.trials.table import CostUnit
from suffice.types import Count, CountSource, Trial, TrialStatus, Usage

TASKS = 60


def trial(setting: str, task: int, quality: float, usd: str | None = None) -> Trial:
    return Trial(
        request_id=f"t{task}",
        rung=setting,
        status=TrialStatus.SCORED,
        text=f"task {task}",
        quality=quality,
        charge_usd=None if usd is None else Decimal(usd),
    )


def runs(
    setting: str, right: np.ndarray, *, times: int, rng: np.random.Generator, usd: str | None = None
) -> list[Trial]:
    return [
        trial(setting, task, float(rng.random() < chance), usd)
        for task, chance in enumerate(right)
        for _ in range(times)
    ]


def by_name(result: Comparisons) -> dict[str, Replacement]:
    return {one.setting: one.verdict for one in result.settings}


def test_a_setting_is_as_good_as_itself_and_a_broken_one_is_worse() -> None:
    rng = np.random.default_rng(0)
    right = rng.choice([0.05, 0.95], 200)
    trials = [
        *runs("a", right, times=3, rng=rng, usd="0.10"),
        *runs("again", right, times=3, rng=rng, usd="0.02"),
        *runs("broken", right * 0.4, times=3, rng=rng),
    ]
    result = compare(trials, reference="a", alpha=0.1)
    assert by_name(result) == {"again": Replacement.AS_GOOD, "broken": Replacement.WORSE}
    again, broken = result.settings
    assert again.cost_per_task == pytest.approx(0.02)
    assert again.cost_per_success == pytest.approx(0.02 / again.quality, rel=0.02)
    assert broken.cost_per_task is None
    assert again.interval[0] <= again.difference <= again.interval[1]


@pytest.mark.slow
def test_verdicts_are_wrong_no_more_often_than_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a true net loss of exactly alpha either verdict counts as wrong: both are at the edge.

    How many tasks would decide is not looked for: that takes most of the time.
    """
    monkeypatch.setattr("suffice.certify.compare.MOST_TASKS", 0)
    rng, draws, net_loss = np.random.default_rng(1), 120, 0.1
    mistakes = {Replacement.AS_GOOD: 0, Replacement.WORSE: 0}
    for _ in range(draws):
        right = rng.choice([0.2, 0.9], TASKS)
        trials = [
            *runs("a", right, times=2, rng=rng),
            *runs("b", right - net_loss, times=2, rng=rng),
            *runs("c", right - net_loss, times=1, rng=rng),
        ]
        verdicts = by_name(compare(trials, reference="a", alpha=net_loss, delta=0.1)).values()
        for wrong in mistakes:
            mistakes[wrong] += wrong in verdicts
    for wrong, count in mistakes.items():
        assert count <= 0.1 * draws + 3 * np.sqrt(draws * 0.1 * 0.9), wrong


def test_repeats_of_a_task_do_not_make_evidence() -> None:
    few = [trial(name, task, float(task % 2)) for name in "ab" for task in range(6)]
    many = [copy for one in few for copy in [one] * 50]
    for trials in (few, many):
        result = compare(trials, reference="a", alpha=0.05)
        assert by_name(result) == {"b": Replacement.UNDECIDED}
        assert result.settings[0].tasks == 6


@pytest.mark.parametrize("fields", [{"text": "the same words"}, {"cluster": "session"}])
def test_copies_and_turns_under_many_ids_do_not_make_evidence(fields: dict[str, str]) -> None:
    """A text asked under eight ids, or a session of eight turns, is one draw for every setting."""
    trials = [
        replace(
            trial(name, 8 * task + turn, float(task % 3 > 0)),
            **{field: f"{value} {task}" for field, value in fields.items()},
        )
        for name in "ab"
        for task in range(6)
        for turn in range(8)
    ]
    result = compare(trials, reference="a", alpha=0.05)
    assert by_name(result) == {"b": Replacement.UNDECIDED}
    assert (result.reference.tasks, result.settings[0].tasks) == (6, 6)


def test_a_long_session_counts_once_and_only_the_turns_that_both_settings_had() -> None:
    long = [replace(trial(name, turn, 1.0), cluster="long") for name in "ab" for turn in range(9)]
    alone = [trial("a", 20, 1.0), trial("b", 20, 0.0), replace(trial("a", 9, 0.0), cluster="long")]
    setting = compare([*long, *alone], reference="a").settings[0]
    assert (setting.tasks, setting.quality, setting.difference) == (2, 0.5, -0.5)


def test_an_undecided_setting_says_how_many_tasks_would_decide() -> None:
    losses = np.array([0.0, 0.5, -0.5, 0.0] * 10)
    needed = tasks_needed(losses, alpha=0.05, delta=0.1)
    assert needed is not None
    assert 40 < needed < 4000
    assert tasks_needed(np.full(40, 0.05), alpha=0.05, delta=0.1) is None


def with_tokens(setting: str, task: int, tokens: int, usd: str | None = None) -> Trial:
    counted = Count(tokens=tokens, source=CountSource.REPORTED)
    return replace(trial(setting, task, 1.0, usd), usage=Usage(output_tokens=counted))


def test_costs_are_in_the_unit_that_most_settings_have() -> None:
    """One row with dollars, or dollars that are all 0, leave the tokens of all others shown."""
    trials = [with_tokens(name, task, 10) for name in "ab" for task in range(30)]
    one = [with_tokens("a", 0, 10, usd="0.5"), *trials[1:]]
    free = [replace(each, charge_usd=Decimal(0)) for each in trials]
    for these in (one, free):
        result = compare(these, reference="a")
        assert result.cost_unit is CostUnit.OUTPUT_TOKENS
        assert result.settings[0].cost_per_task == 10


def test_an_unscored_answer_is_worth_nothing_and_a_failed_call_is_left_out() -> None:
    trials = [trial(name, task, 1.0) for name in "ab" for task in range(40)]
    for status, quality, tasks, note in (
        (TrialStatus.UNSCORED, 0.75, 40, "10 answers that no scorer could judge count as worth"),
        (TrialStatus.FAILED, 1.0, 30, "10 trials without a quality are left out"),
    ):
        lacking = [
            replace(t, status=status, quality=None) if t.rung == "b" and i % 4 == 0 else t
            for i, t in enumerate(trials)
        ]
        result = compare(lacking, reference="a")
        assert (result.settings[0].quality, result.settings[0].tasks) == (quality, tasks)
        assert result.notes[0].startswith(note)


@pytest.mark.parametrize(
    ("failing", "counting"), [("b", Replacement.WORSE), ("a", Replacement.AS_GOOD)]
)
def test_failed_calls_are_counted_by_setting_with_the_verdict_that_they_would_change(
    failing: str, counting: Replacement
) -> None:
    """A setting that fails on a quarter of the tasks is no replacement for one that answers."""
    trials = [trial(name, task, 1.0) for name in "ab" for task in range(200)]
    trials = [
        replace(t, status=TrialStatus.FAILED, quality=None)
        if t.rung == failing and int(t.request_id[1:]) % 4 == 0
        else t
        for t in trials
    ]
    result = compare(trials, reference="a")
    [b] = result.settings
    assert (b.verdict, b.counting_failed) == (Replacement.AS_GOOD, counting)
    assert {one.setting: one.failed for one in (result.reference, b)} == {
        "a": 50 * (failing == "a"),
        "b": 50 * (failing == "b"),
    }
    shares = ", ".join(f"{name} {50 if name == failing else 0} of 200" for name in "ab")
    assert f"calls that failed, of each setting: {shares}" in result.notes


def test_a_setting_of_easy_tasks_is_set_beside_the_reference_on_those_tasks() -> None:
    """Its dollars are more there, though the mean over all tasks of the reference is higher."""
    trials = [trial("a", task, 1.0, "0.001") for task in range(30)]
    trials += [trial("a", task, 0.0, "0.02") for task in range(30, 60)]
    trials += [trial("dear", task, 1.0, "0.002") for task in range(30)]
    trials += [trial("cheap", task, float(task < 30), "0.003") for task in range(60)]
    result = compare(trials, reference="a")
    cheap, dear = result.settings
    assert (cheap.setting, dear.setting, dear.tasks) == ("cheap", "dear", 30)
    assert (dear.cost_per_task, dear.reference_cost) == pytest.approx((0.002, 0.001))
    assert (dear.quality, dear.reference_quality, result.reference.quality) == (1.0, 1.0, 0.5)
    assert cheap.reference_cost == result.reference.cost_per_task == pytest.approx(0.0105)
    [note] = result.notes
    assert note == (
        "dear has 30 of the 60 tasks of a, which is right on 100.0 % of them, and costs 0.001"
    )


def test_a_reference_that_is_hardly_ever_right_is_refused() -> None:
    """Whatever never answers would be as good as it."""
    trials = [trial("a", task, float(task < 4)) for task in range(100)]
    trials += [trial("b", task, 0.0) for task in range(100)]
    with pytest.raises(InputError, match=r"'a' is right on 4\.0 % of these requests"):
        compare(trials, reference="a")
    assert by_name(compare(trials, reference="a", alpha=0.01)) == {"b": Replacement.UNDECIDED}


def test_what_cannot_be_compared_is_an_error_or_a_note() -> None:
    trials = [trial("a", 1, 1.0), trial("b", 1, 0.0), trial("alone", 2, 1.0)]
    with pytest.raises(InputError, match="no scored trial of 'z'"):
        compare(trials, reference="z")
    with pytest.raises(InputError, match="only 'a'"):
        compare(trials[:1], reference="a")
    result = compare(trials, reference="a")
    assert result.notes == ("alone shares no task with a",)


def test_the_figure_shows_every_setting(tmp_path: Path) -> None:
    trials = [trial(name, task, 1.0) for name in ("a", "b", "c") for task in range(5)]
    chart = comparison_chart(compare(trials, reference="a")).to_dict()
    assert "b" in str(chart)
    assert "c" in str(chart)
