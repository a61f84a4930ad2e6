"""Group commit: entries of many requests go into the ledger in one transaction."""

import asyncio
import logging
import threading
from collections import deque
from typing import NamedTuple

from msgspec.structs import replace

from suffice.errors import LedgerError
from suffice.ledger import Entry, Ledger, Role, Status
from suffice.types import Vector

RETRY_S = 1.0
_log = logging.getLogger("suffice.gateway")
_UNBOOKED = "the ledger could not be written, so the client got no answer"


class _Waiting(NamedTuple):
    entry: Entry
    booked: "asyncio.Future[None]"


class Books:
    """Appends entries from one thread; what piles up during a transaction goes into the next.

    `failing` is the error of the last transaction, None while all is well. An entry that could not
    be written is kept and written later, marked as failed: its money was spent.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.failing: LedgerError | None = None
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Waiting] = deque()
        self._unwritten: list[Entry] = []
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="suffice-books", daemon=True)
        self._thread.start()

    def add(self, entry: Entry) -> "asyncio.Future[None]":
        """Book an entry; the future is done once it is durable, or fails with a LedgerError."""
        booked = self._loop.create_future()
        booked.add_done_callback(_looked_at)
        self._queue.append(_Waiting(entry, booked))
        self._wake.set()
        return booked

    async def close(self) -> None:
        """Write what is left and stop."""
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while not (self._closing and not self._queue):
            self._wake.wait(RETRY_S if self._unwritten else None)
            self._wake.clear()
            if self._unwritten:
                self._write_late()
            batch = [self._queue.popleft() for _ in range(len(self._queue))]
            if batch:
                self._write(batch)
        if self._unwritten:
            self._write_late()
        if self._unwritten:
            _log.error("%d requests could not be booked any more", len(self._unwritten))

    def _write(self, batch: list[_Waiting]) -> None:
        try:
            self.ledger.append_many([waiting.entry for waiting in batch])
        except LedgerError as error:
            if len(batch) > 1 and not error.retryable:  # one bad entry must not take others along
                for waiting in batch:
                    self._write([waiting])
                return
            if error.retryable:
                self._unwritten += [_unanswered(waiting.entry) for waiting in batch]
            self._settle(batch, error)
        else:
            self._settle(batch, None)

    def _write_late(self) -> None:
        try:
            self.ledger.append_many(self._unwritten)
        except LedgerError as error:
            self.failing = error
        else:
            self._unwritten.clear()
            self.failing = None

    def _settle(self, batch: list[_Waiting], error: LedgerError | None) -> None:
        self.failing = error if error is not None and error.retryable else None

        def tell() -> None:
            for _, booked in batch:
                if booked.cancelled():
                    continue
                if error is None:
                    booked.set_result(None)
                else:
                    booked.set_exception(error)

        self._loop.call_soon_threadsafe(tell)


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


def _looked_at(booked: "asyncio.Future[None]") -> None:
    """Take notice of an error, so that a request whose client left does not log one."""
    if not booked.cancelled():
        booked.exception()
