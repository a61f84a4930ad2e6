"""OpenAI's Responses API: its answers, whole or as events, as chat completions.

https://platform.openai.com/docs/api-reference/responses-streaming. Reasoning and searches, which
the next request has to hold again, travel as `response_items` of chat messages, each with the model
that gave it.
"""

from collections.abc import Iterator
from typing import Any

from suffice.engines.message_replies import cited
from suffice.engines.refusals import error_in
from suffice.engines.response_requests import ITEMS
from suffice.errors import EngineProtocolError
from suffice.types import JSON

_OWN = frozenset({"message", "function_call", "custom_tool_call"})
_KEPT = frozenset({"reasoning", "web_search_call"})  # in the next request
_NOT_SENT_BACK = ("id", "status")  # nothing is stored there that an id could name
_THOUGHTS = frozenset(
    {
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning.delta",  # LM Studio
    }
)
_NEXT_SUMMARY = "response.reasoning_summary_part.added"
_TEXTS = _THOUGHTS | {"response.output_text.delta", "response.refusal.delta", _NEXT_SUMMARY}
_ARGUMENTS = frozenset(
    {"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"}
)
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_PARAGRAPH = "\n\n"
Place = int | str | None  # of an item in the output: its index, or its id


def completion_of(response: JSON, *, model: str) -> JSON:
    """Turn a whole response into a chat completion; the usage stays that of the API."""
    if not isinstance(response["output"], list):
        raise TypeError("the output is no list")
    events = ResponseEvents(model=model)
    message: JSON = {"role": "assistant", "content": None}
    for delta in events.rest_of(response):
        for name, value in delta.items():
            before = message.get(name)
            message[name] = value if before is None else before + value
    choice: JSON = {
        "index": 0,
        "message": message,
        "finish_reason": events.finish_of(response),
    }
    if events.logprobs:
        choice["logprobs"] = {"content": events.logprobs}
    head = {"id": response.get("id"), "object": "chat.completion", "model": response.get("model")}
    usage = events.usage_of(response)
    return {**head, "created": _created(response), "choices": [choice], "usage": usage}


class _OutputItem:
    """What has been passed on of one item of the output."""

    def __init__(self, call: int | None = None) -> None:
        self.call = call
        self.begun = False  # whether anything of its text, thoughts or arguments has come
        self.thoughts: str | None = None  # the event that tells its thoughts: some send them twice
        self.ended = False


