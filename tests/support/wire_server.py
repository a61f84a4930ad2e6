"""A server that speaks the recorded wire of one dialect, as strictly as the real one."""

import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import web
from vendor_wires import VENDORS, recorded

REPLIES = Path(__file__).parent.parent / "wire" / "replies"
JSON = dict[str, Any]
BUSY_STATUS = 503


class WireServer:
    """Replays the scene that a request asks for, and remembers what it was sent.

    A message of `hang` gets the first pieces and then silence; `refuse` gets HTTP 400.
    """

    def __init__(self, dialect: str) -> None:
        file = REPLIES / f"{dialect}.json"
        self._recorded: JSON = (
            recorded(dialect) if dialect in VENDORS else json.loads(file.read_text("utf-8"))
        )
        self.sent: list[JSON] = []
        self.left = asyncio.Event()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.sent.append(body)
        unknown = body.keys() - set(self._recorded.get("fields") or body)
        asked = body["messages"][-1]["content"]
        if unknown or asked == "refuse":
            why = f"Extra inputs are not permitted: {sorted(unknown)}" if unknown else "Bad input"
            return web.json_response({"error": {"message": why, "code": 400}}, status=400)
        scene = self._recorded["scenes"][scene_of(body)]
        if not body.get("stream"):
            if asked == "hang":
                await self._hang(None)
            return web.json_response(self._whole(body, scene))
        return await self._stream(request, scene, hang=asked == "hang")

    def _whole(self, body: JSON, scene: JSON) -> JSON:
        choices = [
            {
                "index": i,
                "message": scene["message"],
                "logprobs": logprobs_of(scene) if body.get("logprobs") else None,
                "finish_reason": scene["finish_reason"],
            }
            for i in range(body.get("n") or 1)
        ]
        envelope = {"object": "chat.completion", **self._recorded["envelope"]}
        return {**envelope, "choices": choices, "usage": scene["usage"]}

    async def _stream(self, request: web.Request, scene: JSON, *, hang: bool) -> web.StreamResponse:
        body = self.sent[-1]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        before = self._recorded.get("before")
        if isinstance(before, str) and before:
            await response.write(before.encode() + b"\n\n")
        elif before:
            await response.write(b"data: " + json.dumps(before).encode() + b"\n\n")
        for event in self._events(body, scene):
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            if hang and event["choices"] and event["choices"][0]["delta"].get("content"):
                await self._hang(request)
        await response.write(b"data: [DONE]\n\n")
        return response

    def _events(self, body: JSON, scene: JSON) -> list[JSON]:
        """Interleave the samples, then say why each ended, then give the usage if asked for."""
        samples = range(body.get("n") or 1)
        choices = [
            {"index": i, "delta": delta, "logprobs": None, "finish_reason": None}
            for delta in scene["deltas"]
            for i in samples
        ]
        if body.get("logprobs"):
            choices[-1]["logprobs"] = logprobs_of(scene)
        choices += [
            {"index": i, "delta": {}, "logprobs": None, "finish_reason": scene["finish_reason"]}
            for i in samples
        ]
        envelope = {"object": "chat.completion.chunk", **self._recorded["envelope"]}
        events = [{**envelope, "choices": [choice]} for choice in choices]
        place = self._recorded.get("usage_at", "alone")
        if place == "every":
            for number, event in enumerate(events):
                share = {"completion_tokens": number, "total_tokens": number}
                event["usage"] = scene["usage"] | (share if event is not events[-1] else {})
        elif place == "last_choice":
            events[-1]["usage"] = scene["usage"]
        elif place == "in_choice":
            choices[-1]["usage"] = scene["usage"]
        elif body.get("stream_options", {}).get("include_usage"):
            events.append({**envelope, "choices": [], "usage": scene["usage"]})
        elif "fields" in self._recorded and "random_seed" in self._recorded["fields"]:
            events[-1]["usage"] = scene["usage"]  # Mistral: in the last chunk, unasked
        return events

    async def _hang(self, request: web.Request | None) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            self.left.set()


def scene_of(body: JSON) -> str:
    if body.get("tools"):
        return "tools"
    if body.get("response_format"):
        return "schema"
    if (body.get("n") or 1) > 1:
        return "two"
    return "reasoning" if _thinks(body) else "plain"


def _thinks(body: JSON) -> bool:
    """Whether a request asks for thinking, in the words of any vendor."""
    thinking, reasoning = body.get("thinking") or {}, body.get("reasoning") or {}
    return (
        body.get("reasoning_effort", "none") != "none"
        or thinking.get("type", "disabled") != "disabled"
        or body.get("enable_thinking", False)
        or reasoning.get("effort", "none") != "none"
    )


def logprobs_of(scene: JSON) -> JSON:
    pieces = [d["content"] for d in scene["deltas"] if isinstance(d.get("content"), str)]
    return {
        "content": [
            {"token": piece, "logprob": -0.5, "bytes": list(piece.encode()), "top_logprobs": []}
            for piece in pieces
            if piece
        ]
    }
