"""LangChain: a bound tool, streams and typed results, through three APIs."""

import sys

import pydantic
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


class River(pydantic.BaseModel):
    """A river."""

    river: str


@tool
def river(country: str) -> str:
    """Name a river."""
    return "river-rhine" if country == "Germany" else "none"


OPENAI = {"model": "suffice", "base_url": sys.argv[1] + "/v1", "api_key": "any", "max_retries": 0}
ANTHROPIC = {"model": "suffice", "base_url": sys.argv[1], "api_key": "any", "max_retries": 0}
for model in (
    ChatOpenAI(**OPENAI, stream_usage=True),
    ChatOpenAI(**OPENAI, use_responses_api=True),
    ChatAnthropic(**ANTHROPIC, max_tokens=900),
):
    bound = model.bind_tools([river])
    for stream in (False, True):
        messages = [HumanMessage("Say the river.")]
        for _ in range(2):
            if stream:
                message = None
                for part in bound.stream(messages):
                    message = part if message is None else message + part
            else:
                message = bound.invoke(messages)
            if not message.tool_calls:
                break
            messages.append(message)
            messages += [
                ToolMessage(river.invoke(call["args"]), tool_call_id=call["id"])
                for call in message.tool_calls
            ]
        print(message.text, message.usage_metadata["input_tokens"])
        assert "river-rhine" in str(message.text)
    assert model.with_structured_output(River).invoke("Which one?") == River(river="river-rhine")