class ResponseEvents:
    """Turns the events of a streamed response into chunks of a chat completion."""

    def __init__(self, *, model: str) -> None:
        self.logprobs: list[JSON] = []
        self._model = model
        self._head: JSON = {"object": "chat.completion.chunk", "created": 0}
        self._items: dict[Place, _OutputItem] = {}
        self._indexed = False  # whether events tell the index of their item
        self._calls = self._searches = self._length = 0
        self._start = 0  # of the text of the item, in the whole text
        self._thought = False

    def chunk(self, event: JSON) -> JSON | None:
        """Return the chunk that an event makes; None where it makes none.

        Raises EngineRefused for a response that failed.
        """
        kind = event["type"]
        if kind in ("response.created", "response.in_progress"):
            self._begin(event["response"])
            return None
        if kind in _ENDS:
            return self._ended(event["response"])
        delta = self._delta(kind, event)
        if delta is None:
            return None
        chunk = self._choice(delta)
        if event.get("logprobs") and kind == "response.output_text.delta":
            chunk["choices"][0]["logprobs"] = {"content": event["logprobs"]}
        return chunk

    def rest_of(self, response: JSON) -> Iterator[JSON]:
        """Return deltas of all that a whole response holds and no event has told."""
        by_index = self._indexed or not self._items
        for index, item in enumerate(response.get("output") or ()):
            delta = self._done(item, index if by_index else item.get("id"))
            if delta:
                yield delta

    def finish_of(self, response: JSON) -> str | None:
        """Return why a response ended, in the words of a chat completion; None while it has not."""
        if response.get("status") == "incomplete":
            details = response.get("incomplete_details") or {}
            return str(details.get("reason") or "length")
        if response.get("status") not in ("completed", None):
            return None
        return "tool_calls" if self._calls else "stop"

    def usage_of(self, response: JSON) -> JSON:
        """Return the usage, with the tier that answered and the searches that were made."""
        usage = dict(response.get("usage") or {})
        if response.get("service_tier"):
            usage.setdefault("service_tier", response["service_tier"])
        if self._searches:
            usage.setdefault("server_tool_use", {"web_search_requests": self._searches})
        return usage

    def _begin(self, response: JSON) -> None:
        self._head |= {
            "id": response.get("id"),
            "model": response.get("model"),
            "created": _created(response),
        }

    def _ended(self, response: JSON) -> JSON:
        if response.get("error") or response.get("status") == "failed":
            error = response.get("error") or {"message": "the response failed"}
            raise error_in({"error": error, "usage": response.get("usage")}) or _failure(error)
        self._begin(response)
        delta: JSON = {}
        for rest in self.rest_of(response):
            for name, value in rest.items():
                delta[name] = delta[name] + value if name in delta else value
        chunk = self._choice(delta, finish=self.finish_of(response))
        return {**chunk, "usage": self.usage_of(response)}

    def _delta(self, kind: str, event: JSON) -> JSON | None:
        whole, place = event.get("item") or {}, event.get("output_index")
        self._indexed = self._indexed or place is not None
        if place is None:  # llama.cpp; elsewhere the id may change with each event
            place = event.get("item_id") or whole.get("id")
        if kind == "response.output_item.added":
            return self._added(whole, place)
        if kind == "response.output_item.done":
            return self._done(whole, place)
        if kind == "response.output_text.annotation.added":
            return self._cited([event["annotation"]])
        if kind in _ARGUMENTS:
            return self._called(event["delta"], place)
        return self._grown(kind, event, place) if kind in _TEXTS else None

    def _called(self, text: str, place: Place) -> JSON | None:
        """Take more arguments; a call whose begin was not told comes whole at its end."""
        item = self._items.get(place)
        if item is None or item.call is None:
            return None
        item.begun = True
        return _arguments(item.call, text)

    def _grown(self, kind: str, event: JSON, place: Place) -> JSON | None:
        item = self._items.setdefault(place, _OutputItem())
        if kind == "response.output_text.delta":
            return {"content": self._text(item, event["delta"])}
        if kind == "response.refusal.delta":
            return {"refusal": self._text(item, event["delta"])}
        if kind == _NEXT_SUMMARY:
            return self._thoughts(item, _PARAGRAPH) if item.thoughts else None
        item.thoughts = item.thoughts or kind
        return self._thoughts(item, event["delta"]) if item.thoughts == kind else None

    def _added(self, item: JSON, place: Place) -> JSON | None:
        if item["type"] not in ("function_call", "custom_tool_call"):
            self._items[place] = _OutputItem()
            return None
        number, self._calls = self._calls, self._calls + 1
        self._items[place] = _OutputItem(call=number)
        function = {"name": item["name"], "arguments": ""}
        call = {"index": number, "id": _call_id(item), "type": "function", "function": function}
        return {"tool_calls": [call]}

    def _done(self, item: JSON, place: Place) -> JSON | None:
        """Return what of an item no event has told until its end."""
        kind = item["type"]
        added = None if place in self._items else self._added(item, place)
        state = self._items[place]
        if state.ended:
            return None
        state.ended = True
        if state.call is not None:
            return self._whole_call(item, state, added=added)
        if kind == "message":
            return None if state.begun else self._whole_message(item, state)
        delta: JSON = {}
        if kind == "reasoning":
            if not state.begun:
                thoughts = _texts(item.get("content")) or _texts(item.get("summary"))
                delta = self._thoughts(state, _PARAGRAPH.join(thoughts)) if thoughts else {}
            kept = bool(item.get("encrypted_content") or item.get("content"))
        else:
            kept = kind in _KEPT
            action = item.get("action")
            searches = not isinstance(action, dict) or action.get("type") in (None, "search")
            self._searches += kind == "web_search_call" and searches
        if kept:
            bare = {name: v for name, v in item.items() if name not in _NOT_SENT_BACK}
            if not bare.get("encrypted_content"):  # open servers show the thought itself
                bare.pop("encrypted_content", None)
            delta[ITEMS] = [{"model": self._model, "item": bare}]
        return delta or None

    def _whole_call(self, item: JSON, state: _OutputItem, *, added: JSON | None) -> JSON | None:
        arguments = "" if state.begun else item.get("arguments") or item.get("input") or ""
        assert state.call is not None
        if added is None:
            return _arguments(state.call, arguments) if arguments else None
        added["tool_calls"][0]["function"]["arguments"] = arguments
        return added

    def _whole_message(self, item: JSON, state: _OutputItem) -> JSON | None:
        delta: JSON = {}
        for part in item.get("content") or ():
            if part["type"] == "refusal":
                delta["refusal"] = delta.get("refusal", "") + self._text(state, part["refusal"])
            elif part["type"] == "output_text":
                delta["content"] = delta.get("content", "") + self._text(state, part["text"])
                self.logprobs += part.get("logprobs") or ()
                for name, values in self._cited(part.get("annotations") or []).items():
                    delta[name] = [*delta.get(name, ()), *values]
        return delta or None

    def _text(self, item: _OutputItem, text: str) -> str:
        """Take a text; a second message begins a paragraph of its own."""
        if not item.begun:
            item.begun = True
            text = _PARAGRAPH + text if self._length else text
            self._start = self._length + len(text) - len(text.removeprefix(_PARAGRAPH))
        self._length += len(text)
        return text

    def _thoughts(self, item: _OutputItem, text: str) -> JSON:
        if not item.begun:
            item.begun = True
            text = _PARAGRAPH + text if self._thought else text
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


def _arguments(call: int, text: str) -> JSON:
    return {"tool_calls": [{"index": call, "function": {"arguments": text}}]}


def _call_id(item: JSON) -> str:
    return str(item.get("call_id") or item["id"])


def _texts(parts: Any) -> list[str]:
    return [part["text"] for part in parts or () if part.get("text")]


def _created(response: JSON) -> int:
    created = response.get("created_at")
    return int(created) if isinstance(created, int | float) else 0


def _failure(error: object) -> EngineProtocolError:
    return EngineProtocolError(f"the response failed: {error}", hint="see the engine's log")
