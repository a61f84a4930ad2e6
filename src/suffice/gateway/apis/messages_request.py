"""POST /v1/messages, Anthropic's API: what it asks for, as a chat request.

https://docs.claude.com/en/api/messages. Hints that change no answer are ignored and named.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from suffice.gateway.apis.fields import Fields, refused, wrong
from suffice.gateway.apis.messages_tools import CHANGES, chat_tools, removed_tools
from suffice.gateway.problems import Problem
from suffice.gateway.sealed import chat_call, joined, unseal, unseal_id
from suffice.types import JSON

# Fields without an effect here: engines cache by themselves, keep the whole context, and have one
# speed; thoughts are shown as the engine shows them; no other model answers in place of a rung's.
_HINTS = (
    *("context_management", "speed", "diagnostics", "fallbacks", "fallback_credit_token"),
    *("user_profile_id", "workspace_id", "betas", "anthropic_beta", "anthropic_version"),
)
_CACHE = "cache_control"
_SAME = ("temperature", "top_p", "top_k")
# The largest budget of each effort, between the budgets that LiteLLM 1.x gives the efforts low,
# medium, high, xhigh and max (1024, 2048, 4096, 8192, 16384: litellm/constants.py).
_EFFORTS = ((1535, "low"), (3071, "medium"), (6143, "high"), (12287, "xhigh"))
# Claude Code's first system block: a header of its own with a hash that differs by conversation. As
# the first tokens of a prompt it would keep engines from sharing what they cache of all the rest.
_TOLD = ("mcp_tool_use", "mcp_tool_result", "compaction")
_BILLING = "x-anthropic-billing-header"


class Translated(Struct, frozen=True, kw_only=True):
    """A chat request, and the names of the hints that it could not keep.

    `effort_name` is where the body asks for an effort, which the gateway may not keep either.
    `custom_tools` are those of `Request`.
    """

    chat: JSON
    ignored: tuple[str, ...] = ()
    effort_name: str = "reasoning_effort"
    custom_tools: dict[str, JSON] = {}


def chat_of_message(
    body: object, *, by_policy: bool, counting: bool = False, caches: bool = False
) -> Translated:
    """Translate a body; raises Problem for what chat completions cannot carry.

    A budget for thinking is a limit: where the policy chooses (`by_policy`) it asks for nothing,
    and a rung that is asked for by name gets the nearest effort. A request that is only `counting`
    tokens needs no `max_tokens`. Marks of what to cache stay for an engine that `caches` by them.
    """
    fields = Fields(body, carry=frozenset({_CACHE} if caches else ()))
    fields.ignore(*_HINTS)
    limit = fields.take("max_tokens", int) if counting else fields.need("max_tokens", int)
    removed = removed_tools(fields.peek("messages"))
    chat = {
        "model": fields.need("model", str),
        "messages": [*_system(fields), *_messages(fields)],
        **({} if limit is None else {"max_completion_tokens": limit}),
        **fields.hint(_CACHE),
        **fields.same(_SAME),
        **_stop(fields),
        **chat_tools(fields, removed=removed),
        **_effort(fields, by_policy=by_policy),
        **_user(fields),
    }
    if fields.take("stream", bool):
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    _thread(fields)
    fields.only("service_tier", ["auto", "standard_only"], why="there are no tiers here")
    fields.only("mcp_servers", [[]], why="servers of tools would run at the vendor's")
    fields.only("inference_geo", ["global"], why="the operator chooses where models run")
    fields.done()
    in_words = isinstance(body, dict) and "effort" in (body.get("output_config") or {})
    return Translated(
        chat=chat,
        ignored=tuple(sorted(fields.ignored)),
        effort_name="output_config.effort" if in_words else "thinking",
    )


def _thread(fields: Fields) -> None:
    """Take a thread that begins, for it sends the whole history; nothing is kept to go on from."""
    thread = fields.inner("thread")
    if thread is None:
        return
    if thread.any("type") == "continue":
        raise Problem(
            "thread: no message is kept here to go on from",
            status=404,
            code="thread_not_found",
            param="thread.previous_message_id",
            hint="send all messages, or begin a thread; official clients do so by themselves",
        )
    fields.ignored.add("thread")


def _blocks(fields: Fields, name: str) -> Iterator[tuple[str, Fields]]:
    """Read a list of blocks, or a text as the one block that it is short for."""
    blocks = fields.any(name)
    blocks = [{"type": "text", "text": blocks}] if isinstance(blocks, str) else blocks
    if not isinstance(blocks, list):
        raise wrong(fields.path(name), "a text, or a list of blocks")
    for i, value in enumerate(blocks):
        block = fields.of(value, at=f"{fields.path(name)}[{i}]")
        block.hints = block.hint(_CACHE)
        block.ignore("provider_specific_fields")  # LiteLLM's, in what it answered before
        yield block.need("type", str), block
        block.done()


def _system(fields: Fields) -> Iterator[JSON]:
    value = fields.any("system")
    if value is None:
        return
    inner = fields.of({"system": value}, at="")
    parts = [_text(block, kind) for kind, block in _blocks(inner, "system")]
    if parts and parts[0]["text"].startswith(_BILLING):
        fields.ignored.add(_BILLING)
        parts[0]["text"] = parts[0]["text"].partition("\n")[2]
        parts = parts if parts[0]["text"].strip() else parts[1:]
    if parts:
        yield {"role": "system", "content": _short(parts)}


def _messages(fields: Fields) -> list[JSON]:
    chat: list[JSON] = []
    messages = list(fields.each("messages"))
    for message in messages:
        role = message.need("role", str)
        if role == "user":
            chat += _user_message(message)
        elif role == "assistant":
            chat.append(_assistant(message))
        elif role == "system":
            parts = [_instruction(block, kind) for kind, block in _blocks(message, "content")]
            chat.append({"role": "system", "content": _short(parts)})
        else:
            raise wrong(message.path("role"), "user, assistant or system")
        message.done()
    if not messages:
        raise wrong("messages", "a list of one message or more")
    if chat and chat[-1]["role"] == "assistant":
        why = "an answer cannot be begun for the model: engines differ in what they make of it"
        raise refused(
            f"messages[{len(messages) - 1}]", why, hint="end the messages with one of the user's"
        )
    return chat


def _user_message(message: Fields) -> Iterator[JSON]:
    """Part the results of tools, which are messages of their own, from what the user says.

    They come first, for only they may follow the calls. A message of a tool holds text alone:
    pictures and files of a result stand at its place in the user's message after them.
    """
    parts: list[JSON] = []
    for kind, block in _blocks(message, "content"):
        if kind == "tool_result":
            result, media = _tool_result(block)
            yield result
            if media:
                parts += [
                    {"type": "text", "text": f"From the result of {result['tool_call_id']}:"},
                    *media,
                ]
        else:
            parts += _parts(block, kind)
    if parts:
        yield {"role": "user", "content": _short(parts)}


def _tool_result(block: Fields) -> tuple[JSON, list[JSON]]:
    """Read a result as the message of a tool, and the pictures and files in it."""
    call_id, _ = unseal_id(block.need("tool_use_id", str))
    value = block.any("content")
    inner = block.of({"content": "" if value is None else value}, at=block.at)
    parts = [part for kind, each in _blocks(inner, "content") for part in _parts(each, kind)]
    texts = [part for part in parts if part["type"] == "text"]
    media = [part for part in parts if part["type"] != "text"]
    if block.take("is_error", bool):
        texts = [{"type": "text", "text": "The tool failed:"}, *texts]
    if media and not texts:
        texts = [{"type": "text", "text": "The result follows in the next message."}]
    if block.hints and texts:
        texts[-1] |= block.hints
    return {"role": "tool", "tool_call_id": call_id, "content": _short(texts)}, media


def _assistant(message: Fields) -> JSON:
    texts: list[JSON] = []
    thoughts: list[str] = []
    calls: list[JSON] = []
    opaque: JSON = {}
    for kind, block in _blocks(message, "content"):
        if kind in ("thinking", "redacted_thinking"):
            sealed = block.take("signature" if kind == "thinking" else "data", str) or ""
            fields = unseal(sealed)
            if fields is None and sealed:
                block.ignored.add("signature" if kind == "thinking" else kind)
            opaque = joined(opaque, fields or {})
            thoughts += [block.need("thinking", str)] if kind == "thinking" else []
        elif kind == "tool_use":
            calls.append(_call(block))
        elif kind == "fallback" or _is_search(block, kind):
            block.ignored.add(kind)  # what was found is sealed: only its vendor can read it
            block.drop()
        elif kind in _TOLD:
            texts.append({"type": "text", "text": _told(block, kind)})
        else:
            texts.append(_text(block, kind))
    chat: JSON = {"role": "assistant", **opaque}
    chat |= {"reasoning_content": "".join(thoughts)} if thoughts else {}
    chat |= {"content": _short(texts)} if texts else {}
    return chat | ({"tool_calls": calls} if calls else {})


def _is_search(block: Fields, kind: str) -> bool:
    called = kind == "server_tool_use" and block.any("name") in ("web_search", "web_fetch")
    return kind in ("web_search_tool_result", "web_fetch_tool_result") or called


def _told(block: Fields, kind: str) -> str:
    """Read what a server did in an earlier turn as text: a tool's call and result, or a summary."""
    name, value, content = block.any("name"), block.any("input"), block.any("content")
    block.drop()
    if kind == "compaction":
        return content if isinstance(content, str) else ""
    if kind == "mcp_tool_use":
        return f"({name} was called with {msgspec.json.encode(value).decode()})"
    return f"(The tool returned {msgspec.json.encode(content).decode()})"


