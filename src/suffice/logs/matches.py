"""Find the rows that speak of one request, in one log or in several, and count it once."""

from typing import TYPE_CHECKING

from msgspec import Struct

from suffice.logs.iterations import PART
from suffice.logs.sql import sql_text

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_COUNTS = ("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning")
# Under whatever name a cloud or an agent writes a model.
MODEL_KEY = (
    r"regexp_replace(regexp_extract(lower(coalesce(model, '')), '[^/]*$'), "
    r"'^.*?(claude|gpt-|gemini|qwen)|[-@]?(20\d{2}-?\d{2}-?\d{2}|latest)|-v\d+(:\d+)?$|\[.*\]', "
    r"'\1', 'g')"
)
_ALIKE_SHARE, _FEWEST = 0.5, 3
_BUCKET_S = 600
_MOST_LOGS = 50


class Doubt(Struct, frozen=True, kw_only=True):
    """Requests of two logs that may be the same calls, though nothing in both names them."""

    logs: tuple[str, str]
    requests: int


class Counted(Struct, frozen=True, kw_only=True):
    """How many rows were states or copies of others, or the same calls in logs of two formats."""

    repeated: int
    matched: int
    doubts: tuple[Doubt, ...]


def count_once(store: "DuckDBPyConnection") -> Counted:
    """Keep one row a request: of states of a stream the last, of exports what any of them says.

    Of equal states the earliest is kept: later ones are what another session repeats. Rows are of
    one request if they have the same id, or in logs of two formats the same session, model and
    prompt; in plain files, whose ids may be anything, or without an id, if time, model, session and
    counts are the same too, in two files.
    """
    store.execute("CREATE TEMP TABLE matched (id VARCHAR)")
    _tell_apart(store)
    _name_by_requests(store)
    by_id = _merge(store)
    copies = _drop_copies(store)
    _name_by_sessions(store)
    by_session = _merge(store)
    _take_apart(store)
    doubts = {doubt.logs: doubt for doubt in (*_alike(store), *_sessions_in_doubt(store))}
    matched = store.execute("SELECT count(*) FROM matched").fetchone()
    store.execute("DROP TABLE matched")
    assert matched is not None
    return Counted(
        repeated=by_id + by_session + copies - int(matched[0]),
        matched=int(matched[0]),
        doubts=tuple(doubts.values()),
    )


def _merge(store: "DuckDBPyConnection") -> int:
    """Make one row of all that have an id; returns how many went.

    A row with labels is kept, with the counts of the row that has the most output.
    """
    most = "{'o': coalesce(output_tokens, -1), 't': -coalesce(epoch_us(time), 0), 'r': -rowid}"
    counts = ", ".join(f"'{name}': {name}_tokens" for name in _COUNTS)
    found = (
        "stated_usd",
        "key",
        "session",
        "model",
        "provider",
        "tier",
        "effort",
        "agent",
        "latency_s",
    )
    store.execute(
        f"""CREATE TEMP TABLE doubles AS
        SELECT id AS name, count(*) AS rows, count(DISTINCT source) AS sources,
            -max({{'g': tags IS NOT NULL, 'm': {most}}}).m.r AS winner,
            arg_max({{{counts}}}, {most}) AS counts, min(time) AS time,
            max(cache_write_1h_tokens) AS hour_tokens, bool_or(ended) AS ended,
            {", ".join(f"max({name}) AS {name}" for name in found)}
        FROM records WHERE id IS NOT NULL AND source <> 'plain'
        GROUP BY id HAVING count(*) > 1"""
    )
    went = store.execute("SELECT coalesce(sum(rows - 1), 0) FROM doubles").fetchone()
    assert went is not None
    if went[0]:
        store.execute(
            "INSERT INTO matched SELECT name FROM doubles, range(sources - 1) WHERE sources > 1"
        )
        store.execute(
            "DELETE FROM records USING doubles d "
            "WHERE id = d.name AND source <> 'plain' AND records.rowid <> d.winner"
        )
        kept = ", ".join(
            f"{name}_tokens = d.counts.{name}" for name in _COUNTS if name != "cache_write_1h"
        )
        known = ", ".join(f"{name} = coalesce(records.{name}, d.{name})" for name in found[2:])
        store.execute(
            f"""UPDATE records SET time = d.time, stated_usd = d.stated_usd, key = d.key,
                ended = d.ended, {known}, {kept}, cache_write_1h_tokens = coalesce(
                    d.counts.cache_write_1h, CASE WHEN d.hour_tokens IS NOT NULL
                    THEN least(d.hour_tokens, d.counts.cache_write) END)
            FROM doubles d WHERE id = d.name AND source <> 'plain'"""
        )
    store.execute("DROP TABLE doubles")
    return int(went[0])


