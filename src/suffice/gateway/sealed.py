"""What an engine must get back as it gave it, sealed into fields that every client sends back.

Signatures of thoughts, and whatever else an engine adds to a message or a tool call, have no field
in the other APIs. They travel in the signature of a thinking block, in the encrypted content of a
reasoning item, and in the ids of tool calls. The summary of a compacted conversation travels in the
encrypted content of its item.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Any

import msgspec

from suffice.types import JSON

SEAL = "suffice1-"
MARK = "-s1-"  # between the id of a call and what is sealed into it
# Fields of a message that an engine wants back: OpenRouter, LiteLLM and Anthropic, Gemini, Copilot,
# the Responses API.
OPAQUE = frozenset(
    {"reasoning_details", "thinking_blocks", "server_blocks", "extra_content", "reasoning_opaque"}
    | {"response_items"}
)
_PLAIN = frozenset({"index", "id", "type", "function", "custom"})


def seal(fields: JSON) -> str:
    """Write fields as one text of letters, digits, `-` and `_`."""
    return SEAL + _encoded(fields)


def unseal(text: str) -> JSON | None:
    """Return the fields of a message that were sealed; None for a seal that is not ours."""
    fields = _decoded(text.removeprefix(SEAL)) if text.startswith(SEAL) else None
    return None if fields is None else {n: v for n, v in fields.items() if n in OPAQUE}


def joined(fields: JSON, more: JSON) -> JSON:
    """Join fields of one message that came in two parts: lists go on, other values are replaced.

    An encrypted detail that came before is the same one, told again (OpenRouter).
    """
    lists = {
        name: [*fields[name], *(item for item in value if _is_new(item, fields[name]))]
        for name, value in more.items()
        if isinstance(value, list) and isinstance(fields.get(name), list)
    }
    return {**fields, **more, **lists}


def _is_new(item: object, before: list[object]) -> bool:
    told = isinstance(item, dict) and item.get("type") == "reasoning.encrypted"
    return not told or item not in before


def seal_summary(summary: str) -> str:
    """Write the summary that stands for a conversation as `seal` writes fields."""
    return SEAL + _encoded({"summary": summary})


def unseal_summary(text: str) -> str | None:
    """Return a summary that was sealed here; None for any other text."""
    fields = _decoded(text.removeprefix(SEAL)) if text.startswith(SEAL) else None
    summary = (fields or {}).get("summary")
    return summary if isinstance(summary, str) else None


def opaque_of_call(call: JSON) -> JSON:
    """Return what an engine says of a tool call beside its id, name and arguments."""
    fields = {name: v for name, v in call.items() if name not in _PLAIN and v is not None}
    function = call.get("function") or {}
    more = {name: v for name, v in function.items() if name not in ("name", "arguments")}
    return fields | ({"function": more} if more else {})


def seal_id(call_id: str, opaque: JSON) -> str:
    """Write the id of a tool call so that it holds what the engine must get back with it."""
    return f"{call_id}{MARK}{_encoded(opaque)}" if opaque else call_id


def unseal_id(call_id: str) -> tuple[str, JSON]:
    """Return an id as the engine gave it, and what was sealed into it."""
    plain, mark, text = call_id.rpartition(MARK)
    opaque = _decoded(text) if mark else None
    return (call_id, {}) if opaque is None else (plain, opaque)


def chat_call(call_id: str, name: str, arguments: str) -> JSON:
    """Write a tool call of a chat message, with what its id holds."""
    plain, opaque = unseal_id(call_id)
    function = {**opaque.get("function", {}), "name": name, "arguments": arguments}
    others = {name: value for name, value in opaque.items() if name not in _PLAIN}
    return {**others, "id": plain, "type": "function", "function": function}


def unsealed_messages(messages: Iterable[JSON]) -> list[JSON]:
    """Return chat messages with what the ids of their calls hold, as another API handed them out.

    A client that changes its API in mid-session sends them back here.
    """
    return [_unsealed(message) for message in messages]


def _unsealed(message: JSON) -> JSON:
    calls, result_id = message.get("tool_calls"), message.get("tool_call_id")
    if isinstance(result_id, str):
        return {**message, "tool_call_id": unseal_id(result_id)[0]}
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [_unsealed_call(call) for call in calls]}


def _unsealed_call(call: Any) -> Any:
    call_id = call.get("id") if isinstance(call, dict) else None
    plain, opaque = unseal_id(call_id) if isinstance(call_id, str) else ("", {})
    if not opaque:
        return call
    function = {**opaque.pop("function", {}), **(call.get("function") or {})}
    others = {name: value for name, value in opaque.items() if name not in _PLAIN}
    return {**others, **call, "id": plain} | ({"function": function} if function else {})


def _encoded(fields: JSON) -> str:
    return urlsafe_b64encode(msgspec.json.encode(fields)).decode().rstrip("=")


def _decoded(text: str) -> JSON | None:
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.json.decode(data, type=JSON)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
