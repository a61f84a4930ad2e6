"""Faults that were reported of other gateways, tried on this one; each test names the report."""

import asyncio
import hashlib
import json
import logging
import random
import sqlite3
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import uvicorn
from gateway_support import CHAT, CLAUDE, DONE, Call, answer, chunk, site
from uvicorn.server import ServerState

from suffice.gateway.app import Gateway
from suffice.gateway.intake import source_of
from suffice.gateway.keys import KeyLimits, add_key, revoke_key
from suffice.gateway.protocol import BoundedProtocol, ConnectionLimits
from suffice.gateway.serving import Settings

ASK: dict[str, Any] = {"model": "big", "messages": [{"role": "user", "content": "Hi"}]}
EMBEDDING = """
[[embedding]]
name = "vectors"
engine = "stub"
model = "embedding-model"
price = "flat"
"""
PATHS: dict[str, dict[str, Any]] = {
    CHAT: ASK | {"max_tokens": 5},
    "/v1/messages": ASK | {"max_tokens": 5},
    "/v1/responses": {"model": "big", "input": "Hi", "max_output_tokens": 5},
    "/v1/completions": {"model": "big", "prompt": "Hi", "max_tokens": 5},
    "/v1/embeddings": {"model": "vectors", "input": "Hi"},
}


async def answers(call: Call) -> None:
    """Answer on any path of OpenAI's."""
    usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
    if "prompt" in call.body:
        choice = {"index": 0, "text": "4", "finish_reason": "stop", "logprobs": None}
        await call.reply({"object": "text_completion", "choices": [choice], "usage": usage})
    elif "input" in call.body:
        usage = {"prompt_tokens": 25, "total_tokens": 25}
        await call.reply({"data": [{"index": 0, "embedding": [0.0]}], "usage": usage})
    else:
        await answer(call)


def key_file(folder: Path, **limits: KeyLimits) -> tuple[str, dict[str, dict[str, str]]]:
    """Make keys; returns the line of the configuration, and the headers of each key."""
    path = folder / "keys.json"
    secrets = {name: add_key(path, name, limits=limit) for name, limit in limits.items()}
    headers = {name: {"authorization": f"Bearer {secret}"} for name, secret in secrets.items()}
    return f'keys = "{path}"\n', headers


@pytest.mark.parametrize("number", [10**6, 10**18, 10**30])
async def test_numbers_beyond_any_column_harm_nobody(tmp_path: Path, number: int) -> None:
    """Layr-Labs/d-inference#980: a product of answers and tokens overflowed, and passed a quota."""
    more, keys = key_file(
        tmp_path,
        fast=KeyLimits(tokens_per_minute=10_000),
        poor=KeyLimits(budget_usd_per_day=Decimal("0.05")),
        free=KeyLimits(),
    )
    more += 'tag_budget_usd_per_day = {web = "0.05"}\n'
    bodies = [ASK | {"n": number}, ASK | {"max_tokens": number}]
    bodies.append(ASK | {"n": number, "max_tokens": number})
    async with site(tmp_path, more=more) as here:
        tagged = keys["free"] | {"x-suffice-tags": "web"}
        headers = (keys["fast"], keys["poor"], tagged)
        statuses = [(await here.post(b, **h))[0] for h in headers for b in bodies]
        assert set(statuses) <= {200, 400, 429}
        for name in keys:
            status, _ = await here.post(ASK | {"max_tokens": 9}, **keys[name])
            assert status == 200 or name == "fast"  # which has used up its minute


@pytest.mark.parametrize("path", PATHS)
async def test_every_path_counts_against_a_budget_and_ends_with_it(
    tmp_path: Path, path: str
) -> None:
    """BerriAI/litellm#38176: what agents ask on /v1/messages and /v1/responses was in no budget."""
    more, keys = key_file(tmp_path, poor=KeyLimits(budget_usd_per_day=Decimal("0.0001")))
    async with site(tmp_path, more=more + EMBEDDING) as here:
        here.upstream.script = answers
        statuses = [(await here.post(PATHS[path], path=path, **keys["poor"]))[0] for _ in range(12)]
        assert statuses[0] == 200
        assert statuses[-1] == 429
        for other, body in PATHS.items():
            assert (await here.post(body, path=other, **keys["poor"]))[0] == 429
        with closing(sqlite3.connect(here.ledger)) as books:
            ((spent, count),) = books.execute(
                "SELECT sum(charge_picousd), count(*) FROM suffice_requests WHERE status = 'ok'"
            )
        assert spent == 25 * 10**6 * count <= 100 * 10**6


