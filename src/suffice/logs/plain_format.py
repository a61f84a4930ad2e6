"""Plain JSONL and CSV whose columns have names that say what they are."""

import re
from collections.abc import Iterable, Mapping

from suffice.config import nearest
from suffice.errors import InputError
from suffice.logs.format import (
    NUMBER,
    TEXT,
    TREE,
    LogFormat,
    first,
    plus,
    timed,
    whole_prompt,
)
from suffice.logs.record import LogRecord
from suffice.logs.sql import sql_name

_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "request_id", "response_id", "generation_id", "uuid"),
    "time": (
        "time",
        "timestamp",
        "created_at",
        "created",
        "start_time",
        "started_at",
        "date",
        "ts",
        "datetime",
        "request_time",
    ),
    "session": (
        "session",
        "session_id",
        "conversation",
        "conversation_id",
        "trace_id",
        "thread_id",
        "chat_id",
    ),
    "agent": ("agent", "agent_id", "agent_name", "subagent"),
    "model": ("model", "model_name", "model_id", "model_slug", "model_permaslug"),
    "provider": ("provider", "provider_name", "vendor"),
    "requests": ("requests", "num_requests", "num_model_requests", "api_requests", "calls"),
    "input_tokens": (
        "input_tokens",
        "prompt_tokens",
        "tokens_prompt",
        "tokens_in",
        "input",
        "inp",
        "prompt_token_count",
        "contexttokens",
    ),
    "cache_read_tokens": (
        "cache_read_tokens",
        "cached_tokens",
        "cache_read_input_tokens",
        "cached_input_tokens",
        "input_cached_tokens",
        "tokens_cached",
        "input_tokens_cached",
        "cache_read",
    ),
    "cache_write_tokens": (
        "cache_write_tokens",
        "cache_creation_input_tokens",
        "cache_creation_tokens",
        "cache_write",
    ),
    "cache_write_1h_tokens": ("cache_write_1h_tokens", "ephemeral_1h_input_tokens"),
    "output_tokens": (
        "output_tokens",
        "completion_tokens",
        "tokens_completion",
        "tokens_out",
        "output",
        "out",
        "generatedtokens",
    ),
    "reasoning_tokens": (
        "reasoning_tokens",
        "thinking_tokens",
        "tokens_reasoning",
        "reasoning_output_tokens",
    ),
    "prefix_tokens": ("prefix_tokens",),
    "pause_s": ("pause_s",),
    "tier": ("tier", "service_tier"),
    "effort": ("effort", "reasoning_effort"),
    "stated_usd": (
        "stated_usd",
        "cost_usd",
        "usd",
        "cost",
        "spend",
        "price_usd",
        "total_cost",
        "cost_total",
    ),
    "currency": ("currency",),
    "key": ("key", "api_key_name", "api_key_id", "user", "user_id", "team", "customer"),
    "tags": ("tags", "tag"),
    "error": ("error", "error_message", "error_type"),
    "latency_s": ("latency_s", "duration_s"),
}
_IN_MS = ("latency_ms", "duration_ms", "generation_time", "generation_time_ms")
_PROMPTS = ("prompt", "text", "messages", "question", "input_text")
_ANSWERS = ("answer", "response", "completion", "output_text")
_KINDS = {"tags": TREE}
_COUNTED = {name for name in _NAMES if name.endswith("_tokens")} | {
    "requests",
    "pause_s",
    "latency_s",
    "stated_usd",
}
_SUMS = ("total", "total:", "totals", "grand total", "grand total:", "subtotal", "sum")
_REQUEST = ("input_tokens", "output_tokens", "stated_usd", "error")
MAPPABLE = tuple(name for name in _NAMES if name in LogRecord.__struct_fields__)


def parse_columns(pairs: Iterable[str]) -> dict[str, str]:
    """Read `field=column` pairs; raises InputError for a field that no record has."""
    mapping = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not equals or not column:
            raise InputError(f"--column {pair}: no '='", hint="write it as input_tokens=prompt_len")
        if field not in MAPPABLE:
            raise InputError(f"--column {pair}: no field {field!r}", hint=nearest(field, MAPPABLE))
        mapping[field] = column
    return mapping


