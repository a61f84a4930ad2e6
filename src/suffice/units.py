"""Conversions between the units that people write and the ones that suffice computes in."""

import re
from decimal import ROUND_HALF_EVEN, Decimal

TOKENS_PER_MTOK = 1_000_000
SECONDS_PER_HOUR = 3600
PICOUSD_PER_USD = 10**12  # one token at 1e-6 dollars per million, the finest list price

# What a terminal obeys or cannot show: control characters, other line ends, marks that reverse the
# direction of text, and halves of surrogate pairs, which stand for bytes that are not UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_DURATION_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>us|ms|s|m|h|d)")


def usd_per_token(usd_per_mtok: Decimal) -> Decimal:
    """Turn dollars per million tokens into dollars per token, exactly."""
    return usd_per_mtok / TOKENS_PER_MTOK


def picousd(usd: Decimal) -> int:
    """Turn dollars into whole 1e-12 dollars, the grain that the books keep; halves go to even."""
    return int((usd * PICOUSD_PER_USD).to_integral_value(ROUND_HALF_EVEN))


def usd_from_picousd(amount: int) -> Decimal:
    """Turn whole 1e-12 dollars back into dollars, exactly."""
    return Decimal(amount).scaleb(-12)


def seconds(text: str) -> float:
    """Read a duration such as `50ms`, `1.5s`, `30d`; raises ValueError on anything else."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a duration: write a number and one of us, ms, s, m, h, d"
        )
    return float(match["number"]) * _DURATION_S[match["unit"]]


def show_usd(usd: Decimal | None) -> str:
    """Write dollars for people: cents, or three digits below a cent; `unknown` for None."""
    if usd is None:
        return "unknown"
    if usd == 0 or abs(usd) >= Decimal("0.01"):
        return f"${usd:,.2f}"
    return f"${usd:.3g}" if usd >= Decimal("1e-6") else f"${usd:.2e}"


def show_share(share: float | None) -> str:
    """Write a probability in [0, 1] as a percentage with one decimal; `unknown` for None."""
    return "unknown" if share is None else f"{100 * share:.1f} %"


def show_seconds(duration_s: float | None) -> str:
    """Write a duration with the unit that keeps it readable; `unknown` for None."""
    if duration_s is None:
        return "unknown"
    if duration_s < 1:
        return f"{1000 * duration_s:.3g} ms"
    minutes, rest_s = divmod(round(duration_s), 60)
    if minutes == 0:
        return f"{duration_s:.1f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest_s:02d} s"


def printable(text: str) -> str:
    """Escape what could steer a terminal, in the way of JSON."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
