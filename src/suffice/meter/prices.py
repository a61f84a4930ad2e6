"""A `[price.NAME]` section as a price: stated, self-hosted, or from the list."""

from decimal import Decimal

from suffice.config import PriceConfig, nearest
from suffice.errors import ConfigError
from suffice.meter.charges import KINDS, Price, Rates
from suffice.meter.price_list import list_price
from suffice.units import SECONDS_PER_HOUR, TOKENS_PER_MTOK

_NEEDED = {
    "hosted": ("provider", "model"),
    "stated": ("input_usd_per_mtok", "output_usd_per_mtok"),
    "self-hosted": ("chip_usd_per_hour", "input_tokens_per_s", "output_tokens_per_s"),
}
_ALLOWED = {
    "hosted": _NEEDED["hosted"],
    "stated": (
        *_NEEDED["stated"],
        "cache_read_usd_per_mtok",
        "cache_write_usd_per_mtok",
        "usd_per_thousand_requests",
        "kinds",
    ),
    "self-hosted": (*_NEEDED["self-hosted"], "chips"),
}
_KINDS_HINT = "a price is one of: " + "; ".join(", ".join(keys) for keys in _NEEDED.values())


def price_for(name: str, config: PriceConfig) -> Price:
    """Turn one `[price.NAME]` section into a Price.

    Raises ConfigError when the section is not exactly one kind of price or a value in it cannot
    be, and PriceError when genai-prices does not know the provider or the model.

    A self-hosted price divides the dollars of all chips by each speed, so the two speeds must be
    measured apart: `input_tokens_per_s` while only reading prompts, `output_tokens_per_s` while
    only decoding. Cached tokens then cost what other input does, unless measured with the cache on.
    """
    kind = _kind(name, config)
    if kind == "hosted":
        return list_price(name, config)
    if kind == "stated":
        rates = Rates(
            input_usd_per_mtok=_amount(name, config, "input_usd_per_mtok"),
            output_usd_per_mtok=_amount(name, config, "output_usd_per_mtok"),
            cache_read_usd_per_mtok=_maybe_amount(name, config, "cache_read_usd_per_mtok"),
            cache_write_usd_per_mtok=_maybe_amount(name, config, "cache_write_usd_per_mtok"),
            usd_per_thousand_requests=_maybe_amount(name, config, "usd_per_thousand_requests"),
            kinds=_kind_rates(name, config),
        )
    else:
        rates = _self_hosted(name, config)
    source = " ".join(part for part in (config.source or kind, config.date) if part)
    return Price(name=name, rates=(rates,), source=source, assumed=config.assumed)


def _kind(name: str, config: PriceConfig) -> str:
    """Name the one kind of price that the section is; raises ConfigError naming the key."""
    keys = {key for key in config.__struct_fields__ if getattr(config, key) is not None}
    if config.chips == 1:
        keys.discard("chips")
    kinds = [kind for kind, allowed in _ALLOWED.items() if keys & {*allowed}]
    if len(kinds) > 1:
        first, second = (min(keys & {*_ALLOWED[kind]}) for kind in kinds[:2])
        raise ConfigError(
            f"price.{name}.{second}: a second kind of price, beside {first}", hint=_KINDS_HINT
        )
    for key in _NEEDED[kinds[0]] if kinds else ("provider",):
        if key not in keys:
            raise ConfigError(f"price.{name}.{key}: missing", hint=_KINDS_HINT)
    return kinds[0]


def _self_hosted(name: str, config: PriceConfig) -> Rates:
    """Divide the dollars of all chips in the time that a million tokens take by their number."""
    usd_per_hour = _amount(name, config, "chip_usd_per_hour") * config.chips
    usd_per_million_s = usd_per_hour / SECONDS_PER_HOUR * TOKENS_PER_MTOK
    for key in ("chips", "input_tokens_per_s", "output_tokens_per_s"):
        if _amount(name, config, key) == 0:
            raise ConfigError(f"price.{name}.{key}: 0", hint="write what was measured, above 0")
    return Rates(
        input_usd_per_mtok=usd_per_million_s / _amount(name, config, "input_tokens_per_s"),
        output_usd_per_mtok=usd_per_million_s / _amount(name, config, "output_tokens_per_s"),
    )


def _kind_rates(name: str, config: PriceConfig) -> dict[str, Decimal]:
    """Read the rates by kind; raises ConfigError for a kind that no engine's usage has."""
    rates = config.kinds or {}
    for kind, rate in rates.items():
        at = f"price.{name}.kinds.{kind}"
        if kind not in KINDS:
            raise ConfigError(f"{at}: no kind of tokens or tool", hint=nearest(kind, KINDS))
        if not rate.is_finite() or rate < 0:
            raise ConfigError(f"{at}: {rate} is not an amount", hint="write a number of 0 or more")
    return dict(rates)


def _maybe_amount(name: str, config: PriceConfig, key: str) -> Decimal | None:
    return None if getattr(config, key) is None else _amount(name, config, key)


def _amount(name: str, config: PriceConfig, key: str) -> Decimal:
    """Read one number of the section; raises ConfigError when it is negative or not finite."""
    amount = Decimal(str(getattr(config, key)))
    if not amount.is_finite() or amount < 0:
        raise ConfigError(
            f"price.{name}.{key}: {amount} is not an amount", hint="write a number of 0 or more"
        )
    return amount
