"""Paths of kept responses and conversations: shown, listed, changed and erased by their key."""

import asyncio
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import msgspec

from suffice.gateway.apis.fields import Fields, keeps_nothing, refused
from suffice.gateway.apis.responses_items import ItemReader
from suffice.gateway.apis.state import (
    CONVERSATION,
    ITEMS,
    Keeping,
    KeptBody,
    body_of,
    missing,
    with_ids,
)
from suffice.gateway.exchange import Exchange
from suffice.gateway.wire import json_object
from suffice.gateway.worker import Worker
from suffice.ledger.states import State, change_state, erase_state
from suffice.types import JSON
from suffice.units import seconds

_PAGE, _LONGEST_PAGE = 20, 100


def keeping_of(worker: Worker, headers: Mapping[bytes, bytes]) -> Keeping | None:
    """Return where the sender keeps its state; None where the operator allows none."""
    ttl = worker.serving.config.gateway.responses_ttl
    if ttl is None:
        return None
    key = worker.access.authenticate(headers, "chat")
    key_id = key.name if key else None
    return Keeping(ledger=worker.books.ledger, key_id=key_id, ttl_s=seconds(ttl))


async def show_response(exchange: Exchange, worker: Worker) -> None:
    """Show a response as it was given."""
    if b"stream=true" in exchange.query:
        raise refused("stream", "a kept response is shown in one piece", hint="leave it out")
    row = await _row(exchange, worker)
    await exchange.reply_json(body_of(row).response)


async def show_input(exchange: Exchange, worker: Worker) -> None:
    """List the items that a response was given for."""
    row = await _row(exchange, worker)
    await exchange.reply_json(_page(body_of(row).input, exchange, newest_first=True))


async def erase_response(exchange: Exchange, worker: Worker) -> None:
    """Delete a response."""
    await _erase(exchange, worker, kind="response")


async def open_conversation(exchange: Exchange, worker: Worker) -> None:
    """Begin a conversation, with items or without."""
    keeping, fields = _keeping(exchange, worker), await _fields(exchange, worker)
    items, metadata = _checked(fields), fields.take("metadata", dict) or {}
    fields.done()
    row = secrets.token_hex(12)
    now = datetime.now(UTC)
    conversation: JSON = {
        "id": CONVERSATION + row,
        "object": "conversation",
        "created_at": int(now.timestamp()),
        "metadata": metadata,
    }
    await _keep(keeping, CONVERSATION + row, KeptBody(conversation=conversation))
    if items:
        await _add(keeping, CONVERSATION + row, items)
    await exchange.reply_json(conversation)


async def show_conversation(exchange: Exchange, worker: Worker) -> None:
    """Show a conversation without its items."""
    row = await _row(exchange, worker)
    await exchange.reply_json(body_of(row).conversation)


async def change_conversation(exchange: Exchange, worker: Worker) -> None:
    """Replace the notes of a conversation."""
    row, fields = await _row(exchange, worker), await _fields(exchange, worker)
    changed = {**(body_of(row).conversation or {}), "metadata": fields.need("metadata", dict)}
    fields.done()
    body = msgspec.json.encode(KeptBody(conversation=changed)).decode()
    ledger = worker.books.ledger
    await asyncio.to_thread(change_state, ledger, row.state_id, key_id=row.key_id, body=body)
    await exchange.reply_json(changed)


async def erase_conversation(exchange: Exchange, worker: Worker) -> None:
    """Delete a conversation with all its items."""
    await _erase(exchange, worker, kind="conversation")


async def list_items(exchange: Exchange, worker: Worker) -> None:
    """List the items of a conversation."""
    row = await _row(exchange, worker)
    items = await asyncio.to_thread(_keeping(exchange, worker).items_of, row.state_id)
    await exchange.reply_json(_page(items, exchange, newest_first=True))


async def add_items(exchange: Exchange, worker: Worker) -> None:
    """Add items to a conversation."""
    row, fields = await _row(exchange, worker), await _fields(exchange, worker)
    items = _checked(fields)
    fields.done()
    added = await _add(_keeping(exchange, worker), row.state_id, items)
    await exchange.reply_json(_page(added, exchange, newest_first=False))


async def show_item(exchange: Exchange, worker: Worker) -> None:
    """Show one item of a conversation."""
    row = await _row(exchange, worker)
    item_id = exchange.path.split("/")[5]
    items = await asyncio.to_thread(_keeping(exchange, worker).items_of, row.state_id)
    for item in items:
        if item.get("id") == item_id:
            await exchange.reply_json(item)
            return
    raise missing(item_id, param="item_id")


def _keeping(exchange: Exchange, worker: Worker) -> Keeping:
    keeping = keeping_of(worker, exchange.headers)
    if keeping is None:
        raise keeps_nothing(exchange.path)
    return keeping


async def _row(exchange: Exchange, worker: Worker) -> State:
    """Find the row that the third part of the path names."""
    keeping, state_id = _keeping(exchange, worker), exchange.path.split("/")[3]
    row = await asyncio.to_thread(keeping.find, state_id)
    kind = "resp_" if exchange.path.startswith("/v1/responses/") else CONVERSATION
    if row is None or not state_id.startswith(kind):
        raise missing(state_id, param="id")
    return row


async def _fields(exchange: Exchange, worker: Worker) -> Fields:
    body = await exchange.body(limit=worker.serving.config.gateway.body_limit_bytes)
    return Fields(json_object(body or b"{}"))


def _checked(fields: Fields) -> list[JSON]:
    """Take items, and raise the Problem of one that no request could send."""
    items: list[Any] = fields.take("items", list) or []
    reader = ItemReader()
    for i, item in enumerate(items):
        reader.add(fields.of(item, at=f"items[{i}]"))
    return items


async def _add(keeping: Keeping, conversation_id: str, items: list[JSON]) -> list[JSON]:
    row = secrets.token_hex(12)
    added = with_ids(items, row=row)
    await _keep(keeping, ITEMS + row, KeptBody(input=added), conversation_id=conversation_id)
    return added


async def _keep(
    keeping: Keeping, state_id: str, body: KeptBody, *, conversation_id: str | None = None
) -> None:
    state = State(
        state_id=state_id,
        key_id=keeping.key_id,
        time=datetime.now(UTC),
        body=msgspec.json.encode(body).decode(),
        conversation_id=conversation_id,
    )
    await asyncio.to_thread(keeping.keep, state)


async def _erase(exchange: Exchange, worker: Worker, *, kind: str) -> None:
    row = await _row(exchange, worker)
    ledger = worker.books.ledger
    await asyncio.to_thread(erase_state, ledger, row.state_id, key_id=row.key_id)
    await exchange.reply_json({"id": row.state_id, "object": f"{kind}.deleted", "deleted": True})


def _page(items: list[JSON], exchange: Exchange, *, newest_first: bool) -> JSON:
    """Show a part of a list: `limit`, `order` and `after` of the query choose it."""
    query = {
        name: values[-1] for name, values in parse_qs(exchange.query.decode("latin-1")).items()
    }
    order = query.get("order", "desc" if newest_first else "asc")
    ordered = items[::-1] if order == "desc" else items
    ids = [str(item.get("id")) for item in ordered]
    start = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
    text = query.get("limit", "")
    limit = min(int(text), _LONGEST_PAGE) if text.isdigit() else _PAGE if newest_first else len(ids)
    page = ordered[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0].get("id") if page else None,
        "last_id": page[-1].get("id") if page else None,
        "has_more": start + len(page) < len(ids),
    }
