"""The weight matrices of one layer by name and size, as each family's modelling code has them."""

from suffice.silicon.blocks import Attention, Experts, FeedForward

Sizes = dict[str, int]


def attention_matrices(block: Attention, *, hidden: int) -> Sizes:
    """Parameters of each matrix of one attention or state layer, by its name in the checkpoint."""
    return _MIXERS[block.kind](block, hidden)


def feed_forward_matrices(block: FeedForward, *, hidden: int) -> Sizes:
    """Parameters of one dense feed-forward layer: three matrices when gated, two when not."""
    return _gated(hidden, block.width, matrices=block.matrices)


def expert_matrices(experts: Experts, *, hidden: int) -> Sizes:
    """Parameters of one routed expert, which may work on a narrower latent vector."""
    return _gated(experts.latent or hidden, experts.width, matrices=experts.matrices)


def shared_matrices(experts: Experts, *, hidden: int) -> Sizes:
    """Parameters that every token uses in an expert layer: shared experts, latent projections."""
    sizes = _gated(hidden, experts.shared_width, matrices=experts.matrices)
    if not experts.shared_width:
        sizes = {}
    if experts.latent:
        sizes |= {"fc1_latent_proj": hidden * experts.latent}
        sizes |= {"fc2_latent_proj": hidden * experts.latent}
    return sizes


def _gated(hidden: int, width: int, *, matrices: int) -> Sizes:
    names = ("gate_proj", "up_proj", "down_proj")[3 - matrices :]
    return dict.fromkeys(names, hidden * width)


def _grouped(block: Attention, hidden: int) -> Sizes:
    queries, values = block.heads * block.head_dim, block.heads * block.values
    sizes = {"q_proj": hidden * queries * (2 if block.gated else 1)}
    if not block.borrows_cache:
        sizes["k_proj"] = hidden * block.kv_heads * block.head_dim
        if not block.keys_are_values:
            sizes["v_proj"] = hidden * block.kv_heads * block.values
    sizes["o_proj"] = values * hidden
    return sizes | _index(block, hidden, source=hidden)


def _latent(block: Attention, hidden: int) -> Sizes:
    queries = block.heads * (block.head_dim + block.rope_dim)
    if block.q_rank:
        sizes = {"q_a_proj": hidden * block.q_rank, "q_b_proj": block.q_rank * queries}
    else:
        sizes = {"q_proj": hidden * queries}
    sizes["kv_a_proj_with_mqa"] = hidden * (block.kv_rank + block.rope_dim)
    sizes["kv_b_proj"] = block.kv_rank * block.heads * (block.head_dim + block.values)
    sizes["o_proj"] = block.heads * block.values * hidden
    if block.gated:
        sizes["g_proj"] = hidden * block.heads * block.values
    return sizes | _index(block, hidden, source=block.q_rank or hidden)


def _index(block: Attention, hidden: int, *, source: int) -> Sizes:
    """Matrices of a sparse-attention index; layers that borrow another layer's have none."""
    if not block.index_dim or block.borrows_index:
        return {}
    return {
        "indexer.wq_b": source * block.index_heads * block.index_dim,
        "indexer.wk": hidden * block.index_dim,
        "indexer.weights_proj": hidden * block.index_heads,
    }


def _delta(block: Attention, hidden: int) -> Sizes:
    """Gated DeltaNet (Qwen3-Next): queries and keys by key heads, values, gate by value heads."""
    keys, inner = block.kv_heads * block.head_dim, block.heads * block.values
    return {
        "in_proj_qkv": hidden * (2 * keys + inner),
        "in_proj_z": hidden * inner,
        "in_proj_b": hidden * block.heads,
        "in_proj_a": hidden * block.heads,
        "conv1d": block.conv_width * (2 * keys + inner),
        "out_proj": inner * hidden,
    }


def _kimi_delta(block: Attention, hidden: int) -> Sizes:
    """Kimi Delta Attention: a decay and a gate per channel.

    The decay comes from a projection of rank `q_rank` (full where it is 0); the gate's projection
    is full where `gated`, else of the same low rank.
    """
    inner = block.heads * block.head_dim
    sizes = dict.fromkeys(("q_proj", "k_proj", "v_proj"), hidden * inner)
    sizes |= {"conv1d": 3 * inner * block.conv_width, "b_proj": hidden * block.heads}
    low_rank = (hidden + inner) * block.q_rank
    sizes |= {"f_a_proj": low_rank} if block.q_rank else {"f_proj": hidden * inner}
    sizes |= {"g_proj": hidden * inner} if block.gated else {"g_a_proj": low_rank}
    return sizes | {"o_proj": inner * hidden}


def _mamba(block: Attention, hidden: int) -> Sizes:
    """Mamba-2: `heads * head_dim` channels, a state of `value_dim`, in `kv_heads` groups."""
    inner, groups = block.heads * block.head_dim, 2 * block.kv_heads * block.value_dim
    return {
        "in_proj": hidden * (2 * inner + groups + block.heads),
        "conv1d": (inner + groups) * block.conv_width,
        "out_proj": inner * hidden,
    }


def _mamba_1(block: Attention, hidden: int) -> Sizes:
    """Mamba-1: `heads` channels, a state of `value_dim`, time steps of rank `q_rank`."""
    inner = block.heads * block.head_dim
    return {
        "in_proj": 2 * hidden * inner,
        "conv1d": inner * block.conv_width,
        "x_proj": inner * (block.q_rank + 2 * block.value_dim),
        "dt_proj": block.q_rank * inner,
        "A_log": inner * block.value_dim,
        "out_proj": inner * hidden,
    }


def _lightning(block: Attention, hidden: int) -> Sizes:
    """Lightning attention (MiniMax-01): a plain linear state for each head, and an output gate."""
    inner = block.heads * block.head_dim
    return {
        "qkv_proj": 3 * hidden * inner,
        "output_gate": hidden * inner,
        "out_proj": inner * hidden,
    }


def _convolution(block: Attention, hidden: int) -> Sizes:
    """Short gated convolution (LFM2)."""
    return {"in_proj": 3 * hidden * hidden, "conv": hidden * block.conv_width} | {
        "out_proj": hidden * hidden
    }


def _compressed(block: Attention, hidden: int) -> Sizes:
    """DeepSeek-V4: one key that is its value, kept whole in a window and compressed behind it.

    Where an index picks compressed entries, they overlap, which doubles the compressor.
    """
    queries, overlap = block.heads * block.head_dim, 2 if block.index_dim else 1
    sizes = {
        "q_a_proj": hidden * block.q_rank,
        "q_b_proj": block.q_rank * queries,
        "kv_proj": hidden * block.head_dim,
        "o_a_proj": queries * block.o_rank,
        "o_b_proj": block.o_groups * block.o_rank * hidden,
    }
    if block.ratio > 1:
        sizes["compressor.kv_proj"] = 2 * overlap * hidden * block.head_dim
    if block.index_dim:
        sizes |= {
            "indexer.kv_proj": 2 * overlap * hidden * block.index_dim,
            "indexer.q_b_proj": block.q_rank * block.index_heads * block.index_dim,
            "indexer.weights_proj": hidden * block.index_heads,
        }
    return sizes


_MIXERS = {
    "gqa": _grouped,
    "mla": _latent,
    "linear": _delta,
    "kda": _kimi_delta,
    "mamba": _mamba,
    "mamba1": _mamba_1,
    "lightning": _lightning,
    "conv": _convolution,
    "compressed": _compressed,
}
