"""What one worker process keeps between requests: ledger, books, keys, guard, and who was where."""

import asyncio
import binascii
import gc
import itertools
import logging
import os
import time
from base64 import b64decode
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from suffice.errors import LedgerError, SufficeError
from suffice.gateway.auditor import Auditor
from suffice.gateway.conversations import Conversations, conversation_id, leaving_pays
from suffice.gateway.dashboard.live import LivePage
from suffice.gateway.group_commit import Books
from suffice.gateway.keys import KeyRing, read_keys
from suffice.gateway.limits import Admission, KeyLimiter, Refused, spent_on
from suffice.gateway.metrics.families import CIRCUIT, FALLBACKS, IN_FLIGHT, QUEUED, UNBOOKED
from suffice.gateway.metrics.record import measure_guard
from suffice.gateway.metrics.registry import Metrics, expose, gather, publish
from suffice.gateway.metrics.spans import Spans
from suffice.gateway.problems import Problem
from suffice.gateway.reload import WatchedFiles
from suffice.gateway.serving import Serving, Settings, build_serving, read_settings
from suffice.gateway.wire import ChatRequest
from suffice.ledger import Ledger
from suffice.meter import charge
from suffice.pipeline import Climb, Pipeline
from suffice.types import Count, CountSource, Request, Rung, Usage

LOOK_S = 1.0  # how often the ledger is read for audits, and the files for changes
SPENDING_TURNS = 5  # how many looks there are to one at what other workers have spent
GRACE_S = 5.0  # for requests that have read the old configuration and not yet asked an engine
DRAIN_S = 10.0  # for audits, once the last request is answered
GARBAGE = 20_000  # new objects between two collections: those of some dozens of requests
_log = logging.getLogger("suffice.gateway")


class _Barred(NamedTuple):
    """Why the policy may not choose: a word for the metrics, and a sentence for the client."""

    reason: str
    why: str


class Worker:
    """Open it with `start`, and end it with `stop`; `serving` is what a reload replaces."""

    serving: Serving
    books: Books
    auditor: Auditor

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = str(os.getpid())
        self.reload_error: SufficeError | None = None
        self.metrics = Metrics()
        self.spans = Spans()
        self.gate: KeyLimiter | None = None
        self.ring: KeyRing | None = None
        self._old: list[tuple[float, Serving]] = []

    async def start(self) -> None:
        """Open the ledger and join the parts; raises SufficeError."""
        self._watched = WatchedFiles(self.settings)
        config, bundle = read_settings(self.settings)
        gateway = config.gateway
        ledger = Ledger.open(gateway.ledger, fsync=gateway.fsync, store_text=gateway.store_text)
        self.books = Books(ledger)
        self.auditor = Auditor(
            *(ledger, self.metrics),
            at_once=gateway.audit_concurrency,
            scorer=gateway.audit_scorer,
        )
        self.page = LivePage(ledger)
        self.conversations = Conversations(most=gateway.conversations)
        self.serving = build_serving(self.settings, config, bundle, ledger=ledger)
        if gateway.keys is not None:
            self._read_keys(gateway.keys)
        await self._look()
        await self._look_at_spending()
        _forget_the_start()
        self._looking = asyncio.create_task(self._look_on())

    async def stop(self) -> None:
        """Finish what audits are under way, write what is left, and close everything."""
        self._looking.cancel()
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

    def exposed(self) -> str:
        """Write the metrics of all workers in Prometheus' text format."""
        self._measure()
        own = {self.name: self.metrics.values()}
        others = gather(self.settings.shared) if self.settings.shared else {}
        return expose(others | own)

    def authenticate(self, headers: dict[bytes, bytes]) -> str | None:
        """Return the name of the key that was sent, None where none is needed; Problem for none."""
        if self.ring is None:
            return None
        key = self.ring.find(presented(headers))
        if key is None:
            raise Problem(
                "no such API key, or none given",
                status=401,
                code="invalid_api_key",
                hint="send the header: Authorization: Bearer KEY",
            )
        return key.name

    def admit(
        self, headers: dict[bytes, bytes], asked: ChatRequest, serving: Serving
    ) -> Admission | None:
        """Reserve a request's worst case for its key; raises Problem over a rate or a budget."""
        if self.gate is None:
            return None
        admitted = self.gate.admit(
            presented(headers),
            worst_usd=_worst_usd(asked, serving.pipeline),
            now=datetime.now(UTC),
            now_s=time.monotonic(),
        )
        if isinstance(admitted, Refused):
            raise Problem(
                admitted.message,
                status=admitted.status,
                code=admitted.code,
                hint=admitted.hint,
                retry_after_s=admitted.retry_after_s,
            )
        return admitted

    def begin(self, asked: ChatRequest, serving: Serving) -> Climb:
        """Choose where a request begins."""
        request = asked.request
        barred = None if asked.rung else _barred(asked, serving)
        why = barred.why if barred else None
        climb = Climb(serving.pipeline, request, named=asked.rung, barred=why)
        if climb.fallback is not None:
            self.metrics.add(FALLBACKS, (barred.reason if barred else "certificate",))
        if asked.stream and not climb.settled and serving.config.gateway.defer_streams == "route":
            climb.take_reference()
        reference = serving.pipeline.ladder.reference
        goes_on = len(request.messages) > 1 and asked.rung is None and climb.rung != reference
        stays = goes_on and self._was_on(request) == reference.name
        if stays and not leaving_pays(serving.pipeline, request, climb.rung):
            climb.take_reference()
        return climb

    def _was_on(self, request: Request) -> str | None:
        return self.conversations.rung_of(conversation_id(request))

    async def _look_on(self) -> None:
        """Look at the ledger and at the files, again and again."""
        for turn in itertools.count(1):
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
                if self.settings.workers > 1 and turn % SPENDING_TURNS == 0:
                    await self._look_at_spending()
            except LedgerError as error:
                _log.warning("%s", error.message)
            if self._watched.changed():
                await self.reload()
            await self._close_old()
            self._publish()

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

    async def _look(self) -> None:
        """Take in what audits have shown."""
        guard = self.serving.guard
        blind_before = guard.state.blind
        state = await asyncio.to_thread(guard.catch_up, now=datetime.now(UTC))
        if state.blind and not blind_before:
            _log.warning(
                "nobody watches the certificate: the last %d audits got no label (%s)",
                *(state.silent, ", ".join(state.labels)),
            )

    async def _look_at_spending(self) -> None:
        """Take in what other workers, or this one before a restart, have spent for each key."""
        if self.gate is None:
            return
        day, before = datetime.now(UTC).date(), self.gate.settled()
        spent = await asyncio.to_thread(spent_on, self.books.ledger, day)
        self.gate.refresh(spent, before=before, day=day)

    def poke(self) -> None:
        """Have the files read again soon, changed or not."""
        self._watched.poke()

    async def reload(self) -> None:
        """Take over changed files, or keep what there is and say why."""
        try:
            config, bundle = await asyncio.to_thread(read_settings, self.settings)
            ledger = self.books.ledger
            serving = build_serving(self.settings, config, bundle, ledger=ledger)
            await asyncio.to_thread(serving.guard.catch_up, now=datetime.now(UTC))
            if config.gateway.keys is not None:
                self._read_keys(config.gateway.keys)
        except SufficeError as error:
            self.reload_error = error
            _log.error("the old configuration stays: %s", error)
            return
        self._old.append((time.monotonic(), self.serving))
        self.serving, self.reload_error = serving, None
        _log.warning("took over the changed configuration")

    async def _close_old(self) -> None:
        """Close the engines of configurations that no request uses any more."""
        for since_s, serving in list(self._old):
            if serving.places.idle and time.monotonic() - since_s > GRACE_S:
                self._old.remove((since_s, serving))
                await serving.close()

    def _read_keys(self, path: str) -> None:
        self.ring = KeyRing(read_keys(path))
        self._watched.also(Path(path))
        if self.gate is None:
            usd = self.serving.config.gateway.assumed_usd
            self.gate = KeyLimiter(self.ring, assumed_usd=usd, workers=self.settings.workers)
        else:
            self.gate.reload(self.ring)


