"""Early stop of reasoning: an engine around another that ends a reasoning once it has converged."""

import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from suffice.early_stop.rule import AnswerProbe, Converging, Marks, StopRule, Trace
from suffice.engines.base import Engine, last
from suffice.engines.chunk import Chunk, Relay
from suffice.engines.dialects import output_limit
from suffice.engines.render import relayed
from suffice.errors import ConfigError, EngineError, EngineProtocolError
from suffice.guarantee import Certificate, content_hash
from suffice.types import (
    Completion,
    CountSource,
    Effort,
    Finish,
    Request,
    Rung,
    Usage,
    Vector,
)

# Requests with any other field (tools, formats, samples, stops) are answered uncut.
_PLAIN = """
    max_tokens max_completion_tokens metadata min_p presence_penalty frequency_penalty seed stream
    stream_options temperature top_k top_p user
"""
_FIELDS = frozenset(_PLAIN.split())


class EarlyStopping(Struct, frozen=True, kw_only=True):
    """Certified rules for one rung by request group, and how its model marks its reasoning.

    Where the certificate covers no declared groups, the rule of the empty name is for all requests.
    """

    rules: Mapping[str, StopRule]
    marks: Marks
    certificate: Certificate

    def rule_for(self, request: Request) -> StopRule | None:
        """Return the rule for a request; None for one to be answered uncut.

        That is one that the certificate does not cover, or that asks for more than a plain answer.
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
    """An engine whose rungs named in `stops` end their reasoning early; all else goes through."""

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
        """Stream in the OpenAI form; a rung without a rule gives the inner engine's own bytes."""
        if self._rule(request, rung) is None:
            return self._inner.relay(request, rung)
        return relayed(self.stream(request, rung), request, model=rung.model)

    async def extend(self, request: Request, rung: Rung, *, written: str) -> Completion:
        """Go on from the start of an answer, uncut."""
        return await self._inner.extend(request, rung, written=written)

    async def close(self) -> None:
        """Close the inner engine."""
        await self._inner.close()

    def _rule(self, request: Request, rung: Rung) -> StopRule | None:
        stopping = self._stops.get(rung.name)
        return None if stopping is None else stopping.rule_for(request)

    async def _answer(
        self, request: Request, rung: Rung, rule: StopRule
    ) -> AsyncGenerator[Chunk | Completion, None]:
        marks = self._stops[rung.name].marks
        draft = _Draft(self._inner, request, rung, marks=marks)
        converging = Converging(rule)
        found: Completion | None = None
        try:
            while found is None and await draft.think(rule.every_tokens):
                probed = await draft.probe()
                if probed is None:
                    continue
                if lines := draft.unshown():
                    yield Chunk(reasoning=lines)
                if converging.push(probe_of(probed, at_tokens=0, marks=marks)):
                    found = probed
        except EngineError as error:
            if error.unbilled:
                error.used = draft.usage
            raise
        done = draft.natural() if found is None else draft.stopped(found)
        rest = (done.reasoning or "").removeprefix(draft.shown)
        if rest or done.text:
            yield Chunk(reasoning=rest, text=done.text)
        yield done


class _Draft:
    """An answer on its way, all that it has used, and how much of its reasoning was shown."""

    def __init__(self, engine: Engine, request: Request, rung: Rung, *, marks: Marks) -> None:
        self._engine, self._request, self._rung, self._marks = engine, request, rung, marks
        limit = output_limit(request, rung)
        assert limit is not None, "rungs that stop early have a limit: see load_stopping"
        self._left = limit
        self._began_s = time.perf_counter()
        self._ttft_s: float | None = None
        self._written = ""
        self._cut = 0
        self._finish = Finish.LENGTH
        self.usage: Usage | None = None
        self.shown = ""

    async def think(self, tokens: int) -> bool:
        """Write so many tokens more; False when it ended by itself, or its answer has begun."""
        if await self._write(tokens):
            return False
        if self._marks.close not in self._written:
            return True
        await self._write(self._left)
        return False

    async def probe(self) -> Completion | None:
        """Ask for the answer after the last whole line; None without a new one."""
        end = max(line_ends(self._written, self._marks), default=0)
        if end == self._cut:
            return None
        self._cut = end
        probed = await probe(
            self._engine, self._request, self._rung, start=self._written[:end], marks=self._marks
        )
        self._count(probed)
        return probed

    def unshown(self) -> str:
        """Return the lines that are new since the last call, none while they may be the answer."""
        if not is_opened(self._written, self._marks):
            return ""
        before, self.shown = self.shown, shown(self._written[: self._cut], self._marks)
        return self.shown.removeprefix(before)

    def stopped(self, probed: Completion) -> Completion:
        """Close the answer with what a probe found."""
        reasoning = shown(self._written[: self._cut], self._marks)
        return self._completion(
            reasoning, probed.text, finish=probed.finish, logprobs=probed.logprobs
        )

    def natural(self) -> Completion:
        """Close the answer where it ended by itself; its log-probabilities cannot be told apart."""
        thought, text = parted(self._written, self._marks, finish=self._finish)
        return self._completion(shown(thought, self._marks), text, finish=self._finish)

    async def _write(self, tokens: int) -> bool:
        """Go on by at most so many tokens; True when nothing is left to write."""
        most = min(tokens, self._left)
        piece = await self._engine.extend(
            self._request, replace(self._rung, max_output_tokens=most), written=self._written
        )
        self._count(piece)
        self._written += piece.text
        self._left -= most
        self._finish = piece.finish
        return piece.finish is not Finish.LENGTH or not self._left or _is_short(piece, of=most)

    def _count(self, call: Completion) -> None:
        self.usage = call.usage if self.usage is None else self.usage + call.usage
        self._ttft_s = self._ttft_s or time.perf_counter() - self._began_s

    def _completion(
        self,
        reasoning: str,
        text: str,
        *,
        finish: Finish,
        logprobs: tuple[float, ...] | None = None,
    ) -> Completion:
        return Completion(
            text=text.strip(),
            finish=finish,
            usage=self.usage or Usage(),
            duration_s=time.perf_counter() - self._began_s,
            reasoning=reasoning or None,
            ttft_s=self._ttft_s,
            logprobs=logprobs,
            effort_seen=True if reasoning and self._rung.effort is not None else None,
        )


