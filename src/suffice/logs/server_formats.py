"""Request logs of inference servers as lines of text: vLLM and llama.cpp."""

import re
from collections.abc import Mapping

from msgspec import Struct

from suffice.logs.record import columns


class TextFormat(Struct, frozen=True, kw_only=True):
    """A log of lines that are no JSON: `pattern` tells it by one line of it.

    `relation` is the FROM clause over `rows` (columns `line` and `file`, with `n`, the number of
    the line); `fields` gives the SQL of each field of a record.
    """

    name: str
    title: str
    pattern: str
    relation: str
    fields: Mapping[str, str]
    missing: str

    def matches(self, head: str) -> bool:
        """Say whether the start of a file is of this format."""
        return re.search(self.pattern, head) is not None

    def select(self) -> str:
        """Write the query that makes records of `rows`."""
        fields = {"source": f"'{self.name}'", "file": "file", "requests": "1", **self.fields}
        picked = ", ".join(
            f"({fields.get(name, 'NULL')})::{kind} AS {name}" for name, kind in columns().items()
        )
        return f"SELECT {picked} FROM {self.relation}"


_STAMP = r"(\d\d\d\d-)?\d\d-\d\d[ T]\d\d:\d\d:\d\d"
_IDS = "len(regexp_extract_all(regexp_extract(line, '{}: [\\[(]([0-9, ]*)[\\])]', 1), '[0-9]+'))"
_VLLM = TextFormat(
    name="vllm",
    title="vLLM request logs (`--enable-log-requests`, `--enable-log-outputs`)",
    pattern=r"Received request \S+: |Generated response \S+( \(.*?\))?: output: ",
    relation=f"""(
        SELECT file, id, min(stamp) FILTER (start) AS started,
            max(stamp) FILTER (NOT start) AS ended,
            max(read) AS read, sum(written) AS written, max(model) AS model
        FROM (
            SELECT file,
                regexp_extract(
                    line, '(?:Received request|Generated response|Request) (\\S+?):? ', 1) AS id,
                contains(line, 'Received request') AS start,
                vllm_time(regexp_extract(line, '{_STAMP}')) AS stamp,
                CASE WHEN line LIKE '%prompt_token_ids: [%'
                    THEN {_IDS.format("prompt_token_ids")} END AS read,
                CASE WHEN line LIKE '%output_token_ids: %' AND line NOT LIKE '%(streaming delta)%'
                    THEN {_IDS.format("output_token_ids")} END AS written,
                nullif(regexp_extract(line, 'lora_name=''([^'']+)', 1), '') AS model
            FROM rows
            WHERE regexp_matches(line,
                '(Received request|Generated response|Request) \\S+( \\(.*?\\))?:? ')
        ) GROUP BY file, id
    )""",
    fields={
        "time": "started",
        "zoned": "false",
        "id": "id",
        "model": "model",
        "input_tokens": "read",
        "output_tokens": "written",
        "latency_s": "epoch(ended) - epoch(started)",
    },
    missing="the model, cached tokens, sessions; counts where `--max-log-len` cuts the ids short",
)

_LLAMA = TextFormat(
    name="llama.cpp",
    title="llama.cpp server logs",
    pattern=r"prompt eval time =\s+[\d.]+ ms /\s+\d+ tokens",
    relation="""(
        SELECT file, run, max(task) AS task, max(read) AS read, max(written) AS written,
            max(total_ms) AS total_ms, max(cached) AS cached
        FROM (
            SELECT *, sum(begins::INTEGER) OVER (PARTITION BY file ORDER BY n
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS run
            FROM (
                SELECT file, n,
                    contains(line, 'prompt eval time =') AS begins,
                    last_value(nullif(regexp_extract(line, 'task\\s+(\\d+)', 1), '') IGNORE NULLS)
                        OVER before AS task,
                    last_value(CASE WHEN contains(line, 'n_past =') AND contains(line, 'kv cache')
                        OR contains(line, 'memory_seq_rm')
                        THEN try_cast(regexp_extract(line, '(?:n_past = |seq_rm \\[)(\\d+)', 1)
                            AS DOUBLE) END IGNORE NULLS) OVER before AS cached,
                    CASE WHEN contains(line, 'prompt eval time =') THEN
                        try_cast(regexp_extract(line, '/\\s+(\\d+) tokens', 1) AS DOUBLE)
                        END AS read,
                    CASE WHEN regexp_matches(line, '(^|[^t]) +eval time =') THEN
                        try_cast(regexp_extract(line, '/\\s+(\\d+) (?:tokens|runs)', 1) AS DOUBLE)
                        END AS written,
                    CASE WHEN contains(line, 'total time =') THEN
                        try_cast(regexp_extract(line, 'total time =\\s+([\\d.]+)', 1) AS DOUBLE) END
                        AS total_ms,
                    line
                FROM rows WINDOW before AS (PARTITION BY file ORDER BY n
                    ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
            ) WHERE read IS NOT NULL OR written IS NOT NULL OR total_ms IS NOT NULL
        ) GROUP BY file, run HAVING max(read) IS NOT NULL
    )""",
    fields={
        "id": "CASE WHEN task IS NOT NULL THEN 'task/' || file || '/' || task END",
        "input_tokens": "read + coalesce(cached, 0)",
        "cache_read_tokens": "cached",
        "output_tokens": "written",
        "latency_s": "total_ms / 1000",
    },
    missing="the model, the time, sessions; cached tokens in versions that do not log them",
)

TEXT_FORMATS = (_VLLM, _LLAMA)
