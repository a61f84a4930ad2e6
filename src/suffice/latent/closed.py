"""Closed-set requests: the answers that a request allows, and the form of the answer."""

import re
from typing import Any

import msgspec
from msgspec import Struct

from suffice.types import JSON, Request

# a prediction cannot give what these parameters ask for
_REFUSED = ("tools", "functions", "logprobs", "top_logprobs", "audio")
_ALTERNATIVES = re.compile(
    r'\s*root\s*::=\s*(?P<body>"(?:[^"\\]|\\.)*+"(?:\s*+\|\s*+"(?:[^"\\]|\\.)*+")*+)\s*'
)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


class ClosedSet(Struct, frozen=True, kw_only=True):
    """The answers that a request allows, and their form: plain text, or JSON under `key`.

    With `json` and no `key` the answer is a bare JSON string.
    """

    answers: tuple[str, ...]
    json: bool = False
    key: str | None = None

    def write(self, answer: str) -> str:
        """Return an answer in the form that the request asks for."""
        if not self.json:
            return answer
        value: Any = answer if self.key is None else {self.key: answer}
        return msgspec.json.encode(value).decode()

    def read(self, text: str) -> str | None:
        """Return the answer inside a text, or None if the text does not have that form."""
        if not self.json:
            answer: Any = text.strip()
        else:
            try:
                answer = msgspec.json.decode(text)
            except msgspec.DecodeError:
                return None
            if self.key is not None:
                answer = answer.get(self.key) if isinstance(answer, dict) else None
        return answer if isinstance(answer, str) and answer in self.answers else None


def closed_set(request: Request) -> ClosedSet | None:
    """Return the closed set that the parameters of a request define, or None.

    These are supported: a `response_format` with a JSON schema that is an enum of strings, or an
    object with one such property; `guided_choice` and `structured_outputs.choice` (vLLM); and a
    `grammar` of quoted alternatives (llama.cpp).
    """
    params = request.params
    for choice in (params.get("guided_choice"), _inside(params, "structured_outputs", "choice")):
        answers = _strings(choice)
        if answers:
            return ClosedSet(answers=answers)
    answers = _alternatives(params.get("grammar", params.get("guided_grammar")))
    if answers:
        return ClosedSet(answers=answers)
    schema = _inside(params, "response_format", "json_schema", "schema")
    if not isinstance(schema, dict):
        return None
    answers = _strings(schema.get("enum"))
    if answers:
        return ClosedSet(answers=answers, json=True)
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict) or len(properties) != 1:
        return None
    key, inner = next(iter(properties.items()))
    answers = _strings(inner.get("enum")) if isinstance(inner, dict) else None
    return ClosedSet(answers=answers, json=True, key=key) if answers else None


def answerable(request: Request) -> bool:
    """Whether one predicted answer can be the whole reply.

    It cannot be if the request asks for tools, log-probabilities or several samples, if the
    conversation already holds replies, or if a message holds more than text.
    """
    params = request.params
    if any(params.get(name) for name in _REFUSED) or params.get("n", 1) != 1:
        return False
    return all(
        message.get("role") in {"system", "developer", "user"} and _only_text(message)
        for message in request.messages
    )


def free_of_format(request: Request) -> bool:
    """Whether a request accepts plain text as the form of its answer."""
    names = ("response_format", "structured_outputs", "grammar")
    params = request.params
    return not any(params.get(name) for name in (*names, *(p for p in params if "guided" in p)))


def plain_answer(text: str) -> str:
    """Return the answer inside a reply: a JSON string, or the only string of a JSON object."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text.strip()
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    return value if isinstance(value, str) else text.strip()


def _alternatives(grammar: object) -> tuple[str, ...] | None:
    """Return the alternatives of a grammar that consists of quoted strings alone, or None."""
    match = _ALTERNATIVES.fullmatch(grammar) if isinstance(grammar, str) else None
    if match is None:
        return None
    try:
        return _strings([msgspec.json.decode(part) for part in _QUOTED.findall(match["body"])])
    except msgspec.DecodeError:  # an escape that JSON does not know
        return None


def _strings(values: object) -> tuple[str, ...] | None:
    """Return a list of distinct strings as a tuple; None for any other value."""
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
