"""A load generator: keep-alive connections that send the next request when the last is answered.

Every answer is looked at: status 200, the tag of its request, and the end of its stream.
"""

import asyncio
import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from benchmarks.gateway.processes import Broken
from benchmarks.gateway.stub import TAG_DIGITS

GIVE_UP_S = 30.0  # without any answer
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_LAST_CHUNK = b"0\r\n\r\n"
_DONE = b"[DONE]"
_NO_TAG = "0" * TAG_DIGITS


class LoadTarget(Struct, frozen=True, kw_only=True):
    """Where requests go, and what they carry besides a tag.

    Each of `questions` is the group of a request and its text, taken in turn.
    """

    name: str
    port: int
    model: str
    streamed: bool = False
    headers: Mapping[str, str] = {}
    questions: tuple[tuple[str | None, str], ...] = ((None, "Is not ( True ) True?"),)


class LoadSize(Struct, frozen=True, kw_only=True):
    """How much load: `seconds` of it after a warm-up, or a number of `requests`."""

    connections: int
    seconds: float | None = None
    requests: int | None = None
    warm_s: float = 0.0


class LoadRun(Struct, frozen=True, kw_only=True):
    """What a run of requests came to."""

    answered: int
    took_s: float
    latencies_s: NDArray[np.float64]

    @property
    def rps(self) -> float:
        """Answers in a second."""
        return self.answered / self.took_s

    def latency_ms(self, percent: float) -> float:
        """Return a percentile of the latencies in milliseconds."""
        return float(1000 * np.percentile(self.latencies_s, percent))


Read = Callable[[str, bytes], str | None]  # tag and answer to what is wrong, if anything is


class _Load:
    """What the connections of one run share."""

    def __init__(
        self, target: LoadTarget, limits: LoadSize, *, tags: Iterator[int], read: Read | None
    ):
        self.target = target
        self.left = limits.requests
        self.tags = tags
        self.read = read
        self.requests = _requests(target)
        self.latencies_s: list[float] = []
        self.awaited = 0
        self.wrong: str | None = None
        self.ending = False
        self.over = asyncio.Event()

    def next(self) -> tuple[bytes, bytes] | None:
        """Return the next tag and request; None when there is to be no other."""
        if self.ending or self.left == 0:
            self._maybe_over()
            return None
        if self.left is not None:
            self.left -= 1
        number = next(self.tags)
        tag = b"%0*d" % (TAG_DIGITS, number)
        before, after = self.requests[number % len(self.requests)]
        self.awaited += 1
        return tag, before + tag + after

    def answered(self, tag: bytes, answer: bytearray, took_s: float) -> None:
        """Check an answer and take note of it."""
        self.awaited -= 1
        wrong = _wrong(answer, tag, streamed=self.target.streamed)
        if wrong is None and self.read is not None:
            wrong = self.read(tag.decode(), bytes(answer))
        if wrong is not None:
            self.stop(f"{self.target.name} {wrong}: {bytes(answer[-600:])!r}")
            return
        self.latencies_s.append(took_s)

    def end(self) -> None:
        """Send no other request; the run is over when all that were sent are answered."""
        self.ending = True
        self._maybe_over()

    def stop(self, wrong: str) -> None:
        """End the run at once because of something that must not be."""
        self.wrong = self.wrong or wrong
        self.ending = True
        self.over.set()

    def _maybe_over(self) -> None:
        if not self.awaited:
            self.over.set()


