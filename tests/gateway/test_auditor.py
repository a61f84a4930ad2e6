"""Audits in the background: how answers are marked, and what one that goes wrong leaves behind."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from suffice.config import parse_config
from suffice.engines import Engine
from suffice.errors import ConfigError, InputError
from suffice.gateway.auditor import Auditor, marker
from suffice.gateway.metrics.families import LOST_AUDITS
from suffice.gateway.metrics.registry import Metrics
from suffice.ledger import Label, Ledger, Role, Score, entries
from suffice.pipeline import answer, build_pipeline
from suffice.types import NO_TOKENS, Completion, Finish, Request, Rung
from support import CONFIG

ASKED = Request(request_id="r1", messages=({"role": "user", "content": "one or two?"},))
TEXTS = {"small": "so (B), I think", "big": "The answer is B"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(str(tmp_path / "books.db"), store_text=True) as opened:
        yield opened


def says_two(text: str, target: Any, options: dict[str, str]) -> float:
    assert target is None
    assert options["prompt"] == "one or two?"
    return float("B" in text)


def raises(text: str, target: Any, options: dict[str, str]) -> float:
    raise RuntimeError("a slip of the pen")


@pytest.mark.parametrize(("scorer", "small"), [("exact", 0.0), ("choice", 1.0)])
def test_answers_are_compared_by_the_scorer_that_was_chosen(scorer: str, small: float) -> None:
    made = marker(scorer)(ASKED, TEXTS, "big")
    assert {score.rung: score.quality for score in made} == {"small": small, "big": 1.0}
    assert {score.label for score in made} == {Label.AGREEMENT}


def test_a_program_judges_each_answer_alone() -> None:
    made = marker(f"{__name__}:says_two")(ASKED, TEXTS | {"middle": "A"}, "big")
    qualities = {score.rung: score.quality for score in made}
    assert qualities == {"small": 1.0, "big": 1.0, "middle": 0.0}
    assert {score.label for score in made} == {Label.SCORER}


def test_a_program_that_raises_gives_no_label() -> None:
    assert marker(f"{__name__}:raises")(ASKED, TEXTS, "big") == []


@pytest.mark.parametrize("scorer", ["regex", "rubric", "nowhere:function"])
def test_a_scorer_that_cannot_mark_live_answers_is_refused(scorer: str) -> None:
    with pytest.raises(InputError) as caught:
        marker(scorer)
    assert "audit_scorer" in caught.value.message
    assert caught.value.hint
    assert isinstance(caught.value, ConfigError) or ":" in scorer


class Flawed(Engine):
    """Says `two`, and has a bug that only one request brings out."""

    async def complete(self, request: Request, rung: Rung) -> Completion:
        if request.request_id == "bad" and rung.name == "small":
            raise ZeroDivisionError
        return Completion(text="two", finish=Finish.STOP, usage=NO_TOKENS, duration_s=0.0)


async def test_a_bug_ends_neither_the_other_audits_nor_the_row_of_its_call(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    config = parse_config(CONFIG)
    pipeline = build_pipeline(config, engines={"recorded": Flawed()}, ledger=ledger, bundle=None)
    metrics = Metrics()
    auditor = Auditor(ledger, metrics, at_once=1)
    for request_id in ("bad", "good"):
        request = replace(ASKED, request_id=request_id)
        given = await answer(pipeline, request, audited=True)
        auditor.submit(pipeline, request, given.entry, rungs=tuple(pipeline.ladder))
    await auditor.close(within_s=30)
    bad, good = ([a for a in entry.attempts if a.role is Role.AUDIT] for entry in entries(ledger))
    assert [(a.rung, a.error, a.charge.usd) for a in bad] == [("small", "ZeroDivisionError", None)]
    assert [(a.rung, a.error) for a in good] == [("small", None)]
    assert metrics.values()[LOST_AUDITS.name] == [(("unforeseen",), [1.0])]
    assert "ZeroDivisionError" in caplog.text


async def test_a_bug_in_the_marking_is_logged_and_the_next_audit_goes_on(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = parse_config(CONFIG)
    pipeline = build_pipeline(config, engines={"recorded": Flawed()}, ledger=ledger, bundle=None)
    score, seen = Ledger.score, []

    def breaks_once(self: Ledger, scores: Sequence[Score]) -> None:
        seen.append(scores[0].request_id)
        if len(seen) == 1:
            raise KeyError("slip")
        score(self, scores)

    monkeypatch.setattr(Ledger, "score", breaks_once)
    metrics = Metrics()
    auditor = Auditor(ledger, metrics, at_once=1)
    for request_id in ("r1", "r2"):
        request = replace(ASKED, request_id=request_id)
        given = await answer(pipeline, request, audited=True)
        auditor.submit(pipeline, request, given.entry, rungs=tuple(pipeline.ladder))
    await auditor.close(within_s=30)
    assert seen == ["r1", "r2"]
    assert metrics.values()[LOST_AUDITS.name] == [(("unforeseen",), [1.0])]
    assert "slip" in caplog.text
