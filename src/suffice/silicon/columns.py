"""Configurations to be predicted, as columns: model, chip, engine, layout and work."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from suffice.silicon.catalog import Chip, flops_per_s
from suffice.silicon.roofline import Array, Hardware, Layout, Model, Points, Work, capacity
from suffice.silicon.shapes import Shape, profile

ENGINES = ("trtllm", "vllm", "sglang")
"""Engines with measurements behind them; any other name is an unknown engine (index -1)."""

SPECULATION = ("draft_tokens", "acceptance", "draft_cost", "held_bytes")
ADAPTERS = ("adapters", "adapter_bytes")
DEFAULT_DOMAIN = 8.0
NETWORK_SHARE = 1 / 9
"""Rate beyond the scale-up network over the rate inside it, where not published (H100's ratio)."""


@dataclass(frozen=True, kw_only=True)
class ConfigTable:
    """n configurations: `model`, `chip` and `engine` index the tuples; the rest are columns of n.

    `batch` is the number of requests in flight per decode replica. `prefill_chips` is 0 where the
    same chips read prompts and decode, else the chips of one prefill replica, of which there are
    `prefill_replicas` per decode replica (0: not known). `guessed_batch` marks rows whose record
    does not say over how many replicas its requests were spread. `version` is -1 or 1 where the
    engine's release is older or newer than all that were measured.

    `cache_hit` is the share of prompt tokens that a prefix cache holds. With speculative decoding
    each step checks `draft_tokens` guesses, of which each is accepted with probability `acceptance`
    if those before it were, and one guess takes `draft_cost` of a step. `held_bytes` lie in memory
    beside the weights. `adapters` are LoRA adapters of `adapter_bytes` each, asked for evenly.
    """

    models: tuple[Shape, ...]
    chips: tuple[Chip, ...]
    model: Array
    chip: Array
    engine: Array
    version: Array
    tp: Array
    dp: Array
    ep: Array
    pp: Array
    cp: Array
    batch: Array
    input_tokens: Array
    output_tokens: Array
    attention_bits: Array
    dense_bits: Array
    expert_bits: Array
    head_bits: Array
    kv_bits: Array
    prefill_chips: Array
    prefill_tp: Array
    prefill_replicas: Array
    guessed_batch: Array
    cache_hit: Array
    draft_tokens: Array
    acceptance: Array
    draft_cost: Array
    held_bytes: Array
    adapters: Array
    adapter_bytes: Array

    @property
    def new_tokens(self) -> Array:
        """Prompt tokens that no cache holds; at least one is always read."""
        return np.asarray(np.maximum(self.input_tokens * (1 - self.cache_hit), 1.0))

    @property
    def columns(self) -> dict[str, Array]:
        """All columns by name, without models and chips."""
        return {k: v for k, v in vars(self).items() if isinstance(v, np.ndarray)}

    def __len__(self) -> int:
        return len(self.batch)

    def take(self, rows: Any) -> "ConfigTable":
        """Return the rows that an index, slice or mask picks; what has one value is not copied."""
        n, columns = len(self), dict[str, Any]()
        count = len(self.batch[rows])
        for name, column in self.columns.items():
            if column.strides == (0,):
                columns[name] = np.broadcast_to(column[:1], count)
            else:
                columns[name] = column[rows] if len(column) == n else column
        return replace(self, **columns)

    def single(self) -> "ConfigTable":
        """Return the same rows in single precision: faster, and exact to 1 in a million."""
        columns: dict[str, Any] = {
            name: column.astype(np.float32)
            for name, column in self.columns.items()
            if column.dtype.kind == "f"
        }
        return replace(self, **columns)

    def compact(self) -> "ConfigTable":
        """Return the same rows with one number for each column that has one value, but `batch`.

        A plan has one model and one workload, so that half of the physics is one number too.
        """
        if not len(self):
            return self
        columns: dict[str, Any] = {
            name: column[:1]
            for name, column in self.columns.items()
            if name != "batch" and column[0] == column[-1] and (column == column[0]).all()
        }
        if "model" in columns:
            columns |= {"models": (self.models[columns["model"][0]],), "model": np.array([0])}
        return replace(self, **columns)


def make_table(models: tuple[Shape, ...], chips: tuple[Chip, ...], **columns: Any) -> ConfigTable:
    """Broadcast columns and scalars to one length; defaults are one chip and 16-bit numbers.

    Attention has the bits of the dense part where it is not said otherwise.
    """
    defaults: dict[str, Any] = {"model": 0, "chip": 0, "engine": -1, "pp": 1, "guessed_batch": 0}
    defaults |= dict.fromkeys((*SPECULATION, *ADAPTERS, "version", "cache_hit"), 0)
    defaults |= {
        "tp": 1,
        "dp": 1,
        "ep": 1,
        "cp": 1,
        "dense_bits": 16,
        "expert_bits": 16,
        "kv_bits": 16,
    }
    defaults |= {"attention_bits": columns.get("dense_bits", 16), "head_bits": 16}
    defaults |= {"prefill_chips": 0, "prefill_tp": 0, "prefill_replicas": 0}
    values = defaults | columns
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in values.values()))
    arrays_by_name = dict(zip(values, arrays, strict=True))
    index = {k: arrays_by_name[k].astype(int) for k in ("model", "chip", "engine")}
    return ConfigTable(models=models, chips=chips, **(arrays_by_name | index))


