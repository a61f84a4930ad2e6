"""The values that the ledger keeps: one entry for each request, its attempts, its scores."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from suffice.types import JSON, Charge, Generation, Vector


class Status(StrEnum):
    """How a request ended."""

    OK = "ok"
    FAILED = "failed"  # no rung gave an answer
    CANCELLED = "cancelled"  # the client left; what was generated is charged
    REFUSED = "refused"  # it never reached an engine: over a limit, or not allowed


class Role(StrEnum):
    """What became of one call to an engine."""

    ANSWER = "answer"  # the client got it, whole or in part
    DISCARDED = "discarded"  # it was paid for and not used: deferred, failed, or a lost hedge
    CHECK = "check"  # the operator's check of an answer, under the check's name
    AUDIT = "audit"  # made off the client's path, to learn what another rung would have said
    SHADOW = "shadow"  # made off the client's path, to try a rung on first turns of sessions


OFF_PATH = frozenset({Role.AUDIT, Role.SHADOW})  # calls that no client waits for, or pays


class ReferenceKnown(StrEnum):
    """How the reference rung's cost of a request is known."""

    MEASURED = "measured"  # the reference answered it, and no count of that was estimated
    ESTIMATED = "estimated"  # from the mean of the certificate's trials
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, charge: Charge) -> "ReferenceKnown":
        """Say how a charge is known that stands for the reference's."""
        if charge.usd is None:
            return cls.UNKNOWN
        return cls.ESTIMATED if charge.estimated else cls.MEASURED


class Label(StrEnum):
    """Where a score comes from."""

    TARGET = "target"  # compared with a true target
    SCORER = "scorer"  # a program judged the answer
    JUDGE = "judge"  # a model judged the answer
    AGREEMENT = "agreement"  # compared with the reference rung's answer
    FEEDBACK = "feedback"  # the application said so afterwards


class Attempt(Generation, frozen=True, kw_only=True):
    """One call to an engine for a request.

    `answer`, `reasoning` and `samples` are kept only with text on.
    `time` is when it was made; None means the time of its request. `tool_calls` are the calls of
    the answer, which the books do not keep.
    """

    rung: str
    role: Role
    charge: Charge
    time: datetime | None = None
    tool_calls: tuple[JSON, ...] = ()


class Entry(Struct, frozen=True, kw_only=True):
    """One request: `rung` answered it (None when none did); `attempts` in the order they ended.

    `conversation_id` names the agent whose history the request has, `session_id` the session that
    the client says it belongs to. `key_id` names an API key without being one, and `tags` are
    words for sums, without commas. `text` is what features read, kept only with text on;
    `reference_usd` is what the reference rung alone costs for it. `turn` counts the answers that
    the prompt holds, and this one. During a roll-out `arm` is what the session was drawn for,
    `policy` or `reference`, `arm_chance` how likely that was, and `wish` the rung that the policy
    chooses. `shadow_chance` is how likely its session was to be drawn for a shadow; None where it
    was not drawn, or is past its first turns.
    Characters that a database cannot hold (NUL, lone surrogates) are replaced.
    """

    request_id: str
    time: datetime
    status: Status
    reference_rung: str
    attempts: tuple[Attempt, ...] = ()
    rung: str | None = None
    vector: Vector = Vector.NONE
    group: str | None = None
    conversation_id: str | None = None
    session_id: str | None = None
    key_id: str | None = None
    tags: tuple[str, ...] = ()
    turn: int | None = None
    arm: str | None = None
    arm_chance: float | None = None
    wish: str | None = None
    shadow_chance: float | None = None
    audited: bool = False
    reference_usd: Decimal | None = None
    reference_known: ReferenceKnown = ReferenceKnown.UNKNOWN
    certificate_id: str | None = None
    error: str | None = None
    text: str | None = None

    @property
    def charge(self) -> Charge:
        """What serving the request cost, with discarded attempts, without audits and shadows."""
        charges = [a.charge for a in self.attempts if a.role not in OFF_PATH]
        return sum(charges[1:], charges[0]) if charges else Charge(usd=Decimal(0))


class Score(Struct, frozen=True, kw_only=True):
    """A judgement of one answer: `quality` in [0, 1]; `rung` None means the one that was given."""

    request_id: str
    time: datetime
    quality: float
    label: Label
    rung: str | None = None


class TrialSample(StrEnum):
    """Which requests of a ledger became trials: both kinds were drawn before anything was known."""

    AUDITS = "audits"  # every rung answered a random share of the requests
    SHADOWS = "shadows"  # one rung tried the first turns of a random share of the sessions


class AuditedRequest(Struct, frozen=True, kw_only=True):
    """An answered request that was audited: who answered, and its scores in the order written.

    `id` is its place in the order of audits; `session` the session that it belongs to,
    or else the conversation.
    `reference_failed` says that the reference rung was asked and gave no answer, so that there is
    none to compare with. An answer that the client cut off counts: the audit had it written anew.
    """

    id: int
    request_id: str
    time: datetime
    rung: str
    reference_rung: str
    group: str | None = None
    session: str | None = None
    reference_failed: bool = False
    scores: tuple[Score, ...] = ()


class Window(Struct, frozen=True, kw_only=True):
    """A stretch of time, from `since` until just before `until`; None leaves that side open."""

    since: datetime | None = None
    until: datetime | None = None


ALL_TIME = Window()
