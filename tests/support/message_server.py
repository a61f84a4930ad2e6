"""A server of Anthropic's Messages API for the contract of engines, as strict as the real one."""

import asyncio
import json
from typing import Any

from aiohttp import web

JSON = dict[str, Any]
_FIELDS = frozenset(
    {"max_tokens", "messages", "metadata", "model", "output_config", "service_tier", "stream"}
    | {"stop_sequences", "system", "temperature", "thinking", "tool_choice", "tools"}
    | {"top_k", "top_p"}
)
_THOUGHT = {"type": "thinking", "thinking": "Twice two is four.", "signature": "c2lnbmVk"}
_CALL = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}


class MessageServer:
    """Answers a message, and remembers what it was sent; `hang` and `refuse` as WireServer does."""

    def __init__(self) -> None:
        self.sent: list[JSON] = []
        self.left = asyncio.Event()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/messages", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.sent.append(body)
        asked = body["messages"][-1]["content"][-1].get("text")
        if body.keys() - _FIELDS or asked == "refuse":
            error = {"type": "invalid_request_error", "message": "Extra inputs are not permitted"}
            return web.json_response({"type": "error", "error": error}, status=400)
        message = _message(body)
        if not body["stream"]:
            await self._hang(asked)
            return web.json_response(message)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in _events(message):
            await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
            if event["type"] == "content_block_delta":
                await self._hang(asked)
        return response

    async def _hang(self, asked: str | None) -> None:
        if asked == "hang":
            try:
                await asyncio.sleep(60)
            finally:
                self.left.set()


def _message(body: JSON) -> JSON:
    thinks = body.get("thinking", {"type": "disabled"})["type"] != "disabled"
    content = [{"type": "text", "text": "The answer is 4."}]
    if body.get("tools"):
        content = [_CALL]
    elif thinks:
        content = [_THOUGHT, *content]
    details = {"thinking_tokens": 9 if thinks else 0}
    counts = {"input_tokens": 4, "cache_read_input_tokens": 16, "cache_creation_input_tokens": 0}
    usage = {**counts, "output_tokens": 16 if thinks else 7, "output_tokens_details": details}
    reason = "tool_use" if body.get("tools") else "end_turn"
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"]}
    return {**head, "content": content, "stop_reason": reason, "usage": usage}


def _events(message: JSON) -> list[JSON]:
    begun = message | {"content": [], "stop_reason": None}
    begun["usage"] = message["usage"] | {"output_tokens": 1}
    events: list[JSON] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, block in enumerate(message["content"]):
        empty = {"text": "", "thinking": "", "signature": "", "input": {}}
        start = {name: empty.get(name, value) for name, value in block.items()}
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [
            {"type": "content_block_delta", "index": index, "delta": delta}
            for delta in _deltas(block)
        ]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": message["usage"]})
    return [*events, {"type": "message_stop"}]


def _deltas(block: JSON) -> list[JSON]:
    if block["type"] == "text":
        return [{"type": "text_delta", "text": text} for text in ("The ans", "wer is", " 4.")]
    if block["type"] == "thinking":
        return [
            {"type": "thinking_delta", "thinking": block["thinking"]},
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    pieces = ('{"city": ', '"Paris"}')
    return [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
