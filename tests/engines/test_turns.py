"""System and developer messages as templates of open models take them: nothing is lost."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.engines.dialects import request_body
from suffice.engines.messages import message_body
from suffice.engines.past_calls import nine_id, results_beside_calls, short_id, with_results
from suffice.engines.servers import DIALECTS, at_url
from suffice.engines.turns import one_system
from suffice.types import JSON, Request, Rung

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


# -- what some servers do not take: lists of texts, ids of another form ----------------------------

TALK = [
    {"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"toolu_{'0' * 60}", "function": {"name": "f", "arguments": "{}"}}],
    },
    {
        "role": "tool",
        "tool_call_id": f"toolu_{'0' * 60}",
        "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}],
    },
]


def sent(dialect: str, *, url: str = "https://api.openai.com/v1") -> list[dict[str, Any]]:
    request = Request(request_id="r", messages=tuple(TALK))
    spoken = at_url(DIALECTS[dialect], url)  # type: ignore[index]
    return request_body(request, RUNG, dialect=spoken, stream=False)["messages"]


@pytest.mark.parametrize(
    ("dialect", "url"), [("deepseek", ""), ("kimi", ""), ("openai", "http://127.0.0.1/v1")]
)
def test_texts_are_one_text_for_servers_that_take_no_list(dialect: str, url: str) -> None:
    system, user, _, result = sent(dialect, url=url or "https://api.openai.com/v1")
    assert (system["content"], result["content"]) == ("a\n\nb", "1\n\n2")
    assert user == TALK[1]


@pytest.mark.parametrize("dialect", ["openai", "azure", "openrouter", "vllm"])
def test_lists_of_texts_stay_lists_for_all_others(dialect: str) -> None:
    assert [m["content"] for m in sent(dialect)] == [m["content"] for m in TALK]


@pytest.mark.parametrize(
    ("dialect", "form"),
    [
        ("mistral", "[A-Za-z0-9]{9}"),
        ("openai", "toolu_0+_[A-Z2-7]{16}"),
        ("azure", "toolu_0+_[A-Z2-7]{16}"),
        ("vllm", "toolu_0+"),
    ],
)
def test_ids_of_calls_have_the_form_that_a_server_takes(dialect: str, form: str) -> None:
    _, _, call, result = sent(dialect)
    assert call["tool_calls"][0]["id"] == result["tool_call_id"]
    assert re.fullmatch(form, result["tool_call_id"])
    assert dialect == "vllm" or len(result["tool_call_id"]) <= 40


@given(st.text(max_size=80), st.text(max_size=80))
def test_ids_stay_apart_and_what_fits_stays(one: str, other: str) -> None:
    for of, fits in (
        (short_id, len(one) <= 40),
        (nine_id, bool(re.fullmatch("[0-9a-zA-Z]{9}", one))),
    ):
        assert (of(one) == of(other)) == (one == other)
        assert of(of(one)) == of(one)
        assert not fits or of(one) == one


OF_ANOTHER = {
    "role": "assistant",
    "content": "Right.",
    "reasoning_content": "So it is.",
    "thinking_blocks": [{"type": "thinking", "thinking": "So", "signature": "s"}],
    "tool_calls": [
        {
            "id": "abcdefgh9",
            "type": "function",
            "function": {"name": "f", "arguments": "{}"},
            "extra_content": {"google": {"thought_signature": "s"}},
        }
    ],
}


@pytest.mark.parametrize(
    ("dialect", "url", "strict"),
    [
        ("openai", "https://api.openai.com/v1", True),
        ("azure", "https://x.openai.azure.com/openai/v1", True),
        ("mistral", "https://api.mistral.ai/v1", True),
        ("openai", "https://api.cerebras.ai/v1", True),
        ("openai", "https://api.groq.com/openai/v1", True),
        ("openai", "http://127.0.0.1/v1", False),
        ("deepseek", "https://api.deepseek.com", False),
    ],
)
def test_what_another_engine_wants_back_does_not_reach_one_that_refuses_it(
    dialect: str, url: str, strict: bool
) -> None:
    request = Request(request_id="r", messages=(says("user", "x"), OF_ANOTHER))
    spoken = at_url(DIALECTS[dialect], url)  # type: ignore[index]
    _, sent = request_body(request, RUNG, dialect=spoken, stream=False)["messages"]
    text = json.dumps(sent)
    assert (sent["content"], sent["tool_calls"][0]["id"]) == ("Right.", "abcdefgh9")
    assert ("So it is." in text, "thought_signature" in text) == (not strict, not strict)


@pytest.mark.parametrize(("dialect", "blank"), [("deepseek", " "), ("kimi", " "), ("vllm", None)])
def test_a_turn_of_another_engine_has_a_thought_for_servers_that_want_one(
    dialect: str, blank: str | None
) -> None:
    """A session that moves up to a thinking model brings turns of one that does not think."""
    turns = (
        says("user", "x"),
        {"role": "assistant", "content": "a", "reasoning_content": "So."},
        {"role": "assistant", "content": "b", "reasoning": "Thus."},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "assistant", "content": "d", "reasoning_content": ""},
    )
    request = Request(request_id="r", messages=turns)
    body = request_body(request, RUNG, dialect=DIALECTS[dialect], stream=False)  # type: ignore[index]
    user, *thoughts = (message.get("reasoning_content") for message in body["messages"])
    assert user is None
    assert thoughts == (["So.", "Thus.", blank, blank] if blank else ["So.", None, None, ""])


def call(*ids: str) -> JSON:
    function = {"name": "f", "arguments": "{}"}
    calls = [{"id": one, "type": "function", "function": function} for one in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call_id: str) -> JSON:
    return {"role": "tool", "tool_call_id": call_id, "content": "4"}


@pytest.mark.parametrize(
    ("messages", "added"),
    [
        ((call("a"), result("a"), says("user", "x")), {}),
        ((call("a"), says("user", "x")), {1: "a"}),
        ((call("a", "b"), result("b"), says("user", "x")), {2: "a"}),
        ((call("a", "b"), result("a")), {2: "b"}),
        ((call("a"), call("a"), result("a")), {1: "a"}),
        ((call("a"),), {}),
        ((result("z"), says("user", "x")), {}),
        ((call("a"), says("system", "s"), result("a")), {}),
        (({"role": "assistant", "tool_calls": [None, {"id": 3}]}, says("user", "x")), {}),
    ],
)
def test_a_call_that_was_interrupted_has_a_result(
    messages: tuple[JSON, ...], added: dict[int, str]
) -> None:
    """Some engines take such a history, others refuse it, and a session may go from one to both."""
    turns = with_results(messages)
    assert {i: m["tool_call_id"] for i, m in enumerate(turns) if m not in messages} == added
    assert [m for m in turns if m in messages] == list(messages)
    assert with_results(turns) == turns


def test_an_interrupted_call_has_a_result_in_each_api() -> None:
    request = Request(request_id="r", messages=(says("user", "x"), call("a"), says("user", "y")))
    for dialect in ("openai", "mistral", "deepseek", "vllm"):
        sent = request_body(request, RUNG, dialect=DIALECTS[dialect], stream=False)["messages"]
        bridge = ["assistant"] if dialect == "mistral" else []
        assert [m["role"] for m in sent] == ["user", "assistant", "tool", *bridge, "user"]
        assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]
    sent = message_body(request, RUNG, stream=False)["messages"]
    assert [block["type"] for block in sent[2]["content"]] == ["tool_result", "text"]


@pytest.mark.parametrize(
    ("messages", "order"),
    [
        ((call("a"), result("a"), says("user", "x")), "0 1 2"),
        ((call("a"), says("user", "x"), result("a")), "0 2 1"),
        ((call("a", "b"), result("b"), says("user", "x"), result("a")), "0 1 3 2"),
        ((call("a"), call("b"), result("a"), result("b")), "0 2 1 3"),
        ((call("a"), result("a"), call("a"), says("system", "s"), result("a")), "0 1 2 4 3"),
        ((result("z"), call("a"), says("user", "x"), result("z")), "0 1 2 3"),
        ((call("a", "a"), says("user", "x"), result("a"), result("a")), "0 2 3 1"),
        (({"role": "tool", "tool_call_id": []}, call("a")), "0 1"),
    ],
)
def test_a_result_stands_beside_its_call(messages: tuple[JSON, ...], order: str) -> None:
    """What a client noted meanwhile comes after it, and no result is said to be missing."""
    turns = results_beside_calls(messages)
    assert turns == [messages[int(index)] for index in order.split()]
    assert results_beside_calls(turns) == turns


def test_a_turn_written_down_in_two_has_each_result_once_in_each_api() -> None:
    turns = (says("user", "x"), call("a"), call("b"), result("a"), result("b"))
    request = Request(request_id="r", messages=turns)
    for dialect in ("openai", "mistral", "deepseek", "vllm"):
        sent = request_body(request, RUNG, dialect=DIALECTS[dialect], stream=False)["messages"]
        assert [m["role"] for m in sent] == ["user", "assistant", "tool", "assistant", "tool"]
    claude = str(message_body(request, RUNG, stream=False)["messages"])
    assert claude.count("tool_result") == 2
    assert "interrupted" not in claude


def test_two_calls_of_one_id_have_one_result() -> None:
    assert len(with_results((call("a", "a"), says("user", "x")))) == 3


# -- what locks a session: servers refuse a history for one turn of it -----------------------------


def calls_with(arguments: Any) -> JSON:
    turn = call("a")
    turn["tool_calls"][0]["function"]["arguments"] = arguments
    return turn


@pytest.mark.parametrize(
    ("told", "sent"),
    [
        ('{"x": 1}', '{"x": 1}'),
        (' {"x": {"y": "ü"}} ', ' {"x": {"y": "ü"}} '),
        ({"x": 1}, '{"x":1}'),
        ("", "{}"),
        (None, "{}"),
        ('{"x": ', '{"INVALID_JSON":"{\\"x\\": "}'),
        ("[1]", '{"INVALID_JSON":"[1]"}'),
        ("x", '{"INVALID_JSON":"x"}'),
        ([1], '{"INVALID_JSON":[1]}'),
    ],
)
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_arguments_of_earlier_calls_are_an_object(dialect: Any, told: Any, sent: str) -> None:
    """vllm-project/vllm#43995, noonghunna/club-3090#1195: the server reads them again each turn."""
    turns = (says("user", "x"), calls_with(told), result("a"), says("user", "y"))
    before = json.dumps(turns)
    request = Request(request_id="r", messages=turns)
    body = request_body(request, RUNG, dialect=DIALECTS[dialect], stream=False)
    [call_sent] = body["messages"][1]["tool_calls"]
    assert call_sent["function"]["arguments"] == sent
    assert json.dumps(turns) == before


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_an_empty_list_of_calls_is_none(dialect: Any) -> None:
    """zeroclaw-labs/zeroclaw#6298: OpenAI, DeepSeek and NVIDIA refuse it."""
    turns = (says("user", "x"), says("assistant", "4") | {"tool_calls": []}, says("user", "y"))
    request = Request(request_id="r", messages=turns)
    body = request_body(request, RUNG, dialect=DIALECTS[dialect], stream=False)
    assert "tool_calls" not in body["messages"][1]


