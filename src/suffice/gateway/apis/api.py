"""The APIs beside chat completions: how each is read, written, and told of errors."""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from suffice.gateway.apis.compaction import CompactionWriter, chat_of_compaction
from suffice.gateway.apis.messages_native import MessageRelay, native_of, outline_of_message
from suffice.gateway.apis.messages_reply import message_error
from suffice.gateway.apis.messages_request import Translated, chat_of_message
from suffice.gateway.apis.responses_reply import ResponseWriter
from suffice.gateway.apis.responses_request import chat_of_response
from suffice.gateway.exchange import COMMENT
from suffice.types import JSON

PING = b'event: ping\ndata: {"type": "ping"}\n\n'  # Claude Code waits for events, not for comments


class Writer(Protocol):
    """Writes an answer as it comes; every method but `result` returns events, each with a type.

    What is bytes is written already.
    """

    def feed(self, chunk: JSON) -> Sequence[JSON | bytes]:
        """Take a chunk, or the one reply."""
        ...

    def end(self) -> Sequence[JSON | bytes]:
        """Take the end."""
        ...

    def failed(self, error: JSON) -> Sequence[JSON | bytes]:
        """Take an error of the OpenAI shape in the place of the end."""
        ...

    def result(self) -> JSON | bytes:
        """Return the answer in one piece, once everything is fed and ended."""
        ...


class Reading(Struct, frozen=True, kw_only=True):
    """What a body is read with: who chooses the rung, and whether only tokens are counted.

    `history` are items of the Responses API that it goes on from; None where none are kept. An
    engine may be one that `caches` by the marks in a body.
    """

    by_policy: bool = False
    counting: bool = False
    caches: bool = False
    history: tuple[JSON, ...] | None = None


class Writing(Struct, frozen=True, kw_only=True):
    """What an answer is written with: the body, the id, and an estimate of the prompt's tokens.

    `history` are the items that the body goes on from.
    """

    body: JSON
    request_id: str
    prompt_tokens: int
    history: tuple[JSON, ...] = ()


class Api(Struct, frozen=True, kw_only=True):
    """One API; `names` are what it calls the fields of a chat request that errors are about.

    `count` writes a number of tokens as the answer of its path that only counts. `outline` reads a
    body that goes out as it is, to engines of the same API; None where there are none. `native` is
    the body that goes out, and `keepalive` what fills a silence in a stream.
    """

    read: Callable[[object, Reading], Translated]
    writer: Callable[[Writing], Writer]
    error: Callable[[JSON, int], JSON]
    count: Callable[[int], JSON]
    names: dict[str, str] = {}
    outline: Callable[[JSON, Reading], Translated] | None = None
    native: Callable[[JSON], JSON] = lambda body: body
    keepalive: bytes = COMMENT


RESPONSES = Api(
    read=lambda body, reading: chat_of_response(body, history=reading.history),
    writer=lambda writing: ResponseWriter(
        writing.body, request_id=writing.request_id, history=writing.history
    ),
    error=lambda error, _status: {"error": error},
    count=lambda tokens: {"object": "response.input_tokens", "input_tokens": tokens},
    names={"messages": "input"},
)
MESSAGES = Api(
    read=lambda body, reading: chat_of_message(
        body, by_policy=reading.by_policy, counting=reading.counting, caches=reading.caches
    ),
    writer=lambda writing: MessageRelay(
        writing.body, request_id=writing.request_id, prompt_tokens=writing.prompt_tokens
    ),
    error=lambda error, status: message_error(error, status=status),
    count=lambda tokens: {"input_tokens": tokens},
    outline=lambda body, reading: outline_of_message(body, by_policy=reading.by_policy),
    native=native_of,
    keepalive=PING,
)
COMPACTION = replace(
    RESPONSES,
    read=lambda body, reading: chat_of_compaction(body, history=reading.history),
    writer=lambda writing: CompactionWriter(writing.body, request_id=writing.request_id),
)
ANSWERING = {
    "/v1/responses": RESPONSES,
    "/v1/responses/compact": COMPACTION,
    "/v1/messages": MESSAGES,
}
COUNTING = {"/v1/responses/input_tokens": RESPONSES, "/v1/messages/count_tokens": MESSAGES}
