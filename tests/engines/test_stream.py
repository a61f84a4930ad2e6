import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.engines.stream import (
    LARGEST_EVENT_BYTES,
    THOUGHT_TAGS,
    EventReader,
    InlineReasoning,
)
from suffice.errors import EngineProtocolError

LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
VALUES = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=12)
NOISE = st.sampled_from([": comment", ":", "event: message", "id: 7", "retry: 10", "nonsense"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[str]]:
    """Write a stream of events, and say what data it carries."""
    text, expected, end = "", [], draw(LINE_ENDS)
    for values in draw(st.lists(st.lists(VALUES, min_size=1, max_size=3), max_size=4)):
        for value in values:
            for noise in draw(st.lists(NOISE, max_size=2)):
                text += noise + end
            space = " " if value.startswith(" ") else draw(st.sampled_from(["", " "]))
            text += f"data:{space}{value}{end}"
        text += end
        expected.append("\n".join(values))
    return text.encode(), expected


def cut(data: bytes | str, places: list[int]) -> list[bytes | str]:
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[begin:end] for begin, end in pairwise(ends)]


@settings(deadline=None)
@given(streams(), st.lists(st.integers(min_value=0), max_size=30))
def test_events_survive_cuts_anywhere(stream: tuple[bytes, list[str]], places: list[int]) -> None:
    data, expected = stream
    reader = EventReader()
    events = [event for piece in cut(data, places) for event in reader.feed(piece)]
    assert events + reader.close() == expected


@settings(deadline=None)
@given(streams())
def test_events_come_as_soon_as_their_last_byte(stream: tuple[bytes, list[str]]) -> None:
    data, expected = stream
    reader = EventReader()
    events = [event for at in range(len(data)) for event in reader.feed(data[at : at + 1])]
    assert events == expected
    assert reader.close() == []


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b'data: {"a": 1}\n\n', ['{"a": 1}']),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        (b"data: a\r\rdata: b\r\r", ["a", "b"]),
        (b": ping\n\ndata: a\n\n", ["a"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"data:  a\n\n", [" a"]),
        (b"data\n\n", [""]),
        (b"\n\n\n", []),
        ("data: Zürich 🙂\n\n".encode(), ["Zürich 🙂"]),
    ],
)
def test_events_follow_the_standard(data: bytes, events: list[str]) -> None:
    assert EventReader().feed(data) == events


def test_a_line_end_that_was_cut_in_two_is_one() -> None:
    reader = EventReader()
    assert [reader.feed(piece) for piece in (b"data: a\r", b"", b"\n", b"\n")] == [
        [],
        [],
        [],
        ["a"],
    ]


def test_the_last_event_needs_no_blank_line() -> None:
    reader = EventReader()
    assert reader.feed(b"data: [DONE]") == []
    assert reader.close() == ["[DONE]"]
    assert reader.close() == []


def test_bytes_that_are_no_text_are_a_protocol_error() -> None:
    with pytest.raises(EngineProtocolError, match="not UTF-8") as caught:
        EventReader().feed(b"data: \xff\xfe\n\n")
    assert caught.value.hint


PLAIN = st.text(st.sampled_from("ab <>/thinkTHINK[]\n"), max_size=20)


def parted(pieces: list[str]) -> tuple[str, str]:
    inline = InlineReasoning()
    parts = [*map(inline.feed, pieces), inline.flush()]
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


@settings(deadline=None)
@given(PLAIN, PLAIN, st.booleans(), st.lists(st.integers(min_value=0), max_size=20))
def test_inline_reasoning_survives_cuts_anywhere(
    reasoning: str, text: str, mistral: bool, places: list[int]
) -> None:
    opening, closing = ("[THINK]", "[/THINK]") if mistral else ("<think>", "</think>")
    if closing in reasoning + closing[:-1]:
        return
    pieces = cut(f" \n{opening}{reasoning}{closing}{text}", places)
    assert parted(pieces) == (reasoning, text)


@settings(deadline=None)
@given(PLAIN, st.lists(st.integers(min_value=0), max_size=20))
def test_answers_that_do_not_open_a_block_stay_as_they_are(text: str, places: list[int]) -> None:
    if text.lstrip().startswith(("<think>", "[THINK]")):
        return
    assert parted(cut(text, places)) == ("", text)


@pytest.mark.parametrize(("opening", "closing"), THOUGHT_TAGS.items())
@given(st.lists(st.integers(min_value=0), max_size=9))
def test_every_models_tags_are_known(opening: str, closing: str, places: list[int]) -> None:
    pieces = cut(f"{opening}so it is{closing}4", places)
    assert parted(pieces) == ("so it is", "4")


def test_a_block_that_is_never_closed_is_reasoning() -> None:
    assert parted(["<think>still ", "at it</thi"]) == ("still at it</thi", "")


def test_text_is_not_held_back_longer_than_it_must_be() -> None:
    inline = InlineReasoning()
    assert inline.feed("<th") == ("", "")
    assert inline.feed("e") == ("", "<the")
    assert inline.feed(" <think>") == ("", " <think>")
    inline = InlineReasoning()
    assert inline.feed("<think>so it is</t") == ("so it is", "")
    assert inline.feed("errible") == ("</terrible", "")
    assert inline.feed("</think>4") == ("", "4")


@pytest.mark.parametrize("piece", [b"x" * 65_536, b"data: y\n" * 8192])
def test_an_event_without_end_is_refused_in_linear_time(piece: bytes) -> None:
    """Each piece was once looked through with all that came before: 10 MB took half a minute."""
    reader, began_s = EventReader(), time.perf_counter()

    def endless() -> None:
        for _ in range(8 * LARGEST_EVENT_BYTES // len(piece)):
            reader.feed(piece)

    with pytest.raises(EngineProtocolError, match="does not end"):
        endless()
    assert time.perf_counter() - began_s < 10


def test_a_large_event_comes_through_whole() -> None:
    reader, text = EventReader(), b"z" * (LARGEST_EVENT_BYTES - 100)
    pieces = [text[at : at + 65_536] for at in range(0, len(text), 65_536)]
    events = [
        event for piece in (b"data:", *pieces, b"\r", b"\n\n") for event in reader.feed(piece)
    ]
    assert events == [text.decode()]
