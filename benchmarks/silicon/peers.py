"""Plain predictors and peers on the same rows: roofline, nearest training row, aiconfigurator."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.silicon import learn
from benchmarks.silicon.learn import MeasuredRows
from benchmarks.silicon_outside.open_arrivals import measure_runs
from suffice.silicon.basis import standardise
from suffice.silicon.columns import ConfigTable
from suffice.silicon.residual import STEP_START, features, ideal, step_seconds
from suffice.silicon.roofline import Array

FOLDS = 10
BLOCK = 500


def roofline_seconds(table: ConfigTable) -> Array:
    """Seconds per token at published rates: the larger of memory and arithmetic, and the wire."""
    step = ideal(table).step
    memory = step.weights + step.experts + step.cache
    return np.asarray(np.maximum(memory, step.compute + step.compute_attention) + step.wire)


def nearest_seconds(rows: MeasuredRows) -> Array:
    """Seconds per token of the nearest row whose group is another one, by its features."""
    times = ideal(rows.table)
    raw = features(
        times, table=rows.table, step_s=step_seconds(times, np.log(np.array(STEP_START)))
    ).astype(float)
    scale = np.maximum(raw.std(axis=1), 0.3) / learn.emphasis()
    x = standardise(raw, mean=raw.mean(axis=1), scale=scale).T
    out = np.empty(len(x))
    for train, test in learn.folds(rows.group, count=FOLDS):
        known, asked = x[train], np.flatnonzero(test)
        length = (known**2).sum(axis=1)
        for start in range(0, len(asked), BLOCK):
            part = asked[start : start + BLOCK]
            nearest = (length - 2 * x[part] @ known.T).argmin(axis=1)
            out[part] = rows.tpot_s[train][nearest]
    return out


def beside_peers(
    rows: MeasuredRows,
    error: Array,
    *,
    common: Array,
    peer: Mapping[str, float],
    data: Path,
) -> dict[str, Any]:
    """Table by predictor: TPOT of training rows that the peer covers, and of open arrivals.

    `error` is the planner's held-out log(measured / predicted), `peer` the errors of aiconfigurator
    on the rows of `common`. Open arrivals were trained on by none but BLIS evolved.
    """
    measured = np.log(rows.tpot_s[common])
    plain = {
        "roofline": measured - np.log(roofline_seconds(rows.table)[common]),
        "nearest training row": measured - np.log(nearest_seconds(rows)[common]),
    }
    table: dict[str, Any] = {"suffice": {"tpot": _median(error[common])}}
    table |= {name: {"tpot": _median(values)} for name, values in plain.items()}
    table["aiconfigurator 0.12.0"] = {"tpot": peer["median"]}
    runs = measure_runs(data)
    table["suffice"] |= {"ttft_runs": runs["ttft"]["median_error"]}
    table["suffice"] |= {"itl_runs": runs["itl"]["median_error"]}
    for name, values in runs["simulators"].items():
        table[name] = {
            "ttft_runs": values.get("ttft_mean"),
            "itl_runs": values.get("itl_mean"),
        }
    return table


def _median(log_error: Array) -> float:
    return float(np.median(np.abs(np.exp(-log_error) - 1)))
