"""The prices that matter in a session: dollars per token read, written and put out, as floats."""

from datetime import datetime

from msgspec import Struct

from suffice.config.sections import CACHE_LIFE_S
from suffice.meter import Price
from suffice.units import TOKENS_PER_MTOK


class TokenRates(Struct, frozen=True, kw_only=True):
    """Dollars per token: read from a cache, not found in one, and put out.

    A forecast, not a charge: floats, at the rates for small prompts. The books charge in Decimal.
    `cache_life_s` is how long the cache keeps a prefix that nobody reads.
    """

    read_usd: float
    write_usd: float
    output_usd: float
    cache_life_s: float = CACHE_LIFE_S

    def turn_usd(self, *, prompt_tokens: float, warm_tokens: float, output_tokens: float) -> float:
        """Return the dollars of one request whose prompt is cached up to `warm_tokens`."""
        return (
            warm_tokens * self.read_usd
            + (prompt_tokens - warm_tokens) * self.write_usd
            + output_tokens * self.output_usd
        )


def token_rates(price: Price, *, at: datetime, cache_life_s: float = CACHE_LIFE_S) -> TokenRates:
    """Take the rates of a price that hold at a time.

    A rung whose price has no rate for cached tokens reads and writes at the price of other input.
    """
    rates = price.rates_at(at, input_tokens=0)
    read = rates.cache_read_usd_per_mtok
    write = rates.cache_write_usd_per_mtok
    mtok = float(TOKENS_PER_MTOK)
    plain = float(rates.input_usd_per_mtok)
    return TokenRates(
        read_usd=(plain if read is None else float(read)) / mtok,
        write_usd=(plain if write is None else float(write)) / mtok,
        output_usd=float(rates.output_usd_per_mtok) / mtok,
        cache_life_s=cache_life_s,
    )
