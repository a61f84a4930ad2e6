"""Reads what servers answer: whole replies and stream events alike, whatever their dialect."""

import msgspec

from suffice.engines.chunk import Chunk
from suffice.engines.stream import InlineReasoning
from suffice.errors import EngineError, EngineProtocolError, EngineRefused
from suffice.types import JSON, Count, CountSource, Effort, Finish, Request, Rung, Usage, estimated

FINISHES = {
    "stop": Finish.STOP,
    "length": Finish.LENGTH,
    "model_length": Finish.LENGTH,  # Mistral: the context is full
    "tool_calls": Finish.TOOL_CALLS,
    "function_call": Finish.TOOL_CALLS,
    "content_filter": Finish.CONTENT_FILTER,
    "abort": Finish.CANCELLED,  # vLLM, SGLang
}
_SLIGHT = {Effort.MINIMAL, Effort.LOW}  # a model may rightly not think at all on these
_MOST_TOKENS = 10**9  # of one call; more is a mistake, and would cost more than the books can hold


class ReplyChoice:
    """One of the answers of a reply while it is being put together."""

    def __init__(self, sample: int) -> None:
        self.finish: Finish | None = None
        self._sample = sample
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, JSON] = {}
        self._logprobs: list[float] = []
        self._inline: InlineReasoning | None = InlineReasoning()

    def add(self, part: JSON) -> Chunk:
        """Take a message, or a delta of one, and return what is new in it."""
        reasoning, text = texts_of(part)
        if self._inline is not None and reasoning:  # the server parts them itself
            text, self._inline = self._inline.flush()[1] + text, None
        elif self._inline is not None:
            reasoning, text = self._inline.feed(text)
        calls = tuple(part.get("tool_calls") or ())
        for position, call in enumerate(calls):
            self._add_call(call, position=position)
        return self._grow(text, reasoning, calls=calls)

    def add_logprobs(self, entries: list[JSON]) -> None:
        """Take the log-probabilities of the next tokens, in the OpenAI form."""
        self._logprobs += [float(entry["logprob"]) for entry in entries]

    def end(self, finish: str) -> Chunk:
        """Take the reason to finish and return what was held back until now."""
        if finish == "error":
            raise EngineError(
                "the engine ended the answer with an error", hint="see its log", retryable=True
            )
        if finish not in FINISHES:
            raise EngineProtocolError(
                f"the engine ended the answer for an unknown reason, {finish!r}",
                hint=f"known reasons: {', '.join(FINISHES)}",
            )
        self.finish = FINISHES[finish]
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
        """The tool calls, put together from their deltas, in order."""
        return tuple(call for _, call in sorted(self._calls.items()))

    @property
    def logprobs(self) -> tuple[float, ...] | None:
        """Log-probabilities of all tokens that the server told, shown reasoning included.

        A slip in the reasoning shows there; the answer that follows from it is then sure of itself.
        """
        return tuple(self._logprobs) or None

    @property
    def written(self) -> str:
        """Everything that the model wrote: reasoning, text and the calls of tools."""
        calls = (msgspec.json.encode(call.get("function")).decode() for call in self.tool_calls)
        return "".join([self.reasoning, self.text, *calls])

    def _grow(self, text: str, reasoning: str, *, calls: tuple[JSON, ...] = ()) -> Chunk:
        self._text.append(text)
        self._reasoning.append(reasoning)
        return Chunk(text=text, reasoning=reasoning, tool_calls=calls, sample=self._sample)

    def _add_call(self, call: JSON, *, position: int) -> None:
        index = call.get("index")
        known = self._calls.setdefault(
            position if index is None else int(index), {"function": {"name": "", "arguments": ""}}
        )
        known |= {k: v for k, v in call.items() if k not in ("index", "function") and v is not None}
        function = call.get("function") or {}
        known["function"]["name"] += function.get("name") or ""
        known["function"]["arguments"] += arguments_of(function)


