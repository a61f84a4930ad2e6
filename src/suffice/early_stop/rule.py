"""When to end reasoning early: the rule, and what it makes of a reasoning that was recorded.

A live answer and the replay of a recorded one follow the same steps: the reasoning grows by
`every_tokens`; where a line of it was completed, the answer is probed there; once the probes have
converged the last one is the answer. All that is generated counts, also probes and what was
written past the last whole line.
"""

from bisect import bisect_right
from typing import Annotated

from msgspec import Meta, Struct

from suffice.features.answer import LONGEST_FINAL, final_answer

Natural = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]


class Marks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model writes its reasoning; `boundary` ends what may be probed, mostly a line.

    `probe_tokens` is the longest answer that a probe waits for; longer ones never end a reasoning.
    """

    opening: str = "<think>"
    close: str = "</think>"
    boundary: str = "\n"
    probe_tokens: Positive = 64


class StopRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop when `agree` probes in a row gave one answer and the last is at least `min_logprob`.

    That is the mean log-probability of its tokens, None for any. `every_tokens` lie between probes.
    """

    every_tokens: Positive
    agree: Positive
    min_logprob: float | None = None


class AnswerProbe(Struct, frozen=True, kw_only=True):
    """The answer that the reasoning up to `at_tokens` leads to, and the tokens that asking cost.

    `whole` is False for an answer that was cut off. `quality` is None until it is marked, and
    where nothing could mark it.
    """

    at_tokens: Natural
    input_tokens: Natural
    output_tokens: Natural
    answer: str
    whole: bool
    mean_logprob: float | None = None
    quality: float | None = None


class Trace(Struct, frozen=True, kw_only=True):
    """A reasoning to its own end, with the answer probed after each whole line of it.

    `reasoning_tokens` counts the tag that closed it, `output_tokens` all that it wrote. `answer`
    and `quality` are those of the uncut reasoning.
    """

    request_id: str
    prompt_tokens: Natural
    reasoning_tokens: Natural
    output_tokens: Natural
    answer: str
    probes: tuple[AnswerProbe, ...]
    group: str | None = None
    quality: float | None = None

    @property
    def scored(self) -> bool:
        """Whether the answer and all probes have a quality."""
        return None not in (self.quality, *(probe.quality for probe in self.probes))


class StoppedTrace(Struct, frozen=True, kw_only=True):
    """What a rule makes of a trace: `stopped` is the probe it took, None at the natural end.

    `output_tokens` holds `probe_tokens`; `input_tokens` are those of all calls, read anew or from
    the engine's cache.
    """

    stopped: AnswerProbe | None
    output_tokens: int
    probe_tokens: int
    input_tokens: int


class Converging:
    """Follows the probes of one reasoning and says when they have converged."""

    def __init__(self, rule: StopRule) -> None:
        self._rule = rule
        self._answer = ""
        self._agreed = 0

    def push(self, probe: AnswerProbe) -> bool:
        """Take the next probe; True when it may be given as the answer."""
        answer = stated(probe.answer) if probe.whole else ""
        same = bool(answer) and answer == self._answer
        self._agreed = self._agreed + 1 if same else int(bool(answer))
        self._answer = answer
        return self._agreed >= self._rule.agree and self._is_sure(probe)

    def _is_sure(self, probe: AnswerProbe) -> bool:
        least = self._rule.min_logprob
        return least is None or (probe.mean_logprob is not None and probe.mean_logprob >= least)


def stated(answer: str) -> str:
    """Return what two answers have in common that agree; spacing does not count.

    That is the result that one short line states, and all of a longer answer: the last line of one
    that ends in code, or in a list, says little of it.
    """
    whole = " ".join(answer.split())
    is_line = "\n" not in answer.strip() and len(whole) <= LONGEST_FINAL
    return final_answer(whole) if is_line else whole


def replay(trace: Trace, rule: StopRule) -> StoppedTrace:
    """Say what a rule would have done on a recorded trace, and what that would have cost."""
    places = [probe.at_tokens for probe in trace.probes]
    converging, seen = Converging(rule), 0
    input_tokens = probe_tokens = 0
    for end in range(rule.every_tokens, trace.reasoning_tokens, rule.every_tokens):
        input_tokens += trace.prompt_tokens + end - rule.every_tokens
        last = bisect_right(places, end)
        if last == seen:
            continue
        seen, probe = last, trace.probes[last - 1]
        input_tokens += probe.input_tokens
        probe_tokens += probe.output_tokens
        if converging.push(probe):
            return StoppedTrace(
                stopped=probe,
                output_tokens=end + probe_tokens,
                probe_tokens=probe_tokens,
                input_tokens=input_tokens,
            )
    return StoppedTrace(
        stopped=None,
        output_tokens=trace.output_tokens + probe_tokens,
        probe_tokens=probe_tokens,
        input_tokens=input_tokens + _last_reads(trace, rule),
    )


def _last_reads(trace: Trace, rule: StopRule) -> int:
    """Count what is read for the piece in which the reasoning closes, and for the rest after it."""
    begun = max(0, trace.reasoning_tokens - 1) // rule.every_tokens * rule.every_tokens
    reads = trace.prompt_tokens + begun
    if begun + rule.every_tokens < trace.output_tokens:
        reads += trace.prompt_tokens + begun + rule.every_tokens
    return reads
