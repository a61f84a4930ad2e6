"""CSV files of measurements: columns of published tables, units, gaps, and what is refused."""

import csv

import pytest

from suffice.errors import InputError
from suffice.silicon.catalog import find_chip
from suffice.silicon.measurement_files import read_measurements

ROW = {
    "model": "llama-3-70b",
    "chip": "h100",
    "engine": "vllm",
    "batch": "8",
    "input_tokens": "1000",
    "output_tokens": "500",
    "tp": "4",
    "tpot_ms": "20",
    "ttft_ms": "300",
}


def read(tmp_path, *rows, delimiter=",", notes=None):
    path = tmp_path / "m.csv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)
    return read_measurements(path, note=(notes if notes is not None else []).append)


def renamed(**columns):
    """The row with other names for its columns, and more columns."""
    row = {columns.get(name, name): value for name, value in ROW.items()}
    return row | {name: value for name, value in columns.items() if name not in ROW}


def test_a_table_of_inferencex_is_read(tmp_path):
    published = {
        "Model": "deepseek-ai/DeepSeek-R1-0528",
        "Hardware": "b200",
        "Framework": "sglang",
        "Precision": "fp8",
        "ISL": "1024",
        "OSL": "1024",
        "TP": "8",
        "EP": "8",
        "DP Attention": "True",
        "Conc": "64",
        "TTFT (ms)": "412.5",
        "TPOT (ms)": "18.75",
        "Interactivity (tok/s/user)": "53.3",
        "E2EL (s)": "19.6",
        "TPUT per GPU": "800.1",
    }
    notes = []
    (record,) = read(tmp_path, published, notes=notes)
    assert (record.tp, record.dp, record.ep, record.batch) == (1, 8, 8, 64)
    assert (record.tpot_ms, record.ttft_ms, record.dense_format) == (18.75, 412.5, None)
    assert "E2EL (s)" in notes[0]


def test_the_release_of_an_engine_is_read_from_a_column_of_its_own(tmp_path):
    (record,) = read(tmp_path, ROW | {"framework_version": "0.6.3"})
    assert record.engine == "vllm 0.6.3"
    row = renamed(engine="engine_version") | {"engine_version": "sglang 0.5.6.post1"}
    assert read(tmp_path, row)[0].engine == "sglang 0.5.6.post1"


@pytest.mark.parametrize(
    ("tpot", "value", "ms"),
    [
        ("mean_tpot_ms", "20", 20),
        ("TPOT [s]", "0.02", 20),
        ("itl_us", "20000", 20),
        ("median_itl_ms", "20", 20),
        ("tpot_measured_ms", "20", 20),
        ("Mean Time per Output Token (ms)", "20", 20),
        ("interactivity", "50", 20),
    ],
)
def test_times_are_read_in_the_unit_of_their_column(tmp_path, tpot, value, ms):
    (record,) = read(tmp_path, renamed(tpot_ms=tpot) | {tpot: value})
    assert record.tpot_ms == pytest.approx(ms)


@pytest.mark.parametrize(("chips", "replicas"), [("4", 1), ("8", 2)])
def test_more_chips_than_a_layout_are_replicas(tmp_path, chips, replicas):
    (record,) = read(tmp_path, ROW | {"num_gpus": chips})
    assert (record.tp, record.decode_replicas) == (4, replicas)


def test_means_come_before_medians_and_tails_are_not_read(tmp_path):
    row = {"p99_tpot_ms": "90", "median_tpot_ms": "19", "mean_tpot_ms": "21", "tpot_pred_ms": "5"}
    row = {k: v for k, v in ROW.items() if k != "tpot_ms"} | row
    assert read(tmp_path, row)[0].tpot_ms == 21
    del row["mean_tpot_ms"]
    assert read(tmp_path, row)[0].tpot_ms == 19
    del row["median_tpot_ms"], row["ttft_ms"]
    (record,) = read(tmp_path, row)
    assert record.tpot_ms is record.ttft_ms is None


def test_rows_without_a_measurement_are_left_out_and_said(tmp_path):
    notes = []
    gap = ROW | {"tpot_ms": "N/A", "ttft_ms": "nan"}
    assert len(read(tmp_path, ROW, gap, ROW | {"ttft_ms": "-"}, notes=notes)) == 2
    assert "1 rows have no measurement" in notes[0]


@pytest.mark.parametrize(
    ("delimiter", "cell", "tokens"),
    [(",", "1,024", 1024), (",", "1 024", 1024), (",", "8.0", 8), (";", "1024,5", 1024.5)],
)
def test_numbers_may_be_grouped(tmp_path, delimiter, cell, tokens):
    (record,) = read(tmp_path, ROW | {"input_tokens": cell}, delimiter=delimiter)
    assert record.input_tokens == tokens


@pytest.mark.parametrize(
    ("row", "delimiter", "words"),
    [
        (ROW | {"input_tokens": "1.024"}, ";", "thousands or a fraction"),
        (ROW | {"input_tokens": "1k"}, ",", "not a number"),
        (ROW | {"tpot_ms": "20,5"}, ",", "not a number"),
        (renamed(tpot_ms="tpot"), ",", "names no unit"),
        (ROW | {"mtp": "True"}, ",", "guessed tokens"),
        (ROW | {"disagg": "true"}, ",", "prefill on other chips"),
        (ROW | {"cache_hit_rate": "0.5"}, ",", "a prefix cache"),
        (ROW | {"prefil_tp": "4"}, ",", "prefil_tp"),
        (renamed(batch="request_rate"), ",", "no column batch; not known: request_rate"),
        (renamed(tp="num_gpus"), ",", "no layout"),
        (ROW | {"num_gpus": "6"}, ",", "tp x dp x pp = 4"),
        (ROW | {"num_gpus": "2"}, ",", "tp x dp x pp = 4"),
        (ROW | {"dp_attention": "maybe"}, ",", "dp_attention = 'maybe'"),
        (ROW | {"precision": "fp9"}, ",", "fp9"),
    ],
)
def test_what_has_two_readings_or_is_other_work_is_refused_by_name(tmp_path, row, delimiter, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, row, delimiter=delimiter)


@pytest.mark.parametrize(
    ("model", "precision", "dense"),
    [
        ("gpt-oss-120b", "fp4", None),
        ("kimi-k2.5", "int4", None),
        ("llama-3-70b", "fp8", "fp8"),
        ("deepseek-r1", "fp4", "fp4"),
        ("minimax-m2", "bf16", "bf16"),
    ],
)
def test_a_precision_that_the_checkpoint_has_leaves_its_mixture(tmp_path, model, precision, dense):
    (record,) = read(tmp_path, ROW | {"model": model, "precision": precision})
    assert record.dense_format == record.expert_format == dense


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("NVIDIA B200", "b200"),
    ],
)
def test_chips_are_known_as_drivers_name_them(name, key):
    assert find_chip(name).key == key


def test_a_chip_with_another_memory_is_another_chip():
    with pytest.raises(InputError, match="40GB"):
        find_chip("NVIDIA A100-SXM4-40GB")
