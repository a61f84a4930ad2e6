"""OpenTelemetry GenAI spans as OTLP files hold them, and the events that coding agents export."""

from suffice.logs.format import TEXT, LogFormat, first, needs, plus, whole_prompt
from suffice.logs.session_formats import with_thoughts

_ATTRIBUTES = [
    {
        "key": TEXT,
        "value": {
            "stringValue": TEXT,
            "intValue": TEXT,
            "doubleValue": TEXT,
            "boolValue": TEXT,
        },
    }
]
_VALUES = (
    "[coalesce(a.value.stringValue, a.value.intValue, a.value.doubleValue, a.value.boolValue) "
    "FOR a IN {}]"
)
_NAMES = "[a.key FOR a IN {}]"
# Operations whose spans sum up the calls below them, or call no model.
_NO_CALLS = "('invoke_agent', 'create_agent', 'agent_step', 'execute_tool', 'invoke_workflow')"


def _text(*keys: str) -> str:
    return first(*(f"v[list_position(k, '{key}')]" for key in keys), "NULL")


def _number(*keys: str) -> str:
    return f"try_cast({_text(*keys)} AS DOUBLE)"


_READ = _number(
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.details.cache_read_tokens",  # Pydantic AI before 2026-04
    "gen_ai.usage.input_tokens.cached",  # Sentry
    "ai.usage.cachedInputTokens",  # Vercel's AI SDK
    "llm.token_count.prompt_details.cache_read",
)
_WRITE = _number(
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.details.cache_write_tokens",
    "gen_ai.usage.cache_write_input_tokens",  # Strands
    "gen_ai.usage.input_tokens.cache_write",
    "llm.token_count.prompt_details.cache_write",
)
_MODEL = _text("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
_SPANS = LogFormat(
    name="otlp",
    title="OpenTelemetry GenAI spans (OTLP JSON and protobuf)",
    needs=needs("resourceSpans"),
    structure={
        "resourceSpans": [
            {
                "resource": {"attributes": _ATTRIBUTES},
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": TEXT,
                                "spanId": TEXT,
                                "parentSpanId": TEXT,
                                "startTimeUnixNano": TEXT,
                                "endTimeUnixNano": TEXT,
                                "status": {"code": TEXT, "message": TEXT},
                                "attributes": _ATTRIBUTES,
                            }
                        ]
                    }
                ],
            }
        ]
    },
    relation=f"""(
        SELECT file, s, {_NAMES.format("s.attributes")} AS k, {_VALUES.format("s.attributes")} AS v,
            {_NAMES.format("resource")} AS rk, {_VALUES.format("resource")} AS rv
        FROM (
            SELECT file, unnest(scope.spans) AS s, resource FROM (
                SELECT file, unnest(one.scopeSpans) AS scope, one.resource.attributes AS resource
                FROM (SELECT file, unnest(r.resourceSpans) AS one FROM rows)
            )
        )
    )""",
    fields={
        "time": "as_time(s.startTimeUnixNano)",
        "zoned": "true",
        "latency_s": "(try_cast(s.endTimeUnixNano AS HUGEINT)"
        " - try_cast(s.startTimeUnixNano AS HUGEINT)) / 1e9",
        "id": first(_text("gen_ai.response.id"), "s.traceId || '/' || s.spanId"),
        "span": "hash_of(s.traceId || '/' || s.spanId)",
        "parent": "hash_of(s.traceId || '/' || nullif(s.parentSpanId, ''))",
        "session": first(_text("gen_ai.conversation.id", "session.id"), "s.traceId"),
        "agent": _text("gen_ai.agent.id", "gen_ai.agent.name"),
        "model": _MODEL,
        "provider": _text("gen_ai.provider.name", "gen_ai.system", "llm.provider"),
        "input_tokens": whole_prompt(
            _number(
                "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"
            ),
            _READ,
            _WRITE,
        ),
        "cache_read_tokens": _READ,
        "cache_write_tokens": _WRITE,
        "output_tokens": _number(
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.completion_tokens",
            "llm.token_count.completion",
        ),
        "reasoning_tokens": _number(
            "gen_ai.usage.reasoning.output_tokens",
            "gen_ai.usage.reasoning_tokens",
            "gen_ai.usage.details.reasoning_tokens",
            "gen_ai.usage.output_tokens.reasoning",
            "ai.usage.reasoningTokens",
            "llm.token_count.completion_details.reasoning",
        ),
        "tier": _text("openai.response.service_tier", "gen_ai.openai.response.service_tier"),
        "effort": _text("gen_ai.request.reasoning.level", "gen_ai.request.reasoning_effort"),
        "stated_usd": _number("gen_ai.usage.cost", "llm.cost.total"),
        "key": first(_text("user.id", "enduser.id"), "NULL"),
        "tags": "CASE WHEN list_contains(rk, 'service.name') "
        "THEN ['service:' || rv[list_position(rk, 'service.name')]] END",
        "error": first(
            _text("error.type"),
            "CASE WHEN s.status.code IN ('2', 'STATUS_CODE_ERROR') THEN 'error' END",
        ),
    },
    where=f"coalesce({_text('gen_ai.operation.name')}, 'chat') NOT IN {_NO_CALLS} "
    f"AND coalesce({_text('openinference.span.kind')}, 'LLM') = 'LLM' AND {_MODEL} IS NOT NULL",
    prompt=_text("gen_ai.input.messages", "gen_ai.prompt", "input.value"),
    answer=_text("gen_ai.output.messages", "gen_ai.completion", "output.value"),
    nested=True,
    missing="one-hour cache writes, where the instrumentation says nothing of them",
)

