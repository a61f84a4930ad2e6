"""Throughput of MLPerf Inference v5.1 submissions, which no fit has seen, against plans for them.

A plan knows the chip, the number format and the task's lengths and limits; layout and batch are its
own choice, as they were the submitter's. One fleet of chips both reads and writes.

The summary holds no lengths. Limits are those of mlcommons/inference `loadgen/mlperf.conf`, tokens
out those of its `submission_checker/constants.py` (TOKENS_PER_SAMPLE). Of
llama3.1-8b it checks characters: 8,167,644 over 13,368 summaries are 611 each, cut at 128 tokens.
Tokens in are those of the tasks' announcements on mlcommons.org, which no file of the repository
repeats. How widely lengths vary is published nowhere: their standard deviation is taken to be their
mean, as in most logs of requests.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.silicon import data as silicon_data
from suffice.errors import InputError
from suffice.silicon.models import find_shape
from suffice.silicon.plan import make_plan
from suffice.silicon.question import PlanRequest, Slo, Workload

TABLE = "silicon/mlperf_v5.1_summary_llm.csv"
CHIPS = {
    "NVIDIA B200-SXM-180GB": "b200",
    "NVIDIA H200-SXM-141GB": "h200",
    "NVIDIA H100-SXM-80GB": "h100",
    "NVIDIA GB200": "gb200",
    "NVIDIA GB300": "gb300",
    "NVIDIA L40S": "l40s",
    "AMD Instinct MI300X 192GB HBM3": "mi300x",
    "AMD Instinct MI325X 256GB HBM3e": "mi325x",
}
FORMATS = {"fp8": "fp8", "fp4": "nvfp4", "mxfp4": "mxfp4"}
PERCENTILE = 99.0
VARIATION = 1.0
Row = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class MlperfTask:
    """A task: the model, mean tokens in and out, and limits (TTFT, TPOT) in seconds by scenario."""

    model: str
    input_tokens: float
    output_tokens: float
    server: tuple[float, float] | None = None
    interactive: tuple[float, float] | None = None


TASKS = {
    "llama2-70b": MlperfTask(
        model="llama-2-70b",
        input_tokens=294,
        output_tokens=294,
        server=(2.0, 0.2),
        interactive=(0.45, 0.04),
    ),
    "llama3.1-405b": MlperfTask(
        model="llama-3-405b",
        input_tokens=9428,
        output_tokens=684,
        server=(6.0, 0.175),
        interactive=(4.5, 0.08),
    ),
    "llama3.1-8b": MlperfTask(
        model="llama-3-8b",
        input_tokens=778,
        output_tokens=128,
        server=(2.0, 0.1),
        interactive=(0.5, 0.03),
    ),
    "mixtral-8x7b": MlperfTask(
        model="mixtral-8x7b", input_tokens=348, output_tokens=145, server=(2.0, 0.2)
    ),
    "deepseek-r1": MlperfTask(
        model="deepseek-r1", input_tokens=850, output_tokens=3880, server=(2.0, 0.08)
    ),
}


def measure_mlperf(data: Path) -> dict[str, Any]:
    """Compare tokens a second and chip of closed submissions with plans, by scenario."""
    planned: dict[tuple[str, str, str, str], tuple[float, float] | None] = {}
    ratios: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in silicon_data.read_csv(data, TABLE):
        task = re.sub(r"-99(\.9)?$", "", row["model"])
        key = (task, row["accelerator"], row["weight_dtype"], row["scenario"].lower())
        if not _usable(row, task=task):
            continue
        if key not in planned:
            planned[key] = _plan(*key)
        plan = planned[key]
        if plan is not None:
            measured = float(row["result"]) / (int(row["n_accel"]) * int(row["nodes"]))
            ratios[row["scenario"].lower()].append((measured / plan[0], plan[1]))
    return {scenario: _summary(values) for scenario, values in sorted(ratios.items())}


def _usable(row: Row, *, task: str) -> bool:
    known = task in TASKS and row["accelerator"] in CHIPS and row["weight_dtype"] in FORMATS
    return known and row["division"] == "closed" and row["units"] == "Tokens/s"


def _plan(task: str, accelerator: str, dtype: str, scenario: str) -> tuple[float, float] | None:
    """Return tokens a second and chip, and half the interval in log time; None if none fits."""
    work, chip = TASKS[task], CHIPS[accelerator]
    limits = None if scenario == "offline" else getattr(work, scenario, None)
    if scenario != "offline" and limits is None:
        return None
    request = PlanRequest(
        model=find_shape(work.model),
        workload=Workload(
            input_tokens=work.input_tokens,
            output_tokens=work.output_tokens,
            variation=0.0 if limits is None else VARIATION,
        ),
        chips=(chip,),
        engine="vllm" if chip.startswith("mi") else "trtllm",
        weight_format=FORMATS[dtype],
        cache_format="fp8",
        slo=Slo() if limits is None else Slo(ttft_s=limits[0], tpot_s=limits[1]),
        percentile=None if limits is None else PERCENTILE,
        apart=False,
    )
    try:
        best = make_plan(request).ranking[0]
    except InputError:
        return None
    rate = best.requests_per_s * work.output_tokens / best.replica_chips
    return rate, float(np.log(best.tpot_high_s / best.tpot_s))


def _summary(values: list[tuple[float, float]]) -> dict[str, float]:
    ratio, half = np.array(values).T
    return {
        "rows": len(ratio),
        "median_error": float(np.median(np.abs(1 / ratio - 1))),
        "measured_over_predicted": float(np.median(ratio)),
        "interval_coverage": float((np.abs(np.log(ratio)) <= half).mean()),
    }
