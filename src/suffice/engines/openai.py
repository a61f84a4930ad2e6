"""Any server that speaks the OpenAI chat-completions API, over HTTP."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import cast

import aiohttp
import msgspec
from msgspec import Struct

from suffice.config import EngineConfig
from suffice.engines.base import Engine, Retries, entered, repeated, retried
from suffice.engines.bounded import reply_bytes, reply_pieces
from suffice.engines.chunk import Chunk, Relay
from suffice.engines.concessions import Concessions
from suffice.engines.dialects import output_limit, request_body
from suffice.engines.finishes import forces_call
from suffice.engines.fold import Fold
from suffice.engines.loose_json import decoded
from suffice.engines.overrun import OverrunNotice
from suffice.engines.prefix import RawChat, lay_out, raw_body, read_raw
from suffice.engines.refusals import error_in
from suffice.engines.reply import (
    Reply,
    ReplyChoice,
    as_events,
    effort_seen,
    shortcoming,
    shown_model,
)
from suffice.engines.servers import DIALECTS, at_url
from suffice.engines.stream import EventReader
from suffice.engines.surcharges import with_surcharges
from suffice.engines.transport import Transport, finish
from suffice.engines.usage import against_text, estimated_input, read_usage
from suffice.errors import EngineError, EngineProtocolError
from suffice.types import (
    JSON,
    Completion,
    Count,
    CountSource,
    Effort,
    Finish,
    Request,
    Rung,
    Usage,
    estimated,
)

_TOKENIZE_TIMEOUT_S = 5.0
_EVENT_STARTS = (b"data:", b"event:", b"id:", b"retry:", b"error:", b":")
_EVENT_START_BYTES = 6
_BLANK = b"\xef\xbb\xbf \t\r\n"


class _Call(Struct, frozen=True, kw_only=True):
    """A request on its rung, with the JSON that is sent for it."""

    request: Request
    rung: Rung
    body: JSON


class _Timing(Struct, frozen=True, kw_only=True):
    """The duration of a call, and the time to its first words."""

    duration_s: float
    ttft_s: float | None


class OpenAIEngine(Engine):
    """An engine behind HTTP; `config.url` is what OpenAI clients call the base URL.

    Raises ConfigError for a url that cannot be one. The key is kept out of every message.
    """

    def __init__(self, config: EngineConfig, *, api_key: str | None = None) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._transport = Transport(config, headers=headers, key=api_key)
        self._url = self._transport.url
        self._dialect = at_url(DIALECTS[config.dialect], self._url)
        self._retries, self._overrun = Retries(limit=config.max_retries), OverrunNotice(self._url)
        self._concessions = Concessions(
            self._transport, asks_for_usage=self._dialect.asks_for_usage
        )

    async def complete(self, request: Request, rung: Rung) -> Completion:
        """Answer in one piece; the server may be silent all the while, within the timeout."""
        call = self._call(request, rung, stream=False)
        return await repeated(lambda: self._whole(call), retries=self._retries)

    async def stream(
        self, request: Request, rung: Rung
    ) -> AsyncGenerator[Chunk | Completion, None]:
        """Yield chunks as they arrive; the timeout bounds each silence, not the answer."""
        call = self._call(request, rung, stream=True)
        chunks = retried(lambda: self._chunks(call), retries=self._retries)
        async with aclosing(chunks) as items:
            async for item in items:
                yield item

    def relay(self, request: Request, rung: Rung) -> Relay:
        """Hand on the server's events as they are; the timeout bounds each silence."""
        call = self._call(request, rung, stream=True)
        folds = [Fold()]

        def used() -> Usage:
            usage = with_surcharges(folds[-1].used(), call.body, reported=None)
            hidden = not self._shows(call) and rung.effort not in (None, Effort.NONE)
            output = usage.output_tokens
            reported = output is not None and output.source is CountSource.REPORTED
            return msgspec.structs.replace(
                usage,
                input_tokens=usage.input_tokens or estimated_input(request),
                output_tokens=None if hidden and not reported else output,
            )

        def attempt() -> AsyncGenerator[bytes | Completion, None]:
            folds.append(Fold(forced=forces_call(call.body)))
            return self._events(call, folds[-1])

        return Relay(items=retried(attempt, retries=self._retries), used=used)

    async def extend(self, request: Request, rung: Rung, *, written: str) -> Completion:
        """Go on from the start of an answer, by a raw completion of the templated prompt."""
        call = self._call(request, rung, stream=False)
        return await repeated(lambda: self._extend(call, written), retries=self._retries)

    def forward(self, path: str, body: JSON) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Post to another path below the base URL."""
        return entered(lambda: self._transport.post(self._url + path, body), retries=self._retries)

    async def count_prompt(self, request: Request, rung: Rung) -> Count:
        """Count with the server's own template and tokenizer where it offers both."""
        call, root = self._call(request, rung, stream=False), self._url.removesuffix("/v1")
        layout = RawChat(body=call.body, rung=rung, dialect=self._dialect)
        try:
            async with asyncio.timeout(_TOKENIZE_TIMEOUT_S):
                prompt = await lay_out(
                    lambda at, body: self._transport.ask(root + at, body), layout, written=""
                )
                if isinstance(prompt, str):
                    text = {"content": prompt, "add_special": True, "parse_special": True}
                    prompt = (await self._transport.ask(f"{root}/tokenize", text))["tokens"]
                return Count(len(prompt), CountSource.COUNTED)
        except (EngineError, TimeoutError, KeyError, TypeError):
            return await super().count_prompt(request, rung)

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        await self._transport.close()

    def _call(self, request: Request, rung: Rung, *, stream: bool) -> _Call:
        body = request_body(request, rung, dialect=self._dialect, stream=stream)
        return _Call(request=request, rung=rung, body=body)

    async def _whole(self, call: _Call) -> Completion:
        """Ask once for an answer in one piece; a server that streams all the same is read too."""
        began_s = time.perf_counter()
        url = f"{self._url}/chat/completions"
        async with self._concessions.post(url, call.body) as response:
            data = await reply_bytes(response)
        timing = _Timing(duration_s=time.perf_counter() - began_s, ttft_s=None)
        prefill = _prefill(call.request) if self._dialect.echoes_prefill else ""
        if _is_event(data):
            fold = Fold()
            fold.feed(data)
            fold.close()
            return await self._folded(fold, call, timing)
        body, reply = decoded(data), Reply(prefill=prefill, forced=forces_call(call.body))
        error = error_in(body, retry_after=response.headers.get("Retry-After"))
        if error is not None:
            raise error
        reply.add(body)
        completion = await self._completion(reply, call, timing)
        cleaned = reply.cleaned(body, usage=completion.usage)
        wire = data if cleaned == body else msgspec.json.encode(cleaned)
        return msgspec.structs.replace(completion, wire=wire)

    async def _chunks(self, call: _Call) -> AsyncGenerator[Chunk | Completion, None]:
        """Ask once; yield the chunks of a stream, and at last the Completion."""
        began_s = time.perf_counter()
        ttft_s: float | None = None
        events, reply = EventReader(), Reply()
        async with aclosing(self._events(call, Fold())) as items:
            async for item in items:
                if isinstance(item, Completion):
                    duration_s = time.perf_counter() - began_s
                    yield msgspec.structs.replace(item, ttft_s=ttft_s, duration_s=duration_s)
                    return
                for data in events.feed(item):
                    for chunk in reply.add(decoded(data)):
                        ttft_s = ttft_s or time.perf_counter() - began_s
                        yield chunk

    async def _extend(self, call: _Call, written: str) -> Completion:
        """Ask once for what comes after `written`."""
        began_s = time.perf_counter()
        layout = RawChat(body=call.body, rung=call.rung, dialect=self._dialect)
        root = self._url.removesuffix("/v1")
        prompt = await lay_out(
            lambda at, body: self._transport.ask(root + at, body), layout, written=written
        )
        reply = await self._transport.ask(f"{self._url}/completions", raw_body(layout, prompt))
        raw = read_raw(reply)
        usage = read_usage(reply.get("usage"), reasoning="")
        output = usage.output_tokens or await self._count(raw.text, call)
        return Completion(
            text=raw.text,
            finish=raw.finish,
            usage=msgspec.structs.replace(usage, output_tokens=output),
            duration_s=time.perf_counter() - began_s,
            logprobs=raw.logprobs,
            model=shown_model(str(reply.get("model") or "")) or None,
        )

    async def _events(self, call: _Call, fold: Fold) -> AsyncGenerator[bytes | Completion, None]:
        """Ask once and pass on the bytes of the stream, and at last the Completion."""
        began_s = time.perf_counter()
        ttft_s: float | None = None
        async with (
            self._concessions.post(f"{self._url}/chat/completions", call.body) as response,
            aclosing(_pieces(response)) as pieces,
        ):
            async for piece in pieces:
                ready = fold.feed(piece)
                if ready:
                    ttft_s = ttft_s or time.perf_counter() - began_s
                    yield ready
                if fold.done:
                    await finish(response)
                    break
            else:
                ready = fold.close()
                if ready:
                    yield ready
        timing = _Timing(duration_s=time.perf_counter() - began_s, ttft_s=ttft_s)
        yield await self._folded(fold, call, timing)

    async def _folded(self, fold: Fold, call: _Call, timing: _Timing) -> Completion:
        """Close a stream that was read to its end."""
        completion = await self._completion(
            fold.reply(), call, timing, output_is_final=fold.output_is_final
        )
        return msgspec.structs.replace(completion, wire=fold.wire(completion.usage))

    async def _completion(
        self, reply: Reply, call: _Call, timing: _Timing, *, output_is_final: bool = True
    ) -> Completion:
        """Close a reply; raises EngineError, with the usage, for one that is no whole answer."""
        error = shortcoming(reply, url=self._url)
        if error is not None:
            if output_is_final and reply.usage:
                error.used = read_usage(reply.usage, reasoning="")
            raise error
        first, *others = reply.choices
        if call.rung.effort not in (None, Effort.NONE):
            for choice in reply.choices:
                choice.split_unopened()
        usage = await self._usage(reply, call, output_is_final=output_is_final)
        limit = output_limit(call.request, call.rung)
        self._overrun.check(usage, call.rung, limit=limit, samples=len(reply.choices))
        return Completion(
            text=first.text,
            finish=cast("Finish", first.finish),  # `finished` has seen to it
            usage=usage,
            duration_s=timing.duration_s,
            reasoning=first.reasoning or None,
            ttft_s=timing.ttft_s,
            logprobs=first.logprobs,
            tool_calls=first.tool_calls,
            samples=tuple(choice.text for choice in others),
            effort_seen=effort_seen(
                call.rung,
                usage,
                reasoning=first.reasoning,
                shows_reasoning=self._shows(call),
                samples=len(reply.choices),
            ),
            model=reply.model,
        )

    async def _usage(self, reply: Reply, call: _Call, *, output_is_final: bool) -> Usage:
        """Read the reported counts; fill the gaps with the server's tokenizer, or an estimate.

        An output that was reported before the answer ended is no more than a lower bound.
        """
        reasoning = "".join(choice.reasoning for choice in reply.choices)
        in_total = self._dialect.thoughts_in_total
        usage = read_usage(reply.usage, reasoning=reasoning, thoughts_in_total=in_total)
        usage = with_surcharges(usage, call.body, reported=reply.usage, tier=reply.service_tier)
        one_counted = self._dialect.counts_one_sample and len(reply.choices) > 1
        output, thought = usage.output_tokens, usage.reasoning_tokens
        if output is None or one_counted or not output_is_final:
            reported, output = output, await self._count_output(reply.choices, call)
            if reported is not None and output is not None and reported.tokens > output.tokens:
                output = Count(reported.tokens, CountSource.ESTIMATED)
        if thought is None and (reasoning or self._shows(call)):
            thought = await self._count(reasoning, call)
        usage = msgspec.structs.replace(
            usage,
            input_tokens=usage.input_tokens or estimated_input(call.request),
            output_tokens=output,
            reasoning_tokens=thought,
        )
        written = "".join(choice.written for choice in reply.choices)
        return against_text(usage, written=written, request=call.request)

    async def _count_output(self, choices: list[ReplyChoice], call: _Call) -> Count | None:
        """Count what was written, and the token that ended it; None if some of it is hidden."""
        if not self._shows(call) and call.rung.effort not in (None, Effort.NONE):
            return None
        total = Count(0, CountSource.COUNTED)
        for choice in choices:
            written = await self._count(choice.written, call)
            total += Count(written.tokens + (choice.finish is Finish.STOP), written.source)
        return total

    async def _count(self, text: str, call: _Call) -> Count:
        """Count a text with the server's own tokenizer where it offers that, or else estimate."""
        if not text:
            return Count(0, CountSource.COUNTED)
        if self._dialect.tokenizes is None:
            return estimated(text)
        body = {
            self._dialect.tokenizes: text,
            "model": call.rung.model,
            "add_special_tokens": False,
        }
        try:
            async with asyncio.timeout(_TOKENIZE_TIMEOUT_S):
                url = f"{self._url.removesuffix('/v1')}/tokenize"
                tokens = (await self._transport.ask(url, body))["tokens"]
                return Count(len(tokens), CountSource.COUNTED)
        except (EngineError, TimeoutError, KeyError, TypeError):
            return estimated(text)

    def _shows(self, call: _Call) -> bool:
        """Whether the reply to a call holds all the reasoning there was."""
        return self._dialect.shows_reasoning and call.body.get("include_reasoning") is not False


