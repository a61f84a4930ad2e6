"""Quantisation methods, each read into one scheme: which matrices get which number format."""

import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from suffice.config import nearest
from suffice.errors import InputError
from suffice.silicon.checkpoint.fields import Config
from suffice.silicon.checkpoint.layer_names import Matrix
from suffice.silicon.checkpoint.library_schemes import (
    Named,
    fp_quant,
    half_quadratic,
    integer_format,
    quanto,
    quark,
    torchao,
)
from suffice.silicon.checkpoint.patterns import Patterns, in_every_layer, layer_of

MODELOPT = {
    "FP8": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8",
    "FP8_PB_WO": "fp8",
    "FP8_PB_REAL": "fp8",
    "FP8_BLOCK_SCALES": "fp8",
    "MXFP8": "mxfp8",
    "NVFP4": "nvfp4",
    "NVFP4_AWQ": "nvfp4",
    "NVFP4_SVDQUANT": "nvfp4",
    "W4A16_NVFP4": "nvfp4",
    "W4A8_NVFP4_FP8": "nvfp4",
    "W4A8_MXFP4_FP8": "mxfp4",
    "MXFP4": "mxfp4",
    "W4A16_MXFP4": "mxfp4",
    "W4A16": "int4",
    "W4A16_AWQ": "int4",
    "W4A8_AWQ": "int4",
    "W8A16": "int8",
    "INT8_SQ": "int8",
    "W8A8_SQ_PER_CHANNEL": "int8",
    "INT4_AWQ": "int4",
    "NO_QUANT": None,
}
PACKINGS = {
    "float-quantized": ("fp8", "mxfp8"),
    "int-quantized": ("int8", "int4"),
    "pack-quantized": ("int8", "int4", "int3", "int2"),
    "nvfp4-pack-quantized": ("nvfp4",),
    "mxfp4-pack-quantized": ("mxfp4",),
    "mxfp8-quantized": ("mxfp8", "fp8"),
}
"""Formats that each packing of compressed-tensors can hold; other packings say nothing."""

LATER_EXPERT = re.compile(r"\.experts\.[1-9]")
"""Experts of one layer share a format, so that the first speaks for all."""

LEFT_ALONE = (
    "modules_to_not_convert",
    "ignored_layers",
    "ignore",
    "exclude_modules",
    "exclude",
    "llm_int8_skip_modules",
)


class Scheme(Struct, frozen=True, kw_only=True):
    """One file's statements: named matrices first, those left alone, then the default."""

    where: str
    default: str | None
    named: Named
    ignored: Patterns
    cache: str | None
    words: frozenset[str] = frozenset()
    layers_named: frozenset[int] = frozenset()
    experts_only: bool = False

    def format_of(self, matrix: Matrix) -> str | None:
        """Return the format that a matrix is stored in, None where it is left in 16 bits."""
        if matrix.plain:
            return None
        for patterns, name in self.named:
            if patterns.cover(matrix):
                return name
        if matrix.part == "head" or (self.experts_only and matrix.part != "experts"):
            return None
        return None if self.ignored.cover(matrix) else self.default


def read_scheme(config: Config, *, where: str) -> Scheme:
    """Read a `quantization_config` or a neighbouring file; raises InputError for unknown ones."""
    if not isinstance(config, dict):
        raise InputError(f"{where} is not a table", hint="give the complete file")
    nested = config.get("quantization")
    if isinstance(nested, dict):
        config = {"quant_method": "modelopt"} | nested
    method = _method(config, where=where)
    if method not in METHODS:
        raise InputError(
            f"{where}: quantisation method {method!r} is not known",
            hint=f"{nearest(method, tuple(METHODS))}; or name formats with --weights and --experts",
        )
    default, named = METHODS[method](config, where)
    _check_fields(config, default, where=where)
    ignored = [
        name
        for key in LEFT_ALONE
        if not (key == "ignore" and method == "fp8")
        for name in config.get(key) or ()
    ]
    if (completed := in_every_layer(ignored)) != ignored:
        ignored = completed
        where = f"{where}, whose shortened list is taken to say the same of every layer"
    if config.get("lm_head") is True:
        named = [(Patterns(["lm_head"], where=where), default), *named]
    texts = [*ignored, *(config.get("quantized_layers") or ())]
    layers = (layer_of(text) for text in texts if isinstance(text, str))
    return Scheme(
        where=where,
        default=default,
        named=named,
        ignored=Patterns(ignored, where=where, whole=method == "compressed-tensors"),
        cache=_cache(config, where=where),
        words=frozenset(w for t in texts if not t.startswith("re:") for w in t.split(".")),
        layers_named=frozenset(layer for layer in layers if layer is not None),
        experts_only=method == "mxfp4",
    )


