"""Rank chips and layouts by dollars per million tokens, under a latency target, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from msgspec import Struct

from suffice.errors import InputError
from suffice.silicon.calibrate import Calibration
from suffice.silicon.catalog import Chip, catalogue, find_chip
from suffice.silicon.configs import Table
from suffice.silicon.layouts import Question, candidates, chips_per_replica, describe, fits
from suffice.silicon.measured import engine_index
from suffice.silicon.prices import Kind, Offer, find_offer, stated
from suffice.silicon.residual import Prediction, ideal, predict
from suffice.silicon.roofline import Array
from suffice.silicon.shapes import Shape
from suffice.units import SECONDS_PER_HOUR, TOKENS_PER_MTOK, show_seconds


class Workload(Struct, frozen=True, kw_only=True):
    """Mean lengths in tokens, and how many requests a second must be served at the peak."""

    input_tokens: float
    output_tokens: float
    requests_per_s: float | None = None


class Slo(Struct, frozen=True, kw_only=True):
    """Latency targets in seconds; None asks nothing."""

    ttft_s: float | None = None
    tpot_s: float | None = None


class PlanRequest(Struct, frozen=True, kw_only=True):
    """What to plan: a model, its traffic, the target, and what may be used and paid.

    `prices` maps a chip to dollars per chip-hour and wins over the built-in offers of `price_kind`.
    `known_chips` replaces the built-in catalogue. `safe` asks that the target holds at the far end
    of the 90 % interval, not at its middle.
    """

    model: Shape
    workload: Workload
    slo: Slo = Slo()
    chips: tuple[str, ...] = ()
    engine: str = "vllm"
    weight_format: str | None = None
    cache_format: str = "fp8"
    price_kind: Kind = "contract"
    prices: Mapping[str, Decimal] = {}
    known_chips: Mapping[str, Chip] | None = None
    redundancy: int = 1
    apart: bool = True
    safe: bool = False


class Option(Struct, frozen=True, kw_only=True):
    """One chip and layout: speed and cost with 90 % intervals; dollars are None without a price.

    `usd_per_mtok` is per million output tokens with the reading of their prompts included;
    `usd_per_mtok_total` per million tokens in and out. `read_tokens_per_s` and
    `output_tokens_per_s` are what the replica does when it only reads or only writes: a request
    takes its input over the one plus its output over the other of the replica's time.
    `replica_chips` may be a fraction where several decode replicas share prefill chips.
    """

    chip: str
    layout: str
    replica_chips: float
    batch: int
    tpot_s: float
    tpot_low_s: float
    tpot_high_s: float
    ttft_s: float
    ttft_low_s: float
    ttft_high_s: float
    output_tokens_per_s: float
    read_tokens_per_s: float
    requests_per_s: float
    usd_per_mtok: float | None
    usd_per_mtok_low: float | None
    usd_per_mtok_high: float | None
    usd_per_mtok_total: float | None
    chip_usd_per_hour: Decimal | None
    price_source: str | None
    chips_needed: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def tokens_per_s_per_user(self) -> float:
        """Interactivity: output tokens a second that one user sees."""
        return 1 / self.tpot_s


class Plan(Struct, frozen=True, kw_only=True):
    """The best option of each chip, cheapest first (unpriced last), and each chip's frontier."""

    model: str
    workload: Workload
    slo: Slo
    ranking: tuple[Option, ...]
    frontier: tuple[Option, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """All candidates that fit, predicted; dollars per million output tokens, NaN unpriced."""

    table: Table
    prediction: Prediction
    chips: Array
    requests_per_s: Array
    read_share: Array
    usd: Array


def make_plan(request: PlanRequest, *, calibration: Calibration | None = None) -> Plan:
    """Predict every candidate, keep what meets the target; raises InputError when nothing does."""
    chips = _chips(request)
    offers = {chip.key: offer_for(chip, request) for chip in chips}
    table = candidates(request.model, chips, _question(request))
    table = table.take(fits(table))
    if not len(table):
        raise InputError(
            _no_fit(request.model, chips), hint="allow more chips, or a narrower --format"
        )
    scored = _score(table, request, offers=offers, calibration=calibration)
    good = _meets(scored.prediction, request)
    if not good.any():
        raise InputError(
            _nearest_feasible(scored, request), hint="relax --slo, or allow other chips"
        )
    ranking = [_best(scored, good & (table.chip == i)) for i in range(len(chips))]
    best = [_option(scored, row, request, offers=offers) for row in ranking if row is not None]
    rows = [row for i in range(len(chips)) for row in _frontier(scored, table.chip == i)]
    left = tuple(c.key for c, row in zip(chips, ranking, strict=True) if row is None)
    return Plan(
        model=request.model.name,
        workload=request.workload,
        slo=request.slo,
        ranking=tuple(sorted(best, key=_cost)),
        left_out=left,
        frontier=tuple(_option(scored, row, request, offers=offers) for row in rows),
    )


def offer_for(chip: Chip, request: PlanRequest) -> Offer | None:
    """Return the user's price, else the built-in one of the kind asked for, else None."""
    if chip.key in request.prices:
        return stated(chip.key, request.prices[chip.key])
    return find_offer(chip.key, kind=request.price_kind)


def overlaps(first: Option, second: Option) -> bool:
    """Whether the 90 % intervals of two costs meet, so that their order is not settled."""
    if first.usd_per_mtok_high is None or second.usd_per_mtok_low is None:
        return True
    return first.usd_per_mtok_high >= second.usd_per_mtok_low


def price_block(option: Option, *, name: str, plan: Plan, date: str) -> str:
    """Write an option as a `[price.NAME]` table of suffice.toml, so that a rung can name it.

    Input over one rate plus output over the other is the deployment's time that a request takes.
    """
    lines = {
        "chip_usd_per_hour": f'"{option.chip_usd_per_hour}"',
        "chips": str(max(1, round(option.replica_chips))),
        "input_tokens_per_s": f"{option.read_tokens_per_s:.1f}",
        "output_tokens_per_s": f"{option.output_tokens_per_s:.1f}",
        "source": f'"suffice plan: {plan.model} on {option.chip}, {option.layout}"',
        "date": f'"{date}"',
    }
    return "\n".join([f"[price.{name}]", *(f"{key} = {value}" for key, value in lines.items())])


def _chips(request: PlanRequest) -> tuple[Chip, ...]:
    known = dict(catalogue() if request.known_chips is None else request.known_chips)
    return tuple(find_chip(name, known) for name in request.chips) or tuple(known.values())


def _question(request: PlanRequest) -> Question:
    return Question(
        input_tokens=request.workload.input_tokens,
        output_tokens=request.workload.output_tokens,
        weight_format=request.weight_format or request.model.weight_format,
        cache_format=request.cache_format,
        engine=engine_index(request.engine),
        apart=request.apart,
    )


def _score(
    table: Table,
    request: PlanRequest,
    *,
    offers: dict[str, Offer | None],
    calibration: Calibration | None,
) -> Scored:
    prediction = predict(table) if calibration is None else calibration.predict(table)
    chips = chips_per_replica(table)
    read_s = READ_SLOWDOWN * ideal(table).read_s
    service_s = prediction.ttft_s + request.workload.output_tokens * prediction.tpot_s
    rate = table.batch / service_s
    apart = table.prefill_chips > 0
    readers = np.where(
        apart,
        table.prefill_replicas * table.prefill_chips / np.maximum(table.prefill_tp, 1),
        table.dp * table.pp,
    )
    rate = np.minimum(rate, readers / np.maximum(read_s, 1e-9))
    reading = np.where(
        apart, table.prefill_chips * table.prefill_replicas / chips, rate * read_s / readers
    )
    hourly = np.array(
        [float(o.usd_per_hour) if (o := offers[c.key]) else np.nan for c in table.chips]
    )
    tokens_per_hour = rate * request.workload.output_tokens * SECONDS_PER_HOUR
    usd = hourly[table.chip] * chips / tokens_per_hour * TOKENS_PER_MTOK
    return Scored(
        table=table,
        prediction=prediction,
        chips=chips,
        requests_per_s=rate,
        read_share=np.clip(reading, 0.01, 0.95),
        usd=usd,
    )


READ_SLOWDOWN = 2.0
"""Measured over ideal time of reading prompts at full load: the fitted `interference`."""


def _meets(prediction: Prediction, request: PlanRequest) -> Array:
    ttft = prediction.ttft_high_s if request.safe else prediction.ttft_s
    tpot = prediction.tpot_high_s if request.safe else prediction.tpot_s
    good = np.ones(len(tpot), bool)
    if request.slo.ttft_s is not None:
        good &= ttft <= request.slo.ttft_s
    if request.slo.tpot_s is not None:
        good &= tpot <= request.slo.tpot_s
    return good


def _best(scored: Scored, mask: Array) -> int | None:
    """Return the row under a mask that takes the fewest chips per request."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return None
    cost = scored.chips[rows] / scored.requests_per_s[rows]
    return int(rows[cost.argmin()])


def _frontier(scored: Scored, mask: Array) -> list[int]:
    """Rows that no other row of the chip beats in both interactivity and chips per request."""
    rows = np.flatnonzero(mask)
    order = rows[np.argsort(scored.prediction.tpot_s[rows], kind="stable")]
    cost = (scored.chips / scored.requests_per_s)[order]
    best = np.minimum.accumulate(cost)
    return [
        int(row)
        for row, c, b, i in zip(order, cost, best, range(len(order)), strict=True)
        if c == b and (i == 0 or c < best[i - 1])
    ]


def _option(
    scored: Scored, row: int, request: PlanRequest, *, offers: dict[str, Offer | None]
) -> Option:
    table, made, work = scored.table, scored.prediction, request.workload
    chip = table.chips[table.chip[row]]
    offer = offers[chip.key]
    usd = None if offer is None else float(scored.usd[row])
    slower = float(made.tpot_high_s[row] / made.tpot_s[row])
    dear, cheap = (
        (float(offer.high / offer.usd_per_hour), float(offer.low / offer.usd_per_hour))
        if offer
        else (1, 1)
    )
    share = work.output_tokens / (work.output_tokens + work.input_tokens)
    needed = None if work.requests_per_s is None else _needed(scored, row, request)
    rate, reading = float(scored.requests_per_s[row]), float(scored.read_share[row])
    return Option(
        chip=chip.key,
        layout=describe(table, row),
        replica_chips=float(scored.chips[row]),
        batch=int(table.batch[row]),
        chips_needed=needed,
        tpot_s=float(made.tpot_s[row]),
        tpot_low_s=float(made.tpot_low_s[row]),
        tpot_high_s=float(made.tpot_high_s[row]),
        ttft_s=float(made.ttft_s[row]),
        ttft_low_s=float(made.ttft_low_s[row]),
        ttft_high_s=float(made.ttft_high_s[row]),
        output_tokens_per_s=rate * work.output_tokens / (1 - reading),
        read_tokens_per_s=rate * work.input_tokens / reading,
        requests_per_s=rate,
        usd_per_mtok=usd,
        usd_per_mtok_low=None if usd is None else usd / slower * cheap,
        usd_per_mtok_high=None if usd is None else usd * slower * dear,
        usd_per_mtok_total=None if usd is None else usd * share,
        chip_usd_per_hour=offer.usd_per_hour if offer else None,
        price_source=f"{offer.source} ({offer.date})" if offer else None,
        notes=_notes(chip, offer),
    )


def _notes(chip: Chip, offer: Offer | None) -> tuple[str, ...]:
    notes = [*chip.assumptions]
    if chip.note:
        notes.append(chip.note)
    if offer is None:
        notes.append(f"no public price: name one with --price {chip.key}=DOLLARS")
    return tuple(notes)


def _needed(scored: Scored, row: int, request: PlanRequest) -> int:
    """Chips for the peak: whole replicas, and `redundancy` more that may fail."""
    rate = request.workload.requests_per_s or 0.0
    replicas = int(np.ceil(rate / scored.requests_per_s[row])) + request.redundancy
    return int(np.ceil(replicas * scored.chips[row]))


def _cost(option: Option) -> tuple[bool, float]:
    return (
        option.usd_per_mtok is None,
        option.usd_per_mtok or option.replica_chips / option.requests_per_s,
    )


def _no_fit(shape: Shape, chips: tuple[Chip, ...]) -> str:
    return f"{shape.name} fits no layout on {', '.join(chip.key for chip in chips)}"


def _nearest_feasible(scored: Scored, request: PlanRequest) -> str:
    """Say which layout comes nearest to the target, by the worst of its two ratios."""
    made, slo = scored.prediction, request.slo
    ratios = [
        made.ttft_s / slo.ttft_s if slo.ttft_s else np.zeros(len(made.ttft_s)),
        made.tpot_s / slo.tpot_s if slo.tpot_s else np.zeros(len(made.tpot_s)),
    ]
    row = int(np.maximum(*ratios).argmin())
    table = scored.table
    return (
        f"nothing meets the target; nearest is {table.chips[table.chip[row]].key} with "
        f"{describe(table, row)}, batch {int(table.batch[row])}: "
        f"TTFT {show_seconds(float(made.ttft_s[row]))}, "
        f"TPOT {show_seconds(float(made.tpot_s[row]))}"
    )
