"""Stop sequences, for engines whose API has none: a text is cut as its pieces arrive."""

from collections.abc import Iterable


class StopText:
    """Cuts a text before the stop sequence that ends first; it may span several pieces.

    `cut` is true once one has come: no piece after it counts.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self.cut = False
        self._stops = [stop for stop in stops if stop]
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
