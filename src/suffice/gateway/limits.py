"""Rates and budgets of API keys: admitted before a request, settled after it.

One worker's admissions are exact: what is in flight is reserved at its worst case. Several workers
share a rate evenly, and learn of each other's spending when `refresh` brings it from the ledger.
Not for several threads: an event loop calls one method at a time.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from suffice.errors import InputError
from suffice.gateway.keys import Key, KeyRing
from suffice.ledger import Ledger, Window, totals
from suffice.types import Charge, Spend
from suffice.units import show_usd

Settled = Mapping[str, tuple[date, Decimal]]

_MINUTE_S = 60.0
_DAY = timedelta(days=1)
_IN_FLIGHT_S = 1.0  # soon enough to ask again once other requests have been settled


class Refused(Struct, frozen=True, kw_only=True):
    """Why a request may not go on, in the terms of the OpenAI error object."""

    status: Literal[401, 429]
    code: Literal["invalid_api_key", "rate_limit_exceeded", "insufficient_quota"]
    message: str
    hint: str
    retry_after_s: float | None = None


class Admission(Struct, frozen=True, kw_only=True):
    """A request that may go on, with what was reserved for it; settle it exactly once."""

    key_id: str
    day: date
    reserved_usd: Decimal


class _Account:
    """What one key has used: of its minute's requests, and of its day's dollars."""

    def __init__(self, *, day: date) -> None:
        self.tokens: float | None = None
        self.filled_s = 0.0
        self.day = day
        self.elsewhere_usd = self.settled_usd = self.reserved_usd = Decimal(0)

    def refill(self, *, per_minute: float, now_s: float) -> float:
        """Add what has run into the bucket, which begins full and holds a minute's requests."""
        most = max(per_minute, 1.0)
        if self.tokens is None:
            self.tokens = most
        gained = max(now_s - self.filled_s, 0.0) * per_minute / _MINUTE_S
        self.tokens, self.filled_s = min(most, self.tokens + gained), now_s
        return self.tokens

    def begin(self, day: date) -> None:
        """Start a day's account; what is still in flight belongs to the day it began."""
        if day > self.day:
            self.day = day
            self.elsewhere_usd = self.settled_usd = self.reserved_usd = Decimal(0)


class KeyLimiter:
    """Lets requests in by key, rate and budget.

    `workers` is how many processes share the keys. `assumed_usd` stands for a request whose charge
    or worst case is unknown: such a request is never free. Raises InputError for an amount below 0.
    """

    def __init__(self, ring: KeyRing, *, assumed_usd: Decimal, workers: int = 1) -> None:
        if not assumed_usd >= 0 or workers < 1:
            raise InputError("a limiter needs an assumed charge of 0 or more, and a worker")
        self.ring = ring
        self._assumed_usd = assumed_usd
        self._workers = workers
        self._accounts: dict[str, _Account] = {}

    def admit(
        self, presented: str | None, *, worst_usd: Decimal | None, now: datetime, now_s: float
    ) -> Admission | Refused:
        """Let a request in, reserving `worst_usd`, or say why not.

        `now` is the wall clock, which begins days in UTC; `now_s` a clock that never goes back.
        """
        key = self.ring.find(presented)
        if key is None:
            return _UNKNOWN_KEY
        account = self._account(key, day=now.astimezone(UTC).date())
        worst_usd = self._assumed_usd if worst_usd is None else worst_usd
        refused = self._too_fast(key, account, now_s=now_s)
        refused = refused or _too_dear(key, account, worst_usd=worst_usd, now=now)
        if refused is not None:
            return refused
        if account.tokens is not None:
            account.tokens -= 1.0
        account.reserved_usd += worst_usd
        return Admission(key_id=key.name, day=account.day, reserved_usd=worst_usd)

    def settle(self, admission: Admission, charge: Charge | None) -> None:
        """Put the charge in the place of what was reserved; None means that no engine was asked.

        Call it after the ledger row is written. An unknown charge counts as the reserved one.
        """
        account = self._accounts.get(admission.key_id)
        if account is None or account.day != admission.day:
            return
        account.reserved_usd -= admission.reserved_usd
        if charge is not None:
            account.settled_usd += admission.reserved_usd if charge.usd is None else charge.usd

    def settled(self) -> Settled:
        """Note what has been settled here, before the ledger is read for `refresh`."""
        return {name: (one.day, one.settled_usd) for name, one in self._accounts.items()}

    def refresh(self, spent: Mapping[str, Spend], *, before: Settled, day: date) -> None:
        """Take over what the ledger says that each key spent on `day`; see `spent_on`.

        Needed at the start, and every few seconds where workers are several. `before` is what
        `settled` said before the reading: anything settled since counts on top.
        """
        for name, spend in spent.items():
            if name not in self.ring.names:
                continue
            account = self._accounts.setdefault(name, _Account(day=day))
            account.begin(day)
            known_day, known_usd = before.get(name, (day, Decimal(0)))
            if account.day == day:
                account.settled_usd -= known_usd if known_day == day else Decimal(0)
                unknown_usd = spend.unknown_count * self._assumed_usd
                account.elsewhere_usd = spend.known_usd + unknown_usd

    def reload(self, ring: KeyRing) -> None:
        """Take over a changed key file; what was used is kept under each key's name."""
        self.ring = ring

    def _account(self, key: Key, *, day: date) -> _Account:
        account = self._accounts.setdefault(key.name, _Account(day=day))
        account.begin(day)
        return account

    def _too_fast(self, key: Key, account: _Account, *, now_s: float) -> Refused | None:
        """Refill this worker's share of the minute, which may also be used at once."""
        if key.requests_per_minute is None:
            return None
        per_minute = key.requests_per_minute / self._workers
        tokens = account.refill(per_minute=per_minute, now_s=now_s)
        if tokens >= 1.0:
            return None
        return Refused(
            status=429,
            code="rate_limit_exceeded",
            message=f"this key may make {key.requests_per_minute} requests a minute",
            hint="wait, or ask the operator for a higher limit",
            retry_after_s=(1.0 - tokens) * _MINUTE_S / per_minute,
        )


def spent_on(ledger: Ledger, day: date) -> dict[str, Spend]:
    """Read what each key has spent on a day in UTC; the ledger adds up all of that day's rows."""
    midnight = datetime.combine(day, time(), UTC)
    window = Window(since=midnight, until=midnight + _DAY)
    return {row.key: row.spend for row in totals(ledger, by="key_id", window=window) if row.key}


def _too_dear(key: Key, account: _Account, *, worst_usd: Decimal, now: datetime) -> Refused | None:
    budget_usd = key.budget_usd_per_day
    if budget_usd is None:
        return None
    settled_usd = account.elsewhere_usd + account.settled_usd
    if settled_usd + account.reserved_usd + worst_usd <= budget_usd:
        return None
    midnight = datetime.combine(account.day, time(), UTC) + _DAY
    waits_for_others = settled_usd + worst_usd <= budget_usd
    return Refused(
        status=429,
        code="insufficient_quota",
        message=f"this key's budget of {show_usd(budget_usd)} a day has no room for this request",
        hint="lower max_tokens, or wait until midnight UTC",
        retry_after_s=_IN_FLIGHT_S if waits_for_others else (midnight - now).total_seconds(),
    )


_UNKNOWN_KEY = Refused(
    status=401,
    code="invalid_api_key",
    message="no such API key, or none was sent",
    hint="send the header: Authorization: Bearer KEY",
)
