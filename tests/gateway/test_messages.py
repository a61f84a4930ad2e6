"""POST /v1/messages: carried to the chat path and back, by examples, at random, and live."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from apis_support import STYLES, USAGE, arguments, bodies, call_chunks, chunks, replies
from gateway_support import Call, Site, chunk, completion, event, site
from hypothesis import given
from hypothesis import strategies as st

from suffice.errors import EngineProtocolError
from suffice.gateway.apis.messages_reply import MessageWriter
from suffice.gateway.apis.messages_request import chat_of_message
from suffice.gateway.keys import KeyLimits, add_key
from suffice.gateway.problems import Problem

PATH = "/v1/messages"
ROLES = {"system", "developer", "user", "assistant", "tool"}
USER = {"role": "user", "content": "What is 2 + 2?"}
ASK = {"model": "big", "max_tokens": 9, "messages": [USER]}
TOOL = {"name": "add", "description": "adds", "input_schema": {"type": "object"}}
KEPT = {"type": "ephemeral"}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


def chat(fields: dict[str, Any], *, by_policy: bool = False) -> dict[str, Any]:
    return chat_of_message(ASK | fields, by_policy=by_policy).chat


# -- the request ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"temperature": 0.5, "top_k": 4}, {"temperature": 0.5, "top_k": 4}),
        ({"stop_sequences": ["\n"]}, {"stop": ["\n"]}),
        ({"metadata": {"user_id": "u"}}, {"user": "u"}),
        ({"service_tier": "auto"}, {}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": False}, {}),
        ({"output_config": {"effort": "high"}}, {"reasoning_effort": "high"}),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"a": 1}}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"a": 1}, "strict": True},
                }
            },
        ),
        (
            {"output_format": {"type": "json_schema", "schema": {"a": 1}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"a": 1}, "strict": True},
                }
            },
        ),
        (
            {
                "tools": [TOOL],
                "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            },
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "add",
                            "description": "adds",
                            "parameters": {"type": "object"},
                        },
                    }
                ],
                "tool_choice": "required",
                "parallel_tool_calls": False,
            },
        ),
        (
            {"tool_choice": {"type": "tool", "name": "add"}},
            {"tool_choice": {"type": "function", "function": {"name": "add"}}},
        ),
    ],
)
def test_fields_are_carried_to_their_equals(fields: dict[str, Any], expected: object) -> None:
    base = {"model": "big", "messages": [USER], "max_completion_tokens": 9}
    assert chat(fields) == {**base, **expected}


@pytest.mark.parametrize(
    ("thinking", "named", "by_policy"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, "low", None),
        ({"type": "enabled", "budget_tokens": 4096}, "high", None),
        ({"type": "enabled", "budget_tokens": 60000}, "max", None),
        ({"type": "adaptive"}, None, None),
        ({"type": "disabled"}, "none", "none"),
    ],
)
def test_a_budget_is_an_effort_of_a_rung_and_a_limit_to_the_policy(
    thinking: dict[str, Any], named: str | None, by_policy: str | None
) -> None:
    assert chat({"thinking": thinking}).get("reasoning_effort") == named
    assert chat({"thinking": thinking}, by_policy=True).get("reasoning_effort") == by_policy


def test_blocks_of_a_conversation_keep_their_kind_and_order() -> None:
    image = {"type": "base64", "media_type": "image/png", "data": "AA"}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "AA"}
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image", "source": image},
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                {"type": "document", "source": pdf, "title": "a.pdf"},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": ""},
                {"type": "text", "text": "I add."},
                {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
                {"type": "tool_use", "id": "c2", "name": "add", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "4"},
                {"type": "tool_result", "tool_use_id": "c2", "content": "no", "is_error": True},
                {"type": "text", "text": "Go on."},
            ],
        },
    ]
    functions = [{"name": "add", "arguments": '{"a":1}'}, {"name": "add", "arguments": "{}"}]
    system = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]
    assert chat({"messages": messages, "system": system})["messages"] == [
        {"role": "system", "content": system},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                {
                    "type": "file",
                    "file": {"file_data": "data:application/pdf;base64,AA", "filename": "a.pdf"},
                },
            ],
        },
        {
            "role": "assistant",
            "reasoning_content": "Hm",
            "content": "I add.",
            "tool_calls": [
                {"id": f"c{i}", "type": "function", "function": function}
                for i, function in enumerate(functions, 1)
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
        {
            "role": "tool",
            "tool_call_id": "c2",
            "content": [
                {"type": "text", "text": "The tool failed:"},
                {"type": "text", "text": "no"},
            ],
        },
        {"role": "user", "content": "Go on."},
    ]


def test_hints_that_change_no_answer_are_passed_over_and_named() -> None:
    thought = {"type": "thinking", "thinking": "Hm", "signature": "sealed"}
    fields = {
        "system": [{"type": "text", "text": "Be brief.", "cache_control": KEPT}],
        "tools": [TOOL | {"cache_control": KEPT}],
        "messages": [USER, {"role": "assistant", "content": [thought]}, USER],
    }
    made = chat_of_message(ASK | fields, by_policy=False)
    assert made.ignored == ("cache_control", "signature")
    assert "cache_control" not in json.dumps(made.chat)


def test_what_claude_code_adds_for_its_vendor_alone_is_passed_over_and_named() -> None:
    """decolua/9router#3875, Wei-Shaw/sub2api#6454: each of these failed every request."""
    fields = {
        "diagnostics": {"previous_message_id": None},
        "fallbacks": [{"model": "claude-x"}],
        "fallback_credit_token": "t",
        "user_profile_id": "u",
        "workspace_id": "w",
        "betas": ["x"],
        "anthropic_version": "bedrock-2023-05-31",
    }
    fell = {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}}
    told = {"type": "text", "text": "4", "provider_specific_fields": {"a": 1}}  # by LiteLLM
    messages = [USER, {"role": "assistant", "content": [fell, told]}, USER]
    made = chat_of_message(
        ASK | fields | {"inference_geo": "global", "messages": messages}, by_policy=False
    )
    assert set(made.ignored) == {*fields, "fallback", "provider_specific_fields"}
    assert made.chat.keys() == {"model", "messages", "max_completion_tokens"}
    assert made.chat["messages"][1] == {"role": "assistant", "content": "4"}


