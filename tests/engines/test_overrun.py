"""A server that ignores its limit is noticed, once."""

import logging

import pytest

from suffice.engines.overrun import OverrunNotice
from suffice.types import Count, CountSource, Rung, Usage

RUNG = Rung(name="small", engine="e", model="m")


def usage(tokens: int, *, reasoning: int = 0, source: CountSource = CountSource.REPORTED) -> Usage:
    return Usage(output_tokens=Count(tokens, source), reasoning_tokens=Count(reasoning, source))


def test_an_answer_beyond_its_limit_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    notice = OverrunNotice("http://here/v1")
    for _ in range(2):
        notice.check(usage(500), RUNG, limit=16, samples=1)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "500 tokens, beyond the limit of 16" in record.getMessage()
    assert "dialect" in record.getMessage()


@pytest.mark.parametrize(
    ("counts", "limit", "samples"),
    [
        (usage(16), 16, 1),
        (usage(20), 16, 1),  # a few marks of a template
        (usage(500), None, 1),
        (usage(500, reasoning=490), 16, 1),  # counted beside the limit by some
        (usage(32), 16, 2),
        (usage(500, source=CountSource.ESTIMATED), 16, 1),
        (Usage(), 16, 1),
    ],
)
def test_all_else_is_not(
    counts: Usage, limit: int | None, samples: int, caplog: pytest.LogCaptureFixture
) -> None:
    OverrunNotice("http://here/v1").check(counts, RUNG, limit=limit, samples=samples)
    assert not caplog.records
