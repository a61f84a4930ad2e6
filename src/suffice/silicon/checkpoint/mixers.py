"""Which block mixes tokens in each layer: full, windowed, latent, sparse, or with a state."""

from typing import Any

from suffice.silicon.blocks import Attention
from suffice.silicon.checkpoint.fields import ConfigFields

Mixers = list[list[Attention]]
"""The mixing blocks of each layer; a layer may have none, or two side by side."""

KINDS = {
    "full_attention": "full",
    "attention": "full",
    "full": "full",
    "*": "full",
    "sliding_attention": "window",
    "sliding": "window",
    "chunked_attention": "window",
    "L": "window",
    "G": "full",
    "linear_attention": "state",
    "mamba": "state",
    "mamba2": "state",
    "hybrid": "both",
    "conv": "state",
    "recurrent": "state",
    "M": "state",
    "moe": "none",
    "mlp": "none",
    "E": "none",
    "-": "none",
    "deepseek_sparse_attention": "full",
    "indexed_attention": "full",
    "sparse_attention": "full",
    "compressed_sparse_attention": "full",
    "heavily_compressed_attention": "full",
}


def mixers(fields: ConfigFields, *, layers: int) -> Mixers:
    """Read the mixing blocks of every layer."""
    if fields.raw("block_configs") is not None:
        return _searched(fields, layers=layers)
    if fields.raw("compress_ratios") is not None or fields.raw("compress_rates") is not None:
        return [[block] for block in _compressed(fields, layers=layers)]
    kinds = layer_kinds(fields, layers=layers)
    borrowing = _borrowing(fields, kinds)
    times = fields.number("attentions_per_layer") or 1
    return [
        _blocks(fields, kind, layer=i, layers=layers, borrows=borrowing[i]) * times
        for i, kind in enumerate(kinds)
    ]


def layer_kinds(fields: ConfigFields, *, layers: int) -> list[str]:
    """Name each layer's kind: full, window, state, both (side by side), cross or none."""
    if kind := fields.raw("layer_kind"):
        return [kind] * layers
    if (crossing := fields.indices("cross_attention_layers", layers=layers)) is not None:
        return ["cross" if i in crossing else "full" for i in range(layers)]
    for name in ("layer_types", "layers_block_type", "hybrid_override_pattern"):
        value = fields.raw(name)
        if isinstance(value, str) and len(value) != layers:
            raise fields.error(f"{name} has {len(value)} letters for {layers} layers")
        listed = (
            list(value) if isinstance(value, str) else fields.listed(name, layers=layers, spare=8)
        )
        if listed:
            unknown = [kind for kind in listed if kind not in KINDS]
            if unknown:
                raise fields.error(f"{name} names a layer {unknown[0]!r}, which is not known")
            return [KINDS[kind] for kind in listed]
    if windows := fields.listed("hybrid_layer_pattern", layers=layers, spare=8):
        return ["window" if flag else "full" for flag in windows]
    full = _full_layers(fields, layers=layers)
    if full is not None:
        return ["full" if i in full else "state" for i in range(layers)]
    return _windowed_kinds(fields, layers=layers)


def _full_layers(fields: ConfigFields, *, layers: int) -> set[int] | None:
    """Numbers of the attention layers of a model whose other layers keep a state."""
    linear = fields.part("linear_attn_config")
    if linear.raw("full_attn_layers") is not None:
        full = linear.indices("full_attn_layers", layers=layers, base=1) or set()
        states = linear.indices("kda_layers", layers=layers, base=1)
        if states is not None and (full & states or len(full | states) != layers):
            raise fields.error("full_attn_layers and kda_layers do not add up to all layers")
        return full
    for name in ("attn_layer_indices", "full_attn_idxs"):
        indices = fields.indices(name, layers=layers)
        if indices is not None:
            return indices
    if period := fields.number("attn_layer_period"):
        offset = fields.raw("attn_layer_offset") or 0
        return {i for i in range(layers) if i % period == offset}
    interval = fields.number("full_attention_interval") or fields.number("layer_group_size")
    if interval and fields.raw("state_kind"):
        return {i for i in range(layers) if (i + 1) % interval == 0}
    if kinds := fields.listed("attn_type_list", layers=layers):
        return {i for i, kind in enumerate(kinds) if kind}
    return set() if fields.flag("states_unless_listed") else None


