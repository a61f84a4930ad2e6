"""How fast the planner is: rows a second, beside numpy in the same run, and the whole command."""

import functools
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from suffice.silicon.basis import BLOCK_ROWS
from suffice.silicon.columns import ConfigTable
from suffice.silicon.predict import predict
from suffice.silicon.residual import trained

ROWS = 1_000_000
RUNS = 3
PLAN = "plan --model mistral-small-4 --slo ttft=1s,tpot=50ms --workload in=1000,out=500,rps=20"
PLANS = {"plain": PLAN, "percentile": f"{PLAN},variation=1 --percentile 95"}


def configs_per_s(table: ConfigTable) -> float:
    """Time what ships, on two threads: physics, residual and interval, in rows a second."""
    many = _rows(table, ROWS)
    predict(many.take(slice(0, 50_000)), threads=2)
    taken = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        predict(many, threads=2)
        taken.append(time.perf_counter() - begin)
    return ROWS / min(taken)


def share_of_numpy_speed(table: ConfigTable) -> float:
    """Seconds of the network's products and exponentials in numpy alone, over those of predicting.

    Both on one thread in processor seconds of the same run, so that machines can be compared.
    """
    many, learned, rng = _rows(table, ROWS // 5), trained(), np.random.default_rng(0)
    shape = (len(learned.centres), len(learned.mean))
    centres = rng.normal(size=shape).astype(np.float32) / 8
    features = rng.normal(size=(shape[1], BLOCK_ROWS)).astype(np.float32)
    basis = np.empty((shape[0], BLOCK_ROWS), np.float32)

    def network() -> None:
        for _ in range(len(many) // BLOCK_ROWS):
            np.exp(np.matmul(centres, features, out=basis), out=basis)

    with threadpool_limits(limits=1, user_api="blas"):
        alone, whole = (
            min(_processor_seconds(task) for _ in range(RUNS))
            for task in (network, functools.partial(predict, many))
        )
    return alone / whole


def plan_seconds() -> dict[str, dict[str, float]]:
    """Least seconds of the whole `suffice plan` over all chips: on the clock, of the processor."""
    return {name: _command_seconds(words.split()) for name, words in PLANS.items()}


def _command_seconds(words: list[str]) -> dict[str, float]:
    clock, processor = [], []
    for _ in range(RUNS):
        begin, used = time.perf_counter(), _used_by_children()
        command = [sys.executable, "-m", "suffice", *words]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        clock.append(time.perf_counter() - begin)
        processor.append(_used_by_children() - used)
    return {"clock": min(clock), "processor": min(processor)}


def _used_by_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _rows(table: ConfigTable, count: int) -> ConfigTable:
    return table.take(np.random.default_rng(0).integers(0, len(table), count))


def _processor_seconds(task: Callable[[], object]) -> float:
    begin = time.process_time()
    task()
    return time.process_time() - begin
