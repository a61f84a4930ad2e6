"""Tools that take free text: custom tools, and the functions of one text that stand for them.

A client of the Responses API has its custom tools as functions in the chat request, for most
engines know nothing else; a chat client has them in chat completions' own form.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from suffice.types import JSON, Request

INPUT = "input"  # the one parameter of a function that stands for a custom tool


def names_of(request: Request) -> dict[str, str]:
    """Map what an engine calls the custom tools of a request to their names in the chat request."""
    tools = request.params.get("tools")
    asked = [custom_of(tool) for tool in tools] if isinstance(tools, list) else []
    told = (custom.get("name") for custom in asked if custom)
    names = {name: name for name in (*told, *request.custom_tools) if isinstance(name, str)}
    return names | {tool["name"]: name for name, tool in request.custom_tools.items()}


def custom_of(part: Any) -> JSON | None:
    """Return what a tool, a choice or a call of a chat says of a custom tool; None for another.

    Some gateways write an empty `custom` beside every function.
    """
    custom = part.get("custom") if isinstance(part, dict) else None
    if not isinstance(custom, dict) or part.get("function"):
        return None
    told = (custom.get("name"), custom.get(INPUT))
    return custom if any(isinstance(text, str) for text in told) else None


def flat_tool(custom: JSON) -> JSON:
    """Write a custom tool of a chat request as the Responses API has it."""
    shape = custom.get("format")
    if isinstance(shape, dict) and isinstance(shape.get("grammar"), dict):
        shape = {"type": "grammar", **shape["grammar"]}
    flat = {"name": custom["name"], "description": custom.get("description"), "format": shape}
    return {"type": "custom", **{name: value for name, value in flat.items() if value is not None}}


def arguments_of(function: JSON) -> str:
    """Read the arguments of a called function as text; some engines send the object itself."""
    arguments = function.get("arguments") or ""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def input_of(arguments: str) -> str:
    """Read the free text in the arguments of a function that stands for a custom tool.

    Arguments that are no JSON object are the text.
    """
    try:
        table = msgspec.json.decode(arguments or "{}", type=JSON)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    return text_in(table)


def text_in(arguments: JSON) -> str:
    """Return the one text of a function's arguments, whatever a model calls it."""
    texts = [*arguments.values()] if len(arguments) == 1 else []
    told = arguments.get(INPUT, texts[0] if texts else arguments or "")
    return told if isinstance(told, str) else msgspec.json.encode(told).decode()


def given_calls(messages: Iterable[JSON], tools: dict[str, JSON]) -> dict[str, JSON]:
    """Map the ids of calls of custom tools in a conversation to their names and inputs.

    `tools` are those that functions stand for.
    """
    calls = (call for message in messages for call in message.get("tool_calls") or ())
    given = ((call["id"], _given(call, tools)) for call in calls)
    return {call_id: custom for call_id, custom in given if custom is not None}


def _given(call: JSON, tools: dict[str, JSON]) -> JSON | None:
    custom = custom_of(call)
    if custom is not None:
        return {"name": custom["name"], INPUT: custom.get(INPUT) or ""}
    function = call["function"]
    tool = tools.get(function["name"])
    if tool is None:
        return None
    return {"name": tool["name"], INPUT: input_of(arguments_of(function))}
