"""An event stream on its way to somebody else: bytes go on as they are, counts stay here."""

from typing import Any

import msgspec
from msgspec import Struct

from suffice.engines.choices import ChoiceRecord, StreamedChoice
from suffice.engines.counts import read_counts
from suffice.engines.finishes import FAILURES
from suffice.engines.loose_json import SplitCharacters
from suffice.engines.refusals import error_in
from suffice.engines.reply import Reply, odd_head, shown_model
from suffice.engines.stream import LARGEST_EVENT_BYTES
from suffice.engines.usage import (
    merged_usage,
    openai_usage,
    read_usage,
    tells_output,
    usage_in,
    usage_of_choices,
)
from suffice.errors import EngineProtocolError
from suffice.types import JSON, Count, CountSource, Usage, estimated

NATIVE = "native"  # in a chunk: the event of another API, as text, that the chunk was made of
_NOT_OF_ALL = frozenset({"choices", "x_groq", NATIVE})
_OF_DELTA = frozenset({"role", "tool_calls", "content", "reasoning_content", "references"})
OBJECT = "chat.completion.chunk"
_OBJECT = OBJECT.encode()
_NO_CHUNKS = frozenset({b"", b"null", b"[DONE]", b"[done]"})


class _Event(Struct):
    choices: list[StreamedChoice] | None = None
    usage: Any = None
    model: Any = None
    service_tier: Any = None
    error: Any = None
    x_groq: Any = None


_EVENT = msgspec.json.Decoder(_Event)
_NO_CHUNK = (  # what reading a chunk of another shape ends in
    msgspec.DecodeError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    RecursionError,
)


