"""The ASGI application: routes, and what lives as long as a worker does."""

import logging
from collections.abc import Awaitable, Callable

from suffice.errors import SufficeError
from suffice.gateway.books import Books
from suffice.gateway.chat import break_off, chat
from suffice.gateway.exchange import ClientGone, Exchange, Receive, Scope, Send
from suffice.gateway.problems import Problem, problem_of
from suffice.gateway.serving import Serving, Settings, build_serving, read_settings
from suffice.gateway.wire import Asked
from suffice.ledger import Ledger
from suffice.pipeline import Climb

_log = logging.getLogger("suffice.gateway")
Handler = Callable[[Exchange], Awaitable[None]]


class Gateway:
    """One worker of the gateway; `serving` is what a reload replaces."""

    serving: Serving
    books: Books

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._routes: dict[str, dict[str, Handler]] = {
            "/v1/chat/completions": {"POST": lambda exchange: chat(exchange, self)},
            "/v1/models": {"GET": self._models},
            "/healthz": {"GET": self._alive},
            "/readyz": {"GET": self._ready},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        if scope["type"] == "http":
            await self._http(Exchange(scope, receive, send))
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def start(self) -> None:
        """Open ledger and engines; raises SufficeError."""
        config, bundle = read_settings(self.settings)
        ledger = Ledger.open(
            config.gateway.ledger,
            fsync=config.gateway.fsync,
            store_text=config.gateway.store_text,
        )
        self.books = Books(ledger)
        self.serving = build_serving(self.settings, config, bundle, ledger=ledger)

    async def stop(self) -> None:
        """Write what is left and close everything."""
        await self.books.close()
        await self.serving.close()
        self.books.ledger.close()

    def check_books(self) -> None:
        """Raise LedgerError while the ledger cannot be written: nothing is answered unbooked."""
        if self.books.failing is not None:
            raise self.books.failing

    def begin(self, asked: Asked) -> Climb:
        """Choose where a request begins."""
        serving = self.serving
        barred = None if asked.rung else self._barred(asked)
        climb = Climb(serving.pipeline, asked.request, named=asked.rung, barred=barred)
        if asked.stream and not climb.settled and serving.config.gateway.defer_streams == "route":
            climb.take_reference()
        return climb

    def _barred(self, asked: Asked) -> str | None:
        """Say why the policy may not choose for a request; None when it may."""
        if self.settings.observe:
            return "the gateway only observes"
        bundle = self.serving.pipeline.bundle
        if bundle and asked.alpha is not None and asked.alpha < bundle.certificate.alpha:
            return f"the certificate promises {bundle.certificate.alpha:g}, not {asked.alpha:g}"
        return None

    async def _http(self, exchange: Exchange) -> None:
        try:
            await self._handler(exchange)(exchange)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - the last door: a client gets no traceback
            if not isinstance(error, SufficeError | TimeoutError):
                _log.exception("an error inside the gateway")
            if exchange.begun:
                await break_off(exchange, error)
                return
            problem = problem_of(error)
            await exchange.reply(problem.body, status=problem.status, headers=problem.headers)

    def _handler(self, exchange: Exchange) -> Handler:
        methods = self._routes.get(exchange.path)
        if methods is None:
            raise Problem(
                f"there is no {exchange.path}", status=404, hint="GET /openapi.json lists all"
            )
        handler = methods.get("GET" if exchange.method == "HEAD" else exchange.method)
        if handler is None:
            raise Problem(
                f"{exchange.path} takes no {exchange.method}",
                status=405,
                hint=f"use {', '.join(methods)}",
            )
        return handler

    async def _models(self, exchange: Exchange) -> None:
        models = [
            {"id": name, "object": "model", "created": 0, "owned_by": "suffice"}
            for name in self.serving.models
        ]
        await exchange.reply_json({"object": "list", "data": models})

    async def _alive(self, exchange: Exchange) -> None:
        await exchange.reply_json({"status": "ok"})

    async def _ready(self, exchange: Exchange) -> None:
        self.check_books()
        await exchange.reply_json({"status": "ready"})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.start()
                except SufficeError as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return
