"""What an attempted rung's own output shows, and nothing else about it."""

from msgspec import Struct

from suffice.types import Finish


class Signals(Struct, frozen=True, kw_only=True):
    """The output of one attempt, as far as it is known; everything may be missing.

    `reasoning` is what was shown of it; `samples` are further answers to the same request by the
    same rung.
    """

    answer: str | None = None
    reasoning: str | None = None
    finish: Finish | None = None
    mean_logprob: float | None = None
    samples: tuple[str, ...] = ()

    @property
    def abstained(self) -> bool:
        """Whether the rung declined: there is no answer that could be kept."""
        return self.finish is Finish.ABSTAINED


def mark(passed: bool | None) -> float:  # noqa: FBT001
    """Return +1 for a check that passed, -1 for one that failed, 0 for one that does not apply."""
    return 0.0 if passed is None else 1.0 if passed else -1.0