def _take_apart(store: "DuckDBPyConnection") -> None:
    """Leave out messages whose calls are here one by one, each with a prompt of its own."""
    store.execute(
        f"""CREATE TEMP TABLE parts AS SELECT p.row, w.rowid AS whole, w.key, w.ended,
            w.stated_usd * p.tokens / nullif(sum(p.tokens) OVER (PARTITION BY w.id), 0) AS usd
        FROM (SELECT rowid AS row, regexp_extract(id, {sql_text(PART)}, 1) AS message,
                input_tokens + coalesce(output_tokens, 0) AS tokens
            FROM records WHERE id LIKE '%/message%' AND source <> 'plain') p
        JOIN records w ON w.id = p.message"""
    )
    store.execute("DELETE FROM records WHERE rowid IN (SELECT whole FROM parts)")
    store.execute(
        """UPDATE records SET stated_usd = p.usd, key = coalesce(records.key, p.key),
            ended = p.ended FROM parts p WHERE records.rowid = p.row"""
    )
    store.execute("DROP TABLE parts")


def _drop_copies(store: "DuckDBPyConnection") -> int:
    """Leave out rows without an id of their own that an earlier file has too."""
    same = (
        "hash(id, time, model, session, agent, key, input_tokens, output_tokens, stated_usd, error)"
    )
    store.execute(
        f"""CREATE TEMP TABLE copies AS SELECT row FROM (
            SELECT row, row_number() OVER (PARTITION BY alike, nth ORDER BY file) AS copy FROM (
                SELECT rowid AS row, file, {same} AS alike,
                    row_number() OVER (PARTITION BY {same}, file ORDER BY rowid) AS nth
                FROM records WHERE time IS NOT NULL AND (id IS NULL OR source = 'plain')
                    AND (SELECT count(DISTINCT file) > 1 FROM records)
            )
        ) WHERE copy > 1"""
    )
    copies = store.execute("SELECT count(*) FROM copies").fetchone()
    assert copies is not None
    if copies[0]:
        store.execute("DELETE FROM records WHERE rowid IN (SELECT row FROM copies)")
    store.execute("DROP TABLE copies")
    return int(copies[0])


def _tell_apart(store: "DuckDBPyConnection") -> None:
    """Give requests ids of their own where a relay answers them all under one.

    A stream is logged with the prompt of its start and of its end, so an id with more than two
    prompts in one format names no request; the prompt then tells its requests apart.
    """
    store.execute(
        """UPDATE records
        SET id = concat_ws('/', id, input_tokens, coalesce(cache_read_tokens, 0))
        WHERE source <> 'plain' AND input_tokens IS NOT NULL AND id IN (
            SELECT id FROM records WHERE id IN (SELECT id FROM records WHERE id IS NOT NULL
                AND source <> 'plain' GROUP BY id HAVING count(*) > 3)
            GROUP BY id, source HAVING count(DISTINCT input_tokens) > 2)"""
    )


def _name_by_requests(store: "DuckDBPyConnection") -> None:
    """Give the rows that know a call by the provider's name the id of its message."""
    if _several_logs(store):
        store.execute(
            """UPDATE records SET id = m.id FROM (
                SELECT request_id, min(id) AS id FROM records
                WHERE request_id IS NOT NULL AND id IS NOT NULL
                GROUP BY 1 HAVING count(DISTINCT id) = 1) m
            WHERE records.id = m.request_id AND records.source <> 'plain'"""
        )


