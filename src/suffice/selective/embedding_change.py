"""Change scores for events of any kind, such as sensor windows and video frames."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from suffice.errors import InputError

E = TypeVar("E")
Vector = NDArray[np.floating[Any]]


class AnswerChange(Generic[E]):
    """The total variation of the predicted answers since the last decode.

    `predict` returns the probabilities of a closed set of answers, in vectors of one length.
    """

    def __init__(self, predict: Callable[[E], Vector]) -> None:
        self._last = _DecodedVector(predict)

    def score(self, event: E) -> float:
        """Return half the sum of absolute differences, in [0, 1]."""
        held, current = self._last.pair(event)
        if current.min() < 0.0 or abs(current.sum() - 1.0) > 1e-3:
            raise InputError(
                f"the predicted answers of an event sum to {current.sum():g}",
                hint="the predictor must return probabilities of a closed set of answers",
            )
        return float(min(1.0, np.abs(current - held).sum() / 2.0))

    def decoded(self, event: E, answer: str) -> None:  # noqa: ARG002 (the protocol's form)
        """Compare with this event from now on."""
        self._last.hold(event)


class EmbeddingChange(Generic[E]):
    """One minus the cosine to the event decoded last, for streams without a closed answer set.

    `embed` returns vectors of one length. `full` is the distance that has score 1.
    """

    def __init__(self, embed: Callable[[E], Vector], *, full: float = 1.0) -> None:
        if not full > 0.0:
            raise InputError(f"a full change cannot be a distance of {full}")
        self._last = _DecodedVector(embed)
        self._full = full

    def score(self, event: E) -> float:
        """Return the distance over `full`, at most 1."""
        held, current = self._last.pair(event)
        lengths = float(np.linalg.norm(held) * np.linalg.norm(current))
        cosine = float(held @ current) / lengths if lengths else 0.0
        return float(np.clip((1.0 - cosine) / self._full, 0.0, 1.0))

    def decoded(self, event: E, answer: str) -> None:  # noqa: ARG002 (the protocol's form)
        """Compare with this event from now on."""
        self._last.hold(event)


class _DecodedVector(Generic[E]):
    """The vector of the event decoded last, to compare with later ones; in O(1) memory."""

    def __init__(self, measure: Callable[[E], Vector]) -> None:
        self._measure = measure
        self._held: Vector | None = None
        self._latest: tuple[E, Vector] | None = None

    def pair(self, event: E) -> tuple[Vector, Vector]:
        current = self._vector(event)
        self._latest = (event, current)
        if self._held is None:
            self._held = current
        if self._held.shape != current.shape:
            raise InputError(
                f"a vector of shape {current.shape} cannot be compared with {self._held.shape}",
                hint="use one encoder, and one answer set, for a whole stream",
            )
        return self._held, current

    def hold(self, event: E) -> None:
        latest = self._latest
        if latest is not None and latest[0] is event:
            self._held = latest[1]
        else:
            self._held = self._vector(event)
        self._latest = None

    def _vector(self, event: E) -> Vector:
        vector = np.asarray(self._measure(event))
        if not np.isfinite(vector).all():
            raise InputError("an event's vector is not finite", hint="leave this event out")
        return vector
