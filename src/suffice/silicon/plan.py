"""Rank chips and layouts by dollars per million tokens, under a latency target, with intervals."""

import math

import msgspec
import numpy as np
from msgspec import Struct

from suffice.errors import InputError
from suffice.silicon.adapters import adapter_bytes
from suffice.silicon.calibrate import Correction
from suffice.silicon.candidates import (
    ChipRow,
    PricedCandidates,
    choose,
    frontier,
    meets,
    nearest_feasible,
    score,
)
from suffice.silicon.catalog import catalogue, find_chip
from suffice.silicon.columns import DEFAULT_DOMAIN, ConfigTable
from suffice.silicon.demand import (
    DayOnChip,
    StockUse,
    WorkloadCost,
    cost_by_workload,
    day_on_chip,
    use_stock,
)
from suffice.silicon.formats import Formats, resolve_formats
from suffice.silicon.layouts import LayoutQuestion, candidates, describe, fits
from suffice.silicon.measured import engine_index, engine_release
from suffice.silicon.option import Option
from suffice.silicon.predict import keep_freed_memory, tokens_per_step
from suffice.silicon.prices import Offer
from suffice.silicon.question import PlanRequest, Slo, Workload, offer_for
from suffice.silicon.shapes import profile
from suffice.silicon.speculation import drafting
from suffice.silicon.weights import PartWeights, weight_parts

PERCENTILES = (50.0, 99.9)


class Plan(Struct, frozen=True, kw_only=True):
    """The best option of each chip, cheapest first (unpriced last), and each chip's frontier.

    `formats` are the number formats that were planned with, `weights` what they make of each part.
    `active_parameters` are those that one token multiplies with, the output head included.
    `tokens_per_step` is above 1 where tokens are guessed. `by_workload` splits the cheapest option
    over the workloads of a mixture; `day` and `stock` are empty where nobody asked.

    With a `percentile`, seconds are that percentile over requests that arrive at random: of the
    ranking as the event model saw it, of the frontier in closed form.
    """

    model: str
    workload: Workload
    slo: Slo
    percentile: float | None
    formats: Formats
    weights: tuple[PartWeights, ...]
    total_parameters: float
    active_parameters: float
    active_parameters_with_embedding: float
    ranking: tuple[Option, ...]
    frontier: tuple[Option, ...]
    left_out: tuple[str, ...]
    tokens_per_step: float = 1.0
    by_workload: tuple[WorkloadCost, ...] = ()
    day: tuple[DayOnChip, ...] = ()
    stock: tuple[StockUse, ...] = ()


def make_plan(
    request: PlanRequest, *, calibration: Correction | None = None, with_frontier: bool = True
) -> Plan:
    """Predict every candidate, keep what meets the target; raises InputError when nothing does.

    The frontier has thousands of points, and describing them takes a third of the time.
    """
    _check(request)
    keep_freed_memory()
    known = dict(catalogue() if request.known_chips is None else request.known_chips)
    chips = tuple(find_chip(name, known) for name in request.chips) or tuple(known.values())
    offers = {chip.key: offer_for(chip, request) for chip in chips}
    counts = profile(request.model)
    formats = resolve_formats(
        request.model.formats,
        weights=request.weight_format,
        experts=request.expert_format,
        cache=request.cache_format,
    )
    question = LayoutQuestion(
        input_tokens=request.workload.input_tokens,
        output_tokens=request.workload.output_tokens,
        formats=formats,
        engine=engine_index(request.engine),
        version=engine_release(request.engine),
        apart=request.apart,
        context_parallel=request.context_parallel,
        serving=_serving(request),
    )
    table = candidates(request.model, chips, question)
    table = table.take(fits(table))
    if not len(table):
        raise InputError(
            f"{request.model.name} fits no layout on {', '.join(chip.key for chip in chips)}",
            hint="allow more chips, or narrower formats: --weights, --experts, --cache-format",
        )
    scored = score(table, request, offers=offers, calibration=calibration)
    feasible = meets(scored, request)
    if request.stock:
        stock = np.array([request.stock.get(chip.key, 0) for chip in chips])
        feasible &= scored.chips <= stock[table.chip]
    chosen = [choose(scored, feasible & (table.chip == i), request) for i in range(len(chips))]
    if not any(chosen):
        raise InputError(
            nearest_feasible(scored, request), hint="relax --slo, or allow other chips"
        )
    best = sorted(
        (_chosen(scored, choice, request, offers=offers) for choice in chosen if choice), key=_cost
    )
    described = range(len(chips)) if with_frontier else ()
    rows = [row for i in described for row in frontier(scored, table.chip == i)]
    return Plan(
        model=request.model.name,
        workload=request.workload,
        slo=request.slo,
        percentile=request.percentile,
        formats=formats,
        weights=weight_parts(request.model, formats),
        total_parameters=counts.total,
        active_parameters=counts.active,
        active_parameters_with_embedding=counts.active + counts.embedding,
        ranking=tuple(best),
        left_out=tuple(c.key for c, choice in zip(chips, chosen, strict=True) if not choice),
        frontier=tuple(_option(scored, row, request, offers=offers) for row in rows),
        tokens_per_step=float(tokens_per_step(table)[0]),
        by_workload=cost_by_workload(best[0], request.mixture) if request.mixture else (),
        day=tuple(
            day_on_chip(option, request.day, redundancy=request.redundancy)
            for option in best
            if request.day
        ),
        stock=use_stock(best, request.stock, requests_per_s=_stock_rate(request))
        if request.stock
        else (),
    )


