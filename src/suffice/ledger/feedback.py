"""What an application says of an answer, taken only from whom the answer was given to, and once."""

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from suffice.ledger.database import Ledger
from suffice.ledger.migrations import AUDIT_ORDER_LOCK, take_turns
from suffice.ledger.records import Label, Role
from suffice.ledger.schema import attempts, requests, scores, time_us


class FeedbackOutcome(StrEnum):
    """What became of a piece of feedback."""

    BOOKED = "booked"
    UNKNOWN = "unknown"  # no answered request of that key has this id
    REPEATED = "repeated"  # the answer has its feedback already


def give_feedback(
    ledger: Ledger, request_id: str, *, quality: float, key_id: str | None, now: datetime
) -> FeedbackOutcome:
    """Book feedback on the answer that a request got; raises LedgerError.

    It names no rung: a mark that does, of whatever kind, goes before it in every reading.
    """
    own = requests.c.key_id.is_(None) if key_id is None else requests.c.key_id == key_id
    answered = sa.exists().where(
        attempts.c.request_id == requests.c.request_id, attempts.c.role == Role.ANSWER.value
    )
    with ledger.writing() as connection:
        take_turns(connection, AUDIT_ORDER_LOCK)  # scores show in the order of their ids
        query = sa.select(requests.c.id).where(requests.c.request_id == request_id, own, answered)
        if connection.execute(query).one_or_none() is None:
            return FeedbackOutcome.UNKNOWN
        before = sa.select(scores.c.id).where(
            scores.c.request_id == request_id, scores.c.label == Label.FEEDBACK.value
        )
        if connection.execute(before.limit(1)).one_or_none() is not None:
            return FeedbackOutcome.REPEATED
        row = {
            "request_id": request_id,
            "rung": None,
            "quality": quality,
            "label": Label.FEEDBACK.value,
            "time_us": time_us(now),
        }
        connection.execute(sa.insert(scores), [row])
    return FeedbackOutcome.BOOKED
