"""Tools of the Responses API as functions, and the calls of functions as its items.

Whatever the client itself runs can be a function: its own functions, also within a namespace, tools
that take free text, a shell, patches. Tools that run at the vendor's cannot.
"""

import re
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct

from suffice.engines.custom_tools import INPUT, text_in
from suffice.gateway.apis.fields import Fields, refused
from suffice.types import JSON

_LONGEST_NAME = 64
_ODD = re.compile(r"[^A-Za-z0-9_-]")
# Tools of the vendor that agents offer beside their own: the model can do without.
_OFFERS = ("web_search", "web_search_preview", "image_generation")
_TEXT: JSON = {"type": "string"}
_TEXTS: JSON = {"type": "array", "items": _TEXT}
CUSTOM_CALL = "custom_tool_call"
_NUMBER: JSON = {"type": ["integer", "null"]}


class ToolKind(Struct, frozen=True, kw_only=True):
    """A kind of tool beside functions: what the model is told of it, and how its items look.

    `fields` turns the arguments of a call into the fields of its item, and `arguments` back.
    """

    item: str
    prefix: str
    description: str
    properties: JSON
    required: tuple[str, ...]
    fields: Callable[[JSON], JSON]
    arguments: Callable[[Fields], JSON]


def _shell_action(action: Fields, *names: str) -> JSON:
    action.take("type", str)
    arguments = action.same(names)
    action.ignore("env", "user")
    action.done()
    return arguments


KINDS: dict[str, ToolKind] = {
    "custom": ToolKind(
        item=CUSTOM_CALL,
        prefix="ctc",
        description="",
        properties={INPUT: _TEXT | {"description": "The whole input, as free text."}},
        required=(INPUT,),
        fields=lambda arguments: {INPUT: text_in(arguments)},
        arguments=lambda item: {INPUT: item.need(INPUT, str)},
    ),
    "local_shell": ToolKind(
        item="local_shell_call",
        prefix="lsh",
        description="Run a command on the user's computer.",
        properties={"command": _TEXTS, "timeout_ms": _NUMBER, "working_directory": _TEXT},
        required=("command",),
        fields=lambda arguments: {
            "action": {
                "type": "exec",
                "command": _list_of(arguments.get("command")),
                "timeout_ms": arguments.get("timeout_ms"),
                "working_directory": arguments.get("working_directory"),
                "env": {},
            }
        },
        arguments=lambda item: _shell_action(
            item.inner("action") or item.of(None, at=item.path("action")),
            *("command", "timeout_ms", "working_directory"),
        ),
    ),
    "shell": ToolKind(
        item="shell_call",
        prefix="sh",
        description="Run commands in a shell on the user's computer, side by side.",
        properties={"commands": _TEXTS, "timeout_ms": _NUMBER, "max_output_length": _NUMBER},
        required=("commands",),
        fields=lambda arguments: {
            "action": {
                "commands": _list_of(arguments.get("commands")),
                "timeout_ms": arguments.get("timeout_ms"),
                "max_output_length": arguments.get("max_output_length"),
            }
        },
        arguments=lambda item: _shell_action(
            item.inner("action") or item.of(None, at=item.path("action")),
            *("commands", "timeout_ms", "max_output_length"),
        ),
    ),
    "apply_patch": ToolKind(
        item="apply_patch_call",
        prefix="apc",
        description="Create, update or delete a file; `diff` is in the V4A format.",
        properties={
            "type": {"enum": ["create_file", "update_file", "delete_file"]},
            "path": _TEXT,
            "diff": _TEXT,
        },
        required=("type", "path"),
        fields=lambda arguments: {"operation": arguments},
        arguments=lambda item: item.need("operation", dict),
    ),
}
SEARCH_TOOL, SEARCH_OUTPUT = "tool_search", "tool_search_output"
MORE_TOOLS = "additional_tools"  # an item by which Codex offers tools beside those of the body
_ITEM_KINDS = {kind.item: name for name, kind in KINDS.items()}


class CalledTool(Struct, frozen=True, kw_only=True):
    """A tool of the client behind a function of the chat request."""

    kind: str
    name: str
    namespace: str | None = None

    @property
    def named(self) -> JSON:
        """The fields by which the item of a call names the tool."""
        return {"name": self.name} | ({"namespace": self.namespace} if self.namespace else {})


