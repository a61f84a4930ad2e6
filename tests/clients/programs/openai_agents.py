"""openai-agents: an agent with a tool, through chat completions and through responses."""

import asyncio
import sys

import agents
import openai

agents.set_tracing_disabled(True)
client = openai.AsyncOpenAI(base_url=sys.argv[1] + "/v1", api_key="any", max_retries=0)


@agents.function_tool
def river(country: str) -> str:
    """Name a river."""
    return "river-rhine" if country == "Germany" else "none"


async def main() -> None:
    for kind in (agents.OpenAIChatCompletionsModel, agents.OpenAIResponsesModel):
        model = kind(model="suffice", openai_client=client)
        agent = agents.Agent(name="a", instructions="Be brief.", tools=[river], model=model)
        whole = await agents.Runner.run(agent, "Say the river.")
        streamed = agents.Runner.run_streamed(agent, "Say the river.")
        async for _event in streamed.stream_events():
            pass
        print(whole.final_output, streamed.final_output)
        assert "river-rhine" in whole.final_output
        assert "river-rhine" in streamed.final_output
        usage = whole.context_wrapper.usage
        assert usage.requests == 2
        assert usage.input_tokens > 0


asyncio.run(main())
