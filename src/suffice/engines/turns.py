"""Messages as templates of open models want them: one system message, at the beginning.

The template of Qwen and others refuses a second system message, a later one, and the role
`developer`; some demand that turns of user and assistant alternate.
"""

from collections.abc import Sequence
from typing import Any

from suffice.types import JSON

_ORDERS = ("system", "developer")


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
