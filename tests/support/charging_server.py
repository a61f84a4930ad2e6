"""A server of Anthropic's Messages API that keeps its own books, caches included."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from aiohttp import web

JSON = dict[str, Any]
RATES = {"input": "3", "read": "0.3", "5m": "3.75", "1h": "6", "output": "15"}  # $ a million


class ChargingServer:
    """Answers as Anthropic does (docs.claude.com/en/api/messages, /streaming) and adds up dollars.

    A prefix up to a `cache_control` is read from the cache where it was written before.
    """

    def __init__(self) -> None:
        self.sent: list[JSON] = []
        self.headers: list[Any] = []
        self.usd = Decimal(0)
        self.content: list[JSON] = [{"type": "text", "text": "Mild"}]
        self.script: Callable[[JSON], list[JSON]] | None = None  # the content for a body
        self.stop_reason = "end_turn"
        self._cached: dict[str, int] = {}

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/messages", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self.script is not None:
            self.content = self.script(body)
            called = any(block["type"] == "tool_use" for block in self.content)
            self.stop_reason = "tool_use" if called else "end_turn"
        self.sent.append(body)
        self.headers.append(request.headers)
        if blocks_of(body["messages"][-1]["content"])[0].get("text") == "refuse":
            error = {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}
            return web.json_response({"type": "error", "error": error}, status=400)
        usage = self._usage(body)
        message = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"],
            "content": self.content, "stop_reason": self.stop_reason, "usage": usage,
        }  # fmt: skip
        if not body.get("stream"):
            return web.json_response(message)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in self._events(message):
            await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        return response

    def _usage(self, body: JSON) -> JSON:
        parts = [*body.get("tools", []), *blocks_of(body.get("system", []))]
        parts += [block for turn in body["messages"] for block in blocks_of(turn["content"])]
        read, written, text, seen = 0, {"5m": 0, "1h": 0}, "", 0
        for part in parts:
            plain = {k: v for k, v in part.items() if k != "cache_control"}
            text += json.dumps(plain)
            if "cache_control" in part:
                tokens = len(text) // 4
                if text in self._cached:
                    read = tokens
                else:
                    written[part["cache_control"].get("ttl", "5m")] += tokens - max(read, seen)
                    self._cached[text] = tokens
                seen = max(seen, tokens)
        fresh = len(text) // 4 - seen + 3
        output = 5 + len(json.dumps(self.content)) // 4
        for name, tokens in (
            ("input", fresh),
            ("read", read),
            ("output", output),
            *written.items(),
        ):
            self.usd += Decimal(RATES[name]) * tokens / 10**6
        return {
            "input_tokens": fresh, "cache_read_input_tokens": read,
            "cache_creation_input_tokens": sum(written.values()), "output_tokens": output,
            "cache_creation": {f"ephemeral_{k}_input_tokens": v for k, v in written.items()},
            "service_tier": "standard",
        }  # fmt: skip

    def _events(self, message: JSON) -> list[JSON]:
        usage = message["usage"]
        start = {
            **message,
            "content": [],
            "stop_reason": None,
            "usage": usage | {"output_tokens": 1},
        }
        events: list[JSON] = [{"type": "message_start", "message": start}, {"type": "ping"}]
        for index, block in enumerate(message["content"]):
            empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}
            uncited = {k: v for k, v in block.items() if k != "citations"}
            begun = uncited | ({"input": {}} if "input" in block else empty.get(block["type"], {}))
            events.append({"type": "content_block_start", "index": index, "content_block": begun})
            events.extend(
                {"type": "content_block_delta", "index": index, "delta": delta}
                for delta in deltas_of(block)
            )
            events.append({"type": "content_block_stop", "index": index})
        last_usage = {"output_tokens": usage["output_tokens"]}
        delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        events.append({"type": "message_delta", "delta": delta, "usage": last_usage})
        return [*events, {"type": "message_stop"}]


def blocks_of(content: str | list[JSON]) -> list[JSON]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def deltas_of(block: JSON) -> list[JSON]:
    if block["type"] == "text":
        cited = block.get("citations") or ()
        notes: list[JSON] = [{"type": "citations_delta", "citation": one} for one in cited]
        return [*notes, *({"type": "text_delta", "text": piece} for piece in block["text"])]
    if block["type"] == "thinking":
        pieces = [{"type": "thinking_delta", "thinking": piece} for piece in block["thinking"]]
        return [*pieces, {"type": "signature_delta", "signature": block["signature"]}]
    if block["type"] in ("tool_use", "server_tool_use"):
        text = json.dumps(block["input"])
        return [
            {"type": "input_json_delta", "partial_json": text[i : i + 3]}
            for i in range(0, len(text), 3)
        ]
    return []
