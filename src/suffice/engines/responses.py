"""OpenAI's Responses API: chat requests go out as responses, answers come back as completions."""

from suffice.config import EngineConfig
from suffice.engines.response_replies import ResponseEvents, completion_of
from suffice.engines.response_requests import count_body, response_body
from suffice.engines.surcharges import with_surcharges
from suffice.engines.translated import TranslatedEngine
from suffice.engines.usage import read_usage
from suffice.types import JSON, Request, Rung, Usage


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

    def _body(self, request: Request, rung: Rung, *, stream: bool) -> JSON:
        return response_body(request, rung, stream=stream)

    def _count_body(self, body: JSON) -> JSON:
        return count_body(body)

    def _events(self, rung: Rung) -> ResponseEvents:
        return ResponseEvents(model=rung.model)

    def _completion_of(self, answer: JSON, rung: Rung) -> JSON:
        return completion_of(answer, model=rung.model)

    def _usage(self, raw: object, body: JSON) -> Usage:
        tier = {"service_tier": body.get("service_tier")}
        return with_surcharges(read_usage(raw, reasoning=""), tier, reported=raw)
