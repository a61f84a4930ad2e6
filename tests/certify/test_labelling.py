"""Fewer marks: which requests need one, and what missing, false or chosen ones do."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from suffice.certify.bundling import Certification, certify_files, plan_files
from suffice.certify.labelling import LabelPlan, read_plan, write_plan
from suffice.certify.promise import Promise
from suffice.errors import InputError
from suffice.types import Trial, TrialStatus
from support import make_trials, write_jsonl

PROMISE = Promise(reference="big", alpha=0.1, delta=0.1)
TRIALS = [  # an eighth of the answers look sure whatever they are
    replace(t, mean_logprob=-0.1, answer="5") if t.rung == "small" and i % 16 < 2 else t
    for i, t in enumerate(make_trials(600))
]


def only_marked(trials: list[Trial], marked: set[str]) -> list[Trial]:
    """Take the marks of all other requests away."""
    return [
        t
        if t.request_id in marked
        else replace(t, quality=None, status=TrialStatus.UNSCORED, scorer=None)
        for t in trials
    ]


def plan_for(folder: Path, marked: set[str], **promised: object) -> LabelPlan:
    path = write_jsonl(folder / "trials.jsonl", only_marked(TRIALS, marked))
    plan = plan_files([path], replace(PROMISE, **promised))
    write_plan(folder / "plan.json", plan)
    return plan


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LabelPlan]:
    """Plan, mark what the draw names, and plan again."""
    folder = tmp_path_factory.mktemp("plan")
    plan = plan_for(folder, set())
    for _ in range(5):
        plan = plan_for(folder, everything(plan))
    return folder, plan


def certified(folder: Path, marked: set[str], **promised: object) -> Certification:
    path = write_jsonl(folder / "some.jsonl", only_marked(TRIALS, marked))
    promise = replace(PROMISE, plan=folder / "plan.json", **promised)
    return certify_files([path], promise)


def everything(plan: LabelPlan) -> set[str]:
    return {*plan.fit, *plan.report, *(plan.certify or ())}


def test_the_draw_comes_first_and_depends_on_the_seed_alone(tmp_path: Path) -> None:
    one, other = plan_for(tmp_path, set()), plan_for(tmp_path, set(), seed=1)
    assert one.certify is None
    assert {*one.to_mark} == {*one.fit, *one.report}
    assert one.fit != other.fit
    assert abs(len(one.report) - 30) < 20
    assert abs(len(one.fit) - 195) < 40


@pytest.mark.slow
def test_what_no_policy_would_keep_needs_no_mark(planned: tuple[Path, LabelPlan]) -> None:
    folder, plan = planned
    assert plan.certify is not None
    assert plan.to_mark == ()
    assert plan.planned < 0.75 * plan.total
    found = certified(folder, everything(plan))
    whole = certify_files([write_jsonl(folder / "all.jsonl", TRIALS)], PROMISE)
    assert found.result.certified
    assert found.result.unmarked == plan.total - plan.planned
    assert found.result.n == whole.result.n
    assert found.result.share["small"] >= 0.8 * whole.result.share["small"]
    assert "random" not in found.result.baselines


def test_certifying_marks_that_are_missing_count_as_lost(planned: tuple[Path, LabelPlan]) -> None:
    folder, plan = planned
    result = certified(folder, everything(plan)).result
    wrong = {t.request_id for t in TRIALS if t.rung == "small" and t.quality == 0.0}
    chosen = everything(plan) - (wrong & {*(plan.certify or ())})
    by_outcome = certified(folder, chosen).result
    assert by_outcome.unmarked > result.unmarked
    assert by_outcome.share["small"] <= result.share["small"] + 0.02


@pytest.mark.parametrize("part", ["fit", "report"])
def test_drawn_marks_that_follow_the_answers_are_refused(
    planned: tuple[Path, LabelPlan], part: str
) -> None:
    folder, plan = planned
    wrong = {t.request_id for t in TRIALS if t.rung == "small" and t.quality == 0.0}
    with pytest.raises(InputError, match=f"drawn for the {part} split have no mark") as caught:
        certified(folder, everything(plan) - (wrong & {*getattr(plan, part)}))
    assert "mark them all" in caught.value.hint


def test_partial_marks_without_a_plan_are_refused(tmp_path: Path) -> None:
    right = {t.request_id for t in TRIALS if t.rung == "small" and t.quality == 1.0}
    path = write_jsonl(tmp_path / "some.jsonl", only_marked(TRIALS, right))
    with pytest.raises(InputError, match=r"requests have no mark on any rung") as caught:
        certify_files([path], PROMISE)
    assert "label-plan" in caught.value.hint
    few = {t.request_id for t in TRIALS[:1100]}
    path = write_jsonl(tmp_path / "most.jsonl", only_marked(TRIALS, few))
    assert certify_files([path], PROMISE).result.unscored == 50


@pytest.mark.parametrize(
    ("promised", "said"),
    [({"seed": 1}, "seed 0, not 1"), ({"reference": "small"}, "cheapest rung|costs less")],
)
def test_a_plan_for_another_promise_is_refused(
    planned: tuple[Path, LabelPlan], promised: dict[str, object], said: str
) -> None:
    folder, plan = planned
    with pytest.raises(InputError, match=said):
        certified(folder, everything(plan), **promised)


def test_a_plan_for_other_requests_or_no_plan_at_all_is_refused(
    planned: tuple[Path, LabelPlan], tmp_path: Path
) -> None:
    folder, _ = planned
    path = write_jsonl(tmp_path / "fewer.jsonl", TRIALS[:800])
    promise = replace(PROMISE, plan=folder / "plan.json")
    with pytest.raises(InputError, match="and these are others"):
        certify_files([path], promise)
    (tmp_path / "plan.json").write_text('{"form": 9}')
    with pytest.raises(InputError, match="is no label plan"):
        read_plan(tmp_path / "plan.json")
    labels = write_jsonl(
        tmp_path / "labels.jsonl", [{"request_id": "r", "rung": "b", "quality": 1}]
    )
    with pytest.raises(InputError, match="do not go together"):
        certify_files([path], promise, labels=labels)