async def test_names_that_strangers_choose_make_no_series(tmp_path: Path) -> None:
    """BerriAI/litellm#35666, llm-d/llm-d-router#1625: paths and models became labels for good."""
    async with site(tmp_path) as here:

        async def series() -> int:
            async with here.http.get(f"{here.url}/metrics") as reply:
                return len((await reply.text()).splitlines())

        async def odd(i: int) -> None:
            body = ASK | {"model": f"gpt-{i}", "user": f"u{i}", "metadata": {"tags": [f"t{i}"]}}
            headers = {"x-suffice-group": f"g{i}", "x-suffice-rung": f"r{i}", "user-agent": f"a{i}"}
            await here.post(body, **headers)
            await here.post(ASK | {"user": f"u{i}"}, **{"x-suffice-group": f"g{i}"})
            for method in ("GET", f"M{i}"):
                async with here.http.request(method, f"{here.url}/v1/files/{i}.php") as reply:
                    await reply.read()

        await odd(0)
        before = await series()
        await asyncio.gather(*(odd(i) for i in range(1, 60)))
        assert await series() == before


async def test_clients_that_leave_at_any_moment_leave_nothing_behind(tmp_path: Path) -> None:
    """vllm-project/production-stack#1072: counters of requests in flight leaked for good."""

    async def slowly(call: Call) -> None:
        await asyncio.sleep(0.05)
        if not call.body.get("stream"):
            await answers(call)
            return
        await call.events()
        for _ in range(20):
            await call.write(chunk("x"))
            await asyncio.sleep(0.01)
        await call.write(chunk(finish="stop") + DONE)

    more, keys = key_file(
        tmp_path, alice=KeyLimits(parallel_requests=200, budget_usd_per_day=Decimal(1))
    )
    draw = random.Random(1)
    async with site(tmp_path, more=more + "breaker_failures = 10000\n") as here:
        here.upstream.script = slowly

        async def leave(i: int) -> None:
            path = list(PATHS)[i % 4]
            body = PATHS[path] | {"stream": i % 3 > 0}
            with suppress(TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout(draw.uniform(0, 0.3)):
                    await here.post(body, path=path, **keys["alice"])

        await asyncio.gather(*(leave(i) for i in range(120)))
        here.upstream.script = answers
        for _ in range(100):
            with closing(sqlite3.connect(here.ledger)) as books:
                ((open_,),) = books.execute("SELECT count(*) FROM suffice_reservations")
            if open_ == 0:
                break
            await asyncio.sleep(0.1)
        assert open_ == 0
        worker = here.gateway.worker
        assert worker is not None
        lines = [
            line
            for line in worker.exposition().splitlines()
            if line.startswith(("suffice_inflight_requests", "suffice_queued_requests"))
        ]
        assert lines
        assert all(line.endswith((" 0", " 0.0")) for line in lines), lines
        kept, here.upstream.script = here.upstream.open, slowly
        again = [here.post(ASK, **keys["alice"]) for _ in range(max(kept, 1))]
        assert {status for status, _ in await asyncio.gather(*again)} == {200}
        assert here.upstream.open <= max(kept, 1)  # what was open is in the pool, not left behind


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/messages"])
async def test_an_event_that_never_ends_is_an_error_in_time(tmp_path: Path, path: str) -> None:
    """NousResearch/hermes-agent#58471, KarpelesLab/teamclaude#341: an endless line filled memory.

    Here each piece of it was looked through from the beginning again, and held up everybody.
    """

    async def endless(call: Call) -> None:
        await call.events()
        with suppress(ConnectionError):
            await call.write(b"data: ")
            for _ in range(400):
                await call.write(b"x" * 65536)

    async with site(tmp_path, more="failover = false\n" + CLAUDE) as here:
        here.upstream.script = endless
        body = PATHS[path] | {"stream": True}
        body |= {"model": "claude"} if path == "/v1/messages" else {}
        slowest_s, over = 0.0, asyncio.Event()

        async def watch() -> None:
            nonlocal slowest_s
            loop = asyncio.get_running_loop()
            while not over.is_set():
                began_s = loop.time()
                await asyncio.sleep(0.01)
                slowest_s = max(slowest_s, loop.time() - began_s)

        watching = asyncio.create_task(watch())
        async with here.http.post(here.url + path, json=body) as reply:
            text = await reply.text()
        over.set()
        await watching
    assert reply.status == 502 or "error" in text
    assert slowest_s < 5


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("a socket", "a socket"),
    ],
)
def test_a_network_of_ipv6_is_one_client(address: str, source: str) -> None:
    """block/buzz#3784: each of the 2^64 addresses that a host may take had limits of its own."""
    assert source_of(address) == source


