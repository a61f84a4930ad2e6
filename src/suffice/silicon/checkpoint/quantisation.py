"""Number formats of a checkpoint's parts, from what its configuration says of quantisation.

The narrower statement wins: a layer that is named, then a group with targets of its own, then the
list of modules left alone, then the method's default. Statements of equal width that contradict
each other are refused.
"""

from collections import defaultdict
from typing import Any

from msgspec import Struct

from suffice.errors import InputError
from suffice.silicon.checkpoint.fields import Config
from suffice.silicon.checkpoint.layer_names import LayerList, Matrix
from suffice.silicon.checkpoint.patterns import Patterns
from suffice.silicon.checkpoint.scales import integer_scale_bits, scale_block
from suffice.silicon.checkpoint.schemes import Scheme, read_scheme
from suffice.silicon.formats import SIXTEEN_BITS, Formats, Mixture, mixture_of

DTYPES = {
    "bfloat16": "bf16",
    "float16": "bf16",
    "float32": "bf16",
    "half": "bf16",
    "auto": "bf16",
    "float8_e4m3fn": "fp8",
}
"""Weights that are stored in 32 bits are served in 16, as engines do."""

OWN_KINDS = {
    "q_a_proj": "mla",
    "kv_a_proj_with_mqa": "mla",
    "linear_attn": "linear",
}


class Neighbour(Struct, frozen=True, kw_only=True):
    """A quantisation file beside the configuration: its name and what it holds."""

    name: str
    content: dict[str, Any]


def read_formats(
    whole: Config, inner: Config, *, names: LayerList, neighbour: Neighbour | None
) -> Formats:
    """Read the formats of all parts; raises InputError where files are unknown or disagree."""
    dtype = inner.get("dtype") or inner.get("torch_dtype")
    dtype = str(dtype or whole.get("dtype") or whole.get("torch_dtype") or "bfloat16")
    plain = DTYPES.get(dtype.removeprefix("torch."))
    if plain is None:
        raise InputError(f"config.json: dtype {dtype!r} is not known", hint="bfloat16 is usual")
    stated = _stated(whole, inner)
    own = read_scheme(stated, where="config.json: quantization_config") if stated else None
    beside = None
    if neighbour is not None:
        beside = read_scheme(neighbour.content, where=neighbour.name)
        _check_neighbour(beside, names=names, draft_heads=_draft_heads(inner))
    expert_dtype = {"fp4": "mxfp4", "fp8": "fp8"}.get(str(inner.get("expert_dtype")))
    totals: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for matrix in names.matrices():
        format_name = own.format_of(matrix) if own else None
        if beside is not None:
            other = beside.format_of(matrix)
            if own and other and format_name != other:
                raise InputError(
                    f"{beside.where} says {other} of {matrix.names[0]}, "
                    f"config.json says {format_name or plain}",
                    hint="one of the two files belongs to another checkpoint: remove it",
                )
            format_name = format_name or other
        if matrix.part == "experts" and expert_dtype and format_name in (None, "fp8"):
            format_name = expert_dtype
        totals[matrix.part][format_name or plain] += matrix.params
    parts: dict[str, str | Mixture] = {
        part: mixture_of(formats) for part, formats in totals.items()
    }
    origin = " and ".join(scheme.where for scheme in (own, beside) if scheme)
    cache = _cache(own, beside)
    statements = [stated, neighbour and neighbour.content]
    return Formats(
        attention=parts.get("attention", SIXTEEN_BITS),
        dense=parts.get("dense", SIXTEEN_BITS),
        experts=parts.get("experts", SIXTEEN_BITS),
        head=parts.get("head", SIXTEEN_BITS),
        cache=cache,
        scale_block=max(scale_block(statement) for statement in statements),
        integer_scale_bits=next(filter(None, map(integer_scale_bits, statements)), None),
        origin=origin or f"config.json: dtype {dtype.removeprefix('torch.')}",
        cache_origin=origin if cache else Formats().cache_origin,
    )


def _stated(whole: Config, inner: Config) -> Any:
    """Find the statement on quantisation: of the file, else of its text part, or by its old name.

    Raises InputError where two of them differ.
    """
    places = [
        part[name]
        for name in ("quantization_config", "compression_config")
        for part in (whole, inner)
        if part.get(name)
    ]
    short = whole.get("quantization")
    if isinstance(short, dict) and short.get("bits") and not short.get("quant_method"):
        raise InputError(
            "config.json: weights in MLX's format run on no chip of the catalogue",
            hint="give the config.json that they were made from, and formats with --weights",
        )
    if not places and short:
        places = [short if isinstance(short, dict) else {"quant_method": short}]
    if any(place != places[0] for place in places):
        raise InputError(
            "config.json states two quantisations that differ",
            hint="quantization_config may stand in the file, or in its text part: keep one",
        )
    return places[0] if places else None


def _draft_heads(inner: Config) -> int:
    return max(int(inner.get("num_nextn_predict_layers") or 0), 1)


def _cache(own: Scheme | None, beside: Scheme | None) -> str | None:
    stated = {scheme.cache for scheme in (own, beside) if scheme and scheme.cache}
    if len(stated) > 1:
        raise InputError(
            f"config.json and its neighbour name two cache formats: {', '.join(sorted(stated))}",
            hint="one of the two files belongs to another checkpoint: remove it",
        )
    return next(iter(stated), None)


def _check_neighbour(scheme: Scheme, *, names: LayerList, draft_heads: int) -> None:
    """Refuse a file that names layers or matrices which this model does not have."""
    hint = "it belongs to another model: remove it, or give the config.json beside it"
    layers = scheme.layers_named
    if layers and max(layers) >= names.count + draft_heads:
        raise InputError(
            f"{scheme.where} names layer {max(layers)}, but the model has {names.count}", hint=hint
        )
    if layers == set(range(len(layers))) and names.count / 2 < len(layers) < names.count - 1:
        raise InputError(
            f"{scheme.where} names layers 0 to {max(layers)}, but the model has {names.count}",
            hint=hint,
        )
    kinds = {block.kind for layer in names.mixing for block in layer}
    for word in scheme.words:
        if word in OWN_KINDS and OWN_KINDS[word] not in kinds and "compressed" not in kinds:
            raise InputError(f"{scheme.where} names {word}, which this model has not", hint=hint)
    if "experts" in scheme.words and names.feeds.experts is None:
        raise InputError(f"{scheme.where} names experts, which this model has not", hint=hint)
    if scheme.named and not any(_covered(scheme.named, matrix) for matrix in names.matrices()):
        raise InputError(f"{scheme.where} names no matrix of this model", hint=hint)


def _covered(named: list[tuple[Patterns, str | None]], matrix: Matrix) -> bool:
    return any(patterns.cover(matrix) for patterns, _ in named)
