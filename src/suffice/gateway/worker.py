"""One worker process: its parts, and what it does between requests."""

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from suffice.config import GatewayConfig
from suffice.errors import SufficeError
from suffice.gateway import tls
from suffice.gateway.access import Access
from suffice.gateway.admissions import AdmissionDesk
from suffice.gateway.auditor import Auditor
from suffice.gateway.dashboard.live import (
    SESSIONS_FRESH_S,
    LivePage,
    make_dashboard,
    make_sessions,
)
from suffice.gateway.files import WatchedFiles, files_behind, key_files
from suffice.gateway.group_commit import Books
from suffice.gateway.intake import Intake
from suffice.gateway.keys import KeyFile, KeyRing, read_keys
from suffice.gateway.last_good import keep_keys, keep_settings, last_settings, with_last_keys
from suffice.gateway.limits import KeyLimiter
from suffice.gateway.metrics.families import (
    CIRCUIT,
    IN_FLIGHT,
    QUEUED,
    RELOAD_FAILING,
    UNBOOKED,
)
from suffice.gateway.metrics.record import measure_guard
from suffice.gateway.metrics.registry import Metrics, expose, gather, publish
from suffice.gateway.metrics.spans import Spans
from suffice.gateway.problems import Problem
from suffice.gateway.route import Conversations
from suffice.gateway.serving import Serving, Settings, build_serving, read_settings, states_of
from suffice.gateway.upkeep import Upkeep
from suffice.guarantee.canary import ArmOutcome, canary
from suffice.ledger import Ledger, Role, Window
from suffice.ledger.events import note_states
from suffice.ledger.outcomes import arm_outcomes
from suffice.ledger.reserves import forget_reserves
from suffice.ledger.rollups import advance
from suffice.ledger.sessions import forget_sessions
from suffice.ledger.states import erase_expired
from suffice.scoring.scorers import load_function

