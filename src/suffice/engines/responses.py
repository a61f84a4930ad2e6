"""OpenAI's Responses API: chat requests go out as responses, answers come back as completions."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from suffice.config import EngineConfig
from suffice.engines.fold import Fold
from suffice.engines.response_replies import ResponseEvents, completion_of
from suffice.engines.response_requests import (
    count_body,
    origin_of,
    response_body,
    without_thoughts,
)
from suffice.engines.stop_text import StoppedEvents, stopped, stops_of
from suffice.engines.surcharges import with_surcharges
from suffice.engines.translated import ReplyEvents, TranslatedEngine
from suffice.errors import EngineRefused
from suffice.types import JSON, Request, Rung, Usage

_UNREADABLE = "invalid_encrypted_content"


class ResponsesEngine(TranslatedEngine):
    """An engine that speaks the Responses API.

    OpenAI's newer models take tools together with an effort there alone. Encrypted thoughts travel
    as `response_items` of chat messages, both ways.
    """

    api = "Responses API"
    path = "/responses"
    count_path = "/responses/input_tokens"
    hides_reasoning = True

    def __init__(self, config: EngineConfig, *, api_key: str | None = None) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        super().__init__(config, headers=headers, api_key=api_key)

    @asynccontextmanager
    async def _post(
        self, path: str, body: JSON, request: Request
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Ask; and once more without thoughts that the account behind the engine cannot read.

        They may be those of an account before it. A session that holds one would never go on.
        """
        async with AsyncExitStack() as stack:
            try:
                asked = super()._post(path, body, request)
                response = await stack.enter_async_context(asked)
            except EngineRefused as error:
                bare = without_thoughts(body)
                if error.detail.code != _UNREADABLE or bare == body:
                    raise
                asked = super()._post(path, bare, request)
                response = await stack.enter_async_context(asked)
            yield response

    def _body(self, request: Request, rung: Rung, *, stream: bool) -> JSON:
        return response_body(request, rung, stream=stream)

    def _count_body(self, body: JSON) -> JSON:
        return count_body(body)

    def _events(self, request: Request, rung: Rung) -> ReplyEvents:
        events, stops = ResponseEvents(origin=origin_of(rung)), stops_of(request, rung)
        return StoppedEvents(events, stops) if stops else events

    def _completion_of(self, answer: JSON, request: Request, rung: Rung) -> JSON:
        return stopped(completion_of(answer, origin=origin_of(rung)), stops_of(request, rung))

    def _used(self, fold: Fold, request: Request, rung: Rung) -> Usage:
        tier = {**request.params, **rung.params}.get("service_tier")
        return with_surcharges(
            super()._used(fold, request, rung), {"service_tier": tier}, reported=None
        )
