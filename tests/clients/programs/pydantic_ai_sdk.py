"""pydantic-ai: an agent with a tool and a typed result, through three APIs."""

import asyncio
import sys

import pydantic
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


class River(pydantic.BaseModel):
    river: str


OPENAI = OpenAIProvider(base_url=sys.argv[1] + "/v1", api_key="any")
MODELS = (
    OpenAIChatModel("suffice", provider=OPENAI),
    OpenAIResponsesModel("suffice", provider=OPENAI),
    AnthropicModel("suffice", provider=AnthropicProvider(base_url=sys.argv[1], api_key="any")),
)


def river(country: str) -> str:
    """Name a river."""
    return "river-rhine" if country == "Germany" else "none"


async def main() -> None:
    for model in MODELS:
        agent = Agent(model, tools=[river], instructions="Be brief.")
        whole = await agent.run("Say the river.")
        async with agent.run_stream("Say the river.") as stream:
            text = await stream.get_output()
        typed = await Agent(model, output_type=River).run("Which one?")
        print(whole.output, text, typed.output)
        assert "river-rhine" in whole.output
        assert "river-rhine" in text
        assert typed.output == River(river="river-rhine")


asyncio.run(main())
