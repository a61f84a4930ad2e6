"""An event stream on its way to somebody else: bytes go on as they are, counts stay here."""

from typing import Any

import msgspec
from msgspec import Struct

from suffice.engines.reply import Reply, read_usage, texts_of
from suffice.errors import EngineProtocolError
from suffice.types import JSON, Count, CountSource, Usage, estimated

LARGEST_EVENT_BYTES = 16 * 1024 * 1024


class _Delta(Struct):
    content: Any = None
    refusal: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    tool_calls: list[JSON] | None = None


class _Choice(Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None
    logprobs: JSON | None = None


class _Event(Struct):
    choices: list[_Choice] | None = None
    usage: JSON | None = None
    model: str | None = None
    error: Any = None
    object: str | None = None


_EVENT = msgspec.json.Decoder(_Event)
_NO_CHUNK = (  # what reading a chunk of another shape ends in
    msgspec.DecodeError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    RecursionError,
)


class _Written:
    """What one choice came to until now."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[JSON] = []
        self.logprobs: list[JSON] = []
        self.finish: str | None = None

    def add(self, choice: _Choice) -> None:
        delta = choice.delta
        if delta is not None:
            if type(delta.content) is str and delta.reasoning is None:  # what nearly all are
                self.texts.append(delta.content)
            if delta.reasoning_content or delta.reasoning or type(delta.content) is not str:
                self._add_parted(delta)
            if delta.tool_calls:
                self.calls += delta.tool_calls
        if choice.logprobs:
            self.logprobs += choice.logprobs.get("content") or []
        self.finish = choice.finish_reason or self.finish

    def _add_parted(self, delta: _Delta) -> None:
        reasoning, text = texts_of(msgspec.structs.asdict(delta))
        self.reasoning.append(reasoning)
        if type(delta.content) is not str or delta.reasoning is not None:
            self.texts.append(text)

    def event(self, index: int) -> JSON:
        delta = {
            "content": "".join(self.texts),
            "reasoning": "".join(self.reasoning),
            "tool_calls": self.calls,
        }
        return {
            "index": index,
            "delta": delta,
            "logprobs": {"content": self.logprobs} if self.logprobs else None,
            "finish_reason": self.finish,
        }


class Fold:
    """Splits a stream into whole events to be passed on, and adds up what they say.

    The event that carries the usage is held back, as is [DONE]: `held` is the JSON of the last
    one. Every event is checked to be a chat-completion chunk; raises EngineProtocolError, and
    EngineRefused for an error that the server sends inside its stream.
    """

    def __init__(self) -> None:
        self.done = False
        self.held: bytes | None = None
        self._rest = bytearray()  # the start of an event, its line ends mended
        self._half = b""  # a carriage return that may be half of a line end
        self._usage: JSON | None = None
        self._model: str | None = None
        self._written: dict[int, _Written] = {}

    def feed(self, piece: bytes) -> bytes:
        """Take the next bytes and return the whole events that may be passed on."""
        if self._half or b"\r" in piece:
            piece = self._mended(piece)
        searched = max(len(self._rest) - 1, 0)
        self._rest += piece
        cut = self._rest.rfind(b"\n\n", searched) + 2
        whole = bytes(self._rest[:cut]) if cut > 1 else b""
        del self._rest[: len(whole)]
        if len(self._rest) > LARGEST_EVENT_BYTES:
            raise EngineProtocolError("an event of the stream does not end", hint="see its log")
        events = [event for event in whole.split(b"\n\n") if event]
        going = [on for event in events for on in self._checked(event)]
        return whole if going == events else b"".join(event + b"\n\n" for event in going)

    def close(self) -> bytes:
        """Take the end of the stream: some servers leave out the last blank line."""
        return self.feed(b"\n\n") if self._rest.strip() else b""

    def reply(self, *, prefill: str = "") -> Reply:
        """Return all that was read as one reply."""
        reply = Reply(prefill=prefill)
        choices = [written.event(index) for index, written in sorted(self._written.items())]
        reply.add({"choices": choices, "usage": self._usage, "model": self._model})
        return reply

    def used(self) -> Usage:
        """Return what is known to be used so far: reported counts, else an estimate of the text."""
        if self._usage is not None:
            return read_usage(self._usage, reasoning="")
        total = Count(0, CountSource.ESTIMATED)
        for written in self._written.values():
            total += estimated("".join([*written.reasoning, *written.texts]))
            total += estimated(msgspec.json.encode(written.calls).decode() if written.calls else "")
        return Usage(output_tokens=total)

    def _mended(self, piece: bytes) -> bytes:
        """Write all line ends as line feeds; a last carriage return waits for its other half."""
        piece = self._half + piece
        self._half = b"\r" if piece.endswith(b"\r") else b""
        piece = piece.removesuffix(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _checked(self, event: bytes) -> list[bytes]:
        """Return what may be passed on of an event; raises EngineProtocolError for what is none."""
        try:
            return self._passed(event)
        except _NO_CHUNK as error:
            raise EngineProtocolError(
                f"the engine sent what is no part of a chat completion: {event[:200]!r}",
                hint="the stream is damaged: is there a proxy between suffice and the engine?",
                retryable=True,
            ) from error

    def _passed(self, event: bytes) -> list[bytes]:
        """Return what may be passed on of an event: itself, nothing, or one held back before."""
        data = _data(event)
        if data is None:
            return [event]
        if data == b"[DONE]":
            self.done = True
            return []
        seen = self._decoded(data)
        for choice in seen.choices or ():
            written = self._written.get(choice.index)
            if written is None:
                written = self._written[choice.index] = _Written()
            written.add(choice)
        self._model = seen.model or self._model
        if seen.usage is None:
            return [event]
        before, self.held, self._usage = self.held, data, seen.usage
        return [] if before is None else [b"data: " + before]

    def _decoded(self, data: bytes) -> _Event:
        seen = _EVENT.decode(data)
        if not (seen.error or seen.object == "error"):
            return seen
        Reply().add(msgspec.json.decode(data))
        raise AssertionError("an error event always raises")


def _data(event: bytes) -> bytes | None:
    """Return the data of an event; None for a comment, which servers send to keep a line open."""
    if event.startswith(b"data:") and b"\n" not in event:
        return event[5:].strip()
    lines = (line.lstrip(b"\xef\xbb\xbf").partition(b":") for line in event.split(b"\n"))
    parts = [value.removeprefix(b" ") for field, _, value in lines if field == b"data"]
    return b"\n".join(parts).strip() if parts else None
