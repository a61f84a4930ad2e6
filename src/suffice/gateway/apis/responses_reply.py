"""POST /v1/responses: a chat completion, whole or in chunks, as a response and its events.

https://platform.openai.com/docs/api-reference/responses-streaming. Clients read the counts of the
usage as whole numbers: one that is not known is 0, and named in the `suffice` object.
"""

import time
from collections.abc import Iterable, Iterator

from suffice.engines.finishes import finish_of
from suffice.gateway.apis.completion import AnswerFacts, BlockDelta, BlockKind
from suffice.gateway.apis.fields import Fields
from suffice.gateway.apis.responses_request import is_compaction
from suffice.gateway.apis.responses_tools import (
    CUSTOM_CALL,
    KINDS,
    CalledTool,
    ToolTable,
    item_of_call,
    loaded_tools,
    read_tools,
)
from suffice.gateway.sealed import seal, seal_id, seal_summary
from suffice.types import JSON, Finish

_PREFIXES = {
    BlockKind.REASONING: "rs",
    BlockKind.TEXT: "msg",
    BlockKind.REFUSAL: "msg",
    BlockKind.CALL: "fc",
    BlockKind.SEARCH: "ws",
}
_EVENTS = {
    BlockKind.REASONING: ("response.reasoning_text", "text"),
    BlockKind.TEXT: ("response.output_text", "text"),
    BlockKind.REFUSAL: ("response.refusal", "refusal"),
    BlockKind.CALL: ("response.function_call_arguments", "arguments"),
}
_INPUT = "response.custom_tool_call_input"
_INCOMPLETE: dict[Finish, str] = {
    Finish.LENGTH: "max_output_tokens",
    Finish.CONTENT_FILTER: "content_filter",
}
_ECHOED: JSON = {
    "instructions": None, "max_output_tokens": None, "metadata": {}, "parallel_tool_calls": True,
    "previous_response_id": None, "reasoning": {}, "service_tier": None, "temperature": None,
    "tool_choice": "auto", "tools": [], "text": {"format": {"type": "text"}}, "top_p": None,
    "user": None,
}  # fmt: skip


_NO_SUMMARY = {"code": "server_error", "message": "the model wrote no summary of the conversation"}


class _Item:
    """One item of the output, and the one part that a message or a thought has."""

    def __init__(self, piece: BlockDelta, *, index: int, request_id: str, tool: CalledTool) -> None:
        self.kind, self.call, self.index, self.tool = piece.kind, piece.call, index, tool
        prefix = _PREFIXES[piece.kind]
        if self.is_special:
            prefix = KINDS[tool.kind].prefix if tool.kind in KINDS else "tsc"
        self.id = f"{prefix}_{request_id}_{index}"
        self.call_id = seal_id(piece.call_id, piece.opaque)
        self.texts: list[str] = []
        self.logprobs: list[JSON] = []
        self.annotations: list[JSON] = []
        self.sources = piece.sources
        self.sealed: str | None = None
        self.open = True
        self.free_text = piece.custom  # what comes is the input of a custom tool, not arguments

    @property
    def is_special(self) -> bool:
        """Whether this is the call of a tool that is no function, whose item is written whole."""
        return self.kind is BlockKind.CALL and self.tool.kind != "function"

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def part(self, text: str) -> JSON:
        if self.kind is BlockKind.TEXT:
            beside = (self.annotations, self.logprobs) if text else ([], [])
            annotations, logprobs = map(list, beside)
            named = {"annotations": annotations, "logprobs": logprobs}
            return {"type": "output_text", "text": text, **named}
        if self.kind is BlockKind.REFUSAL:
            return {"type": "refusal", "refusal": text}
        return {"type": "reasoning_text", "text": text}

    def shown(self) -> JSON:
        """Show the item as it is by now."""
        status = "in_progress" if self.open else "completed"
        head = {"id": self.id, "status": status}
        if self.kind is BlockKind.CALL:
            text = "" if self.open and self.is_special else self.text
            if self.free_text:
                called = {"type": CUSTOM_CALL, **self.tool.named, "input": text}
            else:
                called = item_of_call(self.tool, text=text)
            return {**called, **head, "call_id": self.call_id}
        if self.kind is BlockKind.SEARCH:
            sources = [{"type": "url", "url": url} for url in self.sources]
            action = {"type": "search", "query": self.text, "sources": sources}
            return {"type": "web_search_call", **head, "action": action}
        content = [] if self.open or not self.texts else [self.part(self.text)]
        if self.kind is not BlockKind.REASONING:
            return {"type": "message", "role": "assistant", **head, "content": content}
        sealed = {} if self.sealed is None else {"encrypted_content": self.sealed}
        return {"type": "reasoning", "summary": [], **head, "content": content, **sealed}


