"""Anthropic's Messages API: a chat request as its body."""

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from suffice.engines.dialects import (
    output_limit,
    overruled_effort,
    within_bounds,
    without_effort,
)
from suffice.engines.past_calls import results_beside_calls, with_results
from suffice.errors import EngineRefused, ErrorDetail
from suffice.types import JSON, Effort, Request, Rung

DEFAULT_LIMIT = 8192  # the API demands a limit
_SAME = ("temperature", "top_p", "top_k")
_EFFORTS = {Effort.MINIMAL: "low"}  # the rest have the same name
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}
_EPHEMERAL = {"type": "ephemeral"}
_CONFIG = "output_config"
_COUNTED = ("model", "messages", "system", "tools", "tool_choice", "thinking", "mcp_servers")
_WEB_SEARCH = {"type": "web_search_20250305", "name": "web_search"}
_DATED = re.compile(r"_\d{8}$")
_READ = frozenset(
    {
        *_SAME, "thinking", "output_config", "reasoning_effort", "tools", "tool_choice", "stop",
        "parallel_tool_calls", "response_format", "user", "service_tier", "web_search_options",
        "max_tool_calls", "max_tokens", "max_completion_tokens", "n", "logprobs", "logit_bias",
        "frequency_penalty", "presence_penalty", "cache_control",
    }
)  # fmt: skip
_ODD = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_ID = 64


def message_body(request: Request, rung: Rung, *, stream: bool) -> JSON:
    """Build the body of POST /v1/messages; the settings of the rung win.

    Caches stay where the client put them. Where it put none, a conversation that has had a turn is
    cached up to its last message. Raises EngineRefused for a message of another shape, and for what
    changes the answer and has no equal there.
    """
    _refuse_what_has_no_equal(request.params)
    try:
        system, messages = _turns(with_results(results_beside_calls(request.messages)))
    except (AttributeError, KeyError, TypeError) as error:
        raise EngineRefused(
            f"a message is not as the chat API has it: {error!r}",
            status=400,
            body="",
            hint="a tool call needs an id and a named function, a result the id of its call",
        ) from error
    own_effort = rung.effort is not None or rung.thinking_budget_tokens is not None
    own_params = without_effort(request.params) if own_effort else request.params
    params = {**own_params, **rung.params}
    limit = output_limit(request, rung) or DEFAULT_LIMIT
    thinking, tools = _thinking(params, rung), _tools(params)
    shape = _shape(params.get("response_format"))
    if shape:
        thinking[_CONFIG] = {**thinking.get(_CONFIG, {}), **shape}
    body: JSON = {
        "model": rung.model,
        "max_tokens": limit,
        "messages": messages,
        "stream": stream,
        **{name: params[name] for name in _SAME if params.get(name) is not None},
        **thinking,
        **tools,
    }
    if system:
        body["system"] = system
    stop = params.get("stop")
    if stop:
        body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if isinstance(params.get("user"), str):
        body["metadata"] = {"user_id": params["user"]}
    if params.get("service_tier") in ("auto", "standard_only"):
        body["service_tier"] = params["service_tier"]
    answered = any(message["role"] == "assistant" for message in messages)
    if answered and not _has_cache_control(body):
        for blocks in (system, messages[-1]["content"]):
            if blocks:
                blocks[-1] = {**blocks[-1], "cache_control": _EPHEMERAL}
    return _consistent(body, own_thinking=own_effort)


def _has_cache_control(body: JSON) -> bool:
    """Whether the client says where to cache: after a tool, a block, or one of a tool's result."""
    blocks = [*body.get("system", ()), *body.get("tools", ())]
    for message in body["messages"]:
        blocks += message["content"]
        blocks += (b for one in message["content"] for b in one.get("content") or ())
    return any(isinstance(block, dict) and "cache_control" in block for block in blocks)


