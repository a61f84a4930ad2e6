"""What a stranger sends is bounded: the shape of JSON, bytes in flight, heads and connections."""

import asyncio
import json
import random
import re
import time
from pathlib import Path

import pytest
from gateway_support import CHAT, Site, site
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.gateway import intake, protocol
from suffice.gateway.intake import DEEPEST, MOST_ITEMS, Intake, check_shape
from suffice.gateway.problems import Problem

ASK = {"model": "suffice", "messages": [{"role": "user", "content": "Hi"}]}


JSONS = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\{}[],é', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=40,
)


def shape(value: object) -> tuple[int, int]:
    """Count brackets and commas, and the depth, of a value the slow way."""
    if not isinstance(value, dict | list):
        return 0, 0
    parts = [shape(one) for one in (value.values() if isinstance(value, dict) else value)]
    commas = max(0, len(parts) - 1)
    return 1 + commas + sum(n for n, _ in parts), 1 + max((d for _, d in parts), default=0)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(JSONS, st.integers(1, 7))
def test_the_shape_is_counted_outside_of_strings_whatever_the_pieces(
    value: object, chunk: int
) -> None:
    body = json.dumps(value).encode()
    items, depth = shape(value)

    def refused(most: int, deepest: int) -> int | None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(intake, "_CHUNK", chunk)
            patch.setattr(intake, "MOST_ITEMS", most)
            patch.setattr(intake, "DEEPEST", deepest)
            try:
                steps = check_shape(body).__await__()  # only makes way for others: no loop needed
                assert set(steps) <= {None}
            except Problem as problem:
                return problem.status
        return None

    assert refused(items, depth) is None
    if items:
        assert refused(items - 1, depth) == 413
        assert refused(items, depth - 1) == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"a":' + b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1) + b"}", 400),
        (b"[" + b"{}," * MOST_ITEMS + b"{}]", 413),
        (b"[" + b"1," * MOST_ITEMS + b"1]", 413),
    ],
)
async def test_a_body_of_a_hostile_shape_is_refused(
    tmp_path: Path, body: bytes, status: int
) -> None:
    async with site(tmp_path) as here:
        assert (await here.post(body, path=CHAT))[0] == status
        assert (await here.post(body, path="/v1/responses"))[0] == status
        assert (await here.post(ASK, path=CHAT))[0] == 200


async def test_prose_with_many_commas_and_brackets_passes() -> None:
    await check_shape(json.dumps({"text": '{[,"' * 100_000}).encode())


async def test_the_largest_body_is_looked_through_without_holding_up_the_others() -> None:
    body = b'{"a": "' + random.Random(1).randbytes(1 << 20).hex().encode() * 8 + b'", "b": [[1]]}'
    body += b"," * MOST_ITEMS
    longest = 0.0

    async def others() -> None:
        nonlocal longest
        while True:
            began_s = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - began_s)

    task = asyncio.create_task(others())
    with pytest.raises(Problem):
        await check_shape(body)
    task.cancel()
    assert longest < 0.25


def test_bytes_in_flight_are_bounded_by_client_and_in_all() -> None:
    counted = Intake(client_bytes=10, total_bytes=25)
    counted.take("a", 10)
    with pytest.raises(Problem) as refused:
        counted.take("a", 1)
    assert refused.value.status == 429
    counted.take("b", 10)
    with pytest.raises(Problem) as refused:
        counted.take("c", 6)
    assert refused.value.status == 503
    counted.give_back("a", 10)
    counted.take("c", 6)


async def _raw(here: Site, data: bytes, *, wait_s: float = 5.0) -> bytes:
    port = int(here.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), wait_s)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_head_too_large_ends_the_connection(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
        for big in (b"x: " + b"y" * 300_000, b"x: y\r\n" * 50_000, b"x" * 300_000):
            answer = await _raw(here, head + big)
            assert not answer or answer.split()[1] in (b"431", b"400")
        chunked = head + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 50_000
        assert await _raw(here, chunked) is not None
        assert (await here.post(ASK, path=CHAT))[0] == 200


async def test_a_head_that_does_not_come_ends_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.1)
    async with site(tmp_path) as here:
        for begun in (b"", b"POST / HT", b"GET /healthz HTTP/1.1\r\nx: "):
            assert b" 408 " in await _raw(here, begun)


