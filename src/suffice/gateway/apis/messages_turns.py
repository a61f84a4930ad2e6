"""The messages of Anthropic's API, made of blocks, as chat messages."""

from collections.abc import Iterator

import msgspec

from suffice.gateway.apis.fields import Fields, refused, wrong
from suffice.gateway.apis.messages_tools import CHANGES
from suffice.gateway.sealed import chat_call, joined, unseal, unseal_id
from suffice.types import JSON

CACHE = "cache_control"
_TOLD = ("mcp_tool_use", "mcp_tool_result", "compaction")
# Claude Code's first system block: a header of its own with a hash that differs by conversation. As
# the first tokens of a prompt it would keep engines from sharing what they cache of all the rest.
_BILLING = "x-anthropic-billing-header"


def system_turns(fields: Fields) -> Iterator[JSON]:
    """Read the system's text as a chat message, which comes before all others."""
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


def turns_of_messages(fields: Fields) -> list[JSON]:
    """Read the messages of a body as chat messages; raises Problem for what these cannot carry."""
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


def _blocks(fields: Fields, name: str) -> Iterator[tuple[str, Fields]]:
    """Read a list of blocks, or a text as the one block that it is short for."""
    blocks = fields.any(name)
    blocks = [{"type": "text", "text": blocks}] if isinstance(blocks, str) else blocks
    if not isinstance(blocks, list):
        raise wrong(fields.path(name), "a text, or a list of blocks")
    for i, value in enumerate(blocks):
        block = fields.of(value, at=f"{fields.path(name)}[{i}]")
        block.hints = block.hint(CACHE)
        block.ignore("provider_specific_fields")  # LiteLLM's, in what it answered before
        yield block.need("type", str), block
        block.done()


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
    alone = len(parts) == 1 and parts[0]["type"] == "text" and CACHE not in parts[0]
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
