"""A stream on its way through: whole events go on as they came, wherever the bytes are cut."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.engines.fold import LARGEST_EVENT_BYTES, Fold
from suffice.errors import EngineProtocolError, EngineRefused
from suffice.types import Count, CountSource, Finish, Usage


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def delta(finish: str | None = None, **fields: object) -> dict[str, object]:
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "model": "m", "choices": [choice]}


USAGE = {"prompt_tokens": 7, "completion_tokens": 3}
CALLED = {"name": "f", "arguments": "{}"}
STREAM = [
    event(delta(role="assistant", content="")),
    b": still here\n\n",
    event(delta(reasoning="so - ")),
    event(delta(content="Grüße 😀\n\n")),
    event(delta(content='"usage":{} [DONE]')),
    event(
        delta(tool_calls=[{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}])
    ),
    event(delta("stop")),
]
LAST = event({"choices": [], "usage": USAGE})
DONE = b"data: [DONE]\n\n"


@settings(deadline=None)
@given(st.lists(st.integers(0, sum(map(len, STREAM)) + 80)), st.sampled_from([b"\n", b"\r\n"]))
def test_a_stream_may_be_cut_anywhere(cuts: list[int], line_end: bytes) -> None:
    data = b"".join([*STREAM, LAST, DONE]).replace(b"\n", line_end)
    edges = [0, *sorted(cuts), len(data)]
    fold = Fold()
    passed = b"".join(fold.feed(data[a:b]) for a, b in pairwise(edges) if not fold.done)
    assert passed == b"".join(STREAM)
    assert fold.done
    assert json.loads(fold.wire(Usage()) or b"")["usage"] == USAGE
    reply = fold.reply()
    first = reply.choices[0]
    assert first.text == 'Grüße 😀\n\n"usage":{} [DONE]'
    assert first.reasoning == "so - "
    assert first.finish is Finish.STOP
    assert first.tool_calls[0]["function"]["name"] == "f"


def test_of_events_with_usage_the_text_goes_on_at_once_and_the_last_count_is_held_back() -> None:
    fold = Fold()
    events = [event({**delta(content="x"), "usage": {"completion_tokens": i}}) for i in range(3)]
    passed = [json.loads(data[5:]) for data in fold.feed(b"".join(events)).split(b"\n\n") if data]
    assert passed == [delta(content="x")] * 3
    assert json.loads(fold.wire(Usage()) or b"")["usage"] == {"completion_tokens": 2}


@pytest.mark.parametrize("told", [{}, {"object": None}, {"object": "chat.completion"}])
def test_a_chunk_is_marked_as_one_for_the_openai_sdk(told: dict[str, object]) -> None:
    fold, plain = Fold(), delta(content="x")
    odd = {name: value for name, value in plain.items() if name != "object"} | told
    passed = fold.feed(event(odd) + event(odd)).split(b"\n\n")
    assert [json.loads(data[5:]) for data in passed if data] == [plain, plain]


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b'"text"', b'{"choices": [3]}', b'{"choices": [{"delta": 3}]}', b"\xff"]
)
def test_what_is_no_chunk_is_not_passed_on(data: bytes) -> None:
    with pytest.raises(EngineProtocolError):
        Fold().feed(b"data: " + data + b"\n\n")


def test_an_error_inside_a_stream_is_one() -> None:
    with pytest.raises(EngineRefused, match="out of memory"):
        Fold().feed(event({"error": {"message": "out of memory", "code": 500}}))


@pytest.mark.parametrize(
    "told",
    [
        b'error: {"code": 400, "message": "too much", "type": "invalid_request_error"}',
        b'event: error\ndata: {"error": {"message": "too much"}}',
        b'event: error\ndata: {"message": "too much", "id": "r"}',
        b'event: error\ndata: "too much"',
        b"event:error\ndata:too much",
        b'id:1\nevent:error\n:HTTP_STATUS/429\ndata:{"code":"Throttling","message":"too much"}',
    ],
)
def test_an_error_has_many_forms_of_events(told: bytes) -> None:
    """coddy-project/coddy-agent#106 (llama.cpp of 2025), NousResearch/hermes-agent#86496."""
    with pytest.raises(EngineRefused, match="too much"):
        Fold().feed(event(delta(content="x")) + told + b"\n\ndata: [DONE]\n\n")
    assert Fold().feed(b": no error: here\n\n") == b": no error: here\n\n"


