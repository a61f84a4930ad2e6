"""A program of the operator's that is given what a model wrote: bounded, and without a network.

Time is bounded by the caller, who kills the whole group, memory and the size of files by `ulimit`.
Where the system lets an ordinary user make namespaces (`unshare`), the program has no network, and
whatever it started dies with it.
"""

import asyncio
import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")
_PROBE_S = 10.0
_NAMESPACES = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
_log = logging.getLogger("suffice.checks")


@cache
def walls(*, network: bool) -> tuple[str, ...]:
    """Return what to put before a command, so that it runs in namespaces of its own.

    Empty where the system forbids that; a command then has the network that we have.
    """
    wanted = _NAMESPACES if network else (*_NAMESPACES, "--net")
    try:
        probe = subprocess.run(  # noqa: S603
            [*wanted, "true"], check=False, capture_output=True, timeout=_PROBE_S
        )
        if probe.returncode == 0:
            return wanted
    except (OSError, subprocess.TimeoutExpired):
        pass
    if not network:
        _log.warning("this system allows no namespaces: checks run with the network that we have")
    return ()


async def start(
    command: Sequence[str],
    *,
    folder: Path | None,
    memory_bytes: int,
    network: bool,
    reads: bool = False,
) -> asyncio.subprocess.Process:
    """Start a command in a folder; its output is thrown away, unless the caller `reads` it.

    Raises OSError where it cannot be started.
    """
    # The shell stays: the first process of a namespace would not feel a signal of its own.
    bounds = f'ulimit -v {memory_bytes // 1024}; ulimit -f {memory_bytes // 512}; "$@"'
    around = await asyncio.to_thread(walls, network=network)
    return await asyncio.create_subprocess_exec(
        *(*around, "sh", "-c", bounds, "sh", *command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE if reads else asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=folder,
        env={name: os.environ[name] for name in _KEPT if name in os.environ},
        start_new_session=True,
    )


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill a command and whatever is left of its group, and wait for it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
    await process.wait()
