"""The ranges and fitted processes of a forecast, read from `silicon/data/forecast.toml`."""

import datetime as dt
import functools
import tomllib
from importlib import resources
from typing import Literal

import msgspec
from msgspec import Struct

from suffice.errors import InputError
from suffice.forecast.process import Process

PriceKind = Literal["market", "hosted"]


class Range(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A positive quantity that is known only to this range; it is drawn evenly in logarithms."""

    low: float
    high: float


class Reversion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The level that rent returns to: a multiple of the cost of owning, else of today's price."""

    owned: Range
    unknown: Range
    half_life_months: Range
    source: str
    date: str


class Software(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gain still to come from newer engine builds, by vendor; half of it in `settle_months`."""

    settle_months: float
    vendor: dict[str, Range]
    source: str
    date: str


class Arrival(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chip announced for `month`; `gain` is its requests per dollar over the best of 2026."""

    name: str
    month: str
    gain: Range
    source: str
    date: str


class Slip(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Months from the announced date until a chip can be rented: least, usual, most."""

    months: tuple[float, float, float]
    source: str
    date: str


class Models(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """New models: the yearly gain at equal scores, and the share that fails your certificate."""

    gain_per_year: Range
    months_between: Range
    fails: Range
    source: str
    date: str


class Parameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a forecast draws from.

    `earlier` holds the price processes as they were fitted to what was known on earlier days.
    """

    price: dict[PriceKind, Process]
    level: Reversion
    software: Software
    arrival: tuple[Arrival, ...]
    slip: Slip
    models: Models
    earlier: dict[PriceKind, tuple[Process, ...]] = {}


@functools.cache
def parameters() -> Parameters:
    """Read the built-in parameters."""
    text = resources.files("suffice.silicon").joinpath("data/forecast.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), Parameters, strict=False)


def parameters_as_of(params: Parameters, day: dt.date, *, kind: PriceKind) -> Parameters:
    """Return what was known on a day: the newest price process then, and the chips then announced.

    Raises InputError for a day before the first process that is kept.
    """
    fits = [*params.earlier.get(kind, ()), params.price[kind]]
    known = [fit for fit in fits if fit.date <= day.isoformat()]
    if not known:
        first = min(fit.date for fit in fits)
        raise InputError(
            f"no {kind} process is kept of what was known on {day}", hint=f"{first} is the first"
        )
    return msgspec.structs.replace(
        params,
        price=params.price | {kind: max(known, key=lambda fit: fit.date)},
        arrival=tuple(a for a in params.arrival if a.date <= day.isoformat()),
    )


def without_drift(params: Parameters) -> Parameters:
    """Return the processes without a drift of their own.

    Its sign is not known, so it widens a fan; as a cost it would count twice over for rising rents,
    and make every contract look cheap.
    """
    return msgspec.structs.replace(
        params,
        price={
            kind: msgspec.structs.replace(process, drift=0.0)
            for kind, process in params.price.items()
        },
    )
