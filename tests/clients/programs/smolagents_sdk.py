"""smolagents: an agent that calls a tool and then gives its final answer."""

import sys

from smolagents import OpenAIServerModel, Tool, ToolCallingAgent

COUNTRY = {"country": {"type": "string", "description": "where it flows"}}


class River(Tool):
    name = "river"
    description = "Names a river."
    inputs = COUNTRY
    output_type = "string"

    def forward(self, country: str) -> str:
        return "river-rhine" if country == "Germany" else "none"


model = OpenAIServerModel("suffice", api_base=sys.argv[1] + "/v1", api_key="any")
for stream in (False, True):
    agent = ToolCallingAgent(tools=[River()], model=model, stream_outputs=stream, max_steps=4)
    answer = agent.run("Say the river.")
    print(answer)
    assert answer == "river-rhine"
