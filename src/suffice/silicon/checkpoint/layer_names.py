"""The matrices of every layer under the names that checkpoints and quantisation files use."""

import functools
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from suffice.silicon.checkpoint.feeds import Feeds
from suffice.silicon.checkpoint.mixers import Mixers
from suffice.silicon.matrices import (
    Sizes,
    attention_matrices,
    expert_matrices,
    feed_forward_matrices,
    shared_matrices,
)

Part = Literal["attention", "dense", "experts", "head"]

PREFIXES = ("model.", "model.language_model.", "language_model.model.", "backbone.", "")
MIXER_NAMES = {
    "linear": ("linear_attn", "self_attn"),
    "mamba": ("mixer", "mamba"),
    "mamba1": ("mixer", "mamba"),
    "conv": ("conv", "short_conv"),
}
ATTENTION_NAMES = ("self_attn", "attn", "attention", "mixer", "cross_attn")
DENSE_NAMES = ("mlp", "feed_forward", "ffn", "mixer")
EXPERT_NAMES = (
    "mlp.experts",
    "block_sparse_moe.experts",
    "feed_forward.experts",
    "ffn.experts",
    "mixer.experts",
    "moe.experts",
    "experts",
)
BESIDE_DENSE = -2
"""Names of experts that lie beside a dense layer of the same block, not below it."""
SHARED_NAMES = (
    "mlp.shared_experts",
    "mlp.shared_expert",
    "block_sparse_moe.shared_experts",
    "feed_forward.shared_expert",
    "ffn.shared_experts",
    "mixer.shared_experts",
    "moe.shared_expert",
    "share_expert",
    "shared_mlp",
    "mixer",
)
FUSED = ("qkv", "query_key_value", "Wqkv", "W_pack", "c_attn")
SPELLINGS = {
    "gate_proj": ("gate_proj", "gate_up_proj", "w1", "input_linear"),
    "up_proj": ("up_proj", "gate_up_proj", "w3", "fc1", "c_fc", "dense_h_to_4h"),
    "down_proj": ("down_proj", "w2", "fc2", "output_linear", "dense_4h_to_h"),
    "q_proj": ("q_proj", "qkv_proj", "wq", *FUSED),
    "k_proj": ("k_proj", "qkv_proj", "wk", *FUSED),
    "v_proj": ("v_proj", "qkv_proj", "wv", *FUSED),
    "q_a_proj": ("q_a_proj", "wq_a", "fused_wqa_wkv", "fused_qkv_a_proj_with_mqa"),
    "q_b_proj": ("q_b_proj", "wq_b"),
    "kv_a_proj_with_mqa": ("kv_a_proj_with_mqa", "wkv_a", "fused_qkv_a_proj_with_mqa"),
    "kv_b_proj": ("kv_b_proj", "wkv_b"),
    "kv_proj": ("kv_proj", "wkv", "fused_wqa_wkv"),
    "o_a_proj": ("o_a_proj", "wo_a"),
    "o_b_proj": ("o_b_proj", "wo_b"),
    "o_proj": ("o_proj", "out_proj", "wo", "dense"),
    "in_proj_qkv": ("in_proj_qkv", "in_proj_qkvz"),
    "in_proj_z": ("in_proj_z", "in_proj_qkvz"),
    "in_proj_b": ("in_proj_b", "in_proj_ba"),
    "in_proj_a": ("in_proj_a", "in_proj_ba"),
}
UNQUANTISED = ("conv1d", "conv", "A_log", "in_proj_b", "in_proj_a", "b_proj")
"""Matrices too small or too odd to be quantised, which no method touches."""


class Matrix(Struct, frozen=True, kw_only=True):
    """One weight matrix (or a set of equal ones): its part, layer, names and parameters.

    `layer` is None for the output head; names are those below the layer. `params` counts all
    experts of a layer together; `plain` matrices are never quantised.
    """

    part: Part
    layer: int | None
    names: tuple[str, ...]
    params: int
    plain: bool = False


class LayerList(Struct, frozen=True, kw_only=True):
    """All layers of a decoder, as read: what mixes, what feeds forward, and the head's size."""

    mixing: Mixers
    feeds: Feeds
    hidden: int
    head: int

    @property
    def count(self) -> int:
        """Number of layers, as the file counts them."""
        return len(self.mixing)

    def matrices(self) -> Iterator[Matrix]:
        """List every matrix with all names that a quantisation file may use for it."""
        yield Matrix(part="head", layer=None, names=("lm_head", "head"), params=self.head)
        for layer in range(self.count):
            yield from self._layer(layer)

    def _layer(self, layer: int) -> Iterator[Matrix]:
        for block in self.mixing[layer]:
            mixer: tuple[str, ...] = MIXER_NAMES.get(block.kind, ATTENTION_NAMES)
            sizes = attention_matrices(block, hidden=self.hidden)
            yield from _named("attention", layer, sizes, holders=mixer)
        for dense in self.feeds.dense[layer]:
            sizes = feed_forward_matrices(dense, hidden=self.hidden)
            yield from _named("dense", layer, sizes, holders=DENSE_NAMES)
        experts = self.feeds.experts
        if experts and self.feeds.sparse[layer]:
            shared = shared_matrices(experts, hidden=self.hidden)
            yield from _named("dense", layer, shared, holders=SHARED_NAMES)
            sizes = expert_matrices(experts, hidden=self.hidden)
            beside = bool(self.feeds.dense[layer])
            names: tuple[str, ...] = EXPERT_NAMES[BESIDE_DENSE:] if beside else EXPERT_NAMES
            holders = (*(f"{name}.0" for name in names), *names)
            all_experts = {name: experts.count * size for name, size in sizes.items()}
            yield from _named("experts", layer, all_experts, holders=holders)


def _named(part: Part, layer: int, sizes: Sizes, *, holders: tuple[str, ...]) -> Iterator[Matrix]:
    for matrix, params in sizes.items():
        plain = matrix.rpartition(".")[2] in UNQUANTISED
        names = _spelt(matrix, holders)
        yield Matrix(part=part, layer=layer, names=names, params=params, plain=plain)


@functools.cache
def _spelt(matrix: str, holders: tuple[str, ...]) -> tuple[str, ...]:
    """Spell a matrix in every way, below its layer."""
    spellings = SPELLINGS.get(matrix, (matrix,))
    return tuple(f"{holder}.{spelling}" for holder in holders for spelling in spellings)
