"""The prediction that ships: roofline times, fitted coefficients, a learned residual, an interval.

Everything learned is in data/trained.json, together with the command and the data that made it.
Evaluation is plain numpy over chunks that fit the cache, on as many threads as asked for.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from importlib import resources

import msgspec
import numpy as np
from msgspec import Struct
from threadpoolctl import ThreadpoolController

from suffice.silicon import basis as network
from suffice.silicon import roofline
from suffice.silicon.columns import ENGINES, ConfigTable, points, prefill_points, unpacked
from suffice.silicon.intervals import Coverage, Interval, half_width, novelties
from suffice.silicon.roofline import Array, Points, StepTerms

CHUNK_ROWS = 16384
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
LIMIT = 1.2
"""The residual moves a prediction by at most exp(LIMIT): physics has the last word."""


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
class Prediction:
    """Seconds per output token and to the first one, each with a 90 % interval; arrays of n.

    `distance` says how far a configuration lies from the data, in standardised units.
    """

    tpot_s: Array
    tpot_low_s: Array
    tpot_high_s: Array
    ttft_s: Array
    ttft_low_s: Array
    ttft_high_s: Array
    distance: Array


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


def predict(table: ConfigTable, *, learned: Trained | None = None, threads: int = 1) -> Prediction:
    """Predict every row; rows are independent, so chunks may run on `threads` threads.

    Each thread multiplies alone: products of one block are too small to share between cores.
    """
    learned = trained() if learned is None else learned
    constants = _constants(learned)

    def chunk(start: int) -> Prediction:
        rows = table.take(slice(start, start + CHUNK_ROWS)).single()
        return _predict_chunk(rows, learned, constants)

    with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(chunk, range(0, len(table), CHUNK_ROWS)))
    names = [f.name for f in fields(Prediction)]
    joined = [np.concatenate([getattr(p, name) for p in parts], dtype=float) for name in names]
    return Prediction(**dict(zip(names, joined, strict=True)))


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


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
    known = table.engine[:, None] == np.arange(len(ENGINES))
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
    for i, share in enumerate((*shares, times.mixed_s)):
        np.divide(np.maximum(share, FLOOR_S), step_s, out=out[i], casting="same_kind")
    for i, column in enumerate((*sizes, *flags), start=len(shares) + 1):
        out[i] = column
    logs = out[: len(shares) + 1 + len(sizes)]
    np.log(logs, out=logs)
    np.maximum(logs[: len(shares) + 1], SHARE_FLOOR, out=logs[: len(shares) + 1])
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


def _constants(learned: Trained) -> dict[str, Array]:
    """Arrange what was learned for evaluation, in single precision."""
    both = (learned.tpot, learned.ttft)
    arrays = {
        "mean": learned.mean,
        "scale": learned.scale,
        "lifted": network.lift(np.array(learned.centres)),
        "weights": [target.weights for target in both],
        "bias": [target.bias for target in both],
        "tpot": learned.tpot.coefficients,
        "ttft": learned.ttft.coefficients,
    }
    return {name: np.array(values, np.float32) for name, values in arrays.items()}


def _predict_chunk(table: ConfigTable, learned: Trained, constants: dict[str, Array]) -> Prediction:
    times = ideal(table)
    step_s = step_seconds(times, constants["tpot"])
    raw = features(times, table=table, step_s=step_s)
    x = network.standardise(raw, mean=constants["mean"], scale=constants["scale"])
    moved, distance = network.evaluate(
        x, lifted=constants["lifted"], weights=constants["weights"], bias=constants["bias"]
    )
    np.exp(np.clip(moved, -LIMIT, LIMIT, out=moved), out=moved)
    tpot_s = step_s * moved[0] * _older(table, learned)
    if table.draft_tokens.any():
        tpot_s = tpot_s * _speculation_factor(table, times, constants["tpot"])
    ttft_s = first_seconds(times, constants["ttft"], tpot_s=tpot_s) * moved[1]
    unseen = novelties(table, learned.coverage)
    terms = interval_terms(times, distance=distance)
    wide = [
        np.exp(half_width(t.interval, terms, unseen=unseen)) for t in (learned.tpot, learned.ttft)
    ]
    return Prediction(
        tpot_s=tpot_s,
        tpot_low_s=tpot_s / wide[0],
        tpot_high_s=tpot_s * wide[0],
        ttft_s=ttft_s,
        ttft_low_s=ttft_s / wide[1],
        ttft_high_s=ttft_s * wide[1],
        distance=distance,
    )


def _speculation_factor(table: ConfigTable, times: IdealTimes, coefficients: Array) -> Array:
    """Seconds per token with guesses that are checked, over seconds per token without.

    A step checks all guesses and costs their drafts on top; it yields the accepted ones and one
    token more. Prompts read in between take their time per token, guesses or not.
    """
    drafts = table.draft_tokens
    checked = roofline.decode(times.points, tokens=1 + drafts)
    unmixed = replace(times, mixed_s=np.zeros_like(times.mixed_s))
    step_s = step_seconds(replace(unmixed, step=checked), coefficients)
    per_token_s = step_s * (1 + drafts * table.draft_cost) / tokens_per_step(table)
    plain_s, alone_s = step_seconds(times, coefficients), step_seconds(unmixed, coefficients)
    return np.asarray((per_token_s + plain_s - alone_s) / plain_s)


def tokens_per_step(table: ConfigTable) -> Array:
    """Tokens that a step yields: 1 + a + a^2 + ... with `draft_tokens` guesses accepted at `a`."""
    a, k = table.acceptance, table.draft_tokens
    short = np.minimum(a, 1 - 1e-6)
    return np.where(a < 1, (1 - short ** (k + 1)) / (1 - short), k + 1)


def _older(table: ConfigTable, learned: Trained) -> Array:
    """How many times longer a step takes on an engine's release from before the measurements."""
    slower = [learned.older.get(c.vendor, learned.older.get("other", 1.0)) for c in table.chips]
    by_row = np.array(slower, table.batch.dtype)[table.chip]
    return np.where(table.version < 0, by_row, np.ones_like(by_row))
