"""The dashboard as it is served: read from the ledger at most every few seconds."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from suffice.gateway.dashboard import render, snapshot
from suffice.gateway.serving import Serving
from suffice.ledger import Ledger, Window

FRESH_S = 3.0
SHOWN = timedelta(days=7)


class LivePage:
    """Makes the page when it is asked for; who asks while it is made waits for the same one."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._made_s = -FRESH_S
        self._page = b""
        self._making = asyncio.Lock()

    async def get(self, serving: Serving) -> bytes:
        """Return the page, no older than a few seconds."""
        async with self._making:
            if time.monotonic() - self._made_s >= FRESH_S:
                self._page = await asyncio.to_thread(self._make, serving)
                self._made_s = time.monotonic()
            return self._page

    def _make(self, serving: Serving) -> bytes:
        now = datetime.now(UTC)
        since = (now - SHOWN).replace(minute=0, second=0, microsecond=0)  # sums are by the hour
        bundle = serving.pipeline.bundle
        seen = snapshot(
            self._ledger,
            window=Window(since=since),
            now=now,
            guard=serving.guard.state if bundle else None,
            certificate=bundle.certificate if bundle else None,
        )
        return render(seen).encode()
