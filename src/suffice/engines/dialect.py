"""What one kind of server takes: the values that stand in the table of servers."""

from typing import Literal

from msgspec import Struct

from suffice.config import DialectName
from suffice.types import Effort

Path = tuple[str, ...]  # of a field in the JSON of a request


class Switch(Struct, frozen=True):
    """A field that turns thinking on or off, and its two values."""

    path: Path
    on: object = True
    off: object = False


class Dialect(Struct, frozen=True, kw_only=True):
    """How one kind of server differs from the others."""

    name: DialectName

    # Effort. `effort` is None where there are switches alone; `levels` is None for all efforts.
    effort: Path | None = ("reasoning_effort",)
    levels: tuple[Effort, ...] | None = None
    switches: tuple[Switch, ...] = ()
    switches_none: bool = False  # the switches alone tell the effort `none`
    budget: Path | None = None  # the largest number of reasoning tokens
    budget_or_effort: bool = False  # the server takes one of the two
    thinkers: str | None = None  # a pattern of models that think unless they are told not to
    fixed_sampling: bool = False  # a model that can think takes no temperature and the like
    forces_calls: Literal["always", "unless_thinking", "never"] = "always"  # by `tool_choice`
    holds_schemas: bool = True  # `response_format` may be a schema
    names_calls: bool = True  # `tool_choice` may name a tool

    # Fields of a request.
    limits: tuple[str, ...] = ("max_completion_tokens",)  # names of the limit of tokens
    renames: dict[str, str] = {}
    refuses: frozenset[str] = frozenset()
    asks_for_usage: bool = True  # a stream tells its usage only if it is asked for
    compiles_tools: bool = False  # into a grammar, which cannot express every schema
    refuses_marks: bool = False  # `cache_control` is an unknown field
    caches: bool = False  # `cache_control` says where the prompt is cached

    # Messages.
    one_system: bool = True  # templates may take one system message alone, at the beginning
    plain_text: bool = False  # no list of texts in place of a text
    call_ids: Literal["any", "short", "nine"] = "any"  # 40 characters; nine letters or digits
    strict_messages: bool = False  # refuses thoughts, and whatever only a reply may hold
    wanted: frozenset[str] = frozenset()  # what a strict server does want back
    signs: Literal["calls", "details"] | None = None  # where Gemini's signatures of calls stand
    wants_names: bool = False  # refuses a result without the name of its tool
    wants_thoughts: bool = False  # refuses a turn of the assistant without a thought
    bridges_results: bool = False  # refuses a user directly after a tool

    # Replies.
    shows_reasoning: bool = True  # a reply holds all the reasoning there was
    thoughts_in_total: bool = False  # no count but the total holds the tokens of thoughts
    echoes_prefill: bool = False  # a whole reply repeats the start that the request gave
    counts_one_sample: bool = False  # the usage is that of one of several answers

    # Other routes. Laying out a chat as a prompt serves to go on from the start of an answer.
    tokenizes: Literal["prompt", "content"] | None = None  # the field of POST /tokenize
    renders: Literal["apply-template", "tokenize"] | None = None
