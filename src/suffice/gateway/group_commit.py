"""Group commit: entries of many requests go into the ledger in one transaction."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from msgspec.structs import replace

from suffice.errors import LedgerError
from suffice.gateway.batch_thread import BatchThread
from suffice.ledger import Entry, Ledger, Role, Status
from suffice.types import Vector
from suffice.units import show_usd

_log = logging.getLogger("suffice.gateway")
_UNBOOKED = "the ledger could not be written, so the client got no answer"


class _Waiting(NamedTuple):
    entry: Entry
    booked: "asyncio.Future[None]"


class _BadEntry(LedgerError):
    """The ledger works, and will not have this one entry."""


class Books:
    """Appends entries from one thread; what piles up during a transaction goes into the next.

    `failing` says why the ledger could not be written the last time, None while all is well. An
    entry that could not be written is kept and written later, marked as failed: its money was
    spent. One that a working ledger will not have is logged and counted in `lost`.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.failing: LedgerError | None = None
        self.lost = 0
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Waiting] = deque()
        self._unwritten: list[Entry] = []
        self._thread = BatchThread(self._work, name="suffice-books")

    def add(self, entry: Entry) -> "asyncio.Future[None]":
        """Book an entry; the future is done once it is durable, or fails with a LedgerError."""
        booked = self._loop.create_future()
        booked.add_done_callback(_notice_error)
        self._queue.append(_Waiting(entry, booked))
        self._thread.wake()
        return booked

    async def close(self) -> None:
        """Write what is left and stop."""
        await self._thread.close()
        if self._unwritten:
            _log.error("%d requests could not be booked any more", len(self._unwritten))

    def _work(self) -> bool:
        if self._unwritten:
            self._write_late()
        batch = [self._queue.popleft() for _ in range(len(self._queue))]
        if batch:
            self._write(batch)
        return bool(self._unwritten)

    def _write(self, batch: list[_Waiting]) -> None:
        errors = self._append([waiting.entry for waiting in batch])
        self._keep([_unanswered(waiting.entry) for waiting in batch], errors)
        with suppress(RuntimeError):  # the loop has ended, and with it all who waited
            self._loop.call_soon_threadsafe(_settle, batch, errors)

    def _write_late(self) -> None:
        entries, self._unwritten = self._unwritten, []
        self._keep(entries, self._append(entries, again=True))

    def _append(self, entries: Sequence[Entry], *, again: bool = False) -> list[LedgerError | None]:
        """Write entries, one by one where one may be bad, and say of each what went wrong."""
        error = self._transact(entries, again=again)
        if error is None or error.retryable:
            return [error] * len(entries)
        broken = self._transact([])
        if broken is not None:
            return [broken] * len(entries)
        if len(entries) == 1:
            return [_BadEntry(error.message, hint=error.hint)]
        return [error for entry in entries for error in self._append([entry], again=again)]

    def _transact(self, entries: Sequence[Entry], *, again: bool = False) -> LedgerError | None:
        """Write entries together, and say what went wrong: nothing may end the thread."""
        try:
            self.ledger.append_many(self.ledger.unwritten(entries) if again else entries)
        except LedgerError as error:
            return error
        except Exception as error:  # noqa: BLE001 - all later requests would wait for ever
            return LedgerError(f"the ledger cannot take this: {type(error).__name__}: {error}")
        return None

    def _keep(self, entries: list[Entry], errors: list[LedgerError | None]) -> None:
        """Keep what could not be written for later, and set aside what never can be."""
        failing = None
        for entry, error in zip(entries, errors, strict=True):
            if isinstance(error, _BadEntry):
                self.lost += 1
                _log.error(
                    "request %s cannot be booked, of charge %s: %s",
                    *(entry.request_id, show_usd(entry.charge.usd), error.message),
                )
            elif error is not None:
                self._unwritten.append(entry)
                failing = error
        self.failing = failing


def _settle(batch: list[_Waiting], errors: list[LedgerError | None]) -> None:
    """Tell those who wait; runs in their loop."""
    for (_, booked), error in zip(batch, errors, strict=True):
        if booked.done():  # cancelled
            continue
        if error is None:
            booked.set_result(None)
        else:
            booked.set_exception(error)


def _unanswered(entry: Entry) -> Entry:
    if entry.status is not Status.OK:
        return entry
    attempts = [
        replace(a, role=Role.DISCARDED) if a.role is Role.ANSWER else a for a in entry.attempts
    ]
    return replace(
        entry,
        status=Status.FAILED,
        rung=None,
        vector=Vector.NONE,
        attempts=tuple(attempts),
        error=_UNBOOKED,
    )


def _notice_error(booked: "asyncio.Future[None]") -> None:
    """Take notice of an error, so that a request whose client left does not log one."""
    if not booked.cancelled():
        booked.exception()
