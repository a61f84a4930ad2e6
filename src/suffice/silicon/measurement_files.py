"""Measured rows from a CSV: our own columns, and those of benchmarks that others publish."""

import csv
import difflib
import io
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from suffice.errors import InputError
from suffice.silicon.formats import Formats, format_bits
from suffice.silicon.measured import Record
from suffice.silicon.models import find_shape
from suffice.types import Say

TPOT_RANGE_S = (2e-4, 20.0)
TTFT_RANGE_S = (1e-3, 7200.0)
LONGEST_TOKENS = 10_000_000

NAMES: Mapping[str, tuple[str, ...]] = {
    "model": ("model_name", "model_id", "model_path", "served_model"),
    "chip": ("gpu", "gpu_type", "gpu_name", "gpu_model", "hardware", "hw", "accelerator", "system"),
    "engine": ("framework", "backend", "engine_version"),
    "batch": ("conc", "concurrency", "max_concurrency", "batch_size", "concurrent_requests"),
    "input_tokens": ("isl", "input_len", "input_length", "input_seq_len", "prompt_tokens"),
    "output_tokens": ("osl", "output_len", "output_length", "output_seq_len", "generated_tokens"),
    "tp": ("tp_size", "tensor_parallel", "tensor_parallel_size"),
    "dp": ("dp_size", "attention_dp_size", "data_parallel", "data_parallel_size"),
    "ep": ("ep_size", "moe_ep_size", "expert_parallel", "expert_parallel_size"),
    "pp": ("pp_size", "pipeline_parallel", "pipeline_parallel_size"),
    "attention_format": (),
    "dense_format": (),
    "expert_format": ("experts_format",),
    "kv_format": ("kv_cache_dtype", "cache_format", "kv_dtype"),
    "prefill_tp": (),
    "prefill_dp": (),
    "prefill_replicas": (),
    "decode_replicas": (),
}
"""Column of each field, and what published tables call it; case, spaces and dashes do not count."""

TEXTS = ("model", "chip", "engine")
NEEDED = (*TEXTS, "batch", "input_tokens", "output_tokens")
VERSIONS = ("engine_version", "framework_version", "backend_version", "version")
FORMATS = ("format", "precision", "quantization", "weights")
CHIPS = ("num_gpus", "gpus", "gpu_count", "n_gpus", "num_chips", "chips", "world_size")
SPREAD_ATTENTION = ("dp_attention", "dp_attn", "enable_dp_attention")
OTHER_WORK = {
    **dict.fromkeys(("mtp", "spec_decoding", "speculative", "num_draft_tokens"), "guessed tokens"),
    **dict.fromkeys(("disagg", "disaggregated", "is_multinode_disagg"), "prefill on other chips"),
    **dict.fromkeys(("cache_hit", "cache_hit_rate", "prefix_cache_hit_rate"), "a prefix cache"),
}
"""Columns that, where they are set, say that a row is of another kind of serving."""

METRICS = (
    ("tpot_ms", "tpot", re.compile(r"time_per_output_token|tpot")),
    ("tpot_ms", "itl", re.compile(r"inter_token_latency|itl")),
    ("ttft_ms", "ttft", re.compile(r"time_to_first_token|ttft")),
    ("tpot_ms", "rate", re.compile(r"interactivity|intvty")),
)
STATISTICS = ("mean", "avg", "average", "", "median", "p50")
"""What a column may hold of many requests, the best first; tails are not read."""

UNITS = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1.0),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1e3),
    **dict.fromkeys(("us", "microsecond", "microseconds"), 1e-3),
}
RATE_UNITS = {"", "tok_s_user", "tokens_s_user", "tok_s", "tok_per_s_per_user"}
MISSING = {"", "nan", "na", "n/a", "none", "null", "-", "--", "inf"}
GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)
TRUE = {"true", "yes", "on", "1", "1.0"}
FALSE = {"false", "no", "off", "0", "0.0"}
HINT = "docs/silicon.md shows the columns"


