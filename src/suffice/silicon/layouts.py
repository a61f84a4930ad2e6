"""Which ways of spreading a model over chips are worth a prediction, and which of them fit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from suffice.silicon.catalog import Chip
from suffice.silicon.columns import DEFAULT_DOMAIN, ConfigTable, make_table, memory_bytes, points
from suffice.silicon.formats import SIXTEEN_BITS, Formats, format_bits, mean_bits
from suffice.silicon.roofline import Array, capacity, weight_bytes
from suffice.silicon.shapes import Shape, profile

WIDTHS = (1, 2, 4, 8, 16, 32, 64)
STAGES = (1, 2, 4, 8)
BATCHES = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024)
USABLE = 0.88
BATCH_GROUPS = 8
PREFILL_SHARES = (0.125, 0.25, 1 / 3, 0.5, 2 / 3, 1.0, 1.5, 2.0, 3.0, 4.0)
ACROSS_NODES = (16, 32, 64, 128)
"""Expert-parallel replicas that are worth their messages over the network between nodes."""


@dataclass(frozen=True, kw_only=True)
class LayoutQuestion:
    """What every candidate has in common: lengths in tokens, number formats, engine.

    `serving` are other columns of `ConfigTable` by name: cached prompts, guesses, adapters.
    """

    input_tokens: float
    output_tokens: float
    formats: Formats
    engine: int
    version: int = 0
    apart: bool = True
    context_parallel: bool = False
    serving: Mapping[str, float] = field(default_factory=dict)


def spreads(shape: Shape, chip: Chip, *, block: int = 1) -> list[tuple[int, int, int]]:
    """List (tp, dp, ep) within the chip's scale-up network: tensor, data and expert parallel.

    Engines cut heads and the inner widths of layers evenly, and never within a `block` of weights
    that share a scale. Pipelines (`stages`) and wide expert parallelism (`wide_spreads`) may reach
    beyond the network.
    """
    domain = int(chip.domain.si if chip.domain else DEFAULT_DOMAIN)
    latent = any(block.kind in ("mla", "compressed") for block in shape.attention)
    layouts = []
    for width in WIDTHS:
        if width > domain:
            break
        dense = _may_cut(shape, width, block=block)
        if dense and (shape.experts is None or _even(shape.experts.width, width, block=block)):
            layouts.append((width, 1, 1))
        if shape.experts and shape.experts.count % width == 0 and width > 1:
            if dense:
                layouts.append((width, 1, width))
            if latent:
                layouts.append((1, width, width))
    return [spread for spread in layouts if not latent or spread[0] <= 8]


def _may_cut(shape: Shape, width: int, *, block: int) -> bool:
    """Whether attention and dense layers can be cut `width` ways.

    Cached heads are cut evenly, or copied where there are more chips than heads.
    """
    for mixer in shape.attention:
        if mixer.kind == "conv":
            continue
        copies = mixer.kind != "gqa" or 0 in (mixer.kv_heads % width, width % mixer.kv_heads)
        if mixer.heads % width or not copies:
            return False
    shared = shape.experts.shared_width if shape.experts else 0
    widths = [layer.width for layer in shape.dense] + [shared]
    return all(_even(inner, width, block=block) for inner in widths)


def _even(inner: int, width: int, *, block: int) -> bool:
    """Whether an inner width is cut into equal parts of whole blocks; one chip cuts nothing."""
    return width == 1 or inner % (width * block) == 0


def wide_spreads(shape: Shape, chip: Chip) -> list[tuple[int, int, int]]:
    """List (tp, dp, ep) over several nodes, for experts of models with a latent cache.

    Their attention is data parallel, so only experts' tokens cross the network. Chips without a
    network that is published, or without faster links inside a node, are left out.
    """
    domain = int(chip.domain.si if chip.domain else DEFAULT_DOMAIN)
    if shape.experts is None or not any(b.kind in ("mla", "compressed") for b in shape.attention):
        return []
    if chip.network is None or chip.link_bytes_per_s <= chip.network.si:
        return []
    count = shape.experts.count
    return [(1, width, width) for width in ACROSS_NODES if width > domain and count % width == 0]


def stages(shape: Shape, spread: tuple[int, int, int], *, share: float) -> tuple[int, ...]:
    """Pipeline stages worth trying: over tensor-parallel groups that read their own prompts."""
    _, dp, ep = spread
    plain = dp == ep == 1 and share == 0
    return tuple(pp for pp in STAGES if pp == 1 or (plain and pp <= shape.layers))


def cache_splits(shape: Shape, tp: int) -> tuple[int, ...]:
    """Over how many chips the tokens of a cache may lie: those that would hold copies of it."""
    copies = tp // min(tp, int(profile(shape).kv_heads))
    return tuple(cp for cp in WIDTHS if copies % cp == 0)


def candidates(shape: Shape, chips: tuple[Chip, ...], question: LayoutQuestion) -> ConfigTable:
    """Every chip, spread, batch and split of prefill worth predicting, whether it fits or not.

    More requests in flight are tried where many groups share them.
    """
    shares = (0.0, *PREFILL_SHARES) if question.apart else (0.0,)
    splits = {tp: cache_splits(shape, tp) if question.context_parallel else (1,) for tp in WIDTHS}
    block = question.formats.scale_block
    near = {chip.key: spreads(shape, chip, block=block) for chip in chips}
    layouts = [
        (i, *spread, pp, cp, share)
        for i, chip in enumerate(chips)
        for spread, share in product(near[chip.key] + wide_spreads(shape, chip), shares)
        for pp, cp in product(stages(shape, spread, share=share), splits[spread[0]])
    ]
    columns = np.repeat(np.array(layouts, float), len(BATCHES), axis=0).T
    groups, stage = columns[2], columns[4]
    batch = np.tile(BATCHES, len(layouts)) * np.maximum(groups // BATCH_GROUPS, 1)
    enough = batch >= groups * stage
    (chip, tp, dp, ep, pp, cp, share), batch = columns[:, enough], batch[enough]
    formats, scales = question.formats, question.formats.integer_scale_bits
    return make_table(
        (shape,),
        chips,
        chip=chip,
        engine=question.engine,
        version=question.version,
        tp=tp,
        dp=dp,
        ep=ep,
        pp=pp,
        cp=cp,
        batch=batch,
        input_tokens=question.input_tokens,
        output_tokens=question.output_tokens,
        attention_bits=mean_bits(formats.attention, integer_scale_bits=scales),
        dense_bits=mean_bits(formats.dense, integer_scale_bits=scales),
        expert_bits=mean_bits(formats.experts, integer_scale_bits=scales),
        head_bits=mean_bits(formats.head, integer_scale_bits=scales),
        kv_bits=format_bits(formats.cache or SIXTEEN_BITS),
        prefill_chips=np.where(share > 0, tp * dp, 0),
        prefill_tp=np.where(share > 0, tp, 0),
        prefill_replicas=share,
        **question.serving,
    )


def fits(table: ConfigTable) -> Array:
    """Whether weights fit beside room for the whole batch, on decode and on prefill chips."""
    table = table.compact()
    at, memory = points(table), memory_bytes(table)
    room = capacity(at, memory=memory, usable=USABLE) >= np.maximum(table.batch, 1)
    return np.asarray((weight_bytes(at) <= USABLE * memory) & room)


def chips_per_replica(table: ConfigTable) -> Array:
    """Chips of one decode replica with its share of prefill chips."""
    return np.asarray(table.tp * table.dp * table.pp + table.prefill_chips * table.prefill_replicas)


def describe(table: ConfigTable, row: int) -> str:
    """Write a layout for people, as in `tp 8, ep 8 + prefill on 8 chips x 0.5`."""
    names = ("tp", "dp", "ep", "pp", "cp")
    columns = {name: getattr(table, name)[row] for name in names}
    parts = [f"{name} {int(value)}" for name, value in columns.items() if value > 1]
    text = ", ".join(parts) or "1 chip"
    if table.prefill_chips[row] > 0:
        text += (
            f" + prefill on {int(table.prefill_chips[row])} chips"
            f" x {table.prefill_replicas[row]:.3g}"
        )
    return text
