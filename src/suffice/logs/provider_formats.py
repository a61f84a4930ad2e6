"""What providers hand out: usage and cost reports, batch files, and saved responses."""

from suffice.logs.format import NUMBER, TEXT, TREE, LogFormat, first, needs, plus
from suffice.logs.iterations import ITERATIONS, of_either, with_iterations

_BUCKETS = (
    "(SELECT file, d, unnest(d.results) AS x FROM (SELECT file, unnest(r.data) AS d FROM rows))"
)

_OPENAI_USAGE = LogFormat(
    name="openai-usage",
    title="OpenAI usage and cost reports",
    needs=needs("object data.start_time data.results", "object data.object data.start_time"),
    structure={
        "data": [
            {
                "start_time": TEXT,
                "results": [
                    {
                        "object": TEXT,
                        "input_tokens": NUMBER,
                        "output_tokens": NUMBER,
                        "input_cached_tokens": NUMBER,
                        "num_model_requests": NUMBER,
                        "project_id": TEXT,
                        "user_id": TEXT,
                        "api_key_id": TEXT,
                        "model": TEXT,
                        "batch": TEXT,
                        "service_tier": TEXT,
                        "line_item": TEXT,
                        "amount": {"value": NUMBER, "currency": TEXT},
                    }
                ],
            }
        ]
    },
    relation=_BUCKETS,
    fields={
        "time": "as_time(d.start_time)",
        "zoned": "true",
        "model": first("x.model", "trim(split_part(x.line_item, ',', 1))"),
        "provider": "'openai'",
        "requests": "coalesce(x.num_model_requests, 0)",
        "input_tokens": "x.input_tokens",
        "cache_read_tokens": "x.input_cached_tokens",
        "output_tokens": "x.output_tokens",
        "tier": "CASE WHEN x.batch = 'true' THEN 'batch' ELSE x.service_tier END",
        "stated_usd": "x.amount.value",
        "currency": "upper(x.amount.currency)",
        "key": first("x.api_key_id", "x.user_id", "x.project_id"),
        "tags": "CASE WHEN x.project_id IS NOT NULL THEN ['project:' || x.project_id] END",
    },
    where="x.input_tokens IS NOT NULL OR x.amount.value IS NOT NULL",
    nested=True,
    missing="single requests, sessions, reasoning tokens; models and keys unless grouped by them",
)

_ANTHROPIC_USAGE = LogFormat(
    name="anthropic-usage",
    title="Anthropic usage and cost reports",
    needs=needs("data.starting_at data.results"),
    structure={
        "data": [
            {
                "starting_at": TEXT,
                "results": [
                    {
                        "uncached_input_tokens": NUMBER,
                        "cache_read_input_tokens": NUMBER,
                        "cache_creation": {
                            "ephemeral_1h_input_tokens": NUMBER,
                            "ephemeral_5m_input_tokens": NUMBER,
                        },
                        "output_tokens": NUMBER,
                        "api_key_id": TEXT,
                        "workspace_id": TEXT,
                        "model": TEXT,
                        "service_tier": TEXT,
                        "context_window": TEXT,
                        "amount": NUMBER,
                        "currency": TEXT,
                    }
                ],
            }
        ]
    },
    relation=_BUCKETS,
    fields={
        "time": "as_time(d.starting_at)",
        "zoned": "has_zone(d.starting_at)",
        "model": "x.model",
        "provider": "'anthropic'",
        "requests": "0",
        "input_tokens": plus(
            "x.uncached_input_tokens",
            "x.cache_read_input_tokens",
            "x.cache_creation.ephemeral_1h_input_tokens",
            "x.cache_creation.ephemeral_5m_input_tokens",
        ),
        "cache_read_tokens": "x.cache_read_input_tokens",
        "cache_write_tokens": plus(
            "x.cache_creation.ephemeral_1h_input_tokens",
            "x.cache_creation.ephemeral_5m_input_tokens",
        ),
        "cache_write_1h_tokens": "x.cache_creation.ephemeral_1h_input_tokens",
        "output_tokens": "x.output_tokens",
        "tier": "x.service_tier",
        "long_context": "x.context_window = '200k-1M'",
        "stated_usd": "x.amount / 100",
        "currency": "x.currency",
        "key": first("x.api_key_id", "x.workspace_id"),
    },
    where="x.output_tokens IS NOT NULL OR x.amount IS NOT NULL",
    nested=True,
    missing="requests, sessions, reasoning tokens; models and keys unless grouped by them",
)

