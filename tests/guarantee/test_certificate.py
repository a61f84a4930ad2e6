from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from suffice.errors import CertificateError, InputError
from suffice.guarantee.calibrate import Calibration, Evidence, RiskKind, calibrate
from suffice.guarantee.certificate import (
    Certificate,
    LabelSource,
    Scope,
    Splits,
    Terms,
    check,
    content_hash,
    from_json,
    issue,
    to_json,
)
from suffice.guarantee.clusters import Clusters, Per
from suffice.guarantee.losses import LabelledLosses
from suffice.guarantee.methods import Method

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TERMS = Terms(
    policy_hash="policy-1",
    reference="large",
    label_source=LabelSource.TARGET,
    splits=Splits(fit="a", certify="b", report="c"),
    scope=Scope(groups=("algebra", "law")),
    created=NOW,
    lapses_at=NOW + timedelta(days=30),
)


def calibration(*, rows: int = 200, alpha: float = 0.05) -> Calibration:
    losses = np.zeros((rows, 2))
    losses[:3, 1] = 1.0
    return calibrate(Evidence(losses=losses), alpha=alpha, delta=0.1, method=Method.BINOMIAL)


def certificate(**changes: object) -> Certificate:
    return issue(calibration(), msgspec.structs.replace(TERMS, **changes))


def test_a_certificate_carries_the_calibration_and_its_terms() -> None:
    made, source = certificate(), calibration()
    assert (made.n, made.losses, made.index) == (200, 3.0, 1)
    for name in ("alpha", "delta", "risk_kind", "method", "tests", "bound", "human_n"):
        assert getattr(made, name) == getattr(source, name)
    assert made.terms == TERMS
    check(made, now=NOW, policy_hash="policy-1", group="law")


def test_the_id_is_the_content() -> None:
    assert certificate().certificate_id == certificate().certificate_id
    other = certificate(policy_hash="policy-2")
    assert other.certificate_id != certificate().certificate_id
    assert content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1})


def test_json_round_trip() -> None:
    made = certificate()
    assert from_json(to_json(made)) == made
    assert from_json(to_json(made).decode()) == made


def altered(**changes: object) -> bytes:
    fields = msgspec.json.decode(to_json(certificate()))
    return msgspec.json.encode(fields | changes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (altered(alpha=0.01), "altered"),
        (altered(limits=[]), "altered"),
        (altered(extra=1), "unknown field `extra`"),
        (altered(alpha=1.5), "alpha"),
        (altered(n=0), r"\$.n"),
        (altered(method="guess"), "guess"),
        (to_json(certificate())[:-9], "cannot be read"),
        (b"", "cannot be read"),
        (b'{"certificate_id": "\xff"}', "cannot be read"),
    ],
)
def test_a_changed_or_broken_file_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(CertificateError, match=message) as caught:
        from_json(data)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"now": TERMS.lapses_at}, "lapsed"),
        ({"now": NOW - timedelta(seconds=1)}, "not valid yet"),
        ({"policy_hash": "policy-2"}, "another policy"),
        ({"group": "medicine"}, "does not cover group 'medicine'"),
        ({"revoked": {certificate().certificate_id}}, "revoked"),
    ],
)
def test_a_certificate_that_does_not_hold_is_refused(
    changes: dict[str, object], message: str
) -> None:
    use = {"now": NOW, "policy_hash": "policy-1", "group": "law", "revoked": ()} | changes
    with pytest.raises(CertificateError, match=message) as caught:
        check(certificate(), **use)
    assert caught.value.hint
    assert caught.value.exit_status == 3


def test_without_declared_groups_any_group_is_covered() -> None:
    made = certificate(scope=Scope())
    check(made, now=NOW + timedelta(days=29), policy_hash="policy-1", group="anything")
    check(certificate(), now=NOW, policy_hash="policy-1")


