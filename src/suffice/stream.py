"""A stream through a gate: events in, answers out, decodes by one rung, all in the ledger."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from suffice.config import load_config
from suffice.deployment import opened
from suffice.errors import InputError, writing
from suffice.files import check_figure
from suffice.ladder import build_ladder, single_rung
from suffice.ledger import Attempt, Entry, Ledger, ReferenceKnown, Role, Status
from suffice.pipeline import Pipeline, answer, build_pipeline
from suffice.selective.change import Turn
from suffice.selective.decoder import GateSettings
from suffice.selective.events import answer_text, answer_video
from suffice.selective.gate import load_gate
from suffice.selective.timeline import TimedStep, draw_timeline
from suffice.selective.video import Frame, ask_about
from suffice.types import NO_TOKENS, Charge, Request, Vector

HELD = "held"  # the rung of an event in the ledger that got the held answer
VIDEO_GATE = GateSettings(threshold=0.4, drift=0.2)

Decode = Callable[[Any], Awaitable[str]]
Report = Callable[[TimedStep], None]


class StreamSource(Struct, frozen=True, kw_only=True):
    """Text events (a file, or `-` for standard input) with the folder of a gate, or a video."""

    events: str | None = None
    gate: Path | None = None
    video: Path | None = None
    frames_per_s: float = 5.0


class Decoder(Struct, frozen=True, kw_only=True):
    """The rung that decodes, the question about each event, and the ledger of all events.

    `core_usd_per_hour` prices the time of the gate; without it the charge of a held event is
    unknown.
    """

    ladder: Path
    rung: str
    ledger: str
    question: str = ""
    core_usd_per_hour: Decimal | None = None


class StreamResult(Struct, frozen=True, kw_only=True):
    """The counts of a stream beside their bounds.

    `most_decodes` and `most_stale_events` are the bounds. `saving` is the share of events that were
    not decoded. `reasons` counts the decodes.
    """

    events: int
    decodes: int
    most_decodes: float
    saving: float
    longest_stale_events: int
    most_stale_events: int
    reasons: dict[str, int]


def run_stream(
    source: StreamSource,
    decoder: Decoder | None,
    *,
    out: Path | None = None,
    figure: Path | None = None,
    report: Report | None = None,
) -> StreamResult:
    """Answer a stream event by event; each step goes to `out` and to `report` at once.

    Without a decoder it is a dry run: a decode of text takes the `answer` of the event, a decode of
    a video takes nothing. Raises InputError for events, gates or videos that cannot be used, and
    the error of the engine when a decode fails; earlier answers stay in `out`.
    """
    return asyncio.run(_run(source, decoder, out=out, figure=figure, report=report))


async def _run(
    source: StreamSource,
    decoder: Decoder | None,
    *,
    out: Path | None,
    figure: Path | None,
    report: Report | None,
) -> StreamResult:
    if figure is not None:
        check_figure(figure)
    async with AsyncExitStack() as stack:
        books = None if decoder is None else await _open_books(decoder, stack)
        decode = None if books is None else books.decode
        files = stack.enter_context(ExitStack())
        write = _writer(out, files)
        steps, settings = _watch(source, decode, files)
        tally = _Tally(settings, keep=figure is not None)
        async for item in steps:
            if books is not None and item.step.reason is None:
                books.hold(item)
            tally.add(item)
            write(item)
            if report is not None:
                report(item)
    if figure is not None:
        draw_timeline(tally.steps, figure, title=source.events or str(source.video))
    return tally.result()


def _watch(
    source: StreamSource, decode: Decode | None, files: ExitStack
) -> tuple[AsyncIterator[TimedStep], GateSettings]:
    if source.video is not None:
        steps = answer_video(
            source.video,
            settings=VIDEO_GATE,
            decode=decode,
            frames_per_s=source.frames_per_s,
        )
        return steps, VIDEO_GATE
    if source.events is None or source.gate is None:
        raise InputError(
            "a text stream needs its events and the folder of a gate",
            hint="suffice stream EVENTS.jsonl --gate FOLDER, or --video FILE",
        )
    model, file = load_gate(source.gate)
    lines = files.enter_context(_events(source.events))
    settings = file.settings
    return answer_text(
        lines, model=model, decode=decode or _own_answer, settings=settings
    ), settings


async def _own_answer(turn: Turn) -> str:
    if turn.answer is None:
        raise InputError(
            "a dry run of text needs the answer of each event that it would decode",
            hint='add "answer" to the events, or decode with --ladder and --rung',
        )
    return turn.answer


async def _open_books(decoder: Decoder, stack: AsyncExitStack) -> "_StreamBooks":
    """Open a rung as the whole ladder, so that each decode is a request in the ledger."""
    config = load_config(decoder.ladder)
    alone = single_rung(config, build_ladder(config).rung(decoder.rung))
    ledger = stack.enter_context(Ledger.open(decoder.ledger))
    pipeline = build_pipeline(alone, engines=await opened(stack, alone), ledger=ledger, bundle=None)
    return _StreamBooks(decoder, pipeline)


class _StreamBooks:
    """Decodes events, and writes a ledger entry for each event, decoded or held."""

    def __init__(self, decoder: Decoder, pipeline: Pipeline) -> None:
        self._decoder, self._pipeline = decoder, pipeline
        self._stream_id = uuid4().hex[:12]
        self._events = 0
        self._decodes: list[Charge] = []

    async def decode(self, event: Turn | Frame) -> str:
        """Answer an event by the rung; the pipeline writes its entry."""
        request = replace(_request(event, self._decoder.question), request_id=self._next_id())
        result = await answer(self._pipeline, request)
        self._decodes.append(result.entry.charge)
        return result.completion.text

    def hold(self, item: TimedStep) -> None:
        """Write the entry of a held answer: no tokens, the gate's time, a mean decode saved."""
        time = datetime.now(UTC)
        per_hour, charge = self._decoder.core_usd_per_hour, Charge(usd=None)
        if per_hour is not None and item.took_s is not None:
            charge = Charge(usd=per_hour * Decimal(str(item.took_s)) / 3600)
        attempt = Attempt(
            rung=HELD,
            role=Role.ANSWER,
            charge=charge,
            usage=NO_TOKENS,
            time=time,
            duration_s=item.took_s,
        )
        reference_usd = self._mean_decode_usd()
        unknown = reference_usd is None
        entry = Entry(
            request_id=self._next_id(),
            time=time,
            status=Status.OK,
            reference_rung=self._decoder.rung,
            attempts=(attempt,),
            rung=HELD,
            vector=Vector.PARADIGM,
            reference_usd=reference_usd,
            reference_known=ReferenceKnown.UNKNOWN if unknown else ReferenceKnown.ESTIMATED,
        )
        self._pipeline.ledger.append(entry)

    def _next_id(self) -> str:
        self._events += 1
        return f"{self._stream_id}-{self._events}"

    def _mean_decode_usd(self) -> Decimal | None:
        """Return the mean cost of the decodes so far; None if one is unknown."""
        amounts = [charge.usd for charge in self._decodes if charge.usd is not None]
        if not amounts or len(amounts) < len(self._decodes):
            return None
        return sum(amounts, Decimal(0)) / len(amounts)


