"""What each API key has used, shared by all processes that share a ledger.

An account is held by one transaction at a time, so what is decided under it is exact however many
workers and replicas there are. Accounts and reservations are working state, not books: they may be
deleted while no gateway runs, and are made again from the ledger.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from suffice.ledger.database import Ledger
from suffice.ledger.schema import requests, time_us

DAY_US = 86_400_000_000
_METADATA = sa.MetaData()

accounts = sa.Table(
    "suffice_accounts",
    _METADATA,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("day", sa.BigInteger, nullable=False),
    sa.Column("booked_picousd", sa.BigInteger, nullable=False),
    sa.Column("unknown_picousd", sa.BigInteger, nullable=False),
    sa.Column("requests_left", sa.Double),
    sa.Column("requests_at_s", sa.Double, nullable=False),
    sa.Column("tokens_left", sa.Double),
    sa.Column("tokens_at_s", sa.Double, nullable=False),
)

reservations = sa.Table(
    "suffice_reservations",
    _METADATA,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("day", sa.BigInteger, nullable=False),
    sa.Column("picousd", sa.BigInteger, nullable=False),
    sa.Column("tokens", sa.BigInteger, nullable=False),
    sa.Column("until_s", sa.Double, nullable=False),
)


class Reservation(Struct, kw_only=True):
    """What a request in flight may still cost, and until when it can be in flight at all."""

    request_id: str
    key_id: str
    day: int
    until_s: float
    picousd: int = 0
    tokens: int = 0


class Account(Struct, kw_only=True):
    """What a key has used of a `day` (since 1970, UTC) and of its minute.

    `booked_picousd` is the sum of the day's known charges, `unknown_picousd` of what was reserved
    for requests whose charge nobody knows. A bucket that is None has never been used: it is full.
    """

    key_id: str
    day: int
    booked_picousd: int = 0
    unknown_picousd: int = 0
    requests_left: float | None = None
    requests_at_s: float = 0.0
    tokens_left: float | None = None
    tokens_at_s: float = 0.0


class HeldAccounts:
    """Accounts under lock: change them in place, and open and end reservations."""

    def __init__(
        self,
        connection: sa.Connection,
        *,
        now: datetime,
        held: Mapping[str, Account],
        open_: Mapping[str, Reservation],
    ) -> None:
        self.now = now
        self.day = time_us(now) // DAY_US
        self.held = held
        self.reservations = dict(open_)
        self._before = frozenset(open_)
        self._changed: set[str] = set()
        self._connection = connection

    def of(self, key_id: str) -> list[Reservation]:
        """List the reservations of a key."""
        return [one for one in self.reservations.values() if one.key_id == key_id]

    def reserve(self, reservation: Reservation) -> None:
        """Open a reservation, or put it in the place of the request's former one."""
        self.reservations[reservation.request_id] = reservation
        self._changed.add(reservation.request_id)

    def end(self, request_id: str) -> Reservation | None:
        """End a reservation; None when it had ended before."""
        return self.reservations.pop(request_id, None)

    def read_day(self, key_id: str) -> tuple[int, int]:
        """Return what the books hold of a key's day: picodollars, and requests of unknown charge.

        Requests whose reservation is still open are left out: ending it will count them.
        """
        day_us = self.day * DAY_US
        is_open = sa.exists().where(reservations.c.request_id == requests.c.request_id)
        row = self._connection.execute(
            sa.select(
                sa.func.coalesce(sa.func.sum(requests.c.charge_picousd), 0).label("picousd"),
                (sa.func.count() - sa.func.count(requests.c.charge_picousd)).label("unknown"),
            ).where(
                requests.c.key_id == key_id,
                requests.c.time_us >= day_us,
                requests.c.time_us < day_us + DAY_US,
                ~is_open,
            )
        ).one()
        return int(row.picousd), row.unknown

    def write(self) -> None:
        """Write the accounts and the reservations back."""
        connection = self._connection
        rows = [msgspec.structs.asdict(account) for account in self.held.values()]
        connection.execute(_UPDATE, [{"of_" + k: v for k, v in row.items()} for row in rows])
        ended = self._before - self.reservations.keys()
        renewed = self._before & self._changed
        if ended or renewed:
            connection.execute(_END, [{"gone": name} for name in ended | renewed])
        opened = [self.reservations[i] for i in self._changed if i in self.reservations]
        if opened:
            rows = [msgspec.structs.asdict(one) for one in opened]
            connection.execute(sa.insert(reservations), rows)


@contextmanager
def held_accounts(
    ledger: Ledger, key_ids: Iterable[str], *, now: datetime
) -> Iterator[HeldAccounts]:
    """Hold the accounts of keys for one transaction; raises LedgerError, and nothing has changed.

    PostgreSQL's clock stands in for the caller's, so that replicas need not agree on the time.
    Accounts are locked in the order of their names: two transactions never wait for each other.
    """
    names = sorted(set(key_ids))
    with ledger.writing() as connection:
        shared = connection.dialect.name == "postgresql"
        known = _lock(connection, names)
        if len(known) < len(names):
            fresh = [{"key_id": name} for name in names if name not in known]
            connection.execute(_INSERT, fresh)
            known = _lock(connection, names)
        if shared:
            now = connection.execute(_DATABASE_CLOCK).scalar_one().astimezone(UTC)
        rows = connection.execute(_OPEN, {"names": names})
        open_ = {row.request_id: Reservation(**row._mapping) for row in rows}
        page = HeldAccounts(connection, now=now, held=known, open_=open_)
        yield page
        page.write()


def _lock(connection: sa.Connection, names: list[str]) -> dict[str, Account]:
    rows = connection.execute(_HOLD, {"names": names})
    return {row.key_id: Account(**row._mapping) for row in rows}


# Of day -1: the first transaction that holds an account reads its day from the books.
_INSERT = sa.text(
    "INSERT INTO suffice_accounts"
    " (key_id, day, booked_picousd, unknown_picousd, requests_at_s, tokens_at_s)"
    " VALUES (:key_id, -1, 0, 0, 0, 0) ON CONFLICT DO NOTHING"
)
_NAMES: sa.BindParameter[list[str]] = sa.bindparam("names", expanding=True)
_HOLD = (
    sa.select(accounts)
    .where(accounts.c.key_id.in_(_NAMES))
    .order_by(accounts.c.key_id)
    .with_for_update()
)
_OPEN = sa.select(reservations).where(reservations.c.key_id.in_(_NAMES))
_END = sa.delete(reservations).where(reservations.c.request_id == sa.bindparam("gone"))
_UPDATE = (
    sa.update(accounts)
    .where(accounts.c.key_id == sa.bindparam("of_key_id"))
    .values({c.name: sa.bindparam("of_" + c.name) for c in accounts.c if c.name != "key_id"})
)
_DATABASE_CLOCK = sa.text("SELECT clock_timestamp()")
