"""An engine that ends the reasoning of another engine early, once its answer has converged."""

import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from suffice.early_stop.rule import AnswerProbe, ConvergenceCheck, ReasoningTags, StopRule, Trace
from suffice.engines.base import Engine, last
from suffice.engines.chunk import Chunk, Relay
from suffice.engines.dialects import output_limit
from suffice.engines.render import relayed
from suffice.errors import ConfigError, EngineError, EngineProtocolError
from suffice.guarantee import Certificate, content_hash
from suffice.types import (
    JSON,
    Completion,
    Count,
    CountSource,
    Effort,
    Finish,
    Request,
    Rung,
    Usage,
    Vector,
    estimated,
)

if TYPE_CHECKING:
    import aiohttp

# A request with any other field (tools, formats, samples, stops) is answered uncut.
_PLAIN = """
    max_tokens max_completion_tokens metadata min_p presence_penalty frequency_penalty seed stream
    stream_options temperature top_k top_p user
"""
_FIELDS = frozenset(_PLAIN.split())


class EarlyStopping(Struct, frozen=True, kw_only=True):
    """Certified rules for one rung by request group, and the tags of its reasoning.

    If the certificate names no groups, the rule with the empty name applies to all requests.
    """

    rules: Mapping[str, StopRule]
    tags: ReasoningTags
    certificate: Certificate

    def rule_for(self, request: Request) -> StopRule | None:
        """Return the rule for a request, or None if its reasoning must not be cut.

        That is so if the certificate does not cover the request, and if the request asks for more
        than a plain answer.
        """
        plain = (
            request.params.keys() <= _FIELDS
            and bool(request.messages)
            and request.messages[-1].get("role") != "assistant"
        )
        terms = self.certificate.terms
        if not plain or datetime.now(UTC) >= terms.lapses_at:
            return None
        if terms.scope.groups:
            return self.rules.get(request.group) if request.group is not None else None
        return self.rules.get("")


class EarlyStop(Engine):
    """An engine that ends the reasoning of the rungs in `stops` early, and passes on all others."""

    def __init__(self, inner: Engine, stops: Mapping[str, EarlyStopping]) -> None:
        self._inner = inner
        self._stops = stops

    async def complete(self, request: Request, rung: Rung) -> Completion:
        """Answer in one piece."""
        rule = self._rule(request, rung)
        if rule is None:
            return await self._inner.complete(request, rung)
        return replace(await last(self._answer(request, rung, rule)), ttft_s=None)

    async def stream(
        self, request: Request, rung: Rung
    ) -> AsyncGenerator[Chunk | Completion, None]:
        """Yield the reasoning line by line, then the answer, then the Completion."""
        rule = self._rule(request, rung)
        items = (
            self._inner.stream(request, rung) if rule is None else self._answer(request, rung, rule)
        )
        async with aclosing(items):
            async for item in items:
                yield item

    def relay(self, request: Request, rung: Rung) -> Relay:
        """Stream in the OpenAI form; without a rule, pass on the bytes of the inner engine."""
        if self._rule(request, rung) is None:
            return self._inner.relay(request, rung)
        return relayed(self.stream(request, rung), request, model=rung.model)

    async def extend(self, request: Request, rung: Rung, *, written: str) -> Completion:
        """Continue an answer from its start, uncut."""
        return await self._inner.extend(request, rung, written=written)

    def forward(
        self, path: str, body: JSON
    ) -> "AbstractAsyncContextManager[aiohttp.ClientResponse]":
        """Post to another path of the inner engine's API."""
        return self._inner.forward(path, body)

    async def close(self) -> None:
        """Close the inner engine."""
        await self._inner.close()

    def _rule(self, request: Request, rung: Rung) -> StopRule | None:
        stopping = self._stops.get(rung.name)
        return None if stopping is None else stopping.rule_for(request)

    async def _answer(
        self, request: Request, rung: Rung, rule: StopRule
    ) -> AsyncGenerator[Chunk | Completion, None]:
        tags = self._stops[rung.name].tags
        draft = _Draft(self._inner, request, rung, tags=tags)
        convergence = ConvergenceCheck(rule)
        answer: Completion | None = None
        try:
            while answer is None and await draft.think(rule.every_tokens):
                probe_answer = await draft.probe()
                if probe_answer is None:
                    continue
                if lines := draft.new_lines():
                    yield Chunk(reasoning=lines)
                if convergence.push(probe_of(probe_answer, at_tokens=0, tags=tags)):
                    answer = probe_answer
        except EngineError as error:
            if error.unbilled:
                error.used = draft.usage
            raise
        completion = (
            draft.natural_completion() if answer is None else draft.early_completion(answer)
        )
        rest = (completion.reasoning or "").removeprefix(draft.shown)
        if rest or completion.text:
            yield Chunk(reasoning=rest, text=completion.text)
        yield completion