async def test_connections_from_one_network_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wire:
        def __init__(self, peer: str) -> None:
            self.peer, self.sent, self.closed = peer, b"", False

        def get_extra_info(self, name: str) -> object:
            return (self.peer, 1) if name == "peername" else None

        def write(self, data: bytes) -> None:
            self.sent += data

        def close(self) -> None:
            self.closed = True

        def is_closing(self) -> bool:
            return self.closed

    monkeypatch.setattr(BoundedProtocol, "limits", ConnectionLimits(total=99, by_address=2))
    config, state = uvicorn.Config(app=Gateway(Settings(ladder=Path("none")))), ServerState()
    config.load()
    peers = ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1")
    wires = [Wire(peer) for peer in peers]
    protocols = [BoundedProtocol(config=config, server_state=state, app_state={}) for _ in wires]
    for protocol, wire in zip(protocols, wires, strict=True):
        protocol.connection_made(cast("asyncio.Transport", wire))
    assert [wire.sent[:12] for wire in wires] == [b"", b"", b"HTTP/1.1 503", b""]
    for protocol in protocols:
        protocol.connection_lost(None)
    assert not BoundedProtocol.addresses


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_no_answer_and_no_log_repeats_a_key_or_its_digest(
    tmp_path: Path, header: str, caplog: pytest.LogCaptureFixture
) -> None:
    """BerriAI/litellm#39757 and #18731, sxueck/llm-gateway#34: refusals showed keys and digests."""
    caplog.set_level(logging.DEBUG)
    more, keys = key_file(tmp_path, out=KeyLimits(), alice=KeyLimits())
    revoke_key(tmp_path / "keys.json", "out")
    revoked = keys["out"]["authorization"].removeprefix("Bearer ")
    pages = []
    async with site(tmp_path, more=more) as here:
        for secret in (revoked, "sk-suffice-" + "w" * 43):
            value = f"Bearer {secret}" if header == "authorization" else secret
            for path, body in PATHS.items():
                status, reply = await here.post(body, path=path, **{header: value})
                assert status == 401
                pages.append(json.dumps(reply))
            digest = hashlib.sha256(secret.encode()).hexdigest()
            with closing(sqlite3.connect(here.ledger)) as books:
                pages += [caplog.text, *books.iterdump()]
            assert not [p for p in pages if secret[11:] in p or digest in p]


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("status", [200, 400, 503])
async def test_headers_of_one_side_do_not_reach_the_other(
    tmp_path: Path, path: str, status: int
) -> None:
    """candelahq/candela#599, brandonrc/mobula#32: cookies, addresses and keys were handed on."""

    async def tells(call: Call) -> None:
        odd = {
            "set-cookie": "zebra=1",
            "server": "zebra",
            "location": "http://zebra",
            "x-z": "zebra",
        }
        if status != 200:
            await call.reply({"error": {"message": "no"}}, status=status, **odd)
            return
        choice = {"index": 0, "text": "4", "finish_reason": "stop", "logprobs": None}
        chat = {"message": {"role": "assistant", "content": "4"}}
        usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
        await call.reply({"choices": [choice | chat], "usage": usage}, **odd)

    more, keys = key_file(tmp_path, alice=KeyLimits())
    async with site(tmp_path, more=more + "failover = false\n") as here:
        here.upstream.script = tells
        sent = keys["alice"] | {"cookie": "lion=1", "x-forwarded-for": "lion", "x-lion": "lion"}
        for _ in range(2):  # an engine's cookie must not come back to it with the next call either
            body = PATHS[path]
            async with here.http.post(here.url + path, json=body, headers=sent) as reply:
                await reply.read()
                assert (reply.status == 200) is (status == 200)
                assert "zebra" not in str(reply.headers)
        for call in here.upstream.calls:
            shown = str(call.headers)
            assert "lion" not in shown
            assert "zebra" not in shown
            assert keys["alice"]["authorization"] not in shown
