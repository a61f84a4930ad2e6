"""The test bed of the gateway's benchmarks: a folder, two cores, a stub, and servers before it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from benchmarks.gateway import ours
from benchmarks.gateway.load import LoadRun, LoadSize, LoadTarget, Read, run_load
from benchmarks.gateway.processes import (
    Broken,
    Command,
    Cores,
    Running,
    free_port,
    python,
    running,
    two_cores,
)

ROOT = Path(__file__).resolve().parents[2]


class Bed(Struct, frozen=True, kw_only=True):
    """A stub that answers, on the core of this process, and where files go."""

    folder: Path
    cores: Cores
    stub: Running
    tags: Iterator[int]

    def load(self, target: LoadTarget, limits: LoadSize, *, read: Read | None = None) -> LoadRun:
        """Send load under tags that no other request of this bed has."""
        return run_load(target, limits, tags=self.tags, read=read)

    @contextmanager
    def gateway(self, setup: ours.Setup) -> Iterator[Running]:
        """Serve with our gateway on the proxy's core."""
        command = ours.serve(setup, folder=self.folder, port=free_port())
        with running(command, core=self.cores.proxy) as server:
            yield server


@contextmanager
def bed() -> Iterator[Bed]:
    """Pin this process, start a stub beside it, and leave nothing behind."""
    if sys.platform != "linux":
        raise Broken("this benchmark pins processes to cores, which only Linux lets it do")
    _hand_down_path()
    cores = two_cores()
    before = os.sched_getaffinity(0)
    with TemporaryDirectory(prefix="suffice-gateway-") as name:
        folder = Path(name)
        try:
            os.sched_setaffinity(0, {cores.load})
            with running(stub_command(folder, port=free_port()), core=cores.load) as stub:
                yield Bed(folder=folder, cores=cores, stub=stub, tags=count(1))
        finally:
            os.sched_setaffinity(0, before)


def stub_command(folder: Path, *, port: int) -> Command:
    """Return how to start the stub on a port."""
    return Command(
        name="stub",
        arguments=python("-m", "benchmarks.gateway.stub", "--port", str(port)),
        port=port,
        ready="/stub/counts",
        folder=folder,
    )


def say(text: str) -> None:
    """Tell a person what is going on; figures go to stdout."""
    print(text, file=sys.stderr, flush=True)


def _hand_down_path() -> None:
    """Let children, which run in other folders, import what this process does."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(ROOT), *(str(Path(path).resolve()) for path in inherited if path)]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