UPKEEP_S = 1.0  # how often the ledger is read for audits, and the files for changes
ROLLUP_S = 10.0  # between two additions of new rows to the hourly sums
ROLLUP_SHARE_S = 0.3  # of a round, while a ledger without sums catches up
EXPIRY_S = 60.0  # between two looks for kept responses whose time is over
RELOAD_AGAIN_S = 5.0  # until files that could not be taken over are read again
SESSIONS_KEPT = timedelta(days=30)
GRACE_S = 5.0  # for requests that have read the old configuration and not yet asked an engine
DRAIN_S = 10.0  # for audits, once the last request is answered
HOLD_SLACK_S = 60.0  # for booking, beyond the deadline, while a request counts as in flight
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
    shadower: Auditor
    access: Access
    conversations: Conversations
    page: LivePage
    sessions_page: LivePage
    files: WatchedFiles
    spans: Spans
    intake: Intake = field(default_factory=Intake)
    name: str = field(default_factory=lambda: str(os.getpid()))
    key_file: WatchedFiles
    draining: bool = False
    upkeep: Upkeep | None = None
    reload_error: Exception | None = None
    _reloaded_s: float = 0.0
    _expired_s: float = field(default_factory=time.monotonic)
    _rolled_up_s: float = field(default_factory=time.monotonic)
    _old: list[tuple[float, Serving]] = field(default_factory=list)

    async def close(self) -> None:
        """Finish what audits and shadows are under way, write the rest, and close everything."""
        if self.upkeep is not None:
            await self.upkeep.stop()
        off_path = (self.auditor, self.shadower)
        await asyncio.gather(*(one.close(within_s=DRAIN_S) for one in off_path))
        await self.books.close()
        await self.access.close()
        for _, serving in self._old:
            await serving.close()
        await self.serving.close()
        self.books.ledger.close()

    def check_books(self) -> None:
        """Raise LedgerError while the ledger cannot be written: nothing is answered unbooked."""
        if self.books.failing is not None:
            raise self.books.failing
        self.books.ledger.check_in_place()

    def exposition(self) -> str:
        """Write the metrics of all workers in Prometheus' text format."""
        self._measure()
        own = {self.name: self.metrics.values()}
        others = gather(self.settings.shared) if self.settings.shared else {}
        return expose(others | own)

    def check_ready(self) -> None:
        """Raise LedgerError, or Problem where a watch hangs, and once the process is to end."""
        self.check_books()
        if self.draining:
            raise Problem("the gateway is about to end", status=503, hint="ask another replica")
        why = self.upkeep.why_unready() if self.upkeep else None
        if why is not None:
            raise Problem(why, status=503, hint="the operator should look at the log")

    def request_reload(self) -> None:
        """Read all files again soon, as SIGHUP asks."""
        self.key_file.request_reload()
        self.files.request_reload()

    async def reload(self) -> None:
        """Take over changed files, or keep what there is and say why.

        Whatever a bad file raises, the last good settings go on.
        """
        serving = None
        try:
            config, bundle = await asyncio.to_thread(read_settings, self.settings)
            ledger = self.books.ledger
            serving = build_serving(self.settings, config, bundle, ledger=ledger)
            await asyncio.to_thread(serving.guard.begin)
            await asyncio.to_thread(serving.guard.catch_up, now=datetime.now(UTC))
            read_key_file(self.access, config.gateway, ledger=ledger)
        except Exception as error:  # noqa: BLE001 - a file may be bad in ways that nobody foresaw
            if str(error) != str(self.reload_error):
                foreseen = isinstance(error, SufficeError)
                _log.error("the old configuration stays: %s", error, exc_info=not foreseen)
            self.reload_error, self._reloaded_s = error, time.monotonic()
            if serving is not None:
                await serving.close()
            return
        self.files.watch(files_behind(self.settings, config))
        self.key_file.watch(key_files(config.gateway))
        self._old.append((time.monotonic(), self.serving))
        self.serving, self.reload_error = serving, None
        _log.warning("took over the changed configuration")
        await asyncio.to_thread(keep_settings, self.settings, config)
        await self.log_states()

    async def watch_keys(self) -> None:
        """Take over a changed key file before anything else, and whatever else is bad."""
        config = self.serving.config.gateway
        if config.keys is None or not self.key_file.changed():
            return
        try:
            keys = await asyncio.to_thread(read_keys, config.keys)
            take_keys(self.access, config, keys, ledger=self.books.ledger)
        except BaseException:
            self.key_file.request_reload()
            raise
        _log.warning("took over the changed keys")
        await asyncio.to_thread(keep_keys, self.settings, self.serving.config)
        await self.log_states()

    async def watch_files(self) -> None:
        """Take over changed files; those that could not be are tried again every few seconds."""
        for certificate in tls.served:
            await asyncio.to_thread(certificate.refresh)
        waited_s = time.monotonic() - self._reloaded_s
        if self.files.changed() or (self.reload_error is not None and waited_s > RELOAD_AGAIN_S):
            await self.reload()

    async def watch_ledger(self) -> None:
        """Take in what audits have shown, erase what is over, and add new rows to the sums."""
        await self.refresh_guard()
        await self.refresh_rollout()
        if time.monotonic() - self._expired_s > EXPIRY_S:
            self._expired_s = time.monotonic()
            now = datetime.now(UTC)
            await asyncio.to_thread(erase_expired, self.books.ledger, now=now)
            for forget in (forget_sessions, forget_reserves):
                await asyncio.to_thread(forget, self.books.ledger, before=now - SESSIONS_KEPT)
        if time.monotonic() - self._rolled_up_s > ROLLUP_S and await asyncio.to_thread(
            advance, self.books.ledger, within_s=ROLLUP_SHARE_S
        ):
            self._rolled_up_s = time.monotonic()

    async def publish_metrics(self) -> None:
        """Close what no request uses any more, and leave the metrics where they are gathered."""
        await self._close_old()
        self._publish()

    async def log_states(self) -> None:
        """Log changes of keys, configuration and certificate; raises LedgerError."""
        serving, desk = self.serving, self.access.desk
        keys = desk.limiter.ring.keys if desk else {}
        await asyncio.to_thread(
            note_states,
            *(self.books.ledger, states_of(serving, keys)),
            origin=f"{socket.gethostname()}:{self.name}",
            now=datetime.now(UTC),
        )

    def start_upkeep(self) -> None:
        """Begin to watch the keys, the files and the ledger."""
        steps = {
            "keys": self.watch_keys,
            "files": self.watch_files,
            "ledger": self.watch_ledger,
            "metrics": self.publish_metrics,
        }
        if self.settings.workers > 1:
            steps["parent"] = self.watch_parent
        self.upkeep = Upkeep(steps, metrics=self.metrics, every_s=UPKEEP_S)
        self.upkeep.start()

    async def watch_parent(self) -> None:
        """End with the process that started this one: without it nobody would end the workers."""
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            _log.error("the process that started the workers has died: this one ends too")
            os.kill(os.getpid(), signal.SIGTERM)

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

    async def refresh_rollout(self) -> None:
        """Take in how the sessions of a roll-out came out; an alarm stops it."""
        serving, bundle = self.serving, self.serving.pipeline.bundle
        if bundle is None or not serving.rollout.partial or serving.rollout.stopped:
            return
        certificate = bundle.certificate
        since = Window(since=certificate.terms.created)
        logged = await asyncio.to_thread(arm_outcomes, self.books.ledger, window=since)
        outcomes = [ArmOutcome(one.arm == "policy", one.score) for one in logged]
        watch = canary(outcomes, alpha=certificate.alpha, delta=certificate.delta)
        if watch.alarm_at is not None:
            serving.rollout.stopped = True
            _log.warning("outcomes of its sessions have ended the roll-out of the policy")

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
        self.metrics.set(RELOAD_FAILING, to=float(self.reload_error is not None))
        if self.upkeep is not None:
            self.upkeep.measure()
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
    error: Exception | None = None
    try:
        worker = _joined(settings, settings)
    except Exception as bad:
        last = last_settings(settings)
        if last is None:
            raise
        _log.error("started with the last settings that worked: %s", bad)
        worker, error = _joined(settings, last), bad
    worker.reload_error = error
    await asyncio.to_thread(worker.serving.guard.begin)
    await worker.refresh_guard()
    await worker.log_states()
    if error is None:
        await asyncio.to_thread(keep_settings, settings, worker.serving.config)
    _freeze_garbage()
    return worker