def overlaps(first: Option, second: Option) -> bool:
    """Whether the 90 % intervals of two costs meet, so that their order is not settled."""
    if first.usd_per_mtok_high is None or second.usd_per_mtok_low is None:
        return True
    return first.usd_per_mtok_high >= second.usd_per_mtok_low


def price_block(option: Option, *, name: str, plan: Plan, date: str) -> str:
    """Write an option as a `[price.NAME]` table of suffice.toml, so that a rung can name it.

    Input over one rate plus output over the other is the deployment's time that a request takes.
    The speeds are predicted, so the price is `assumed`: its charges are booked as estimates.
    Tokens that a cache holds take no time, so at the plan's hit rate the input rate is higher.
    Where prefill chips are shared, chips and rates are those of the next whole number of chips.
    """
    chips = math.ceil(option.replica_chips)
    rounding = chips / option.replica_chips
    new_share = max(1 - plan.workload.cache_hit, 1 / plan.workload.input_tokens)
    lines = {
        "assumed": "true",
        "chip_usd_per_hour": f'"{option.chip_usd_per_hour}"',
        "chips": str(chips),
        "input_tokens_per_s": f"{rounding * option.read_tokens_per_s / new_share:.1f}",
        "output_tokens_per_s": f"{rounding * option.output_tokens_per_s:.1f}",
        "source": f'"suffice plan: {plan.model} on {option.chip}, {option.layout}"',
        "date": f'"{date}"',
    }
    return "\n".join([f"[price.{name}]", *(f"{key} = {value}" for key, value in lines.items())])


def _serving(request: PlanRequest) -> dict[str, float]:
    """Columns of the table that say how requests are served beyond lengths and formats."""
    columns = {"cache_hit": request.workload.cache_hit}
    if request.speculation is not None:
        draft = drafting(request.speculation, request.model)
        columns |= {
            "draft_tokens": request.speculation.tokens,
            "acceptance": request.speculation.acceptance,
            "draft_cost": draft.cost,
            "held_bytes": draft.held_bytes,
        }
    if request.adapters is not None:
        columns |= {
            "adapters": request.adapters.count,
            "adapter_bytes": adapter_bytes(request.adapters, request.model),
        }
    return columns


def _stock_rate(request: PlanRequest) -> float:
    if request.workload.requests_per_s is None:
        raise InputError("chips in stock need a demand to serve", hint="add rps= to --workload")
    return request.workload.requests_per_s


def _check(request: PlanRequest) -> None:
    longest = request.model.max_context_tokens
    for work in (request.workload, *request.mixture):
        if longest is not None and work.input_tokens + work.output_tokens > longest:
            raise InputError(
                f"{work.input_tokens:g} tokens in and {work.output_tokens:g} out are more than the "
                f"{longest:g} that {request.model.name} can hold",
                hint="shorten the workload, or plan a model with a longer context",
            )
        if not 0 <= work.cache_hit <= 1:
            raise InputError(
                f"a cache cannot hold {work.cache_hit:g} of a prompt",
                hint="the hit rate is a share of prompt tokens, from 0 to 1",
            )
    low, high = PERCENTILES
    if request.percentile is not None and not low <= request.percentile <= high:
        raise InputError(
            f"percentile {request.percentile:g} lies outside {low:g} to {high:g}",
            hint="95 and 99 are usual",
        )
    if request.workload.variation and request.percentile is None:
        raise InputError(
            "lengths that vary matter only where requests arrive at random",
            hint="name a --percentile, or leave variation out",
        )


