"""Random answers, and random ways in which engines write them."""

import json
import random
from typing import Any

from msgspec import Struct

JSON = dict[str, Any]
_LETTERS = [*'abc xyz\n\t"\\{}', "ü", "漢", "字", "🍞", "👩‍👩‍👧", "\u2028", "<", "data: ", "[DONE]"]
_NAMES = ["prompt_tokens", "input_tokens"], ["completion_tokens", "output_tokens"]


class Answer(Struct, kw_only=True):
    """What an engine says: for each choice its text, reasoning and calls; then the tokens."""

    texts: list[str]
    reasoning: list[str]
    calls: list[list[tuple[str, JSON]]]
    finish: str
    prompt_tokens: int
    output_tokens: int


def random_answer(dice: random.Random) -> Answer:
    """Make an answer of one or two choices."""
    count = dice.choice([1, 1, 1, 2])
    texts = ["".join(dice.choices(_LETTERS, k=dice.randrange(40))) for _ in range(count)]
    texts = [text.lstrip() + "." for text in texts]  # nothing that opens like a thinking tag
    texts = [text if not text.startswith("<") else f"-{text}" for text in texts]
    return Answer(
        texts=texts,
        reasoning=["".join(dice.choices(_LETTERS, k=dice.choice([0, 0, 9]))) for _ in texts],
        calls=[_random_calls(dice) for _ in texts],
        finish=dice.choice(["stop", "length", "tool_calls", "end_turn", "sensitive", "whatever"]),
        prompt_tokens=dice.randrange(1, 9000),
        output_tokens=dice.randrange(200, 900),
    )


def _random_calls(dice: random.Random) -> list[tuple[str, JSON]]:
    calls = []
    for _ in range(dice.choice([0, 0, 1, 2, 3])):
        key, value = dice.choice(["city", "größe", "x"]), dice.choice([1, "Köln 🍞", None, [2]])
        name = dice.choice(["set_oven", "get_time", "set_oven2"])
        calls.append((name, dice.choice([{}, {key: value}, {key: value, "y": {"z": ""}}])))
    return calls


