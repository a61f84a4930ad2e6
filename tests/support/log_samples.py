"""The same requests written by every tool whose logs are read: what each of them would export."""

import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

START = datetime(2026, 3, 2, 9, tzinfo=UTC)


class Call(Struct, frozen=True, kw_only=True):
    """One request as it truly was; `input` is the whole prompt."""

    id: str
    at: datetime
    session: str
    model: str
    input: int
    read: int
    write: int
    output: int
    reasoning: int
    usd: float
    key: str = "alice"
    seconds: float = 2.0
    prompt: str = "What is the capital of France?"
    answer: str = "Paris"

    @property
    def end(self) -> datetime:
        return self.at + timedelta(seconds=self.seconds)


# Dollars a million tokens as published: input, cache read, cache write, output.
PRICES = {
    "claude-opus-4-5": (5.0, 0.5, 6.25, 25.0),
    "claude-sonnet-4-5": (3.0, 0.3, 3.75, 15.0),
    "gpt-5": (1.25, 0.125, 1.25, 10.0),
    "gpt-5-mini": (0.25, 0.025, 0.25, 2.0),
}


def calls(
    models: Sequence[str] = ("claude-opus-4-5", "claude-sonnet-4-5"),
    *,
    sessions: int = 6,
    steps: int = 8,
    seed: int = 0,
) -> list[Call]:
    """Make sessions whose prompts grow, each with a whole invoice."""
    rng = np.random.default_rng(seed)
    made = []
    for session in range(sessions):
        at = START + timedelta(hours=session)
        prompt = before = 0
        model = models[session % len(models)]
        fresh, read, write, out = PRICES[model]
        for step in range(steps):
            grown = int(rng.integers(500, 4000))
            prompt = before + grown
            writes = grown - 20 if model.startswith("claude") else 0
            output = int(rng.integers(50, 1500))
            reasoning = 0 if model.startswith("claude") else output // 3
            tokens = (prompt - before - writes) * fresh + before * read + writes * write
            made.append(
                Call(
                    id=f"msg_{session}_{step}",
                    at=at,
                    session=f"s{session}",
                    model=model,
                    input=prompt,
                    read=before,
                    write=writes,
                    output=output,
                    reasoning=reasoning,
                    usd=(tokens + output * out) / 1e6,
                    key=("alice", "bob")[session % 2],
                )
            )
            before = prompt
            at += timedelta(seconds=float(rng.integers(5, 60)))
    return made


def invoice(made: Iterable[Call]) -> float:
    """What the provider bills, in dollars."""
    return sum(call.usd for call in made)


def stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def claude_code(made: Sequence[Call]) -> list[Any]:
    """Write each message as often as its blocks stream, with growing output."""
    rows: list[Any] = [{"type": "summary", "summary": "A talk", "leafUuid": "x"}]
    for call in made:
        base = {"sessionId": call.session, "timestamp": stamp(call.at), "cwd": "/home/a/shop"}
        rows.append(
            base
            | {
                "type": "user",
                "uuid": f"u{call.id}",
                "parentUuid": None,
                "message": {"role": "user", "content": call.prompt},
            }
        )
        for part in (0.1, 0.5, 1.0):
            usage = {
                "input_tokens": call.input - call.read - call.write,
                "cache_creation_input_tokens": call.write,
                "cache_read_input_tokens": call.read,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": call.write,
                    "ephemeral_1h_input_tokens": 0,
                },
                "output_tokens": int(call.output * part) if part < 1 else call.output,
                "service_tier": "standard",
            }
            rows.append(
                base
                | {
                    "type": "assistant",
                    "uuid": f"{call.id}-{part}",
                    "parentUuid": f"u{call.id}",
                    "isSidechain": False,
                    "requestId": f"req_{call.id}",
                    "message": {
                        "id": call.id,
                        "model": call.model,
                        "role": "assistant",
                        "content": [{"type": "text", "text": call.answer}],
                        "usage": usage,
                    },
                }
            )
    return rows


