"""A text is cut before its first stop sequence, however it is cut into pieces."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from suffice.engines.stop_text import StopText

LETTERS = st.text("ab\n", max_size=12)


@given(text=LETTERS, stops=st.lists(LETTERS, max_size=3), cuts=st.lists(st.integers(0, 12)))
def test_pieces_come_to_the_text_before_the_first_stop(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(places)]
    reader = StopText(stops)
    passed = "".join([*map(reader.feed, pieces), reader.end()])
    ends = [
        (text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop and stop in text
    ]
    assert passed == (text[: min(ends)[1]] if ends else text)
    assert reader.cut == bool(ends)


def test_what_cannot_be_a_stop_any_more_is_passed_on_at_once() -> None:
    reader = StopText(["Observation:"])
    assert reader.feed("See Obs") == "See "
    assert reader.feed("idian.") == "Obsidian."
    assert reader.feed(" Observation") == " "
    assert reader.feed(": none") == ""
    assert reader.feed("more") == ""
    assert reader.end() == ""
