"""The gateway's reader of streams, fed what no engine should send: it never crashes, and nothing
broken looks like an answer that ended by itself."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from suffice.engines import fold as module
from suffice.engines.fold import Fold
from suffice.errors import EngineError, EngineProtocolError
from suffice.types import Usage

FAST = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = (
    *("choices", "index", "delta", "content", "reasoning", "reasoning_content", "refusal", "text"),
    *("tool_calls", "function", "name", "arguments", "logprobs", "token", "logprob", "thinking"),
    *("usage", "completion_tokens", "model", "error", "object", "type", "id"),
)
FIELDS = st.sampled_from(
    (*NAMES, "prompt_tokens", "completion_tokens_details", "reasoning_tokens", "finish_reason")
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Make the events of a stream as engines send them, with the usage and the end apart."""
    words = draw(st.lists(WORDS, min_size=1, max_size=6))
    kind = {"object": "chat.completion.chunk"}
    deltas = [{"index": 0, "delta": {"content": word}} for word in words]
    events = [event(kind | {"choices": [delta]}) for delta in deltas]
    if draw(st.booleans()):
        events.insert(0, b": keep-alive\n\n")
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    events.append(event(kind | {"choices": [last]}))
    if draw(st.booleans()):
        used = {"prompt_tokens": draw(st.integers(0, 10**6)), "completion_tokens": len(words)}
        events.append(event({"choices": [], "usage": used}))
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    return [each.replace(b"\n", end) for each in [*events, b"data: [DONE]\n\n"]]


def read(fold: Fold, pieces: list[bytes]) -> bytes:
    return b"".join(fold.feed(piece) for piece in pieces)


def cuts(data: st.DataObject, stream: bytes) -> list[bytes]:
    at = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[a:b] for a, b in zip([0, *at], [*at, len(stream)], strict=True)]


def stopped(fold: Fold) -> bool:
    """Whether a client would be told that the answer ended by itself."""
    return fold.done and fold.reply().finished


@FAST
@given(st.data(), streams())
def test_where_a_stream_is_cut_changes_nothing(data: st.DataObject, events: list[bytes]) -> None:
    whole, pieced = Fold(), Fold()
    passed = read(whole, [b"".join(events)])
    assert read(pieced, cuts(data, b"".join(events))) == passed
    assert (pieced.wire(Usage()), pieced.used()) == (whole.wire(Usage()), whole.used())
    assert stopped(pieced)
    assert stopped(whole)


@FAST
@given(st.data(), streams())
def test_what_is_passed_on_is_what_came_but_for_the_usage_and_the_end(
    data: st.DataObject, events: list[bytes]
) -> None:
    fold = Fold()
    passed = read(fold, cuts(data, b"".join(events)))
    plain = [each.replace(b"\r\n", b"\n") for each in events]
    kept = [each for each in plain if b'"usage"' not in each and b"[DONE]" not in each]
    assert passed == b"".join(kept)


@FAST
@given(st.data(), streams())
def test_a_stream_that_breaks_off_is_no_normal_stop(
    data: st.DataObject, events: list[bytes]
) -> None:
    stream = b"".join(events)
    fold = Fold()
    fold.feed(stream[: data.draw(st.integers(0, stream.rindex(b"[DONE]")))])
    assert not stopped(fold)


@FAST
@given(st.data(), streams(), st.sampled_from([b"{", b'{"choices": [{"del', b"\xff", b"5", b"[]"]))
def test_a_malformed_event_ends_the_stream_with_an_error(
    data: st.DataObject, events: list[bytes], broken: bytes
) -> None:
    at = data.draw(st.integers(0, len(events) - 1))
    stream = b"".join([*events[:at], b"data: " + broken + b"\n\n", *events[at:]])
    with pytest.raises(EngineProtocolError):
        read(Fold(), cuts(data, stream))


@FAST
@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"data: ", b"\n\n", b"\r", b"[DONE]"])))
def test_bytes_of_any_kind_are_read_or_refused(pieces: list[bytes]) -> None:
    survive(pieces)


@pytest.mark.slow
@FAST
@given(st.lists(st.dictionaries(FIELDS, VALUES, max_size=5), max_size=4))
@example([{"choices": [{"delta": {"content": [{"type": "text"}]}}]}])
@example([{"choices": [{"delta": {"reasoning": 5}}]}])
@example([{"choices": [{"delta": {"content": "x"}, "logprobs": {"content": 5}}]}])
def test_json_of_any_shape_is_read_or_refused(values: list[object]) -> None:
    survive([event(value) for value in values])


@pytest.mark.parametrize(
    "value", ['{"choices":[{"delta":{"content":%s}}]}', '{"usage":{"a":%s}}', "%s"]
)
def test_nesting_without_end_is_refused(value: str) -> None:
    with pytest.raises(EngineError):
        Fold().feed(b"data: " + (value % ("[" * 50_000 + "]" * 50_000)).encode() + b"\n\n")


def test_an_event_that_does_not_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_EVENT_BYTES", 1000)
    fold = Fold()
    with pytest.raises(EngineProtocolError):
        read(fold, [b"data: " + b"x" * 100] * 20)


def survive(pieces: list[bytes]) -> None:
    """Read to the end, or until an EngineError; anything else fails the test."""
    fold = Fold()
    try:
        read(fold, [*pieces])
        fold.close()
        fold.reply()
    except EngineError:
        pass
    fold.used()
