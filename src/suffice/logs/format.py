"""What a log format is: how it is known, and where each field of a record stands in a row."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from suffice.logs.record import columns
from suffice.logs.sql import sql_text

Structure = Mapping[str, Any]
Shape = Literal["lines", "array", "document", "csv", "parquet", "text"]

NUMBER, TEXT, FLAG, TREE = "DOUBLE", "VARCHAR", "BOOLEAN", "JSON"


class Openings(Struct, frozen=True, kw_only=True):
    """Where the first words of a person stand in a session file that holds no whole prompts.

    `structure` is read as that of a format; `session`, `time` and `text` are SQL over `rows`, and
    `where` keeps what a person wrote.
    """

    structure: Structure
    session: str
    time: str
    text: str
    where: str


class LogFormat(Struct, frozen=True, kw_only=True):
    """One documented shape of log, as data.

    `needs` are alternatives: a file is of this format if one of its first rows has all key paths of
    one of them. `structure` names the keys that are read of a row, as `json_transform` of DuckDB
    takes it; nothing else is looked at. `relation` is the FROM clause over `rows` (columns `r`, the
    row as a struct, `broken`, whether it is no JSON, and `file`); one that is `nested` unfolds
    rows, and drops the broken ones. `fields` gives the SQL of each field of a record, `where` keeps
    what is a request, and `problem` says why a row can be none. `prompt` and `answer` are the SQL
    of the texts, as JSON or text. `missing` says in a few words what the format does not tell, and
    `hint` what to do where a file of it holds no request.
    """

    name: str
    title: str
    needs: tuple[frozenset[str], ...]
    structure: Structure
    fields: Mapping[str, str]
    relation: str = "rows"
    where: str = "true"
    problem: str = "NULL"
    prompt: str = ""
    answer: str = ""
    openings: Openings | None = None
    missing: str = ""
    hint: str = ""
    nested: bool = False

    def matches(self, paths: frozenset[str]) -> bool:
        """Say whether a row with these key paths is of this format."""
        return any(need <= paths for need in self.needs)

    def select(self) -> str:
        """Write the query that makes records of `rows`."""
        fields = {"source": f"'{self.name}'", "file": "file", "requests": "1", **self.fields}
        where = self.where
        if not self.nested:
            fields["problem"] = f"CASE WHEN broken THEN 'no JSON' ELSE {self.problem} END"
            where = f"broken OR ({where}) OR ({self.problem}) IS NOT NULL"
        if self.prompt:
            fields["prompt_hash"] = f"hash_of(({self.prompt})::VARCHAR)"
        if self.answer:
            fields["answer_hash"] = f"hash_of(({self.answer})::VARCHAR)"
        if "stated_usd" in fields:
            fields["stated_usd"] = f"as_usd({fields['stated_usd']})"
        picked = ", ".join(
            f"({fields.get(name, 'NULL')})::{kind} AS {name}" for name, kind in columns().items()
        )
        return f"SELECT {picked} FROM {self.relation} WHERE {where}"


def structure_sql(structure: Structure) -> str:
    """Write a structure as `json_transform` takes it."""
    return sql_text(json.dumps(structure))


def needs(*alternatives: str) -> tuple[frozenset[str], ...]:
    """Write alternatives of key paths: each is a string of paths with spaces between."""
    return tuple(frozenset(alternative.split()) for alternative in alternatives)


def first(*expressions: str) -> str:
    """Write the first of some SQL expressions that is known."""
    return f"coalesce({', '.join(expressions)})"


def plus(*expressions: str) -> str:
    """Write a sum in which an unknown part counts nothing; unknown where all are."""
    known = " AND ".join(f"({e}) IS NULL" for e in expressions)
    total = " + ".join(f"coalesce({e}, 0)" for e in expressions)
    return f"CASE WHEN {known} THEN NULL ELSE {total} END"


def whole_prompt(prompt: str, read: str, write: str) -> str:
    """Write the whole prompt where a log counts cached tokens inside it, or beside it.

    Cached tokens that are more than the prompt cannot be inside it, so they are added; where the
    reads alone would fit, some gateways count those inside and the writes beside.
    """
    reads, writes = f"coalesce({read}, 0)", f"coalesce({write}, 0)"
    return (
        f"CASE WHEN {reads} + {writes} <= ({prompt}) THEN ({prompt}) "
        f"WHEN {reads} <= ({prompt}) THEN ({prompt}) + {writes} "
        f"ELSE ({prompt}) + {reads} + {writes} END"
    )


def timed(start: str, end: str = "") -> dict[str, str]:
    """Write the fields of a time, and of the latency to a second one."""
    fields = {"time": f"as_time({start})", "zoned": f"has_zone({start})"}
    if end:
        fields["latency_s"] = f"epoch(as_time({end})) - epoch(as_time({start}))"
    return fields
