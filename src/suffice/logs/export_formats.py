"""What clouds and consoles export: invocation logs, saved responses, tables of usage and cost."""

from suffice.logs.format import (
    NUMBER,
    TEXT,
    TREE,
    LogFormat,
    Structure,
    first,
    needs,
    plus,
    timed,
    whole_prompt,
)
from suffice.logs.session_formats import USAGE_METADATA, google_counts

_BEDROCK_BODY: Structure = {
    "usage": dict.fromkeys(
        (
            *("cacheReadInputTokens", "cacheWriteInputTokens"),
            *("cache_read_input_tokens", "cache_creation_input_tokens"),
        ),
        NUMBER,
    )
}
_BEDROCK_READ = first(
    "r.input.cacheReadInputTokenCount",
    "r.output.outputBodyJson.usage.cacheReadInputTokens",
    "r.output.outputBodyJson.usage.cache_read_input_tokens",
)
_BEDROCK_WRITE = first(
    "r.input.cacheWriteInputTokenCount",
    "r.output.outputBodyJson.usage.cacheWriteInputTokens",
    "r.output.outputBodyJson.usage.cache_creation_input_tokens",
)
_BEDROCK = LogFormat(
    name="bedrock",
    title="Amazon Bedrock invocation logs",
    needs=needs("schemaType requestId modelId operation"),
    structure={
        **dict.fromkeys(("timestamp", "requestId", "modelId", "errorCode"), TEXT),
        "identity": {"arn": TEXT},
        "requestMetadata": TREE,
        "input": dict.fromkeys(
            ("inputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount"), NUMBER
        ),
        "output": {"outputTokenCount": NUMBER, "outputBodyJson": _BEDROCK_BODY},
    },
    fields={
        **timed("r.timestamp"),
        "id": "r.requestId",
        "model": "regexp_extract(r.modelId, '[^/]+$')",
        "provider": "'aws'",
        "input_tokens": plus("r.input.inputTokenCount", _BEDROCK_READ, _BEDROCK_WRITE),
        "cache_read_tokens": _BEDROCK_READ,
        "cache_write_tokens": _BEDROCK_WRITE,
        "output_tokens": "r.output.outputTokenCount",
        "key": "regexp_extract(r.identity.arn, '[^/:]+$')",
        "tags": "CASE WHEN filled(r.requestMetadata) IS NOT NULL THEN "
        "[k || ':' || (r.requestMetadata->>('$.\"' || k || '\"')) "
        "FOR k IN json_keys(r.requestMetadata)] END",
        "error": "r.errorCode",
    },
    missing="sessions, latency, reasoning tokens, cost, one-hour cache writes",
)

_GEMINI_BODY: Structure = {
    **dict.fromkeys(("responseId", "modelVersion", "createTime"), TEXT),
    "usageMetadata": USAGE_METADATA,
    "candidates": TREE,
}
_GEMINI = LogFormat(
    name="gemini-responses",
    title="Gemini and Vertex AI responses, saved or from batches",
    needs=needs(
        "candidates usageMetadata.promptTokenCount", "response.usageMetadata.promptTokenCount"
    ),
    structure={
        **_GEMINI_BODY,
        "key": TEXT,
        "processed_time": TEXT,
        "response": _GEMINI_BODY,
        "error": TREE,
    },
    relation=f"""(SELECT *, CASE WHEN r.response.usageMetadata IS NOT NULL THEN r.response
        ELSE struct_pack({", ".join(f"{name} := r.{name}" for name in _GEMINI_BODY)}) END AS b,
        r.response IS NOT NULL AND (r.key IS NOT NULL OR r.processed_time IS NOT NULL) AS batch
        FROM rows)""",
    fields={
        **timed(first("b.createTime", "r.processed_time")),
        "id": first("b.responseId", "r.key"),
        "model": "b.modelVersion",
        "provider": "'google'",
        **google_counts("b.usageMetadata"),
        "tier": "CASE WHEN batch THEN 'batch' END",
        "error": "CASE WHEN filled(r.error) IS NOT NULL THEN 'error' END",
    },
    where="b.usageMetadata.promptTokenCount IS NOT NULL OR filled(r.error) IS NOT NULL",
    answer="filled(b.candidates)",
    missing="prompts, sessions, keys, cost; the time of some responses",
)

