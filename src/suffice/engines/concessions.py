"""What a server refuses of how it is asked, and how it is asked from then on."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from suffice.engines.transport import Transport
from suffice.errors import EngineRefused
from suffice.types import JSON

_STREAMS_ONLY = re.compile(
    r"only supports? stream|stream(ing)?( mode)? (must|has to|should) be (set to )?(true|enabled)"
    r"|enable the stream parameter",
    flags=re.IGNORECASE,
)
_OPTIONS = "stream_options"


class Concessions:
    """Leaves out or adds what a server has asked for in its refusals.

    Strict servers refuse `stream_options` (Azure AI Foundry, Databricks), others every request that
    does not stream (NewAPI, some models of DashScope). `asks_for_usage` says that a stream is asked
    for its usage.
    """

    def __init__(self, transport: Transport, *, asks_for_usage: bool) -> None:
        self._transport = transport
        self._asks_for_usage = asks_for_usage
        self._streams_only = False

    @asynccontextmanager
    async def post(self, url: str, body: JSON) -> AsyncIterator[aiohttp.ClientResponse]:
        """Post a chat request, and once more where the server only refused how it was asked."""
        async with AsyncExitStack() as stack:
            sent = self._apply(body)
            try:
                response = await stack.enter_async_context(self._transport.post(url, sent))
            except EngineRefused as error:
                if not self._learn(error, body=sent):
                    raise
                again = self._transport.post(url, self._apply(body))
                response = await stack.enter_async_context(again)
            yield response

    def _apply(self, body: JSON) -> JSON:
        """Return the body as the server takes it, as far as is known."""
        if self._streams_only and not body["stream"]:
            body = {**body, "stream": True, _OPTIONS: {"include_usage": True}}
        if _OPTIONS in body and not self._asks_for_usage:
            body = {name: value for name, value in body.items() if name != _OPTIONS}
        return body

    def _learn(self, refusal: EngineRefused, *, body: JSON) -> bool:
        """Take the refusal of a body; return whether another one may be taken."""
        words = f"{refusal.body} {refusal.detail.message}"
        if refusal.status not in (400, 422):
            return False
        if _OPTIONS in body and _OPTIONS in words:
            self._asks_for_usage = False
            return True
        if not body["stream"] and _STREAMS_ONLY.search(words):
            self._streams_only = True
            return True
        return False