def _windowed_kinds(fields: ConfigFields, *, layers: int) -> list[str]:
    if _chunked(fields):
        ropes = fields.listed("no_rope_layers", layers=layers)
        interval = fields.whole("no_rope_layer_interval")
        ropes = ropes or [int((i + 1) % interval != 0) for i in range(layers)]
        return ["window" if rope else "full" for rope in ropes]
    if not fields.number("sliding_window") or fields.raw("use_sliding_window") is False:
        return ["full"] * layers
    pattern = fields.raw("sliding_window_pattern") or fields.raw("global_attn_every_n_layers")
    if isinstance(pattern, str):
        letters = [pattern[i % len(pattern)] for i in range(layers)]
        return [KINDS.get(letter, "full") for letter in letters]
    if pattern:
        return ["window" if (i + 1) % int(pattern) else "full" for i in range(layers)]
    if fields.raw("use_sliding_window") and fields.number("max_window_layers"):
        whole = fields.whole("max_window_layers")
        return ["full" if i < whole else "window" for i in range(layers)]
    return ["window"] * layers


def _borrowing(fields: ConfigFields, kinds: list[str]) -> list[bool]:
    """Mark layers that read an earlier layer's cache (Gemma 3n and 4)."""
    shared = fields.number("num_kv_shared_layers") or 0
    return [i >= len(kinds) - shared for i in range(len(kinds))]


def _blocks(
    fields: ConfigFields, kind: str, *, layer: int, layers: int, borrows: bool
) -> list[Attention]:
    if kind == "none":
        return []
    states = [_state(fields)] if kind in ("state", "both") else []
    if kind == "state":
        return states
    if fields.raw("kv_lora_rank"):
        return [*states, _latent(fields, layer=layer, layers=layers)]
    grouped = _grouped(fields, kind, layer=layer, layers=layers, borrows=borrows)
    return [*states, grouped]


def _grouped(
    fields: ConfigFields, kind: str, *, layer: int, layers: int, borrows: bool
) -> Attention:
    heads = fields.whole("num_attention_heads")
    single = fields.flag("multi_query") and not fields.flag("new_decoder_architecture")
    nested = fields.part("attn_config").number("num_key_value_heads")
    sizes: dict[str, Any] = {
        "heads": heads,
        "kv_heads": 1 if single else fields.number("num_key_value_heads") or nested,
        "head_dim": fields.number("head_dim") or fields.whole("hidden_size") // heads,
        "value_dim": fields.number("v_head_dim"),
    }
    if kind == "window":
        if not _window(fields):
            raise fields.error("windowed layers, but no window")
        other = fields.part("attention_other_setting")
        changes = {
            "heads": fields.number("swa_num_attention_heads")
            or other.number("num_attention_heads"),
            "kv_heads": fields.number("swa_num_key_value_heads")
            or other.number("num_attention_groups"),
            "head_dim": fields.number("swa_head_dim"),
            "value_dim": fields.number("swa_v_head_dim"),
        }
    else:
        changes = {
            "head_dim": fields.number("global_head_dim"),
            "kv_heads": fields.number("num_global_key_value_heads"),
        }
    own = fields.part("per_layer_config").part(f"{layer:02d}")
    changes |= {
        name: own.number(field) or changes.get(name)
        for name, field in (("head_dim", "head_dim"), ("kv_heads", "num_key_value_heads"))
    }
    sizes |= {name: value for name, value in changes.items() if value}
    index = _block_index(fields, layer=layer, layers=layers)
    return Attention(
        kind="gqa",
        heads=sizes["heads"],
        kv_heads=sizes["kv_heads"] or sizes["heads"],
        head_dim=sizes["head_dim"],
        value_dim=sizes["value_dim"] or 0,
        gated=fields.flag("attn_output_gate"),
        window={"window": _window(fields), "cross": 1}.get(kind),
        keys_are_values=kind != "window" and fields.flag("attention_k_eq_v"),
        borrows_cache=borrows,
        **index,
    )


