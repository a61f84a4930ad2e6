"""Reading what a client sent, such that nothing in it is lost.

A field changes no answer, and is ignored and named; or it is carried; or it is refused.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from suffice.gateway.problems import Problem
from suffice.types import JSON

T = TypeVar("T")
_KINDS = {str: "a text", bool: "true or false", int: "a whole number", dict: "an object"}
_ELSEWHERE = "leave it out; POST /v1/chat/completions hands fields to the engine as they are"
_INDEX = re.compile(r"\[\d+\]")


class Fields:
    """A JSON object; every `take` removes a field, and `done` refuses those that are left.

    Fields that are null count as absent. `at` is the path of the object, for Problems. `ignored`
    holds the names of hints that change no answer; it is shared with the objects inside, and so are
    the names of hints to `carry` on to the engine.
    """

    def __init__(
        self,
        value: object,
        *,
        at: str = "",
        ignored: set[str] | None = None,
        carry: frozenset[str] = frozenset(),
    ) -> None:
        if not isinstance(value, dict):
            raise wrong(at, "an object")
        self.at = at
        self.ignored: set[str] = set() if ignored is None else ignored
        self.carry = carry
        self.hints: JSON = {}
        self._left = {name: field for name, field in value.items() if field is not None}

    def path(self, name: str) -> str:
        """Return where a field stands in the body."""
        return f"{self.at}.{name}" if self.at else name

    def any(self, name: str) -> Any:
        """Take a field of any kind; None where it is absent."""
        return self._left.pop(name, None)

    def peek(self, name: str) -> Any:
        """Return a field, and leave it there."""
        return self._left.get(name)

    def take(self, name: str, kind: type[T]) -> T | None:
        """Take a field of one kind; None where it is absent."""
        value = self.any(name)
        if value is None:
            return None
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise wrong(self.path(name), _KINDS.get(kind, "a list"))
        return value

    def need(self, name: str, kind: type[T]) -> T:
        """Take a field that must be there."""
        value = self.take(name, kind)
        if value is None:
            raise wrong(self.path(name), _KINDS.get(kind, "a list"))
        return value

    def same(self, names: Iterable[str]) -> JSON:
        """Take fields that chat completions have under the same name."""
        return {name: self._left.pop(name) for name in tuple(names) if name in self._left}

    def inner(self, name: str) -> "Fields | None":
        """Take an object."""
        value = self.any(name)
        return None if value is None else self.of(value, at=self.path(name))

    def each(self, name: str) -> "Iterator[Fields]":
        """Take a list of objects."""
        for i, value in enumerate(self.take(name, list) or ()):
            yield self.of(value, at=f"{self.path(name)}[{i}]")

    def of(self, value: object, *, at: str) -> "Fields":
        """Read another object of the same body."""
        return Fields(value, at=at, ignored=self.ignored, carry=self.carry)

    def ignore(self, *names: str, path: bool = False) -> None:
        """Take hints that change no answer, and note them by name, or by their whole path."""
        for name in names:
            if self.any(name) not in (None, [], {}):
                self.ignored.add(_INDEX.sub("", self.path(name)) if path else name)

    def hint(self, name: str) -> JSON:
        """Take a hint that engines of some kinds heed: as a field for those, else it is ignored."""
        if name not in self.carry:
            self.ignore(name)
            return {}
        value = self.any(name)
        return {} if value is None else {name: value}

    def only(self, name: str, allowed: Sequence[object] = (), *, why: str) -> None:
        """Take a field that may only have a value without effect; the Problem says `why`."""
        value = self.any(name)
        if value is not None and value not in allowed:
            raise refused(self.path(name), why)

    def drop(self) -> None:
        """Take all that is left."""
        self._left.clear()

    def done(self) -> None:
        """Refuse what is left: it cannot be carried."""
        if self._left:
            name = self.path(min(self._left))
            raise refused(name, "it is not known here, or has no equal in chat completions")


def wrong(at: str, wanted: str) -> Problem:
    """Return the Problem of a field that is missing or of a wrong kind."""
    what = f"{at or 'the body'} must be {wanted}"
    return Problem(what, status=400, param=at or None, hint="see the API's own reference")


def refused(at: str, why: str, *, hint: str = _ELSEWHERE) -> Problem:
    """Return the Problem of a field that means what this gateway cannot do."""
    return Problem(f"{at} cannot be carried: {why}", status=400, param=at, hint=hint)


def keeps_nothing(at: str) -> Problem:
    """Return the Problem of a field that needs responses to be kept, where none is."""
    hint = "send the whole conversation as input and store: false, or ask the operator to set "
    return refused(at, "this gateway keeps no responses", hint=f"{hint}gateway.responses_ttl")
