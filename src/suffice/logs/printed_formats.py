"""What coding agents print of a run: a result with the sum of all its calls, or a stream of events.

A row that sums up a run (`run_sum`) is held against the single calls of its session later on, so
that nothing of it is added twice.
"""

from suffice.logs.format import FLAG, NUMBER, TEXT, TREE, LogFormat, Structure, first, needs, plus
from suffice.logs.iterations import ITERATIONS, of_either, with_iterations
from suffice.logs.session_formats import with_thoughts

_CALL = "r.message.usage"
_USAGE: Structure = {
    **dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), NUMBER),
    **dict.fromkeys(("cache_read_input_tokens", "cache_creation_input_tokens"), NUMBER),
    "cache_creation": {"ephemeral_1h_input_tokens": NUMBER},
    "service_tier": TEXT,
    "speed": TEXT,
}
# Cursor's names, and those of the sums by model.
_SUMS = (
    *("inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens"),
    *("cacheReadInputTokens", "cacheCreationInputTokens", "costUSD"),
)
_NO_USAGE = (
    "this version prints no usage; give the agent's session files, its events, or its provider's "
    "export"
)


def _prompt(usage: str) -> str:
    """Write the prompt of a usage: Qwen's, which has a total, counts cached tokens inside."""
    parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    beside = plus(*(f"{usage}.{name}" for name in parts))
    return f"CASE WHEN {usage}.total_tokens > 0 THEN {usage}.input_tokens ELSE {beside} END"


def _total(usage: str) -> str:
    return f"coalesce({_prompt(usage)}, 0) + coalesce({usage}.output_tokens, 0)"


def _of_model(name: str, *, before: bool = False) -> str:
    """Write a count of a model's sum, or that of the result before."""
    tree = "earlier" if before else "r.modelUsage"
    return f"try_cast({tree}->('$.\"' || m || '\"')->>'{name}' AS DOUBLE)"


def _grown(name: str) -> str:
    """Write what a result adds to the one before in the same process, whose sums it repeats."""
    last = f"CASE WHEN {_GOES_ON} THEN coalesce({_of_model(name, before=True)}, 0) ELSE 0 END"
    return f"{_of_model(name)} - ({last})"