_ERROR = "'error'"
_EVENT = first(_text("event.name"), "s.eventName", "s.body.stringValue")
_DETAILS = "gen_ai.client.inference.operation.details"
_SPAN_ID = "CASE WHEN s.spanId <> '' THEN s.traceId || '/' || s.spanId END"
_ASKED = _text("model", "gen_ai.response.model", "gen_ai.request.model")
_EVENTS = LogFormat(
    name="otlp-logs",
    title="OpenTelemetry GenAI events, and those of Claude Code, Codex, Gemini CLI, Qwen Code",
    needs=needs("resourceLogs"),
    structure={
        "resourceLogs": [
            {
                "scopeLogs": [
                    {
                        "logRecords": [
                            {
                                "timeUnixNano": TEXT,
                                "observedTimeUnixNano": TEXT,
                                "eventName": TEXT,
                                "traceId": TEXT,
                                "spanId": TEXT,
                                "body": {"stringValue": TEXT},
                                "attributes": _ATTRIBUTES,
                            }
                        ]
                    }
                ]
            }
        ]
    },
    relation=f"""(
        SELECT file, s, {_NAMES.format("s.attributes")} AS k, {_VALUES.format("s.attributes")} AS v
        FROM (
            SELECT file, unnest(scope.logRecords) AS s FROM (
                SELECT file, unnest(one.scopeLogs) AS scope
                FROM (SELECT file, unnest(r.resourceLogs) AS one FROM rows)
            )
        )
    )""",
    fields={
        "time": first(
            "as_time(nullif(s.timeUnixNano, '0'))",
            f"as_time({_text('event.timestamp')})",
            "as_time(s.observedTimeUnixNano)",
        ),
        "zoned": "true",
        "id": f"CASE WHEN {_EVENT} = '{_DETAILS}' "
        f"THEN {first(_text('gen_ai.response.id'), _SPAN_ID)} ELSE {_text('request_id')} END",
        "session": _text("session.id", "conversation.id", "gen_ai.conversation.id"),
        "model": _ASKED,
        "provider": "CASE WHEN " + _text("model") + " LIKE 'claude%' THEN 'anthropic' END",
        "input_tokens": first(
            _number("input_token_count"),
            whole_prompt(_number("gen_ai.usage.input_tokens"), _READ, _WRITE),
            plus(*map(_number, ("input_tokens", "cache_read_tokens", "cache_creation_tokens"))),
        ),
        "cache_read_tokens": first(
            _number("cache_read_tokens", "cached_token_count", "cached_content_token_count"), _READ
        ),
        "cache_write_tokens": first(_number("cache_creation_tokens"), _WRITE),
        "output_tokens": first(
            _number("output_tokens", "gen_ai.usage.output_tokens"),
            with_thoughts(
                _number("output_token_count"),
                _number("thoughts_token_count"),
                prompt=_number("input_token_count"),
                total=_number("total_token_count"),
            ),
        ),
        "reasoning_tokens": _number(
            "reasoning_token_count", "thoughts_token_count", "gen_ai.usage.reasoning.output_tokens"
        ),
        "stated_usd": _number("cost_usd"),
        "key": _text("user.email", "user.id"),
        "effort": _text("effort"),
        "error": f"CASE WHEN {_EVENT} LIKE '%api_error' "
        f"THEN {first(_text('status_code', 'http.response.status_code'), _ERROR)} END",
        "latency_s": f"{_number('duration_ms')} / 1000",
        "ended": f"CASE WHEN {_EVENT} NOT LIKE '%api_error' THEN true END",
    },
    where=f"({_EVENT} SIMILAR TO '.*(api_request|api_response|api_error)' "
    f"OR {_text('event.kind')} = 'response.completed' OR {_EVENT} = '{_DETAILS}') "
    f"AND {_ASKED} IS NOT NULL",
    nested=True,
    missing="reasoning tokens of Claude Code, one-hour cache writes",
)

OTLP_FORMATS = (_SPANS, _EVENTS)
