"""Breaks connections to a database that has gone silent: a frozen server answers no timeout.

`statement_timeout` is kept by the server, and the kernel of a frozen one goes on acknowledging, so
only the client can give up. The socket is shut down, and the driver finds its connection lost.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Patience:
    """Watches blocks of work on sockets from one thread, which begins with the first of them."""

    def __init__(self) -> None:
        self._deadlines: dict[int, tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._number = 0

    @contextmanager
    def within(self, seconds: float, *, fileno: int) -> Iterator[None]:
        """Shut a socket down when the block takes longer."""
        with self._lock:
            self._number += 1
            number = self._number
            self._deadlines[number] = (time.monotonic() + seconds, fileno)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="suffice-patience", daemon=True
                )
                self._thread.start()
        self._wake.set()
        try:
            yield
        finally:
            with self._lock:
                self._deadlines.pop(number, None)

    def _watch(self) -> None:
        while True:
            with self._lock:
                now_s = time.monotonic()
                late = [n for n, (deadline_s, _) in self._deadlines.items() if deadline_s <= now_s]
                for number in late:
                    _shut_down(self._deadlines.pop(number)[1])
                next_s = min((at_s for at_s, _ in self._deadlines.values()), default=None)
            if next_s is None:
                self._wake.wait()
                self._wake.clear()
            else:
                time.sleep(min(0.25, max(0.01, next_s - now_s)))


def _shut_down(fileno: int) -> None:
    with suppress(OSError):
        copy = socket.socket(fileno=os.dup(fileno))
        try:
            copy.shutdown(socket.SHUT_RDWR)
        finally:
            copy.close()
