"""The openai SDK: chat, streams, structured output, responses, all with a tool."""

import json
import sys
from typing import Any

import openai
import pydantic

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="any", max_retries=0)
SCHEMA = {
    "type": "object",
    "properties": {"country": {"type": "string"}},
    "required": ["country"],
    "additionalProperties": False,
}
FUNCTION = {"name": "river", "description": "Names a river.", "parameters": SCHEMA, "strict": True}
TOOLS = [{"type": "function", "function": FUNCTION}]


class River(pydantic.BaseModel):
    river: str


def chat(*, stream: bool) -> str:
    messages: list[Any] = [{"role": "user", "content": "Say the river."}]
    for _ in range(2):
        question: Any = {"model": "suffice", "messages": messages, "tools": TOOLS}
        if stream:
            with client.chat.completions.stream(**question) as events:
                message = events.until_done().get_final_completion().choices[0].message
        else:
            message = client.chat.completions.create(**question).choices[0].message
        if not message.tool_calls:
            return message.content or ""
        call = message.tool_calls[0]
        assert json.loads(call.function.arguments) == {"country": "Germany"}
        messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "river-rhine"}]
    raise AssertionError("no answer")


def responses() -> str:
    items: list[Any] = [{"role": "user", "content": "Say the river."}]
    for _ in range(2):
        with client.responses.stream(
            model="suffice", input=items, tools=[{"type": "function", **FUNCTION}]
        ) as events:
            for _event in events:
                pass
            response = events.get_final_response()
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return response.output_text
        items += response.output
        for call in calls:
            item = {"call_id": call.call_id, "output": "river-rhine"}
            items.append({"type": "function_call_output", **item})
    raise AssertionError("no answer")


print(chat(stream=True), chat(stream=False), responses())
MESSAGES: list[Any] = [{"role": "user", "content": "Which one?"}]
parsed = client.chat.completions.parse(model="suffice", messages=MESSAGES, response_format=River)
assert parsed.choices[0].message.parsed == River(river="river-rhine")
typed = client.responses.parse(model="suffice", input="Which one?", text_format=River)
assert typed.output_parsed == River(river="river-rhine")
assert client.models.retrieve("suffice").id == "suffice"
