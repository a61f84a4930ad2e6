"""The feed-forward part of each layer: dense, experts, both or none."""

from msgspec import Struct
from msgspec.structs import replace

from suffice.silicon.blocks import Experts, FeedForward
from suffice.silicon.checkpoint.fields import ConfigFields

SPARSE_KINDS = ("sparse", "moe", "hash_moe", "E")


class Feeds(Struct, frozen=True, kw_only=True):
    """Dense blocks of each layer, and which layers have the experts."""

    dense: list[list[FeedForward]]
    sparse: list[bool]
    experts: Experts | None


def feeds(fields: ConfigFields, *, layers: int) -> Feeds:
    """Read the feed-forward part of every layer."""
    if fields.raw("block_configs") is not None:
        return _searched(fields, layers=layers)
    experts = _experts(fields)
    sparse = _sparse_layers(fields, layers=layers) if experts else [False] * layers
    absent = _absent(fields, layers=layers)
    beside = fields.flag("enable_moe_block") or fields.flag("dense_beside_experts")
    times = fields.number("attentions_per_layer") or 1
    widths = fields.listed("intermediate_size", layers=layers)
    borrowers = fields.number("num_kv_shared_layers") or 0
    doubled = [
        fields.flag("use_double_wide_mlp") and layer >= layers - borrowers
        for layer in range(layers)
    ]
    matrices = fields.number("ffn_matrices") or 3
    dense: list[list[FeedForward]] = []
    for layer in range(layers):
        none = absent[layer] or (sparse[layer] and not beside)
        width = 0 if none else (widths[layer] if widths else _dense_width(fields))
        width *= 2 if doubled[layer] else 1
        blocks = [FeedForward(width=width, matrices=matrices)] if width else []
        dense.append(blocks * times)
    count = sum(sparse)
    return Feeds(
        dense=dense,
        sparse=sparse,
        experts=replace(experts, layers=count) if experts and count else None,
    )


def _dense_width(fields: ConfigFields) -> int:
    """Inner width of a dense layer, as Llama 4, MiniMax-M3, LFM2 and Qwen-1 write it."""
    names = ["intermediate_size_mlp", "dense_intermediate_size"]
    names += [] if fields.number("n_routed_experts") else ["shared_intermediate_size"]
    for name in names:
        if width := fields.number(name):
            return width
    width = fields.number("intermediate_size") or 4 * fields.whole("hidden_size")
    if fields.flag("block_auto_adjust_ff_dim"):
        multiple = fields.number("block_multiple_of") or 1
        scaled = int((fields.raw("block_ffn_dim_multiplier") or 1) * int(2 * width / 3))
        width = -(-scaled // multiple) * multiple
    return width // (fields.number("intermediate_size_divisor") or 1)


def _experts(fields: ConfigFields) -> Experts | None:
    nested = fields.part("ffn_config")
    source = nested if nested.raw("n_routed_experts") else fields
    count = source.number("n_routed_experts")
    if not count or (fields.raw("enable_moe_block") is False):
        return None
    width = source.number("moe_intermediate_size") or source.whole("intermediate_size")
    shared = (
        1 if fields.raw("interleave_moe_layer_step") else fields.number("n_shared_experts") or 0
    )
    return Experts(
        layers=0,
        count=count,
        active=source.whole("num_experts_per_tok"),
        width=width,
        shared_width=fields.number("shared_width") or shared * width,
        latent=fields.number("latent_width") or 0,
        matrices=fields.number("expert_matrices") or fields.number("ffn_matrices") or 3,
    )


def _sparse_layers(fields: ConfigFields, *, layers: int) -> list[bool]:
    """Mark the layers that have experts, by whichever list or rhythm the file gives."""
    for name in (
        "mlp_layer_types",
        "moe_layer_freq",
        "layers_block_type",
        "hybrid_override_pattern",
    ):
        value = fields.raw(name)
        if name == "moe_layer_freq" and not isinstance(value, list):
            continue
        listed = (
            list(value) if isinstance(value, str) else fields.listed(name, layers=layers, spare=8)
        )
        if listed and name == "moe_layer_freq":
            return [bool(flag) for flag in listed]
        if listed and any(kind in SPARSE_KINDS for kind in listed):
            return [kind in SPARSE_KINDS for kind in listed]
    for name in ("moe_layers", "moe_layers_enum"):
        indices = fields.indices(name, layers=layers)
        if indices is not None:
            return [layer in indices for layer in range(layers)]
    if step := fields.number("interleave_moe_layer_step"):
        return [(layer + 1) % step == 0 for layer in range(layers)]
    if period := fields.number("expert_layer_period"):
        offset = fields.raw("expert_layer_offset") or 0
        return [layer % period == offset for layer in range(layers)]
    first = fields.raw("first_k_dense_replace") or fields.raw("num_dense_layers")
    first = first or fields.raw("moe_layer_start_index") or 0
    last = fields.raw("moe_layer_end_index")
    last = layers - 1 if last in (None, -1) else last
    plain = fields.indices("mlp_only_layers", layers=layers) or set()
    step = fields.number("decoder_sparse_step") or fields.number("moe_layer_freq")
    step = step or fields.number("moe_layer_interval") or 1
    turn = 1 if fields.number("decoder_sparse_step") else 0
    return [
        first <= layer <= last and layer not in plain and (layer + turn) % step == 0
        for layer in range(layers)
    ]


def _absent(fields: ConfigFields, *, layers: int) -> list[bool]:
    """Mark layers that only mix tokens, in models whose layers alternate between the two."""
    pattern = fields.raw("hybrid_override_pattern")
    if pattern is None and fields.raw("feeds_are_layers"):
        pattern = fields.listed("layers_block_type", layers=layers) or fields.listed(
            "layer_types", layers=layers
        )
    if pattern is not None:
        return [kind not in ("-", "mlp") for kind in pattern]
    return [False] * layers


def _searched(fields: ConfigFields, *, layers: int) -> Feeds:
    """Read a searched architecture (Nemotron-NAS): each layer has its own width, or a matrix."""
    hidden = fields.whole("hidden_size")
    dense: list[list[FeedForward]] = []
    for block in fields.listed("block_configs", layers=layers) or []:
        own = ConfigFields(block, {}, where=fields.where)
        linears = [
            FeedForward(width=hidden, matrices=1)
            for part in (own.part("attention"), own.part("ffn"))
            if part.flag("replace_with_linear")
        ]
        ffn = own.part("ffn")
        if not ffn.flag("no_op") and not ffn.flag("replace_with_linear"):
            width = ffn.number("intermediate_size")
            if not width:
                width = -(-int(2 * ffn.raw("ffn_mult") * hidden / 3) // 256) * 256
            linears.append(FeedForward(width=width))
        dense.append(linears)
    return Feeds(dense=dense, sparse=[False] * layers, experts=None)