_GOES_ON = f"coalesce(total - total_before >= {_total('r.usage')}, false)"
_BY_MODEL = " + ".join(
    f"coalesce(try_cast(r.modelUsage->('$.\"' || k || '\"')->>'{name}' AS DOUBLE), 0)"
    for name in _SUMS[:2] + _SUMS[4:6]
)
_PRINTED_RELATION = f"""(
    SELECT *, unnest(models) AS m FROM (
        SELECT *, lag(total) OVER results AS total_before,
            lag(r.modelUsage) OVER results AS earlier,
            count(*) OVER (PARTITION BY r.session_id, r.type) AS alike,
            bool_or(r.type = 'result') OVER (PARTITION BY r.session_id) AS summed,
            max(CASE WHEN r.subtype IN ('init', 'session_start') THEN r.model END)
                OVER (PARTITION BY file, r.session_id) AS named,
            max(r.cwd) OVER (PARTITION BY file, r.session_id) AS folder
        FROM (
            SELECT *, CASE WHEN len(json_keys(r.modelUsage)) > 0 THEN json_keys(r.modelUsage)
                    ELSE [NULL]::VARCHAR[] END AS models,
                list_sum([{_BY_MODEL} FOR k IN json_keys(r.modelUsage)]) AS total
            FROM rows
        ) WINDOW results AS (PARTITION BY r.session_id, r.type ORDER BY total)
    )
)"""
_ONE_MODEL = (
    f"m IS NULL OR len(models) = 1 OR ({_of_model('inputTokens')} = r.usage.input_tokens "
    f"AND {_of_model('outputTokens')} = r.usage.output_tokens)"
)
_OF_RESULT = {
    "id": "concat_ws('/', coalesce(r.uuid, r.request_id, r.session_id), total, m)",
    "agent": "NULL",
    "model": r"coalesce(regexp_replace(m, '\[.*\]$', ''), nullif(named, 'Auto'))",
    "requests": f"CASE WHEN {_ONE_MODEL} THEN coalesce(r.num_turns, 0) ELSE 0 END",
    "input_tokens": "CASE WHEN m IS NOT NULL THEN "
    + plus(*map(_grown, (_SUMS[0], _SUMS[4], _SUMS[5])))
    + f" ELSE coalesce({_prompt('r.usage')}, "
    + plus("r.usage.inputTokens", "r.usage.cacheReadTokens", "r.usage.cacheWriteTokens")
    + ") END",
    "cache_read_tokens": f"CASE WHEN m IS NOT NULL THEN {_grown(_SUMS[4])} "
    "ELSE coalesce(r.usage.cache_read_input_tokens, r.usage.cacheReadTokens) END",
    "cache_write_tokens": f"CASE WHEN m IS NOT NULL THEN {_grown(_SUMS[5])} "
    "ELSE coalesce(r.usage.cache_creation_input_tokens, r.usage.cacheWriteTokens) END",
    "cache_write_1h_tokens": f"CASE WHEN {_ONE_MODEL} "
    "THEN r.usage.cache_creation.ephemeral_1h_input_tokens END",
    "output_tokens": f"CASE WHEN m IS NOT NULL THEN {_grown(_SUMS[1])} "
    "ELSE coalesce(r.usage.output_tokens, r.usage.outputTokens) END",
    "tier": f"CASE WHEN {_ONE_MODEL} "
    "THEN coalesce(nullif(r.usage.speed, 'standard'), r.usage.service_tier) END",
    "stated_usd": f"CASE WHEN m IS NOT NULL THEN {_grown(_SUMS[6])} "
    "WHEN alike = 1 THEN coalesce(r.total_cost_usd, r.cost_usd) END",
    "error": "CASE WHEN r.is_error THEN coalesce(r.subtype, 'error') END",
    "latency_s": "NULL",
    "ended": "true",
    "run_sum": "true",
}
_OF_MESSAGE = {
    "id": first("r.message.id", "r.request_id", "r.uuid"),
    "request_id": "r.request_id",
    "agent": "CASE WHEN r.parent_tool_use_id IS NOT NULL THEN 'side' ELSE 'main' END",
    "model": "nullif(r.message.model, '<synthetic>')",
    "requests": "1",
    "input_tokens": _prompt(_CALL),
    "cache_read_tokens": f"{_CALL}.cache_read_input_tokens",
    "cache_write_tokens": f"{_CALL}.cache_creation_input_tokens",
    "cache_write_1h_tokens": f"{_CALL}.cache_creation.ephemeral_1h_input_tokens",
    "output_tokens": f"{_CALL}.output_tokens",
    "tier": f"coalesce(nullif({_CALL}.speed, 'standard'), {_CALL}.service_tier)",
    **dict.fromkeys(("stated_usd", "error", "latency_s"), "NULL"),
    "ended": "summed OR r.message.stop_reason IS NOT NULL",
    "run_sum": "NULL",
}
_RUN = LogFormat(
    name="agent-run",
    title="Printed runs of `claude -p`, `qwen -p`, `cursor-agent -p` (json and stream-json)",
    needs=needs(
        "type subtype session_id is_error duration_ms",
        "type subtype session_id cwd model",
        "type session_id parent_tool_use_id message.usage",
    ),
    structure={
        **dict.fromkeys(("type", "subtype", "timestamp", "session_id", "uuid", "cwd"), TEXT),
        **dict.fromkeys(("request_id", "model", "parent_tool_use_id"), TEXT),
        **dict.fromkeys(("num_turns", "total_cost_usd", "cost_usd"), NUMBER),
        "is_error": FLAG,
        "message": {
            **dict.fromkeys(("id", "model", "stop_reason"), TEXT),
            "usage": {**_USAGE, **ITERATIONS},
        },
        "usage": {**_USAGE, **dict.fromkeys(_SUMS[:4], NUMBER)},
        "modelUsage": TREE,
    },
    relation=with_iterations(_PRINTED_RELATION, _CALL),
    fields={
        "time": "as_time(r.timestamp)",
        "zoned": "true",
        "session": "r.session_id",
        "provider": "CASE WHEN coalesce(m, r.message.model, named) LIKE 'claude-%' "
        "THEN 'anthropic' END",
        "tags": "CASE WHEN folder IS NOT NULL THEN ['project:' || parse_filename(folder)] END",
        **of_either(
            {
                name: f"CASE WHEN r.type = 'result' THEN {_OF_RESULT.get(name, 'NULL')} "
                f"ELSE {of_message} END"
                for name, of_message in _OF_MESSAGE.items()
            }
        ),
    },
    where=f"(r.type = 'assistant' AND {_CALL}.output_tokens IS NOT NULL) OR (r.type = 'result' "
    f"AND CASE WHEN m IS NULL THEN {_total('r.usage')} + {plus('r.usage.outputTokens', '0')} > 0 "
    f"ELSE {_grown(_SUMS[0])} + {_grown(_SUMS[1])} > 0 END)",
    nested=True,
    hint=_NO_USAGE,
    missing="the time; prompts of single calls where only the result is there (its turns count as "
    "requests); Cursor: the model, unless the stream names it",
)

