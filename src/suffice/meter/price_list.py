"""List prices of hosted models, from genai-prices."""

import difflib
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from suffice.config import PriceConfig
from suffice.errors import ConfigError, PriceError
from suffice.meter.charges import KINDS, STANDARD_TIERS, Price, Rates

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, PriceVariant

_RATE_KEYS = {
    "input_usd_per_mtok": "input_mtok",
    "cache_read_usd_per_mtok": "cache_read_mtok",
    "cache_write_usd_per_mtok": "cache_write_mtok",
    "output_usd_per_mtok": "output_mtok",
    "reasoning_usd_per_mtok": "output_reasoning_mtok",
    "usd_per_thousand_requests": "requests_kcount",
}


def list_price(name: str, config: PriceConfig) -> Price:
    """Look the list price up in genai-prices; `date` holds it at that day's, else it follows."""
    as_of = _as_of(name, config)
    model = _find_model(name, provider_id=str(config.provider), model_id=str(config.model))
    rates = tuple(_in_force(_schedule(name, model), as_of))
    tiers = {
        tier: tuple(_in_force(_schedule(name, model, tier=tier), as_of))
        for tier in _tiers_of(model)
    }
    source = f"genai-prices {_edition()}: {config.provider} {model.id}"
    source = source if as_of is None else f"{source} {as_of}"
    return Price(name=name, rates=rates, source=source, tiers=tiers)


@cache
def _edition() -> str:
    """Return the version of the list; its package's metadata takes milliseconds to read."""
    from importlib.metadata import version

    return version("genai-prices")


def _as_of(name: str, config: PriceConfig) -> date | None:
    try:
        return None if config.date is None else date.fromisoformat(config.date)
    except ValueError as error:
        raise ConfigError(
            f"price.{name}.date: {config.date!r} is not a date", hint="write it as 2026-01-31"
        ) from error


def _find_model(name: str, *, provider_id: str, model_id: str) -> "ModelInfo":
    """Find a model of a provider; raises PriceError with the nearest names there are."""
    from genai_prices.data_snapshot import find_provider_by_id, get_snapshot

    snapshot = get_snapshot()
    provider = find_provider_by_id(snapshot.providers, provider_id)
    if provider is None:
        raise PriceError(
            f"price.{name}.provider: genai-prices knows no provider {provider_id!r}",
            hint=_nearest(provider_id, [p.id for p in snapshot.providers]),
        )
    model = provider.find_model(model_id, all_providers=snapshot.providers)
    if model is None:
        raise PriceError(
            f"price.{name}.model: genai-prices has no model {model_id!r} of {provider.id}",
            hint=_nearest(model_id, [m.id for m in provider.models]),
        )
    return model


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    if close:
        return "nearest names: " + ", ".join(close)
    return f"none of its {len(known)} names is near; input_usd_per_mtok can be stated instead"


def _tier_of(variant: "PriceVariant") -> str | None:
    """Name the service tier that a variant of a price is for; None where it is for more."""
    if len(variant.when) != 1:
        return None
    when = variant.when
    tier = when.get("service_tier") or when.get("processing") or when.get("speed")
    return str(tier) if tier is not None and tier not in STANDARD_TIERS else None


def _tiers_of(model: "ModelInfo") -> list[str]:
    tiers = (_tier_of(variant) for variant in model.price_variants or ())
    return sorted({tier for tier in tiers if tier is not None})


def _schedule(name: str, model: "ModelInfo", *, tier: str | None = None) -> list[Rates]:
    """Flatten conditional and tiered list prices, so that the last rates that hold win.

    The first rates of a tier hold from the start: their date is the day that the list took them up.
    """
    from genai_prices.types import (
        ConditionalPrice,
        ModelPrice,
        StartDateConstraint,
        TimeOfDateConstraint,
    )

    variants = [v for v in model.price_variants or () if tier is not None and _tier_of(v) == tier]
    starts = {getattr(variant.constraint, "start_date", None) for variant in variants} or {None}
    first = min((day for day in starts if day), default=None) if None not in starts else None
    bases = model.prices
    if isinstance(bases, ModelPrice):
        bases = [ConditionalPrice(prices=bases)]
    schedule = []
    for i, base in enumerate(bases):
        rule = base.constraint if i else None
        for start in sorted(starts, key=lambda day: day or date.min):
            overrides: dict[str, Any] = {}
            for variant in variants:  # the first one that lists a rate holds
                begun = getattr(variant.constraint, "start_date", None)
                if begun is None or (start is not None and begun <= start):
                    listed = variant.prices.__dict__
                    overrides = {k: v for k, v in listed.items() if v is not None} | overrides
            prices = ModelPrice(**{**base.prices.__dict__, **overrides})
            since = None if start == first else start
            tiers = [replace(rates, since=since) for rates in _tiers(name, model, prices=prices)]
            if isinstance(rule, StartDateConstraint):
                later = max(rule.start_date, since or rule.start_date)
                tiers = [replace(rates, since=later) for rates in tiers]
            elif isinstance(rule, TimeOfDateConstraint):
                hours = (_utc_clock(rule.start_time), _utc_clock(rule.end_time))
                tiers = [replace(rates, hours_utc=hours) for rates in tiers]
            schedule += tiers
    return schedule


def _tiers(name: str, model: "ModelInfo", *, prices: "ModelPrice") -> list[Rates]:
    """Make one Rates for each size of prompt from which a higher tier is charged for all of it."""
    listed = {key: getattr(prices, theirs) for key, theirs in _RATE_KEYS.items()}
    both = listed["input_usd_per_mtok"] is not None and listed["output_usd_per_mtok"] is not None
    if not both or prices.output_citation_mtok is not None:
        raise PriceError(
            f"price.{name}.model: {model.id} is not priced by tokens in and out alone",
            hint="state input_usd_per_mtok and output_usd_per_mtok instead",
        )
    kinds = {kind: getattr(prices, _kind_key(kind)) for kind in KINDS}
    kinds = {kind: rate for kind, rate in kinds.items() if rate is not None}
    every = (*listed.values(), *kinds.values())
    starts = {tier.start for rate in every for tier in getattr(rate, "tiers", ())}
    return [
        Rates(
            over_input_tokens=start,
            kinds={kind: _tier(rate, start) for kind, rate in kinds.items()},
            **{key: _tier(rate, start) for key, rate in listed.items()},
        )
        for start in (None, *sorted(starts))
    ]


def _kind_key(kind: str) -> str:
    """Return the name of a kind's rate in genai-prices."""
    return f"{kind.removesuffix('_tokens')}_mtok" if kind.endswith("_tokens") else f"{kind}_kcount"


def _tier(rate: Any, start: int | None) -> Any:
    """Read a rate, tiered or not, for prompts of more than `start` tokens."""
    if rate is None or isinstance(rate, Decimal):
        return rate
    reached = [tier.price for tier in rate.tiers if start is not None and tier.start <= start]
    return cast("Decimal", (reached or [rate.base])[-1])


def _utc_clock(clock: time) -> time:
    if clock.tzinfo is None:
        return clock
    return datetime.combine(date(1970, 1, 1), clock).astimezone(UTC).time()


def _in_force(schedule: list[Rates], as_of: date | None) -> list[Rates]:
    """Fix the schedule at a day: drop what starts later, and the condition of what has started."""
    if as_of is None:
        return schedule
    started = [rates for rates in schedule if rates.since is None or rates.since <= as_of]
    return [replace(rates, since=None) for rates in started]
