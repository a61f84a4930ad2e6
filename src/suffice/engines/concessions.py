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
    r"|enable the stream parameter|for non-streaming calls|非流式调用|when `?stream=false",
    flags=re.IGNORECASE,
)
_UNKNOWN = re.compile(
    r"un(supported|recogni[sz]ed|known|expected)|not (supported|permitted|allowed)|extra",
    flags=re.IGNORECASE,
)
_OPTIONS = "stream_options"
_LIMITS = ("max_completion_tokens", "max_tokens")  # of which one is enough


class Concessions:
    """Leaves out or adds what a server has asked for in its refusals.

    Strict servers refuse `stream_options` (Azure AI Foundry, Databricks), or one of the two names
    of a limit (a proxy before OpenAI's models); others refuse every request that does not stream
    (NewAPI, some models of DashScope). What is learned holds for one model, for a router may have
    many. `asks_for_usage` says that a stream is asked for its usage.
    """

    def __init__(self, transport: Transport, *, asks_for_usage: bool) -> None:
        self._transport = transport
        self._asks_for_usage = asks_for_usage
        self._left_out: dict[str, set[str]] = {}  # by model
        self._streams_only: set[str] = set()

    @asynccontextmanager
    async def post(self, url: str, body: JSON) -> AsyncIterator[aiohttp.ClientResponse]:
        """Post a chat request, and again as long as the server only refuses how it is asked."""
        async with AsyncExitStack() as stack:
            response: aiohttp.ClientResponse | None = None
            while response is None:
                sent = self._apply(body)
                try:
                    response = await stack.enter_async_context(self._transport.post(url, sent))
                except EngineRefused as error:
                    if not self._learn(error, body=sent):
                        raise
            yield response

    def _apply(self, body: JSON) -> JSON:
        """Return the body as the server takes it, as far as is known."""
        model = body["model"]
        if model in self._streams_only and not body["stream"]:
            usage = {_OPTIONS: {"include_usage": True}} if self._asks_for_usage else {}
            body = {**body, "stream": True, **usage}
        left_out = self._left_out.get(model, set()) & body.keys()
        return {n: v for n, v in body.items() if n not in left_out} if left_out else body

    def _learn(self, refusal: EngineRefused, *, body: JSON) -> bool:
        """Take the refusal of a body; return whether another one may be taken."""
        words = f"{refusal.body} {refusal.detail.message}"
        if refusal.status not in (400, 422):
            return False
        spare = [_OPTIONS, *(_LIMITS if all(name in body for name in _LIMITS) else ())]
        named = [name for name in spare if name in body and name in words]
        if named and (named[0] == _OPTIONS or _UNKNOWN.search(words)):
            first = min(named, key=words.index)
            self._left_out.setdefault(body["model"], set()).add(first)
            return True
        only = not body["stream"] and _STREAMS_ONLY.search(words) is not None
        self._streams_only |= {body["model"]} if only else set()
        return only
