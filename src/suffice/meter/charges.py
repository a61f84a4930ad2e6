"""Usage and a price in, a charge out: exact, each token charged once, unknown never 0."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from decimal import Decimal

from msgspec import Struct

from suffice.errors import Abstained, EngineError
from suffice.types import ASKED_TIER, NO_TOKENS, Charge, Count, CountSource, Spend, Usage
from suffice.units import TOKENS_PER_MTOK, picousd, usd_from_picousd

STANDARD_TIERS = frozenset({"default", "standard", "standard_only", "auto", "on_demand"})
FEES = ("web_searches", "social_searches", "storage_searches", "code_executions")
# Prompt tokens by kind, each with the part of them that a cache held.
INPUT_KINDS = {
    "input_audio_tokens": "cache_audio_read_tokens",
    "input_image_tokens": "cache_image_read_tokens",
    "input_video_tokens": "cache_video_read_tokens",
}
OUTPUT_KINDS = ("output_audio_tokens", "output_image_tokens", "output_video_tokens")
KINDS = (*INPUT_KINDS, *INPUT_KINDS.values(), *OUTPUT_KINDS, "cache_write_1h_tokens", *FEES)
_NOTHING = Count(0, CountSource.REPORTED)
_Part = tuple[Count | None, Decimal | None]  # of a whole count, and its own rate


class Rates(Struct, frozen=True, kw_only=True):
    """Dollars per million tokens, and the conditions under which they hold.

    A rate of None means that such tokens cost what the rest of the input, or of the output, costs.
    `kinds` has the rates of what `Usage.kinds` counts: tokens by the million, calls by thousand.
    A condition of None always holds; `hours_utc` is a half-open interval that may cross midnight.
    """

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cache_read_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    reasoning_usd_per_mtok: Decimal | None = None
    usd_per_thousand_requests: Decimal | None = None
    kinds: dict[str, Decimal] = {}
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

    The first rates have no condition. `tiers` has the rates of other service tiers, where they are
    listed. `source` says where the rates come from; charges at an `assumed` price are estimates.
    """

    name: str
    rates: tuple[Rates, ...]
    source: str
    assumed: bool = False
    tiers: dict[str, tuple[Rates, ...]] = {}

    def rates_at(self, at: datetime, *, input_tokens: int) -> Rates:
        """Pick the rates for a call of this size at this time."""
        if len(self.rates) == 1:
            return self.rates[0]
        at = at.astimezone(UTC)
        return next(r for r in reversed(self.rates) if r.hold(at, input_tokens=input_tokens))

    def tier_rates_at(self, at: datetime, *, tier: str, input_tokens: int) -> Rates | None:
        """Pick the rates of a service tier; None where they are not listed."""
        at = at.astimezone(UTC)
        listed = reversed(self.tiers.get(tier, ()))
        return next((r for r in listed if r.hold(at, input_tokens=input_tokens)), None)


def charge(usage: Usage, price: Price | None, *, at: datetime | None = None) -> Charge:
    """Charge one call that was made at `at` (now when None), to the nearest 1e-12 dollar.

    Without a price, an input count or an output count, the charge is unknown; so it is when the
    parts exceed their whole. A part that the engine does not report (cache reads, cache writes,
    reasoning) and that has a rate of its own is charged with its whole, as `estimated`. So is what
    was counted by kind and has no rate (audio, images, searches), and a tier that is not listed.
    """
    if price is None:
        return Charge(usd=None)
    if usage.input_tokens is None or usage.output_tokens is None:
        return Charge(usd=None, price=price.name)
    rates, sure = _rates_of(usage, price, at=at or datetime.now(UTC))
    prompt = _side(usage.input_tokens, rates.input_usd_per_mtok, *_input_parts(usage, rates))
    answer = _side(
        usage.output_tokens,
        rates.output_usd_per_mtok,
        (usage.reasoning_tokens, rates.reasoning_usd_per_mtok),
        *((usage.kinds[k], rates.kinds.get(k)) for k in OUTPUT_KINDS if k in usage.kinds),
    )
    if prompt is None or answer is None:
        return Charge(usd=None, price=price.name)
    per_request = (rates.usd_per_thousand_requests or Decimal(0)) / 1000
    fees = sum(
        (usage.kinds[fee].tokens * rates.kinds[fee] / 1000 for fee in _priced_fees(usage, rates)),
        Decimal(0),
    )
    unpriced = any(
        count.tokens and kind not in rates.kinds and kind != "cache_write_5m_tokens"
        for kind, count in usage.kinds.items()
    )
    guessed = any(
        usage.kinds[fee].source is CountSource.ESTIMATED for fee in FEES if fee in usage.kinds
    )
    usd = (prompt[0] + answer[0]) / TOKENS_PER_MTOK + per_request + fees
    fee_differs = bool(per_request) and usage.stated_usd not in (None, usd)  # Perplexity's, by size
    return Charge(
        usd=usd_from_picousd(picousd(usd)),
        estimated=price.assumed
        or prompt[1]
        or answer[1]
        or unpriced
        or guessed
        or fee_differs
        or not sure,
        price=price.name,
    )


