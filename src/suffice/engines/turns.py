"""Messages as templates of open models want them: one system message, at the beginning.

The template of Qwen and others refuses a second system message, a later one, and the role
`developer`; some demand that turns of user and assistant alternate.
"""

from collections.abc import Sequence
from typing import Any

from suffice.types import JSON

_ORDERS = ("system", "developer")
# Fields of a turn of the assistant that strict servers know; those of the second line where they
# say something.
_SAID = frozenset({"role", "content", "name", "tool_calls"})
SAID_ALSO = frozenset({"function_call", "refusal", "audio", "prefix"})
_OF_A_CALL = frozenset({"id", "type", "function", "custom"})
_MARK = "cache_control"
_BRIDGE = "OK."
_FOLLOWS = "The result follows in the next message."


def one_system(messages: Sequence[JSON]) -> list[JSON]:
    """Merge leading system and developer messages; later ones become part of a user's turn."""
    first = next((i for i, m in enumerate(messages) if m.get("role") not in _ORDERS), len(messages))
    plain = first == 0 or (first == 1 and messages[0]["role"] == "system")
    if plain and not any(message.get("role") in _ORDERS for message in messages[first:]):
        return list(messages)
    turns: list[JSON] = []
    if first:
        texts = [_text(message.get("content")) for message in messages[:first]]
        turns.append({"role": "system", "content": "\n\n".join(text for text in texts if text)})
    converted = False  # whether the last turn ends in what was a system message
    for message in messages[first:]:
        role, last = message.get("role"), turns[-1] if turns else {}
        order = role in _ORDERS
        joins = last.get("role") == "user" and (order or (role == "user" and converted))
        if joins:
            turns[-1] = {**last, "content": _joined(last.get("content"), message.get("content"))}
        else:
            turns.append({**message, "role": "user"} if order else message)
        converted = order or (joins and converted and role != "user")
    return turns


def ordered(messages: Sequence[JSON], order: str) -> list[JSON]:
    """Add an order after those that open a conversation."""
    first = next((i for i, m in enumerate(messages) if m.get("role") not in _ORDERS), len(messages))
    return [*messages[:first], {"role": "system", "content": order}, *messages[first:]]


def plain_texts(messages: Sequence[JSON]) -> list[JSON]:
    """Write a content of texts alone as one text, for servers that take no list of them."""
    return [
        {**message, "content": _text(message["content"])} if _is_texts(message) else message
        for message in messages
    ]


def text_results(messages: Sequence[JSON]) -> list[JSON]:
    """Move pictures and files in results of tools into the message of the user after them.

    Most servers take text alone in a result.
    """
    turns: list[JSON] = []
    media: list[JSON] = []  # of the results that come directly before
    for message in messages:
        if message.get("role") == "tool":
            content = message.get("content")
            texts, others = _parted(content) if isinstance(content, list) else ([], [])
            media += others
            turns.append({**message, "content": texts or _FOLLOWS} if others else message)
            continue
        if media and message.get("role") == "user":
            turns.append({**message, "content": [*media, *_parts(message.get("content"))]})
        else:
            turns += [{"role": "user", "content": media}, message] if media else [message]
        media = []
    return [*turns, {"role": "user", "content": media}] if media else turns


def bridged_results(messages: Sequence[JSON]) -> list[JSON]:
    """Let the assistant speak between a result of a tool and the user, as Mistral demands."""
    turns: list[JSON] = []
    for message in messages:
        if turns and turns[-1].get("role") == "tool" and message.get("role") == "user":
            turns.append({"role": "assistant", "content": _BRIDGE})
        turns.append(message)
    return turns


def without_marks(messages: Sequence[JSON]) -> list[JSON]:
    """Leave out what says where a prompt is cached."""
    return [_unmarked(message) for message in messages]


def without_thoughts(
    messages: Sequence[JSON], *, wanted: frozenset[str] = frozenset()
) -> list[JSON]:
    """Leave out what an assistant thought, and whatever else a reply holds and no request may.

    A turn of which nothing is left is left out. The fields `wanted` stay.
    """
    turns = [_plain_turn(message, wanted) for message in messages]
    return [turn for turn in turns if not _is_empty(turn)]


def with_thoughts(messages: Sequence[JSON]) -> list[JSON]:
    """Give every turn of the assistant a thought, a blank where another engine answered."""
    return [_thoughtful_turn(message) for message in messages]


def _parted(parts: list[Any]) -> tuple[list[Any], list[Any]]:
    """Part a content into its texts and all else."""
    is_text = [not isinstance(part, dict) or "text" in part for part in parts]
    texts = [part for part, text in zip(parts, is_text, strict=True) if text]
    return texts, [part for part, text in zip(parts, is_text, strict=True) if not text]


def _unmarked(message: JSON) -> JSON:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    if _MARK not in message and not any(isinstance(p, dict) and _MARK in p for p in parts):
        return message
    plain = {name: value for name, value in message.items() if name != _MARK}
    if parts:
        plain["content"] = [
            {name: value for name, value in part.items() if name != _MARK}
            if isinstance(part, dict)
            else part
            for part in parts
        ]
    return plain


def _is_empty(turn: JSON) -> bool:
    said = ("content", "tool_calls", "function_call", "refusal", "audio")
    return turn.get("role") == "assistant" and not any(turn.get(name) for name in said)


def _plain_turn(message: JSON, wanted: frozenset[str]) -> JSON:
    calls = message.get("tool_calls")
    if message.get("role") != "assistant" or not (calls or message.keys() - _SAID):
        return message
    known = _SAID | wanted
    kept = {
        name: value
        for name, value in message.items()
        if name in known or (name in SAID_ALSO and value)
    }
    if not isinstance(calls, list):
        return kept
    known = _OF_A_CALL | wanted
    plain = [
        {name: value for name, value in call.items() if name in known}
        if isinstance(call, dict) and call.keys() - known
        else call
        for call in calls
    ]
    return {**kept, "tool_calls": plain}


def _thoughtful_turn(message: JSON) -> JSON:
    if message.get("role") != "assistant" or message.get("reasoning_content"):
        return message
    texts = [message.get(name) for name in ("reasoning", "reasoning_text", "thinking")]
    thought = next((text for text in texts if text and isinstance(text, str)), " ")
    return {**message, "reasoning_content": thought}


def _is_texts(message: JSON) -> bool:
    content = message.get("content")
    return isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    )


def _joined(content: Any, more: Any) -> Any:
    """Join texts with a blank line between, and lists of parts to a list."""
    if isinstance(content, str) and isinstance(more, str):
        return f"{content}\n\n{more}"
    return [*_parts(content), *_parts(more)]


def _parts(content: Any) -> list[JSON]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "\n\n".join(p["text"] for p in parts if isinstance(p, dict) and "text" in p)
