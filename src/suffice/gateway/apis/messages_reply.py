"""POST /v1/messages: a chat completion, whole or in chunks, as Anthropic's message and its events.

https://docs.claude.com/en/build-with-claude/streaming. A count that is not known is null, such as
those at the start of a stream.
"""

from collections.abc import Iterator

import msgspec

from suffice.errors import EngineProtocolError
from suffice.gateway.apis.completion import AnswerFacts, BlockDelta, BlockKind
from suffice.types import JSON

_REASONS = {"length": "max_tokens", "model_length": "max_tokens", "content_filter": "refusal"}
_CALLING = {None, "stop", "tool_calls", "function_call"}  # a call that was forced ends in a "stop"
_DELTAS = {
    BlockKind.REASONING: ("thinking_delta", "thinking"),
    BlockKind.TEXT: ("text_delta", "text"),
    BlockKind.CALL: ("input_json_delta", "partial_json"),
}
_ERRORS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class _Block:
    """One block of the message."""

    def __init__(self, piece: BlockDelta) -> None:
        self.kind, self.call = piece.kind, piece.call
        self.call_id, self.name = piece.call_id, piece.name
        self.texts: list[str] = []

    def begun(self) -> JSON:
        return self._shown("", {})

    def whole(self, *, cut: bool) -> JSON:
        """Show it with all its text; a call that cannot be made is told as text.

        `cut` says that the answer ends in this block, because it reached a limit.
        """
        text = "".join(self.texts)
        if self.kind is not BlockKind.CALL:
            return self._shown(text, {})
        arguments = _arguments(text if cut else text or "{}")
        if arguments is not None:
            return self._shown(text, arguments)
        said = f"A call of {self.name}, whose arguments are no JSON object: {text}"
        return {"type": "text", "text": said}

    def _shown(self, text: str, arguments: JSON) -> JSON:
        if self.kind is BlockKind.REASONING:
            return {"type": "thinking", "thinking": text, "signature": ""}
        if self.kind is BlockKind.CALL:
            named = {"id": self.call_id, "name": self.name}
            return {"type": "tool_use", **named, "input": arguments}
        return {"type": "text", "text": text}


class MessageWriter:
    """Writes the message that answers a request of some id."""

    def __init__(self, _asked: JSON, *, request_id: str) -> None:
        self._id = request_id
        self._heard = AnswerFacts()
        self._blocks: list[_Block] = []
        self._begun = False

    def feed(self, chunk: JSON) -> list[JSON]:
        """Take a chunk, or a whole completion, and return the events that it makes.

        Raises EngineProtocolError where calls come side by side: blocks come one after another.
        """
        return list(self._fed(chunk))

    def end(self) -> list[JSON]:
        """Return the last events, with the reason to stop and the usage."""
        account = {"suffice": self._heard.account} if self._heard.account else {}
        reason = self._reason(called=any(block.kind is BlockKind.CALL for block in self._blocks))
        delta = {"type": "message_delta", "delta": reason, "usage": _usage(self._heard)}
        return [*self._stop(), delta | account, {"type": "message_stop"}]

    def failed(self, error: JSON) -> list[JSON]:
        """Return the event of a stream that broke off."""
        return [message_error(error, status=500)]

    def result(self) -> JSON:
        """Return the whole message, once everything is fed.

        Never raises for what a model wrote: the answer is made, and charged.
        """
        heard, last = self._heard, len(self._blocks) - 1
        limited = _REASONS.get(heard.finish or "") == "max_tokens"
        content = [block.whole(cut=limited and i == last) for i, block in enumerate(self._blocks)]
        reason = self._reason(called=any(block["type"] == "tool_use" for block in content))
        made = self._message(content) | reason | {"usage": _usage(heard)}
        return made | ({"suffice": heard.account} if heard.account else {})

    def _fed(self, chunk: JSON) -> Iterator[JSON]:
        pieces = list(self._heard.add(chunk))
        if not self._begun:
            self._begun = True
            nothing = {"stop_reason": None, "stop_sequence": None, "usage": _usage(AnswerFacts())}
            yield {"type": "message_start", "message": self._message([]) | nothing}
        for piece in pieces:
            yield from self._add(piece)

    def _add(self, piece: BlockDelta) -> Iterator[JSON]:
        kind = BlockKind.TEXT if piece.kind is BlockKind.REFUSAL else piece.kind
        last = self._blocks[-1] if self._blocks else None
        if last is None or (last.kind, last.call) != (kind, piece.call):
            self._check_new(kind, piece.call)
            yield from self._stop()
            last = _Block(msgspec.structs.replace(piece, kind=kind))
            self._blocks.append(last)
            yield {
                "type": "content_block_start",
                "index": len(self._blocks) - 1,
                "content_block": last.begun(),
            }
        last.texts.append(piece.text)
        if piece.text:
            name, field = _DELTAS[kind]
            delta = {"type": name, field: piece.text}
            index = len(self._blocks) - 1
            yield {"type": "content_block_delta", "index": index, "delta": delta}

    def _check_new(self, kind: BlockKind, call: int) -> None:
        if kind is BlockKind.CALL and any(b.kind is kind and b.call == call for b in self._blocks):
            raise EngineProtocolError(
                "the engine streams the parts of its tool calls side by side",
                hint="ask without stream, or set disable_parallel_tool_use",
            )

    def _stop(self) -> list[JSON]:
        if not self._blocks:
            return []
        return [{"type": "content_block_stop", "index": len(self._blocks) - 1}]

    def _message(self, content: list[JSON]) -> JSON:
        return {
            "id": f"msg_{self._id}",
            "type": "message",
            "role": "assistant",
            "model": self._heard.model,
            "content": content,
        }

    def _reason(self, *, called: bool) -> JSON:
        finish, stopped_by = self._heard.finish, self._heard.stopped_by
        if called and finish in _CALLING:
            return {"stop_reason": "tool_use", "stop_sequence": None}
        if stopped_by is not None and finish == "stop":
            return {"stop_reason": "stop_sequence", "stop_sequence": stopped_by}
        return {"stop_reason": _REASONS.get(finish or "", "end_turn"), "stop_sequence": None}


def message_error(error: JSON, *, status: int) -> JSON:
    """Write an error of the OpenAI shape in Anthropic's, with its hint."""
    usual = "invalid_request_error" if status < 500 else "api_error"
    kind = _ERRORS.get(status, usual)
    named = {name: error.get(name) for name in ("message", "param", "code", "hint")}
    return {"type": "error", "error": {"type": kind, **named}}


def _usage(heard: AnswerFacts) -> JSON:
    """Write the usage; `input_tokens` is what no cache held, as far as that is known."""
    details = "prompt_tokens_details"
    read = heard.count("cached_tokens", of=details)
    written = heard.count("cache_write_tokens", of=details)
    prompt = heard.count("prompt_tokens")
    return {
        "input_tokens": None if prompt is None else prompt - (read or 0) - (written or 0),
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": heard.count("completion_tokens"),
    }


def _arguments(text: str) -> JSON | None:
    """Read the arguments of a call; None for what is no JSON object."""
    try:
        return msgspec.json.decode(text, type=dict)
    except (msgspec.DecodeError, RecursionError):
        return None
