"""POST /v1/outcomes: how a whole session came out, said by tests, reviews or tickets."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from suffice.gateway.exchange import Exchange
from suffice.gateway.problems import Problem
from suffice.gateway.worker import Worker
from suffice.ledger.outcomes import OutcomeReceipt, SessionOutcome, book_outcome
from suffice.sessions.identity import hashed

LIMIT_BYTES = 64 * 1024


class ReportedOutcome(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of a session, by the id under which its client sent it."""

    session: Annotated[str, Meta(min_length=1)]
    score: Annotated[float, Meta(ge=0, le=1)]
    kind: Annotated[str, Meta(min_length=1, max_length=100)]


async def take_outcome(exchange: Exchange, worker: Worker) -> None:
    """Book an outcome, however late; the first word of a kind counts."""
    key = worker.access.authenticate(exchange.headers, "outcomes")
    admission = await worker.access.enter(key, request_id=f"outcome-{exchange.request_id}")
    try:
        body = await exchange.body(limit=LIMIT_BYTES)
        try:
            said = msgspec.json.decode(body, type=ReportedOutcome)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            hint = 'send {"session": "...", "score": 0 to 1, "kind": "tests"}'
            raise Problem(f"no outcome: {error}", status=400, hint=hint) from error
        outcome = SessionOutcome(
            session_id=hashed(said.session.encode("utf-8", "replace")),
            kind=said.kind.replace("\0", "\ufffd"),
            score=said.score,
            time=datetime.now(UTC),
            key_id=key.name if key else None,
        )
        receipt = await asyncio.to_thread(book_outcome, worker.books.ledger, outcome)
    finally:
        worker.access.settle(admission, None)
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
