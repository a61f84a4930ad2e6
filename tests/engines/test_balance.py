"""Several servers of one engine: the idle one is asked, outliers rest, no call goes out twice."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from types import SimpleNamespace

import pytest

from suffice.config import EngineConfig, parse_config
from suffice.engines import balance
from suffice.engines.balance import LoadBalancer
from suffice.engines.openai import OpenAIEngine
from suffice.errors import ConfigError, EngineError, EngineRefused, EngineUnreachable
from suffice.types import Request, Rung

RUNG = Rung(name="big", engine="stub", model="m")
ASK = Request(request_id="r", messages=({"role": "user", "content": "Hi"},))
REPLY = json.dumps(
    {
        "choices": [{"message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
)
Write = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Stub:
    """A server that counts its calls; `act` answers one."""

    def __init__(self, act: Write | None = None) -> None:
        self.calls = 0
        self.act = act or self.answer
        self.url = ""

    async def answer(self, writer: asyncio.StreamWriter, *, status: str = "200 OK") -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
        body = REPLY if status == "200 OK" else "{}"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(size)
                self.calls += 1
                await self.act(writer)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def drop(writer: asyncio.StreamWriter) -> None:
    writer.close()


@asynccontextmanager
async def engine(*stubs: Stub, dead: int = 0, max_retries: int = 2) -> AsyncIterator[OpenAIEngine]:
    """Run stubs, and an engine at them and at `dead` addresses where nobody listens."""
    async with AsyncExitStack() as stack:
        urls = []
        for stub in stubs:
            server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            urls.append(stub.url)
        urls = [*(f"http://127.0.0.1:{port}/v1" for port in range(1, dead + 1)), *urls]
        config = EngineConfig(kind="openai", url=tuple(urls), max_retries=max_retries)
        yield await stack.enter_async_context(OpenAIEngine(config))


async def test_calls_at_once_are_shared_out() -> None:
    async def slowly(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        await stubs[0].answer(writer)

    stubs = [Stub(slowly) for _ in range(3)]
    async with engine(*stubs) as asked:
        await asyncio.gather(*(asked.complete(ASK, RUNG) for _ in range(9)))
    assert [stub.calls for stub in stubs] == [3, 3, 3]


LONG = Request(
    request_id="r",
    messages=({"role": "system", "content": "x" * 5000}, {"role": "user", "content": "Hi"}),
)


def later(request: Request, turns: int) -> Request:
    """Return a request with some more turns of its conversation."""
    more = [{"role": "assistant", "content": "4"}, {"role": "user", "content": "And?"}] * turns
    return Request(request_id="r", messages=(*request.messages, *more))


async def test_a_conversation_stays_where_its_prompt_is_cached() -> None:
    """agentgateway/agentgateway#2572, BerriAI/litellm#38078: each turn met a cold cache."""
    stubs = [Stub() for _ in range(3)]
    async with engine(*stubs) as here:
        for turns in range(12):
            await here.complete(later(LONG, turns), RUNG)
    assert sorted(stub.calls for stub in stubs) == [0, 0, 12]


def test_conversations_are_spread_and_none_overloads_a_server() -> None:
    urls = [f"http://s{number}/v1" for number in range(4)]
    first, second = LoadBalancer(urls), LoadBalancer(urls[::-1])
    starts = [f"{number}".encode() * 9 for number in range(200)]
    chosen = []
    for start in starts:
        with first.lend(prefix=start) as one, second.lend(prefix=start) as other:
            assert one.url == other.url
            chosen.append(one.url)
    assert all(chosen.count(url) > 25 for url in urls)
    with ExitStack() as stack:
        servers = [stack.enter_context(first.lend(prefix=b"same")) for _ in range(40)]
        assert max(servers.count(server) for server in first.servers) <= 13
        home = servers[0]
        for _ in range(balance.EJECT_AFTER):
            home.note(fault=True)
        with first.lend(prefix=b"same") as server:
            assert server is not home


async def test_a_server_that_cannot_be_reached_costs_no_request() -> None:
    stub = Stub()
    async with engine(stub, dead=2, max_retries=0) as asked:
        for _ in range(8):
            assert (await asked.complete(ASK, RUNG)).text == "4"
    assert stub.calls == 8


async def test_outliers_rest_for_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(balance, "time", SimpleNamespace(monotonic=lambda: now_s))
    servers = LoadBalancer(["a", "b"])
    bad, good = servers.servers
    for _ in range(balance.EJECT_AFTER):
        bad.note(fault=True)
    for _ in range(4):
        with servers.lend() as server:
            assert server is good
    now_s += balance.REST_S
    assert not bad.resting
    bad.note(fault=True)
    now_s += balance.REST_S
    assert bad.resting
    for _ in range(balance.EJECT_AFTER):
        good.note(fault=True)
    with servers.lend() as server:  # all rest: better a bad one than none
        assert server in (bad, good)
    bad.note(fault=False)
    assert not bad.resting


async def test_a_server_that_fails_is_left_alone_while_others_answer() -> None:
    bad, good = Stub(), Stub()
    bad.act = lambda writer: bad.answer(writer, status="503 Service Unavailable")
    async with engine(bad, good, max_retries=0) as asked:
        for _ in range(20):
            try:
                await asked.complete(ASK, RUNG)
            except EngineRefused as error:
                assert error.status == 503  # noqa: PT017
    assert bad.calls == balance.EJECT_AFTER
    assert good.calls == 20 - bad.calls


@pytest.mark.parametrize("kept", [False, True])
async def test_a_call_that_may_have_begun_is_made_once(*, kept: bool) -> None:
    """The engine takes the call, works on it, and drops the line: nobody knows what it has cost."""

    async def work_and_drop(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.close()

    stub, other = Stub(), Stub()
    async with engine(stub) as asked:
        if kept:
            await asked.complete(ASK, RUNG)
        stub.calls, stub.act = 0, work_and_drop
        with pytest.raises(EngineUnreachable):
            await asked.complete(ASK, RUNG)
    assert stub.calls == 1
    assert not other.calls


async def test_a_fresh_line_that_is_dropped_at_once_is_not_asked_again() -> None:
    stub = Stub(drop)
    async with engine(stub) as asked:
        with pytest.raises(EngineUnreachable):
            await asked.complete(ASK, RUNG)
    assert stub.calls == 1


async def test_a_stream_that_breaks_before_its_first_word_is_asked_once() -> None:
    async def begin(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        await writer.drain()
        writer.close()

    stub = Stub(begin)
    async with engine(stub) as asked:
        with pytest.raises(EngineError):
            [item async for item in asked.stream(ASK, RUNG)]
    assert stub.calls == 1


@pytest.mark.parametrize("urls", ["[]", '["http://a/v1", "http://a/v1/"]'])
def test_a_list_names_different_servers(urls: str) -> None:
    toml = (
        f'reference = "big"\n[engine.stub]\nkind = "openai"\nurl = {urls}\n'
        '[[ladder]]\nname = "big"\nengine = "stub"\nmodel = "m"\nvector = "none"\n'
    )
    with pytest.raises(ConfigError, match="different urls"):
        parse_config(toml)


def test_each_api_has_a_beginning_that_its_later_turns_share() -> None:
    asked = {"role": "user", "content": "x" * balance.CACHED_BYTES}
    later = [asked, {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"}]
    for name in ("messages", "input"):  # chat and the Messages API; the Responses API
        start = balance.beginning_of_body({name: [asked]})
        assert start
        assert start == balance.beginning_of_body({name: later})
    assert not balance.beginning_of_body({"input": [asked["content"]]}), "embeddings have none"