def _method(config: Config, *, where: str) -> str:
    """Name the method, also of files that leave it out."""
    method = str(config.get("quant_method") or "").lower().replace("_", "-")
    if method:
        return method
    if config.get("quant_algo"):
        return "modelopt"
    if config.get("config_groups"):
        return "compressed-tensors"
    if config.get("w_bit") or config.get("bits"):
        return "awq" if config.get("w_bit") else "gptq"
    if config.get("load_in_4bit") or config.get("load_in_8bit"):
        return "bitsandbytes"
    raise InputError(f"{where} names no quantisation method", hint="add quant_method")


def _check_fields(config: Config, default: str | None, *, where: str) -> None:
    """Refuse sparse weights, and an algorithm that says another format than the method."""
    sparsity = config.get("sparsity_config") or {}
    packing = sparsity.get("format") if isinstance(sparsity, dict) else None
    if packing and packing != "dense":
        raise InputError(
            f"{where}: sparse weights ({packing}) are not known", hint="name formats with --weights"
        )
    stated = MODELOPT.get(str(config.get("quant_algo")))
    if default is not None and stated is not None and stated != default:
        raise _contradiction(where, f"the method is {default}, quant_algo is {stated}")


def _contradiction(where: str, message: str) -> InputError:
    return InputError(f"{where} contradicts itself: {message}", hint="mend the file")


def _fp8(config: Config, where: str) -> tuple[str | None, Named]:
    algorithm = str(config.get("quant_algo") or "FP8")
    if algorithm == "MIXED_PRECISION":
        return "fp8", _modelopt(config, where)[1]
    bits = config.get("bits") or config.get("num_bits") or 8
    if bits != 8 or not MODELOPT.get(algorithm, "fp8") == "fp8":
        raise _contradiction(where, f"method fp8, but {bits} bits and algorithm {algorithm}")
    return "fp8", []


def _integers(config: Config, where: str) -> tuple[str | None, Named]:
    """AWQ, GPTQ and AutoRound: whole numbers of `bits` bits."""
    stated = {config[key] for key in ("bits", "w_bit", "wbits", "num_bits") if config.get(key)}
    if not stated:
        raise InputError(f"{where} names no bits", hint="add bits")
    if len(stated) > 1:
        raise _contradiction(where, f"bits are {', '.join(map(str, sorted(stated)))}")
    bits = next(iter(stated))
    return integer_format(bits, where=where), [
        *_overrides(config.get("dynamic"), where=f"{where}: dynamic"),
        *_overrides(config.get("extra_config"), where=f"{where}: extra_config"),
    ]


def _auto_round(config: Config, where: str) -> tuple[str | None, Named]:
    """Intel AutoRound: whole numbers, or a float format that `data_type` names."""
    kind, bits = str(config.get("data_type") or "int"), int(config.get("bits") or 0)
    if kind.startswith("int"):
        return _integers(config, where)
    floats = {"mx_fp": {4: "mxfp4", 8: "mxfp8"}, "nv_fp": {4: "nvfp4"}, "fp": {8: "fp8"}}
    name = floats.get(kind.rstrip("48"), {}).get(bits)
    if name is None or config.get("extra_config"):
        raise InputError(f"{where}: {bits!r} bits of {kind!r} are not known", hint="use --weights")
    return name, []


def _overrides(entries: Any, *, where: str) -> Named:
    """Read bits of layers of their own: GPTQModel's `dynamic`, AutoRound's `extra_config`.

    A name may be an expression. `-:` before it leaves the layers alone, `+:` or nothing changes
    them; an entry without bits changes nothing that is counted here.
    """
    named: Named = []
    for text, entry in (entries or {}).items():
        sign, _, rest = text.rpartition(":") if text.startswith(("+:", "-:")) else ("", "", text)
        bits = (entry or {}).get("bits")
        if sign == "-" or (bits is not None and bits >= 16):
            name = None
        elif bits is not None:
            name = integer_format(bits, where=where)
        else:
            continue
        expression = f"re:{rest}" if sign or set(rest) & set("*^$|(\\") else rest
        named.append((Patterns([expression], where=where), name))
    return named


def _bitsandbytes(config: Config, where: str) -> tuple[str | None, Named]:
    four = config.get("load_in_4bit") or config.get("_load_in_4bit")
    eight = config.get("load_in_8bit") or config.get("_load_in_8bit")
    if bool(four) == bool(eight):
        raise _contradiction(where, "exactly one of load_in_4bit and load_in_8bit must be true")
    double = config.get("bnb_4bit_use_double_quant")
    return (("nf4-double" if double else "nf4") if four else "int8"), []


def _compressed(config: Config, where: str) -> tuple[str | None, Named]:
    """Read compressed-tensors: groups with targets of their own, and the one for all layers."""
    default, named = None, []
    groups = config.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise InputError(f"{where} has no config_groups", hint="give the complete file")
    for key, group in groups.items():
        at = f"{where}: {key}"
        packing = group.get("format") or config.get("format")
        name = _group_format(group.get("weights"), packing=packing, where=at)
        targets = group.get("targets") or ["Linear"]
        if "Linear" in targets:
            if default is not None and name != default:
                raise _contradiction(where, f"two groups for all layers: {default} and {name}")
            default = name
        else:
            named.append((Patterns(targets, where=at), name))
    return default, named


