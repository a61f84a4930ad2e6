from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from suffice.engines.refusals import error_in, retry_after_s


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [(None, None), ("", None), ("soon", None), ("-3", None), ("0", 0.0), (" 30 ", 30.0),
     ("7.66", 7.66), ("1e3", None), ("٣", None)],
)  # fmt: skip
def test_seconds_are_read_and_nonsense_is_not(header: str | None, wait_s: float | None) -> None:
    assert retry_after_s(header) == wait_s


def test_dates_are_read_as_seconds_from_now() -> None:
    later = datetime.now(UTC) + timedelta(seconds=90)
    wait_s = retry_after_s(format_datetime(later, usegmt=True))
    assert wait_s is not None
    assert 80 < wait_s <= 90
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 -0000") == 0.0


@pytest.mark.parametrize(
    ("words", "wait_s"),
    [
        ("Rate limit reached for gpt-x. Please try again in 7.66s. Visit ...", 7.66),
        ("Rate limit reached. Please try again in 1m2.5s.", 62.5),
        ("Rate limit reached. Please try again in 120ms.", 0.12),
        ("Quota exceeded. Please retry in 23.5s.", 23.5),
        ("Too many requests, retry after 30 seconds", 30.0),
        ("Rate limit reached. Please try again later.", None),
        ("The server is overloaded, try again in 9s", None),  # it cannot know
    ],
)
def test_words_may_tell_how_long_a_limit_lasts(words: str, wait_s: float | None) -> None:
    error = error_in({"error": {"message": words}})
    assert error is not None
    assert error.retry_after_s == wait_s


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        "Invalid request: Your request exceeded model token limit: 262144 (requested: 270000)",
        "invalid params, context window exceeds limit (2013)",
        "prompt token count of 130000 exceeds the limit (model_max_prompt_tokens_exceeded)",
        "Please reduce the length of the messages or completion.",
        "Input is too long for requested model.",
        "However, the model's context length is only 202752 tokens, resulting in a maximum ...",
        "prompt too long; exceeded max context length by 4 tokens",
        "The number of tokens to keep from the initial prompt is greater than the context length",
        "Context size has been exceeded.",
        "Input length 265330 exceeds the maximum allowed input length of 262144 tokens.",
        "the request exceeds the available context size. try increasing it",
        "Prompt exceeds max length",
        "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 and 200",
        "The decoder prompt (length 9) is longer than the maximum model length of 8.",
    ],
)
def test_a_prompt_that_is_too_long_is_told_apart_in_the_words_of_any_vendor(words: str) -> None:
    """earendil-works/pi#5930 and its list: agents that do not see it repeat the same request."""
    error = error_in({"error": {"message": words}})
    assert error is not None
    assert (error.status, error.detail.code) == (400, "context_length_exceeded")
    assert not error.retryable


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": "Arrearage", "message": "Access denied."}, 402),
        ({"code": "DataInspectionFailed", "message": "No."}, 400),
        ({"code": "InvalidApiKey", "message": "No."}, 401),
        ({"code": "BadRequest.EmptyInput", "message": "No."}, 400),
        ({"code": "Throttling.BurstRate", "message": "No."}, 429),
        ({"code": "Model.AccessDenied", "message": "No."}, 403),
        ({"type": "bad_request_error", "message": "No. (2013)", "http_code": "400"}, 400),
        ({"type": "odd", "message": "No.", "http_code": "401"}, 401),
        ({"type": "content_policy_violation", "message": "No."}, 400),
        ({"message": "The model is overloaded. Try later."}, 503),
    ],
)
def test_what_no_retry_mends_is_not_retried(error: dict[str, object], status: int) -> None:
    refusal = error_in({"error": error})
    assert refusal is not None
    assert (refusal.status, refusal.retryable) == (status, status in (429, 503))


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
