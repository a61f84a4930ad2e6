"""Logs of gateways and observers: LiteLLM, Helicone, Langfuse, Phoenix, OpenTelemetry."""

import json

from suffice.logs.format import (
    NUMBER,
    TEXT,
    TREE,
    LogFormat,
    first,
    needs,
    plus,
    timed,
    whole_prompt,
)

_HOUR = "ephemeral_1h_input_tokens"
_META = {
    "user_api_key_alias": TEXT,
    "user_api_key_team_alias": TEXT,
    "usage_object": {
        "cache_creation_input_tokens": NUMBER,
        "cache_read_input_tokens": NUMBER,
        "cache_creation": {"ephemeral_1h_input_tokens": NUMBER},
        "prompt_tokens_details": {
            "cached_tokens": NUMBER,
            "cache_creation_tokens": NUMBER,
            "cache_creation_token_details": {"ephemeral_1h_input_tokens": NUMBER},
        },
        "completion_tokens_details": {"reasoning_tokens": NUMBER},
    },
    "additional_usage_values": {
        "cache_creation_input_tokens": NUMBER,
        "cache_read_input_tokens": NUMBER,
    },
}

_LITELLM_READ = first(
    "m.usage_object.cache_read_input_tokens",
    "m.usage_object.prompt_tokens_details.cached_tokens",
    "m.additional_usage_values.cache_read_input_tokens",
)
_LITELLM_WRITE = first(
    "m.usage_object.cache_creation_input_tokens",
    "m.usage_object.prompt_tokens_details.cache_creation_tokens",
    "m.additional_usage_values.cache_creation_input_tokens",
)
_LITELLM = LogFormat(
    name="litellm",
    title="LiteLLM spend logs, and what its logging callbacks write",
    needs=needs(
        "request_id call_type spend startTime",
        "request_id spend prompt_tokens startTime",
        "id call_type response_cost startTime",
    ),
    structure={
        "request_id": TEXT,
        "id": TEXT,
        "trace_id": TEXT,
        "response_cost": NUMBER,
        "api_key": TEXT,
        "spend": NUMBER,
        "prompt_tokens": NUMBER,
        "completion_tokens": NUMBER,
        "startTime": TEXT,
        "endTime": TEXT,
        "model": TEXT,
        "custom_llm_provider": TEXT,
        "user": TEXT,
        "end_user": TEXT,
        "team_id": TEXT,
        "session_id": TEXT,
        "status": TEXT,
        "cache_hit": TEXT,
        "request_tags": TREE,
        "metadata": TREE,
        "messages": TREE,
        "response": TREE,
    },
    relation=f"(SELECT *, json_transform(tree(r.metadata), '{json.dumps(_META)}') AS m FROM rows)",
    fields={
        **timed("r.startTime", "r.endTime"),
        "id": first("r.request_id", "r.id"),
        "session": first("r.session_id", "r.trace_id"),
        "model": "r.model",
        "provider": "r.custom_llm_provider",
        "input_tokens": whole_prompt("r.prompt_tokens", _LITELLM_READ, _LITELLM_WRITE),
        "cache_read_tokens": _LITELLM_READ,
        "cache_write_tokens": _LITELLM_WRITE,
        "cache_write_1h_tokens": first(
            f"m.usage_object.prompt_tokens_details.cache_creation_token_details.{_HOUR}",
            f"m.usage_object.cache_creation.{_HOUR}",
        ),
        "output_tokens": "r.completion_tokens",
        "reasoning_tokens": "m.usage_object.completion_tokens_details.reasoning_tokens",
        "stated_usd": first("r.spend", "r.response_cost"),
        "key": first("m.user_api_key_alias", "nullif(r.\"user\", '')", "nullif(r.api_key, '')"),
        "tags": first(
            "try_cast(tree(r.request_tags) AS VARCHAR[])",
            "CASE WHEN m.user_api_key_team_alias IS NOT NULL "
            "THEN ['team:' || m.user_api_key_team_alias] END",
        ),
        "error": "CASE WHEN r.status IN ('failure', 'error') THEN r.status END",
    },
    where="coalesce(r.request_id, r.id) IS NOT NULL AND coalesce(lower(r.cache_hit), '') <> 'true'",
    prompt="filled(r.messages)",
    answer="filled(r.response)",
    missing="agents; cached and reasoning tokens in versions without `usage_object`",
)