async def test_connections_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    async with site(tmp_path, more="connections_by_address = 3\n") as here:
        port = int(here.url.rsplit(":", 1)[1])
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert b" 503 " in await _raw(here, b"")
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.1)
        assert (await here.post(ASK, path=CHAT))[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded; charset=utf-8"}, 415),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"authorization": "Basic eDp5"}, 401),
        ({"host": "evil.example"}, 403),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"authorization": "Bearer x"}, 200),
    ],
)
async def test_a_web_page_cannot_make_its_visitor_ask(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with site(tmp_path, more='hosts = ["127.0.0.1"]\n') as here:
        assert (await here.post(ASK, path=CHAT, **headers))[0] == status
        own = {"origin": here.url}
        assert (await here.post(ASK, path=CHAT, **own))[0] == 200


async def test_large_requests_of_one_client_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path) as here:
        here.gateway.worker.intake = Intake(client_bytes=150_000)
        big = {"model": "small", "messages": [{"role": "user", "content": "x" * 100_000}]}
        statuses = await asyncio.gather(*(here.post(big, path=CHAT) for _ in range(8)))
        assert {status for status, _ in statuses} == {200, 429}
        assert (await here.post(big, path=CHAT))[0] == 200


BODY = json.dumps(ASK).encode()
H2C = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n"


def raw_request(fields: bytes, body: bytes) -> bytes:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n".encode()
    return head + fields + b"\r\n" + body


async def statuses(here: Site, *packets: bytes) -> list[int]:
    """Send packets on one connection, and read the statuses of all that comes back."""
    host, port = here.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for packet in packets:
        writer.write(packet)
        await asyncio.sleep(0.02)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    reply = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", reply)]


async def test_an_offer_of_another_protocol_costs_a_request_nothing(tmp_path: Path) -> None:
    """Java's HTTP client offers h2c with each request: the body was dropped (uvicorn#2722)."""
    length = b"content-length: %d\r\n" % len(BODY)
    whole = raw_request(H2C + length, BODY)
    pieces = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    chunked = raw_request(H2C + b"transfer-encoding: chunked\r\n", pieces)
    async with site(tmp_path) as here:
        for request in (whole, chunked):
            cuts = (1, 40, request.index(b"h2c"), len(request) - len(BODY) - 9, len(request) - 3)
            assert await statuses(here, request) == [200, 200]
            assert await statuses(here, request + request) == [200, 200, 200]
            for cut in cuts:
                assert await statuses(here, request[:cut], request[cut:]) == [200, 200]
        assert {row["status"] for row in here.rows()} == {"ok"}
        both = raw_request(H2C + length + b"transfer-encoding: chunked\r\n", pieces)
        assert await statuses(here, both) == [400]
        assert await statuses(here, b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n") == [400]


async def test_a_request_whose_bounds_or_host_are_in_doubt_is_refused(tmp_path: Path) -> None:
    """Whoever stands before the gateway may read such a request in another way."""
    number = b"%d" % len(BODY)
    pieces = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    async with site(tmp_path) as here:
        for fields, body in (
            (b"content-length: 6\r\ntransfer-encoding: chunked\r\n", pieces),
            (b"transfer-encoding: chunked\r\ncontent-length: 6\r\n", pieces),
            (b"transfer-encoding : chunked\r\n", pieces),
            (b"transfer-encoding: chunked\t\r\n", pieces),
            (b"transfer-encoding: xchunked\r\n", pieces),
            (b"transfer-encoding: chunked, gzip\r\n", pieces),
            (b"content-length: %b\r\ncontent-length: 5\r\n" % number, BODY),
            (b"content-length: %b, %b\r\n" % (number, number), BODY),
            (b"content-length: +%b\r\n" % number, BODY),
            (b"x: a\r\n b\r\ncontent-length: %b\r\n" % number, BODY),
            (b"x: a\x00b\r\ncontent-length: %b\r\n" % number, BODY),
            (b"host: y\r\ncontent-length: %b\r\n" % number, BODY),
        ):
            assert await statuses(here, raw_request(fields, body)) == [400], fields
        assert here.rows() == []
        assert await statuses(here, raw_request(b"content-length: %b\r\n" % number, BODY)) == [
            *(200, 200)
        ]
