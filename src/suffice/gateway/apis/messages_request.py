"""POST /v1/messages, Anthropic's API: what it asks for, as a chat request.

https://docs.claude.com/en/api/messages. Hints that change no answer are passed over and named.
"""

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from suffice.gateway.apis.fields import Fields, refused, wrong
from suffice.types import JSON

_SAME = ("temperature", "top_p", "top_k")
# The largest budget of each effort, between the budgets that LiteLLM 1.x gives the efforts low,
# medium, high, xhigh and max (1024, 2048, 4096, 8192, 16384: litellm/constants.py).
_EFFORTS = ((1535, "low"), (3071, "medium"), (6143, "high"), (12287, "xhigh"))
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class Translated(Struct, frozen=True, kw_only=True):
    """A chat request, and the names of the hints that it could not keep."""

    chat: JSON
    ignored: tuple[str, ...] = ()


def chat_of_message(asked: object, *, by_policy: bool) -> Translated:
    """Translate a body; raises Problem for what chat completions cannot carry.

    A budget for thinking is a limit: where the policy chooses (`by_policy`) it asks for nothing,
    and a rung that is asked for by name gets the nearest effort.
    """
    reader = _BlockReader()
    fields = reader.open(Fields(asked))
    limit = fields.need("max_tokens", int)
    chat = {
        "model": fields.need("model", str),
        "messages": [*reader.system(fields), *reader.messages(fields)],
        "max_completion_tokens": limit,
        **fields.same(_SAME),
        **_stop(fields),
        **reader.tools(fields),
        **_effort(fields, by_policy=by_policy),
        **_user(fields),
    }
    if fields.take("stream", bool):
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    fields.only("service_tier", ["auto", "standard_only"], why="there are no tiers here")
    fields.done()
    return Translated(chat=chat, ignored=tuple(sorted(reader.ignored)))


class _BlockReader:
    """Reads blocks, and notes the hints that it meets."""

    def __init__(self) -> None:
        self.ignored: set[str] = set()

    def open(self, fields: Fields) -> Fields:
        """Take the hint for a cache, which engines keep by themselves."""
        if fields.any("cache_control") is not None:
            self.ignored.add("cache_control")
        return fields

    def blocks(self, fields: Fields, name: str) -> Iterator[tuple[str, Fields]]:
        """Read a list of blocks, or a text as the one block that it is short for."""
        given = fields.any(name)
        given = [{"type": "text", "text": given}] if isinstance(given, str) else given
        if not isinstance(given, list):
            raise wrong(fields.path(name), "a text, or a list of blocks")
        for i, value in enumerate(given):
            block = self.open(Fields(value, at=f"{fields.path(name)}[{i}]"))
            yield block.need("type", str), block
            block.done()

    def system(self, fields: Fields) -> Iterator[JSON]:
        system = fields.any("system")
        if system is not None:
            content = self.texts(Fields({"system": system}), "system")
            yield {"role": "system", "content": content}

    def texts(self, fields: Fields, name: str) -> str | list[JSON]:
        """Read blocks that must all be text."""
        parts = [_plain(block, kind) for kind, block in self.blocks(fields, name)]
        return _short(parts)

    def messages(self, fields: Fields) -> list[JSON]:
        made: list[JSON] = []
        given = list(fields.each("messages"))
        for message in given:
            role = message.need("role", str)
            if role == "user":
                made += self._user_message(message)
            elif role == "assistant":
                made.append(self._assistant(message))
            else:
                raise wrong(message.path("role"), "user or assistant")
            message.done()
        if not given:
            raise wrong("messages", "a list of one message or more")
        if made[-1]["role"] == "assistant":
            why = "an answer cannot be begun for the model: engines differ in what they make of it"
            raise refused(f"messages[{len(given) - 1}]", why)
        return made

    def _user_message(self, message: Fields) -> Iterator[JSON]:
        """Part the results of tools, which are messages of their own, from what the user says."""
        parts: list[JSON] = []
        for kind, block in self.blocks(message, "content"):
            if kind == "tool_result":
                if parts:
                    yield {"role": "user", "content": _short(parts)}
                    parts = []
                yield self._tool_result(block)
            else:
                parts.append(_part(block, kind))
        if parts:
            yield {"role": "user", "content": _short(parts)}

    def _tool_result(self, block: Fields) -> JSON:
        call_id = block.need("tool_use_id", str)
        block_content = block.any("content")
        inner = Fields({"content": "" if block_content is None else block_content}, at=block.at)
        content = self.texts(inner, "content")
        if block.take("is_error", bool):
            said = [{"type": "text", "text": content}] if isinstance(content, str) else content
            content = [{"type": "text", "text": "The tool failed:"}, *said]
        return {"role": "tool", "tool_call_id": call_id, "content": content}

    def _assistant(self, message: Fields) -> JSON:
        texts: list[JSON] = []
        thoughts: list[str] = []
        calls: list[JSON] = []
        for kind, block in self.blocks(message, "content"):
            if kind == "thinking":
                thoughts.append(block.need("thinking", str))
                if block.take("signature", str):
                    self.ignored.add("signature")
            elif kind == "tool_use":
                calls.append(_call(block))
            else:
                texts.append(_plain(block, kind))
        made: JSON = {"role": "assistant"}
        made |= {"reasoning_content": "".join(thoughts)} if thoughts else {}
        made |= {"content": _short(texts)} if texts else {}
        return made | ({"tool_calls": calls} if calls else {})

    def tools(self, fields: Fields) -> JSON:
        tools = [_tool(self.open(tool)) for tool in fields.each("tools")]
        made: JSON = {"tools": tools} if tools else {}
        choice = fields.inner("tool_choice")
        if choice is None:
            return made
        kind = choice.need("type", str)
        if kind == "tool":
            function = {"name": choice.need("name", str)}
            made["tool_choice"] = {"type": "function", "function": function}
        elif kind in _CHOICES:
            made["tool_choice"] = _CHOICES[kind]
        else:
            raise wrong(choice.path("type"), f"one of {', '.join(_CHOICES)}, tool")
        single = choice.take("disable_parallel_tool_use", bool)
        choice.done()
        return made if single is None else made | {"parallel_tool_calls": not single}