_EXEC = LogFormat(
    name="codex-exec",
    title="Printed runs of `codex exec --json`",
    needs=needs("type thread_id", "type usage.input_tokens usage.cached_input_tokens"),
    structure={
        "type": TEXT,
        "thread_id": TEXT,
        "usage": dict.fromkeys(
            (
                *("input_tokens", "cached_input_tokens", "cache_write_input_tokens"),
                *("output_tokens", "reasoning_output_tokens"),
            ),
            NUMBER,
        ),
    },
    relation="""(SELECT *, max(r.usage.input_tokens + r.usage.output_tokens) OVER (
            PARTITION BY coalesce(thread, 'in ' || file)) AS most
        FROM (
            SELECT *, last_value(CASE WHEN r.type = 'thread.started' THEN r.thread_id END
                IGNORE NULLS) OVER (PARTITION BY file ORDER BY n) AS thread
            FROM (SELECT *, row_number() OVER () AS n FROM rows)
        ))""",
    fields={
        "id": "'exec/' || thread || '/' || try_cast(most AS BIGINT)",
        "session": "thread",
        "provider": "'openai'",
        "requests": "0",
        "input_tokens": "r.usage.input_tokens",
        "cache_read_tokens": "r.usage.cached_input_tokens",
        "cache_write_tokens": "r.usage.cache_write_input_tokens",
        "output_tokens": "r.usage.output_tokens",
        "reasoning_tokens": "r.usage.reasoning_output_tokens",
        "ended": "true",
        "run_sum": "true",
    },
    where="r.type = 'turn.completed' AND r.usage.input_tokens + r.usage.output_tokens = most",
    nested=True,
    hint=_NO_USAGE,
    missing="the model, and so the dollars (session files name it); the time, single calls. A turn "
    "states the sum of its thread, so the last counts",
)

_TOKENS = "r.part.tokens"
_STEP_PROMPT = plus(f"{_TOKENS}.input", f"{_TOKENS}.cache.read", f"{_TOKENS}.cache.write")
_STEP_OUTPUT = with_thoughts(
    f"{_TOKENS}.output", f"{_TOKENS}.reasoning", prompt=_STEP_PROMPT, total=f"{_TOKENS}.total"
)
_STEPS = LogFormat(
    name="opencode-run",
    title="Printed runs of `opencode run --format json`",
    needs=needs("type timestamp sessionID part.type part.messageID"),
    structure={
        **dict.fromkeys(("type", "timestamp", "sessionID"), TEXT),
        "part": {
            **dict.fromkeys(("id", "messageID", "modelID", "providerID"), TEXT),
            "cost": NUMBER,
            "tokens": {
                **dict.fromkeys(("input", "output", "reasoning", "total"), NUMBER),
                "cache": {"read": NUMBER, "write": NUMBER},
            },
        },
    },
    relation="""(SELECT *, row_number() OVER (PARTITION BY r.part.messageID
        ORDER BY r.timestamp DESC, r.part.id DESC) AS from_last FROM rows
        WHERE r.type = 'step_finish')""",
    fields={
        "time": "as_time(r.timestamp)",
        "zoned": "true",
        "id": "CASE WHEN from_last = 1 THEN r.part.messageID ELSE r.part.id END",
        "session": "r.sessionID",
        "agent": "'main'",
        "model": "r.part.modelID",
        "provider": "r.part.providerID",
        "input_tokens": _STEP_PROMPT,
        "cache_read_tokens": f"{_TOKENS}.cache.read",
        "cache_write_tokens": f"{_TOKENS}.cache.write",
        "output_tokens": _STEP_OUTPUT,
        "reasoning_tokens": f"{_TOKENS}.reasoning",
        "stated_usd": "nullif(r.part.cost, 0)",
    },
    where=f"{_STEP_PROMPT} + {_STEP_OUTPUT} > 0",  # some versions print 0 for every count
    nested=True,
    hint="this version prints no counts; give OpenCode's own messages or `opencode export`",
    missing="the model in most versions (its dollars are stated), one-hour cache writes",
)

