"""Latency percentiles of layouts under Poisson arrivals.

They come in closed form for every row of a table, and from the event model for a chosen row.
A row is a layout at a mean batch; the arrival rate that keeps so many requests running follows.
Where several decode replicas share one prefill replica, they are taken together as one pool.
"""

from dataclasses import dataclass

import numpy as np

from suffice.silicon.columns import ConfigTable
from suffice.silicon.queueing import (
    Lengths,
    Replica,
    crowded,
    longest,
    poisson_arrivals,
    simulate,
    waiting,
)
from suffice.silicon.residual import Prediction, ideal, reading
from suffice.silicon.roofline import Array

CHUNK_TOKENS = 2048
REPLAYED = 1000
GENERATIONS = 3


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Rows under load: seconds at `percentile` are infinite where a replica cannot keep up.

    `step_s` is a decode step without prompts in between, `service_s` what one prompt keeps the
    reader busy, `start_s` the rest of an unloaded TTFT, `pool` how many decode replicas share a
    reader, `layout` the number of each row's layout.
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
    table: ConfigTable, prediction: Prediction, *, percentile: float, variation: float
) -> Loaded:
    """Give every row its arrival rate, and TTFT and TPOT at a percentile from 50 to 99.9."""
    times, tpot, out = ideal(table), prediction.tpot_s, table.output_tokens
    apart, layout = table.prefill_chips > 0, _layouts(table)
    rate = in_flight_rate(table, prediction)
    share = reading(times) * (1 - apart)
    step_s = tpot * (1 - share)
    pool = np.where(apart, 1 / np.clip(table.prefill_replicas, 1e-6, 1.0), 1.0)
    own_read_s = share * out * tpot / np.maximum(table.batch, 1.0)
    side_by_side_s = times.loaded_read_s / np.maximum(table.prefill_replicas, 1.0)
    service_s = np.where(apart, side_by_side_s, own_read_s)
    start_s = np.maximum(_smallest(prediction.ttft_s - service_s, table=table, layout=layout), 0.0)
    between = np.ceil(table.input_tokens / CHUNK_TOKENS) * step_s * (1 - apart)
    busy = rate * pool * (service_s + between)
    wait_s = waiting(
        busy, service_s=service_s + between, variation=variation, percentile=percentile
    )
    own_s = service_s * longest(percentile, variation=variation) + between
    return Loaded(
        percentile=percentile,
        variation=variation,
        requests_per_s=rate,
        ttft_s=start_s + own_s + wait_s + (1 - apart) * step_s,
        tpot_s=_crowded_tpot(table, tpot, layout=layout, percentile=percentile),
        step_s=step_s,
        service_s=service_s,
        start_s=start_s,
        pool=pool,
        layout=layout,
    )


def replay(table: ConfigTable, loaded: Loaded, row: int) -> tuple[float, float]:
    """Serve drawn requests by the event model at a row's rate; TTFT and TPOT at the percentile."""
    pool, batch = loaded.pool[row], table.batch[row]
    skip = int(GENERATIONS * batch * pool)
    count, rng = REPLAYED + skip, np.random.default_rng(0)
    inputs, outputs = (
        Lengths(mean=float(mean[row]), variation=loaded.variation).draw(count, rng=rng)
        for mean in (table.input_tokens, table.output_tokens)
    )
    rate = float(loaded.requests_per_s[row] * pool)
    served = simulate(
        replica_of(table, loaded, row),
        arrivals_s=poisson_arrivals(count, requests_per_s=rate, rng=rng),
        input_tokens=inputs,
        output_tokens=outputs,
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
        read_token_s=float(loaded.service_s[row] / table.input_tokens[row]),
        places=int(pool * table.batch[rows[-1]]),
        start_s=float(loaded.start_s[row]),
        chunk_tokens=CHUNK_TOKENS,
        apart=bool(table.prefill_chips[row] > 0),
    )


def _layouts(table: ConfigTable) -> Array:
    """Return a number for each row's layout, the same for rows that differ in batch only."""
    columns = (table.chip, table.tp, table.dp, table.ep, table.pp, table.prefill_replicas)
    _, number = np.unique(np.column_stack(columns), axis=0, return_inverse=True)
    return np.asarray(number)


def _smallest(values: Array, *, table: ConfigTable, layout: Array) -> Array:
    """Return to each row the value of its layout's smallest batch."""
    order = np.lexsort((table.batch, layout))
    _, first = np.unique(layout[order], return_index=True)
    return np.asarray(values[order[first]][layout])


def _crowded_tpot(table: ConfigTable, tpot_s: Array, *, layout: Array, percentile: float) -> Array:
    """Seconds per token with as many requests as run at the percentile; infinite where too many."""
    out = np.full(len(table), np.inf)
    order = np.lexsort((table.batch, layout))
    for rows in np.split(order, np.flatnonzero(np.diff(layout[order])) + 1):
        if len(rows) > 1:
            batch, seconds = table.batch[rows], np.maximum.accumulate(tpot_s[rows])
            slope = np.gradient(np.log(seconds), np.log(batch))
            many = crowded(batch, elasticity=slope, percentile=percentile)
            out[rows] = np.interp(many, batch, seconds, right=np.inf)
    return out