def _joined(settings: Settings, files: Settings) -> Worker:
    """Join the parts that `files` describe; the worker goes on to watch those of `settings`."""
    config, bundle = read_settings(files)
    if files is not settings:
        config = with_last_keys(config, settings)
    gateway, metrics, access = config.gateway, Metrics(), Access()
    redact = None
    if gateway.redact is not None:
        redact = load_function(gateway.redact, at="gateway.redact", what="function")
    ledger = Ledger.open(
        gateway.ledger, fsync=gateway.fsync, store_text=gateway.store_text, redact=redact
    )
    try:
        serving = build_serving(settings, config, bundle, ledger=ledger)
        read_key_file(access, gateway, ledger=ledger)
    except BaseException:
        ledger.close()
        raise
    return Worker(
        settings=settings,
        serving=serving,
        metrics=metrics,
        books=Books(ledger),
        auditor=Auditor(
            *(ledger, metrics), at_once=gateway.audit_concurrency, scorer=gateway.audit_scorer
        ),
        shadower=Auditor(
            *(ledger, metrics),
            at_once=gateway.shadow_concurrency,
            scorer=gateway.audit_scorer,
            role=Role.SHADOW,
        ),
        access=access,
        conversations=Conversations(most=gateway.conversations),
        page=LivePage(partial(make_dashboard, ledger)),
        sessions_page=LivePage(partial(make_sessions, ledger), fresh_s=SESSIONS_FRESH_S),
        files=WatchedFiles(files_behind(settings, config)),
        key_file=WatchedFiles(key_files(gateway)),
        spans=Spans(),
    )


def read_key_file(access: Access, config: GatewayConfig, *, ledger: Ledger) -> None:
    """Read the keys where a configuration names their file; raises ConfigError."""
    if config.keys is not None:
        take_keys(access, config, read_keys(config.keys), ledger=ledger)


def take_keys(access: Access, config: GatewayConfig, keys: KeyFile, *, ledger: Ledger) -> None:
    """Let in who has one of these keys from now on."""
    ring = KeyRing(keys)
    access.assumed_tokens = config.assumed_output_tokens
    if access.desk is not None:
        access.desk.limiter.reload(ring)
        return
    hold_s = config.deadline_s + HOLD_SLACK_S
    limiter = KeyLimiter(ring, ledger=ledger, assumed_usd=config.assumed_usd, hold_s=hold_s)
    access.desk = AdmissionDesk(limiter)


def _freeze_garbage() -> None:
    """Keep the garbage collector from walking through what lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)
