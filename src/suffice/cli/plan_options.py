"""Parsers of the options of `suffice plan`."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from suffice.errors import InputError
from suffice.units import seconds

if TYPE_CHECKING:
    from suffice.silicon.catalog import Chip
    from suffice.silicon.question import Slo, Workload


def parse_workload(text: str) -> "Workload":
    """Read `in=1000,out=500,rps=20,variation=0.5`; raises InputError."""
    from suffice.silicon.question import Workload

    hint = "in=1000,out=500,rps=20,variation=0.5"
    pairs = _pairs(text, keys=("in", "out", "rps", "variation"), flag="--workload")
    try:
        numbers = {key: float(value) for key, value in pairs.items()}
    except ValueError as error:
        raise InputError(f"--workload {text!r}: {error}", hint=hint) from error
    variation = numbers.pop("variation", 0.0)
    if not {"in", "out"} <= numbers.keys() or not all(0 < n < 1e9 for n in numbers.values()):
        raise InputError(f"--workload {text!r} needs positive in and out", hint=hint)
    if not 0 <= variation <= 3:
        raise InputError(f"--workload: variation {variation:g} lies outside 0 to 3", hint=hint)
    return Workload(
        input_tokens=numbers["in"],
        output_tokens=numbers["out"],
        requests_per_s=numbers.get("rps"),
        variation=variation,
    )


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
