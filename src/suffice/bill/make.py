"""From logs to the whole bill: read, charge, sum up, and ask what if."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from suffice.bill.charges import Unpriced, charge_records, unlisted_tiers
from suffice.bill.habits import cache_habits, effort_habits, repeated_prompts, tier_habits
from suffice.bill.hosting import DEFAULT_MODEL, self_hosting
from suffice.bill.moves import moves
from suffice.bill.replay import Caching, Today, lay_out_steps, replay
from suffice.bill.sums import Bill, compare_stated, mishaps, period, sum_lines
from suffice.bill.what_if import WhatIf, one
from suffice.config.sections import CACHE_LIFE_S
from suffice.errors import InputError
from suffice.logs.clean import Cleaned
from suffice.logs.read import DEFAULTS, LogOptions, Logs, read_logs
from suffice.meter import Price
from suffice.types import Say
from suffice.units import usd_from_picousd

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class BillOptions(Struct, frozen=True, kw_only=True):
    """What to charge and what to ask: own prices by model, the cache's life, models to compare.

    Without a `host` model nothing is asked about self-hosting.
    """

    prices: Mapping[str, Price] = {}
    ttl_s: float = CACHE_LIFE_S
    to: str | None = None
    host: str | None = DEFAULT_MODEL
    logs: LogOptions = DEFAULTS


@contextmanager
def billed(
    names: Sequence[str], options: BillOptions, *, say: Say = lambda _stage: None
) -> Iterator[tuple[Bill, Logs]]:
    """Read logs and make their bill; the logs stay open for what else is drawn from them.

    Raises InputError where nothing can be read, or nothing in it is a request.
    """
    say("reading logs")
    with read_logs(names, options.logs) as logs:
        store = logs.store
        if not store.execute("SELECT count(*) FROM records").fetchone()[0]:
            reasons = "; ".join(f"{s.path}: {s.reason}" for s in logs.skipped[:3])
            raise InputError(
                f"no request in {', '.join(names)}" + (f" ({reasons})" if reasons else ""),
                hint="docs/logs.md lists what is read; --column names columns of other tables",
            )
        say("adding up")
        unpriced = charge_records(store, options.prices, ttl_s=options.ttl_s)
        whole, lines = sum_lines(store)
        modelled = store.execute("SELECT count(*) FROM bill WHERE modelled").fetchone()[0]
        say("asking what if")
        bill = Bill(
            sources=tuple(names),
            formats=logs.formats,
            files=logs.files,
            bytes=logs.bytes,
            period=period(store),
            whole=whole,
            lines=lines,
            stated=compare_stated(store),
            mishaps=mishaps(store),
            unpriced=unpriced,
            skipped=logs.skipped,
            notes=(
                *_unlisted(unlisted_tiers(store, options.prices)),
                *_notes(logs.cleaned, unpriced, modelled, options),
            ),
            what_if=tuple(_what_if(store, options)),
        )
        yield bill, logs


def _what_if(store: "DuckDBPyConnection", options: BillOptions) -> Iterator[WhatIf]:
    caching = Caching(ttl_s=options.ttl_s)
    steps = lay_out_steps(store, ttl_s=options.ttl_s)
    booked, cached = one(
        store,
        "SELECT sum(computed), sum(coalesce(cache_read_tokens, 0) + coalesce(cache_write_tokens, "
        "0)) FROM bill WHERE session IS NOT NULL AND time IS NOT NULL AND requests = 1 AND "
        "computed IS NOT NULL AND input_tokens > 0",
    )
    today = Today(
        steps=steps,
        caching=caching,
        booked=usd_from_picousd(booked),
        usd=replay(store, caching=caching).usd,
        cached=bool(cached),
    )
    yield from moves(store, options.prices, to=options.to, today=today)
    yield from cache_habits(store, today)
    yield from effort_habits(store)
    yield from tier_habits(store, options.prices)
    yield from repeated_prompts(store)
    if options.host is not None:
        yield from self_hosting(store, model=options.host)


def _unlisted(tiers: tuple[tuple[str, str, int], ...]) -> Iterator[str]:
    for model, tier, requests in tiers[:5]:
        yield (
            f"{requests:,} requests to {model} are of the tier {tier}, for which no list has a "
            "rate: they are charged as standard ones, and may have cost more or less"
        )


def _notes(
    cleaned: Cleaned, unpriced: tuple[Unpriced, ...], modelled: int, options: BillOptions
) -> Iterator[str]:
    """Say in sentences what the figures leave open."""
    for doubt in cleaned.doubts:
        one, other = doubt.logs
        yield (
            f"{doubt.requests:,} requests of {one} and of {other} may be the same calls, counted "
            "twice: nothing in both names them. Give one of the two logs"
        )
    if unpriced:
        names = ", ".join(one.model for one in unpriced[:5])
        yield (
            f"no price is known for {names}"
            + (f" and {len(unpriced) - 5} more" if len(unpriced) > 5 else "")
            + ": their cost is what the log states, or unknown; --prices names a file with your own"
        )
    if modelled:
        yield (
            f"the log states shared prefixes and no cache counts in {modelled:,} requests: reads "
            f"and writes are modelled with a cache that lives {options.ttl_s:g} seconds"
        )
    for words, count in {
        "rows were states or copies of requests that are counted once": cleaned.repeated,
        "rows were requests that a log of another format has too, and are counted once": (
            cleaned.matched
        ),
        "printed sums of runs stand for calls that are not told apart: turns count as requests": (
            cleaned.runs.turned
        ),
        "printed sums of runs do not say of how many calls: they count as no request": (
            cleaned.runs.uncounted
        ),
        "printed sums of runs name neither model nor dollars: give the agent's session files too": (
            cleaned.runs.nameless
        ),
        "printed sums of runs are counted less the calls that are here one by one": (
            cleaned.runs.held
        ),
        "traced calls only sum up the calls below them, and are not added": cleaned.nested,
        "rows of usage reports cover requests that are here one by one, and are not added": (
            cleaned.overlapping
        ),
        "streams have no logged end: their output is what was logged last, and may be too low": (
            cleaned.unended
        ),
        f"times have no zone and were read as {options.logs.timezone}: --timezone names another": (
            cleaned.zoneless
        ),
        "requests have no time: no day, no session replay": cleaned.undated,
        "requests have more reasoning than output, so it was added to the output": cleaned.added,
    }.items():
        if count:
            yield f"{count:,} {words}"
    for currency, rows in cleaned.foreign.items():
        yield f"{rows:,} stated costs are in {currency}, not in dollars, and were left out"