class _Draft:
    """An unfinished answer, its usage so far, and the part of its reasoning that was streamed."""

    def __init__(
        self, engine: Engine, request: Request, rung: Rung, *, tags: ReasoningTags
    ) -> None:
        self._engine, self._request, self._rung, self._tags = engine, request, rung, tags
        limit = output_limit(request, rung)
        assert limit is not None, "rungs that stop early have a limit: see load_stopping"
        self._left = limit
        self._began_s = time.perf_counter()
        self._ttft_s: float | None = None
        self._written = ""
        self._cut = 0
        self._finish = Finish.LENGTH
        self._model: str | None = None
        self.usage: Usage | None = None
        self.shown = ""

    async def think(self, tokens: int) -> bool:
        """Write up to `tokens` more; False if the text ended or its answer has begun."""
        if await self._write(tokens):
            return False
        if self._tags.close not in self._written:
            return True
        await self._write(self._left)
        return False

    async def probe(self) -> Completion | None:
        """Probe the answer after the last whole line; None if no line was completed."""
        end = max(line_ends(self._written, self._tags), default=0)
        if end == self._cut:
            return None
        self._cut = end
        answer = await probe(
            self._engine, self._request, self._rung, start=self._written[:end], tags=self._tags
        )
        self._count(answer)
        return answer

    def new_lines(self) -> str:
        """Return the lines since the last call; none if they may belong to the answer."""
        if not opens_reasoning(self._written, self._tags):
            return ""
        before, self.shown = self.shown, without_opening(self._written[: self._cut], self._tags)
        return self.shown.removeprefix(before)

    def early_completion(self, answer: Completion) -> Completion:
        """Return the completion with the answer of a probe."""
        reasoning = without_opening(self._written[: self._cut], self._tags)
        return self._completion(
            reasoning,
            answer.text,
            finish=answer.finish,
            logprobs=answer.logprobs,
            answer_tokens=answer.usage.output_tokens,
        )

    def natural_completion(self) -> Completion:
        """Return the completion of a text that ended by itself, without log-probabilities."""
        reasoning, text = split_reasoning(self._written, self._tags, finish=self._finish)
        return self._completion(
            without_opening(reasoning, self._tags),
            text,
            finish=self._finish,
            answer_tokens=estimated(text),
        )

    async def _write(self, tokens: int) -> bool:
        """Write at most `tokens` more; True if the text has ended."""
        most = min(tokens, self._left)
        piece = await self._engine.extend(
            self._request, replace(self._rung, max_output_tokens=most), written=self._written
        )
        self._count(piece)
        self._written += piece.text
        self._left -= most
        self._finish = piece.finish
        count = piece.usage.output_tokens
        reported = count is not None and count.source is CountSource.REPORTED
        context_full = count is not None and reported and count.tokens < most
        return piece.finish is not Finish.LENGTH or not self._left or context_full

    def _count(self, call: Completion) -> None:
        self.usage = call.usage if self.usage is None else self.usage + call.usage
        self._model = call.model or self._model
        self._ttft_s = self._ttft_s or time.perf_counter() - self._began_s

    def _completion(
        self,
        reasoning: str,
        text: str,
        *,
        finish: Finish,
        answer_tokens: Count | None,
        logprobs: tuple[float, ...] | None = None,
    ) -> Completion:
        """Return the whole answer; all output but the tokens of its text counts as reasoning."""
        usage = self.usage or Usage()
        output = usage.output_tokens
        if output is not None and answer_tokens is not None:
            tokens = max(0, output.tokens - answer_tokens.tokens)
            thought = Count(tokens, (output + answer_tokens).source)
            usage = replace(
                usage, reasoning_tokens=thought if reasoning else Count(0, output.source)
            )
        return Completion(
            text=text.strip(),
            finish=finish,
            usage=usage,
            duration_s=time.perf_counter() - self._began_s,
            reasoning=reasoning or None,
            ttft_s=self._ttft_s,
            logprobs=logprobs,
            effort_seen=True if reasoning and self._rung.effort is not None else None,
            model=self._model,
        )


def check_stopping(rung: Rung) -> None:
    """Raise ConfigError for a rung that early stop cannot be used with."""
    if rung.max_output_tokens is None:
        raise ConfigError(
            f"rung {rung.name!r}: early stop needs max_output_tokens",
            hint="suffice writes the answer in parts and has to keep the limit itself",
        )
    if rung.effort is Effort.NONE:
        raise ConfigError(
            f"rung {rung.name!r}: without reasoning there is nothing to stop early",
            hint="choose an effort, or leave early_stop out",
        )
    if rung.thinking_budget_tokens is not None:
        raise ConfigError(
            f"rung {rung.name!r}: early stop and thinking_budget_tokens end the same reasoning",
            hint="leave one of them out",
        )


