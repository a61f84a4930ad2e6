"""How much a rung is given at once, and when a rung that keeps failing is left alone."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from suffice.config import GatewayConfig
from suffice.errors import EngineError, EngineRefused, EngineUnreachable
from suffice.gateway.problems import Problem
from suffice.types import Rung

TRIAL_WAIT_S = 1.0  # that calls wait for the trial of a rung which was left alone
CLIENT: ContextVar[str] = ContextVar("CLIENT", default="")  # whose request a task answers
_MOST_CLIENTS = 1_000
_ENGINE_STATUSES = frozenset({429, 502, 503, 529})


class Slots:
    """Lets so many through at once, has so many wait in line, and turns the rest away with 429."""

    def __init__(self, name: str, config: GatewayConfig) -> None:
        self.inside = 0
        self._name, self._config = name, config
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    async def enter(self) -> None:
        """Wait for a place; raises Problem 429 when the line is full or too slow."""
        if self.take():
            return
        if len(self._line) >= self._config.rung_queue:
            raise self._turned_away("has as many requests waiting as it may")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            async with asyncio.timeout(self._config.queue_timeout_s):
                await place
        except BaseException as error:
            self._step_back(place)
            if isinstance(error, TimeoutError):
                raise self._turned_away("had no place in time") from error
            raise

    def take(self) -> bool:
        """Take a place if one is free at once."""
        if self.inside >= self._config.rung_concurrency:
            return False
        self.inside += 1
        return True

    def leave(self) -> None:
        """Give the place to the next in line."""
        while self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.inside -= 1

    def _step_back(self, place: "asyncio.Future[None]") -> None:
        if place in self._line:
            self._line.remove(place)
        elif place.done() and not place.cancelled():
            self.leave()  # the place was given just as its owner left

    def _turned_away(self, why: str) -> Problem:
        return Problem(
            f"rung {self._name!r} {why}",
            status=429,
            code="rung_busy",
            hint="try again later; the operator may raise gateway.rung_concurrency",
            retry_after_s=1,
        )


class Circuit:
    """Opens after some failures in a row, and lets one call through to try again after a while.

    Calls that come during the trial wait a little for what becomes of it: an engine that is back
    refuses nobody. Where calls failed at once, one that lasts longer than that is a sign of life.
    """

    def __init__(self, name: str, config: GatewayConfig) -> None:
        self.failures = 0
        self._name, self._config = name, config
        self._shut_until_s = 0.0
        self._trial: asyncio.Event | None = None
        self._silent = False

    @property
    def is_open(self) -> bool:
        """Whether calls are turned away at the moment."""
        return time.monotonic() < self._shut_until_s

    @property
    def state(self) -> int:
        """0 closed, 1 half open (the next call is the trial), 2 open."""
        return 2 if self.is_open else int(self.failures >= self._config.breaker_failures)

    async def admit(self) -> None:
        """Raise EngineUnreachable while open; the first call after that is the trial."""
        if self.is_open and self._trial is not None:
            try:
                await asyncio.wait_for(self._trial.wait(), TRIAL_WAIT_S)
            except TimeoutError:
                if not self._silent:
                    return
        if self.is_open:
            raise EngineUnreachable(
                f"rung {self._name!r} failed {self.failures} times in a row and is left alone",
                hint="it is tried again by itself; see to its engine",
                retryable=True,
                unsent=True,
            )
        if self.failures >= self._config.breaker_failures:
            self._trial = asyncio.Event()
            self._shut_until_s = time.monotonic() + self._config.breaker_open_s

    def end_trial(self) -> None:
        """Let go who waits for a trial."""
        if self._trial is not None:
            self._trial.set()
            self._trial = None

    def note(self, *, failed: bool, silent: bool = False) -> None:
        """Take the outcome of a call; one that was `silent` failed after a long wait."""
        self.end_trial()
        self._silent = silent
        if not failed:
            self.failures, self._shut_until_s = 0, 0.0
            return
        self.failures += 1
        if self.failures >= self._config.breaker_failures:
            self._shut_until_s = time.monotonic() + self._config.breaker_open_s


class Breaker:
    """Leaves a rung alone that keeps failing: for all, or for the client whose requests fail.

    An error that one request can bring about (a 500, a silence) counts for its client, and for all
    but once in a row: one client cannot shut the others out. A connection that fails and a 502, 503
    or 529 count for all. An error that a retry cannot mend says nothing of health.
    """

    def __init__(self, name: str, config: GatewayConfig) -> None:
        self._name, self._config = name, config
        self._all = Circuit(name, config)
        self._clients: OrderedDict[str, Circuit] = OrderedDict()

    @property
    def state(self) -> int:
        """0 closed, 1 half open (the next call is the trial), 2 open, for all."""
        return self._all.state

    async def admit(self) -> None:
        """Raise EngineUnreachable while the rung is left alone."""
        own = self._clients.get(CLIENT.get())
        if own is not None:
            await own.admit()
        await self._all.admit()

    def note(self, error: EngineError | None) -> None:
        """Take the outcome of a call."""
        client = CLIENT.get()
        if error is None or not error.retryable:
            self._clients.pop(client, None)
            self._all.note(failed=False)
            return
        silent = isinstance(error, EngineUnreachable) and error.silent
        if not _of_request(error):
            self._all.note(failed=True)
            return
        own = self._clients.setdefault(client, Circuit(self._name, self._config))
        self._clients.move_to_end(client)
        if len(self._clients) > _MOST_CLIENTS:
            self._clients.popitem(last=False)
        own.note(failed=True, silent=silent)
        if own.failures == 1:
            self._all.note(failed=True, silent=silent)
        else:
            self._all.end_trial()


def _of_request(error: EngineError) -> bool:
    """Whether one odd request may have brought an error about, and not the engine's own state."""
    if isinstance(error, EngineRefused):
        return error.status not in _ENGINE_STATUSES
    return not (isinstance(error, EngineUnreachable) and not error.silent)


class Places:
    """The slots and the breaker of every rung."""

    def __init__(self, names: Iterable[str], config: GatewayConfig) -> None:
        names = tuple(names)
        self.slots = {name: Slots(name, config) for name in names}
        self.breakers = {name: Breaker(name, config) for name in names}

    @property
    def idle(self) -> bool:
        """Whether nobody is inside, or waits."""
        return not any(slots.inside or slots.waiting for slots in self.slots.values())

    @contextmanager
    def spare(self, rung: Rung) -> Iterator[bool]:
        """Say whether a second call may be made now, and keep its slot: a rung that fails has none.

        What comes of the call is learned by `place`, for the first one.
        """
        slots = self.slots[rung.name]
        free = self.breakers[rung.name].state == 0 and slots.take()
        try:
            yield free
        finally:
            if free:
                slots.leave()

    @asynccontextmanager
    async def place(self, rung: Rung) -> AsyncIterator[None]:
        """Take a slot of a rung for a call, and learn from it how the rung is.

        Raises EngineUnreachable while the rung is left alone, and Problem 429 when it is full.
        """
        slots, breaker = self.slots[rung.name], self.breakers[rung.name]
        await breaker.admit()
        await slots.enter()
        try:
            yield
        except EngineError as error:
            breaker.note(error)
            raise
        else:
            breaker.note(None)
        finally:
            slots.leave()
