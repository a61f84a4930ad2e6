"""The requests of `log_samples`, as more agents, clouds and observers write them down."""

from collections.abc import Callable, Sequence
from typing import Any

from log_samples import CLAUDE, OPENAI, Call, stamp


def _fresh(call: Call) -> int:
    return call.input - call.read - call.write


def _ms(call: Call) -> int:
    return int(call.at.timestamp() * 1000)


def opencode(made: Sequence[Call]) -> list[Any]:
    """Messages of both sides; what is reasoned is beside the output."""
    rows: list[Any] = []
    for call in made:
        rows.append({"id": f"u{call.id}", "sessionID": call.session, "role": "user"})
        rows.append(
            {
                "id": call.id,
                "sessionID": call.session,
                "role": "assistant",
                "modelID": call.model,
                "providerID": "anthropic" if call.model in CLAUDE else "openai",
                "agent": "build",
                "time": {"created": _ms(call), "completed": _ms(call) + 2000},
                "cost": call.usd,
                "tokens": {
                    "input": _fresh(call),
                    "output": call.output - call.reasoning,
                    "reasoning": call.reasoning,
                    "cache": {"read": call.read, "write": call.write},
                },
            }
        )
    return rows


def _google(call: Call) -> dict[str, int]:
    return {
        "promptTokenCount": call.input,
        "candidatesTokenCount": call.output - call.reasoning,
        "thoughtsTokenCount": call.reasoning,
        "cachedContentTokenCount": call.read,
        "totalTokenCount": call.input + call.output,
    }


def qwen_code(made: Sequence[Call]) -> list[Any]:
    rows: list[Any] = []
    for call in made:
        base = {"sessionId": call.session, "timestamp": stamp(call.at), "cwd": "/home/a/shop"}
        rows.append(base | {"uuid": f"u{call.id}", "parentUuid": None, "type": "user"})
        rows.append(
            base
            | {
                "uuid": call.id,
                "parentUuid": f"u{call.id}",
                "type": "assistant",
                "model": call.model,
                "usageMetadata": _google(call),
            }
        )
    return rows


def gemini_cli(made: Sequence[Call]) -> list[Any]:
    """One document for each session; results of tools are a part of the prompt, counted apart."""
    sessions: dict[str, list[Any]] = {}
    for call in made:
        sessions.setdefault(call.session, []).append(
            {
                "id": call.id,
                "timestamp": stamp(call.at),
                "type": "gemini",
                "model": call.model,
                "tokens": {
                    "input": call.input - 5,
                    "output": call.output - call.reasoning,
                    "cached": call.read,
                    "thoughts": call.reasoning,
                    "tool": 5,
                    "total": call.input + call.output,
                },
            }
        )
    return [
        {"sessionId": name, "projectHash": "x", "messages": [{"type": "user"}, *messages]}
        for name, messages in sessions.items()
    ]


def gemini_responses(made: Sequence[Call]) -> list[Any]:
    return [
        {
            "candidates": [{"content": {"parts": [{"text": "x"}]}}],
            "usageMetadata": _google(call),
            "modelVersion": call.model,
            "responseId": call.id,
            "createTime": stamp(call.at),
        }
        for call in made
    ]


def pi(made: Sequence[Call]) -> list[Any]:
    session = {"type": "session", "version": 3, "id": made[0].session}
    messages = [
        {
            "type": "message",
            "id": call.id[-2:],
            "timestamp": stamp(call.at),
            "message": {
                "role": "assistant",
                "provider": "anthropic",
                "model": call.model,
                "usage": {
                    "input": _fresh(call),
                    "output": call.output,
                    "cacheRead": call.read,
                    "cacheWrite": call.write,
                    "cost": {"total": call.usd},
                },
            },
        }
        for call in made
    ]
    return [session | {"timestamp": stamp(made[0].at)}, *messages]


