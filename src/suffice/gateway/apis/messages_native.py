"""Messages that go to an engine of the same API: nothing of them is translated, either way.

What the gateway itself has sealed into a conversation is taken out again, for the engine would
refuse it: signatures that an engine of another kind gave, and ids of calls.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from suffice.engines.fold import NATIVE
from suffice.engines.messages import given_blocks, tool_use_id
from suffice.gateway.apis.fields import wrong
from suffice.gateway.apis.messages_reply import MessageWriter
from suffice.gateway.apis.messages_request import Translated, effort_of_budget
from suffice.gateway.sealed import SEAL, unseal, unseal_id
from suffice.types import JSON

_LAST = ("message_delta", "message_stop")


def native_of(body: JSON) -> JSON:
    """Return a body as an engine of this API takes it."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return body
    cleaned = [_cleaned(message) for message in messages]
    return {**body, "messages": [message for message in cleaned if message is not None]}


def outline_of_message(body: JSON, *, by_policy: bool) -> Translated:
    """Write the chat request that policy, limits and books see of a body that goes out as it is.

    Raises Problem for what is no request at all; all else is for the engine to judge.
    """
    model, messages, limit = (body.get(name) for name in ("model", "messages", "max_tokens"))
    if not isinstance(model, str):
        raise wrong("model", "a name")
    if not isinstance(messages, list) or not messages:
        raise wrong("messages", "a list of one message or more")
    chat: JSON = {"model": model, "messages": []}
    system = "\n\n".join(_texts(body.get("system")))
    if system:
        chat["messages"].append({"role": "system", "content": system})
    chat["messages"] += [
        _outline(message, at=f"messages[{i}]") for i, message in enumerate(messages)
    ]
    if body.get("tools"):
        chat["tools"] = body["tools"]
    if isinstance(limit, int):
        chat["max_completion_tokens"] = limit
    config, thinking = body.get("output_config"), body.get("thinking")
    in_words = isinstance(config, dict) and isinstance(config.get("effort"), str)
    if isinstance(config, dict) and in_words:
        chat["reasoning_effort"] = config["effort"]
    elif isinstance(thinking, dict):
        effort = effort_of_budget(thinking, by_policy=by_policy)
        chat |= {} if effort is None else {"reasoning_effort": effort}
    if body.get("stream") is True:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return Translated(chat=chat, effort_name="output_config.effort" if in_words else "thinking")


class _EventKind(Struct):
    """The type of an event, read without the rest."""

    type: Any = None


_EVENT_KIND = msgspec.json.Decoder(_EventKind)


class MessageRelay:
    """Writes a message: events of an engine of this API as they came, all others translated.

    The last two events wait for the end, when the answer is booked; the first of them gets our
    account.
    """

    def __init__(self, body: JSON, *, request_id: str, prompt_tokens: int = 0) -> None:
        self._translated = MessageWriter(body, request_id=request_id, prompt_tokens=prompt_tokens)
        self._native = False
        self._held: list[tuple[str, str]] = []
        self._account: JSON = {}

    def feed(self, chunk: JSON) -> list[JSON | bytes]:
        """Take a chunk, or the one reply, and return the events that it makes."""
        text = chunk.get(NATIVE)
        if "suffice" in chunk:
            self._account = {"suffice": chunk["suffice"]}
        if text is None and not self._native:
            return [*self._translated.feed(chunk)]
        self._native = True
        if text is None:
            return []
        kind = _EVENT_KIND.decode(text).type
        if kind in _LAST or kind == "message":
            self._held.append((kind, text))
            return []
        return [_event(kind, text)]

    def end(self) -> list[JSON | bytes]:
        """Take the end."""
        if not self._native:
            return [*self._translated.end()]
        last = [
            _event(kind, self._with_account(text) if kind == "message_delta" else text)
            for kind, text in self._held
        ]
        self._held = [(kind, text) for kind, text in self._held if kind == "message"]
        return [*last]

    def failed(self, error: JSON) -> list[JSON | bytes]:
        """Take an error in the place of the end."""
        return [*self._translated.failed(error)]

    def result(self) -> JSON | bytes:
        """Return the message in one piece."""
        if not self._native:
            return self._translated.result()
        return self._with_account(self._held[-1][1]).encode()

    def _with_account(self, text: str) -> str:
        if not self._account:
            return text
        account = msgspec.json.encode(self._account).decode()
        return f"{text.rstrip()[:-1]},{account[1:]}"


def _outline(message: Any, *, at: str) -> JSON:
    """Write a message as its text and, for limits, all else that is in it."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise wrong(at, "an object with a role")
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    others = [b for b in blocks if isinstance(b, dict) and not isinstance(b.get("text"), str)]
    text = {"type": "text", "text": "\n\n".join(_texts(content))}
    return {"role": message["role"], "content": [text, *others]}


def _event(kind: Any, text: str) -> bytes:
    lines = "\ndata: ".join(text.split("\n"))
    return f"event: {kind}\ndata: {lines}\n\n".encode()


def _texts(content: Any) -> Iterator[str]:
    """Return the texts of a content, those within results and documents too."""
    if isinstance(content, str):
        yield content
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict):
            if isinstance(block.get("text"), str):
                yield block["text"]
            inner = block.get("content")
            yield from _texts(inner) if isinstance(inner, str | list) else ()


def _cleaned(message: Any) -> Any:
    """Return a message without our seals; None where nothing else is in it."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    blocks = [kept for block in content for kept in _unsealed(block)]
    return {**message, "content": blocks} if blocks or not content else None


def _unsealed(block: Any) -> list[Any]:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind in ("thinking", "redacted_thinking"):
        sealed = block.get("signature" if kind == "thinking" else "data")
        if isinstance(sealed, str) and sealed.startswith(SEAL):
            return given_blocks(unseal(sealed) or {})
        return [block] if sealed or kind == "redacted_thinking" else []  # it must be signed
    name = {"tool_use": "id", "tool_result": "tool_use_id"}.get(str(kind))
    if name is not None and isinstance(block.get(name), str):
        return [{**block, name: tool_use_id(unseal_id(block[name])[0])}]
    return [block]
