"""The pages as they are served: read from the ledger at most every few seconds."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from suffice.gateway.dashboard import render, snapshot
from suffice.gateway.dashboard.sessions import render_sessions, sessions_snapshot
from suffice.gateway.serving import Serving
from suffice.ledger import Ledger, Window

FRESH_S = 3.0
SHOWN = timedelta(days=7)
SESSIONS_FRESH_S = 15.0  # its rows are read one by one
SESSIONS_SHOWN = timedelta(days=1)


class LivePage:
    """Makes a page when it is asked for; who asks while it is made waits for the same one.

    A page is made anew after `fresh_s`.
    """

    def __init__(self, make: Callable[[Serving], str], *, fresh_s: float = FRESH_S) -> None:
        self._make, self._fresh_s = make, fresh_s
        self._made_s = -fresh_s
        self._page = b""
        self._making = asyncio.Lock()

    async def get(self, serving: Serving) -> bytes:
        """Return the page, no older than a few seconds."""
        async with self._making:
            if time.monotonic() - self._made_s >= self._fresh_s:
                self._page = (await asyncio.to_thread(self._make, serving)).encode()
                self._made_s = time.monotonic()
            return self._page


def make_dashboard(ledger: Ledger, serving: Serving) -> str:
    """Write the page of the last days."""
    now = datetime.now(UTC)
    since = (now - SHOWN).replace(minute=0, second=0, microsecond=0)  # sums are by the hour
    bundle = serving.pipeline.bundle
    seen = snapshot(
        ledger,
        window=Window(since=since),
        now=now,
        guard=serving.guard.state if bundle else None,
        certificate=bundle.certificate if bundle else None,
    )
    return render(seen)


def make_sessions(ledger: Ledger, serving: Serving) -> str:
    """Write the page about the sessions of the last day."""
    now = datetime.now(UTC)
    seen = sessions_snapshot(
        ledger,
        window=Window(since=now - SESSIONS_SHOWN),
        now=now,
        cache_life_s=serving.config.gateway.cache_life_s,
    )
    return render_sessions(seen)