_OPENAI_USAGE_TABLE = LogFormat(
    name="openai-usage",
    title="OpenAI usage exports (CSV)",
    needs=needs("start_time_iso num_model_requests input_tokens output_tokens"),
    structure={
        **dict.fromkeys(("start_time", "project_id", "user_id", "api_key_id", "model"), TEXT),
        **dict.fromkeys(("batch", "service_tier"), TEXT),
        **dict.fromkeys(
            ("num_model_requests", "input_tokens", "output_tokens", "input_cached_tokens"), NUMBER
        ),
    },
    fields={
        "time": "as_time(r.start_time)",
        "zoned": "true",
        "model": "nullif(r.model, '')",
        "provider": "'openai'",
        "requests": "coalesce(r.num_model_requests, 0)",
        "input_tokens": "r.input_tokens",
        "cache_read_tokens": "r.input_cached_tokens",
        "output_tokens": "r.output_tokens",
        "tier": "CASE WHEN lower(r.batch) = 'true' THEN 'batch' "
        "ELSE nullif(r.service_tier, '') END",
        "key": first(*(f"nullif(r.{n}, '')" for n in ("api_key_id", "user_id", "project_id"))),
        "tags": "CASE WHEN r.project_id <> '' THEN ['project:' || r.project_id] END",
    },
    where="r.input_tokens IS NOT NULL",
    missing="single requests, sessions, reasoning tokens, cost",
)
_OPENAI_COST_TABLE = LogFormat(
    name="openai-usage",
    title="OpenAI cost exports (CSV)",
    needs=needs("start_time_iso amount_value line_item"),
    structure={
        **dict.fromkeys(("start_time", "line_item", "project_id", "amount_currency"), TEXT),
        "amount_value": NUMBER,
    },
    fields={
        "time": "as_time(r.start_time)",
        "zoned": "true",
        "model": "trim(split_part(r.line_item, ',', 1))",
        "provider": "'openai'",
        "requests": "0",
        "stated_usd": "r.amount_value",
        "currency": "upper(r.amount_currency)",
        "key": "nullif(r.project_id, '')",
        "tags": "CASE WHEN r.project_id <> '' THEN ['project:' || r.project_id] END",
    },
    where="r.amount_value IS NOT NULL",
    missing="requests, tokens",
)

_UTC_DAY = "as_time(r.usage_date_utc || 'T00:00:00Z')"
_CLAUDE_INPUT = "r.usage_input_tokens_"
_ANTHROPIC_USAGE_TABLE = LogFormat(
    name="anthropic-usage",
    title="Claude Console usage exports (CSV)",
    needs=needs("usage_date_utc usage_input_tokens_no_cache usage_output_tokens"),
    structure={
        **dict.fromkeys(("usage_date_utc", "model_version", "api_key", "usage_type"), TEXT),
        "context_window": TEXT,
        **dict.fromkeys(
            (
                *("usage_input_tokens_no_cache", "usage_input_tokens_cache_read"),
                *("usage_input_tokens_cache_write_5m", "usage_input_tokens_cache_write_1h"),
                "usage_output_tokens",
            ),
            NUMBER,
        ),
    },
    fields={
        "time": _UTC_DAY,
        "zoned": "true",
        "model": "r.model_version",
        "provider": "'anthropic'",
        "requests": "0",
        "input_tokens": plus(
            *(
                _CLAUDE_INPUT + name
                for name in ("no_cache", "cache_write_5m", "cache_write_1h", "cache_read")
            )
        ),
        "cache_read_tokens": f"{_CLAUDE_INPUT}cache_read",
        "cache_write_tokens": plus(
            f"{_CLAUDE_INPUT}cache_write_5m", f"{_CLAUDE_INPUT}cache_write_1h"
        ),
        "cache_write_1h_tokens": f"{_CLAUDE_INPUT}cache_write_1h",
        "output_tokens": "r.usage_output_tokens",
        "tier": "nullif(r.usage_type, 'standard')",
        "long_context": "starts_with(r.context_window, '>')",
        "key": "nullif(r.api_key, '')",
    },
    where="r.usage_output_tokens IS NOT NULL",
    missing="requests, sessions, reasoning tokens, cost",
)
_ANTHROPIC_COST_TABLE = LogFormat(
    name="anthropic-usage",
    title="Claude Console cost exports (CSV)",
    needs=needs("usage_date_utc token_type cost_usd"),
    structure={
        **dict.fromkeys(("usage_date_utc", "model", "api_key", "usage_type"), TEXT),
        "cost_usd": NUMBER,
    },
    fields={
        "time": _UTC_DAY,
        "zoned": "true",
        "model": "nullif(r.model, '')",
        "provider": "'anthropic'",
        "requests": "0",
        "stated_usd": "r.cost_usd",
        "key": "nullif(r.api_key, '')",
    },
    where="r.cost_usd IS NOT NULL",
    missing="requests, tokens",
)

