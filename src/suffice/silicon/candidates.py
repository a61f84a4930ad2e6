"""Candidates of a plan with their speed, rate and cost, and which of them meet the target."""

from dataclasses import dataclass, fields, replace

import numpy as np

from suffice.silicon.arrivals import Loaded, in_flight_rate, replay, under_load
from suffice.silicon.calibrate import Correction
from suffice.silicon.columns import ConfigTable
from suffice.silicon.layouts import chips_per_replica, describe
from suffice.silicon.prices import Offer
from suffice.silicon.question import PlanRequest
from suffice.silicon.residual import Prediction, ideal, predict
from suffice.silicon.roofline import Array
from suffice.units import SECONDS_PER_HOUR, TOKENS_PER_MTOK, show_seconds

READ_SHARES = (0.01, 0.95)
REPLAYS = 6


@dataclass(frozen=True, kw_only=True)
class PricedCandidates:
    """All candidates that fit, predicted; dollars per million output tokens, NaN unpriced.

    Where a percentile was asked for, `prediction` holds that percentile, and `loaded` what the
    event model needs to check it; infinite seconds mean that the replica cannot keep up.
    """

    table: ConfigTable
    prediction: Prediction
    loaded: Loaded | None
    chips: Array
    requests_per_s: Array
    read_share: Array
    usd: Array


@dataclass(frozen=True, kw_only=True)
class ChipRow:
    """The row of a chip, and the seconds that the event model saw where a percentile was asked."""

    row: int
    seen: tuple[float, float] | None = None


def score(
    table: ConfigTable,
    request: PlanRequest,
    *,
    offers: dict[str, Offer | None],
    calibration: Correction | None,
) -> PricedCandidates:
    """Predict speed, rate and cost of every candidate; a batch is held constant, or arrives."""
    made = predict(table) if calibration is None else calibration.predict(table)
    loaded = _load(table, made, request)
    chips, readers = chips_per_replica(table), _readers(table)
    read_s = ideal(table).loaded_read_s
    if loaded is None:
        rate = in_flight_rate(table, made)
    else:
        rate, made = loaded.requests_per_s, _at_percentile(made, loaded)
    rate = np.minimum(rate, readers / np.maximum(read_s, 1e-9))
    apart = table.prefill_chips > 0
    own_share = table.prefill_chips * table.prefill_replicas / chips
    hourly = np.array(
        [float(o.usd_per_hour) if (o := offers[c.key]) else np.nan for c in table.chips]
    )
    tokens_per_hour = rate * request.workload.output_tokens * SECONDS_PER_HOUR
    return PricedCandidates(
        table=table,
        prediction=made,
        loaded=loaded,
        chips=chips,
        requests_per_s=rate,
        read_share=np.clip(np.where(apart, own_share, rate * read_s / readers), *READ_SHARES),
        usd=hourly[table.chip] * chips / tokens_per_hour * TOKENS_PER_MTOK,
    )


def meets(scored: PricedCandidates, request: PlanRequest) -> Array:
    """Whether each candidate keeps up and holds the target, at the interval's end if `safe`."""
    made = scored.prediction
    return _within(request, made.ttft_s, made.tpot_s, made=made)


def choose(scored: PricedCandidates, mask: Array, request: PlanRequest) -> ChipRow | None:
    """Return the candidate under a mask that takes the fewest chips per request.

    Under arrivals the event model must confirm it; where it sees more seconds than the closed form
    said, the closed form is taken to be that far off for all, and the choice is made again.
    """
    if scored.loaded is None:
        row = _cheapest(scored, mask)
        return None if row is None else ChipRow(row=row)
    made, off = scored.prediction, np.ones(2)
    for _ in range(REPLAYS):
        row = _cheapest(
            scored,
            mask & _within(request, off[0] * made.ttft_s, off[1] * made.tpot_s, made=made),
        )
        if row is None:
            return None
        seen = np.array(replay(scored.table, scored.loaded, row))
        if _within(request, *seen, made=_row(made, row)):
            return ChipRow(row=row, seen=(float(seen[0]), float(seen[1])))
        off = np.maximum(off, seen / np.array([made.ttft_s[row], made.tpot_s[row]]))
    return None