def _chosen(
    scored: PricedCandidates,
    choice: ChipRow,
    request: PlanRequest,
    *,
    offers: dict[str, Offer | None],
) -> Option:
    """Describe a chosen row, with the seconds that the event model saw and intervals as wide."""
    option = _option(scored, choice.row, request, offers=offers)
    if choice.replayed_s is None:
        return option
    ttft, tpot = choice.replayed_s[0] / option.ttft_s, choice.replayed_s[1] / option.tpot_s
    return msgspec.structs.replace(
        option,
        ttft_s=choice.replayed_s[0],
        ttft_low_s=ttft * option.ttft_low_s,
        ttft_high_s=ttft * option.ttft_high_s,
        tpot_s=choice.replayed_s[1],
        tpot_low_s=tpot * option.tpot_low_s,
        tpot_high_s=tpot * option.tpot_high_s,
    )


def _option(
    scored: PricedCandidates, row: int, request: PlanRequest, *, offers: dict[str, Offer | None]
) -> Option:
    table, prediction, work = scored.table, scored.prediction, request.workload
    chip = table.chips[table.chip[row]]
    offer = offers[chip.key]
    usd = None if offer is None else float(scored.usd[row])
    slower = float(prediction.tpot_high_s[row] / prediction.tpot_s[row])
    dear, cheap = (
        (float(offer.high / offer.usd_per_hour), float(offer.low / offer.usd_per_hour))
        if offer
        else (1, 1)
    )
    share = work.output_tokens / (work.output_tokens + work.input_tokens)
    needed = None if work.requests_per_s is None else _needed(scored, row, request)
    rate, reading = float(scored.requests_per_s[row]), float(scored.read_share[row])
    new_tokens = max(work.input_tokens * (1 - work.cache_hit), 1.0)
    return Option(
        chip=chip.key,
        layout=describe(table, row),
        replica_chips=float(scored.chips[row]),
        batch=int(table.batch[row]),
        chips_needed=needed,
        tpot_s=float(prediction.tpot_s[row]),
        tpot_low_s=float(prediction.tpot_low_s[row]),
        tpot_high_s=float(prediction.tpot_high_s[row]),
        ttft_s=float(prediction.ttft_s[row]),
        ttft_low_s=float(prediction.ttft_low_s[row]),
        ttft_high_s=float(prediction.ttft_high_s[row]),
        output_tokens_per_s=rate * work.output_tokens / (1 - reading),
        read_tokens_per_s=rate * new_tokens / reading,
        requests_per_s=rate,
        usd_per_mtok=usd,
        usd_per_mtok_low=None if usd is None else usd / slower * cheap,
        usd_per_mtok_high=None if usd is None else usd * slower * dear,
        usd_per_mtok_total=None if usd is None else usd * share,
        chip_usd_per_hour=offer.usd_per_hour if offer else None,
        price_source=f"{offer.source} ({offer.date})" if offer else None,
        notes=_notes(table, row, offer),
    )


def _notes(table: ConfigTable, row: int, offer: Offer | None) -> tuple[str, ...]:
    chip = table.chips[table.chip[row]]
    notes = [*chip.assumptions]
    four_bits = min(table.expert_bits[row], table.dense_bits[row]) < 5
    if four_bits and chip.fp4 is None:
        notes.append("no 4-bit arithmetic: 4-bit weights save memory, and are widened to compute")
    if table.draft_tokens[row] > 0:
        notes.append(
            "no measured row is known to guess tokens: its interval is that of an unknown release"
        )
    if table.adapters[row] > 0:
        notes.append("no measured row has adapters: their kernels may add 10 to 30 % to a step")
    if table.tp[row] * table.dp[row] > (chip.domain.si if chip.domain else DEFAULT_DOMAIN):
        notes.append("experts reach over the network between nodes: it must be fast everywhere")
    if table.pp[row] > 1:
        notes.append("no measured row has a pipeline: its interval is that of an unknown vendor")
    if table.cp[row] > 1:
        notes.append(
            "no measured row splits a cache by tokens (cp): its interval is that of an unknown "
            "vendor; engines need the option for it"
        )
    if chip.note:
        notes.append(chip.note)
    if offer is None:
        notes.append(f"no public price: name one with --price {chip.key}=DOLLARS")
    return tuple(notes)


def _needed(scored: PricedCandidates, row: int, request: PlanRequest) -> int:
    """Chips for the peak: whole replicas, and `redundancy` more that may fail."""
    rate = request.workload.requests_per_s or 0.0
    replicas = int(np.ceil(rate / scored.requests_per_s[row])) + request.redundancy
    return int(np.ceil(replicas * scored.chips[row]))


def _cost(option: Option) -> tuple[bool, float]:
    return (
        option.usd_per_mtok is None,
        option.usd_per_mtok or option.replica_chips / option.requests_per_s,
    )
