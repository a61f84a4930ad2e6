"""What certify says of the choice: its family, a random part, and what simpler policies come to."""

import numpy as np
import pytest
from msgspec.structs import replace
from scipy import stats

from suffice.certify.policy import CertifiedPolicy, certify
from suffice.certify.target import Target
from suffice.encoders.base import default_encoder
from suffice.errors import InputError
from suffice.guarantee import LabelSource, RiskKind
from suffice.trials.table import CostUnit, split_rows
from suffice.trials.tabulate import tabulate
from suffice.types import Trial, Usage
from support import blind_trials, make_trials

RUNGS = ("small", "middle", "big")


def run(trials: list[Trial], **asked: object) -> CertifiedPolicy:
    ask = Target(**({"reference": "big", "label_source": LabelSource.TARGET, "alpha": 0.1} | asked))
    return certify(tabulate(trials), ask, encoder=default_encoder())


@pytest.fixture(scope="module")
def drawn() -> CertifiedPolicy:
    """The cheap rung is wrong too often, and nothing tells when: a random part is all there is."""
    return run(blind_trials(500, wrong_every=4), alpha=0.05)


def test_a_random_part_is_certified_where_nothing_tells_right_from_wrong(
    drawn: CertifiedPolicy,
) -> None:
    result = drawn.result
    assert result.certified
    assert 0.1 < result.part < 0.2
    assert (result.part, result.family) == (drawn.policy.part, drawn.policy.family)
    assert any("A random" in limit for limit in result.certificate.limits)
    assert result.share["small"] == pytest.approx(result.part, abs=0.15)


def test_its_bound_is_the_part_of_the_exact_one(drawn: CertifiedPolicy) -> None:
    result = drawn.result
    exact = stats.beta.ppf(0.9, result.losses + 1, result.n - result.losses)
    assert result.bound == pytest.approx(result.part * exact)
    assert result.bound <= 0.05
    assert result.part == pytest.approx(0.05 / exact, rel=0.02)


def test_without_a_random_part_it_is_not_certified() -> None:
    result = run(blind_trials(500, wrong_every=4), alpha=0.05, random_part=False).result
    assert not result.certified
    assert (result.part, result.family) == (1.0, "reference")


def test_a_cheaper_rung_that_is_as_good_is_named() -> None:
    trials = make_trials(rungs=RUNGS)
    truth = {t.request_id: t.quality for t in trials if t.rung == "big"}
    same = [replace(t, quality=truth[t.request_id]) if t.rung == "middle" else t for t in trials]
    assert run(same, alpha=0.05).result.use_as_reference == "middle"
    assert run(trials, alpha=0.05).result.use_as_reference is None


def test_every_fixed_rung_is_measured_on_the_reporting_rows() -> None:
    trials = make_trials(rungs=RUNGS)
    result = run(trials).result
    ids = list(dict.fromkeys(t.request_id for t in trials))
    reported = {ids[row] for row in split_rows(len(ids), seed=0)[2].tolist()}
    big = [t for t in trials if t.rung == "big" and t.request_id in reported]
    for rung in RUNGS:
        own = [t for t in trials if t.rung == rung and t.request_id in reported]
        way = result.fixed_rungs[rung]
        assert way.quality == pytest.approx(np.mean([t.quality for t in own]))
        spent = sum(t.charge_usd for t in own) / sum(t.charge_usd for t in big)
        assert way.saving == pytest.approx(float(1 - spent))
        lost = [max(0.0, b.quality - t.quality) for t, b in zip(own, big, strict=True)]
        assert way.risk == pytest.approx(np.mean(lost))
        assert way.share[rung] == 1.0
    assert result.rungs_between.keys() == {"middle"}
    assert result.baselines.keys() >= {"random", "best_table", "route_only", "oracle"}


@pytest.mark.parametrize("seed", range(3))
def test_dear_attempts_whose_answers_tell_nothing_are_not_thrown_away(seed: int) -> None:
    trials = [replace(t, answer="?", mean_logprob=None) for t in make_trials(600, seed=seed)]
    dear = [replace(t, charge_usd=t.charge_usd * (8 if t.rung == "small" else 1)) for t in trials]
    certified = run(dear, alpha=0.1, seed=seed)
    assert certified.result.saving >= 0
    assert certified.policy.reviewed == ()


@pytest.mark.parametrize("risk", list(RiskKind))
def test_each_kind_of_risk_gets_a_policy(risk: RiskKind) -> None:
    result = run(make_trials(600), alpha=0.15, risk=risk).result
    assert result.certified
    assert result.part == 1.0 or risk is not RiskKind.ERROR_AMONG_ANSWERED


# -- bad input -----------------------------------------------------------------------------------


def test_costs_that_are_all_0_are_unknown_and_the_share_is_what_counts() -> None:
    free = [replace(t, charge_usd=t.charge_usd * 0, usage=Usage()) for t in make_trials(600)]
    result = run(free, alpha=0.1).result
    assert (result.saving, result.saving_unit) == (None, None)
    assert result.certified
    assert result.baselines["random"].share["big"] < 1
    paid = run(make_trials(600), alpha=0.1).result
    assert result.share["big"] == pytest.approx(paid.share["big"], abs=0.1)


def test_costs_in_two_units_are_compared_in_the_one_that_all_have() -> None:
    trials = make_trials(600)
    mixed = [replace(t, charge_usd=None) if i % 4 < 2 else t for i, t in enumerate(trials)]
    result = run(mixed, alpha=0.1).result
    assert result.saving_unit is CostUnit.OUTPUT_TOKENS
    tokens = run([replace(t, charge_usd=None) for t in trials], alpha=0.1).result
    assert result.share == tokens.share


def test_one_cluster_is_too_few_whatever_it_holds() -> None:
    with pytest.raises(InputError, match="cluster"):
        run([replace(t, cluster="one conversation") for t in make_trials(600)])


@pytest.mark.parametrize("risk", list(RiskKind))
def test_clusters_of_very_different_size_count_once_each(risk: RiskKind) -> None:
    trials = make_trials(900)
    sizes = [1] * 200 + [4] * 100 + [100] * 3
    names = [str(at) for at, size in enumerate(sizes) for _ in range(size)]
    names_of = {f"r{at}": name for at, name in enumerate(names)}
    dealt = [replace(t, cluster=names_of[t.request_id]) for t in trials]
    result = run(dealt, alpha=0.2, risk=risk).result
    assert result.clusters <= 0.5 * len(sizes)
    assert result.bound <= 1.0
    if result.certified:
        assert result.bound <= 0.2
