"""POST /v1/responses: what it asks for, as a chat request.

https://platform.openai.com/docs/api-reference/responses/create. Ids and states of items that come
back as input are names in somebody's store; there is none here, so they say nothing.
"""

from collections.abc import Iterator
from typing import Any

from suffice.gateway.apis.fields import Fields, refused, wrong
from suffice.types import JSON

_SAME = (
    "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
    "service_tier", "temperature", "top_p", "user",
)  # fmt: skip
_STATELESS = "this gateway keeps no responses; send the whole conversation as input"
_AFTER_THOUGHT = ("reasoning_content", "content", "tool_calls")
_ROLES = ("user", "assistant", "system", "developer")


def chat_of_response(asked: object) -> JSON:
    """Translate a body; raises Problem for what chat completions cannot carry."""
    fields = Fields(asked)
    _refuse_state(fields)
    chat = {
        "model": fields.need("model", str),
        "messages": [*_instructions(fields), *_messages(fields)],
        **fields.same(_SAME),
        **_limits(fields),
        **_reasoning(fields),
        **_format(fields),
        **_tools(fields),
        **_stream(fields),
    }
    fields.take("metadata", dict)  # a note to oneself, which the response repeats
    fields.done()
    return chat


def _refuse_state(fields: Fields) -> None:
    for name in ("previous_response_id", "conversation", "prompt"):
        fields.only(name, why=_STATELESS)
    for name in ("store", "background"):
        fields.only(name, [False], why=_STATELESS)
    fields.only("include", [[]], why="nothing can be added to a response")
    fields.only("truncation", ["disabled"], why="no message is left out here")
    fields.only("top_logprobs", [0], why="ask POST /v1/chat/completions for log-probabilities")


def _instructions(fields: Fields) -> Iterator[JSON]:
    said = fields.take("instructions", str)
    if said is not None:
        yield {"role": "system", "content": said}


