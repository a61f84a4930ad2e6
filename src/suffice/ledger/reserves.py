"""Budgets of sessions and tags: what requests in flight may still cost is reserved in the books.

A reserve ends by itself once its request is booked, so nothing has to be settled, whichever process
dies. That of a request that was never booked counts as spent. Reserves are working state and no
books.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa
from msgspec import Struct

from suffice.ledger.database import Ledger
from suffice.ledger.schema import requests, time_us
from suffice.types import Spend
from suffice.units import picousd, usd_from_picousd

_METADATA = sa.MetaData()
_LOCK_SPACE = 783_634  # keeps the locks of budgets apart from those of migrations

reserves = sa.Table(
    "suffice_reserves",
    _METADATA,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("picousd", sa.BigInteger, nullable=False),
)


class SpendLimit(Struct, frozen=True, kw_only=True):
    """What an `account` may spend since a time, or ever; `spent` reads the books."""

    account: str
    usd: Decimal
    spent: Callable[[], Spend]
    since: datetime | None = None


class Overdrawn(Struct, frozen=True, kw_only=True):
    """A budget without room: what is booked, and what requests in flight may still cost."""

    budget: SpendLimit
    booked_usd: Decimal
    reserved_usd: Decimal


def reserve(
    ledger: Ledger,
    budgets: Iterable[SpendLimit],
    *,
    request_id: str,
    worst_usd: Decimal,
    assumed_usd: Decimal,
    now: datetime,
) -> Overdrawn | None:
    """Reserve the worst case of a request in every budget; in none where one has no room.

    A budget has room while less is spent and reserved than it allows, so it is overspent by at most
    one request. One of unknown cost counts as `assumed_usd`. Budgets are held one transaction at a
    time, in the order of their names, whoever writes. Raises LedgerError.
    """
    held = sorted(budgets, key=lambda budget: budget.account)
    with ledger.writing() as connection:
        for budget in held:
            _take_turns(connection, budget.account)
        booked = sa.exists().where(requests.c.request_id == reserves.c.request_id)
        accounts = reserves.c.account.in_([budget.account for budget in held])
        connection.execute(sa.delete(reserves).where(accounts, booked))
        for budget in held:
            since_us = 0 if budget.since is None else time_us(budget.since)
            query = sa.select(sa.func.coalesce(sa.func.sum(reserves.c.picousd), 0)).where(
                reserves.c.account == budget.account, reserves.c.time_us >= since_us
            )
            reserved_usd = usd_from_picousd(int(connection.execute(query).scalar_one()))
            spend = budget.spent()
            booked_usd = spend.known_usd + spend.unknown_count * assumed_usd
            if booked_usd + reserved_usd >= budget.usd:
                return Overdrawn(budget=budget, booked_usd=booked_usd, reserved_usd=reserved_usd)
        row = {"request_id": request_id, "time_us": time_us(now), "picousd": picousd(worst_usd)}
        rows = [{**row, "account": budget.account} for budget in held]
        connection.execute(sa.insert(reserves), rows)
    return None


def forget_reserves(ledger: Ledger, *, before: datetime) -> int:
    """Erase reserves of requests that came before a time; returns how many."""
    old = sa.delete(reserves).where(reserves.c.time_us < time_us(before))
    with ledger.writing() as connection:
        return connection.execute(old).rowcount


def _take_turns(connection: sa.Connection, account: str) -> None:
    """Hold a budget until the transaction ends; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        number = sa.func.hashtext(account)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_SPACE, number)))
