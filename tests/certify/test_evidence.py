"""What `certify` counts: clusters, three risks, groups, and answers no scorer could judge."""

import random
from decimal import Decimal

import numpy as np
import pytest
from msgspec.structs import replace

from suffice.certify.bundling import Certification
from suffice.certify.evidence import GRID
from suffice.certify.policy import certify
from suffice.certify.result import CertifyResult
from suffice.certify.target import Target
from suffice.encoders.base import default_encoder
from suffice.errors import InputError
from suffice.guarantee import LabelSource, Method, Per, RiskKind
from suffice.guarantee.bounds import clopper_pearson_upper
from suffice.trials.importers import tabulate
from suffice.types import Trial, TrialStatus
from support import make_trials, settle_trials


def result(trials: list[Trial], **asked: object) -> CertifyResult:
    ask = Target(**({"reference": "big", "label_source": LabelSource.TARGET, "alpha": 0.1} | asked))
    return certify(tabulate(trials), ask, encoder=default_encoder()).result


def copies(requests: int, times: int) -> list[Trial]:
    return [
        replace(trial, request_id=f"{trial.request_id}-{copy}")
        for trial in make_trials(requests)
        for copy in range(times)
    ]


# -- clusters -----------------------------------------------------------------------------------


def test_copies_of_a_prompt_count_as_one_draw() -> None:
    found = result(copies(300, 5), alpha=0.2)
    assert found.method is Method.BETTING
    assert (found.n, found.clusters, found.largest) == (600, 120, 5)
    exact = clopper_pearson_upper(int(found.losses) // 5, 120, delta=0.1)
    assert found.bound > 0.9 * exact, "five copies of a row say no more than the row"
    single = result(make_trials(300), alpha=0.2)
    assert (single.method, single.n, single.clusters) == (Method.BINOMIAL, 120, 120)


@pytest.mark.parametrize("per", list(Per))
def test_result_and_certificate_say_what_the_promise_counts(per: Per) -> None:
    found = result(copies(200, 3), alpha=0.3, per=per)
    assert found.per is found.certificate.per is per
    assert found.certificate.clusters == found.clusters == 80


def test_too_few_clusters_are_refused_with_how_many_it_takes() -> None:
    with pytest.raises(InputError, match=r"30 scored clusters .* 60 certifying") as caught:
        result(copies(30, 50), alpha=0.05)
    assert "149 scored clusters" in caught.value.hint


def test_the_advice_for_clusters_of_very_different_size_is_a_promise_per_session() -> None:
    large = [replace(t, request_id=f"{t.request_id}-{n}") for t in make_trials(8)[2:]
             for n in range(60)]  # fmt: skip
    trials = [*make_trials(300), *large]
    for seed in range(6):
        refused = settle_trials(trials, alpha=0.05, seed=seed)
        if refused.result.largest > 1:
            break
    assert not refused.result.certified
    assert "--per session" in refused.result.advice


def uneven(**asked: object) -> CertifyResult:
    """Certify 400 requests of which one session holds half."""
    trials = [
        replace(trial, cluster="long" if int(trial.request_id[1:]) < 200 else trial.request_id)
        for trial in make_trials(400)
    ]
    return result(trials, **{"alpha": 0.3} | asked)


@pytest.mark.slow
def test_a_session_of_half_the_requests_is_named_or_counted() -> None:
    """By the seed it falls to the certifying split, which then has no other, or beyond the fit."""
    refused, found = [], []
    for seed in range(5):
        try:
            found.append(uneven(seed=seed))
        except InputError as error:
            refused.append((error.message, str(error.hint)))
    assert refused
    for message, hint in refused:
        assert "one cluster holds 200 of the 400 requests" in message
        assert "--per session" in hint
    assert {(one.largest, one.beyond_largest) for one in found} == {(1, 199), (200, 0)}


def test_sessions_of_very_different_size_certify_per_session() -> None:
    found = uneven(per=Per.SESSION)
    assert found.certified
    assert found.clusters in (80, 81)
    assert found.beyond_largest == 0


@pytest.mark.parametrize("risk", [RiskKind.EXCESS_OVER_REFERENCE, RiskKind.NET_LOSS])
def test_risk_and_quality_per_session_are_means_over_sessions(risk: RiskKind) -> None:
    """A long session weighs as much as a single turn, in the baselines too."""
    turns = {session: 20 if session % 6 == 0 else 1 for session in range(360)}
    trials = [
        Trial(
            request_id=f"{session}-{turn}",
            rung=rung,
            status=TrialStatus.SCORED,
            text=f"turn {turn} of session {session}",
            cluster=f"s{session}",
            quality=float(rung == "big" or turn % 5 != 4),
            charge_usd=Decimal("0.01" if rung == "big" else "0.001"),
        )
        for session, count in turns.items()
        for turn in range(count)
        for rung in ("small", "big")
    ]
    ask = Target(
        reference="big",
        label_source=LabelSource.TARGET,
        alpha=0.1,
        per=Per.SESSION,
        risk=risk,
        random_part=False,
    )
    found = certify(tabulate(trials), ask, encoder=default_encoder())
    assert found.result.share["small"] == 1.0
    lost: dict[str, list[float]] = {}
    for name in found.reported.request_ids:
        session, turn = name.split("-")
        lost.setdefault(session, []).append(float(int(turn) % 5 == 4))
    expected = float(np.mean([np.mean(each) for each in lost.values()]))
    assert 0.02 < expected < 0.05
    assert found.result.risk == pytest.approx(expected)
    assert found.result.quality == pytest.approx(1 - expected)
    assert found.result.baselines["always_cheapest"].risk == pytest.approx(expected)
    assert found.result.saving == pytest.approx(0.9)


# -- the three risks ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_rung_certifies_against_another_run_of_itself_by_its_net_loss_alone() -> None:
    """Two runs that disagree on a sixth of the requests, and cost the same but for a hair."""
    draw = random.Random(1)
    trials = [
        replace(t, quality=float(draw.random() < 0.92), mean_logprob=None, answer="said")
        for t in make_trials(1500)
    ]
    net = result(trials, alpha=0.05, risk=RiskKind.NET_LOSS)
    assert net.certified
    assert net.risk_kind is net.certificate.risk_kind is RiskKind.NET_LOSS
    assert net.share["small"] > 0.9
    assert abs(net.risk - (net.reference_quality - net.quality)) < 1e-9
    assert net.baselines["always_cheapest"].risk == pytest.approx(
        net.reference_quality - net.baselines["always_cheapest"].quality
    )
    assert result(trials, alpha=0.05).share["small"] < 0.9


def test_the_error_among_answered_is_about_the_cheap_answers_alone() -> None:
    found = result(make_trials(800), alpha=0.1, risk=RiskKind.ERROR_AMONG_ANSWERED)
    assert found.certified
    assert found.certificate.tests <= GRID
    assert found.n < found.rows["certify"]
    assert found.bound <= 0.1
    assert "answered requests" in " ".join(found.certificate.limits)


def test_partial_credit_and_gains_are_bet_on() -> None:
    trials = [replace(t, quality=0.5 + 0.5 * t.quality) for t in make_trials(800)]
    assert result(trials, risk=RiskKind.NET_LOSS).method is Method.BETTING


# -- unscored -------------------------------------------------------------------------------------


def without_mark(trials: list[Trial], rung: str, every: int) -> list[Trial]:
    """Leave some answers unscored, such as a scorer that raises on malformed ones does."""
    return [
        replace(t, status=TrialStatus.UNSCORED, quality=None)
        if t.rung == rung and i // 2 % every == 0
        else t
        for i, t in enumerate(trials)
    ]


def test_an_answer_that_no_scorer_could_judge_is_worth_nothing() -> None:
    trials = make_trials()
    unmarked = result(without_mark(trials, "small", 8))
    worthless = [
        replace(t, quality=0.0) if t.rung == "small" and i // 2 % 8 == 0 else t
        for i, t in enumerate(trials)
    ]
    same = result(worthless)
    assert (unmarked.unscored, unmarked.worthless) == (0, 50)
    assert (unmarked.n, unmarked.losses, unmarked.bound) == (same.n, same.losses, same.bound)


def test_an_unscored_answer_is_worth_nothing_where_the_answer_itself_was_not_kept() -> None:
    """Logs of scores alone, and books without texts, hold a status and no answer."""
    trials = [
        replace(t, answer=None, mean_logprob=None, finish=None)
        for t in without_mark(make_trials(), "small", 8)
    ]
    failed = [
        replace(t, status=TrialStatus.FAILED) if t.quality is None else t
        for t in without_mark(trials, "small", 8)
    ]
    found = result(trials, alpha=0.3)
    assert (found.unscored, found.worthless) == (0, 50)
    found = result(failed, alpha=0.3)
    assert (found.unscored, found.worthless) == (50, 0), "a call that failed gave no answer"


def test_without_a_mark_of_the_reference_there_is_nothing_to_compare_with() -> None:
    found = result(without_mark(make_trials(), "big", 8))
    assert (found.unscored, found.worthless) == (50, 0)


# -- groups ---------------------------------------------------------------------------------------


def test_a_group_is_promised_its_own_bound_and_no_less_than_alpha(settled: Certification) -> None:
    promised = settled.result.certificate.terms.scope.promised
    assert set(promised) == {"riddles", "sums"}
    assert all(settled.result.alpha <= risk <= 1.0 for risk in promised.values())
    many = [replace(t, group=f"g{i // 2 % 40}") for i, t in enumerate(make_trials(800))]
    scope = result(many).certificate.terms.scope
    assert set(scope.promised) == set(scope.groups)
    assert np.mean(list(scope.promised.values())) > 0.2, "few rows of a group promise little of it"
