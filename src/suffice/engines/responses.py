"""OpenAI's Responses API: chat requests go out as responses, answers come back as completions."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec.structs import replace

from suffice.config import EngineConfig
from suffice.engines.base import used_tokens
from suffice.engines.custom_tools import names_of
from suffice.engines.fold import Fold
from suffice.engines.response_replies import ResponseEvents, completion_of
from suffice.engines.response_requests import (
    count_body,
    origin_of,
    response_body,
    without_thoughts,
)
from suffice.engines.servers import DIALECTS, vendor_at
from suffice.engines.stop_text import StoppedEvents, stopped, stops_of
from suffice.engines.surcharges import with_surcharges
from suffice.engines.translated import ReplyEvents, TranslatedEngine
from suffice.errors import EngineRefused
from suffice.types import JSON, Completion, Request, Rung, Usage

_TAKE_CUSTOM = ("openai", "azure")  # dialects whose servers know custom tools
_UNREADABLE = "invalid_encrypted_content"


class ResponsesEngine(TranslatedEngine):
    """An engine that speaks the Responses API.

    OpenAI's newer models take tools together with an effort there alone. Encrypted thoughts travel
    as `response_items` of chat messages, both ways. Custom tools go out as such where the dialect
    is OpenAI's or Azure's: other servers leave them out without a word, and get functions.
    """

    api = "Responses API"
    path = "/responses"
    count_path = "/responses/input_tokens"
    hides_reasoning = True

    def __init__(self, config: EngineConfig, *, api_key: str | None = None) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        super().__init__(config, headers=headers, api_key=api_key)
        dialect = vendor_at(config.first_url, dialect=DIALECTS[config.dialect])
        self._takes_custom = dialect.name in _TAKE_CUSTOM

    async def _whole(self, request: Request, rung: Rung) -> Completion:
        """Ask; and once more without thoughts that the account behind the engine cannot read.

        They may be those of an account before it. A session that holds one would never go on.
        """
        try:
            return await super()._whole(request, rung)
        except EngineRefused as error:
            return await super()._whole(_readable(request, rung, error), rung)

    async def _streamed(
        self, request: Request, rung: Rung, fold: Fold
    ) -> AsyncGenerator[bytes | Completion, None]:
        """Ask, as `_whole` does; once anything was passed on, no second answer may follow it."""
        begun, bare = False, None
        try:
            async with aclosing(super()._streamed(request, rung, fold)) as items:
                async for item in items:
                    begun = True
                    yield item
        except EngineRefused as error:
            if begun:
                raise
            bare = _readable(request, rung, error)
        if bare is None:
            return
        async with aclosing(super()._streamed(bare, rung, fold)) as items:
            async for item in items:
                yield item

    def _body(self, request: Request, rung: Rung, *, stream: bool) -> JSON:
        return response_body(request, rung, stream=stream, takes_custom=self._takes_custom)

    def _count_body(self, body: JSON) -> JSON:
        return count_body(body)

    def _events(self, request: Request, rung: Rung) -> ReplyEvents:
        stops = stops_of(request, rung)
        events = ResponseEvents(origin=origin_of(rung), customs=names_of(request))
        return StoppedEvents(events, stops) if stops else events

    def _completion_of(self, answer: JSON, request: Request, rung: Rung) -> JSON:
        customs = names_of(request)
        whole = completion_of(answer, origin=origin_of(rung), customs=customs)
        return stopped(whole, stops_of(request, rung))

    def _used(self, fold: Fold, request: Request, rung: Rung) -> Usage:
        tier = {**request.params, **rung.params}.get("service_tier")
        return with_surcharges(
            super()._used(fold, request, rung), {"service_tier": tier}, reported=None
        )


def _readable(request: Request, rung: Rung, error: EngineRefused) -> Request:
    """Return a request without the thoughts that an error is about; raises all other errors."""
    bare = replace(request, messages=without_thoughts(request.messages))
    if error.detail.code != _UNREADABLE or used_tokens(error):
        raise error
    if response_body(bare, rung, stream=False) == response_body(request, rung, stream=False):
        raise error
    return bare
