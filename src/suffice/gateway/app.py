"""The ASGI application: which path leads where, and what happens when something goes wrong."""

import asyncio
import logging
import re
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from suffice.engines.transport import TRACE_HEADERS
from suffice.errors import SufficeError
from suffice.gateway import kept
from suffice.gateway.apis.api import ANSWERING, COUNTING, RESPONSES
from suffice.gateway.apis.translated import Endpoint, TranslatedExchange
from suffice.gateway.chat import break_off, chat
from suffice.gateway.cors import allow_origin, is_preflight, preflight
from suffice.gateway.counting import count_tokens
from suffice.gateway.exchange import ClientGone, Exchange, Receive, Scope, Send
from suffice.gateway.feedback import take_feedback
from suffice.gateway.forwarding import complete_text, embed
from suffice.gateway.front import check_front
from suffice.gateway.json_logs import log_as_json, log_masked, log_request
from suffice.gateway.metrics.families import ERRORS
from suffice.gateway.metrics.registry import CONTENT_TYPE
from suffice.gateway.metrics.spans import RequestTrace, Served
from suffice.gateway.openapi import DOCUMENT
from suffice.gateway.outcomes import take_outcome
from suffice.gateway.problems import Problem, problem_of
from suffice.gateway.protocol import BoundedProtocol, ConnectionLimits
from suffice.gateway.serving import Settings
from suffice.gateway.wire import unknown_model
from suffice.gateway.worker import Worker, open_worker
from suffice.types import JSON

