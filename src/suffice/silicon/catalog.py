"""The chip catalogue: specifications with unit, source and date, read from data/chips.toml."""

import datetime as dt
import functools
import math
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from suffice.config import nearest
from suffice.errors import ConfigError, InputError

SI = {"TFLOP/s": 1e12, "GB": 1e9, "TB/s": 1e12, "GB/s": 1e9, "W": 1.0, "chips": 1.0}
PLAUSIBLE = {
    "bf16": (1e-3, 1e6),
    "memory": (0.1, 5000.0),
    "bandwidth": (1e-3, 100.0),
    "power": (1.0, 50_000.0),
    "domain": (1.0, 100_000.0),
    "link": (0.1, 20_000.0),
    "network": (0.01, 20_000.0),
}
"""What any processor's value lies within, in UNITS; other rates are like bf16's."""

PROBED = "probed"  # the vendor of a chip that `suffice plan probe` measured
RIDGE = (1.0, 5000.0)
"""FLOPs a byte at which a chip turns from memory to arithmetic: 3 on processors, 600 on the newest
accelerators."""

UNITS = {
    "memory": "GB",
    "bandwidth": "TB/s",
    "power": "W",
    "domain": "chips",
    "link": "GB/s",
    "network": "GB/s",
}
ASSUMED_LINK_SHARE = 0.1
"""Link rate over memory rate where no link rate is published: near the middle of those that are."""


DRIVER_WORDS = frozenset(
    (
        *("nvidia", "amd", "instinct", "intel", "google", "gpu", "oam"),
        *("sxm", "sxm4", "sxm5", "sxm6", "hbm2e", "hbm3", "hbm3e"),
    )
)
"""What drivers put around a chip's name."""
MEMORY_SLACK = 0.1


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where values come from, and the day that it said so."""

    title: str
    date: str


class Value(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One published or measured value; `low` and `high` span the sources where they disagree."""

    value: float
    unit: str
    source: str
    low: float | None = None
    high: float | None = None

    @property
    def si(self) -> float:
        """The value in FLOP/s, bytes, bytes/s, watts or chips."""
        return self.value * SI[self.unit]


