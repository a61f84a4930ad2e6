"""POST /v1/completions and /v1/embeddings: forwarded to a rung that serves them, and booked.

The policy chooses among chat rungs for chats: for the model `suffice` the reference rung completes
texts, and embeddings have to be asked for by name.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from suffice.engines.bounded import reply_bytes, reply_pieces
from suffice.engines.finishes import finish_of
from suffice.engines.loose_json import decoded
from suffice.engines.refusals import error_in
from suffice.engines.render import event
from suffice.engines.stream import EventReader
from suffice.engines.usage import against_text, estimated_input, read_usage
from suffice.errors import EngineProtocolError, EngineRefused
from suffice.gateway.budgets import hold_budgets
from suffice.gateway.chat import AdmittedChat, Answering, entering
from suffice.gateway.exchange import Exchange
from suffice.gateway.forwarded import Forwarded, read_completion, read_embedding
from suffice.gateway.problems import Problem
from suffice.gateway.serving import Serving
from suffice.gateway.tags import request_tags
from suffice.gateway.wire import (
    DONE,
    account_of,
    costs,
    json_object,
    whole,
)
from suffice.gateway.worker import Worker
from suffice.pipeline import Climb
from suffice.types import (
    JSON,
    Completion,
    Count,
    CountSource,
    Finish,
    Usage,
    estimated,
)

_UNSERVED = (404, 405, 501)
_BY_CHATS = "the policy chooses for chats alone"


async def complete_text(exchange: Exchange, worker: Worker) -> None:
    """Answer a request for a text completion."""
    await _forward(exchange, worker, read_completion)


async def embed(exchange: Exchange, worker: Worker) -> None:
    """Answer a request for embeddings."""
    await _forward(exchange, worker, read_embedding)


async def _forward(
    exchange: Exchange, worker: Worker, read: Callable[[Exchange, JSON, Serving], Forwarded]
) -> None:
    worker.check_books()
    key, access = worker.access.authenticate(exchange.headers, "chat"), worker.access
    serving = worker.serving
    gateway = serving.config.gateway
    async with entering(exchange, worker, key) as entrance:
        body = json_object(await exchange.body(limit=gateway.body_limit_bytes))
        forwarded = read(exchange, body, serving)
        tags = request_tags(exchange.headers, body, key=key, metadata=gateway.tag_metadata)
        await hold_budgets(
            *(worker.books.ledger, serving),
            session_id=None,
            key_id=None,
            tags=tags,
            chat=forwarded.asked,
        )
        entrance.admission = await access.reserve(
            *(entrance.admission, forwarded.asked, serving.pipeline),
            models={**serving.models, **serving.embeddings},
        )
    asked = forwarded.asked
    if exchange.served is not None:
        exchange.served.model = asked.model
    by_policy = asked.rung is None
    climb = Climb(
        serving.pipeline,
        serving.pipeline.grouped(asked.request) if by_policy else asked.request,
        named=None if by_policy else forwarded.rung,
        barred=_BY_CHATS if by_policy else None,
    )
    began_s = time.perf_counter()
    task = AdmittedChat(
        chat=replace(asked, rung=forwarded.rung),
        climb=climb,
        seat=None,
        choice=None,
        arm=None,
        tags=tags,
        admission=entrance.admission,
        audited=False,
        deadline_s=gateway.deadline_s,
        began_s=began_s,
        decided_s=began_s,
    )
    exchange.write_timeout_s = gateway.write_timeout_s
    forwarding = _Forwarding(exchange, worker, task)
    await (forwarding.stream(forwarded) if asked.stream else forwarding.ask(forwarded))


class _Forwarding(Answering):
    """One forwarded request while it is being answered."""

    async def ask(self, forwarded: Forwarded) -> None:
        """Answer in one piece: the engine's own, with our account."""
        async with self.attended():
            began_s, called = time.perf_counter(), None
            try:
                async with self.climb.pipeline.place(forwarded.rung):
                    called = datetime.now(UTC)
                    data = await self._data(forwarded)
                    completion = _completion(data, forwarded, began_s=began_s)
            except BaseException as error:
                self._lost(error, at=called, usage=None)
                raise
            self.climb.answered(completion, at=called)
        booked = await self.booked(completion)
        headers = [*self.head(), *costs(booked.entry)]
        await self.exchange.reply(whole(booked), headers=headers)

    async def stream(self, forwarded: Forwarded) -> None:
        """Pass on events as they come, the usage last, once the answer is booked."""
        async with self.attended():
            text, began_s, called = _StreamedText(), time.perf_counter(), None
            try:
                async with self.climb.pipeline.place(forwarded.rung):
                    called = datetime.now(UTC)
                    await self._pass_events(forwarded, text)
            except BaseException as error:
                used = text.usage(forwarded) if text.pieces else None
                self._lost(error, at=called, usage=used)
                raise
            completion = Completion(
                text="".join(text.pieces),
                finish=finish_of(text.finish or "stop"),
                usage=text.usage(forwarded),
                duration_s=time.perf_counter() - began_s,
                model=text.head.get("model"),
            )
            self.climb.answered(completion, at=called)
        booked = await self.booked(completion)
        last = DONE
        if forwarded.asked.wants_usage:
            counts = text.counts if isinstance(text.counts, dict) else {}
            chunk = {**text.head, "choices": [], "usage": counts, **account_of(booked)}
            last = event(chunk) + DONE
        await self.open()
        await self.exchange.send(last, more=False)

    async def _data(self, forwarded: Forwarded) -> bytes:
        engine = self.climb.pipeline.engines[forwarded.rung.engine]
        try:
            async with engine.forward(forwarded.path, forwarded.body) as response:
                return await reply_bytes(response)
        except EngineRefused as error:
            raise _unserved(error, forwarded) from error

    async def _pass_events(self, forwarded: Forwarded, text: "_StreamedText") -> None:
        engine, reader = self.climb.pipeline.engines[forwarded.rung.engine], EventReader()
        try:
            async with engine.forward(forwarded.path, forwarded.body) as response:
                if response.content_type == "application/json":  # an engine that does not stream
                    await self.pass_on(text.add((await reply_bytes(response)).decode()))
                else:
                    async for piece in reply_pieces(response):
                        ready = b"".join(map(text.add, reader.feed(piece)))
                        if ready:
                            await self.pass_on(ready)
                    await self.pass_on(b"".join(map(text.add, reader.close())))
        except EngineRefused as error:
            raise _unserved(error, forwarded) from error
        if not text.done and text.finish is None:
            raise EngineProtocolError(
                "the engine ended its answer without saying why it finished",
                hint="the answer is cut off: the server, or a proxy before it, broke the stream",
                retryable=True,
            )

    def _lost(self, error: BaseException, *, at: datetime | None, usage: Usage | None) -> None:
        """Note what a call used that gave no whole answer."""
        if at is not None:
            self.climb.lost(error, at, usage, given=self.exchange.begun)


