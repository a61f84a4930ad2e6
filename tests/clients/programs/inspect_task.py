"""A task of inspect-ai with a tool: the model has to tell what the tool said."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import Tool, tool


@tool
def river() -> Tool:
    async def execute(country: str) -> str:
        """Name a river.

        Args:
            country: where it flows
        """
        return "river-rhine" if country == "Germany" else "none"

    return execute


@task
def rivers() -> Task:
    sample = Sample(input="Say the river.", target="river-rhine")
    return Task(dataset=[sample], solver=[use_tools(river()), generate()], scorer=includes())
