"""Session files of more coding agents: OpenCode, Gemini CLI, Qwen Code and pi."""

from collections.abc import Mapping

from suffice.logs.format import NUMBER, TEXT, TREE, LogFormat, Structure, needs, plus, timed

USAGE_METADATA: Structure = dict.fromkeys(
    (
        "promptTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
        "totalTokenCount",
        "cachedContentTokenCount",
        "toolUsePromptTokenCount",
    ),
    NUMBER,
)


def with_thoughts(output: str, thoughts: str, *, prompt: str, total: str) -> str:
    """Write the whole output where a log counts thoughts beside it, or as its total says, in it."""
    return (
        f"CASE WHEN {total} = coalesce({prompt}, 0) + {output} THEN {output} "
        f"ELSE {plus(output, thoughts)} END"
    )


def google_counts(usage: str) -> Mapping[str, str]:
    """Write the fields of Google's counts: results of tools are a part of the prompt."""
    prompt = plus(f"{usage}.promptTokenCount", f"{usage}.toolUsePromptTokenCount")
    return {
        "input_tokens": prompt,
        "cache_read_tokens": f"{usage}.cachedContentTokenCount",
        "output_tokens": with_thoughts(
            f"{usage}.candidatesTokenCount",
            f"{usage}.thoughtsTokenCount",
            prompt=prompt,
            total=f"{usage}.totalTokenCount",
        ),
        "reasoning_tokens": f"{usage}.thoughtsTokenCount",
    }


def unfold(rows: str, own: Structure, *, more: str = "") -> str:
    """Write the relation of documents that hold rows in a list, and of rows that lie alone."""
    packed = ", ".join(f"{name} := r.{name}" for name in own)
    return (
        f"(SELECT file, {more}unnest(CASE WHEN {rows} IS NOT NULL THEN {rows} "
        f"ELSE [struct_pack({packed})] END) AS m FROM rows)"
    )


_OPENCODE_MESSAGE: Structure = {
    **dict.fromkeys(("id", "sessionID", "role", "modelID", "providerID", "agent", "mode"), TEXT),
    "time": {"created": TEXT, "completed": TEXT},
    "cost": NUMBER,
    "tokens": {
        **dict.fromkeys(("input", "output", "reasoning", "total"), NUMBER),
        "cache": {"read": NUMBER, "write": NUMBER},
    },
    "error": TREE,
    "path": {"root": TEXT},
}
_READ, _WRITE = "m.tokens.cache.read", "m.tokens.cache.write"
_OPENCODE_PROMPT = plus("m.tokens.input", _READ, _WRITE)
_OPENCODE = LogFormat(
    name="opencode",
    title="OpenCode messages, exported sessions and its database",
    needs=needs(
        "sessionID role modelID tokens.input",
        "id sessionID role time.created",
        "id sessionID messageID type",
        "id projectID directory title",
        "messages.info.sessionID messages.info.role messages.info.tokens",
    ),
    structure={**_OPENCODE_MESSAGE, "messages": [{"info": _OPENCODE_MESSAGE}]},
    relation=unfold("[x.info FOR x IN r.messages]", _OPENCODE_MESSAGE),
    fields={
        **timed("m.time.created", "m.time.completed"),
        "zoned": "true",
        "id": "m.id",
        "session": "m.sessionID",
        "agent": "CASE WHEN coalesce(m.agent, m.mode, 'build') IN ('build', 'plan') THEN 'main' "
        "ELSE coalesce(m.agent, m.mode) END",
        "model": "m.modelID",
        "provider": "m.providerID",
        "input_tokens": _OPENCODE_PROMPT,
        "cache_read_tokens": _READ,
        "cache_write_tokens": _WRITE,
        "output_tokens": with_thoughts(
            "m.tokens.output",
            "m.tokens.reasoning",
            prompt=_OPENCODE_PROMPT,
            total="m.tokens.total",
        ),
        "reasoning_tokens": "m.tokens.reasoning",
        "stated_usd": "nullif(m.cost, 0)",  # 0 is a model without a price, or a subscription
        "tags": "CASE WHEN m.path.root IS NOT NULL "
        "THEN ['project:' || parse_filename(m.path.root)] END",
        "error": "CASE WHEN filled(m.error) IS NOT NULL "
        "THEN coalesce(m.error->>'$.name', 'error') END",
    },
    where="m.role = 'assistant' AND m.tokens.input IS NOT NULL",
    nested=True,
    missing="one-hour cache writes, errors that were retried",
)

