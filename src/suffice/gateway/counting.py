"""How many tokens a request has, without an answer: for clients that watch their context."""

import msgspec

from suffice.gateway.apis.translated import TranslatedExchange
from suffice.gateway.exchange import Exchange
from suffice.gateway.wire import RUNG, read_chat
from suffice.gateway.worker import Worker


async def count_tokens(exchange: Exchange, worker: Worker) -> None:
    """Count a request's prompt on its rung, or the reference; nothing is generated, or booked."""
    assert isinstance(exchange, TranslatedExchange)
    worker.access.authenticate(exchange.headers, "chat")
    serving = worker.serving
    body = await exchange.body(limit=serving.config.gateway.body_limit_bytes)
    chat = read_chat(
        *(body, exchange.headers, serving),
        request_id=exchange.request_id,
        native=exchange.native,
        custom_tools=exchange.custom_tools,
    )
    rung = chat.rung or serving.pipeline.ladder.reference
    count = await serving.pipeline.engines[rung.engine].count_prompt(chat.request, rung)
    account = {"suffice": {"rung": rung.name, "source": count.source.value}}
    answer = exchange.api.count(count.tokens) | account
    headers = [(RUNG, rung.name.encode("ascii", "backslashreplace"))]
    await exchange.reply(msgspec.json.encode(answer), headers=headers)
