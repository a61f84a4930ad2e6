"""A check on data never trained on: `python -m benchmarks.silicon_outside --data PATH --json`.

Argonne's LLM-Inference-Bench (2024): seconds to answer a full batch of equal requests with 16-bit
weights on A100, H100, GH200, MI250, MI300X and Gaudi 2. Only H100 and MI300X are in the training
data, with engines of a year later; how much slower engines of 2024 were, by vendor, and how wide
intervals are for them, was taken from these rows. Prints by chip the median of measured over
predicted, the median error, the error left when that median is taken out, and the share of rows in
the 90 % interval.

`open_arrivals` are vLLM runs on H100 whose requests arrive at random (`open_arrivals.py`): errors
of TTFT and ITL by load, beside the simulators of the suite. `alone` says how TTFT of the training
rows with few requests in flight compares with the same physics. `mlperf` are the throughputs of
MLPerf v5.1 (`mlperf.py`).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inputs import benchmark_parser
from benchmarks.silicon.older import older_runs
from benchmarks.silicon_outside.mlperf import measure_mlperf
from benchmarks.silicon_outside.open_arrivals import measure_alone, measure_runs
from suffice.silicon.predict import predict
from suffice.silicon.roofline import Array


def main() -> None:
    parser = benchmark_parser(__package__, __doc__, data=True)
    arguments = parser.parse_args()
    result = measure(arguments.data)
    lines = "\n".join(f"{key}: {value}" for key, value in result.items())
    print(json.dumps(result) if arguments.json else lines)


def measure(data: Path) -> dict[str, Any]:
    """Compare every row of a known chip, model and engine that fits in memory."""
    runs = older_runs(data)
    prediction = predict(runs.table)
    error = np.log(runs.seconds / (runs.table.output_tokens * prediction.tpot_s))
    half = np.log(prediction.tpot_high_s / prediction.tpot_s)
    masks = {chip: runs.chip == chip for chip in np.unique(runs.chip)}
    by_chip = {chip: _summary(error[mask], half[mask]) for chip, mask in masks.items()}
    return {
        "rows": len(error),
        "left_out": runs.without_room,
        **by_chip,
        "open_arrivals": measure_runs(data),
        "alone": measure_alone(data),
        "mlperf": measure_mlperf(data),
    }


def _summary(error: Array, half: Array) -> dict[str, float]:
    """Ratios and errors of seconds; the middle error is that of log time without its median."""
    middle = float(np.median(error))
    return {
        "rows": len(error),
        "measured_over_predicted": float(np.exp(middle)),
        "median_error": float(np.median(np.abs(np.exp(-error) - 1))),
        "median_error_without_offset": float(np.median(np.abs(np.exp(middle - error) - 1))),
        "interval_coverage": float((np.abs(error) <= half).mean()),
    }


if __name__ == "__main__":
    main()