def native_body(body: JSON, rung: Rung, *, stream: bool) -> JSON:
    """Build the body for a request of this API: the client's own, where the rung sets nothing."""
    kept = within_bounds(body)
    if rung.effort is not None or rung.thinking_budget_tokens is not None:
        kept = without_native_effort(kept)
    limits = (body.get("max_tokens"), rung.max_output_tokens)
    limit = min((n for n in limits if isinstance(n, int)), default=DEFAULT_LIMIT)
    own = {name: rung.params[name] for name in _SAME if name in rung.params}
    thinking = _thinking(rung.params, rung)
    if "output_config" in thinking:
        config = kept.get("output_config")
        thinking["output_config"] = {**(config or {}), **thinking["output_config"]}
    fixed = {"model": rung.model, "max_tokens": limit, "stream": stream}
    own_thinking = rung.effort is not None or rung.thinking_budget_tokens is not None
    return _consistent({**kept, **own, **thinking, **fixed}, own_thinking=own_thinking)


def without_native_effort(body: JSON) -> JSON:
    """Return a body of this API that asks for no effort and no thinking."""
    rest = {name: value for name, value in body.items() if name not in ("thinking", _CONFIG)}
    config = body.get(_CONFIG)
    config = {k: v for k, v in config.items() if k != "effort"} if isinstance(config, dict) else {}
    return {**rest, _CONFIG: config} if config else rest


def count_body(body: JSON) -> JSON:
    """Return what of a body counts as its prompt, for POST /v1/messages/count_tokens."""
    return {name: body[name] for name in _COUNTED if name in body}


def left_out(params: JSON, rung: Rung) -> tuple[str, ...]:
    """Name the fields of a chat request that no message can hold, or that the rung overrules."""
    unread = {name for name, value in params.items() if value is not None and name not in _READ}
    return tuple(sorted({*unread, *overruled_effort(params, rung)}))


def given_blocks(message: Mapping[str, Any]) -> list[JSON]:
    """Return the blocks that an engine of this API gave with a message, and wants back."""
    return [*(message.get("thinking_blocks") or ()), *(message.get("server_blocks") or ())]


def tool_use_id(call_id: str) -> str:
    """Write the id of a call as this API takes it: letters, digits, `_` and `-`, 64 at most."""
    plain = _ODD.sub("_", call_id)
    if plain == call_id and 0 < len(plain) <= _LONGEST_ID:
        return call_id
    digest = blake2b(call_id.encode("utf-8", "replace"), digest_size=6).hexdigest()
    return f"{plain[: _LONGEST_ID - 13]}_{digest}"


def _thinking(params: JSON, rung: Rung) -> JSON:
    if rung.effort is Effort.NONE:
        return _of_effort(rung.effort)
    if rung.thinking_budget_tokens is not None:
        return {"thinking": {"type": "enabled", "budget_tokens": rung.thinking_budget_tokens}}
    if rung.effort is not None:
        return _of_effort(rung.effort)
    told: JSON = {name: params[name] for name in ("thinking", _CONFIG) if name in params}
    effort = params.get("reasoning_effort")
    if told or effort not in list(Effort):
        return told
    return _of_effort(Effort(effort))


def _of_effort(effort: Effort) -> JSON:
    if effort is Effort.NONE:
        return {"thinking": {"type": "disabled"}}
    word = _EFFORTS.get(effort, effort.value)
    return {"thinking": {"type": "adaptive"}, _CONFIG: {"effort": word}}


def _refuse_what_has_no_equal(params: JSON) -> None:
    """Raise EngineRefused for what a client asks for and no message can hold."""
    several = isinstance(params.get("n"), int) and params["n"] > 1
    asked = {
        "n": several,
        "logprobs": params.get("logprobs") is True,
        "logit_bias": bool(params.get("logit_bias")),
        "frequency_penalty": bool(params.get("frequency_penalty")),
        "presence_penalty": bool(params.get("presence_penalty")),
        "response_format": (params.get("response_format") or {}).get("type") == "json_object",
    }
    for name, has_no_equal in asked.items():
        if has_no_equal:
            raise _refusal(name, f"the Messages API has no {name} like this")


def _refusal(name: str, why: str) -> EngineRefused:
    error = EngineRefused(
        why,
        status=400,
        body="",
        hint="leave it out, give a json_schema for JSON, or ask another rung",
    )
    error.detail = ErrorDetail(message=error.message, param=name)
    return error


def _shape(form: Any) -> JSON:
    schema = form.get("json_schema") if isinstance(form, dict) else None
    if not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
        return {}
    return {"format": {"type": "json_schema", "schema": schema["schema"]}}


