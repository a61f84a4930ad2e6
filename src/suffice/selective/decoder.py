"""Selective decoding: hold the last decoded answer until the predicted answer changes.

For each event the gate adds up the probability that the held answer is wrong. It decodes when the
sum passes a threshold. This is Page's CUSUM with a forced refresh, in O(1) time and memory. Its two
bounds are arithmetic and hold for every stream:

    decodes   <= 1 + sum(scores) / threshold + events / refresh_events + duration / refresh_s
    staleness <= refresh_events events, and refresh_s up to the next event

How often the held answer is wrong depends on the stream; `calibrate_threshold` certifies it.
"""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from math import inf
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from suffice.errors import InputError

E = TypeVar("E")
E_contra = TypeVar("E_contra", contravariant=True)


class Reason(StrEnum):
    """Why an event was decoded."""

    FIRST = "first"  # nothing was held yet
    CHANGE = "change"  # the predicted answer changed
    REFRESH = "refresh"  # the held answer reached its largest age


class GateSettings(Struct, frozen=True, kw_only=True):
    """When to decode: if the sum of scores, each less `drift`, passes `threshold`.

    `refresh_events` and `refresh_s` are the largest age of a held answer. Raises InputError if a
    value makes the bounds meaningless.
    """

    threshold: float
    drift: float = 0.4
    refresh_events: int = 100
    refresh_s: float | None = None

    def __post_init__(self) -> None:
        sound = 0.0 < self.threshold < inf and 0.0 <= self.drift < 1.0 and self.refresh_events >= 1
        if not sound or (self.refresh_s is not None and not self.refresh_s > 0.0):
            raise InputError(
                f"a gate cannot have the settings {self}",
                hint="threshold and refresh_s above 0, drift in [0, 1), refresh_events at least 1",
            )

    def most_decodes(self, *, score_sum: float, events: int, duration_s: float = 0.0) -> float:
        """Return the deterministic bound on decodes for a stream with these totals."""
        by_age = events / self.refresh_events + duration_s / (self.refresh_s or inf)
        return 1.0 + score_sum / self.threshold + by_age


class DecodeGate:
    """Decides for each event whether to decode; call `decoded` after each successful decode."""

    __slots__ = ("_age", "_decoded_at_s", "_held", "_now_s", "_sum", "settings")

    def __init__(self, settings: GateSettings) -> None:
        self.settings = settings
        self._held = False
        self._sum = 0.0
        self._age = 0
        self._now_s = -inf
        self._decoded_at_s = -inf

    def push(self, score: float, *, at_s: float | None = None) -> Reason | None:
        """Take the probability that the held answer is wrong; return the reason to decode, or None.

        Raises InputError for a score outside [0, 1] and for a clock that went backwards; the gate
        does not change then.
        """
        if not 0.0 <= score <= 1.0:
            raise InputError(
                f"a score of {score} is not a probability",
                hint="check the encoder: NaN comes from empty or unreadable input",
            )
        if at_s is not None:
            if not at_s >= self._now_s:
                raise InputError(
                    f"the clock went backwards, from {self._now_s:g} s to {at_s:g} s",
                    hint="send events in the order of their times, from one clock",
                )
            self._now_s = at_s
        if not self._held:
            return Reason.FIRST
        self._age += 1
        self._sum = max(0.0, self._sum + score - self.settings.drift)
        if self._sum > self.settings.threshold:
            return Reason.CHANGE
        limit_s = self.settings.refresh_s
        late = limit_s is not None and self._now_s - self._decoded_at_s >= limit_s
        return Reason.REFRESH if late or self._age >= self.settings.refresh_events else None

    def decoded(self) -> None:
        """Reset the age and the sum, because a fresh answer is held."""
        self._held = True
        self._sum = 0.0
        self._age = 0
        self._decoded_at_s = self._now_s


class ChangeScorer(Protocol[E_contra]):
    """Predicts, before any decoding, whether the held answer is still right."""

    def score(self, event: E_contra) -> float:
        """Return the probability in [0, 1] that the held answer is wrong for this event."""
        ...

    def decoded(self, event: E_contra, answer: str) -> None:
        """Take the answer that was decoded for `event` and is held from now on."""
        ...


class DecodeStep(Struct, frozen=True, kw_only=True):
    """The answer to one event, and the reason of its decode; None if the answer was held."""

    index: int
    answer: str
    score: float
    reason: Reason | None


class SelectiveDecoder(Generic[E]):
    """Answers events with the held answer, or with a fresh one from `decode` if one is due."""

    def __init__(
        self,
        scorer: ChangeScorer[E],
        decode: Callable[[E], Awaitable[str]],
        *,
        settings: GateSettings,
    ) -> None:
        self.decodes = 0
        self._scorer = scorer
        self._decode = decode
        self._gate = DecodeGate(settings)
        self._answer: str | None = None
        self._index = -1

    async def push(self, event: E, *, at_s: float | None = None) -> DecodeStep:
        """Answer one event.

        Raises the errors of `decode`. The event then has no answer, and the next event is decoded.
        """
        score = 1.0 if self._answer is None else self._scorer.score(event)
        reason = self._gate.push(score, at_s=at_s)
        self._index += 1
        if reason is not None:
            self._answer = None
            self._answer = await self._decode(event)
            self._gate.decoded()
            self._scorer.decoded(event, self._answer)
            self.decodes += 1
        if self._answer is None:
            raise AssertionError("an event without a held answer is always decoded")
        return DecodeStep(index=self._index, answer=self._answer, score=score, reason=reason)
