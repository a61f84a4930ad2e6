"""What a chat completion says, piece by piece, whether it comes whole or in chunks."""

import secrets
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from suffice.engines.calls import written_in
from suffice.engines.custom_tools import INPUT, custom_of
from suffice.engines.reply import REASONING, texts_of
from suffice.engines.stream import InlineReasoning
from suffice.gateway.apis.shape import fitted
from suffice.gateway.sealed import OPAQUE, joined, opaque_of_call
from suffice.types import JSON

_READ = OPAQUE | {"role", "content", "refusal", "tool_calls", "function_call", *REASONING}
_TEXTS = ("text", "output_text", "thinking", "reasoning", None)  # of the parts of a content
# Parts of an answer that stand beside the message (Perplexity).
_BESIDE = ("citations", "search_results", "images", "related_questions")


class BlockKind(StrEnum):
    """What a piece is part of."""

    REASONING = "reasoning"
    TEXT = "text"
    REFUSAL = "refusal"
    CALL = "call"
    SEARCH = "search"


class BlockDelta(Struct, frozen=True, kw_only=True):
    """Some more text, of the tool call number `call` where it is part of one.

    The text of a call is of its arguments, of a `custom` tool's call of its input.
    `opaque` is what the engine must get back with that call. `logprobs` are those of a text's
    tokens. Of a search, which comes whole, `text` is what was looked for, and `sources` the pages.
    """

    kind: BlockKind
    text: str
    call: int = 0
    call_id: str = ""
    name: str = ""
    custom: bool = False
    opaque: JSON = {}
    logprobs: tuple[JSON, ...] = ()
    sources: tuple[str, ...] = ()


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
        named = bool((custom_of(call) or call.get("function") or {}).get("name"))
        if number is None or (named and call_id and self._ids[number] not in ("", call_id)):
            number = len(self._ids)
            self._ids.append(call_id)
        self._ids[number] = self._ids[number] or call_id
        self._last[place] = number
        return number


