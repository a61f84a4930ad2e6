"""The input of the Responses API as chat messages.

Ids and states of items that come back say nothing here. Reasoning, text and calls of one turn are
items there and one message here; the outputs of calls must follow that message directly.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from suffice.engines.past_calls import results_beside_calls
from suffice.gateway.apis.fields import Fields, keeps_nothing, refused, wrong
from suffice.gateway.apis.responses_tools import MORE_TOOLS, SEARCH_OUTPUT, chat_call_of
from suffice.gateway.sealed import chat_call, joined, unseal, unseal_id, unseal_summary
from suffice.types import JSON

_AFTER_THOUGHT = ("reasoning_content", "content", "tool_calls")
_ROLES = ("user", "assistant", "system", "developer")
_OUTPUTS = frozenset(
    {
        "function_call_output",
        "custom_tool_call_output",
        "local_shell_call_output",
        "shell_call_output",
        "apply_patch_call_output",
    }
)
# Records of what a vendor's tools did, without what came of it.
_HOSTED = frozenset(
    {
        "agent_reasoning",  # another agent's thoughts
        "web_search_call",
        "file_search_call",
        "image_generation_call",
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_approval_response",
        "tool_search_call",
        "tool_search_output",
    }
)


_ENCRYPTED = "gAAAA"  # how a Fernet token begins, which OpenAI's encrypted texts are
COMPACT = "compaction_trigger"  # an item that asks for a summary in place of the conversation
_SUMMARIZE = (
    "Write a summary of this conversation for the model that goes on with it: what was asked for, "
    "what was decided and done, which files, commands and results matter, and what is to do next. "
    "The summary takes the place of the conversation. Call no tool."
)
_COMPACTED = ("compaction", "compaction_summary", "context_compaction")


class ItemReader:
    """Chat messages made of items; `end` returns them."""

    def __init__(self) -> None:
        self._messages: list[JSON] = []
        self._media: list[JSON] = []  # of outputs, for a message after the last of them
        self.settings: dict[str, JSON] = {}  # what items have changed: reasoning and text
        self._waiting: set[str] = set()  # calls of the last assistant's message without an output

    def add(self, item: Fields) -> None:
        """Take the next item."""
        kind = item.take("type", str) or "message"
        call_id = item.any("id")
        item.any("status")
        item.ignore("internal_chat_message_metadata_passthrough")  # of Codex, for OpenAI alone
        if kind == "item_reference":
            raise keeps_nothing(item.path("type"))
        if kind in _OUTPUTS:
            self._add_output(item, call_id)
        elif kind in ("message", "agent_message"):
            self._add_message(item, kind)
        elif kind in ("reasoning", "configuration_update"):
            (self._add_reasoning if kind == "reasoning" else self._add_settings)(item)
        elif kind == COMPACT or kind in _COMPACTED:
            self._append({"role": "user", "content": _compaction(item, kind)})
        elif kind == MORE_TOOLS or (kind == SEARCH_OUTPUT and item.peek("call_id") is not None):
            self._add_tools(item, kind)
        elif kind in ("mcp_call", "code_interpreter_call"):
            self._add_record(item, kind)
        else:
            call = chat_call_of(item, kind)
            if call is None and kind in _HOSTED:
                item.ignored.add(kind)
                return
            if call is None:
                why = f"items of the type {kind!r} are not known here"
                raise refused(item.path("type"), why, hint="leave the item out")
            name, arguments = call
            turn = self._own()
            whole = chat_call(_id_of_call(item, call_id), name, arguments)
            turn.setdefault("tool_calls", []).append(whole)
            self._waiting.add(whole["id"])
        item.done()

    def end(self) -> list[JSON]:
        """Return the messages; outputs go before what came between them and their calls."""
        self._flush_media()
        return results_beside_calls(self._messages)

    def _add_message(self, item: Fields, kind: str) -> None:
        """Take a message; one of another agent is a user's, and its text says who sent it."""
        role = item.need("role", str) if kind == "message" else "user"
        if role not in _ROLES:
            raise wrong(item.path("role"), f"one of {', '.join(_ROLES)}")
        item.ignore("phase", *(() if kind == "message" else ("author", "recipient")))
        content = content_of(item, "content")
        if role == "assistant":
            turn = self._own(before=("content", "tool_calls"))
            turn["content"] = _joined(turn.get("content"), content)
        else:
            self._append({"role": role, "content": content})

    def _add_settings(self, item: Fields) -> None:
        """Take settings that hold from here on: the answer comes after all items."""
        for name in ("reasoning", "text"):
            self.settings[name] = self.settings.get(name, {}) | (item.take(name, dict) or {})

    def _add_reasoning(self, item: Fields) -> None:
        """Take a thought: its text, or else its summary, and what our own seal holds."""
        thought = "".join(_texts(item, "content", "reasoning_text"))
        summary = "\n\n".join(_texts(item, "summary", "summary_text"))
        sealed = item.take("encrypted_content", str) or ""
        opaque = unseal(sealed)
        if sealed and opaque is None:
            item.ignored.add("encrypted_content")
        if not thought and not summary and not opaque:
            return
        told = thought or summary  # what tells nothing comes after the message that it belongs to
        turn = self._own(before=_AFTER_THOUGHT if told else ())
        if told:
            turn["reasoning_content"] = _joined(turn.get("reasoning_content"), told)
        turn.update(joined(turn, opaque or {}))

    def _add_record(self, item: Fields, kind: str) -> None:
        """Take a call that a vendor's tool has answered, as text of the assistant."""
        if kind == "mcp_call":
            name, arguments = item.need("name", str), item.any("arguments")
            result = item.any("output") or item.any("error")
        else:
            name, arguments, result = "python", item.any("code"), item.any("outputs")
        item.drop()
        told = result if isinstance(result, str) else msgspec.json.encode(result).decode()
        turn = self._own()
        text = f"({name} was called with {arguments}\n\nand returned {told})"
        turn["content"] = _joined(turn.get("content"), text)

    def _add_output(self, item: Fields, item_id: Any) -> None:
        call_id, _ = unseal_id(_id_of_call(item, item_id))
        item.ignore("max_output_length", "created_by", "name", "namespace")
        content = _output(item)
        parts = content if isinstance(content, list) else []
        media = [part for part in parts if part["type"] != "text"]
        if media:
            texts = [part for part in parts if part["type"] == "text"]
            content = texts or "The result follows in the next message."
            text = {"type": "text", "text": f"From the result of {call_id}:"}
            self._media += [text, *media]
        self._messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
        self._waiting.discard(call_id)
        if not self._waiting:
            self._flush_media()

    def _add_tools(self, item: Fields, kind: str) -> None:
        """Tell the model which tools its search has found; all are among its tools by now."""
        if kind == MORE_TOOLS:
            item.take("role", str)
            item.take("tools", list)
            return
        call_id, _ = unseal_id(item.need("call_id", str))
        item.ignore("execution", "created_by")
        told = msgspec.json.encode(item.take("tools", list) or []).decode()
        self._messages.append({"role": "tool", "tool_call_id": call_id, "content": told})
        self._waiting.discard(call_id)

    def _append(self, message: JSON) -> None:
        self._flush_media()
        self._waiting.clear()
        self._messages.append(message)

    def _flush_media(self) -> None:
        """Put the pictures and files of outputs into a message of the user: a tool's holds text."""
        if self._media:
            self._messages.append({"role": "user", "content": self._media})
            self._media = []

    def _own(self, *, before: tuple[str, ...] = ()) -> JSON:
        """Return the assistant's message that an item belongs to, a new one if it has to begin.

        That is the message whose calls still wait for an output; else the last message, if it is
        the assistant's and has nothing of `before`.
        """
        if self._waiting:
            return next(m for m in reversed(self._messages) if m["role"] == "assistant")
        last = self._messages[-1] if self._messages else {}
        if last.get("role") != "assistant" or any(name in last for name in before):
            self._append({"role": "assistant"})
        return self._messages[-1]