def _forget_the_start() -> None:
    """Keep the garbage collector from walking through what lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)


def presented(headers: dict[bytes, bytes]) -> str | None:
    """Return the key of an Authorization header, or None without one.

    Browsers, for the dashboard, send it as the password of a basic authentication.
    """
    kind, _, sent = headers.get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"basic":
        with suppress(binascii.Error):
            return b64decode(sent, validate=True).partition(b":")[2].decode("utf-8", "replace")
    return sent.strip().decode("latin-1") if kind.lower() == b"bearer" else None


def _barred(asked: ChatRequest, serving: Serving) -> _Barred | None:
    """Say why the policy may not choose for a request; None when it may."""
    if serving.settings.observe:
        return _Barred("observing", "the gateway only observes")
    bundle = serving.pipeline.bundle
    if bundle is None:
        return None
    if asked.alpha is not None and asked.alpha < bundle.certificate.alpha:
        why = f"the certificate promises {bundle.certificate.alpha:g}, not {asked.alpha:g}"
        return _Barred("alpha", why)
    if not serving.guard.allowed(asked.request.group):
        return _Barred("alarm", "an alarm has ended the certificate for this group")
    return None


def _worst_usd(asked: ChatRequest, pipeline: Pipeline) -> Decimal | None:
    """Price the largest answer that a request allows on the dearest rung; None if unknown.

    A rung that stops early reads its prompt anew for each piece and probe: it has no such price.
    """
    params = asked.request.params
    limit = params.get("max_completion_tokens", params.get("max_tokens"))
    if not isinstance(limit, int):
        return None
    input_tokens = len(asked.request.text.encode())  # tokens are hardly ever shorter than a byte
    usage = Usage(
        input_tokens=Count(input_tokens, CountSource.ESTIMATED),
        output_tokens=Count(limit * (params.get("n") or 1), CountSource.ESTIMATED),
    )
    rungs = pipeline.ladder if asked.rung is None else (asked.rung,)
    most = [_most_usd(rung, usage, pipeline) for rung in rungs]
    known = [usd for usd in most if usd is not None]
    return max(known) if known and len(known) == len(most) else None


def _most_usd(rung: Rung, usage: Usage, pipeline: Pipeline) -> Decimal | None:
    """Price a call on one rung, twice where a second one may be made beside it."""
    usd = charge(usage, pipeline.prices.get(rung.price or "")).usd
    if usd is None or rung.early_stop is not None:
        return None
    return usd * 2 if rung.name in pipeline.hedge_after_s else usd