def _name_by_sessions(store: "DuckDBPyConnection") -> None:
    """Give the nth calls with one session, model and prompt one id, where two formats have them."""
    if not _several_logs(store):
        return
    store.execute(
        f"""UPDATE records SET id = g.name FROM (
            SELECT row, first_value(coalesce(id, 'call/' || call || '/' || nth)) OVER (
                PARTITION BY call, nth ORDER BY id NULLS LAST, row) AS name
            FROM (
                SELECT *, row_number() OVER (PARTITION BY call, source ORDER BY time, row) AS nth,
                    min(source) OVER (PARTITION BY call) <> max(source) OVER (PARTITION BY call)
                        AS shared
                FROM (
                    SELECT rowid AS row, id, source, time, hash(session, {MODEL_KEY}, input_tokens,
                        coalesce(cache_read_tokens, 0)) AS call
                    FROM records WHERE session IS NOT NULL AND input_tokens > 0 AND requests = 1
                        AND run_sum IS NOT true AND source <> 'plain' AND model IS NOT NULL
                )
            ) WHERE shared
        ) g WHERE records.rowid = g.row"""
    )


def _sessions_in_doubt(store: "DuckDBPyConnection") -> tuple[Doubt, ...]:
    """Return what sessions of two formats have of one model in both, with other counts."""
    if not _several_logs(store):
        return ()
    return _doubts(
        store,
        f"""WITH left_over AS (
            SELECT session, {MODEL_KEY} AS model, source, count(*) AS n FROM records
            WHERE session IS NOT NULL AND input_tokens > 0 AND requests = 1 AND source <> 'plain'
                AND run_sum IS NOT true
                AND (id IS NULL OR id NOT IN (SELECT id FROM matched))
            GROUP BY ALL)
        SELECT a.source, b.source, sum(least(a.n, b.n)) FROM left_over a JOIN left_over b
            ON a.session = b.session AND a.model = b.model AND a.source < b.source
        GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2""",
    )


def _alike(store: "DuckDBPyConnection") -> tuple[Doubt, ...]:
    """Return logs of which half the requests have the model, counts and minutes of another's."""
    log = "CASE WHEN source = 'plain' THEN file::VARCHAR ELSE source END"
    logs = store.execute(f"SELECT count(DISTINCT {log}) FROM records").fetchone()
    assert logs is not None
    if not 1 < logs[0] <= _MOST_LOGS:
        return ()
    return _doubts(
        store,
        f"""WITH looks AS MATERIALIZED (
            SELECT {log} AS log, hash({MODEL_KEY}, input_tokens, output_tokens,
                epoch(time)::BIGINT // {_BUCKET_S}) AS look, count(*) AS n
            FROM records WHERE requests = 1 AND input_tokens > 0 AND output_tokens > 0
                AND run_sum IS NOT true
                AND (id IS NULL OR id NOT IN (SELECT id FROM matched))
            GROUP BY ALL
        ), sizes AS (SELECT log, sum(n) AS size FROM looks GROUP BY 1), pairs AS (
            SELECT a.log AS one, b.log AS other, sum(least(a.n, b.n)) AS n
            FROM looks a JOIN looks b ON a.look = b.look AND a.log < b.log GROUP BY 1, 2)
        SELECT coalesce(f.path, one), coalesce(g.path, other), n FROM pairs
            JOIN sizes s ON s.log = one JOIN sizes t ON t.log = other
            LEFT JOIN files f ON f.id::VARCHAR = one LEFT JOIN files g ON g.id::VARCHAR = other
        WHERE n >= {_FEWEST} AND n >= {_ALIKE_SHARE} * least(s.size, t.size)
        ORDER BY n DESC, 1, 2""",
    )


def _doubts(store: "DuckDBPyConnection", query: str) -> tuple[Doubt, ...]:
    rows = store.execute(query).fetchall()
    return tuple(Doubt(logs=(one, other), requests=int(count)) for one, other, count in rows)


def _several_logs(store: "DuckDBPyConnection") -> bool:
    row = store.execute("SELECT count(DISTINCT source) > 1 FROM records").fetchone()
    return row == (True,)
