"""Number formats of weights and cache: bits, mixtures within a part, what a plan may override."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from suffice.config import nearest
from suffice.errors import InputError

FORMAT_BITS = {
    "fp32": 32.0,
    "bf16": 16.0,
    "fp16": 16.0,
    "fp8": 8.0,
    "mxfp8": 8.25,
    "int8": 8.0,
    "mxfp6": 6.25,
    "nvfp4": 4.5,
    "fp4": 4.5,
    "nf4": 4.5,
    "nf4-double": 4.127,
    "mxfp4": 4.25,
    "int4": 4.25,
    "int3": 3.25,
    "int2": 2.25,
}
"""Bits per weight of each format, block scales included."""

SIXTEEN_BITS = "bf16"
LEAST_SHARE = 0.01
CACHE_FORMATS = ("bf16", "fp16", "fp8", "int8", "nvfp4", "fp4")
CACHE_NAMES = {"bfloat16": "bf16", "float16": "fp16", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8"}
NAMED_FORMATS = {
    "fp8": "fp8",
    "fp8-dynamic": "fp8",
    "fp8-static": "fp8",
    "fp8-static-pertensor": "fp8",
    "fp8-block": "fp8",
    "fp8-kv": "fp8",
    "w8a8-fp8": "fp8",
    "w8a8-int8": "int8",
    "fp4": "nvfp4",
    "nvfp4": "nvfp4",
    "mxfp4": "mxfp4",
    "mxfp8": "mxfp8",
    "awq": "int4",
    "gptq": "int4",
    "int4": "int4",
    "w4a16": "int4",
    "gptq-int4": "int4",
    "gptq-int8": "int8",
    "int8": "int8",
    "w8a8": "int8",
    "w8a16": "int8",
    "awq-int4": "int4",
    "bnb-4bit": "nf4",
    "bnb-nf4": "nf4",
    "fp4-v2": "nvfp4",
    "nvfp4-v2": "nvfp4",
    "autoround-int4": "int4",
    "int4-autoround": "int4",
    "bf16": "bf16",
}
"""Endings of a checkpoint's name, and the number format that they state."""
NAMED_CACHES = {"fp8-kv": "fp8"}
"""Endings that state the format of the KV cache too."""

Mixture = dict[str, float]
"""Shares of a part's parameters by number format; they sum to 1."""


class Formats(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Number formats of a checkpoint's parts, each one name or a mixture of them.

    `dense` holds dense feed-forward layers and shared experts, `experts` the routed ones, `head`
    the output matrix. Embeddings, norms, routers and vision towers have 16 bits. `cache` is what
    the checkpoint states for its KV cache, None where it states nothing. `scale_block` is how many
    neighbouring weights share a scale, which tensor parallelism must not part (1 where it may cut
    anywhere), `integer_scale_bits` what scales and zero points add to each whole-number weight
    (None: as in FORMAT_BITS). `origin` says who said so of the weights, `cache_origin` of the
    cache.
    """

    attention: str | Mixture = SIXTEEN_BITS
    dense: str | Mixture = SIXTEEN_BITS
    experts: str | Mixture = SIXTEEN_BITS
    head: str | Mixture = SIXTEEN_BITS
    cache: str | None = None
    scale_block: int = 1
    integer_scale_bits: float | None = None
    origin: str = "list of models"
    cache_origin: str = "not stated: engines keep 16 bits"

    @classmethod
    def uniform(cls, name: str, *, origin: str) -> "Formats":
        """Give every linear layer but the output head one format."""
        return cls(attention=name, dense=name, experts=name, origin=origin)


def format_bits(name: str) -> float:
    """Bits per weight of a number format; raises InputError with the nearest name."""
    if name.lower() not in FORMAT_BITS:
        raise InputError(
            f"no number format {name!r}", hint=nearest(name.lower(), tuple(FORMAT_BITS))
        )
    return FORMAT_BITS[name.lower()]


def mean_bits(part: str | Mixture, *, integer_scale_bits: float | None = None) -> float:
    """Bits per weight of a part, averaged over its parameters."""
    return sum(
        share
        * (
            int(name.removeprefix("int")) + integer_scale_bits
            if name.startswith("int") and integer_scale_bits is not None
            else format_bits(name)
        )
        for name, share in _mixture(part).items()
    )


def format_text(part: str | Mixture) -> str:
    """Write a part's formats for people, the largest share first: `nvfp4 63 %, bf16 37 %`."""
    mixture = sorted(_mixture(part).items(), key=lambda item: -item[1])
    if len(mixture) == 1:
        return mixture[0][0]
    return ", ".join(f"{name} {share:.0%}".replace("%", " %") for name, share in mixture)


def named_format(name: str) -> tuple[str, str] | None:
    """Split a checkpoint's name into its base and the format that its ending states, if any."""
    for ending in sorted(NAMED_FORMATS, key=len, reverse=True):
        base, dash, rest = name.rpartition(f"-{ending}")
        if base and dash and not rest:
            return base, NAMED_FORMATS[ending]
    return None


def resolve_formats(
    own: Formats,
    *,
    weights: str | None = None,
    experts: str | None = None,
    cache: str | None = None,
) -> Formats:
    """Put what the user asks for in the place of what the checkpoint states.

    `weights` sets every linear layer but the output head, `experts` the routed experts alone.
    A cache that nobody states has 16 bits, as engines serve it by default.
    """
    changes: dict[str, Any] = {}
    origin = own.origin
    for name in (weights, experts):
        format_bits(name or SIXTEEN_BITS)
    if weights:
        changes = {"attention": weights, "dense": weights, "experts": weights}
        changes |= {"scale_block": 1, "integer_scale_bits": None}
        origin = "--weights"
    if experts:
        changes["experts"] = experts
        origin += ", experts by --experts"
    if cache:
        cache = CACHE_NAMES.get(cache.lower(), cache.lower())
        if cache not in CACHE_FORMATS:
            raise InputError(f"no cache format {cache!r}", hint=nearest(cache, CACHE_FORMATS))
        changes["cache_origin"] = "--cache-format"
    changes["cache"] = cache or own.cache or SIXTEEN_BITS
    return msgspec.structs.replace(own, origin=origin, **changes)


def mixture_of(params_by_format: Mapping[str, float]) -> str | Mixture:
    """Turn parameters by format into one name, or into shares where there are several.

    What holds less than LEAST_SHARE of the part (convolutions, small gates) is left out.
    """
    least = LEAST_SHARE * sum(params_by_format.values())
    kept = {name: params for name, params in params_by_format.items() if params > least}
    total = sum(kept.values())
    shares = {name: params / total for name, params in kept.items()}
    return next(iter(shares)) if len(shares) == 1 else shares or SIXTEEN_BITS


def _mixture(part: str | Mixture) -> Mixture:
    return {part: 1.0} if isinstance(part, str) else part