class ToolTable:
    """The tools of a request: `chat` are their functions, and every call leads back to its tool.

    `customs` are its tools that take free text, as it has them, by the names of their functions.
    """

    def __init__(self) -> None:
        self.chat: list[JSON] = []
        self.customs: dict[str, JSON] = {}
        self._tools: dict[str, CalledTool] = {}

    def tool(self, chat_name: str) -> CalledTool:
        """Return the tool behind a function; a name that a model made up is a function's."""
        return self._tools.get(chat_name) or CalledTool(kind="function", name=chat_name)

    def add(self, tool: CalledTool, function: JSON) -> None:
        """Take a tool with what the model is to be told of it."""
        name = chat_name_of(tool.name, namespace=tool.namespace)
        if name in self._tools:
            return
        self._tools[name] = tool
        self.chat.append({"type": "function", "function": {"name": name, **function}})


def chat_name_of(name: str, *, namespace: str | None = None) -> str:
    """Name a function as chat completions allow: 64 letters, digits, `-` and `_` at most."""
    whole = name if namespace is None else f"{namespace}__{name}"
    plain = _ODD.sub("_", whole)
    if plain == whole and len(plain) <= _LONGEST_NAME:
        return plain
    return f"{plain[: _LONGEST_NAME - 9]}_{blake2b(whole.encode(), digest_size=4).hexdigest()}"


def loaded_tools(items: Iterable[Any]) -> list[JSON]:
    """Return the tools that items offer: more of the client's, or what its search has found."""
    kinds = (SEARCH_OUTPUT, MORE_TOOLS)
    offers = (i for i in items if isinstance(i, dict) and i.get("type") in kinds)
    lists = (tools for i in offers if isinstance(tools := i.get("tools"), list))
    return [tool for tools in lists for tool in tools if isinstance(tool, dict)]


def read_tools(fields: Fields, *, loaded: Iterable[JSON] = ()) -> ToolTable:
    """Take the tools of a body, and those `loaded` since, the first of each name.

    Offers of the vendor's tools are left out beside others.
    """
    table, offers = ToolTable(), []
    later = (fields.of(tool, at="tools of an item") for tool in loaded)
    for tool in (*fields.each("tools"), *later):
        kind = tool.need("type", str)
        if kind == SEARCH_TOOL and tool.peek("execution") == "client":
            tool.take("execution", str)
            function = tool.same(["description", "parameters"])
            table.add(CalledTool(kind=SEARCH_TOOL, name=SEARCH_TOOL), function)
        elif kind == SEARCH_TOOL:  # it would load tools that the model is told of anyway
            offers.append((tool, kind))
            continue
        elif kind == "namespace":
            _add_namespace(table, tool)
        elif kind == "function":
            _add_function(table, tool, namespace=None)
        elif kind in KINDS:
            _add_kind(table, tool, kind, namespace=None)
        elif kind.startswith(_OFFERS):
            offers.append((tool, kind))
            continue
        else:
            raise _elsewhere(tool, kind)
        tool.done()
    for tool, kind in offers:
        if not table.chat:
            raise _elsewhere(tool, kind)
        fields.ignored.add(kind)
    return table


def read_choice(fields: Fields, table: ToolTable) -> JSON:
    """Take the choice of a tool, and return the tools that remain with it."""
    chat: JSON = {"tools": table.chat} if table.chat else {}
    choice = fields.any("tool_choice")
    if not isinstance(choice, dict):
        free = choice in (None, "auto", "none") and not table.chat  # engines refuse it there
        return chat if choice is None or free else chat | {"tool_choice": choice}
    chosen = fields.of(choice, at="tool_choice")
    kind = chosen.need("type", str)
    if kind == "allowed_tools":
        names = [_name_of(tool) for tool in chosen.each("tools")]
        chat["tools"] = [tool for tool in table.chat if tool["function"]["name"] in names]
        chat["tool_choice"] = chosen.take("mode", str) or "auto"
    elif kind == "function" or kind in KINDS:
        name = _name_of(fields.of(choice, at="tool_choice"))
        chat["tool_choice"] = {"type": "function", "function": {"name": name}}
        chosen.same(("name", "namespace"))
    else:
        raise refused(chosen.path("type"), f"a tool of the type {kind!r} runs at its vendor's")
    chosen.done()
    return chat


