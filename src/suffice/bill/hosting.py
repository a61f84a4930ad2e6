"""What if the same traffic ran on rented chips: the planner's answer for this very trace."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from suffice.bill.what_if import UNPROVEN, WhatIf, one, proof_of
from suffice.errors import InputError
from suffice.silicon.models import find_shape
from suffice.silicon.option import Option
from suffice.silicon.plan import make_plan
from suffice.silicon.question import PlanRequest, Slo, Workload
from suffice.silicon.shapes import Shape
from suffice.silicon.speculation import Speculation
from suffice.units import usd_from_picousd

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DEFAULT_MODEL = "gpt-oss-120b"
SLO = Slo(ttft_s=5.0, tpot_s=0.05)
PEAK = 0.99  # share of the busy minutes that the fleet must keep up with
LEAST_REQUESTS = 100
GUESSED = 3
DRAFT_COST = 0.05
ACCEPTED = (0.5, 0.65, 0.8)
"""Rates of acceptance as published for draft heads, on chat and on code."""


@dataclass(frozen=True, kw_only=True)
class HostedTrace:
    """A trace as the planner needs it: means of a request, its peak a minute, hours, dollars."""

    requests: int
    hours: int
    usd: Decimal
    input_tokens: int
    new_tokens: int
    output_tokens: int
    peak: int

    @property
    def cache_hit(self) -> float:
        """Share of prompt tokens that the log says were read from a cache."""
        return 1 - max(self.new_tokens, 1) / max(self.input_tokens, 1)


def self_hosting(store: "DuckDBPyConnection", *, model: str) -> Iterator[WhatIf]:
    """Plan chips for the peak of the trace, rented for all of its hours, and what would cut them.

    A prefix cache holds what the log says was cached at best, and nothing at worst: the two ends of
    the range. Then what that cache is worth on those chips, and what guessed tokens are. Raises
    InputError for a model whose shape is not known.
    """
    shape, trace = find_shape(model), _trace(store)
    if trace.requests < LEAST_REQUESTS or not trace.hours:
        return
    cached, plain = (_cheapest(shape, trace, cache_hit=hit) for hit in (trace.cache_hit, 0.0))
    options = [option for option in (cached, plain) if option is not None]
    if not options:
        return
    costs = sorted(cost for cost, _ in options)
    best_usd, best = options[0]
    command = f"suffice plan --model {model} --workload " + (
        f"in={trace.input_tokens},out={trace.output_tokens},hit={trace.cache_hit:.2f}"
    )
    each = trace.usd / trace.requests
    yield WhatIf(
        name="self-hosting",
        title=f"{model} on {best.chips_needed} {best.chip} ({best.layout}) "
        f"for {trace.hours:,} hours",
        usd_before=trace.usd,
        usd_after=costs[0],
        low=costs[0],
        high=costs[-1],
        measured=f"the busiest minutes: {trace.peak} requests a minute, {trace.input_tokens:,} "
        f"tokens in ({trace.new_tokens:,} of them new) and {trace.output_tokens:,} out on average",
        modelled="speeds of the planner, first token within 5 s, contract prices of chips",
        unknown="people, idle nights outside of the log, and " + UNPROVEN,
        proof=proof_of("request", usd_each=each, command=command),
    )
    if cached is not None and plain is not None and cached[0] < plain[0]:
        yield WhatIf(
            name="self-hosting-prefix-cache",
            title=f"a prefix cache that holds {trace.cache_hit:.0%} of prompts on those chips",
            usd_before=plain[0],
            usd_after=cached[0],
            measured="the share of prompt tokens that were read from a cache",
            modelled="speeds of the planner with and without those tokens to read",
            unknown="whether your engine's cache would hold as much",
        )
    guessed = [
        _cheapest(
            shape,
            trace,
            cache_hit=trace.cache_hit,
            speculation=Speculation(
                tokens=GUESSED, acceptance=rate, draft_cost=None if shape.mtp else DRAFT_COST
            ),
        )
        for rate in ACCEPTED
    ]
    after = sorted(option[0] for option in guessed if option is not None)
    if after:
        yield WhatIf(
            name="self-hosting-guessed-tokens",
            title=f"{GUESSED} guessed tokens a step on rented chips",
            usd_before=best_usd,
            usd_after=after[len(after) // 2],
            low=after[0],
            high=after[-1],
            measured="nothing: a log does not say how often guesses would be accepted",
            modelled=f"speeds of the planner, {ACCEPTED[0]:.0%} to {ACCEPTED[-1]:.0%} of guesses "
            "accepted; answers stay the same",
            unknown="the rate at which your traffic's guesses are accepted",
        )


def _trace(store: "DuckDBPyConnection") -> HostedTrace:
    count, hours, usd, whole, fresh, output, peak = one(
        store,
        f"""SELECT count(*), ceil((epoch(max(time)) - epoch(min(time))) / 3600), sum(usd),
            avg(input_tokens), avg(input_tokens - coalesce(cache_read_tokens, 0)),
            avg(output_tokens), (SELECT ceil(quantile_cont(c, {PEAK})) FROM (SELECT count(*) AS c
                FROM bill WHERE time IS NOT NULL GROUP BY date_trunc('minute', time)))
        FROM bill WHERE requests = 1 AND input_tokens > 0 AND output_tokens > 0
            AND time IS NOT NULL""",
    )
    return HostedTrace(
        requests=count,
        hours=hours,
        usd=usd_from_picousd(usd),
        input_tokens=whole,
        new_tokens=fresh,
        output_tokens=output,
        peak=peak,
    )


def _cheapest(
    shape: Shape,
    trace: HostedTrace,
    *,
    cache_hit: float,
    speculation: Speculation | None = None,
) -> tuple[Decimal, Option] | None:
    """Return the cheapest option for the trace's hours; None where none fits or has a price."""
    longest = shape.max_context_tokens or math.inf
    if trace.input_tokens + trace.output_tokens > longest:
        return None
    work = Workload(
        input_tokens=max(trace.input_tokens, 1),
        output_tokens=max(trace.output_tokens, 1),
        requests_per_s=max(trace.peak, 1) / 60,
        cache_hit=cache_hit,
    )
    request = PlanRequest(model=shape, workload=work, slo=SLO, apart=False, speculation=speculation)
    try:
        plan = make_plan(request, with_frontier=False)
    except InputError:
        return None
    priced = [(_usd_per_hour(option), option) for option in plan.ranking]
    known = [(cost * trace.hours, option) for cost, option in priced if cost is not None]
    return min(known, key=lambda pair: pair[0]) if known else None


def _usd_per_hour(option: Option) -> Decimal | None:
    if option.chip_usd_per_hour is None or option.chips_needed is None:
        return None
    return option.chip_usd_per_hour * option.chips_needed
