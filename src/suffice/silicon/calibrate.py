"""Few-shot calibration: a handful of measured points of one's own cluster correct the prediction.

The log errors of one model x chip x engine are a Gaussian process: an offset that all its rows
share, offsets of mode, number format and layout, slopes in batch, lengths and chips, and noise.
How large each part is was learned from groups held out (`fit`); the measured points then say what
they are here (kriging).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec import Struct

from suffice.errors import InputError
from suffice.silicon.columns import ConfigTable
from suffice.silicon.measured import seconds, table_of
from suffice.silicon.measurement_files import read_measurements
from suffice.silicon.predict import Prediction, predict
from suffice.silicon.residual import Kernel, trained
from suffice.silicon.roofline import Array
from suffice.types import Say

Group = tuple[str, str, int]
LARGEST = 4.0
"""A measured point further out than this many intervals counts as that far."""


@dataclass(frozen=True, kw_only=True)
class Correction:
    """Measured points with their errors; `predict` corrects rows of the same groups.

    Errors are log(measured / predicted) over `*_width`, the half width of the 90 % interval.
    """

    table: ConfigTable
    tpot_error: Array
    ttft_error: Array
    tpot_width: Array
    ttft_width: Array
    tpot_kernel: Kernel
    ttft_kernel: Kernel

    def predict(self, table: ConfigTable) -> Prediction:
        """Predict with the correction where model, chip and engine were measured."""
        prediction = predict(table)
        tpot = _corrected(
            table,
            (prediction.tpot_s, prediction.tpot_low_s, prediction.tpot_high_s),
            points=self.table,
            error=self.tpot_error,
            kernel=self.tpot_kernel,
        )
        ttft = _corrected(
            table,
            (prediction.ttft_s, prediction.ttft_low_s, prediction.ttft_high_s),
            points=self.table,
            error=self.ttft_error,
            kernel=self.ttft_kernel,
        )
        return replace(
            prediction,
            tpot_s=tpot[0],
            tpot_low_s=tpot[1],
            tpot_high_s=tpot[2],
            ttft_s=ttft[0],
            ttft_low_s=ttft[1],
            ttft_high_s=ttft[2],
        )


def calibrate(paths: Sequence[Path], *, note: Say = lambda _note: None) -> Correction:
    """Read measured points and compare them with the prediction; raises InputError without any.

    `note` is told what of the files is not used.
    """
    records = [record for path in paths for record in read_measurements(path, note=note)]
    table, (tpot_s, ttft_s) = table_of(records), seconds(records)
    if not np.isfinite(np.concatenate([tpot_s, ttft_s])).any():
        raise InputError(
            "no row has tpot_ms or ttft_ms", hint="add at least one of the two columns"
        )
    prediction, learned = predict(table), trained()
    tpot_width = np.log(prediction.tpot_high_s / prediction.tpot_s)
    ttft_width = np.log(prediction.ttft_high_s / prediction.ttft_s)
    return Correction(
        table=table,
        tpot_width=tpot_width,
        ttft_width=ttft_width,
        tpot_error=np.log(tpot_s / prediction.tpot_s) / tpot_width,
        ttft_error=np.log(ttft_s / prediction.ttft_s) / ttft_width,
        tpot_kernel=learned.tpot.kernel,
        ttft_kernel=learned.ttft.kernel,
    )


def _corrected(
    table: ConfigTable,
    prediction: tuple[Array, Array, Array],
    *,
    points: ConfigTable,
    error: Array,
    kernel: Kernel,
) -> Array:
    """Move (middle, low, high) where the points speak for a row; leave the other rows alone."""
    out, width = np.array(prediction), np.log(prediction[2] / prediction[0])
    groups, measured = groups_of(table), groups_of(points)
    for group in set(measured) & set(groups):
        here = np.array([g == group for g in measured]) & np.isfinite(error)
        rows = np.array([g == group for g in groups])
        if here.any():
            at = krige(points.take(here), error[here], at=table.take(rows), kernel=kernel)
            shift, half = at[0] * width[rows], kernel.quantile * at[1] * width[rows]
            out[:, rows] = prediction[0][rows] * np.exp([shift, shift - half, shift + half])
    return out


def groups_of(table: ConfigTable) -> list[Group]:
    """Model, chip and engine of each row: what one calibration speaks for."""
    named = zip(table.model, table.chip, table.engine, strict=True)
    return [(table.models[m].name, table.chips[c].key, int(e)) for m, c, e in named]


def krige(
    measured: ConfigTable, error: Array, *, at: ConfigTable, kernel: Kernel
) -> tuple[Array, Array]:
    """Return the expected error and its standard deviation, noise included, at other rows.

    Errors in and out are in units of each row's interval. Points that are all off the same way say
    that their group is: the variance of the shared offset is at least their median squared, so that
    a deployment unlike all that were trained on is not pulled back to the prediction.
    """
    error = np.clip(error, -LARGEST, LARGEST)
    variances = np.array(kernel.variances[:-1])
    variances[0] = max(variances[0], float(np.median(error)) ** 2)
    among = np.tensordot(variances, parts(measured, measured), 1) + kernel.noise * np.eye(
        len(error)
    )
    across = np.tensordot(variances, parts(at, measured), 1)
    gain = np.linalg.solve(among, across.T).T
    prior = np.tensordot(variances, _own(at), 1) + kernel.noise
    left = np.maximum(prior - (gain * across).sum(axis=1), kernel.noise)
    return gain @ error, np.sqrt(left)


def parts(a: ConfigTable, b: ConfigTable) -> Array:
    """Correlations of the parts (all but noise) between rows of two tables: (11, n, m)."""
    one, two = _columns(a), _columns(b)
    equal = {k: (one[k][:, None] == two[k]).astype(float) for k in ("mode", "format", "layout")}
    apart = {k: np.abs(one[k][:, None] - two[k]) for k in ("batch", "input", "output")}
    same = equal["mode"] * equal["format"] * equal["layout"] * np.exp(-apart["batch"])
    slopes = [np.outer(one[k], two[k]) for k in ("batch", "input", "output", "chips")]
    work = same * np.exp(-2 * (apart["input"] + apart["output"]))
    return np.array(
        [
            np.ones_like(same),
            equal["mode"],
            equal["format"],
            equal["layout"],
            *slopes,
            np.exp(-apart["batch"]),
            same,
            work,
        ]
    )


def _own(table: ConfigTable) -> Array:
    """Return the parts of each row with itself: 1, but for slopes."""
    columns = _columns(table)
    slopes = [columns[k] ** 2 for k in ("batch", "input", "output", "chips")]
    ones = np.ones(len(table))
    return np.array([ones, ones, ones, ones, *slopes, ones, ones, ones])


def _columns(table: ConfigTable) -> dict[str, Array]:
    """Scaled logarithms of sizes, and labels of mode, format and layout."""
    chips = table.tp * table.dp * table.pp
    return {
        "mode": (table.prefill_chips > 0) + 2 * table.guessed_batch,
        "format": table.dense_bits * 64 + table.expert_bits,
        "layout": table.tp * 1e6 + table.dp * 1e3 + table.ep,
        "batch": (np.log(np.maximum(table.batch, 1)) - 3) / 2,
        "input": (np.log(table.input_tokens) - 7.5) / 1.5,
        "output": (np.log(table.output_tokens) - 6.5) / 1.5,
        "chips": np.log(chips) - 1.5,
    }


class GroupSummary(Struct, frozen=True, kw_only=True):
    """What calibration found for one model x chip x engine; ratios are measured over predicted.

    Errors are medians of |predicted / measured - 1| for TPOT, each point left out in turn; None
    where a group has fewer than two points.
    """

    model: str
    chip: str
    engine: int
    points: int
    tpot_ratio: float | None
    ttft_ratio: float | None
    tpot_error_before: float | None
    tpot_error_after: float | None


def summary(calibration: Correction) -> tuple[GroupSummary, ...]:
    """Summarise every group, judging calibration on points that it was not given."""
    groups = np.array([str(group) for group in groups_of(calibration.table)])
    return tuple(_summarise(calibration, groups == name) for name in dict.fromkeys(groups))


def _summarise(calibration: Correction, rows: Array) -> GroupSummary:
    table = calibration.table.take(rows)
    model, chip, engine = groups_of(table)[0]
    tpot, ttft = calibration.tpot_error[rows], calibration.ttft_error[rows]
    width, known = calibration.tpot_width[rows], np.flatnonzero(np.isfinite(tpot))
    before, after = None, None
    if len(known) > 1:
        left = [
            _left_out(table, tpot, int(i), known=known, kernel=calibration.tpot_kernel)
            for i in known
        ]
        before = _median_error(tpot[known] * width[known])
        after = _median_error(np.array(left) * width[known])
    return GroupSummary(
        model=model,
        chip=chip,
        engine=engine,
        points=int(rows.sum()),
        tpot_ratio=_middle(tpot * width),
        ttft_ratio=_middle(ttft * calibration.ttft_width[rows]),
        tpot_error_before=before,
        tpot_error_after=after,
    )


def _left_out(table: ConfigTable, error: Array, row: int, *, known: Array, kernel: Kernel) -> float:
    rest = known[known != row]
    shift, _ = krige(table.take(rest), error[rest], at=table.take(np.array([row])), kernel=kernel)
    return float(error[row] - shift[0])


def _median_error(log_error: Array) -> float:
    return float(np.median(np.abs(np.exp(-log_error) - 1)))


def _middle(log_error: Array) -> float | None:
    known = log_error[np.isfinite(log_error)]
    return float(np.exp(np.median(known))) if len(known) else None