_log = logging.getLogger("suffice.gateway")
_PAGE = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-frame-options", b"DENY"),
]
# Paths that clients make of a base URL with a `/v1` too many or too few, or a slash at its end.
_PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
    *ANSWERING,
    *COUNTING,
)
_ALIASES = {
    f"{start}{path.removeprefix('/v1')}": path for path in _PATHS for start in ("", "/v1", "/v1/v1")
}
# Paths with a part that varies, by the name that they have in the OpenAPI document.
_PATTERNS = {
    "/v1/models/{model}": re.compile(r"/v1/models/.+"),
    "/v1/responses/{id}": re.compile(r"/v1/responses/[^/]+"),
    "/v1/responses/{id}/input_items": re.compile(r"/v1/responses/[^/]+/input_items"),
    "/v1/conversations/{id}": re.compile(r"/v1/conversations/[^/]+"),
    "/v1/conversations/{id}/items": re.compile(r"/v1/conversations/[^/]+/items"),
    "/v1/conversations/{id}/items/{item}": re.compile(r"/v1/conversations/[^/]+/items/[^/]+"),
}
# What OpenTelemetry calls the work of each path that an engine may answer.
_OPERATIONS = {
    "/v1/chat/completions": "chat",
    **dict.fromkeys(ANSWERING, "chat"),
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
Handler = Callable[[Exchange], Awaitable[None]]


class Gateway:
    """The application of one worker process; there is a `worker` from startup to shutdown."""

    worker: Worker

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        answer = {"POST": self._with_worker(chat)}
        count = {"POST": self._with_worker(count_tokens)}
        self._routes: dict[str, dict[str, Handler]] = {
            "/v1/chat/completions": answer,
            **dict.fromkeys(ANSWERING, answer),
            **dict.fromkeys(COUNTING, count),
            "/v1/completions": {"POST": self._with_worker(complete_text)},
            "/v1/embeddings": {"POST": self._with_worker(embed)},
            "/v1/models": {"GET": self._models},
            "/v1/models/{model}": {"GET": self._model},
            "/v1/responses/{id}": {
                "GET": self._with_worker(kept.show_response),
                "DELETE": self._with_worker(kept.erase_response),
            },
            "/v1/responses/{id}/input_items": {"GET": self._with_worker(kept.show_input)},
            "/v1/conversations": {"POST": self._with_worker(kept.open_conversation)},
            "/v1/conversations/{id}": {
                "GET": self._with_worker(kept.show_conversation),
                "POST": self._with_worker(kept.change_conversation),
                "DELETE": self._with_worker(kept.erase_conversation),
            },
            "/v1/conversations/{id}/items": {
                "GET": self._with_worker(kept.list_items),
                "POST": self._with_worker(kept.add_items),
            },
            "/v1/conversations/{id}/items/{item}": {"GET": self._with_worker(kept.show_item)},
            "/v1/feedback": {"POST": lambda exchange: take_feedback(exchange, self.worker)},
            "/v1/outcomes": {"POST": lambda exchange: take_outcome(exchange, self.worker)},
            "/healthz": {"GET": self._alive},
            "/readyz": {"GET": self._ready},
            "/": {"GET": self._page},
            "/sessions": {"GET": self._sessions},
            "/metrics": {"GET": self._metrics},
            "/openapi.json": {"GET": self._openapi},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the start and the end of the process."""
        if scope["type"] == "http":
            path = scope["path"]
            if path not in self._routes and (alias := _ALIASES.get("/" + path.strip("/"))):
                scope = {**scope, "path": alias}
            exchange = self._exchange(scope, receive, send)
            exchange.intake, began_s = self.worker.intake, time.perf_counter()
            try:
                await self._http(exchange)
            finally:
                exchange.release()
                if self.worker.serving.config.gateway.log_format == "json":
                    route = self._route(exchange.path) or "other"
                    log_request(exchange, route=route, seconds=time.perf_counter() - began_s)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    def _exchange(self, scope: Scope, receive: Receive, send: Send) -> Exchange:
        path, models = scope["path"], self.worker.serving.models
        counting = path in COUNTING
        api = COUNTING[path] if counting else ANSWERING.get(path)
        if api is None:
            return Exchange(scope, receive, send)
        keeping = partial(kept.keeping_of, self.worker, dict(scope["headers"]))
        endpoint = Endpoint(
            api=api,
            models=models,
            counting=counting,
            keeping=keeping if api is RESPONSES else lambda: None,
            has_native=bool(self.worker.serving.native_rungs),
            native=self.worker.serving.native_models,
            caching=self.worker.serving.caching_models,
        )
        return TranslatedExchange(endpoint, scope=scope, receive=receive, send=send)

    def _with_worker(self, handle: Callable[[Exchange, Worker], Awaitable[None]]) -> Handler:
        return lambda exchange: handle(exchange, self.worker)

    async def _http(self, exchange: Exchange) -> None:
        trace = self._begin_trace(exchange)
        origins = self.worker.serving.config.gateway.cors_origins
        allow_origin(exchange, origins)
        try:
            if origins and is_preflight(exchange):
                await preflight(exchange)
            else:
                await self._handler(exchange)(exchange)
        except ClientGone:
            _note_error(exchange, "client_gone")
        except Exception as error:  # noqa: BLE001 - a client gets no traceback
            with suppress(ClientGone):
                await self._explain(exchange, error)
        finally:
            if trace is not None and exchange.served is not None:
                exchange.served.status = exchange.status
                trace.end(exchange.served)

    def _begin_trace(self, exchange: Exchange) -> RequestTrace | None:
        """Trace a request that an engine may answer, and let its calls to engines belong to it."""
        operation = _OPERATIONS.get(exchange.path)
        if operation is None:
            return None
        exchange.served = Served(operation=operation, path=exchange.path)
        trace = self.worker.spans.begin(exchange.headers, operation=operation)
        if trace.headers:
            TRACE_HEADERS.set(trace.headers)
        return trace

    async def _explain(self, exchange: Exchange, error: Exception) -> None:
        if not isinstance(error, SufficeError | TimeoutError):
            _log.error("an error inside the gateway", exc_info=error)
        problem = problem_of(error)
        _note_error(exchange, problem.label)
        if exchange.begun:
            await break_off(exchange, error)
            return
        self.worker.metrics.add(ERRORS, (problem.label,))
        await exchange.reply(problem.body, status=problem.status, headers=problem.headers)

    def _route(self, path: str) -> str:
        """Return the route of a path, "" where there is none."""
        matching = (name for name, one in _PATTERNS.items() if one.fullmatch(path))
        return path if path in self._routes else next(matching, "")

    def _handler(self, exchange: Exchange) -> Handler:
        if exchange.headers.get(b"upgrade", b"").lower() == b"websocket":
            problem = Problem(
                "there are no WebSockets here", status=426, hint="send the request over HTTP"
            )
            problem.upgrade = "HTTP/1.1"
            raise problem
        gateway = self.worker.serving.config.gateway
        check_front(exchange, hosts=gateway.hosts, origins=gateway.cors_origins)
        methods = self._routes.get(self._route(exchange.path))
        if methods is None:
            raise Problem(
                f"there is no {exchange.path}", status=404, hint="GET /openapi.json lists all"
            )
        handler = methods.get("GET" if exchange.method == "HEAD" else exchange.method)
        if handler is None:
            problem = Problem(
                f"{exchange.path} takes no {exchange.method}",
                status=405,
                hint=f"use {', '.join(methods)}",
            )
            problem.allow = tuple(methods)
            raise problem
        return handler

    async def _models(self, exchange: Exchange) -> None:
        key = self.worker.access.authenticate(exchange.headers, None)
        serving = self.worker.serving
        every = (*serving.models, *serving.embeddings)
        names = [name for name in every if key is None or key.may_ask(name)]
        models = [_shown_model(name) for name in names]
        ends = {"has_more": False, **dict.fromkeys(("first_id", "last_id"))}
        if names:
            ends |= {"first_id": names[0], "last_id": names[-1]}
        await exchange.reply_json({"object": "list", "data": models, **ends})

    async def _model(self, exchange: Exchange) -> None:
        key = self.worker.access.authenticate(exchange.headers, None)
        name = exchange.path.removeprefix("/v1/models/")
        serving = self.worker.serving
        there = name in serving.models or name in serving.embeddings
        if not there or not (key is None or key.may_ask(name)):
            raise unknown_model(name, serving, param="model")
        await exchange.reply_json(_shown_model(name))

    async def _alive(self, exchange: Exchange) -> None:
        await exchange.reply_json({"status": "ok"})

    async def _ready(self, exchange: Exchange) -> None:
        self.worker.check_ready()
        await exchange.reply_json({"status": "ready"})

    async def _page(self, exchange: Exchange) -> None:
        self.worker.access.authenticate(exchange.headers, "dashboard")
        page = await self.worker.page.get(self.worker.serving)
        await exchange.reply(page, headers=_PAGE)

    async def _sessions(self, exchange: Exchange) -> None:
        self.worker.access.authenticate(exchange.headers, "dashboard")
        page = await self.worker.sessions_page.get(self.worker.serving)
        await exchange.reply(page, headers=_PAGE)

    async def _metrics(self, exchange: Exchange) -> None:
        self.worker.access.authenticate(exchange.headers, "metrics")
        kind = [(b"content-type", CONTENT_TYPE.encode())]
        await exchange.reply(self.worker.exposition().encode(), headers=kind)

    async def _openapi(self, exchange: Exchange) -> None:
        await exchange.reply(DOCUMENT)

    def _delay_exit(self, loop: asyncio.AbstractEventLoop) -> None:
        """At SIGTERM be unready first and go on answering, until load balancers have seen it."""
        delay_s = self.worker.serving.config.gateway.drain_delay_s
        leave = signal.getsignal(signal.SIGTERM)
        if delay_s <= 0 or not callable(leave):
            return

        def begin() -> None:
            self.worker.draining = True
            loop.call_later(delay_s, leave, signal.SIGTERM, None)

        loop.add_signal_handler(signal.SIGTERM, begin)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            worker = self.worker = await open_worker(self._settings)
            gateway = worker.serving.config.gateway
            log_as_json() if gateway.log_format == "json" else log_masked()
            BoundedProtocol.limits = ConnectionLimits(
                total=gateway.connections, by_address=gateway.connections_by_address
            )
        except SufficeError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        with suppress(RuntimeError, ValueError):  # signals reach the main thread alone
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, worker.request_reload)
            self._delay_exit(loop)
        worker.start_upkeep()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await worker.close()
        await send({"type": "lifespan.shutdown.complete"})


def _note_error(exchange: Exchange, name: str) -> None:
    if exchange.served is not None:
        exchange.served.error = name


def _shown_model(name: str) -> JSON:
    """Show a model to clients of OpenAI's API and of Anthropic's alike."""
    ours = {"id": name, "object": "model", "created": 0, "owned_by": "suffice"}
    return ours | {"type": "model", "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
