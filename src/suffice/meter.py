"""Usage and a price in, a charge out: exact, each token charged once, unknown never 0."""

import difflib
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct
from msgspec.structs import replace

from suffice.config import PriceConfig
from suffice.errors import Abstained, ConfigError, EngineError, PriceError
from suffice.types import NO_TOKENS, Charge, Count, CountSource, Spend, Usage
from suffice.units import SECONDS_PER_HOUR, TOKENS_PER_MTOK, picousd, usd_from_picousd

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

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
    ),
    "self-hosted": (*_NEEDED["self-hosted"], "chips"),
}
_KINDS_HINT = "a price is one of: " + "; ".join(", ".join(keys) for keys in _NEEDED.values())
_RATE_KEYS = {
    "input_usd_per_mtok": "input_mtok",
    "cache_read_usd_per_mtok": "cache_read_mtok",
    "cache_write_usd_per_mtok": "cache_write_mtok",
    "output_usd_per_mtok": "output_mtok",
    "reasoning_usd_per_mtok": "output_reasoning_mtok",
    "usd_per_thousand_requests": "requests_kcount",
}


class Rates(Struct, frozen=True, kw_only=True):
    """Dollars per million tokens, and the conditions under which they hold.

    A rate of None means that such tokens cost what the rest of the input, or of the output, costs.
    A condition of None always holds; `hours_utc` is a half-open interval that may cross midnight.
    """

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cache_read_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    reasoning_usd_per_mtok: Decimal | None = None
    usd_per_thousand_requests: Decimal | None = None
    over_input_tokens: int | None = None
    since: date | None = None
    hours_utc: tuple[time, time] | None = None

    def hold(self, at: datetime, *, input_tokens: int) -> bool:
        """Say whether every condition holds for a call of this size at this time in UTC."""
        return (
            (self.over_input_tokens is None or input_tokens > self.over_input_tokens)
            and (self.since is None or at.date() >= self.since)
            and (self.hours_utc is None or _within(at.time(), self.hours_utc))
        )


class Price(Struct, frozen=True, kw_only=True):
    """A named price: of `rates`, the last whose conditions hold are in force.

    The first rates have no condition. `source` says where the rates come from; charges at an
    `assumed` price are estimates.
    """

    name: str
    rates: tuple[Rates, ...]
    source: str
    assumed: bool = False

    def rates_at(self, at: datetime, *, input_tokens: int) -> Rates:
        """Pick the rates for a call of this size at this time."""
        if len(self.rates) == 1:
            return self.rates[0]
        at = at.astimezone(UTC)
        return next(r for r in reversed(self.rates) if r.hold(at, input_tokens=input_tokens))


def charge(usage: Usage, price: Price | None, *, at: datetime | None = None) -> Charge:
    """Charge one call that was made at `at` (now when None), to the nearest 1e-12 dollar.

    Without a price, an input count or an output count, the charge is unknown; so it is when the
    parts exceed their whole. A part that the engine does not report (cache reads, cache writes,
    reasoning) and that has a rate of its own is charged with its whole, as `estimated`.
    """
    if price is None:
        return Charge(usd=None)
    if usage.input_tokens is None or usage.output_tokens is None:
        return Charge(usd=None, price=price.name)
    rates = price.rates_at(at or datetime.now(UTC), input_tokens=usage.input_tokens.tokens)
    prompt = _side(
        usage.input_tokens,
        rates.input_usd_per_mtok,
        (usage.cache_read_tokens, rates.cache_read_usd_per_mtok),
        (usage.cache_write_tokens, rates.cache_write_usd_per_mtok),
    )
    answer = _side(
        usage.output_tokens,
        rates.output_usd_per_mtok,
        (usage.reasoning_tokens, rates.reasoning_usd_per_mtok),
    )
    if prompt is None or answer is None:
        return Charge(usd=None, price=price.name)
    per_request = (rates.usd_per_thousand_requests or Decimal(0)) / 1000
    usd = (prompt[0] + answer[0]) / TOKENS_PER_MTOK + per_request
    return Charge(
        usd=usd_from_picousd(picousd(usd)),
        estimated=price.assumed or prompt[1] or answer[1],
        price=price.name,
    )


def max_usd(price: Price, *, input_tokens: int, output_tokens: int) -> Decimal:
    """Charge the tokens at the dearest rates that the price can have, at any hour and size."""
    dearest = Decimal(0)
    for rates in price.rates:
        read = max(rates.input_usd_per_mtok, rates.cache_write_usd_per_mtok or Decimal(0))
        write = max(rates.output_usd_per_mtok, rates.reasoning_usd_per_mtok or Decimal(0))
        usd = (read * input_tokens + write * output_tokens) / TOKENS_PER_MTOK
        dearest = max(dearest, usd + (rates.usd_per_thousand_requests or Decimal(0)) / 1000)
    return dearest


