"""Session files of coding agents: Claude Code, Codex, and traces of their requests."""

from suffice.logs.format import (
    FLAG,
    NUMBER,
    TEXT,
    TREE,
    LogFormat,
    Openings,
    first,
    needs,
    plus,
    timed,
)
from suffice.logs.iterations import ITERATIONS, of_either, with_iterations

_USAGE = "r.message.usage"
_CLAUDE_CODE = LogFormat(
    name="claude-code",
    title="Claude Code session files",
    needs=needs(
        "sessionId uuid type message.usage.output_tokens",
        "sessionId uuid parentUuid type",
        "leafUuid summary type",
        "sessionId type messageId snapshot",
    ),
    structure={
        "type": TEXT,
        "timestamp": TEXT,
        "sessionId": TEXT,
        "agentId": TEXT,
        "isSidechain": FLAG,
        "requestId": TEXT,
        "uuid": TEXT,
        "cwd": TEXT,
        "isApiErrorMessage": FLAG,
        "costUSD": NUMBER,
        "message": {
            "id": TEXT,
            "model": TEXT,
            "stop_reason": TEXT,
            "usage": {
                "input_tokens": NUMBER,
                "cache_creation_input_tokens": NUMBER,
                "cache_read_input_tokens": NUMBER,
                "output_tokens": NUMBER,
                "service_tier": TEXT,
                "speed": TEXT,
                "cache_creation": {"ephemeral_1h_input_tokens": NUMBER},
                **ITERATIONS,
            },
        },
    },
    relation=with_iterations("rows", _USAGE),
    fields=of_either(
        {
            **timed("r.timestamp"),
            "id": first("r.message.id", "r.requestId", "r.uuid"),
            "request_id": "r.requestId",
            "session": "r.sessionId",
            "agent": first("r.agentId", "CASE WHEN r.isSidechain THEN 'side' ELSE 'main' END"),
            "model": "nullif(r.message.model, '<synthetic>')",
            "provider": "CASE WHEN r.message.model LIKE 'claude%' THEN 'anthropic' END",
            "input_tokens": plus(
                f"{_USAGE}.input_tokens",
                f"{_USAGE}.cache_creation_input_tokens",
                f"{_USAGE}.cache_read_input_tokens",
            ),
            "cache_read_tokens": f"{_USAGE}.cache_read_input_tokens",
            "cache_write_tokens": f"{_USAGE}.cache_creation_input_tokens",
            "cache_write_1h_tokens": f"{_USAGE}.cache_creation.ephemeral_1h_input_tokens",
            "output_tokens": f"{_USAGE}.output_tokens",
            "tier": first(f"nullif({_USAGE}.speed, 'standard')", f"{_USAGE}.service_tier"),
            "stated_usd": "r.costUSD",
            "tags": "CASE WHEN r.cwd IS NOT NULL THEN ['project:' || parse_filename(r.cwd)] END",
            "error": "CASE WHEN r.isApiErrorMessage THEN 'API error' END",
            "ended": "r.message.stop_reason IS NOT NULL",
        }
    ),
    where=f"r.type = 'assistant' AND ({_USAGE}.output_tokens IS NOT NULL "
    f"OR {_USAGE}.input_tokens IS NOT NULL)",
    openings=Openings(
        structure={
            "type": TEXT,
            "timestamp": TEXT,
            "sessionId": TEXT,
            "isSidechain": FLAG,
            "isMeta": FLAG,
            "message": {"content": TREE},
        },
        session="r.sessionId",
        time="r.timestamp",
        text="""CASE WHEN json_type(r.message.content) = 'VARCHAR' THEN r.message.content->>'$'
            ELSE r.message.content->>'$[0].text' END""",
        where="r.type = 'user' AND NOT coalesce(r.isSidechain, false) "
        "AND NOT coalesce(r.isMeta, false)",
    ),
    missing="latency, reasoning tokens, errors that were retried",
)