class _StreamedText:
    """What a streamed completion came to until now."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.finish: str | None = None
        self.counts: Any = None
        self.head: JSON = {}
        self.done = False

    def add(self, data: str) -> bytes:
        """Take an event, and return what is to be passed on of it."""
        if data == "[DONE]":
            self.done = True
            return b""
        chunk = _whole(data.encode())
        error = error_in(chunk)
        if error is not None:
            raise error
        if not self.head:
            self.head = {name: v for name, v in chunk.items() if name not in ("choices", "usage")}
        self.counts = chunk.pop("usage", None) or self.counts
        try:
            choices = msgspec.convert(chunk.get("choices") or [], list[_TextChoice])
        except msgspec.ValidationError as wrong:
            raise EngineProtocolError(
                f"the engine sent an event that is no part of a text completion: {wrong}",
                hint="does the engine's url end in /v1?",
            ) from wrong
        for choice in choices:
            self.pieces.append(choice.text or "")
            self.finish = choice.finish_reason or self.finish
        return event(chunk) if chunk.get("choices") else b""

    def usage(self, forwarded: Forwarded) -> Usage:
        """Return what the engine reports, or an estimate by the text."""
        return _usage(self.counts, forwarded, written="".join(self.pieces))


def _unserved(error: EngineRefused, forwarded: Forwarded) -> Exception:
    """Say clearly that an engine has no such path; any other refusal stays as it is."""
    if error.status not in _UNSERVED:
        return error
    words = error.detail.message or error.body or "no more"
    problem = Problem(
        f"the engine of rung {forwarded.rung.name!r} does not serve /v1{forwarded.path}; it says: "
        f"{words}",
        status=404,
        code="upstream_refused",
        param="model",
        hint="ask for another rung: GET /v1/models",
    )
    problem.upstream_code = error.detail.code
    return problem


class _TextChoice(Struct):
    text: str | None = None
    finish_reason: str | None = None


class _ForwardedReply(Struct):
    """What is read of a reply; vectors stay unread."""

    usage: Any = None
    model: str | None = None
    choices: list[_TextChoice] | None = None
    data: Raw = Raw()


def _completion(data: bytes, forwarded: Forwarded, *, began_s: float) -> Completion:
    """Read a whole reply; raises EngineError for one that is none."""
    try:
        reply = msgspec.json.decode(data, type=_ForwardedReply)
    except msgspec.DecodeError:
        reply = _ForwardedReply()
    if reply.choices is None and not bytes(reply.data):
        error = error_in(_whole(data))
        raise error or EngineProtocolError(
            f"the engine answered with what is no reply of /v1{forwarded.path}: {data[:200]!r}",
            hint="does the engine's url end in /v1?",
        )
    choices = reply.choices or []
    text = "".join(choice.text or "" for choice in choices)
    return Completion(
        text=choices[0].text or "" if choices else "",
        samples=tuple(choice.text or "" for choice in choices[1:]),
        finish=finish_of(choices[0].finish_reason or "stop") if choices else Finish.STOP,
        usage=_usage(reply.usage, forwarded, written=text),
        duration_s=time.perf_counter() - began_s,
        model=reply.model,
        wire=data,
    )


def _usage(counts: object, forwarded: Forwarded, *, written: str) -> Usage:
    usage, request = read_usage(counts, reasoning=""), forwarded.asked.request
    prompt = usage.input_tokens
    if prompt is None and forwarded.prompt_tokens is not None:
        prompt = Count(forwarded.prompt_tokens, CountSource.COUNTED)
    usage = replace(usage, input_tokens=prompt or estimated_input(request))
    if forwarded.path == "/embeddings":
        return replace(usage, output_tokens=Count(0, CountSource.REPORTED))
    usage = replace(usage, output_tokens=usage.output_tokens or estimated(written))
    return (
        usage if forwarded.prompt_tokens else against_text(usage, written=written, request=request)
    )


def _whole(data: bytes) -> JSON:
    """Decode a JSON object; anything else is the text of an error."""
    value = decoded(data)
    return value if isinstance(value, dict) else {"error": str(value)[:200]}
