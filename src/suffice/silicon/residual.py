"""Roofline times with fitted coefficients, and what the learned residual sees of them.

Everything learned is in data/trained.json, together with the command and the data that made it.
"""

import functools
from dataclasses import dataclass
from importlib import resources

import msgspec
import numpy as np
from msgspec import Struct

from suffice.silicon import roofline
from suffice.silicon.columns import ENGINES, ConfigTable, points, prefill_points, unpacked
from suffice.silicon.intervals import Coverage, Interval
from suffice.silicon.roofline import Array, Points, StepTerms

FLOOR_S = 1e-9
SHARE_FLOOR = -6.0


STEP_NAMES = tuple(
    "weights experts cache compute attention wire message_s layer_s moe_layer_s sequence_s step_s "
    "interference power core_trtllm core_vllm core_sglang core_amd overhead_trtllm overhead_vllm "
    "overhead_sglang overhead_amd guessed unpacked".split()
)
STEP_START = (1.25, 1.15, 1.4, 1.3, 1.7, 3.0, 9e-6, 1.6e-5, 3e-5, 3e-6, 1e-4, 2.0, 1.5, *[1.0] * 10)
FIRST_NAMES = tuple(
    "own queue queue_power step start_s token_s wait saturation "
    "factor_trtllm factor_vllm factor_sglang factor_apart".split()
)
FIRST_START = (2.0, 0.5, 0.7, 1.0, 2e-2, 1e-6, 0.5, 0.3, *[1.0] * 4)

PARTS = tuple(
    "offset mode format layout slope_batch slope_input slope_output slope_chips near_batch "
    "same_setup same_work noise".split()
)


class Kernel(Struct, frozen=True, kw_only=True):
    """Variances of the parts of a group's error (PARTS), and the conformal factor.

    Errors are log time over the half width of their interval, so that a kind of row that is hard to
    predict does not pass for a group that is off.
    """

    variances: tuple[float, ...]
    quantile: float = 1.645

    @property
    def noise(self) -> float:
        """Variance of one measurement around what the other parts explain."""
        return self.variances[-1]


class LearnedTarget(Struct, frozen=True, kw_only=True):
    """What was learned for one target: coefficients, network, interval, how groups differ."""

    coefficients: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    interval: Interval
    kernel: Kernel


