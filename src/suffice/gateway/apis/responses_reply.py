"""POST /v1/responses: a chat completion, whole or in chunks, as a response and its events.

https://platform.openai.com/docs/api-reference/responses-streaming. A count that is not known is
null.
"""

import time
from collections.abc import Iterator

from suffice.gateway.apis.completion import AnswerFacts, BlockDelta, BlockKind
from suffice.types import JSON

_ITEMS = {
    BlockKind.REASONING: "rs",
    BlockKind.TEXT: "msg",
    BlockKind.REFUSAL: "msg",
    BlockKind.CALL: "fc",
}
_EVENTS = {
    BlockKind.REASONING: ("response.reasoning_text", "text"),
    BlockKind.TEXT: ("response.output_text", "text"),
    BlockKind.REFUSAL: ("response.refusal", "refusal"),
    BlockKind.CALL: ("response.function_call_arguments", "arguments"),
}
_INCOMPLETE = {
    "length": "max_output_tokens",
    "model_length": "max_output_tokens",
    "content_filter": "content_filter",
}
_ECHOED: JSON = {
    "instructions": None, "max_output_tokens": None, "metadata": {}, "parallel_tool_calls": True,
    "reasoning": {}, "service_tier": None, "temperature": None, "tool_choice": "auto", "tools": [],
    "text": {"format": {"type": "text"}}, "top_p": None, "user": None,
}  # fmt: skip


class _Item:
    """One item of the output, and the one part that a message or a thought has."""

    def __init__(self, piece: BlockDelta, *, index: int, request_id: str) -> None:
        self.kind, self.call, self.index = piece.kind, piece.call, index
        self.id = f"{_ITEMS[piece.kind]}_{request_id}_{index}"
        self.call_id, self.name = piece.call_id, piece.name
        self.texts: list[str] = []
        self.open = True

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def part(self, text: str) -> JSON:
        if self.kind is BlockKind.TEXT:
            return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        if self.kind is BlockKind.REFUSAL:
            return {"type": "refusal", "refusal": text}
        return {"type": "reasoning_text", "text": text}

    def shown(self) -> JSON:
        status = "in_progress" if self.open else "completed"
        if self.kind is BlockKind.CALL:
            return {
                "type": "function_call",
                "id": self.id,
                "call_id": self.call_id,
                "name": self.name,
                "arguments": self.text,
                "status": status,
            }
        content = [] if self.open else [self.part(self.text)]
        if self.kind is BlockKind.REASONING:
            kind: JSON = {"type": "reasoning", "summary": []}
        else:
            kind = {"type": "message", "role": "assistant"}
        return {**kind, "id": self.id, "content": content, "status": status}


class ResponseWriter:
    """Writes the response to a request, given as its body and its id."""

    def __init__(self, asked: JSON, *, request_id: str) -> None:
        self._asked, self._id = asked, request_id
        self._heard = AnswerFacts()
        self._items: list[_Item] = []
        self._events = 0
        self._created_at = int(time.time())

    def feed(self, chunk: JSON) -> list[JSON]:
        """Take a chunk, or a whole completion, and return the events that it makes."""
        return list(self._numbered(self._fed(chunk)))

    def end(self) -> list[JSON]:
        """Return the last events; the last of all holds the whole response."""
        return list(self._numbered(self._ended()))

    def failed(self, error: JSON) -> list[JSON]:
        """Return the event of a stream that broke off; `error` also for clients that look there."""
        told = {name: error.get(name) for name in ("code", "message", "param", "hint")}
        return list(self._numbered([{"type": "error", **told, "error": error}]))

    def result(self) -> JSON:
        """Return the whole response, once everything is fed and ended."""
        return self._response(*self._outcome())

    def _fed(self, chunk: JSON) -> Iterator[JSON]:
        pieces = list(self._heard.add(chunk))
        if not self._events:
            for kind in ("response.created", "response.in_progress"):
                yield {"type": kind, "response": self._response("in_progress", None)}
        for piece in pieces:
            yield from self._add(piece)

    def _ended(self) -> Iterator[JSON]:
        for item in self._items:
            yield from self._close(item)
        status, why = self._outcome()
        yield {"type": f"response.{status}", "response": self._response(status, why)}

    def _outcome(self) -> tuple[str, JSON | None]:
        reason = _INCOMPLETE.get(self._heard.finish or "")
        return ("completed", None) if reason is None else ("incomplete", {"reason": reason})

    def _numbered(self, events: "Iterator[JSON] | list[JSON]") -> Iterator[JSON]:
        for event in events:
            yield {**event, "sequence_number": self._events}
            self._events += 1

    def _add(self, piece: BlockDelta) -> Iterator[JSON]:
        item = self._item_of(piece)
        if item is None:
            for other in self._items:  # calls may come side by side; all else is one after another
                if other.kind is not BlockKind.CALL:
                    yield from self._close(other)
            item = _Item(piece, index=len(self._items), request_id=self._id)
            self._items.append(item)
            yield from self._begin(item)
        item.texts.append(piece.text)
        if piece.text:
            name = f"{_EVENTS[piece.kind][0]}.delta"
            yield {"type": name, **_place(item), "delta": piece.text} | _logprobs(item)

    def _item_of(self, piece: BlockDelta) -> _Item | None:
        for item in reversed(self._items):
            if item.open and (item.kind, item.call) == (piece.kind, piece.call):
                return item
        return None

    def _begin(self, item: _Item) -> Iterator[JSON]:
        shown = {"output_index": item.index, "item": item.shown()}
        yield {"type": "response.output_item.added", **shown}
        if item.kind is not BlockKind.CALL:
            yield {"type": "response.content_part.added", **_place(item), "part": item.part("")}

    def _close(self, item: _Item) -> Iterator[JSON]:
        if not item.open:
            return
        item.open = False
        name, field = _EVENTS[item.kind]
        yield {"type": f"{name}.done", **_place(item), field: item.text} | _logprobs(item)
        if item.kind is not BlockKind.CALL:
            yield {
                "type": "response.content_part.done",
                **_place(item),
                "part": item.part(item.text),
            }
        yield {
            "type": "response.output_item.done",
            "output_index": item.index,
            "item": item.shown(),
        }

    def _response(self, status: str, why: JSON | None) -> JSON:
        heard, ended = self._heard, status != "in_progress"
        made = {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": heard.created or self._created_at,
            "status": status,
            "error": None,
            "incomplete_details": why,
            "model": heard.model,
            "output": [item.shown() for item in self._items],
            "previous_response_id": None,
            "store": False,
            "truncation": "disabled",
            "usage": _usage(heard) if ended else None,
        }
        for name, usual in _ECHOED.items():
            given = self._asked.get(name)
            made[name] = usual if given is None else given
        return made | ({"suffice": heard.account} if heard.account else {})


def _place(item: _Item) -> JSON:
    place = {"item_id": item.id, "output_index": item.index}
    return place if item.kind is BlockKind.CALL else place | {"content_index": 0}


def _logprobs(item: _Item) -> JSON:
    return {"logprobs": []} if item.kind is BlockKind.TEXT else {}


def _usage(heard: AnswerFacts) -> JSON | None:
    if not heard.usage:
        return None
    read, written = "prompt_tokens_details", "completion_tokens_details"
    return {
        "input_tokens": heard.count("prompt_tokens"),
        "input_tokens_details": {"cached_tokens": heard.count("cached_tokens", of=read)},
        "output_tokens": heard.count("completion_tokens"),
        "output_tokens_details": {"reasoning_tokens": heard.count("reasoning_tokens", of=written)},
        "total_tokens": heard.count("total_tokens"),
    }
