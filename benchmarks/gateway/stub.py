"""An upstream that answers chat completions from templates, and counts what it served.

The books of a gateway are checked against these counts, so nothing here is estimated: the usage in
an answer follows from the model and from the tag that the request's text ends with, `#` and twelve
digits, and the answer's `id` repeats the tag. Each piece of a stream is sent by itself, as an
engine does; that is why this runs on Python's own event loop: uvloop would join them into one.

`GET /stub/counts` says what was served since `POST /stub/reset`; `POST /stub/manner` changes how
requests are answered from then on. python -m benchmarks.gateway.stub --port N
"""

import argparse
import asyncio
import gc
import json
import re
import signal
import socket
from collections import Counter
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from typing import Literal

import msgspec
from msgspec import Struct

TAG_DIGITS = 12
VARIANTS = 64  # of usage, by tag
STREAM_CHUNKS = 50
CUT_AFTER = 5  # pieces of a stream, before a fault strikes
SLOW_S = 2.5  # for a whole answer
_NO_TAG = b"0" * TAG_DIGITS
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_MODEL = re.compile(rb'"model" *: *"([^"]*)"')
_TAG = re.compile(rb"#(\d{12})")
_STREAMED = re.compile(rb'"stream" *: *true')

Fault = Literal[
    "none", "stall", "cut", "stall_midway", "malformed", "slow", "400", "echo", "429", "500"
]


