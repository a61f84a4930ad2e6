"""What Claude Code sends, and what else clients of Anthropic's API may: carried, or named."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from gateway_support import Call, Site, chunk, completion, site, usage_event

from suffice.gateway.apis.messages_reply import MessageWriter
from suffice.gateway.apis.messages_request import chat_of_message
from suffice.gateway.problems import Problem
from suffice.gateway.sealed import joined, seal, seal_id, unseal, unseal_id

PATH = "/v1/messages?beta=true"
PIXEL = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
ASK = {"model": "big", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
TOOL = {"name": "Read", "description": "reads", "input_schema": {"type": "object"}}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


def session(model: str) -> dict[str, Any]:
    """Write a turn as the client does in the middle of its work."""
    return {
        "model": model,
        "max_tokens": 32000,
        "stream": True,
        "system": [
            said("x-anthropic-billing-header: cc_version=2; cch=9f3a;"),
            said("You work in a terminal.", **CACHED),
        ],
        "messages": [
            {"role": "user", "content": [said("What does it show?", **CACHED)]},
            {"role": "system", "content": "Agents: none."},
            {
                "role": "assistant",
                "content": [
                    {"type": "redacted_thinking", "data": "from elsewhere"},
                    {"type": "thinking", "thinking": "I look.", "signature": "from elsewhere"},
                    {"type": "tool_use", "id": "t1", "name": "Read", "input": {"path": "a.png"}},
                    {"type": "tool_use", "id": "t2", "name": "Read", "input": {"path": "b.txt"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": [{"type": "image", "source": PIXEL}],
                    },
                    {"type": "tool_result", "tool_use_id": "t2", "content": "two"},
                    said("Go on."),
                ],
            },
        ],
        "tools": [TOOL | {"eager_input_streaming": True, "defer_loading": True}],
        "metadata": {"user_id": '{"session_id":"s"}'},
        "thinking": {"type": "adaptive", "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
    }


@pytest.mark.parametrize("model", ["suffice", "big", "claude-opus-4-8"])
async def test_a_turn_of_a_session_is_answered_and_nothing_in_it_lost(
    tmp_path: Path, model: str
) -> None:
    more = 'models = {"claude-opus-4-8" = "suffice"}\n'
    async with site(tmp_path, more=more, dialect="vllm") as here:
        headers = {
            "anthropic-beta": "context-management-2025-06-27",
            "content-type": "application/json",
        }
        body = json.dumps(session(model))
        async with here.http.post(here.url + PATH, data=body, headers=headers) as response:
            events = [line for line in (await response.text()).splitlines() if line]
        assert response.status == 200
        assert events[-2] == "event: message_stop"
        ignored = set(response.headers["x-suffice-ignored"].split(", "))
        by_policy = set() if model == "big" else {"output_config.effort"}
        assert ignored == by_policy | {
            "anthropic-beta", "cache_control", "context_management", "defer_loading",
            "eager_input_streaming", "redacted_thinking", "signature", "thinking.display",
            "x-anthropic-billing-header",
        }  # fmt: skip
        sent = here.upstream.calls[-1].body
        assert [message["role"] for message in sent["messages"]] == [
            "system", "user", "assistant", "tool", "tool", "user",
        ]  # fmt: skip
        assert sent["messages"][0]["content"] == "You work in a terminal."
        assert sent["messages"][1]["content"] == "What does it show?\n\nAgents: none."
        assert IMAGE in sent["messages"][5]["content"]
        assert sent["messages"][5]["content"][-1] == said("Go on.")
        assert sent.get("reasoning_effort") == ("high" if model == "big" else None)
        assert (await here.row())["status"] == "ok"


def test_a_header_of_the_clients_own_does_not_stand_before_the_prompt() -> None:
    def system(*blocks: dict[str, Any]) -> Any:
        messages = chat_of_message(ASK | {"system": list(blocks)}, by_policy=False).chat["messages"]
        return [m["content"] for m in messages if m["role"] == "system"]

    header = "x-anthropic-billing-header: cch=1;"
    assert system(said(header), said("Be brief.")) == ["Be brief."]
    assert system(said(f"{header}\nBe brief.")) == ["Be brief."]
    assert system(said(header)) == []
    assert system(said("Be brief."), said(header)) == [[said("Be brief."), said(header)]]


@pytest.mark.parametrize(
    ("kind", "name", "argument"),
    [
        ("bash_20250124", "bash", "command"),
        ("text_editor_20250728", "str_replace_based_edit_tool", "old_str"),
        ("memory_20250818", "memory", "new_path"),
    ],
)
def test_tools_that_the_client_runs_are_functions_whoever_defines_them(
    kind: str, name: str, argument: str
) -> None:
    tools = [{"type": kind, "name": name}]
    [tool] = chat_of_message(ASK | {"tools": tools}, by_policy=False).chat["tools"]
    assert tool["function"]["name"] == name
    assert argument in tool["function"]["parameters"]["properties"]


def test_what_a_tool_says_of_itself_reaches_the_model() -> None:
    tools = [
        TOOL | {"input_examples": [{"path": "a"}, {"path": "b"}], "allowed_callers": ["direct"]},
        {"type": "tool_search_tool_regex_20251119", "name": "tool_search"},
    ]
    translated = chat_of_message(ASK | {"tools": tools}, by_policy=False)
    [tool] = translated.chat["tools"]
    assert tool["function"]["description"] == (
        'reads\n\nExample input: {"path":"a"}\n\nExample input: {"path":"b"}'
    )
    assert translated.ignored == ("allowed_callers", "tool_search_tool_regex_20251119")


def test_documents_and_search_results_are_read_as_text() -> None:
    content = [
        {
            "type": "document",
            "title": "T",
            "context": "C",
            "source": {"type": "text", "media_type": "text/plain", "data": "D"},
        },
        {"type": "document", "source": {"type": "content", "content": "E"}},
        {"type": "search_result", "title": "S", "source": "https://s", "content": [said("F")]},
    ]
    messages = [{"role": "user", "content": content}]
    [message] = chat_of_message(ASK | {"messages": messages}, by_policy=False).chat["messages"]
    assert [part["text"] for part in message["content"]] == [
        "T",
        "C",
        "D",
        "E",
        "S (https://s)",
        "F",
    ]


def test_a_failed_tool_that_shows_a_picture_says_so_in_words() -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "is_error": True}
    result["content"] = [{"type": "image", "source": PIXEL}]
    messages = [{"role": "user", "content": [result]}]
    tool, user = chat_of_message(ASK | {"messages": messages}, by_policy=False).chat["messages"]
    assert tool == {"role": "tool", "tool_call_id": "t1", "content": "The tool failed:"}
    assert user["content"][1] == IMAGE


async def test_counts_are_whole_numbers_from_the_first_event_on(here: Site) -> None:
    body = ASK | {"stream": True, "messages": [{"role": "user", "content": "word " * 400}]}
    async with here.http.post(here.url + PATH, data=json.dumps(body).encode()) as response:
        lines = (await response.text()).splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    start, end = events[0]["message"]["usage"], events[-2]["usage"]
    assert start["output_tokens"] == 0
    assert 400 < start["input_tokens"] < 1000
    assert end["output_tokens"] == 5
    assert 400 < end["input_tokens"] < 1000


# -- what an engine must get back ------------------------------------------------------------------


SIGNED = {"google": {"thought_signature": "c2ln"}}
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "add", "arguments": '{"a":1}'},
    "extra_content": SIGNED,
}
DETAILS = [{"type": "reasoning.encrypted", "data": "x", "index": 0}]


def whole(reply: dict[str, Any]) -> dict[str, Any]:
    writer = MessageWriter({}, request_id="r1")
    writer.feed(reply)
    writer.end()
    return writer.result()


@pytest.mark.parametrize("reasoning", ["hm", None])
def test_what_an_engine_adds_comes_back_with_the_message(reasoning: str | None) -> None:
    message: Any = {"role": "assistant", "content": "So.", "tool_calls": [CALL]}
    message |= {"reasoning_details": DETAILS}
    message |= {"reasoning_content": reasoning} if reasoning else {}
    reply = completion()
    reply["choices"][0]["message"] = message
    content = whole(reply)["content"]
    turns = [*ASK["messages"], {"role": "assistant", "content": content}, *ASK["messages"]]
    chat = chat_of_message(ASK | {"messages": turns}, by_policy=False).chat
    assert chat["messages"][1] == message


async def test_a_stream_carries_it_too(here: Site) -> None:
    async def script(call: Call) -> None:
        await call.events()
        parts = [CALL | {"index": 0}]
        await call.write(chunk(reasoning_content="hm") + chunk(reasoning_details=DETAILS[:1]))
        await call.write(chunk(tool_calls=parts) + chunk(reasoning_details=DETAILS))
        await call.write(chunk(finish="tool_calls") + usage_event() + b"data: [DONE]\n\n")

    here.upstream.script = script
    anthropic = pytest.importorskip("anthropic")
    client = anthropic.AsyncAnthropic(base_url=here.url, api_key="any", max_retries=0)
    async with client, client.messages.stream(**ASK) as stream:
        message = await stream.get_final_message()
    content = message.model_dump(exclude_none=True)["content"]
    assert [block["type"] for block in content] == ["thinking", "tool_use", "redacted_thinking"]
    turns = [*ASK["messages"], {"role": "assistant", "content": content}, *ASK["messages"]]
    chat = chat_of_message(ASK | {"messages": turns}, by_policy=False).chat
    assert chat["messages"][1]["tool_calls"] == [CALL]
    assert chat["messages"][1]["reasoning_details"] == DETAILS


def test_two_seals_of_a_message_are_joined() -> None:
    first, second = DETAILS[:1], DETAILS[1:]
    for more in (second, DETAILS):  # what is new, or all that there is by then
        whole = joined({"reasoning_details": first}, {"reasoning_details": more})
        assert whole == {"reasoning_details": DETAILS}
    assert joined({"a": [1]}, {"b": "x"}) == {"a": [1], "b": "x"}


def test_a_seal_opens_only_what_was_sealed_here() -> None:
    assert unseal(seal({"reasoning_details": DETAILS, "role": "x"})) == {
        "reasoning_details": DETAILS
    }
    for foreign in ("", "EqoBCkgI", "suffice1-", "suffice1-!", "suffice1-WzFd"):
        assert unseal(foreign) is None
    assert unseal_id(seal_id("call_1", {"extra_content": SIGNED})) == (
        "call_1",
        {"extra_content": SIGNED},
    )
    for plain in ("call_1", "call-s1-x", "-s1-", "call_1-s1-WzFd"):
        assert unseal_id(plain) == (plain, {})


def test_parts_that_the_api_has_no_place_for_are_named() -> None:
    reply = completion() | {"suffice": {"rung": "big"}}
    reply["choices"][0]["message"] |= {
        "audio": {"id": "a"},
        "annotations": [],
        "function_call": None,
    }
    assert whole(reply)["suffice"]["dropped"] == ["audio"]


def test_an_unchanged_history_is_never_refused_for_its_last_turn_alone() -> None:
    turns = [*ASK["messages"], {"role": "assistant", "content": "The"}]
    with pytest.raises(Problem, match="cannot be begun") as caught:
        chat_of_message(ASK | {"messages": turns}, by_policy=False)
    assert caught.value.hint == "end the messages with one of the user's"


async def test_a_thread_begins_without_a_store_and_is_never_gone_on_with(here: Site) -> None:
    """The anthropic SDK's tool runner sends the whole history again at this very error code."""
    async with here.http.post(
        here.url + PATH, json=ASK | {"thread": {"type": "create"}}
    ) as response:
        assert response.status == 200
        assert response.headers["x-suffice-ignored"] == "thread"
    going_on = {"type": "continue", "previous_message_id": "msg_1"}
    status, answer = await here.post(ASK | {"thread": going_on}, path=PATH)
    assert status == 404
    assert answer["error"]["details"] == {"error_code": "thread_not_found"}
    assert answer["error"]["param"] == "thread.previous_message_id"
