"""Processes of a benchmark: each on its own core, its output in a file, and none left behind."""

import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

START_S = 90.0
STOP_S = 45.0  # longer than a gateway drains
_PDEATHSIG = 1  # prctl: the kernel ends the child when its parent dies, however that happens


class Broken(Exception):
    """The benchmark cannot go on; its message says why, in a sentence."""


class Cores(Struct, frozen=True, kw_only=True):
    """The core of load generator and stub, and the core of the proxy under test."""

    load: int
    proxy: int


class Command(Struct, frozen=True, kw_only=True):
    """How to start a server: ready when `ready` answers 200 on its port."""

    name: str
    arguments: Sequence[str]
    port: int
    ready: str
    folder: Path
    environment: Mapping[str, str] = {}


class Running(Struct, frozen=True, kw_only=True):
    """A server that answers."""

    name: str
    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    @property
    def resident_bytes(self) -> int:
        """Resident memory of the process and of those it started."""
        return sum(_resident_bytes(pid) for pid in _group(self.process.pid))

    @property
    def processor_s(self) -> float:
        """Processor time of the process and of those it started."""
        return sum(_processor_s(pid) for pid in _group(self.process.pid))

    def check(self) -> None:
        """Raise Broken if the server has ended by itself."""
        if self.process.poll() is not None:
            raise Broken(_ended(self.name, self.process, self.log))


def two_cores() -> Cores:
    """Take the first two cores this process may run on; the same one twice where there is one."""
    free = sorted(os.sched_getaffinity(0))
    return Cores(load=free[0], proxy=free[min(1, len(free) - 1)])


def free_port() -> int:
    """Return a TCP port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(command: Command, *, core: int) -> Iterator[Running]:
    """Start a server, wait until it answers, and end it with all that it started."""
    server = start(command, core=core)
    try:
        wait_ready(server, command.ready)
        yield server
    except Broken as error:
        raise Broken(f"{error}; {server.name}: {_tail(server.log)}") from None
    finally:
        stop(server)


def start(command: Command, *, core: int) -> Running:
    """Start a server without waiting for it."""
    log = command.folder / f"{command.name}.log"
    prctl = ctypes.CDLL(None).prctl

    def in_child() -> None:
        prctl(_PDEATHSIG, signal.SIGKILL)
        os.sched_setaffinity(0, {core})

    with log.open("ab") as output:
        process = subprocess.Popen(
            command.arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=command.folder,
            env={**os.environ, **command.environment},
            start_new_session=True,
            preexec_fn=in_child,  # noqa: PLW1509 - this process has no threads when it starts one
        )
    return Running(name=command.name, process=process, port=command.port, log=log)


def wait_ready(server: Running, path: str) -> None:
    """Wait until `path` answers 200; raises Broken when the server ends or takes too long."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        server.check()
        if _answers(server.port, path):
            return
        time.sleep(0.05)
    raise Broken(f"{server.name} did not answer within {START_S:.0f} s; {_tail(server.log)}")


def stop(server: Running, *, sharply: bool = False) -> None:
    """End a server and all that it started: by SIGTERM first, or at once when `sharply`."""
    if not sharply and server.process.poll() is None:
        server.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


def python(*arguments: str) -> tuple[str, ...]:
    """Return a command line for the Python that runs this."""
    return (sys.executable, *arguments)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _ended(name: str, process: "subprocess.Popen[bytes]", log: Path) -> str:
    return f"{name} ended by itself with status {process.returncode}; {_tail(log)}"


def _tail(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines()[-12:]
    return "its last words:\n  " + "\n  ".join(lines) if lines else "it said nothing"


def _group(leader: int) -> list[int]:
    """List the processes of a session that `start` made."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if os.getsid(int(entry.name)) == leader:
                    members.append(int(entry.name))
    return members


def _processor_s(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _resident_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0
