"""Train what the silicon planner ships: `python -m benchmarks.silicon.fit --data PATH`."""

import argparse
import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.silicon import data as silicon_data
from benchmarks.silicon import intervals, learn
from benchmarks.silicon.older import TABLE as OLDER_TABLE
from benchmarks.silicon.older import older_errors, older_factors, older_runs
from suffice.silicon.columns import ENGINES
from suffice.silicon.intervals import Coverage, Interval, coverage_of, release_numbers
from suffice.silicon.residual import Kernel
from suffice.silicon.roofline import Array

OUT = Path("src/suffice/silicon/data/trained.json")
FOLDS = 10
FIRST_RELEASE = {"trtllm": (1,), "vllm": (0, 10), "sglang": (0, 5)}
"""Versions of the table below these belong to other packages (NVIDIA Dynamo)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    rows, sources = training_rows(arguments.data), source_names(arguments.data)
    coverage = training_coverage(rows, arguments.data)
    ways = left_out_ways(rows, sources)
    fitted, runs = learn.fit(rows), older_runs(arguments.data)
    older, error = older_errors(runs, fitted, coverage=coverage)
    by_target = [intervals.collect(rows, ways, target=i, source=sources) for i in (0, 1)]
    by_target[0] = intervals.join_errors([by_target[0], older])
    widths = [fit_interval(errors) for errors in by_target]
    held = ways["group"][1]
    kernels = [
        calibration_kernel(rows, error=error / new_source_width(rows, interval, held=held))
        for error, interval in zip(log_errors(rows, held), widths, strict=True)
    ]
    origin = learn.Provenance(
        made_by="python -m benchmarks.silicon.fit --data DATA",
        data=(silicon_data.SAMPLE, silicon_data.DASHBOARD, OLDER_TABLE),
        date=dt.datetime.now(tz=dt.UTC).date().isoformat(),
    )
    learned = learn.assemble(
        fitted,
        intervals=(widths[0], widths[1]),
        kernels=(kernels[0], kernels[1]),
        coverage=coverage,
        older=older_factors(runs, error),
        origin=origin,
    )
    arguments.out.write_bytes(msgspec.json.encode(learned))
    print(msgspec.json.encode([widths, learned.older, kernels]).decode())


def training_rows(data: Path) -> learn.MeasuredRows:
    """Both tables of measurements, with renamed twins of a model in one group."""
    first = [
        silicon_data.sample_record(row) for row in silicon_data.read_csv(data, silicon_data.SAMPLE)
    ]
    return silicon_data.join(first, silicon_data.dashboard_records(data))


def training_coverage(rows: learn.MeasuredRows, data: Path) -> Coverage:
    """List what the training rows measure."""
    return coverage_of(rows.table, versions=measured_versions(data))


def log_errors(rows: learn.MeasuredRows, held: learn.HeldOut) -> tuple[Array, Array]:
    """log(measured / predicted) of both targets."""
    return np.log(rows.tpot_s) - held.tpot, np.log(rows.ttft_s) - held.ttft


def chip_keys(rows: learn.MeasuredRows) -> learn.Groups:
    """Name the chip of each row."""
    return np.array([rows.table.chips[i].key for i in rows.table.chip])


def vendor_keys(rows: learn.MeasuredRows) -> learn.Groups:
    """Name the vendor of each row's chip."""
    return np.array([rows.table.chips[i].vendor for i in rows.table.chip])


def calibration_kernel(rows: learn.MeasuredRows, *, error: Array) -> Kernel:
    """Learn the kernel, then the factor that makes its intervals cover after three points.

    `error` is in units of each row's interval.
    """
    kernel = learn.fit_kernel(rows.table, error=error, group=rows.group)
    scores = [
        np.abs(shot.left) / shot.sigma
        for shot in learn.few_shots(
            rows.table, error=error, group=rows.group, kernel=kernel, draws=3
        )
    ]
    return msgspec.structs.replace(kernel, quantile=float(np.quantile(np.concatenate(scores), 0.9)))


def left_out_ways(
    rows: learn.MeasuredRows, sources: learn.Groups
) -> dict[str, tuple[learn.Groups, learn.HeldOut, int]]:
    """Predict every row by fits without its group, chip, vendor, source, engine and model."""
    models = np.array([model.name for model in rows.table.models])[rows.table.model]
    keys = {
        "group": rows.group,
        "chip": chip_keys(rows),
        "vendor": vendor_keys(rows),
        intervals.SOURCE: sources,
        "engine": np.array(ENGINES)[rows.table.engine],
        "model": models,
    }
    counts = {name: len(set(key)) for name, key in keys.items()} | {"group": FOLDS}
    return {
        name: (key, learn.cross_validate(rows, keys=key, count=counts[name]), counts[name])
        for name, key in keys.items()
    }


def fit_interval(errors: intervals.Errors) -> Interval:
    """Fit the width; how many sources and engines there are decides how far few levels widen it."""
    older = errors.left_out == intervals.OLDER
    sources = len(set(errors.source[~older])) + int(older.any())
    return intervals.fit_interval(errors, sources=sources, engines=len(ENGINES))


def new_source_width(rows: learn.MeasuredRows, interval: Interval, *, held: learn.HeldOut) -> Array:
    """Half widths of training rows as a plan would have them, their own group never measured."""
    out = np.empty(len(rows.group))
    for train, test in learn.folds(rows.group, count=FOLDS):
        terms = intervals.term_columns(
            rows.table.take(test),
            distance=held.distance[test],
            coverage=coverage_of(rows.table.take(train), versions={}),
        )
        out[test] = intervals.widths(interval, terms)
    return out


def source_names(data: Path) -> learn.Groups:
    """Name who measured each training row: InferenceX, NVIDIA's own runs, or the dashboard."""
    names = [
        "nvidia" if "gap-analysis" in row["silicon_data_source"] else "inferencex"
        for row in silicon_data.read_csv(data, silicon_data.SAMPLE)
    ]
    return np.array(names + ["dashboard"] * len(silicon_data.dashboard_rows(data)))


def measured_versions(data: Path) -> Mapping[str, tuple[str, str]]:
    """Find the oldest and newest release of each engine in NVIDIA's table."""
    spans = {}
    for engine, first in FIRST_RELEASE.items():
        texts = {
            row["backend_version"]
            for row in silicon_data.read_csv(data, silicon_data.SAMPLE)
            if row["backend"] == engine
        }
        releases = sorted(n for n in map(release_numbers, texts) if n >= first)
        spans[engine] = tuple(".".join(map(str, n)) for n in (releases[0], releases[-1]))
    return {engine: (span[0], span[1]) for engine, span in spans.items()}


if __name__ == "__main__":
    main()
