"""A text is cut before its first stop sequence, however it is cut into pieces."""

from itertools import pairwise

import pytest
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from response_server import CALL, THOUGHT, ResponseServer, text_item

from suffice.config import EngineConfig
from suffice.engines.base import last
from suffice.engines.responses import ResponsesEngine
from suffice.engines.stop_text import StopText
from suffice.types import Effort, Finish, Request, Rung

LETTERS = st.text("ab\n", max_size=12)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=12), max_size=3)


@given(text=LETTERS, stops=STOPS, cuts=st.lists(st.integers(0, 12)))
def test_pieces_come_to_the_text_before_the_first_stop(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(places)]
    reader = StopText(stops)
    passed = "".join([*map(reader.feed, pieces), reader.end()])
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
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


@pytest.mark.parametrize(
    ("stop", "text", "finish"),
    [
        ("Observation:", "I look it up.\n", Finish.STOP),
        (["up.\nObs", "nowhere"], "I look it ", Finish.STOP),
        (["none of it"], "I look it up.\nObservation: 20", Finish.TOOL_CALLS),
        (None, "I look it up.\nObservation: 20", Finish.TOOL_CALLS),
    ],
)
async def test_a_response_is_cut_before_a_stop_sequence(
    stop: object, text: str, finish: Finish
) -> None:
    server = ResponseServer()
    server.output = [THOUGHT, text_item("I look it up.\nObservation: 20"), CALL]
    asked = ({"role": "user", "content": "Weather?"},)
    request = Request(request_id="r", messages=asked, params={"stop": stop})
    rung = Rung(name="r", engine="o", model="m", effort=Effort.LOW)
    async with TestServer(server.app()) as http:
        url = f"http://127.0.0.1:{http.port}/v1"
        config = EngineConfig(kind="responses", url=url, max_retries=0)
        async with ResponsesEngine(config) as engine:
            whole = await engine.complete(request, rung)
            streamed = await last(engine.stream(request, rung))
    for completion in (whole, streamed):
        assert completion.text == text
        assert completion.finish is finish
        assert bool(completion.tool_calls) == (finish is Finish.TOOL_CALLS)
    assert whole.usage == streamed.usage
    assert "stop" not in server.sent[-1]
