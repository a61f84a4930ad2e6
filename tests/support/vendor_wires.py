"""What vendors' servers send, in their own form: written by hand after their documentation.

One scene is one answer; `usage_at` says where a stream tells the usage: in an event `alone`, in the
`last_choice`'s event, `in_choice` (within the choice itself), or in `every` event, growing.
"""

from typing import Any

JSON = dict[str, Any]

_FIELDS = """
    frequency_penalty logprobs max_completion_tokens max_tokens messages model n parallel_tool_calls
    presence_penalty reasoning_effort response_format seed stop stream stream_options temperature
    tool_choice tools top_logprobs top_p user
"""
_KNOWN = frozenset(_FIELDS.split())
_PIECES = ("The ans", "wer is", " 4.")
_THOUGHT = "Twice two is four."
_ARGUMENTS = '{"city": "Paris"}'


def recorded(vendor: str) -> JSON:
    """Return the wire of a vendor: its envelope, its fields and its scenes."""
    wire = _WIRES[vendor]
    head = {"id": "chatcmpl-1", "created": 1_795_430_000, "model": "m", **wire.get("head", {})}
    scenes = {
        "plain": _answer(wire, thought=False),
        "reasoning": _answer(wire, thought=True),
        "tools": _tools(wire),
    }
    return {
        "envelope": head,
        "fields": [] if wire.get("lenient") else sorted(_fields(wire)),
        "usage_at": wire.get("usage_at", "alone"),
        "before": wire.get("before", ""),
        "scenes": scenes,
    }


def _fields(wire: JSON) -> frozenset[str]:
    """Return the fields that the server takes; what else comes is refused."""
    return frozenset((_KNOWN | wire.get("more", frozenset())) - wire.get("less", frozenset()))


def _answer(wire: JSON, *, thought: bool) -> JSON:
    field = wire.get("reasoning")
    told = {field: _THOUGHT} if thought and field else {}
    begun = [{"role": "assistant", "content": ""}]
    thoughts = [{"content": None, field: piece} for piece in ("Twice two ", "is four.")]
    pieces = [{"content": piece, **wire.get("beside", {})} for piece in _PIECES]
    return {
        "message": {"role": "assistant", "content": "".join(_PIECES), **told},
        "deltas": begun + (thoughts if told else []) + pieces,
        "finish_reason": wire.get("finish", "stop"),
        "usage": wire["usage"](20, 7, 9 if thought else 0),
    }


def _tools(wire: JSON) -> JSON:
    function = {"name": "get_weather", "arguments": _ARGUMENTS}
    call = {"id": wire.get("call_id", "call_1"), "type": "function", "function": function}
    call |= wire.get("beside_call", {})
    parts = [{"index": 0, **call}]
    if not wire.get("calls_whole"):
        later = {"id": wire["later_id"]} if "later_id" in wire else {}
        parts = [{"index": 0, **call, "function": {"name": "get_weather", "arguments": ""}}]
        parts += [
            {"index": 0, **later, "function": {"arguments": piece}}
            for piece in ('{"city": ', '"Paris"}')
        ]
    return {
        "message": {"role": "assistant", "content": None, "tool_calls": [call]},
        "deltas": [{"role": "assistant", "tool_calls": [part]} for part in parts],
        "finish_reason": "tool_calls",
        "usage": wire["usage"](60, 18, 0),
    }


def _openai(prompt: int, answer: int, thought: int) -> JSON:
    written = answer + thought
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": 16},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def _bare(prompt: int, answer: int, thought: int) -> JSON:
    written = answer + thought
    counts = {"prompt_tokens": prompt, "completion_tokens": written}
    return {**counts, "total_tokens": prompt + written}


def _deepseek(prompt: int, answer: int, thought: int) -> JSON:
    cache = {"prompt_cache_hit_tokens": 16, "prompt_cache_miss_tokens": prompt - 16}
    return _openai(prompt, answer, thought) | cache


def _glm(prompt: int, answer: int, thought: int) -> JSON:
    details = {"completion_tokens_details": {"reasoning_tokens": thought}}
    return {
        **_bare(prompt, answer, thought),
        "prompt_tokens_details": {"cached_tokens": 0},
    } | details