def test_an_input_that_another_gateway_wrote_as_text_is_read() -> None:
    for told in ('{"a": null}', {"a": None}):
        use = {"type": "tool_use", "id": "t", "name": "add", "input": told}
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}
        turns = [USER, {"role": "assistant", "content": [use]}, result]
        made = chat({"messages": turns})["messages"][1]["tool_calls"][0]
        assert json.loads(made["function"]["arguments"]) == {"a": None}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"inference_geo": "us"}, "inference_geo"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [USER, {"role": "assistant", "content": "The"}]}, "messages[1]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "container_upload"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}],
                    }
                ]
            },
            "messages[0].content[0].source.type",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL | {"allowed_callers": ["code"]}]}, "tools[0].allowed_callers"),
        ({"mcp_servers": [{"url": "https://x"}]}, "mcp_servers"),
        ({"tool_choice": {"type": "best"}}, "tool_choice.type"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type"),
        ({"output_config": {"task_budget": 3}}, "output_config.task_budget"),
        ({"container": "c"}, "container"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"metadata": {"team": "x"}}, "metadata.team"),
    ],
)
def test_what_cannot_be_carried_is_refused_and_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Problem) as caught:
        chat(fields)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.hint


@given(st.text(min_size=1, max_size=8), st.integers() | st.text() | st.booleans())
def test_no_field_is_dropped_in_silence(name: str, value: object) -> None:
    if name not in {"system", "model", "top_k", "top_p", "stream"}:
        with pytest.raises(Problem):
            chat({name: value})


@given(bodies)
def test_any_body_is_carried_or_refused(body: dict[str, Any]) -> None:
    with suppress(Problem):
        messages = chat(body)["messages"]
        assert messages
        assert {message["role"] for message in messages} <= ROLES


# -- the answer ----------------------------------------------------------------------------------


def whole(reply: dict[str, Any]) -> dict[str, Any]:
    writer = MessageWriter({}, request_id="r1")
    writer.feed(reply)
    writer.end()
    return writer.result()


@given(replies(), st.lists(st.integers(0, 6), min_size=1, max_size=3))
def test_a_stream_tells_the_same_as_the_answer_in_one_piece(reply: Any, cuts: list[int]) -> None:
    writer = MessageWriter({}, request_id="r1")
    events = [told for each in chunks(reply, cuts) for told in writer.feed(each)] + writer.end()
    message = events[0]["message"]
    open_block: int | None = None
    texts: list[str] = []
    for told in events[1:-2]:
        if told["type"] == "content_block_start":
            assert open_block is None
            open_block = told["index"]
            assert open_block == len(message["content"])
            message["content"].append(told["content_block"])
            texts.append("")
        elif told["type"] == "content_block_delta":
            assert told["index"] == open_block
            texts[-1] += next(v for k, v in told["delta"].items() if k != "type")
        else:
            assert (told["type"], told["index"]) == ("content_block_stop", open_block)
            open_block = None
    assert open_block is None
    for block, text in zip(message["content"], texts, strict=True):
        if block["type"] == "tool_use":
            block["input"] = json.loads(text)
        else:
            block[block["type"]] = text
    assert [told["type"] for told in events[-2:]] == ["message_delta", "message_stop"]
    assert message | events[-2]["delta"] | {"usage": events[-2]["usage"]} == whole(reply)


