"""TTFT and ITL of vLLM under requests that arrive at random: runs that no fit has seen.

The runs are those of inference-sim/sim-to-real-accuracy-validation; lengths and rates stand in its
plan 2026-03-04-sim-to-real-accuracy-validation-design.md, section 1. The `lite` runs have
rates that are published nowhere: half of the full ones is taken.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.silicon import data as silicon_data
from suffice.errors import InputError
from suffice.silicon.columns import ConfigTable
from suffice.silicon.first_token import under_arrivals
from suffice.silicon.measured import Record, seconds, table_of
from suffice.silicon.models import find_shape
from suffice.silicon.predict import predict
from suffice.silicon.roofline import Array

TRUTH = "silicon/blis_vllm_ground_truth.csv"
PEERS = "silicon/peer_blis_suite_predictions.csv"
INPUT_TOKENS = {"general": 547.0, "codegen": 566.0, "roleplay": 750.0, "reasoning": 1034.0}
STAGES_PER_S = {"general": (8, 20), "codegen": (5, 10), "roleplay": (6,), "reasoning": (4,)}
LITE_SHARE = 0.5
SUMMARY = "-1"
ALONE = (2, 4)
LOADS = {"low": (0.0, 25.0), "medium": (25.0, 100.0), "saturated": (100.0, np.inf)}


def measure_runs(data: Path) -> dict[str, Any]:
    """Compare every run of a known model with its prediction, by load and beside simulators."""
    runs: dict[str, dict[str, Any]] = defaultdict(dict)
    for row in silicon_data.read_csv(data, TRUTH):
        if row["stage_index"] == SUMMARY:
            run = runs[row["experiment"]]
            run["row"], run[row["metric_name"]] = row, float(row["actual_ms"]) / 1e3
    known = [run for run in runs.values() if _known(run["row"]["model"])]
    table = table_of([_record(run) for run in known])
    prediction = under_arrivals(table, predict(table))
    ttft = np.array([run["ttft_mean"] for run in known])
    itl = np.array([run["itl_mean"] for run in known])
    result = {
        "runs": len(known),
        "left_out": sorted({run["row"]["model"] for run in runs.values()} - _models(known)),
        "ttft": _errors(ttft, prediction.ttft_s, prediction.ttft_low_s, prediction.ttft_high_s),
        "itl": _errors(itl, prediction.tpot_s, prediction.tpot_low_s, prediction.tpot_high_s),
        "simulators": _simulators(data),
    }
    for load, (low, high) in LOADS.items():
        here = (table.batch >= low) & (table.batch < high)
        result[f"ttft_{load}"] = _errors(
            ttft[here],
            prediction.ttft_s[here],
            prediction.ttft_low_s[here],
            prediction.ttft_high_s[here],
        )
    return result


def measure_alone(data: Path) -> dict[str, float]:
    """Measured over physical TTFT at 2 to 4 requests in flight, of the rows that are trained on.

    EXPERT_READING is the value at which the two medians are equal.
    """
    rows = silicon_data.read_csv(data, silicon_data.SAMPLE)
    records = [silicon_data.sample_record(row) for row in rows]
    table, (_, ttft) = table_of(records), seconds(records)
    few = (table.batch >= ALONE[0]) & (table.batch <= ALONE[1]) & (table.prefill_chips == 0)
    table, ttft = table.take(few), ttft[few]
    experts = _has_experts(table)
    ratio = ttft / under_arrivals(table, predict(table)).ttft_s
    known = np.isfinite(ratio)
    return {
        "rows": int(known.sum()),
        "dense": float(np.median(ratio[known & ~experts])),
        "experts": float(np.median(ratio[known & experts])),
    }


def _has_experts(table: ConfigTable) -> Array:
    return np.array([model.experts is not None for model in table.models])[table.model]


def _known(model: str) -> bool:
    try:
        find_shape(model)
    except InputError:
        return False
    return True


def _models(runs: list[dict[str, Any]]) -> set[str]:
    return {run["row"]["model"] for run in runs}


def _record(run: dict[str, Any]) -> Record:
    """Describe a run; requests in flight follow from its rate and its seconds by Little's law.

    Requests spend as long in each stage, so a stage counts by its rate.
    """
    row = run["row"]
    work = row["workload"].removesuffix("-lite")
    stages = STAGES_PER_S[work]
    rate = sum(stage**2 for stage in stages) / sum(stages)
    rate *= LITE_SHARE if "lite" in row["experiment"] or "lite" in row["workload"] else 1
    output = (run["e2e_mean"] - run["ttft_mean"]) / run["itl_mean"] + 1
    return Record(
        model=row["model"],
        chip=row["hardware"],
        engine="vllm",
        batch=max(rate * run["e2e_mean"], 1.0),
        input_tokens=INPUT_TOKENS[work],
        output_tokens=output,
        tp=int(float(row["tp"])),
        dense_format="fp8" if row["precision"] == "FP8" else "bf16",
        kv_format="bf16",
    )


def _errors(measured: Array, middle: Array, low: Array, high: Array) -> dict[str, float]:
    if not len(measured):
        return {"runs": 0}
    return {
        "runs": len(measured),
        "median_error": float(np.median(np.abs(middle / measured - 1))),
        "measured_over_predicted": float(np.median(measured / middle)),
        "interval_coverage": float(((low <= measured) & (measured <= high)).mean()),
    }


def _simulators(data: Path) -> dict[str, dict[str, float]]:
    """Median errors of the simulators of the suite, over the runs that each could predict."""
    errors: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in silicon_data.read_csv(data, PEERS):
        if row["stage_index"] == SUMMARY and row["mape"]:
            errors[row["simulator"]][row["metric_name"]].append(float(row["mape"]) / 100)
    return {
        name: {
            metric: float(np.median(values[metric]))
            for metric in ("ttft_mean", "itl_mean")
            if values[metric]
        }
        for name, values in errors.items()
    }
