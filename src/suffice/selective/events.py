"""Read the events of a text stream or a video, and answer them with few decodes."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from suffice.errors import InputError
from suffice.selective.change import ChangeModel, TextChange, Turn
from suffice.selective.decoder import GateSettings, SelectiveDecoder
from suffice.selective.timeline import TimedStep

E = TypeVar("E")
Line = TypeVar("Line", bound=Struct)
Timed = tuple[float | None, E]


class StreamLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of a text stream: the right answer if it is known, and the time in seconds.

    All lines have a time, or none.
    """

    text: str
    context: str = ""
    answer: str | None = None
    at_s: float | None = None


async def answer_events(
    events: Iterable[Timed[E]], decoder: SelectiveDecoder[E]
) -> AsyncIterator[TimedStep]:
    """Answer events in their order; the time of an event without one is its number."""
    for count, (at_s, event) in enumerate(events):
        start_s = time.perf_counter()
        step = await decoder.push(event, at_s=at_s)
        took_s = time.perf_counter() - start_s
        yield TimedStep(at_s=float(count) if at_s is None else at_s, step=step, took_s=took_s)


def answer_text(
    lines: Iterable[str | bytes],
    *,
    model: ChangeModel,
    decode: Callable[[Turn], Awaitable[str]],
    settings: GateSettings,
) -> AsyncIterator[TimedStep]:
    """Answer a stream of JSON lines (see `StreamLine`); raises InputError naming a bad line."""
    decoder = SelectiveDecoder(TextChange(model), decode, settings=settings)
    return answer_events(_turns(lines), decoder)


def answer_video(
    path: Path,
    *,
    settings: GateSettings,
    decode: Callable[..., Awaitable[str]] | None = None,
    frames_per_s: float = 5.0,
) -> AsyncIterator[TimedStep]:
    """Answer the frames of a video; without `decode`, only mark the frames that need a decode.

    Needs the extra `video` and the encoder file of `python -m tools.encoders efficientnet`.
    """
    from suffice.encoders.onnx import EfficientNet
    from suffice.selective.video import frame_change, read_frames

    async def no_decode(_: object) -> str:
        return "(not decoded: no engine was named)"

    decoder = SelectiveDecoder(frame_change(EfficientNet()), decode or no_decode, settings=settings)
    frames = read_frames(path, frames_per_s=frames_per_s)
    return answer_events(((frame.at_s, frame) for frame in frames), decoder)


def read_lines(
    lines: Iterable[str | bytes], kind: type[Line], *, problem: str, example: str
) -> Iterator[Line]:
    """Read JSON lines, blank ones aside; raises InputError naming a bad line and its problem."""
    for number, raw in enumerate(lines, start=1):
        if not raw.strip():
            continue
        try:
            line = msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"line {number} {problem}: {error}", hint=f"write {example}"
            ) from error
        yield line


def _turns(lines: Iterable[str | bytes]) -> Iterator[Timed[Turn]]:
    example = '{"text": "...", "context": "...", "at_s": 1.5}'
    problem = "of the stream is not an event"
    for line in read_lines(lines, StreamLine, problem=problem, example=example):
        yield line.at_s, Turn(text=line.text, context=line.context, answer=line.answer)