def _window(fields: ConfigFields) -> int | None:
    """Past tokens that a windowed layer sees; of a chunk, at most all of it."""
    return fields.number("attention_chunk_size" if _chunked(fields) else "sliding_window")


def _chunked(fields: ConfigFields) -> bool:
    """Whether layers with positions see their chunk alone (Llama 4), and the others everything."""
    return bool(fields.number("attention_chunk_size") and fields.raw("no_rope_layer_interval"))


def _block_index(fields: ConfigFields, *, layer: int, layers: int) -> dict[str, Any]:
    """Read block-sparse attention with an index (MiniMax-M3); layers listed as 0 read all."""
    sparse = fields.part("sparse_attention_config")
    if sparse.raw("use_sparse_attention") is False or not sparse.config:
        kinds = fields.listed("sparse_attention_layers", layers=layers)
        if not fields.number("index_block_size") or (kinds and not kinds[layer]):
            return {}
        return {
            "top_tokens": fields.whole("index_topk_blocks") * fields.whole("index_block_size"),
            "index_heads": fields.whole("index_n_heads"),
            "index_dim": fields.whole("index_head_dim"),
        }
    turns = sparse.listed("sparse_attention_freq", layers=layers, spare=8)
    if turns and not turns[layer]:
        return {}
    return {
        "top_tokens": sparse.whole("sparse_topk_blocks") * sparse.whole("sparse_block_size"),
        "index_heads": sparse.whole("sparse_num_index_heads"),
        "index_dim": sparse.whole("sparse_index_dim"),
    }


def _latent(fields: ConfigFields, *, layer: int, layers: int) -> Attention:
    kinds = fields.listed("indexer_types", layers=layers, spare=8)
    return Attention(
        kind="mla",
        heads=fields.whole("num_attention_heads"),
        head_dim=fields.whole("qk_nope_head_dim"),
        rope_dim=fields.whole("qk_rope_head_dim"),
        value_dim=fields.whole("v_head_dim"),
        q_rank=fields.number("q_lora_rank") or 0,
        kv_rank=fields.whole("kv_lora_rank"),
        gated=fields.flag("mla_use_output_gate"),
        top_tokens=fields.number("index_topk"),
        index_heads=fields.number("index_n_heads") or 0,
        index_dim=fields.number("index_head_dim") or 0,
        borrows_index=bool(kinds) and kinds is not None and kinds[layer] == "shared",
    )


def _state(fields: ConfigFields) -> Attention:
    """Read the state layer of a family; `state_kind` of its entry says which one it has."""
    kind = fields.raw("state_kind")
    if kind not in _STATES:
        raise fields.error("layers with a state, of a kind that this family is not known for")
    return _STATES[kind](fields)


def _delta(fields: ConfigFields) -> Attention:
    return Attention(
        kind="linear",
        heads=fields.whole("linear_num_value_heads"),
        kv_heads=fields.whole("linear_num_key_heads"),
        head_dim=fields.whole("linear_key_head_dim"),
        value_dim=fields.whole("linear_value_head_dim"),
        conv_width=fields.number("linear_conv_kernel_dim") or 0,
    )


def _kimi_delta(fields: ConfigFields) -> Attention:
    linear = fields.part("linear_attn_config")
    heads = linear.number("num_heads") or fields.number("linear_num_heads")
    width = linear.number("head_dim") or fields.number("linear_head_dim")
    width = width or fields.whole("v_head_dim")
    return Attention(
        kind="kda",
        heads=heads or fields.whole("num_attention_heads"),
        head_dim=width,
        q_rank=0 if fields.flag("kda_full_rank") else width,
        conv_width=linear.number("short_conv_kernel_size")
        or fields.number("linear_conv_kernel_dim")
        or fields.number("short_conv_kernel_size")
        or 0,
        gated=linear.flag("use_full_rank_gate") or fields.flag("kda_full_rank"),
    )


