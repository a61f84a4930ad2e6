"""Read the shared measurement tables into rows for `learn` and the benchmark."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inputs import data_file
from benchmarks.silicon.learn import MeasuredRows
from suffice.silicon.catalog import find_chip
from suffice.silicon.formats import format_bits
from suffice.silicon.measured import Record, seconds, table_of
from suffice.silicon.models import find_shape
from suffice.silicon.shapes import profile

REAL_LENGTH = 0.9
"""InferenceMAX draws lengths between 0.8 and 1 times the nominal one; their mean is 0.9."""

SAMPLE = "silicon/aiconfigurator_silicon_sample.csv"
PEER = "silicon/peer_aiconfigurator_0.12.0_predictions.csv"
DASHBOARD = "silicon/inferencemax_oct2025_dashboard.csv"
QUANT = {"fp8": "fp8", "fp8_block": "fp8", "nvfp4": "nvfp4", "int4_wo": "int4"}
PRECISION = {"fp8": "fp8", "fp4": "nvfp4", "bf16": "bf16", "int4": "int4"}
SIXTEEN_BIT_ATTENTION = ("gpt-oss-120b", "gpt-oss-20b", "kimi-k2")
Row = dict[str, str]


def read_csv(data: Path, name: str) -> list[Row]:
    """Read a table of the data folder, or say which file is missing and exit with status 2."""
    with data_file(data, name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def sample(data: Path) -> tuple[MeasuredRows, list[Row]]:
    """NVIDIA's table of measurements, as rows and as read."""
    rows = read_csv(data, SAMPLE)
    return to_rows([sample_record(row) for row in rows]), rows


def dashboard_rows(data: Path) -> list[Row]:
    """Read the InferenceMAX dashboard, leaving out runs with draft tokens."""
    return [row for row in read_csv(data, DASHBOARD) if "mtp" not in row["hwKey"]]


def dashboard_records(data: Path) -> list[Record]:
    """Turn the InferenceMAX dashboard into records; it gives seconds per token only."""
    return [dashboard_record(row) for row in dashboard_rows(data)]


def to_rows(records: list[Record]) -> MeasuredRows:
    """Turn records into rows; the group is shape x chip x engine: renamed twins are one."""
    table = table_of(records)
    tpot_s, ttft_s = seconds(records)
    group = [
        f"{table.models[m].name}|{table.chips[c].key}|{record.engine}"
        for m, c, record in zip(table.model, table.chip, records, strict=True)
    ]
    return MeasuredRows(
        table=table,
        tpot_s=tpot_s,
        ttft_s=ttft_s,
        group=np.array(group),
        weight=np.ones(len(records)),
    )


def join(*parts: list[Record]) -> MeasuredRows:
    """Stack records of several tables."""
    return to_rows([record for part in parts for record in part])


def sample_record(row: Row) -> Record:
    """Read one row of NVIDIA's table; its disaggregated rows keep the decode side in `decode_*`."""
    apart = row["mode"] == "disagg"
    side = "decode_" if apart else ""
    layout = _layout(row, side=side)
    workers = _number(row, "decode_num_workers") if apart else 1.0
    per_worker = _number(row, side + "batch_size")
    batch = _number(row, "concurrency") or (per_worker or 1.0) * (workers or 1.0) * layout["dp"]
    dense, expert = _formats(row)
    prefill: dict[str, Any] = {}
    if apart:
        prefill = {
            "prefill_tp": max(int(_number(row, "prefill_tp_size") or 1), 1),
            "prefill_dp": max(int(_number(row, "prefill_attention_dp_size") or 1), 1),
            "prefill_replicas": _whole(row, "prefill_num_workers"),
            "decode_replicas": _whole(row, "decode_num_workers"),
        }
    record = Record(
        model=row["model_path"],
        chip=row["system"],
        engine=row["backend"],
        batch=batch,
        input_tokens=REAL_LENGTH * float(row["isl"]),
        output_tokens=REAL_LENGTH * float(row["osl"]),
        dense_format=dense,
        expert_format=expert,
        kv_format="bf16" if dense == expert == "bf16" else "fp8",
        tpot_ms=float(row["silicon_tpot_ms"]),
        ttft_ms=float(row["silicon_ttft_ms"]),
        **layout,
        **prefill,
    )
    return _with_layout_that_fits(record) if apart else record