_GEMINI_MESSAGE: Structure = {
    **dict.fromkeys(("id", "timestamp", "type", "model"), TEXT),
    "tokens": dict.fromkeys(("input", "output", "cached", "thoughts", "tool", "total"), NUMBER),
}
_GEMINI_PROMPT = plus("m.tokens.input", "m.tokens.tool")
_GEMINI_CLI = LogFormat(
    name="gemini-cli",
    title="Gemini CLI session files",
    needs=needs(
        "sessionId projectHash messages.type", "id timestamp type tokens.cached tokens.thoughts"
    ),
    structure={"sessionId": TEXT, **_GEMINI_MESSAGE, "messages": [_GEMINI_MESSAGE]},
    relation=unfold(
        "r.messages",
        _GEMINI_MESSAGE,
        more="coalesce(r.sessionId, max(r.sessionId) OVER (PARTITION BY file)) AS session, ",
    ),
    fields={
        **timed("m.timestamp"),
        "id": "m.id",
        "session": "session",
        "agent": "'main'",
        "model": "m.model",
        "provider": "'google'",
        "input_tokens": _GEMINI_PROMPT,
        "cache_read_tokens": "m.tokens.cached",
        "output_tokens": with_thoughts(
            "m.tokens.output", "m.tokens.thoughts", prompt=_GEMINI_PROMPT, total="m.tokens.total"
        ),
        "reasoning_tokens": "m.tokens.thoughts",
    },
    where="m.type = 'gemini' AND m.tokens.input IS NOT NULL",
    nested=True,
    missing="latency, cost, errors",
)

_QWEN_CODE = LogFormat(
    name="qwen-code",
    title="Qwen Code session files",
    needs=needs("sessionId uuid type usageMetadata.promptTokenCount"),
    structure={
        **dict.fromkeys(("uuid", "sessionId", "timestamp", "type", "cwd", "model"), TEXT),
        "usageMetadata": USAGE_METADATA,
    },
    fields={
        **timed("r.timestamp"),
        "id": "r.uuid",
        "session": "r.sessionId",
        "agent": "'main'",
        "model": "r.model",
        **google_counts("r.usageMetadata"),
        "tags": "CASE WHEN r.cwd IS NOT NULL THEN ['project:' || parse_filename(r.cwd)] END",
    },
    where="r.type = 'assistant' AND r.usageMetadata.promptTokenCount IS NOT NULL",
    missing="latency, cost, errors",
)

_USED = "r.message.usage"
_PI = LogFormat(
    name="pi",
    title="pi session files",
    needs=needs("type id timestamp message.provider message.usage.cacheRead"),
    structure={
        **dict.fromkeys(("type", "id", "timestamp", "cwd"), TEXT),
        "message": {
            **dict.fromkeys(("role", "provider", "model", "stopReason"), TEXT),
            "usage": {
                **dict.fromkeys(("input", "output", "cacheRead", "cacheWrite"), NUMBER),
                "cost": {"total": NUMBER},
            },
        },
    },
    relation="""(SELECT *,
        max(CASE WHEN r.type = 'session' THEN r.id END) OVER (PARTITION BY file) AS session,
        max(CASE WHEN r.type = 'session' THEN r.cwd END) OVER (PARTITION BY file) AS folder
        FROM rows)""",
    fields={
        **timed("r.timestamp"),
        "id": "r.timestamp || '/' || r.id",  # a fork repeats both; ids alone are short
        "session": "session",
        "agent": "'main'",
        "model": "r.message.model",
        "provider": "r.message.provider",
        "input_tokens": plus(f"{_USED}.input", f"{_USED}.cacheRead", f"{_USED}.cacheWrite"),
        "cache_read_tokens": f"{_USED}.cacheRead",
        "cache_write_tokens": f"{_USED}.cacheWrite",
        "output_tokens": f"{_USED}.output",
        "stated_usd": f"nullif({_USED}.cost.total, 0)",
        "tags": "CASE WHEN folder IS NOT NULL THEN ['project:' || parse_filename(folder)] END",
        "error": "CASE WHEN r.message.stopReason = 'error' THEN 'error' END",
    },
    where=f"r.message.role = 'assistant' AND {_USED}.input IS NOT NULL",
    missing="latency, reasoning tokens, one-hour cache writes",
)

SESSION_FORMATS = (_OPENCODE, _GEMINI_CLI, _QWEN_CODE, _PI)