def codex(made: Sequence[Call]) -> list[Any]:
    """Write the events of one session: totals grow, and each is told twice."""
    rows: list[Any] = [
        {
            "timestamp": stamp(made[0].at - timedelta(seconds=2)),
            "type": "session_meta",
            "payload": {"id": made[0].session, "cwd": "/home/a/shop", "originator": "codex_cli_rs"},
        }
    ]
    total = dict.fromkeys(
        (
            "input_tokens",
            "cached_input_tokens",
            "output_tokens",
            "reasoning_output_tokens",
            "total_tokens",
        ),
        0,
    )
    for call in made:
        rows.append(
            {
                "timestamp": stamp(call.at - timedelta(seconds=1)),
                "type": "turn_context",
                "payload": {"model": call.model, "effort": "high", "cwd": "/home/a/shop"},
            }
        )
        last = {
            "input_tokens": call.input,
            "cached_input_tokens": call.read,
            "output_tokens": call.output,
            "reasoning_output_tokens": call.reasoning,
            "total_tokens": call.input + call.output,
        }
        total = {name: total[name] + last[name] for name in total}
        info = {"total_token_usage": total, "last_token_usage": last}
        rows.extend(
            {
                "timestamp": stamp(call.at + timedelta(milliseconds=late)),
                "type": "event_msg",
                "payload": {"type": "token_count", "rate_limits": {}, "info": told},
            }
            for late, told in ((0, info), (300, info), (900, None))
        )
    return rows


def litellm(made: Sequence[Call]) -> list[Any]:
    return [
        {
            "request_id": c.id,
            "call_type": "acompletion",
            "api_key": "hash",
            "spend": c.usd,
            "total_tokens": c.input + c.output,
            "prompt_tokens": c.input,
            "completion_tokens": c.output,
            "startTime": f"{c.at:%Y-%m-%d %H:%M:%S.%f}",
            "endTime": f"{c.end:%Y-%m-%d %H:%M:%S.%f}",
            "model": c.model,
            "custom_llm_provider": "anthropic" if c.model.startswith("claude") else "openai",
            "user": c.key,
            "session_id": c.session,
            "status": "success",
            "cache_hit": "False",
            "request_tags": ["prod"],
            "messages": [{"role": "user", "content": c.prompt}],
            "response": {"choices": [{"message": {"content": c.answer}}]},
            "metadata": {
                "user_api_key_alias": c.key,
                "usage_object": {
                    "prompt_tokens": c.input,
                    "completion_tokens": c.output,
                    "cache_read_input_tokens": c.read,
                    "cache_creation_input_tokens": c.write,
                    "completion_tokens_details": {"reasoning_tokens": c.reasoning},
                },
            },
        }
        for c in made
    ]


def langfuse(made: Sequence[Call]) -> list[Any]:
    rows: list[Any] = []
    for c in made:
        rows.append(
            {
                "id": f"span-{c.id}",
                "traceId": c.session,
                "type": "SPAN",
                "startTime": stamp(c.at),
                "name": "agent",
                "model": None,
                "level": "DEFAULT",
                "usageDetails": {},
            }
        )
        rows.append(
            {
                "id": c.id,
                "traceId": c.session,
                "type": "GENERATION",
                "name": "answer",
                "startTime": stamp(c.at),
                "endTime": stamp(c.end),
                "model": c.model,
                "sessionId": c.session,
                "userId": c.key,
                "level": "DEFAULT",
                "tags": ["prod"],
                "input": [{"role": "user", "content": c.prompt}],
                "output": c.answer,
                "usageDetails": {
                    "input": c.input - c.read - c.write,
                    "input_cached_tokens": c.read,
                    "cache_creation_input_tokens": c.write,
                    "output": c.output - c.reasoning,
                    "output_reasoning_tokens": c.reasoning,
                    "total": c.input + c.output,
                },
                "costDetails": {"total": c.usd},
            }
        )
    return rows