def bedrock(made: Sequence[Call]) -> list[Any]:
    return [
        {
            "schemaType": "ModelInvocationLog",
            "schemaVersion": "1.0",
            "timestamp": stamp(call.at),
            "requestId": call.id,
            "operation": "Converse",
            "modelId": f"arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.{call.model}",
            "identity": {"arn": "arn:aws:sts::1:assumed-role/App/alice"},
            "input": {
                "inputTokenCount": _fresh(call),
                "cacheReadInputTokenCount": call.read,
                "cacheWriteInputTokenCount": call.write,
            },
            "output": {"outputTokenCount": call.output},
        }
        for call in made
    ]


def litellm_callback(made: Sequence[Call]) -> list[Any]:
    """The standard payload of its logging callbacks."""
    return [
        {
            "id": call.id,
            "trace_id": call.session,
            "call_type": "acompletion",
            "status": "success",
            "response_cost": call.usd,
            "prompt_tokens": call.input,
            "completion_tokens": call.output,
            "startTime": call.at.timestamp(),
            "endTime": call.end.timestamp(),
            "model": call.model,
            "custom_llm_provider": "anthropic",
            "cache_hit": False,
            "metadata": {
                "user_api_key_alias": call.key,
                "usage_object": {
                    "prompt_tokens_details": {"cached_tokens": call.read},
                    "cache_creation_input_tokens": call.write,
                },
            },
        }
        for call in made
    ]


def langsmith(made: Sequence[Call]) -> list[Any]:
    """A chain around each call sums it up."""
    rows: list[Any] = []
    for call in made:
        base = {
            "trace_id": call.session,
            "start_time": stamp(call.at),
            "end_time": stamp(call.end),
            "prompt_tokens": call.input,
            "completion_tokens": call.output,
            "total_cost": call.usd,
        }
        rows.append(base | {"id": f"c{call.id}", "run_type": "chain"})
        rows.append(
            base
            | {
                "id": call.id,
                "parent_run_id": f"c{call.id}",
                "run_type": "llm",
                "prompt_token_details": {"cache_read": call.read, "cache_creation": call.write},
                "extra": {"metadata": {"ls_model_name": call.model, "user_id": call.key}},
            }
        )
    return rows


def braintrust(made: Sequence[Call]) -> list[Any]:
    rows: list[Any] = []
    for call in made:
        times = {"start": call.at.timestamp(), "end": call.end.timestamp()}
        base = {"root_span_id": call.session, "created": stamp(call.at)}
        rows.append(
            base
            | {
                "span_id": f"t{call.id}",
                "span_attributes": {"type": "task", "name": "answer"},
                "metrics": times,
            }
        )
        rows.append(
            base
            | {
                "span_id": call.id,
                "span_parents": [f"t{call.id}"],
                "span_attributes": {"type": "llm", "name": "chat"},
                "metadata": {"model": call.model},
                "metrics": times
                | {
                    "prompt_tokens": call.input,
                    "completion_tokens": call.output,
                    "prompt_cached_tokens": call.read,
                    "prompt_cache_creation_tokens": call.write,
                    "estimated_cost": call.usd,
                },
            }
        )
    return rows


Writer = Callable[[Sequence[Call]], list[Any]]
# The format that each is read as, what writes it, models of a provider, and how many sessions.
EXPORTS: dict[str, tuple[str, Writer, Sequence[str], int]] = {
    "opencode": ("opencode", opencode, CLAUDE + OPENAI, 4),
    "gemini-cli": ("gemini-cli", gemini_cli, OPENAI, 4),
    "qwen-code": ("qwen-code", qwen_code, OPENAI, 4),
    "pi": ("pi", pi, CLAUDE, 1),
    "bedrock": ("bedrock", bedrock, CLAUDE, 4),
    "gemini-responses": ("gemini-responses", gemini_responses, OPENAI, 4),
    "litellm-callback": ("litellm", litellm_callback, CLAUDE + OPENAI, 4),
    "langsmith": ("langsmith", langsmith, CLAUDE + OPENAI, 4),
    "braintrust": ("braintrust", braintrust, CLAUDE + OPENAI, 4),
}