def _kimi(prompt: int, answer: int, thought: int) -> JSON:
    return {**_bare(prompt, answer, thought), "cached_tokens": 16}


def _gemini(prompt: int, answer: int, thought: int) -> JSON:
    counts = {"prompt_tokens": prompt, "completion_tokens": answer}
    return {**counts, "total_tokens": prompt + answer + thought}


def _openrouter(prompt: int, answer: int, thought: int) -> JSON:
    return _openai(prompt, answer, thought) | {"cost": 0.00078, "is_byok": False}


_SIGNED = {"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}
_SAFE = {"hate": {"filtered": False, "severity": "safe"}}

_WIRES: dict[str, JSON] = {
    # learn.microsoft.com/azure/foundry/openai: a first event without choices, filters in each
    "azure": {
        "usage": _openai,
        "less": frozenset({"max_tokens"}),
        "before": {"choices": [], "prompt_filter_results": [{"content_filter_results": _SAFE}]},
    },
    # api-docs.deepseek.com/api/create-chat-completion
    "deepseek": {
        "usage": _deepseek,
        "reasoning": "reasoning_content",
        "more": frozenset({"thinking"}),
        "less": frozenset({"max_completion_tokens"}),
        "usage_at": "last_choice",
        "before": ": keep-alive",
    },
    # docs.z.ai/api-reference/llm/chat-completion
    "glm": {
        "usage": _glm,
        "reasoning": "reasoning_content",
        "more": frozenset({"thinking", "do_sample", "tool_stream", "request_id", "user_id"}),
        "less": frozenset({"max_completion_tokens", "frequency_penalty", "presence_penalty"})
        | {"stream_options"},
        "usage_at": "last_choice",
        "calls_whole": True,
    },
    # platform.moonshot.ai/docs/api/chat
    "kimi": {
        "usage": _kimi,
        "reasoning": "reasoning_content",
        "more": frozenset({"thinking", "partial", "prompt_cache_key", "safety_identifier"}),
        "less": frozenset({"max_tokens", "reasoning_effort"}),
        "usage_at": "in_choice",
        "call_id": "get_weather:0",
    },
    # alibabacloud.com/help/en/model-studio/qwen-api-via-openai-chat-completions
    "qwen": {
        "usage": _openai,
        "reasoning": "reasoning_content",
        "more": frozenset({"enable_thinking", "thinking_budget", "top_k", "enable_search"})
        | {"repetition_penalty"},
        "less": frozenset({"max_completion_tokens", "reasoning_effort"}),
        "later_id": "",
    },
    # ai.google.dev/gemini-api/docs/openai
    "gemini": {
        "usage": _gemini,
        "more": frozenset({"extra_body"}),
        "less": frozenset({"max_completion_tokens"}),
        "usage_at": "every",
        "calls_whole": True,
        "call_id": "function-call-1",
        "beside_call": _SIGNED,
    },
    # openrouter.ai/docs/api-reference/overview
    "openrouter": {
        "usage": _openrouter,
        "reasoning": "reasoning",
        "more": frozenset({"reasoning", "provider", "models", "route", "usage", "top_k", "min_p"})
        | {"include_reasoning", "repetition_penalty", "transforms"},
        "less": frozenset({"max_completion_tokens", "reasoning_effort"}),
        "head": {"provider": "OpenAI"},
        "before": ": OPENROUTER PROCESSING",
    },
    # ollama/ollama openai/openai.go @0098875
    "ollama": {
        "usage": _bare,
        "reasoning": "reasoning",
        "more": frozenset({"reasoning"}),
        "less": frozenset({"max_completion_tokens"}),
        "lenient": True,
        "head": {"system_fingerprint": "fp_ollama"},
        "calls_whole": True,
        "call_id": "call_hk81qg8b",
    },
    # lmstudio.ai/docs/developer/openai-compat
    "lmstudio": {
        "usage": _bare,
        "reasoning": "reasoning_content",
        "less": frozenset({"max_completion_tokens"}),
        "lenient": True,
        "call_id": "365174485",
    },
}
VENDORS = tuple(_WIRES)
