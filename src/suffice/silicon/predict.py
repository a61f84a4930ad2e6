"""The prediction that ships: roofline times, fitted coefficients, a learned residual, an interval.

Evaluation is plain numpy over chunks that fit the cache, on as many threads as asked for.
"""

import functools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace

import numpy as np
from threadpoolctl import ThreadpoolController

from suffice.silicon.basis import Network, evaluate, lift
from suffice.silicon.columns import ConfigTable
from suffice.silicon.intervals import half_width, novelties
from suffice.silicon.residual import (
    IdealTimes,
    Trained,
    features,
    first_seconds,
    ideal,
    interval_terms,
    step_seconds,
    trained,
)
from suffice.silicon.roofline import Array, decode

CHUNK_ROWS = 16384
FREED_BYTES = 31 << 20
LIMIT = 1.2
"""The residual moves a prediction by at most exp(LIMIT): physics has the last word."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Seconds per output token and to the first one, each with a 90 % interval; arrays of n.

    `distance` says how far a configuration lies from the data, in standardised units.
    """

    tpot_s: Array
    tpot_low_s: Array
    tpot_high_s: Array
    ttft_s: Array
    ttft_low_s: Array
    ttft_high_s: Array
    distance: Array


def predict(table: ConfigTable, *, learned: Trained | None = None, threads: int = 1) -> Prediction:
    """Predict every row; rows are independent, so chunks may run on `threads` threads.

    Each thread multiplies alone: products of one block are too small to share between cores.
    """
    learned = trained() if learned is None else learned
    network, common = _network(learned), table.compact().single()
    out = {f.name: np.empty(len(table)) for f in fields(Prediction)}

    def chunk(rows: slice | Array) -> None:
        part = _predict_chunk(common.take(rows).compact(), learned, network)
        for name, column in out.items():
            column[rows] = getattr(part, name)

    keep_freed_memory()
    with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        deque(pool.map(chunk, _chunks(table)), maxlen=0)
    return Prediction(**out)


def _chunks(table: ConfigTable) -> Iterator[slice | Array]:
    """Yield rows of one model where its rows fill a chunk: its numbers need no column then."""
    n, models = len(table), len(table.models)
    if models == 1 or n < models * CHUNK_ROWS:
        yield from (slice(start, start + CHUNK_ROWS) for start in range(0, n, CHUNK_ROWS))
        return
    order = np.argsort(table.model.astype(np.int16), kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(table.model))[:-1]):
        yield from (rows[i : i + CHUNK_ROWS] for i in range(0, len(rows), CHUNK_ROWS))


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep the memory of arrays for the next ones.

    It hands freed memory back to the system beyond twice the largest block that was ever freed, and
    taking it anew costs a third of the time.
    """
    np.empty(FREED_BYTES, np.uint8)


def _network(learned: Trained) -> Network:
    """Arrange what was learned for evaluation, in single precision."""
    both = (learned.tpot, learned.ttft)
    return Network(
        mean=np.array(learned.mean, np.float32),
        scale=np.array(learned.scale, np.float32),
        lifted=lift(np.array(learned.centres)).astype(np.float32),
        weights=np.array([target.weights for target in both], np.float32),
        bias=np.array([target.bias for target in both], np.float32),
    )


def _predict_chunk(table: ConfigTable, learned: Trained, network: Network) -> Prediction:
    times = ideal(table)
    step, first = (np.array(t.coefficients, np.float32) for t in (learned.tpot, learned.ttft))
    step_s = step_seconds(times, step)
    moved, distance = evaluate(features(times, table=table, step_s=step_s), network)
    np.exp(np.clip(moved, -LIMIT, LIMIT, out=moved), out=moved)
    tpot_s = step_s * moved[0] * _older(table, learned)
    if table.draft_tokens.any():
        tpot_s = tpot_s * _speculation_factor(table, times, step)
    ttft_s = first_seconds(times, first, tpot_s=tpot_s) * moved[1]
    unseen = novelties(table, learned.coverage)
    terms = interval_terms(times, distance=distance)
    wide = [
        np.exp(half_width(t.interval, terms, unseen=unseen)) for t in (learned.tpot, learned.ttft)
    ]
    return Prediction(
        tpot_s=tpot_s,
        tpot_low_s=tpot_s / wide[0],
        tpot_high_s=tpot_s * wide[0],
        ttft_s=ttft_s,
        ttft_low_s=ttft_s / wide[1],
        ttft_high_s=ttft_s * wide[1],
        distance=distance,
    )


def _speculation_factor(table: ConfigTable, times: IdealTimes, coefficients: Array) -> Array:
    """Seconds per token with guesses that are checked, over seconds per token without.

    A step checks all guesses and costs their drafts on top; it yields the accepted ones and one
    token more. Prompts read in between take their time per token, guesses or not.
    """
    drafts = table.draft_tokens
    checked = decode(times.points, tokens=1 + drafts)
    unmixed = replace(times, mixed_s=np.zeros_like(times.mixed_s))
    step_s = step_seconds(replace(unmixed, step=checked), coefficients)
    per_token_s = step_s * (1 + drafts * table.draft_cost) / tokens_per_step(table)
    plain_s, alone_s = step_seconds(times, coefficients), step_seconds(unmixed, coefficients)
    return np.asarray((per_token_s + plain_s - alone_s) / plain_s)


def tokens_per_step(table: ConfigTable) -> Array:
    """Tokens that a step yields: 1 + a + a^2 + ... with `draft_tokens` guesses accepted at `a`."""
    a, k = table.acceptance, table.draft_tokens
    short = np.minimum(a, 1 - 1e-6)
    return np.where(a < 1, (1 - short ** (k + 1)) / (1 - short), k + 1)


def _older(table: ConfigTable, learned: Trained) -> Array:
    """How many times longer a step takes on an engine's release from before the measurements."""
    slower = [learned.older.get(c.vendor, learned.older.get("other", 1.0)) for c in table.chips]
    by_row = np.array(slower, table.batch.dtype)[table.chip]
    return np.where(table.version < 0, by_row, np.ones_like(by_row))
