"""Latency percentiles of layouts under Poisson arrivals.

They come in closed form for every row of a table, and from the event model for a chosen row.
A row is a layout at a mean batch; the arrival rate that keeps so many requests running follows.
Where several decode replicas share one prefill replica, they are taken together as one pool.
"""

from dataclasses import dataclass

import numpy as np

from suffice.silicon.columns import ConfigTable
from suffice.silicon.first_token import CHUNK_TOKENS, PromptReading, prompt_reading
from suffice.silicon.predict import Prediction
from suffice.silicon.queueing import (
    AnswerLengths,
    Lengths,
    Replica,
    crowded,
    longest,
    poisson_arrivals,
    simulate,
    waiting,
)
from suffice.silicon.roofline import Array

REPLAYED = 1000


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Rows under load: seconds at `percentile` are infinite where a replica cannot keep up.

    `step_s` is a decode step without prompts in between, `service_s` what one prompt keeps the
    reader busy, `start_s` what its first token takes on top, `pool` how many decode replicas share
    a reader, `layout` the number of each row's layout.
    """

    percentile: float
    variation: float
    requests_per_s: Array
    ttft_s: Array
    tpot_s: Array
    step_s: Array
    service_s: Array
    start_s: Array
    pool: Array
    layout: Array


def in_flight_rate(table: ConfigTable, prediction: Prediction) -> Array:
    """Return the requests a second that keep a row's batch in flight, by Little's law."""
    return np.asarray(table.batch / (prediction.ttft_s + table.output_tokens * prediction.tpot_s))


def under_load(
    table: ConfigTable,
    prediction: Prediction,
    *,
    percentile: float,
    variation: float,
    parts: PromptReading | None = None,
) -> Loaded:
    """Give every row its arrival rate, and TTFT and TPOT at a percentile from 50 to 99.9.

    `parts` are `prompt_reading`'s, where the caller has them already.
    """
    parts = prompt_reading(table, prediction) if parts is None else parts
    tpot = prediction.tpot_s
    apart, layout = table.prefill_chips > 0, parts.layout
    rate = in_flight_rate(table, prediction)
    pool = np.where(apart, 1 / np.clip(table.prefill_replicas, 1e-6, 1.0), 1.0)
    chunks = table.new_tokens / CHUNK_TOKENS
    taken_s = parts.service_s + parts.between_s * chunks / np.ceil(chunks)
    wait_s = waiting(
        rate * pool * taken_s, service_s=taken_s, variation=variation, percentile=percentile
    )
    own_s = parts.service_s * longest(percentile, variation=variation) + parts.between_s
    return Loaded(
        percentile=percentile,
        variation=variation,
        requests_per_s=rate,
        ttft_s=parts.extra_s + own_s + wait_s + (1 - apart) * parts.step_s,
        tpot_s=_crowded_tpot(table, tpot, layout=layout, percentile=percentile),
        step_s=parts.step_s,
        service_s=parts.service_s,
        start_s=parts.extra_s,
        pool=pool,
        layout=layout,
    )


def replay(table: ConfigTable, loaded: Loaded, row: int) -> tuple[float, float]:
    """Serve drawn requests by the event model at a row's rate; TTFT and TPOT at the percentile.

    The replica starts with the row's batch under way: filling it up takes several times as long as
    one request, and percentiles seen on the way are too low.
    """
    pool = loaded.pool[row]
    skip = int(table.batch[row] * pool)
    count, rng = REPLAYED + skip, np.random.default_rng(0)
    new_tokens = float(table.take([row]).new_tokens[0])
    inputs = Lengths(mean=new_tokens, variation=loaded.variation)
    outputs = AnswerLengths(mean=float(table.output_tokens[row]), variation=loaded.variation)
    rate = float(loaded.requests_per_s[row] * pool)
    served = simulate(
        replica_of(table, loaded, row),
        arrivals_s=poisson_arrivals(count, requests_per_s=rate, rng=rng),
        input_tokens=inputs.draw(count, rng=rng),
        output_tokens=outputs.draw(count, rng=rng),
        left_tokens=outputs.draw_left(skip, rng=rng).tolist(),
    )
    ttft_s, tpot_s = (
        served.percentile(which, loaded.percentile, skip=skip) for which in ("ttft_s", "tpot_s")
    )
    return ttft_s, tpot_s


def replica_of(table: ConfigTable, loaded: Loaded, row: int) -> Replica:
    """Describe a row's layout to the event model: its step at every batch that fits."""
    rows = np.flatnonzero(loaded.layout == loaded.layout[row])
    rows = rows[np.argsort(table.batch[rows])]
    pool = float(loaded.pool[row])
    return Replica(
        batches=tuple((pool * table.batch[rows]).tolist()),
        step_s=tuple(np.maximum.accumulate(loaded.step_s[rows]).tolist()),
        read_token_s=float(loaded.service_s[row] / table.take([row]).new_tokens[0]),
        places=int(pool * table.batch[rows[-1]]),
        start_s=float(loaded.start_s[row]),
        chunk_tokens=CHUNK_TOKENS,
        apart=bool(table.prefill_chips[row] > 0),
    )


def _crowded_tpot(table: ConfigTable, tpot_s: Array, *, layout: Array, percentile: float) -> Array:
    """Seconds per token with as many requests as run at the percentile; infinite where too many."""
    order = np.lexsort((table.batch, layout))
    line, batch, seconds = layout[order], table.batch[order], tpot_s[order].copy()
    first = np.diff(line, prepend=-1) != 0
    last = np.diff(line, append=line[-1] + 1) != 0
    starts = np.flatnonzero(first)
    place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    for turn in range(1, int(place.max()) + 1):
        rows = np.flatnonzero(place == turn)
        seconds[rows] = np.maximum(seconds[rows], seconds[rows - 1])
    apart = np.diff(np.log(batch), append=np.nan)
    rise = np.diff(np.log(seconds), append=np.nan) / np.where(last, np.nan, apart)
    before, left = np.roll(rise, 1), np.roll(apart, 1)
    slope = np.where(first, rise, (left * rise + apart * before) / (left + apart))
    slope = np.where(last, before, slope)
    many = crowded(batch, elasticity=slope, percentile=percentile)
    gap = line * (2 * batch.max())
    known = np.interp(gap + many, gap + batch, seconds)
    room = np.repeat(batch[last], np.diff(starts, append=len(order)))
    out = np.full(len(table), np.inf)
    out[order] = np.where((many <= room) & ~(first & last), known, np.inf)
    return out