_TOTAL, _LAST = "r.payload.info.total_token_usage", "r.payload.info.last_token_usage"
_TOKENS = {
    "input_tokens": NUMBER,
    "cached_input_tokens": NUMBER,
    "output_tokens": NUMBER,
    "reasoning_output_tokens": NUMBER,
    "total_tokens": NUMBER,
}
_USAGE_OF_CODEX = _TOKENS | {"cache_write_input_tokens": NUMBER}
_BEFORE = (
    "(PARTITION BY file ORDER BY r.timestamp ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
)
_EARLIER = "(PARTITION BY file, counted ORDER BY r.timestamp, total)"
_USED = "CASE WHEN r.type = 'token_usage_record' THEN r.payload.usage ELSE " + _LAST + " END"
_SUM = first(f"{_TOTAL}.total_tokens", f"{_TOTAL}.input_tokens + {_TOTAL}.output_tokens")
# A fork's file begins with what its parent had used, under new times: a request is known by the
# counts, of the whole session and its own.
_CODEX = LogFormat(
    name="codex",
    title="Codex session files",
    needs=needs(
        "timestamp type payload.originator",
        "timestamp type payload.type payload.info",
        "timestamp type payload.id payload.cwd",
        "timestamp type payload.model payload.cwd",
    ),
    structure={
        "timestamp": TEXT,
        "type": TEXT,
        "payload": {
            "type": TEXT,
            "id": TEXT,
            "forked_from_id": TEXT,
            "model": TEXT,
            "effort": TEXT,
            "cwd": TEXT,
            "parent_thread_id": TEXT,
            "response_id": TEXT,
            "usage": _USAGE_OF_CODEX,
            "info": {"total_token_usage": _TOKENS, "last_token_usage": _USAGE_OF_CODEX},
        },
    },
    relation=f"""(
        SELECT *, lag(total) OVER earlier AS total_before FROM (
            SELECT *,
                last_value(CASE WHEN r.type = 'turn_context' THEN r.payload.model END
                    IGNORE NULLS) OVER before AS model,
                last_value(CASE WHEN r.type = 'turn_context' THEN r.payload.effort END
                    IGNORE NULLS) OVER before AS effort,
                first_value(CASE WHEN r.type = 'session_meta' THEN r.payload.id END
                    IGNORE NULLS) OVER before AS session,
                last_value(CASE WHEN r.type = 'session_meta' THEN coalesce(
                    r.payload.forked_from_id, r.payload.parent_thread_id, r.payload.id) END
                    IGNORE NULLS) OVER before AS root,
                last_value(CASE WHEN r.type IN ('session_meta', 'turn_context')
                    THEN r.payload.cwd END IGNORE NULLS) OVER before AS folder,
                {_SUM} AS total, {_USED} AS used,
                bool_or({_LAST}.output_tokens IS NOT NULL) OVER (PARTITION BY file) AS counts,
                coalesce(r.payload.type = 'token_count', false) AS counted
            FROM rows WINDOW before AS {_BEFORE}
        ) WINDOW earlier AS {_EARLIER}
    )""",
    fields={
        **timed("r.timestamp"),
        "id": "CASE WHEN r.type = 'token_usage_record' THEN r.payload.response_id "
        "WHEN root IS NOT NULL THEN concat_ws('/', root, try_cast(total AS BIGINT), "
        + ", ".join(f"try_cast({_LAST}.{name} AS BIGINT)" for name in _TOKENS)
        + ") END",
        "session": "session",
        "agent": "'main'",
        "model": "model",
        "provider": "'openai'",
        "input_tokens": "used.input_tokens",
        "cache_read_tokens": "used.cached_input_tokens",
        "cache_write_tokens": "used.cache_write_input_tokens",
        "output_tokens": "used.output_tokens",
        "reasoning_tokens": "used.reasoning_output_tokens",
        "effort": "effort",
        "tags": "CASE WHEN folder IS NOT NULL THEN ['project:' || parse_filename(folder)] END",
    },
    where="used.output_tokens IS NOT NULL AND CASE WHEN counted THEN total IS NULL "
    "OR total_before IS NULL OR total <> total_before "
    "ELSE r.type = 'token_usage_record' AND NOT counts END",
    openings=Openings(
        structure={
            "type": TEXT,
            "timestamp": TEXT,
            "payload": {"type": TEXT, "message": TEXT, "id": TEXT},
        },
        session="first_value(CASE WHEN r.type = 'session_meta' THEN r.payload.id END "
        "IGNORE NULLS) OVER (PARTITION BY file ORDER BY r.timestamp "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)",
        time="r.timestamp",
        text="CASE WHEN r.payload.type = 'user_message' THEN r.payload.message END",
        where="r.type IN ('session_meta', 'event_msg')",
    ),
    missing="latency, cost, errors; sessions of early versions name no model",
)

_BLOCK_TOKENS = 64
_TRACE = LogFormat(
    name="agent-trace",
    title="Traces of coding-agent requests (kv-cache-tester)",
    needs=needs("trace agent t model inp out hit_blocks blocks"),
    structure={
        "trace": TEXT,
        "agent": TEXT,
        "i": NUMBER,
        "t": NUMBER,
        "model": TEXT,
        "inp": NUMBER,
        "out": NUMBER,
        "hit_blocks": NUMBER,
        "think": TEXT,
        "api": TEXT,
    },
    fields={
        "time": "to_timestamp(r.t)",
        "zoned": "true",
        "id": "r.trace || '/' || r.agent || '/' || try_cast(r.i AS BIGINT)",
        "session": "r.trace",
        "agent": "r.agent",
        "model": "r.model",
        "input_tokens": "r.inp",
        "output_tokens": "r.out",
        "prefix_tokens": f"least(r.inp, {_BLOCK_TOKENS} * r.hit_blocks)",
        "pause_s": "try_cast(r.think AS DOUBLE)",
        "latency_s": "try_cast(r.api AS DOUBLE)",
    },
    where="r.inp IS NOT NULL",
    missing="dates, cache reads and writes (the shared prefix is there), cost, reasoning tokens",
)

AGENT_FORMATS = (_CLAUDE_CODE, _CODEX, _TRACE)
