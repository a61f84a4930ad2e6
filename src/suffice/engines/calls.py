"""The tool calls of an answer, put together from the parts in which engines send them."""

import secrets

import msgspec

from suffice.engines.custom_tools import arguments_of, custom_of
from suffice.types import JSON


class ToolCalls:
    """Gives each tool call of one answer a number, an id of its own, its name and JSON arguments.

    A call of a custom tool has a free text in place of the arguments.

    A part belongs to the call at its `index`. Some servers leave the index out, or say 0 for all;
    there another name, another id or complete arguments tell where the next call begins. An id
    alone does not, for some servers make up an id for every part. Arguments at a new index, without
    an id or a name, are those of the last call, if it has none.
    """

    def __init__(self) -> None:
        self._calls: list[_ToolCall] = []
        self._at_index: dict[int, _ToolCall] = {}

    @property
    def calls(self) -> tuple[JSON, ...]:
        """The complete calls, in the order of their begin; no arguments are `{}`."""
        return tuple(call.whole() for call in self._calls if call.name or call.arguments)

    def add(self, parts: list[JSON]) -> list[JSON]:
        """Take the parts of a delta and return those to pass on, each with its call's number.

        A part that needs no change is returned as it is. One that comes before the name of its
        call waits for it.
        """
        ready = []
        for position, part in enumerate(parts):
            index = part.get("index")
            index = position if index is None else int(index)
            call = self._at_index.get(index)
            if call is None and self._calls and self._calls[-1].goes_on_in(part):
                call = self._at_index[index] = self._calls[-1]
            if call is None or call.ends_before(part):
                call = self._at_index[index] = self._begin()
            ready += call.add(part)
        return ready

    def add_whole(self, calls: list[JSON]) -> list[JSON]:
        """Take the calls of a whole message and return them complete."""
        for call in calls:
            self._begin().add(call)
        return list(self.calls)

    def end(self) -> list[JSON]:
        """Return the parts that are still to be passed on when the answer ends."""
        return [part for call in self._calls for part in call.end()]

    def _begin(self) -> "_ToolCall":
        call = _ToolCall(len(self._calls), taken={call.id for call in self._calls})
        self._calls.append(call)
        return call


class _ToolCall:
    """One call; `told_id` is what the server calls it, `id` what clients are told."""

    def __init__(self, number: int, *, taken: set[str]) -> None:
        self.number, self.name, self.arguments, self.id, self.told_id = number, "", "", "", ""
        self.kind = "function"  # or "custom"
        self._taken = taken
        self._others: JSON = {}
        self._function: JSON = {}
        self._begun = False
        self._quoted = False  # the object of the arguments is a text once more

    def goes_on_in(self, part: JSON) -> bool:
        """Whether a part at another index holds the arguments that this call lacks (SGLang)."""
        told = part.get("id") or _name_in(part)
        return bool(self.name) and not self.arguments and not told

    def ends_before(self, part: JSON) -> bool:
        """Whether a part at the index of this call begins another one."""
        function = _called(part)
        name, call_id = _name_in(part), part.get("id")
        if not self.name:
            return False
        if call_id and self.told_id:
            if name and call_id != self.told_id:
                return True
            different = call_id != self.told_id or (bool(name) and name != self.name)
            return different and self._is_whole()
        if name and name != self.name:
            return bool({"arguments", "input"} & function.keys()) or bool(self.arguments)
        return bool(name) and self._is_whole()

    def add(self, part: JSON) -> list[JSON]:
        """Take a part of this call and return what may be passed on."""
        function, name = _called(part), _name_in(part)
        if not self._begun and custom_of(part) is not None:
            self.kind = "custom"
        text = written_in(part)
        others = _told(part, but=("index", "id", "function", "custom"))
        more = _told(function, but=("name", "arguments", "input"))
        self.told_id = self.told_id or part.get("id") or ""
        self._others |= others
        self._function |= more
        if self._begun and name != self.name and not self.arguments:
            self.name += name
            more |= {"name": name} if name else {}
        if not self.arguments.strip() and self.kind == "function":
            self._quoted = text.lstrip().startswith('"')
        self.arguments += text
        text = "" if self._quoted else text
        if self._begun:
            ready = {"index": self.number, **others, self.kind: {**more, self._field: text}}
        elif name:
            self.name = name
            ready = self._begin()
        else:
            return []
        return [part if self._says(part, ready) else ready]

    def end(self) -> list[JSON]:
        """Return what is missing at the end: a call without a name, or without arguments."""
        if not self._begun:
            return [self._begin()] if self.arguments else []
        if self._quoted:
            self.arguments, self._quoted = self._whole_arguments(), False
            return [{"index": self.number, "function": {"arguments": self.arguments}}]
        if self.arguments or self.kind == "custom":
            return []
        self.arguments = "{}"
        return [{"index": self.number, "function": {"arguments": "{}"}}]

    def whole(self) -> JSON:
        """Return the complete call."""
        if not self._begun:
            self._begin()
        arguments = self._whole_arguments() or ("{}" if self.kind == "function" else "")
        function = {"name": self.name, self._field: arguments, **self._function}
        return {"id": self.id, **self._others, self.kind: function}

    def _begin(self) -> JSON:
        self._begun = True
        free = self.told_id and self.told_id not in self._taken
        self.id = self.told_id if free else f"call_{secrets.token_hex(12)}"
        arguments = "" if self._quoted else self.arguments
        function = {**self._function, "name": self.name, self._field: arguments}
        head = {"index": self.number, "id": self.id, "type": self.kind}
        return {**head, **self._others, self.kind: function}

    @property
    def _field(self) -> str:
        """The field of what the model wrote."""
        return "arguments" if self.kind == "function" else "input"

    def _is_whole(self) -> bool:
        """Whether nothing can be missing; a free text may always go on."""
        return self.kind == "function" and _is_object(self._whole_arguments())

    def _whole_arguments(self) -> str:
        """Return the arguments; those that are a text once more, without these quotes."""
        if not self._quoted:
            return self.arguments
        try:
            return msgspec.json.decode(self.arguments, type=str)
        except msgspec.DecodeError:  # cut off, or no JSON at all
            return self.arguments

    def _says(self, part: JSON, ready: JSON) -> bool:
        """Whether a part, as it came, says what is to be passed on."""
        bare = {**_told(part, but=("function", "custom")), self.kind: _told(_called(part))}
        bare[self.kind].setdefault(self._field, "")
        if "id" in ready:
            bare.setdefault("type", self.kind)
        elif bare.get("id") in ("", self.id):  # told once more
            del bare["id"]
        return bare == ready


def written_in(part: JSON) -> str:
    """Read what a model wrote in a part of a call: the arguments, or the text of a custom tool."""
    custom = custom_of(part)
    return arguments_of(_called(part)) if custom is None else custom.get("input") or ""


def _called(part: JSON) -> JSON:
    """Return the function, or the custom tool, that a part of a call names."""
    return custom_of(part) or part.get("function") or {}


def _name_in(part: JSON) -> str:
    """Read the name of a function; vLLM leaves tokens of gpt-oss behind it (`f<|channel|>json`)."""
    name = _called(part).get("name") or ""
    if not isinstance(name, str):
        raise TypeError("the name of a function is no text")
    return name.partition("<|")[0] if "<|" in name else name


def _told(table: JSON, *, but: tuple[str, ...] = ()) -> JSON:
    return {name: value for name, value in table.items() if name not in but and value is not None}


def _is_object(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=dict)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
