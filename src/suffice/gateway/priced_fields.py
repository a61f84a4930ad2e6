"""Fields of a request that change what its tokens cost, or how many answers are generated."""

from collections.abc import Iterable, Mapping

from suffice.engines.dialects import LIMITS
from suffice.gateway.problems import Problem
from suffice.meter.charges import STANDARD_TIERS, Price
from suffice.types import JSON, Rung

# Names of how many answers an engine generates: OpenAI's two, llama.cpp's, Gemini's, transformers'.
SAMPLES = ("n", "best_of", "n_cmpl", "candidate_count", "num_return_sequences")
_TIERS = ("service_tier", "speed")  # OpenAI's name, Anthropic's
_NEVER_DEARER = STANDARD_TIERS | {"flex", "batch"}


def check_samples(fields: JSON) -> None:
    """Raise Problem for a number of answers that cannot be counted: engines may read a text."""
    for name in SAMPLES:
        value = fields.get(name)
        if value is not None and (not isinstance(value, int) or value < 1):
            wanted = f"{name} must be a whole number of 1 or more"
            raise Problem(wanted, status=400, param=name, hint="or leave it out")


def check_limits(fields: JSON) -> None:
    """Raise Problem for a limit of tokens that is no whole number: it would hold nowhere."""
    for name in LIMITS:
        value = fields.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            wanted = f"{name} must be a whole number"
            raise Problem(wanted, status=400, param=name, hint="or leave it out")


def samples(params: JSON) -> int:
    """Return how many answers are generated for one request."""
    return max((n for n in map(params.get, SAMPLES) if isinstance(n, int)), default=1)


def unpriced_tiers(
    params: JSON, rungs: Iterable[Rung], *, prices: Mapping[str, Price]
) -> tuple[str, ...]:
    """Name the fields that ask for a tier which may be dearer than the price of a rung says."""
    names = {rung.price for rung in rungs}
    priced = [price for name, price in prices.items() if name in names]
    return tuple(
        name
        for name in _TIERS
        if params.get(name) is not None
        and str(params[name]).lower() not in _NEVER_DEARER
        and any(str(params[name]).lower() not in price.tiers for price in priced)
    )
