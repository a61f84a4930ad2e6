"""State of the Responses API: what a client asks to be kept, and what it goes on from.

It lies in the ledger's database beside the books, so every worker and replica knows it, for as long
as `gateway.responses_ttl` says. A key sees what it has kept itself.
"""

import asyncio
import logging
import re
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from suffice.errors import LedgerError
from suffice.gateway.apis.fields import refused, wrong
from suffice.gateway.apis.responses_request import STATE
from suffice.gateway.problems import Problem
from suffice.ledger import Ledger
from suffice.ledger.states import State, find_state, keep_state, states_before, states_of
from suffice.types import JSON

RESPONSE, CONVERSATION, ITEMS = "resp_", "conv_", "items_"  # how the ids of rows begin
_ITEM_ID = re.compile(r"[a-z]+_(?P<row>[0-9a-f]{24})_(?:in)?\d+")
_log = logging.getLogger("suffice.gateway")


class KeptBody(Struct, frozen=True, kw_only=True):
    """The body of a row: the items that came in, and the response or the conversation itself."""

    input: list[JSON] = []
    response: JSON | None = None
    conversation: JSON | None = None

    @property
    def items(self) -> list[JSON]:
        """All items, those of the answer last."""
        return [*self.input, *((self.response or {}).get("output") or ())]


class Keeping(Struct, frozen=True, kw_only=True):
    """Where one key keeps its state, and for how long."""

    ledger: Ledger
    key_id: str | None
    ttl_s: float

    def find(self, state_id: str) -> State | None:
        """Return a row of this key; blocks."""
        return find_state(self.ledger, state_id, key_id=self.key_id, now=datetime.now(UTC))

    def keep(self, state: State) -> None:
        """Write a row; blocks."""
        keep_state(self.ledger, state, ttl_s=self.ttl_s)

    def items_of(self, conversation_id: str) -> list[JSON]:
        """Return all items of a conversation, oldest first; blocks."""
        now = datetime.now(UTC)
        rows = states_of(self.ledger, conversation_id, key_id=self.key_id, now=now)
        return [item for row in rows for item in body_of(row).items]