def dashboard_record(row: Row) -> Record:
    """Read one dashboard point; its engine follows from the chip and the model (October 2025)."""
    model = find_shape(row["model_name"]).name
    tensorrt = row["hwKey"].endswith("_trt") or (
        row["gpu"] == "gb200" and row["precision"] == "fp4"
    )
    engine = "trtllm" if tensorrt else "sglang" if model == "deepseek-v3" else "vllm"
    short, long = (1024 * int(part.rstrip("k")) for part in row["sequence_length"].split("-"))
    chips = int(row["tp"])
    expert = "mxfp4" if model.startswith("gpt-oss") else PRECISION[row["precision"]]
    apart = row["gpu"] == "gb200"
    wide = apart and chips > 8
    return Record(
        model=model,
        chip=row["gpu"],
        engine=engine,
        batch=float(row["conc"]),
        input_tokens=REAL_LENGTH * short,
        output_tokens=REAL_LENGTH * long,
        tp=1 if wide else chips,
        dp=chips if wide else 1,
        ep=chips if wide else 1,
        dense_format="bf16" if model in SIXTEEN_BIT_ATTENTION else expert,
        expert_format=expert,
        kv_format="fp8",
        prefill_tp=chips if apart else 0,
        decode_replicas=None if apart else 1,
        tpot_ms=1e3 / float(row["interactivity_tok_s_user"]),
    )


def _layout(row: Row, *, side: str) -> dict[str, Any]:
    """Read tp, dp and ep, undoing two habits of the table.

    Some sources give a layout as tp x ep: an 8-chip server with tp 8 and ep 8 appears as tp 64 (the
    same measurement is listed both ways). Attention of a latent-cache model over more than 8 chips
    is data parallel in every engine, whatever the row says.
    """
    tp = max(int(_number(row, side + "tp_size") or 1), 1)
    shared = max(int(_number(row, side + "moe_tp_size") or 1), 1)
    ep = max(int(_number(row, side + "moe_ep_size") or 1), 1)
    dp = int(_number(row, side + "attention_dp_size") or max(1, shared * ep // tp))
    dp = max(dp, 1)
    if not side and tp * dp == shared * ep > 8 and shared == ep:
        tp, dp = (shared, dp) if tp > 1 else (tp, shared)
    shape = profile(find_shape(row["model_path"]))
    if shape.is_mla and tp > 8:
        tp, dp = 1, tp * dp
    return {"tp": tp, "dp": dp, "ep": tp * dp if ep > 1 and shape.moe_layers else 1}


def _with_layout_that_fits(record: Record) -> Record:
    """Replace a layout that cannot hold the weights (not recorded) by the smallest that can."""
    import msgspec

    shape, chip = profile(find_shape(record.model)), find_chip(record.chip)
    routed = (
        shape.moe_layers
        * shape.experts
        * shape.expert
        * format_bits(record.expert_format or "bf16")
        / 8
    )
    need = (
        routed
        + (shape.total - shape.moe_layers * shape.experts * shape.expert)
        * format_bits(record.dense_format or "bf16")
        / 8
    )
    room = 0.9 * chip.memory.si
    if need / (record.tp * record.dp) <= room:
        return record
    chips = 8
    while need / chips > room:
        chips *= 2
    return msgspec.structs.replace(record, tp=1, dp=chips, ep=chips, decode_replicas=None)


def _formats(row: Row) -> tuple[str, str]:
    """Read the number formats of dense and expert weights; a row that names none ran in 16 bits."""
    name = find_shape(row["model_path"]).name
    plain = PRECISION.get(row["precision"], "fp8" if "FP8" in row["model_path"] else "bf16")
    expert = "mxfp4" if name.startswith("gpt-oss") else QUANT.get(row["moe_quant_mode"], plain)
    dense = "bf16" if name in SIXTEEN_BIT_ATTENTION else QUANT.get(row["gemm_quant_mode"], plain)
    return dense, expert


def _number(row: Row, key: str) -> float | None:
    return float(row[key]) if row.get(key) not in (None, "", "nan") else None


def _whole(row: Row, key: str) -> int | None:
    value = _number(row, key)
    return None if not value else int(value)
