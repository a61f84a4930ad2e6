"""How each kind of server takes a reasoning effort, and what it has to be asked for.

Replies are read in one way for all of them (see reply.py); only requests differ.
"""

import re
from collections.abc import Sequence

import msgspec

from suffice.engines.dialect import Dialect, Path
from suffice.engines.past_calls import (
    named_results,
    nine_id,
    results_beside_calls,
    short_id,
    signed_calls,
    sound_calls,
    with_call_ids,
    with_results,
)
from suffice.engines.schemas import lost_keywords
from suffice.engines.tool_requests import with_tools
from suffice.engines.turns import (
    bridged_results,
    one_system,
    ordered,
    plain_texts,
    text_results,
    with_thoughts,
    without_marks,
    without_thoughts,
)
from suffice.errors import ConfigError
from suffice.types import JSON, Effort, Request, Rung

_NESTED = ("chat_template_kwargs", "custom_params")
# What asks for an effort, in any dialect: a rung that has an effort or a budget drops all of it.
_EFFORTS = frozenset(
    {"reasoning", "reasoning_effort", "effort", "output_config", "prompt_mode"}
    | {"thinking", "enable_thinking", "think", "thinking_config", "include_thoughts"}
    | {"thinking_budget", "thinking_budget_tokens", "thinking_token_budget"}
    | {"reasoning_budget", "reasoning_budget_tokens", "reasoning_mode", "thinking_mode"}
    | {"enable_reasoning", "disable_reasoning", "chat_template"}
)
_ARGUMENTS = _EFFORTS | {"reasoning_strength"}
# What makes a model write on; a rung with a limit, an effort or a budget drops it.
_WRITE_ON = frozenset({"ignore_eos", "min_tokens", "min_new_tokens"})
# What a model of OpenAI's refuses while it thinks, but for the values that it has anyway.
_SAMPLING = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"}
    | {"logit_bias"}
)
_SCHEMA = "Answer with JSON alone, which this JSON schema describes:\n"
# What would lead a request past its rung where the engine is a router itself, such as LiteLLM or
# OpenRouter: to another model, address or account, to an invented answer, or to paid extras. A
# rung's own `params` may name all of it.
_DETOURS = frozenset(
    {"models", "model_list", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks"}
    | {"route", "preset", "custom_llm_provider", "user_config"}
    | {"api_base", "base_url", "api_key", "api_version", "organization", "extra_headers"}
    | {"mock_response", "mock_tool_calls", "mock_timeout"}
)
# Every name of a limit of tokens: the smallest one holds, under the name that the server reads.
LIMITS = (
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_new_tokens",
    "n_predict",  # llama.cpp
    "num_predict",  # Ollama
)


def within_bounds(fields: JSON) -> JSON:
    """Drop what would lead past a rung, and every name of a limit of tokens."""
    return {k: v for k, v in _without_detours(fields).items() if k not in LIMITS}


def detours(fields: JSON) -> tuple[str, ...]:
    """Name the fields of which no engine gets all, since they would lead past a rung."""
    kept = _without_detours(fields)
    return tuple(sorted(name for name in fields if kept.get(name) != fields[name]))


def _without_detours(fields: JSON) -> JSON:
    """Drop what would lead past a rung; a router reads `extra_body` as fields, but for Google's."""
    kept = {k: v for k, v in fields.items() if k not in _DETOURS}
    if "extra_body" in kept:
        google = _table(kept.pop("extra_body")).get("google")
        kept |= {"extra_body": {"google": google}} if google is not None else {}
    return kept


def request_body(request: Request, rung: Rung, *, dialect: Dialect, stream: bool) -> JSON:
    """Build the JSON that a server of this dialect gets for a request on a rung.

    Where both give a field the rung wins, for a rung is what a certificate vouches for; the
    smaller of two token limits holds. Fields that the server would refuse are left out.
    """
    params = _params(_translated(request, rung, dialect=dialect), rung)
    params = {field: value for field, value in params.items() if field not in dialect.refuses}
    thinks = _thinks({**request.params, **rung.params}, rung) or _is_thinker(rung, dialect)
    if dialect.fixed_sampling and thinks:
        params = {k: v for k, v in params.items() if k in rung.params or k not in _SAMPLING}
    limit = _smallest_limit(params, rung)
    body = {
        dialect.renames.get(field, field): value
        for field, value in params.items()
        if field not in LIMITS
    }
    if limit is not None:
        body |= dict.fromkeys(dialect.limits, limit)
    for path, value in effort_fields(rung, dialect=dialect):
        _put(body, path, value)
    body = with_tools(body, dialect=dialect, thinks=_thinks_in(body, rung, dialect=dialect))
    turns: Sequence[JSON] = request.messages
    schema = None if dialect.holds_schemas else _schema_in(body.get("response_format"))
    if schema is not None:
        turns = ordered(turns, _SCHEMA + msgspec.json.encode(schema).decode())
        body["response_format"] = {"type": "json_object"}
    turns = _messages(turns, model=rung.model, dialect=dialect)
    body |= {"model": rung.model, "messages": turns, "stream": stream}
    body.pop("stream_options", None)
    if stream and dialect.asks_for_usage:
        body["stream_options"] = {"include_usage": True}
    return body


def _thinks(params: JSON, rung: Rung) -> bool:
    effort = rung.effort or params.get("reasoning_effort")
    return effort not in (None, Effort.NONE)


def _is_thinker(rung: Rung, dialect: Dialect) -> bool:
    return dialect.thinkers is not None and re.search(dialect.thinkers, rung.model) is not None


def _thinks_in(body: JSON, rung: Rung, *, dialect: Dialect) -> bool:
    """Whether a model thinks over a body: the body says so, or the model does unless it says no."""
    told = [(switch, _get(body, switch.path)) for switch in dialect.switches]
    said = [value == switch.on for switch, value in told if value is not None]
    return any(said) if said else _is_thinker(rung, dialect)


def _schema_in(form: object) -> object:
    told = _table(form).get("json_schema")
    return told.get("schema", told) if isinstance(told, dict) else None


def _messages(messages: Sequence[JSON], *, model: str, dialect: Dialect) -> Sequence[JSON]:
    """Write a history as a model at a server of this dialect takes it."""
    messages = text_results(with_results(results_beside_calls(sound_calls(messages))))
    if dialect.one_system:
        messages = one_system(messages)
    if dialect.strict_messages:
        messages = without_thoughts(messages, wanted=dialect.wanted)
    if dialect.signs and (dialect.signs == "calls" or "gemini" in model):
        messages = signed_calls(messages, in_details=dialect.signs == "details")
    if dialect.wants_names:
        messages = named_results(messages)
    if dialect.refuses_marks:
        messages = without_marks(messages)
    if dialect.bridges_results:
        messages = bridged_results(messages)
    if dialect.wants_thoughts:
        messages = with_thoughts(messages)
    if dialect.plain_text:
        messages = plain_texts(messages)
    if dialect.call_ids != "any":
        messages = with_call_ids(messages, of=short_id if dialect.call_ids == "short" else nine_id)
    return messages


def dropped_fields(request: Request, rung: Rung, *, dialect: Dialect) -> tuple[str, ...]:
    """Name the fields of a request that its server does not get, or gets with another value.

    Not those that no server gets (see `detours`), nor limits of tokens, of which the smallest
    holds. An effort counts as kept where the server takes it in other words.
    """
    bare = msgspec.structs.replace(request, messages=())
    body, names = request_body(bare, rung, dialect=dialect, stream=False), []
    for name, value in _without_detours(request.params).items():
        sent = body.get(dialect.renames.get(name, name))
        if name == "reasoning_effort" and value in list(Effort):
            kept = _keeps_effort(body, rung, Effort(value), dialect=dialect)
            names += [] if kept else [name]
        elif name == "tools" and value and sent:
            names += [f"tools.{keyword}" for keyword in sorted(lost_keywords(value, sent))]
        elif value not in (None, []) and name not in LIMITS:
            names += [] if _is_more(name, sent, than=value) else _differences(name, value, sent)
    return tuple(names)


def overruled_effort(params: JSON, rung: Rung) -> frozenset[str]:
    """Name the fields by which a client asks for another effort than the rung's own."""
    if rung.effort is None and rung.thinking_budget_tokens is None:
        return frozenset()
    asked = {name for name, value in params.items() if value is not None and name in _EFFORTS}
    same = params.get("reasoning_effort") == rung.effort
    return frozenset(asked - ({"reasoning_effort"} if same else set()))


def _keeps_effort(body: JSON, rung: Rung, effort: Effort, *, dialect: Dialect) -> bool:
    if effort == rung.effort:
        return True
    level = _nearest(effort, dialect.levels or tuple(Effort))
    fields = _level_fields(level, dialect=dialect, budgeted=False)
    sent = [_differences(".".join(path), value, _get(body, path)) for path, value in fields]
    return level == effort and bool(fields) and not any(sent)


def _is_more(name: str, sent: object, *, than: object) -> bool:
    """Whether a rung asks for more answers or log-probabilities; clients get what they want."""
    if name == "n":
        return isinstance(sent, int) and isinstance(than, int) and sent >= than
    return name == "logprobs" and than is False


def _differences(name: str, value: object, sent: object) -> list[str]:
    """Name what is missing or different in a field that is sent, by its path."""
    if isinstance(value, dict) and isinstance(sent, dict):
        inner = value.items()
        return [
            path for key, v in inner for path in _differences(f"{name}.{key}", v, sent.get(key))
        ]
    return [] if value == sent else [name]


def effort_fields(rung: Rung, *, dialect: Dialect) -> list[tuple[Path, object]]:
    """List the fields that carry a rung's effort and budget, each as (path, value)."""
    fields: list[tuple[Path, object]] = []
    budget = rung.thinking_budget_tokens if dialect.budget is not None else None
    if rung.effort is not None:
        fields += _level_fields(rung.effort, dialect=dialect, budgeted=budget is not None)
    elif budget is not None and dialect.effort is None:
        fields += [(switch.path, switch.on) for switch in dialect.switches]
    alone = dialect.budget_or_effort and rung.effort is Effort.NONE
    if budget is not None and dialect.budget is not None and not alone:
        fields.append((dialect.budget, budget))
    return fields


def _level_fields(effort: Effort, *, dialect: Dialect, budgeted: bool) -> list[tuple[Path, object]]:
    none = effort is Effort.NONE
    replaced = budgeted and dialect.budget_or_effort and not none
    fields: list[tuple[Path, object]] = []
    if dialect.effort is not None and not replaced and not (none and dialect.switches_none):
        fields.append((dialect.effort, effort.value))
    return fields + [(s.path, s.off if none else s.on) for s in dialect.switches]


def _translated(request: Request, rung: Rung, *, dialect: Dialect) -> Request:
    """Write an effort that a client asks for as the server takes it; the rung's own fields win.

    An effort that the server does not know becomes the next lower one that it does.
    """
    effort = request.params.get("reasoning_effort")
    plain = dialect.effort == ("reasoning_effort",) and not dialect.switches
    if effort not in list(Effort) or (plain and dialect.levels is None):
        return request
    params = {name: value for name, value in request.params.items() if name != "reasoning_effort"}
    level = _nearest(Effort(effort), dialect.levels or tuple(Effort))
    for path, value in _level_fields(level, dialect=dialect, budgeted=False):
        if path[0] not in rung.params or path[0] in _NESTED:
            _put(params, path, value)
    return msgspec.structs.replace(request, params=params)


def _nearest(effort: Effort, levels: tuple[Effort, ...]) -> Effort:
    """Return the highest of the levels that is no more than an effort, or else the lowest."""
    order = list(Effort)
    lower = [level for level in levels if order.index(level) <= order.index(effort)]
    return max(lower, key=order.index) if lower else min(levels, key=order.index)


def output_limit(request: Request, rung: Rung) -> int | None:
    """Return the smallest limit of tokens that a request or its rung gives, or None."""
    return _smallest_limit(_params(request, rung), rung)


def _smallest_limit(params: JSON, rung: Rung) -> int | None:
    limits = [*(params.get(field) for field in LIMITS), rung.max_output_tokens]
    return min((n for n in limits if isinstance(n, int) and n >= 0), default=None)


def check_rung(rung: Rung, *, dialect: Dialect) -> None:
    """Raise ConfigError for what a server of this dialect cannot be asked for."""
    if rung.thinking_budget_tokens is not None and dialect.budget is None:
        raise ConfigError(
            f"rung {rung.name!r}: the {dialect.name} API takes no thinking budget",
            hint="remove thinking_budget_tokens, and choose an effort instead",
        )
    if (
        dialect.levels is not None
        and rung.effort is not None
        and rung.effort not in dialect.levels
        and (rung.thinking_budget_tokens is None or dialect.budget is None)
    ):
        raise ConfigError(
            f"rung {rung.name!r}: the {dialect.name} API has no effort {rung.effort.value!r}",
            hint=f"it tells apart: {', '.join(dialect.levels)}",
        )
    if rung.early_stop is not None and dialect.renders is None:
        raise ConfigError(
            f"rung {rung.name!r}: early_stop has to go on from the start of an answer, which the "
            f"{dialect.name} API does not offer",
            hint="remove early_stop, or use an embedded engine or dialect llamacpp or vllm",
        )
    refused = sorted(dialect.refuses & rung.params.keys())
    if refused:
        raise ConfigError(
            f"rung {rung.name!r}: the {dialect.name} API refuses the field {refused[0]!r}",
            hint="remove it from params, or set the engine's dialect to the server that it is for",
        )


def _params(request: Request, rung: Rung) -> JSON:
    """Merge the params of both, template arguments field by field."""
    params = _without_detours(request.params)
    own_effort = rung.effort is not None or rung.thinking_budget_tokens is not None
    if own_effort:
        params = without_effort(params)
    if own_effort or rung.max_output_tokens is not None:
        params = {name: value for name, value in params.items() if name not in _WRITE_ON}
    merged = {
        field: _table(params[field]) | _table(rung.params[field])
        for field in _NESTED
        if field in params and field in rung.params
    }
    return {**params, **rung.params, **merged}


def without_effort(params: JSON) -> JSON:
    """Drop what a request says about effort, in every dialect: a rung's effort is its own."""
    kept = {field: value for field, value in params.items() if field not in _EFFORTS}
    for field in ("chat_template_kwargs", "extra_body", "custom_params", "google"):
        if isinstance(kept.get(field), dict):
            inner = {k: v for k, v in kept.pop(field).items() if k not in _ARGUMENTS}
            inner = without_effort(inner) if field == "extra_body" else inner
            kept |= {field: inner} if inner else {}
    return kept


def _put(body: JSON, path: Path, value: object) -> None:
    """Set a field on its path; what hangs on the path is copied, for it may be the request's."""
    *parents, field = path
    for parent in parents:
        body[parent] = dict(_table(body.get(parent)))
        body = body[parent]
    body[field] = value


def _get(body: JSON, path: Path) -> object:
    *parents, field = path
    for parent in parents:
        body = _table(body.get(parent))
    return body.get(field)


def _table(value: object) -> JSON:
    """Take what ought to be a table for an empty one where it is none."""
    return value if isinstance(value, dict) else {}
