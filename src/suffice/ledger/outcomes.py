"""How whole sessions came out, as tests, reviews or tickets say afterwards: once for each kind."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import sqlalchemy as sa
from msgspec import Struct

from suffice.ledger.database import Ledger
from suffice.ledger.migrations import AUDIT_ORDER_LOCK, take_turns
from suffice.ledger.records import ALL_TIME, Window
from suffice.ledger.schema import outcomes, requests, time_from_us, time_us, usd, within

_AFTER_DRAW = outcomes.c.time_us >= requests.c.time_us  # of the request that was drawn for first
_SERVED = ("session_id", "arm", "arm_chance", "wish", "rung", "text")


class OutcomeReceipt(StrEnum):
    """What became of a report of an outcome."""

    BOOKED = "booked"
    REPEATED = "repeated"  # the same word of the same kind is in the books already
    UNKNOWN = "unknown"  # the books have no request of this session
    CONTRADICTED = "contradicted"  # another score of the same kind is in the books


class SessionOutcome(Struct, frozen=True, kw_only=True):
    """What was said of a session: a score in [0, 1] of one kind, such as `tests` or `ticket`.

    `session_id` is the hash that requests have; `key_id` names the key that said it.
    """

    session_id: str
    kind: str
    score: float
    time: datetime
    key_id: str | None = None


def known_sessions(ledger: Ledger, session_ids: Iterable[str]) -> tuple[str, ...]:
    """Return those of some sessions that the books have requests of; raises LedgerError."""
    wanted = list(session_ids)
    known: list[str] = []
    with ledger.reading() as connection:
        for start in range(0, len(wanted), 500):
            mine = requests.c.session_id.in_(wanted[start : start + 500])
            query = sa.select(requests.c.session_id).where(mine).distinct()
            known += connection.execute(query).scalars()
    return tuple(known)


def book_outcome(ledger: Ledger, outcome: SessionOutcome) -> OutcomeReceipt:
    """Book how a session came out, however late; the first word of a kind counts.

    Raises LedgerError.
    """
    known = sa.select(requests.c.id).where(requests.c.session_id == outcome.session_id).limit(1)
    before = sa.select(outcomes.c.score).where(
        outcomes.c.session_id == outcome.session_id, outcomes.c.kind == outcome.kind
    )
    with ledger.writing() as connection:
        take_turns(connection, AUDIT_ORDER_LOCK)
        score = connection.execute(before).scalar_one_or_none()
        if score is not None:
            same = score == outcome.score
            return OutcomeReceipt.REPEATED if same else OutcomeReceipt.CONTRADICTED
        if connection.execute(known).one_or_none() is None:
            return OutcomeReceipt.UNKNOWN
        row = {
            "session_id": outcome.session_id,
            "kind": outcome.kind,
            "score": outcome.score,
            "key_id": outcome.key_id,
            "time_us": time_us(outcome.time),
        }
        connection.execute(sa.insert(outcomes), [row])
    return OutcomeReceipt.BOOKED


def outcomes_of(
    ledger: Ledger, *, kinds: Iterable[str] = (), window: Window = ALL_TIME
) -> tuple[SessionOutcome, ...]:
    """List what was said of sessions in a window, in order; of some kinds, or of all."""
    wanted = tuple(kinds)
    query = sa.select(outcomes).where(*within(outcomes.c.time_us, window)).order_by(outcomes.c.id)
    if wanted:
        query = query.where(outcomes.c.kind.in_(wanted))
    with ledger.reading() as connection:
        rows = connection.execute(query).all()
    return tuple(
        SessionOutcome(
            session_id=row.session_id,
            kind=row.kind,
            score=row.score,
            time=time_from_us(row.time_us),
            key_id=row.key_id,
        )
        for row in rows
    )


def outcome_kinds(ledger: Ledger) -> dict[str, int]:
    """Count the outcomes of each kind; raises LedgerError."""
    query = sa.select(outcomes.c.kind, sa.func.count()).group_by(outcomes.c.kind)
    with ledger.reading() as connection:
        rows = connection.execute(query.order_by(outcomes.c.kind)).all()
    return {kind: count for kind, count in rows}  # noqa: C416 - rows are no pairs to a type checker


class DrawnSession(Struct, frozen=True, kw_only=True):
    """A session that a roll-out drew for an arm, as of its first request; `score` None for none.

    `arm_chance` is that of its own arm, and `wish` a rung below the reference that the policy
    chose for any of its requests, or else the reference. With `mixed` the other arm answered some
    requests too: the share or the certificate changed. `usd` is what serving it has cost so far.
    """

    session_id: str
    time: datetime
    by_policy: bool
    arm_chance: float
    wish: str
    mixed: bool
    certificate_id: str | None
    usd: Decimal | None
    score: float | None


def drawn_sessions(
    ledger: Ledger, *, kind: str, window: Window = ALL_TIME
) -> tuple[DrawnSession, ...]:
    """List the sessions that a roll-out drew for, in order of their ids, with outcomes of a kind.

    The window is of their first requests. A session whose outcome came before it was drawn for is
    left out: no arm had a part in it. Raises LedgerError.
    """
    drawn, below = requests.c.arm.is_not(None), requests.c.wish != requests.c.reference_rung
    policy = sa.case((requests.c.certificate_id.is_not(None), "policy"))
    whole = (
        sa.select(
            requests.c.session_id,
            sa.func.min(sa.case((drawn, requests.c.id))).label("id"),
            sa.func.max(sa.case((drawn & below, requests.c.wish))).label("below"),
            sa.func.count(sa.distinct(sa.func.coalesce(requests.c.arm, policy))).label("arms"),
            sa.func.sum(requests.c.charge_picousd).label("picousd"),
            sa.func.count(sa.case((requests.c.charge_picousd.is_(None), 1))).label("unknown"),
        )
        .where(requests.c.session_id.is_not(None))
        .group_by(requests.c.session_id)
        .subquery()
    )
    own = sa.and_(outcomes.c.session_id == whole.c.session_id, outcomes.c.kind == kind)
    first = requests.c.id == whole.c.id
    query = (
        sa.select(
            *(requests.c[name] for name in ("session_id", "time_us", "arm", "arm_chance", "wish")),
            requests.c.certificate_id,
            *(whole.c.below, whole.c.arms, whole.c.picousd, whole.c.unknown),
            outcomes.c.score,
        )
        .select_from(whole.join(requests, first).outerjoin(outcomes, own))
        .where(*within(requests.c.time_us, window), outcomes.c.id.is_(None) | _AFTER_DRAW)
        .order_by(requests.c.session_id)
    )
    with ledger.reading() as connection:
        rows = connection.execute(query).all()
    return tuple(
        DrawnSession(
            session_id=row.session_id,
            time=time_from_us(row.time_us),
            by_policy=row.arm == "policy",
            arm_chance=row.arm_chance,
            wish=row.below or row.wish,
            mixed=row.arms > 1,
            certificate_id=row.certificate_id,
            usd=None if row.unknown else usd(int(row.picousd)),
            score=row.score,
        )
        for row in rows
    )


class ArmRecord(Struct, frozen=True, kw_only=True):
    """How a session of a roll-out was served, by its first request, and how it came out."""

    session_id: str
    kind: str
    score: float
    arm: str
    arm_chance: float
    wish: str
    rung: str | None
    text: str | None


def arm_outcomes(
    ledger: Ledger, *, kind: str | None = None, window: Window = ALL_TIME
) -> tuple[ArmRecord, ...]:
    """List the outcomes of sessions that a roll-out drew for, in the order in which they came.

    The window is of the requests. A session with outcomes of several kinds is there for each, but
    for those that came before it was drawn for.
    Raises LedgerError.
    """
    drawn = [requests.c.arm.is_not(None), *within(requests.c.time_us, window)]
    first = (
        sa.select(sa.func.min(requests.c.id).label("id"))
        .where(*drawn, requests.c.session_id.is_not(None))
        .group_by(requests.c.session_id)
        .subquery()
    )
    query = (
        sa.select(
            outcomes.c.kind,
            outcomes.c.score,
            *(requests.c[name] for name in _SERVED),
        )
        .join(requests, requests.c.session_id == outcomes.c.session_id)
        .join(first, first.c.id == requests.c.id)
        .where(_AFTER_DRAW)
        .order_by(outcomes.c.id)
    )
    if kind is not None:
        query = query.where(outcomes.c.kind == kind)
    with ledger.reading() as connection:
        rows = connection.execute(query).mappings().all()
    return tuple(ArmRecord(**row) for row in rows)