def _short(parts: list[JSON]) -> str | list[JSON]:
    """Write one part of text as that text, and no part as an empty one."""
    if not parts:
        return ""
    alone = len(parts) == 1 and parts[0]["type"] == "text" and _CACHE not in parts[0]
    return str(parts[0]["text"]) if alone else parts


def _text(block: Fields, kind: str) -> JSON:
    if kind != "text":
        raise refused(block.path("type"), f"only text can stand here, not {kind!r}")
    block.ignore("citations")  # of an answer that was given before
    return {"type": "text", "text": block.need("text", str), **block.hints}


def _instruction(block: Fields, kind: str) -> JSON:
    """Read a block of a system message, which may also say that a tool has come or gone."""
    if kind not in CHANGES:
        return _text(block, kind)
    tool = block.inner("tool") or block.of(None, at=block.path("tool"))
    tool.only("type", ["tool_reference"], why="a tool is named by a tool_reference")
    text = f"The tool {tool.need('name', str)} is {CHANGES[kind]}."
    tool.done()
    return {"type": "text", "text": text, **block.hints}


def _parts(block: Fields, kind: str) -> list[JSON]:
    """Read a block as parts of a chat message."""
    if kind == "search_result":
        head = f"{block.need('title', str)} ({block.need('source', str)})"
        _refuse_citations(block)
        texts = [_text(inner, kind) for kind, inner in _blocks(block, "content")]
        return [{"type": "text", "text": head}, *texts]
    if kind == "tool_reference":  # all tools are told at once here
        text = f"The tool {block.need('tool_name', str)} is available."
        return [{"type": "text", "text": text}]
    if kind == "image":
        return [{"type": "image_url", "image_url": {"url": _url(_source(block))}, **block.hints}]
    return _document(block) if kind == "document" else [_text(block, kind)]


