"""Whatever the habits of an engine, a client gets its text, calls and tokens, and the books too."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_streams import JSON, Answer, OddWriter, random_answer

from suffice.engines.fold import Fold
from suffice.engines.usage import read_usage
from suffice.types import Count, CountSource

QUICK, ALL = 300, 10_000


class StrictClient:
    """Reads a stream as the official clients do: events of JSON, calls joined by their index."""

    def __init__(self, data: bytes) -> None:
        self.texts: dict[int, str] = {}
        self.reasoning: dict[int, str] = {}
        self.calls: dict[int, dict[int, JSON]] = {}
        for event in data.split(b"\n\n"):
            for line in event.split(b"\n"):
                if line.startswith(b"data:"):
                    self._read(json.loads(line[5:].decode()))

    def _read(self, event: JSON) -> None:
        assert "usage" not in event or event["usage"] is None
        for position, choice in enumerate(event["choices"]):
            index, delta = choice.get("index") or position, choice["delta"]
            thought = delta.get("reasoning") or delta.get("reasoning_content") or ""
            self.texts[index] = self.texts.get(index, "") + (delta.get("content") or "")
            self.reasoning[index] = self.reasoning.get(index, "") + thought
            for part in delta.get("tool_calls", ()):
                call = self.calls.setdefault(index, {}).setdefault(
                    part["index"], {"id": "", "name": "", "arguments": ""}
                )
                call["id"] = part.get("id") or call["id"]
                call["name"] += part["function"].get("name") or ""
                call["arguments"] += part["function"].get("arguments") or ""


def check(seed: int) -> None:
    dice = random.Random(seed)
    answer = random_answer(dice)
    writer = OddWriter(dice, answer)
    fold = Fold()
    passed = b"".join(fold.feed(piece) for piece in writer.pieces()) + fold.close()
    client, reply = StrictClient(passed), fold.reply()
    for index, choice in enumerate(reply.choices):
        assert client.texts[index] == choice.text == answer.texts[index]
        assert client.reasoning[index] == choice.reasoning == answer.reasoning[index]
        parts = client.calls.get(index, {})
        for told in (
            [(call["name"], json.loads(call["arguments"])) for _, call in sorted(parts.items())],
            [
                (call["function"]["name"], json.loads(call["function"]["arguments"]))
                for call in choice.tool_calls
            ],
        ):
            assert told == answer.calls[index]
        ids = [call["id"] for call in parts.values()]
        assert all(ids)
        assert len({*ids}) == len(ids)
        assert choice.finish is not None
    check_usage(fold, answer)


def check_usage(fold: Fold, answer: Answer) -> None:
    usage = read_usage(fold.reply().usage, reasoning="")
    assert fold.output_is_final
    assert usage.input_tokens == Count(answer.prompt_tokens, CountSource.REPORTED)
    assert usage.output_tokens == Count(answer.output_tokens, CountSource.REPORTED)


@pytest.mark.parametrize("hundred", range(QUICK // 100))
def test_text_calls_and_tokens_are_what_was_sent(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("thousand", range(ALL // 1000))
def test_text_calls_and_tokens_are_what_was_sent_ten_thousand_times(thousand: int) -> None:
    for seed in range(1000 * thousand, 1000 * thousand + 1000):
        check(seed)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.booleans()), min_size=1, max_size=8))
def test_text_goes_out_at_once_and_in_order_for_usage_on_any_subset_of_chunks(
    chunks: list[tuple[str, bool]],
) -> None:
    fold, sent, passed = Fold(), "", ""
    for number, (text, told) in enumerate(chunks):
        event: JSON = {"choices": [{"index": 0, "delta": {"content": text}}]}
        if told:
            event["usage"] = {"prompt_tokens": 5, "completion_tokens": number + 1}
        ready = fold.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
        sent, passed = sent + text, passed + StrictClient(ready).texts.get(0, "")
        assert passed == sent
    assert fold.output_is_final == any(
        told and not any(text for text, _ in chunks[i + 1 :]) for i, (_, told) in enumerate(chunks)
    )
