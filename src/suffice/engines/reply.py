"""Reads what servers answer: whole replies and stream events alike, whatever their dialect."""

import math
import re
import time
from typing import Any

import msgspec

from suffice.engines.calls import ToolCalls
from suffice.engines.chunk import Chunk
from suffice.engines.finishes import FAILURES, finish_of, shown_finish
from suffice.engines.refusals import error_in
from suffice.engines.stream import InlineReasoning
from suffice.engines.usage import openai_usage, read_usage, usage_in
from suffice.errors import EngineError, EngineProtocolError
from suffice.types import JSON, Effort, Finish, Rung, Usage

# Fields of a message that hold what a model thought: of most, of open engines, Copilot, Ollama.
REASONING = ("reasoning", "reasoning_content", "reasoning_text", "thinking")
# Kinds of the parts that a content may have: of most, of Databricks, and citations of Mistral.
_TEXT_PARTS = ("text", "output_text")
_THOUGHT_PARTS = ("thinking", "reasoning")
_REFERENCE = "reference"
_LATEST_S = 10**11  # what is later is told in milliseconds
_SLIGHT = {Effort.MINIMAL, Effort.LOW}  # a model may rightly not think at all on these


class ReplyChoice:
    """One of the answers of a reply while it is being put together."""

    def __init__(self, sample: int, *, forced: bool) -> None:
        self._forced = forced
        self.finish: Finish | None = None
        self.told_finish: str | None = None
        self.failed = False
        self._sample = sample
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls = ToolCalls()
        self._logprobs: list[float] | None = []
        self._inline: InlineReasoning | None = InlineReasoning()

    def add(self, part: JSON, *, whole: bool = False) -> Chunk:
        """Take a `whole` message, or a delta of one, and return what is new in it."""
        reasoning, text = texts_of(part)
        if self._inline is not None and reasoning:  # the server parts them itself
            text, self._inline = self._inline.flush()[1] + text, None
        elif self._inline is not None:
            reasoning, text = self._inline.feed(text)
        calls = part.get("tool_calls") or []
        calls = [calls] if isinstance(calls, dict) else calls  # TGI
        ready = self._calls.add_whole(calls) if whole else self._calls.add(calls)
        return self._grow(text, reasoning, calls=tuple(ready))

    def add_logprobs(self, entries: list[JSON]) -> None:
        """Take the log-probabilities of the next tokens, in the OpenAI form.

        Some servers write null for minus infinity; then none of the answer's are known.
        """
        for entry in entries:
            logprob = entry.get("logprob")
            if logprob is None or not math.isfinite(logprob):
                self._logprobs = None
            elif self._logprobs is not None:
                self._logprobs.append(float(logprob))

    def end(self, reason: str) -> Chunk:
        """Take the reason to finish and return what was held back until now."""
        self.failed = reason.lower() in FAILURES
        self.told_finish = shown_finish(reason, called=bool(self._calls.calls), forced=self._forced)
        self.finish = finish_of(reason)
        reasoning, text = self._inline.flush() if self._inline else ("", "")
        return self._grow(text, reasoning)

    def split_unopened(self) -> None:
        """Part the answer at a lone `</think>`, left by a template that opens the block itself.

        Only for answers that were asked to think; elsewhere the tag may be part of the text.
        """
        before, tag, after = self.text.partition("</think>")
        if tag and not self.reasoning:
            self._reasoning, self._text = [before], [after]

    @property
    def text(self) -> str:
        """The answer, without the reasoning."""
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        """The reasoning that was shown; empty where there was none."""
        return "".join(self._reasoning)

    @property
    def tool_calls(self) -> tuple[JSON, ...]:
        """The complete tool calls, in order."""
        return self._calls.calls

    @property
    def logprobs(self) -> tuple[float, ...] | None:
        """Log-probabilities of all tokens that the server told, shown reasoning included.

        A slip in the reasoning shows there; the answer that follows from it is then sure of itself.
        """
        return tuple(self._logprobs or ()) or None

    @property
    def written(self) -> str:
        """Everything that the model wrote: reasoning, text and the calls of tools."""
        called = [call.get("function") or call["custom"] for call in self.tool_calls]
        calls = [one["name"] + (one.get("arguments") or one.get("input", "")) for one in called]
        return "".join([self.reasoning, self.text, *calls])

    def _grow(self, text: str, reasoning: str, *, calls: tuple[JSON, ...] = ()) -> Chunk:
        self._text.append(text)
        self._reasoning.append(reasoning)
        return Chunk(text=text, reasoning=reasoning, tool_calls=calls, sample=self._sample)


