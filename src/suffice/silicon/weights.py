"""Weights of a checkpoint by part: parameters, number format, bytes."""

from msgspec import Struct

from suffice.silicon.formats import SIXTEEN_BITS, Formats, Mixture, format_text, mean_bits
from suffice.silicon.shapes import Shape, profile


class PartWeights(Struct, frozen=True, kw_only=True):
    """One part: `parameters`, how they are stored, and the bytes that takes (None if unknown)."""

    part: str
    parameters: float | None
    format: str
    bytes: float | None


def weight_parts(shape: Shape, formats: Formats) -> tuple[PartWeights, ...]:
    """List every part that a checkpoint has; towers and draft heads are counted apart."""
    counts = profile(shape)
    routed = counts.moe_layers * counts.experts * counts.expert
    parts: list[tuple[str, float | None, str | Mixture]] = [
        ("attention", counts.attention, formats.attention),
        ("dense layers", counts.dense, formats.dense),
        ("shared experts", counts.shared, formats.dense),
        ("routed experts", routed, formats.experts),
        ("routers", counts.router, SIXTEEN_BITS),
        ("output head", counts.head, formats.head),
        ("embeddings", counts.embedding, SIXTEEN_BITS),
        ("towers for pictures and sound", shape.vision, SIXTEEN_BITS),
        ("draft heads (not loaded)", shape.mtp, formats.experts if routed else formats.dense),
    ]
    return tuple(
        PartWeights(
            part=name,
            parameters=parameters,
            format=format_text(part),
            bytes=None
            if parameters is None
            else parameters * mean_bits(part, integer_scale_bits=formats.integer_scale_bits) / 8,
        )
        for name, parameters, part in parts
        if parameters != 0
    )


SHOWN_PARTS = {
    "attention": "attention",
    "dense layers": "dense layers",
    "shared experts": "shared experts",
    "routed experts": "experts",
}


def describe_formats(parts: tuple[PartWeights, ...], formats: Formats) -> str:
    """Name the formats of weights and cache, and who says so: `fp8 (--weights); cache bf16`."""
    named = {SHOWN_PARTS[p.part]: p.format for p in parts if p.part in SHOWN_PARTS}
    kinds = set(named.values())
    text = next(iter(kinds)) if len(kinds) == 1 else ""
    text = text or ", ".join(f"{part} {name}" for part, name in named.items())
    cache = formats.cache or SIXTEEN_BITS
    return f"weights {text} ({formats.origin}); cache {cache} ({formats.cache_origin})"
