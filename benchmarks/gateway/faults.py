"""Everything that can break is broken, and the books, the clients and the upstream are looked at.

For each fault:
- `wrong_charges`: calls whose charge is passed off as reported and is not what the stub's usage
  costs, requests booked twice, and streams that a client left without anything charged for them;
- `lost_rows`: requests that the gateway took on and that have no row in the ledger;
- `hung`: requests that were not ended, by an answer or an error, within the deadline;
- `stuck_slots`: requests still open at the upstream a second after their clients were done;
- `false_stops`: broken answers that a client could take for whole ones;
- `not_recovered`: requests that failed once the fault was over.
All must be 0; None means that this machine could not make the fault.
"""

import asyncio
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from msgspec import Struct

from benchmarks.gateway import ours
from benchmarks.gateway.bed import Bed, say, stub_command
from benchmarks.gateway.books import read_books, uncharged, wrong_charges
from benchmarks.gateway.ours import MODELS, Policies, Setup
from benchmarks.gateway.processes import (
    Broken,
    Command,
    Running,
    free_port,
    start,
    stop,
    wait_ready,
)
from benchmarks.gateway.stub import TAG_DIGITS, Fault, Manner

AT_ONCE = 16
BURST = 24  # requests, every other one streamed
DEADLINE_S, SILENCE_S = 4.0, 1.0
GRACE_S = 2.0  # beyond the deadline
LEFT_AFTER_S = 0.3  # by clients that leave without an answer
FREED_S = 1.0  # in which the upstream must be free again
_LINES = f"""\
store_text = true
deadline_s = {DEADLINE_S}
breaker_open_s = 0.5
audit_share = 0.0
"""
_NO_BREAKER = "breaker_failures = 1000000\n"  # so that every request meets the fault
_BALLAST = "ballast"
_EVERYONE = tuple(MODELS.values())


class ClientOutcome(Struct, frozen=True, kw_only=True):
    """How one request ended for its client; `status` None where the connection failed."""

    tag: str
    streamed: bool
    took_s: float
    status: int | None = None
    whole: bool = False
    left: bool = False


class FaultVerdict(Struct, frozen=True, kw_only=True):
    """What a fault did; all 0 is right."""

    wrong_charges: int
    lost_rows: int
    hung: int
    stuck_slots: int
    false_stops: int = 0
    not_recovered: int = 0

    @property
    def right(self) -> bool:
        """Whether nothing went wrong."""
        return not any(msgspec.structs.astuple(self))