def _document(block: Fields) -> list[JSON]:
    """Read a document: a file, or the text that it holds."""
    title, context = block.take("title", str), block.take("context", str)
    _refuse_citations(block)
    head: list[JSON] = [] if context is None else [{"type": "text", "text": context}]
    source = _source(block)
    kind = source.any("type")
    if kind in ("text", "content"):
        if kind == "text":
            source.only("media_type", ["text/plain"], why="text is plain here")
            parts: list[JSON] = [{"type": "text", "text": source.need("data", str)}]
        else:
            parts = [
                part for kind, each in _blocks(source, "content") for part in _parts(each, kind)
            ]
        source.done()
        return [*([] if title is None else [{"type": "text", "text": title}]), *head, *parts]
    url = _url(
        source.of({"type": kind, **source.same(["url", "media_type", "data"])}, at=source.at)
    )
    source.done()
    if not url.startswith("data:"):
        raise refused(source.path("type"), "documents must be sent along, as base64 or text")
    return [*head, {"type": "file", "file": {"file_data": url, "filename": title or "document"}}]


def _refuse_citations(block: Fields) -> None:
    citations = block.inner("citations")
    if citations is not None:
        why = "chat completions have no citations"
        citations.only("enabled", [False], why=why)
        citations.done()


def _source(block: Fields) -> Fields:
    return block.inner("source") or block.of(None, at=block.path("source"))