_LITELLM_DAILY = LogFormat(
    name="litellm-daily",
    title="LiteLLM daily spend",
    needs=needs("date api_requests spend prompt_tokens custom_llm_provider"),
    structure={
        **dict.fromkeys(("date", "api_key", "user_id", "model", "custom_llm_provider"), TEXT),
        **dict.fromkeys(
            (
                *("prompt_tokens", "completion_tokens", "spend", "api_requests"),
                *("cache_read_input_tokens", "cache_creation_input_tokens"),
            ),
            NUMBER,
        ),
    },
    fields={
        "time": "as_time(r.date || 'T00:00:00Z')",
        "zoned": "true",
        "model": "r.model",
        "provider": "r.custom_llm_provider",
        "requests": "r.api_requests",
        "input_tokens": whole_prompt(
            "r.prompt_tokens", "r.cache_read_input_tokens", "r.cache_creation_input_tokens"
        ),
        "cache_read_tokens": "r.cache_read_input_tokens",
        "cache_write_tokens": "r.cache_creation_input_tokens",
        "output_tokens": "r.completion_tokens",
        "stated_usd": "r.spend",
        "key": first("nullif(r.user_id, '')", "nullif(r.api_key, '')"),
    },
    where="r.api_requests IS NOT NULL",
    missing="single requests, sessions, reasoning tokens, errors",
)

_CURSOR_INPUT = ("Input (w/ Cache Write)", "Input (w/o Cache Write)", "Cache Read")
_WRITTEN, _PLAIN, _CACHED = (f'r."{name}"' for name in _CURSOR_INPUT)
_CURSOR = LogFormat(
    name="cursor",
    title="Cursor usage exports (CSV)",
    needs=(frozenset({"Date", "Model", "Output Tokens", *_CURSOR_INPUT}),),
    structure={
        **dict.fromkeys(("Date", "User", "Model", "Cost", "Kind"), TEXT),
        **dict.fromkeys((*_CURSOR_INPUT, "Output Tokens"), NUMBER),
    },
    fields={
        **timed("r.Date"),
        "model": "nullif(r.Model, 'auto')",
        "input_tokens": plus(_WRITTEN, _PLAIN, _CACHED),
        "cache_read_tokens": _CACHED,
        "cache_write_tokens": _WRITTEN,
        "output_tokens": 'r."Output Tokens"',
        "stated_usd": "try_cast(replace(r.Cost, '$', '') AS DOUBLE)",
        "key": 'r."User"',
        "tags": "CASE WHEN r.Kind <> '' THEN ['kind:' || r.Kind] END",
        "error": "CASE WHEN lower(r.Kind) LIKE '%errored%' THEN 'error' END",
    },
    where='r."Output Tokens" IS NOT NULL',
    missing="sessions, reasoning tokens, latency; dollars of what a plan includes",
)

EXPORT_FORMATS = (
    _BEDROCK,
    _GEMINI,
    _OPENAI_USAGE_TABLE,
    _OPENAI_COST_TABLE,
    _ANTHROPIC_USAGE_TABLE,
    _ANTHROPIC_COST_TABLE,
    _LITELLM_DAILY,
    _CURSOR,
)
