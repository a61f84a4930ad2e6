"""System and developer messages as templates of open models take them: nothing is lost."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.engines.dialects import request_body
from suffice.engines.servers import DIALECTS
from suffice.engines.turns import one_system
from suffice.types import Request, Rung

RUNG = Rung(name="r", engine="e", model="m")


def says(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def test_leading_system_and_developer_messages_become_one() -> None:
    parts = {"role": "developer", "content": [{"type": "text", "text": "b"}, {"text": "c"}]}
    assert one_system([says("system", "a"), parts, says("user", "x")]) == [
        says("system", "a\n\nb\n\nc"),
        says("user", "x"),
    ]


def test_a_later_one_joins_the_turn_of_the_user_around_it() -> None:
    before = [says("user", "x"), says("system", "a"), says("user", "y"), says("assistant", "z")]
    assert one_system(before) == [says("user", "x\n\na\n\ny"), says("assistant", "z")]
    after_tool = [says("user", "x"), says("tool", "4"), says("developer", "a")]
    assert one_system(after_tool) == [says("user", "x"), says("tool", "4"), says("user", "a")]


def test_two_messages_of_the_user_stay_two() -> None:
    messages = [says("system", "s"), says("user", "x"), says("user", "y")]
    assert one_system(messages) == messages


@given(
    st.lists(
        st.builds(
            says,
            st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
            st.uuids().map(str),
        ),
        max_size=12,
    )
)
def test_every_text_is_kept_in_order_and_one_system_message_begins(
    messages: list[dict[str, Any]],
) -> None:
    turns = one_system(messages)
    assert {turn["role"] for turn in turns[1:]} <= {"user", "assistant", "tool"}
    assert not turns or turns[0]["role"] != "developer"
    whole = json.dumps(turns)
    places = [whole.index(message["content"]) for message in messages]
    assert places == sorted(places)


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_only_servers_that_take_any_order_get_it(name: Any) -> None:
    messages = (says("developer", "a"), says("user", "x"), says("system", "b"))
    body = request_body(
        Request(request_id="r", messages=messages), RUNG, dialect=DIALECTS[name], stream=False
    )
    roles = [message["role"] for message in body["messages"]]
    any_order = not DIALECTS[name].one_system
    assert roles == (["developer", "user", "system"] if any_order else ["system", "user"])
    assert any_order or name != "openai"
