"""Make records fit to be added up: no impossible rows, each request once, no report twice."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from suffice.logs.matches import Doubt, count_once
from suffice.logs.record import BEYOND_USD, COUNTS
from suffice.logs.totals import Runs, subtract_calls

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST_TOKENS = 10**8  # of one request; the longest prompts of 2026 are 10 million
MOST_USD = 10**6
MOST_CALLS = 10**4  # of one run
_REPORTS = "source IN ('openai-usage', 'anthropic-usage', 'litellm-daily')"


class Cleaned(Struct, frozen=True, kw_only=True):
    """How many rows were not counted, or not as they stand, and why.

    `repeated` rows were states of a request that is counted once (a stream logged many times);
    `runs` says what became of the sums of printed runs. `matched` requests are in logs of two
    formats and counted once, and for `doubts` nothing says whether they are the same calls.
    `overlapping` rows of usage reports describe days and models whose requests are here one by one.
    `zoneless` times were read in the zone that was named, `undated` rows have no time. `foreign`
    counts by currency the rows whose stated cost is no dollars. In `added` rows the reasoning
    exceeds the output, so it cannot be a part of it and was added to it. `nested` calls only summed
    up the calls right below them. The end of `unended` streams was never logged.
    """

    repeated: int
    matched: int
    doubts: tuple[Doubt, ...]
    runs: Runs
    overlapping: int
    zoneless: int
    undated: int
    foreign: Mapping[str, int]
    added: int
    nested: int
    unended: int


def clean(store: "DuckDBPyConnection") -> Cleaned:
    """Clean the table `records`; what was taken out stands in the table `problems`."""
    _take_out_problems(store)
    added = _count(store, "reasoning_tokens > output_tokens")
    store.execute(
        "UPDATE records SET output_tokens = output_tokens + reasoning_tokens "
        "WHERE reasoning_tokens > output_tokens"
    )
    currency = "upper(coalesce(currency, 'USD'))"
    foreign = store.execute(
        f"SELECT {currency}, count(*) FROM records WHERE {currency} <> 'USD' AND stated_usd "
        "IS NOT NULL GROUP BY 1 ORDER BY 1"
    ).fetchall()
    store.execute(f"UPDATE records SET stated_usd = NULL WHERE {currency} <> 'USD'")
    counted = count_once(store)
    return Cleaned(
        repeated=counted.repeated,
        matched=counted.matched,
        doubts=counted.doubts,
        runs=subtract_calls(store),
        nested=_drop_sums(store),
        unended=_count(store, "ended = false AND output_tokens IS NOT NULL"),
        overlapping=_drop_overlap(store),
        zoneless=_count(store, "zoned = false AND time IS NOT NULL"),
        undated=_count(store, "time IS NULL"),
        foreign=dict(foreign),
        added=added,
    )


def _take_out_problems(store: "DuckDBPyConnection") -> None:
    negative = " OR ".join(f"{name} < 0" for name in (*COUNTS, "requests", "stated_usd"))
    absurd = " OR ".join(
        f"{name} > {MOST_TOKENS} * greatest(requests, if(run_sum, {MOST_CALLS}, 1))"
        for name in COUNTS
    )
    store.execute(
        f"""CREATE TABLE problems AS SELECT file, problem, count(*) AS rows FROM (
            SELECT file, {_problem(negative, absurd)} AS problem FROM records
        ) WHERE problem IS NOT NULL GROUP BY file, problem"""
    )
    if store.execute("SELECT count(*) FROM problems").fetchone() != (0,):
        store.execute(f"DELETE FROM records WHERE {_problem(negative, absurd)} IS NOT NULL")


def _problem(negative: str, absurd: str) -> str:
    cached = "coalesce(cache_read_tokens, 0) + coalesce(cache_write_tokens, 0)"
    return f"""CASE WHEN problem IS NOT NULL THEN problem
        WHEN {negative} THEN 'a negative count'
        WHEN ({absurd} OR stated_usd > {MOST_USD}) AND NOT {_REPORTS} OR stated_usd >= {BEYOND_USD}
            THEN 'an absurd count'
        WHEN {cached} > input_tokens THEN 'more cached tokens than prompt'
        WHEN coalesce(model, '') = '' AND input_tokens IS NULL AND output_tokens IS NULL
            AND stated_usd IS NULL AND error IS NULL THEN 'neither model, tokens nor cost' END"""


def _drop_sums(store: "DuckDBPyConnection") -> int:
    """Leave out traced calls that have just the tokens of the calls right below them.

    Two tracers, or a library and its client, then wrote down the same requests.
    """
    nested = """span IN (SELECT above.span FROM records above JOIN records below
        ON below.parent = above.span
        GROUP BY above.span, above.input_tokens, above.output_tokens
        HAVING sum(below.input_tokens) = above.input_tokens
            AND coalesce(sum(below.output_tokens), 0) = coalesce(above.output_tokens, 0))"""
    dropped = _count(store, nested)
    if dropped:
        store.execute(f"DELETE FROM records WHERE {nested}")
    return dropped


def _drop_overlap(store: "DuckDBPyConnection") -> int:
    """Leave out rows of reports on days and models whose requests are here one by one.

    Rows of cost reports stay: they have no tokens, and their dollars are what was billed.
    """
    day = "(time AT TIME ZONE 'UTC')::DATE"  # of which the reports' rows are
    where = f"""{_REPORTS} AND input_tokens IS NOT NULL AND ({day}, model) IN (
        SELECT DISTINCT {day}, model FROM records WHERE NOT {_REPORTS})"""
    dropped = _count(store, where)
    if dropped:
        store.execute(f"DELETE FROM records WHERE {where}")
    return dropped


def _count(store: "DuckDBPyConnection", where: str) -> int:
    row = store.execute(f"SELECT count(*) FROM records WHERE {where}").fetchone()
    assert row is not None
    return int(row[0])
