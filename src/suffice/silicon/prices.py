"""What a chip-hour costs: dated prices of three kinds, or the user's own."""

import datetime as dt
import functools
import tomllib
from decimal import Decimal
from importlib import resources
from typing import Literal

import msgspec
from msgspec import Struct

from suffice.errors import PriceError

Kind = Literal["owning", "contract", "on_demand"]
KINDS: tuple[Kind, ...] = ("owning", "contract", "on_demand")


class Offer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars per chip and hour: the middle of `low` to `high`, seen on `date` at `source`.

    `owning` is amortised hardware, power and space; `contract` a three-year or one-year rental;
    `on_demand` a list price by the hour. None of them includes people or unused hours.
    """

    chip: str
    kind: Kind
    usd_per_hour: Decimal
    low: Decimal
    high: Decimal
    date: str
    source: str


@functools.cache
def offers() -> tuple[Offer, ...]:
    """Read the built-in prices."""
    text = resources.files("suffice.silicon").joinpath("data/prices.toml").read_text("utf-8")
    return tuple(msgspec.convert(tomllib.loads(text)["offer"], list[Offer], strict=False))


def find_offer(chip: str, *, kind: Kind) -> Offer | None:
    """Return the newest price of this kind, or None where no public one is known."""
    matching = [o for o in offers() if o.chip == chip and o.kind == kind]
    return max(matching, key=lambda offer: offer.date, default=None)


def stated_offer(chip: str, usd_per_hour: str | Decimal) -> Offer:
    """Make an offer from a price that the user names; raises PriceError unless it is positive."""
    try:
        price = Decimal(usd_per_hour)
    except ArithmeticError as error:
        raise PriceError(
            f"{usd_per_hour!r} is not a price", hint="write dollars, as in h100=2.35"
        ) from error
    if not price.is_finite() or price <= 0:
        raise PriceError(
            f"a chip-hour cannot cost {price}", hint="give a positive price in dollars"
        )
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    return Offer(
        chip=chip,
        kind="on_demand",
        usd_per_hour=price,
        low=price,
        high=price,
        date=today,
        source="stated by you",
    )
