"""How many requests of keys with limits are let in and settled a second, by several processes."""

import multiprocessing
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from multiprocessing.synchronize import Barrier
from pathlib import Path

from suffice.gateway.keys import KeyLimits, KeyRing, add_key, read_keys
from suffice.gateway.limits import Admission, KeyLimiter, Settlement, Wish
from suffice.ledger import Ledger
from suffice.types import Charge

PROCESSES, SECONDS = 4, 3.0
_LIMITS = KeyLimits(
    requests_per_minute=10**9, tokens_per_minute=10**12, budget_usd_per_day=Decimal(10**9)
)
_WAYS: Mapping[str, tuple[bool, int]] = {  # whether all share a key, and requests a transaction
    "one_key": (True, 1),
    "own_keys": (False, 1),
    "one_key_20_at_once": (True, 20),
}


def reservations_per_s(ledger: str, folder: Path) -> dict[str, float]:
    """Return for each way how many requests all processes together let in and settled a second."""
    keys = folder / "limits.json"
    keys.unlink(missing_ok=True)
    for number in range(PROCESSES):
        add_key(keys, f"key-{number}", limits=_LIMITS)
    figures = {}
    for name, (shared, at_once) in _WAYS.items():
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(PROCESSES)
        with context.Pool(PROCESSES, initializer=_hold, initargs=(barrier,)) as pool:
            work = [(ledger, keys, 0 if shared else n, at_once) for n in range(PROCESSES)]
            counts = pool.starmap(_let_in, work, chunksize=1)
        figures[name] = round(sum(counts) / SECONDS, 1)
    return figures


_barriers: list[Barrier] = []


def _hold(barrier: Barrier) -> None:
    _barriers.append(barrier)


def _let_in(ledger: str, keys: Path, number: int, at_once: int) -> int:
    """Let requests in and settle them, some in each transaction, for as long as all do."""
    file, count = read_keys(keys), 0
    key = next(one for one in file.keys if one.name == f"key-{number}")
    charge = Charge(usd=Decimal("0.001"))
    with Ledger.open(ledger) as books:
        limiter = KeyLimiter(KeyRing(file), ledger=books, assumed_usd=Decimal(1))
        _barriers[0].wait()
        began = datetime.now(UTC).timestamp()
        ends_s = time.monotonic() + SECONDS
        while time.monotonic() < ends_s:
            ids = (f"{number}-{began}-{count + i}" for i in range(at_once))
            wishes = [
                Wish(
                    admission=Admission(key=key, request_id=request_id),
                    enters=True,
                    usd=Decimal("0.01"),
                    tokens=100,
                )
                for request_id in ids
            ]
            admitted = limiter.decide(wishes, now=datetime.now(UTC))
            ended = [
                Settlement(admission=one, charge=charge, tokens=90)
                for one in admitted
                if isinstance(one, Admission)
            ]
            limiter.decide([], ended, now=datetime.now(UTC))
            count += len(ended)
    return count