def _group_format(weights: Any, *, packing: str | None, where: str) -> str | None:
    """Name the format of one group from its bits, its type and how it is packed."""
    if weights is None:
        return None
    bits, kind, group = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
    if kind == "float" and bits == 8:
        name = "mxfp8" if group == 32 else "fp8"
    elif kind == "float" and bits == 4:
        name = "mxfp4" if (packing or "").startswith("mxfp4") or group == 32 else "nvfp4"
    elif kind == "int":
        name = integer_format(bits, where=where)
    else:
        raise InputError(f"{where}: {bits!r} bits of type {kind!r} are not known", hint="mend it")
    allowed = PACKINGS.get(packing or "")
    if packing and packing.startswith(("marlin-24", "sparse")):
        raise InputError(f"{where}: sparse weights ({packing}) are not known", hint="use --weights")
    if allowed and name not in allowed:
        raise _contradiction(where, f"{name} weights cannot be packed as {packing}")
    return name


def _modelopt(config: Config, where: str) -> tuple[str | None, Named]:
    """NVIDIA ModelOpt: one algorithm for all layers, or one for each named layer."""
    algorithm = config.get("quant_algo")
    layers = config.get("quantized_layers")
    if algorithm == "MIXED_PRECISION":
        if layers:
            by_format: dict[str | None, list[str]] = {}
            for name, entry in layers.items():
                if LATER_EXPERT.search(name):
                    continue
                own = _algorithm(entry.get("quant_algo"), where=f"{where}: {name}")
                by_format.setdefault(own, []).append(name)
            return None, [(Patterns(n, where=where), own) for own, n in by_format.items()]
        if config.get("config_groups"):
            return _compressed(config, where)
        raise InputError(f"{where}: MIXED_PRECISION names no layers", hint="add quantized_layers")
    default = _algorithm(algorithm, where=where)
    for key, group in (config.get("config_groups") or {}).items():
        name = _group_format(group.get("weights"), packing=None, where=f"{where}: {key}")
        if name != default:
            raise _contradiction(where, f"quant_algo is {algorithm}, but {key} holds {name}")
    return default, []


def _algorithm(name: Any, *, where: str) -> str | None:
    if name is None:
        return None
    if str(name) not in MODELOPT:
        raise InputError(
            f"{where}: algorithm {name!r} is not known", hint=nearest(str(name), tuple(MODELOPT))
        )
    return MODELOPT[str(name)]


def _fp8_around_int4(_config: Config, where: str) -> tuple[str | None, Named]:
    """SGLang's w4afp8: routed experts in 4 bits, all other layers in fp8."""
    return "fp8", [(Patterns(["experts"], where=where), "int4")]


def _fixed(name: str) -> Callable[[Config, str], tuple[str | None, Named]]:
    return lambda _config, _where: (name, [])


METHODS: dict[str, Callable[[Config, str], tuple[str | None, Named]]] = {
    "fp8": _fp8,
    **dict.fromkeys(("fbgemm-fp8", "finegrained-fp8", "w8a8-fp8", "ptpc-fp8"), _fixed("fp8")),
    **{name: _fixed(name) for name in ("mxfp8", "mxfp4", "nvfp4")},
    **dict.fromkeys(("w8a8-int8", "eetq"), _fixed("int8")),
    **dict.fromkeys(("awq", "awq-marlin", "gptq", "gptq-marlin", "moe-wna16"), _integers),
    **dict.fromkeys(("inc", "autoround", "auto-round", "intel/auto-round"), _auto_round),
    **{f"modelopt{ending}": _modelopt for ending in ("", "-fp4", "-fp8", "-mxfp8", "-mixed")},
    "w4afp8": _fp8_around_int4,
    "hqq": half_quadratic,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed,
    "quark": quark,
    "torchao": torchao,
    "quanto": quanto,
    "fp-quant": fp_quant,
}


def _cache(config: Config, *, where: str) -> str | None:
    """Name the cache format that a file states, None where it states none."""
    scheme = config.get("kv_cache_scheme")
    names = {"FP8": "fp8", "INT8": "int8", "NVFP4": "nvfp4", "NONE": None, "AUTO": None}
    stated = []
    if isinstance(scheme, dict):
        stated.append(_group_format(scheme, packing=None, where=f"{where}: kv_cache_scheme"))
    texts = [scheme if isinstance(scheme, str) else None, config.get("kv_cache_quant_algo")]
    for text in texts:
        if text is not None:
            if str(text).upper() not in names:
                raise InputError(f"{where}: unknown cache format {text!r}", hint="FP8 is usual")
            stated.append(names[str(text).upper()])
    by_layer = config.get("kv_cache_quant_config") or {}
    if "fp8" in str(by_layer):
        stated.append("fp8")
    kinds = {name for name in stated if name}
    if len(kinds) > 1:
        raise _contradiction(where, f"two cache formats: {', '.join(sorted(kinds))}")
    return next(iter(kinds), None)