def chat_call_of(item: Fields, kind: str) -> tuple[str, str] | None:
    """Read an item that is a call: the function's name and arguments; None for another item."""
    if kind == "function_call":
        namespace = item.take("namespace", str)
        name = chat_name_of(item.need("name", str), namespace=namespace)
        return name, item.need("arguments", str)
    if kind == "tool_search_call" and item.peek("call_id") is not None:
        item.ignore("execution", "created_by")
        return SEARCH_TOOL, msgspec.json.encode(item.any("arguments") or {}).decode()
    tool = _ITEM_KINDS.get(kind)
    if tool is None:
        return None
    name = item.need("name", str) if tool == "custom" else tool
    namespace = item.take("namespace", str) if tool == "custom" else None
    item.ignore("environment", "created_by", "namespace")
    arguments = KINDS[tool].arguments(item)
    return chat_name_of(name, namespace=namespace), msgspec.json.encode(arguments).decode()


def item_of_call(tool: CalledTool, *, text: str) -> JSON:
    """Write the fields by which the item of a call differs from others; `text` are its arguments.

    Arguments that are not what the tool takes go into the one field that there is.
    """
    if tool.kind == "function":
        return {"type": "function_call", **tool.named, "arguments": text}
    try:
        arguments = msgspec.json.decode(text or "{}", type=JSON)
    except (msgspec.DecodeError, RecursionError):
        first = KINDS[tool.kind].required[0] if tool.kind in KINDS else "query"
        arguments = {first: text}
    if tool.kind == SEARCH_TOOL:
        return {"type": "tool_search_call", "execution": "client", "arguments": arguments}
    kind = KINDS[tool.kind]
    named = tool.named if tool.kind == "custom" else {}
    return {"type": kind.item, **named, **kind.fields(arguments)}


def _add_function(table: ToolTable, tool: Fields, *, namespace: str | None) -> None:
    name = tool.need("name", str)
    tool.ignore("defer_loading")
    function = tool.same(["description", "parameters", "strict"])
    table.add(CalledTool(kind="function", name=name, namespace=namespace), function)


def _add_namespace(table: ToolTable, tool: Fields) -> None:
    """Take the tools of a namespace; its description stands before each of theirs."""
    name, description = tool.need("name", str), tool.take("description", str)
    first = len(table.chat)
    for inner in tool.each("tools"):
        kind = inner.need("type", str)
        if kind == "function":
            _add_function(table, inner, namespace=name)
        elif kind == "custom":
            _add_kind(table, inner, kind, namespace=name)
        else:
            raise refused(inner.path("type"), "a namespace holds functions and custom tools")
        inner.done()
    for entry in table.chat[first:]:
        texts = [description, entry["function"].get("description")]
        entry["function"]["description"] = "\n\n".join(text for text in texts if text)


def _add_kind(table: ToolTable, tool: Fields, name: str, *, namespace: str | None) -> None:
    kind = KINDS[name]
    asked = {field: tool.peek(field) for field in ("description", "format")}
    named = tool.need("name", str) if name == "custom" else name
    texts = [tool.take("description", str) or kind.description]
    shape = tool.inner("format")
    if shape is not None:
        texts += _grammar(shape)
    tool.ignore("environment", "defer_loading")
    schema = {
        "type": "object",
        "properties": kind.properties,
        "required": list(kind.required),
        "additionalProperties": False,
    }
    description = "\n\n".join(text for text in texts if text)
    function = ({"description": description} if description else {}) | {"parameters": schema}
    if name == "custom":
        chat_name = chat_name_of(named, namespace=namespace)
        custom = {"type": "custom", "name": named if namespace is None else chat_name}
        custom |= {field: value for field, value in asked.items() if value is not None}
        table.customs.setdefault(chat_name, custom)
    table.add(CalledTool(kind=name, name=named, namespace=namespace), function)


def _grammar(shape: Fields) -> list[str]:
    """Tell the model in words what an input must look like."""
    kind = shape.need("type", str)
    if kind == "text":
        shape.done()
        return []
    if kind != "grammar":
        raise refused(shape.path("type"), "a format is text or grammar")
    syntax, definition = shape.need("syntax", str), shape.need("definition", str)
    shape.done()
    return [f"The input must follow this grammar ({syntax}):\n{definition}"]


def _name_of(tool: Fields) -> str:
    kind, name = tool.take("type", str), tool.take("name", str)
    return chat_name_of(name or kind or "", namespace=tool.take("namespace", str))


def _elsewhere(tool: Fields, kind: str) -> Exception:
    return refused(
        tool.path("type"),
        f"a tool of the type {kind!r} runs at its vendor's",
        hint="switch this tool off in the client, or send a function of your own",
    )


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _list_of(value: Any) -> list[str]:
    return [str(part) for part in value] if isinstance(value, list) else [_text_of(value)]