class _Connection(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self.load = load
        self.buffer = bytearray()
        self.tag = b""
        self.length: int | None = None  # of the whole answer, 0 if chunked; None before its head
        self.sent_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.load.over.is_set():
            self.load.stop(f"{self.load.target.name} closed a connection ({exc})")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self._complete():
            self.load.answered(self.tag, self.buffer, time.perf_counter() - self.sent_s)
            self._next()

    def _next(self) -> None:
        turn = self.load.next()
        if turn is None:
            return
        self.tag, request = turn
        self.buffer = bytearray()
        self.length = None
        self.sent_s = time.perf_counter()
        self.transport.write(request)

    def _complete(self) -> bool:
        if self.length is None:
            head_end = self.buffer.find(_HEAD_END)
            if head_end < 0:
                return False
            match = _LENGTH.search(self.buffer, 0, head_end)
            self.length = head_end + len(_HEAD_END) + int(match[1]) if match else 0
        if self.length:
            return len(self.buffer) >= self.length
        return self.buffer.endswith(_LAST_CHUNK)


def run_load(
    target: LoadTarget,
    limits: LoadSize,
    *,
    tags: Iterator[int] | None = None,
    read: Read | None = None,
) -> LoadRun:
    """Send load and return what came of it; raises Broken on the first wrong answer.

    `tags` number the requests of several runs through; `read` gets each tag with its answer, head
    and body.
    """
    return asyncio.run(_run(_Load(target, limits, tags=tags or count(1), read=read), limits))


async def _run(load: _Load, limits: LoadSize) -> LoadRun:
    loop = asyncio.get_running_loop()
    began_s = time.perf_counter()
    opened = [
        (await loop.create_connection(lambda: _Connection(load), "127.0.0.1", load.target.port))[0]
        for _ in range(limits.connections)
    ]
    if limits.warm_s:
        await _pause(load, limits.warm_s)
        load.latencies_s.clear()
        began_s = time.perf_counter()
    if limits.seconds is None:
        await _finish(load)
    else:
        await _pause(load, limits.seconds)
    took_s = time.perf_counter() - began_s
    latencies_s = np.array(load.latencies_s)
    load.end()
    await _finish(load)
    for transport in opened:
        transport.abort()
    if load.wrong is not None:
        raise Broken(load.wrong)
    if not len(latencies_s):
        late = [f", its next answer took {each:.1f} s" for each in load.latencies_s[:1]]
        raise Broken(f"{load.target.name} answered nothing in {took_s:.1f} s{''.join(late)}")
    return LoadRun(answered=len(latencies_s), took_s=took_s, latencies_s=latencies_s)


async def _pause(load: _Load, seconds: float) -> None:
    """Let the load go on for a while, unless something is wrong."""
    with suppress(TimeoutError):
        await asyncio.wait_for(load.over.wait(), seconds)


async def _finish(load: _Load) -> None:
    """Wait for the last answer; it is wrong that none comes for a long time."""
    before = -1
    while not load.over.is_set():
        if before == len(load.latencies_s):
            load.stop(f"{load.target.name} has been silent for {GIVE_UP_S:.0f} s")
        before = len(load.latencies_s)
        await _pause(load, GIVE_UP_S)


def _wrong(answer: bytearray, tag: bytes, *, streamed: bool) -> str | None:
    """Say what is wrong with an answer, or None."""
    if answer[9:12] != b"200":
        return "did not answer 200"
    if tag not in answer:
        return "answered another request"
    if streamed and _DONE not in answer[-64:]:
        return "ended a stream without [DONE]"
    return None


def _requests(target: LoadTarget) -> list[tuple[bytes, bytes]]:
    """Build one request for each question, in the two parts around its tag."""
    return [_request(target, group, text) for group, text in target.questions]


def _request(target: LoadTarget, group: str | None, text: str) -> tuple[bytes, bytes]:
    body: dict[str, Any] = {
        "model": target.model,
        "messages": [{"role": "user", "content": f"{text} #{_NO_TAG}"}],
    }
    if target.streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    data = json.dumps(body).encode()
    headers = {"host": f"127.0.0.1:{target.port}", "content-type": "application/json"}
    headers |= target.headers
    if group is not None:
        headers["x-suffice-group"] = group
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{lines}content-length: {len(data)}\r\n\r\n"
    before, _, after = data.partition(_NO_TAG.encode())
    return head.encode() + before, after
