"""Schemas of tools as servers take them that compile them into a grammar, such as llama.cpp.

One pattern or bound that the grammar cannot express, and the server refuses the whole request
(ggml-org/llama.cpp issues 22314, 25746, 25923 and 26930, 2026). Clients check arguments themselves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from suffice.types import JSON

_UNWRITABLE = frozenset({"pattern", "minLength", "maxLength", "minItems", "maxItems"})
_OF_NAMES = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
)


def grammar_tools(tools: Any) -> Any:
    """Leave out what a grammar cannot express of the parameters of tools."""
    if not isinstance(tools, list):
        return tools
    return [_tool(tool) for tool in tools]


def unmarked_tools(tools: Any) -> Any:
    """Leave out what says where a prompt is cached."""
    if not isinstance(tools, list):
        return tools
    return [
        {name: value for name, value in tool.items() if name != "cache_control"}
        if isinstance(tool, dict)
        else tool
        for tool in tools
    ]


def lost_keywords(value: Any, sent: Any) -> set[str]:
    """Name the keywords of a value that are missing, or different, in what is sent of it."""
    if isinstance(value, dict) and isinstance(sent, Mapping):
        lost = {name for name in value if name not in sent}
        return lost.union(*(lost_keywords(value[n], sent[n]) for n in value.keys() & sent.keys()))
    if isinstance(value, list) and isinstance(sent, Sequence) and len(value) == len(sent):
        return set().union(*map(lost_keywords, value, sent))
    return set()


def _tool(tool: Any) -> Any:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or "parameters" not in function:
        return tool
    return {**tool, "function": {**function, "parameters": _plain(function["parameters"])}}


def _plain(schema: Any) -> Any:
    """Leave keywords out of a schema and those in it; a property may have such a name."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain: JSON = {}
    for name, value in schema.items():
        if name in _OF_NAMES and isinstance(value, dict):
            if value or name != "properties":  # no properties are any: llama.cpp fails on {}
                plain[name] = {key: _plain(inner) for key, inner in value.items()}
        elif name not in _UNWRITABLE:
            plain[name] = (
                value if name in ("enum", "const", "default", "examples") else _plain(value)
            )
    return plain