async def _pieces(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of an event stream; a body that is one JSON value becomes one of its own.

    What came decides, not what the content type says of it. Raises EngineRefused for an error.
    """
    start, begun = b"", False
    async for piece in reply_pieces(response):
        if begun:
            yield piece
            continue
        start += piece
        if _is_json(start):
            body = decoded(start + await reply_bytes(response))
            error = error_in(body, retry_after=response.headers.get("Retry-After"))
            if error is not None:
                raise error
            yield as_events(body)
            return
        if len(start.strip(_BLANK)) < _EVENT_START_BYTES:
            continue
        begun = True
        if response.content_type != "text/event-stream" and not _is_event(start):
            raise EngineProtocolError(
                f"{response.url} was asked for a stream and sent {response.content_type}",
                hint="does this server stream? see whether its url ends in /v1",
            )
        yield start
    if not begun:
        yield start


def _is_json(start: bytes) -> bool:
    return start.lstrip(_BLANK)[:1] in (b"{", b"[", b'"')


def _is_event(start: bytes) -> bool:
    return start.lstrip(_BLANK).startswith(_EVENT_STARTS)


def _prefill(request: Request) -> str:
    """Return the start of the answer that a request gives in a last assistant message."""
    message = request.messages[-1] if request.messages else {}
    content = message.get("content")
    return content if message.get("role") == "assistant" and isinstance(content, str) else ""
