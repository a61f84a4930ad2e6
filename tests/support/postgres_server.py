"""A throw-away PostgreSQL server for tests, from the binaries of the system's packages."""

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

ROOT = os.getuid() == 0
USER = "postgres" if ROOT else getpass.getuser()  # initdb refuses root; Debian makes this user
AS_USER = {"user": USER, "group": USER, "extra_groups": []} if ROOT else {}


def server_binaries() -> Path | None:
    """Find the folder of the newest PostgreSQL that Debian's packages or the PATH offer."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def postgresql_server() -> Iterator[str]:
    """Run a server that listens on a local socket only; yields its URL."""
    binaries = server_binaries()
    assert binaries is not None
    home = Path(tempfile.mkdtemp(prefix="suffice-pg-"))
    shutil.chown(home, USER)
    data = home / "data"
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8"],
        check=True,
        capture_output=True,
        cwd="/",
        **AS_USER,
    )
    options = ("listen_addresses=", "fsync=off", "full_page_writes=off", "autovacuum=off")
    settings = [*(word for option in options for word in ("-c", option)), "-k", home]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, *settings], stderr=log, cwd="/", **AS_USER
        )
    try:
        await_ready(binaries / "pg_isready", home)
        yield f"postgresql://{USER}@/postgres?host={home}"
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait()
        shutil.rmtree(home)


def new_schema(url: str) -> str:
    """Make an empty schema; returns the URL of a ledger in it."""
    import psycopg  # an extra, which tests of other things do without

    name = f"books_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{url}&options=-csearch_path%3D{name}"


def new_books(backend: str, folder: Path, request: pytest.FixtureRequest) -> str:
    """Name a place for a new ledger: a file in the folder, or a schema in PostgreSQL."""
    if backend == "sqlite":
        return str(folder / "books.db")
    return new_schema(request.getfixturevalue("postgresql"))


def await_ready(probe: Path, home: Path) -> None:
    for _ in range(300):
        if not subprocess.run([probe, "-q", "-h", home], check=False).returncode:
            return
        time.sleep(0.1)
    raise AssertionError((home / "log").read_text("utf-8"))