def frontier(scored: PricedCandidates, mask: Array) -> list[int]:
    """Rows that no other row of the chip beats in both interactivity and chips per request."""
    rows = np.flatnonzero(mask & _keeps_up(scored.prediction))
    order = rows[np.argsort(scored.prediction.tpot_s[rows], kind="stable")]
    cost = (scored.chips / scored.requests_per_s)[order]
    before = np.minimum.accumulate(np.concatenate([[np.inf], cost]))[:-1]
    return [int(row) for row in order[cost < before]]


def nearest_feasible(scored: PricedCandidates, request: PlanRequest) -> str:
    """Say which layout comes nearest to the target, by the worst of its two ratios."""
    made, slo = scored.prediction, request.slo
    if not _keeps_up(made).any():
        return "no layout keeps up with requests that arrive at random"
    none = np.zeros(len(made.tpot_s))
    ratios = [
        made.ttft_s / slo.ttft_s if slo.ttft_s else none,
        made.tpot_s / slo.tpot_s if slo.tpot_s else none,
    ]
    row = int(np.where(_keeps_up(made), np.maximum(*ratios), np.inf).argmin())
    table = scored.table
    return (
        f"nothing meets the target; nearest is {table.chips[table.chip[row]].key} with "
        f"{describe(table, row)}, batch {int(table.batch[row])}: "
        f"TTFT {show_seconds(float(made.ttft_s[row]))}, "
        f"TPOT {show_seconds(float(made.tpot_s[row]))}"
    )


def _load(table: ConfigTable, made: Prediction, request: PlanRequest) -> Loaded | None:
    if request.percentile is None:
        return None
    return under_load(
        table, made, percentile=request.percentile, variation=request.workload.variation
    )


def _at_percentile(made: Prediction, loaded: Loaded) -> Prediction:
    """Put a percentile in the place of the usual value; its interval is as wide."""
    ttft, tpot = loaded.ttft_s / made.ttft_s, loaded.tpot_s / made.tpot_s
    return replace(
        made,
        ttft_s=loaded.ttft_s,
        ttft_low_s=ttft * made.ttft_low_s,
        ttft_high_s=ttft * made.ttft_high_s,
        tpot_s=loaded.tpot_s,
        tpot_low_s=tpot * made.tpot_low_s,
        tpot_high_s=tpot * made.tpot_high_s,
    )


def _within(request: PlanRequest, ttft_s: Array, tpot_s: Array, *, made: Prediction) -> Array:
    """Whether seconds hold the target; `made` says how much wider their intervals are."""
    slo, good = request.slo, _keeps_up(made)
    if request.safe:
        with np.errstate(invalid="ignore"):
            ttft_s = ttft_s * (made.ttft_high_s / made.ttft_s)
            tpot_s = tpot_s * (made.tpot_high_s / made.tpot_s)
    soon, fast = ttft_s <= (slo.ttft_s or np.inf), tpot_s <= (slo.tpot_s or np.inf)
    return np.asarray(good & soon & fast)


def _row(made: Prediction, row: int) -> Prediction:
    return Prediction(**{f.name: getattr(made, f.name)[row] for f in fields(Prediction)})


def _keeps_up(made: Prediction) -> Array:
    return np.isfinite(made.ttft_s) & np.isfinite(made.tpot_s)


def _readers(table: ConfigTable) -> Array:
    """How many prompts a decode replica's share of the chips reads side by side."""
    apart = table.prefill_replicas * table.prefill_chips / np.maximum(table.prefill_tp, 1)
    return np.where(table.prefill_chips > 0, apart, table.dp * table.pp)


def _cheapest(scored: PricedCandidates, mask: Array) -> int | None:
    rows = np.flatnonzero(mask)
    if not len(rows):
        return None
    cost = scored.chips[rows] / scored.requests_per_s[rows]
    return int(rows[cost.argmin()])
