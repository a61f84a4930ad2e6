"""Model shapes: what a model must read, compute and remember for each token."""

import functools
from typing import Literal

from msgspec import Struct

AttentionKind = Literal["gqa", "mla", "linear"]


class Attention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`layers` attention layers of one kind.

    `gqa` uses `kv_heads` and `head_dim` (multi-head is `kv_heads == heads`), and `window` where
    only so many past tokens are seen. `mla` keeps `kv_rank + rope_dim` numbers a token for all
    heads. `linear` keeps a state of `heads * head_dim * value_dim` numbers whatever the context.
    `top_tokens` is the sparse-attention budget: past it, only so many cached tokens are read, after
    an index of `index_dim` numbers a token was scanned.
    """

    kind: AttentionKind
    layers: int
    heads: int
    kv_heads: int = 1
    head_dim: int = 0
    value_dim: int = 0
    window: int | None = None
    gated: bool = False
    q_rank: int = 0
    kv_rank: int = 0
    rope_dim: int = 0
    conv_width: int = 0
    top_tokens: int | None = None
    index_heads: int = 0
    index_dim: int = 0

    @property
    def values(self) -> int:
        """Width of one head's value, which most models set equal to its key."""
        return self.value_dim or self.head_dim


class Experts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`layers` mixture-of-experts layers: `active` of `count` experts of inner `width` each."""

    layers: int
    count: int
    active: int
    width: int
    shared_width: int = 0


class Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decoder's dimensions; `dense_width` is the inner width of its `dense_layers`.

    `matrices` is how many matrices a feed-forward block has: 3 when gated, 2 when not.
    `total_published` and `active_published` are what the maker states, kept for tests.
    """

    name: str
    hidden: int
    vocab: int
    attention: tuple[Attention, ...]
    source: str
    date: str
    tied: bool = False
    dense_layers: int = 0
    dense_width: int = 0
    experts: Experts | None = None
    matrices: int = 3
    max_context_tokens: int | None = None
    weight_format: str = "bf16"
    aliases: tuple[str, ...] = ()
    total_published: float | None = None
    active_published: float | None = None

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return sum(block.layers for block in self.attention)


class Profile(Struct, frozen=True, kw_only=True):
    """A shape boiled down to the numbers that the roofline needs; parameters, elements, FLOPs.

    `kv_*` are cached elements per token over all layers of that sort; `score_*` FLOPs per pair of
    query and cached token over all layers; `state` elements per sequence. Counts are exact up to
    norms and biases (under 0.1 % of any model in the list).
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
    kv_full: float
    kv_window: float
    kv_index: float
    kv_heads: float
    window: float
    top_tokens: float
    state: float
    score_prefill: float
    score_decode: float
    score_window: float
    score_index: float
    state_flops: float
    is_mla: float

    @property
    def total(self) -> float:
        """All parameters, embeddings included."""
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
    full = [a for a in shape.attention if a.kind != "linear" and a.window is None]
    windowed = [a for a in shape.attention if a.kind != "linear" and a.window is not None]
    linear = [a for a in shape.attention if a.kind == "linear"]
    cached = full or windowed
    return Profile(
        layers=shape.layers,
        moe_layers=experts.layers,
        hidden=shape.hidden,
        attention=sum(
            a.layers * _attention_params(a, hidden=shape.hidden) for a in shape.attention
        ),
        dense=shape.dense_layers * shape.matrices * shape.hidden * shape.dense_width,
        shared=experts.layers * shape.matrices * shape.hidden * experts.shared_width,
        expert=shape.matrices * shape.hidden * experts.width,
        experts=experts.count,
        active_experts=experts.active,
        router=experts.layers * shape.hidden * (experts.count if experts.count > 1 else 0),
        head=shape.vocab * shape.hidden,
        embedding=0 if shape.tied else shape.vocab * shape.hidden,
        kv_full=sum(a.layers * _cache_width(a) for a in full),
        kv_window=sum(a.layers * _cache_width(a) for a in windowed),
        kv_index=sum(a.layers * a.index_dim for a in full),
        kv_heads=min((_cache_shards(a) for a in cached), default=1),
        window=max((a.window or 0 for a in windowed), default=0),
        top_tokens=min((a.top_tokens for a in full if a.top_tokens), default=float("inf")),
        state=sum(a.layers * a.heads * a.head_dim * a.values for a in linear),
        score_prefill=sum(a.layers * 2 * a.heads * (_key_width(a) + a.values) for a in full),
        score_decode=sum(a.layers * 2 * a.heads * _decode_width(a) for a in full),
        score_window=sum(a.layers * 2 * a.heads * (_key_width(a) + a.values) for a in windowed),
        score_index=sum(a.layers * 2 * a.index_heads * a.index_dim for a in full),
        state_flops=sum(a.layers * 8 * a.heads * a.head_dim * a.values for a in linear),
        is_mla=float(any(a.kind == "mla" for a in shape.attention)),
    )


def _attention_params(block: Attention, *, hidden: int) -> int:
    """Parameters of one attention layer; formulas follow each family's published modelling code."""
    if block.kind == "mla":
        return _mla_params(block, hidden=hidden)
    keys, values = block.kv_heads * block.head_dim, block.kv_heads * block.values
    if block.kind == "linear":
        inner = block.heads * block.values
        mixed = 2 * keys + inner
        return (
            hidden * (mixed + inner + 2 * block.heads) + block.conv_width * mixed + inner * hidden
        )
    queries = block.heads * block.head_dim
    return hidden * (
        queries * (2 if block.gated else 1) + keys + values + block.heads * block.values
    )


def _mla_params(block: Attention, *, hidden: int) -> int:
    query = block.heads * (block.head_dim + block.rope_dim)
    down = hidden * block.q_rank + block.q_rank * query if block.q_rank else hidden * query
    cache = hidden * (block.kv_rank + block.rope_dim)
    up = block.kv_rank * block.heads * (block.head_dim + block.values)
    index = (
        block.q_rank * block.index_heads + hidden
    ) * block.index_dim + hidden * block.index_heads
    return down + cache + up + block.heads * block.values * hidden + index


def _cache_width(block: Attention) -> int:
    if block.kind == "mla":
        return block.kv_rank + block.rope_dim
    return block.kv_heads * (block.head_dim + block.values)


def _cache_shards(block: Attention) -> int:
    """Over how many chips tensor parallelism can split the cache; past that it is copied."""
    return 1 if block.kind == "mla" else block.kv_heads


def _key_width(block: Attention) -> int:
    return block.head_dim + block.rope_dim


def _decode_width(block: Attention) -> int:
    """FLOP width of one decode score: MLA works in the compressed space (absorbed matrices)."""
    if block.kind == "mla":
        return 2 * block.kv_rank + block.rope_dim
    return block.head_dim + block.values