def test_nothing_is_issued_for_a_failed_calibration() -> None:
    with pytest.raises(CertificateError, match=r"alpha 0\.05") as caught:
        issue(calibration(rows=30), TERMS)
    assert "45 rows would do" in caught.value.hint
    assert "no alpha below 0.0739" in caught.value.hint
    losses = np.ones((100, 1))
    failed = calibrate(Evidence(losses=losses), alpha=0.05, delta=0.1, method=Method.BINOMIAL)
    with pytest.raises(CertificateError) as caught:
        issue(failed, TERMS)
    assert "too high" in caught.value.hint
    one = LabelledLosses(rows=np.array([0]), losses=np.zeros((1, 1)))
    unlabelled = Evidence(losses=np.zeros((100, 1)), human=one)
    short = calibrate(unlabelled, alpha=0.05, delta=0.1, method=Method.JUDGED)
    with pytest.raises(CertificateError) as caught:
        issue(short, TERMS)
    assert "more human labels" in caught.value.hint


def test_terms_must_make_sense() -> None:
    with pytest.raises(CertificateError, match="lapse after"):
        certificate(lapses_at=NOW)
    with pytest.raises(CertificateError, match="'judge' do not go with method 'binomial'"):
        certificate(label_source=LabelSource.JUDGE)
    with pytest.raises(InputError, match="time zone"):
        certificate(created=NOW.replace(tzinfo=None))
    with pytest.raises(InputError, match="time zone"):
        check(certificate(), now=NOW.replace(tzinfo=None), policy_hash="policy-1")


def test_the_limits_say_what_is_not_promised() -> None:
    text = " ".join(certificate().limits)
    assert "same population" in text
    assert "reference rung itself" in text
    assert "Void for out-of-scope" in text
    open_scope = certificate(scope=Scope(out_of_scope_share=0.1))
    assert "Void" not in " ".join(open_scope.limits)
    agreement = certificate(label_source=LabelSource.AGREEMENT)
    assert "nothing about being right" in " ".join(agreement.limits)


def test_a_conditional_certificate_speaks_of_answered_requests() -> None:
    evidence = Evidence(losses=np.zeros((200, 1)), answered=np.ones((200, 1), bool))
    found = calibrate(evidence, alpha=0.05, delta=0.1, method=Method.BINOMIAL)
    text = " ".join(issue(found, TERMS).limits)
    assert "average over answered requests" in text
    assert "reference rung itself" not in text


def test_a_judged_certificate_counts_its_human_labels() -> None:
    losses, rows = np.zeros((900, 1)), np.arange(300)
    evidence = Evidence(losses=losses, human=LabelledLosses(rows=rows, losses=losses[rows]))
    found = calibrate(evidence, alpha=0.05, delta=0.1, method=Method.JUDGED)
    made = issue(found, msgspec.structs.replace(TERMS, label_source=LabelSource.JUDGE))
    assert made.human_n == 300
    with pytest.raises(CertificateError, match="'target'"):
        issue(found, TERMS)


def test_unscored_requests_stand_in_the_limits() -> None:
    silent = " ".join(certificate(scope=Scope()).limits)
    assert "could not be scored" not in silent
    said = " ".join(certificate(scope=Scope(unscored=289)).limits)
    assert "289 requests could not be scored" in said


@pytest.mark.parametrize("form", [1, 2])
def test_a_certificate_of_the_previous_form_is_told_apart_from_a_broken_one(form: int) -> None:
    fields = msgspec.json.decode(to_json(certificate()))
    fields["form"] = form
    del fields["terms"]["lineage"]
    if form == 1:
        for name in ("form", "per", "clusters", "largest"):
            del fields[name]
    with pytest.raises(InputError, match=f"form {form}, and this suffice reads form 3") as caught:
        from_json(msgspec.json.encode(fields))
    assert "certify again" in caught.value.hint
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(("per", "average"), [(Per.REQUEST, "all requests"), (Per.SESSION, "mean")])
def test_a_certificate_says_what_its_promise_counts(per: Per, average: str) -> None:
    sizes = np.r_[np.full(200, 3), 9]
    clusters = Clusters(codes=np.repeat(np.arange(201), sizes), largest=3, per=per)
    evidence = Evidence(losses=np.zeros((609, 1)), clusters=clusters, net=True)
    made = issue(calibrate(evidence, alpha=0.05, delta=0.1, method=Method.BETTING), TERMS)
    assert (made.per, made.clusters, made.risk_kind) == (per, 201, RiskKind.NET_LOSS)
    text = " ".join(made.limits)
    assert average in text
    assert "make up for worse ones" in text
    left_out = per is Per.REQUEST
    assert made.n == 609 - 6 * left_out
    assert ("6 later ones did not" in text) == left_out
