"""Rates and budgets of API keys: reserved before a request, settled after it.

What a key has used stands in the ledger's database, and is read, decided on and written back in one
transaction: limits hold over all workers and replicas together. What is in flight counts at its
worst case, so a key overspends by at most what one charge is above its reserve.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from suffice.errors import InputError
from suffice.gateway.keys import Key, KeyRing
from suffice.ledger import Ledger
from suffice.ledger.accounts import Account, HeldAccounts, Reservation, held_accounts
from suffice.types import Charge
from suffice.units import picousd, show_usd, usd_from_picousd

_MINUTE_S = 60.0
_DAY = timedelta(days=1)
_IN_FLIGHT_S = 1.0  # soon enough to ask again once other requests have been settled
_LOST_AFTER_S = 3 * 86400.0  # beyond any deadline: the clock was set back


class Refused(Struct, frozen=True, kw_only=True):
    """Why a request may not go on, in the terms of the OpenAI error object.

    `passing` says that there is room once requests in flight have cost less than was reserved,
    `refills` that only time makes room: all further requests of the key are refused until then.
    """

    code: Literal["rate_limit_exceeded", "insufficient_quota"]
    message: str
    hint: str
    retry_after_s: float | None = None
    passing: bool = False
    refills: bool = False
    status: Literal[429] = 429


class Admission(Struct, frozen=True, kw_only=True):
    """A request that may go on, with what was reserved for it; settle it exactly once."""

    key: Key
    request_id: str
    day: int = 0
    reserved_usd: Decimal = Decimal(0)
    reserved_tokens: int = 0


class Wish(Struct, frozen=True, kw_only=True):
    """What a request asks for: `enters` takes one of the minute's requests and a parallel place.

    `usd` and `tokens` are its worst case, None where nothing is to be reserved yet.
    """

    admission: Admission
    enters: bool = False
    usd: Decimal | None = None
    tokens: int | None = None


class Settlement(Struct, frozen=True, kw_only=True):
    """How a request ended; a `charge` of None means that no engine was asked."""

    admission: Admission
    charge: Charge | None
    tokens: int | None = None


class KeyLimiter:
    """Decides on requests by what their keys have used; blocks on the ledger.

    `hold_s` is longer than any request can be in flight: what was reserved by a process that died
    counts as spent after that. `assumed_usd` stands for a charge that the books do not know: such a
    request is never free. Raises InputError for an amount below 0.
    """

    def __init__(
        self, ring: KeyRing, *, ledger: Ledger, assumed_usd: Decimal, hold_s: float = 600.0
    ) -> None:
        if not assumed_usd >= 0:
            raise InputError("a limiter needs an assumed charge of 0 or more")
        self.ring = ring
        self.assumed_usd = assumed_usd
        self._ledger = ledger
        self._hold = timedelta(seconds=hold_s)
        self._known: set[str] = set()
        self._too_fast: dict[str, tuple[datetime, Refused]] = {}  # by key, and until when

    def decide(
        self, wishes: Sequence[Wish], settlements: Iterable[Settlement] = (), *, now: datetime
    ) -> list[Admission | Refused]:
        """Settle requests, then admit others in their order, in one transaction.

        Raises LedgerError, and then nothing has changed.
        """
        settlements = tuple(settlements)
        decisions = [self._still_too_fast(wish, now=now) for wish in wishes]
        undecided = [w for w, refused in zip(wishes, decisions, strict=True) if refused is None]
        admissions = [*(w.admission for w in undecided), *(s.admission for s in settlements)]
        names = {admission.key.name for admission in admissions}
        if names:
            with held_accounts(self._ledger, names, now=now) as page:
                for account in page.held.values():
                    self._begin(account, page)
                for settlement in settlements:
                    _settle(page, settlement)
                read = iter([self._admit(page, wish) for wish in undecided])
            self._known |= names
            decisions = [refused or next(read) for refused in decisions]
        self._keep_too_fast(wishes, decisions, now=now)
        return [decision for decision in decisions if decision is not None]

    def reload(self, ring: KeyRing) -> None:
        """Take over a changed key file; what was used is kept under each key's name."""
        self.ring, self._known, self._too_fast = ring, set(), {}

    def _still_too_fast(self, wish: Wish, *, now: datetime) -> Admission | Refused | None:
        """Refuse a request of a key whose minute is used up, without a look into the books.

        Only time refills a minute's requests. A flood of one key would else hold up all keys.
        """
        name = wish.admission.key.name
        until, refused = self._too_fast.get(name, (now, None))
        left_s = (until - now).total_seconds()
        if refused is None or not wish.enters:
            return None
        if not 0 < left_s <= _MINUTE_S:  # the clock may have been set back
            del self._too_fast[name]
            return None
        return replace(refused, retry_after_s=left_s)

    def _keep_too_fast(
        self,
        wishes: Sequence[Wish],
        decisions: Sequence[Admission | Refused | None],
        *,
        now: datetime,
    ) -> None:
        for wish, decision in zip(wishes, decisions, strict=True):
            if isinstance(decision, Refused) and decision.refills:
                until = now + timedelta(seconds=decision.retry_after_s or 0.0)
                self._too_fast[wish.admission.key.name] = until, decision

    def _begin(self, account: Account, page: HeldAccounts) -> None:
        """Bring an account up to the day, and give up what has been in flight for too long.

        The day is read from the books by whoever holds the account for the first time: a key that
        had no limits until now has left no trace in its account.
        """
        same_day = account.day == page.day
        if not same_day or account.key_id not in self._known:
            booked, unknown = page.read_day(account.key_id)
            if not same_day:
                account.day, account.booked_picousd, account.unknown_picousd = page.day, 0, 0
            assumed = picousd(unknown * self.assumed_usd)
            account.booked_picousd = max(account.booked_picousd, booked)
            account.unknown_picousd = max(account.unknown_picousd, assumed)
        now_s = page.now.timestamp()
        for one in page.of(account.key_id):
            if not now_s <= one.until_s <= now_s + _LOST_AFTER_S:
                page.end(one.request_id)
                account.unknown_picousd += one.picousd if one.day == account.day else 0

    def _admit(self, page: HeldAccounts, wish: Wish) -> Admission | Refused:
        key, account = wish.admission.key, page.held[wish.admission.key.name]
        now_s = page.now.timestamp()
        refused = None
        if wish.enters:
            refused = _too_many(page, key) or _too_fast(account, key, now_s=now_s)
        if refused is None and wish.tokens is not None:
            refused = _too_long(account, key, wish.tokens, now_s=now_s)
        if refused is None and wish.usd is not None:
            refused = _too_dear(page, wish)
        if refused is not None:
            return refused
        if wish.enters and account.requests_left is not None:
            account.requests_left -= 1.0
        if wish.tokens is not None and account.tokens_left is not None:
            account.tokens_left -= wish.tokens
        admission = replace(
            wish.admission,
            day=page.day,
            reserved_usd=wish.usd or Decimal(0),
            reserved_tokens=wish.tokens or 0,
        )
        page.reserve(
            Reservation(
                request_id=admission.request_id,
                key_id=key.name,
                day=page.day,
                until_s=(page.now + self._hold).timestamp(),
                picousd=picousd(admission.reserved_usd),
                tokens=admission.reserved_tokens,
            )
        )
        return admission