def _request(event: Turn | Frame, question: str) -> Request:
    """Return the request about one event: a picture, or a turn with its context."""
    if isinstance(event, Frame):
        return ask_about(event, question=question or "What is happening in this picture?")
    parts = [part for part in (question, event.context, event.text) if part]
    message = {"role": "user", "content": "\n\n".join(parts)}
    return Request(request_id="", messages=(message,))


class _Tally:
    """The counts of a stream, in O(1) memory unless `keep` keeps every step for a figure."""

    def __init__(self, settings: GateSettings, *, keep: bool) -> None:
        self.steps: list[TimedStep] = []
        self._settings, self._keep = settings, keep
        self._reasons: Counter[str] = Counter()
        self._events = self._stale = self._stalest = 0
        self._score_sum = 0.0
        self._from_s = self._to_s = 0.0

    def add(self, item: TimedStep) -> None:
        """Count one step."""
        if self._keep:
            self.steps.append(item)
        if not self._events:
            self._from_s = item.at_s
        self._to_s = item.at_s
        self._events += 1
        self._score_sum += item.step.score
        if item.step.reason is None:
            self._stale += 1
            self._stalest = max(self._stalest, self._stale)
        else:
            self._stale = 0
            self._reasons[item.step.reason.value] += 1

    def result(self) -> StreamResult:
        """Return the counts and their bounds; raises InputError if there was no event."""
        if not self._events:
            raise InputError("the stream has no event", hint="write one JSON object a line")
        decodes = self._reasons.total()
        most = self._settings.most_decodes(
            score_sum=self._score_sum,
            events=self._events,
            duration_s=self._to_s - self._from_s,
        )
        return StreamResult(
            events=self._events,
            decodes=decodes,
            most_decodes=min(most, float(self._events)),
            saving=1.0 - decodes / self._events,
            longest_stale_events=self._stalest,
            most_stale_events=self._settings.refresh_events,
            reasons=dict(self._reasons),
        )


def _writer(out: Path | None, files: ExitStack) -> Report:
    if out is None:
        return lambda _: None
    with writing(out):
        file = files.enter_context(out.open("wb"))

    def write(item: TimedStep) -> None:
        step = item.step
        line = {
            "index": step.index,
            "at_s": item.at_s,
            "answer": step.answer,
            "decoded": step.reason,
            "score": step.score,
        }
        file.write(msgspec.json.encode(line) + b"\n")
        file.flush()

    return write


@contextmanager
def _events(source: str) -> Iterator[Iterable[bytes]]:
    if source == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InputError(
            f"cannot read {source}: {error.strerror}", hint="give a JSONL file, or - for stdin"
        ) from error
    with file:
        yield file