@pytest.mark.parametrize("turn", [{}, {"content": None}, {"content": ""}, {"content": []}])
def test_a_turn_of_thoughts_alone_does_not_reach_vendors_that_refuse_both(turn: JSON) -> None:
    """OpenHands/OpenHands#8685: `must have either content or tool_calls, but not none`."""
    thought = {"role": "assistant", "reasoning_content": "So.", **turn}
    turns = (says("user", "x"), thought, says("user", "y"))
    for name, dialect in DIALECTS.items():
        request = Request(request_id="r", messages=turns)
        body = request_body(request, RUNG, dialect=dialect, stream=False)
        roles = [message["role"] for message in body["messages"]]
        strict = name in ("openai", "azure", "mistral", "gemini")
        assert roles == (["user", "user"] if strict else ["user", "assistant", "user"])


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
FILE = {"type": "file", "file": {"file_data": "AA=="}}


@pytest.mark.parametrize(
    ("after", "follows"),
    [
        ([], [PICTURE, FILE]),
        ([says("user", "y")], [PICTURE, FILE, {"type": "text", "text": "y"}]),
        ([says("assistant", "4"), says("user", "y")], [PICTURE, FILE]),
    ],
)
def test_pictures_of_results_are_the_users(after: list[JSON], follows: list[JSON]) -> None:
    """QwenLM/qwen-code#3616, vllm-project/vllm#43203: a result holds text alone."""
    text = {"type": "text", "text": "Done."}
    turns = (
        *(says("user", "x"), call("a", "b")),
        result("a") | {"content": [text, PICTURE]},
        result("b") | {"content": [FILE]},
        *after,
    )
    request = Request(request_id="r", messages=turns)
    body = request_body(request, RUNG, dialect=DIALECTS["vllm"], stream=False)
    first, second, user = body["messages"][2:5]
    assert first["content"] == [text]
    assert second["content"] == "The result follows in the next message."
    assert user == {"role": "user", "content": follows}
    assert body["messages"][5:] == after[len(after) % 2 :]