class ResponseState:
    """The state of one request: `history` are the items before its own, once it is `read`."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._input: list[JSON] = []
        self._previous_id: str | None = None
        self._conversation_id: str | None = None
        self.history: list[JSON] = []
        self.kept = False

    async def read(self, body: JSON, *, limit: int) -> JSON:
        """Return the body without its state, with references replaced by what they refer to.

        Raises Problem for what is not there, and 413 where all together is longer than `limit`
        bytes.
        """
        previous_id, conversation, store = (body.get(name) for name in (*STATE, "store"))
        if store not in (None, True, False):
            raise wrong("store", "true or false")
        if previous_id is not None and conversation is not None:
            why = "a conversation and previous_response_id go on from two things"
            raise refused("conversation", why, hint="send one of them")
        self.kept = store is not False or conversation is not None
        if previous_id is not None:
            self._previous_id = _text(previous_id, "previous_response_id")
        if conversation is not None:
            inner = conversation.get("id") if isinstance(conversation, dict) else conversation
            self._conversation_id = _text(inner, "conversation")
        if previous_id is not None or conversation is not None or _refers(body):
            self.history = await asyncio.to_thread(self._load)
            body = await asyncio.to_thread(self._resolved, body)
            if len(msgspec.json.encode([self.history, body.get("input")])) > limit:
                raise Problem(
                    f"the conversation is longer than {limit} bytes",
                    status=413,
                    hint="begin another one, or raise gateway.body_limit_bytes",
                )
        self._input = _items(body.get("input"))
        rest = {name: value for name, value in body.items() if name not in STATE}
        return {**rest, "store": self.kept}

    async def keep(self, response: JSON, *, request_id: str) -> JSON:
        """Keep an answer where it is to be kept, and return it as it is shown to the client.

        An answer that cannot be kept is given all the same, and says `store: false`.
        """
        shown = {**response, "previous_response_id": self._previous_id}
        if self._conversation_id is not None:
            shown["conversation"] = {"id": self._conversation_id}
        if not self.kept:
            return shown
        body = KeptBody(input=with_ids(self._input, row=request_id), response=shown)
        state = State(
            state_id=RESPONSE + request_id,
            key_id=self._keeping.key_id,
            time=datetime.now(UTC),
            body=msgspec.json.encode(body).decode(),
            previous_id=self._previous_id,
            conversation_id=self._conversation_id,
        )
        try:
            await asyncio.to_thread(self._keeping.keep, state)
        except LedgerError as error:
            _log.warning("response %s was not kept: %s", state.state_id, error.message)
            return {**shown, "store": False}
        return shown

    def _load(self) -> list[JSON]:
        keeping, now = self._keeping, datetime.now(UTC)
        if self._conversation_id is not None:
            if keeping.find(self._conversation_id) is None:
                raise missing(self._conversation_id, param="conversation")
            return keeping.items_of(self._conversation_id)
        if self._previous_id is None:
            return []
        rows = states_before(keeping.ledger, self._previous_id, key_id=keeping.key_id, now=now)
        if not rows or rows[-1].state_id != self._previous_id:
            raise missing(self._previous_id, param="previous_response_id")
        if rows[0].previous_id is not None:
            raise missing(rows[0].previous_id, param="previous_response_id")
        if rows[-1].conversation_id is not None:
            why = "that response belongs to a conversation"
            hint = f"send conversation: {rows[-1].conversation_id!r} in its place"
            raise refused("previous_response_id", why, hint=hint)
        return [item for row in rows for item in body_of(row).items]

    def _resolved(self, body: JSON) -> JSON:
        """Put items in the place of references; those that the history holds are left out."""
        items = body.get("input")
        if not isinstance(items, list):
            return body
        here = {item.get("id") for item in self.history}
        resolved = []
        for i, item in enumerate(items):
            reference = _reference(item)
            if reference is None:
                resolved.append(item)
            elif reference not in here:
                resolved.append(self._item(reference, at=f"input[{i}]"))
        return {**body, "input": resolved}

    def _item(self, item_id: str, *, at: str) -> JSON:
        match = _ITEM_ID.fullmatch(item_id)
        for start in (RESPONSE, ITEMS):
            row = self._keeping.find(start + match["row"]) if match else None
            for item in body_of(row).items if row is not None else ():
                if item.get("id") == item_id:
                    return item
        raise missing(item_id, param=f"{at}.id")


def body_of(row: State) -> KeptBody:
    """Read the body of a row."""
    return msgspec.json.decode(row.body, type=KeptBody)


def missing(state_id: str, *, param: str) -> Problem:
    """Return the Problem of what is not there, or not this key's: nobody is told which."""
    problem = Problem(
        f"there is no {state_id!r} here",
        status=404,
        param=param,
        hint="it was not stored, its time is over, or it was made with another key",
    )
    if param == "previous_response_id":
        problem.upstream_code = "previous_response_not_found"  # as OpenAI's API calls it
    return problem


def with_ids(items: list[JSON], *, row: str) -> list[JSON]:
    """Give an id to every item that has none; it tells the row that holds it."""
    return [
        item if isinstance(item.get("id"), str) else {**item, "id": f"{_prefix(item)}_{row}_in{i}"}
        for i, item in enumerate(items)
    ]


def _refers(body: JSON) -> bool:
    items = body.get("input")
    return isinstance(items, list) and any(_reference(item) is not None for item in items)


def _reference(item: Any) -> str | None:
    """Return the id that an item refers to; None for an item of its own."""
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        return None
    bare = set(item) == {"id"}
    return item["id"] if bare or item.get("type") == "item_reference" else None


def _items(value: Any) -> list[JSON]:
    if isinstance(value, str):
        part = {"type": "input_text", "text": value}
        return [{"type": "message", "role": "user", "content": [part]}]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _prefix(item: JSON) -> str:
    kind = str(item.get("type") or "message")
    return {"message": "msg", "reasoning": "rs", "function_call": "fc"}.get(kind, "item")


def _text(value: Any, at: str) -> str:
    if not isinstance(value, str) or not value:
        raise wrong(at, "an id")
    return value
