from pathlib import Path

import msgspec
import pytest

from suffice.engines.chunk import Chunk
from suffice.engines.replay import ReplayEngine, read_trials
from suffice.errors import Abstained, EngineError, InputError
from suffice.types import (
    Completion,
    Count,
    CountSource,
    Finish,
    Request,
    Rung,
    Trial,
    TrialStatus,
    Usage,
)

USAGE = Usage(output_tokens=Count(7, CountSource.REPORTED))
TRIAL = Trial(
    request_id="r1",
    rung="cheap",
    status=TrialStatus.SCORED,
    text="What is 2 + 2?",
    answer="4",
    reasoning="2+2=4",
    quality=1.0,
    finish=Finish.LENGTH,
    mean_logprob=-0.25,
    samples=("4", "5"),
    usage=USAGE,
    duration_s=1.5,
    ttft_s=0.5,
    effort_seen=True,
)
CHEAP = Rung(name="cheap", engine="e", model="m")


def ask(request_id: str = "r1") -> Request:
    return Request(request_id=request_id, messages=())


async def test_what_was_recorded_comes_back() -> None:
    async with ReplayEngine([TRIAL]) as engine:
        completion = await engine.complete(ask(), CHEAP)
    assert completion.mean_logprob == TRIAL.mean_logprob
    assert completion.text == TRIAL.answer
    for field in ("finish", "reasoning", "samples", "usage", "duration_s", "ttft_s", "effort_seen"):
        assert getattr(completion, field) == getattr(TRIAL, field)


async def test_what_was_not_kept_is_not_made_up() -> None:
    bare = Trial(request_id="r1", rung="cheap", status=TrialStatus.UNSCORED, text="?", answer="")
    engine = ReplayEngine([bare])
    assert await engine.complete(ask(), CHEAP) == Completion(
        text="", finish=Finish.STOP, usage=Usage(), duration_s=0.0
    )
    assert [item async for item in engine.stream(ask(), CHEAP)] == [
        await engine.complete(ask(), CHEAP)
    ]


async def test_streams_give_the_text_at_once() -> None:
    items = [item async for item in ReplayEngine([TRIAL]).stream(ask(), CHEAP)]
    assert items[0] == Chunk(text="4")
    assert len(items) == 2


@pytest.mark.parametrize(("request_id", "rung"), [("r2", "cheap"), ("r1", "dear")])
async def test_what_was_not_recorded_is_an_error(request_id: str, rung: str) -> None:
    with pytest.raises(EngineError, match=f"{request_id}.*{rung}") as caught:
        await ReplayEngine([TRIAL]).complete(
            ask(request_id), msgspec.structs.replace(CHEAP, name=rung)
        )
    assert "cheap" in (caught.value.hint or "")
    assert not caught.value.retryable


async def test_an_empty_record_says_so() -> None:
    with pytest.raises(EngineError) as caught:
        await ReplayEngine([]).complete(ask(), CHEAP)
    assert "none" in (caught.value.hint or "")


async def test_recorded_failures_fail_again() -> None:
    trial = msgspec.structs.replace(TRIAL, status=TrialStatus.FAILED, error="HTTP 503")
    with pytest.raises(EngineError, match="HTTP 503"):
        await ReplayEngine([trial]).complete(ask(), CHEAP)


async def test_an_answer_that_was_not_kept_is_an_error_not_an_empty_answer() -> None:
    trial = msgspec.structs.replace(TRIAL, answer=None)
    with pytest.raises(EngineError, match="kept no answer") as caught:
        await ReplayEngine([trial]).complete(ask(), CHEAP)
    assert caught.value.hint


def test_trials_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_bytes(msgspec.json.encode(TRIAL) + b"\n\n")
    assert read_trials(str(path)) == [TRIAL]


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"request_id": 3}', b'{"rung": "cheap"}'])
def test_lines_that_are_no_trials_are_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_bytes(msgspec.json.encode(TRIAL) + b"\n" + line)
    with pytest.raises(InputError, match=r"trials\.jsonl:2") as caught:
        read_trials(str(path))
    assert caught.value.hint


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jsonl"):
        read_trials(str(tmp_path / "gone.jsonl"))


async def test_a_recorded_abstention_abstains_again() -> None:
    declined = Trial(
        request_id="r1",
        rung="cheap",
        status=TrialStatus.SCORED,
        text="?",
        quality=0.0,
        finish=Finish.ABSTAINED,
        error="not sure enough",
    )
    with pytest.raises(Abstained, match="not sure enough"):
        await ReplayEngine([declined]).complete(ask(), CHEAP)