class Reply:
    """A reply while it is being read: feed it the one whole reply, or every event of a stream.

    `prefill` is the start of the answer that the request gave and that a whole reply repeats. Where
    a call was `forced`, its reason to finish may be `stop`.
    """

    def __init__(self, *, prefill: str = "", forced: bool = True) -> None:
        self._forced = forced
        self.usage: object = None
        self.service_tier: object = None
        self.model: str | None = None
        self._prefill = prefill
        self._choices: dict[int, ReplyChoice] = {}

    def add(self, event: object) -> list[Chunk]:
        """Take a decoded JSON value; raises EngineRefused or EngineProtocolError."""
        try:
            return self._add(event)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EngineProtocolError(
                f"the engine sent what is no chat completion: {str(event)[:200]}",
                hint="does the engine's url end where its OpenAI API begins, mostly in /v1?",
            ) from error

    @property
    def finished(self) -> bool:
        """Whether there is an answer, and every answer said why it ended."""
        return bool(self._choices) and all(c.finish for c in self._choices.values())

    @property
    def choices(self) -> list[ReplyChoice]:
        """The answers in the order of their index."""
        return [choice for _, choice in sorted(self._choices.items())]

    def cleaned(self, body: JSON, *, usage: Usage) -> JSON:
        """Return the one whole reply as clients of the OpenAI API expect it.

        Calls are complete, counts and reasons to finish are under OpenAI's names; the rest stays as
        the engine sent it.
        """
        choices = [
            _cleaned(choice, read, index=index)
            for choice, (index, read) in zip(body["choices"], self._choices.items(), strict=True)
        ]
        fields: JSON = {"choices": choices}
        fields |= odd_head(body)
        if self.model:
            fields["model"] = self.model
        if counts := openai_usage(usage, body.get("usage")):
            fields["usage"] = counts
        return {**body, **fields}

    def _add(self, event: object) -> list[Chunk]:
        if not isinstance(event, dict):
            raise TypeError
        error = error_in(event)
        if error is not None:
            raise error
        self.usage = usage_in(event) or self.usage
        self.service_tier = event.get("service_tier") or self.service_tier
        model = event.get("model")
        self.model = (shown_model(model) if isinstance(model, str) else None) or self.model
        chunks = []
        for position, item in enumerate(event.get("choices") or ()):
            index = item.get("index")
            chunks += self._add_choice(item, sample=position if index is None else int(index))
        return chunks

    def _add_choice(self, item: JSON, *, sample: int) -> list[Chunk]:
        choice = self._choices.get(sample)
        if choice is None:
            choice = self._choices[sample] = ReplyChoice(sample, forced=self._forced)
        if item.get("error") and (error := error_in({"error": item["error"]})) is not None:
            error.used = read_usage(self.usage, reasoning="") if self.usage else None
            raise error  # OpenRouter
        part = part_of(item)
        if self._prefill and isinstance(part.get("content"), str) and "message" in item:
            part = {**part, "content": part["content"].removeprefix(self._prefill)}
        if item.get("logprobs"):
            choice.add_logprobs(item["logprobs"].get("content") or [])
        chunks = [choice.add(part, whole="message" in item)]
        reason = item.get("finish_reason")
        if reason or (reason == "" and "message" in item):  # a whole answer, without a word on it
            chunks.append(choice.end(reason or "stop"))
        return [chunk for chunk in chunks if chunk.text or chunk.reasoning or chunk.tool_calls]


def _cleaned(choice: JSON, read: ReplyChoice, *, index: int) -> JSON:
    """Return a whole choice as strict clients read it."""
    message = part_of(choice)
    if read.tool_calls and "tool_calls" in message:
        message = {**message, "tool_calls": list(read.tool_calls)}
    if "message" not in choice or message.get("role") not in (None, "assistant"):
        message = {**message, "role": "assistant"}
    message = _with_fields(message, plain_content(message))
    rest = {name: value for name, value in choice.items() if name != "delta"}
    return {**rest, "index": index, "message": message, "finish_reason": read.told_finish}


def _with_fields(message: JSON, fields: JSON) -> JSON:
    """Set fields of a message; those that are empty are left out, but for the content."""
    return {**message, **{n: v for n, v in fields.items() if v or n == "content"}}


def part_of(choice: JSON) -> JSON:
    """Return the message or delta of a choice; some servers write a bare text there."""
    part = choice.get("delta") or choice.get("message") or {}
    text = choice.get("text")
    return {"content": text} if not part and text and isinstance(text, str) else part


