"""OpenAI's Responses API: its answers, whole or as events, as chat completions.

https://platform.openai.com/docs/api-reference/responses-streaming. What the next request has to
hold again travels as `response_items` of chat messages, each with its origin: reasoning, searches,
and the phase of each message.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from suffice.engines.message_replies import cited
from suffice.engines.refusals import error_in
from suffice.engines.response_requests import ITEMS, PARAGRAPH
from suffice.errors import EngineProtocolError
from suffice.types import JSON

_CALL = "function_call"
_FEES = {  # where a usage counts what the vendor did itself
    "web_search_call": ("server_tool_use", "web_search_requests"),
    "code_interpreter_call": ("server_tool_use", "code_execution_requests"),
    "file_search_call": ("server_side_tool_usage_details", "file_search_calls"),
}
_BEGINS = frozenset({"response.created", "response.in_progress", "response.queued"})
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_DONE = "response.output_item.done"
_SEALED = "encrypted_content"
_TEXTS = {"response.output_text": "content", "response.refusal": "refusal"}
_THOUGHTS = frozenset(
    {
        "response.reasoning_text",
        "response.reasoning_summary_text",
        "response.reasoning",  # LM Studio
    }
)
_ARGUMENTS = "response.function_call_arguments"
_NEXT_SUMMARY = "response.reasoning_summary_part.added"
Place = int | str | None  # of an item in the output: its index, or its id


def completion_of(response: JSON, *, origin: str) -> JSON:
    """Turn a whole response into a chat completion; the usage stays that of the API.

    Raises EngineProtocolError for one that is not finished.
    """
    if not isinstance(response["output"], list):
        raise TypeError("the output is no list")
    events = ResponseEvents(origin=origin)
    message: JSON = {"role": "assistant", "content": None}
    for delta in events.rest_of(response):
        for name, value in delta.items():
            before = message.get(name)
            message[name] = value if before is None else before + value
    choice: JSON = {"index": 0, "message": message, "finish_reason": events.finish_of(response)}
    if events.logprobs:
        choice["logprobs"] = {"content": events.logprobs}
    head = {"id": response.get("id"), "object": "chat.completion", "model": response.get("model")}
    usage = events.usage_of(response)
    return {**head, "created": _created(response), "choices": [choice], "usage": usage}


class _OutputItem:
    """What has been passed on of one item of the output.

    `call` is its number among the calls. A message waits in `held` as long as it only repeats
    `before`, the message before it.
    """

    def __init__(self, kind: str, *, call: int | None = None, before: str = "") -> None:
        self.kind = kind
        self.call = call
        self.before = before
        self.held = self.text = ""
        self.begun = False  # whether anything of its text, thoughts or arguments has come
        self.thoughts: str | None = None  # the event that tells its thoughts: some send them twice
        self.ended = False


class ResponseEvents:
    """Turns the events of a streamed response into chunks of a chat completion.

    Servers differ in how they say which item an event belongs to: ids may change with each event
    (Copilot), two items may have one index (LiteLLM and other routers), either may be missing.
    """

    def __init__(self, *, origin: str) -> None:
        self.logprobs: list[JSON] = []
        self.ended = False
        self._origin = origin
        self._head: JSON = {"object": "chat.completion.chunk", "created": 0}
        self._items: list[_OutputItem] = []
        self._places: dict[Place, _OutputItem] = {}
        self._fees: Counter[str] = Counter()
        self._calls = self._length = 0
        self._start = 0  # of the text of the last message, in the whole text
        self._thought = self._phased = False

    def chunk(self, event: JSON) -> JSON | None:
        """Return the chunk that an event makes; None where it makes none.

        Raises EngineRefused for a response that failed.
        """
        if "type" not in event and event.get("object") == "response":  # no stream after all
            return self._ended("response.completed", event)
        kind = event["type"]
        if kind in _BEGINS:
            self._begin(event.get("response") or {})
            return None
        if kind in _ENDS:
            return self._ended(kind, event["response"])
        delta, paid = self._delta(kind, event), kind == _DONE and bool(self._fees)
        if delta is None and not paid:
            return None
        chunk = self._choice(delta) if delta is not None else {**self._head, "choices": []}
        if paid:  # a client that leaves has searched all the same
            chunk["usage"] = self.usage_of({})
        if event.get("logprobs") and delta is not None and "content" in delta:
            chunk["choices"][0]["logprobs"] = {"content": event["logprobs"]}
        return chunk

    def rest_of(self, response: JSON) -> Iterator[JSON]:
        """Return deltas of all that a whole response holds and no event has told."""
        output = list(response.get("output") or ())
        places = [self._places.get(whole.get("id")) for whole in output]
        others = [item for item in self._items if item not in places]
        for whole, place in zip(output, places, strict=True):
            item = place or next((one for one in others if one.kind == whole["type"]), None)
            if item in others:
                others.remove(item)
            delta = self._done(whole, item, None)
            if delta:
                yield delta

    def finish_of(self, response: JSON) -> str:
        """Return why a response ended, in the words of a chat completion.

        Raises EngineProtocolError where it has not.
        """
        status = response.get("status")
        if status == "incomplete":
            details = response.get("incomplete_details") or {}
            return str(details.get("reason") or "length")
        if status in ("failed", "cancelled"):
            return "error" if status == "failed" else "cancelled"
        if status in ("queued", "in_progress"):
            raise EngineProtocolError(
                f"the engine answered with a response that is still {status}",
                hint="leave `background` out of the rung's params: suffice waits for the answer",
            )
        return "tool_calls" if self._calls else "stop"

    def usage_of(self, response: JSON) -> JSON:
        """Return the usage, with the tier that answered and what the vendor's tools did."""
        usage = dict(response.get("usage") or {})
        if response.get("service_tier"):
            usage.setdefault("service_tier", response["service_tier"])
        for kind, count in self._fees.items():
            table, name = _FEES[kind]
            usage[table] = {name: count, **(usage.get(table) or {})}
        return usage

    def _begin(self, response: JSON) -> None:
        told = {"id": response.get("id"), "model": response.get("model")}
        created = {"created": _created(response)} if response.get("created_at") else {}
        self._head |= {name: value for name, value in told.items() if value} | created

    def _ended(self, kind: str, response: JSON) -> JSON:
        """Return the last chunk. After a failure without a reason an event `error` may follow."""
        status = response.get("status")
        if status in (None, "in_progress"):
            status = kind.removeprefix("response.")
        error = error_in({"error": response.get("error"), "usage": response.get("usage")})
        if error is not None:
            raise error
        self.ended = status != "failed"
        self._begin(response)
        delta: JSON = {}
        for rest in self.rest_of(response):
            for name, value in rest.items():
                delta[name] = delta[name] + value if name in delta else value
        chunk = self._choice(delta, finish=self.finish_of({**response, "status": status}))
        return {**chunk, "usage": self.usage_of(response)}

    def _delta(self, kind: str, event: JSON) -> JSON | None:
        index, item_id = event.get("output_index"), event.get("item_id")
        if kind == "response.output_item.added":
            return self._added(event["item"], index)
        if kind == _DONE:
            whole = event["item"]
            return self._done(whole, self._known(whole["type"], whole.get("id"), index), index)
        if kind == "response.output_text.annotation.added":
            return self._cited([event["annotation"]])
        if kind == _NEXT_SUMMARY:
            item = self._known("reasoning", item_id, index)
            return self._thoughts(item, PARAGRAPH) if item is not None and item.thoughts else None
        stem, _, stage = kind.rpartition(".")
        return self._piece(stem, event) if stage in ("delta", "done") else None

    def _piece(self, stem: str, event: JSON) -> JSON | None:
        """Return a piece of an item, or all of one that has come without pieces."""
        index, item_id, delta = event.get("output_index"), event.get("item_id"), event.get("delta")
        if stem in _THOUGHTS and delta is not None:
            item = self._known("reasoning", item_id, index)
            item = item or self._new("reasoning", item_id, index)
            item.thoughts = item.thoughts or stem
            return self._thoughts(item, delta) if item.thoughts == stem else None
        if stem == _ARGUMENTS:
            item = self._known(_CALL, item_id, index)
            if item is None:  # a call whose begin was not told comes whole at its end
                return None
            text = delta if delta is not None else "" if item.begun else event["arguments"]
            item.begun = item.begun or bool(text)
            return _arguments(item, text) if text else None
        if stem not in _TEXTS:
            return None
        item = self._known("message", item_id, index) or self._new("message", item_id, index)
        if delta is None and (item.begun or item.held):
            return None
        name = _TEXTS[stem]
        text = delta if delta is not None else event["text" if name == "content" else name]
        text = self._grown(item, text) if name == "content" else self._passed(item, text)
        return {name: text} if text else None

    def _known(self, kind: str, item_id: str | None, index: int | None) -> _OutputItem | None:
        """Return the item that an event belongs to; None for one that nothing was told of."""
        located = [self._places.get(item_id), self._places.get(index)]
        for item in located:
            if item is not None and item.kind == kind and not item.ended:
                return item
        item = located[0] if index is None else located[1]
        if item is not None and item.kind == kind:  # it is told once more
            return item
        if kind == _CALL and not (item_id is None and index is None):
            return None
        return next((i for i in reversed(self._items) if i.kind == kind and not i.ended), None)

    def _new(self, kind: str, item_id: str | None, index: int | None) -> _OutputItem:
        item = _OutputItem(kind)
        if kind == "message":
            item.before = next((i.text for i in reversed(self._items) if i.kind == kind), "")
        if kind == _CALL:
            item.call, self._calls = self._calls, self._calls + 1
        self._items.append(item)
        self._places |= {place: item for place in (item_id, index) if place is not None}
        return item

    def _added(self, whole: JSON, index: int | None) -> JSON | None:
        item = self._new(whole["type"], whole.get("id"), index)
        if item.call is None:
            return None
        function = {"name": whole["name"], "arguments": ""}
        call_id = str(whole.get("call_id") or whole["id"])
        call = {"index": item.call, "id": call_id, "type": "function", "function": function}
        return {"tool_calls": [call]}

    def _done(self, whole: JSON, item: _OutputItem | None, index: int | None) -> JSON | None:
        """Return what of an item no event has told until its end."""
        added = None
        if item is None:
            added = self._added(whole, index)
            item = self._items[-1]
        if item.ended:
            return None
        item.ended = True
        if item.call is not None:
            arguments = "" if item.begun else whole.get("arguments") or ""
            if added is None:
                return _arguments(item, arguments) if arguments else None
            added["tool_calls"][0]["function"]["arguments"] = arguments
            return added
        if item.kind == "message":
            return self._message(whole, item) or None
        return (
            self._reasoning(whole, item) if item.kind == "reasoning" else self._paid(whole)
        ) or None

    def _message(self, whole: JSON, item: _OutputItem) -> JSON:
        """Return what of a message no event has told, and its phase.

        A lone final answer is taken for one without saying so.
        """
        delta: JSON = {}
        if item.held and item.held != item.before:
            delta["content"] = self._passed(item, item.held)
        parts = whole.get("content") or ()
        untold = not item.held and not item.begun
        for part in parts if untold and "".join(_texts(parts)) != (item.before or None) else ():
            if part["type"] == "refusal":
                delta["refusal"] = delta.get("refusal", "") + self._passed(item, part["refusal"])
            elif part["type"] == "output_text":
                delta["content"] = delta.get("content", "") + self._passed(item, part["text"])
                self.logprobs += part.get("logprobs") or ()
                for name, values in self._cited(part.get("annotations") or []).items():
                    delta[name] = [*delta.get(name, ()), *values]
        phase = whole.get("phase")
        self._phased = self._phased or phase not in (None, "final_answer")
        if self._phased and item.text and isinstance(phase, str):
            place = {"phase": phase, "characters": len(item.text)}
            delta |= self._sent_back({"type": "message", **place})
        return delta

    def _reasoning(self, whole: JSON, item: _OutputItem) -> JSON:
        """Return thoughts that no event has told, and the item, which has to come back.

        Nothing is stored there that its id could name. Open servers show the thought itself.
        """
        thoughts = _texts(whole.get("content")) or _texts(whole.get("summary"))
        told = item.begun or not thoughts
        delta = {} if told else self._thoughts(item, PARAGRAPH.join(thoughts))
        if not whole.get(_SEALED) and not whole.get("content"):
            return delta
        left_out = {"id", "status"} if whole.get(_SEALED) else {"id", "status", _SEALED}
        return delta | self._sent_back({n: v for n, v in whole.items() if n not in left_out})

    def _paid(self, whole: JSON) -> JSON:
        """Count what the vendor's own tools did; the next request has to hold its searches."""
        kind, action = whole["type"], whole.get("action")
        searches = isinstance(action, dict) and action.get("type") in (None, "search")
        if kind in _FEES and (kind != "web_search_call" or searches or not action):
            self._fees[kind] += 1
        if kind != "web_search_call" or not isinstance(action, dict):
            return {}
        return self._sent_back({name: v for name, v in whole.items() if name != "id"})

    def _sent_back(self, item: JSON) -> JSON:
        return {ITEMS: [{"origin": self._origin, "item": item}]}

    def _grown(self, item: _OutputItem, text: str) -> str:
        """Take more of a message; it waits as long as it only repeats the one before."""
        text = item.held + text
        if not item.begun and item.before.startswith(text):
            item.held = text
            return ""
        return self._passed(item, text)

    def _passed(self, item: _OutputItem, text: str) -> str:
        """Return a text to be passed on; a second message begins a paragraph of its own."""
        item.held, item.text = "", item.text + text
        if not item.begun:
            item.begun = True
            text = PARAGRAPH + text if self._length else text
            self._start = self._length + len(text) - len(item.text)
        self._length += len(text)
        return text

    def _thoughts(self, item: _OutputItem, text: str) -> JSON:
        if not item.begun:
            item.begun = True
            text = PARAGRAPH + text if self._thought else text
            self._thought = True
        return {"reasoning_content": text}

    def _cited(self, annotations: list[JSON]) -> JSON:
        """Write annotations as fields of a chat message; their range is that of the whole text."""
        fields: JSON = {}
        for annotation in annotations:
            span = {
                f"{end}_index": self._start + (annotation.get(f"{end}_index") or 0)
                for end in ("start", "end")
            }
            told = cited([annotation], start=span["start_index"], end=span["end_index"])
            for name, values in told.items():
                fields.setdefault(name, []).extend(values)
        return fields

    def _choice(self, delta: JSON, *, finish: str | None = None) -> JSON:
        return {**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def _arguments(item: _OutputItem, text: str) -> JSON:
    return {"tool_calls": [{"index": item.call, "function": {"arguments": text}}]}


def _texts(parts: Any) -> list[str]:
    return [part["text"] for part in parts or () if part.get("text")]


def _created(response: JSON) -> int:
    created = response.get("created_at")
    return int(created) if isinstance(created, int | float) else 0
