"""What if caches, reasoning and slower tiers were used better: the habits that a log shows."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec.structs import replace as with_changes

from suffice.bill.charges import SIZE, add_target, charge_sum
from suffice.bill.prices import find_price
from suffice.bill.replay import ONE_HOUR_S, Caching, Today, replay
from suffice.bill.what_if import UNPROVEN, WhatIf, one, proof_of
from suffice.logs.sql import sql_text
from suffice.meter import Price
from suffice.sessions.boundary import COMPACTED_SHARE
from suffice.units import show_share, show_usd, usd_from_picousd

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CACHEABLE_TOKENS = 1024  # shorter prefixes are held by no provider's cache
SLOW_TIERS = ("batch", "flex")
_COUNTED = "token counts, order and pauses of the requests"


def cache_habits(store: "DuckDBPyConnection", today: Today) -> Iterator[WhatIf]:
    """Say what missed prefixes, lapses and the one-hour cache are worth."""
    if not today.steps:
        return
    caching = today.caching
    yield from _never_cached(today)
    yield from _missed(store, caching)
    lapses, lost = one(
        store,
        f"""SELECT count(*), sum(least(potential, input)::HUGEINT * (v.write - v.read))
        FROM steps WHERE n > 1 AND idle_s > life_s AND idle_s <= {ONE_HOUR_S}
            AND v.write > v.read AND potential > {CACHEABLE_TOKENS}""",
    )
    if lapses and caching.ttl_s < ONE_HOUR_S:
        yield WhatIf(
            name="lapses",
            title=f"shorter pauses, where the cache just lapsed within an hour ({lapses:,})",
            usd_before=today.before,
            usd_after=today.before - usd_from_picousd(lost),
            measured=_COUNTED,
            modelled="the whole prefix would still have been warm",
            unknown="whether anyone can come back sooner; a request that keeps the cache warm "
            "costs a read of the whole prefix",
        )
    paid, hours = one(
        store,
        "SELECT count(*), count(*) FILTER (hour) FROM steps WHERE v.write_1h > v.write",
    )
    for name, hour in (("one-hour-cache", True), ("five-minute-cache", False)):
        if not paid or hours == (paid if hour else 0) or caching.ttl_s >= ONE_HOUR_S:
            continue
        life_s = ONE_HOUR_S if hour else caching.ttl_s
        after = replay(store, caching=Caching(ttl_s=life_s, one_hour=hour))
        yield WhatIf(
            name=name,
            title=f"the {name.replace('-cache', '')} cache for every write",
            usd_before=today.before,
            usd_after=today.scale(after.usd),
            measured=_COUNTED,
            modelled=f"every write at the price of that cache, every prefix warm for {life_s:,g} "
            "seconds",
            unknown="nothing about answers: they are the same",
        )


def _never_cached(today: Today) -> Iterator[WhatIf]:
    """Replay what would be warm, where a log knows of no cached token at all."""
    if today.cached or not today.booked:
        return
    yield WhatIf(
        name="caching",
        title="prompt caching, which the log shows no trace of",
        usd_before=today.booked,
        usd_after=today.usd,
        measured=_COUNTED,
        modelled="prompts that go on from the last one share it as a prefix",
        unknown="whether they do: the log has no texts that would tell, or the provider caches and "
        "the log does not say so",
    )


def _missed(store: "DuckDBPyConnection", caching: Caching) -> Iterator[WhatIf]:
    """Count prefixes that were sent again while the cache lived, and not read from it."""
    missed, lost, blank = one(
        store,
        f"""SELECT count(*), sum((least(last_input, input) - potential)::HUGEINT
            * (v.write - v.read)), count(*) FILTER (potential = 0)
        FROM (SELECT *, lag(input) OVER (PARTITION BY chain, model ORDER BY n) AS last_input,
                clock - lag(clock) OVER (PARTITION BY chain, model ORDER BY n) AS since FROM steps)
        WHERE since <= {caching.ttl_s} AND last_input > {CACHEABLE_TOKENS}
            AND input >= {COMPACTED_SHARE} * last_input AND potential < 0.5 * last_input""",
    )
    if not missed:
        return
    (spent,) = one(store, "SELECT sum(usd) FROM bill")
    first = (
        f"{blank:,} of them read nothing: look for a date, an id or a changed tool in the first "
        "block"
    )
    yield WhatIf(
        name="missed-prefixes",
        title=f"no missed prefixes, where one was sent shortly before ({missed:,})",
        usd_before=usd_from_picousd(spent),
        usd_after=usd_from_picousd(spent - max(lost, 0)),
        measured=f"what was read and when; {first}",
        modelled="the prompts begin alike, since the later has at least "
        f"{show_share(COMPACTED_SHARE)} of the earlier's tokens",
        unknown="how many of them were compactions or new talks, which no cache could have held",
    )


def effort_habits(store: "DuckDBPyConnection") -> Iterator[WhatIf]:
    """Say how much reasoning costs: the most that a lower effort can save."""
    total, known, reasoning, requests = one(
        store,
        "SELECT sum(usd), count(reasoning_tokens), sum(pico_reasoning), "
        "count(*) FILTER (reasoning_tokens > 0) FROM bill WHERE computed IS NOT NULL",
    )
    if not total:
        return
    if not known:
        yield WhatIf(
            name="effort",
            title="less reasoning effort",
            usd_before=None,
            usd_after=None,
            measured="nothing: the log does not count reasoning tokens",
            modelled="nothing",
            unknown="what part of the output is reasoning",
        )
        return
    each = usd_from_picousd(total) / max(requests, 1) * 2
    yield WhatIf(
        name="effort",
        title="half of the reasoning",
        usd_before=usd_from_picousd(total),
        usd_after=usd_from_picousd(total - reasoning // 2),
        low=usd_from_picousd(total - reasoning),
        high=usd_from_picousd(total),
        measured=f"reasoning is {show_usd(usd_from_picousd(reasoning))}, "
        f"{show_share(reasoning / total)} of the bill: no effort setting saves more",
        modelled="half as many reasoning tokens; prompts and answers stay",
        unknown="how much less the model reasons at a lower effort, and " + UNPROVEN,
        proof=proof_of(
            "request",
            usd_each=each,
            command="suffice bench tasks.jsonl --ladder suffice.toml --out trials.jsonl",
        ),
    )


def tier_habits(store: "DuckDBPyConnection", own: Mapping[str, Price]) -> Iterator[WhatIf]:
    """Price requests that wait for nobody at slower tiers: those alone in their session."""
    models = store.execute(
        "SELECT model, any_value(provider) FROM bill WHERE computed IS NOT NULL "
        "GROUP BY 1 ORDER BY sum(computed) DESC LIMIT 5"
    ).fetchall()
    for tier in SLOW_TIERS:
        before = after = count = 0
        for model, provider in models:
            price = find_price(model, provider, own)
            rates = () if price is None else price.tiers.get(tier, ())
            if price is None or not rates:
                continue
            today = tuple(with_changes(rate, since=None) for rate in rates[-1:])
            add_target(store, with_changes(price, rates=today, tiers={}))
            sums = one(
                store,
                f"""SELECT sum(requests), sum(computed), sum({charge_sum("x")}) FROM (
                    SELECT *, pick_target({SIZE}, time) AS x,
                        count(*) OVER (PARTITION BY coalesce(session, id, rowid::VARCHAR))
                            AS turns
                    FROM bill WHERE computed IS NOT NULL AND error IS NULL
                        AND coalesce(lower(tier), '') NOT IN ('batch', 'flex')
                        AND model = {sql_text(model)})
                WHERE turns = 1""",
            )
            count, before, after = count + sums[0], before + sums[1], after + sums[2]
        if count and after < before:
            yield WhatIf(
                name=tier,
                title=f"the {tier} tier, for requests outside of any longer session ({count:,})",
                usd_before=usd_from_picousd(before),
                usd_after=usd_from_picousd(after),
                measured="counts, and that no other request of the session follows",
                modelled=f"today's list prices of the {tier} tier",
                unknown="whether somebody waits: a batch may take a day, flex minutes",
            )


def repeated_prompts(store: "DuckDBPyConnection") -> Iterator[WhatIf]:
    """Find prompts that come again word for word, and short answers out of a closed set."""
    known, again, usd = one(
        store,
        """SELECT count(*), count(*) FILTER (nth > 1), sum(usd) FILTER (nth > 1) FROM (
            SELECT usd, row_number() OVER (PARTITION BY model, prompt_hash ORDER BY time) AS nth
            FROM bill WHERE prompt_hash IS NOT NULL AND error IS NULL)""",
    )
    if again >= max(20, known // 100):
        yield WhatIf(
            name="repeats",
            title=f"{again:,} of {known:,} prompts answered before, word for word",
            usd_before=usd_from_picousd(usd),
            usd_after=Decimal(0),
            measured="the very same prompt went to the same model earlier",
            modelled="the earlier answer serves again",
            unknown="whether a new answer was wanted each time",
        )
    rows = store.execute(
        """SELECT coalesce(key, 'no key'), model, count(*), count(DISTINCT answer_hash), sum(usd)
        FROM bill WHERE answer_hash IS NOT NULL AND error IS NULL
            AND output_tokens - coalesce(reasoning_tokens, 0) <= 24
        GROUP BY 1, 2 HAVING count(*) >= 200 AND count(*) >= 5 * count(DISTINCT answer_hash)
            AND count(DISTINCT answer_hash) > 1 ORDER BY 5 DESC LIMIT 1"""
    ).fetchall()
    for key, model, count, answers, pico in rows:
        cost = usd_from_picousd(int(pico or 0))
        yield WhatIf(
            name="latent",
            title=f"{count:,} requests of {key} to {model} have {answers:,} short answers",
            usd_before=cost,
            usd_after=None,
            low=Decimal(0),
            high=cost,
            measured="answers of at most 24 tokens out of a small set",
            modelled="a latent rung answers without decoding, at no price",
            unknown="what share it answers within the risk you allow: fit it and see",
            proof=proof_of(
                "request",
                usd_each=cost / count,
                command="suffice latent fit trials.jsonl --reference REFERENCE --alpha 0.05",
            ),
        )