def _mamba(fields: ConfigFields) -> Attention:
    def read(*names: str) -> int | None:
        return next((value for name in names if (value := fields.number(name))), None)

    heads, width = (
        read("mamba_num_heads", "mamba_n_heads", "num_heads"),
        read("mamba_head_dim", "mamba_d_head", "head_dim"),
    )
    inner = read("mamba_d_ssm") or (read("mamba_expand", "expand") or 2) * fields.whole(
        "hidden_size"
    )
    if not heads:
        raise fields.error("no field 'mamba_num_heads', which this family needs")
    return Attention(
        kind="mamba",
        heads=heads,
        head_dim=width or inner // heads,
        kv_heads=read("n_groups", "mamba_n_groups") or 1,
        value_dim=read("ssm_state_size", "mamba_d_state", "state_size") or fields.whole("d_state"),
        conv_width=read("conv_kernel", "mamba_d_conv") or 4,
    )


def _mamba_1(fields: ConfigFields) -> Attention:
    hidden = fields.whole("hidden_size")
    rank = fields.raw("mamba_dt_rank") or fields.raw("time_step_rank")
    return Attention(
        kind="mamba1",
        heads=fields.number("intermediate_size_ssm")
        or (fields.number("mamba_expand") or fields.number("expand") or 2) * hidden,
        head_dim=1,
        q_rank=rank if isinstance(rank, int) else -(-hidden // 16),
        value_dim=fields.number("mamba_d_state") or fields.whole("state_size"),
        conv_width=fields.number("mamba_d_conv") or fields.number("conv_kernel") or 4,
    )


def _lightning(fields: ConfigFields) -> Attention:
    heads = fields.whole("num_attention_heads")
    width = fields.number("head_dim") or fields.whole("hidden_size") // heads
    return Attention(kind="lightning", heads=heads, head_dim=width)


def _convolution(fields: ConfigFields) -> Attention:
    return Attention(kind="conv", conv_width=fields.number("conv_L_cache") or 3)


_STATES = {
    "linear": _delta,
    "kda": _kimi_delta,
    "mamba": _mamba,
    "mamba1": _mamba_1,
    "lightning": _lightning,
    "conv": _convolution,
}


def _compressed(fields: ConfigFields, *, layers: int) -> list[Attention]:
    """Read DeepSeek-V4: a window everywhere, and behind it a compressed cache of its own ratio."""
    ratios = fields.listed("compress_ratios", layers=layers, spare=8)
    if ratios is None:
        rates = fields.part("compress_rates")
        kinds = fields.listed("layer_types", layers=layers) or []
        ratios = [rates.number(kind) or 0 for kind in kinds]
    chosen = min((ratio for ratio in ratios if ratio), default=0)
    return [
        Attention(
            kind="compressed",
            heads=fields.whole("num_attention_heads"),
            head_dim=fields.whole("head_dim"),
            window=fields.whole("sliding_window"),
            q_rank=fields.whole("q_lora_rank"),
            o_rank=fields.whole("o_lora_rank"),
            o_groups=fields.whole("o_groups"),
            ratio=ratio or 1,
            **(
                {
                    "top_tokens": fields.whole("index_topk") * ratio,
                    "index_heads": fields.whole("index_n_heads"),
                    "index_dim": fields.whole("index_head_dim"),
                }
                if ratio and ratio == chosen
                else {}
            ),
        )
        for ratio in ratios
    ]


def _searched(fields: ConfigFields, *, layers: int) -> Mixers:
    """Read a searched architecture (Nemotron-NAS): each layer has its own heads, or none."""
    heads = fields.whole("num_attention_heads")
    size = fields.number("head_dim") or fields.whole("hidden_size") // heads
    blocks = fields.listed("block_configs", layers=layers) or []
    result: Mixers = []
    for block in blocks:
        attention = ConfigFields(block, {}, where=fields.where).part("attention")
        group = attention.number("n_heads_in_group")
        if attention.flag("no_op") or attention.flag("replace_with_linear") or not group:
            result.append([])
            continue
        window = attention.number("window_length")
        result.append(
            [
                Attention(
                    kind="gqa", heads=heads, kv_heads=heads // group, head_dim=size, window=window
                )
            ]
        )
    return result
