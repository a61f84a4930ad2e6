"""The choices of a streamed answer: what each event adds to one, and what it came to."""

from typing import Any

import msgspec
from msgspec import Struct

from suffice.engines.calls import ToolCalls
from suffice.engines.finishes import shown_finish
from suffice.engines.reply import REASONING, part_of, plain_content, texts_of
from suffice.types import JSON

_REASONING = frozenset({*REASONING, "reasoning_details"})
_TEXTS = frozenset({"content", "refusal"})


class ChoiceDelta(Struct):
    """The part of a delta that is read here."""

    content: Any = None
    refusal: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    reasoning_text: Any = None
    reasoning_details: Any = None
    thinking: Any = None
    tool_calls: list[JSON] | JSON | str | None = None  # some write nothing as an empty one
    role: Any = None


class StreamedChoice(Struct):
    """A choice of one event; some servers write a message or a text in place of a delta."""

    index: int | float | None = None
    delta: ChoiceDelta | None = None
    message: JSON | None = None
    text: Any = None
    finish_reason: str | None = None
    logprobs: Any = None
    usage: Any = None
    error: Any = None


class ChoiceRecord:
    """What one choice came to until now."""

    def __init__(self, *, forced: bool) -> None:
        self._forced = forced
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.calls: ToolCalls | None = None
        self.call_parts = 0
        self.logprobs: list[JSON] = []
        self.finish: str | None = None
        self._messages: _Messages | None = None

    def add(self, choice: StreamedChoice) -> JSON | None:
        """Take a choice; return what clients have to read in it in place of what came."""
        delta, ready, reason = choice.delta, None, choice.finish_reason
        mended: JSON | None = None
        if delta is None or choice.message is not None:
            delta, mended = self._delta(choice)
        if delta.role is not None and delta.role != "assistant":  # MiniMax and Zhipu: ""
            mended = {**(mended or {}), "role": "assistant"}
        content = delta.content
        if type(content) is str and content:  # what nearly all are: text alone
            self.texts.append(content)
            if delta.reasoning is not None or delta.reasoning_content is not None:
                reasoning = _texts(delta)[0]
                self.reasoning += [reasoning] if reasoning else []
        else:
            reasoning, text = _texts(delta)
            self.reasoning += [reasoning] if reasoning else []
            self.texts += [text] if text else []
            if isinstance(content, list):
                mended = {**(mended or {}), **plain_content(msgspec.structs.asdict(delta))} or None
        if delta.tool_calls:
            ready = self._add_calls(delta.tool_calls)
        if choice.logprobs:
            self.logprobs += choice.logprobs.get("content") or []
        if reason is not None:
            late = self.calls.end() if self.calls is not None else []
            if late:
                ready = [*(delta.tool_calls or () if ready is None else ready), *late]
            finish = self._end(reason)
            mended = mended if finish is None else {**(mended or {}), **finish}
        return mended if ready is None else {**(mended or {}), "tool_calls": ready}

    def pieces(self) -> int:
        """How many pieces of text, reasoning and calls came until now."""
        return len(self.texts) + len(self.reasoning) + self.call_parts

    def event(self, index: int) -> JSON:
        """Return the whole choice as that of one event."""
        calls = self.calls.calls if self.calls is not None else ()
        delta = {
            "content": "".join(self.texts),
            "reasoning": "".join(self.reasoning),
            "tool_calls": [{**call, "index": number} for number, call in enumerate(calls)],
        }
        return {
            "index": index,
            "delta": delta,
            "logprobs": {"content": self.logprobs} if self.logprobs else None,
            "finish_reason": self.finish,
        }

    def _delta(self, choice: StreamedChoice) -> tuple[ChoiceDelta, JSON]:
        """Return the delta of a choice with a message or without a delta, and what to mend.

        A message beside a delta that says something repeats what came.
        """
        delta = choice.delta
        if delta is not None and any(msgspec.structs.astuple(delta)):
            return delta, {}
        new = part_of({"message": choice.message, "text": choice.text})
        if choice.message is not None:
            self._messages = self._messages or _Messages(self)
            new = self._messages.new(new, last=bool(choice.finish_reason))
        return msgspec.convert(new, ChoiceDelta), {"delta": new}

    def _end(self, reason: str) -> JSON | None:
        """Take a reason to finish; an empty one, as some servers write with every part, is none."""
        if not reason:
            return {"finish_reason": None}
        self.finish = reason
        called = self.calls is not None and bool(self.calls.calls)
        told = shown_finish(reason, called=called, forced=self._forced)
        return None if told == reason else {"finish_reason": told}

    def _add_calls(self, told: Any) -> list[JSON] | None:
        self.calls = self.calls or ToolCalls()
        parts = [told] if isinstance(told, dict) else told  # TGI
        self.call_parts += len(parts)
        ready = self.calls.add(parts)
        same = (
            parts is told
            and len(ready) == len(parts)
            and all(map(lambda a, b: a is b, ready, parts))
        )
        return None if same else ready


class _Messages:
    """Reads messages that stand where a stream's deltas should.

    A message may hold what is new, or all that came until then: one that begins with the text so
    far holds all, as do all that come after deltas.
    """

    def __init__(self, record: ChoiceRecord) -> None:
        self._record = record
        self._after_deltas = record.pieces() > 0
        self._repeat = True if self._after_deltas else None  # None until a message tells
        self._calls: list[JSON] = []

    def new(self, message: JSON, *, last: bool) -> JSON:
        """Return the delta that a message makes."""
        delta, record = dict(message), self._record
        told = {name for name, value in message.items() if value}
        both = bool(told & _REASONING and told & _TEXTS)
        for names, before in ((_REASONING, record.reasoning), (_TEXTS, record.texts)):
            for name in names & told:
                delta[name] = self._rest(message[name], before, whole=last or both)
        calls = message.get("tool_calls")
        if calls and isinstance(calls, list):
            came = self._after_deltas and record.calls is not None
            delta["tool_calls"] = [] if came else [one for one in calls if one not in self._calls]
            self._calls += delta["tool_calls"]
        return {name: value for name, value in delta.items() if value not in (None, "", [])}

    def _rest(self, value: Any, before: list[str], *, whole: bool) -> Any:
        """Return what is new in a field, of which these pieces came before.

        In a message that looks `whole` the same text is a repetition, elsewhere a second piece.
        """
        if not before or self._repeat is False:
            return value
        if not isinstance(value, str):
            return None if self._repeat else value
        text = "".join(before)
        goes_on = value.startswith(text)
        if self._repeat is None and goes_on and (whole or len(value) > len(text)):
            self._repeat = True
        elif not self._after_deltas and not (goes_on and self._repeat):
            self._repeat = False
        if not self._repeat:
            return value
        return value[len(text) :] if goes_on else None


def _texts(delta: ChoiceDelta) -> tuple[str, str]:
    return texts_of(msgspec.structs.asdict(delta))