def plain_format(
    names: Iterable[str], mapping: Mapping[str, str], *, decimal_comma: bool = False
) -> LogFormat | None:
    """Make the format of a file with these columns; None where no column counts tokens.

    `mapping` gives the column of a field where its name does not say so.
    """
    by_lower = {re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"): name for name in names}
    taken = _taken(by_lower, mapping)
    if not {"input_tokens", "output_tokens", "stated_usd"} & taken.keys():
        return None
    columns = {name: f"r.{sql_name(column)}" for name, column in taken.items()}
    if decimal_comma:
        columns |= {
            name: f"from_comma({columns[name]}, {name.endswith('_tokens')})"
            for name in _COUNTED & columns.keys()
        }
    structure = {column: _KINDS.get(name, TEXT) for name, column in taken.items()}
    fields = {
        name: f"as_number({column})" if name in _COUNTED else column
        for name, column in columns.items()
    }
    if "time" in taken:
        fields |= timed(columns["time"])
    if "tags" in taken:
        column = columns["tags"]
        fields["tags"] = first(
            f"try_cast(tree({column}) AS VARCHAR[])", f"string_split({column}->>'$', ',')"
        )
    if "input_tokens" in taken:
        fields["input_tokens"] = _prompt(taken, fields)
    if "error" in taken:
        fields["error"] = f"nullif(nullif(nullif({columns['error']}, ''), 'false'), 'null')"
    in_ms = next((by_lower[name] for name in _IN_MS if name in by_lower), None)
    if "latency_s" not in taken and in_ms is not None:
        structure[in_ms] = NUMBER
        fields["latency_s"] = f"r.{sql_name(in_ms)} / 1000"
    known = [fields[name] for name in _REQUEST if name in fields]
    texts = _texts(by_lower, taken)
    return LogFormat(
        name="plain",
        title="Plain JSONL and CSV with named columns",
        needs=(),
        structure=structure | dict.fromkeys(texts.values(), TREE),
        fields=fields,
        where=" OR ".join(f"({field}) IS NOT NULL" for field in known),
        problem=_problem(columns),
        missing="whatever has no column",
        prompt=f"filled(r.{sql_name(texts['prompt'])})" if "prompt" in texts else "",
        answer=f"filled(r.{sql_name(texts['answer'])})" if "answer" in texts else "",
    )


def _taken(by_lower: Mapping[str, str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Choose the column of each field: the one that is named, or one whose name says so."""
    taken = {}
    for field, aliases in _NAMES.items():
        column = mapping.get(field) or next(
            (by_lower[alias] for alias in aliases if alias in by_lower), None
        )
        if column is not None and column in by_lower.values():
            taken[field] = column
    return taken


def _texts(by_lower: Mapping[str, str], taken: Mapping[str, str]) -> dict[str, str]:
    """Choose the columns of the prompt and of the answer, if there are any."""
    texts = {}
    for role, aliases in {"prompt": _PROMPTS, "answer": _ANSWERS}.items():
        column = next((by_lower[alias] for alias in aliases if alias in by_lower), None)
        if column is not None and column not in taken.values():
            texts[role] = column
    return texts


def _prompt(taken: Mapping[str, str], fields: Mapping[str, str]) -> str:
    """Write the whole prompt; Anthropic's names mean counts beside each other, not inside."""
    names = ("input_tokens", "cache_read_tokens", "cache_write_tokens")
    parts = [fields.get(name, "NULL") for name in names]
    if taken.get("cache_read_tokens", "").lower() == "cache_read_input_tokens":
        return plus(*parts)
    return whole_prompt(*parts)


def _problem(columns: Mapping[str, str]) -> str:
    """Say of a row that it sums up others, or that a count of it is no number."""
    labels = [columns[name] for name in ("time", "model", "id") if name in columns]
    sum_row = " OR ".join(f"lower({label}) IN {_SUMS}" for label in labels)
    counts = [column for name, column in columns.items() if name.endswith("_tokens")]
    no_count = " OR ".join(f"no_number({column})" for column in counts)
    return (
        f"CASE WHEN {sum_row or 'false'} THEN 'a sum of other rows' "
        f"WHEN {no_count or 'false'} THEN 'a count that is no number' END"
    )
