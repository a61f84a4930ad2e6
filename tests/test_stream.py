"""A stream through the gate and a real pipeline: held answers, decodes in the books, bounds."""

from collections import Counter
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from latent_toys import WORDS, stream

from suffice.config import Config
from suffice.engines.base import Engine
from suffice.errors import EngineUnreachable, InputError, LedgerError
from suffice.ledger import Ledger, ReferenceKnown, Status, entries
from suffice.selective.decoder import GateSettings
from suffice.selective.gate import CertifiedGate, fit_gate, save_gate
from suffice.selective.timeline import TimedStep
from suffice.stream import Decoder, StreamSource, run_stream
from suffice.types import NO_TOKENS, Completion, Finish, Request, Rung, Vector
from support import CONFIG, write_jsonl

EVENTS = stream(900, segments=10)


class Oracle(Engine):
    """Knows which answer the words of a turn belong to; fails on request."""

    def __init__(self, *, fails_at: int = -1) -> None:
        self.asked: list[str] = []
        self.fails_at = fails_at

    async def complete(self, request: Request, rung: Rung) -> Completion:
        self.asked.append(request.text)
        if len(self.asked) - 1 == self.fails_at:
            raise EngineUnreachable("the engine is gone")
        said = request.text.rsplit("\n\n", 1)[-1]
        answer = next(name for name, phrases in WORDS.items() if said in phrases)
        return Completion(text=answer, finish=Finish.STOP, usage=NO_TOKENS, duration_s=0.0)

    def stream(self, request: Request, rung: Rung) -> Any:
        raise NotImplementedError

    async def close(self) -> None: ...


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    streams = [stream(seed, segments=8) for seed in range(160)]
    made: CertifiedGate = fit_gate(
        streams, alpha=0.15, delta=0.1, settings=GateSettings(threshold=0.1, refresh_events=5)
    )
    folder = tmp_path_factory.mktemp("made") / "gate"
    save_gate(folder, made)
    return folder


@pytest.fixture
def events(tmp_path: Path) -> Path:
    lines = [
        {"text": turn.text, "context": turn.context, "answer": turn.answer, "at_s": 2.0 * i}
        for i, turn in enumerate(EVENTS)
    ]
    return write_jsonl(tmp_path / "events.jsonl", lines)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Oracle:
    oracle = Oracle()

    async def opened(_stack: AsyncExitStack, _config: Config) -> dict[str, Engine]:
        return {"recorded": oracle}

    monkeypatch.setattr("suffice.stream.opened", opened)
    return oracle


def decoder(folder: Path, **changes: Any) -> Decoder:
    ladder = folder / "suffice.toml"
    ladder.write_text(CONFIG.format(trials="unused"))
    given = {"ladder": ladder, "rung": "big", "ledger": str(folder / "books.db")}
    return Decoder(**(given | changes))