def _attributes(values: dict[str, Any]) -> list[Any]:
    return [
        {"key": key, "value": {"intValue": str(v)} if isinstance(v, int) else {"stringValue": v}}
        for key, v in values.items()
    ]


def otlp(made: Sequence[Call]) -> list[Any]:
    rows = []
    for at in range(0, len(made), 4):
        spans = []
        for number, c in enumerate(made[at : at + 4]):
            times = {
                "startTimeUnixNano": str(int(c.at.timestamp() * 1e9)),
                "endTimeUnixNano": str(int(c.end.timestamp() * 1e9)),
            }
            ids = {"traceId": f"{at:032x}", "spanId": f"{number:016x}"}
            tokens = {"gen_ai.usage.input_tokens": c.input, "gen_ai.usage.output_tokens": c.output}
            spans.append(
                ids
                | times
                | {
                    "name": "invoke_agent",
                    "attributes": _attributes(
                        {
                            "gen_ai.operation.name": "invoke_agent",
                            "gen_ai.request.model": c.model,
                            **tokens,
                        }
                    ),
                }
            )
            spans.append(
                ids
                | times
                | {
                    "name": "chat",
                    "status": {},
                    "attributes": _attributes(
                        {
                            "gen_ai.operation.name": "chat",
                            "gen_ai.request.model": c.model,
                            "gen_ai.provider.name": "anthropic"
                            if c.model.startswith("claude")
                            else "openai",
                            "gen_ai.response.id": c.id,
                            "gen_ai.conversation.id": c.session,
                            **tokens,
                            "gen_ai.usage.cache_read.input_tokens": c.read,
                            "gen_ai.usage.cache_creation.input_tokens": c.write,
                            "user.id": c.key,
                        }
                    ),
                }
            )
        resource = {"attributes": _attributes({"service.name": "shop"})}
        rows.append(
            {
                "resourceSpans": [
                    {"resource": resource, "scopeSpans": [{"scope": {}, "spans": spans}]}
                ]
            }
        )
    return rows


def openai_usage(made: Sequence[Call]) -> list[Any]:
    """Write a page of the usage report, one bucket a request."""
    return [
        {
            "object": "page",
            "has_more": False,
            "data": [
                {
                    "object": "bucket",
                    "start_time": int(c.at.timestamp()),
                    "end_time": int(c.end.timestamp()),
                    "results": [
                        {
                            "object": "organization.usage.completions.result",
                            "input_tokens": c.input,
                            "output_tokens": c.output,
                            "input_cached_tokens": c.read,
                            "num_model_requests": 1,
                            "project_id": "proj",
                            "user_id": None,
                            "api_key_id": c.key,
                            "model": c.model,
                            "batch": False,
                            "service_tier": "default",
                        }
                    ],
                }
                for c in made
            ],
        }
    ]


def anthropic_usage(made: Sequence[Call]) -> list[Any]:
    return [
        {
            "has_more": False,
            "next_page": None,
            "data": [
                {
                    "starting_at": stamp(c.at),
                    "ending_at": stamp(c.end),
                    "results": [
                        {
                            "uncached_input_tokens": c.input - c.read - c.write,
                            "cache_read_input_tokens": c.read,
                            "output_tokens": c.output,
                            "cache_creation": {
                                "ephemeral_1h_input_tokens": 0,
                                "ephemeral_5m_input_tokens": c.write,
                            },
                            "api_key_id": c.key,
                            "workspace_id": None,
                            "model": c.model,
                            "service_tier": "standard",
                        }
                    ],
                }
                for c in made
            ],
        }
    ]


