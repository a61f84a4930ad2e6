"""Trials of imported logs, charged at the prices of a ladder."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from suffice.config import load_config
from suffice.meter import Price, charge, price_for
from suffice.types import Trial, ZeroCost

Prices = Mapping[str, Price]  # by the name of a rung, and by that of a model


class TrialCosts(Struct, frozen=True, kw_only=True):
    """What a cost of exactly 0 dollars means, and the prices of trials without a cost."""

    zero_cost: ZeroCost | None = None
    prices: Prices = {}


AS_WRITTEN = TrialCosts()


def ladder_prices(path: Path | None) -> Prices:
    """Return the prices of a configuration file; none without a file.

    Raises ConfigError and PriceError as `price_for` does.
    """
    if path is None:
        return {}
    config = load_config(path)
    prices: dict[str, Price] = {}
    for rung in config.ladder:
        if rung.price is not None:
            price = price_for(rung.price, config.price[rung.price])
            prices[rung.name] = price
            prices.setdefault(rung.model, price)
    return prices


def with_charges(trials: Iterable[Trial], prices: Prices) -> tuple[Trial, ...]:
    """Charge the trials that have no charge, at the price of their rung or its model.

    The rung of an Inspect log is `PROVIDER/MODEL@EFFORT`. A trial without counts stays unknown; the
    rates are those of today, or of the day that the price names.
    """
    return tuple(_with_charge(trial, prices) if prices else trial for trial in trials)


def price_of(trial: Trial, prices: Prices) -> Price | None:
    """Find the price of a trial's rung, or of its model, which an `@EFFORT` may follow."""
    model = trial.rung.rpartition("@")[0] or trial.rung
    names = (trial.rung, model, model.partition("/")[2], model.rpartition("/")[2])
    return next((prices[name] for name in names if name in prices), None)


def _with_charge(trial: Trial, prices: Prices) -> Trial:
    price = price_of(trial, prices)
    if price is None or trial.charge_usd is not None:
        return trial
    charged = charge(trial.usage, price)
    return replace(trial, charge_usd=charged.usd, charge_estimated=charged.estimated)
