"""What each record costs at list prices: the sums of `meter`, done by the database."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from suffice.bill.prices import find_price
from suffice.meter import Price, Rates
from suffice.meter.charges import STANDARD_TIERS
from suffice.units import picousd, usd_per_token

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PARTS = ("input", "read", "write", "output", "reasoning")
_VARIANT = (
    "STRUCT(over BIGINT, since DATE, begins INTEGER, ends INTEGER, input BIGINT, read BIGINT, "
    "write BIGINT, write_1h BIGINT, output BIGINT, reasoning BIGINT, request BIGINT)"
)
_OVER = "coalesce(long_context, requests > 0 AND input_tokens > x.over * requests)"
_HOLDS = f"""(x.over IS NULL OR {_OVER})
    AND (x.since IS NULL OR (time AT TIME ZONE 'UTC')::DATE >= x.since)
    AND (x.begins IS NULL OR CASE WHEN x.begins <= x.ends
        THEN utc_s >= x.begins AND utc_s < x.ends ELSE utc_s >= x.begins OR utc_s < x.ends END)"""
_SECOND_AT = "coalesce(epoch(moment)::BIGINT % 86400, 0)"
_SECOND = "coalesce(epoch(time)::BIGINT % 86400, 0)"


SIZE = "coalesce(CASE WHEN long_context THEN 1e9 ELSE input_tokens / nullif(requests, 0) END, 0)"
"""Tokens of one prompt, where a report's row sums up many; 0 if the report counts no requests."""


class Unpriced(Struct, frozen=True, kw_only=True):
    """A model without a list price: its tokens are in the bill, their dollars are not."""

    model: str
    requests: int
    tokens: int
    stated: int


def charge_records(
    store: "DuckDBPyConnection", own: Mapping[str, Price], *, ttl_s: float
) -> tuple[Unpriced, ...]:
    """Make the table `bill` of `records`: each with its rates `v` and its parts in 1e-12 dollars.

    `usd` is what the list says, or what the log says where no list does; a failure without a token
    costs nothing at any price. Where a log gives the
    shared prefix and no cache counts, reads and writes are modelled by it and by `ttl_s`
    (`modelled`). Rows of cost reports beside usage reports are not added a second time.
    """
    add_rates(store, "rates", own)
    before = "lag(epoch(time)) OVER (PARTITION BY chain ORDER BY time, id)"
    if store.execute("SELECT count(prefix_tokens) FROM records").fetchone() == (0,):
        before = "NULL::DOUBLE"  # no order is asked of a log that states no prefix
    store.execute(
        f"""CREATE TABLE bill AS
        WITH timed AS (
            SELECT *, {_SECOND} AS utc_s, coalesce(session, '') || chr(0) || coalesce(agent, '')
                AS chain, prefix_tokens IS NOT NULL AND cache_read_tokens IS NULL AS modelled
            FROM records
        ), paused AS (
            SELECT *, CASE WHEN modelled THEN coalesce(pause_s, epoch(time) - {before}, 0) END
                AS idle_s
            FROM timed
        ), cached AS (
            SELECT * REPLACE (
                CASE WHEN modelled THEN CASE WHEN idle_s <= {ttl_s} THEN prefix_tokens ELSE 0 END
                    ELSE cache_read_tokens END AS cache_read_tokens,
                CASE WHEN modelled THEN input_tokens - CASE WHEN idle_s <= {ttl_s}
                    THEN prefix_tokens ELSE 0 END ELSE cache_write_tokens END AS cache_write_tokens)
            FROM paused
        ), rated AS (
            SELECT c.*, list_filter(r.variants, lambda x: {_HOLDS})[-1] AS v
            FROM cached c LEFT JOIN rates r ON r.model = c.model
                AND r.provider IS NOT DISTINCT FROM c.provider
                AND r.tier IS NOT DISTINCT FROM c.tier
        ), priced AS (
            SELECT * EXCLUDE (utc_s, pause_s, prefix_tokens, file, zoned, problem, currency),
                pause_s, prefix_tokens, file,
                stated_usd IS NOT NULL AND input_tokens IS NULL AND output_tokens IS NULL
                    AND requests = 0 AS cost_row,
                {", ".join(f"{sql} AS pico_{name}" for name, sql in part_sums("v").items())},
                (stated_usd * 1e12)::HUGEINT AS stated
            FROM rated
        )
        SELECT *, {" + ".join(f"pico_{name}" for name in PARTS)} AS computed,
            CASE WHEN cost_row AND split_part(source, '-', 1) IN (
                SELECT split_part(source, '-', 1) FROM priced WHERE NOT cost_row) THEN 0
                ELSE coalesce({" + ".join(f"pico_{name}" for name in PARTS)}, stated,
                    CASE WHEN error IS NOT NULL AND input_tokens = 0 AND output_tokens = 0
                        THEN 0 END) END AS usd
        FROM priced"""
    )
    store.execute("DROP TABLE records")
    rows = store.execute(
        """SELECT coalesce(model, 'no model named'), count(*),
            sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)), count(stated)
        FROM bill WHERE v IS NULL AND NOT cost_row AND (input_tokens > 0 OR output_tokens > 0)
        GROUP BY 1 ORDER BY 3 DESC, 1"""
    ).fetchall()
    return tuple(
        Unpriced(model=model, requests=count, tokens=int(tokens), stated=stated)
        for model, count, tokens, stated in rows
    )


