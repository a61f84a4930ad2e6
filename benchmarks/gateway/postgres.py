"""A PostgreSQL of the benchmark's own, from the system's binaries, and gone afterwards."""

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from benchmarks.gateway.processes import Broken

_USER = "postgres" if os.getuid() == 0 else getpass.getuser()  # initdb refuses root
_ACCOUNT: dict[str, Any] = {"user": _USER, "group": _USER} if os.getuid() == 0 else {}
_START_S = 30.0
_POOLER = """[databases]
* = host={host} user={user}
[pgbouncer]
pool_mode = transaction
default_pool_size = 2
server_login_retry = 1
listen_addr =
listen_port = 6432
unix_socket_dir = {home}
auth_type = any
"""


class Database(Struct, frozen=True, kw_only=True):
    """A server that runs: its URL, and the process, which may be frozen and thawed."""

    url: str
    process: "subprocess.Popen[bytes]"
    data: Path

    def freeze(self) -> None:
        """Stop the server and its children as SIGSTOP does: connections stay open, and silent."""
        self._send(signal.SIGSTOP)

    def kill(self) -> None:
        """End the server and its children as a crash does."""
        self._send(signal.SIGKILL)
        self.process.wait()

    def thaw(self) -> None:
        """Let the server go on."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        """Send a signal to the server and its children, of which some may have ended."""
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _processes(self) -> list[int]:
        """List the server and the processes that it started, each of a group of its own."""
        pids = [self.process.pid]
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                if int(entry.read_text().rpartition(")")[2].split()[1]) == self.process.pid:
                    pids.append(int(entry.parent.name))
        return pids


def binaries() -> Path | None:
    """Find the folder of the newest PostgreSQL of Debian's packages; None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def database() -> Iterator[Database | None]:
    """Run a server on a local socket; yields None where the machine has none."""
    folder = binaries()
    if folder is None:
        yield None
        return
    with _home() as home:
        data = str(home / "data")
        _run(folder / "initdb", "-D", data, "-U", _USER, "--auth=trust", "--no-sync")
        with _serving(folder, home, settings=()) as server:
            yield server


class Replicated(Struct, frozen=True, kw_only=True):
    """A primary and its synchronous standby, behind one URL that leads to the one that writes."""

    url: str
    primary: Database
    standby: Database

    def promote(self) -> None:
        """Let the standby take over."""
        folder = binaries()
        assert folder is not None
        _run(folder / "pg_ctl", "promote", "-s", "-D", str(self.standby.data))


@contextmanager
def replicated() -> Iterator[Replicated | None]:
    """Run a primary and a standby; a commit of the one waits until the other has it."""
    folder = binaries()
    if folder is None:
        yield None
        return
    with _home() as first, _home() as second:
        data = str(first / "data")
        _run(folder / "initdb", "-D", data, "-U", _USER, "--auth=trust", "--no-sync")
        waits = ("-c", "synchronous_standby_names=*")
        with _serving(folder, first, settings=waits) as primary:
            copy = ("-h", str(first), "-U", _USER, "-D", str(second / "data"), "-R", "--no-sync")
            _run(folder / "pg_basebackup", *copy)
            with _serving(folder, second, settings=()) as standby:
                hosts = f"host={first},{second}&port=5432,5432&target_session_attrs=read-write"
                url = f"postgresql://{_USER}@/postgres?{hosts}"
                yield Replicated(url=url, primary=primary, standby=standby)


@contextmanager
def _home() -> Iterator[Path]:
    """Make a folder that belongs to the user of PostgreSQL, for a while."""
    home = Path(tempfile.mkdtemp(prefix="suffice-pg-"))
    shutil.chown(home, _USER)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _serving(folder: Path, home: Path, *, settings: Sequence[str]) -> Iterator[Database]:
    """Run a server on the data in a folder, and on a socket there."""
    common = ("-c", "listen_addresses=", "-c", "fsync=off", "-k", str(home))
    process = subprocess.Popen(
        [str(folder / "postgres"), "-D", str(home / "data"), *common, *settings],
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
        **_ACCOUNT,
    )
    url = f"postgresql://{_USER}@/postgres?host={home}"
    server = Database(url=url, process=process, data=home / "data")
    try:
        _wait_ready(folder / "pg_isready", home)
        yield server
    finally:
        if process.poll() is None:
            server.thaw()
            process.send_signal(signal.SIGQUIT)
            process.wait()


def _run(program: Path, *arguments: str) -> None:
    """Run a program of PostgreSQL's as its user."""
    subprocess.run([program, *arguments], check=True, capture_output=True, cwd="/", **_ACCOUNT)


class Pooler(Struct, frozen=True, kw_only=True):
    """PgBouncer in transaction mode before a server, and the URL that leads through it."""

    url: str
    home: Path
    process: "subprocess.Popen[bytes]"

    def repoint(self, url: str) -> None:
        """Lead to another server from now on, as an operator does after a failover."""
        _write_settings(self.home, url)
        self.process.send_signal(signal.SIGHUP)


@contextmanager
def pooled(url: str) -> Iterator[Pooler | None]:
    """Run PgBouncer in transaction mode before a server; yields None without PgBouncer."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        yield None
        return
    home = Path(tempfile.mkdtemp(prefix="suffice-bouncer-"))
    shutil.chown(home, _USER)
    settings = _write_settings(home, url)
    process = subprocess.Popen(
        [program, "-q", settings], stderr=subprocess.DEVNULL, cwd="/", **_ACCOUNT
    )
    through = f"postgresql://{_USER}@/postgres?host={home}&port=6432"
    try:
        deadline_s = time.monotonic() + _START_S
        while not (home / ".s.PGSQL.6432").exists():
            if time.monotonic() > deadline_s:
                raise Broken("PgBouncer did not start")
            time.sleep(0.1)
        yield Pooler(url=through, home=home, process=process)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _write_settings(home: Path, url: str) -> Path:
    """Write the pooler's file, which leads to the server of a URL."""
    (host,) = parse_qs(urlsplit(url).query)["host"]
    settings = home / "pgbouncer.ini"
    settings.write_text(_POOLER.format(host=host, home=home, user=_USER))
    return settings


def _wait_ready(probe: Path, home: Path) -> None:
    deadline_s = time.monotonic() + _START_S
    while subprocess.run([probe, "-q", "-h", home], check=False).returncode:
        if time.monotonic() > deadline_s:
            raise Broken("PostgreSQL did not start")
        time.sleep(0.1)
