"""A server of OpenAI's Responses API for the contract of engines, as strict as the real one."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from suffice.config import EngineConfig
from suffice.engines.responses import ResponsesEngine

JSON = dict[str, Any]
HOSTED = """
[engine.hosted]
kind = "responses"
url = "http://127.0.0.1:{port}/v1"
max_retries = 0
"""
_FIELDS = frozenset(
    {
        "include",
        "input",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "parallel_tool_calls",
    }
    | {"prompt_cache_key", "prompt_cache_retention", "reasoning", "safety_identifier"}
    | {"service_tier", "store", "stream", "temperature", "text", "tool_choice", "tools"}
    | {"top_logprobs", "top_p", "truncation", "user"}
)
_ITEMS: dict[str, frozenset[str]] = {
    "message": frozenset({"type", "role", "content", "phase"}),
    "function_call": frozenset({"type", "call_id", "name", "arguments"}),
    "function_call_output": frozenset({"type", "call_id", "output"}),
    "custom_tool_call": frozenset({"type", "call_id", "name", "input"}),
    "custom_tool_call_output": frozenset({"type", "call_id", "output"}),
    "reasoning": frozenset({"type", "summary", "encrypted_content"}),
    "web_search_call": frozenset({"type", "action", "status"}),
}
THOUGHT = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [
        {"type": "summary_text", "text": "Twice two is four."},
        {"type": "summary_text", "text": "So I say it."},
    ],
    "encrypted_content": "gAAAAc2VhbGVk",
}
SEARCH = {
    "id": "ws_1",
    "type": "web_search_call",
    "status": "completed",
    "action": {"type": "search", "query": "weather"},
}
CALL = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"city": "Paris"}',
}

PATCH = """*** Begin Patch
*** Add File: café.md
+# A "quoted" \\ line
*** End Patch
"""
CUSTOM_CALL = {
    "id": "ctc_1",
    "type": "custom_tool_call",
    "status": "completed",
    "call_id": "call_2",
    "name": "apply_patch",
    "input": PATCH,
}
# As Codex sends it, but for the length of the grammar.
CUSTOM_TOOL = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Use the `apply_patch` tool to edit files. This is a FREEFORM tool.",
    "format": {
        "type": "grammar",
        "syntax": "lark",
        "definition": "start: begin_patch hunk+ end_patch",
    },
}


def text_item(text: str, **part: object) -> JSON:
    """Write a message of the output."""
    told = {"type": "output_text", "text": text, "annotations": [], "logprobs": [], **part}
    return {"id": "msg_1", "type": "message", "role": "assistant", "content": [told]}


class ResponseServer:
    """Answers a response, and remembers what it was sent; `hang` and `refuse` as WireServer does.

    `output` is what it answers instead of what the request asks for; `tier` answers it. With
    `summaries` a thought shows.
    """

    def __init__(self) -> None:
        self.sent: list[JSON] = []
        self.left = asyncio.Event()
        self.output: list[JSON] | None = None
        self.changes: JSON = {}
        self.headers: list[dict[str, str]] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/responses", self._answer)
        app.router.add_post("/v1/responses/input_tokens", self._count)
        return app

    async def _count(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.keys() & {"stream", "store", "include", "max_output_tokens"}:
            return _refused("Unknown parameter")
        return web.json_response({"object": "response.input_tokens", "input_tokens": 20})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.sent.append(body)
        self.headers.append(dict(request.headers))
        fault = _fault(body)
        last = body["input"][-1]
        asked = last["content"][-1].get("text") if last["type"] == "message" else None
        if fault or asked == "refuse":
            return _refused(fault or "I will not.")
        response = _response(body, self.output) | self.changes
        if not body["stream"]:
            await self._hang(asked)
            return web.json_response(response)
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        for number, event in enumerate(events_of(response)):
            line = json.dumps(event | {"sequence_number": number})
            await stream.write(f"event: {event['type']}\ndata: {line}\n\n".encode())
            if event["type"].endswith(".delta"):
                await self._hang(asked)
        return stream

    async def _hang(self, asked: str | None) -> None:
        if asked == "hang":
            try:
                await asyncio.sleep(60)
            finally:
                self.left.set()


def _refused(message: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return web.json_response({"error": error}, status=400)


def _fault(body: JSON) -> str | None:
    """Say what of a body the API would refuse."""
    if body.keys() - _FIELDS:
        return f"Unknown parameter: '{min(body.keys() - _FIELDS)}'"
    if body.get("max_output_tokens", 16) < 16:
        return "Invalid 'max_output_tokens': integer below minimum value."
    if body.get("reasoning") and ({"temperature", "top_p"} & body.keys()):
        return "Unsupported parameter: 'temperature' is not supported with this model."
    faults = [_fault_of_tool(one) for one in body.get("tools", ()) if one["type"] == "custom"]
    return next(filter(None, faults), None) or _fault_of_items(body["input"])


def _fault_of_items(items: list[JSON]) -> str | None:
    calls: dict[str, str] = {}
    answered: set[str] = set()
    for item in items:
        fields = _ITEMS.get(item["type"])
        if fields is None or item.keys() - fields:
            return f"Unknown parameter in an item of the type {item['type']}"
        kind = item["type"]
        if kind in ("function_call", "custom_tool_call"):
            calls[item["call_id"]] = kind
        if kind.endswith("_output"):
            if calls.get(item["call_id"]) != kind.removesuffix("_output"):
                return f"No tool call found for {kind} with call_id {item['call_id']}."
            answered.add(item["call_id"])
    missing = calls.keys() - answered
    return f"No tool output found for {min(missing)}." if missing else None


def _fault_of_tool(tool: JSON) -> str | None:
    shape = tool.get("format", {"type": "text"})
    grammar = {"type", "syntax", "definition"} if shape["type"] == "grammar" else {"type"}
    if not isinstance(tool.get("name"), str) or shape.keys() != grammar:
        return "Invalid custom tool."
    return "Unknown parameter" if tool.keys() - {"type", "name", "description", "format"} else None


def _response(body: JSON, output: list[JSON] | None) -> JSON:
    effort = body.get("reasoning", {}).get("effort", "none")
    thinks = effort != "none"
    sealed = "reasoning.encrypted_content" in body.get("include", ())
    if output is None:
        output = [text_item("The answer is 4.")]
        if body.get("tools"):
            output = [CALL]
        if thinks:
            output = [THOUGHT | {"summary": []}, *output]
    shown = [item if sealed else _without_seal(item) for item in output]
    counts = {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 16}}
    details = {"reasoning_tokens": 9 if thinks else 0}
    usage = {
        **counts,
        "output_tokens": 16 if thinks else 7,
        "output_tokens_details": details,
        "total_tokens": 36 if thinks else 27,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1795000000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": body["model"],
        "output": shown,
        "service_tier": "default",
        "usage": usage,
    }


def _without_seal(item: JSON) -> JSON:
    return {name: value for name, value in item.items() if name != "encrypted_content"}


def events_of(response: JSON) -> Iterator[JSON]:
    """Write a response as the events of its stream."""
    begun = response | {"status": "in_progress", "output": [], "usage": None, "error": None}
    for kind in ("created", "in_progress"):
        yield {"type": f"response.{kind}", "response": begun}
    for index, item in enumerate(response["output"]):
        place = {"output_index": index, "item_id": item.get("id", f"item_{index}")}
        empty: JSON = {"content": [], "summary": [], "arguments": "", "input": ""}
        start = {name: empty.get(name, value) for name, value in item.items()}
        yield {"type": "response.output_item.added", "output_index": index, "item": start}
        for event in _item_events(item):
            yield event | place
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{response['status']}", "response": response}


def _item_events(item: JSON) -> Iterator[JSON]:
    if item["type"] == "function_call":
        for half in _halves(item["arguments"]):
            yield {"type": "response.function_call_arguments.delta", "delta": half}
        yield {"type": "response.function_call_arguments.done", "arguments": item["arguments"]}
    if item["type"] == "custom_tool_call":
        for half in _halves(item["input"]):
            yield {"type": "response.custom_tool_call_input.delta", "delta": half}
        yield {"type": "response.custom_tool_call_input.done", "input": item["input"]}
    for number, part in enumerate(item.get("summary", ())):
        at = {"summary_index": number}
        yield {"type": "response.reasoning_summary_part.added", "part": {}, **at}
        for half in _halves(part["text"]):
            yield {"type": "response.reasoning_summary_text.delta", "delta": half, **at}
        yield {"type": "response.reasoning_summary_text.done", "text": part["text"], **at}
    for number, part in enumerate(item.get("content", ())):
        at = {"content_index": number}
        yield {"type": "response.content_part.added", "part": {}, **at}
        name = "refusal" if part["type"] == "refusal" else "text"
        for half in _halves(part[name]):
            told = part.get("logprobs") or []
            yield {"type": f"response.{part['type']}.delta", "delta": half, "logprobs": told, **at}
        yield {"type": f"response.{part['type']}.done", name: part[name], **at}
        for annotation in part.get("annotations", ()):
            kind = "response.output_text.annotation.added"
            yield {"type": kind, "annotation": annotation, **at}


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


@asynccontextmanager
async def asking(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[ResponsesEngine]:
    """Open an engine of this API before a server that answers by a function."""
    app = web.Application()
    app.router.add_post("/v1/responses", answer)
    async with TestServer(app) as http:
        url = f"http://127.0.0.1:{http.port}/v1"
        config = EngineConfig(kind="responses", url=url, max_retries=0)
        async with ResponsesEngine(config) as engine:
            yield engine
