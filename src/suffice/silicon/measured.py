"""Measured rows, and how they become a table of configurations."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from suffice.silicon.catalog import Chip, find_chip
from suffice.silicon.columns import ENGINES, ConfigTable, make_table
from suffice.silicon.formats import format_bits, mean_bits, resolve_formats
from suffice.silicon.intervals import split_version, version_side
from suffice.silicon.models import find_shape
from suffice.silicon.residual import trained
from suffice.silicon.roofline import Array
from suffice.silicon.shapes import Shape


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measured or planned configuration; `batch` is requests in flight over all replicas.

    `tp` chips share attention in each of `dp` groups, `ep` chips share the experts; a decode
    replica has `tp * dp * pp` chips. With `prefill_tp` above 0, other chips read the prompts:
    `prefill_replicas` and `decode_replicas` count them; None is not known. Formats that are not
    named are the checkpoint's own; attention has the dense one where that is named.
    """

    model: str
    chip: str
    engine: str
    batch: float
    input_tokens: float
    output_tokens: float
    tp: int = 1
    dp: int = 1
    ep: int = 1
    pp: int = 1
    attention_format: str | None = None
    dense_format: str | None = None
    expert_format: str | None = None
    kv_format: str | None = None
    prefill_tp: int = 0
    prefill_dp: int = 1
    prefill_replicas: int | None = None
    decode_replicas: int | None = 1
    tpot_ms: float | None = None
    ttft_ms: float | None = None


def table_of(records: Sequence[Record], *, chips: dict[str, Chip] | None = None) -> ConfigTable:
    """Turn records into columns; raises InputError for a name that nobody knows."""
    models = {name: find_shape(name) for name in dict.fromkeys(r.model for r in records)}
    kinds = {name: find_chip(name, chips) for name in dict.fromkeys(r.chip for r in records)}
    shapes = {shape.name: shape for shape in models.values()}
    used_chips = {chip.key: chip for chip in kinds.values()}
    bits = [_bits(r, models[r.model]) for r in records]
    apart = np.array([r.prefill_tp > 0 for r in records])
    guessed = np.array([r.decode_replicas is None for r in records])
    return make_table(
        tuple(shapes.values()),
        tuple(used_chips.values()),
        model=[list(shapes).index(models[r.model].name) for r in records],
        chip=[list(used_chips).index(kinds[r.chip].key) for r in records],
        engine=[engine_index(r.engine) for r in records],
        version=[engine_release(r.engine) for r in records],
        tp=[r.tp for r in records],
        dp=[r.dp for r in records],
        ep=[r.ep for r in records],
        pp=[r.pp for r in records],
        batch=[_batch(r) for r in records],
        input_tokens=[r.input_tokens for r in records],
        output_tokens=[r.output_tokens for r in records],
        attention_bits=[row[0] for row in bits],
        dense_bits=[row[1] for row in bits],
        expert_bits=[row[2] for row in bits],
        head_bits=[row[3] for row in bits],
        kv_bits=[row[4] for row in bits],
        prefill_chips=[r.prefill_tp * r.prefill_dp for r in records],
        prefill_tp=[r.prefill_tp for r in records],
        prefill_replicas=[(r.prefill_replicas or 0) / (r.decode_replicas or 1) for r in records],
        guessed_batch=guessed & apart,
    )


def _bits(record: Record, shape: Shape) -> tuple[float, float, float, float, float]:
    """Bits of attention, dense part, experts, output head and cache: as named, else the model's."""
    own = resolve_formats(shape.formats, weights=record.dense_format, cache=record.kv_format)
    scales = own.integer_scale_bits
    attention, dense, expert = (
        format_bits(name) if name else mean_bits(part, integer_scale_bits=scales)
        for name, part in (
            (record.attention_format, own.attention),
            (record.dense_format, own.dense),
            (record.expert_format, own.experts),
        )
    )
    return attention, dense, expert, mean_bits(own.head), format_bits(own.cache or "bf16")


def engine_index(name: str) -> int:
    """Index of an engine with measurements behind it, -1 for any other; a release is left out."""
    key = (
        split_version(name)[0]
        .lower()
        .replace("-", "")
        .replace("_", "")
        .replace("tensorrtllm", "trtllm")
    )
    return ENGINES.index(key) if key in ENGINES else -1


def engine_release(name: str) -> int:
    """-1 or 1 if an engine's release (`vllm 0.6`) is older or newer than all that were measured."""
    index, version = engine_index(name), split_version(name)[1]
    if index < 0 or not version:
        return 0
    return version_side(version, trained().coverage.versions.get(ENGINES[index]))


def seconds(records: Sequence[Record]) -> tuple[Array, Array]:
    """Measured seconds per token and to the first, NaN where a row has none."""
    ms = [(r.tpot_ms or np.nan, r.ttft_ms or np.nan) for r in records]
    tpot, ttft = np.array(ms, float).reshape(-1, 2).T / 1e3
    return tpot, ttft


def _batch(record: Record) -> float:
    """Return the requests in flight on one decode replica.

    Where the number of replicas is not recorded, the usual one is taken: operators add replicas as
    load grows, so the batch grows as load^0.75 and chips^0.25 (fitted, `docs/silicon.md`).
    """
    if record.decode_replicas is not None:
        return max(record.batch / record.decode_replicas, 1.0)
    usual: float = 0.6 * record.batch**0.75 * float(record.tp * record.dp) ** 0.25
    return max(1.0, min(record.batch, usual))
