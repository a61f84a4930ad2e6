"""Exports of more observers and gateways: LangSmith, Braintrust, Portkey, Cloudflare."""

from suffice.logs.format import NUMBER, TEXT, LogFormat, first, needs, timed, whole_prompt

_META = "r.extra.metadata"
_LANGSMITH_READ = first(
    "r.prompt_token_details.cache_read", "r.usage_metadata.input_token_details.cache_read"
)
_LANGSMITH_WRITE = first(
    "r.prompt_token_details.cache_creation", "r.usage_metadata.input_token_details.cache_creation"
)
_LANGSMITH = LogFormat(
    name="langsmith",
    title="LangSmith runs",
    needs=needs("id trace_id run_type start_time"),
    structure={
        **dict.fromkeys(("id", "trace_id", "parent_run_id", "run_type", "name"), TEXT),
        **dict.fromkeys(("start_time", "end_time", "error", "status"), TEXT),
        **dict.fromkeys(("prompt_tokens", "completion_tokens", "total_cost"), NUMBER),
        "prompt_token_details": {"cache_read": NUMBER, "cache_creation": NUMBER},
        "completion_token_details": {"reasoning": NUMBER},
        "usage_metadata": {
            "input_token_details": {"cache_read": NUMBER, "cache_creation": NUMBER},
            "output_token_details": {"reasoning": NUMBER},
        },
        "extra": {
            "metadata": dict.fromkeys(
                (
                    *("ls_model_name", "ls_provider", "session_id"),
                    *("thread_id", "conversation_id", "user_id"),
                ),
                TEXT,
            ),
            "invocation_params": {"model": TEXT, "model_name": TEXT},
        },
    },
    fields={
        **timed("r.start_time", "r.end_time"),
        "id": "r.id",
        "span": "hash_of(r.id)",
        "parent": "hash_of(r.parent_run_id)",
        "session": first(
            *(f"{_META}.{name}" for name in ("session_id", "thread_id", "conversation_id")),
            "r.trace_id",
        ),
        "model": first(
            f"{_META}.ls_model_name",
            "r.extra.invocation_params.model",
            "r.extra.invocation_params.model_name",
        ),
        "provider": f"{_META}.ls_provider",
        "input_tokens": whole_prompt("r.prompt_tokens", _LANGSMITH_READ, _LANGSMITH_WRITE),
        "cache_read_tokens": _LANGSMITH_READ,
        "cache_write_tokens": _LANGSMITH_WRITE,
        "output_tokens": "r.completion_tokens",
        "reasoning_tokens": first(
            "r.completion_token_details.reasoning",
            "r.usage_metadata.output_token_details.reasoning",
        ),
        "stated_usd": "r.total_cost",
        "key": f"{_META}.user_id",
        "error": "CASE WHEN r.status = 'error' OR r.error <> '' THEN 'error' END",
    },
    where="r.run_type = 'llm'",
    missing="one-hour cache writes, agents, service tier",
)

_BRAINTRUST_READ, _BRAINTRUST_WRITE = (
    f"r.metrics.{name}" for name in ("prompt_cached_tokens", "prompt_cache_creation_tokens")
)
_BRAINTRUST = LogFormat(
    name="braintrust",
    title="Braintrust spans",
    needs=needs("span_id root_span_id span_attributes.type metrics"),
    structure={
        **dict.fromkeys(("id", "span_id", "root_span_id", "created", "error"), TEXT),
        "span_parents": [TEXT],
        "span_attributes": {"type": TEXT, "name": TEXT},
        "metadata": {"model": TEXT},
        "metrics": dict.fromkeys(
            (
                *("start", "end", "prompt_tokens", "completion_tokens", "estimated_cost"),
                *("prompt_cached_tokens", "prompt_cache_creation_tokens"),
                "completion_reasoning_tokens",
            ),
            NUMBER,
        ),
    },
    fields={
        "time": first("as_time(r.metrics.start::VARCHAR)", "as_time(r.created)"),
        "zoned": "r.metrics.start IS NOT NULL OR has_zone(r.created)",
        "latency_s": 'r.metrics."end" - r.metrics.start',
        "id": "r.span_id",
        "span": "hash_of(r.span_id)",
        "parent": "hash_of(r.span_parents[1])",
        "session": "r.root_span_id",
        "agent": "r.span_attributes.name",
        "model": "r.metadata.model",
        "input_tokens": whole_prompt(
            "r.metrics.prompt_tokens", _BRAINTRUST_READ, _BRAINTRUST_WRITE
        ),
        "cache_read_tokens": _BRAINTRUST_READ,
        "cache_write_tokens": _BRAINTRUST_WRITE,
        "output_tokens": "r.metrics.completion_tokens",
        "reasoning_tokens": "r.metrics.completion_reasoning_tokens",
        "stated_usd": "r.metrics.estimated_cost",
        "error": "CASE WHEN r.error <> '' AND r.error <> 'null' THEN 'error' END",
    },
    where="r.span_attributes.type = 'llm'",
    missing="sessions (the trace stands in), keys, one-hour cache writes, service tier",
)

_PORTKEY = LogFormat(
    name="portkey",
    title="Portkey log exports",
    needs=needs("ai_model req_units res_units created_at"),
    structure={
        **dict.fromkeys(("id", "trace_id", "created_at", "ai_org", "ai_model"), TEXT),
        "cache_status": TEXT,
        **dict.fromkeys(
            ("req_units", "res_units", "response_time", "response_status_code"), NUMBER
        ),
    },
    fields={
        **timed("r.created_at"),
        "id": "r.id",
        "session": "r.trace_id",
        "model": "r.ai_model",
        "provider": "r.ai_org",
        "input_tokens": "r.req_units",
        "output_tokens": "r.res_units",
        "latency_s": "r.response_time / 1000",
        "error": "CASE WHEN r.response_status_code >= 400 "
        "THEN printf('%.0f', r.response_status_code) END",
    },
    where="r.ai_model IS NOT NULL AND coalesce(upper(r.cache_status), '') NOT LIKE '%HIT%'",
    missing="cached and reasoning tokens; its cost, whose unit the export does not name",
)

_CLOUDFLARE = LogFormat(
    name="cloudflare",
    title="Cloudflare AI Gateway logs",
    needs=needs("id provider model tokens_in tokens_out cached created_at"),
    structure={
        **dict.fromkeys(("id", "created_at", "provider", "model", "cached", "success"), TEXT),
        **dict.fromkeys(("tokens_in", "tokens_out", "cost", "duration", "status_code"), NUMBER),
    },
    fields={
        **timed("r.created_at"),
        "id": "r.id",
        "model": "r.model",
        "provider": "r.provider",
        "input_tokens": "r.tokens_in",
        "output_tokens": "r.tokens_out",
        "stated_usd": "r.cost",
        "latency_s": "r.duration / 1000",
        "error": "CASE WHEN lower(r.success) = 'false' THEN 'error' END",
    },
    where="coalesce(lower(r.cached), '') <> 'true'",
    missing="sessions, keys, cached and reasoning tokens",
)

OBSERVER_FORMATS = (_LANGSMITH, _BRAINTRUST, _PORTKEY, _CLOUDFLARE)
