"""JSON as engines write it: with NaN, and with characters that are cut into halves."""

import json
from typing import Any

import msgspec

from suffice.errors import EngineProtocolError
from suffice.types import JSON

_TEXTS = ("content", "reasoning", "reasoning_content", "refusal")


def decoded(data: str | bytes) -> Any:
    """Decode JSON; raises EngineProtocolError for what is none.

    What Python's encoder writes is read too: NaN, and single halves of a surrogate pair, which
    become U+FFFD.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            return whole_characters(json.loads(data))
        except (ValueError, RecursionError) as error:
            raise EngineProtocolError(
                f"the engine sent what is not JSON: {data[:200]!r}",
                hint="does its url end where its API begins, mostly in /v1?",
            ) from error


def whole_characters(value: Any) -> Any:
    """Join surrogate pairs in all texts of a value, and replace what is left of single halves."""
    if isinstance(value, str):
        if value.isascii():
            return value
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {whole_characters(name): whole_characters(item) for name, item in value.items()}
    return value


class SplitCharacters:
    """Joins characters that a stream cuts into two halves of a surrogate pair, one a chunk.

    A half waits for its other one, which comes in the same field of a later chunk.
    """

    def __init__(self) -> None:
        self.waiting: dict[tuple[object, ...], str] = {}

    def joined(self, data: bytes) -> bytes:
        """Return the JSON of a chunk with whole characters; raises ValueError for what is none."""
        chunk = json.loads(data)
        if isinstance(chunk, dict) and isinstance(chunk.get("choices"), list):
            for position, choice in enumerate(chunk["choices"]):
                if isinstance(choice, dict) and isinstance(choice.get("delta"), dict):
                    self._join(choice, choice.get("index") or position)
        return msgspec.json.encode(whole_characters(chunk))

    def _join(self, choice: JSON, index: object) -> None:
        if isinstance(index, str):
            choice["index"] = index = int(index)
        delta = choice["delta"]
        for name in _TEXTS:
            if isinstance(delta.get(name), str):
                delta[name] = self._whole(delta[name], (index, name))
        for position, call in enumerate(delta.get("tool_calls") or ()):
            at = (index, "call", call.get("index") or position)
            for kind, field in (("function", "arguments"), ("custom", "input")):
                called = call.get(kind) or {}
                if isinstance(called.get(field), str):
                    called[field] = self._whole(called[field], at)
        if choice.get("finish_reason"):
            for key in [key for key in self.waiting if key[0] == index and key[1] in _TEXTS]:
                name = str(key[1])
                delta[name] = (delta.get(name) or "") + self.waiting.pop(key)

    def _whole(self, text: str, at: tuple[object, ...]) -> str:
        text = self.waiting.pop(at, "") + text
        if "\ud800" <= text[-1:] <= "\udbff":
            self.waiting[at] = text[-1]
            return text[:-1]
        return text
