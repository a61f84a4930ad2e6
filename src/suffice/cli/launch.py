"""`suffice launch`: a coding agent that goes through a gateway, and the bill of what it did."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from suffice.cli.options import Certificate, Ladder, Tag
from suffice.config import POLICY_MODEL
from suffice.errors import InputError

_KEY = "SUFFICE_API_KEY"
_ANY_KEY = "none-needed"
_SERVES = "suffice serves on "


def launch(
    context: typer.Context,
    client: Annotated[Literal["claude", "codex"], typer.Argument(help="Client to start.")],
    ladder: Ladder = Path("suffice.toml"),
    certificate: Certificate = None,
    url: Annotated[
        str | None,
        typer.Option(help="Running gateway.", show_default="one of its own, until the end"),
    ] = None,
    model: Annotated[
        str, typer.Option("--ask", help="Model that the client asks for.")
    ] = POLICY_MODEL,
    tag: Tag = None,
) -> None:
    """Start Claude Code or Codex behind a gateway, and print the session's bill at the end.

    Further arguments go to the client: suffice launch claude -- -p "Fix the test". With --url the
    variable SUFFICE_API_KEY holds the gateway's key, where it wants one.
    """
    from suffice.cli.output import note
    from suffice.config import load_config
    from suffice.ledger.tags import tags_in

    program = shutil.which(client)
    if program is None:
        raise InputError(f"{client} is not installed", hint=f"put {client} on the PATH")
    books = load_config(ladder).gateway.ledger if url is None or ladder.exists() else None
    began, tag = datetime.now(UTC), ",".join(tags_in(tag)) or client
    with _served(ladder, certificate) if url is None else _running(url) as address:
        environment, options = _settings(client, address, model=model, tag=tag)
        command = [program, *options, *context.args]
        status = subprocess.run(command, env=environment, check=False).returncode  # noqa: S603
    if books is None:
        note(f"the books are with {url}: suffice report LEDGER --by session shows the bill")
    else:
        _print_bill(books, began, tag=tag)
    if status:
        raise typer.Exit(status if 0 < status < 256 else 1)


@contextmanager
def _running(url: str) -> Iterator[str]:
    yield url.rstrip("/").removesuffix("/v1")


@contextmanager
def _served(ladder: Path, certificate: Path | None) -> Iterator[str]:
    """Serve a ladder in a process of its own, which outlives an interrupt that the client gets."""
    chosen = [] if certificate is None else ["--certificate", str(certificate)]
    command = [sys.executable, "-m", "suffice", "serve", "--ladder", str(ladder), "--port", "0"]
    process = subprocess.Popen(  # noqa: S603
        [*command, *chosen], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    lines = []
    try:
        for line in process.stderr:
            if line.startswith(_SERVES):
                with _forwarded(process):
                    yield line.removeprefix(_SERVES).strip()
                return
            lines.append(line.strip())
        raise InputError(
            f"the gateway did not start: {' '.join(lines)[:500]}", hint=f"suffice ladder {ladder}"
        )
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


@contextmanager
def _forwarded(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Read on what the gateway says, so that it never waits for a reader; into a file beside it."""
    from threading import Thread

    def read() -> None:
        assert process.stderr is not None
        with Path("suffice-gateway.log").open("a", encoding="utf-8") as log:
            for line in process.stderr:
                log.write(line)
                log.flush()

    reader = Thread(target=read, daemon=True)
    reader.start()
    try:
        yield
    finally:
        process.terminate()
        reader.join()


def _settings(client: str, url: str, *, model: str, tag: str) -> tuple[dict[str, str], list[str]]:
    """Return the environment of a client, and what goes before its arguments."""
    environment, key = dict(os.environ), os.environ.get(_KEY, _ANY_KEY)
    if client == "claude":
        for name in ("ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"):
            environment.pop(name, None)
        return environment | {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_AUTH_TOKEN": key,
            "ANTHROPIC_MODEL": model,
            "ANTHROPIC_SMALL_FAST_MODEL": model,
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
            "ANTHROPIC_CUSTOM_HEADERS": f"x-suffice-tags: {tag}",
        }, []
    provider = {
        "name": '"suffice"',
        "base_url": f'"{url}/v1"',
        "wire_api": '"responses"',
        "env_key": f'"{_KEY}"',
        "http_headers": f'{{"x-suffice-tags" = "{tag}"}}',
    }
    settings = {"model": f'"{model}"', "model_provider": '"suffice"'} | {
        f"model_providers.suffice.{name}": value for name, value in provider.items()
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return environment | {_KEY: key}, options


def _print_bill(ledger: str, began: datetime, *, tag: str) -> None:
    from suffice.cli.output import note
    from suffice.cli.spenders import print_spenders
    from suffice.ledger import Ledger, Window
    from suffice.ledger.spenders import spenders

    with Ledger.open(ledger, read_only=True) as books:
        first, _, _ = tag.partition(",")
        sessions = spenders(books, by="session", window=Window(since=began), tag=first)
    if not sessions:
        note(f"no request of this session is in {ledger}")
        return
    print_spenders(sessions, by="session")
