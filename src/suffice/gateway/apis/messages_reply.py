"""POST /v1/messages: a chat completion, whole or in chunks, as Anthropic's message and its events.

https://docs.claude.com/en/build-with-claude/streaming. Clients read input_tokens and output_tokens
as whole numbers, also at the start of a stream: there the prompt's are estimated from its text. A
count that stays unknown is 0, and named in the `suffice` object.
"""

from collections.abc import Iterable, Iterator

import msgspec

from suffice.engines.finishes import finish_of
from suffice.errors import EngineProtocolError
from suffice.gateway.apis.completion import AnswerFacts, BlockDelta, BlockKind
from suffice.gateway.sealed import seal, seal_id
from suffice.types import JSON, Finish

_REASONS: dict[Finish, str] = {Finish.LENGTH: "max_tokens", Finish.CONTENT_FILTER: "refusal"}
_CALLING = (Finish.STOP, Finish.TOOL_CALLS)  # a call that was forced ends in a "stop"
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
        self.call_id, self.name = seal_id(piece.call_id, piece.opaque), piece.name
        self.signature = ""
        self.texts: list[str] = []

    @property
    def is_complete(self) -> bool:
        """Whether these are all arguments of a call: an object has an end."""
        return _arguments("".join(self.texts)) is not None

    def empty(self) -> JSON:
        """Show it as it begins."""
        return self._shown("", {})

    def whole(self, *, cut: bool) -> JSON:
        """Show it with all its text; an incomplete call is shown as text.

        `cut` says that the answer ends in this block, because it reached a limit.
        """
        text = "".join(self.texts)
        if self.kind is not BlockKind.CALL:
            return self._shown(text, {})
        arguments = _arguments(text if cut else text or "{}")
        if arguments is not None:
            return self._shown(text, arguments)
        note = f"A call of {self.name}, whose arguments are no JSON object: {text}"
        return {"type": "text", "text": note}

    def _shown(self, text: str, arguments: JSON) -> JSON:
        if self.kind is BlockKind.REASONING:
            return {"type": "thinking", "thinking": text, "signature": self.signature}
        if self.kind is BlockKind.CALL:
            named = {"id": self.call_id, "name": self.name}
            return {"type": "tool_use", **named, "input": arguments}
        return {"type": "text", "text": text}