def openai_batch(made: Sequence[Call]) -> list[Any]:
    return [
        {
            "id": f"batch_req_{c.id}",
            "custom_id": c.id,
            "error": None,
            "response": {
                "status_code": 200,
                "request_id": "r",
                "body": {
                    "id": f"chatcmpl-{c.id}",
                    "object": "chat.completion",
                    "created": int(c.at.timestamp()),
                    "model": c.model,
                    "service_tier": "default",
                    "choices": [{"message": {"content": c.answer}}],
                    "usage": {
                        "prompt_tokens": c.input,
                        "completion_tokens": c.output,
                        "total_tokens": c.input + c.output,
                        "prompt_tokens_details": {"cached_tokens": c.read},
                        "completion_tokens_details": {"reasoning_tokens": c.reasoning},
                    },
                },
            },
        }
        for c in made
    ]


def api_responses(made: Sequence[Call]) -> list[Any]:
    return [row["response"]["body"] for row in openai_batch(made)]


def helicone(made: Sequence[Call]) -> list[Any]:
    return [
        {
            "request_id": c.id,
            "request_created_at": stamp(c.at),
            "response_created_at": stamp(c.end),
            "request_model": c.model,
            "response_model": c.model,
            "provider": "ANTHROPIC" if c.model.startswith("claude") else "OPENAI",
            "prompt_tokens": c.input - (c.read + c.write if c.model.startswith("claude") else 0),
            "completion_tokens": c.output,
            "prompt_cache_read_tokens": c.read,
            "prompt_cache_write_tokens": c.write,
            "reasoning_tokens": c.reasoning,
            "response_status": 200,
            "delay_ms": 2000,
            "request_user_id": c.key,
            "cost": c.usd,
            "request_properties": {"Helicone-Session-Id": c.session, "app": "shop"},
            "request_body": {"messages": [{"role": "user", "content": c.prompt}]},
        }
        for c in made
    ]


def phoenix(made: Sequence[Call]) -> list[Any]:
    return [
        {
            "context.span_id": c.id,
            "context.trace_id": c.session,
            "span_kind": "LLM",
            "name": "llm",
            "start_time": stamp(c.at),
            "end_time": stamp(c.end),
            "status_code": "OK",
            "attributes.llm.model_name": c.model,
            "attributes.llm.token_count.prompt": c.input,
            "attributes.llm.token_count.completion": c.output,
            "attributes.llm.token_count.prompt_details.cache_read": c.read,
            "attributes.llm.token_count.prompt_details.cache_write": c.write,
            "attributes.session.id": c.session,
            "attributes.input.value": c.prompt,
            "attributes.output.value": c.answer,
        }
        for c in made
    ]


def plain(made: Sequence[Call]) -> list[Any]:
    return [
        {
            "request_id": c.id,
            "timestamp": stamp(c.at),
            "session_id": c.session,
            "model": c.model,
            "input_tokens": c.input,
            "cache_read_tokens": c.read,
            "cache_write_tokens": c.write,
            "output_tokens": c.output,
            "reasoning_tokens": c.reasoning,
            "cost_usd": c.usd,
            "user": c.key,
            "prompt": c.prompt,
            "answer": c.answer,
        }
        for c in made
    ]


OPENAI = ("gpt-5", "gpt-5-mini")
CLAUDE = ("claude-opus-4-5", "claude-sonnet-4-5")
Writer = Callable[[Sequence[Call]], list[Any]]
# What writes each format, and models of a provider that it knows.
WRITERS: dict[str, tuple[Writer, Sequence[str]]] = {
    "claude-code": (claude_code, CLAUDE),
    "codex": (codex, ("gpt-5",)),
    "litellm": (litellm, CLAUDE + OPENAI),
    "langfuse": (langfuse, CLAUDE + OPENAI),
    "otlp": (otlp, CLAUDE + OPENAI),
    "openai-usage": (openai_usage, OPENAI),
    "anthropic-usage": (anthropic_usage, CLAUDE),
    "api-responses": (api_responses, OPENAI),
    "helicone": (helicone, CLAUDE + OPENAI),
    "phoenix": (phoenix, CLAUDE + OPENAI),
    "plain": (plain, CLAUDE + OPENAI),
}


def write_log(path: Path, rows: Iterable[Any]) -> Path:
    """Write JSON lines, packed if the name says so."""
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