class ResponseWriter:
    """Writes the response to a request, of which it knows the body and the id.

    `history` are the items that it goes on from.
    """

    def __init__(self, body: JSON, *, request_id: str, history: Iterable[JSON] = ()) -> None:
        self._body, self._request_id = body, request_id
        self._facts = AnswerFacts(shows_sources=True, shows_custom=True)
        items = body.get("input")
        loaded = loaded_tools([*history, *(items if isinstance(items, list) else ())])
        tools = Fields({"tools": body.get("tools")})
        self._tools = (
            read_tools(tools, loaded=loaded) if body.get("tools") or loaded else ToolTable()
        )
        self._items: list[_Item] = []
        self._compacts, self._summary = is_compaction(body), ""
        self._events = 0
        self._created_at = int(time.time())

    def feed(self, chunk: JSON) -> list[JSON]:
        """Take a chunk, or a whole completion, and return the events that it makes."""
        pieces = list(self._facts.add(chunk))
        if self._compacts:
            self._summary += _text_in(pieces)
            return list(self._numbered(self._begin_events()))
        return [
            *self._numbered(self._begin_events()),
            *self._numbered(self._add_all(pieces)),
            *self._numbered(self._annotate()),
        ]

    def end(self) -> list[JSON]:
        """Return the last events; the last of all holds the whole response."""
        return list(self._numbered(self._end_events()))

    def failed(self, error: JSON) -> list[JSON]:
        """Return the events of a stream that broke off: agents know `response.failed` alone.

        A code is always there, for clients that fail at null.
        """
        told = {**error, "code": error.get("code") or "server_error"}
        why = {name: told[name] for name in ("code", "message")}
        response = self._response("failed", None) | {"error": why}
        fields = {name: told.get(name) for name in ("code", "message", "param", "hint")}
        events: list[JSON] = [
            {"type": "response.failed", "response": response},
            {"type": "error", **fields, "error": told},
        ]
        return list(self._numbered(events))

    def result(self) -> JSON:
        """Return the whole response, once everything is fed and ended."""
        return self._response(*self._outcome())

    def _begin_events(self) -> Iterator[JSON]:
        if not self._events:
            for kind in ("response.created", "response.in_progress"):
                yield {"type": kind, "response": self._response("in_progress", None)}

    def _end_events(self) -> Iterator[JSON]:
        if self._compacts:
            self._summary += _text_in(self._facts.end())
            for one in self._compaction():
                for step in ("added", "done"):
                    yield {"type": f"response.output_item.{step}", "output_index": 0, "item": one}
            status, why = self._outcome()
            yield {"type": f"response.{status}", "response": self._response(status, why)}
            return
        yield from self._add_all(list(self._facts.end()))
        yield from self._annotate()
        for item in self._items:
            yield from self._close(item)
        if self._facts.opaque:  # it came when no thought was open
            thought = self._new_item(BlockDelta(kind=BlockKind.REASONING, text=""))
            yield {"type": "response.output_item.added", **_shown(thought)}
            yield from self._close(thought)
        status, why = self._outcome()
        yield {"type": f"response.{status}", "response": self._response(status, why)}

    def _compaction(self) -> list[JSON]:
        """Return the one item of a compaction: the summary, sealed."""
        if not self._summary.strip():
            return []
        sealed = seal_summary(self._summary)
        item = {"type": "compaction", "id": f"cmp_{self._request_id}", "encrypted_content": sealed}
        return [item]

    def _outcome(self) -> tuple[str, JSON | None]:
        if self._compacts and not self._compaction():
            return "failed", None
        reason = _INCOMPLETE.get(finish_of(self._facts.finish or "stop"))
        return ("completed", None) if reason is None else ("incomplete", {"reason": reason})

    def _numbered(self, events: Iterable[JSON]) -> Iterator[JSON]:
        for event in events:
            yield {**event, "sequence_number": self._events}
            self._events += 1

    def _add_all(self, pieces: Iterable[BlockDelta]) -> Iterator[JSON]:
        for piece in pieces:
            yield from self._add(piece)

    def _add(self, piece: BlockDelta) -> Iterator[JSON]:
        item = self._item_of(piece)
        if item is None:
            for other in self._items:  # calls may come side by side; all else is one after another
                if other.kind is not BlockKind.CALL:
                    yield from self._close(other)
            item = self._new_item(piece)
            yield from self._begin(item)
        item.texts.append(piece.text)
        item.logprobs += map(_logprob, piece.logprobs)
        if piece.kind is BlockKind.SEARCH:
            yield from self._close(item)
        elif piece.text and item.free_text:
            yield {"type": f"{_INPUT}.delta", **_place(item), "delta": piece.text}
        elif piece.text and not item.is_special:
            name = f"{_EVENTS[piece.kind][0]}.delta"
            told = [*map(_logprob, piece.logprobs)]
            yield {"type": name, **_place(item), "delta": piece.text} | _logprobs(item, told)

    def _annotate(self) -> Iterator[JSON]:
        """Give citations to the text that they stand in; they wait until there is one."""
        texts = [item for item in self._items if item.kind is BlockKind.TEXT]
        if not texts or not texts[-1].open:
            return
        item, before = texts[-1], sum(len(one.text) for one in texts[:-1])
        for annotation in self._facts.annotations:
            spans = ("start_index", "end_index")
            shifted = annotation | {name: max(annotation[name] - before, 0) for name in spans}
            number = len(item.annotations)
            item.annotations.append(shifted)
            place = {**_place(item), "annotation_index": number}
            yield {
                "type": "response.output_text.annotation.added",
                **place,
                "annotation": shifted,
            }
        self._facts.annotations = []

    def _item_of(self, piece: BlockDelta) -> _Item | None:
        for item in reversed(self._items):
            if item.open and (item.kind, item.call) == (piece.kind, piece.call):
                return item
        return None

    def _new_item(self, piece: BlockDelta) -> _Item:
        index, tool = len(self._items), self._tools.tool(piece.name)
        if piece.custom and tool.kind != "custom":  # of a rung's own tools
            tool = CalledTool(kind="custom", name=piece.name)
        item = _Item(piece, index=index, request_id=self._request_id, tool=tool)
        self._items.append(item)
        return item

    def _begin(self, item: _Item) -> Iterator[JSON]:
        yield {"type": "response.output_item.added", **_shown(item)}
        if item.kind is BlockKind.SEARCH:
            for state in ("in_progress", "searching"):
                yield {"type": f"response.web_search_call.{state}", **_place(item)}
        elif item.kind is not BlockKind.CALL:
            yield {"type": "response.content_part.added", **_place(item), "part": item.part("")}

    def _close(self, item: _Item) -> Iterator[JSON]:
        if not item.open:
            return
        item.open = False
        if item.kind is BlockKind.REASONING and self._facts.opaque:
            item.sealed, self._facts.opaque = seal(self._facts.opaque), {}
        if item.kind is BlockKind.SEARCH:
            yield {"type": "response.web_search_call.completed", **_place(item)}
        elif item.is_special:
            yield from _special_events(item)
        elif item.texts:
            name, field = _EVENTS[item.kind]
            told = _logprobs(item, item.logprobs)
            yield {"type": f"{name}.done", **_place(item), field: item.text} | told
            if item.kind is not BlockKind.CALL:
                part = item.part(item.text)
                yield {"type": "response.content_part.done", **_place(item), "part": part}
        yield {"type": "response.output_item.done", **_shown(item)}

    def _response(self, status: str, why: JSON | None) -> JSON:
        facts, ended = self._facts, status != "in_progress"
        usage, unknown = _usage(facts) if ended else (None, [])
        response = {
            "id": f"resp_{self._request_id}",
            "object": "response",
            "created_at": facts.created or self._created_at,
            "status": status,
            "error": _NO_SUMMARY if self._compacts and status == "failed" else None,
            "incomplete_details": why,
            "model": facts.model or self._body.get("model"),
            "output": [item.shown() for item in self._items]
            + (self._compaction() if ended else []),
            "store": bool(self._body.get("store")),
            "truncation": "disabled",
            "usage": usage,
        }
        for name, default in _ECHOED.items():
            value = self._body.get(name)
            response[name] = default if value is None else value
        return response | facts.account(unknown=unknown)