def content_of(item: Fields, name: str) -> str | list[JSON]:
    """Read a text or a list of parts; one part of text is that text."""
    value = item.any(name)
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise wrong(item.path(name), "a text, or a list of parts")
    at = item.path(name)
    parts = [_part(item.of(part, at=f"{at}[{i}]")) for i, part in enumerate(value)]
    alone = len(parts) == 1 and parts[0]["type"] == "text"
    return str(parts[0]["text"]) if alone else parts


def _compaction(item: Fields, kind: str) -> str:
    """Ask for a summary, or read one that was made here."""
    if kind == COMPACT:
        return _SUMMARIZE
    summary = unseal_summary(item.take("encrypted_content", str) or "")
    if summary is None:
        why = "a compaction that another service has encrypted cannot be read here"
        hint = "compact the conversation again from its messages, or begin a new one"
        raise refused(item.path("type"), why, hint=hint)
    return f"This is a summary of the conversation until now:\n\n{summary}"


def _id_of_call(item: Fields, item_id: object) -> str:
    """Take the id of a call; a local shell's output has it in its own id."""
    call_id = item.take("call_id", str) or item_id
    if not isinstance(call_id, str):
        raise wrong(item.path("call_id"), "the id of a call")
    return call_id


def _output(item: Fields) -> str | list[JSON]:
    """Read the output of a call: text or parts, and the results of a shell as their JSON."""
    value = item.any("output")
    if isinstance(value, list) and any(isinstance(v, dict) and "outcome" in v for v in value):
        return msgspec.json.encode(value).decode()
    if value is None:
        return ""
    return content_of(item.of({"output": value}, at=item.at), "output")