class Fold:
    """Splits a stream into whole events to be passed on, and adds up what they say.

    Usage and [DONE] are held back. Every event is checked to be a chat-completion chunk, and passed
    on as it came, unless clients could not read it: parts of tool calls get their number, id and
    name, cut characters are joined, and messages become deltas. Raises EngineProtocolError, and
    EngineRefused for an error that the server sends inside its stream. Where a call was `forced`,
    its reason to finish may be `stop`.
    """

    def __init__(self, *, forced: bool = True) -> None:
        self.done = False
        self._forced = forced
        self._rest = bytearray()  # the start of an event, its line ends mended
        self._half = b""  # a carriage return that may be half of a line end
        self._split = SplitCharacters()
        self._usage: JSON | None = None
        self._inner_usages: dict[int, JSON] = {}  # by choice
        self._pieces_at_usage = 0
        self._most_output = 0  # of the counts that were told
        self._counts_parts = False
        self._envelope: JSON = {}
        self._model: str | None = None
        self._service_tier: str | None = None
        self._head: JSON | None = None  # of every chunk, where it is odd; None until the first
        self._hidden_path: tuple[bytes, bytes] | None = None
        self._choices: dict[int, ChoiceRecord] = {}

    def feed(self, piece: bytes) -> bytes:
        """Take the next bytes and return the whole events that may be passed on."""
        if self._half or b"\r" in piece:
            piece = self._mended(piece)
        whole = piece
        if self._rest or not piece.endswith(b"\n\n"):
            searched = max(len(self._rest) - 1, 0)
            self._rest += piece
            cut = self._rest.rfind(b"\n\n", searched) + 2
            whole = bytes(self._rest[:cut]) if cut > 1 else b""
            del self._rest[: len(whole)]
            if len(self._rest) > LARGEST_EVENT_BYTES:
                raise EngineProtocolError("an event of the stream does not end", hint="see its log")
        if whole:
            whole = self._checked(whole)
        return whole if self._hidden_path is None else whole.replace(*self._hidden_path)

    def close(self) -> bytes:
        """Take the end of the stream: some servers leave out the last blank line."""
        return self.feed(b"\n\n") if self._rest.strip() else b""

    def reply(self, *, prefill: str = "") -> Reply:
        """Return all that was read as one reply."""
        reply = Reply(prefill=prefill)
        choices = [record.event(index) for index, record in sorted(self._choices.items())]
        event = {"choices": choices, "usage": self._usage, "model": self._model}
        reply.add({**event, "service_tier": self._service_tier})
        return reply

    @property
    def output_is_final(self) -> bool:
        """Whether the usage came with or after the last piece of the answer, and counts it all."""
        told = self._usage is not None and self._pieces() == self._pieces_at_usage
        return told and not self._counts_parts

    @property
    def failed(self) -> bool:
        """Whether the engine ended an answer with an error."""
        return any((record.finish or "").lower() in FAILURES for record in self._choices.values())

    def wire(self, usage: Usage) -> bytes | None:
        """Return the JSON of the event that told the usage, with the counts of `usage`.

        None where the stream told none.
        """
        if self._usage is None:
            return None
        counts = openai_usage(usage, self._usage)
        event = msgspec.json.encode({**self._envelope, "choices": [], "usage": counts})
        return event if self._hidden_path is None else event.replace(*self._hidden_path)

    def used(self) -> Usage:
        """Return what is known to be used so far: reported counts, else an estimate of the text."""
        usage = read_usage(self._usage, reasoning="")
        if self.output_is_final and usage.output_tokens is not None:
            return usage
        total = Count(0, CountSource.ESTIMATED)
        for record in self._choices.values():
            total += estimated("".join([*record.reasoning, *record.texts]))
            calls = record.calls.calls if record.calls is not None else ()
            total += estimated(msgspec.json.encode(calls).decode() if calls else "")
        if usage.output_tokens is not None and usage.output_tokens.tokens > total.tokens:
            total = Count(usage.output_tokens.tokens, CountSource.ESTIMATED)
        return msgspec.structs.replace(usage, output_tokens=total, reasoning_tokens=None)

    def _pieces(self) -> int:
        return sum(record.pieces() for record in self._choices.values())

    def _mended(self, piece: bytes) -> bytes:
        """Write all line ends as line feeds; a last carriage return waits for its other half."""
        piece = self._half + piece
        self._half = b"\r" if piece.endswith(b"\r") else b""
        piece = piece.removesuffix(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _checked(self, whole: bytes) -> bytes:
        """Return what may be passed on of whole events; raises EngineProtocolError for others."""
        ready, same, event = [], True, b""
        one = whole.find(b"\n\n") == len(whole) - 2  # as nearly always
        try:
            for event in (whole[:-2],) if one else whole.split(b"\n\n"):
                if event:
                    clean = self._passed(event)
                    same = same and clean is event
                    ready.append(clean)
        except _NO_CHUNK as error:
            raise EngineProtocolError(
                f"the engine sent what is no part of a chat completion: {event[:200]!r}",
                hint="the stream is damaged: is there a proxy between suffice and the engine?",
                retryable=bool(self._choices),
            ) from error
        if same and not whole.startswith(b"\n") and (one or b"\n\n\n" not in whole):
            return whole
        return b"".join(event + b"\n\n" for event in ready if event)

    def _passed(self, event: bytes) -> bytes:
        """Return what may be passed on of an event: itself, a clean one, or nothing."""
        if event.startswith(b"data: {") and b"\n" not in event:  # what nearly all are
            data = event[6:]
        else:
            event = event.removeprefix(b"\xef\xbb\xbf")
            _check_named(event)
            data = _data(event) or b""
            if data in _NO_CHUNKS:
                self.done = self.done or data.upper() == b"[DONE]"
                return b"" if data else _silence(event)
        try:
            seen = None if self._split.waiting else _EVENT.decode(data)
        except msgspec.DecodeError:
            seen = None
        if seen is None:
            data = self._split.joined(data)
            seen, event = _EVENT.decode(data), b"data: " + data
        usage, mended = seen.usage, None
        if seen.choices is None or seen.error:
            _check_error(data)
        else:
            mended = self._add(seen.choices)
            if self._head is None:
                self._head = _odd_head(data)
        if seen.model != self._model and isinstance(seen.model, str):
            self._set_model(seen.model)
        if seen.service_tier != self._service_tier and isinstance(seen.service_tier, str):
            self._service_tier = seen.service_tier
        bare = seen.choices is None
        changed = mended is not None or usage is not None or self._head
        if not (bare or changed or seen.x_groq):
            return event
        return self._rewritten(event, data, mended or {})

    def _add(self, choices: list[StreamedChoice]) -> dict[int, JSON] | None:
        """Record choices; return what stands in each in place of what came; None for no change."""
        mended: dict[int, JSON] | None = None
        for position, choice in enumerate(choices):
            index = position if choice.index is None else int(choice.index)
            record = self._choices.get(index)
            if record is None:
                record = self._choices[index] = ChoiceRecord(forced=self._forced)
            if choice.error and (error := error_in({"error": choice.error})) is not None:
                raise error  # OpenRouter
            changes = record.add(choice)
            if choice.index is None:
                changes = {**(changes or {}), "index": index}
            if changes is not None:
                mended = {**(mended or {}), position: changes}
            if choice.usage is not None:
                mended = mended or {}
        return mended

    def _rewritten(self, event: bytes, data: bytes, mended: dict[int, JSON]) -> bytes:
        """Return an event without its usage, with what is missing, and with `mended` choices."""
        fields = msgspec.json.decode(data)
        choices, usage = fields.get("choices") or (), self._taken_usage(fields)
        if self._head:
            fields |= self._head
        elif choices and usage is None and not mended:
            return event
        for position, changes in mended.items():
            choice = choices[position]
            inner = {name: changes.pop(name) for name in _OF_DELTA & changes.keys()}
            choice.pop("message", None)  # a stream's choice has a delta in its place
            choice.update(changes)
            if inner:
                delta = {**(choice.get("delta") or {}), **inner}
                choice["delta"] = {n: v for n, v in delta.items() if v or n not in inner}
        if usage is not None:
            self._envelope = {k: v for k, v in fields.items() if k not in _NOT_OF_ALL}
            self._usage = merged_usage(self._usage, usage)
            if tells_output(usage):
                self._compare_output(usage)
                self._pieces_at_usage = self._pieces()
        if not choices and usage is not None and NATIVE not in fields:
            return b""
        return b"data: " + msgspec.json.encode({"choices": [], **fields})

    def _compare_output(self, usage: JSON) -> None:
        """Notice counts that do not grow with the text: each is of one event, none is of all."""
        tokens, pieces = read_counts(usage).get("output_tokens", 0), self._pieces()
        stays = tokens == self._most_output and self._pieces_at_usage < pieces
        if tokens < self._most_output or (stays and tokens < pieces):
            self._counts_parts = True
        elif tokens > self._most_output:
            self._counts_parts = False
        self._most_output = max(tokens, self._most_output)

    def _taken_usage(self, fields: JSON) -> JSON | None:
        """Take the usage out of an event; usages that stand in the choices add up.

        Raises EngineRefused for an error that stands beside the choices.
        """
        if (error := error_in(fields.get("x_groq"))) is not None:
            raise error
        usage = usage_in(fields)
        if fields.pop("usage", None) or usage is None:
            return usage
        for position, choice in enumerate(fields.get("choices") or ()):  # Moonshot
            inner, index = choice.get("usage"), choice.get("index")
            if inner and isinstance(inner, dict):
                self._inner_usages[position if index is None else index] = inner
        return usage_of_choices(list(self._inner_usages.values())) or usage

    def _set_model(self, name: str) -> None:
        self._model, shown = name, shown_model(name)
        if shown != name:
            self._hidden_path = msgspec.json.encode(name), msgspec.json.encode(shown)


def _odd_head(data: bytes) -> JSON:
    fields = msgspec.json.decode(data)
    head = odd_head(fields) if fields.get("choices") else {}  # Azure's first event has none
    return head if _OBJECT in data else {**head, "object": OBJECT}


def _check_error(data: bytes) -> None:
    error = error_in(msgspec.json.decode(data))
    if error is not None:
        raise error


def _check_named(event: bytes) -> None:
    """Raise the error that an event of this name tells, whatever its data, or a field `error`.

    llama.cpp writes such a field in versions until 2026.
    """
    if b"error" not in event:
        return
    fields = dict(line.partition(b":")[::2] for line in event.split(b"\n") if line)
    words = fields.get(b"error")
    if words is None and fields.get(b"event", b"").strip() == b"error":
        words = _data(event)
    if not words:
        return
    try:
        told = msgspec.json.decode(words)
    except (msgspec.DecodeError, RecursionError):
        told = words.decode(errors="replace").strip()
    if error := error_in(told) or error_in({"error": told}):
        raise error


def _silence(event: bytes) -> bytes:
    """Return a comment in place of an event without data, which some clients fail on."""
    return event if _data(event) is None else b":"


def _data(event: bytes) -> bytes | None:
    """Return the data of an event; None for a comment, which servers send to keep a line open."""
    if event.startswith(b"data:") and b"\n" not in event:
        return event[5:].strip()
    lines = (line.partition(b":") for line in event.split(b"\n"))
    parts = [value.removeprefix(b" ") for field, _, value in lines if field == b"data"]
    return b"\n".join(parts).strip() if parts else None