def stopping_hash(rules: Mapping[str, StopRule], tags: ReasoningTags, rung: Rung) -> str:
    """Return the hash that a certificate names: of the rules and of the settings of the rung."""
    settings = replace(rung, name="", engine="", price=None, vector=Vector.OUTPUT, early_stop=None)
    return content_hash([dict(rules), tags, settings])


async def probe(
    engine: Engine, request: Request, rung: Rung, *, start: str, tags: ReasoningTags
) -> Completion:
    """Close the reasoning after `start` and write the most probable answer."""
    greedy = {**rung.params, "temperature": 0, "logprobs": True}
    short = replace(rung, max_output_tokens=tags.probe_tokens, params=greedy)
    return await engine.extend(request, short, written=start + tags.close)


def probe_of(completion: Completion, *, at_tokens: int, tags: ReasoningTags) -> AnswerProbe:
    """Return the probe that a rule judges; an answer that continues the reasoning is not whole."""
    return AnswerProbe(
        at_tokens=at_tokens,
        input_tokens=_tokens(completion, "input_tokens"),
        output_tokens=_tokens(completion, "output_tokens"),
        answer=completion.text.strip(),
        whole=completion.finish is Finish.STOP and tags.close not in completion.text,
        mean_logprob=completion.mean_logprob,
    )


async def record_trace(
    engine: Engine, request: Request, rung: Rung, *, tags: ReasoningTags
) -> Trace:
    """Record an uncut reasoning, and probe its answer after each line; qualities stay None.

    Raises an EngineError if the engine cannot continue a prefix or does not count tokens.
    """
    uncut = await engine.extend(request, rung, written="")
    prompt_tokens = _tokens(uncut, "input_tokens")
    output_tokens = _tokens(uncut, "output_tokens")

    async def length(written: str) -> int:
        one = await engine.extend(request, replace(rung, max_output_tokens=1), written=written)
        return _tokens(one, "input_tokens") - prompt_tokens

    reasoning, closed, _ = uncut.text.partition(tags.close)
    close_tokens = await length(tags.close)
    probes = []
    for end in line_ends(reasoning, tags):
        answer = await probe(engine, request, rung, start=reasoning[:end], tags=tags)
        at_tokens = _tokens(answer, "input_tokens") - prompt_tokens - close_tokens
        probes.append(probe_of(answer, at_tokens=at_tokens, tags=tags))
    return Trace(
        request_id=request.request_id,
        group=request.group,
        prompt_tokens=prompt_tokens,
        reasoning_tokens=await length(reasoning + tags.close) if closed else output_tokens,
        output_tokens=output_tokens,
        answer=split_reasoning(uncut.text, tags, finish=uncut.finish)[1].strip(),
        probes=tuple(probes),
        text_hash=content_hash([" ".join(request.text.split())]),
    )


def without_opening(reasoning: str, tags: ReasoningTags) -> str:
    """Return reasoning without its opening tag."""
    return reasoning.lstrip().removeprefix(tags.opening) if tags.opening else reasoning


def opens_reasoning(written: str, tags: ReasoningTags) -> bool:
    """Whether a text begins with reasoning; every text does if there is no opening tag."""
    return written.lstrip().startswith(tags.opening)


def split_reasoning(written: str, tags: ReasoningTags, *, finish: Finish) -> tuple[str, str]:
    """Split a text into reasoning and answer.

    A finished text without either tag is an answer without reasoning.
    """
    reasoning, closed, text = written.partition(tags.close)
    if not closed and finish is Finish.STOP and not opens_reasoning(written, tags):
        return "", written
    return reasoning, text


def line_ends(reasoning: str, tags: ReasoningTags) -> list[int]:
    """Return the ends of the lines of a reasoning, from the first line that is not blank.

    A prefix has the same line ends as the whole, so live and recorded reasoning are probed at the
    same places.
    """
    begins = len(reasoning) - len(without_opening(reasoning, tags).lstrip())
    ends = (end.end() for end in re.finditer(re.escape(tags.boundary), reasoning))
    return [end for end in ends if end > begins]


def _tokens(completion: Completion, field: str) -> int:
    count = getattr(completion.usage, field)
    if count is None:
        raise EngineProtocolError(
            f"the engine does not count {field}", hint="early stop needs an engine that counts them"
        )
    return int(count.tokens)