def _joined(text: Any, more: Any) -> Any:
    """Join texts to a text with a blank line between, and lists of parts to a list."""
    if text is None:
        return more
    if isinstance(text, str) and isinstance(more, str):
        return f"{text}\n\n{more}"
    return [*_as_parts(text), *_as_parts(more)]


def _as_parts(content: Any) -> list[JSON]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _texts(item: Fields, name: str, kind: str) -> Iterator[str]:
    for part in item.each(name):
        part.only("type", [kind], why=f"parts here are of the type {kind}")
        yield part.need("text", str)
        part.done()


def _part(part: Fields) -> JSON:
    kind = part.need("type", str)
    part.ignore("prompt_cache_breakpoint")
    if kind in ("input_text", "output_text", "text"):
        part.ignore("annotations", "logprobs")  # of an answer that was given before
        chat: JSON = {"type": "text", "text": part.need("text", str)}
    elif kind == "encrypted_content":
        # Codex calls a message to another agent so, although only OpenAI encrypts it.
        text = part.need("encrypted_content", str)
        if text.startswith(_ENCRYPTED):
            why = "a message that another service has encrypted cannot be read here"
            raise refused(part.path("encrypted_content"), why, hint="begin a new conversation")
        chat = {"type": "text", "text": text}
    elif kind == "refusal":
        chat = {"type": "refusal", "refusal": part.need("refusal", str)}
    elif kind == "input_image":
        image = {"url": part.need("image_url", str), **part.same(["detail"])}
        chat = {"type": "image_url", "image_url": image}
    elif kind == "input_file":
        part.only("file_url", why="files must be sent along, as file_data")
        chat = {"type": "file", "file": part.same(["file_data", "file_id", "filename"])}
    elif kind == "input_audio":
        chat = {"type": kind, **part.same(["input_audio"])}
    else:
        raise refused(part.path("type"), f"parts of the type {kind!r} are not known here")
    part.done()
    return chat
