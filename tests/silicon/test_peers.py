"""Plain predictors beside the planner, and MLPerf's rows: no row judges itself."""

import csv

import numpy as np
import pytest
from benchmarks.silicon import peers
from benchmarks.silicon.learn import MeasuredRows
from benchmarks.silicon_outside.mlperf import measure_mlperf

from suffice.silicon.catalog import find_chip
from suffice.silicon.columns import make_table
from suffice.silicon.models import find_shape
from suffice.silicon.predict import predict


def rows():
    """Two groups that differ in nothing but their seconds, and a third far away."""
    table = make_table(
        (find_shape("llama-3-8b"), find_shape("deepseek-v3")),
        (find_chip("h100"),),
        model=[0, 0, 0, 0, 1, 1],
        engine=[0, 0, 1, 1, 1, 1],
        batch=[4, 64, 4, 64, 4, 64],
        input_tokens=1000,
        output_tokens=500,
        tp=8,
    )
    return MeasuredRows(
        table=table,
        tpot_s=np.array([1.0, 2.0, 10.0, 20.0, 100.0, 200.0]),
        ttft_s=np.full(6, np.nan),
        group=np.array(["a", "a", "b", "b", "c", "c"]),
        weight=np.ones(6),
    )


def test_the_nearest_row_is_of_another_group():
    nearest = peers.nearest_seconds(rows())
    assert nearest[:4] == pytest.approx([10.0, 20.0, 1.0, 2.0])
    assert set(nearest[4:]) <= {1.0, 2.0, 10.0, 20.0}


def test_the_roofline_is_what_no_engine_beats():
    table = rows().table
    assert (peers.roofline_seconds(table) < predict(table).tpot_s).all()
    assert (peers.roofline_seconds(table) > 0).all()


def test_throughput_is_per_chip_of_all_nodes(tmp_path):
    folder = tmp_path / "silicon"
    folder.mkdir()
    row = {
        "division": "closed",
        "model": "llama2-70b-99.9",
        "scenario": "Offline",
        "accelerator": "NVIDIA H200-SXM-141GB",
        "weight_dtype": "fp8",
        "units": "Tokens/s",
    }
    given = [
        row | {"n_accel": "8", "nodes": "1", "result": "30000"},
        row | {"n_accel": "8", "nodes": "4", "result": "120000"},
        row | {"n_accel": "8", "nodes": "1", "result": "1", "division": "open"},
        row | {"n_accel": "8", "nodes": "1", "result": "1", "model": "bert"},
    ]
    with (folder / "mlperf_v5.1_summary_llm.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(given[0]))
        writer.writeheader()
        writer.writerows(given)
    result = measure_mlperf(tmp_path)
    assert result["offline"]["rows"] == 2
    once = result["offline"]["measured_over_predicted"]
    assert 0.5 < once < 2
