"""Which matrices a quantisation file means: exact names, shell patterns and regular expressions."""

import fnmatch
import functools
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from suffice.errors import InputError
from suffice.silicon.checkpoint.layer_names import PREFIXES, Matrix

LAYER = re.compile(r"(?:^|\.)layers\.(\d+|\*)(?:\.|(?=\*)|$)")
ELSEWHERE = re.compile(r"^(?:model\.)?(?:mtp|visual|vision|audio|embed_vision|eh_proj)")
NUMBERED = re.compile(r"(\blayers\.)\d+(\.|$)")
SHORTENED = re.compile(r"^\s*(?:\.{3}|…)|(?:\.{3}|…)\s*$")
NESTED_REPEAT = re.compile(r"[+*]\)[+*{]")
LONGEST = 300
FUSED = {
    "gate_up_proj": "gate_up",
    "qkv_proj": "qkv",
    "in_proj_qkvz": "qkvz",
    "in_proj_ba": "_ba",
    "fused_wqa_wkv": "fused",
    "fused_qkv_a_proj_with_mqa": "fused",
}
"""Names of several matrices in one, and the word that a pattern has which means them by it: the
pattern `*up_proj` does not mean the gate beside it."""


def layer_of(pattern: str) -> int | None:
    """Return the layer number that a pattern names, None where it names none or all."""
    match = LAYER.search(pattern)
    return int(match[1]) if match and match[1] != "*" else None


def in_every_layer(names: list[Any]) -> list[Any]:
    """Complete a list that was shortened by `...`: what it names of one layer holds for all."""
    full = [name for name in names if not (isinstance(name, str) and SHORTENED.search(name))]
    if len(full) == len(names):
        return names
    return [NUMBERED.sub(r"\1*\2", name) if isinstance(name, str) else name for name in full]


class Patterns:
    """A list of patterns of one file, sorted by the layer that they name.

    A plain name means a matrix of that name and everything below it, wherever it hangs; `*` and
    `?` match as in a shell; `re:` opens a regular expression that must match from the start.
    `Linear` (a class of layers) means every matrix but the output head. Layers of towers and of
    draft heads are not the decoder's. If `whole`, a name with a layer's number means no matrix
    below it: compressed-tensors lists parents of quantised layers among the modules left alone.
    """

    def __init__(self, patterns: Iterable[str], *, where: str, whole: bool = False) -> None:
        self.whole = whole
        self.plain: dict[int | None, set[str]] = defaultdict(set)
        self.globs: dict[int | None, set[str]] = defaultdict(set)
        self.regexes: list[re.Pattern[str]] = []
        self.everything = False
        for pattern in patterns:
            if not isinstance(pattern, str):
                raise InputError(f"{where}: {pattern!r} is not a name", hint="names are text")
            if pattern in ("Linear", "*"):
                self.everything = True
            elif pattern.startswith("re:"):
                self.regexes.append(_compiled(pattern[3:], where=where))
            elif not ELSEWHERE.search(pattern):
                match = LAYER.search(pattern)
                tail = pattern[match.end() :] if match else pattern
                lists = self.globs if "*" in tail or "?" in tail else self.plain
                lists[layer_of(pattern)].add(tail)

    def cover(self, matrix: Matrix) -> bool:
        """Whether any pattern means this matrix."""
        if matrix.layer is not None and self.everything:
            return True
        for layer in {None, matrix.layer}:
            plain = self.plain.get(layer, ())
            numbered = self.whole and layer is not None
            runs = _ends(matrix.names) if numbered else _runs(matrix.names)
            if plain and any(run in plain for run in runs):
                return True
            if any(_globbed(tail, matrix.names) for tail in self.globs.get(layer, ())):
                return True
        return any(_matches(regex, matrix) for regex in self.regexes)


@functools.cache
def _runs(names: tuple[str, ...]) -> tuple[str, ...]:
    """All runs of components of a matrix's names, and the empty one, which means its layer."""
    runs = {""}
    for name in names:
        parts = name.split(".")
        ends = range(1, len(parts) + 1)
        runs |= {".".join(parts[i:j]) for j in ends for i in range(j)}
    return tuple(runs)


@functools.cache
def _ends(names: tuple[str, ...]) -> tuple[str, ...]:
    """All runs of components that end a matrix's names."""
    return tuple(
        {name.split(".", start)[-1] for name in names for start in range(name.count(".") + 1)}
    )


@functools.lru_cache(maxsize=65536)
def _globbed(pattern: str, names: tuple[str, ...]) -> bool:
    """Whether a shell pattern, read from below its layer, means one of a matrix's names."""
    names = _meant(names, pattern)
    return any(fnmatch.fnmatchcase(f".{name}", f"*.{pattern}") for name in names) or (
        pattern.startswith("*") and any(fnmatch.fnmatchcase(name, pattern) for name in names)
    )


@functools.lru_cache(maxsize=65536)
def _meant(names: tuple[str, ...], pattern: str) -> tuple[str, ...]:
    """Leave out fused names whose word the pattern does not have."""
    return tuple(n for n in names if FUSED.get(n.rpartition(".")[2], "") in pattern)


def _matches(regex: re.Pattern[str], matrix: Matrix) -> bool:
    """Whether an expression matches; one without a digit says the same of every layer."""
    if matrix.layer is None:
        return any(regex.match(name) for name in matrix.names)
    numbered = any(character.isdigit() for character in regex.pattern)
    return _matches_layer(regex, matrix.names, matrix.layer if numbered else 0)


@functools.lru_cache(maxsize=65536)
def _matches_layer(regex: re.Pattern[str], names: tuple[str, ...], layer: int) -> bool:
    names = _meant(names, regex.pattern)
    heads = [f"{prefix}layers.{layer}." for prefix in PREFIXES]
    return any(regex.match(head + name) for head in heads for name in names)


def _compiled(pattern: str, *, where: str) -> re.Pattern[str]:
    try:
        if len(pattern) > LONGEST or NESTED_REPEAT.search(pattern):
            raise re.error("too long, or a repeat within a repeat")
        return re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"{where}: pattern {pattern[:60]!r}: {error}", hint="name the layers one by one"
        ) from error
