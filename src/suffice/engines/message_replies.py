"""Anthropic's Messages API: its answers, whole or as events, as chat completions.

Citations of pages become `annotations`, all others `citations` with the range of the text that they
stand for. What the vendor's own tools did travels as `server_blocks`, in both directions.
"""

from contextlib import suppress

import msgspec

from suffice.types import JSON

_FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_THOUGHTS = ("thinking", "redacted_thinking")
_OWN = frozenset({*_THOUGHTS, "text", "tool_use"})


def completion_of(message: JSON) -> JSON:
    """Turn a whole message into a chat completion; the usage stays Anthropic's."""
    reply: JSON = {"role": "assistant", "content": None}
    texts, length, quoted = [], 0, []
    for block in _blocks(message, "text"):
        texts.append(block["text"])
        quoted.append((block.get("citations") or [], length, length + len(block["text"])))
        length += len(block["text"])
    thoughts = [block for block in message["content"] if block["type"] in _THOUGHTS]
    others = [block for block in message["content"] if block["type"] not in _OWN]
    calls = [
        _call(block) | {"index": number}
        for number, block in enumerate(_blocks(message, "tool_use"))
    ]
    if texts:
        reply["content"] = "".join(texts)
    if thoughts:
        reply["reasoning_content"] = "".join(block.get("thinking") or "" for block in thoughts)
        reply["thinking_blocks"] = thoughts
    if others:
        reply["server_blocks"] = others
    for citations, start, end in quoted:
        for name, values in cited(citations, start=start, end=end).items():
            reply.setdefault(name, []).extend(values)
    if calls:
        reply["tool_calls"] = calls
    finish = _finish(message.get("stop_reason"))
    choice = {"index": 0, "message": reply, "finish_reason": finish}
    head = {"id": message.get("id"), "object": "chat.completion", "model": message.get("model")}
    return {**head, "created": 0, "choices": [choice], "usage": message.get("usage")}


class MessageEvents:
    """Turns the events of a streamed message into chunks of a chat completion."""

    def __init__(self) -> None:
        self.ended = False
        self._head: JSON = {"object": "chat.completion.chunk", "created": 0}
        self._blocks: dict[int, JSON] = {}
        self._inputs: dict[int, list[str]] = {}  # of the vendor's tools, as pieces of JSON
        self._starts: dict[int, int] = {}  # of texts, in the whole text
        self._calls = self._length = 0

    def chunk(self, event: JSON) -> JSON | None:
        """Return the chunk that an event makes; None where it makes none."""
        kind = event.get("type", "")
        if not isinstance(kind, str):
            raise TypeError("the type of an event is no text")
        if kind == "message_start":
            message = event["message"]
            self._head |= {"id": message.get("id"), "model": message.get("model")}
            return {**self._head, "choices": [], "usage": message.get("usage")}
        if kind == "message_delta":
            finish = _finish(event["delta"].get("stop_reason"))
            return self._choice({}, finish=finish) | {"usage": event.get("usage")}
        if kind == "content_block_start":
            return self._begun(event["index"], dict(event["content_block"]))
        if kind == "content_block_delta":
            return self._grown(event["index"], event["delta"])
        if kind == "content_block_stop":
            return self._block_ended(event["index"])
        self.ended = kind == "message_stop"
        return None

    def _begun(self, index: int, block: JSON) -> JSON | None:
        self._blocks[index] = block
        if block["type"] == "tool_use":
            block["number"], self._calls = self._calls, self._calls + 1
            call = _call({**block, "input": {}})
            call["function"]["arguments"] = ""
            return self._choice({"tool_calls": [call | {"index": block["number"]}]})
        if block["type"] != "text":
            return None
        block["citations"] = list(block.get("citations") or ())
        self._starts[index] = self._length
        return self._text(block["text"]) if block.get("text") else None

    def _grown(self, index: int, delta: JSON) -> JSON | None:
        block, kind = self._blocks[index], delta["type"]
        if kind == "text_delta":
            return self._text(delta["text"])
        if kind == "thinking_delta":
            block["thinking"] = (block.get("thinking") or "") + delta["thinking"]
            return self._choice({"reasoning_content": delta["thinking"]})
        if kind == "signature_delta":
            block["signature"] = (block.get("signature") or "") + delta["signature"]
        if kind == "citations_delta":
            block["citations"].append(delta["citation"])
        if kind == "input_json_delta" and "number" in block:
            function = {"arguments": delta["partial_json"]}
            return self._choice({"tool_calls": [{"index": block["number"], "function": function}]})
        if kind == "input_json_delta":
            self._inputs.setdefault(index, []).append(delta["partial_json"])
        return None

    def _block_ended(self, index: int) -> JSON | None:
        """Return what is known of a block only at its end."""
        block = self._blocks[index]
        if block["type"] in _THOUGHTS:
            return self._choice({"thinking_blocks": [block]})
        if block["type"] == "text":
            quoted = cited(block["citations"], start=self._starts[index], end=self._length)
            return self._choice(quoted) if quoted else None
        if block["type"] == "tool_use":
            return None
        pieces = "".join(self._inputs.get(index, ()))
        if pieces:
            with suppress(msgspec.DecodeError):
                block["input"] = msgspec.json.decode(pieces)
        return self._choice({"server_blocks": [block]})

    def _text(self, text: str) -> JSON:
        self._length += len(text)
        return self._choice({"content": text})

    def _choice(self, delta: JSON, *, finish: str | None = None) -> JSON:
        return {**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def cited(citations: list[JSON], *, start: int, end: int) -> JSON:
    """Write citations of a stretch of text as fields of a chat message; of none, no field."""
    fields: dict[str, list[JSON]] = {}
    for citation in citations:
        span = {"start_index": start, "end_index": end}
        url = citation.get("url")
        if isinstance(url, str):
            page = {"url": url, "title": citation.get("title") or url, **span}
            fields.setdefault("annotations", []).append(
                {"type": "url_citation", "url_citation": page}
            )
        else:
            fields.setdefault("citations", []).append(citation | span)
    return dict(fields)


def _finish(reason: object) -> str | None:
    return None if reason is None else _FINISHES.get(str(reason), str(reason))


def _blocks(message: JSON, kind: str) -> list[JSON]:
    return [block for block in message["content"] if block["type"] == kind]


def _call(block: JSON) -> JSON:
    arguments = msgspec.json.encode(block["input"]).decode()
    function = {"name": block["name"], "arguments": arguments}
    return {"id": block["id"], "type": "function", "function": function}
