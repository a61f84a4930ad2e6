"""Write completions in the form of the OpenAI API, for engines without a server."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from suffice.engines.chunk import Chunk, Relay
from suffice.types import JSON, Completion, Count, CountSource, Request, Usage, estimated


def relayed(
    answer: AsyncGenerator[Chunk | Completion, None], request: Request, *, model: str
) -> Relay:
    """Return a relay that writes an engine's chunks as server-sent events."""
    output = [Count(0, CountSource.ESTIMATED)]
    head = completion_head(request, model=model, kind="chat.completion.chunk")

    async def items() -> AsyncGenerator[bytes | Completion, None]:
        async with aclosing(answer) as stream:
            async for item in stream:
                if isinstance(item, Chunk):
                    output[0] += estimated(item.text + item.reasoning)
                    yield event(head | {"choices": [_delta(item)]})
                else:
                    last = {"index": 0, "delta": {}, "finish_reason": item.finish.value}
                    yield event(head | {"choices": [last]})
                    yield item

    return Relay(items=items(), used=lambda: Usage(output_tokens=output[0]))


def completion_body(completion: Completion, *, request: Request, model: str) -> JSON:
    """Return the body of a whole reply, without its usage."""
    message: JSON = {"role": "assistant", "content": completion.text}
    if completion.reasoning is not None:
        message["reasoning_content"] = completion.reasoning
    if completion.tool_calls:
        message["tool_calls"] = completion.tool_calls
    first = {"index": 0, "message": message, "finish_reason": completion.finish.value}
    others = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for i, text in enumerate(completion.samples, 1)
    ]
    return completion_head(request, model=model, kind="chat.completion") | {
        "choices": [first, *others]
    }


def usage_chunk(request: Request, *, model: str) -> JSON:
    """Return the last chunk of a stream, without its usage."""
    return completion_head(request, model=model, kind="chat.completion.chunk") | {"choices": []}


def event(value: object) -> bytes:
    """Return one server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def completion_head(request: Request, *, model: str, kind: str) -> JSON:
    """Return what a completion, or a chunk of one, says of itself."""
    return {
        "id": f"chatcmpl-{request.request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }


def _delta(chunk: Chunk) -> JSON:
    delta: JSON = {"role": "assistant"}
    delta |= {"content": chunk.text} if chunk.text or not chunk.reasoning else {}
    delta |= {"reasoning_content": chunk.reasoning} if chunk.reasoning else {}
    delta |= {"tool_calls": chunk.tool_calls} if chunk.tool_calls else {}
    return {"index": chunk.sample, "delta": delta, "finish_reason": None}