def read_measurements(path: Path, *, note: Say = lambda _note: None) -> tuple[Record, ...]:
    """Read a CSV of measured rows; raises InputError for what cannot be right.

    Columns have the names of Record's fields, or those of published tables. `note` is told which
    columns are not used, and how many rows were not measured.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}", hint="give a CSV file") from error
    header = text.partition("\n")[0]
    delimiter = max(",;\t|", key=header.count)
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    if not rows:
        raise InputError(f"{path} has no rows", hint=HINT)
    columns = read_header(list(rows[0]), where=str(path), decimal_comma=delimiter == ";")
    records = [columns.record(row, at=f"{path}:{i}") for i, row in enumerate(rows, start=2)]
    measured = [r for r in records if r.tpot_ms is not None or r.ttft_ms is not None]
    if columns.unused:
        note(f"{path}: columns not used: {', '.join(columns.unused)}")
    if measured and len(measured) < len(records):
        note(f"{path}: {len(records) - len(measured)} rows have no measurement and are left out")
    return tuple(measured or records)


class Columns(Struct, frozen=True, kw_only=True):
    """What each column of a table holds; columns are named as the file writes them.

    `metrics` gives the column of each measured time, its kind and its unit in milliseconds.
    `other_work` says of columns what a row is that sets them.
    """

    fields: Mapping[str, str]
    metrics: Mapping[str, tuple[str, str, float]]
    version: str | None
    format: str | None
    chips: str | None
    spread: str | None
    other_work: Mapping[str, str]
    unused: tuple[str, ...]
    decimal_comma: bool

    def record(self, row: dict[str, str], *, at: str) -> Record:
        """Read one row; refuse values that no deployment can have, most often a wrong unit."""
        if None in row:
            raise InputError(f"{at}: more cells than the header has columns", hint=HINT)
        cells = {
            name: cell.strip()
            for name, cell in row.items()
            if cell and cell.strip().lower() not in MISSING
        }
        for column, why in self.other_work.items():
            if cells.get(column, "0").lower() not in FALSE:
                raise InputError(
                    f"{at}: {column} = {cells[column]}: rows with {why} are not compared",
                    hint="leave those rows out",
                )
        values: dict[str, Any] = {
            field: cells[column] for field, column in self.fields.items() if column in cells
        }
        for field in values:
            if field not in TEXTS and not field.endswith("_format"):
                values[field] = self._number(values[field], at=f"{at}: {self.fields[field]}")
        for field, (column, kind, factor) in self.metrics.items():
            if column in cells:
                number = self._number(cells[column], at=f"{at}: {column}")
                if kind == "rate" and number <= 0:
                    raise InputError(f"{at}: {column} = {number:g}", hint="give a rate above 0")
                values[field] = 1e3 / number if kind == "rate" else number * factor
        self._lay_out(values, cells, at=at)
        try:
            record = msgspec.convert(values, Record, strict=False)
        except msgspec.ValidationError as error:
            raise InputError(f"{at}: {error}", hint=HINT) from error
        _check_ranges(record, at=at)
        return record

    def _lay_out(self, values: dict[str, Any], cells: dict[str, str], *, at: str) -> None:
        """Fill in what published tables say in other columns: release, format, layout."""
        version = cells.get(self.version or "")
        if version and self.fields.get("engine") != self.version:
            values["engine"] = f"{values.get('engine', '')} {version}".strip()
        stated = cells.get(self.format or "")
        if stated and not {"dense_format", "expert_format"} & values.keys():
            values |= _formats(stated, find_shape(values.get("model", "")).formats)
        spread = cells.get(self.spread or "", "0").lower()
        if spread in TRUE:
            values |= {"dp": values.get("tp", 1), "tp": 1}
        elif spread not in FALSE:
            raise InputError(f"{at}: {self.spread} = {spread!r}", hint="write true or false")
        if self.chips not in cells:
            return
        chips = self._number(cells[self.chips], at=f"{at}: {self.chips}")
        if chips > 1 and not {"tp", "dp", "pp"} & values.keys():
            raise InputError(
                f"{at}: {self.chips} = {chips:g}, but no layout", hint="add a column tp, dp or pp"
            )
        replica = math.prod(values.get(name, 1) for name in ("tp", "dp", "pp"))
        if "prefill_tp" not in values and (chips < 1 or chips % replica):
            raise InputError(
                f"{at}: {self.chips} = {chips:g}, but a replica has tp x dp x pp = {replica:g}",
                hint="mend the layout, or leave the number of chips out",
            )
        if "prefill_tp" not in values:
            values.setdefault("decode_replicas", int(chips // replica))

    def _number(self, cell: str, *, at: str) -> float:
        """Read a number; thousands may be grouped, and what has two readings is refused."""
        text = cell.replace("\u00a0", "").replace(" ", "").replace("_", "")
        if self.decimal_comma and (DECIMAL_COMMA.fullmatch(text) or "." in text):
            if re.fullmatch(r"\d{1,3}(\.\d{3})+", text):
                raise InputError(
                    f"{at} = {cell!r} may be thousands or a fraction",
                    hint="write numbers without grouping",
                )
            text = text.replace(",", ".")
        elif GROUPED.fullmatch(text):
            text = text.replace(",", "")
        if not NUMBER.fullmatch(text):
            raise InputError(f"{at} = {cell!r} is not a number", hint="write numbers as 1234.5")
        return int(number) if (number := float(text)).is_integer() else number


def read_header(names: list[str], *, where: str, decimal_comma: bool) -> Columns:
    """Say what each column holds; raises InputError for one that is nearly a field, or missing."""
    plain = {_plain(name): name for name in names if name}

    def column(aliases: Iterable[str]) -> str | None:
        return next((plain[alias] for alias in aliases if alias in plain), None)

    fields = {f: name for f, aliases in NAMES.items() if (name := column((f, *aliases)))}
    metrics, times = _metrics(plain, taken=set(fields.values()), where=where)
    version, format_, chips, spread = map(column, (VERSIONS, FORMATS, CHIPS, SPREAD_ATTENTION))
    other_work = {plain[name]: why for name, why in OTHER_WORK.items() if name in plain}
    used = {*fields.values(), *(choice[0] for choice in metrics.values()), *other_work}
    used |= {name for name in (version, format_, chips, spread) if name}
    unused = tuple(name for name in names if name and name not in used)
    for name in (_plain(name) for name in unused):
        close = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.8)
        if close and close[0] not in fields and name not in times:
            raise InputError(
                f"{where}: unknown column {plain[name]!r}", hint=f"is it {close[0]!r}?"
            )
    if missing := [field for field in NEEDED if field not in fields]:
        unknown = f"; not known: {', '.join(unused)}" if unused else ""
        raise InputError(f"{where} has no column {', '.join(missing)}{unknown}", hint=HINT)
    return Columns(
        fields=fields,
        metrics=metrics,
        version=version,
        format=format_,
        chips=chips,
        spread=spread,
        other_work=other_work,
        unused=unused,
        decimal_comma=decimal_comma,
    )


def _plain(name: str) -> str:
    """Write a column's name in small letters, its parts and its unit joined by underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _metrics(
    plain: Mapping[str, str], *, taken: set[str], where: str
) -> tuple[dict[str, tuple[str, str, float]], set[str]]:
    """Choose the column of each measured time: its name, its kind and its unit in milliseconds.

    Means come before medians; tails and predictions are not read. The second value names all
    columns of such times.
    """
    choices: dict[str, list[tuple[int, int, str, str, float | None]]] = {}
    spare = set()
    for name, column in plain.items():
        for order, (field, kind, pattern) in enumerate(METRICS):
            match = pattern.search(name)
            if column in taken or match is None:
                continue
            spare.add(name)
            words = [w for w in f"{name[: match.start()]}_{name[match.end() :]}".split("_") if w]
            words = [word for word in words if word not in ("measured", "silicon", "user")]
            unit: float | None = 1.0 if kind == "rate" else None
            if kind == "rate":
                words = [word for word in words if word not in ("tok", "tokens", "s", "per")]
            elif words and words[-1] in UNITS:
                unit = UNITS[words.pop()]
            statistic = "_".join(words)
            if statistic in STATISTICS:
                rank = STATISTICS.index(statistic)
                choices.setdefault(field, []).append((order, rank, column, kind, unit))
            break
    chosen = {}
    for field, columns in choices.items():
        *_, column, kind, unit = min(columns)
        if unit is None:
            raise InputError(
                f"{where}: column {column!r} names no unit",
                hint=f"call it {_plain(column)}_ms or {_plain(column)}_s",
            )
        chosen[field] = (column, kind, unit)
    return chosen, spare


