"""The verdict of an operator's check as a signal: it keeps and lifts answers, and is paid for."""

import pytest
from msgspec.structs import replace

from suffice.certify.bundling import Certification, settle
from suffice.certify.policy import certify
from suffice.certify.target import Target
from suffice.encoders.base import default_encoder
from suffice.errors import InputError
from suffice.guarantee import LabelSource, RiskKind
from suffice.policy import Router
from suffice.trials.tabulate import tabulate
from suffice.types import Request, Signals, Trial
from support import checked_trials

ASK = Target(reference="big", label_source=LabelSource.TARGET, alpha=0.05)


def settled(trials: list[Trial], **changes: object) -> Certification:
    return settle(trials, replace(ASK, **changes), say=lambda _stage: None)


def test_a_check_certifies_what_nothing_else_can() -> None:
    found = settled(checked_trials())
    result = found.result
    assert result.certified
    assert result.family == "check"
    assert result.part == 1.0
    assert result.n == 270  # a policy that learns nothing is judged by the fitting rows too
    assert result.share["small"] == pytest.approx(0.65, abs=0.2)
    assert result.use_as_reference is None, "small is good only where its check passes"
    errors = result.checks["small"]
    assert errors.bad + errors.good == 300
    assert errors.false_accepts / errors.bad < errors.false_accept_bound < 0.25
    assert errors.false_rejects / errors.good < errors.false_reject_bound < 0.25
    assert result.certificate is not None
    assert result.certificate.terms.checks == result.checks
    assert result.certificate.tests == 2
    assert any("a check that changes" in limit for limit in result.certificate.limits)
    assert result.without_checks is not None
    assert any("checking pays" in sentence for sentence in found.result.about_checks)


def test_an_answer_that_did_not_pass_never_stays() -> None:
    trials = checked_trials()
    policy = certify(tabulate(trials), ASK, encoder=default_encoder()).policy
    router, request = Router(policy=policy, encoder=default_encoder()), ask_of("Hi")
    first = router.decide(request)
    assert (first.rung, first.settled) == ("small", False)
    for verdict in (False, None):
        step = router.review(request, {"small": Signals(answer="x", check=verdict)})
        assert (step.rung, step.keep) == ("big", False)
    kept = router.review(request, {"small": Signals(answer="x", check=True)})
    assert (kept.rung, kept.keep) == ("small", True)


def test_a_missing_verdict_counts_as_not_passed() -> None:
    trials = checked_trials(accepts=0.0)
    hung = [
        replace(trial, check=None) if trial.check and int(trial.request_id[1:]) % 4 == 0 else trial
        for trial in trials
    ]
    assert settled(hung).result.share["small"] < settled(trials).result.share["small"]


def test_a_check_that_lies_earns_no_certificate() -> None:
    assert settled(checked_trials(accepts=1.0, rejects=0.0)).result.part < 0.4


def test_a_check_that_is_dear_and_needless_does_not_pay() -> None:
    trials = checked_trials(wrong=0.0, rejects=0.3, check_usd="0.4")
    found = settled(trials)
    assert found.result.certified
    assert found.result.saving < found.result.without_checks
    assert any("does not pay" in sentence for sentence in found.result.about_checks)


def test_whether_a_check_pays_is_said_only_where_the_interval_tells() -> None:
    result = settled(checked_trials()).result
    assert result.saving is not None
    for without, interval, said in (
        (result.saving + 0.01, (result.saving - 0.1, result.saving + 0.1), "is not known"),
        (result.saving + 0.2, (result.saving - 0.1, result.saving + 0.1), "does not pay"),
        (result.saving - 0.2, (result.saving - 0.1, result.saving + 0.1), "checking pays"),
    ):
        changed = replace(result, without_checks=without, saving_interval=interval)
        assert said in changed.about_checks[-1]


def test_a_rule_that_costs_more_than_the_reference_is_refused() -> None:
    with pytest.raises(InputError, match="costs no less"):
        settled(checked_trials(small_usd="0.8"))


def test_checks_of_repeated_tasks_count_tasks() -> None:
    trials = [
        replace(trial, cluster=f"task {int(trial.request_id[1:]) // 5}")
        for trial in checked_trials(1000, accepts=0.02)
    ]
    result = settled(trials, risk=RiskKind.NET_LOSS, alpha=0.1).result
    assert result.certified
    assert result.clusters < result.n
    assert result.checks["small"].false_accept_bound < 0.5


def ask_of(text: str) -> Request:
    return Request(request_id="r", messages=({"role": "user", "content": text},))
