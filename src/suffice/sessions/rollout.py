"""Which sessions a policy chooses for while it is rolled out: a share of them, drawn for good."""

from hashlib import blake2b

from msgspec import Struct


class SessionArm(Struct, frozen=True, kw_only=True):
    """What a session was drawn for: the policy or the reference, and how likely that was.

    `wish` is the rung that the policy chooses, whether or not it may.
    """

    by_policy: bool
    chance: float
    wish: str


class RollOut:
    """The share of sessions that the policy chooses for; none once it is `stopped`."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.stopped = False

    @property
    def partial(self) -> bool:
        """Whether some sessions are held back, so that draws are worth writing down."""
        return self.share < 1.0

    def admits(self, session: str) -> bool:
        """Whether the policy may choose for a session; the same on every worker, and for good."""
        return drawn(session) < self.share

    def arm(self, session: str, *, wish: str) -> SessionArm:
        """Return what a session was drawn for."""
        by_policy = self.admits(session)
        chance = self.share if by_policy else 1.0 - self.share
        return SessionArm(by_policy=by_policy, chance=chance, wish=wish)


def drawn(session: str, *, purpose: bytes = b"suffice roll") -> float:
    """Return a number in [0, 1) that is as good as random, and always the same for one session.

    Draws for two purposes, of at most 16 bytes each, have nothing to do with each other.
    """
    digest = blake2b(session.encode(), digest_size=8, person=purpose).digest()
    return (int.from_bytes(digest) >> 11) / 2.0**53
