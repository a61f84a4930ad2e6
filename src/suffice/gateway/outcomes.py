"""POST /v1/outcomes: how a whole session came out, said by tests, reviews or tickets."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from suffice.gateway.exchange import Exchange
from suffice.gateway.keys import Key
from suffice.gateway.problems import Problem
from suffice.gateway.statements import StatementKind, book_statement
from suffice.gateway.worker import Worker
from suffice.ledger.outcomes import (
    OutcomeReceipt,
    SessionOutcome,
    book_outcome,
    known_sessions,
)
from suffice.sessions.identity import hashed, keyed, owned


class ReportedOutcome(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of a session, by the id under which its client sent it.

    `key` names the key that the client sent it by.
    """

    session: Annotated[str, Meta(min_length=1)]
    score: Annotated[float, Meta(ge=0, le=1)]
    kind: Annotated[str, Meta(min_length=1, max_length=100)]
    key: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


OUTCOME = StatementKind(
    form=ReportedOutcome,
    scope="outcomes",
    name="outcome",
    example='{"session": "...", "score": 0 to 1, "kind": "tests"}',
)


async def take_outcome(exchange: Exchange, worker: Worker) -> None:
    """Book an outcome, however late; the first word of a kind counts.

    A key that may chat speaks of its own sessions unless it names another key. A key that may not
    speaks of the sessions of all keys.
    """

    def book(said: ReportedOutcome, key: Key | None) -> OutcomeReceipt:
        ledger = worker.books.ledger
        known = known_sessions(ledger, _names(said, key, worker))
        if len(known) > 1:
            raise Problem(
                f"{len(known)} keys have sent a session {said.session!r}",
                status=409,
                param="key",
                hint="say whose it is: the name of its key, as key",
            )
        if not known:
            return OutcomeReceipt.UNKNOWN
        outcome = SessionOutcome(
            session_id=known[0],
            kind=said.kind.replace("\0", "\ufffd"),
            score=said.score,
            time=datetime.now(UTC),
            key_id=key.name if key else None,
        )
        return book_outcome(ledger, outcome)

    said, receipt = await book_statement(exchange, worker, OUTCOME, book=book)
    if receipt is OutcomeReceipt.UNKNOWN:
        raise Problem(
            f"there is no request of session {said.session!r}",
            status=404,
            param="session",
            hint="name it as the client does, in x-claude-code-session-id or session_id; of "
            "another key's session, and of one whose key is deleted, name the key, too",
        )
    if receipt is OutcomeReceipt.CONTRADICTED:
        raise Problem(
            f"session {said.session!r} has another outcome of the kind {said.kind!r}",
            status=409,
            param="score",
            hint="the first word counts; say it under another kind",
        )
    await exchange.reply_json({"status": receipt.value})


def _names(said: ReportedOutcome, key: Key | None, worker: Worker) -> list[str]:
    """Return the names that the session may have in the books, one for each key it may be of.

    Those of a gateway without keys belong to none.
    """
    sent, id_key = hashed(said.session.encode("utf-8", "replace")), worker.serving.id_key
    sent = sent if id_key is None else keyed(sent, id_key)
    if said.key is not None:
        return [owned(sent, said.key)]
    if key is not None and key.opens("chat"):
        return [owned(sent, key.name)]
    desk = worker.access.desk
    return [sent, *(owned(sent, name) for name in (desk.limiter.ring.names if desk else ()))]