@given(replies())
def test_an_answer_can_be_sent_back_and_is_the_message_that_it_was(reply: Any) -> None:
    message = reply["choices"][0]["message"]
    if message["content"] is None:
        message = {name: value for name, value in message.items() if name != "content"}
    sent = [USER, {"role": "assistant", "content": whole(reply)["content"]}, USER]
    assert chat({"messages": sent})["messages"] == [USER, message, USER]


@pytest.mark.parametrize(
    ("choice", "reason", "sequence"),
    [
        ({"finish_reason": "stop"}, "end_turn", None),
        ({"finish_reason": "stop", "stop_reason": "END"}, "stop_sequence", "END"),
        ({"finish_reason": "stop", "stop_reason": 128001}, "end_turn", None),
        ({"finish_reason": "length"}, "max_tokens", None),
        ({"finish_reason": "tool_calls"}, "end_turn", None),  # and there is none to make
        ({"finish_reason": "content_filter"}, "refusal", None),
    ],
)
def test_why_it_ended_is_told(choice: dict[str, Any], reason: str, sequence: str | None) -> None:
    reply = completion()
    reply["choices"][0] |= choice
    made = whole(reply)
    assert (made["stop_reason"], made["stop_sequence"]) == (reason, sequence)


def test_tokens_from_a_cache_are_not_counted_twice_and_unknown_ones_are_null() -> None:
    usage = whole(completion(usage=USAGE))["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (12, 8)
    usage = whole(completion())["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (20, None)


def calling(*arguments: Any, **choice: Any) -> dict[str, Any]:
    calls = [
        {"id": f"c{i}", "type": "function", "function": {"name": "add", "arguments": given}}
        for i, given in enumerate(arguments)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    [only] = completion()["choices"]
    return completion() | {"choices": [only | {"message": message} | choice]}


def streamed(reply: dict[str, Any]) -> list[dict[str, Any]]:
    writer = MessageWriter({}, request_id="r1")
    return [told for each in chunks(reply, [3]) for told in writer.feed(each)] + writer.end()


@pytest.mark.parametrize(
    ("choice", "reason", "sequence"),
    [
        ({"finish_reason": "tool_calls"}, "tool_use", None),
        ({"finish_reason": "function_call"}, "tool_use", None),
        ({"finish_reason": "stop"}, "tool_use", None),
        ({"finish_reason": "stop", "stop_reason": "END"}, "tool_use", None),
        ({"finish_reason": None}, "tool_use", None),
        ({"finish_reason": "length"}, "max_tokens", None),
        ({"finish_reason": "content_filter"}, "refusal", None),
    ],
)
def test_an_answer_that_calls_ends_for_that_unless_it_broke_off(
    choice: dict[str, Any], reason: str, sequence: str | None
) -> None:
    reply = calling("{}", **choice)
    for made in (whole(reply), streamed(reply)[-2]["delta"]):
        assert (made["stop_reason"], made["stop_sequence"]) == (reason, sequence)


@pytest.mark.parametrize("broken", ['{"a": 1', "null", "[1]", "add 1", '{"a": 1e999}', "[" * 9999])
def test_a_call_that_cannot_be_made_is_told_as_text(broken: str) -> None:
    made = whole(calling(broken, "", {"a": 1}, finish_reason="tool_calls"))
    text, *calls = made["content"]
    assert text["type"] == "text"
    assert "add" in text["text"]
    assert text["text"].endswith(broken)
    assert [call["input"] for call in calls] == [{}, {"a": 1}]
    assert made["stop_reason"] == "tool_use"
    made = whole(calling(broken, finish_reason="tool_calls"))
    assert ([block["type"] for block in made["content"]], made["stop_reason"]) == (
        ["text"],
        "end_turn",
    )


@pytest.mark.parametrize("unfinished", ['{"a": ', ""])
def test_a_call_that_the_limit_cut_off_is_not_made(unfinished: str) -> None:
    made = whole(calling("", unfinished, finish_reason="length"))
    assert [block["type"] for block in made["content"]] == ["tool_use", "text"]
    assert made["stop_reason"] == "max_tokens"


def test_a_call_of_a_whole_answer_is_its_own_whatever_its_index() -> None:
    reply = calling('{"a":0}', '{"a":1}', '{"a":2}', finish_reason="tool_calls")
    for call, index in zip(reply["choices"][0]["message"]["tool_calls"], [0, 1, 0], strict=True):
        call |= {"index": index, "id": None}
    assert [block["input"] for block in whole(reply)["content"]] == [{"a": i} for i in range(3)]


@given(calls=st.lists(arguments, min_size=1, max_size=4), style=st.sampled_from(STYLES))
def test_streamed_calls_are_told_apart_without_an_index(
    calls: list[dict[str, Any]], style: str
) -> None:
    writer = MessageWriter({}, request_id="r1")
    for each in call_chunks(calls, style=style):
        writer.feed(each)
    writer.end()
    content = writer.result()["content"]
    assert [(block["id"], block["input"]) for block in content] == [
        (f"c{i}", given) for i, given in enumerate(calls)
    ]


def part_of_call(index: int, arguments: str) -> dict[str, Any]:
    function = {"name": f"f{index}", "arguments": arguments}
    calls = [{"index": index, "id": f"c{index}", "function": function}]
    return {"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}


@pytest.mark.parametrize(
    "parts",
    [
        [(0, '{"a"'), (1, '{"b"'), (0, ":1}"), (1, ":2}")],
        [(0, '{"a"'), (1, '{"b":2}'), (0, ":1}")],
        [(0, '{"a"'), (1, '{"b"'), (2, "{"), (2, '"c":3}'), (1, ":2}"), (0, ":1}")],
        [(0, ""), (1, '{"b"'), (0, '{"a":1}'), (1, ":2}")],
        [(0, '{"a":1}'), (1, '{"b":2}')],
    ],
)
def test_calls_that_come_side_by_side_are_told_one_after_another(
    parts: list[tuple[int, str]],
) -> None:
    writer = MessageWriter({}, request_id="r1")
    events = [e for index, text in parts for e in writer.feed(part_of_call(index, text))]
    events += writer.end()
    told: dict[int, str] = {}
    for piece in events:
        if piece["type"] == "content_block_delta":
            told[piece["index"]] = told.get(piece["index"], "") + piece["delta"]["partial_json"]
    arguments = {i: "".join(text for index, text in parts if index == i) for i, _ in sorted(parts)}
    assert told == arguments
    names = [e["content_block"]["name"] for e in events if e["type"] == "content_block_start"]
    assert names == [f"f{index}" for index in arguments]
    assert [block["input"] for block in writer.result()["content"]] == [
        json.loads(text) for text in arguments.values()
    ]


def test_a_text_within_the_arguments_of_a_call_comes_after_it() -> None:
    writer = MessageWriter({}, request_id="r1")
    said = [{"choices": [{"delta": {"content": text}}]} for text in ("So", "it is", ".")]
    for piece in (said[0], part_of_call(0, '{"a"'), said[1], part_of_call(0, ":1}"), said[2]):
        writer.feed(piece)
    writer.end()
    blocks = writer.result()["content"]
    assert [block["type"] for block in blocks] == ["text", "tool_use", "text"]
    assert (blocks[0]["text"], blocks[1]["input"], blocks[2]["text"]) == ("So", {"a": 1}, "it is.")


def test_a_call_that_goes_on_after_its_end_is_an_error() -> None:
    writer = MessageWriter({}, request_id="r1")
    writer.feed(part_of_call(0, "{}"))
    writer.feed(part_of_call(1, "{"))
    writer.feed(part_of_call(1, "}"))
    with pytest.raises(EngineProtocolError):
        writer.feed(part_of_call(0, "}"))


# -- live, with the official client where it is installed ------------------------------------------


@asynccontextmanager
async def client(here: Site, *, key: str = "any") -> AsyncIterator[Any]:
    anthropic = pytest.importorskip("anthropic")
    async with anthropic.AsyncAnthropic(base_url=here.url, api_key=key, max_retries=0) as made:
        yield made


async def test_the_official_client_gets_an_answer_and_the_books_a_row(here: Site) -> None:
    async with client(here) as theirs:
        raw = await theirs.messages.with_raw_response.create(
            model="suffice", max_tokens=9, messages=[USER], system="Be brief."
        )
        made = await raw.parse()
    assert made.content[0].text == "4"
    assert (made.stop_reason, made.usage.input_tokens, made.usage.output_tokens) == (
        "end_turn",
        20,
        5,
    )
    assert raw.headers["x-suffice-rung"] == "big"
    assert raw.headers["x-suffice-cost-usd"] == "0.000025"
    row = await here.row()
    assert (row["status"], row["charge_picousd"]) == ("ok", 25_000_000)
    assert here.upstream.calls[0].body["max_completion_tokens"] == 9


@pytest.mark.parametrize("finish", ["length", "tool_calls"])
async def test_an_answer_with_a_broken_call_is_delivered_as_it_is_booked(
    here: Site, finish: str
) -> None:
    async def script(call: Call) -> None:
        await call.reply(calling('{"a": ', finish_reason=finish))

    here.upstream.script = script
    status, body = await here.post(ASK | {"tools": [TOOL]}, path=PATH)
    assert (status, [block["type"] for block in body["content"]]) == (200, ["text"])
    assert (await here.row())["status"] == "ok"


async def test_the_official_client_reads_the_stream(here: Site) -> None:
    seen = asyncio.Event()

    async def script(call: Call) -> None:
        await call.events()
        await call.write(chunk(reasoning_content="hm") + chunk("fo", role="assistant"))
        await seen.wait()
        parts = [{"index": 0, "id": "c1", "function": {"name": "add", "arguments": '{"a":1}'}}]
        await call.write(chunk("ur") + chunk(tool_calls=parts) + chunk(finish="tool_calls"))
        await call.write(event({"choices": [], "usage": USAGE}) + b"data: [DONE]\n\n")

    here.upstream.script = script
    async with (
        client(here) as theirs,
        theirs.messages.stream(model="big", max_tokens=9, messages=[USER]) as stream,
    ):
        texts = []
        async for text in stream.text_stream:
            texts.append(text)
            seen.set()  # the first came before the rest was written
        made = await stream.get_final_message()
    assert texts == ["fo", "ur"]
    assert [block.type for block in made.content] == ["thinking", "text", "tool_use"]
    assert made.content[2].input == {"a": 1}
    assert (made.stop_reason, made.usage.input_tokens, made.usage.output_tokens) == (
        "tool_use",
        12,
        5,
    )
    assert (await here.row())["output_tokens"] == 5


async def test_a_broken_stream_raises(here: Site) -> None:
    async def script(call: Call) -> None:
        await call.events()
        await call.write(chunk("The answer is "))

    here.upstream.script = script
    async with client(here) as theirs:
        import anthropic

        stream = await theirs.messages.create(**ASK, stream=True)
        with pytest.raises(anthropic.APIError):
            assert "message_stop" not in [told.type async for told in stream]
    assert (await here.row())["status"] == "failed"


async def test_errors_have_the_apis_shape_and_a_row(here: Site) -> None:
    async with client(here) as theirs:
        import anthropic

        with pytest.raises(anthropic.NotFoundError) as caught:
            await theirs.messages.create(**ASK | {"model": "gpt-9"})
    assert caught.value.body["error"]["type"] == "not_found_error"
    status, body = await here.post(ASK | {"container": "c"}, path=PATH)
    assert (status, body["type"]) == (400, "error")
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["hint"]
    assert {row["status"] for row in here.rows()} == {"refused"}


async def test_a_budget_leaves_the_choice_to_the_policy_and_effort_does_not(here: Site) -> None:
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2048}}
    ask = ASK | {"model": "suffice"}
    assert (await here.post(ask | thinking, path=PATH))[0] == 200
    assert "reasoning_effort" not in here.upstream.calls[-1].body
    forced = {"x-suffice-rung": "small"}
    assert (await here.post(ask | thinking, path=PATH, **forced))[0] == 200
    assert here.upstream.calls[-1].body["reasoning_effort"] == "medium"
    status, body = await here.post(ask | {"output_config": {"effort": "huge"}}, path=PATH)
    assert (status, body["error"]["param"]) == (400, "output_config.effort")


async def test_what_is_passed_over_is_named_in_a_header(here: Site) -> None:
    body = json.dumps(ASK | {"cache_control": KEPT}).encode()
    headers = {"anthropic-beta": "something-new"}
    async with here.http.post(here.url + PATH, data=body, headers=headers) as response:
        assert response.headers["x-suffice-ignored"] == "anthropic-beta, cache_control"


async def test_keys_come_in_the_header_of_that_api(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    secret = add_key(keys, "app", limits=KeyLimits())
    async with site(tmp_path, more=f'keys = "{keys}"\n') as here:
        status, body = await here.post(ASK, path=PATH)
        assert (status, body["error"]["type"]) == (401, "authentication_error")
        status, _ = await here.post(ASK, path=PATH, **{"x-api-key": secret})
        assert status == 200
        assert (await here.row())["key_id"] == "app"