def _settle(page: HeldAccounts, settlement: Settlement) -> None:
    """Put what a request cost in the place of what was reserved for it."""
    admission, charge = settlement.admission, settlement.charge
    account = page.held[admission.key.name]
    reservation = page.end(admission.request_id)
    used = 0 if charge is None else settlement.tokens
    if account.tokens_left is not None and used is not None:
        account.tokens_left += admission.reserved_tokens - used
    if admission.day != account.day:
        return
    reserved = picousd(admission.reserved_usd)
    if reservation is None:  # it was given up as lost, and counted
        account.unknown_picousd = max(0, account.unknown_picousd - reserved)
    if charge is not None and charge.usd is None:
        account.unknown_picousd += reserved
    elif charge is not None and charge.usd is not None:
        account.booked_picousd += picousd(charge.usd)


def _too_many(page: HeldAccounts, key: Key) -> Refused | None:
    most = key.parallel_requests
    if most is None or len(page.of(key.name)) < most:
        return None
    return Refused(
        code="rate_limit_exceeded",
        message=f"this key may have {most} requests in flight at once",
        hint="wait until one has been answered, or ask the operator for a higher limit",
        retry_after_s=_IN_FLIGHT_S,
    )


def _too_fast(account: Account, key: Key, *, now_s: float) -> Refused | None:
    """Refill the minute's requests, which may also be used at once."""
    if key.requests_per_minute is None:
        return None
    left = _refill(
        account.requests_left,
        per_minute=key.requests_per_minute,
        elapsed_s=now_s - account.requests_at_s,
    )
    account.requests_left, account.requests_at_s = left, now_s
    if left >= 1.0:
        return None
    return Refused(
        code="rate_limit_exceeded",
        message=f"this key may make {key.requests_per_minute} requests a minute",
        hint="wait, or ask the operator for a higher limit",
        retry_after_s=(1.0 - left) * _MINUTE_S / key.requests_per_minute,
        refills=True,
    )


def _too_long(account: Account, key: Key, tokens: int, *, now_s: float) -> Refused | None:
    """Refill the minute's tokens; a request longer than a minute's waits for a full minute."""
    per_minute = key.tokens_per_minute
    if per_minute is None:
        return None
    left = _refill(
        account.tokens_left, per_minute=per_minute, elapsed_s=now_s - account.tokens_at_s
    )
    account.tokens_left, account.tokens_at_s = left, now_s
    wanted = min(tokens, per_minute)
    if left >= wanted:
        return None
    return Refused(
        code="rate_limit_exceeded",
        message=f"this key may use {per_minute} tokens a minute; this request may use {tokens}",
        hint="lower max_tokens, wait, or ask the operator for a higher limit",
        retry_after_s=(wanted - left) * _MINUTE_S / per_minute,
    )


def _refill(left: float | None, *, per_minute: int, elapsed_s: float) -> float:
    """Add what has run into a bucket, which begins full and holds a minute's worth."""
    gained = max(elapsed_s, 0.0) * per_minute / _MINUTE_S
    return float(per_minute) if left is None else min(float(per_minute), left + gained)


def _too_dear(page: HeldAccounts, wish: Wish) -> Refused | None:
    key, account = wish.admission.key, page.held[wish.admission.key.name]
    budget_usd, worst_usd = key.budget_usd_per_day, wish.usd
    if budget_usd is None or worst_usd is None:
        return None
    spent_usd = usd_from_picousd(account.booked_picousd + account.unknown_picousd)
    in_flight = sum(
        one.picousd
        for one in page.of(key.name)
        if one.day == page.day and one.request_id != wish.admission.request_id
    )
    if spent_usd + usd_from_picousd(in_flight) + worst_usd <= budget_usd:
        return None
    midnight = datetime.combine(page.now.date(), time(), page.now.tzinfo) + _DAY
    passing = spent_usd + worst_usd <= budget_usd
    return Refused(
        code="insufficient_quota",
        message=f"this key's budget of {show_usd(budget_usd)} a day has no room for this request",
        hint="lower max_tokens, or wait until midnight UTC",
        retry_after_s=_IN_FLIGHT_S if passing else (midnight - page.now).total_seconds(),
        passing=passing,
    )
