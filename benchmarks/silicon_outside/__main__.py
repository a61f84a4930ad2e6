"""A check on data never trained on: `python -m benchmarks.silicon_outside --data PATH --json`.

Argonne's LLM-Inference-Bench (2024): seconds to answer a full batch of equal requests with 16-bit
weights on A100, H100, GH200, MI250, MI300X and Gaudi 2. Only H100 and MI300X are in the training
data, with engines of a year later. Prints by chip the median of measured over predicted, the
median error, the error left when that median is taken out, and the share of rows in the 90 %
interval.

`open_arrivals` are vLLM runs on H100 whose requests arrive at random (`open_arrivals.py`): errors
of TTFT and ITL by load, beside the simulators of the suite. `alone` says how TTFT of the training
rows with few requests in flight compares with the same physics.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inputs import benchmark_parser
from benchmarks.silicon import data as silicon_data
from benchmarks.silicon_outside.open_arrivals import measure_alone, measure_runs
from suffice.silicon.catalog import catalogue
from suffice.silicon.columns import ConfigTable
from suffice.silicon.layouts import fits
from suffice.silicon.measured import Record, table_of
from suffice.silicon.models import built_in_shapes
from suffice.silicon.residual import predict
from suffice.silicon.roofline import Array

TABLE = "silicon/argonne_llm_inference_bench.csv"
ENGINES = {"vLLM", "TensorRT-LLM", "Deepspeed"}
Row = dict[str, str]


def main() -> None:
    parser = benchmark_parser(__package__, __doc__, data=True)
    arguments = parser.parse_args()
    result = measure(arguments.data)
    lines = "\n".join(f"{key}: {value}" for key, value in result.items())
    print(json.dumps(result) if arguments.json else lines)


def measure(data: Path) -> dict[str, Any]:
    """Compare every row of a known chip, model and engine that fits in memory."""
    raw = [row for row in silicon_data.read_csv(data, TABLE) if _usable(row)]
    table = table_of([_record(row) for row in raw])
    prediction, room = predict(table), fits(table)
    seconds = np.array([float(row["latency_s"]) for row in raw])
    error = np.log(seconds / (table.output_tokens * prediction.tpot_s))[room]
    half = np.log(prediction.tpot_high_s / prediction.tpot_s)[room]
    chips = np.array([chip.key for chip in table.chips])[table.chip][room]
    masks = {chip: chips == chip for chip in np.unique(chips)}
    by_chip = {chip: _summary(error[mask], half[mask]) for chip, mask in masks.items()}
    return {
        "rows": int(room.sum()),
        "left_out": _left_out(table, room),
        **by_chip,
        "open_arrivals": measure_runs(data),
        "alone": measure_alone(data),
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


def _left_out(table: ConfigTable, room: Array) -> int:
    return int(len(table) - room.sum())


def _usable(row: Row) -> bool:
    """Whether a row has a chip, model and engine that the planner knows and adds up."""
    chips = {name for chip in catalogue().values() for name in (chip.key, *chip.aliases)}
    models = {name.lower() for s in built_in_shapes().values() for name in (s.name, *s.aliases)}
    known = row["hardware"].lower() in chips and _model(row) in models
    return known and row["framework"] in ENGINES and row["throughput_consistent"] == "True"


def _model(row: Row) -> str:
    return row["model"].rpartition("/")[2].lower()


def _record(row: Row) -> Record:
    """Read one row: lengths in and out are equal, all devices share one tensor-parallel replica."""
    return Record(
        model=_model(row),
        chip=row["hardware"],
        engine=row["framework"],
        batch=float(row["batch_size"]),
        input_tokens=float(row["io_len_each"]),
        output_tokens=float(row["io_len_each"]),
        tp=int(row["n_devices"]),
        dense_format="bf16",
        kv_format="bf16",
    )


if __name__ == "__main__":
    main()
