"""What a plan is asked for: a model, its traffic, a latency target, chips and prices."""

from collections.abc import Mapping
from decimal import Decimal

from msgspec import Struct

from suffice.silicon.adapters import Adapters
from suffice.silicon.catalog import Chip
from suffice.silicon.prices import Kind, Offer, find_offer, stated_offer
from suffice.silicon.shapes import Shape
from suffice.silicon.speculation import Speculation


class Workload(Struct, frozen=True, kw_only=True):
    """Mean lengths in tokens, and how many requests a second must be served at the peak.

    `variation` is the standard deviation of both lengths over their means (log-normal),
    `cache_hit` the share of prompt tokens that a prefix cache holds.
    """

    input_tokens: float
    output_tokens: float
    requests_per_s: float | None = None
    variation: float = 0.0
    cache_hit: float = 0.0


class Slo(Struct, frozen=True, kw_only=True):
    """Latency targets in seconds; None asks nothing."""

    ttft_s: float | None = None
    tpot_s: float | None = None


class PlanRequest(Struct, frozen=True, kw_only=True):
    """What to plan: a model, its traffic, the target, and what may be used and paid.

    `prices` maps a chip to dollars per chip-hour and wins over the built-in offers of `price_kind`.
    `known_chips` replaces the built-in catalogue. `safe` asks that the target holds at the far end
    of the 90 % interval, not at its middle. With a `percentile` (50 to 99.9) requests arrive as a
    Poisson process, and the target is one for that percentile of requests; without, a constant
    number of requests is kept in flight and the target is one for the usual request.
    `weight_format` sets all linear layers but the head, `expert_format` the routed experts alone;
    formats that are not named are the checkpoint's own, and a cache that nobody states has 16 bits.

    `mixture` lists the workloads that `workload` joins, `day` the requests a second in equal
    intervals of a day, `stock` how many chips of each kind there are; all may be left out.
    `context_parallel` also tries layouts that split the tokens of a request's cache over chips.
    """

    model: Shape
    workload: Workload
    slo: Slo = Slo()
    chips: tuple[str, ...] = ()
    engine: str = "vllm"
    weight_format: str | None = None
    expert_format: str | None = None
    cache_format: str | None = None
    price_kind: Kind = "contract"
    prices: Mapping[str, Decimal] = {}
    known_chips: Mapping[str, Chip] | None = None
    redundancy: int = 1
    apart: bool = True
    context_parallel: bool = False
    safe: bool = False
    percentile: float | None = None
    speculation: Speculation | None = None
    adapters: Adapters | None = None
    mixture: tuple[Workload, ...] = ()
    day: tuple[float, ...] = ()
    stock: Mapping[str, int] = {}


def offer_for(chip: Chip, request: PlanRequest) -> Offer | None:
    """Return the user's price, else the built-in one of the kind asked for, else None."""
    if chip.key in request.prices:
        return stated_offer(chip.key, request.prices[chip.key])
    return find_offer(chip.key, kind=request.price_kind)
