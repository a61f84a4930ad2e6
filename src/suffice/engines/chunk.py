"""Pieces of an answer while it arrives."""

from collections.abc import AsyncGenerator, Callable

from msgspec import Struct

from suffice.types import JSON, Completion, Usage


class Chunk(Struct, frozen=True, kw_only=True):
    """A piece of an answer as it arrives; `sample` is the choice that it belongs to, 0 the first.

    `tool_calls` are OpenAI tool-call deltas as the engine sent them. Reasoning that a server leaves
    in its text with a closing tag alone is text here; only the Completion parts it.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[JSON, ...] = ()
    sample: int = 0


class Relay(Struct, frozen=True, kw_only=True):
    """A stream to be passed on in the OpenAI form: bytes of whole events, then the Completion.

    The events leave out the usage and [DONE]. `used` tells what the call is known to have used so
    far, for one that is given up. Close `items` to stop the engine.
    """

    items: AsyncGenerator[bytes | Completion, None]
    used: Callable[[], Usage]