def _formats(stated: str, own: Formats) -> dict[str, str]:
    """Read one format for a whole model; the checkpoint's own mixture holds where it has it."""
    name = {"bfloat16": "bf16", "float16": "fp16"}.get(stated.lower(), stated.lower())
    format_bits(name)
    parts = [own.attention, own.dense, own.experts]
    names = {kind for part in parts for kind in ([part] if isinstance(part, str) else part)}
    alike = {"fp4": {"nvfp4", "mxfp4"}, "fp16": {"bf16"}}.get(name, {name})
    if name not in ("bf16", "fp16") and alike & names:
        return {}
    return {"attention_format": name, "dense_format": name, "expert_format": name}


def _check_ranges(record: Record, *, at: str) -> None:
    ranges = (
        ("tpot_ms", record.tpot_ms, TPOT_RANGE_S),
        ("ttft_ms", record.ttft_ms, TTFT_RANGE_S),
    )
    for name, value, (low, high) in ranges:
        if value is not None and not low <= value / 1e3 <= high:
            raise InputError(
                f"{at}: {name} = {value:g} lies outside {low * 1e3:g} to {high * 1e3:g} ms",
                hint="are these seconds or microseconds? the column is in milliseconds",
            )
    for name in ("batch", "input_tokens", "output_tokens", "tp", "dp", "ep", "pp"):
        if not 1 <= getattr(record, name) <= LONGEST_TOKENS:
            raise InputError(
                f"{at}: {name} = {getattr(record, name):g}", hint="give a number of at least 1"
            )
