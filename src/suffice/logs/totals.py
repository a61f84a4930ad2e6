"""Hold the printed sums of whole runs against the single calls of their sessions."""

from typing import TYPE_CHECKING

from msgspec import Struct

from suffice.logs.matches import MODEL_KEY
from suffice.logs.record import COUNTS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


# A relay may answer under another model's name than the one that was asked.
_OTHER_NAME = """(c.input_tokens BETWEEN u.input_tokens / 2 AND u.input_tokens
    AND coalesce(c.cache_read_tokens, 0) <= coalesce(u.cache_read_tokens, 0)
    AND (u.session, u.name) NOT IN (SELECT session, name FROM called)
    AND (c.session, c.name) NOT IN (SELECT session, name FROM runs))"""


_OF_RUN = ", ".join(f"u.{name}" for name in ("session", "name", "first_row", "usd", *COUNTS))


class Runs(Struct, frozen=True, kw_only=True):
    """How many sums of printed runs have their calls beside them (`held`), and what is of others.

    Turns stand for calls in `turned` sums; `uncounted` ones do not say of how many calls they are,
    and `nameless` ones neither model nor dollars.
    """

    held: int = 0
    turned: int = 0
    uncounted: int = 0
    nameless: int = 0


def subtract_calls(store: "DuckDBPyConnection") -> Runs:
    """Leave of each run's sum what its single calls do not have.

    The calls keep the prompts by which they are priced, and the rest the tokens that a stream
    printed too early to count. Stated dollars of a run are shared by tokens, where none of its
    calls states any and all of them are in it.
    """
    if store.execute("SELECT 1 FROM records WHERE run_sum LIMIT 1").fetchone() is None:
        return Runs()
    sums = ", ".join(f"sum({name}) AS {name}" for name in COUNTS)
    store.execute(
        f"""CREATE TEMP TABLE runs AS
        SELECT session, {MODEL_KEY} AS name, min(rowid) AS first_row, sum(stated_usd) AS usd, {sums}
        FROM records WHERE run_sum AND session IS NOT NULL GROUP BY session, name;
        CREATE TEMP TABLE called AS
        SELECT session, {MODEL_KEY} AS name, count(stated_usd) AS stated, {sums}
        FROM records WHERE run_sum IS NOT true AND session IN (SELECT session FROM runs)
            AND (input_tokens IS NOT NULL OR output_tokens IS NOT NULL)
        GROUP BY session, name;
        CREATE TEMP TABLE rests AS
        SELECT u.session, u.name, u.first_row, {", ".join(map(_rest, COUNTS))},
            CASE WHEN sum(c.stated) = 0 AND coalesce(sum(c.input_tokens), 0) <= u.input_tokens
                AND coalesce(sum(c.output_tokens), 0) <= u.output_tokens
                THEN u.usd / (u.input_tokens + u.output_tokens) END AS usd_per_token
        FROM runs u JOIN called c ON c.session = u.session
        WHERE u.name IN ('', c.name) OR {_OTHER_NAME}
        GROUP BY {_OF_RUN}"""
    )
    held = store.execute("SELECT count(*) FROM rests").fetchone()
    assert held is not None
    same = f"records.session = x.session AND (x.name = '' OR {MODEL_KEY} = x.name)"
    store.execute(
        f"""UPDATE records SET stated_usd = x.usd_per_token * (
                coalesce(records.input_tokens, 0) + coalesce(records.output_tokens, 0))
        FROM rests x WHERE {same} AND run_sum IS NOT true AND x.usd_per_token IS NOT NULL;
        DELETE FROM records USING rests x
        WHERE {same} AND run_sum AND records.rowid <> x.first_row;
        UPDATE records SET requests = 0, {", ".join(f"{name} = x.{name}" for name in COUNTS)},
            stated_usd = x.usd_per_token * (x.input_tokens + x.output_tokens)
        FROM rests x WHERE records.rowid = x.first_row;
        DELETE FROM records USING rests x WHERE records.rowid = x.first_row
            AND records.input_tokens = 0 AND records.output_tokens = 0"""
    )
    left = store.execute(
        """SELECT count(*) FILTER (requests > 0), count(*) FILTER (requests = 0
                AND rowid NOT IN (SELECT first_row FROM rests)),
            count(*) FILTER (model IS NULL AND stated_usd IS NULL)
        FROM records WHERE run_sum"""
    ).fetchone()
    for table in ("runs", "called", "rests"):
        store.execute(f"DROP TABLE {table}")
    assert left is not None
    return Runs(held=held[0], turned=left[0], uncounted=left[1], nameless=left[2])


def _rest(name: str) -> str:
    """Write what a sum counts beyond its calls; no part of a prompt exceeds the prompt's rest."""
    beyond = "greatest(u.{0} - coalesce(sum(c.{0}), 0), 0)"
    rest = beyond.format(name)
    if name.startswith("cache_"):
        rest = f"least({rest}, {beyond.format('input_tokens')})"
    return f"CASE WHEN u.{name} >= 0 THEN {rest} END AS {name}"
