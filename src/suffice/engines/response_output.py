"""The items of a streamed response: which one an event belongs to, and what has come of it."""

from collections.abc import Iterator

from suffice.types import JSON

CALL, CUSTOM_CALL = "function_call", "custom_tool_call"
MESSAGE, REASONING = "message", "reasoning"
Place = int | str | None  # of an item in the output: its index, or its id


class OutputItem:
    """One item of the output.

    `call` is its number among the calls; one that `takes_text` is of a custom tool. A message
    waits in `held` as long as it only repeats `before`, the message before it.
    """

    def __init__(self, kind: str, *, call: int | None = None, before: str = "") -> None:
        self.kind = kind
        self.call = call
        self.takes_text = kind == CUSTOM_CALL
        self.before = before
        self.held = self.text = ""
        self.begun = False  # whether anything of its text, thoughts or arguments was passed on
        self.thoughts: str | None = None  # the event that tells its thoughts: some send them twice
        self.ended = False


class OutputItems:
    """The items that events have told of.

    Servers differ in how they say which item an event belongs to: ids may change with each event
    (Copilot), several items may have one index (LiteLLM and other routers), either may be missing
    (llama.cpp has no index).
    """

    def __init__(self) -> None:
        self.calls = 0
        self._items: list[OutputItem] = []
        self._places: dict[Place, OutputItem] = {}

    def begin(self, kind: str, *, item_id: Place, index: Place) -> OutputItem:
        """Add an item."""
        item = OutputItem(kind)
        if kind in (CALL, CUSTOM_CALL):
            item.call, self.calls = self.calls, self.calls + 1
        if kind == MESSAGE:
            item.before = next((i.text for i in reversed(self._items) if i.kind == kind), "")
        self._items.append(item)
        self._places |= {place: item for place in (item_id, index) if place is not None}
        return item

    def find(self, kind: str, *, item_id: Place, index: Place) -> OutputItem | None:
        """Return the item that an event belongs to; None for one that no event has told of."""
        by_id, by_index = (self._places.get(place) for place in (item_id, index))
        for item in (by_id, by_index):
            if item is not None and item.kind == kind and not item.ended:
                return item
        ended = by_id if index is None else by_index
        if ended is not None and ended.kind == kind:
            return ended
        if item_id is not None or index is not None:
            return None
        return next((i for i in reversed(self._items) if i.kind == kind and not i.ended), None)

    def matched(self, output: list[JSON]) -> Iterator[tuple[JSON, OutputItem | None]]:
        """Pair the items of a whole response with those that events have told of.

        What neither its id nor its index names is the next item of its kind.
        """
        named = [self._named(whole, index) for index, whole in enumerate(output)]
        others = [item for item in self._items if item not in named]
        for whole, item in zip(output, named, strict=True):
            match = item or next((one for one in others if one.kind == whole["type"]), None)
            if match in others:
                others.remove(match)
            yield whole, match

    def _named(self, whole: JSON, index: int) -> OutputItem | None:
        by_id, by_index = self._places.get(whole.get("id")), self._places.get(index)
        if by_id is None and by_index is not None and by_index.kind == whole["type"]:
            return by_index
        return by_id