def check_stopping(rung: Rung) -> None:
    """Raise ConfigError for a rung that early stop does not fit."""
    if rung.max_output_tokens is None:
        raise ConfigError(
            f"rung {rung.name!r}: early stop needs max_output_tokens",
            hint="its answer is written in pieces, so suffice has to keep the limit",
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


def stopping_hash(rules: Mapping[str, StopRule], marks: Marks, rung: Rung) -> str:
    """Return the hash that a certificate names: of the rules, and of what the rung asks for."""
    asked = replace(rung, name="", engine="", price=None, vector=Vector.OUTPUT, early_stop=None)
    return content_hash([dict(rules), marks, asked])


async def probe(
    engine: Engine, request: Request, rung: Rung, *, start: str, marks: Marks
) -> Completion:
    """Close the reasoning after `start` and let the most probable answer be written."""
    greedy = {**rung.params, "temperature": 0, "logprobs": True}
    short = replace(rung, max_output_tokens=marks.probe_tokens, params=greedy)
    return await engine.extend(request, short, written=start + marks.close)


def probe_of(completion: Completion, *, at_tokens: int, marks: Marks) -> AnswerProbe:
    """Keep what a rule looks at of a probe; one that went on reasoning is no whole answer."""
    return AnswerProbe(
        at_tokens=at_tokens,
        input_tokens=_tokens(completion, "input_tokens"),
        output_tokens=_tokens(completion, "output_tokens"),
        answer=completion.text.strip(),
        whole=completion.finish is Finish.STOP and marks.close not in completion.text,
        mean_logprob=completion.mean_logprob,
    )


async def record(engine: Engine, request: Request, rung: Rung, *, marks: Marks) -> Trace:
    """Let a reasoning run to its own end, and probe its answer after each line; nothing is marked.

    Raises an EngineError where the engine cannot go on from a prefix or does not count tokens.
    """
    whole = await engine.extend(request, rung, written="")
    prompt_tokens = _tokens(whole, "input_tokens")
    output_tokens = _tokens(whole, "output_tokens")

    async def length(written: str) -> int:
        one = await engine.extend(request, replace(rung, max_output_tokens=1), written=written)
        return _tokens(one, "input_tokens") - prompt_tokens

    thought, closed, _ = whole.text.partition(marks.close)
    close_tokens = await length(marks.close)
    probes = []
    for end in line_ends(thought, marks):
        probed = await probe(engine, request, rung, start=thought[:end], marks=marks)
        at_tokens = _tokens(probed, "input_tokens") - prompt_tokens - close_tokens
        probes.append(probe_of(probed, at_tokens=at_tokens, marks=marks))
    return Trace(
        request_id=request.request_id,
        group=request.group,
        prompt_tokens=prompt_tokens,
        reasoning_tokens=await length(thought + marks.close) if closed else output_tokens,
        output_tokens=output_tokens,
        answer=parted(whole.text, marks, finish=whole.finish)[1].strip(),
        probes=tuple(probes),
    )


def shown(thought: str, marks: Marks) -> str:
    """Return reasoning without the tag that opens it."""
    return thought.lstrip().removeprefix(marks.opening) if marks.opening else thought


def is_opened(written: str, marks: Marks) -> bool:
    """Whether a text is known to begin with reasoning; without an opening tag all are."""
    return written.lstrip().startswith(marks.opening)


def parted(written: str, marks: Marks, *, finish: Finish) -> tuple[str, str]:
    """Part what a model wrote into its reasoning and its answer.

    What ended by itself, and was neither opened nor closed as reasoning, is an answer without any.
    """
    thought, closed, text = written.partition(marks.close)
    if not closed and finish is Finish.STOP and not is_opened(written, marks):
        return "", written
    return thought, text


def line_ends(thought: str, marks: Marks) -> list[int]:
    """Return where the lines of a reasoning end, from the first that is not blank.

    The start of a reasoning has those of the whole that lie in it, so a live answer is probed where
    the recorded one was.
    """
    begins = len(thought) - len(shown(thought, marks).lstrip())
    ends = (found.end() for found in re.finditer(re.escape(marks.boundary), thought))
    return [end for end in ends if end > begins]


def _is_short(piece: Completion, *, of: int) -> bool:
    """Whether a piece that was cut off is shorter than it might be: the model's context is full."""
    count = piece.usage.output_tokens
    return count is not None and count.source is CountSource.REPORTED and count.tokens < of


def _tokens(completion: Completion, field: str) -> int:
    count = getattr(completion.usage, field)
    if count is None:
        raise EngineProtocolError(
            f"the engine does not count {field}", hint="early stop needs an engine that does"
        )
    return int(count.tokens)
