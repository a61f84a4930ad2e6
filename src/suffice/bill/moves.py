"""What if other models answered: all sessions, some of them, single requests, sub-agents."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct

from suffice.bill.charges import SIZE, add_target, charge_sum
from suffice.bill.prices import cheaper_models, find_price
from suffice.bill.replay import Today, replay, share_of_requests, share_of_sessions
from suffice.bill.what_if import UNPROVEN, Proof, WhatIf, one, proof_of
from suffice.errors import PriceError
from suffice.logs.sql import sql_text
from suffice.meter import Price
from suffice.units import show_share, usd_from_picousd

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SEEDS = range(3)
MOST_STEPS = 200_000  # of a log that is replayed with several draws: in longer ones they agree
SHARE = 0.3
_COMMAND = "suffice bill LOG --sample 200 --out tasks.jsonl"
_TOKENS = "whether it would use as many tokens, and "


class Move(Struct, frozen=True, kw_only=True):
    """A move from the dearest model to another; `seeds` draw its sessions and requests."""

    source: str
    target: str
    price: Price
    today: Today
    seeds: Sequence[int]


def moves(
    store: "DuckDBPyConnection",
    own: Mapping[str, Price],
    *,
    to: str | None,
    today: Today,
) -> Iterator[WhatIf]:
    """Work out moves of the dearest model to `to`, or to cheaper ones of its family.

    Raises PriceError where nobody knows a price of `to`.
    """
    top = store.execute(
        "SELECT model, any_value(provider), sum(computed) FROM bill WHERE computed IS NOT NULL "
        "GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 1"
    ).fetchone()
    if top is None:
        return
    model, provider, _ = top
    targets = [to] if to else cheaper_models(model, provider, own)[:2]
    for number, target in enumerate(targets):
        price = find_price(target, None if to else provider, own)
        if price is None:
            raise PriceError(
                f"nobody lists a price of {target}", hint="give it in a file: --prices prices.toml"
            )
        if not today.steps:
            yield _without_sessions(store, model, target, price)
            continue
        move = Move(
            source=model,
            target=target,
            price=price,
            today=today,
            seeds=SEEDS if today.steps <= MOST_STEPS else SEEDS[:1],
        )
        yield from _replayed(store, move, shares=number == 0)


def _replayed(store: "DuckDBPyConnection", move: Move, *, shares: bool) -> Iterator[WhatIf]:
    """Replay the move of everything, and with `shares` that of sessions, requests, sub-agents."""
    model = f"model = {sql_text(move.source)}"
    proof = _proof(store, move, model)
    changes = {"all": (f"every request of {move.source} on {move.target}", [model])}
    if shares:
        aside = f"{model} AND agent IS NOT NULL AND agent <> 'main'"
        changes["sessions"] = (
            f"30 % of the sessions of {move.source}, whole, on {move.target}",
            [f"{model} AND {share_of_sessions(SHARE, seed=seed)}" for seed in move.seeds],
        )
        changes["requests"] = (
            f"30 % of the requests of {move.source}, one by one, on {move.target}",
            [f"{model} AND {share_of_requests(SHARE, seed=seed)}" for seed in move.seeds],
        )
        if one(store, f"SELECT count(*) FROM steps WHERE {aside}")[0]:
            changes["sub-agents"] = (f"sub-agents of {move.source} on {move.target}", [aside])
    for name, (title, moved) in changes.items():
        today = move.today
        after = [
            today.scale(replay(store, caching=today.caching, moved=each, target=move.price).usd)
            for each in moved
        ]
        middle = sorted(after)[len(after) // 2]
        error = Decimal(today.error)
        yield WhatIf(
            name=f"move-{name}",
            title=title,
            usd_before=today.before,
            usd_after=middle,
            low=min(after) * (1 - error),
            high=max(after) * (1 + error),
            measured="token counts, order and pauses of the requests",
            modelled=f"what is warm in each model's cache; the same replay of today's models is "
            f"{show_share(today.error)} off the bill, and the change is scaled to it",
            unknown=_TOKENS + UNPROVEN,
            proof=None if name == "requests" else proof,
        )


def _proof(store: "DuckDBPyConnection", move: Move, model: str) -> Proof:
    """Size an experiment on whole sessions, each run with both models."""
    (sessions,) = one(store, f"SELECT count(DISTINCT session) FROM steps WHERE {model}")
    (usd,) = one(store, f"SELECT sum(computed) FROM bill WHERE {model} AND session IS NOT NULL")
    ratio = move.price.rates[-1].output_usd_per_mtok
    here = find_price(move.source, None, {})
    both = 1 + (ratio / here.rates[-1].output_usd_per_mtok if here is not None else Decimal(1))
    each = usd_from_picousd(usd) / sessions * both if sessions else None
    return proof_of("session", usd_each=each, command=_COMMAND)


def _without_sessions(store: "DuckDBPyConnection", model: str, target: str, price: Price) -> WhatIf:
    """Price the same counts, cached as they were, at the other model's rates."""
    add_target(store, price)
    count, before, after = one(
        store,
        f"""SELECT count(*), sum(computed), sum({charge_sum("x")})
        FROM (SELECT *, pick_target({SIZE}, time) AS x FROM bill
            WHERE model = {sql_text(model)} AND computed IS NOT NULL)""",
    )
    each = usd_from_picousd(before + after) / count if count else None
    return WhatIf(
        name="move-all",
        title=f"every request of {model} on {target}",
        usd_before=usd_from_picousd(before),
        usd_after=usd_from_picousd(after),
        measured="token counts, cached ones too",
        modelled="nothing: the log names no sessions, so caches cannot be replayed",
        unknown="whether its cache would hold as much, " + _TOKENS + UNPROVEN,
        proof=proof_of("request", usd_each=each, command=_COMMAND),
    )
