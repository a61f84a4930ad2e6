"""Calls within one message of Claude: its own, those of an advisor, and compaction.

`usage.iterations` lists every call behind a message. Those of the message itself are in its counts,
which are then the sum of several prompts; those of an advisor, which has a model of its own, and of
a compaction are billed beside them.
"""

from suffice.logs.format import NUMBER, TEXT, Structure, plus

_COUNTS = (
    *("input_tokens", "output_tokens"),
    *("cache_read_input_tokens", "cache_creation_input_tokens"),
)
_BESIDE = "('advisor_message', 'compaction')"
ITERATIONS: Structure = {
    "iterations": [
        {
            **dict.fromkeys(("type", "model"), TEXT),
            **dict.fromkeys(_COUNTS, NUMBER),
            "cache_creation": {"ephemeral_1h_input_tokens": NUMBER},
        }
    ]
}
PART = r"^(.*)/message\d+$"
"""Pattern of the id of a call of a message itself; the group is the id of the message."""


def with_iterations(relation: str, usage: str) -> str:
    """Write each row of a relation with `u` NULL, and again for each call that stands apart.

    Calls beside a message do, and several of the message itself where they add up to its counts.
    """
    every = f"coalesce({usage}.iterations, [])"
    beside = f"coalesce({every}[i].type, '') IN {_BESIDE}"
    own = f"[x FOR x IN {every} IF coalesce(x.type, '') NOT IN {_BESIDE}]"
    sums = " AND ".join(
        f"list_sum([coalesce(x.{name}, 0) FOR x IN own]) = coalesce({usage}.{name}, 0)"
        for name in _COUNTS
    )
    return (
        "(SELECT *, c.u AS u, c.nth AS nth FROM (SELECT *, unnest([NULL] || "
        f"[{{'u': {every}[i], 'nth': i}} FOR i IN range(1, len({every}) + 1) "
        f"IF (len(own) > 1 AND {sums}) OR {beside}]) AS c FROM (SELECT *, {own} AS own "
        f"FROM {relation})))"
    )


def of_either(main: dict[str, str]) -> dict[str, str]:
    """Write the fields of such a call beside those of its message."""
    name = f"CASE WHEN u.type IN {_BESIDE} THEN u.type ELSE 'message' END"
    fields = {"agent": "NULL"} | main
    own = {
        "id": f"({main['id']}) || '/' || {name} || nth",
        "agent": "CASE u.type WHEN 'compaction' THEN 'compaction' "
        f"WHEN 'advisor_message' THEN 'advisor' ELSE {fields['agent']} END",
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
    return main | {
        name: f"CASE WHEN u IS NULL THEN {fields[name]} ELSE {own[name]} END"
        for name in own.keys() & fields.keys()
    }