class Chip(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One accelerator: dense rates, memory, links per direction; None is not published.

    `domain` is how many chips one scale-up network joins; `link` its rate per chip, `network` the
    rate per chip beyond it. `matmul_*` are measured dense products, not specifications.
    """

    key: str
    title: str
    vendor: str
    bf16: Value
    memory: Value
    bandwidth: Value
    fp8: Value | None = None
    fp4: Value | None = None
    int8: Value | None = None
    power: Value | None = None
    domain: Value | None = None
    link: Value | None = None
    network: Value | None = None
    matmul_bf16: Value | None = None
    matmul_fp8: Value | None = None
    aliases: tuple[str, ...] = ()
    note: str | None = None

    @property
    def values(self) -> dict[str, Value]:
        """Every value that is known, by field."""
        known = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in known.items() if isinstance(value, Value)}

    @property
    def link_bytes_per_s(self) -> float:
        """The scale-up rate, or ASSUMED_LINK_SHARE of the memory rate where none is published."""
        return self.link.si if self.link else ASSUMED_LINK_SHARE * self.bandwidth.si

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the planner had to assume because nothing is published."""
        missing = [] if self.link else ["link rate (10 % of the memory rate taken)"]
        return (*missing, *([] if self.domain else ["scale-up size (8 taken)"]))


def flops_per_s(chip: Chip, *, bits: float) -> float:
    """Return the dense rate that weights of `bits` bits can use: the narrowest format that has one.

    Formats the chip lacks are computed in the next wider one, as the engines do.
    """
    if bits <= 4 and chip.fp4:
        return chip.fp4.si
    if bits <= 8 and (chip.fp8 or chip.int8):
        return (chip.fp8 or chip.int8).si  # type: ignore[union-attr]
    return chip.bf16.si


@functools.cache
def catalogue() -> dict[str, Chip]:
    """Read the built-in chips, keyed by short name."""
    text = resources.files("suffice.silicon").joinpath("data/chips.toml").read_text("utf-8")
    return parse_chips(tomllib.loads(text), where="data/chips.toml")


def load_chips(path: Path) -> dict[str, Chip]:
    """Read chips that the user describes, on top of the built-in ones; raises ConfigError."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"cannot read {path}: {error}", hint="docs/silicon.md shows a chip entry"
        ) from error
    return catalogue() | parse_chips(tree, where=str(path))


def parse_chips(tree: dict[str, Any], *, where: str) -> dict[str, Chip]:
    """Check a table of chips: known fields, right units, positive values, a source for each."""
    try:
        sources = msgspec.convert(tree.get("source", {}), dict[str, Source])
        chips = {
            key: msgspec.convert({"key": key} | table, Chip)
            for key, table in tree.get("chip", {}).items()
        }
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}", hint="docs/silicon.md shows a chip entry") from error
    for chip in chips.values():
        for name, value in chip.values.items():
            _check_value(value, sources, at=f"{where}: chip.{chip.key}.{name}", name=name)
        ridge = chip.bf16.si / chip.bandwidth.si
        probed = chip.vendor == PROBED  # on a busy machine, but in the right units
        if not probed and not RIDGE[0] <= ridge <= RIDGE[1]:
            raise ConfigError(
                f"{where}: chip.{chip.key}: bf16 over bandwidth is {ridge:.3g} FLOP a byte, "
                f"outside {RIDGE[0]:g} to {RIDGE[1]:g} of any chip",
                hint="is one of the two in another unit? bf16 is in TFLOP/s, bandwidth in TB/s",
            )
    return chips


def sources(tree: dict[str, Any] | None = None) -> dict[str, Source]:
    """Return the sources that the built-in catalogue names."""
    if tree is None:
        text = resources.files("suffice.silicon").joinpath("data/chips.toml").read_text("utf-8")
        tree = tomllib.loads(text)
    return msgspec.convert(tree["source"], dict[str, Source])


def find_chip(name: str, chips: dict[str, Chip] | None = None) -> Chip:
    """Look a chip up by key or alias; raises InputError with the nearest name."""
    chips = catalogue() if chips is None else chips
    names = {alias: chip for chip in chips.values() for alias in chip.aliases} | chips
    chip = names.get(name.lower()) or _as_driver_names_it(name, names)
    if chip is None:
        raise InputError(
            f"no chip {name!r} in the catalogue", hint=nearest(name.lower(), tuple(chips))
        )
    return chip


def _as_driver_names_it(name: str, names: Mapping[str, Chip]) -> Chip | None:
    """Find a chip as drivers and clouds name it: `NVIDIA H100 80GB HBM3`, `AMD Instinct MI300X`.

    A memory in the name must be that of the chip, for some chips come with two.
    """
    words = re.split(r"[\s_-]+", name.lower())
    stated = [int(word.removesuffix("gb")) for word in words if re.fullmatch(r"\d{2,3}gb", word)]
    kept = [w for w in words if w not in DRIVER_WORDS and not re.fullmatch(r"\d{2,3}gb", w)]
    joined = {re.sub(r"[\s_-]+", "_", known): chip for known, chip in names.items()}
    chip = joined.get("_".join(kept))
    if chip is None or any(abs(gb * 1e9 / chip.memory.si - 1) > MEMORY_SLACK for gb in stated):
        return None
    return chip


def _check_value(value: Value, sources: dict[str, Source], *, at: str, name: str) -> None:
    unit = UNITS.get(name, "TFLOP/s")
    if value.unit != unit:
        raise ConfigError(f"{at}: unit {value.unit!r}", hint=f"give it in {unit}")
    if not value.value > 0 or not math.isfinite(value.value):
        raise ConfigError(f"{at}: {value.value} is not positive", hint="leave unknown values out")
    least, most = PLAUSIBLE.get(name, PLAUSIBLE["bf16"])
    if not least <= value.value <= most:
        raise ConfigError(
            f"{at}: {value.value:g} {unit} lies outside {least:g} to {most:g} of any chip",
            hint=f"is it in another unit? write it in {unit}",
        )
    if value.source not in sources:
        raise ConfigError(
            f"{at}: no source {value.source!r}",
            hint="add a [source.NAME] table with title and date",
        )
    low, high = value.low or value.value, value.high or value.value
    if not low <= value.value <= high:
        raise ConfigError(f"{at}: {value.value} lies outside low..high", hint="mend the range")


class ChipProbe(Struct, frozen=True, kw_only=True):
    """What was measured, and on what; rates in bytes/s and FLOP/s.

    `matmul_dtype` is what the products were made in. `moe_bytes_per_s` is the rate at which a
    decode step through top-k experts reads their weights, None where it was not measured.
    """

    device: str
    memory_bytes: float
    copy_bytes_per_s: float
    matmul_flops_per_s: float
    matmul_dtype: str
    date: str
    moe_bytes_per_s: float | None = None
    kernels: str = "numpy"


def chip_entry(probe: ChipProbe, *, key: str) -> str:
    """Write a probe as TOML that `suffice.silicon.catalog.load_chips` reads."""
    values = {
        "bf16": (probe.matmul_flops_per_s / 1e12, "TFLOP/s"),
        "memory": (probe.memory_bytes / 1e9, "GB"),
        "bandwidth": (probe.copy_bytes_per_s / 1e12, "TB/s"),
        "domain": (1.0, "chips"),
    }
    lines = [
        "[source.probe]",
        f'title = "suffice plan probe, {probe.kernels}, {probe.matmul_dtype}"',
        f'date = "{probe.date}"',
        "",
        f"[chip.{key}]",
        f'title = "{probe.device}"',
        f'vendor = "{PROBED}"',
        'note = "rates are measured, not published: they include what software loses"',
    ]
    lines += [
        f'{name} = {{ value = {value:.6g}, unit = "{unit}", source = "probe" }}'
        for name, (value, unit) in values.items()
    ]
    return "\n".join(lines) + "\n"


def today() -> str:
    """Return the date, as catalogue entries write it."""
    return dt.datetime.now(tz=dt.UTC).date().isoformat()
