"""Anthropic's Messages API: a chat request as its body, its answers as chunks of a chat."""

import re
from hashlib import blake2b
from typing import Any

import msgspec

from suffice.engines.dialects import output_limit, without_effort
from suffice.errors import EngineRefused, ErrorDetail
from suffice.types import JSON, Effort, Request, Rung

DEFAULT_LIMIT = 8192  # the API demands a limit
_SAME = ("temperature", "top_p", "top_k")
_EFFORTS = {Effort.MINIMAL: "low"}  # the rest have the same name
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}
_FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_EPHEMERAL = {"type": "ephemeral"}
_CONFIG = "output_config"
_COUNTED = ("model", "messages", "system", "tools", "tool_choice", "thinking", "mcp_servers")
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
        system, messages = _turns(request.messages)
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
    if "cache_control" not in str(body) and any(m["role"] == "assistant" for m in messages):
        for blocks in (system, messages[-1]["content"]):
            if blocks:
                blocks[-1] = {**blocks[-1], "cache_control": _EPHEMERAL}
    return _consistent(body, own_thinking=own_effort)


def native_body(body: JSON, rung: Rung, *, stream: bool) -> JSON:
    """Build the body for a request of this API: the client's own, where the rung sets nothing."""
    kept = dict(body)
    if rung.effort is not None or rung.thinking_budget_tokens is not None:
        kept = without_native_effort(kept)
    limits = (kept.get("max_tokens"), rung.max_output_tokens)
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


def tool_use_id(call_id: str) -> str:
    """Write the id of a call as this API takes it: letters, digits, `_` and `-`, 64 at most."""
    plain = _ODD.sub("_", call_id)
    if plain == call_id and 0 < len(plain) <= _LONGEST_ID:
        return call_id
    digest = blake2b(call_id.encode("utf-8", "replace"), digest_size=6).hexdigest()
    return f"{plain[: _LONGEST_ID - 13]}_{digest}"


def completion_of(message: JSON) -> JSON:
    """Turn a whole message into a chat completion; the usage stays Anthropic's."""
    reply: JSON = {"role": "assistant", "content": None}
    texts = [block["text"] for block in _blocks(message, "text")]
    thoughts = [block for block in message["content"] if block["type"] in _THOUGHTS]
    calls = [
        _call(block) | {"index": number}
        for number, block in enumerate(_blocks(message, "tool_use"))
    ]
    if texts:
        reply["content"] = "".join(texts)
    if thoughts:
        reply["reasoning_content"] = "".join(block.get("thinking") or "" for block in thoughts)
        reply["thinking_blocks"] = thoughts
    if calls:
        reply["tool_calls"] = calls
    finish = _finish(message.get("stop_reason"))
    choice = {"index": 0, "message": reply, "finish_reason": finish}
    head = {"id": message.get("id"), "object": "chat.completion", "model": message.get("model")}
    return {**head, "created": 0, "choices": [choice], "usage": message.get("usage")}


class MessageEvents:
    """Turns the events of a streamed message into chunks of a chat completion."""

    def __init__(self) -> None:
        self._head: JSON = {"object": "chat.completion.chunk", "created": 0}
        self._blocks: dict[int, JSON] = {}
        self._calls = 0

    def chunk(self, event: JSON) -> JSON | None:
        """Return the chunk that an event makes; None where it makes none."""
        kind = event.get("type")
        if kind == "message_start":
            message = event["message"]
            self._head |= {"id": message.get("id"), "model": message.get("model")}
            return {**self._head, "choices": [], "usage": message.get("usage")}
        if kind == "message_delta":
            finish = _finish(event["delta"].get("stop_reason"))
            return self._choice({}, finish=finish) | {"usage": event.get("usage")}
        if kind == "content_block_start":
            return self._begun(event["index"], dict(event["content_block"]))
        if kind == "content_block_delta":
            return self._grown(self._blocks[event["index"]], event["delta"])
        if kind == "content_block_stop" and self._blocks[event["index"]]["type"] in _THOUGHTS:
            return self._choice({"thinking_blocks": [self._blocks[event["index"]]]})
        return None

    def _begun(self, index: int, block: JSON) -> JSON | None:
        self._blocks[index] = block
        if block["type"] == "tool_use":
            block["number"], self._calls = self._calls, self._calls + 1
            call = _call({**block, "input": {}})
            call["function"]["arguments"] = ""
            return self._choice({"tool_calls": [call | {"index": block["number"]}]})
        text = block.get("text")
        return self._choice({"content": text}) if text else None

    def _grown(self, block: JSON, delta: JSON) -> JSON | None:
        kind = delta["type"]
        if kind == "text_delta":
            return self._choice({"content": delta["text"]})
        if kind == "thinking_delta":
            block["thinking"] = (block.get("thinking") or "") + delta["thinking"]
            return self._choice({"reasoning_content": delta["thinking"]})
        if kind == "signature_delta":
            block["signature"] = (block.get("signature") or "") + delta["signature"]
        if kind == "input_json_delta" and "number" in block:
            function = {"arguments": delta["partial_json"]}
            return self._choice({"tool_calls": [{"index": block["number"], "function": function}]})
        return None

    def _choice(self, delta: JSON, *, finish: str | None = None) -> JSON:
        return {**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


_THOUGHTS = ("thinking", "redacted_thinking")


def _finish(reason: object) -> str | None:
    return None if reason is None else _FINISHES.get(str(reason), str(reason))


def _blocks(message: JSON, kind: str) -> list[JSON]:
    return [block for block in message["content"] if block["type"] == kind]


def _call(block: JSON) -> JSON:
    arguments = msgspec.json.encode(block["input"]).decode()
    function = {"name": block["name"], "arguments": arguments}
    return {"id": block["id"], "type": "function", "function": function}


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
        "response_format": (params.get("response_format") or {}).get("type") == "json_object",
    }
    for name, has_no_equal in asked.items():
        if has_no_equal:
            error = EngineRefused(
                f"the Messages API has no {name} like this",
                status=400,
                body="",
                hint="leave it out, give a json_schema for JSON, or ask another rung",
            )
            error.detail = ErrorDetail(message=error.message, param=name)
            raise error


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
    tools = [
        {
            "name": tool["function"]["name"],
            "description": tool["function"].get("description") or "",
            "input_schema": tool["function"].get("parameters") or {"type": "object"},
            **({"cache_control": tool["cache_control"]} if tool.get("cache_control") else {}),
        }
        for tool in params.get("tools") or ()
        if tool.get("type") == "function"
    ]
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


def _turns(messages: tuple[JSON, ...]) -> tuple[list[JSON], list[JSON]]:
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
            blocks = [*(message.get("thinking_blocks") or ()), *blocks, *calls]
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
