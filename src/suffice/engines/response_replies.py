"""OpenAI's Responses API: its answers, whole or as events, as chat completions.

https://platform.openai.com/docs/api-reference/responses-streaming. What the next request has to
hold again travels as `response_items` of chat messages, each with its origin: reasoning, searches,
and the phase of each message.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from suffice.engines.custom_tools import input_of
from suffice.engines.message_replies import cited
from suffice.engines.refusals import error_in
from suffice.engines.response_output import (
    CALL,
    CUSTOM_CALL,
    MESSAGE,
    REASONING,
    OutputItem,
    OutputItems,
    Place,
)
from suffice.engines.response_requests import ITEMS, PARAGRAPH
from suffice.errors import EngineProtocolError
from suffice.types import JSON

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
_ARGUMENTS = {
    "response.function_call_arguments": CALL,
    "response.custom_tool_call_input": CUSTOM_CALL,
}
_WRITTEN = {CALL: "arguments", CUSTOM_CALL: "input"}  # the field of a call that the model wrote
_NEXT_SUMMARY = "response.reasoning_summary_part.added"


def completion_of(response: JSON, *, origin: str, customs: Mapping[str, str] = {}) -> JSON:
    """Turn a whole response into a chat completion; the usage stays that of the API.

    Raises EngineProtocolError for one that is not finished.
    """
    if not isinstance(response["output"], list):
        raise TypeError("the output is no list")
    events = ResponseEvents(origin=origin, customs=customs)
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


class ResponseEvents:
    """Turns the events of a streamed response into chunks of a chat completion.

    `customs` are the names of custom tools, and what the chat request calls them. Servers that know
    none, and models that have learnt them otherwise, call them as functions.
    """

    def __init__(self, *, origin: str, customs: Mapping[str, str] = {}) -> None:
        self.logprobs: list[JSON] = []
        self.ended = False
        self._origin, self._customs = origin, customs
        self._head: JSON = {"object": "chat.completion.chunk", "created": 0}
        self._items = OutputItems()
        self._fees: Counter[str] = Counter()
        self._length = 0  # of the whole text
        self._start = 0  # of the last message in it
        self._thought = False  # whether any thought was told
        self._phased = False  # whether any message was not the final answer

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
        if not delta and not paid:
            return None
        chunk = self._choice(delta) if delta else {**self._head, "choices": []}
        if paid:  # a client that leaves has searched all the same
            chunk["usage"] = self.usage_of({})
        if event.get("logprobs") and "content" in delta:
            chunk["choices"][0]["logprobs"] = {"content": event["logprobs"]}
        return chunk

    def rest_of(self, response: JSON) -> Iterator[JSON]:
        """Return deltas of all that a whole response holds and no event has told."""
        for whole, item in self._items.matched(list(response.get("output") or ())):
            delta = self._done(whole, item)
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
        return "tool_calls" if self._items.calls else "stop"

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

    def _delta(self, kind: str, event: JSON) -> JSON:
        """Return what an event adds to the message; nothing for most kinds of events."""
        index, item_id = event.get("output_index"), event.get("item_id")
        if kind == "response.output_item.added":
            return self._added(event["item"], index)[1]
        if kind == _DONE:
            whole = event["item"]
            item = self._items.find(whole["type"], item_id=whole.get("id"), index=index)
            return self._done(whole, item, index=index)
        if kind == "response.output_text.annotation.added":
            return self._cited([event["annotation"]])
        stem, _, stage = kind.rpartition(".")
        if stem in _ARGUMENTS:
            item = self._items.find(_ARGUMENTS[stem], item_id=item_id, index=index)
            return self._more_arguments(event, item)
        if stem in _TEXTS and stage in ("delta", "done"):
            return self._more_text(event, self._located(MESSAGE, event), name=_TEXTS[stem])
        if stem in _THOUGHTS and stage == "delta":
            return self._more_thoughts(event, self._located(REASONING, event), stem)
        if kind == _NEXT_SUMMARY and self._located(REASONING, event).thoughts:
            return self._thoughts(self._located(REASONING, event), PARAGRAPH)
        return {}

    def _located(self, kind: str, event: JSON) -> OutputItem:
        """Return the item that an event belongs to, a new one where no event has told of it."""
        index, item_id = event.get("output_index"), event.get("item_id")
        item = self._items.find(kind, item_id=item_id, index=index)
        return item or self._items.begin(kind, item_id=item_id, index=index)

    def _more_arguments(self, event: JSON, item: OutputItem | None) -> JSON:
        """Take a piece of the arguments of a call, or all of them where no piece has come.

        A call whose begin was not told comes whole at its end.
        """
        if item is None or (item.begun and "delta" not in event):
            return {}
        if item.kind == CALL and item.takes_text:  # its text is told once all arguments have come
            return {}
        text = event["delta"] if "delta" in event else event[_WRITTEN[item.kind]]
        item.begun = True
        return {"tool_calls": [_written(item, text)]}

    def _more_text(self, event: JSON, item: OutputItem, *, name: str) -> JSON:
        """Take a piece of a message, or all of it where no piece has come."""
        if "delta" not in event and (item.begun or item.held):
            return {}
        field = "delta" if "delta" in event else "text" if "text" in event else name
        text = event[field]
        text = self._grown(item, text) if name == "content" else self._passed(item, text)
        return {name: text} if text else {}

    def _more_thoughts(self, event: JSON, item: OutputItem, stem: str) -> JSON:
        item.thoughts = item.thoughts or stem
        return self._thoughts(item, event["delta"]) if item.thoughts == stem else {}

    def _added(self, whole: JSON, index: Place) -> tuple[OutputItem, JSON]:
        """Return a new item, and what its begin adds to the message."""
        item = self._items.begin(whole["type"], item_id=whole.get("id"), index=index)
        if item.call is None:
            return item, {}
        name, call_id = whole["name"], str(whole.get("call_id") or whole["id"])
        item.takes_text = item.takes_text or name in self._customs
        kind = "custom" if item.takes_text else "function"
        called = {"name": self._customs.get(name, name), **_written(item, "")[kind]}
        call = {"index": item.call, "id": call_id, "type": kind, kind: called}
        return item, {"tool_calls": [call]}

    def _done(self, whole: JSON, item: OutputItem | None, *, index: Place = None) -> JSON:
        """Return what of an item no event has told until its end."""
        delta: JSON = {}
        if item is None:
            item, delta = self._added(whole, index)
        if item.ended:
            return {}
        item.ended = True
        if item.call is not None:
            return self._call(whole, item, delta)
        if item.kind == MESSAGE:
            return self._message(whole, item)
        return self._reasoning(whole, item) if item.kind == REASONING else self._paid(whole)

    def _call(self, whole: JSON, item: OutputItem, begin: JSON) -> JSON:
        """Return what of a call no event has told, after what begins it."""
        text = "" if item.begun else whole.get(_WRITTEN[item.kind]) or ""
        if item.takes_text and item.kind == CALL:
            text = input_of(text)
        part = _written(item, text)
        if not begin:
            return {"tool_calls": [part]} if text else {}
        (call,) = begin["tool_calls"]
        call[call["type"]] |= part[call["type"]]
        return begin

    def _message(self, whole: JSON, item: OutputItem) -> JSON:
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

    def _reasoning(self, whole: JSON, item: OutputItem) -> JSON:
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

    def _grown(self, item: OutputItem, text: str) -> str:
        """Take more of a message; it waits as long as it only repeats the one before."""
        text = item.held + text
        if not item.begun and item.before.startswith(text):
            item.held = text
            return ""
        return self._passed(item, text)

    def _passed(self, item: OutputItem, text: str) -> str:
        """Return a text to be passed on; a second message begins a paragraph of its own."""
        item.held, item.text = "", item.text + text
        if not item.begun:
            item.begun = True
            text = PARAGRAPH + text if self._length else text
            self._start = self._length + len(text) - len(item.text)
        self._length += len(text)
        return text

    def _thoughts(self, item: OutputItem, text: str) -> JSON:
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


def _written(item: OutputItem, text: str) -> JSON:
    """Write a part of a call of a chat message."""
    if item.takes_text:
        return {"index": item.call, "custom": {"input": text}}
    return {"index": item.call, "function": {"arguments": text}}


def _texts(parts: Any) -> list[str]:
    return [part["text"] for part in parts or () if part.get("text")]


def _created(response: JSON) -> int:
    created = response.get("created_at")
    return int(created) if isinstance(created, int | float) else 0
