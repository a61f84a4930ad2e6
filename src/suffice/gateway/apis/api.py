"""The APIs beside chat completions: how each is read, written, and told of errors."""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from suffice.gateway.apis.messages_reply import MessageWriter, message_error
from suffice.gateway.apis.messages_request import Translated, chat_of_message
from suffice.gateway.apis.responses_reply import ResponseWriter
from suffice.gateway.apis.responses_request import chat_of_response
from suffice.types import JSON


class Writer(Protocol):
    """Writes an answer as it comes; every method but `result` returns events, each with a type."""

    def feed(self, chunk: JSON) -> list[JSON]:
        """Take a chunk, or the one reply."""
        ...

    def end(self) -> list[JSON]:
        """Take the end."""
        ...

    def failed(self, error: JSON) -> list[JSON]:
        """Take an error of the OpenAI shape in the place of the end."""
        ...

    def result(self) -> JSON:
        """Return the answer in one piece, once the one reply is fed and ended."""
        ...


class Api(Struct, frozen=True, kw_only=True):
    """One API; `names` are what it calls the fields of a chat request that errors are about."""

    read: Callable[[object, bool], Translated]
    writer: Callable[[JSON, str], Writer]
    error: Callable[[JSON, int], JSON]
    names: dict[str, str]


APIS = {
    "/v1/responses": Api(
        read=lambda asked, _by_policy: Translated(chat=chat_of_response(asked)),
        writer=lambda asked, request_id: ResponseWriter(asked, request_id=request_id),
        error=lambda error, _status: {"error": error},
        names={"reasoning_effort": "reasoning.effort", "messages": "input"},
    ),
    "/v1/messages": Api(
        read=lambda asked, by_policy: chat_of_message(asked, by_policy=by_policy),
        writer=lambda asked, request_id: MessageWriter(asked, request_id=request_id),
        error=lambda error, status: message_error(error, status=status),
        names={"reasoning_effort": "thinking"},
    ),
}
