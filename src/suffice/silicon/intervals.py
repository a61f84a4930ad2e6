"""How wide an interval is: it grows with everything in which a row differs from what was measured.

The logarithm of the half width is linear in TERMS. Their weights were learned from errors of rows
whose model, chip, vendor, engine or whole source of measurements was left out of the fit.
"""

import re
from collections.abc import Mapping
from math import exp

import numpy as np
from msgspec import Struct

from suffice.silicon.columns import ENGINES, ConfigTable, arithmetic
from suffice.silicon.roofline import Array

TERMS = (
    *("one", "distance", "guessed", "apart", "reading", "source"),
    *("model", "chip", "vendor", "engine", "group", "format", "version"),
)
"""`one` is 1; `distance` from the data; `guessed` batch; prefill `apart`; the share of a step that
`reading` prompts takes; the others are 1 where that of the row was never measured, else 0."""

NOVELTIES = TERMS[6:]
WIDEST = 2.5


class Interval(Struct, frozen=True, kw_only=True):
    """Weights of TERMS in the logarithm of the half width, which itself is in log time.

    `quantile` is the conformal factor. `few_sources` and `few_engines` widen further where a row's
    source or engine (or its release) was never measured, because only a handful of them were:
    Student's t at 95 % over the normal one.
    """

    weights: tuple[float, ...]
    quantile: float
    few_sources: float = 1.0
    few_engines: float = 1.0

    @property
    def unseen_chip(self) -> float:
        """How many times wider the interval of a chip without measurements is."""
        return exp(self.weights[TERMS.index("chip")])

    @property
    def unseen_vendor(self) -> float:
        """How many times wider it is where no chip of the vendor was measured."""
        return self.unseen_chip * exp(self.weights[TERMS.index("vendor")])


class Coverage(Struct, frozen=True, kw_only=True):
    """What was measured: model x chip x engine, chip x arithmetic of dense and expert weights.

    `versions` maps an engine to its oldest and newest release among the measurements.
    """

    vendors: tuple[str, ...]
    groups: tuple[tuple[str, str, int], ...]
    formats: tuple[tuple[str, int, int], ...]
    versions: Mapping[str, tuple[str, str]] = {}

    @property
    def chips(self) -> frozenset[str]:
        """Keys of the chips that were measured."""
        return frozenset(chip for _, chip, _ in self.groups)

    @property
    def models(self) -> frozenset[str]:
        """Names of the models that were measured."""
        return frozenset(model for model, _, _ in self.groups)


def coverage_of(table: ConfigTable, *, versions: Mapping[str, tuple[str, str]]) -> Coverage:
    """List what the rows of a table measure."""
    models = np.array([model.name for model in table.models])[table.model]
    chips = np.array([chip.key for chip in table.chips])[table.chip]
    dense, expert = arithmetic(table.dense_bits), arithmetic(table.expert_bits)
    return Coverage(
        vendors=tuple(sorted({table.chips[i].vendor for i in np.unique(table.chip)})),
        groups=tuple(
            sorted(set(zip(models.tolist(), chips.tolist(), table.engine.tolist(), strict=True)))
        ),
        formats=tuple(
            sorted(set(zip(chips.tolist(), dense.tolist(), expert.tolist(), strict=True)))
        ),
        versions=versions,
    )


def novelties(table: ConfigTable, measured: Coverage) -> Array:
    """Say for each row which of NOVELTIES it is: array of 0 and 1, one row a novelty.

    A chip, model or engine that was never measured counts as such, not again as a combination.
    A pipeline or a cache split by tokens counts as an unknown vendor, guessed tokens or adapters as
    an unknown release: no measured row has them.
    """
    chips, models = measured.chips, measured.models
    engines = {engine for _, _, engine in measured.groups}
    groups, formats = set(measured.groups), set(measured.formats)
    model = np.array([m.name not in models for m in table.models])[table.model]
    vendor = np.array([c.vendor not in measured.vendors for c in table.chips])[table.chip]
    vendor = vendor | (table.pp > 1) | (table.cp > 1)
    chip = np.array([c.key not in chips for c in table.chips])[table.chip] | vendor
    names = range(-1, len(ENGINES))
    engine = np.array([name not in engines for name in names])[table.engine + 1]
    group = np.array(
        [
            [[(m.name, c.key, name) not in groups for name in names] for c in table.chips]
            for m in table.models
        ]
    )[table.model, table.chip, table.engine + 1]
    kinds = range(3)
    layout = np.array(
        [
            [[(c.key, dense, expert) not in formats for expert in kinds] for dense in kinds]
            for c in table.chips
        ]
    )[table.chip, arithmetic(table.dense_bits), arithmetic(table.expert_bits)]
    known = ~(model | chip | engine)
    release = (table.version != 0) | (table.draft_tokens > 0) | (table.adapters > 0)
    kinds_of_row = (model, chip, vendor, engine, group & known, layout & ~chip, release)
    return np.array(np.broadcast_arrays(*kinds_of_row), table.batch.dtype)


def half_width(interval: Interval, terms: Mapping[str, Array], *, unseen: Array) -> Array:
    """Half the 90 % interval in log time: `terms` are the first TERMS by name, `unseen` the rest.

    It is never wider than WIDEST, a factor of 12 either way.
    """
    weights = dict(zip(TERMS, interval.weights, strict=True))
    total = np.array(interval.weights[6:], unseen.dtype) @ unseen + weights["one"]
    for name, values in terms.items():
        total = total + weights[name] * values
    engine, version = (unseen[NOVELTIES.index(name)] > 0 for name in ("engine", "version"))
    few = np.where(engine | version, interval.few_engines, 1.0)
    few = np.maximum(few, 1 + (interval.few_sources - 1) * terms["source"])
    return np.minimum(np.exp(total) * interval.quantile * few, WIDEST)


def split_version(engine: str) -> tuple[str, str]:
    """Split `vllm 0.6.3` or `vllm@0.6.3` into the engine's name and its release, '' without one."""
    match = re.fullmatch(r"\s*([A-Za-z_-]*[A-Za-z])(?:[\s@:=_-]+v?(\d[\w.+-]*))?\s*", engine)
    return (engine.strip(), "") if match is None else (match[1], match[2] or "")


def version_side(version: str, span: tuple[str, str] | None) -> int:
    """-1 for a release older than all that were measured, 1 for a newer one, else 0."""
    if not version or span is None:
        return 0
    release, (oldest, newest) = release_numbers(version), (release_numbers(v) for v in span)
    if release < oldest[: len(release)]:
        return -1
    return int(release[: len(newest)] > newest)


def release_numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a release, as (0, 5, 6) of `0.5.6.post2`."""
    match = re.match(r"[\d.]*", version)
    return tuple(int(part) for part in match[0].split(".") if part) if match else ()
