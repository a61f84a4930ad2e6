"""What tools of other servers did in earlier turns: told to the model as text, or named."""

import json
from typing import Any

import pytest

from suffice.gateway.apis.messages_request import Translated, chat_of_message
from suffice.gateway.apis.responses_request import chat_of_response

USER = {"role": "user", "content": "Go on."}


def of_message(*blocks: dict[str, Any], role: str = "assistant") -> Translated:
    turns = [USER, {"role": role, "content": list(blocks)}, USER]
    return chat_of_message({"model": "m", "max_tokens": 9, "messages": turns}, by_policy=False)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"type": "mcp_tool_use", "id": "t", "name": "rain", "input": {"at": "Bonn"}}, "Bonn"),
        (
            {"type": "mcp_tool_result", "tool_use_id": "t", "content": [{"type": "text"}]},
            "returned",
        ),
        ({"type": "compaction", "content": "They spoke of the Rhine."}, "They spoke of the Rhine."),
    ],
)
def test_a_servers_doing_is_text_of_the_assistant(block: dict[str, Any], words: str) -> None:
    made = of_message(block, {"type": "text", "text": "Right."})
    message = made.chat["messages"][1]
    assert message["role"] == "assistant"
    assert words in json.dumps(message["content"])
    assert made.ignored == ()


def test_a_tool_that_a_search_found_is_named_in_its_result() -> None:
    found = [{"type": "tool_reference", "tool_name": "Bash"}]
    made = of_message({"type": "tool_result", "tool_use_id": "t", "content": found}, role="user")
    assert made.chat["messages"][1]["content"] == "The tool Bash is available."


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (
            {
                "type": "mcp_call",
                "id": "m",
                "server_label": "s",
                "name": "rain",
                "arguments": '{"at":"Bonn"}',
                "output": "7 mm",
            },
            ("rain", "Bonn", "7 mm"),
        ),
        (
            {
                "type": "code_interpreter_call",
                "id": "c",
                "status": "completed",
                "container_id": "x",
                "code": "print(6 * 7)",
                "outputs": [{"type": "logs", "logs": "42"}],
            },
            ("print(6 * 7)", "42"),
        ),
    ],
)
def test_a_call_that_a_vendor_answered_is_text_of_the_assistant(
    item: dict[str, Any], words: tuple[str, ...]
) -> None:
    made = chat_of_response({"model": "m", "input": [USER, item, USER]})
    message = made.chat["messages"][1]
    assert message["role"] == "assistant"
    assert all(word in message["content"] for word in words)


@pytest.mark.parametrize(
    "kind", ["web_search_call", "file_search_call", "image_generation_call", "mcp_list_tools"]
)
def test_a_record_without_its_outcome_is_left_out_and_named(kind: str) -> None:
    made = chat_of_response({"model": "m", "input": [USER, {"type": kind, "id": "x"}, USER]})
    assert made.ignored == (kind,)
    assert [message["role"] for message in made.chat["messages"]] == ["user", "user"]


def test_fields_that_chat_completions_have_too_are_carried() -> None:
    fields = {
        "seed": 3,
        "stop": ["."],
        "frequency_penalty": 0.5,
        "presence_penalty": 0.5,
        "top_k": 4,
    }
    assert fields.items() <= chat_of_response({"model": "m", "input": "x", **fields}).chat.items()


def test_a_wish_to_shorten_a_conversation_is_named() -> None:
    edits = [{"type": "compaction", "compact_threshold": 1000}]
    made = chat_of_response({"model": "m", "input": "x", "context_management": edits})
    assert made.ignored == ("context_management",)
