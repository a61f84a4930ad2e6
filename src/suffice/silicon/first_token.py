"""Seconds to the first token where requests arrive one by one, from reading, steps and waiting.

Published measurements keep a constant number of requests in flight and start them all at once: what
they call TTFT is mostly the wait behind each other's prompts, and says little about a service whose
requests arrive at random. Here a prompt is read at the rate that decode steps leave to prompts (the
fitted interference of `residual`), in chunks with a decode step between them; it waits for the step
that is under way, and for the prompts ahead of it.
"""

from dataclasses import dataclass, replace

import numpy as np

from suffice.silicon.columns import ConfigTable
from suffice.silicon.intervals import NOVELTIES, novelties
from suffice.silicon.predict import Prediction
from suffice.silicon.residual import ideal, reading, trained
from suffice.silicon.roofline import Array

CHUNK_TOKENS = 2048
EXPERT_READING = 3.3
"""How many times longer than dense models expert models read a prompt, against physics.

With it, measured over predicted TTFT has one median, 1.9, for both kinds in the 511 training rows
with 2 to 4 requests in flight (`python -m benchmarks.silicon_outside`, `alone`). The rest of that
ratio is the common start of those requests.
"""

WIDTH = (1.05, 0.2)
"""Half the 90 % interval in log time at 3 requests in flight, and its growth with their logarithm.

From the spread of the training rows with 2 to 4 requests in flight, and of those with up to 128.
"""

FULLEST = 0.95


@dataclass(frozen=True, kw_only=True)
class PromptReading:
    """What one prompt costs, in seconds.

    `service_s` keeps the replica's readers (taken as one) busy, `between_s` are the decode steps
    between its chunks, `extra_s` comes on top without keeping others waiting. `step_s` is a decode
    step without prompts in between, `rate` the requests a second that keep the batch in flight,
    `busy` the share of time that the readers work, `read_s` one prompt alone at full load, `layout`
    the number of each row's layout, the same for rows that differ in batch only.
    """

    service_s: Array
    between_s: Array
    extra_s: Array
    step_s: Array
    rate: Array
    busy: Array
    read_s: Array
    layout: Array


def prompt_reading(table: ConfigTable, prediction: Prediction) -> PromptReading:
    """Take the reading of a prompt apart, for every row of a table.

    Where other chips read the prompts, what an unloaded request takes on top (handing the cache
    over) is that of the prediction for the smallest batch.
    """
    times, tpot, out = ideal(table.compact()), prediction.tpot_s, table.output_tokens
    layout = _layout_numbers(table)
    mixed = table.prefill_chips == 0
    share = reading(times) * mixed
    step_s = tpot * (1 - share)
    side_by_side_s = times.loaded_read_s / np.maximum(table.prefill_replicas, 1.0)
    own_s = share * out * tpot / np.maximum(table.batch, 1.0)
    service_s = np.where(mixed, own_s, side_by_side_s)
    between_s = np.ceil(table.new_tokens / CHUNK_TOKENS) * step_s * mixed
    experts = np.array([model.experts is not None for model in table.models])[table.model]
    longer = np.where(experts, EXPERT_READING, 1.0)
    extra_s = np.maximum(longer * times.loaded_read_s - service_s, 0)
    alone_s = _smallest(prediction.ttft_s - service_s, batch=table.batch, layout=layout)
    extra_s = np.where(mixed, extra_s, np.maximum(extra_s, alone_s))
    rate = table.batch / (service_s + between_s + extra_s + out * tpot)
    return PromptReading(
        service_s=service_s,
        between_s=between_s,
        extra_s=extra_s,
        step_s=step_s,
        rate=rate,
        busy=rate * service_s,
        read_s=np.broadcast_to(times.loaded_read_s, len(table)),
        layout=layout,
    )


def under_arrivals(
    table: ConfigTable, prediction: Prediction, *, parts: PromptReading | None = None
) -> Prediction:
    """Return the prediction with the mean TTFT of requests that arrive at random.

    Half a step of waiting for the step under way, the prompt, and the mean wait of a queue with one
    server (Pollaczek and Khinchine). A reader that cannot keep up is taken at FULLEST of its rate:
    the rate of the row is cut elsewhere. The interval is at least as wide as that of a step, so
    that it knows of models and engines that were never measured; of a chip that was never measured
    it is also as wide as that of the prediction it replaces. `parts` are `prompt_reading`'s of
    the same prediction, where the caller has them already.
    """
    parts = prompt_reading(table, prediction) if parts is None else parts
    busy = np.minimum(parts.busy, FULLEST)
    wait_s = busy / (2 * (1 - busy)) * parts.service_s
    mixed = table.prefill_chips == 0
    ttft_s = parts.service_s + parts.between_s + parts.extra_s + wait_s
    ttft_s = ttft_s + np.where(mixed, parts.step_s / 2, parts.step_s)
    width = np.exp(WIDTH[0] + WIDTH[1] * np.log(np.maximum(table.batch / 3, 1.0)))
    width = np.maximum(width, prediction.tpot_high_s / prediction.tpot_s)
    unseen = novelties(table.compact(), trained().coverage)[NOVELTIES.index("chip")] > 0
    width = np.where(unseen, np.maximum(width, prediction.ttft_high_s / prediction.ttft_s), width)
    return replace(prediction, ttft_s=ttft_s, ttft_low_s=ttft_s / width, ttft_high_s=ttft_s * width)


def _layout_numbers(table: ConfigTable) -> Array:
    """Return a number for each row's layout, the same for rows that differ in batch only."""
    number = table.chip.astype(np.int64)
    for column in (table.tp, table.dp, table.ep, table.pp, table.cp):
        number = number * (int(column.max()) + 1) + column.astype(np.int64)
    replicas = _ranks(table.prefill_replicas)
    return _ranks(number * (int(replicas.max()) + 1) + replicas)


def _ranks(values: Array) -> Array:
    """Give equal values one number, in ascending order; equal neighbours are looked at once."""
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    place = np.unique(values[starts], return_inverse=True)[1]
    return np.asarray(np.repeat(place, np.diff(starts, append=len(values))))


def _smallest(values: Array, *, batch: Array, layout: Array) -> Array:
    """Return to each row the value of its layout's smallest batch."""
    order = np.lexsort((batch, layout))
    _, first = np.unique(layout[order], return_index=True)
    return np.asarray(values[order[first]][layout])
