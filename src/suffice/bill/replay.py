"""Replay a log's sessions against caches: what they would cost with other models or lifetimes.

Provider caches are per model and hold a prefix. A request finds warm what the last request that the
same model served for this agent had sent, as far as the prompts agree, if that was not longer ago
than the cache lives. The rest of the prompt is written at the model's price for writes, which is
the price of input where a provider asks none.
"""

from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct

from suffice.bill.charges import add_target
from suffice.config.sections import CACHE_LIFE_S
from suffice.meter import Price
from suffice.sessions.boundary import COMPACTED_SHARE
from suffice.units import usd_from_picousd

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ONE_HOUR_S = 3600.0


class Replayed(Struct, frozen=True, kw_only=True):
    """What a replay costs, in dollars by part."""

    read_usd: Decimal
    write_usd: Decimal
    output_usd: Decimal

    @property
    def usd(self) -> Decimal:
        """All parts together."""
        return self.read_usd + self.write_usd + self.output_usd


class Caching(Struct, frozen=True, kw_only=True):
    """How caches behave: how long a prefix lives, and which writes are for an hour.

    With `one_hour` None they are those that the log says; else all, or none.
    """

    ttl_s: float = CACHE_LIFE_S
    one_hour: bool | None = None


FIVE_MINUTES = Caching()


class Today(Struct, frozen=True, kw_only=True):
    """What can be replayed: `booked` dollars, of which the replay of today's models makes `usd`.

    `cached` says whether the log knows of any cached token. Only then can the replay be held
    against the books; it is taken to be as far off for a change as it is for today.
    """

    steps: int
    caching: Caching
    booked: Decimal
    usd: Decimal
    cached: bool

    @property
    def error(self) -> float:
        """How far the replay is from the books, as a share of them."""
        return abs(float(self.usd / self.booked) - 1) if self.booked else 0.0

    @property
    def before(self) -> Decimal:
        """What changes are compared with."""
        return self.booked if self.cached else self.usd

    def scale(self, replayed: Decimal) -> Decimal:
        """Put dollars of a replay beside `before`."""
        return replayed * self.before / self.usd if self.usd else replayed


def lay_out_steps(store: "DuckDBPyConnection", *, ttl_s: float) -> int:
    """Make the table `steps` of the requests that can be replayed; returns how many there are.

    They have a session, a time, counts and a price. `clock` is each agent's own time, `hour`
    whether its cache was last written for an hour, `life_s` how long the one before lived.
    `potential` is how much of the prompt could be warm: what the log says was read, or the shared
    prefix that it states, or where neither is known (the cache had lapsed, or none was used) the
    last prompt, if this one goes on from it.
    """
    store.execute(
        f"""CREATE OR REPLACE TABLE steps AS
        WITH ordered AS (
            SELECT hash(session, agent) AS chain, hash(session) AS session, agent, model,
                hash(id, time) AS draw, time, epoch(time) AS moment, pause_s,
                input_tokens AS input, output_tokens AS output, requests,
                coalesce(reasoning_tokens, 0) AS reasoning, prefix_tokens,
                cache_read_tokens AS read, modelled, v, row_number() OVER talk AS n,
                coalesce(last_value(CASE WHEN cache_write_tokens > 0
                    THEN cache_write_1h_tokens > 0 END IGNORE NULLS) OVER talk, false) AS hour,
                lag(input_tokens) OVER talk AS before, lag(epoch(time)) OVER talk AS previous
            FROM bill
            WHERE session IS NOT NULL AND time IS NOT NULL AND computed IS NOT NULL
                AND requests = 1 AND input_tokens > 0
            WINDOW talk AS (PARTITION BY session, agent ORDER BY time, id)
        ), paused AS (
            SELECT *, coalesce(pause_s, moment - previous, 0) AS idle_s,
                CASE WHEN lag(hour) OVER (PARTITION BY chain ORDER BY n) THEN {ONE_HOUR_S}
                    ELSE {ttl_s} END AS life_s
            FROM ordered
        )
        SELECT chain, session, agent, model, draw, time, n, input, output, reasoning, v, idle_s,
            requests, hour, life_s, sum(idle_s) OVER (PARTITION BY chain ORDER BY n) AS clock,
            CASE WHEN modelled THEN prefix_tokens
                WHEN read IS NOT NULL AND (n = 1 OR idle_s <= life_s OR read > 0) THEN read
                WHEN n > 1 AND input >= {COMPACTED_SHARE} * before THEN least(before, input)
                ELSE 0 END AS potential
        FROM paused"""
    )
    row = store.execute("SELECT count(*) FROM steps").fetchone()
    assert row is not None
    return int(row[0])


def replay(
    store: "DuckDBPyConnection",
    *,
    caching: Caching = FIVE_MINUTES,
    moved: str = "false",
    target: Price | None = None,
) -> Replayed:
    """Replay all steps; those for which the SQL `moved` is true go to `target`."""
    if target is not None:
        add_target(store, target)
    rates = "v" if target is None else "CASE WHEN moved THEN pick_target(input, time) ELSE v END"
    hour = "hour" if caching.one_hour is None else str(caching.one_hour).lower()
    life = f"CASE WHEN {hour} THEN {max(ONE_HOUR_S, caching.ttl_s)} ELSE {caching.ttl_s} END"
    row = store.execute(
        f"""SELECT coalesce(sum(warm::HUGEINT * x.read), 0),
            coalesce(sum((input - warm)::HUGEINT
                * CASE WHEN {hour} THEN x.write_1h ELSE x.write END + x.request), 0),
            coalesce(sum((output - reasoning)::HUGEINT * x.output
                + reasoning::HUGEINT * x.reasoning), 0)
        FROM (
            SELECT *, {rates} AS x, CASE WHEN n = 1 THEN potential WHEN last_clock IS NULL THEN 0
                WHEN clock - last_clock <= last_life THEN least(potential, last_input)
                ELSE 0 END AS warm
            FROM (
                SELECT *, lag(clock) OVER served AS last_clock,
                    lag(input) OVER served AS last_input, lag({life}) OVER served AS last_life
                FROM (SELECT *, {moved} AS moved FROM steps)
                WINDOW served AS (PARTITION BY chain, moved, CASE WHEN NOT moved THEN model END
                    ORDER BY n)
            )
        )"""
    ).fetchone()
    assert row is not None
    read, written, output = (usd_from_picousd(int(pico)) for pico in row)
    return Replayed(read_usd=read, write_usd=written, output_usd=output)


def share_of_sessions(share: float, *, seed: int) -> str:
    """Write the SQL that moves whole sessions, a share of them drawn at random."""
    return f"hash(session, {seed}) % 100000 < {round(share * 100000)}"


def share_of_requests(share: float, *, seed: int) -> str:
    """Write the SQL that moves single requests, a share of them drawn at random."""
    return f"hash(draw, {seed}) % 100000 < {round(share * 100000)}"