class OddWriter:
    """Writes an answer as one engine would: consistent in its habits, odd in most of them."""

    def __init__(self, dice: random.Random, answer: Answer) -> None:
        self.dice, self.answer = dice, answer
        self.ascii = dice.random() < 0.5  # escapes what is not ASCII, so halves may be cut
        self.line_end = dice.choice([b"\n", b"\n", b"\r\n", b"\r"])
        self.one = len(answer.texts) == 1
        self.index_of_choice = dice.choice(["told", "null", "absent"]) if self.one else "told"
        self.field = dice.choice(["reasoning", "reasoning_content"])
        self.ids = dice.choice(["told", "late", "empty", "absent", "made_up", "repeated", "same"])
        self.indexes = dice.choice(["told", "told", "zero", "absent"])
        self.late_name = dice.random() < 0.3 and self.ids in ("told", "repeated")
        self.names = tuple(dice.choice(names) for names in _NAMES)

    def stream(self) -> bytes:
        """Write the whole stream."""
        deltas = self._deltas()
        told = {self.dice.randrange(len(deltas)) for _ in range(self.dice.randrange(4))}
        events: list[bytes] = []
        for i, (index, delta) in enumerate(deltas):
            usage = self._usage(self.dice.randrange(1, 100)) if i in told else None
            events.append(self._event(self._choice(index, delta, None), usage))
            events += self._noise()
        at = self.dice.choice(["own", "own", "finish", "choice"])
        for index in range(len(self.answer.texts)):
            final = index == len(self.answer.texts) - 1
            choice = self._choice(
                index, self.dice.choice([{}, {"content": ""}]), self.answer.finish
            )
            usage = self._usage(self.answer.output_tokens) if final else None
            if at == "choice" and usage is not None:
                choice, usage = choice | {"usage": usage}, None
            events.append(self._event(choice, usage if at == "finish" else None))
            if usage is not None and at == "own":
                events.append(self._event(None, usage))
            events += self._noise()
        if self.dice.random() < 0.3:
            events.append(self._event(None, self.dice.choice([{}, self._usage(0)])))
        if self.dice.random() < 0.8:
            events.append(b"data: [DONE]\n\n")
        data = b"".join(events)
        data = data.removesuffix(b"\n") if self.dice.random() < 0.2 else data
        data = data.replace(b"\n", self.line_end)
        return (b"\xef\xbb\xbf" if self.dice.random() < 0.1 else b"") + data

    def pieces(self) -> list[bytes]:
        """Cut the stream anywhere, also within a character."""
        data = self.stream()
        cuts = sorted(self.dice.randrange(len(data)) for _ in range(self.dice.randrange(12)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    def _deltas(self) -> list[tuple[int, JSON]]:
        each: list[list[tuple[int, JSON]]] = []
        for index, text in enumerate(self.answer.texts):
            role: JSON = {"role": "assistant", "content": self.dice.choice(["", None])}
            parts = [role] if self.dice.random() < 0.5 else []
            parts += [{self.field: piece} for piece in self._cut(self.answer.reasoning[index])]
            parts += [{"content": piece} for piece in self._cut(text)]
            parts += [{"tool_calls": [part]} for part in self._calls(self.answer.calls[index])]
            each.append([(index, part) for part in parts])
        deltas = []
        while any(each):
            deltas.append(self.dice.choice([rest for rest in each if rest]).pop(0))
        return deltas

    def _cut(self, text: str) -> list[str]:
        """Cut a text into pieces, between UTF-16 units where escapes allow that."""
        units = text.encode("utf-16-le", "surrogatepass")
        pieces, rest = [], units if self.ascii else text
        step = 2 if self.ascii else 1
        while rest:
            size = step * self.dice.choice([1, 1, 3, 8, 50])
            piece, rest = rest[:size], rest[size:]
            is_bytes = isinstance(piece, bytes)
            pieces.append(piece.decode("utf-16-le", "surrogatepass") if is_bytes else piece)
        return pieces

    def _calls(self, calls: list[tuple[str, JSON]]) -> list[JSON]:
        parts: list[JSON] = []
        for number, (name, arguments) in enumerate(calls):
            text = json.dumps(arguments, ensure_ascii=self.dice.random() < 0.5)
            plain = self.indexes == "told"
            if not arguments and plain and self.dice.random() < 0.3:
                text = ""
            pieces = self._cut(text) if self.dice.random() < 0.7 else [text]
            names: JSON = {"name": name, "arguments": ""}
            own: list[JSON] = [{"function": names}]
            if self.late_name:
                own = [{"function": {"arguments": ""}}, {"function": {"name": name}}]
            own += [{"function": {"arguments": piece}} for piece in pieces]
            if self.dice.random() < 0.3 and not self.late_name and len(own) > 1:
                own[0]["function"]["arguments"] = own.pop(1)["function"]["arguments"]
            parts += [self._numbered(part, number, i) for i, part in enumerate(own)]
        return parts

    def _numbered(self, part: JSON, number: int, i: int) -> JSON:
        if self.indexes != "absent":
            part["index"] = number if self.indexes == "told" else 0
        first = i == 0
        if self.ids == "empty":
            part["id"] = ""
        elif self.ids == "made_up" and self.indexes == "told":
            part["id"] = f"chunk_{self.dice.random()}"
        elif self.ids == "same" and self.indexes == "told" and first:
            part["id"] = "call_0"
        elif (
            (self.ids in ("told", "repeated") and first)
            or self.ids == "repeated"
            or (self.ids == "late" and i == 1)
        ):
            part["id"] = f"call_{number}"
        if first and self.dice.random() < 0.5:
            part["type"] = "function"
        return part

    def _choice(self, index: int, delta: JSON, finish: str | None) -> JSON:
        choice: JSON = {"delta": delta, "finish_reason": finish, "logprobs": None}
        if self.index_of_choice != "absent":
            choice["index"] = index if self.index_of_choice == "told" else None
        return choice

    def _usage(self, output_tokens: int) -> JSON:
        prompt, output = self.names
        whole = self.answer.prompt_tokens
        counts: JSON = {prompt: whole, output: output_tokens, "total_tokens": whole + output_tokens}
        if self.dice.random() < 0.3:
            counts |= {"prompt_tokens_details": None, "completion_tokens_details": {"x": None}}
        if self.dice.random() < 0.2:
            counts[output] = float(output_tokens)
        return counts

    def _event(self, choice: JSON | None, usage: JSON | None) -> bytes:
        event: JSON = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        event["choices"] = [] if choice is None else [choice]
        if usage is not None or self.dice.random() < 0.1:
            event["usage"] = usage
        data = json.dumps(event, ensure_ascii=self.ascii).encode()
        head = self.dice.choice([b"", b"", b"", b": hi\n", b"event: message\n", b"id: 7\n"])
        return head + self.dice.choice([b"data: ", b"data:"]) + data + b"\n\n"

    def _noise(self) -> list[bytes]:
        return [self.dice.choice([b": beat\n\n", b"data:\n\n", b"id: 7\ndata: \n\n", b"\n"])] * (
            self.dice.random() < 0.1
        )