def charge_without_answer(
    error: BaseException, price: Price | None, *, at: datetime | None = None
) -> Charge:
    """Charge a call that ended in an error.

    A refusal (4xx) is not billed, but the calls before it for the same answer are. An abstention
    costs what a call without tokens does. All else is unknown, for it may have been billed.
    """
    used = used_before(error)
    if used is not None:
        return charge(used, price, at=at)
    if isinstance(error, EngineError) and error.unbilled:
        return Charge(usd=Decimal(0), estimated=True)
    if isinstance(error, Abstained):
        return charge(NO_TOKENS, price, at=at)
    return Charge(usd=None)


def used_before(error: BaseException) -> Usage | None:
    """Return what calls before a failed one have used for its answer; None if nothing is known."""
    used = error.used if isinstance(error, EngineError) else None
    return used if isinstance(used, Usage) else None


def total(charges: Iterable[Charge]) -> Spend:
    """Add charges up, keeping reported, estimated and unknown amounts apart."""
    usd = {False: Decimal(0), True: Decimal(0)}
    count = {False: 0, True: 0}
    unknown = 0
    for item in charges:
        if item.usd is None:
            unknown += 1
        else:
            usd[item.estimated] += item.usd
            count[item.estimated] += 1
    return Spend(
        reported_usd=usd[False],
        estimated_usd=usd[True],
        reported_count=count[False],
        estimated_count=count[True],
        unknown_count=unknown,
    )


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
        return _hosted(name, config)
    if kind == "stated":
        rates = Rates(
            input_usd_per_mtok=_amount(name, config, "input_usd_per_mtok"),
            output_usd_per_mtok=_amount(name, config, "output_usd_per_mtok"),
            cache_read_usd_per_mtok=_maybe_amount(name, config, "cache_read_usd_per_mtok"),
            cache_write_usd_per_mtok=_maybe_amount(name, config, "cache_write_usd_per_mtok"),
            usd_per_thousand_requests=_maybe_amount(name, config, "usd_per_thousand_requests"),
        )
    else:
        rates = _self_hosted(name, config)
    source = " ".join(part for part in (config.source or kind, config.date) if part)
    return Price(name=name, rates=(rates,), source=source, assumed=config.assumed)


def _side(
    whole: Count, rate: Decimal, *parts: tuple[Count | None, Decimal | None]
) -> tuple[Decimal, bool] | None:
    """Charge each part at its own rate and the rest of the whole at the whole's rate.

    Returns dollars per million, and whether a count behind them is an estimate; None when the
    parts exceed the whole.
    """
    rest, usd, estimated = whole.tokens, Decimal(0), whole.source is CountSource.ESTIMATED
    for count, own_rate in parts:
        if own_rate is None or own_rate == rate:
            continue
        if count is None:
            estimated = estimated or whole.tokens > 0
            continue
        rest -= count.tokens
        usd += count.tokens * own_rate
        estimated = estimated or count.source is CountSource.ESTIMATED
    return None if rest < 0 else (usd + rest * rate, estimated)


def _within(moment: time, hours: tuple[time, time]) -> bool:
    start, end = hours
    return start <= moment < end if start <= end else moment >= start or moment < end


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


def _hosted(name: str, config: PriceConfig) -> Price:
    """Look the list price up in genai-prices; `date` holds it at that day's, else it follows."""
    from importlib.metadata import version

    as_of = _as_of(name, config)
    model = _find_model(name, provider_id=str(config.provider), model_id=str(config.model))
    rates = tuple(_in_force(_schedule(name, model), as_of))
    source = f"genai-prices {version('genai-prices')}: {config.provider} {model.id}"
    return Price(name=name, rates=rates, source=source if as_of is None else f"{source} {as_of}")


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


def _schedule(name: str, model: "ModelInfo") -> list[Rates]:
    """Flatten conditional and tiered list prices, so that the last rates that hold win."""
    from genai_prices.types import ModelPrice, StartDateConstraint, TimeOfDateConstraint

    if isinstance(model.prices, ModelPrice):
        return _tiers(name, model, prices=model.prices)
    schedule = []
    for i, conditional in enumerate(model.prices):
        tiers = _tiers(name, model, prices=conditional.prices)
        rule = conditional.constraint if i else None
        if isinstance(rule, StartDateConstraint):
            tiers = [replace(rates, since=rule.start_date) for rates in tiers]
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
    starts = {tier.start for rate in listed.values() for tier in getattr(rate, "tiers", ())}
    return [
        Rates(over_input_tokens=start, **{key: _tier(rate, start) for key, rate in listed.items()})
        for start in (None, *sorted(starts))
    ]


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
