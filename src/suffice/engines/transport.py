"""JSON over HTTP to an inference server: one session, one key, failures as our own errors."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from http import HTTPStatus
from types import MappingProxyType

import aiohttp
import msgspec

from suffice.config import EngineConfig
from suffice.engines.balance import LoadBalancer, Server, beginning_of_body
from suffice.engines.bounded import reply_bytes
from suffice.engines.loose_json import decoded
from suffice.engines.refusals import refused
from suffice.errors import (
    ConfigError,
    EngineError,
    EngineProtocolError,
    EngineRefused,
    EngineUnreachable,
)
from suffice.types import JSON

_LAST_BYTES_TIMEOUT_S = 0.05
_CLOSED_S = 0.05  # in which a closed connection shows; an engine that dies takes longer
# Headers by which the calls of this task belong to a caller's trace.
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
TRACE_HEADERS: ContextVar[Mapping[str, str]] = ContextVar("TRACE_HEADERS", default=NO_HEADERS)


class Transport:
    """Posts JSON to the server at `url`, which is what OpenAI clients call the base URL.

    Of several urls the first stands for all: each call goes to one of them. The timeout of the
    configuration bounds each silence, not the whole answer. Raises ConfigError for a url that
    cannot be one. The key is kept out of every message.
    """

    def __init__(self, config: EngineConfig, *, headers: dict[str, str], key: str | None) -> None:
        urls = [_checked(url) for url in config.urls or ("",)]
        self.url = urls[0]
        self._root = self.url.removesuffix("/v1")
        self._balance = LoadBalancer(urls)
        self._timeout_s = config.timeout_s
        self._headers = {"Content-Type": "application/json", **headers}
        self._key = key
        self._key_env = config.api_key_env
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def post(
        self, url: str, body: JSON, *, headers: Mapping[str, str] = NO_HEADERS
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send JSON and hand over an answer with status 200; raises EngineError otherwise.

        A server that cannot be reached is passed over for the next one.
        """
        headers = {**headers, **TRACE_HEADERS.get()} if headers else TRACE_HEADERS.get()
        data, path = msgspec.json.encode(body), url.removeprefix(self._root)
        prefix = beginning_of_body(body) if len(self._balance.servers) > 1 else b""
        asked: list[Server] = []
        while True:
            with self._balance.lend(but=asked, prefix=prefix) as server:
                asked.append(server)
                address, answering = server.url.removesuffix("/v1") + path, False
                try:
                    async with await self._send(address, data, headers) as response:
                        if response.status != HTTPStatus.OK:
                            raise await refused(response, key=self._key, key_env=self._key_env)
                        answering = True
                        yield response
                except EngineRefused as error:
                    server.note(fault=error.status >= HTTPStatus.INTERNAL_SERVER_ERROR)
                    raise
                except (TimeoutError, aiohttp.ClientError) as error:
                    server.note(fault=True)
                    failure = self._failure(error, url=server.url, answering=answering)
                    unsent = isinstance(failure, EngineUnreachable) and failure.unsent
                    if not unsent or len(asked) == len(self._balance.servers):
                        raise failure from error
                else:
                    server.note(fault=False)
                    return

    async def ask(self, url: str, body: JSON) -> JSON:
        """Post to a route that answers with one JSON object."""
        async with self.post(url, body) as response:
            answer = decoded(await reply_bytes(response))
        if not isinstance(answer, dict):
            raise EngineProtocolError(
                f"{url} answered with what is no JSON object: {str(answer)[:200]}",
                hint="does the engine's url end where its API begins, mostly in /v1?",
            )
        return answer

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _send(
        self, url: str, data: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Post; and once more where a connection that was kept turns out to be closed.

        llama.cpp closes after every stream and uvicorn after 5 s, maybe just as a call goes out.
        Any other call whose line is dropped may have begun, and is not made twice.
        """
        line, began_s = _CallLine(), time.monotonic()
        _LINE.set(line)
        try:
            return await self._open().post(url, data=data, headers=headers, allow_redirects=False)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if line.opened or time.monotonic() - began_s > _CLOSED_S:
                raise
            return await self._open().post(url, data=data, headers=headers, allow_redirects=False)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                # callers bound what runs at once
                connector=aiohttp.TCPConnector(limit=0, socket_factory=_opened),
                cookie_jar=aiohttp.DummyCookieJar(),  # one client's cookies are not another's
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=self._timeout_s, sock_read=self._timeout_s
                ),
            )
        return self._session

    def _failure(
        self, error: TimeoutError | aiohttp.ClientError, *, url: str, answering: bool
    ) -> EngineError:
        if isinstance(error, TimeoutError):
            return EngineUnreachable(
                f"{url} was silent for {self._timeout_s:g} s",
                hint="is the engine overloaded? raise its timeout_s, or stream long answers",
                retryable=True,
                silent=True,
            )
        if answering:
            return EngineProtocolError(
                f"{url} broke off in the middle of its answer",
                hint="see whether the engine was restarted, or ran out of memory",
                retryable=True,
            )
        return EngineUnreachable(
            f"no connection to {url}: {error}",
            hint="is the engine running, and its url right?",
            retryable=True,
            unsent=isinstance(error, aiohttp.ClientConnectorError),
        )


class _CallLine:
    """The connection of one call; `opened` says that it was made for this call."""

    opened = False


_LINE: ContextVar[_CallLine] = ContextVar("_LINE")


def _opened(address: aiohttp.AddrInfoType) -> socket.socket:
    """Make the socket of a new connection, and tell the call that waits for it."""
    family, kind, protocol, _, _ = address
    _LINE.get().opened = True
    return socket.socket(family=family, type=kind, proto=protocol)


async def finish(response: aiohttp.ClientResponse) -> None:
    """Read the last bytes after [DONE], so that the connection can be used again."""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(_LAST_BYTES_TIMEOUT_S):
            await response.content.read()


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")) or "@" in url:
        raise ConfigError(
            f"an engine behind HTTP needs a url of http or https without a password, not {url!r}",
            hint='write url = "http://host:8000/v1", and name the variable of a key in api_key_env',
        )
    return url.rstrip("/")
