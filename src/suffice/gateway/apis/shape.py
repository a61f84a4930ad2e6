"""The types of what is read in a chunk of a chat completion; an engine may send others."""

from types import UnionType
from typing import Any

from suffice.types import JSON

# A type, a list of a shape, or the shapes of an object's fields; fields without one stay as told.
Shape = type | UnionType | list["Shape"] | dict[str, "Shape"]

_FUNCTION: Shape = {"name": str}
_CUSTOM: Shape = {"name": str, "input": str}
_CALL: Shape = {"id": str, "index": int, "function": _FUNCTION, "custom": _CUSTOM}
_MESSAGE: Shape = {
    "refusal": str,
    "annotations": [{}],
    "server_blocks": [{"id": str, "tool_use_id": str, "input": {}}],
    "tool_calls": [_CALL],
    "function_call": _FUNCTION,
}
_CHOICE: Shape = {"index": int, "finish_reason": str, "delta": _MESSAGE, "message": _MESSAGE}
CHUNK: dict[str, Shape] = {
    "model": str,
    "created": int | float,
    "choices": [_CHOICE],
    "usage": {"prompt_tokens_details": {}, "completion_tokens_details": {}},
}


def fitted(fields: JSON, shape: dict[str, Shape] = CHUNK) -> JSON:
    """Return an object without the fields, at any depth, that are not of their type."""
    told = {name: _fitted(fields[name], kind) for name, kind in shape.items() if name in fields}
    return {**fields, **told}


def _fitted(value: Any, shape: Shape) -> Any:
    """Return a value as far as it has a shape; None where it has not."""
    if isinstance(shape, dict):
        return fitted(value, shape) if isinstance(value, dict) else None
    if isinstance(shape, list):
        items = value if isinstance(value, list) else []
        return [item for item in (_fitted(item, shape[0]) for item in items) if item is not None]
    return value if isinstance(value, shape) else None
