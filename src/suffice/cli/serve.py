"""`suffice serve`: the gateway."""

from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.options import Certificate, Ladder


def serve(
    ladder: Ladder,
    certificate: Certificate = None,
    observe: Annotated[
        bool, typer.Option("--observe", help="Audits only: the reference rung answers everything.")
    ] = False,
    trust: Annotated[
        list[Path] | None,
        typer.Option(help="Public key (PEM) that must have signed the certificate; repeatable."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    ssl_certfile: Annotated[str | None, typer.Option(help="Certificate file for TLS.")] = None,
    ssl_keyfile: Annotated[str | None, typer.Option(help="Key file for TLS.")] = None,
) -> None:
    """Serve OpenAI and Anthropic clients, each request on the cheapest rung that is certified."""
    from suffice.gateway.server import Listen
    from suffice.gateway.server import serve as run
    from suffice.gateway.serving import Settings

    settings = Settings(
        ladder=ladder,
        policy=certificate,
        trust=tuple(trust or ()),
        observe=observe,
        workers=workers,
    )
    run(
        settings,
        Listen(host=host, port=port, ssl_certfile=ssl_certfile, ssl_keyfile=ssl_keyfile),
    )