class Manner(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the stub behaves: a fault of some models, and how often these say something else."""

    fault: Fault = "none"
    models: tuple[str, ...] = ()
    worse_share: float = 0.0


class StubUsage(Struct, frozen=True, kw_only=True):
    """The usage of one answer."""

    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int


class Counts(Struct, frozen=True, kw_only=True):
    """What was served, faults aside, by model; `open` requests have begun and not ended.

    `fields` are those of the last request.
    """

    open: int
    begun: int
    fields: tuple[str, ...]
    requests: dict[str, int]
    tokens: dict[str, StubUsage]


def usage_of(model: str, tag: str, *, streamed: bool) -> StubUsage:
    """Say what the answer to a tagged request uses: different from tag to tag, and known before."""
    variant = int(tag) % VARIANTS
    reasoning = 100 + variant if model == "large" else 0
    return StubUsage(
        input_tokens=40 + variant,
        cached_tokens=variant % 16,
        output_tokens=(STREAM_CHUNKS if streamed else 10 + variant % 7) + reasoning,
        reasoning_tokens=reasoning,
    )


class Stub:
    """The state that all connections share."""

    def __init__(self) -> None:
        self.manner = Manner()
        self.open = 0
        self.begun = 0
        self.last = b"{}"
        self.finished: Counter[tuple[str, int, bool]] = Counter()

    def counts(self) -> Counts:
        """Add up what was served."""
        requests: Counter[str] = Counter()
        tokens: dict[str, Counter[str]] = {}
        for (model, variant, streamed), times in self.finished.items():
            requests[model] += times
            one = msgspec.structs.asdict(usage_of(model, str(variant), streamed=streamed))
            sums = tokens.setdefault(model, Counter())
            sums.update({name: times * number for name, number in one.items()})
        return Counts(
            open=self.open,
            begun=self.begun,
            fields=tuple(json.loads(self.last)),
            requests=dict(requests),
            tokens={model: StubUsage(**sums) for model, sums in tokens.items()},
        )


class Connection(asyncio.Protocol):
    """One keep-alive HTTP/1.1 connection; requests on it are answered in turn."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.buffer = bytearray()
        self.busy: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, _error: Exception | None) -> None:
        """Free the slot of a request whose client has gone."""
        if self.busy is not None:
            self.busy.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer each request that has arrived whole."""
        self.buffer += data
        head_end = self.buffer.find(_HEAD_END)
        if head_end < 0:
            return
        match = _LENGTH.search(self.buffer, 0, head_end)
        end = head_end + len(_HEAD_END) + (int(match[1]) if match else 0)
        if len(self.buffer) < end:
            return
        head, body = bytes(self.buffer[:head_end]), bytes(self.buffer[head_end + 4 : end])
        del self.buffer[:end]
        if b"/stub/" in head[:30]:
            self._control(head, body)
        else:
            self._answer(body)

    def _control(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST /stub/manner"):
            self.stub.manner = msgspec.json.decode(body, type=Manner)
        elif head.startswith(b"POST /stub/reset"):
            self.stub.begun = 0
            self.stub.finished.clear()
        self.transport.write(_whole(200, msgspec.json.encode(self.stub.counts())))

    def _answer(self, body: bytes) -> None:
        match = _MODEL.search(body)
        tagged = _TAG.search(body)
        model = match[1].decode() if match else ""
        tag = tagged[1] if tagged else _NO_TAG
        variant, streamed = int(tag) % VARIANTS, _STREAMED.search(body) is not None
        stub = self.stub
        stub.begun += 1
        stub.last = body
        manner = stub.manner
        afflicted = model in manner.models
        text = "(B)" if afflicted and _share_of(tag) < manner.worse_share else "(A)"
        pieces = (_stream if streamed else _json)(model, variant, text)
        if afflicted and manner.fault != "none":
            pieces = pieces if streamed else _halves(pieces[0])
            fail = self._fail(manner.fault, pieces, tag=tag, body=body)
            self.busy = asyncio.create_task(fail)
            return
        self._write(pieces, tag=tag)
        stub.finished[model, variant, streamed] += 1

    def _write(self, pieces: Sequence[bytes], *, tag: bytes) -> None:
        for piece in pieces:
            if self.transport.is_closing():
                return
            self.transport.write(piece.replace(_NO_TAG, tag))

    async def _fail(
        self, fault: Fault, pieces: Sequence[bytes], *, tag: bytes, body: bytes
    ) -> None:
        """Answer as the fault has it; the request stays open until then, or until it is left."""
        self.stub.open += 1
        cut = min(CUT_AFTER, len(pieces) // 2)
        try:
            if fault in ("400", "429", "500"):
                self.transport.write(_refusal(fault))
            elif fault == "echo":
                self.transport.write(_whole(400, body))
            elif fault == "slow":
                for piece in pieces:
                    await asyncio.sleep(SLOW_S / len(pieces))
                    self._write([piece], tag=tag)
            elif fault == "stall":
                await asyncio.Event().wait()
            else:
                self._write(pieces[:cut], tag=tag)
                await self._break(fault, pieces[cut:], tag=tag)
        finally:
            self.stub.open -= 1

    async def _break(self, fault: Fault, rest: Sequence[bytes], *, tag: bytes) -> None:
        """End an answer that has begun in a way that no answer should."""
        if fault == "cut":
            self.transport.abort()
        elif fault == "stall_midway":
            await asyncio.Event().wait()
        elif len(rest) == 1:
            self.transport.write(b"}" * len(rest[0]))
        else:
            broken = _chunk(b'data: {"id": "chatcmpl-x", "choices": [{"del\n\n')
            self._write([broken, *rest], tag=tag)


def _share_of(tag: bytes) -> float:
    """Give each tag a number in [0, 1) that looks drawn at random."""
    return int.from_bytes(blake2b(tag, digest_size=4).digest()) / 2**32


def _halves(whole: bytes) -> tuple[bytes, bytes]:
    return whole[: len(whole) // 2], whole[len(whole) // 2 :]


@cache
def _json(model: str, variant: int, text: str) -> tuple[bytes, ...]:
    """Build an answer that is not streamed, in one piece, with a tag of zeros."""
    body = {
        "id": f"chatcmpl-{_NO_TAG.decode()}",
        "object": "chat.completion",
        "created": 1764000000,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": _usage(model, variant, streamed=False),
    }
    return (_whole(200, json.dumps(body, separators=(",", ":")).encode()),)


@cache
def _stream(model: str, variant: int, text: str) -> tuple[bytes, ...]:
    """Build an answer of 50 chunks, the usage, and the end, with a tag of zeros."""
    words = [text, *(f" w{at:02}" for at in range(1, STREAM_CHUNKS))]
    events = [_event(model, {"content": word}) for word in words]
    events.append(_event(model, {}, finish="stop"))
    events.append(_event(model, None, usage=_usage(model, variant, streamed=True)))
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    pieces = [_chunk(event) for event in events]
    return (head + pieces[0], *pieces[1:], _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def _event(
    model: str,
    delta: dict[str, str] | None,
    *,
    finish: str | None = None,
    usage: dict[str, object] | None = None,
) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {
        "id": f"chatcmpl-{_NO_TAG.decode()}",
        "object": "chat.completion.chunk",
        "created": 1764000000,
        "model": model,
        "choices": choices,
        "usage": usage,
    }
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def _usage(model: str, variant: int, *, streamed: bool) -> dict[str, object]:
    used = usage_of(model, str(variant), streamed=streamed)
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.input_tokens + used.output_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
    }


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _whole(status: int, body: bytes, *, extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n%s" % (
        status,
        extra,
        len(body),
        body,
    )


def _refusal(status: str) -> bytes:
    body = b'{"error":{"message":"the stub was told to refuse","type":"stub","code":null}}'
    extra = b"retry-after: 1\r\n" if status == "429" else b""
    return _whole(int(status), body, extra=extra)


async def serve(port: int) -> None:
    """Serve until SIGTERM."""
    stub = Stub()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(lambda: Connection(stub), "127.0.0.1", port, backlog=1024)
    gc.freeze()
    await stopped.wait()
    server.close()


def main() -> None:
    """Serve on the port that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    asyncio.run(serve(port))


if __name__ == "__main__":
    main()
