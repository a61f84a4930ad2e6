"""Stop sequences, for engines whose API has none: a text is cut as its pieces arrive."""

from collections.abc import Iterable

from suffice.engines.translated import ReplyEvents
from suffice.types import JSON, Request, Rung


def stops_of(request: Request, rung: Rung) -> tuple[str, ...]:
    """Return the stop sequences of a request or its rung; the rung's win."""
    stops = {**request.params, **rung.params}.get("stop") or ()
    stops = (stops,) if isinstance(stops, str) else stops
    return tuple(stop for stop in stops if isinstance(stop, str) and stop)


def stopped(completion: JSON, stops: Iterable[str]) -> JSON:
    """Cut a whole chat completion before its first stop sequence."""
    return _cut_choices(completion, StopText(stops), part="message", last=True)


class StoppedEvents(ReplyEvents):
    """Cuts the chunks that other events make before the first stop sequence."""

    def __init__(self, events: ReplyEvents, stops: Iterable[str]) -> None:
        self.ended = False
        self._events, self._text = events, StopText(stops)

    def chunk(self, event: JSON) -> JSON | None:
        """Return the chunk that an event makes, as far as it comes before a stop sequence."""
        chunk = self._events.chunk(event)
        self.ended = self._events.ended
        return None if chunk is None else _cut_choices(chunk, self._text, part="delta")


class StopText:
    """Cuts a text before the stop sequence that ends first; it may span several pieces.

    `cut` is true once one has come: no piece after it counts.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self.cut = False
        self._stops = tuple(stops)
        self._held = ""  # what may be the beginning of a stop sequence

    def feed(self, piece: str) -> str:
        """Take the next piece and return what may be passed on."""
        if self.cut or not self._stops:
            return "" if self.cut else piece
        text, self._held = self._held + piece, ""
        ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in self._stops]
        found = [(end, place) for end, place in ends if place >= 0]
        if found:
            self.cut = True
            return text[: min(found)[1]]
        held = max(map(len, self._beginnings(text)), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def end(self) -> str:
        """Take the end and return what was held back."""
        held, self._held = self._held, ""
        return held

    def _beginnings(self, text: str) -> Iterable[str]:
        """Return the ends of a text with which a stop sequence may begin."""
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(text)), 0, -1):
                if text.endswith(stop[:length]):
                    yield stop[:length]
                    break


def _cut_choices(chunk: JSON, text: StopText, *, part: str, last: bool = False) -> JSON:
    """Cut the texts of a chunk; after a stop sequence the model would have called no tool."""
    choices = []
    for choice in chunk["choices"]:
        told, finish = dict(choice[part]), choice.get("finish_reason")
        content = text.feed(told.get("content") or "")
        if last or finish:
            content += text.end()
        if content or told.get("content"):
            told["content"] = content
        if text.cut:
            told.pop("tool_calls", None)
            finish = finish and "stop"
        choices.append({**choice, part: told, "finish_reason": finish})
    return {**chunk, "choices": choices}
