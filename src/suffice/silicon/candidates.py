"""Candidates of a plan with their speed, rate and cost, and which of them meet the target."""

import os
from dataclasses import dataclass, fields, replace

import numpy as np

from suffice.silicon.arrivals import Loaded, in_flight_rate, replay, under_load
from suffice.silicon.calibrate import Correction
from suffice.silicon.columns import ConfigTable
from suffice.silicon.first_token import prompt_reading, under_arrivals
from suffice.silicon.layouts import chips_per_replica, describe
from suffice.silicon.predict import Prediction, predict
from suffice.silicon.prices import Offer
from suffice.silicon.question import PlanRequest
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
    replayed_s: tuple[float, float] | None = None


def score(
    table: ConfigTable,
    request: PlanRequest,
    *,
    offers: dict[str, Offer | None],
    calibration: Correction | None,
) -> PricedCandidates:
    """Predict speed, rate and cost of every candidate; a batch is held constant, or arrives."""
    threads = os.cpu_count() or 1
    usual = predict(table, threads=threads) if calibration is None else calibration.predict(table)
    parts = prompt_reading(table, usual)
    prediction = under_arrivals(table, usual, parts=parts) if calibration is None else usual
    loaded = None
    if request.percentile is not None:
        loaded = under_load(
            table,
            prediction,
            percentile=request.percentile,
            variation=request.workload.variation,
            parts=parts,
        )
    chips, apart = chips_per_replica(table), table.prefill_chips > 0
    prefill_readers = table.prefill_replicas * table.prefill_chips / np.maximum(table.prefill_tp, 1)
    readers = np.where(apart, prefill_readers, table.dp * table.pp)
    if loaded is None:
        rate = in_flight_rate(table, prediction)
    else:
        rate, prediction = loaded.requests_per_s, _at_percentile(prediction, loaded)
    rate = np.minimum(rate, readers / np.maximum(parts.read_s, 1e-9))
    own_share = table.prefill_chips * table.prefill_replicas / chips
    hourly = np.array(
        [float(o.usd_per_hour) if (o := offers[c.key]) else np.nan for c in table.chips]
    )
    tokens_per_hour = rate * request.workload.output_tokens * SECONDS_PER_HOUR
    return PricedCandidates(
        table=table,
        prediction=prediction,
        loaded=loaded,
        chips=chips,
        requests_per_s=rate,
        read_share=np.clip(np.where(apart, own_share, rate * parts.read_s / readers), *READ_SHARES),
        usd=hourly[table.chip] * chips / tokens_per_hour * TOKENS_PER_MTOK,
    )


def meets(scored: PricedCandidates, request: PlanRequest) -> Array:
    """Whether each candidate keeps up and holds the target, at the interval's end if `safe`."""
    prediction = scored.prediction
    return _within(request, prediction.ttft_s, prediction.tpot_s, prediction=prediction)


def choose(scored: PricedCandidates, mask: Array, request: PlanRequest) -> ChipRow | None:
    """Return the candidate under a mask that takes the fewest chips per request.

    Under arrivals the event model must confirm it; where it sees more seconds than the closed form
    said, the closed form is taken to be that far off for all, and the choice is made again.
    """
    if scored.loaded is None:
        row = _cheapest(scored, mask)
        return None if row is None else ChipRow(row=row)
    prediction, excess = scored.prediction, np.ones(2)
    for _ in range(REPLAYS):
        row = _cheapest(
            scored,
            mask
            & _within(
                request,
                excess[0] * prediction.ttft_s,
                excess[1] * prediction.tpot_s,
                prediction=prediction,
            ),
        )
        if row is None:
            return None
        replayed_s = np.array(replay(scored.table, scored.loaded, row))
        if _within(request, *replayed_s, prediction=_row(prediction, row)):
            return ChipRow(row=row, replayed_s=(float(replayed_s[0]), float(replayed_s[1])))
        excess = np.maximum(
            excess, replayed_s / np.array([prediction.ttft_s[row], prediction.tpot_s[row]])
        )
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
    prediction, slo = scored.prediction, request.slo
    if not _keeps_up(prediction).any():
        return "no layout keeps up with requests that arrive at random"
    none = np.zeros(len(prediction.tpot_s))
    ratios = [
        prediction.ttft_s / slo.ttft_s if slo.ttft_s else none,
        prediction.tpot_s / slo.tpot_s if slo.tpot_s else none,
    ]
    row = int(np.where(_keeps_up(prediction), np.maximum(*ratios), np.inf).argmin())
    table = scored.table
    return (
        f"nothing meets the target; nearest is {table.chips[table.chip[row]].key} with "
        f"{describe(table, row)}, batch {int(table.batch[row])}: "
        f"TTFT {show_seconds(float(prediction.ttft_s[row]))}, "
        f"TPOT {show_seconds(float(prediction.tpot_s[row]))}"
    )


def _at_percentile(prediction: Prediction, loaded: Loaded) -> Prediction:
    """Put a percentile in the place of the usual value; its interval is as wide."""
    ttft, tpot = loaded.ttft_s / prediction.ttft_s, loaded.tpot_s / prediction.tpot_s
    return replace(
        prediction,
        ttft_s=loaded.ttft_s,
        ttft_low_s=ttft * prediction.ttft_low_s,
        ttft_high_s=ttft * prediction.ttft_high_s,
        tpot_s=loaded.tpot_s,
        tpot_low_s=tpot * prediction.tpot_low_s,
        tpot_high_s=tpot * prediction.tpot_high_s,
    )


def _within(request: PlanRequest, ttft_s: Array, tpot_s: Array, *, prediction: Prediction) -> Array:
    """Whether seconds hold the target; `made` says how much wider their intervals are."""
    slo, served = request.slo, _keeps_up(prediction)
    if request.safe:
        with np.errstate(invalid="ignore"):
            ttft_s = ttft_s * (prediction.ttft_high_s / prediction.ttft_s)
            tpot_s = tpot_s * (prediction.tpot_high_s / prediction.tpot_s)
    ttft_met, tpot_met = ttft_s <= (slo.ttft_s or np.inf), tpot_s <= (slo.tpot_s or np.inf)
    return np.asarray(served & ttft_met & tpot_met)


def _row(prediction: Prediction, row: int) -> Prediction:
    return Prediction(**{f.name: getattr(prediction, f.name)[row] for f in fields(Prediction)})


def _keeps_up(prediction: Prediction) -> Array:
    return np.isfinite(prediction.ttft_s) & np.isfinite(prediction.tpot_s)


def _cheapest(scored: PricedCandidates, mask: Array) -> int | None:
    rows = np.flatnonzero(mask)
    if not len(rows):
        return None
    cost = scored.chips[rows] / scored.requests_per_s[rows]
    return int(rows[cost.argmin()])
