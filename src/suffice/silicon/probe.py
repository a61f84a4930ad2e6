"""Measure what this machine reaches: bandwidth and matrix rate, written as a chip entry.

numpy measures the processor; where torch and a GPU exist, Triton kernels (`kernels`) measure the
GPU. Figures are the best of several runs: what the machine can do, not what it did on average.
"""

import os
import platform
import time
from collections.abc import Callable

import numpy as np

from suffice.silicon.catalog import ChipProbe, today

RUNS = 5
COPY_BYTES = 256 * 2**20
MATRIX = 1536


def run_probe(*, copy_bytes: int = COPY_BYTES, matrix: int = MATRIX, runs: int = RUNS) -> ChipProbe:
    """Measure the GPU where torch, Triton and one exist, else the processor."""
    try:
        from suffice.silicon.kernels import gpu_available, probe_gpu
    except ImportError:
        return probe_cpu(copy_bytes=copy_bytes, matrix=matrix, runs=runs)
    return (
        probe_gpu()
        if gpu_available()
        else probe_cpu(copy_bytes=copy_bytes, matrix=matrix, runs=runs)
    )


def probe_cpu(*, copy_bytes: int, matrix: int, runs: int = RUNS) -> ChipProbe:
    """Copy a buffer far larger than the caches, and multiply two square matrices."""
    source = np.ones(copy_bytes // 8)
    target = np.empty_like(source)
    copy_s = best_seconds(lambda: np.copyto(target, source), runs=runs)
    left = np.ones((matrix, matrix), np.float32)
    product_s = best_seconds(lambda: left @ left, runs=runs)
    return ChipProbe(
        device=f"{platform.machine()}, {os.cpu_count()} cores",
        memory_bytes=float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        copy_bytes_per_s=2 * source.nbytes / copy_s,
        matmul_flops_per_s=2.0 * matrix**3 / product_s,
        matmul_dtype="fp32",
        date=today(),
    )


def best_seconds(work: Callable[[], object], *, runs: int) -> float:
    """Return the shortest of several runs, after one that is not counted."""
    work()
    durations = []
    for _ in range(runs):
        begin = time.perf_counter()
        work()
        durations.append(time.perf_counter() - begin)
    return min(durations)
