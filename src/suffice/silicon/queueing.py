"""Serving under arrivals: percentiles from an event model, and the closed forms it checks.

A replica runs steps. Each step decodes one token for every running request and, when prompts wait,
reads up to `chunk_tokens` of their tokens, of as many prompts as that takes (continuous batching
with chunked prefill, as vLLM bounds it by `max_num_batched_tokens`). Requests that find no place in
memory wait in line.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from statistics import NormalDist

import numpy as np
from msgspec import Struct

from suffice.silicon.roofline import Array

STARTED_BEFORE = -1


class Lengths(Struct, frozen=True, kw_only=True):
    """Log-normal token counts: `mean` and `variation` (standard deviation over mean)."""

    mean: float
    variation: float = 0.0

    def draw(self, count: int, *, rng: np.random.Generator) -> Array:
        """Draw `count` lengths of at least one token."""
        if self.variation == 0:
            return np.full(count, max(self.mean, 1.0))
        sigma2 = np.log1p(self.variation**2)
        drawn = rng.lognormal(np.log(self.mean) - sigma2 / 2, np.sqrt(sigma2), count)
        return np.maximum(np.rint(drawn), 1.0)


class AnswerLengths(Lengths, frozen=True, kw_only=True):
    """Tokens of answers: up to a variation of 1 a gamma distribution, from 2 on a log-normal one.

    Between the two a growing share is log-normal; both have the mean and the variation. Answers in
    chat are exponential, which is the gamma of variation 1 (ServeGen, arXiv 2505.09999, section 3):
    many are short. Those of 24,650 requests of coding agents vary by 1.7 and are nearer to a
    log-normal distribution than to a gamma (largest difference of the shares 0.17 against 0.40).
    """

    def draw(self, count: int, *, rng: np.random.Generator) -> Array:
        """Draw `count` lengths of at least one token."""
        drawn = super().draw(count, rng=rng)
        if self.variation == 0:
            return drawn
        shape = self.variation**-2
        gamma = np.rint(rng.gamma(shape, self.mean / shape, count))
        from_gamma = rng.uniform(size=count) < 2 - self.variation
        return np.where(from_gamma, np.maximum(gamma, 1.0), drawn)

    def draw_left(self, count: int, *, rng: np.random.Generator) -> Array:
        """Draw what is left of `count` answers that are looked at while they are written.

        An answer twice as long is met twice as often, and any part of it may be left.
        """
        drawn = self.draw(max(count, 1000), rng=rng)
        met = rng.choice(drawn, count, p=drawn / drawn.sum())
        return np.maximum(np.rint(met * rng.uniform(size=count)), 1.0)


class Replica(Struct, frozen=True, kw_only=True):
    """One replica's speed: seconds of a decode step by batch, of reading a prompt token, places.

    `step_s[i]` is the step at `batches[i]` running requests, without prompts in between. With
    `apart` another replica reads the prompts and decode steps are never interrupted.
    """

    batches: tuple[float, ...]
    step_s: tuple[float, ...]
    read_token_s: float
    places: int
    start_s: float = 0.0
    chunk_tokens: int = 2048
    apart: bool = False


@dataclass(frozen=True, kw_only=True)
class ServedRequests:
    """What requests saw, one entry a request, and the tokens that came out each second."""

    ttft_s: Array
    tpot_s: Array
    tokens_per_s: float

    def percentile(self, which: str, q: float, *, skip: int = 0) -> float:
        """Return the q-th percentile (0 to 100) of `ttft_s` or `tpot_s`, the first ones left out.

        Requests that the start of a simulation still favours are such.
        """
        values = np.sort(getattr(self, which)[skip:])
        return float(np.interp(q / 100 * (len(values) - 1), np.arange(len(values)), values))


def simulate(
    replica: Replica,
    *,
    arrivals_s: Array,
    input_tokens: Array,
    output_tokens: Array,
    left_tokens: Sequence[float] = (),
) -> ServedRequests:
    """Serve requests in order of arrival, step by step; times in seconds from the first arrival.

    `left_tokens` are the tokens that requests under way at the start still write; no result counts
    them, and no more start than there are places. Between two events (an arrival, a finished
    prompt, a finished answer) all steps are alike, so they are taken at once: the cost is per
    event, not per token.
    """
    line = _Line(replica, arrivals_s=arrivals_s, input_tokens=input_tokens)
    line.serve(output_tokens.tolist(), left_tokens=left_tokens)
    first, last = np.array(line.first[:-1]), np.array(line.last[:-1])
    tpot = np.maximum(last - first, 0) / np.maximum(output_tokens - 1, 1)
    span = max(float(np.nanmax(last) - arrivals_s[0]), 1e-9)
    return ServedRequests(
        ttft_s=first - arrivals_s, tpot_s=tpot, tokens_per_s=float(output_tokens.sum()) / span
    )


class _Line:
    """Requests in order of arrival, and the times of their first and last tokens once served.

    The last place of `first` and `last` is that of all requests that were under way at the start.
    Where other chips read the prompts, first tokens do not depend on what this replica does.
    """

    def __init__(self, replica: Replica, *, arrivals_s: Array, input_tokens: Array) -> None:
        self.replica = replica
        self.arrivals = [*arrivals_s.tolist(), math.inf]
        self.unread: list[float] = input_tokens.astype(float).tolist()
        self.first, self.last = [math.nan] * len(self.arrivals), [math.nan] * len(self.arrivals)
        batches = np.arange(replica.places + 1)
        self.step_s = np.interp(batches, replica.batches, replica.step_s).tolist()
        free = 0.0
        for request, tokens in enumerate(self.unread if replica.apart else ()):
            free = max(free, self.arrivals[request]) + replica.read_token_s * tokens
            self.first[request] = free + replica.start_s

    def serve(self, outputs: Sequence[float], *, left_tokens: Sequence[float]) -> None:
        """Go from event to event until all requests are served.

        Requests are `reading`, then `ready` (in order of arrival, as their first tokens come), then
        `running`, a heap by the step at which each ends. Where other chips read, a request holds a
        place only while it runs. A plan spends most of its time in this loop.
        """
        places, apart, start_s = self.replica.places, self.replica.apart, self.replica.start_s
        arrivals, first, last, step_s = self.arrivals, self.first, self.last, self.step_s
        running = sorted((left, STARTED_BEFORE) for left in left_tokens[:places])
        reading: deque[int] = deque()
        ready: deque[int] = deque()
        entrance = ready if apart else reading
        now, steps, arrived, count = 0.0, 0.0, 0, len(outputs)
        while arrived < count or reading or ready or running:
            while arrivals[arrived] <= now and (
                apart or len(reading) + len(ready) + len(running) < places
            ):
                entrance.append(arrived)
                arrived += 1
            while ready and first[ready[0]] <= now and len(running) < places:
                request = ready.popleft()
                heappush(running, (steps + outputs[request] - 1, request))
            step = step_s[len(running)] if running else 0.0
            if reading:
                read_s, finished = self._read_chunk(reading)
                now += read_s + step
                steps += 1 if running else 0
                for request in finished:
                    first[request] = now + start_s
                ready.extend(finished)
            else:
                admits = apart or len(ready) + len(running) < places
                event = arrivals[arrived] if admits else math.inf
                if ready and len(running) < places:
                    event = min(event, first[ready[0]])
                if running:
                    until, left = (event - now) / step, running[0][0] - steps
                    taken = left if until >= left else math.ceil(until)
                    steps += taken
                    now += taken * step
                else:
                    now = event
            end = steps + 1e-9
            while running and running[0][0] <= end:
                request = heappop(running)[1]
                last[request] = max(now, first[request])

    def _read_chunk(self, reading: deque[int]) -> tuple[float, list[int]]:
        """Read a chunk of the waiting prompts; return its seconds and the prompts it finishes."""
        chunk = budget = float(self.replica.chunk_tokens)
        finished, unread = [], self.unread
        while reading and budget > 0:
            request = reading[0]
            taken = min(budget, unread[request])
            unread[request] -= taken
            budget -= taken
            if unread[request] <= 0:
                finished.append(reading.popleft())
        return (chunk - budget) * self.replica.read_token_s, finished


def crowded(batch: Array, *, elasticity: Array, percentile: float) -> Array:
    """How many requests run at once at a percentile of time, where `batch` do on average.

    Arrivals are a Poisson process. `elasticity` is d log TPOT / d log batch: a slower step keeps
    requests longer, so fluctuations grow by 1/(1 - elasticity). The variance is that of a queue
    where each request leaves at its own rate, which is exact without slowing (M/G/infinity).
    """
    variance = batch / (1 - np.minimum(elasticity, 0.95))
    return np.asarray(batch + _normal(percentile) * np.sqrt(variance))


def waiting(busy: Array, *, service_s: Array, variation: float, percentile: float) -> Array:
    """Seconds that a percentile of prompts wait for the reader, infinite where it cannot keep up.

    Mean wait by Pollaczek and Khinchine; an exponential tail over the share `busy` of the time.
    """
    room = np.maximum(1 - busy, 1e-12)
    mean_if_any = service_s * (1 + variation**2) / (2 * room)
    tail = mean_if_any * np.log(np.maximum(busy / (1 - percentile / 100), 1.0))
    return np.where(busy < 1, tail, np.inf)


def longest(percentile: float, *, variation: float) -> float:
    """Length at a percentile over the mean length, as `Lengths` draws them."""
    sigma2 = float(np.log1p(variation**2))
    return float(np.exp(_normal(percentile) * np.sqrt(sigma2) - sigma2 / 2))


def _normal(percentile: float) -> float:
    return NormalDist().inv_cdf(percentile / 100)


def poisson_arrivals(count: int, *, requests_per_s: float, rng: np.random.Generator) -> Array:
    """Arrival times of a Poisson process."""
    return np.cumsum(rng.exponential(1 / requests_per_s, count))
