"""Serving under arrivals: percentiles from an event model, and the closed forms it checks.

A replica runs steps. Each step decodes one token for every running request and, when prompts wait,
reads up to `chunk_tokens` of their tokens, of as many prompts as that takes (continuous batching
with chunked prefill, as vLLM bounds it by `max_num_batched_tokens`). Requests that find no place in
memory wait in line.
"""

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
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
        return float(np.percentile(getattr(self, which)[skip:], q))


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
    line = _Line(replica, arrivals_s, input_tokens, output_tokens)
    line.running = sorted((left, STARTED_BEFORE) for left in left_tokens[: replica.places])
    while not line.done:
        line.advance()
    return line.result()


class _Line:
    """The running state of one simulated replica: requests are read, then ready, then running.

    `running` holds the step at which each request ends, `ready` the time at which it may begin.
    """

    def __init__(self, replica: Replica, arrivals: Array, inputs: Array, outputs: Array) -> None:
        self.replica = replica
        self.arrivals = [*arrivals.tolist(), math.inf]
        self.inputs, self.outputs = inputs.tolist(), outputs.tolist()
        self.now, self.steps, self.next = 0.0, 0.0, 0
        self.reading: deque[int] = deque()
        self.unread = inputs.astype(float).tolist()
        self.ready: list[tuple[float, int]] = []
        self.running: list[tuple[float, int]] = []
        self.first, self.last = [math.nan] * len(arrivals), [math.nan] * len(arrivals)
        self.reader_free = 0.0
        counts = np.arange(replica.places + 1)
        self.step_s = np.interp(counts, replica.batches, replica.step_s).tolist()

    @property
    def done(self) -> bool:
        waits = self.reading or self.ready or self.running
        return self.next >= len(self.inputs) and not waits

    def advance(self) -> None:
        """Go to the next event."""
        while self.arrivals[self.next] <= self.now and self._may_admit():
            self._take(self.next)
            self.next += 1
        while self.ready and self.ready[0][0] <= self.now and self._has_place():
            _, request = heapq.heappop(self.ready)
            heapq.heappush(self.running, (self.steps + self.outputs[request] - 1, request))
        if self.reading:
            self._read_chunk()
        elif self.running:
            self._decode_until_event()
        else:
            self.now = self._next_event()
        end = self.steps + 1e-9
        while self.running and self.running[0][0] <= end:
            _, request = heapq.heappop(self.running)
            if request != STARTED_BEFORE:
                self.last[request] = max(self.now, self.first[request])

    def _may_admit(self) -> bool:
        """Whether a request may be read; other chips read without holding a place."""
        held = len(self.reading) + len(self.ready) + len(self.running)
        return self.replica.apart or held < self.replica.places

    def _take(self, request: int) -> None:
        if not self.replica.apart:
            self.reading.append(request)
            return
        begin = max(self.reader_free, self.arrivals[request])
        self.reader_free = begin + self.replica.read_token_s * self.inputs[request]
        self._answer(request, at=self.reader_free)

    def _answer(self, request: int, *, at: float) -> None:
        """Note the first token, `start_s` after the prompt was read; the next ones may follow."""
        self.first[request] = at + self.replica.start_s
        heapq.heappush(self.ready, (self.first[request], request))

    def _has_place(self) -> bool:
        return len(self.running) < self.replica.places

    def _next_event(self) -> float:
        """Return the time of the next arrival or beginning that can be acted upon."""
        arrival = self.arrivals[self.next] if self._may_admit() else math.inf
        beginning = self.ready[0][0] if self.ready and self._has_place() else math.inf
        return min(arrival, beginning)

    def _read_chunk(self) -> None:
        budget, read = float(self.replica.chunk_tokens), []
        while self.reading and budget > 0:
            request = self.reading[0]
            taken = min(budget, self.unread[request])
            self.unread[request] -= taken
            budget -= taken
            if self.unread[request] <= 0:
                read.append(self.reading.popleft())
        decode = self.step_s[len(self.running)] if self.running else 0.0
        self.now += (self.replica.chunk_tokens - budget) * self.replica.read_token_s + decode
        self.steps += 1 if self.running else 0
        for request in read:
            self._answer(request, at=self.now)

    def _decode_until_event(self) -> None:
        step = self.step_s[len(self.running)]
        until, steps = (self._next_event() - self.now) / step, self.running[0][0] - self.steps
        steps = steps if until >= steps else math.ceil(until)
        self.steps += steps
        self.now += steps * step

    def result(self) -> ServedRequests:
        first, last, outputs = np.array(self.first), np.array(self.last), np.array(self.outputs)
        tpot = np.maximum(last - first, 0) / np.maximum(outputs - 1, 1)
        span = max(float(np.nanmax(last)) - self.arrivals[0], 1e-9)
        return ServedRequests(
            ttft_s=first - np.array(self.arrivals[:-1]),
            tpot_s=tpot,
            tokens_per_s=float(outputs.sum()) / span,
        )


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
