"""What a chat completion says, piece by piece, whether it comes whole or in chunks."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from msgspec import Struct

from suffice.engines.reply import texts_of
from suffice.types import JSON


class Kind(StrEnum):
    """What a piece is part of."""

    REASONING = "reasoning"
    TEXT = "text"
    REFUSAL = "refusal"
    CALL = "call"


class Piece(Struct, frozen=True, kw_only=True):
    """Some more text, of the tool call number `call` where it is part of one."""

    kind: Kind
    text: str
    call: int = 0
    call_id: str = ""
    name: str = ""


class Heard:
    """The facts about a completion, gathered from its chunks; None while they are not known."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.created: int | None = None
        self.finish: str | None = None
        self.stopped_by: str | None = None
        self.usage: JSON = {}
        self.account: JSON | None = None

    def add(self, chunk: JSON) -> Iterator[Piece]:
        """Take the next chunk, or the one reply, and return the pieces of its first choice."""
        self.model = chunk.get("model") or self.model
        self.created = chunk.get("created") or self.created
        self.usage = chunk.get("usage") or self.usage
        self.account = chunk.get("suffice") or self.account
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) == 0:
                self.finish = choice.get("finish_reason") or self.finish
                self.stopped_by = _stop_text(choice) or self.stopped_by
                yield from _pieces(choice.get("delta") or choice.get("message") or {})

    def count(self, name: str, *, of: str | None = None) -> int | None:
        """Return a count of the usage, or of its details `of`; None where it is unknown."""
        table = self.usage if of is None else self.usage.get(of) or {}
        count = table.get(name)
        return count if isinstance(count, int) else None


def _pieces(part: JSON) -> Iterator[Piece]:
    refusal = part.get("refusal") or ""
    reasoning, text = texts_of({**part, "refusal": None})
    for kind, said in ((Kind.REASONING, reasoning), (Kind.TEXT, text), (Kind.REFUSAL, refusal)):
        if said:
            yield Piece(kind=kind, text=said)
    for position, call in enumerate(part.get("tool_calls") or ()):
        function, index = call.get("function") or {}, call.get("index")
        yield Piece(
            kind=Kind.CALL,
            text=function.get("arguments") or "",
            call=position if index is None else index,
            call_id=call.get("id") or "",
            name=function.get("name") or "",
        )


def _stop_text(choice: JSON) -> Any:
    """Return the stop sequence that ended an answer, where an engine names it (vLLM, SGLang)."""
    found = choice.get("stop_reason") or choice.get("matched_stop")
    return found if isinstance(found, str) else None