def odd_head(fields: JSON) -> JSON:
    """Return the id and the time of a reply as strict clients read them, if they are written else.

    The id is a text, the time whole seconds; SambaNova tells a decimal, mistral.rs milliseconds.
    """
    told_id, created = fields.get("id"), fields.get("created")
    head: JSON = {}
    if told_id is not None and not isinstance(told_id, str):
        head["id"] = str(told_id)
    if not isinstance(created, int | float) or not math.isfinite(created):
        head |= {} if created is None else {"created": int(time.time())}
    elif isinstance(created, float) or created > _LATEST_S:
        head["created"] = int(created // 1000 if created > _LATEST_S else created)
    return head


def as_events(body: object) -> bytes:
    """Write a whole reply as the one event of a stream."""
    if not isinstance(body, dict) or not isinstance(body.get("choices"), list):
        raise EngineProtocolError(
            f"the engine sent what is no chat completion: {str(body)[:200]}",
            hint="does the engine's url end where its OpenAI API begins, mostly in /v1?",
        )
    event = {**body, "object": "chat.completion.chunk"}
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def shortcoming(reply: Reply, *, url: str) -> EngineError | None:
    """Return the error of a reply that is no whole answer; None for one that is."""
    if any(choice.failed for choice in reply.choices):
        return EngineError(
            "the engine ended the answer with an error", hint="see its log", retryable=True
        )
    if reply.finished:
        return None
    if not reply.choices and reply.usage:
        return EngineProtocolError(
            f"{url} used tokens and gave no answer",
            hint="did it filter the prompt or the answer? its log says",
        )
    return EngineProtocolError(
        f"{url} ended its answer without saying why it stopped",
        hint="the answer is cut off: the server, or a proxy before it, broke the stream",
        retryable=True,
    )


def effort_seen(
    rung: Rung, usage: Usage, *, reasoning: str, shows_reasoning: bool, samples: int
) -> bool | None:
    """Say what a reply of some samples proves about a rung's effort; see `Completion.effort_seen`.

    A budget counts as ignored when passed by a quarter and 32 tokens: engines let a sentence end.
    """
    count = usage.reasoning_tokens
    thought = bool(reasoning) or (count is not None and count.tokens > 0)
    certain = thought or count is not None or shows_reasoning
    if rung.effort is None or not certain:
        return None
    if rung.effort is Effort.NONE:
        return not thought
    if not thought:
        return None if rung.effort in _SLIGHT else False
    budget = rung.thinking_budget_tokens
    return budget is None or count is None or count.tokens <= samples * (1.25 * budget + 32)


def texts_of(part: JSON) -> tuple[str, str]:
    """Read (reasoning, text) of a message or delta from wherever an engine puts them."""
    told = (part.get(name) for name in REASONING)
    reasoning = next((text for text in told if text and isinstance(text, str)), "")
    details = part.get("reasoning_details")
    if not reasoning and isinstance(details, list):  # OpenRouter, MiniMax
        reasoning = "".join(_detail_text(detail) for detail in details)
    content = part.get("content") or part.get("refusal") or ""
    if isinstance(content, str):
        return reasoning, content
    thoughts = [_words(one) for one in content if one.get("type") in _THOUGHT_PARTS]
    texts = [_words(one) for one in content if one.get("type") in _TEXT_PARTS]
    return reasoning + "".join(thoughts), "".join(texts)


def plain_content(part: JSON) -> JSON:
    """Return what stands in place of a content that is a list of texts and thoughts (Mistral).

    Nothing where it is another, or holds more. Clients of the OpenAI API read texts alone.
    """
    content = part.get("content")
    known = (*_TEXT_PARTS, *_THOUGHT_PARTS, _REFERENCE)
    if not isinstance(content, list) or any(one.get("type") not in known for one in content):
        return {}
    reasoning, text = texts_of(part)
    references = [one for one in content if one["type"] == _REFERENCE]
    fields = {"content": text, "references": references}
    return fields if any(map(part.get, REASONING)) else {**fields, "reasoning_content": reasoning}


def _detail_text(detail: object) -> str:
    table = detail if isinstance(detail, dict) else {}
    text = table.get("text") or table.get("summary")
    return text if isinstance(text, str) else ""


def _words(value: Any) -> str:
    """Read the words of a part, which some vendors nest once more."""
    if isinstance(value, list):
        return "".join(map(_words, value))
    if isinstance(value, dict):
        names = ("text", "thinking", "summary")
        return _words(next((value[name] for name in names if value.get(name)), ""))
    return value if isinstance(value, str) else ""


def shown_model(name: str) -> str:
    """Return the last part of a model's name that is a path: llama.cpp and vLLM show theirs."""
    is_path = name.startswith(("/", "./", "~")) or name.endswith(".gguf") or name[1:3] == ":\\"
    return re.split(r"[/\\]", name)[-1] if is_path else name
