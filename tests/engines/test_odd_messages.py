"""Random messages of Anthropic's API, streamed and cut anywhere, arrive whole at a chat client."""

import json
import random
from typing import Any

import pytest

from suffice.engines.fold import Fold
from suffice.engines.message_replies import MessageEvents
from suffice.engines.stream import EventReader
from suffice.engines.usage import read_usage

JSON = dict[str, Any]
_LETTERS = [*'abc \n"\\{}', "ü", "漢", "🍞", "data: "]
QUICK = 200


def text(dice: random.Random, most: int) -> str:
    return "".join(dice.choices(_LETTERS, k=dice.randrange(most)))


def random_block(dice: random.Random, number: int) -> JSON:
    kind = dice.choice(["text", "text", "thinking", "tool_use", "redacted_thinking"])
    if kind == "text":
        return {"type": kind, "text": "-" + text(dice, 20)}  # opens like no thinking tag
    if kind == "thinking":
        return {"type": kind, "thinking": text(dice, 9), "signature": "c2ln" * dice.randrange(3)}
    if kind == "tool_use":
        value = {text(dice, 3): dice.choice([1, None, "Köln", [2]])} if dice.random() < 0.8 else {}
        return {"type": kind, "id": f"toolu_{number}", "name": "set_oven", "input": value}
    return {"type": kind, "data": "c2VhbGVk"}


def deltas(dice: random.Random, block: JSON) -> list[JSON]:
    """Cut a block into the deltas in which it comes."""
    field, kind = {
        "text": ("text", "text_delta"),
        "thinking": ("thinking", "thinking_delta"),
        "tool_use": ("partial_json", "input_json_delta"),
    }.get(block["type"], ("", ""))
    if not field:
        return []
    called = block["type"] == "tool_use"
    whole = (json.dumps(block["input"]) if block["input"] else "") if called else block[field]
    cut = dice.randrange(len(whole) + 1)
    parts = [{"type": kind, field: part} for part in (whole[:cut], whole[cut:])]
    if block["type"] == "thinking":
        parts.append({"type": "signature_delta", "signature": block["signature"]})
    return parts


def events(dice: random.Random, blocks: list[JSON], usage: JSON) -> list[JSON]:
    empty = {"text": "", "thinking": "", "signature": "", "input": {}}
    begun = {"id": "msg_1", "model": "m", "usage": usage | {"output_tokens": 1}}
    stream: list[JSON] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(blocks):
        start = {name: empty.get(name, value) for name, value in block.items()}
        stream.append({"type": "content_block_start", "index": index, "content_block": start})
        stream += [
            {"type": "content_block_delta", "index": index, "delta": delta}
            for delta in deltas(dice, block)
        ]
        stream += [{"type": "ping"}] * dice.randrange(2)
        stream.append({"type": "content_block_stop", "index": index})
    told = usage if dice.random() < 0.5 else {"output_tokens": usage["output_tokens"]}
    stream.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": told})
    return [*stream, {"type": "message_stop"}]


@pytest.mark.parametrize("part", range(4))
def test_text_thoughts_calls_and_counts_are_what_was_sent(part: int) -> None:
    for seed in range(part * QUICK // 4, (part + 1) * QUICK // 4):
        dice = random.Random(seed)
        blocks = [random_block(dice, number) for number in range(dice.randrange(1, 6))]
        cache = {"cache_read_input_tokens": dice.randrange(9), "cache_creation_input_tokens": 2}
        usage = {"input_tokens": 70, **cache, "output_tokens": dice.randrange(300, 400)}
        line_end = dice.choice(["\n", "\r\n"])
        data = "".join(
            f"event: {event['type']}{line_end}data: {json.dumps(event)}{line_end}{line_end}"
            for event in events(dice, blocks, usage)
        ).encode()
        reader, messages, fold = EventReader(), MessageEvents(), Fold()
        passed = b""
        while data:
            size = dice.randrange(1, 60)
            for event in reader.feed(data[:size]):
                chunk = messages.chunk(json.loads(event))
                if chunk is not None:
                    passed += fold.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            data = data[size:]
        reply = fold.reply()
        (choice,) = reply.choices
        assert choice.text == "".join(b.get("text", "") for b in blocks)
        assert choice.reasoning == "".join(b.get("thinking", "") for b in blocks)
        calls = [
            (call["id"], json.loads(call["function"]["arguments"])) for call in choice.tool_calls
        ]
        assert calls == [(b["id"], b["input"]) for b in blocks if b["type"] == "tool_use"]
        thoughts = [b for b in blocks if b["type"] in ("thinking", "redacted_thinking")]
        told = [json.loads(line[6:]) for line in passed.split(b"\n") if line.startswith(b"data: ")]
        opaque = [
            block
            for event in told
            for item in event["choices"]
            for block in item["delta"].get("thinking_blocks", ())
        ]
        assert opaque == thoughts, "signatures and sealed thoughts go back as they came"
        counts = read_usage(reply.usage, reasoning="")
        assert counts.output_tokens is not None
        assert counts.input_tokens is not None
        assert counts.output_tokens.tokens == usage["output_tokens"]
        assert counts.input_tokens.tokens == 72 + usage["cache_read_input_tokens"]
