"""What a worker does between requests: steps that run again and again, whatever goes wrong.

A step that raises is logged, counted and run again. One that has not come to its end for
`HEARTBEAT_S` makes the worker unready: a watch that hangs sees no alarm and no revoked key.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from suffice.errors import SufficeError
from suffice.gateway.metrics.families import HEARTBEAT, LOOP_LAG, UPKEEP_ERRORS
from suffice.gateway.metrics.registry import Metrics

HEARTBEAT_S = 30.0
LAG_EVERY_S = 0.05
LAG_LIMIT_S = 5.0  # a loop that was held up for longer answers nobody in time
LAG_MEMORY_S = 10.0
_log = logging.getLogger("suffice.gateway")
Step = Callable[[], Awaitable[None]]


class Upkeep:
    """Runs each step every `every_s` seconds in a task of its own, and measures the loop's lag."""

    def __init__(self, steps: Mapping[str, Step], *, metrics: Metrics, every_s: float) -> None:
        self._steps = steps
        self._metrics = metrics
        self._every_s = every_s
        self._beats = dict.fromkeys(steps, time.monotonic())
        self._lagged: tuple[float, float] = (0.0, 0.0)  # when, and for how long
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; needs a running loop."""
        self._beats = dict.fromkeys(self._steps, time.monotonic())
        tasks = (self._repeat(name, step) for name, step in self._steps.items())
        self._tasks = [asyncio.create_task(task) for task in (*tasks, self._measure_lag())]

    async def stop(self) -> None:
        """End all steps, in the middle where need be."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def why_unready(self) -> str | None:
        """Say which step hangs, or that the loop does; None while all is well."""
        now_s = time.monotonic()
        for name, beat_s in self._beats.items():
            if now_s - beat_s > HEARTBEAT_S:
                return f"the watch of {name} has not come round for {now_s - beat_s:.0f} s"
        lagged_s, lag_s = self._lagged
        if lag_s > LAG_LIMIT_S and now_s - lagged_s < LAG_MEMORY_S:
            return f"the process was held up for {lag_s:.1f} s"
        return None

    def measure(self) -> None:
        """Set the gauges to what they are now."""
        for name, beat_s in self._beats.items():
            self._metrics.set(HEARTBEAT, (name,), to=time.monotonic() - beat_s)

    async def _repeat(self, name: str, step: Step) -> None:
        last = ""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await step()
            except Exception as error:  # noqa: BLE001 - a watch that ends sees nothing any more
                self._metrics.add(UPKEEP_ERRORS, (name,))
                if not isinstance(error, SufficeError):
                    _log.error("an error inside the watch of %s", name, exc_info=error)
                elif str(error) != last:
                    _log.warning("the watch of %s: %s", name, error.message)
                last = str(error)
            else:
                self._beats[name], last = time.monotonic(), ""

    async def _measure_lag(self) -> None:
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(LAG_EVERY_S)
            now_s = time.monotonic()
            lag_s = max(0.0, now_s - began_s - LAG_EVERY_S)
            self._metrics.observe(LOOP_LAG, value=lag_s)
            if lag_s > LAG_LIMIT_S:
                self._lagged = (now_s, lag_s)
