"""What a key says of an answer or a session after the fact: admitted like a request, and booked."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from suffice.gateway.exchange import Exchange
from suffice.gateway.keys import Key, Scope
from suffice.gateway.problems import Problem
from suffice.gateway.worker import Worker

LIMIT_BYTES = 64 * 1024

S = TypeVar("S", bound=Struct)
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class StatementKind(Generic[S]):
    """One kind of statement: its form, the scope that a key needs, its name, and an example."""

    form: type[S]
    scope: Scope
    name: str
    example: str


async def book_statement(
    exchange: Exchange,
    worker: Worker,
    kind: StatementKind[S],
    *,
    book: Callable[[S, Key | None], R],
) -> tuple[S, R]:
    """Read a statement and book it, off the event loop; it counts as a request of its key.

    `book` takes the statement and the key that made it, None where there are no keys.
    """
    key = worker.access.authenticate(exchange.headers, kind.scope)
    admission = await worker.access.enter(key, request_id=f"{kind.name}-{exchange.request_id}")
    try:
        body = await exchange.body(limit=LIMIT_BYTES)
        try:
            statement = msgspec.json.decode(body, type=kind.form)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Problem(
                f"no {kind.name}: {error}", status=400, hint=f"send {kind.example}"
            ) from error
        return statement, await asyncio.to_thread(book, statement, key)
    finally:
        worker.access.settle(admission, None)