@pytest.mark.parametrize(
    ("outputs", "final"),
    [
        ([1, 2, 3, 4, 5], True),
        ([9, 9, 9, 9, 9], True),
        ([1, 1, 1, 1, 5], True),
        ([1, 1, 1, 1, 1], False),
        ([2, 2, 2, 2, 2], False),
        ([3, 2, 4, 3, 1], False),
    ],
)
def test_counts_that_do_not_grow_with_the_text_are_not_final(
    outputs: list[int], final: bool
) -> None:
    fold = Fold()
    for tokens in outputs[:-1]:
        usage = {"prompt_tokens": 7, "completion_tokens": tokens}
        fold.feed(event({**delta(content="Mild "), "usage": usage}))
    usage = {"prompt_tokens": 7, "completion_tokens": outputs[-1]}
    fold.feed(event(delta("stop")) + event({"choices": [], "usage": usage}))
    assert fold.output_is_final is final
    output = fold.used().output_tokens
    assert output is not None
    assert (output.source is CountSource.REPORTED) is final


def test_an_index_may_be_written_as_a_decimal() -> None:
    fold = Fold()
    for number in (0.0, 1.0):
        told = delta("stop", content=f"of {number:.0f}")
        told["choices"][0]["index"] = number
        fold.feed(event(told))
    assert [choice.text for choice in fold.reply().choices] == ["of 0", "of 1"]


def test_an_event_of_null_is_passed_over_and_the_end_may_be_in_small_letters() -> None:
    fold = Fold()
    text = event(delta(content="Mild"))
    assert fold.feed(b"data: null\n\n" + text + LAST + b"data: [done]\n\n") == text
    assert fold.done


def test_an_error_beside_the_choices_of_a_stream_is_one() -> None:
    told = {**delta(), "x_groq": {"id": "r", "error": "over capacity", "usage": USAGE}}
    with pytest.raises(EngineRefused, match="over capacity") as caught:
        Fold().feed(event(told))
    assert isinstance(caught.value.used, Usage)


def test_usages_of_choices_that_end_one_by_one_add_up() -> None:
    fold = Fold()
    for index, output in enumerate((50, 70)):
        ending = delta("stop")
        usage = {"prompt_tokens": 30, "completion_tokens": output, "total_tokens": 30 + output}
        ending["choices"][0] |= {"index": index, "usage": usage}
        fold.feed(event(ending))
    assert fold.output_is_final
    assert fold.used().output_tokens == Count(120, CountSource.REPORTED)
    assert fold.used().input_tokens == Count(30, CountSource.REPORTED)


def test_what_was_used_is_estimated_until_it_is_reported() -> None:
    fold = Fold()
    fold.feed(event(delta(content="four")) + event(delta(reasoning_content="eight by")))
    used = fold.used()
    assert used.output_tokens is not None
    assert (used.output_tokens.tokens, used.output_tokens.source) == (3, CountSource.ESTIMATED)
    assert used.input_tokens is None
    fold.feed(LAST)
    reported = fold.used().output_tokens
    assert reported is not None
    assert (reported.tokens, reported.source) == (3, CountSource.REPORTED)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_passed_on_or_refused_with_an_error_of_ours(data: bytes) -> None:
    fold = Fold()
    try:
        fold.feed(data)
        fold.close()
    except (EngineProtocolError, EngineRefused):
        return


def test_an_event_that_never_ends_is_given_up_however_small_its_pieces() -> None:
    fold, piece = Fold(), b"x" * 1024
    for _ in range(LARGEST_EVENT_BYTES // len(piece)):
        assert fold.feed(piece) == b""
    with pytest.raises(EngineProtocolError, match="does not end"):
        fold.feed(b"x")


def test_a_stream_of_lone_carriage_returns_may_be_cut_anywhere() -> None:
    data = STREAM[0].replace(b"\n", b"\r") + STREAM[2].replace(b"\n", b"\r\n")
    fold = Fold()
    passed = b"".join(fold.feed(data[i : i + 1]) for i in range(len(data)))
    assert passed + fold.close() == STREAM[0] + STREAM[2]