def points(table: ConfigTable) -> Points:
    """Look up shapes and chips; `batch` is cut to what memory holds (the rest must wait).

    What is held is then spread over the micro-batches of a pipeline.
    """
    full = Points(
        model=_model(table), hardware=_hardware(table), layout=_layout(table), work=_work(table)
    )
    held = np.minimum(full.work.batch, capacity(full, memory=memory_bytes(table)))
    return replace(full, work=replace(full.work, batch=np.maximum(held / table.pp, 1.0)))


def memory_bytes(table: ConfigTable) -> Array:
    """Memory of each row's chip."""
    return _of_chip(table, [chip.memory.si for chip in table.chips])


def prefill_points(table: ConfigTable, *, decode: Points) -> Points:
    """Return the same configurations as the chips that read the prompt see them."""
    apart = table.prefill_chips > 0
    own = decode.layout
    tp = np.where(apart, np.maximum(table.prefill_tp, 1), own.tp)
    dp = np.where(apart, np.maximum(table.prefill_chips / tp, 1), own.dp)
    ep = np.where(apart, np.where(own.ep > 1, tp * dp, 1), own.ep)
    pp, cp = np.where(apart, 1.0, own.pp), np.where(apart, 1.0, own.cp)
    layout = Layout(tp=tp, dp=dp, ep=ep, moe_tp=tp * dp / ep, pp=pp, cp=cp)
    return replace(decode, layout=layout)


def unpacked(table: ConfigTable) -> Array:
    """Mark rows whose 4-bit experts must be widened, as the chip has no 4-bit arithmetic."""
    lacks = _of_chip(table, [chip.fp4 is None for chip in table.chips])
    return np.asarray(lacks * (arithmetic(table.expert_bits) == 0))


def _model(table: ConfigTable) -> Model:
    names = [field.name for field in fields(Model)]
    profiles = [profile(shape) for shape in table.models]
    known = [[getattr(counts, name) for counts in profiles] for name in names]
    columns = np.array(known, table.batch.dtype).take(table.model, axis=1)
    return Model(**dict(zip(names, columns, strict=True)))


def _hardware(table: ConfigTable) -> Hardware:
    chips, kind = table.chips, table.batch.dtype
    rates = np.array([[flops_per_s(c, bits=bits) for bits in (4, 8, 16)] for c in chips], kind)
    network = [c.network.si if c.network else NETWORK_SHARE * c.link_bytes_per_s for c in chips]
    parts = (table.attention_bits, table.dense_bits, table.expert_bits)
    attention, dense, expert = (rates.take(3 * table.chip + arithmetic(bits)) for bits in parts)
    return Hardware(
        bandwidth=_of_chip(table, [c.bandwidth.si for c in chips]),
        flops_attention=attention,
        flops_dense=dense,
        flops_expert=expert,
        flops_bf16=_of_chip(table, [c.bf16.si for c in chips]),
        link=_of_chip(table, [c.link_bytes_per_s for c in chips]),
        network=_of_chip(table, network),
        domain=_of_chip(table, [c.domain.si if c.domain else DEFAULT_DOMAIN for c in chips]),
    )


def _of_chip(table: ConfigTable, values: Sequence[float]) -> Array:
    """Give each row the value of its chip, in the table's precision."""
    return np.asarray(np.array(values, table.batch.dtype).take(table.chip))


def arithmetic(bits: Array) -> Any:
    """Return the index of the arithmetic for weights of so many bits: 4, 8 or 16; scales count."""
    return (bits > 5).astype(np.intp) + (bits > 9)


def _layout(table: ConfigTable) -> Layout:
    experts = table.tp * table.dp / table.ep
    return Layout(tp=table.tp, dp=table.dp, ep=table.ep, moe_tp=experts, pp=table.pp, cp=table.cp)


def _work(table: ConfigTable) -> Work:
    return Work(
        batch=np.maximum(table.batch, 1.0),
        input_tokens=table.input_tokens,
        output_tokens=np.maximum(table.output_tokens, 1.0),
        attention_bytes=table.attention_bits / 8,
        dense_bytes=table.dense_bits / 8,
        expert_bytes=table.expert_bits / 8,
        head_bytes=table.head_bits / 8,
        kv_bytes=table.kv_bits / 8,
        held_bytes=table.held_bytes + table.adapters * table.adapter_bytes,
        adapters=table.adapters,
        adapter_bytes=table.adapter_bytes,
    )
