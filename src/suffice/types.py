"""The frozen values that flow through suffice: request, rung, completion, usage, charge, trial."""

from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import Any

from msgspec import Struct

JSON = dict[str, Any]
Say = Callable[[str], None]  # is told the name of each stage of long work as it begins

ASKED_TIER = " (asked)"  # ends a service tier that was asked for and not named in the answer


class Effort(StrEnum):
    """How much reasoning a request asks for; every engine dialect maps it to its own parameter."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


class CountSource(StrEnum):
    """How a token count is known."""

    REPORTED = "reported"  # the engine said so
    COUNTED = "counted"  # we counted the very text with the model's own tokenizer
    ESTIMATED = "estimated"  # a guess from characters or stream chunks


class Finish(StrEnum):
    """Why generation ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    CANCELLED = "cancelled"
    OTHER = "other"  # the engine gave a reason that is not known here
    ABSTAINED = "abstained"  # a rung that may decline a request gave no answer


class Vector(StrEnum):
    """Which of the cost factors saved the difference on a request."""

    PARADIGM = "paradigm"  # answered or held without decoding
    OUTPUT = "output"  # fewer tokens from the same model
    ARCHITECTURE = "architecture"  # a model that costs less per token
    SILICON = "silicon"  # the same model on a cheaper deployment
    NONE = "none"  # the reference answered


class Count(Struct, frozen=True, gc=False):
    """A number of tokens together with how it is known."""

    tokens: int
    source: CountSource

    def __add__(self, other: "Count") -> "Count":
        """Add two counts; the sum is only as well known as the worse of the two."""
        worse = max(self.source, other.source, key=list(CountSource).index)
        return Count(self.tokens + other.tokens, worse)


class Usage(Struct, frozen=True, kw_only=True, gc=False):
    """Tokens of one engine call; None where the engine said nothing and nothing was counted.

    `input_tokens` includes cache reads and writes; `output_tokens` includes `reasoning_tokens`.
    `kinds` counts what may have a price of its own: parts of those by their kind, such as
    `input_audio_tokens` or `cache_write_1h_tokens`, and calls of tools that the engine runs, such
    as `web_searches`; the names are those of genai-prices. `service_tier` is what the engine says
    that it served, `stated_usd` what it says that the call cost.
    """

    input_tokens: Count | None = None
    cache_read_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    output_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    kinds: dict[str, Count] = {}
    service_tier: str | None = None
    stated_usd: Decimal | None = None

    def __add__(self, other: "Usage") -> "Usage":
        """Add field by field; a sum with an unknown part is unknown."""
        sums: JSON = {
            name: None if mine is None or theirs is None else mine + theirs
            for name in self.__struct_fields__
            if name not in ("kinds", "service_tier")
            for mine, theirs in [(getattr(self, name), getattr(other, name))]
        }
        nothing = Count(0, CountSource.REPORTED)
        kinds = {
            name: self.kinds.get(name, nothing) + other.kinds.get(name, nothing)
            for name in {**self.kinds, **other.kinds}
        }
        tier = self.service_tier if self.service_tier == other.service_tier else None
        return Usage(**sums, kinds=kinds, service_tier=tier)


NO_TOKENS = Usage(
    input_tokens=Count(0, CountSource.COUNTED), output_tokens=Count(0, CountSource.COUNTED)
)


class NativeBody(Struct, frozen=True, kw_only=True):
    """The body of a Messages request, for engines that speak this API too: nothing is translated.

    `betas` is the client's header `anthropic-beta`.
    """

    body: JSON
    betas: str | None = None