_STATS = "r.stats.models->('$.\"' || m || '\"')"


def _stat(*paths: str) -> str:
    return first(*(f"try_cast({_STATS}->>'$.{path}' AS DOUBLE)" for path in paths), "NULL")


_ALL = ("total_tokens", "input_tokens", "output_tokens", "cached")
_GEMINI_PROMPT = f"""CASE WHEN m IS NULL THEN r.stats.input_tokens ELSE {
    plus(_stat("tokens.prompt", "input_tokens"), _stat("tokens.tool"))
} END"""
_GEMINI_TOTAL = f"CASE WHEN m IS NULL THEN r.stats.total_tokens ELSE {_stat('total_tokens')} END"
_GEMINI_OUTPUT = with_thoughts(
    _stat("tokens.candidates"),
    _stat("tokens.thoughts"),
    prompt=_GEMINI_PROMPT,
    total=_stat("tokens.total"),
)
_GEMINI_RUN = LogFormat(
    name="gemini-run",
    title="Printed runs of `gemini -p` (json and stream-json)",
    needs=needs(
        "stats.models stats.tools", "type stats.total_tokens stats.input_tokens stats.duration_ms"
    ),
    structure={
        **dict.fromkeys(("type", "session_id", "model", "timestamp"), TEXT),
        "stats": {**dict.fromkeys(_ALL, NUMBER), "duration_ms": NUMBER, "models": TREE},
    },
    relation="""(SELECT *, unnest(models) AS m FROM (
        SELECT *, max(r.session_id) OVER (PARTITION BY file, r.type IS NULL) AS session,
            max(r.model) OVER (PARTITION BY file) AS named,
            hash_of(to_json(r.stats)) AS run,
            CASE WHEN len(json_keys(r.stats.models)) > 0 THEN json_keys(r.stats.models)
                ELSE [NULL]::VARCHAR[] END AS models
        FROM rows))""",
    fields={
        "time": "as_time(r.timestamp)",
        "zoned": "true",
        "id": "concat_ws('/', coalesce(r.session_id, session), run, m)",
        "session": "coalesce(r.session_id, session)",
        "model": "coalesce(m, named)",
        "provider": "'google'",
        "requests": first(_stat("api.totalRequests"), "0"),
        "input_tokens": _GEMINI_PROMPT,
        "cache_read_tokens": f"CASE WHEN m IS NULL THEN r.stats.cached "
        f"ELSE {_stat('tokens.cached', 'cached')} END",
        "output_tokens": f"coalesce({_GEMINI_OUTPUT}, greatest({_stat('output_tokens')}, "
        f"{_GEMINI_TOTAL} - {_GEMINI_PROMPT}), r.stats.total_tokens - r.stats.input_tokens)",
        "reasoning_tokens": _stat("tokens.thoughts"),
        "ended": "true",
        "run_sum": "true",
    },
    where=f"{_GEMINI_PROMPT} > 0",
    nested=True,
    hint=_NO_USAGE,
    missing="the time (a stream has it), single calls, cost; a stream's thoughts are in its output",
)

PRINTED_FORMATS = (_RUN, _EXEC, _STEPS, _GEMINI_RUN)
