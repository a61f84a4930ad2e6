"""Usage and prices to charges."""

from suffice.meter.charges import (
    Price,
    Rates,
    charge,
    charge_without_answer,
    max_usd,
    total,
    used_before,
)
from suffice.meter.prices import price_for

__all__ = [
    "Price",
    "Rates",
    "charge",
    "charge_without_answer",
    "max_usd",
    "price_for",
    "total",
    "used_before",
]
