"""Where engines report their counts: every name and place, and what stands there."""

from collections import Counter

from suffice.types import JSON

Place = tuple[str, ...]

_MOST_TOKENS = 10**9  # of one call; more is a mistake, and would cost more than the books can hold

_LITELLM_WRITES = ("prompt_tokens_details", "cache_creation_token_details")
# Every place where an engine reports a count; where several do, the largest one holds.
PLACES: dict[str, tuple[Place, ...]] = {
    "input_tokens": (
        ("prompt_tokens",),  # OpenAI, and most
        ("input_tokens",),  # Anthropic, OpenAI Responses, mlx-vlm
        ("prompt_token_count",),
        ("promptTokenCount",),  # Gemini
        ("promptTokens",),
        ("inputTokens",),  # Bedrock
        ("prompt_eval_count",),  # Ollama
        ("billed_units", "input_tokens"),  # Cohere
    ),
    "output_tokens": (
        ("completion_tokens",),
        ("output_tokens",),
        ("candidates_token_count",),
        ("candidatesTokenCount",),
        ("completionTokens",),
        ("outputTokens",),
        ("eval_count",),
        ("billed_units", "output_tokens"),
    ),
    "total_tokens": (
        ("total_tokens",),
        ("total_token_count",),
        ("totalTokenCount",),
        ("totalTokens",),
    ),
    "cache_miss_tokens": (("prompt_cache_miss_tokens",),),  # DeepSeek
    "tool_use_prompt_tokens": (  # beside Gemini's prompt
        ("tool_use_prompt_token_count",),
        ("toolUsePromptTokenCount",),
    ),
    "cache_read_tokens": (
        ("prompt_tokens_details", "cached_tokens"),
        ("input_tokens_details", "cached_tokens"),
        ("prompt_cache_hit_tokens",),  # DeepSeek
        ("cached_tokens",),  # Moonshot
        ("cache_read_input_tokens",),  # Anthropic
        ("cached_content_token_count",),
        ("cachedContentTokenCount",),
        ("cacheReadInputTokens",),
        ("num_cached_tokens",),  # Mistral
        ("prompt_token_details", "cached_tokens"),
    ),
    "cache_write_tokens": (
        ("prompt_tokens_details", "cache_write_tokens"),  # OpenRouter
        ("input_tokens_details", "cache_write_tokens"),
        ("prompt_tokens_details", "created_cache_tokens"),
        ("prompt_tokens_details", "cache_creation_tokens"),  # LiteLLM
        ("prompt_tokens_details", "cache_creation_input_tokens"),  # DashScope
        ("cache_creation_input_tokens",),  # Anthropic
        ("cacheWriteInputTokens",),
    ),
    "reasoning_tokens": (
        ("completion_tokens_details", "reasoning_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
        ("output_tokens_details", "thinking_tokens"),  # Anthropic
        ("reasoning_tokens",),  # SGLang
        ("thoughts_token_count",),
        ("thoughtsTokenCount",),  # Gemini
    ),
    "cache_write_5m_tokens": (
        ("cache_creation", "ephemeral_5m_input_tokens"),
        ("prompt_tokens_details", "cache_creation", "ephemeral_5m_input_tokens"),  # DashScope
        (*_LITELLM_WRITES, "ephemeral_5m_input_tokens"),
        ("cacheDetails", "5m"),  # Bedrock
    ),
    "cache_write_1h_tokens": (
        ("cache_creation", "ephemeral_1h_input_tokens"),
        ("prompt_tokens_details", "cache_creation", "ephemeral_1h_input_tokens"),  # DashScope
        (*_LITELLM_WRITES, "ephemeral_1h_input_tokens"),
        ("cacheDetails", "1h"),
    ),
    "input_audio_tokens": (
        ("prompt_tokens_details", "audio_tokens"),
        ("input_tokens_details", "audio_tokens"),
        ("promptTokensDetails", "audio"),  # Gemini
        ("prompt_tokens_details", "audio"),
    ),
    "input_image_tokens": (
        ("prompt_tokens_details", "image_tokens"),
        ("input_tokens_details", "image_tokens"),
        ("promptTokensDetails", "image"),  # Gemini
        ("prompt_tokens_details", "image"),
    ),
    "input_video_tokens": (
        ("prompt_tokens_details", "video_tokens"),
        ("input_tokens_details", "video_tokens"),
        ("promptTokensDetails", "video"),  # Gemini
        ("prompt_tokens_details", "video"),
    ),
    "cache_audio_read_tokens": (
        ("prompt_tokens_details", "cached_tokens_details", "audio_tokens"),
        ("input_tokens_details", "cached_tokens_details", "audio_tokens"),
        ("prompt_tokens_details", "cached_audio_tokens"),
        ("cacheTokensDetails", "audio"),
        ("cache_tokens_details", "audio"),
    ),
    "cache_image_read_tokens": (
        ("prompt_tokens_details", "cached_tokens_details", "image_tokens"),
        ("input_tokens_details", "cached_tokens_details", "image_tokens"),
        ("cacheTokensDetails", "image"),
        ("cache_tokens_details", "image"),
    ),
    "output_audio_tokens": (
        ("completion_tokens_details", "audio_tokens"),
        ("output_tokens_details", "audio_tokens"),
        ("candidatesTokensDetails", "audio"),
        ("candidates_tokens_details", "audio"),
    ),
    "output_image_tokens": (
        ("completion_tokens_details", "image_tokens"),
        ("output_tokens_details", "image_tokens"),
        ("candidatesTokensDetails", "image"),
        ("candidates_tokens_details", "image"),
    ),
    "output_video_tokens": (("completion_tokens_details", "video_tokens"),),
    "output_citation_tokens": (("citation_tokens",),),  # Perplexity
    "input_audio_seconds": (("prompt_audio_seconds",),),  # Mistral
    "search_sources": (("num_sources_used",),),  # xAI
    "web_searches": (
        ("server_tool_use", "web_search_requests"),  # Anthropic, OpenRouter
        ("prompt_tokens_details", "web_search_requests"),  # LiteLLM, of Gemini
        ("server_side_tool_usage_details", "web_search_calls"),  # xAI
        ("num_search_queries",),  # Perplexity
        ("plugins", "search", "count"),  # Qwen
    ),
    "social_searches": (("server_side_tool_usage_details", "x_search_calls"),),
    "storage_searches": (("server_side_tool_usage_details", "file_search_calls"),),
    "code_executions": (
        ("server_tool_use", "code_execution_requests"),
        ("server_side_tool_usage_details", "code_interpreter_calls"),
    ),
}
_COUNTS_OF_A_KIND = ("tokenCount", "token_count", "inputTokens")
_NAMES = {place: name for name, places in PLACES.items() for place in places}


def read_counts(table: JSON) -> dict[str, int]:
    """Read every count that there is, by our name for it."""
    counts: dict[str, int] = {}
    tables: list[tuple[Place, JSON]] = [((), table)]
    for at, inner in tables:
        for field, told in inner.items():
            value = _by_kind(told) if isinstance(told, list) else told
            if isinstance(value, dict) and len(at) < 2:
                tables.append(((*at, field), value))
                continue
            name = _NAMES.get((*at, field))
            count = None if name is None else _count(value)
            if name is not None and count is not None:
                counts[name] = max(count, counts.get(name, 0))
    return counts


def beside_message(table: JSON) -> Counter[str]:
    """Sum the calls that `usage.iterations` of Anthropic lists and the message's counts leave out.

    A compaction is one of the same model. An advisor is another model, so its tokens are kinds of
    their own, which no price of the rung covers.
    """
    sums: Counter[str] = Counter()
    calls = table.get("iterations")
    for call in calls if isinstance(calls, list) else ():
        kind = call.get("type") if isinstance(call, dict) else None
        if kind == "compaction":
            sums.update(read_counts(call))
        elif kind == "advisor_message":
            counts = read_counts(call)
            caches = counts.get("cache_read_tokens", 0) + (cache_writes(counts) or 0)
            sums["advisor_input_tokens"] += counts.get("input_tokens", 0) + caches
            sums["advisor_output_tokens"] += counts.get("output_tokens", 0)
    return sums


def _count(value: object) -> int | None:
    """Read a count: a whole number, also written as 20.0 or as text."""
    if type(value) is int and 0 <= value <= _MOST_TOKENS:  # nearly always
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_TOKENS:
        return None
    return value


def cache_writes(counts: dict[str, int]) -> int | None:
    """Return all cache writes, which some report by lifetime alone."""
    by_lifetime = [
        counts[name]
        for name in ("cache_write_5m_tokens", "cache_write_1h_tokens")
        if name in counts
    ]
    whole = counts.get("cache_write_tokens")
    return max(whole or 0, sum(by_lifetime)) if by_lifetime else whole


def _by_kind(items: list[object]) -> JSON:
    """Read a list of counts, each with its modality (Gemini) or its lifetime (Bedrock)."""
    table: JSON = {}
    for item in items:
        if isinstance(item, dict):
            kind = str(item.get("modality") or item.get("ttl")).lower()
            counts = (_count(item.get(name)) for name in _COUNTS_OF_A_KIND)
            table[kind] = table.get(kind, 0) + max((c for c in counts if c), default=0)
    return table
