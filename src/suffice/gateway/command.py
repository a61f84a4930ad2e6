"""`suffice serve`: checks everything once, then hands over to uvicorn."""

import sys
from functools import partial

from msgspec import Struct

from suffice.gateway.app import Gateway
from suffice.gateway.serving import Settings, build_serving, read_settings
from suffice.ledger import Ledger

DRAIN_S = 30


class Listen(Struct, frozen=True, kw_only=True):
    """Where to listen, with how many processes, and with which certificate for TLS."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None


def serve(settings: Settings, listen: Listen) -> None:
    """Serve until a signal; raises SufficeError before the first connection where it cannot."""
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    _check(settings)
    config = uvicorn.Config(
        partial(Gateway, settings),
        factory=True,
        host=listen.host,
        port=listen.port,
        workers=listen.workers,
        ssl_certfile=listen.ssl_certfile,
        ssl_keyfile=listen.ssl_keyfile,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = uvicorn.Server(config)
    scheme = "https" if listen.ssl_certfile else "http"
    socket = config.bind_socket()
    port = socket.getsockname()[1]
    print(f"suffice serves on {scheme}://{listen.host}:{port}", file=sys.stderr, flush=True)
    if listen.workers == 1:
        server.run(sockets=[socket])
    else:
        Multiprocess(config, sockets=[socket]).run()


def _check(settings: Settings) -> None:
    config, bundle = read_settings(settings)
    with Ledger.open(config.gateway.ledger) as ledger:
        built = build_serving(settings, config, bundle, ledger=ledger)
    for note in built.pipeline.ladder.notes:
        print(f"note: {note}", file=sys.stderr)
