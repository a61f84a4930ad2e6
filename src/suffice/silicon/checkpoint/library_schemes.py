"""Quantisation as libraries write it down: Quark, torchao, HQQ, Quanto and FP-Quant."""

import re
from typing import Any

from suffice.errors import InputError
from suffice.silicon.checkpoint.fields import Config
from suffice.silicon.checkpoint.patterns import Patterns
from suffice.silicon.formats import format_bits

Named = list[tuple[Patterns, str | None]]

QUARK_DTYPES = {
    "int8": "int8",
    **dict.fromkeys(("bf16", "bfloat16", "float16"), "bf16"),
    "fp8_e4m3": "fp8",
    **dict.fromkeys(("int4", "uint4"), "int4"),
    **dict.fromkeys(("fp4", "mx"), "mxfp4"),
    **dict.fromkeys(("fp6_e3m2", "fp6_e2m3"), "mxfp6"),
}
TORCHAO_WORDS = (
    ("nvfp4", "nvfp4"),
    ("int4weight", "int4"),
    ("int8weight", "int8"),
    ("int4", "int4"),
    ("float8", "fp8"),
    ("fp8", "fp8"),
    ("int8", "int8"),
)
"""What the name of a configuration says of weights; names of activations come first in it."""
TORCHAO_DTYPE = re.compile(r"u?(int[2348])\b|(float8|e4m3)")


def integer_format(bits: Any, *, where: str) -> str:
    """Name the format of whole numbers; raises InputError for widths that nobody serves."""
    if bits not in (2, 3, 4, 8):
        raise InputError(f"{where}: integers of {bits!r} bits are not known", hint="2, 3, 4 or 8")
    return f"int{bits}"


def quark(config: Config, where: str) -> tuple[str | None, Named]:
    """AMD Quark: a global format, others for patterns of layers, or one for a class of layers."""

    def name_of(entry: Any) -> str | None:
        weight = (entry or {}).get("weight")
        stages = weight if isinstance(weight, list) else [weight] if weight else []
        names = []
        for stage in stages:
            dtype = str(stage.get("dtype"))
            if dtype not in QUARK_DTYPES:
                raise InputError(f"{where}: dtype {dtype!r} is not known", hint="use --weights")
            names.append(QUARK_DTYPES[dtype])
        return min(names, key=format_bits, default=None)  # of two stages the last one is stored

    default = name_of(config.get("global_quant_config"))
    layers = config.get("layer_quant_config") or {}
    named = [
        (Patterns([pattern], where=where), name_of(entry)) for pattern, entry in layers.items()
    ]
    for kind, entry in (config.get("layer_type_quant_config") or {}).items():
        if "Linear" not in kind:
            raise InputError(
                f"{where}: layers of type {kind!r} are not known", hint="use --weights"
            )
        default = name_of(entry)
    return default, named


def torchao(config: Config, where: str) -> tuple[str | None, Named]:
    """PyTorch's torchao: one configuration for all layers, or one for each named module."""
    stated = config.get("quant_type")
    stated = stated.get("default", stated) if isinstance(stated, dict) else stated
    data = stated.get("_data") or {} if isinstance(stated, dict) else {}
    modules = data.get("module_fqn_to_config") or data.get("fqn_to_config")
    if not isinstance(modules, dict):
        return _torchao_format(stated, where=where), []
    own = {name: entry and _torchao_format(entry, where=where) for name, entry in modules.items()}
    default = own.pop("_default", None)
    return default, [(Patterns([name], where=where), kind) for name, kind in own.items()]


def _torchao_format(stated: Any, *, where: str) -> str:
    """Name the format of one configuration: by the type of its weights, else by its own name."""
    table = stated if isinstance(stated, dict) else {"_type": stated}
    dtype = str((table.get("_data") or {}).get("weight_dtype") or "").lower()
    if match := TORCHAO_DTYPE.search(dtype):
        return match[1] or "fp8"
    kind = str(table.get("_type")).lower().replace("_", "")
    for word, name in TORCHAO_WORDS:
        if word in kind and not dtype:
            return name
    raise InputError(f"{where}: torchao type {str(stated)[:60]} is not known", hint="use --weights")


def half_quadratic(config: Config, where: str) -> tuple[str | None, Named]:
    """HQQ: whole numbers in groups, with a scale and a zero point each."""
    weights = (config.get("quant_config") or {}).get("weight_quant_params") or {}
    return integer_format(weights.get("nbits"), where=where), []


def quanto(config: Config, where: str) -> tuple[str | None, Named]:
    """Optimum Quanto: one type for the weights of all layers."""
    kind = str(config.get("weights"))
    if kind == "float8":
        return "fp8", []
    bits = kind.removeprefix("int")
    return integer_format(int(bits) if bits.isdecimal() else kind, where=where), []


def fp_quant(config: Config, where: str) -> tuple[str | None, Named]:
    """FP-Quant: MXFP4 or NVFP4, as the forward pass reads it."""
    kind = str(config.get("forward_dtype"))
    if kind not in ("mxfp4", "nvfp4") or config.get("store_master_weights"):
        raise InputError(f"{where}: weights of {kind!r} are not known", hint="use --weights")
    return kind, []