class Reply:
    """A reply while it is being read: feed it the one whole reply, or every event of a stream.

    `prefill` is the start of the answer that the request gave and that a whole reply repeats.
    """

    def __init__(self, *, prefill: str = "") -> None:
        self.usage: object = None
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

    def _add(self, event: object) -> list[Chunk]:
        if not isinstance(event, dict):
            raise TypeError
        if event.get("error") or event.get("object") == "error":
            raise _refusal(event)
        self.usage = event.get("usage") or self.usage
        self.model = _string(event.get("model")) or self.model
        chunks = []
        for position, item in enumerate(event.get("choices") or ()):
            chunks += self._add_choice(item, sample=int(item.get("index", position)))
        return chunks

    def _add_choice(self, item: JSON, *, sample: int) -> list[Chunk]:
        choice = self._choices.get(sample)
        if choice is None:
            choice = self._choices[sample] = ReplyChoice(sample)
        part = item.get("delta") or item.get("message") or {}
        if self._prefill and isinstance(part.get("content"), str) and "message" in item:
            part = {**part, "content": part["content"].removeprefix(self._prefill)}
        if item.get("logprobs"):
            choice.add_logprobs(item["logprobs"].get("content") or [])
        chunks = [choice.add(part)]
        if item.get("finish_reason"):
            chunks.append(choice.end(item["finish_reason"]))
        return [chunk for chunk in chunks if chunk.text or chunk.reasoning or chunk.tool_calls]


def read_usage(raw: object, *, reasoning: str) -> Usage:
    """Read the counts that a server reports; absent ones are None.

    A reported 0 beside visible reasoning is not believed: SGLang says it without a parser.
    """
    usage = _table(raw)
    read = _table(usage.get("prompt_tokens_details"))
    written = _table(usage.get("completion_tokens_details"))
    thought = _count(written, "reasoning_tokens") or _count(usage, "reasoning_tokens")
    if reasoning and thought is not None and thought.tokens == 0:
        thought = None
    return Usage(
        input_tokens=_count(usage, "prompt_tokens"),
        cache_read_tokens=_count(read, "cached_tokens"),
        cache_write_tokens=(
            _count(read, "cache_write_tokens") or _count(read, "created_cache_tokens")
        ),
        output_tokens=_count(usage, "completion_tokens"),
        reasoning_tokens=thought,
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
    reasoning = _string(part.get("reasoning") or part.get("reasoning_content"))
    content = part.get("content") or part.get("refusal") or ""
    if isinstance(content, str):
        return reasoning, content
    return reasoning + _joined(content, "thinking"), _joined(content, "text")


def arguments_of(function: JSON) -> str:
    """Read the arguments of a called function as text; some engines send the object itself."""
    arguments = function.get("arguments") or ""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def _string(value: object) -> str:
    """Take a string, or nothing for an empty one; raises TypeError for the rest."""
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError(f"{value!r} is no text")


def _table(value: object) -> JSON:
    return value if isinstance(value, dict) else {}


def _joined(parts: list[JSON], kind: str) -> str:
    """Join the parts of one kind; Mistral nests text parts once more inside thinking."""
    texts = [part[kind] for part in parts if part.get("type") == kind]
    return "".join(text if isinstance(text, str) else _joined(text, "text") for text in texts)


def _count(counts: JSON, field: str) -> Count | None:
    tokens = counts.get(field)
    if not isinstance(tokens, int) or isinstance(tokens, bool) or not 0 <= tokens <= _MOST_TOKENS:
        return None
    return Count(tokens, CountSource.REPORTED)


def _refusal(event: JSON) -> EngineRefused:
    error = event.get("error")
    detail = error if isinstance(error, dict) else event
    code = detail.get("code")
    status = code if isinstance(code, int) else 500
    return EngineRefused(
        f"the engine broke off with an error: {detail.get('message') or error}",
        status=status,
        body=str(event)[:500],
        hint="see the engine's log",
        retryable=status >= 500,
    )


def estimated_input(request: Request) -> Count | None:
    """Guess the tokens of the messages; None where there is more to them than text."""
    contents = [message.get("content") or "" for message in request.messages]
    if not all(isinstance(content, str) for content in contents):
        return None
    return estimated("".join(contents))
