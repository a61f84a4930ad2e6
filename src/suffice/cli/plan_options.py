"""Parsers of the options of `suffice plan`."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from suffice.errors import InputError
from suffice.units import seconds

if TYPE_CHECKING:
    from suffice.silicon.adapters import Adapters
    from suffice.silicon.catalog import Chip
    from suffice.silicon.question import Slo, Workload
    from suffice.silicon.speculation import Speculation


def parse_workload(text: str, *, cache_hit: float = 0.0) -> "Workload":
    """Read `in=1000,out=500,rps=20,variation=0.5,hit=0.9`; raises InputError.

    `cache_hit` holds for a workload that names no `hit`.
    """
    from suffice.silicon.question import Workload

    hint = "in=1000,out=500,rps=20,variation=0.5,hit=0.9"
    pairs = _pairs(text, keys=("in", "out", "rps", "variation", "hit"), flag="--workload")
    try:
        numbers = {key: float(value) for key, value in pairs.items()}
    except ValueError as error:
        raise InputError(f"--workload {text!r}: {error}", hint=hint) from error
    variation, hit = numbers.pop("variation", 0.0), numbers.pop("hit", cache_hit)
    if not {"in", "out"} <= numbers.keys() or not all(0 < n < 1e9 for n in numbers.values()):
        raise InputError(f"--workload {text!r} needs positive in and out", hint=hint)
    if not 0 <= variation <= 3:
        raise InputError(f"--workload: variation {variation:g} lies outside 0 to 3", hint=hint)
    if not 0 <= hit <= 1:
        raise InputError(
            f"a cache hit rate of {hit:g} lies outside 0 to 1",
            hint="it is the share of prompt tokens that the cache holds: 0.9 for 90 %",
        )
    return Workload(
        input_tokens=numbers["in"],
        output_tokens=numbers["out"],
        requests_per_s=numbers.get("rps"),
        variation=variation,
        cache_hit=hit,
    )


def parse_speculation(text: str) -> "Speculation":
    """Read `tokens=3,accept=0.7,draft=0.05`, or `draft=MODEL`; raises InputError."""
    from suffice.silicon.models import find_shape
    from suffice.silicon.speculation import Speculation

    hint = "tokens=3,accept=0.7,draft=0.05"
    pairs = _pairs(text, keys=("tokens", "accept", "draft"), flag="--speculate")
    try:
        tokens, acceptance = int(pairs["tokens"]), float(pairs["accept"])
    except (KeyError, ValueError) as error:
        raise InputError(
            f"--speculate {text!r} needs a whole number of tokens and a rate of acceptance",
            hint=hint,
        ) from error
    draft = pairs.get("draft")
    if draft is None:
        return Speculation(tokens=tokens, acceptance=acceptance)
    try:
        return Speculation(tokens=tokens, acceptance=acceptance, draft_cost=float(draft))
    except ValueError:
        return Speculation(tokens=tokens, acceptance=acceptance, draft=find_shape(draft))


def parse_adapters(text: str) -> "Adapters":
    """Read `count=32,rank=16`; raises InputError."""
    from suffice.silicon.adapters import Adapters

    pairs = _pairs(text, keys=("count", "rank"), flag="--lora")
    try:
        return Adapters(count=int(pairs["count"]), rank=int(pairs["rank"]))
    except (KeyError, ValueError) as error:
        raise InputError(
            f"--lora {text!r} needs two whole numbers", hint="count=32,rank=16"
        ) from error


def parse_day(text: str) -> tuple[float, ...]:
    """Read requests a second in equal intervals of a day, by commas; raises InputError."""
    hint = "5,5,8,20,40,30: requests a second in equal intervals of a day"
    try:
        rates = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise InputError(f"--day {text!r}: {error}", hint=hint) from error
    if rates and not all(0 <= rate < 1e9 for rate in rates):
        raise InputError(f"--day {text!r}: a rate is negative or no number", hint=hint)
    return rates


def parse_stock(text: str, *, known: "dict[str, Chip]") -> dict[str, int]:
    """Read `h100=16,h200=8`; raises InputError for unknown chips and counts below 1."""
    from suffice.silicon.catalog import find_chip

    stock = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, count = part.partition("=")
        if not count.strip().isdecimal() or int(count) < 1:
            raise InputError(f"--stock {part!r}", hint="write CHIP=COUNT: h100=16,h200=8")
        stock[find_chip(name.strip(), known).key] = int(count)
    return stock


def parse_slo(text: str) -> "Slo":
    """Read `ttft=1s,tpot=50ms`; raises InputError."""
    from suffice.silicon.question import Slo

    pairs = _pairs(text, keys=("ttft", "tpot"), flag="--slo")
    try:
        limits = {f"{key}_s": seconds(value) for key, value in pairs.items()}
    except ValueError as error:
        raise InputError(f"--slo: {error}", hint="ttft=1s,tpot=50ms") from error
    if not all(limit > 0 for limit in limits.values()):
        raise InputError("--slo: a limit must be above zero", hint="ttft=1s,tpot=50ms")
    return Slo(**limits)


def parse_prices(pairs: list[str], *, known: "dict[str, Chip]") -> dict[str, Decimal]:
    """Read CHIP=DOLLARS pairs; raises InputError or PriceError."""
    from suffice.silicon.catalog import find_chip
    from suffice.silicon.prices import stated_offer

    prices = {}
    for pair in pairs:
        name, _, dollars = pair.partition("=")
        chip = find_chip(name.strip(), known)
        prices[chip.key] = stated_offer(chip.key, dollars.strip()).usd_per_hour
    return prices


def parse_kind(text: str) -> Any:
    """Check a kind of price; raises InputError."""
    from suffice.config import nearest
    from suffice.silicon.prices import KINDS

    if text not in KINDS:
        raise InputError(f"--price-kind {text!r}", hint=nearest(text, KINDS))
    return text


def _pairs(text: str, *, keys: tuple[str, ...], flag: str) -> dict[str, str]:
    pairs = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or key not in keys:
            raise InputError(
                f"{flag}: {part!r}", hint=f"write {', '.join(f'{name}=VALUE' for name in keys)}"
            )
        pairs[key] = value
    return pairs
