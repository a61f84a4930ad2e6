"""Engines of 2024: Argonne's LLM-Inference-Bench, whose rows no fit of the middle has seen.

They say how many times longer steps took before the releases that were trained on, and how wide an
interval must be for a release that was not measured.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.silicon import data as silicon_data
from benchmarks.silicon.intervals import OLDER, Errors, term_columns
from benchmarks.silicon.learn import Groups, PointPredictors
from suffice.silicon.catalog import catalogue
from suffice.silicon.columns import ConfigTable
from suffice.silicon.intervals import Coverage
from suffice.silicon.layouts import fits
from suffice.silicon.measured import Record, table_of
from suffice.silicon.models import built_in_shapes
from suffice.silicon.roofline import Array

TABLE = "silicon/argonne_llm_inference_bench.csv"
ENGINES = {"vLLM", "TensorRT-LLM", "Deepspeed"}
Row = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class OlderRuns:
    """Runs of whole batches of equal requests, in 16 bits; `seconds` are those of all tokens.

    `without_room` counts the rows left out because memory cannot hold their batch.
    """

    table: ConfigTable
    seconds: Array
    chip: Groups
    without_room: int


def older_runs(data: Path) -> OlderRuns:
    """Read every row of a known chip, model and engine that fits in memory."""
    raw = [row for row in silicon_data.read_csv(data, TABLE) if _usable(row)]
    table = table_of([_record(row) for row in raw])
    table = replace(table, version=np.full(len(table), -1.0))
    room = fits(table)
    return OlderRuns(
        table=table.take(room),
        seconds=np.array([float(row["latency_s"]) for row in raw])[room],
        chip=np.array([chip.key for chip in table.chips])[table.chip][room],
        without_room=int(len(table) - room.sum()),
    )


def older_factors(runs: OlderRuns, error: Array, *, without: str = "") -> dict[str, float]:
    """By vendor, how many times longer steps took: the mean over its chips in log time.

    `error` is log(measured / predicted) with releases left out of account. `other` is the mean over
    all chips. The chip `without` is left out.
    """
    vendors = {chip.key: chip.vendor for chip in runs.table.chips}
    moves: dict[str, list[float]] = {}
    for chip in np.unique(runs.chip):
        if chip != without:
            move = float(np.median(error[runs.chip == chip]))
            moves.setdefault(vendors[chip], []).append(move)
    every = [move for several in moves.values() for move in several]
    known = {vendor: several for vendor, several in moves.items() if len(several) > 1}
    return {
        vendor: round(float(np.exp(np.mean(several))), 3)
        for vendor, several in {**known, "other": every}.items()
    }


def older_errors(
    runs: OlderRuns, fitted: PointPredictors, *, coverage: Coverage
) -> tuple[Errors, Array]:
    """Return the errors that are left with each chip's factor from the others, and those before."""
    tpot, _, distance = fitted.predict(runs.table)
    error = np.log(runs.seconds / runs.table.output_tokens) - tpot
    engines = runs.table.engine.astype(str)
    models = np.array([model.name for model in runs.table.models])[runs.table.model]
    groups = zip(models, runs.chip, engines, strict=True)
    errors = Errors(
        terms=term_columns(runs.table, distance=distance, coverage=coverage),
        error=error - np.log(factor_by_row(runs, error)),
        group=np.array(["|".join((OLDER, *group)) for group in groups]),
        left_out=np.full(len(error), OLDER),
        source=np.full(len(error), OLDER),
    )
    return errors, error


def factor_by_row(runs: OlderRuns, error: Array) -> Array:
    """Return each row's factor as it is known without its own chip."""
    out = np.ones(len(error))
    vendors = {chip.key: chip.vendor for chip in runs.table.chips}
    for chip in np.unique(runs.chip):
        factors = older_factors(runs, error, without=chip)
        out[runs.chip == chip] = factors.get(vendors[chip], factors["other"])
    return out


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
