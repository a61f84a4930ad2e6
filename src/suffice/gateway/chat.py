"""POST /v1/chat/completions: a rung is chosen and asked, and the answer ends once it is booked."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from suffice.errors import EngineError, SufficeError, describe
from suffice.gateway.auditor import auditable
from suffice.gateway.budgets import hold_budgets
from suffice.gateway.concurrency import CLIENT
from suffice.gateway.exchange import ClientGone, Exchange, Headers, Presence, beside_loop
from suffice.gateway.intake import source_of
from suffice.gateway.keepalive import KeepAlive
from suffice.gateway.keys import Key
from suffice.gateway.limits import Admission
from suffice.gateway.metrics.record import Times, measure_hedges, measure_request
from suffice.gateway.problems import OF_REQUEST, Problem, problem_of
from suffice.gateway.route import start_climb
from suffice.gateway.seats import Seat, check_turn, leave_seat, take_seat
from suffice.gateway.shadow import shadow_chance, turn_of
from suffice.gateway.tags import request_tags, without_tags
from suffice.gateway.trim import trim_for
from suffice.gateway.wire import (
    REQUEST_ID,
    BookedAnswer,
    ChatRequest,
    answer_head,
    costs,
    read_chat,
    tail,
    whole,
)
from suffice.gateway.worker import Worker
from suffice.ledger import Entry, Status
from suffice.pipeline import Climb, ascend
from suffice.pipeline import relay as begin_relay
from suffice.sessions import Choice
from suffice.sessions.rollout import SessionArm
from suffice.types import Completion, Request, Rung

_EVENTS: Headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]


async def chat(exchange: Exchange, worker: Worker) -> None:
    """Answer one chat request; every request whose sender is known is booked, however it ends."""
    worker.check_books()
    key, access = worker.access.authenticate(exchange.headers, "chat"), worker.access
    serving = worker.serving
    gateway = serving.config.gateway
    async with entering(exchange, worker, key) as entrance:
        body = await exchange.body(limit=gateway.body_limit_bytes)
        read = partial(
            read_chat,
            *(body, exchange.headers, serving),
            request_id=exchange.request_id,
            native=exchange.native,
            custom_tools=exchange.custom_tools,
        )
        request = await beside_loop(read, body=body)
        seat = await take_seat(
            *(exchange, request, serving),
            ledger=worker.books.ledger,
            key=None if key is None else key.name,
        )
        fields = exchange.fields or request.request.params
        tags = request_tags(exchange.headers, fields, key=key, metadata=gateway.tag_metadata)
        await hold_budgets(
            *(worker.books.ledger, serving),
            session_id=seat.session_id,
            key_id=key.name if key else None,
            tags=tags,
            chat=request,
        )
        params = without_tags(request.request.params)
        request = replace(request, request=replace(request.request, params=params))
        entrance.admission = await access.reserve(
            *(entrance.admission, request, serving.pipeline), models=serving.models
        )
        for name in request.ignored:
            exchange.ignore(name)
        if exchange.served is not None:
            exchange.served.model = request.model
        began_s = time.perf_counter()
        start = partial(
            start_climb,
            *(request, serving, seat),
            conversations=worker.conversations,
            metrics=worker.metrics,
        )
        climb, choice, arm = await beside_loop(start, body=body)
    task = AdmittedChat(
        chat=request,
        climb=climb,
        seat=seat,
        choice=choice,
        arm=arm,
        tags=tags,
        admission=entrance.admission,
        audited=request.rung is None and serving.guard.drawn(request.request.request_id),
        shadow_chance=shadow_chance(request, seat, gateway),
        deadline_s=gateway.deadline_s,
        began_s=began_s,
        decided_s=time.perf_counter(),
        native_rungs=serving.native_rungs,
        dropped=serving.dropped,
    )
    exchange.write_timeout_s = gateway.write_timeout_s
    answering = Answering(exchange, worker, task)
    await (answering.streamed() if request.stream else answering.whole())


@dataclass
class Entrance:
    """What the key of a request that comes in has been granted so far."""

    admission: Admission | None = None


@asynccontextmanager
async def entering(exchange: Exchange, worker: Worker, key: Key | None) -> AsyncIterator[Entrance]:
    """Let a request in; one that fails on the way gives back its place, and a refusal is booked."""
    entrance, came_s = Entrance(), time.perf_counter()
    CLIENT.set(key.name if key else source_of(exchange.client))
    try:
        entrance.admission = await worker.access.enter(key, request_id=exchange.request_id)
        yield entrance
    except BaseException as error:
        worker.access.settle(entrance.admission, None)
        if isinstance(error, SufficeError):
            await refuse(exchange, worker, error, key=key, came_s=came_s)
        raise


class AdmittedChat(NamedTuple):
    """A chat request that was admitted, and where it begins; the times are of `perf_counter`."""

    chat: ChatRequest
    climb: Climb
    seat: Seat | None
    choice: Choice | None
    arm: SessionArm | None
    tags: tuple[str, ...]
    admission: Admission | None
    audited: bool
    deadline_s: float
    began_s: float
    decided_s: float
    native_rungs: frozenset[str] = frozenset()
    dropped: Callable[[Request, Rung], tuple[str, ...]] = lambda *_: ()
    shadow_chance: float | None = None


class Answering:
    """One chat request while it is being answered."""

    def __init__(self, exchange: Exchange, worker: Worker, task: AdmittedChat) -> None:
        self.exchange, self.worker, self.task = exchange, worker, task
        self.climb = task.climb
        self._first_s: float | None = None

    async def whole(self) -> None:
        """Answer in one piece."""
        async with self.attended():
            completion = await ascend(self.climb)
            await check_turn(self.task.seat, self.climb, completion)
        booked = await self.booked(completion)
        headers = [*self.head(), *costs(booked.entry)]
        await self.exchange.reply(whole(booked), headers=headers)

    async def streamed(self) -> None:
        """Pass the stream on as it comes; one that may not stay is held until it may."""
        async with self.attended(), self.kept_alive():
            while (completion := await self._relay()) is None:
                pass
            await check_turn(self.task.seat, self.climb, completion)
        booked = await self.booked(completion)
        await self.open()
        await self.exchange.send(tail(booked, wants_usage=self.task.chat.wants_usage), more=False)

    async def _relay(self) -> Completion | None:
        """Ask the next rung; None when yet another one has to be asked."""
        climb, called, trim = self.climb, None, trim_for(self.climb.request, self.climb.rung)
        relay = begin_relay(climb)
        held: list[bytes] = []
        completion: Completion | None = None
        try:
            async with climb.pipeline.place(climb.rung), aclosing(relay.items) as items:
                called = datetime.now(UTC)
                async for item in items:
                    if isinstance(item, Completion):
                        completion = item
                        continue
                    data = item if trim is None else trim.events(item)
                    if climb.settled:
                        await self.pass_on(data)
                    else:
                        held.append(data)
        except BaseException as error:
            begun, used = self._first_s is not None, relay.used()
            came = begun or (used.output_tokens is not None and used.output_tokens.tokens > 0)
            usage = used if came or not isinstance(error, EngineError) else None
            if not climb.failed(error, at=called, usage=usage, given=begun) or begun:
                raise
            return None
        assert completion is not None
        assert called is not None
        completion = await climb.checked(completion, at=called)
        if not climb.answered(completion, at=called):
            return None
        await self.pass_on(b"".join(held))
        return completion

    async def pass_on(self, data: bytes) -> None:
        """Send a part of a stream, after the head where that has not gone out."""
        self._first_s = self._first_s or time.perf_counter()
        await self.open()
        await self.exchange.send(data, more=True)

    def kept_alive(self) -> KeepAlive:
        """Keep the connection of a stream open while nothing comes."""
        gateway = self.worker.serving.config.gateway

        async def begin() -> None:
            if not self.exchange.begun:
                request_id = self.climb.request.request_id.encode()
                await self.exchange.begin(200, [*_EVENTS, (REQUEST_ID, request_id)])

        return KeepAlive(
            self.exchange,
            every_s=gateway.keepalive_s,
            open_after_s=gateway.open_after_s,
            begin=begin,
        )

    async def open(self) -> None:
        """Send the head of a stream, unless it has gone out."""
        if not self.exchange.begun:
            await self.exchange.begin(200, [*_EVENTS, *self.head()])

    def head(self) -> Headers:
        """Return the headers that tell who answers."""
        request, rung = self.climb.request, self.climb.rung
        if request.native and rung.name in self.task.native_rungs:
            self.exchange.answer_natively()
        else:
            for name in self.task.dropped(request, rung):
                self.exchange.ignore(name)
        bundle = self.climb.pipeline.bundle if self.climb.certified else None
        choice = self.task.choice
        chosen = [] if choice is None else [(b"x-suffice-choice", choice.reason.encode())]
        return chosen + answer_head(
            rung,
            request_id=request.request_id,
            certificate_id=bundle.certificate.certificate_id if bundle else None,
        )

    async def booked(self, completion: Completion) -> BookedAnswer:
        """Book the answer; once this returns, it is durable, and the rest may be sent."""
        climb, task, seat = self.climb, self.task, self.task.seat
        entry = await self._book(self.entry())
        if seat is not None:
            self.worker.conversations.note(seat.agent, climb.rung.name)
            await leave_seat(seat, entry, task.choice, ledger=self.worker.books.ledger)
        return BookedAnswer(
            trim=trim_for(climb.request, climb.rung),
            completion=completion,
            entry=entry,
            rung=climb.rung,
            request=climb.request,
            fallback=climb.fallback,
        )

    def entry(self) -> Entry:
        """Write the books' line of an answer."""
        return self.climb.entry()

    async def _book(self, entry: Entry) -> Entry:
        task, worker = self.task, self.worker
        key = task.admission.key if task.admission else None
        entry = replace(
            entry,
            audited=task.audited and auditable(entry),
            key_id=key.name if key else None,
            tags=task.tags,
            conversation_id=task.seat.agent if task.seat else None,
            session_id=task.seat.session_id if task.seat else None,
            turn=turn_of(task.chat.request),
            shadow_chance=task.shadow_chance,
        )
        if task.arm is not None:
            arm = "policy" if task.arm.by_policy else "reference"
            entry = replace(entry, arm=arm, arm_chance=task.arm.chance, wish=task.arm.wish)
        booked = worker.books.add(entry)
        charge = entry.charge if entry.attempts else None
        tokens = tokens_used(entry)
        booked.add_done_callback(
            lambda _: worker.access.settle(task.admission, charge, tokens=tokens)
        )
        if entry.audited or (entry.shadow_chance is not None and auditable(entry)):
            booked.add_done_callback(partial(self._ask_others, entry))
        if entry.status is not Status.CANCELLED:
            await booked
        now_s, first_s = time.perf_counter(), self._first_s
        times = Times(
            total_s=now_s - task.began_s,
            first_token_s=None if first_s is None else first_s - task.began_s,
            decision_s=None if task.chat.rung else task.decided_s - task.began_s,
        )
        measure_request(worker.metrics, entry, times=times)
        measure_hedges(worker.metrics, self.climb.hedges)
        if self.exchange.served is not None:
            self.exchange.served.entry = entry
        return entry

    def _ask_others(self, entry: Entry, booked: "asyncio.Future[None]") -> None:
        """Have other rungs answer a request that now is in the books: an audit is a shadow, too."""
        if booked.cancelled() or booked.exception() is not None:
            return
        pipeline, request = self.climb.pipeline, self.climb.request
        ladder, shadow = pipeline.ladder, self.worker.serving.config.gateway.shadow_rung
        if entry.audited:
            rungs = (*ladder.below_reference, ladder.reference)
            self.worker.auditor.submit(pipeline, request, entry, rungs=rungs)
        elif shadow is not None:
            rungs = (ladder.rung(shadow), ladder.reference)
            self.worker.shadower.submit(pipeline, request, entry, rungs=rungs)

    @asynccontextmanager
    async def attended(self) -> AsyncIterator[None]:
        """Bound the work by the deadline and the client's patience; book it when it fails."""
        try:
            async with Presence(self.exchange.receive):
                async with asyncio.timeout(self.task.deadline_s):
                    yield
        except BaseException as error:
            failed = isinstance(error, Exception) and not isinstance(error, ClientGone)
            status = Status.FAILED if failed else Status.CANCELLED
            entry = self.climb.entry(status if self.climb.attempts else Status.REFUSED)
            text = self.climb.pipeline.ledger.store_text
            await self._book(replace(entry, error=_why(error, text=text)))
            raise


