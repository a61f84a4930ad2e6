"""A saving is told with the calls that failed, with what it rests on, and where there is none."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from msgspec.structs import replace

from suffice.certify.policy import certify
from suffice.certify.result import CertifyResult
from suffice.certify.target import Target
from suffice.encoders.base import default_encoder
from suffice.errors import InputError
from suffice.guarantee import LabelSource, RiskKind
from suffice.report.trials_gather import verdict
from suffice.trials.tabulate import tabulate
from suffice.types import Trial, TrialStatus
from support import make_trials

EQUAL = make_trials(400, rungs=("small", "big"))


def settled(trials: list[Trial], **asked: object) -> CertifyResult:
    ask = Target(**({"reference": "big", "label_source": LabelSource.TARGET} | asked))
    return certify(tabulate(trials), ask, encoder=default_encoder()).result


def changed(change: Callable[[int, Trial], Trial], trials: list[Trial] = EQUAL) -> list[Trial]:
    return [change(int(t.request_id[1:]), replace(t, quality=1.0)) for t in trials]


def priced(trial: Trial, small: str, big: str) -> Trial:
    return replace(trial, charge_usd=Decimal(small if trial.rung == "small" else big))


def test_calls_that_failed_are_counted_and_their_cost_is_in_a_saving_of_its_own() -> None:
    """Every fifth request is tried on the cheap rung, fails there, and is paid for twice."""

    def fail(i: int, t: Trial) -> Trial:
        if i % 5 or t.rung == "big":
            return priced(t, "0.001", "0.01")
        return Trial(
            request_id=t.request_id,
            rung=t.rung,
            status=TrialStatus.FAILED,
            text=t.text,
            group=t.group,
            charge_usd=Decimal("0.002") if i % 10 else None,  # unknown: that of other calls
        )

    result = settled(changed(fail))
    assert result.certified
    assert (result.failed, result.left_out) == ({"small": 80}, {"failed calls": 80})
    kept_cheap = 1 - result.share["big"]
    assert result.saving == pytest.approx(0.9 * kept_cheap)
    spent = 320 * (0.01 - 0.009 * kept_cheap) + 80 * 0.01
    spent += kept_cheap * (40 * 0.002 + 40 * 0.001)
    assert result.saving_with_failed == pytest.approx(1 - spent / (400 * 0.01))
    said = " ".join(result.about_saving)
    assert "calls that failed where big answered: 80 of small" in said
    assert f"with them the saving is about {100 * result.saving_with_failed:.1f} %" in said


def test_a_saving_that_rests_on_one_request_is_said_and_no_dearer_rung_is_advised() -> None:
    """One dear request makes the cheap rung look cheaper; on the others it costs more."""

    def dear(i: int, t: Trial) -> Trial:
        return priced(t, "0.1", "4.0") if i == rich else priced(t, "0.0102", "0.01")

    for rich in range(9):  # whichever split it falls into
        result = settled(changed(dear))
        assert result.dearest is not None
        assert result.dearest.name == f"r{rich}"
        assert result.dearest.share == pytest.approx(4 / (4 + 399 * 0.01))
        said = " ".join(result.about_saving)
        assert f"r{rich} alone makes 50.1 % of the cost of big" in said
        assert ("costs more than big" in said) == (result.saving < 0)
        if result.saving < 0:
            break
    assert result.saving == pytest.approx(-0.02)
    assert result.use_as_reference is None
    shown = verdict(result)
    assert shown.about_saving == result.about_saving
    assert shown.saving_interval == result.saving_interval


def test_a_rung_that_is_cheaper_on_all_requests_is_named_as_the_reference() -> None:
    result = settled(changed(lambda _i, t: priced(t, "0.009", "0.01")))
    assert (result.use_as_reference, result.about_saving) == ("small", ())


def test_a_reference_that_is_hardly_ever_right_promises_nothing() -> None:
    wrong = [replace(t, quality=0.0) for t in EQUAL]
    for risk in (RiskKind.EXCESS_OVER_REFERENCE, RiskKind.NET_LOSS):
        with pytest.raises(InputError, match=r"'big' is right on 0\.0 % of these requests"):
            settled(wrong, risk=risk)
