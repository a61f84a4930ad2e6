"""OpenAI's Responses API: a chat request as its body.

https://platform.openai.com/docs/api-reference/responses/create. Nothing is stored there: each
request holds the whole conversation, and thoughts go back in the encrypted form that they came in.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from suffice.engines.custom_tools import arguments_of, custom_of, flat_tool, given_calls
from suffice.engines.dialects import (
    output_limit,
    overruled_effort,
    within_bounds,
    without_effort,
)
from suffice.engines.past_calls import results_beside_calls, short_id, with_call_ids, with_results
from suffice.errors import ConfigError, EngineRefused, ErrorDetail
from suffice.types import JSON, Effort, Request, Rung

FEWEST_TOKENS = 16  # that OpenAI takes as a limit
ITEMS = "response_items"  # of a chat message: what an engine of this API wants back with it
PARAGRAPH = "\n\n"  # between the messages of a response, in the text of the one chat message
_SAME = (
    "temperature", "top_p", "metadata", "service_tier", "top_logprobs", "prompt_cache_retention",
    "max_tool_calls",
)  # fmt: skip
_NAMES = ("user", "prompt_cache_key", "safety_identifier")
_LONGEST_NAME = 64
# A model refuses these while it thinks, and some models always, even with the values they have.
_DEFAULTS = {"temperature": 1, "top_p": 1, "logprobs": False, "top_logprobs": 0}
_NO_THOUGHTS = (None, Effort.NONE)
_NOT_OF_A_RUNG = frozenset(
    {"background", "conversation", "input", "model", "previous_response_id", "prompt", "stream"}
)
_TRANSLATED = frozenset(
    {
        *_SAME, *_NAMES, *_DEFAULTS, "reasoning_effort", "reasoning", "verbosity",
        "response_format", "tools", "tool_choice", "parallel_tool_calls", "web_search_options",
        "max_tokens", "max_completion_tokens", "max_output_tokens", "stop", "n", "logit_bias",
        "frequency_penalty", "presence_penalty", "functions", "function_call",
    }
)  # fmt: skip
_COUNTED = ("model", "input", "tools", "tool_choice", "reasoning", "text", "parallel_tool_calls")
_SENT_BACK = frozenset({"reasoning", "web_search_call", "message"})
_THOUGHTS, _LOGPROBS = "reasoning.encrypted_content", "message.output_text.logprobs"
_WEB_SEARCH = "web_search"


def response_body(request: Request, rung: Rung, *, stream: bool, takes_custom: bool = True) -> JSON:
    """Build the body of POST /v1/responses; the settings of the rung win.

    A server that `takes_custom` tools gets those of the client; elsewhere functions stand for them.
    Fields of the rung that no chat request has go out as they are. Raises EngineRefused for a
    field or message of another shape, and for what changes the answer and has no equal there.
    """
    try:
        return _body(request, rung, takes_custom=takes_custom) | {"stream": stream}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _refusal(
            None,
            f"the request is not as the chat API has it: {error!r}",
            hint="a message needs a role, a part a type, a tool call an id and a named function, "
            "a result the id of its call; other fields have their OpenAI types",
        ) from error


def check_params(rung: Rung) -> None:
    """Raise ConfigError for params that no response can hold, or that lead past its conversation.

    A response in the background, or one that goes on from another, is not what a request asks for.
    """
    refused = sorted(_NOT_OF_A_RUNG & rung.params.keys())
    if refused:
        raise ConfigError(
            f"rung {rung.name!r}: params cannot set {refused[0]!r} in the Responses API",
            hint="remove it: each request holds its whole conversation and waits for the answer",
        )
    try:
        nothing = Request(request_id="", messages=())
        response_body(nothing, rung, stream=False, takes_custom=False)
    except EngineRefused as error:
        raise ConfigError(
            f"rung {rung.name!r}: {error.message}", hint="remove it from params"
        ) from error


def _body(request: Request, rung: Rung, *, takes_custom: bool) -> JSON:
    own_effort = rung.effort is not None or rung.thinking_budget_tokens is not None
    asked = without_effort(request.params) if own_effort else request.params
    effort, limit = _effort({**asked, **rung.params}, rung), output_limit(request, rung)
    if effort not in _NO_THOUGHTS:
        asked = {name: value for name, value in asked.items() if name not in _DEFAULTS}
    own = {name: value for name, value in rung.params.items() if name not in _TRANSLATED}
    params = {**within_bounds(asked), **rung.params}
    _refuse_what_has_no_equal(params)
    include = {
        **dict.fromkeys(own.pop("include", ())),
        **({_THOUGHTS: None} if effort not in _NO_THOUGHTS else {}),
        **({_LOGPROBS: None} if params.get("logprobs") is True else {}),
    }
    messages = with_results(results_beside_calls(request.messages))
    messages = with_call_ids(messages, of=short_id)
    customs = request.custom_tools if takes_custom else {}
    texts = given_calls(messages, customs)
    origin = origin_of(rung)
    body: JSON = {
        "store": False,
        **{name: params[name] for name in _SAME if _matters(name, params.get(name))},
        **{name: _short(params[name]) for name in _NAMES if params.get(name) is not None},
        **_tools(params, customs, takes_custom=takes_custom),
        **own,
        "model": rung.model,
        "input": [item for one in messages for item in _items(one, origin=origin, texts=texts)],
    }
    thinking = _table(rung.params.get("reasoning")) | ({"effort": effort} if effort else {})
    text = _text(params) | _table(own.get("text"))
    for name, value in (("include", list(include)), ("reasoning", thinking), ("text", text)):
        if value:
            body[name] = value
    if limit is not None:
        body["max_output_tokens"] = max(limit, FEWEST_TOKENS)
    return body


def origin_of(rung: Rung) -> str:
    """Name the engine and the model that alone can read again what they gave."""
    return f"{rung.engine}/{rung.model}"


def count_body(body: JSON) -> JSON:
    """Return what of a body counts as its prompt, for POST /v1/responses/input_tokens."""
    return {name: body[name] for name in _COUNTED if name in body}


def without_thoughts(messages: Sequence[JSON]) -> tuple[JSON, ...]:
    """Return messages without the thoughts that engines of this API gave with them."""
    return tuple(
        {**message, ITEMS: [one for one in message[ITEMS] if not _is_thought(one)]}
        if isinstance(message.get(ITEMS), list)
        else message
        for message in messages
    )


def left_out(params: JSON, rung: Rung) -> tuple[str, ...]:
    """Name the fields of a chat request that no response can hold, or that the rung overrules."""
    told = {name for name, value in params.items() if value is not None}
    overruled = overruled_effort(params, rung)
    kept = {name: value for name, value in params.items() if name not in overruled}
    if _effort({**kept, **rung.params}, rung) not in _NO_THOUGHTS:
        overruled |= {name for name in told & _DEFAULTS.keys() if _matters(name, params[name])}
    return tuple(sorted({*(told - _TRANSLATED), *overruled}))


def _is_thought(given: Any) -> bool:
    item = given.get("item") if isinstance(given, dict) else None
    return isinstance(item, dict) and item.get("type") == "reasoning"


def _short(name: Any) -> Any:
    """Write a name as the API takes it; clients of other APIs have longer ones."""
    if not isinstance(name, str) or len(name) <= _LONGEST_NAME:
        return name
    return blake2b(name.encode("utf-8", "replace"), digest_size=_LONGEST_NAME // 2).hexdigest()


def _matters(name: str, value: Any) -> bool:
    return value is not None and value != _DEFAULTS.get(name)


def _effort(params: JSON, rung: Rung) -> str | None:
    if rung.effort is not None:
        return rung.effort.value
    told = params.get("reasoning_effort") or _table(params.get("reasoning")).get("effort")
    return told if isinstance(told, str) else None


def _text(params: JSON) -> JSON:
    form = _table(params.get("response_format"))
    fields: JSON = {"verbosity": params["verbosity"]} if params.get("verbosity") else {}
    if form.get("type") == "json_schema":
        fields["format"] = {"type": "json_schema", **_table(form.get("json_schema"))}
    elif form.get("type") not in (None, "text"):
        fields["format"] = form
    return fields


def _tools(params: JSON, customs: dict[str, JSON], *, takes_custom: bool) -> JSON:
    asked = params.get("tools") or ()
    tools = [_tool(tool, customs, takes_custom=takes_custom) for tool in asked]
    search = params.get("web_search_options")
    if isinstance(search, dict):
        place = _table(search.get("user_location"))
        where = {"user_location": {"type": "approximate", **_table(place.get("approximate"))}}
        size = {n: v for n, v in search.items() if n == "search_context_size" and v}
        tools.append({"type": _WEB_SEARCH, **size, **(where if place else {})})
    if not tools:
        return {}
    fields: JSON = {"tools": tools}
    if params.get("tool_choice") is not None:
        fields["tool_choice"] = _choice(params["tool_choice"], customs)
    if params.get("parallel_tool_calls") is not None:
        fields["parallel_tool_calls"] = params["parallel_tool_calls"]
    return fields


def _tool(tool: JSON, customs: dict[str, JSON], *, takes_custom: bool) -> JSON:
    """Write a function flat; it is strict here unless it says otherwise, in a chat if it says so.

    Tools that the vendor runs itself go out as they are.
    """
    custom = custom_of(tool)
    if custom is not None and takes_custom:
        return flat_tool(custom)
    if tool.get("type") == "custom":
        raise _refusal(
            "tools",
            "tools of the type 'custom' have no equal here",
            hint="send a function that takes one text; or, for a server that takes custom tools, "
            'have the operator leave the engine\'s dialect at "openai"',
        )
    function = tool.get("function")
    if not isinstance(function, dict):
        return tool
    if function.get("name") in customs:
        return customs[function["name"]]
    flat = {
        "type": "function",
        "name": function.get("name"),
        "description": function.get("description"),
        "parameters": function.get("parameters") or {"type": "object", "properties": {}},
        "strict": function.get("strict") is True,
    }
    return {name: value for name, value in flat.items() if value is not None}


def _choice(choice: Any, customs: dict[str, JSON]) -> Any:
    if not isinstance(choice, dict):
        return choice
    allowed = choice.get("allowed_tools")
    if isinstance(allowed, dict):
        tools = [_choice(tool, customs) for tool in allowed.get("tools") or ()]
        return {"type": "allowed_tools", "mode": allowed.get("mode") or "auto", "tools": tools}
    custom = custom_of(choice)
    name = _table(choice.get("function")).get("name")
    custom = customs.get(str(name), custom)
    if custom is not None:
        return {"type": "custom", "name": custom["name"]}
    return {"type": "function", "name": name} if name else choice


def _items(message: JSON, *, origin: str, texts: dict[str, JSON]) -> list[JSON]:
    """Write a message as items; `texts` are the calls of custom tools, by their ids."""
    role, content = message["role"], message.get("content")
    if role == "tool":
        parts = _parts(content, "input_text")
        if all(part["type"] == "input_text" for part in parts):  # some servers take only a text
            output: Any = PARAGRAPH.join(part["text"] for part in parts)
        else:
            output = parts
        call_id = message["tool_call_id"]
        kind = "custom_tool_call_output" if call_id in texts else "function_call_output"
        return [{"type": kind, "call_id": call_id, "output": output}]
    if role != "assistant":
        parts = _parts(content, "input_text")
        return [{"type": "message", "role": role, "content": parts}] if parts else []
    items = _own_items(message, origin=origin)
    for call in message.get("tool_calls") or ():
        if call["id"] in texts:
            custom = {"type": "custom_tool_call", "call_id": call["id"], **texts[call["id"]]}
            items.append(custom)
            continue
        function = call["function"]
        items.append(
            {
                "type": "function_call",
                "call_id": call["id"],
                "name": function["name"],
                "arguments": arguments_of(function) or "{}",
            }
        )
    while items and items[-1]["type"] == "reasoning":  # refused where nothing follows it
        items.pop()
    return items


def _own_items(message: JSON, *, origin: str) -> list[JSON]:
    """Return an assistant's text among the items that this engine and model gave with it.

    Others cannot read them. Where the phases of messages do not fit the text, as a client changed
    it, the text is one message.
    """
    given = [one["item"] for one in message.get(ITEMS) or () if one["origin"] == origin]
    given = [item for item in given if item["type"] in _SENT_BACK]
    parts = _parts(message.get("content") or message.get("refusal"), "output_text")
    text = parts[0]["text"] if [part["type"] for part in parts] == ["output_text"] else ""
    lengths = [item["characters"] for item in given if item["type"] == "message"]
    fits = bool(lengths) and sum(lengths) + len(PARAGRAPH) * (len(lengths) - 1) == len(text)
    items: list[JSON] = []
    for item in given:
        if item["type"] != "message":
            items.append(item)
        elif fits:
            own, text = text[: item["characters"]], text[item["characters"] + len(PARAGRAPH) :]
            phase = {"phase": item["phase"]}
            items.append(_message([{"type": "output_text", "text": own}]) | phase)
    return [*items, *([_message(parts)] if parts and not fits else [])]


def _message(parts: list[JSON]) -> JSON:
    """Write a turn of the assistant; of a list, some servers want ids and annotations too."""
    alone = [part["type"] for part in parts] == ["output_text"]
    content = parts[0]["text"] if alone else parts
    return {"type": "message", "role": "assistant", "content": content}


def _parts(content: Any, text_type: str) -> list[JSON]:
    if isinstance(content, str):
        return [{"type": text_type, "text": content}] if content else []
    return [_part(part, text_type) for part in content or ()]


def _part(part: JSON, text_type: str) -> JSON:
    kind = part["type"]
    if kind in ("text", "refusal"):
        return {"type": text_type, "text": part[kind]}
    if kind == "image_url":
        image = part["image_url"]
        return {"type": "input_image", "image_url": image["url"]} | (
            {"detail": image["detail"]} if image.get("detail") else {}
        )
    if kind == "file":
        named = {"filename": "document"} if "file_data" in part["file"] else {}  # it must have one
        return {"type": "input_file", **named, **part["file"]}
    raise _refusal("messages", f"the Responses API has no parts of the type {kind!r}")


def _refuse_what_has_no_equal(params: JSON) -> None:
    """Raise EngineRefused for what a client asks for and no response can hold."""
    n = params.get("n")
    asked = {
        "n": isinstance(n, int) and n > 1,
        "logit_bias": bool(params.get("logit_bias")),
        "frequency_penalty": bool(params.get("frequency_penalty")),
        "presence_penalty": bool(params.get("presence_penalty")),
        "functions": bool(params.get("functions")),
        "modalities": "audio" in (params.get("modalities") or ()),
    }
    for name, has_no_equal in asked.items():
        if has_no_equal:
            raise _refusal(name, f"the Responses API has no {name} like this")


def _refusal(
    name: str | None, why: str, *, hint: str = "leave it out, or ask another rung"
) -> EngineRefused:
    error = EngineRefused(why, status=400, body="", hint=hint)
    error.detail = ErrorDetail(message=error.message, param=name)
    return error


def _table(value: object) -> JSON:
    return value if isinstance(value, dict) else {}