def unlisted_tiers(
    store: "DuckDBPyConnection", own: Mapping[str, Price]
) -> tuple[tuple[str, str, int], ...]:
    """Return model, tier and requests where the list has the model, and no rate of the tier."""
    rows = store.execute(
        "SELECT model, any_value(provider), lower(tier), sum(requests)::BIGINT FROM bill "
        "WHERE tier IS NOT NULL AND v IS NOT NULL GROUP BY 1, 3 ORDER BY 4 DESC, 1"
    ).fetchall()
    prices = {model: find_price(model, provider, own) for model, provider, _, _ in rows}
    return tuple(
        (model, tier, requests)
        for model, _, tier, requests in rows
        if (price := prices[model]) and tier not in {"", *STANDARD_TIERS, *price.tiers}
    )


def part_sums(v: str) -> dict[str, str]:
    """Write the SQL of each part of a charge at the rates `v`, as `meter.charge` adds them up."""
    read, write, hour, reasoning = (
        f"coalesce({name}_tokens, 0)::HUGEINT"
        for name in ("cache_read", "cache_write", "cache_write_1h", "reasoning")
    )
    short = f"greatest({write} - {hour}, 0)"
    return {
        "input": f"greatest(input_tokens::HUGEINT - {read} - greatest({write}, {hour}), 0) "
        f"* {v}.input + requests::HUGEINT * {v}.request",
        "read": f"{read} * {v}.read",
        "write": f"{short} * {v}.write + {hour} * {v}.write_1h",
        "output": f"(output_tokens::HUGEINT - {reasoning}) * {v}.output",
        "reasoning": f"CASE WHEN output_tokens IS NOT NULL THEN {reasoning} * {v}.reasoning END",
    }


def charge_sum(v: str) -> str:
    """Write the SQL of a whole charge at the rates `v`; a part that is not known counts nothing."""
    return " + ".join(f"coalesce({sql}, 0)" for sql in part_sums(v).values())


def add_rates(store: "DuckDBPyConnection", table: str, own: Mapping[str, Price]) -> None:
    """Look up the price of every model, provider and tier of the records."""
    store.execute(
        f"CREATE TABLE {table} (model VARCHAR, provider VARCHAR, tier VARCHAR, "
        f"variants {_VARIANT}[])"
    )
    names = store.execute("SELECT DISTINCT model, provider, tier FROM records").fetchall()
    for model, provider, tier in names:
        price = None if model is None else find_price(model, provider, own)
        if price is not None:
            store.execute(
                f"INSERT INTO {table} VALUES (?, ?, ?, {_variants_sql(price, tier)})",
                [model, provider, tier],
            )


def add_target(store: "DuckDBPyConnection", price: Price) -> None:
    """Make the macro `pick_target(size, moment)`: the rates of a price for a prompt at a time."""
    holds = _HOLDS.replace(_OVER, "size > x.over").replace("time", "moment")
    store.execute(
        "CREATE OR REPLACE TEMP MACRO pick_target(size, moment) AS list_filter("
        f"{_variants_sql(price, None)}, lambda x: {holds.replace('utc_s', _SECOND_AT)})[-1]"
    )


def variants_of(price: Price, tier: str | None) -> Sequence[Rates]:
    """Return the rates of a price, those of a tier last: the last that hold are in force."""
    name = (tier or "").lower()
    special = () if not name or name in STANDARD_TIERS else price.tiers.get(name, ())
    return (*price.rates, *special)


def _variants_sql(price: Price, tier: str | None) -> str:
    return "[" + ", ".join(_variant(rates) for rates in variants_of(price, tier)) + "]"


def _variant(rates: Rates) -> str:
    write = rates.cache_write_usd_per_mtok
    whole = rates.input_usd_per_mtok
    values: dict[str, Any] = {
        "over": rates.over_input_tokens,
        "since": None if rates.since is None else f"DATE '{rates.since}'",
        "begins": None if rates.hours_utc is None else _second(rates.hours_utc[0]),
        "ends": None if rates.hours_utc is None else _second(rates.hours_utc[1]),
        "input": _pico(whole),
        "read": _pico(rates.cache_read_usd_per_mtok, whole),
        "write": _pico(write, whole),
        "write_1h": _pico(rates.kinds.get("cache_write_1h_tokens"), write, whole),
        "output": _pico(rates.output_usd_per_mtok),
        "reasoning": _pico(rates.reasoning_usd_per_mtok, rates.output_usd_per_mtok),
        "request": _pico((rates.usd_per_thousand_requests or Decimal(0)) * 1000),
    }
    fields = ", ".join(f"'{k}': {'NULL' if v is None else v}" for k, v in values.items())
    return f"{{{fields}}}::{_VARIANT}"


def _second(clock: Any) -> int:
    return int(clock.hour * 3600 + clock.minute * 60 + clock.second)


def _pico(*amounts: Decimal | None) -> int:
    """Turn the first known rate, in dollars per million tokens, into 1e-12 dollars a token."""
    rate = next(amount for amount in amounts if amount is not None)
    return picousd(usd_per_token(rate))
