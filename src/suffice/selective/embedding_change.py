"""Change scores for events of any kind: sensor windows, video frames, embedded text."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from suffice.engines.base import Engine
from suffice.errors import InputError
from suffice.types import Request, Rung

E = TypeVar("E")
Vector = NDArray[np.floating[Any]]


class AnswerChange(Generic[E]):
    """How far the predicted answers have moved since the last decode: total variation.

    `predict` returns the probabilities of a closed set of answers, always of one length.
    """

    def __init__(self, predict: Callable[[E], Vector]) -> None:
        self._last = _Last(predict)

    def score(self, event: E) -> float:
        """Return half the sum of absolute differences, in [0, 1]."""
        held, now = self._last.pair(event)
        if now.min() < 0.0 or abs(now.sum() - 1.0) > 1e-3:
            raise InputError("the predictor returned something other than probabilities")
        return float(min(1.0, np.abs(now - held).sum() / 2.0))

    def decoded(self, event: E, answer: str) -> None:  # noqa: ARG002 (the protocol's form)
        """Compare with this event from now on."""
        self._last.hold(event)


class EmbeddingChange(Generic[E]):
    """One minus the cosine to the event decoded last, for streams with no closed answer set.

    `embed` returns one vector, always of one length; `full` is the distance that counts as a
    certain change.
    """

    def __init__(self, embed: Callable[[E], Vector], *, full: float = 1.0) -> None:
        if not full > 0.0:
            raise InputError(f"a full change cannot be a distance of {full}")
        self._last = _Last(embed)
        self._full = full

    def score(self, event: E) -> float:
        """Return the distance over `full`, at most 1."""
        held, now = self._last.pair(event)
        lengths = float(np.linalg.norm(held) * np.linalg.norm(now))
        cosine = float(held @ now) / lengths if lengths else 0.0
        return float(np.clip((1.0 - cosine) / self._full, 0.0, 1.0))

    def decoded(self, event: E, answer: str) -> None:  # noqa: ARG002 (the protocol's form)
        """Compare with this event from now on."""
        self._last.hold(event)


class _Last(Generic[E]):
    """The vector of the event decoded last, and of the one just looked at: O(1) memory."""

    def __init__(self, measure: Callable[[E], Vector]) -> None:
        self._measure = measure
        self._held: Vector | None = None
        self._seen: tuple[E, Vector] | None = None

    def pair(self, event: E) -> tuple[Vector, Vector]:
        now = self._look(event)
        self._seen = (event, now)
        if self._held is None:
            self._held = now
        if self._held.shape != now.shape:
            raise InputError(
                f"a vector of shape {now.shape} cannot be compared with one of {self._held.shape}",
                hint="use one encoder, and one answer set, for a whole stream",
            )
        return self._held, now

    def hold(self, event: E) -> None:
        seen = self._seen
        self._held = seen[1] if seen is not None and seen[0] is event else self._look(event)
        self._seen = None

    def _look(self, event: E) -> Vector:
        vector = np.asarray(self._measure(event))
        if not np.isfinite(vector).all():
            raise InputError("an event's vector is not finite", hint="leave this event out")
        return vector


def decode_through(
    engine: Engine, rung: Rung, *, ask: Callable[[E], Request]
) -> Callable[[E], Awaitable[str]]:
    """Return a decoder that asks an engine; `ask` turns an event into a request."""

    async def decode(event: E) -> str:
        return (await engine.complete(ask(event), rung)).text

    return decode