def _messages(fields: Fields) -> list[JSON]:
    given = fields.any("input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise wrong("input", "a text, or a list of one item or more")
    messages: list[JSON] = []
    for i, item in enumerate(given):
        _add_item(messages, Fields(item, at=f"input[{i}]"))
    return messages


def _add_item(messages: list[JSON], item: Fields) -> None:
    kind = item.take("type", str) or "message"
    item.any("id")
    item.any("status")
    if kind == "message":
        _add_message(messages, item)
    elif kind == "reasoning":
        item.only("summary", [[]], why="chat completions have no summaries of reasoning")
        thought = "".join(part.need("text", str) for part in _parts(item, "reasoning_text"))
        if thought:
            turn = _own(messages, before=_AFTER_THOUGHT)
            turn["reasoning_content"] = _joined(turn.get("reasoning_content"), thought)
    elif kind == "function_call":
        _own(messages).setdefault("tool_calls", []).append(_call(item))
    elif kind == "function_call_output":
        call_id, said = item.need("call_id", str), _content(item, "output")
        messages.append({"role": "tool", "tool_call_id": call_id, "content": said})
    else:
        raise refused(item.path("type"), f"items of the type {kind!r} are not known here")
    item.done()


def _add_message(messages: list[JSON], item: Fields) -> None:
    role = item.need("role", str)
    if role not in _ROLES:
        raise wrong(item.path("role"), f"one of {', '.join(_ROLES)}")
    content = _content(item, "content")
    if role == "assistant":
        turn = _own(messages, before=("content", "tool_calls"))
        turn["content"] = _joined(turn.get("content"), content)
    else:
        messages.append({"role": role, "content": content})


def _own(messages: list[JSON], *, before: tuple[str, ...] = ()) -> JSON:
    """Return the last message if it is the assistant's and has nothing of `before`, else a new one.

    Reasoning, text and calls of one turn are items here and one message there. Outputs must follow
    the message that holds their calls: none is begun while a call waits for its output.
    """
    waiting = _waiting(messages)
    if waiting is not None:
        return waiting
    last = messages[-1] if messages else {}
    if last.get("role") != "assistant" or any(name in last for name in before):
        messages.append({"role": "assistant"})
    return messages[-1]


def _waiting(messages: list[JSON]) -> JSON | None:
    """Return the assistant's message that only outputs follow, if some of its calls has none."""
    answered: set[str] = set()
    for message in reversed(messages):
        if message["role"] != "tool":
            calls = {call["id"] for call in message.get("tool_calls", ())}
            return message if calls - answered else None
        answered.add(message["tool_call_id"])
    return None


def _joined(said: Any, more: Any) -> Any:
    """Join texts to a text with a blank line between, and lists of parts to a list."""
    if said is None:
        return more
    if isinstance(said, str) and isinstance(more, str):
        return f"{said}\n\n{more}"
    return [*_as_parts(said), *_as_parts(more)]


def _as_parts(content: Any) -> list[JSON]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _call(item: Fields) -> JSON:
    name, arguments = item.need("name", str), item.need("arguments", str)
    function = {"name": name, "arguments": arguments}
    return {"id": item.need("call_id", str), "type": "function", "function": function}


def _parts(item: Fields, kind: str) -> Iterator[Fields]:
    for part in item.each("content"):
        part.only("type", [kind], why=f"parts here are of the type {kind}")
        yield part
        part.done()


def _content(item: Fields, name: str) -> str | list[JSON]:
    """Read a text or a list of parts; one part of text is that text."""
    given = item.any(name)
    if isinstance(given, str):
        return given
    if not isinstance(given, list):
        raise wrong(item.path(name), "a text, or a list of parts")
    at = item.path(name)
    parts = [_part(Fields(part, at=f"{at}[{i}]")) for i, part in enumerate(given)]
    alone = len(parts) == 1 and parts[0]["type"] == "text"
    return str(parts[0]["text"]) if alone else parts


def _part(part: Fields) -> JSON:
    kind = part.need("type", str)
    if kind in ("input_text", "output_text"):
        part.only("annotations", [[]], why="chat completions have no annotations")
        part.only("logprobs", [[]], why="log-probabilities are no input")
        made: JSON = {"type": "text", "text": part.need("text", str)}
    elif kind == "refusal":
        made = {"type": "refusal", "refusal": part.need("refusal", str)}
    elif kind == "input_image":
        image = {"url": part.need("image_url", str), **part.same(["detail"])}
        made = {"type": "image_url", "image_url": image}
    elif kind == "input_file":
        made = {"type": "file", "file": part.same(["file_data", "file_id", "filename"])}
    else:
        raise refused(part.path("type"), f"parts of the type {kind!r} are not known here")
    part.done()
    return made


def _limits(fields: Fields) -> JSON:
    limit = fields.take("max_output_tokens", int)
    return {} if limit is None else {"max_completion_tokens": limit}


def _reasoning(fields: Fields) -> JSON:
    reasoning = fields.inner("reasoning")
    if reasoning is None:
        return {}
    effort = reasoning.take("effort", str)
    reasoning.done()
    return {} if effort is None else {"reasoning_effort": effort}


def _format(fields: Fields) -> JSON:
    text = fields.inner("text")
    if text is None:
        return {}
    made, wanted = text.same(["verbosity"]), text.inner("format")
    text.done()
    if wanted is None:
        return made
    kind = wanted.need("type", str)
    if kind == "json_schema":
        schema = wanted.same(["name", "description", "schema", "strict"])
        made["response_format"] = {"type": kind, "json_schema": schema}
    elif kind == "json_object":
        made["response_format"] = {"type": kind}
    elif kind != "text":
        raise refused(wanted.path("type"), f"there is no format {kind!r} here")
    wanted.done()
    return made


def _tools(fields: Fields) -> JSON:
    tools = [_tool(tool) for tool in fields.each("tools")]
    made: JSON = {"tools": tools} if tools else {}
    choice = fields.any("tool_choice")
    if isinstance(choice, dict):
        chosen = Fields(choice, at="tool_choice")
        chosen.only("type", ["function"], why="only functions can be chosen")
        function = {"name": chosen.need("name", str)}
        chosen.done()
        made["tool_choice"] = {"type": "function", "function": function}
    elif choice is not None:
        made["tool_choice"] = choice
    return made


def _tool(tool: Fields) -> JSON:
    kind = tool.need("type", str)
    if kind != "function":
        raise refused(tool.path("type"), f"a tool of the type {kind!r} runs at its vendor's")
    function = {
        "name": tool.need("name", str),
        **tool.same(["description", "parameters", "strict"]),
    }
    tool.done()
    return {"type": "function", "function": function}


def _stream(fields: Fields) -> JSON:
    streamed, options = fields.take("stream", bool), fields.inner("stream_options")
    if options is not None:
        options.only("include_obfuscation", [False], why="events are not padded here")
        options.done()
    return {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
