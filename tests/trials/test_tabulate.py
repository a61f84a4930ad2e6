"""Tests of the order of a table's requests: that of their names, not of the trials."""

from random import Random

import pytest
from msgspec.structs import replace

from suffice.certify.policy import certify
from suffice.certify.target import Target
from suffice.encoders.base import default_encoder
from suffice.guarantee import LabelSource
from suffice.trials.order import name_key
from suffice.trials.tabulate import pair_runs, tabulate
from suffice.types import Trial
from support import make_trials

TRIALS = make_trials(600)


def shuffled(seed: int) -> list[Trial]:
    """Return the trials in another order, the rungs of the first request as they were."""
    rest = TRIALS[len({trial.rung for trial in TRIALS}) :]
    return [*TRIALS[: len(TRIALS) - len(rest)], *Random(seed).sample(rest, len(rest))]


def test_numbers_in_names_are_put_in_order_by_their_size() -> None:
    names = ["q10", "q2", "", "b/1/10", "q02", "b/1/9", "b/02/1", "q2b", "9" * 5000, "2"]
    ordered = ["", "2", "9" * 5000, "b/1/9", "b/1/10", "b/02/1", "q02", "q2", "q2b", "q10"]
    assert sorted(names, key=name_key) == ordered


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_trials_changes_no_table(seed: int) -> None:
    table, other = tabulate(TRIALS), tabulate(shuffled(seed))
    assert table.request_ids == other.request_ids
    assert table.rungs == other.rungs
    assert table.quality.tolist() == other.quality.tolist()
    assert table.clusters.tolist() == other.clusters.tolist()
    assert table.cluster_names == other.cluster_names


def test_the_order_of_trials_changes_no_certificate() -> None:
    """Answers to requests that are asked at once arrive in another order each time."""
    ask = Target(reference="big", label_source=LabelSource.TARGET, alpha=0.1)
    first, second = (
        certify(tabulate(trials), ask, encoder=default_encoder()).result
        for trials in (TRIALS, shuffled(1))
    )
    assert first.certified
    assert (first.saving, first.risk, first.share) == (second.saving, second.risk, second.share)
    assert first.bound == second.bound


def test_runs_are_paired_by_name_whatever_arrived_first() -> None:
    runs = [
        replace(trial, run=str(run), answer=f"{trial.rung} {run}")
        for run in (2, 10, 1)
        for trial in TRIALS[:2]
    ]
    paired = pair_runs(runs)
    assert [row["small"].run for row in paired.values()] == ["1", "2", "10"]