def test_decodes_go_through_the_rung_and_into_the_books(
    gate: Path, events: Path, engine: Oracle, tmp_path: Path
) -> None:
    shown: list[TimedStep] = []
    result = run_stream(
        StreamSource(events=str(events), gate=gate),
        decoder(tmp_path, question="What does the user want?"),
        out=tmp_path / "out.jsonl",
        report=shown.append,
    )
    assert result.events == len(EVENTS)
    assert 1 <= result.decodes == len(engine.asked) < result.events
    assert result.decodes <= result.most_decodes
    assert result.longest_stale_events < result.most_stale_events == 5
    assert result.saving == pytest.approx(1 - result.decodes / result.events)
    assert sum(result.reasons.values()) == result.decodes
    assert engine.asked[0].startswith("What does the user want?\n\nok\n\n")
    with Ledger.open(tmp_path / "books.db", read_only=True) as ledger:
        booked = list(entries(ledger))
    assert {(e.status, e.reference_rung, len(e.attempts)) for e in booked} == {
        (Status.OK, "big", 1)
    }
    assert len({e.request_id for e in booked}) == len(booked) == result.events
    assert Counter(e.rung for e in booked) == {
        "big": result.decodes,
        "held": result.events - result.decodes,
    }
    lines = [msgspec.json.decode(x) for x in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert [x["answer"] for x in lines] == [s.step.answer for s in shown]
    assert [x["at_s"] for x in lines] == [2.0 * i for i in range(len(EVENTS))]
    right = [x["answer"] == turn.answer for x, turn in zip(lines, EVENTS, strict=True)]
    assert sum(right) / len(right) > 0.7


@pytest.mark.parametrize("per_hour", [None, Decimal("0.36")])
def test_a_held_event_is_booked_at_the_gates_time_or_as_unknown(
    gate: Path, events: Path, engine: Oracle, tmp_path: Path, per_hour: Decimal | None
) -> None:
    source = StreamSource(events=str(events), gate=gate)
    run_stream(source, decoder(tmp_path, core_usd_per_hour=per_hour))
    with Ledger.open(tmp_path / "books.db", read_only=True) as ledger:
        booked = list(entries(ledger))
    held = [e for e in booked if e.rung == "held"]
    decoded = [e for e in booked if e.rung == "big"]
    assert held
    for entry in held:
        (attempt,) = entry.attempts
        assert entry.vector is Vector.PARADIGM
        assert attempt.usage == NO_TOKENS
        assert attempt.duration_s is not None
        assert attempt.duration_s > 0
        if per_hour is None:
            assert entry.charge.usd is None
        else:
            assert entry.charge.usd is not None
            assert float(entry.charge.usd) == pytest.approx(attempt.duration_s * 1e-4, abs=1e-9)
        if decoded[0].charge.usd is None:
            assert (entry.reference_usd, entry.reference_known) == (None, ReferenceKnown.UNKNOWN)
        else:
            assert entry.reference_known is ReferenceKnown.ESTIMATED
            assert entry.reference_usd == decoded[0].charge.usd


def test_a_dry_run_takes_the_events_own_answers_and_draws_them(
    gate: Path, events: Path, tmp_path: Path
) -> None:
    source = StreamSource(events=str(events), gate=gate)
    result = run_stream(source, None, figure=tmp_path / "timeline.svg")
    assert 1 <= result.decodes < result.events
    assert "<svg" in (tmp_path / "timeline.svg").read_text()
    with pytest.raises(InputError, match="cannot draw"):
        run_stream(source, None, figure=tmp_path / "timeline.gif")
    bare = write_jsonl(tmp_path / "bare.jsonl", [{"text": "i need a taxi"}])
    with pytest.raises(InputError, match="needs the answer of each event"):
        run_stream(StreamSource(events=str(bare), gate=gate), None)


def test_a_failed_decode_ends_the_stream_and_is_booked(
    gate: Path, events: Path, engine: Oracle, tmp_path: Path
) -> None:
    engine.fails_at = 1
    out = tmp_path / "out.jsonl"
    with pytest.raises(EngineUnreachable):
        run_stream(StreamSource(events=str(events), gate=gate), decoder(tmp_path), out=out)
    with Ledger.open(tmp_path / "books.db", read_only=True) as ledger:
        booked = list(entries(ledger))
    decodes = [e for e in booked if e.rung != "held"]
    assert sorted(e.status for e in decodes) == [Status.FAILED, Status.OK]
    assert len(booked) == len(out.read_bytes().splitlines()) + 1
    answered = [msgspec.json.decode(line) for line in out.read_bytes().splitlines()]
    assert [x["decoded"] for x in answered[:2]] == ["first", None] or len(answered) == 1


def test_what_cannot_be_streamed_is_refused(
    gate: Path, events: Path, engine: Oracle, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="needs its events and the folder of a gate"):
        run_stream(StreamSource(events=str(events)), None)
    with pytest.raises(InputError, match="cannot read"):
        run_stream(StreamSource(events=str(tmp_path / "none"), gate=gate), None)
    with pytest.raises(InputError, match="cannot write"):
        run_stream(StreamSource(events=str(events), gate=gate), None, out=tmp_path / "no" / "out")
    with pytest.raises(InputError, match="no rung 'huge'"):
        run_stream(StreamSource(events=str(events), gate=gate), decoder(tmp_path, rung="huge"))
    with pytest.raises(LedgerError):
        run_stream(
            StreamSource(events=str(events), gate=gate), decoder(tmp_path, ledger=str(tmp_path))
        )
    empty = write_jsonl(tmp_path / "empty.jsonl", [])
    with pytest.raises(InputError, match="the stream has no event"):
        run_stream(StreamSource(events=str(empty), gate=gate), None)
