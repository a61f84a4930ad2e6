"""Group admission: what many requests ask of their keys' accounts is decided in one transaction."""

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from suffice.errors import LedgerError
from suffice.gateway.batch_thread import BatchThread
from suffice.gateway.limits import Admission, KeyLimiter, Refused, Settlement, Wish

PATIENCE_S = 2.0  # most answers are there by then, and have cost less than was reserved
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5
_log = logging.getLogger("suffice.gateway")


class _PendingWish(NamedTuple):
    wish: Wish
    decided: "asyncio.Future[Admission | Refused]"


class AdmissionDesk:
    """Asks a limiter from one thread; what piles up during a transaction goes into the next.

    A settlement that cannot be written is kept and written later.
    """

    def __init__(self, limiter: KeyLimiter) -> None:
        self.limiter = limiter
        self._loop = asyncio.get_running_loop()
        self._wishes: deque[_PendingWish] = deque()
        self._settlements: deque[Settlement] = deque()
        self._thread = BatchThread(self._work, name="suffice-admissions")

    async def decide(self, wish: Wish) -> Admission | Refused:
        """Admit a request or say why not; raises LedgerError.

        One for which there is room once others have been settled waits for that a while.
        """
        patient_until_s, pause_s = time.monotonic() + PATIENCE_S, _FIRST_PAUSE_S
        decision = await self._decide_now(wish)
        while (
            isinstance(decision, Refused)
            and decision.passing
            and time.monotonic() + pause_s < patient_until_s
        ):
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            decision = await self._decide_now(wish)
        return decision

    async def _decide_now(self, wish: Wish) -> Admission | Refused:
        waiting = _PendingWish(wish, self._loop.create_future())
        self._wishes.append(waiting)
        self._thread.wake()
        return await waiting.decided

    def settle(self, settlement: Settlement) -> None:
        """End a reservation soon; the caller does not wait for it."""
        self._settlements.append(settlement)
        self._thread.wake()

    async def close(self) -> None:
        """Write what is left and stop."""
        await self._thread.close()

    def _work(self) -> bool:
        if self._wishes or self._settlements:
            self._transact()
        return bool(self._settlements)

    def _transact(self) -> None:
        wishes = [self._wishes.popleft() for _ in range(len(self._wishes))]
        settlements = [self._settlements.popleft() for _ in range(len(self._settlements))]
        decisions: list[Admission | Refused] | LedgerError
        try:
            decisions = self.limiter.decide(
                [waiting.wish for waiting in wishes], settlements, now=datetime.now(UTC)
            )
        except LedgerError as error:
            self._settlements.extendleft(reversed(settlements))
            decisions = error
        except Exception as error:  # noqa: BLE001 - all later requests would wait for ever
            _log.error("the accounts of keys cannot be kept", exc_info=error)
            decisions = LedgerError(f"the accounts cannot be kept: {type(error).__name__}")
        with suppress(RuntimeError):  # the loop has ended, and with it all who waited
            self._loop.call_soon_threadsafe(self._tell, wishes, decisions)

    def _tell(
        self, wishes: list[_PendingWish], decisions: list[Admission | Refused] | LedgerError
    ) -> None:
        """Tell those who wait; runs in their loop."""
        for i, waiting in enumerate(wishes):
            decision = decisions if isinstance(decisions, LedgerError) else decisions[i]
            if waiting.decided.done():  # its client has left
                if isinstance(decision, Admission):
                    self.settle(Settlement(admission=decision, charge=None))
            elif isinstance(decision, LedgerError):
                waiting.decided.set_exception(decision)
            else:
                waiting.decided.set_result(decision)
