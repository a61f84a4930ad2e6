"""Readers of text that arrives in pieces: server-sent events, and reasoning inside an answer."""

import re

from suffice.errors import EngineProtocolError

LARGEST_EVENT_BYTES = 16 * 1024 * 1024
_LINE_BYTES = 64  # of memory that a line takes beside its text
_LINE_END = re.compile(rb"\r\n|\n|\r")
# What opens a thought inside an answer, and what closes it. Sources: chat templates, and the
# parsers in vllm/reasoning (2026).
THOUGHT_TAGS = {
    "<think>": "</think>",
    "[THINK]": "[/THINK]",  # Mistral
    "<mm:think>": "</mm:think>",  # MiniMax-M3
    "<seed:think>": "</seed:think>",  # Seed-OSS
    "<|START_THINKING|>": "<|END_THINKING|>",  # Command A
    "<|channel>thought\n": "<channel|>",  # Gemma 4
    # gpt-oss
    "<|channel|>analysis<|message|>": "<|end|><|start|>assistant<|channel|>final<|message|>",
}


class EventReader:
    """Reads server-sent events from pieces of bytes; a piece may end inside a character.

    Follows https://html.spec.whatwg.org/multipage/server-sent-events.html (section 9.2.6). Only the
    data of each event is kept, because the OpenAI API uses no other field. Raises
    EngineProtocolError for an event that does not end; the time is linear in what comes.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._kept_bytes = 0
        self._after_return = False
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[str]:
        """Take the next bytes and return the data of every event that they complete."""
        if not piece:
            return []
        if self._after_return:
            piece = piece.removeprefix(b"\n")
        self._after_return = piece.endswith(b"\r")
        *lines, rest = _LINE_END.split(piece)
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest = bytearray()
        self._rest += rest
        events = [event for line in lines if (event := self._line(line)) is not None]
        if self._kept_bytes + len(self._rest) > LARGEST_EVENT_BYTES:
            raise EngineProtocolError("an event of the stream does not end", hint="see its log")
        return events

    def close(self) -> list[str]:
        """Return the data of the last event; some servers leave out the last blank line."""
        events = [self._line(bytes(self._rest)), self._line(b"")]
        self._rest = bytearray()
        return [event for event in events if event is not None]

    def _line(self, line: bytes) -> str | None:
        if line:
            field, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
            if field == b"data":
                self._data.append(value.removeprefix(b" "))
                self._kept_bytes += len(value) + _LINE_BYTES
            return None
        if not self._data:
            return None
        data, self._data, self._kept_bytes = b"\n".join(self._data), [], 0
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise EngineProtocolError(
                f"the stream holds bytes that are not UTF-8: {data[:80]!r}",
                hint="is there a proxy between suffice and the engine that changes bytes?",
            ) from error


class InlineReasoning:
    """Splits an answer that opens with `<think>`, or its like, into its reasoning and its text.

    Servers without a reasoning parser write both into the content. Pieces may end anywhere, and the
    tags are dropped.
    """

    def __init__(self) -> None:
        self._held = ""
        self._close: str | None = None
        self._answering = False

    def feed(self, piece: str) -> tuple[str, str]:
        """Take the next piece and return the reasoning and the text that are certain by now."""
        if self._answering:
            return "", piece
        self._held += piece
        if self._close is None and not self._opened():
            return "", self.flush()[1] if self._answering else ""
        return self._inside()

    def flush(self) -> tuple[str, str]:
        """Return the rest that was held back, as reasoning if the tag was never closed."""
        held, self._held = self._held, ""
        return (held, "") if self._close and not self._answering else ("", held)

    def _opened(self) -> bool:
        """Whether the text starts with an opening tag; if it cannot any more, it is an answer."""
        start = self._held.lstrip()
        for tag, close in THOUGHT_TAGS.items():
            if start.startswith(tag):
                self._held, self._close = start.removeprefix(tag), close
                return True
        self._answering = not any(tag.startswith(start) for tag in THOUGHT_TAGS)
        return False

    def _inside(self) -> tuple[str, str]:
        close = self._close or ""
        reasoning, closing, text = self._held.partition(close)
        if closing:
            self._held, self._answering = "", True
            return reasoning, text
        keep = next(n for n in range(len(close) - 1, -1, -1) if reasoning.endswith(close[:n]))
        cut = len(reasoning) - keep
        self._held = reasoning[cut:]
        return reasoning[:cut], ""