_HELICONE_INPUT = first("r.prompt_tokens", "r.promptTokens")
_HELICONE_READ = first("r.prompt_cache_read_tokens", "r.promptCacheReadTokens")
_HELICONE_WRITE = first("r.prompt_cache_write_tokens", "r.promptCacheWriteTokens")
_HELICONE = LogFormat(
    name="helicone",
    title="Helicone export",
    needs=needs(
        "request_id request_created_at response_status",
        "request_id request_created_at prompt_tokens",
        "request_id request_created_at request_model",
    ),
    structure={
        "request_id": TEXT,
        "response_id": TEXT,
        "request_created_at": TEXT,
        "response_created_at": TEXT,
        "model": TEXT,
        "request_model": TEXT,
        "response_model": TEXT,
        "provider": TEXT,
        "prompt_tokens": NUMBER,
        "completion_tokens": NUMBER,
        "reasoning_tokens": NUMBER,
        "promptTokens": NUMBER,
        "prompt_cache_read_tokens": NUMBER,
        "prompt_cache_write_tokens": NUMBER,
        "promptCacheReadTokens": NUMBER,
        "promptCacheWriteTokens": NUMBER,
        "cost": NUMBER,
        "costUSD": NUMBER,
        "cost_usd": NUMBER,
        "request_user_id": TEXT,
        "user_id": TEXT,
        "response_status": NUMBER,
        "delay_ms": NUMBER,
        "cache_reference_id": TEXT,
        "request_properties": TREE,
        "properties": TREE,
        "request_body": TREE,
        "response_body": TREE,
    },
    relation="(SELECT *, tree(coalesce(r.request_properties, r.properties)) AS p FROM rows)",
    fields={
        **timed("r.request_created_at", "r.response_created_at"),
        "id": "r.request_id",
        "session": "p->>'$.\"Helicone-Session-Id\"'",
        "agent": "p->>'$.\"Helicone-Session-Path\"'",
        "model": first("r.response_model", "r.model", "r.request_model"),
        "provider": "lower(r.provider)",
        "input_tokens": f"CASE WHEN lower(r.provider) = 'anthropic' THEN "
        f"{plus(_HELICONE_INPUT, _HELICONE_READ, _HELICONE_WRITE)} "
        f"ELSE {whole_prompt(_HELICONE_INPUT, _HELICONE_READ, _HELICONE_WRITE)} END",
        "cache_read_tokens": _HELICONE_READ,
        "cache_write_tokens": _HELICONE_WRITE,
        "output_tokens": "r.completion_tokens",
        "reasoning_tokens": "r.reasoning_tokens",
        "stated_usd": first("r.costUSD", "r.cost_usd", "r.cost"),
        "key": first("r.request_user_id", "r.user_id"),
        "tags": "CASE WHEN p IS NOT NULL THEN [k || ':' || (p->>('$.\"' || k || '\"')) "
        "FOR k IN json_keys(p) IF NOT starts_with(k, 'Helicone-')] END",
        "error": "CASE WHEN r.response_status >= 400 THEN printf('%.0f', r.response_status) END",
        "latency_s": "r.delay_ms / 1000",
    },
    where="r.request_id IS NOT NULL AND coalesce(r.cache_reference_id, '') NOT SIMILAR TO "
    "'.*[1-9a-f].*'",  # of zeros alone, where no cache answered
    prompt="filled(tree(r.request_body)->'$.messages')",
    answer="filled(r.response_body)",
    missing="one-hour cache writes",
)

_WHOLE = "map_extract(u, 'input')[1] + map_extract(u, 'output')[1] = map_extract(u, 'total')[1]"
"""Some clients send the whole prompt as `input`, with the cached tokens in it and beside it."""

_USES = first("r.usageDetails", "r.usage_details", "r.usage")
_TRACE = first("r.traceId", "r.trace_id", "''")
_ABOVE = first("r.parentObservationId", "r.parent_observation_id")
_LANGFUSE = LogFormat(
    name="langfuse",
    title="Langfuse export of observations",
    needs=needs(
        "traceId startTime type usageDetails",
        "trace_id start_time type usage_details",
        "traceId startTime type usage",
        "traceId startTime type promptTokens",
        "traceId startTime calculatedTotalCost",
        "trace_id start_time provided_model_name",
        "traceId startTime level type",
    ),
    structure={
        **dict.fromkeys(
            (
                "id",
                "traceId",
                "trace_id",
                "parentObservationId",
                "parent_observation_id",
                "type",
                "startTime",
                "start_time",
                "endTime",
                "end_time",
                "model",
                "providedModelName",
                "provided_model_name",
                "sessionId",
                "session_id",
                "userId",
                "user_id",
                "level",
                "name",
                "environment",
            ),
            TEXT,
        ),
        **dict.fromkeys(
            (
                "usageDetails",
                "usage_details",
                "usage",
                "tags",
                "costDetails",
                "cost_details",
                "input",
                "output",
            ),
            TREE,
        ),
        **dict.fromkeys(
            ("calculatedTotalCost", "totalCost", "total_cost", "promptTokens", "completionTokens"),
            NUMBER,
        ),
    },
    relation=f"(SELECT *, try_cast(tree({_USES}) AS MAP(VARCHAR, DOUBLE)) AS u, "
    "tree(coalesce(r.costDetails, r.cost_details)) AS c FROM rows)",
    fields={
        **timed(first("r.startTime", "r.start_time"), first("r.endTime", "r.end_time")),
        "id": "r.id",
        "span": f"hash_of({_TRACE} || r.id)",
        "parent": f"hash_of({_TRACE} || {_ABOVE})",
        "session": first("r.sessionId", "r.session_id", "r.traceId", "r.trace_id"),
        "agent": "r.name",
        "model": first("r.model", "r.providedModelName", "r.provided_model_name"),
        "input_tokens": first(
            f"CASE WHEN {_WHOLE} THEN map_extract(u, 'input')[1] END",
            "share_of(u, '^(input|prompt|cache)')",
            "r.promptTokens",
        ),
        "cache_read_tokens": "share_of(u, '(cached|cache_read)')",
        "cache_write_tokens": "share_of(u, '(cache_creation|cache_write)')",
        "cache_write_1h_tokens": "share_of(u, 'ephemeral_1h|cache_creation_1h')",
        "output_tokens": first(
            f"CASE WHEN {_WHOLE} THEN map_extract(u, 'output')[1] END",
            "share_of(u, '^(output|completion|reasoning)')",
            "r.completionTokens",
        ),
        "reasoning_tokens": "share_of(u, 'reasoning')",
        "stated_usd": first(
            "r.calculatedTotalCost",
            "r.totalCost",
            "r.total_cost",
            "try_cast(c->>'$.total' AS DOUBLE)",
        ),
        "key": first("r.userId", "r.user_id"),
        "tags": first(
            "try_cast(tree(r.tags) AS VARCHAR[])",
            "CASE WHEN r.environment IS NOT NULL THEN ['env:' || r.environment] END",
        ),
        "error": "CASE WHEN r.level = 'ERROR' THEN 'error' END",
    },
    where="coalesce(r.type, 'GENERATION') NOT IN ('SPAN', 'EVENT', 'AGENT', 'TOOL', 'CHAIN', "
    "'RETRIEVER', 'GUARDRAIL', 'EVALUATOR') AND "
    "coalesce(r.model, r.providedModelName, r.provided_model_name) IS NOT NULL",
    prompt="filled(r.input)",
    answer="filled(r.output)",
    missing="sessions in the older export of observations (the trace stands in)",
)

