"""What attacks send, and what another client sees meanwhile."""

import asyncio
import http.client
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp
import msgspec
import numpy as np
from msgspec import Struct

from benchmarks.gateway.processes import Running


async def statuses(
    servers: list[Running], requests: list[dict[str, Any]], *, key: str
) -> Counter[int]:
    """Send all requests at once, in turn to each server, and count the answers by status."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(i: int, body: dict[str, Any]) -> int:
            url = f"http://127.0.0.1:{servers[i % len(servers)].port}/v1/chat/completions"
            headers = {"authorization": f"Bearer {key}"}
            async with session.post(url, json=body, headers=headers) as reply:
                await reply.read()
                return reply.status

        return Counter(await asyncio.gather(*(one(i, body) for i, body in enumerate(requests))))


class Watch(Struct, frozen=True, kw_only=True):
    """What another client saw while bodies were sent, and how large the server grew."""

    p99_ms: float
    statuses: dict[str, int]
    peak_bytes: int
    took_s: float


async def watched(
    server: Running, bodies: list[bytes], *, path: str = "/v1/chat/completions"
) -> Watch:
    """Send bodies at once, and ask for /healthz every few milliseconds until all are answered."""
    took_ms: list[float] = []
    peak = 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        base = f"http://127.0.0.1:{server.port}"

        async def send(body: bytes) -> str:
            headers = {"content-type": "application/json"}
            try:
                async with session.post(base + path, data=body, headers=headers) as reply:
                    await reply.read()
                    return str(reply.status)
            except aiohttp.ClientError as error:
                return type(error).__name__

        async def watch() -> None:
            nonlocal peak
            while True:
                began_s = time.perf_counter()
                async with session.get(f"{base}/healthz") as reply:
                    await reply.read()
                took_ms.append(1000 * (time.perf_counter() - began_s))
                peak = max(peak, server.resident_bytes)
                await asyncio.sleep(0.005)

        watching = asyncio.create_task(watch())
        began_s = time.perf_counter()
        ended = await asyncio.gather(*(send(body) for body in bodies))
        took_s = round(time.perf_counter() - began_s, 1)
        await asyncio.sleep(0.5)
        watching.cancel()
    p99_ms = round(float(np.percentile(took_ms, 99)), 1)
    return Watch(p99_ms=p99_ms, statuses=dict(Counter(ended)), peak_bytes=peak, took_s=took_s)


async def endless_heads(port: int) -> int:
    """Send headers without end on ten connections, up to 300 MiB in all; returns what went out."""

    async def one() -> int:
        sent = 0
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
            while sent < 30 << 20:
                writer.write(b"x-a: " + b"b" * 65_000 + b"\r\n")
                await asyncio.wait_for(writer.drain(), 5)
                sent += 65_000
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()
        return sent

    return sum(await asyncio.gather(*(one() for _ in range(10))))


async def half_sent(port: int) -> float | None:
    """Hold requests half sent; returns when another client was served, None for not in 60 s."""
    held = []
    for _ in range(1005):
        with suppress(OSError):
            held.append(await asyncio.open_connection("127.0.0.1", port))
    for _, writer in held:
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
    served_s = await asyncio.to_thread(seconds_until, lambda: status_of(port, "/healthz") == 200)
    for _, writer in held:
        writer.close()
    return served_s


def chat_body(text: str) -> bytes:
    body = {"model": "suffice", "messages": [{"role": "user", "content": text}]}
    return msgspec.json.encode(body)


def status_of_all(server: Running, requests: list[dict[str, Any]], key: str) -> int:
    [(status, _)] = asyncio.run(statuses([server], requests, key=key)).items()
    return status


def status_of(port: int, path: str, *, key: str | None = None) -> int | None:
    return request(port, "GET", path, None, key=key)[0]


def post(port: int, path: str, body: Any, *, key: str) -> tuple[int | None, Any]:
    status, data = request(port, "POST", path, msgspec.json.encode(body), key=key)
    return status, msgspec.json.decode(data)


def request(
    port: int, method: str, path: str, body: bytes | None, *, key: str | None
) -> tuple[int | None, bytes]:
    headers = {"content-type": "application/json"}
    headers |= {} if key is None else {"authorization": f"Bearer {key}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body=body, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    except (OSError, http.client.HTTPException):
        return None, b""
    finally:
        connection.close()


def seconds_until(condition: Callable[[], bool]) -> float | None:
    """Return the seconds until a condition holds; None for not within a minute."""
    began_s = time.monotonic()
    while time.monotonic() < began_s + 60:
        with suppress(aiohttp.ClientError, OSError):
            if condition():
                return round(time.monotonic() - began_s, 1)
        time.sleep(0.2)
    return None


def lags(port: int) -> dict[float, float]:
    """Read how often the event loop was late by at most so many seconds, summed up to there."""
    text = request(port, "GET", "/metrics", None, key=None)[1].decode()
    found = re.findall(r'^suffice_loop_lag_seconds_bucket{.*le="([^"]+)"} (\S+)$', text, re.M)
    return {float(bound): float(count) for bound, count in found}


def gauge(port: int, name: str) -> list[float]:
    """Read all series of a metric that a gateway without keys shows to anybody."""
    text = request(port, "GET", "/metrics", None, key=None)[1].decode()
    return [float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M)]


def lag_p99_ms(before: dict[float, float], after: dict[float, float]) -> float:
    """Return the bound under which 99 of 100 lags between two readings stayed."""
    counts = {bound: count - before.get(bound, 0.0) for bound, count in sorted(after.items())}
    total = max(counts.values())
    return 1000 * next(bound for bound, count in counts.items() if count >= 0.99 * total)
