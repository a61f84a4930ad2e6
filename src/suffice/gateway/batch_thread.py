"""A thread that works off, in one go, what piled up while it was at work."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

RETRY_S = 1.0


class BatchThread:
    """Calls `work` after each `wake`, from a thread of its own.

    `work` says whether something is left over that should be tried again: it is called again
    within RETRY_S. It must not raise.
    """

    def __init__(self, work: Callable[[], bool], *, name: str) -> None:
        self._work = work
        self._calls: SimpleQueue[None] = SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there is work; it is done soon."""
        self._calls.put(None)

    async def close(self) -> None:
        """Do what is left, try once more what failed, and stop."""
        self._closing = True
        self._calls.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        left_over = False
        while not self._closing:
            with suppress(Empty):
                self._calls.get(timeout=RETRY_S if left_over else None)
                while True:  # one go does for all calls
                    self._calls.get_nowait()
            left_over = self._work()
        if self._work():
            self._work()
