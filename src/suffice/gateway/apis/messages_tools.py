"""Tools of Anthropic's API as functions: those of the client's own, and those its vendor defines.

A tool like `bash_20250124` has no schema in a request, for Anthropic's models know it; but it is
the client that runs it, so any model can be told of it. The schemas are those of
https://docs.claude.com/en/docs/agents-and-tools/tool-use.
"""

from collections.abc import Container

import msgspec

from suffice.gateway.apis.fields import Fields, refused, wrong
from suffice.types import JSON

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}


def _schema(properties: JSON, *required: str) -> JSON:
    return {"type": "object", "properties": properties, "required": list(required)}


_EDITS: JSON = {
    "path": _TEXT,
    "view_range": {"type": "array", "items": _NUMBER},
    "file_text": _TEXT,
    "old_str": _TEXT,
    "new_str": _TEXT,
    "insert_line": _NUMBER,
    "insert_text": _TEXT,
}
_EDITOR = ("view", "create", "str_replace", "insert")
_MEMORY = (*_EDITOR, "delete", "rename")
# Beginnings of types, with what a model is told of such a tool.
_CLIENT_TOOLS = {
    "bash_": (
        "Run a command in a shell that stays open between calls.",
        _schema({"command": _TEXT, "restart": {"type": "boolean"}}),
    ),
    "text_editor_": (
        "View, create and edit text files.",
        _schema({"command": {"enum": [*_EDITOR, "undo_edit"]}, **_EDITS}, "command", "path"),
    ),
    "memory_": (
        "Keep notes in files under /memories, which outlive this conversation.",
        _schema(
            {"command": {"enum": list(_MEMORY)}, **_EDITS, "old_path": _TEXT, "new_path": _TEXT},
            "command",
        ),
    ),
}
_SEARCHES_TOOLS = "tool_search_tool_"  # here all tools are told at once, so there is no search


# Blocks of system messages: engines know the tools of a request alone, as they are at its end.
CHANGES = {"tool_addition": "available", "tool_removal": "not available any more"}


def removed_tools(messages: object) -> set[str]:
    """Name the tools that were taken from the model in the course of a conversation."""
    removed: set[str] = set()
    for message in messages if isinstance(messages, list) else ():
        system = isinstance(message, dict) and message.get("role") == "system"
        content = message.get("content") if system else None
        for block in content if isinstance(content, list) else ():
            kind = block.get("type") if isinstance(block, dict) else None
            tool = block.get("tool") if kind in CHANGES else None
            name = tool.get("name") if isinstance(tool, dict) else None
            if isinstance(name, str):
                (removed.add if kind == "tool_removal" else removed.discard)(name)
    return removed


def chat_tools(fields: Fields, *, removed: Container[str] = ()) -> JSON:
    """Take the tools of a body, without those that were `removed`, and the choice among them."""
    tools = [
        tool
        for entry in fields.each("tools")
        if (tool := _tool(entry)) is not None and tool["function"]["name"] not in removed
    ]
    chat: JSON = {"tools": tools} if tools else {}
    choice = fields.inner("tool_choice")
    if choice is None:
        return chat
    kind = choice.need("type", str)
    if not tools and kind in ("auto", "none"):  # engines refuse it without tools
        choice.drop()
        return chat
    if kind == "tool":
        function = {"name": choice.need("name", str)}
        chat["tool_choice"] = {"type": "function", "function": function}
    elif kind in _CHOICES:
        chat["tool_choice"] = _CHOICES[kind]
    else:
        raise wrong(choice.path("type"), f"one of {', '.join(_CHOICES)}, tool")
    single = choice.take("disable_parallel_tool_use", bool)
    choice.done()
    return chat if single is None else chat | {"parallel_tool_calls": not single}


def _tool(tool: Fields) -> JSON | None:
    kind = tool.take("type", str) or "custom"
    if kind != "custom" and not kind.startswith((*_CLIENT_TOOLS, _SEARCHES_TOOLS)):
        raise refused(
            tool.path("type"),
            f"a tool of the type {kind!r} runs at its vendor's, or is known to its models alone",
            hint="send a tool of your own with an input_schema, or leave it out",
        )
    name = tool.need("name", str)
    tool.ignore("eager_input_streaming", "defer_loading")
    hints = tool.hint("cache_control")
    callers = tool.take("allowed_callers", list)
    if callers is not None and "direct" not in callers:
        raise refused(tool.path("allowed_callers"), "models call tools directly here")
    if callers is not None:
        tool.ignored.add("allowed_callers")
    if kind == "custom":
        function = {"name": name, **_described(tool), **tool.same(["strict"])}
        function["parameters"] = tool.need("input_schema", dict)
    elif kind.startswith(_SEARCHES_TOOLS):
        tool.ignored.add(kind)
        return None
    else:
        start = next(start for start in _CLIENT_TOOLS if kind.startswith(start))
        tool.ignore("max_characters")
        description, schema = _CLIENT_TOOLS[start]
        function = {"name": name, "description": description, "parameters": schema}
    tool.done()
    return {"type": "function", "function": function, **hints}


def _described(tool: Fields) -> JSON:
    """Take the description, with the examples of inputs written below it."""
    text, examples = tool.take("description", str), tool.take("input_examples", list) or []
    lines = [f"Example input: {msgspec.json.encode(example).decode()}" for example in examples]
    whole = "\n\n".join([*([] if text is None else [text]), *lines])
    return {} if text is None and not lines else {"description": whole}
