"""POST /v1/feedback: how good an answer was, said by the key that got it."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from suffice.gateway.exchange import Exchange
from suffice.gateway.keys import Key
from suffice.gateway.problems import Problem
from suffice.gateway.statements import StatementKind, book_statement
from suffice.gateway.worker import Worker
from suffice.ledger.feedback import FeedbackOutcome, give_feedback


class Feedback(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an application says of the answer that it got."""

    request_id: str
    score: Annotated[float, Meta(ge=0, le=1)]


FEEDBACK = StatementKind(
    form=Feedback,
    scope="feedback",
    name="feedback",
    example='{"request_id": "...", "score": 0 to 1}',
)


async def take_feedback(exchange: Exchange, worker: Worker) -> None:
    """Book a real outcome, where the next certificate finds it; it counts as a request of its key.

    Only the key that a request belongs to may speak of it, and once.
    """

    def book(feedback: Feedback, key: Key | None) -> FeedbackOutcome:
        return give_feedback(
            *(worker.books.ledger, feedback.request_id),
            quality=feedback.score,
            key_id=key.name if key else None,
            now=datetime.now(UTC),
        )

    feedback, outcome = await book_statement(exchange, worker, FEEDBACK, book=book)
    if outcome is FeedbackOutcome.UNKNOWN:
        raise Problem(
            f"there is no answered request {feedback.request_id!r} of this key",
            status=404,
            param="request_id",
            hint="it stands in the answer's header x-suffice-request-id",
        )
    if outcome is FeedbackOutcome.REPEATED:
        raise Problem(
            f"request {feedback.request_id!r} has its feedback already",
            status=409,
            param="request_id",
            hint="the first word counts; nothing needs to be sent again",
        )
    await exchange.reply_json({"status": "booked"})
