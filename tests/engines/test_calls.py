"""Tool calls, in parts that come late, without an id, a name or an index."""

import json
from typing import Any

import pytest

from suffice.engines.calls import ToolCalls

Part = dict[str, Any]


def part(index: int | None = 0, call_id: str | None = None, **function: object) -> Part:
    fields: Part = {"index": index, "id": call_id, "function": function}
    return {name: value for name, value in fields.items() if value is not None}


def told(*parts: Part) -> tuple[list[tuple[str, str]], list[Part]]:
    """Return the names and arguments that come out, and the parts that are passed on."""
    calls = ToolCalls()
    passed = [ready for one in parts for ready in calls.add([one])] + calls.end()
    whole = [(c["function"]["name"], c["function"]["arguments"]) for c in calls.calls]
    assert len({c["id"] for c in calls.calls}) == len(whole)
    joined: dict[int, list[str]] = {}
    for ready in passed:
        name, text = joined.setdefault(ready["index"], ["", ""])
        function = ready["function"]
        joined[ready["index"]] = [
            name + (function.get("name") or ""),
            text + (function.get("arguments") or ""),
        ]
    assert [tuple(pair) for _, pair in sorted(joined.items())] == whole
    return whole, passed


def test_parts_that_need_no_change_are_passed_on_as_they_came() -> None:
    parts = [
        part(0, "a", name="f", arguments="") | {"type": "function"},
        part(0, arguments='{"x":'),
        part(0, arguments="1}"),
        part(1, "b", name="g", arguments="{}"),
        part(1, "b", arguments=""),
        part(1, "", arguments=""),
    ]
    _, passed = told(*parts)
    assert all(ready is one for ready, one in zip(passed, parts, strict=True))


def test_a_call_begins_for_the_client_when_its_name_is_known() -> None:
    whole, passed = told(
        part(0, "a", arguments=""),
        part(0, arguments='{"x'),
        part(0, name="f"),
        part(0, arguments='":1}'),
    )  # fmt: skip
    assert whole == [("f", '{"x":1}')]
    assert passed[0] == {
        "index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x'}
    }  # fmt: skip


@pytest.mark.parametrize(
    "parts",
    [
        [part(0, name="f", arguments='{"x":1}'), part(0, name="g", arguments='{"y":2}')],
        [part(None, name="f", arguments='{"x":1}'), part(None, name="g", arguments='{"y":2}')],
        [part(0, "", name="f", arguments='{"x":1}'), part(1, "", name="g", arguments='{"y":2}')],
        [part(0, "c", name="f", arguments='{"x":1}'), part(1, "c", name="g", arguments='{"y":2}')],
        [part(0, "a", name="f", arguments='{"x":1}'), part(0, "b", name="g", arguments='{"y":2}')],
        [
            part(0, "p1", name="f", arguments='{"x":'), part(0, "p2", arguments="1}"),
            part(0, "p3", name="g", arguments='{"y":'), part(0, "p4", arguments="2}"),
        ],
        [
            part(0, "a", name="f", arguments='{"x":'), part(0, "a", name="f", arguments="1}"),
            part(0, "b", name="g", arguments='{"y":'), part(0, "b", name="g", arguments="2}"),
        ],
        [
            part(0, "a", arguments=""), part(0, name="f"), part(0, arguments='{"x":1}'),
            part(0, "b", arguments=""), part(0, name="g"), part(0, arguments='{"y":2}'),
        ],
        [part(0, "a", name="f", arguments={"x": 1}), part(1, "b", name="g", arguments={"y": 2})],
    ],
)  # fmt: skip
def test_calls_are_told_apart_and_get_ids_of_their_own(parts: list[Part]) -> None:
    assert told(*parts)[0] == [("f", '{"x":1}'), ("g", '{"y":2}')]


@pytest.mark.parametrize(
    "parts",
    [
        [part(0, "a", name="f"), part(1, arguments='{"x"'), part(1, arguments=":1}")],
        [part(0, "a", name="f", arguments=""), part(1, "", name="", arguments='{"x":1}')],
        [part(0, "a", name="f<|channel|>commentary", arguments='{"x":1}')],
        [part(0, "a", name="f<|constrain|>"), part(0, "a", name="f<|x|>", arguments='{"x":1}')],
        [part(0, "a", name="f", arguments='"{\\"x\\":1}"')],
        [part(0, "a", name="f"), *(part(0, arguments=one) for one in '"{\\"x\\":1}"')],
        [part(None, name="f", arguments='"{\\"x\\":'), part(None, arguments='1}"')],
    ],
)
def test_a_call_is_read_where_parsers_of_engines_slip(parts: list[Part]) -> None:
    """sgl-project/sglang#23071, vllm-project/vllm#32587, livekit/agents#5409."""
    assert told(*parts)[0] == [("f", '{"x":1}')]
    (whole,) = ToolCalls().add_whole(parts[:1])
    assert whole["function"]["name"] == "f"


def test_a_call_whose_quoted_arguments_are_cut_off_keeps_what_came() -> None:
    assert told(part(0, "a", name="f", arguments='"{\\"x'))[0] == [("f", '"{\\"x')]


def test_quoted_arguments_end_where_the_next_call_begins() -> None:
    quoted = part(None, name="f", arguments='"{}"')
    assert told(quoted, quoted)[0] == [("f", "{}")] * 2


def test_two_calls_of_one_function_without_ids_are_two() -> None:
    whole, _ = told(*[part(0, name="f", arguments='{"x":1}')] * 2)
    assert whole == [("f", '{"x":1}')] * 2


@pytest.mark.parametrize("arguments", [{}, {"arguments": ""}, {"arguments": None}])
def test_no_arguments_are_an_empty_object(arguments: Part) -> None:
    whole, passed = told(part(0, "a", name="f", **arguments))
    assert whole == [("f", "{}")]
    assert passed[-1]["function"] == {"arguments": "{}"}


def test_a_name_in_pieces_is_joined_and_one_that_is_repeated_is_not() -> None:
    assert told(part(0, "a", name="set_"), part(0, name="oven"), part(0, arguments="{}"))[0] == [
        ("set_oven", "{}")
    ]
    assert told(part(0, "a", name="f"), part(0, name="f"), part(0, name="f", arguments="{}"))[
        0
    ] == [("f", "{}")]


def test_what_else_a_part_carries_is_kept() -> None:
    signed = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    calls = ToolCalls()
    (ready,) = calls.add([part(None, "a", name="f", arguments="{}") | signed])
    assert ready["extra_content"] == signed["extra_content"]
    assert calls.calls[0]["extra_content"] == signed["extra_content"]


def test_whole_calls_get_ids_and_arguments() -> None:
    calls = ToolCalls().add_whole(
        [part(None, "", name="f", arguments={"x": 1}), part(None, "", name="f", arguments="")]
    )
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"x": 1}, {}]
    assert len({call["id"] for call in calls} - {""}) == 2


def test_arguments_of_a_call_that_is_never_named_are_not_lost() -> None:
    whole, passed = told(part(0, "a", arguments='{"x":1}'))
    assert whole == [("", '{"x":1}')]
    assert passed[0]["function"]["arguments"] == '{"x":1}'