def _priced_fees(usage: Usage, rates: Rates) -> list[str]:
    return [fee for fee in FEES if fee in usage.kinds and fee in rates.kinds]


def _rates_of(usage: Usage, price: Price, *, at: datetime) -> tuple[Rates, bool]:
    """Return the rates of the tier that answered, and whether they are sure to be."""
    assert usage.input_tokens is not None
    input_tokens, tier = usage.input_tokens.tokens, (usage.service_tier or "").lower()
    standard = price.rates_at(at, input_tokens=input_tokens)
    if not tier or tier in STANDARD_TIERS:
        return standard, True
    name = tier.removesuffix(ASKED_TIER)
    rates = price.tier_rates_at(at, tier=name, input_tokens=input_tokens)
    return rates or standard, rates is not None and name == tier


def _input_parts(usage: Usage, rates: Rates) -> list[_Part]:
    """Part the prompt by what a cache held, what it took up and for how long, and by kind."""
    kinds, read_rate = usage.kinds, rates.cache_read_usd_per_mtok
    write_rate = rates.cache_write_usd_per_mtok
    if not kinds:
        return [(usage.cache_read_tokens, read_rate), (usage.cache_write_tokens, write_rate)]
    cached = [kinds.get(kind, _NOTHING) for kind in INPUT_KINDS.values()]
    hour = kinds.get("cache_write_1h_tokens", _NOTHING)
    parts = [
        (_less(usage.cache_read_tokens, *cached), read_rate),
        (_less(usage.cache_write_tokens, hour), write_rate),
        (hour, rates.kinds.get("cache_write_1h_tokens", write_rate)),
    ]
    for (kind, cached_kind), count in zip(INPUT_KINDS.items(), cached, strict=True):
        parts.append((count, rates.kinds.get(cached_kind, read_rate)))
        parts.append((_less(kinds.get(kind, _NOTHING), count), rates.kinds.get(kind)))
    return parts


def _less(whole: Count | None, *parts: Count) -> Count | None:
    """Take parts off a count; never below 0, for a part may be counted in another place."""
    if whole is None:
        return None
    return Count(max(0, whole.tokens - sum(part.tokens for part in parts)), whole.source)


def max_usd(price: Price, *, input_tokens: int, output_tokens: int, searches: int = 0) -> Decimal:
    """Charge tokens and searches at the dearest rates of the price: hour, size, tier and kind."""
    dearest = Decimal(0)
    for rates in (*price.rates, *(rates for tier in price.tiers.values() for rates in tier)):
        kinds = rates.kinds.items()
        outputs = [rate for kind, rate in kinds if kind in OUTPUT_KINDS]
        inputs = [rate for kind, rate in kinds if kind not in (*OUTPUT_KINDS, *FEES)]
        read = max(rates.input_usd_per_mtok, rates.cache_write_usd_per_mtok or Decimal(0), *inputs)
        write = max(rates.output_usd_per_mtok, rates.reasoning_usd_per_mtok or Decimal(0), *outputs)
        usd = (read * input_tokens + write * output_tokens) / TOKENS_PER_MTOK
        calls = rates.usd_per_thousand_requests or Decimal(0)
        calls += searches * rates.kinds.get("web_searches", Decimal(0))
        dearest = max(dearest, usd + calls / 1000)
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


def _side(whole: Count, rate: Decimal, *parts: _Part) -> tuple[Decimal, bool] | None:
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