class AnswerFacts:
    """The facts about a completion, gathered from its chunks; None while they are not known.

    `opaque` holds the fields that the engine must get back with the message, until a writer has
    taken them. `dropped` names parts of the answer that the other APIs have no place for. Writers
    that can show annotations and searches say so by `shows_sources`, and those that know calls of
    custom tools by `shows_custom`: for others these are functions of one text.
    """

    def __init__(self, *, shows_sources: bool = False, shows_custom: bool = False) -> None:
        self._shows_sources, self._shows_custom = shows_sources, shows_custom
        self._inputs: dict[int, str] = {}  # of calls of custom tools, where they do not show
        self.annotations: list[JSON] = []
        self._logprobs: list[JSON] = []
        self._queries: dict[Any, str] = {}
        self.model: str | None = None
        self.created: int | None = None
        self.finish: str | None = None
        self.stopped_by: str | None = None
        self.usage: JSON = {}
        self.opaque: JSON = {}
        self.dropped: set[str] = set()
        self._account: JSON | None = None
        self._index: int | None = None  # of the first choice: some servers count from 1
        self._calls = _Calls()
        self._named: set[int] = set()
        self._call_id = f"call_{secrets.token_hex(12)}"
        self._inline: InlineReasoning | None = InlineReasoning()

    def add(self, chunk: JSON) -> Iterator[BlockDelta]:
        """Take the next chunk, or the one reply, and return the pieces of its first choice."""
        chunk = fitted(chunk)
        self.model = chunk.get("model") or self.model
        self.created = chunk.get("created") or self.created
        self.usage = chunk.get("usage") or self.usage
        self._account = chunk.get("suffice") or self._account
        self.dropped.update(name for name in _BESIDE if chunk.get(name))
        for choice in chunk.get("choices") or ():
            index = choice.get("index") or 0
            self._index = index if self._index is None else self._index
            if index == self._index:
                self.finish = choice.get("finish_reason") or self.finish
                self.stopped_by = _stop_text(choice) or self.stopped_by
                part = choice.get("delta") or choice.get("message") or {}
                self._add_opaque(part)
                if self._shows_sources:
                    self.annotations += _pages(part.get("annotations") or ())
                    yield from self._searches(part.get("server_blocks") or ())
                self._logprobs += _logprobs(choice.get("logprobs"))
                yield from self._with_logprobs(self._texts(part))
                yield from self._call_parts(part, whole=bool(choice.get("message")))
                if self.finish:
                    yield from self._whole_inputs()

    def end(self) -> Iterator[BlockDelta]:
        """Return what was held back until the end: text that might have opened a thought."""
        if self._inline is not None:
            yield from self._with_logprobs(_pieces(*self._inline.flush()))
            self._inline = None

    def count(self, name: str, *, of: str | None = None) -> int | None:
        """Return a count of the usage, or of its details `of`; None where it is unknown."""
        table = self.usage if of is None else self.usage.get(of) or {}
        count = table.get(name)
        return count if isinstance(count, int) else None

    def account(self, *, unknown: list[str]) -> JSON:
        """Return the `suffice` object; `unknown` names counts that stand as 0 in the usage.

        Clients read those counts as whole numbers, and stop at null.
        """
        if self._account is None:
            return {}
        notes: JSON = {"unknown_counts": unknown} if unknown else {}
        notes |= {"dropped": sorted(self.dropped)} if self.dropped else {}
        return {"suffice": self._account | notes}

    def _add_opaque(self, part: JSON) -> None:
        for name, value in part.items():
            if name == "annotations" and self._shows_sources:
                continue
            if name not in _READ and value not in (None, "", []):
                self.dropped.add(name)
            elif name in OPAQUE and value is not None:
                self.opaque = joined(self.opaque, {name: value})

    def _texts(self, part: JSON) -> Iterator[BlockDelta]:
        content = part.get("content")
        if isinstance(content, list):
            self.dropped.update(one["type"] for one in content if one.get("type") not in _TEXTS)
        reasoning, text = texts_of({**part, "refusal": None})
        if self._inline is not None:
            if reasoning:  # the server parts them itself
                text, self._inline = self._inline.flush()[1] + text, None
            else:
                reasoning, text = self._inline.feed(text)
        yield from _pieces(reasoning, text)
        if part.get("refusal"):
            yield BlockDelta(kind=BlockKind.REFUSAL, text=part["refusal"])

    def _with_logprobs(self, pieces: Iterable[BlockDelta]) -> Iterator[BlockDelta]:
        """Give a text its log-probabilities; those of thoughts have no place elsewhere."""
        for piece in pieces:
            if piece.kind is BlockKind.TEXT and self._logprobs:
                yield replace(piece, logprobs=tuple(self._logprobs))
            else:
                yield piece
            self._logprobs = []

    def _searches(self, blocks: Iterable[JSON]) -> Iterator[BlockDelta]:
        """Return the searches of the web whose results have come."""
        for block in blocks:
            if block.get("name") == "web_search":
                query = (block.get("input") or {}).get("query")
                self._queries[block.get("id")] = query if isinstance(query, str) else ""
            elif block.get("type") == "web_search_tool_result":
                call_id, content = block.get("tool_use_id"), block.get("content")
                pages = content if isinstance(content, list) else []
                urls = (page.get("url") for page in pages if isinstance(page, dict))
                yield BlockDelta(
                    kind=BlockKind.SEARCH,
                    text=self._queries.pop(call_id, ""),
                    call_id=str(call_id),
                    sources=tuple(url for url in urls if isinstance(url, str)),
                )

    def _call_parts(self, part: JSON, *, whole: bool) -> Iterator[BlockDelta]:
        calls = part.get("tool_calls") or ()
        if part.get("function_call"):  # the older form, of a single call
            calls = [{"index": 0, "id": self._call_id, "function": part["function_call"]}]
        if calls:
            yield from self.end()
        for position, call in enumerate(calls):
            custom = custom_of(call)
            called = custom or call.get("function") or {}
            number = position if whole else self._calls.number(call, position=position)
            name, text = called.get("name") or "", written_in(call)
            if custom is not None and not self._shows_custom:
                self._inputs[number] = self._inputs.get(number, "") + text
                text = ""
            self._named |= {number} if name else set()
            if number not in self._named:  # nobody can make it
                yield BlockDelta(kind=BlockKind.TEXT, text=f"A call of no tool: {text}")
                continue
            yield BlockDelta(
                kind=BlockKind.CALL,
                text=text,
                call=number,
                call_id=call.get("id") or "",
                name=name,
                custom=custom is not None and self._shows_custom,
                opaque=opaque_of_call(call),
            )

    def _whole_inputs(self) -> Iterator[BlockDelta]:
        """Return the inputs of custom tools as the arguments of functions."""
        for number, text in self._inputs.items():
            arguments = msgspec.json.encode({INPUT: text}).decode()
            yield BlockDelta(kind=BlockKind.CALL, text=arguments, call=number)
        self._inputs = {}


def _logprobs(told: Any) -> list[JSON]:
    content = told.get("content") if isinstance(told, dict) else None
    return [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []


def _pages(annotations: Iterable[JSON]) -> Iterator[JSON]:
    """Read the pages that a chat message cites."""
    for annotation in annotations:
        page = annotation.get("url_citation")
        if isinstance(page, dict) and isinstance(page.get("url"), str):
            spans = {name: page.get(name) or 0 for name in ("start_index", "end_index")}
            title = page.get("title") or page["url"]
            yield {"type": "url_citation", "url": page["url"], "title": title, **spans}


def _pieces(reasoning: str, text: str) -> Iterator[BlockDelta]:
    for kind, piece in ((BlockKind.REASONING, reasoning), (BlockKind.TEXT, text)):
        if piece:
            yield BlockDelta(kind=kind, text=piece)


def _stop_text(choice: JSON) -> Any:
    """Return the stop sequence that ended an answer, where an engine names it (vLLM, SGLang)."""
    reason = choice.get("stop_reason") or choice.get("matched_stop")
    return reason if isinstance(reason, str) else None
