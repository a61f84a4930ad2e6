"""Rules that end reasoning early, and their replay on recorded reasoning.

A live answer and a replay follow the same steps. The reasoning grows by `every_tokens`. If that
completes a line, the answer is probed after it. Once the probes have converged, the last probe is
the answer. All generated tokens count, also those of probes and those after the last whole line.
"""

from bisect import bisect_right
from typing import Annotated

from msgspec import Meta, Struct

from suffice.features.answer import LONGEST_FINAL, final_answer

Natural = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]


class ReasoningTags(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tags of a model's reasoning; it may be probed after each `boundary`, mostly a line end.

    `probe_tokens` is the longest answer of a probe; a longer answer never ends a reasoning.
    """

    opening: str = "<think>"
    close: str = "</think>"
    boundary: str = "\n"
    probe_tokens: Positive = 64


class StopRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop when `agree` probes in a row, `every_tokens` apart, gave the same answer.

    The tokens of the last probe must have a mean log-probability of at least `min_logprob`; None
    for any.
    """

    every_tokens: Positive
    agree: Positive
    min_logprob: float | None = None


class AnswerProbe(Struct, frozen=True, kw_only=True):
    """The answer of a probe after the first `at_tokens` of the reasoning, and the probe's tokens.

    `whole` is False for an answer that was cut off. `quality` is None if it was not scored.
    """

    at_tokens: Natural
    input_tokens: Natural
    output_tokens: Natural
    answer: str
    whole: bool
    mean_logprob: float | None = None
    quality: float | None = None


class Trace(Struct, frozen=True, kw_only=True):
    """An uncut reasoning, with its answer probed after each whole line.

    `reasoning_tokens` includes the closing tag; `output_tokens` includes all text. `answer` and
    `quality` are those of the uncut reasoning. `text_hash` is that of the request; traces of equal
    requests are no independent draws.
    """

    request_id: str
    prompt_tokens: Natural
    reasoning_tokens: Natural
    output_tokens: Natural
    answer: str
    probes: tuple[AnswerProbe, ...]
    group: str | None = None
    quality: float | None = None
    text_hash: str | None = None

    @property
    def scored(self) -> bool:
        """Whether the answer and all probes have a quality."""
        return None not in (self.quality, *(probe.quality for probe in self.probes))


class StoppedTrace(Struct, frozen=True, kw_only=True):
    """A trace under a rule: `stopped` is the probe that ended it; None if it was not cut.

    `output_tokens` includes `probe_tokens`; `input_tokens` are those of all calls, cached or not.
    """

    stopped: AnswerProbe | None
    output_tokens: int
    probe_tokens: int
    input_tokens: int


class ConvergenceCheck:
    """Says when the probes of one reasoning have converged."""

    def __init__(self, rule: StopRule) -> None:
        self._rule = rule
        self._answer = ""
        self._agreed = 0

    def push(self, probe: AnswerProbe) -> bool:
        """Take the next probe; return whether it may be the answer."""
        answer = stated_result(probe.answer) if probe.whole else ""
        same = bool(answer) and answer == self._answer
        self._agreed = self._agreed + 1 if same else int(bool(answer))
        self._answer = answer
        least = self._rule.min_logprob
        sure = least is None or (probe.mean_logprob is not None and probe.mean_logprob >= least)
        return sure and self._agreed >= self._rule.agree


def stated_result(answer: str) -> str:
    """Return the part of an answer that agreement compares, with its spacing normalised.

    For one short line this is the result that it states. For a longer answer it is the whole text,
    because the last line of code or of a list says little about it.
    """
    whole = " ".join(answer.split())
    is_line = "\n" not in answer.strip() and len(whole) <= LONGEST_FINAL
    return final_answer(whole) if is_line else whole


def replay(trace: Trace, rule: StopRule) -> StoppedTrace:
    """Return a recorded trace as a rule would have stopped it, with its tokens."""
    places = [probe.at_tokens for probe in trace.probes]
    convergence, last = ConvergenceCheck(rule), 0
    input_tokens = probe_tokens = 0
    for end in range(rule.every_tokens, trace.reasoning_tokens, rule.every_tokens):
        input_tokens += trace.prompt_tokens + end - rule.every_tokens
        count = bisect_right(places, end)
        if count == last:
            continue
        last, probe = count, trace.probes[count - 1]
        input_tokens += probe.input_tokens
        probe_tokens += probe.output_tokens
        if convergence.push(probe):
            return StoppedTrace(
                stopped=probe,
                output_tokens=end + probe_tokens,
                probe_tokens=probe_tokens,
                input_tokens=input_tokens,
            )
    # the call in which the reasoning closes, and the one for the rest of the answer
    start = max(0, trace.reasoning_tokens - 1) // rule.every_tokens * rule.every_tokens
    input_tokens += trace.prompt_tokens + start
    if start + rule.every_tokens < trace.output_tokens:
        input_tokens += trace.prompt_tokens + start + rule.every_tokens
    return StoppedTrace(
        stopped=None,
        output_tokens=trace.output_tokens + probe_tokens,
        probe_tokens=probe_tokens,
        input_tokens=input_tokens,
    )