def test_mistral_hears_its_assistant_between_a_tool_and_the_user() -> None:
    """zed-industries/zed#37021, NousResearch/hermes-agent#20154: the order locked a session."""
    turns = (
        *(says("user", "x"), call("a", "b"), result("a"), result("b"), says("user", "y")),
        *(call("c"), result("c") | {"content": [PICTURE]}),
    )
    request = Request(request_id="r", messages=turns)
    body = request_body(request, RUNG, dialect=DIALECTS["mistral"], stream=False)
    roles = " ".join(message["role"] for message in body["messages"])
    assert roles == "user assistant tool tool assistant user assistant tool assistant user"
    assert body["messages"][4] == says("assistant", "OK.")


@pytest.mark.parametrize("odd", [[], {}, None, 7])
def test_an_odd_id_of_a_result_answers_no_call(odd: object) -> None:
    result = {"role": "tool", "tool_call_id": odd, "content": "x"}
    assert len(with_results((call("a", "a"), result, says("user", "x")))) == 4


def test_gemini_gets_signed_calls_and_named_results() -> None:
    """A session that comes from another engine, or a client that drops signatures, was refused.

    https://github.com/jeremychone/rust-genai/pull/115,
    https://github.com/NousResearch/hermes-agent/pull/19728
    """
    call, signed = OF_ANOTHER["tool_calls"][0], {"google": {"thought_signature": "s"}}  # type: ignore[index]
    unsigned = {name: value for name, value in call.items() if name != "extra_content"}
    turns = (
        says("user", "x"),
        OF_ANOTHER | {"extra_content": signed},
        {"role": "tool", "tool_call_id": "abcdefgh9", "content": "1"},
        {"role": "assistant", "tool_calls": [unsigned, unsigned | {"id": "b"}]},
        {"role": "tool", "tool_call_id": "abcdefgh9", "content": "1", "name": "mine"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "assistant", "reasoning_content": "Only that."},
    )
    request = Request(request_id="r", messages=turns)
    body = request_body(request, RUNG, dialect=DIALECTS["gemini"], stream=False)
    _, own, first, foreign, *others = body["messages"]
    skips = {"google": {"thought_signature": "skip_thought_signature_validator"}}
    assert own == {
        "role": "assistant",
        "content": "Right.",
        "extra_content": signed,
        "tool_calls": [call],
    }
    assert foreign["tool_calls"] == [unsigned | {"extra_content": skips}, unsigned | {"id": "b"}]
    assert [turn["name"] for turn in (first, *others)] == ["f", "mine", "f"]
    plain = request_body(request, RUNG, dialect=DIALECTS["vllm"], stream=False)["messages"]
    assert "skip_thought" not in json.dumps(plain)
    assert "name" not in plain[2]


