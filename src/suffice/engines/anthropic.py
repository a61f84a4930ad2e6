"""Anthropic's own API: chat requests go out as messages, answers come back as chat completions."""

import msgspec

from suffice.config import EngineConfig
from suffice.engines.fold import NATIVE
from suffice.engines.message_replies import MessageEvents, completion_of
from suffice.engines.messages import count_body, message_body, native_body
from suffice.engines.translated import TranslatedEngine
from suffice.types import JSON, Request, Rung

_VERSION = "2023-06-01"


class AnthropicEngine(TranslatedEngine):
    """An engine that speaks the Messages API.

    Thinking blocks with their signatures travel as `thinking_blocks` of chat messages, both ways;
    `cache_control` stays on the parts that carry it. A request of this API goes out as its client
    wrote it, and each chunk of its answer holds the event that it was made of.
    """

    api = "Messages API"
    path = "/messages"
    count_path = "/messages/count_tokens"

    def __init__(self, config: EngineConfig, *, api_key: str | None = None) -> None:
        headers = {"anthropic-version": _VERSION}
        headers |= {} if api_key is None else {"x-api-key": api_key}
        super().__init__(config, headers=headers, api_key=api_key)

    def _body(self, request: Request, rung: Rung, *, stream: bool) -> JSON:
        if request.native is not None:
            return native_body(request.native.body, rung, stream=stream)
        return message_body(request, rung, stream=stream)

    def _count_body(self, body: JSON) -> JSON:
        return count_body(body)

    def _headers(self, request: Request) -> dict[str, str]:
        betas = request.native.betas if request.native is not None else None
        return {"anthropic-beta": betas} if betas else {}

    def _events(self, request: Request, rung: Rung) -> MessageEvents:  # noqa: ARG002
        return MessageEvents()

    def _completion_of(self, answer: JSON, request: Request, rung: Rung) -> JSON:  # noqa: ARG002
        return completion_of(answer)

    def _native(self, request: Request, event: JSON, data: str) -> JSON:
        """Hand on the event, or a whole message, whose type some servers leave out."""
        if request.native is None:
            return {}
        if "content" in event:
            whole = event if event.get("type") == "message" else {**event, "type": "message"}
            return {NATIVE: data if whole is event else msgspec.json.encode(whole).decode()}
        return {NATIVE: data} if event.get("type") else {}