class Request(Struct, frozen=True, kw_only=True):
    """One chat request: `messages` in the OpenAI form; `params` reach the engine as they are.

    `native` is what it was before it was translated; None where it was a chat request.
    `custom_tools` are the tools of a client of the Responses API that take free text, as it sent
    them: `params` hold a function of one text for each, of the name that they have here.
    """

    request_id: str
    messages: tuple[JSON, ...]
    group: str | None = None
    params: JSON = {}
    native: NativeBody | None = None
    custom_tools: dict[str, JSON] = {}

    @property
    def text(self) -> str:
        """The text of all messages but the assistant's, in order, for features."""
        parts = [m.get("content") for m in self.messages if m.get("role") != "assistant"]
        return "\n\n".join(_content_text(part) for part in parts if part)


class Rung(Struct, frozen=True, kw_only=True):
    """One way to answer: an engine, a model, an effort and a budget.

    name: what the rung is called in trials, answers and books
    engine: name of its engine
    model: model name as the engine knows it
    effort: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`
    max_output_tokens: cap on generated tokens, reasoning included
    thinking_budget_tokens: cap on reasoning tokens, where the engine has one
    price: name of a `[price.NAME]` section; without one every charge of this rung is unknown
    vector: which factor this rung saves by: `paradigm`, `output`, `architecture`, `silicon`,
      `none`; a rung of a `latent` engine by `paradigm`
    early_stop: folder that `suffice latent stop` wrote: ends this rung's reasoning
      [early](latent.md#early-stop-of-reasoning)
    params: further request fields, sent as they are
    """

    name: str
    engine: str
    model: str
    effort: Effort | None = None
    max_output_tokens: int | None = None
    thinking_budget_tokens: int | None = None
    price: str | None = None
    vector: Vector = Vector.OUTPUT
    early_stop: str | None = None
    params: JSON = {}


class Signals(Struct, frozen=True, kw_only=True, gc=False):
    """What a policy may look at of an answer; everything may be missing.

    `reasoning` is what the engine showed of it; `samples` are further answers of the same call.
    `check` says whether it passed the operator's own checks; None where they gave no verdict.
    """

    answer: str | None = None
    reasoning: str | None = None
    finish: Finish | None = None
    mean_logprob: float | None = None
    samples: tuple[str, ...] = ()
    check: bool | None = None

    @property
    def abstained(self) -> bool:
        """Whether the rung declined: there is no answer that could be kept."""
        return self.finish is Finish.ABSTAINED


class Generation(Signals, frozen=True, kw_only=True, gc=False):
    """Everything that is kept of one call: what it gave, what it used, how long it took.

    Trials, attempts and the ledger's rows carry all of these fields: a new one needs a line here, a
    line in the engine that reads it, and a column of the ledger.
    """

    usage: Usage = Usage()
    duration_s: float | None = None
    ttft_s: float | None = None
    effort_seen: bool | None = None
    error: str | None = None

    @property
    def signals(self) -> Signals:
        """What a policy may look at, and nothing else."""
        return Signals(**_fields(self, Signals))

    @property
    def generation_fields(self) -> JSON:
        """The fields of a generation by name, for a value that carries them."""
        return _fields(self, Generation)


class Completion(Struct, frozen=True, kw_only=True):
    """What an engine gave back for one request.

    `reasoning` is None when the engine did not show it; `logprobs` are natural logarithms, one a
    token of the answer and of what reasoning was shown, None when not given; `samples` are further
    answers drawn by the same call.
    `effort_seen` is what the reply itself proves about effort: True (reasoning present when asked
    for, absent for `none`), False (the engine ignored it), None (nothing in the reply tells).
    `wire` is the JSON that a server sent: the whole reply, or the event of a stream that holds the
    usage; None where there is no server. `check` is the verdict of the operator's checks, once they
    have looked at it.
    """

    text: str
    finish: Finish
    usage: Usage
    duration_s: float
    reasoning: str | None = None
    ttft_s: float | None = None
    logprobs: tuple[float, ...] | None = None
    tool_calls: tuple[JSON, ...] = ()
    samples: tuple[str, ...] = ()
    effort_seen: bool | None = None
    model: str | None = None
    wire: bytes | None = None
    check: bool | None = None

    @property
    def mean_logprob(self) -> float | None:
        """The mean of `logprobs`, or None when there are none."""
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else None

    @property
    def generation(self) -> Generation:
        """What is kept of this call."""
        shared = {
            name: getattr(self, name)
            for name in Generation.__struct_fields__
            if hasattr(self, name)
        }
        if self.tool_calls and self.finish is Finish.STOP:  # so some engines end a forced call
            shared["finish"] = Finish.TOOL_CALLS
        return Generation(answer=self.text, **shared)


