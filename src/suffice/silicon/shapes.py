"""Model shapes: what a model must read, compute and remember for each token."""

import functools

from msgspec import Struct

from suffice.silicon.blocks import STATE_KINDS, Attention, Experts, FeedForward
from suffice.silicon.formats import Formats
from suffice.silicon.matrices import (
    attention_matrices,
    expert_matrices,
    feed_forward_matrices,
    shared_matrices,
)


class Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decoder's dimensions and the number formats of its checkpoint.

    `extra` counts parameters that every token multiplies with and no block holds, `lookups` those
    that are looked up beside the embedding, `vision` those of towers for pictures and sound, `mtp`
    those of heads that draft the next tokens; the last two are counted apart and None if unknown.
    `checkpoints` maps names of checkpoints with these dimensions to their own formats, `contexts`
    aliases to a longest context of their own.
    `total_published` and `active_published` are what the maker states, kept for tests.
    """

    name: str
    hidden: int
    vocab: int
    attention: tuple[Attention, ...]
    source: str
    date: str
    dense: tuple[FeedForward, ...] = ()
    experts: Experts | None = None
    tied: bool = False
    extra: int = 0
    lookups: int = 0
    vision: int | None = 0
    mtp: int | None = 0
    max_context_tokens: int | None = None
    formats: Formats = Formats()
    aliases: tuple[str, ...] = ()
    contexts: dict[str, int] = {}
    checkpoints: dict[str, Formats] = {}
    total_published: float | None = None
    active_published: float | None = None

    @property
    def layers(self) -> int:
        """Number of decoder layers: pairs of a mixer and a feed-forward part."""
        forward = sum(block.layers for block in self.dense)
        forward += self.experts.layers if self.experts else 0
        return max(sum(block.layers for block in self.attention), forward)

    def __hash__(self) -> int:
        return hash((self.name, self.source, self.attention, self.dense, self.experts))


class Profile(Struct, frozen=True, kw_only=True):
    """A shape boiled down to the numbers that the roofline needs; parameters, elements, FLOPs.

    `kv_*` are cached elements per token over all layers of that sort, `read_*` what a step reads of
    them where layers share a cache; `score_*` FLOPs per pair of query and cached token over all
    layers; `state` elements per sequence. Counts are exact up to norms and biases (under 0.1 % of
    any model in the list).
    """

    layers: float
    moe_layers: float
    hidden: float
    attention: float
    dense: float
    shared: float
    expert: float
    experts: float
    active_experts: float
    router: float
    head: float
    embedding: float
    vision: float
    kv_full: float
    kv_sparse: float
    kv_window: float
    kv_index: float
    read_full: float
    read_window: float
    kv_heads: float
    window: float
    top_tokens: float
    state: float
    score_prefill: float
    score_decode: float
    score_sparse: float
    score_window: float
    score_index: float
    state_flops: float
    is_mla: float

    @property
    def total(self) -> float:
        """All parameters of the language model, embeddings included, towers and draft heads not."""
        routed = self.moe_layers * self.experts * self.expert
        return self.active - self.active_routed + routed + self.embedding

    @property
    def active_routed(self) -> float:
        """Parameters of the routed experts that one token uses."""
        return self.moe_layers * self.active_experts * self.expert

    @property
    def active(self) -> float:
        """Parameters that one token multiplies with, output head included, embedding lookup not."""
        fixed = self.attention + self.dense + self.shared + self.router + self.head
        return fixed + self.active_routed


@functools.cache
def profile(shape: Shape) -> Profile:
    """Count parameters, cache and attention work of a shape."""
    experts = shape.experts or Experts(layers=0, count=1, active=1, width=0)
    states = [a for a in shape.attention if a.kind in STATE_KINDS]
    cached = [a for a in shape.attention if a.kind not in STATE_KINDS]
    whole = [a for a in cached if a.window is None or a.kind == "compressed"]
    full = [a for a in whole if a.top_tokens is None]
    sparse = [a for a in whole if a.top_tokens is not None]
    windowed = [a for a in cached if a.window is not None]
    hidden = shape.hidden
    mixers = [
        a.layers * sum(attention_matrices(a, hidden=hidden).values()) for a in shape.attention
    ]
    dense = [b.layers * sum(feed_forward_matrices(b, hidden=hidden).values()) for b in shape.dense]
    return Profile(
        layers=shape.layers,
        moe_layers=experts.layers,
        hidden=hidden,
        attention=sum(mixers) + shape.extra,
        dense=sum(dense),
        shared=experts.layers * sum(shared_matrices(experts, hidden=hidden).values()),
        expert=sum(expert_matrices(experts, hidden=hidden).values()),
        experts=experts.count,
        active_experts=experts.active,
        router=experts.layers * hidden * (experts.count if experts.count > 1 else 0),
        head=shape.vocab * hidden,
        embedding=(0 if shape.tied else shape.vocab * hidden) + shape.lookups,
        vision=shape.vision or 0,
        kv_full=sum(a.layers * _held_width(a) for a in full),
        kv_sparse=sum(a.layers * _held_width(a) for a in sparse),
        kv_window=sum(a.layers * _window_width(a) for a in windowed if not a.borrows_cache),
        kv_index=sum(a.layers * a.index_dim / a.ratio for a in whole if not a.borrows_index),
        read_full=sum(a.layers * _cache_width(a) for a in full),
        read_window=sum(a.layers * _window_width(a) for a in windowed),
        kv_heads=min((1 if a.kind != "gqa" else a.kv_heads for a in cached), default=1),
        window=max((a.window or 0 for a in windowed), default=0),
        top_tokens=min((a.top_tokens or 0 for a in sparse), default=float("inf")),
        state=sum(a.layers * _state(a, hidden=hidden) for a in states),
        score_prefill=sum(a.layers * _score_flops(a) / a.ratio for a in full),
        score_decode=sum(a.layers * _decode_flops(a) / a.ratio for a in full),
        score_sparse=sum(a.layers * _decode_flops(a) / a.ratio for a in sparse),
        score_window=sum(a.layers * _score_flops(a) for a in windowed),
        score_index=sum(
            a.layers * 2 * a.index_heads * a.index_dim / a.ratio
            for a in whole
            if not a.borrows_index
        ),
        state_flops=sum(a.layers * 8 * a.heads * a.head_dim * a.values for a in states),
        is_mla=float(any(a.kind in ("mla", "compressed") for a in shape.attention)),
    )


def _cache_width(block: Attention) -> float:
    """Numbers cached per token of context by one layer."""
    if block.kind == "mla":
        return block.kv_rank + block.rope_dim
    if block.kind == "compressed":
        return block.head_dim / block.ratio if block.ratio > 1 else 0
    return block.kv_heads * (block.head_dim + block.values)


def _window_width(block: Attention) -> float:
    """Numbers cached per token within the window; a compressed key is also its value."""
    return block.head_dim if block.kind == "compressed" else _cache_width(block)


def _held_width(block: Attention) -> float:
    return 0 if block.borrows_cache else _cache_width(block)


def _state(block: Attention, *, hidden: int) -> float:
    """Numbers of state that one layer keeps per sequence, without the few of its convolution."""
    if block.kind == "conv":
        return hidden * block.conv_width
    return block.heads * block.head_dim * block.values


def _score_flops(block: Attention) -> float:
    return 2.0 * block.heads * (block.head_dim + block.rope_dim + block.values)


def _decode_flops(block: Attention) -> float:
    """FLOPs of one decode score: MLA works in the compressed space (absorbed matrices)."""
    if block.kind == "mla":
        return 2.0 * block.heads * (2 * block.kv_rank + block.rope_dim)
    return 2.0 * block.heads * (block.head_dim + block.values)