def _text_in(pieces: Iterable[BlockDelta]) -> str:
    return "".join(piece.text for piece in pieces if piece.kind is BlockKind.TEXT)


def _special_events(item: _Item) -> Iterator[JSON]:
    """Write the input of a tool that takes free text; other calls have no events of their own."""
    if item.tool.kind == "custom":
        text = item.shown()["input"]
        if not item.free_text:
            yield {"type": f"{_INPUT}.delta", **_place(item), "delta": text}
        yield {"type": f"{_INPUT}.done", **_place(item), "input": text}


def _shown(item: _Item) -> JSON:
    return {"output_index": item.index, "item": item.shown()}


def _place(item: _Item) -> JSON:
    place = {"item_id": item.id, "output_index": item.index}
    alone = item.kind in (BlockKind.CALL, BlockKind.SEARCH)
    return place if alone else place | {"content_index": 0}


def _logprobs(item: _Item, told: list[JSON]) -> JSON:
    return {"logprobs": told} if item.kind is BlockKind.TEXT else {}


def _logprob(told: JSON) -> JSON:
    """Write the log-probability of a token, and of those that might have stood there."""
    others = [_token(other) for other in told.get("top_logprobs") or ()]
    return {**_token(told), "top_logprobs": others}


def _token(told: JSON) -> JSON:
    text = str(told.get("token", ""))
    shown = told.get("bytes")
    return {
        "token": text,
        "bytes": list(text.encode("utf-8", "replace")) if shown is None else shown,
        "logprob": told.get("logprob"),
    }


def _usage(facts: AnswerFacts) -> tuple[JSON | None, list[str]]:
    """Write the usage, and name the counts that are not known; None where none is."""
    if not facts.usage:
        return None, []
    counts = {
        "input_tokens": facts.count("prompt_tokens"),
        "output_tokens": facts.count("completion_tokens"),
        "total_tokens": facts.count("total_tokens"),
        "cached_tokens": facts.count("cached_tokens", of="prompt_tokens_details"),
        "reasoning_tokens": facts.count("reasoning_tokens", of="completion_tokens_details"),
    }
    known = {name: count or 0 for name, count in counts.items()}
    usage = {
        "input_tokens": known["input_tokens"],
        "input_tokens_details": {"cached_tokens": known["cached_tokens"]},
        "output_tokens": known["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": known["reasoning_tokens"]},
        "total_tokens": known["total_tokens"],
    }
    return usage, [name for name, count in counts.items() if count is None]
