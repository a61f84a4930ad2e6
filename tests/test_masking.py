"""Secrets are known by their shape wherever they stand, in time, and nothing else is touched."""

import logging
import time
from string import ascii_letters, digits

import pytest

from suffice.errors import EngineRefused, ErrorDetail, describe
from suffice.gateway.json_logs import JsonLines, MaskedLines
from suffice.masking import masked

LONG = (ascii_letters + digits)[:40]
SECRETS = [
    f"sk-proj-{LONG}",
    f"sk-ant-api03-{LONG}",
    f"sk-suffice-{LONG}",
    "AKIA" + "ABCDEFGHIJ234567",
    f"hf_{LONG[:34]}",
    "ghp_" + LONG[:36],
    f"xai-{LONG}a",
    "eyJ" + f"{LONG}.eyJ{LONG}.{LONG}",
    f"postgresql://alice:{LONG[:12]}@",
    "-----BEGIN " + f"PRIVATE KEY-----\n{LONG}{LONG}==",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("text", ["{}", 'Incorrect key: "{}".', "a={}&b=1", "x\n{}\ny"])
def test_a_secret_is_masked_wherever_it_stands(text: str, secret: str) -> None:
    assert secret[12:] not in masked(text.format(secret))
    assert "***" in masked(text.format(secret))


@pytest.mark.parametrize(
    "text",
    ["Bearer a1b2c3d4e5f6g7", "api_key=0123456789abcdef", 'API key provided: "q9w8e7r6t5y4u3"'],
)
def test_a_secret_of_any_shape_is_masked_after_the_word_that_names_it(text: str) -> None:
    assert masked(text).endswith(("***", '***"'))


@pytest.mark.parametrize(
    "text",
    [
        "the rung 'big' has no price, and the secret of a good answer is brevity",
        "https://engine:8000/v1 answered HTTP 429 Too Many Requests",
        "sk-learn is a library; ask-me-anything-about-it-for-as-long-as-you-like-to",
        "postgresql://alice@db/books",
    ],
)
def test_other_words_are_left_alone(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    "piece", ["sk-", "eyJ-", "postgres://a:", "api key=", "-----BEGIN A ", "a"]
)
def test_no_text_takes_long(piece: str) -> None:
    text = (piece * 20_000)[:64_000]
    began_s = time.perf_counter()
    masked(text)
    assert time.perf_counter() - began_s < 1


@pytest.mark.parametrize("formatter", [JsonLines(), MaskedLines()])
def test_logs_hold_no_secret(formatter: logging.Formatter) -> None:
    record = logging.makeLogRecord({"msg": "refused: %s", "args": (SECRETS[0],), "name": "suffice"})
    assert SECRETS[0] not in formatter.format(record)


@pytest.mark.parametrize("status", [401, 402, 403, 407, 408, 429])
def test_the_books_keep_what_an_engine_says_of_an_account(status: int) -> None:
    error = EngineRefused("http://e answered HTTP: used up until 08:00", status=status)
    assert "08:00" in describe(error, text=False)


def test_an_error_about_the_request_keeps_neither_words_nor_names() -> None:
    error = EngineRefused("http://e answered HTTP 400: no", status=400)
    error.detail = ErrorDetail(code="Zebra", kind="Zebra")
    assert describe(error, text=False) == "http://e answered HTTP 400"
