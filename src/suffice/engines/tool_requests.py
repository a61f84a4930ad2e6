"""The tools of a request, and the choice of one, as each kind of server takes them."""

from typing import Any

from suffice.engines.dialect import Dialect
from suffice.engines.schemas import grammar_tools, unmarked_tools
from suffice.types import JSON

_FREE = (None, "auto", "none")


def with_tools(body: JSON, *, dialect: Dialect, thinks: bool) -> JSON:
    """Write tools, and the choice of one, as a server takes them for a model that thinks or not.

    Without any tool, no choice of one goes out.
    """
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not tools:
        return _without_tools(body, choice=choice in _FREE)
    if dialect.refuses_marks:
        tools = unmarked_tools(tools)
    if dialect.compiles_tools:
        tools = grammar_tools(tools)
    return _with_choice({**body, "tools": tools}, choice, dialect=dialect, thinks=thinks)


def _with_choice(body: JSON, choice: Any, *, dialect: Dialect, thinks: bool) -> JSON:
    never = dialect.forces_calls == "never"
    if never and choice == "none":  # it knows `auto` alone
        return _without_tools(body, choice=True)
    free = never or (thinks and dialect.forces_calls == "unless_thinking")
    if free and choice not in _FREE:
        return {name: value for name, value in body.items() if name != "tool_choice"}
    if not dialect.names_calls and isinstance(choice, dict):
        named = [tool for tool in body["tools"] if _name(tool) == _name(choice)]
        return {**body, "tools": named or body["tools"], "tool_choice": "required"}
    return body


def _without_tools(body: JSON, *, choice: bool) -> JSON:
    idle = {"tools", "parallel_tool_calls", *(["tool_choice"] if choice else [])}
    return {name: value for name, value in body.items() if name not in idle}


def _name(tool: Any) -> Any:
    function = tool.get("function") if isinstance(tool, dict) else None
    return function.get("name") if isinstance(function, dict) else None
