"""A PostgreSQL of the benchmark's own, from the system's binaries, and gone afterwards."""

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from benchmarks.gateway.processes import Broken

_USER = "postgres" if os.getuid() == 0 else getpass.getuser()  # initdb refuses root
_START_S = 30.0
_POOLER = """[databases]
* = host={host} user={user}
[pgbouncer]
pool_mode = transaction
default_pool_size = 2
listen_addr =
listen_port = 6432
unix_socket_dir = {home}
auth_type = any
"""


class Database(Struct, frozen=True, kw_only=True):
    """A server that runs: its URL, and the process, which may be frozen and thawed."""

    url: str
    process: "subprocess.Popen[bytes]"

    def freeze(self) -> None:
        """Stop the server and its children as SIGSTOP does: connections stay open, and silent."""
        for pid in self._processes():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the server go on."""
        for pid in self._processes():
            os.kill(pid, signal.SIGCONT)

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
    account: dict[str, Any] = {"user": _USER, "group": _USER} if os.getuid() == 0 else {}
    home = Path(tempfile.mkdtemp(prefix="suffice-pg-"))
    shutil.chown(home, _USER)
    data = home / "data"
    make = [str(folder / "initdb"), "-D", str(data), "-U", _USER, "--auth=trust", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, cwd="/", **account)
    settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", str(home)]
    process = subprocess.Popen(
        [str(folder / "postgres"), "-D", str(data), *settings],
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
        **account,
    )
    server = Database(url=f"postgresql://{_USER}@/postgres?host={home}", process=process)
    try:
        _wait_ready(folder / "pg_isready", home)
        yield server
    finally:
        server.thaw()
        process.send_signal(signal.SIGQUIT)
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def pooled(url: str) -> Iterator[str | None]:
    """Run PgBouncer in transaction mode before a server; yields its URL, None without PgBouncer."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        yield None
        return
    home = Path(tempfile.mkdtemp(prefix="suffice-bouncer-"))
    shutil.chown(home, _USER)
    (host,) = parse_qs(urlsplit(url).query)["host"]
    settings = home / "pgbouncer.ini"
    settings.write_text(_POOLER.format(host=host, home=home, user=_USER))
    account: dict[str, Any] = {"user": _USER, "group": _USER} if os.getuid() == 0 else {}
    process = subprocess.Popen(
        [program, "-q", settings], stderr=subprocess.DEVNULL, cwd="/", **account
    )
    try:
        deadline_s = time.monotonic() + _START_S
        while not (home / ".s.PGSQL.6432").exists():
            if time.monotonic() > deadline_s:
                raise Broken("PgBouncer did not start")
            time.sleep(0.1)
        yield f"postgresql://{_USER}@/postgres?host={home}&port=6432"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _wait_ready(probe: Path, home: Path) -> None:
    deadline_s = time.monotonic() + _START_S
    while subprocess.run([probe, "-q", "-h", home], check=False).returncode:
        if time.monotonic() > deadline_s:
            raise Broken("PostgreSQL did not start")
        time.sleep(0.1)
