"""Calls within one message of Claude that its own counts leave out: advice, and compaction.

`usage.iterations` lists every call behind a message. Those of the message itself are in its counts;
those of an advisor, which has a model of its own, and of a compaction are billed beside them.
"""

from suffice.logs.format import NUMBER, TEXT, Structure, plus

ITERATIONS: Structure = {
    "iterations": [
        {
            **dict.fromkeys(("type", "model"), TEXT),
            **dict.fromkeys(
                (
                    *("input_tokens", "output_tokens"),
                    *("cache_read_input_tokens", "cache_creation_input_tokens"),
                ),
                NUMBER,
            ),
            "cache_creation": {"ephemeral_1h_input_tokens": NUMBER},
        }
    ]
}


def with_iterations(relation: str, usage: str) -> str:
    """Write each row of a relation with `u` NULL, and again for each such call, as `u`."""
    extra = (
        f"[x FOR x IN coalesce({usage}.iterations, []) "
        "IF x.type IN ('advisor_message', 'compaction')]"
    )
    return (
        "(SELECT *, unnest(calls) AS u, unnest(range(len(calls))) AS nth "
        f"FROM (SELECT *, [NULL] || {extra} AS calls FROM {relation}))"
    )


def of_either(main: dict[str, str]) -> dict[str, str]:
    """Write the fields of such a call beside those of its message."""
    own = {
        "id": f"({main['id']}) || '/' || u.type || nth",
        "agent": "CASE WHEN u.type = 'compaction' THEN 'compaction' ELSE 'advisor' END",
        "model": f"coalesce(u.model, {main['model']})",
        "input_tokens": plus(
            "u.input_tokens", "u.cache_read_input_tokens", "u.cache_creation_input_tokens"
        ),
        "cache_read_tokens": "u.cache_read_input_tokens",
        "cache_write_tokens": "u.cache_creation_input_tokens",
        "cache_write_1h_tokens": "u.cache_creation.ephemeral_1h_input_tokens",
        "output_tokens": "u.output_tokens",
        **dict.fromkeys(("reasoning_tokens", "stated_usd", "error", "request_id"), "NULL"),
    }
    fields = {"agent": "NULL"} | main
    return main | {
        name: f"CASE WHEN u IS NULL THEN {fields[name]} ELSE {own[name]} END"
        for name in own.keys() & fields.keys()
    }
