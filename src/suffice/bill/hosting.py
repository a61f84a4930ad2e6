"""What if the same traffic ran on rented chips: the planner's answer for this very trace."""

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from suffice.bill.what_if import UNPROVEN, WhatIf, one, proof_of
from suffice.errors import InputError
from suffice.silicon.models import find_shape
from suffice.silicon.option import Option
from suffice.silicon.plan import make_plan
from suffice.silicon.question import PlanRequest, Slo, Workload
from suffice.units import usd_from_picousd

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DEFAULT_MODEL = "gpt-oss-120b"
SLO = Slo(ttft_s=5.0, tpot_s=0.05)
PEAK = 0.99  # share of the busy minutes that the fleet must keep up with
LEAST_REQUESTS = 100


def self_hosting(store: "DuckDBPyConnection", *, model: str) -> Iterator[WhatIf]:
    """Plan chips for the peak of the trace, rented for all of its hours.

    Prompts are read whole at worst, and only where no cache held them at best: the two ends of the
    range. Raises InputError for a model whose shape is not known.
    """
    shape = find_shape(model)
    count, hours, usd, whole, fresh, output, peak = one(
        store,
        f"""SELECT count(*), ceil((epoch(max(time)) - epoch(min(time))) / 3600), sum(usd),
            avg(input_tokens), avg(input_tokens - coalesce(cache_read_tokens, 0)),
            avg(output_tokens), (SELECT ceil(quantile_cont(c, {PEAK})) FROM (SELECT count(*) AS c
                FROM bill WHERE time IS NOT NULL GROUP BY date_trunc('minute', time)))
        FROM bill WHERE requests = 1 AND input_tokens > 0 AND output_tokens > 0
            AND time IS NOT NULL""",
    )
    if count < LEAST_REQUESTS or not hours:
        return
    longest = shape.max_context_tokens or math.inf
    options = []
    for read in (max(fresh, 1), whole):
        if read + output > longest:
            continue
        work = Workload(
            input_tokens=read, output_tokens=max(output, 1), requests_per_s=max(peak, 1) / 60
        )
        try:
            plan = make_plan(PlanRequest(model=shape, workload=work, slo=SLO, apart=False))
        except InputError:
            continue
        priced = [(_usd_per_hour(option), option) for option in plan.ranking]
        known = [(cost, option) for cost, option in priced if cost is not None]
        if known:
            options.append(min(known, key=lambda pair: pair[0]))
    if not options:
        return
    costs = sorted(cost * hours for cost, _ in options)
    best = options[0][1]
    yield WhatIf(
        name="self-hosting",
        title=f"{model} on {best.chips_needed} {best.chip} ({best.layout}) for {hours:,} hours",
        usd_before=usd_from_picousd(usd),
        usd_after=costs[0],
        low=costs[0],
        high=costs[-1],
        measured=f"the busiest minutes: {peak} requests a minute, {whole:,} tokens in "
        f"({fresh:,} of them new) and {output:,} out on average",
        modelled="speeds of the planner, first token within 5 s, contract prices of chips",
        unknown="people, idle nights outside of the log, and " + UNPROVEN,
        proof=proof_of(
            "request",
            usd_each=usd_from_picousd(usd) / count,
            command=f"suffice plan --model {model} --workload in={whole},out={output}",
        ),
    )


def _usd_per_hour(option: Option) -> Decimal | None:
    if option.chip_usd_per_hour is None or option.chips_needed is None:
        return None
    return option.chip_usd_per_hour * option.chips_needed
