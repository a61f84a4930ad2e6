"""POST /v1/outcomes: how a whole session came out, said by tests, reviews or tickets."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from suffice.gateway.exchange import Exchange
from suffice.gateway.problems import Problem
from suffice.gateway.statements import StatementKind, book_statement
from suffice.gateway.worker import Worker
from suffice.ledger.outcomes import OutcomeReceipt, SessionOutcome, book_outcome
from suffice.sessions.identity import hashed


class ReportedOutcome(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of a session, by the id under which its client sent it."""

    session: Annotated[str, Meta(min_length=1)]
    score: Annotated[float, Meta(ge=0, le=1)]
    kind: Annotated[str, Meta(min_length=1, max_length=100)]


OUTCOME = StatementKind(
    form=ReportedOutcome,
    scope="outcomes",
    name="outcome",
    example='{"session": "...", "score": 0 to 1, "kind": "tests"}',
)


async def take_outcome(exchange: Exchange, worker: Worker) -> None:
    """Book an outcome, however late; the first word of a kind counts."""

    def book(said: ReportedOutcome, key_id: str | None) -> OutcomeReceipt:
        outcome = SessionOutcome(
            session_id=hashed(said.session.encode("utf-8", "replace")),
            kind=said.kind.replace("\0", "\ufffd"),
            score=said.score,
            time=datetime.now(UTC),
            key_id=key_id,
        )
        return book_outcome(worker.books.ledger, outcome)

    said, receipt = await book_statement(exchange, worker, OUTCOME, book=book)
    if receipt is OutcomeReceipt.UNKNOWN:
        raise Problem(
            f"there is no request of session {said.session!r}",
            status=404,
            param="session",
            hint="name it as the client does, in x-claude-code-session-id or session_id",
        )
    if receipt is OutcomeReceipt.CONTRADICTED:
        raise Problem(
            f"session {said.session!r} has another outcome of the kind {said.kind!r}",
            status=409,
            param="score",
            hint="the first word counts; say it under another kind",
        )
    await exchange.reply_json({"status": receipt.value})