_USAGE = {
    **dict.fromkeys(
        (
            "prompt_tokens",
            "completion_tokens",
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "cost",
        ),
        NUMBER,
    ),
    "cache_creation": {"ephemeral_1h_input_tokens": NUMBER},
    "prompt_tokens_details": {"cached_tokens": NUMBER},
    "input_tokens_details": {"cached_tokens": NUMBER},
    "completion_tokens_details": {"reasoning_tokens": NUMBER},
    "output_tokens_details": {"reasoning_tokens": NUMBER},
    "service_tier": TEXT,
    "speed": TEXT,
    **ITERATIONS,
}
_BODY = {
    "id": TEXT,
    "model": TEXT,
    "created": TEXT,
    "created_at": TEXT,
    "service_tier": TEXT,
    "usage": _USAGE,
    "choices": TREE,
    "output": TREE,
    "content": TREE,
}
_READ = first(
    "b.usage.prompt_tokens_details.cached_tokens",
    "b.usage.input_tokens_details.cached_tokens",
    "b.usage.cache_read_input_tokens",
)
_RESPONSES = LogFormat(
    name="api-responses",
    title="OpenAI and Anthropic batch results, and saved API responses",
    needs=needs(
        "custom_id response.body.usage",
        "custom_id response.status_code error",
        "custom_id result.type",
        "id object model usage.completion_tokens",
        "id object model usage.output_tokens",
        "id type role model usage.output_tokens",
        "model usage.prompt_tokens usage.completion_tokens",
        "model usage.input_tokens usage.output_tokens",
    ),
    structure={
        "custom_id": TEXT,
        "response": {"status_code": NUMBER, "body": _BODY},
        "result": {"type": TEXT, "message": _BODY},
        "error": TREE,
        "timestamp": TEXT,
        **_BODY,
    },
    relation=with_iterations(
        """(SELECT *, CASE WHEN r.response.body.model IS NOT NULL THEN r.response.body
            WHEN r.result.message.model IS NOT NULL THEN r.result.message
            ELSE struct_pack(id := r.id, model := r.model,
                created := coalesce(r.created, r.timestamp),
                created_at := r.created_at, service_tier := r.service_tier, usage := r.usage,
                choices := r.choices, output := r.output, content := r.content) END AS b,
            r.custom_id IS NOT NULL AS batch
        FROM rows)""",
        "b.usage",
    ),
    fields=of_either(
        {
            "time": f"as_time({first('b.created', 'b.created_at')})",
            "zoned": "true",
            "id": first("b.id", "r.custom_id"),
            "model": "b.model",
            "provider": "CASE WHEN starts_with(b.id, 'msg_') THEN 'anthropic' END",
            "input_tokens": first(
                "b.usage.prompt_tokens",
                "CASE WHEN b.usage.cache_read_input_tokens IS NULL THEN b.usage.input_tokens "
                "ELSE b.usage.input_tokens + b.usage.cache_read_input_tokens "
                "+ coalesce(b.usage.cache_creation_input_tokens, 0) END",
            ),
            "cache_read_tokens": _READ,
            "cache_write_tokens": "b.usage.cache_creation_input_tokens",
            "cache_write_1h_tokens": "b.usage.cache_creation.ephemeral_1h_input_tokens",
            "output_tokens": first("b.usage.completion_tokens", "b.usage.output_tokens"),
            "reasoning_tokens": first(
                "b.usage.completion_tokens_details.reasoning_tokens",
                "b.usage.output_tokens_details.reasoning_tokens",
            ),
            "tier": "CASE WHEN batch THEN 'batch' ELSE coalesce("
            "nullif(b.usage.speed, 'standard'), b.service_tier, b.usage.service_tier) END",
            "stated_usd": "b.usage.cost",
            "error": "CASE WHEN r.response.status_code >= 400 "
            "THEN printf('%.0f', r.response.status_code) "
            "WHEN r.result.type IN ('errored', 'expired', 'canceled') THEN r.result.type END",
        }
    ),
    where="b.id IS NOT NULL OR r.custom_id IS NOT NULL OR b.usage.prompt_tokens IS NOT NULL "
    "OR b.usage.input_tokens IS NOT NULL",
    answer=first("filled(b.choices)", "filled(b.output)", "filled(b.content)"),
    missing="prompts (they stand in the batch's input file), sessions, keys; Anthropic: the time",
)

PROVIDER_FORMATS = (_OPENAI_USAGE, _ANTHROPIC_USAGE, _RESPONSES)
