"""A stream through the gate: events in, answers out, decodes through one rung, all in the books."""

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
from suffice.figures import check_figure
from suffice.ledger import Attempt, Entry, Ledger, ReferenceKnown, Role, Status
from suffice.pipeline import Pipeline, answer, build_pipeline
from suffice.selective.change import Turn
from suffice.selective.decoder import GateSettings
from suffice.selective.gate import load_gate
from suffice.selective.timeline import TimedStep, draw_timeline
from suffice.selective.video import Frame, ask_about
from suffice.selective.watch import watch_text, watch_video
from suffice.types import NO_TOKENS, Charge, Request, Vector

HELD = "held"  # stands in the books for a rung, where an event kept the held answer
VIDEO_GATE = GateSettings(threshold=0.4, drift=0.2)

Decode = Callable[[Any], Awaitable[str]]
Tell = Callable[[TimedStep], None]


class StreamSource(Struct, frozen=True, kw_only=True):
    """Text events (a file, or `-` for standard input) with the folder of their gate, or a video."""

    events: str | None = None
    gate: Path | None = None
    video: Path | None = None
    frames_per_s: float = 5.0


class Decoder(Struct, frozen=True, kw_only=True):
    """Which rung decodes, what it is asked about each event, and where every event is booked.

    `core_usd_per_hour` prices the gate's time; without it a held event's charge is unknown.
    """

    ladder: Path
    rung: str
    ledger: str
    question: str = ""
    core_usd_per_hour: Decimal | None = None