class Scene:
    """A gateway of its own before a stub of its own; both may be killed and started again."""

    def __init__(
        self,
        ready: Bed,
        policies: Policies,
        *,
        name: str,
        lines: str = _NO_BREAKER,
        ledger: Path | None = None,
    ) -> None:
        self.folder = ready.folder / f"fault_{name}"
        self.folder.mkdir()
        self.ledger = ledger or self.folder / "gateway" / "suffice.db"
        self.outcomes: list[ClientOutcome] = []
        self.after: list[ClientOutcome] = []
        self.stuck = 0
        self._ready = ready
        self._questions = ours.questions(policies.groups)
        self._stub_command = stub_command(self.folder, port=free_port())
        setup = Setup(
            name="gateway",
            upstream=self._stub_command.port,
            policy=policies.routes,
            ledger=self.ledger,
            timeout_s=SILENCE_S,
            gateway=_LINES + lines,
        )
        self._gateway_command = ours.serve(setup, folder=self.folder, port=free_port())

    def __enter__(self) -> Self:
        self.stub = self._started(self._stub_command)
        try:
            self.gateway = self._started(self._gateway_command)
        except BaseException:
            stop(self.stub, sharply=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stop(self.gateway, sharply=True)
        stop(self.stub, sharply=True)

    def kill_stub(self) -> None:
        """End the upstream as a crash does."""
        stop(self.stub, sharply=True)

    def revive_stub(self) -> None:
        """Start the upstream again on its port."""
        self.stub = self._started(self._stub_command)

    def kill_gateway(self) -> None:
        """End the gateway by SIGKILL."""
        stop(self.gateway, sharply=True)

    def revive_gateway(self) -> None:
        """Start the gateway again on its port, with its ledger."""
        self.gateway = self._started(self._gateway_command)

    def manner(self, fault: Fault) -> None:
        """Let every model of the stub have a fault from now on."""
        ours.set_manner(self.stub.port, Manner(fault=fault, models=_EVERYONE))

    async def ask(self, requests: int, *, leave: bool = False) -> list[ClientOutcome]:
        """Send requests, so many at once, and note how each ended."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one(session: aiohttp.ClientSession) -> ClientOutcome:
            async with places:
                outcome = await self._ask(session, leave=leave)
                self.outcomes.append(outcome)
                return outcome

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            return await asyncio.gather(*(one(session) for _ in range(requests)))

    async def under_way(self, task: "asyncio.Task[list[ClientOutcome]]") -> None:
        """Wait until some of what a task asks has ended."""
        before = len(self.outcomes)
        while len(self.outcomes) < before + BURST and not task.done():
            await asyncio.sleep(0.01)

    async def recover(self) -> None:
        """End the fault and see that everything works again."""
        self.stuck = max(self.stuck, await self.still_open())
        self.manner("none")
        await asyncio.sleep(1.0)  # longer than a breaker stays open
        self.after += await self.ask(BURST)

    async def still_open(self) -> int:
        """Wait until the upstream is free, for a second at most; return what is not."""
        deadline_s = time.monotonic() + FREED_S
        while (held := ours.stub_counts(self.stub.port).open) and time.monotonic() < deadline_s:
            await asyncio.sleep(0.05)
        return held

    async def _ask(self, session: aiohttp.ClientSession, *, leave: bool) -> ClientOutcome:
        number = next(self._ready.tags)
        tag, streamed = f"{number:0{TAG_DIGITS}d}", number % 2 == 0
        group, text = self._questions[number % len(self._questions)]
        body: dict[str, Any] = {
            "model": "suffice",
            "messages": [{"role": "user", "content": f"{text} #{tag}"}],
            "stream": streamed,
        }
        url = f"http://127.0.0.1:{self._gateway_command.port}/v1/chat/completions"
        began_s = time.monotonic()
        status, whole = None, False
        patience_s = LEFT_AFTER_S if leave and not streamed else DEADLINE_S + 2 * GRACE_S
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with (
                asyncio.timeout(patience_s),
                session.post(url, json=body, headers={"x-suffice-group": group or ""}) as reply,
            ):
                status = reply.status
                if leave and streamed:
                    await reply.content.readuntil(b"\n\n")
                    reply.close()
                else:
                    whole = _is_whole(await reply.read(), status=status, streamed=streamed)
        took_s = time.monotonic() - began_s
        return ClientOutcome(
            tag=tag, streamed=streamed, took_s=took_s, status=status, whole=whole, left=leave
        )

    def _started(self, command: Command) -> Running:
        cores = self._ready.cores
        core = cores.load if command is self._stub_command else cores.proxy
        server = start(command, core=core)
        try:
            wait_ready(server, command.ready)
        except BaseException:
            stop(server, sharply=True)
            raise
        return server


async def stalls(scene: Scene) -> None:
    """Let the upstream take requests and say nothing, or stop in the middle."""
    for fault in ("stall", "stall_midway"):
        scene.manner(fault)
        await scene.ask(BURST)
    await scene.recover()


async def resets(scene: Scene) -> None:
    """Let the upstream reset its connections in the middle of answers."""
    scene.manner("cut")
    await scene.ask(BURST)
    await scene.recover()


async def malformed(scene: Scene) -> None:
    """Let the upstream send what is no JSON, and go on."""
    scene.manner("malformed")
    await scene.ask(BURST)
    await scene.recover()


async def storm_429(scene: Scene) -> None:
    """Let the upstream refuse everything for a while: too many requests."""
    scene.manner("429")
    await scene.ask(2 * BURST)
    await scene.recover()


async def storm_500(scene: Scene) -> None:
    """Let the upstream fail at everything for a while."""
    scene.manner("500")
    await scene.ask(2 * BURST)
    await scene.recover()


async def disconnects(scene: Scene) -> None:
    """Clients leave in the middle of slow answers."""
    scene.manner("slow")
    await scene.ask(BURST, leave=True)
    await scene.recover()


async def upstream_killed(scene: Scene) -> None:
    """Kill the upstream in the middle of answers, and start it again later."""
    scene.manner("slow")
    asking = asyncio.create_task(scene.ask(BURST))
    await asyncio.sleep(0.5)
    scene.kill_stub()
    await asking
    await scene.ask(BURST)
    scene.revive_stub()
    await scene.recover()


async def gateway_killed(scene: Scene) -> None:
    """Kill the gateway under load, and start it again with the same ledger."""
    asking = asyncio.create_task(scene.ask(100 * BURST))
    await scene.under_way(asking)
    scene.kill_gateway()
    answered = {outcome.whole for outcome in await asking}
    if answered != {True, False}:
        raise Broken("the gateway was not killed in the middle of its work")
    scene.revive_gateway()
    await scene.recover()


async def disk_full(scene: Scene) -> None:
    """Fill up the disk of the ledger under load, and make space again."""
    for _ in range(100):
        outcomes = await scene.ask(BURST)
        if any(outcome.status == HTTPStatus.SERVICE_UNAVAILABLE for outcome in outcomes):
            break
    else:
        raise Broken("the disk did not fill up")
    await scene.ask(BURST)
    (scene.ledger.parent / _BALLAST).unlink()
    await asyncio.sleep(2.5)  # longer than the books wait before they try again
    await scene.recover()


Run = Callable[[Scene], Coroutine[Any, Any, None]]
_NEVER_WHOLE = (stalls, resets, malformed, storm_429, storm_500)  # while the fault lasts
_WITH_BREAKER = (storm_500, upstream_killed)
_UNANSWERED = (gateway_killed, disk_full)  # not every request is taken on


def run_faults(ready: Bed, policies: Policies) -> tuple[dict[str, Any], bool]:
    """Make every fault in turn; the figures, and whether all are 0."""
    verdicts: dict[str, FaultVerdict | None] = {}
    for run in (*_NEVER_WHOLE, disconnects, upstream_killed, gateway_killed):
        say(f"fault: {run.__name__}")
        lines = "" if run in _WITH_BREAKER else _NO_BREAKER
        with Scene(ready, policies, name=run.__name__, lines=lines) as scene:
            verdicts[run.__name__] = _judged(scene, run)
    say("fault: disk_full")
    with _small_disk(ready.folder / "disk") as disk:
        verdicts["disk_full"] = None
        if disk is not None:
            ledger = disk / "suffice.db"
            with Scene(ready, policies, name="disk_full", ledger=ledger) as scene:
                verdicts["disk_full"] = _judged(scene, disk_full)
    figures = {
        name: verdict and msgspec.structs.asdict(verdict) for name, verdict in verdicts.items()
    }
    return figures, all(verdict is None or verdict.right for verdict in verdicts.values())


def _judged(scene: Scene, run: Run) -> FaultVerdict:
    asyncio.run(run(scene))
    scene.gateway.check()
    during = [outcome for outcome in scene.outcomes if outcome not in scene.after]
    stop(scene.gateway)  # so that all it has to write is written
    books = read_books(scene.ledger)
    left = {each.tag for each in during if each.left and each.streamed}
    streamed = {outcome.tag: outcome.streamed for outcome in scene.outcomes}
    return FaultVerdict(
        wrong_charges=wrong_charges(books, streamed=streamed) + uncharged(books, left),
        lost_rows=sum(
            _must_be_booked(each, run) and each.tag not in books for each in scene.outcomes
        ),
        hung=sum(each.took_s > DEADLINE_S + GRACE_S for each in scene.outcomes),
        stuck_slots=scene.stuck,
        false_stops=sum(each.whole for each in during) if run in _NEVER_WHOLE else 0,
        not_recovered=sum(not each.whole for each in scene.after),
    )


def _must_be_booked(outcome: ClientOutcome, run: Run) -> bool:
    """Whether a request must have a row: every whole answer, and all that the gateway took on."""
    return outcome.whole or run not in _UNANSWERED


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a disk that is nearly full; None where that is not allowed."""
    folder.mkdir()
    command = ("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder))
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        say(f"no disk can be filled here: {done.stderr.strip()}")
        yield None
        return
    try:
        (folder / _BALLAST).write_bytes(bytes(3 << 20))
        yield folder
    finally:
        subprocess.run(("umount", "--lazy", str(folder)), check=True)


def _is_whole(body: bytes, *, status: int, streamed: bool) -> bool:
    """Whether a client would take this for a whole answer."""
    if status != HTTPStatus.OK or b'"error"' in body:
        return False
    return b"[DONE]" in body[-64:] if streamed else b'"usage"' in body
