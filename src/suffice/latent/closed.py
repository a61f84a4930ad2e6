"""Requests whose answer must come from a known, short list, and the form they want it in."""

import re
from typing import Any

import msgspec
from msgspec import Struct

from suffice.types import JSON, Request

# what these ask for cannot be had from a prediction
_REFUSED = ("tools", "functions", "logprobs", "top_logprobs", "audio")
_ALTERNATIVES = re.compile(
    r'\s*root\s*::=\s*(?P<body>"(?:[^"\\]|\\.)*+"(?:\s*+\|\s*+"(?:[^"\\]|\\.)*+")*+)\s*'
)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


class ClosedSet(Struct, frozen=True, kw_only=True):
    """The answers a request admits, and where the answer goes: plain text, or JSON under `key`.

    With `json` and no `key` the answer is a bare JSON string.
    """

    answers: tuple[str, ...]
    json: bool = False
    key: str | None = None

    def write(self, answer: str) -> str:
        """Return the answer as the client asked for it."""
        if not self.json:
            return answer
        value: Any = answer if self.key is None else {self.key: answer}
        return msgspec.json.encode(value).decode()

    def read(self, text: str) -> str | None:
        """Return the answer inside a text of that form, or None if it is not of that form."""
        if not self.json:
            found: Any = text.strip()
        else:
            try:
                found = msgspec.json.decode(text)
            except msgspec.DecodeError:
                return None
            if self.key is not None:
                found = found.get(self.key) if isinstance(found, dict) else None
        return found if isinstance(found, str) and found in self.answers else None


def closed_set(request: Request) -> ClosedSet | None:
    """Return the closed set that a request's parameters spell out, or None.

    Understood: a `response_format` JSON schema that is an enum of strings or an object with one
    such property; `guided_choice` and `structured_outputs.choice` (vLLM); a `grammar` of quoted
    alternatives (llama.cpp). Anything else is left to the engines.
    """
    params = request.params
    for choice in (params.get("guided_choice"), _inside(params, "structured_outputs", "choice")):
        answers = _strings(choice)
        if answers:
            return ClosedSet(answers=answers)
    answers = _alternatives(params.get("grammar", params.get("guided_grammar")))
    if answers:
        return ClosedSet(answers=answers)
    return _from_schema(_inside(params, "response_format", "json_schema", "schema"))


def answerable(request: Request) -> bool:
    """Whether one predicted answer can stand for the whole reply.

    Not if tools, log-probabilities or several samples are asked for, if the conversation already
    has replies in it, or if a message holds more than text.
    """
    params = request.params
    if any(params.get(name) for name in _REFUSED) or params.get("n", 1) != 1:
        return False
    return all(
        message.get("role") in {"system", "developer", "user"} and _only_text(message)
        for message in request.messages
    )


def free_of_format(request: Request) -> bool:
    """Whether a request leaves the form of its answer open, so that plain text will do."""
    names = ("response_format", "structured_outputs", "grammar")
    params = request.params
    return not any(params.get(name) for name in (*names, *(p for p in params if "guided" in p)))


def _from_schema(schema: object) -> ClosedSet | None:
    if not isinstance(schema, dict):
        return None
    answers = _strings(schema.get("enum"))
    if answers:
        return ClosedSet(answers=answers, json=True)
    properties = schema.get("properties")
    if schema.get("type") == "object" and isinstance(properties, dict) and len(properties) == 1:
        key, inner = next(iter(properties.items()))
        answers = _strings(inner.get("enum")) if isinstance(inner, dict) else None
        return ClosedSet(answers=answers, json=True, key=key) if answers else None
    return None


def _alternatives(grammar: object) -> tuple[str, ...] | None:
    """Return the quoted alternatives of a grammar that has nothing else, or None."""
    match = _ALTERNATIVES.fullmatch(grammar) if isinstance(grammar, str) else None
    if match is None:
        return None
    try:
        return _strings([msgspec.json.decode(part) for part in _QUOTED.findall(match["body"])])
    except msgspec.DecodeError:  # an escape that JSON does not know
        return None


def _strings(values: object) -> tuple[str, ...] | None:
    """Return distinct strings, or None if there is anything else among them."""
    if not isinstance(values, list) or not values:
        return None
    if not all(isinstance(value, str) for value in values) or len(set(values)) < len(values):
        return None
    return tuple(values)


def _inside(params: JSON, *path: str) -> object:
    value: object = params
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _only_text(message: JSON) -> bool:
    content = message.get("content")
    if isinstance(content, list):
        return all(isinstance(part, dict) and part.get("type") == "text" for part in content)
    return isinstance(content, str)