class StreamResult(Struct, frozen=True, kw_only=True):
    """How a stream went, beside what holds for every stream.

    `most_decodes` and `most_stale_events` are the bounds; `saving` is the share of events that were
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
    tell: Tell | None = None,
) -> StreamResult:
    """Answer a stream, one event after the other, each written to `out` and told as it comes.

    Without a decoder it is a dry run: text takes each event's own `answer` where it would decode,
    a video takes nothing. Raises InputError for events, gates or videos that cannot be used, and
    the engine's error when a decode fails; what was answered before stands.
    """
    return asyncio.run(_run(source, decoder, out=out, figure=figure, tell=tell))


async def _run(
    source: StreamSource,
    decoder: Decoder | None,
    *,
    out: Path | None,
    figure: Path | None,
    tell: Tell | None,
) -> StreamResult:
    if figure is not None:
        check_figure(figure)
    async with AsyncExitStack() as stack:
        books = None if decoder is None else await _open_books(decoder, stack)
        decode = None if books is None else books.decode
        files = stack.enter_context(ExitStack())
        write = _writer(out, files)
        shown, settings = _watch(source, decode, files)
        tally = _Tally(settings, keep=figure is not None)
        async for item in shown:
            if books is not None and item.step.reason is None:
                books.hold(item)
            tally.add(item)
            write(item)
            if tell is not None:
                tell(item)
    if figure is not None:
        draw_timeline(tally.kept, figure, title=source.events or str(source.video))
    return tally.result()


def _watch(
    source: StreamSource, decode: Decode | None, files: ExitStack
) -> tuple[AsyncIterator[TimedStep], GateSettings]:
    if source.video is not None:
        shown = watch_video(
            source.video,
            settings=VIDEO_GATE,
            decode=decode,
            frames_per_s=source.frames_per_s,
        )
        return shown, VIDEO_GATE
    if source.events is None or source.gate is None:
        raise InputError(
            "a text stream needs its events and the folder of a gate",
            hint="suffice stream EVENTS.jsonl --gate FOLDER, or --video FILE",
        )
    model, file = load_gate(source.gate)
    lines = files.enter_context(_events(source.events))
    settings = file.settings
    return watch_text(lines, model=model, decode=decode or _own_answer, settings=settings), settings


async def _own_answer(turn: Turn) -> str:
    if turn.answer is None:
        raise InputError(
            "a dry run of text needs the answer of each event that it would decode",
            hint='add "answer" to the events, or decode with --ladder and --rung',
        )
    return turn.answer


async def _open_books(decoder: Decoder, stack: AsyncExitStack) -> "_Books":
    """Open a rung as the whole ladder, so that each decode is answered and booked as a request."""
    config = load_config(decoder.ladder)
    names = {rung.name: rung for rung in config.ladder}
    if decoder.rung not in names:
        raise InputError(f"no rung {decoder.rung!r}", hint=f"rungs: {', '.join(sorted(names))}")
    rung = names[decoder.rung]
    alone = replace(
        config,
        reference=rung.name,
        ladder=(rung,),
        engine={rung.engine: config.engine[rung.engine]},
    )
    ledger = stack.enter_context(Ledger.open(decoder.ledger))
    pipeline = build_pipeline(alone, engines=await opened(stack, alone), ledger=ledger, bundle=None)
    return _Books(decoder, pipeline)


class _Books:
    """Answers events by decoding, and books one entry for each event, decoded or held."""

    def __init__(self, decoder: Decoder, pipeline: Pipeline) -> None:
        self._decoder, self._pipeline = decoder, pipeline
        self._stream_id = uuid4().hex[:12]
        self._events = 0
        self._decodes: list[Charge] = []

    async def decode(self, event: Turn | Frame) -> str:
        """Ask the rung; the pipeline books it."""
        request = replace(_request(event, self._decoder.question), request_id=self._next_id())
        answered = await answer(self._pipeline, request)
        self._decodes.append(answered.entry.charge)
        return answered.completion.text

    def hold(self, item: TimedStep) -> None:
        """Book an event whose answer was held: no tokens, the gate's time, a mean decode saved."""
        now = datetime.now(UTC)
        attempt = Attempt(
            rung=HELD,
            role=Role.ANSWER,
            charge=self._gate_charge(item.took_s),
            usage=NO_TOKENS,
            time=now,
            duration_s=item.took_s,
        )
        reference_usd = self._mean_decode_usd()
        unknown = reference_usd is None
        entry = Entry(
            request_id=self._next_id(),
            time=now,
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

    def _gate_charge(self, took_s: float | None) -> Charge:
        per_hour = self._decoder.core_usd_per_hour
        if per_hour is None or took_s is None:
            return Charge(usd=None)
        return Charge(usd=per_hour * Decimal(str(took_s)) / 3600)

    def _mean_decode_usd(self) -> Decimal | None:
        """Return what a decode of this stream cost on average; None where one is not known."""
        known = [charge.usd for charge in self._decodes if charge.usd is not None]
        if not known or len(known) < len(self._decodes):
            return None
        return sum(known, Decimal(0)) / len(known)


def _request(event: Turn | Frame, question: str) -> Request:
    """Ask about one event: a picture, or a turn with what came before it."""
    if isinstance(event, Frame):
        return ask_about(event, question=question or "What is happening in this picture?")
    parts = [part for part in (question, event.context, event.text) if part]
    message = {"role": "user", "content": "\n\n".join(parts)}
    return Request(request_id="", messages=(message,))


class _Tally:
    """What the summary needs, in O(1) memory unless a figure needs every step."""

    def __init__(self, settings: GateSettings, *, keep: bool) -> None:
        self.kept: list[TimedStep] = []
        self._settings, self._keep = settings, keep
        self._reasons: Counter[str] = Counter()
        self._events = self._stale = self._stalest = 0
        self._score_sum = 0.0
        self._from_s = self._to_s = 0.0

    def add(self, item: TimedStep) -> None:
        """Count one step."""
        if self._keep:
            self.kept.append(item)
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


def _writer(out: Path | None, files: ExitStack) -> Tell:
    if out is None:
        return lambda _shown: None
    with writing(out):
        file = files.enter_context(out.open("wb"))

    def write(shown: TimedStep) -> None:
        step = shown.step
        line = {
            "index": step.index,
            "at_s": shown.at_s,
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