async def refuse(
    exchange: Exchange, worker: Worker, error: SufficeError, *, key: Key | None, came_s: float
) -> None:
    """Book and measure a request that never came to an engine; it came at `came_s`."""
    names = worker.serving.config.gateway.tag_metadata
    entry = Entry(
        request_id=exchange.request_id,
        time=datetime.now(UTC),
        status=Status.REFUSED,
        reference_rung=worker.serving.pipeline.ladder.reference.name,
        key_id=key.name if key else None,
        tags=request_tags(exchange.headers, exchange.fields or {}, key=key, metadata=names),
        error=_why(error, text=worker.books.ledger.store_text),
    )
    if exchange.served is not None:
        exchange.served.entry = entry
    await worker.books.add(entry)
    measure_request(worker.metrics, entry, times=Times(total_s=time.perf_counter() - came_s))


def tokens_used(entry: Entry) -> int | None:
    """Count the tokens of all calls that a request made; None if any is unknown."""
    counts = [
        count
        for attempt in entry.attempts
        for count in (attempt.usage.input_tokens, attempt.usage.output_tokens)
    ]
    known = [count.tokens for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _why(error: BaseException, *, text: bool) -> str:
    """Say in the books what went wrong; without `text`, not in words that may be a client's."""
    if isinstance(error, ClientGone):
        return "the client left"
    if isinstance(error, Problem) and not text:
        quotes = "'" in error.message or '"' in error.message
        return f"refused: {error.label}" if quotes or error.status in OF_REQUEST else error.message
    return "the deadline passed" if isinstance(error, TimeoutError) else describe(error, text=text)


async def break_off(exchange: Exchange, error: BaseException) -> None:
    """Tell a client in the middle of its stream, and close the connection: it has no end."""
    await exchange.send(b"data: " + problem_of(error).body + b"\n\n", more=True)
    await exchange.hang_up()
