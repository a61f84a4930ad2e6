"""Blocks of a decoder: attention and state layers, dense feed-forward layers, experts."""

from typing import Literal

from msgspec import Struct

MixerKind = Literal[
    "gqa", "mla", "compressed", "linear", "kda", "mamba", "mamba1", "lightning", "conv"
]
STATE_KINDS = ("linear", "kda", "mamba", "mamba1", "lightning", "conv")
"""Kinds that keep a state of constant size instead of a cache that grows with the context."""


class Attention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`layers` layers of one kind that mix tokens.

    `gqa` uses `kv_heads` and `head_dim` (multi-head is `kv_heads == heads`), and `window` where
    only so many past tokens are seen. `mla` keeps `kv_rank + rope_dim` numbers a token for all
    heads. `compressed` (DeepSeek-V4) keeps one key of `head_dim` for each `ratio` tokens.
    `top_tokens` is the sparse-attention budget: past it, only so many cached tokens are read, after
    an index of `index_dim` numbers a token was scanned; `borrows_index` layers use another's.
    `borrows_cache` layers read an earlier layer's cache and keep none.

    State kinds: `linear` (gated DeltaNet) and `kda` keep `heads * head_dim * value_dim` numbers;
    `mamba` keeps `heads * head_dim * value_dim` in `kv_heads` groups, `mamba1` the same with time
    steps of rank `q_rank`; `lightning` keeps `heads * head_dim**2`; `conv` a few past tokens.
    """

    kind: MixerKind
    layers: int = 1
    heads: int = 1
    kv_heads: int = 1
    head_dim: int = 0
    value_dim: int = 0
    window: int | None = None
    gated: bool = False
    keys_are_values: bool = False
    borrows_cache: bool = False
    q_rank: int = 0
    kv_rank: int = 0
    rope_dim: int = 0
    o_rank: int = 0
    o_groups: int = 1
    ratio: int = 1
    conv_width: int = 0
    top_tokens: int | None = None
    index_heads: int = 0
    index_dim: int = 0
    borrows_index: bool = False

    def __post_init__(self) -> None:
        """Refuse grouped heads that do not share their keys evenly."""
        if self.kind == "gqa" and (self.kv_heads < 1 or self.heads % self.kv_heads):
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} cached heads evenly")

    @property
    def values(self) -> int:
        """Width of one head's value, which most models set equal to its key."""
        return self.value_dim or self.head_dim


class FeedForward(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`layers` dense layers of inner `width`, with 3 matrices when gated and 2 when not."""

    layers: int = 1
    width: int
    matrices: int = 3


class Experts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`layers` mixture-of-experts layers: `active` of `count` experts of inner `width` each.

    `latent` is the length of the vector that routed experts work on, where it is not the hidden
    one. `shared_width` is the inner width of all shared experts together.
    """

    layers: int
    count: int
    active: int
    width: int
    shared_width: int = 0
    latent: int = 0
    matrices: int = 3

    def __post_init__(self) -> None:
        """Refuse a token that asks more experts than there are."""
        if self.active > self.count:
            raise ValueError(f"{self.active} active experts of {self.count}")