def _url(source: Fields) -> str:
    kind = source.need("type", str)
    if kind == "url":
        url = source.need("url", str)
    elif kind == "base64":
        url = f"data:{source.need('media_type', str)};base64,{source.need('data', str)}"
    else:
        why = f"sources of the type {kind!r} are not known here"
        raise refused(source.path("type"), why, hint="send the data itself, as base64")
    source.done()
    return url


def _call(block: Fields) -> JSON:
    block.ignore("caller")
    arguments = block.peek("input")
    if not isinstance(arguments, str):  # as some other gateways write it
        arguments = msgspec.json.encode(block.need("input", dict)).decode()
    block.any("input")
    return chat_call(block.need("id", str), block.need("name", str), arguments)


def _stop(fields: Fields) -> JSON:
    stop = fields.take("stop_sequences", list)
    return {"stop": stop} if stop else {}


def _user(fields: Fields) -> JSON:
    metadata = fields.inner("metadata")
    if metadata is None:
        return {}
    user = metadata.take("user_id", str)
    metadata.any("tags")  # the books have them
    metadata.done()
    return {} if user is None else {"user": user}


def _effort(fields: Fields, *, by_policy: bool) -> JSON:
    """Read what is said of thinking: an effort in words, and else a budget or a switch."""
    config, chat = fields.inner("output_config"), _format(fields, "output_format")  # its older name
    effort = _thinking(fields, by_policy=by_policy)
    if config is not None:
        effort = config.take("effort", str) or effort
        chat |= _format(config, "format")
        config.done()
    return chat if effort is None else chat | {"reasoning_effort": effort}


def _thinking(fields: Fields, *, by_policy: bool) -> str | None:
    thinking = fields.inner("thinking")
    if thinking is None:
        return None
    kind = thinking.need("type", str)
    if kind not in ("enabled", "adaptive", "disabled"):
        raise refused(thinking.path("type"), f"{kind!r} is not known here")
    budget = thinking.need("budget_tokens", int) if kind == "enabled" else 0
    thinking.ignore("display", path=True)
    thinking.done()
    return effort_of_budget({"type": kind, "budget_tokens": budget}, by_policy=by_policy)


def effort_of_budget(thinking: JSON, *, by_policy: bool) -> str | None:
    """Return the effort that a budget or a switch asks for; None where it asks for nothing."""
    kind, budget = thinking.get("type"), thinking.get("budget_tokens")
    if kind == "disabled":
        return "none"
    if kind != "enabled" or by_policy or not isinstance(budget, int):
        return None
    return next((effort for most, effort in _EFFORTS if budget <= most), "max")


def _format(config: Fields, name: str) -> JSON:
    wanted: Any = config.inner(name)
    if wanted is None:
        return {}
    wanted.only("type", ["json_schema"], why="json_schema is the one format")
    schema = {"name": "answer", "schema": wanted.need("schema", dict), "strict": True}
    wanted.done()
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