def _short(parts: list[JSON]) -> str | list[JSON]:
    """Write one part of text as that text."""
    alone = len(parts) == 1 and parts[0]["type"] == "text"
    return str(parts[0]["text"]) if alone else parts


def _plain(block: Fields, kind: str) -> JSON:
    if kind != "text":
        raise refused(block.path("type"), f"only text can stand here, not {kind!r}")
    block.only("citations", [[]], why="chat completions have no citations")
    return {"type": "text", "text": block.need("text", str)}


def _part(block: Fields, kind: str) -> JSON:
    if kind not in ("image", "document"):
        return _plain(block, kind)
    source = block.inner("source") or Fields(None, at=block.path("source"))
    url = _url(source)
    source.done()
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    if not url.startswith("data:"):
        raise refused(source.path("type"), "documents must be sent along, as base64")
    title = block.take("title", str)
    return {"type": "file", "file": {"file_data": url, "filename": title or "document"}}


def _url(source: Fields) -> str:
    kind = source.need("type", str)
    if kind == "url":
        return source.need("url", str)
    if kind == "base64":
        return f"data:{source.need('media_type', str)};base64,{source.need('data', str)}"
    raise refused(source.path("type"), f"sources of the type {kind!r} are not known here")


def _call(block: Fields) -> JSON:
    arguments = msgspec.json.encode(block.need("input", dict)).decode()
    function = {"name": block.need("name", str), "arguments": arguments}
    return {"id": block.need("id", str), "type": "function", "function": function}


def _tool(tool: Fields) -> JSON:
    kind = tool.take("type", str)
    if kind not in (None, "custom"):
        raise refused(tool.path("type"), f"a tool of the type {kind!r} runs at its vendor's")
    function = {"name": tool.need("name", str), **tool.same(["description", "strict"])}
    function["parameters"] = tool.need("input_schema", dict)
    tool.done()
    return {"type": "function", "function": function}


def _stop(fields: Fields) -> JSON:
    stop = fields.take("stop_sequences", list)
    return {"stop": stop} if stop else {}


def _user(fields: Fields) -> JSON:
    metadata = fields.inner("metadata")
    if metadata is None:
        return {}
    user = metadata.take("user_id", str)
    metadata.done()
    return {} if user is None else {"user": user}


def _effort(fields: Fields, *, by_policy: bool) -> JSON:
    """Read what is said of thinking: an effort in words, and else a budget or a switch."""
    config, made = fields.inner("output_config"), {}
    effort = _thinking(fields, by_policy=by_policy)
    if config is not None:
        effort = config.take("effort", str) or effort
        made = _format(config)
        config.done()
    return made if effort is None else made | {"reasoning_effort": effort}


def _thinking(fields: Fields, *, by_policy: bool) -> str | None:
    thinking = fields.inner("thinking")
    if thinking is None:
        return None
    kind = thinking.need("type", str)
    if kind not in ("enabled", "adaptive", "disabled"):
        raise refused(thinking.path("type"), f"{kind!r} is not known here")
    budget = thinking.need("budget_tokens", int) if kind == "enabled" else 0
    thinking.done()
    if kind == "disabled":
        return "none"
    if kind == "adaptive" or by_policy:
        return None
    return next((effort for most, effort in _EFFORTS if budget <= most), "max")


def _format(config: Fields) -> JSON:
    wanted = config.inner("format")
    if wanted is None:
        return {}
    wanted.only("type", ["json_schema"], why="json_schema is the one format")
    schema = {"name": "answer", "schema": wanted.need("schema", dict), "strict": True}
    wanted.done()
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
