"""One worker process: its parts, and what it does between requests."""

import asyncio
import gc
import itertools
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from suffice.config import GatewayConfig
from suffice.errors import LedgerError, SufficeError
from suffice.gateway.access import Access
from suffice.gateway.auditor import Auditor
from suffice.gateway.dashboard.live import LivePage
from suffice.gateway.files import WatchedFiles, files_behind
from suffice.gateway.group_commit import Books
from suffice.gateway.metrics.families import CIRCUIT, IN_FLIGHT, QUEUED, UNBOOKED
from suffice.gateway.metrics.record import measure_guard
from suffice.gateway.metrics.registry import Metrics, expose, gather, publish
from suffice.gateway.metrics.spans import Spans
from suffice.gateway.route import Conversations
from suffice.gateway.serving import Serving, Settings, build_serving, read_settings
from suffice.ledger import Ledger
from suffice.ledger.sessions import forget_sessions
from suffice.ledger.states import erase_expired

UPKEEP_S = 1.0  # how often the ledger is read for audits, and the files for changes
EXPIRY_TURNS = 60  # turns of upkeep between two looks for kept responses whose time is over
SPENDING_TURNS = 5  # turns of upkeep between two readings of what other workers have spent
SESSIONS_KEPT = timedelta(days=30)
GRACE_S = 5.0  # for requests that have read the old configuration and not yet asked an engine
DRAIN_S = 10.0  # for audits, once the last request is answered
GARBAGE = 20_000  # new objects between two collections: those of some dozens of requests
_log = logging.getLogger("suffice.gateway")


@dataclass(kw_only=True, eq=False)
class Worker:
    """One process at work: `serving` is what a reload replaces. Open it with `open_worker`."""

    settings: Settings
    serving: Serving
    metrics: Metrics
    books: Books
    auditor: Auditor
    access: Access
    conversations: Conversations
    page: LivePage
    files: WatchedFiles
    spans: Spans
    name: str = field(default_factory=lambda: str(os.getpid()))
    reload_error: SufficeError | None = None
    _old: list[tuple[float, Serving]] = field(default_factory=list)

    async def close(self) -> None:
        """Finish what audits are under way, write what is left, and close everything."""
        await self.auditor.close(within_s=DRAIN_S)
        await self.books.close()
        for _, serving in self._old:
            await serving.close()
        await self.serving.close()
        self.books.ledger.close()

    def check_books(self) -> None:
        """Raise LedgerError while the ledger cannot be written: nothing is answered unbooked."""
        if self.books.failing is not None:
            raise self.books.failing

    def exposition(self) -> str:
        """Write the metrics of all workers in Prometheus' text format."""
        self._measure()
        own = {self.name: self.metrics.values()}
        others = gather(self.settings.shared) if self.settings.shared else {}
        return expose(others | own)

    async def reload(self) -> None:
        """Take over changed files, or keep what there is and say why."""
        try:
            config, bundle = await asyncio.to_thread(read_settings, self.settings)
            ledger = self.books.ledger
            serving = build_serving(self.settings, config, bundle, ledger=ledger)
            await asyncio.to_thread(serving.guard.begin)
            await asyncio.to_thread(serving.guard.catch_up, now=datetime.now(UTC))
            read_key_file(self.access, config.gateway, self.settings)
        except SufficeError as error:
            self.reload_error = error
            _log.error("the old configuration stays: %s", error)
            return
        self.files.watch(files_behind(self.settings, config.gateway))
        self._old.append((time.monotonic(), self.serving))
        self.serving, self.reload_error = serving, None
        _log.warning("took over the changed configuration")

    async def keep_up(self) -> None:
        """Read the ledger and the files again and again, until cancelled."""
        for turn in itertools.count(1):
            await asyncio.sleep(UPKEEP_S)
            try:
                await self.refresh_guard()
                if self.settings.workers > 1 and turn % SPENDING_TURNS == 0:
                    await self.access.read_spending(self.books.ledger)
                if turn % EXPIRY_TURNS == 0:
                    now = datetime.now(UTC)
                    await asyncio.to_thread(erase_expired, self.books.ledger, now=now)
                    await asyncio.to_thread(
                        forget_sessions, self.books.ledger, before=now - SESSIONS_KEPT
                    )
            except LedgerError as error:
                _log.warning("%s", error.message)
            if self.files.changed():
                await self.reload()
            await self._close_old()
            self._publish()

    async def refresh_guard(self) -> None:
        """Take in what audits have shown."""
        guard = self.serving.guard
        blind_before = guard.state.blind
        state = await asyncio.to_thread(guard.catch_up, now=datetime.now(UTC))
        if state.blind and not blind_before:
            _log.warning(
                "nobody watches the certificate: the last %d audits got no label (%s)",
                *(state.silent, ", ".join(state.labels)),
            )

    def _publish(self) -> None:
        """Leave the metrics where the worker that is scraped finds them."""
        if self.settings.shared is not None:
            self._measure()
            with suppress(OSError):
                publish(self.settings.shared, self.name, self.metrics, now_s=time.time())

    def _measure(self) -> None:
        """Set the gauges to what they are now."""
        bundle, places = self.serving.pipeline.bundle, self.serving.places
        certificate = bundle.certificate if bundle else None
        measure_guard(self.metrics, self.serving.guard.state, certificate=certificate)
        self.metrics.set(UNBOOKED, to=float(self.books.lost))
        for name, slots in places.slots.items():
            self.metrics.set(QUEUED, (name,), to=float(slots.waiting))
            self.metrics.set(IN_FLIGHT, (name,), to=float(slots.inside))
            self.metrics.set(CIRCUIT, (name,), to=float(places.breakers[name].state))

    async def _close_old(self) -> None:
        """Close the engines of configurations that no request uses any more."""
        for since_s, serving in list(self._old):
            if serving.places.idle and time.monotonic() - since_s > GRACE_S:
                self._old.remove((since_s, serving))
                await serving.close()


async def open_worker(settings: Settings) -> Worker:
    """Open the ledger and join the parts; raises SufficeError."""
    config, bundle = read_settings(settings)
    gateway, metrics, access = config.gateway, Metrics(), Access()
    read_key_file(access, gateway, settings)
    ledger = Ledger.open(gateway.ledger, fsync=gateway.fsync, store_text=gateway.store_text)
    worker = Worker(
        settings=settings,
        serving=build_serving(settings, config, bundle, ledger=ledger),
        metrics=metrics,
        books=Books(ledger),
        auditor=Auditor(
            *(ledger, metrics), at_once=gateway.audit_concurrency, scorer=gateway.audit_scorer
        ),
        access=access,
        conversations=Conversations(most=gateway.conversations),
        page=LivePage(ledger),
        files=WatchedFiles(files_behind(settings, gateway)),
        spans=Spans(),
    )
    await asyncio.to_thread(worker.serving.guard.begin)
    await worker.refresh_guard()
    await access.read_spending(ledger)
    _freeze_garbage()
    return worker


def read_key_file(access: Access, config: GatewayConfig, settings: Settings) -> None:
    """Read the keys where a configuration names their file; raises ConfigError."""
    if config.keys is not None:
        access.read_keys(config.keys, assumed_usd=config.assumed_usd, workers=settings.workers)


def _freeze_garbage() -> None:
    """Keep the garbage collector from walking through what lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)