class Trained(Struct, frozen=True, kw_only=True):
    """All learned parameters, and where they come from.

    Features are standardised by `mean` and `scale`, then compared with `centres` (m, d); each
    target has its own weights. `older` says by vendor how many times longer a step takes on
    releases of engines from before the measurements; the key `other` is for the other vendors.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    centres: tuple[tuple[float, ...], ...]
    tpot: LearnedTarget
    ttft: LearnedTarget
    coverage: Coverage
    older: dict[str, float]
    made_by: str
    data: tuple[str, ...]
    date: str


@dataclass(frozen=True, kw_only=True)
class IdealTimes:
    """Ideal times of n configurations and the flags that the coefficients need.

    `read_s` is one prompt read on its replica, `mixed_s` how much of that each output token waits
    for where prompts are read between decode steps, `waiting` how many times over the memory is
    booked, `engine` one column per known engine.
    """

    points: Points
    step: StepTerms
    read_s: Array
    mixed_s: Array
    saturated_s: Array
    waiting: Array
    apart: Array
    guessed: Array
    unpacked: Array
    amd: Array
    engine: Array

    @property
    def loaded_read_s(self) -> Array:
        """Seconds of reading one prompt at full load: ideal times the fitted interference."""
        return np.asarray(self.read_s * np.exp(trained().tpot.coefficients[11]))


@functools.cache
def trained() -> Trained:
    """Read the shipped parameters."""
    text = resources.files("suffice.silicon").joinpath("data/trained.json").read_bytes()
    return msgspec.json.decode(text, type=Trained)


def ideal(table: ConfigTable, *, experts: str = "unique") -> IdealTimes:
    """Compute what physics says of a table, before anything learned."""
    times = points(table)
    step = roofline.decode(times, experts=experts)
    kind = table.batch.dtype
    apart = (table.prefill_chips > 0).astype(kind)
    new = table.new_tokens
    cached = times.work.input_tokens - new
    read = roofline.prefill(prefill_points(table, decode=times), tokens=new, before=cached)
    read_s = np.maximum(read.compute + read.compute_attention, read.weights + read.experts)
    vendors = np.array([chip.vendor == "amd" for chip in table.chips], kind)
    known = (np.arange(len(ENGINES))[:, None] == table.engine).T
    return IdealTimes(
        points=times,
        step=step,
        read_s=read_s,
        mixed_s=(1 - apart) * read_s * step.sequences / times.work.output_tokens,
        saturated_s=apart * read_s * table.batch / np.maximum(table.prefill_replicas, 1.0),
        waiting=np.maximum(table.batch / table.pp, 1.0) / times.work.batch,
        apart=apart,
        guessed=table.guessed_batch,
        unpacked=unpacked(table),
        amd=vendors[table.chip],
        engine=known.astype(kind),
    )


def step_seconds(times: IdealTimes, coefficients: Array) -> Array:
    """Seconds per output token from ideal times and log `coefficients`, without residual."""
    q, step = np.exp(coefficients), times.step
    widened = np.exp(times.unpacked * coefficients[22])
    memory = step.weights * q[0] + step.experts * q[1] * widened + step.cache * q[2]
    arithmetic = step.compute * q[3] + step.compute_attention * q[4]
    core = roofline.soft_maximum([memory, arithmetic], power=1 + q[12])
    overhead = step.messages * q[6] + step.layers * q[7] + step.moe_layers * q[8]
    overhead = overhead + step.sequences * q[9] + q[10]
    core_factor = np.exp(times.engine @ coefficients[13:16] + times.amd * coefficients[16])
    overhead_factor = np.exp(times.engine @ coefficients[17:20] + times.amd * coefficients[20])
    total = (
        core * core_factor + step.wire * q[5] + overhead * overhead_factor + times.mixed_s * q[11]
    )
    return np.asarray(total * np.exp(times.guessed * coefficients[21]))


def reading(times: IdealTimes) -> Array:
    """Return the share of each predicted step that prompts read in between take."""
    coefficients = np.array(trained().tpot.coefficients)
    read_s = times.mixed_s * np.exp(coefficients[11] + times.guessed * coefficients[21])
    return np.asarray(read_s / step_seconds(times, coefficients))


def first_seconds(times: IdealTimes, coefficients: Array, *, tpot_s: Array) -> Array:
    """Seconds to the first token from ideal times and log `coefficients` (FIRST_NAMES).

    Its own prompt, a share of the prompts ahead of it, one step, and, where memory is overbooked or
    the prefill replicas are too few, the wait for a place.
    """
    q, work = np.exp(coefficients), times.points.work
    ahead = times.step.sequences ** q[2]
    start = times.read_s * (q[0] + q[1] * ahead) + q[3] * tpot_s + q[4] + q[5] * work.input_tokens
    held = np.maximum(times.waiting - 1, 0) * tpot_s * work.output_tokens * q[6]
    queue = np.maximum(times.saturated_s - work.output_tokens * tpot_s, 0) * q[7]
    factor = np.exp(times.engine @ coefficients[8:11] + times.apart * coefficients[11])
    return np.asarray((start + held + queue) * factor)


def features(times: IdealTimes, *, table: ConfigTable, step_s: Array) -> Array:
    """Describe each row to the network: shares of the step, sizes, rates, flags; (d, n) float32."""
    m, h, lay, w, step = (
        times.points.model,
        times.points.hardware,
        times.points.layout,
        times.points.work,
        times.step,
    )
    shares = (
        step.weights,
        step.experts,
        step.cache,
        step.compute,
        step.compute_attention,
        step.wire,
    )
    active = m.attention + m.dense + m.shared + m.head + m.moe_layers * m.active_experts * m.expert
    sizes = (
        times.read_s,
        step_s,
        step.sequences,
        w.batch,
        table.batch / lay.pp,
        w.input_tokens,
        w.output_tokens,
        lay.tp,
        lay.dp,
        lay.ep,
        lay.stage_chips,
        h.bandwidth,
        h.flops_dense / h.bandwidth,
        h.flops_expert / h.bandwidth,
        h.link / h.bandwidth,
        np.minimum(h.domain, 72.0),
        m.hidden,
        m.layers,
        m.moe_layers + 1,
        active,
        m.experts,
        m.active_experts,
        m.expert + 1,
        m.kv_heads,
        w.dense_bytes,
        w.expert_bytes,
        table.prefill_chips + 1,
        table.prefill_replicas + 1,
        times.waiting,
    )
    flags = (
        times.apart,
        times.guessed,
        times.unpacked,
        m.is_mla,
        m.state > 0,
        np.isfinite(m.top_tokens),
        m.window > 0,
        times.amd,
        *times.engine.T,
    )
    out = np.empty((len(shares) + 1 + len(sizes) + len(flags), len(table)), np.float32)
    rows = iter(out)
    for share, row in zip((*shares, times.mixed_s), rows, strict=False):
        np.divide(np.maximum(share, FLOOR_S), step_s, out=row, casting="same_kind")
        np.maximum(np.log(row, out=row), SHARE_FLOOR, out=row)
    for column, row in zip(sizes, rows, strict=False):
        row[:] = np.log(np.asarray(column, np.float32))
    for column, row in zip(flags, rows, strict=True):
        row[:] = column
    return out


def interval_terms(times: IdealTimes, *, distance: Array) -> dict[str, Array]:
    """Return what the width of an interval grows with, but for what was never measured.

    A deployment that is planned is a source of its own: `source` is 1.
    """
    own = np.maximum(times.step.weights + times.step.experts + times.step.cache, FLOOR_S)
    return {
        "distance": distance,
        "guessed": times.guessed,
        "apart": times.apart,
        "reading": times.mixed_s / (times.mixed_s + own),
        "source": np.ones_like(distance),
    }
