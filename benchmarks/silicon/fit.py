"""Train what the silicon planner ships: `python -m benchmarks.silicon.fit --data PATH`."""

import argparse
import datetime as dt
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.silicon import data as silicon_data
from benchmarks.silicon import learn
from suffice.silicon.residual import Interval, Kernel, ideal, interval_width
from suffice.silicon.roofline import Array

OUT = Path("src/suffice/silicon/data/trained.json")
FOLDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    rows = training_rows(arguments.data)
    held = learn.cross_validate(rows, keys=rows.group, count=FOLDS)
    errors = log_errors(rows, held)
    unseen = learn.cross_validate(rows, keys=chip_keys(rows), count=len(set(chip_keys(rows))))
    foreign = learn.cross_validate(rows, keys=vendor_keys(rows), count=2)
    intervals, kernels = [], []
    for i, error in enumerate(errors):
        interval = learn.fit_interval(
            rows.table, error=error, distance=held.distance, group=rows.group
        )
        width = interval_width(ideal(rows.table), interval, distance=held.distance)
        intervals.append(_widened(interval, rows, i=i, unseen=unseen, foreign=foreign))
        kernels.append(calibration_kernel(rows, error=error / width))
    origin = learn.Provenance(
        made_by="python -m benchmarks.silicon.fit --data ../shared/data",
        data=(silicon_data.SAMPLE, silicon_data.DASHBOARD),
        date=dt.datetime.now(tz=dt.UTC).date().isoformat(),
    )
    learned = learn.assemble(
        learn.fit(rows),
        intervals=(intervals[0], intervals[1]),
        kernels=(kernels[0], kernels[1]),
        rows=rows,
        origin=origin,
    )
    arguments.out.write_bytes(msgspec.json.encode(learned))
    print(msgspec.json.encode([learned.tpot.interval, learned.ttft.interval, kernels]).decode())


def training_rows(data: Path) -> learn.MeasuredRows:
    """Both tables of measurements, with renamed twins of a model in one group."""
    first = [
        silicon_data.sample_record(row) for row in silicon_data.read_csv(data, silicon_data.SAMPLE)
    ]
    return silicon_data.join(first, silicon_data.dashboard_records(data))


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


def _widened(
    interval: Interval,
    rows: learn.MeasuredRows,
    *,
    i: int,
    unseen: learn.HeldOut,
    foreign: learn.HeldOut,
) -> Interval:
    """Measure how much wider errors are for a chip left out, and for AMD predicted from NVIDIA."""
    amd = vendor_keys(rows) == "amd"
    chip = learn.wider(
        interval, rows.table, error=log_errors(rows, unseen)[i], distance=unseen.distance
    )
    error, part = log_errors(rows, foreign)[i][amd], rows.table.take(amd)
    vendor = chip
    if np.isfinite(error).any():
        vendor = max(chip, learn.wider(interval, part, error=error, distance=foreign.distance[amd]))
    else:
        vendor = chip**2
    return msgspec.structs.replace(interval, unseen_chip=chip, unseen_vendor=vendor)


if __name__ == "__main__":
    main()