class Charge(Struct, frozen=True, kw_only=True, gc=False):
    """What a call cost: `usd` is None when the price or a needed count is unknown, never 0.

    `estimated` is True when any count or rate behind it is an estimate.
    """

    usd: Decimal | None
    estimated: bool = False
    price: str | None = None

    def __add__(self, other: "Charge") -> "Charge":
        """Add two charges; a sum with an unknown part is unknown."""
        known = self.usd is not None and other.usd is not None
        return Charge(
            usd=self.usd + other.usd if known else None,  # type: ignore[operator]
            estimated=self.estimated or other.estimated,
            price=self.price if self.price == other.price else None,
        )


class Spend(Struct, frozen=True, kw_only=True):
    """A sum of amounts that keeps apart what is reported, estimated and unknown.

    The `_count` fields say how many amounts went into each part; unknown ones add no dollars.
    """

    reported_usd: Decimal = Decimal(0)
    estimated_usd: Decimal = Decimal(0)
    reported_count: int = 0
    estimated_count: int = 0
    unknown_count: int = 0

    @property
    def known_usd(self) -> Decimal:
        """What is reported and estimated together; `unknown_count` amounts come on top."""
        return self.reported_usd + self.estimated_usd

    @property
    def usd(self) -> Decimal | None:
        """Everything together, or None when any amount in it is unknown."""
        return None if self.unknown_count else self.known_usd

    def __add__(self, other: "Spend") -> "Spend":
        """Add part by part; nothing moves between the parts."""
        return Spend(
            **{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__}
        )


class TrialStatus(StrEnum):
    """Whether a trial carries a quality."""

    SCORED = "scored"
    UNSCORED = "unscored"  # an answer exists but no scorer could judge it
    FAILED = "failed"  # the engine gave no answer


class ZeroCost(StrEnum):
    """What a cost of exactly 0 dollars in somebody's trials means."""

    FREE = "free"
    UNKNOWN = "unknown"


class Trial(Generation, frozen=True, gc=False):
    """One request answered by one rung: quality in [0, 1], None unless scored; cost; signals.

    `scorer` names what gave the quality, None where that is not known. `output_words` serves where
    a log has no tokens. `retryable` says that running it again may give what is missing. `run`
    tells repeated runs of one request on one rung apart. `cluster` names the conversation, session,
    stream or task that the request belongs to: requests of one cluster are not independent.
    `check_usd` and `check_s` are what the checks of the answer cost and took; `charge_usd` includes
    the first.
    """

    request_id: str
    rung: str
    status: TrialStatus
    text: str
    group: str | None = None
    quality: float | None = None
    scorer: str | None = None
    output_words: int | None = None
    charge_usd: Decimal | None = None
    charge_estimated: bool = False
    retryable: bool = False
    run: str | None = None
    cluster: str | None = None
    check_usd: Decimal | None = None
    check_s: float | None = None


def _fields(value: Struct, kind: type[Struct]) -> JSON:
    return {name: getattr(value, name) for name in kind.__struct_fields__}


def _content_text(content: object) -> str:
    """Read the text of an OpenAI message content: a string, or a list of typed parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(
            p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str)
        )
    return ""


_BYTES_PER_TOKEN = 4


def estimated(text: str) -> Count:
    """Guess the tokens of a text from its length, four bytes of UTF-8 each."""
    return Count(-(-len(text.encode()) // _BYTES_PER_TOKEN), CountSource.ESTIMATED)