_PHOENIX_KEYS = {
    "llm.token_count.prompt": NUMBER,
    "llm.token_count.completion": NUMBER,
    "llm.token_count.prompt_details.cache_read": NUMBER,
    "llm.token_count.prompt_details.cache_write": NUMBER,
    "llm.token_count.completion_details.reasoning": NUMBER,
    "llm.cost.total": NUMBER,
    "llm.model_name": TEXT,
    "llm.provider": TEXT,
    "session.id": TEXT,
    "user.id": TEXT,
    "input.value": TEXT,
    "output.value": TEXT,
}


def _phoenix(key: str) -> str:
    return first(f'r."attributes.{key}"', f'r.attributes."{key}"')


_PHOENIX_READ = _phoenix("llm.token_count.prompt_details.cache_read")
_PHOENIX_WRITE = _phoenix("llm.token_count.prompt_details.cache_write")
_SPAN = first('r."context.span_id"', "r.context.span_id")
_PHOENIX = LogFormat(
    name="phoenix",
    title="Phoenix spans (OpenInference)",
    needs=needs(
        "context.span_id attributes.llm.token_count.prompt",
        "context.span_id attributes.llm.model_name",
        "context.span_id span_kind start_time",
    ),
    structure={
        "context.span_id": TEXT,
        "context.trace_id": TEXT,
        "context": {"span_id": TEXT, "trace_id": TEXT},
        "parent_id": TEXT,
        "span_kind": TEXT,
        "name": TEXT,
        "start_time": TEXT,
        "end_time": TEXT,
        "status_code": TEXT,
        "attributes": _PHOENIX_KEYS,
        **{f"attributes.{key}": kind for key, kind in _PHOENIX_KEYS.items()},
    },
    fields={
        **timed("r.start_time", "r.end_time"),
        "id": _SPAN,
        "span": f"hash_of({_SPAN})",
        "parent": "hash_of(r.parent_id)",
        "session": first(_phoenix("session.id"), 'r."context.trace_id"', "r.context.trace_id"),
        "model": _phoenix("llm.model_name"),
        "provider": _phoenix("llm.provider"),
        "input_tokens": whole_prompt(
            _phoenix("llm.token_count.prompt"), _PHOENIX_READ, _PHOENIX_WRITE
        ),
        "cache_read_tokens": _PHOENIX_READ,
        "cache_write_tokens": _PHOENIX_WRITE,
        "output_tokens": _phoenix("llm.token_count.completion"),
        "reasoning_tokens": _phoenix("llm.token_count.completion_details.reasoning"),
        "stated_usd": _phoenix("llm.cost.total"),
        "key": _phoenix("user.id"),
        "error": "CASE WHEN r.status_code = 'ERROR' THEN 'error' END",
    },
    where="coalesce(r.span_kind, 'LLM') = 'LLM' AND "
    f"coalesce({_phoenix('llm.model_name')}, '') <> ''",
    prompt=_phoenix("input.value"),
    answer=_phoenix("output.value"),
    missing="one-hour cache writes, service tier",
)

GATEWAY_FORMATS = (_LITELLM, _HELICONE, _LANGFUSE, _PHOENIX)