def _consistent(body: JSON, *, own_thinking: bool) -> JSON:
    """Fit thinking that a rung sets into the rest of a body: the API refuses what contradicts it.

    A call cannot be forced beside it, and sampling has no settings.
    """
    thinking = body.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if not own_thinking or kind not in ("enabled", "adaptive"):
        return body
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") in ("any", "tool"):
        return {**body, "thinking": {"type": "disabled"}}
    return {name: value for name, value in body.items() if name not in _SAME}


def _tools(params: JSON) -> JSON:
    tools = [_tool(tool) for tool in params.get("tools") or ()]
    search = params.get("web_search_options")
    if isinstance(search, dict):
        place = search.get("user_location") or {}
        where = {"user_location": {"type": "approximate", **(place.get("approximate") or {})}}
        most = params.get("max_tool_calls")
        limit = {"max_uses": most} if type(most) is int and most > 0 else {}
        tools.append(_WEB_SEARCH | limit | (where if place else {}))
    if not tools:
        return {}
    choice = params.get("tool_choice") or "auto"
    if isinstance(choice, dict):
        chosen: JSON = {"type": "tool", "name": choice["function"]["name"]}
    else:
        chosen = {"type": _CHOICES.get(choice, "auto")}
    if params.get("parallel_tool_calls") is False and chosen["type"] != "none":
        chosen["disable_parallel_tool_use"] = True
    return {"tools": tools, "tool_choice": chosen}


def _tool(tool: JSON) -> JSON:
    """Write a function as a tool; the API's own tools, which have a date, stay as they are."""
    kind = str(tool.get("type"))
    if _DATED.search(kind):
        return tool
    if kind != "function":
        raise _refusal("tools", f"the Messages API has no tools of the type {kind!r}")
    function = tool["function"]
    return {
        "name": function["name"],
        "description": function.get("description") or "",
        "input_schema": function.get("parameters") or {"type": "object"},
        **({"cache_control": tool["cache_control"]} if tool.get("cache_control") else {}),
    }


def _turns(messages: Sequence[JSON]) -> tuple[list[JSON], list[JSON]]:
    """Part the system's text, which comes first, from the turns; equal roles are one turn."""
    system: list[JSON] = []
    turns: list[JSON] = []
    for message in messages:
        role, blocks = message["role"], _content(message.get("content"))
        if role in ("system", "developer") and not turns:
            system += blocks
            continue
        if role == "tool":
            result = {"type": "tool_result", "tool_use_id": tool_use_id(message["tool_call_id"])}
            role, blocks = "user", [result | {"content": blocks}]
        elif role == "assistant":
            calls = [_use(call) for call in message.get("tool_calls") or ()]
            blocks = [*given_blocks(message), *blocks, *calls]
        else:
            role = "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:  # the API takes no empty message
            turns.append({"role": role, "content": blocks})
    return (system, turns) if turns else ([], [{"role": "user", "content": system}])


def _use(call: JSON) -> JSON:
    """Write a call with an object as its input; what is none is wrapped, as Anthropic advises.

    https://docs.claude.com/en/docs/agents-and-tools/tool-use/fine-grained-tool-streaming
    """
    arguments = call["function"].get("arguments") or "{}"
    value = arguments
    if isinstance(arguments, str):
        try:
            value = msgspec.json.decode(arguments)
        except (msgspec.DecodeError, RecursionError):
            value = None
    value = value if isinstance(value, dict) else {"INVALID_JSON": str(arguments)}
    name = call["function"]["name"]
    return {"type": "tool_use", "id": tool_use_id(call["id"]), "name": name, "input": value}


def _content(content: Any) -> list[JSON]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [_part(part) for part in content or ()]


def _part(part: JSON) -> JSON:
    if part.get("type") == "file" and part["file"].get("file_data"):
        kind, _, data = part["file"]["file_data"].removeprefix("data:").partition(";base64,")
        source = {"type": "base64", "media_type": kind, "data": data}
        return {"type": "document", "source": source, "title": part["file"].get("filename")}
    if part.get("type") != "image_url":
        return part
    url = part["image_url"]["url"]
    kept = {"cache_control": part["cache_control"]} if part.get("cache_control") else {}
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}, **kept}
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}, **kept}
