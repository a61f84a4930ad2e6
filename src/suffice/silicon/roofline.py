"""Time per step from bytes, FLOPs and messages: pure functions over arrays.

Every function returns *ideal* times, at the published rates. What share of those rates software
reaches, and what it adds per layer and per step, is fitted (`residual`), never assumed here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ACTIVATION_BYTES = 2.0
INDEX_BYTES = 132 / 128
"""Engines keep the keys of a sparse-attention index in 8 bits, with one scale for each key."""

STATE_BYTES = 4.0
DISPATCH_BYTES = 1.0 + ACTIVATION_BYTES
"""Expert parallelism sends a token out in 8 bits and takes the answer back in 16."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """Columns of `shapes.Profile`; counts are parameters, elements, FLOPs or layers."""

    layers: Array
    moe_layers: Array
    hidden: Array
    attention: Array
    dense: Array
    shared: Array
    expert: Array
    experts: Array
    active_experts: Array
    router: Array
    head: Array
    embedding: Array
    vision: Array
    kv_full: Array
    kv_sparse: Array
    kv_window: Array
    kv_index: Array
    read_full: Array
    read_window: Array
    kv_heads: Array
    window: Array
    top_tokens: Array
    state: Array
    score_prefill: Array
    score_decode: Array
    score_sparse: Array
    score_window: Array
    score_index: Array
    state_flops: Array
    is_mla: Array


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Rates of one chip, in bytes/s and FLOP/s; `domain` chips share the `link`."""

    bandwidth: Array
    flops_attention: Array
    flops_dense: Array
    flops_expert: Array
    flops_bf16: Array
    link: Array
    network: Array
    domain: Array


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one replica is spread: attention over `tp` chips in `dp` groups, experts over `ep`.

    `moe_tp` chips share each expert. The tokens of a request's cache lie on `cp` of the `tp` chips
    (vLLM's `--decode-context-parallel-size`). `pp` pipeline stages; `chips = tp * dp * pp`. Every
    token passes all stages in turn, and as many micro-batches are under way: a pipeline takes the
    time of one stage's chips that hold all layers, with a batch that is `pp` times smaller, and its
    hops.
    """

    tp: Array
    dp: Array
    ep: Array
    moe_tp: Array
    pp: Array
    cp: Array

    @property
    def chips(self) -> Array:
        """Chips of one replica."""
        return self.tp * self.dp * self.pp

    @property
    def stage_chips(self) -> Array:
        """Chips of one pipeline stage, which is all of them without a pipeline."""
        return self.tp * self.dp


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the replica does: `batch` sequences in each micro-batch, over all its groups.

    Without a pipeline that is all of them. Bytes are per number, but for `held_bytes` beside the
    weights and `adapter_bytes` of each of `adapters`.
    """

    batch: Array
    input_tokens: Array
    output_tokens: Array
    attention_bytes: Array
    dense_bytes: Array
    expert_bytes: Array
    head_bytes: Array
    kv_bytes: Array
    held_bytes: Array
    adapters: Array
    adapter_bytes: Array


@dataclass(frozen=True, kw_only=True)
class Points:
    """Configurations: four groups of columns that broadcast against each other."""

    model: Model
    hardware: Hardware
    layout: Layout
    work: Work


def unique_experts(experts: Array, active: Array, tokens: Array) -> Array:
    """How many of `experts` a batch of `tokens` touches when each picks `active`: E(1-(1-k/E)^B).

    Exact for uniform, independent routing; skewed or correlated routing touches fewer, so it is an
    upper bound (see `routing.skewed_experts`).
    """
    share = np.asarray(active / experts)
    missed = tokens * np.log1p(-np.minimum(share, 1 - np.finfo(share.dtype).epsneg))
    return np.asarray(-experts * np.expm1(missed))


def soft_maximum(terms: Sequence[Array], *, power: float) -> Array:
    """Combine times that overlap in part: the `power` norm; 1 adds, infinity is the largest."""
    total = sum(term**power for term in terms)
    return np.asarray(total) ** (1 / power)


def cache_bytes(model: Model, *, context: Array, kv_bytes: Array) -> Array:
    """Bytes of cache that one sequence of `context` tokens holds (not: reads) over all layers."""
    kept = (model.kv_full + model.kv_sparse) * context
    kept = kept + model.kv_window * np.minimum(context, model.window)
    index = model.kv_index * context * INDEX_BYTES
    return np.asarray(kept * kv_bytes + index + model.state * STATE_BYTES)


def capacity(points: Points, *, memory: Array, usable: float = 0.88) -> Array:
    """How many average sequences the replica's memory holds beside the weights; at least one.

    `memory` is bytes per chip, `usable` the share that engines may fill. Where neither heads nor
    tokens are split over all chips, the cache is stored more than once.
    """
    layout, work = points.layout, points.work
    free = np.maximum(usable * memory - weight_bytes(points), 0.02 * memory) * layout.chips
    copies = layout.tp / _cache_split(points)
    context = work.input_tokens + work.output_tokens / 2
    held = cache_bytes(points.model, context=context, kv_bytes=work.kv_bytes) * copies
    return np.maximum(free / np.maximum(held, 1.0), 1.0)


def weight_bytes(points: Points) -> Array:
    """Bytes of weights per chip: all experts, embeddings and towers for pictures loaded."""
    model, layout, work = points.model, points.layout, points.work
    routed = model.moe_layers * model.experts * model.expert / (layout.ep * layout.moe_tp)
    looked_up = (model.embedding + model.vision) * ACTIVATION_BYTES / layout.tp
    head = model.head * work.head_bytes / layout.tp
    total = _fixed_bytes(points) + routed * work.expert_bytes + head + looked_up
    total = total + work.held_bytes / layout.stage_chips
    return np.asarray(total / layout.pp)


@dataclass(frozen=True, kw_only=True)
class StepTerms:
    """Ideal seconds of one step by what bounds it, and the counts that overheads multiply."""

    weights: Array
    experts: Array
    cache: Array
    compute: Array
    compute_attention: Array
    wire: Array
    messages: Array
    layers: Array
    moe_layers: Array
    sequences: Array


def decode(points: Points, *, experts: str = "unique", tokens: Array | float = 1.0) -> StepTerms:
    """Ideal time of one decode step (`tokens` for each of `batch` sequences) on the busiest chip.

    With more than one token a step checks guesses: weights and cache are read once. `experts` picks
    the law for how many are read: `unique`, `all`, or `topk` (for comparison only). Of the adapters
    it reads those that its sequences ask for.
    """
    model, chip, layout, work = points.model, points.hardware, points.layout, points.work
    context = work.input_tokens + work.output_tokens / 2
    rank = np.maximum(work.batch / layout.dp, 1.0)
    passed = work.batch * tokens
    touched = _touched(model, passed, law=experts)
    fixed = _fixed_bytes(points) + model.head * work.head_bytes / layout.tp
    if work.adapters.any():
        adapters = np.maximum(work.adapters, 1.0)
        adapters = unique_experts(adapters, np.ones_like(adapters), work.batch)
        fixed = fixed + adapters * work.adapter_bytes / layout.stage_chips
    read = (
        model.moe_layers * touched * model.expert * work.expert_bytes / (layout.ep * layout.moe_tp)
    )
    chips = layout.stage_chips
    return StepTerms(
        weights=fixed / chip.bandwidth,
        experts=read / chip.bandwidth,
        cache=rank * _cache_read(points, context) / chip.bandwidth,
        compute=_matmul_seconds(points, passed),
        compute_attention=passed
        * _score_flops(model, context, decode=True)
        / chips
        / chip.flops_bf16,
        wire=_wire_seconds(points, tokens=passed) + _exchange_seconds(points, tokens=passed),
        messages=_messages(points) + 2 * model.layers * _log2(layout.cp),
        layers=model.layers,
        moe_layers=model.moe_layers,
        sequences=rank,
    )


def prefill(points: Points, *, tokens: Array, before: Array | float = 0.0) -> StepTerms:
    """Ideal time to read `tokens` of one prompt, `before` of it cached, on one data-parallel group.

    Each new token looks at those cached and at half of the new ones.
    """
    model, chip, layout = points.model, points.hardware, points.layout
    touched = _touched(model, tokens, law="unique")
    read = model.moe_layers * touched * model.expert * points.work.expert_bytes
    group = layout.tp
    return StepTerms(
        weights=_fixed_bytes(points) / chip.bandwidth,
        experts=read / (layout.ep * layout.moe_tp) / chip.bandwidth,
        cache=np.zeros_like(tokens * chip.bandwidth),
        compute=_matmul_seconds(points, tokens, chips=group),
        compute_attention=tokens
        * _score_flops(model, before + tokens / 2, decode=False)
        / group
        / chip.flops_bf16,
        wire=_wire_seconds(points, tokens=tokens * layout.dp),
        messages=_messages(points),
        layers=model.layers,
        moe_layers=model.moe_layers,
        sequences=np.ones_like(tokens * chip.bandwidth),
    )


def _touched(model: Model, tokens: Array, *, law: str) -> Array:
    if law == "all":
        return np.asarray(model.experts + 0 * tokens)
    if law == "topk":
        return np.asarray(model.active_experts + 0 * tokens)
    return unique_experts(model.experts, model.active_experts, tokens)


def _fixed_bytes(points: Points) -> Array:
    """Weights that every step reads on each chip: attention, dense and shared parts, router."""
    model, layout, work = points.model, points.layout, points.work
    spread = (model.dense + model.shared) / (layout.tp * layout.dp) * work.dense_bytes
    attention = model.attention / layout.tp * work.attention_bytes
    return np.asarray(attention + spread + model.router * ACTIVATION_BYTES)


def _cache_split(points: Points) -> Array:
    """Over how many chips a sequence's cache is split, by heads and by tokens; the rest copy it."""
    layout = points.layout
    heads = np.minimum(layout.tp, points.model.kv_heads)
    return np.asarray(np.minimum(layout.tp, heads * layout.cp))


def _exchange_seconds(points: Points, *, tokens: Array) -> Array:
    """Where a cache is split by tokens: queries go to all its chips, partial answers come back.

    Queries and answers have as many numbers a token as their scores have pairs of FLOPs.
    """
    model, chip, layout = points.model, points.hardware, points.layout
    width = (model.score_decode + model.score_sparse + model.score_window) / 2
    sent = width * ACTIVATION_BYTES * (layout.cp - 1) / layout.tp * tokens / layout.dp
    return np.asarray(sent / np.where(layout.stage_chips > chip.domain, chip.network, chip.link))


def _cache_read(points: Points, context: Array) -> Array:
    """Bytes read per sequence and step on one chip; what cannot be split is copied."""
    model, layout, work = points.model, points.layout, points.work
    read = model.read_full * context + model.kv_sparse * np.minimum(context, model.top_tokens)
    read = read + model.read_window * np.minimum(context, model.window)
    split = _cache_split(points)
    index = model.kv_index * context * INDEX_BYTES
    state = 2 * model.state * STATE_BYTES / layout.tp
    return np.asarray((read * work.kv_bytes + index) / split + state)


def _score_flops(model: Model, context: Array, *, decode: bool) -> Array:
    flops = (model.score_decode if decode else model.score_prefill) * context
    flops = flops + model.score_sparse * np.minimum(context, model.top_tokens)
    flops = flops + model.score_window * np.minimum(context, model.window)
    return np.asarray(flops + model.score_index * context + model.state_flops)


def _matmul_seconds(points: Points, tokens: Array, *, chips: Array | None = None) -> Array:
    model, chip, layout = points.model, points.hardware, points.layout
    chips = layout.stage_chips if chips is None else chips
    routed = model.moe_layers * model.active_experts * model.expert
    seconds = model.attention / chip.flops_attention
    seconds = seconds + (model.dense + model.shared) / chip.flops_dense
    seconds = seconds + routed / chip.flops_expert + model.head / chip.flops_bf16
    return np.asarray(2 * tokens / chips * seconds)


def _wire_seconds(points: Points, *, tokens: Array) -> Array:
    """Ring all-reduces, all-to-alls of expert parallelism and hops between stages, per step."""
    model, chip, layout = points.model, points.hardware, points.layout
    rate = np.where(layout.stage_chips > chip.domain, chip.network, chip.link)
    hop = np.where(layout.chips > chip.domain, chip.network, chip.link)
    reduce = (
        2
        * model.layers
        * model.hidden
        * ACTIVATION_BYTES
        * 2
        * (1 - 1 / layout.tp)
        * tokens
        / layout.dp
    )
    away = 1 - 1 / np.maximum(layout.dp, 1.0)
    shuffle = (
        model.moe_layers
        * model.active_experts
        * model.hidden
        * DISPATCH_BYTES
        * away
        * tokens
        / layout.stage_chips
    )
    stages = (layout.pp - 1) * model.hidden * ACTIVATION_BYTES * tokens / layout.dp
    return (reduce + shuffle) / rate + stages / hop


def _messages(points: Points) -> Array:
    """How many times a step waits for others: two all-reduces a layer, two all-to-alls, hops."""
    model, layout = points.model, points.layout
    reduces = 2 * model.layers * _log2(np.maximum(layout.tp, 1))
    shuffles = 2 * model.moe_layers * _log2(np.maximum(layout.dp, 1))
    return np.asarray(reduces + shuffles + layout.pp - 1)


def _log2(values: Array) -> Array:
    """Logarithm to base 2, by the natural one, which numpy works out several values at a time."""
    return np.asarray(np.log(values) * (1 / math.log(2)))
