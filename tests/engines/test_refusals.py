from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from suffice.engines.refusals import error_in, retry_after_s


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [(None, None), ("", None), ("soon", None), ("-3", None), ("0", 0.0), (" 30 ", 30.0)],
)
def test_seconds_are_read_and_nonsense_is_not(header: str | None, wait_s: float | None) -> None:
    assert retry_after_s(header) == wait_s


def test_dates_are_read_as_seconds_from_now() -> None:
    later = datetime.now(UTC) + timedelta(seconds=90)
    wait_s = retry_after_s(format_datetime(later, usegmt=True))
    assert wait_s is not None
    assert 80 < wait_s <= 90
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 -0000") == 0.0


def test_usage_beside_an_error_is_kept() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    refusal = error_in({"error": {"message": "filtered", "code": 400}, "usage": usage})
    assert refusal is not None
    assert refusal.used is not None
    assert (refusal.used.input_tokens.tokens, refusal.used.output_tokens.tokens) == (7, 3)
    plain = error_in({"error": {"message": "filtered"}})
    assert plain is not None
    assert plain.used is None


FAULTS = [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": FAULTS}, "body.seed: Extra inputs are not permitted"),
        ({"object": "error", "message": {"detail": FAULTS}}, "body.seed: Extra inputs"),
        ({"detail": [{"msg": "odd"}, "other"]}, "odd; other"),
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "login fail"),
    ],
)
def test_the_words_of_an_error_are_found_in_any_form(body: dict[str, object], words: str) -> None:
    error = error_in(body)
    assert error is not None
    assert words in error.detail.message


@pytest.mark.parametrize(
    ("code", "status"), [(1002, 429), (1004, 401), (1008, 402), (2013, 400), (1000, 500)]
)
def test_the_codes_of_minimax_have_a_status(code: int, status: int) -> None:
    error = error_in({"base_resp": {"status_code": code, "status_msg": "no"}, "choices": None})
    assert error is not None
    assert (error.status, error.detail.code) == (status, str(code))


def test_a_state_of_zero_is_no_error() -> None:
    assert error_in({"base_resp": {"status_code": 0, "status_msg": ""}, "choices": []}) is None
