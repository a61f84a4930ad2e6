"""What a chat completion says, piece by piece, whether it comes whole or in chunks."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from msgspec import Struct

from suffice.engines.calls import arguments_of
from suffice.engines.reply import texts_of
from suffice.types import JSON


class BlockKind(StrEnum):
    """What a piece is part of."""

    REASONING = "reasoning"
    TEXT = "text"
    REFUSAL = "refusal"
    CALL = "call"


class BlockDelta(Struct, frozen=True, kw_only=True):
    """Some more text, of the tool call number `call` where it is part of one."""

    kind: BlockKind
    text: str
    call: int = 0
    call_id: str = ""
    name: str = ""


class _Calls:
    """Tells apart the tool calls that come in parts.

    A call has a place, its index. Some servers leave that out or say 0 for all: there a name with
    another id begins a call. An id alone does not, for others make up an id for every part.
    """

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._last: dict[int, int] = {}

    def number(self, call: JSON, *, position: int) -> int:
        """Return the number of the call that a part belongs to, in the order of their begin."""
        index, call_id = call.get("index"), call.get("id") or ""
        place = position if index is None else index
        number = self._last.get(place)
        named = bool((call.get("function") or {}).get("name"))
        if number is None or (named and call_id and self._ids[number] not in ("", call_id)):
            number = len(self._ids)
            self._ids.append(call_id)
        self._ids[number] = self._ids[number] or call_id
        self._last[place] = number
        return number


class AnswerFacts:
    """The facts about a completion, gathered from its chunks; None while they are not known."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.created: int | None = None
        self.finish: str | None = None
        self.stopped_by: str | None = None
        self.usage: JSON = {}
        self.account: JSON | None = None
        self._calls = _Calls()

    def add(self, chunk: JSON) -> Iterator[BlockDelta]:
        """Take the next chunk, or the one reply, and return the pieces of its first choice."""
        self.model = chunk.get("model") or self.model
        self.created = chunk.get("created") or self.created
        self.usage = chunk.get("usage") or self.usage
        self.account = chunk.get("suffice") or self.account
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) == 0:
                self.finish = choice.get("finish_reason") or self.finish
                self.stopped_by = _stop_text(choice) or self.stopped_by
                part = choice.get("delta") or choice.get("message") or {}
                yield from _said(part)
                yield from self._called(part, whole=bool(choice.get("message")))

    def count(self, name: str, *, of: str | None = None) -> int | None:
        """Return a count of the usage, or of its details `of`; None where it is unknown."""
        table = self.usage if of is None else self.usage.get(of) or {}
        count = table.get(name)
        return count if isinstance(count, int) else None

    def _called(self, part: JSON, *, whole: bool) -> Iterator[BlockDelta]:
        for position, call in enumerate(part.get("tool_calls") or ()):
            function = call.get("function") or {}
            yield BlockDelta(
                kind=BlockKind.CALL,
                text=arguments_of(function),
                call=position if whole else self._calls.number(call, position=position),
                call_id=call.get("id") or "",
                name=function.get("name") or "",
            )


def _said(part: JSON) -> Iterator[BlockDelta]:
    refusal = part.get("refusal") or ""
    reasoning, text = texts_of({**part, "refusal": None})
    for kind, said in (
        (BlockKind.REASONING, reasoning),
        (BlockKind.TEXT, text),
        (BlockKind.REFUSAL, refusal),
    ):
        if said:
            yield BlockDelta(kind=kind, text=said)


def _stop_text(choice: JSON) -> Any:
    """Return the stop sequence that ended an answer, where an engine names it (vLLM, SGLang)."""
    found = choice.get("stop_reason") or choice.get("matched_stop")
    return found if isinstance(found, str) else None