class MessageWriter:
    """Writes the message that answers a request, of which it knows the body and the id.

    `prompt_tokens` estimates the prompt until the engine has counted it.
    """

    def __init__(self, body: JSON, *, request_id: str, prompt_tokens: int = 0) -> None:
        self._model, self._request_id, self._prompt_tokens = (
            body.get("model"),
            request_id,
            prompt_tokens,
        )
        self._facts = AnswerFacts()
        self._blocks: list[_Block] = []
        self._waiting: list[BlockDelta] = []  # what comes beside a call that is not complete
        self._open = False
        self._begun = False
        self._sealed: str | None = None

    def feed(self, chunk: JSON) -> list[JSON]:
        """Take a chunk, or a whole completion, and return the events that it makes.

        Blocks come one after another: what comes beside a call waits for its last arguments. Raises
        EngineProtocolError for a call that goes on after its end.
        """
        pieces = list(self._facts.add(chunk))
        return [*self._begin(), *self._add_all(pieces)]

    def end(self) -> list[JSON]:
        """Return the last events, with the reason to stop and the usage."""
        last = [*self._begin(), *self._add_all(self._facts.end()), *self._write_waiting()]
        last += [*self._stop(), *self._leftover()]
        reason = self._reason(called=any(block.kind is BlockKind.CALL for block in self._blocks))
        usage, unknown = _usage(self._facts)
        delta = {"type": "message_delta", "delta": reason, "usage": usage}
        account = self._facts.account(unknown=unknown)
        return [*last, delta | account, {"type": "message_stop"}]

    def failed(self, error: JSON) -> list[JSON]:
        """Return the event of a stream that broke off."""
        return [message_error(error, status=500)]

    def result(self) -> JSON:
        """Return the whole message, once everything is fed and ended.

        Never raises for what a model wrote: the answer is there, and charged.
        """
        last = len(self._blocks) - 1
        cut = finish_of(self._facts.finish or "") is Finish.LENGTH
        content = [block.whole(cut=cut and i == last) for i, block in enumerate(self._blocks)]
        content += [] if self._sealed is None else [_redacted(self._sealed)]
        reason = self._reason(called=any(block["type"] == "tool_use" for block in content))
        usage, unknown = _usage(self._facts)
        message = self._message(content) | reason | {"usage": usage}
        return message | self._facts.account(unknown=unknown)

    def _begin(self) -> Iterator[JSON]:
        if not self._begun:
            self._begun = True
            usage = {
                "input_tokens": self._prompt_tokens,
                "cache_read_input_tokens": None,
                "cache_creation_input_tokens": None,
                "output_tokens": 0,
            }
            start = {"stop_reason": None, "stop_sequence": None, "usage": usage}
            yield {"type": "message_start", "message": self._message([]) | start}

    def _add_all(self, pieces: Iterable[BlockDelta]) -> Iterator[JSON]:
        for piece in pieces:
            yield from self._add(piece)

    def _add(self, piece: BlockDelta) -> Iterator[JSON]:
        last = self._blocks[-1] if self._open else None
        calling = last is not None and last.kind is BlockKind.CALL
        beside = last is not None and (piece.kind, piece.call) != (last.kind, last.call)
        if last is not None and calling and beside and not last.is_complete:
            self._waiting.append(piece)
            return
        yield from self._write(piece)
        if self._waiting and self._blocks[-1].is_complete:
            waiting, self._waiting = self._waiting, []
            yield from self._add_all(waiting)

    def _write_waiting(self) -> Iterator[JSON]:
        """Write what waits, one call after another, in the order of their begin."""
        waiting, self._waiting = self._waiting, []
        for kind, call in dict.fromkeys((piece.kind, piece.call) for piece in waiting):
            for piece in waiting:
                if (piece.kind, piece.call) == (kind, call):
                    yield from self._write(piece)

    def _write(self, piece: BlockDelta) -> Iterator[JSON]:
        kind = BlockKind.TEXT if piece.kind is BlockKind.REFUSAL else piece.kind
        last = self._blocks[-1] if self._blocks else None
        if last is None or (last.kind, last.call) != (kind, piece.call):
            self._check_new(kind, piece.call)
            yield from self._stop()
            last = _Block(msgspec.structs.replace(piece, kind=kind))
            self._blocks.append(last)
            self._open = True
            index = len(self._blocks) - 1
            yield {"type": "content_block_start", "index": index, "content_block": last.empty()}
        last.texts.append(piece.text)
        if piece.text:
            name, field = _DELTAS[kind]
            yield self._delta({"type": name, field: piece.text})

    def _check_new(self, kind: BlockKind, call: int) -> None:
        if kind is BlockKind.CALL and any(b.kind is kind and b.call == call for b in self._blocks):
            raise EngineProtocolError(
                "the engine goes on with a tool call after its end",
                hint="ask without stream, or set disable_parallel_tool_use",
            )

    def _stop(self) -> Iterator[JSON]:
        """End the block that is open; a thought ends in what the engine must get back with it."""
        if not self._open:
            return
        self._open = False
        block = self._blocks[-1]
        if block.kind is BlockKind.REASONING and self._facts.opaque:
            block.signature, self._facts.opaque = seal(self._facts.opaque), {}
            yield self._delta({"type": "signature_delta", "signature": block.signature})
        yield {"type": "content_block_stop", "index": len(self._blocks) - 1}

    def _leftover(self) -> Iterator[JSON]:
        """Write what the engine must get back, where it came when no thought was open."""
        if self._facts.opaque:
            self._sealed, self._facts.opaque = seal(self._facts.opaque), {}
            index, block = len(self._blocks), _redacted(self._sealed)
            yield {"type": "content_block_start", "index": index, "content_block": block}
            yield {"type": "content_block_stop", "index": index}

    def _delta(self, delta: JSON) -> JSON:
        return {"type": "content_block_delta", "index": len(self._blocks) - 1, "delta": delta}

    def _message(self, content: list[JSON]) -> JSON:
        return {
            "id": f"msg_{self._request_id}",
            "type": "message",
            "role": "assistant",
            "model": self._facts.model or self._model,
            "content": content,
        }

    def _reason(self, *, called: bool) -> JSON:
        finish = finish_of(self._facts.finish or "stop")
        stopped_by = self._facts.stopped_by
        if called and finish in _CALLING:
            return {"stop_reason": "tool_use", "stop_sequence": None}
        if stopped_by is not None and finish is Finish.STOP:
            return {"stop_reason": "stop_sequence", "stop_sequence": stopped_by}
        return {"stop_reason": _REASONS.get(finish, "end_turn"), "stop_sequence": None}


def _redacted(sealed: str) -> JSON:
    return {"type": "redacted_thinking", "data": sealed}


def message_error(error: JSON, *, status: int) -> JSON:
    """Write an error of the OpenAI shape in Anthropic's, with its hint."""
    usual = "invalid_request_error" if status < 500 else "api_error"
    kind = _ERRORS.get(status, usual)
    named = {name: error.get(name) for name in ("message", "param", "code", "hint")}
    details = {"details": {"error_code": named["code"]}} if named["code"] else {}
    return {"type": "error", "error": {"type": kind, **named, **details}}


def _usage(facts: AnswerFacts) -> tuple[JSON, list[str]]:
    """Write the usage, and name what of it is not known; `input_tokens` is what no cache held."""
    details = "prompt_tokens_details"
    read = facts.count("cached_tokens", of=details)
    written = facts.count("cache_write_tokens", of=details)
    prompt, answer = facts.count("prompt_tokens"), facts.count("completion_tokens")
    usage = {
        "input_tokens": max((prompt or 0) - (read or 0) - (written or 0), 0),
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": answer or 0,
    }
    counts = {"input_tokens": prompt, "output_tokens": answer}
    return usage, [name for name, count in counts.items() if count is None]


def _arguments(text: str) -> JSON | None:
    """Read the arguments of a call; None for what is no JSON object."""
    try:
        return msgspec.json.decode(text, type=dict)
    except (msgspec.DecodeError, RecursionError):
        return None