def test_gemini_behind_openrouter_gets_signatures_in_the_details_of_its_reasoning() -> None:
    """https://github.com/RooCodeInc/Roo-Code/pull/10759: a session that came from another model."""
    details = [{"type": "reasoning.text", "text": "So."}]
    own = [*details, {"type": "reasoning.encrypted", "data": "c2ln", "id": "abcdefgh9"}]
    turns = (
        says("user", "x"),
        OF_ANOTHER,
        {"role": "tool", "tool_call_id": "abcdefgh9", "content": "1"},
        OF_ANOTHER | {"reasoning_details": details},
        {"role": "tool", "tool_call_id": "abcdefgh9", "content": "1"},
        OF_ANOTHER | {"reasoning_details": own},
        {"role": "tool", "tool_call_id": "abcdefgh9", "content": "1"},
        says("assistant", "Done."),
    )
    request = Request(request_id="r", messages=turns)

    def told(model: str) -> list[JSON | None]:
        rung = Rung(name="r", engine="e", model=model)
        body = request_body(request, rung, dialect=DIALECTS["openrouter"], stream=False)
        return [m.get("reasoning_details") for m in body["messages"] if m["role"] == "assistant"]

    skips = {
        "type": "reasoning.encrypted",
        "data": "skip_thought_signature_validator",
        "format": "google-gemini-v1",
        "id": "abcdefgh9",
        "index": 0,
    }
    assert told("google/gemini-3-flash-preview") == [[skips], [*details, skips], own, None]
    assert told("z-ai/glm-5") == [None, details, own, None]


