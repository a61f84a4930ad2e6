"""The LiteLLM SDK over three APIs, streamed and not, with a tool."""

import sys
from typing import Any

import litellm

URL = sys.argv[1]
SCHEMA = {"type": "object", "properties": {"country": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "river", "parameters": SCHEMA}}


def loop(model: str, base: str, *, stream: bool) -> str:
    messages: list[Any] = [{"role": "user", "content": "Say the river."}]
    for _ in range(2):
        reply = litellm.completion(
            model=model,
            api_base=base,
            api_key="any",
            messages=messages,
            tools=[TOOL],
            stream=stream,
            **({"stream_options": {"include_usage": True}} if stream else {}),
        )
        reply = litellm.stream_chunk_builder(list(reply)) if stream else reply
        assert reply.usage.prompt_tokens > 0
        message = reply.choices[0].message
        if not message.tool_calls:
            return message.content
        call = message.tool_calls[0]
        messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "river-rhine"}]
    raise AssertionError("no answer")


for stream in (False, True):
    print(loop("openai/suffice", URL + "/v1", stream=stream))
    print(loop("anthropic/suffice", URL, stream=stream))
response = litellm.responses(
    model="openai/suffice", api_base=URL + "/v1", api_key="any", input="Which one?"
)
print(response.output[-1].content[0].text)