REPLIED = {
    "annotations": [],
    "audio": None,
    "function_call": None,
    "refusal": None,
    "provider_specific_fields": {"citations": None},
    "references": [{"type": "reference"}],
}


@pytest.mark.parametrize("dialect", ["openai", "azure", "mistral", "gemini"])
def test_fields_of_a_reply_that_no_request_may_have_do_not_reach_strict_servers(
    dialect: str,
) -> None:
    """Clients send `message.model_dump()` back; Groq: `property 'annotations' is unsupported`."""
    turns = (
        says("user", "x"),
        says("assistant", "y") | REPLIED,
        says("assistant", "") | {"refusal": "No."},
        says("user", "z"),
    )
    request = Request(request_id="r", messages=turns)
    body = request_body(request, RUNG, dialect=DIALECTS[dialect], stream=False)  # type: ignore[index]
    assert body["messages"] == [
        says("user", "x"),
        says("assistant", "y"),
        says("assistant", "") | {"refusal": "No."},
        says("user", "z"),
    ]


@pytest.mark.parametrize("silent", [{}, {"content": None}, {"tool_calls": [], "content": None}])
def test_a_turn_that_says_nothing_has_a_content(silent: JSON) -> None:
    """llama.cpp: `must contain either 'content' or 'tool_calls'`; templates fail over a null."""
    thought = {"role": "assistant", "reasoning_content": "So."}
    turns = (says("user", "x"), thought | silent, says("user", "y"))
    request = Request(request_id="r", messages=turns)
    body = request_body(request, RUNG, dialect=DIALECTS["llamacpp"], stream=False)
    assert body["messages"][1] == {**thought, "content": ""}
    called = {"role": "assistant", "content": None, "tool_calls": OF_ANOTHER["tool_calls"]}
    old = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    for turn in (called, old):
        request = Request(request_id="r", messages=(says("user", "x"), turn))
        body = request_body(request, RUNG, dialect=DIALECTS["llamacpp"], stream=False)
        assert body["messages"][1]["content"] is None
