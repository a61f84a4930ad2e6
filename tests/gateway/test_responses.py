"""POST /v1/responses: carried to the chat path and back, by examples, at random, and live."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from apis_support import STYLES, USAGE, arguments, bodies, call_chunks, chunks, replies
from gateway_support import Call, Site, chunk, completion, event, site
from hypothesis import given
from hypothesis import strategies as st

from suffice.gateway.apis import responses_request
from suffice.gateway.apis.responses_reply import ResponseWriter
from suffice.gateway.problems import Problem

PATH = "/v1/responses"
ASK = {"model": "big", "input": "What is 2 + 2?"}
ROLES = {"system", "developer", "user", "assistant", "tool"}
USER = {"role": "user", "content": "What is 2 + 2?"}
TOOL = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}
CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}


def chat_of_response(body: object, **before: Any) -> dict[str, Any]:
    return responses_request.chat_of_response(body, **before).chat


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


# -- the request ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"instructions": "Be brief."}, {}),
        ({"max_output_tokens": 9}, {"max_completion_tokens": 9}),
        ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"temperature": 0.5, "top_p": 1}, {"temperature": 0.5, "top_p": 1}),
        ({"store": False, "previous_response_id": None, "truncation": "disabled"}, {}),
        ({"metadata": {"a": "b"}}, {}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "name": "add"}},
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {k: v for k, v in TOOL.items() if k != "type"},
                    }
                ],
                "tool_choice": {"type": "function", "function": {"name": "add"}},
            },
        ),
        (
            {
                "text": {
                    "verbosity": "low",
                    "format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True},
                }
            },
            {
                "verbosity": "low",
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {}, "strict": True},
                },
            },
        ),
        (
            {"text": {"format": {"type": "json_object"}}},
            {"response_format": {"type": "json_object"}},
        ),
    ],
)
def test_fields_are_carried_to_their_equals(fields: dict[str, Any], expected: object) -> None:
    system = [{"role": "system", "content": "Be brief."}] if "instructions" in fields else []
    assert chat_of_response(ASK | fields) == {
        "model": "big",
        "messages": [*system, USER],
        **expected,
    }


def test_items_of_a_turn_become_one_message_and_parts_keep_their_kind() -> None:
    items = [
        {"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:;base64,AA"},
            ],
        },
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        CALL,
        {"type": "function_call_output", "call_id": "c1", "output": "4"},
    ]
    function = {"name": "add", "arguments": "{}"}
    assert chat_of_response({"model": "big", "input": items})["messages"] == [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/png;base64,AA", "detail": "low"},
                },
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:;base64,AA"}},
            ],
        },
        {
            "role": "assistant",
            "reasoning_content": "Hm",
            "content": "Let me see.",
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    ]


def output(call_id: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": "4"}


def thought(text: str) -> dict[str, Any]:
    content = [{"type": "reasoning_text", "text": text}]
    return {"type": "reasoning", "summary": [], "content": content}


@st.composite
def turns(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw thoughts, texts, and calls each with its output somewhere after it, as input."""
    items: list[dict[str, Any]] = []
    open_calls: list[str] = []
    for i, kind in enumerate(draw(st.lists(st.sampled_from("tmcco"), max_size=10))):
        if kind == "t":
            items.append(thought(f"t{i}"))
        elif kind == "m":
            items.append({"role": "assistant", "content": f"m{i}"})
        elif kind == "c":
            items.append(CALL | {"call_id": f"c{i}"})
            open_calls.append(f"c{i}")
        elif open_calls:
            items.append(output(open_calls.pop(draw(st.integers(0, len(open_calls) - 1)))))
    return [USER, *items, *map(output, draw(st.permutations(open_calls)))]


@given(turns())
def test_outputs_follow_the_message_that_holds_their_calls(items: list[dict[str, Any]]) -> None:
    messages = chat_of_response({"model": "big", "input": items})["messages"]
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
            waiting.remove(message["tool_call_id"])
        else:
            assert not waiting
            waiting = {call["id"] for call in message.get("tool_calls", ())}
    assert not waiting
    sent = json.dumps(messages)
    for item in items[1:]:  # nothing is lost
        said = item.get("call_id") or item["content"]
        assert (said if isinstance(said, str) else said[0]["text"]) in sent


def test_what_comes_while_a_call_waits_joins_its_message() -> None:
    parts = [{"type": "output_text", "text": "c"}, {"type": "output_text", "text": "d"}]
    said = [{"role": "assistant", "content": content} for content in ("a", "b", parts)]
    items = [thought("t"), said[0], CALL, said[1], thought("u"), output("c1"), said[0]]
    _, turn, told, after = chat_of_response({"model": "m", "input": [USER, *items]})["messages"]
    assert (turn["reasoning_content"], turn["content"]) == ("t\n\nu", "a\n\nb")
    assert (told["role"], after) == ("tool", {"role": "assistant", "content": "a"})
    items = [said[0], CALL, said[2], output("c1")]
    _, turn, _ = chat_of_response({"model": "m", "input": [USER, *items]})["messages"]
    assert turn["content"] == [{"type": "text", "text": text} for text in "acd"]


def test_a_call_that_nobody_answered_does_not_reach_past_the_user() -> None:
    items = [CALL, USER, {"role": "assistant", "content": "a"}]
    messages = chat_of_response({"model": "m", "input": items})["messages"]
    assert [message["role"] for message in messages] == ["assistant", "user", "assistant"]


def test_settings_that_change_in_a_conversation_hold_for_its_answer() -> None:
    """The Responses API takes them as items; each holds until the next."""
    update = {"type": "configuration_update", "id": "cu_1", "reasoning": {"effort": "low"}}
    later = {**update, "reasoning": {"effort": "high"}, "text": {"format": {"type": "json_object"}}}
    asked = {"input": [update, USER, later, USER], "reasoning": {"effort": "none"}}
    asked["text"] = {"verbosity": "low"}
    made = chat_of_response(ASK | asked)
    assert (made["reasoning_effort"], made["verbosity"]) == ("high", "low")
    assert made["response_format"] == {"type": "json_object"}
    assert made["messages"] == [USER, USER]
    alone = chat_of_response(ASK | {"input": [USER, update]})
    assert alone["reasoning_effort"] == "low"


def test_what_is_for_its_vendor_alone_is_passed_over_and_named() -> None:
    """openai/openai-python 3.54: fields and items that change no answer of another engine."""
    part = {"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"type": "explicit"}}
    thought = {"type": "agent_reasoning", "author": "a", "content": []}
    made = responses_request.chat_of_response(
        ASK
        | {
            "prompt_cache_options": {"mode": "explicit"},
            "reasoning": {"context": "all_turns", "mode": "standard"},
            "input": [thought, {"role": "user", "content": [part]}],
        }
    )
    assert made.ignored == (
        *("agent_reasoning", "prompt_cache_breakpoint", "prompt_cache_options"),
        "reasoning.context",
    )
    assert made.chat["messages"] == [{"role": "user", "content": "x"}]


REFUSED = [
    ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
    ({"input": [{"type": "configuration_update", "reasoning": 1}]}, "input[0].reasoning"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"store": True}, "store"),
    ({"include": ["message.output_text.odd"]}, "include"),
    ({"truncation": 1}, "truncation"),
    ({"tools": [{"type": "file_search"}]}, "tools[0].type"),
    (
        {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}]},
        "tools[0].tools[0].type",
    ),
    ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0].type"),
    ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"background": True}, "background"),
    ({"top_logprobs": "3"}, "top_logprobs"),
    ({"n": 2}, "n"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tool_choice": {"type": "mcp"}}, "tool_choice.type"),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    ({"input": []}, "input"),
    ({"input": None}, "input"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, None),
    ({"input": [{"role": "nobody", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": ["x"]}, "input[0]"),
    ({"model": None}, "model"),
    ({"max_output_tokens": "9"}, "max_output_tokens"),
    ({"stream": 1}, "stream"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_what_cannot_be_carried_is_refused_and_named(
    fields: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(Problem) as caught:
        chat_of_response(ASK | fields)
    assert caught.value.status == 400
    assert caught.value.hint
    assert caught.value.param == (param or "input[0].content[0].image_url")


@given(st.text(min_size=1, max_size=8), st.integers() | st.text() | st.booleans())
def test_no_field_is_dropped_in_silence(name: str, value: object) -> None:
    if name not in {"input", "model", "store", "stream", "top_p", "user"}:
        with pytest.raises(Problem):
            chat_of_response(ASK | {name: value})


@given(bodies)
def test_any_body_is_carried_or_refused(body: dict[str, Any]) -> None:
    with suppress(Problem):
        messages = chat_of_response(ASK | body)["messages"]
        assert messages
        assert {message["role"] for message in messages} <= ROLES


# -- the answer ----------------------------------------------------------------------------------


def whole(reply: dict[str, Any]) -> dict[str, Any]:
    writer = ResponseWriter(ASK, request_id="r1")
    writer.feed(reply)
    writer.end()
    return writer.result()


@given(replies(), st.lists(st.integers(0, 6), min_size=1, max_size=3))
def test_a_stream_tells_the_same_as_the_answer_in_one_piece(reply: Any, cuts: list[int]) -> None:
    writer = ResponseWriter(ASK, request_id="r1")
    events = [told for each in chunks(reply, cuts) for told in writer.feed(each)] + writer.end()
    assert [told["sequence_number"] for told in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created"
    assert events[-1]["response"] == whole(reply)
    heard: dict[str, str] = {}
    for told in events:
        if told["type"].endswith(".delta"):
            heard[told["item_id"]] = heard.get(told["item_id"], "") + told["delta"]
    for item in events[-1]["response"]["output"]:
        text = item["arguments"] if "arguments" in item else item["content"][0]["text"]
        assert heard.get(item["id"], "") == text
    added = [told["item"] for told in events if told["type"] == "response.output_item.added"]
    done = [told["item"] for told in events if told["type"] == "response.output_item.done"]
    assert {each["id"] for each in added} == {each["id"] for each in done}
    assert sorted(done, key=str) == sorted(events[-1]["response"]["output"], key=str)


@given(calls=st.lists(arguments, min_size=1, max_size=4), style=st.sampled_from(STYLES))
def test_streamed_calls_are_told_apart_without_an_index(
    calls: list[dict[str, Any]], style: str
) -> None:
    writer = ResponseWriter(ASK, request_id="r1")
    for each in call_chunks(calls, style=style):
        writer.feed(each)
    writer.end()
    assert [
        (item["call_id"], item["name"], json.loads(item["arguments"]))
        for item in writer.result()["output"]
    ] == [(f"c{i}", f"f{i}", given) for i, given in enumerate(calls)]


@given(replies())
def test_an_answer_can_be_sent_back_and_is_the_message_that_it_was(reply: Any) -> None:
    made = whole(reply)
    asked = {"model": "m", "input": [USER, *made["output"]]}
    message = reply["choices"][0]["message"]
    if message["content"] is None:
        message = {name: value for name, value in message.items() if name != "content"}
    expected = [USER] if len(message) == 1 else [USER, message]
    assert chat_of_response(asked)["messages"] == expected


@pytest.mark.parametrize(
    ("finish", "status", "why"),
    [
        ("stop", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_why_it_ended_is_told(finish: str, status: str, why: object) -> None:
    reply = completion()
    reply["choices"][0]["finish_reason"] = finish
    made = whole(reply)
    assert (made["status"], made["incomplete_details"]) == (status, why)


def test_known_counts_are_exact_and_unknown_ones_a_whole_number_that_is_named() -> None:
    usage = whole(completion(usage=USAGE))["usage"]
    assert usage["input_tokens_details"] == {"cached_tokens": 8}
    assert usage["output_tokens_details"] == {"reasoning_tokens": 2}
    response = whole(completion() | {"suffice": {"rung": "big"}})
    usage = response["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (20, 5, 25)
    assert usage["input_tokens_details"] == {"cached_tokens": 0}
    assert usage["output_tokens_details"] == {"reasoning_tokens": 0}
    assert response["suffice"]["unknown_counts"] == ["cached_tokens", "reasoning_tokens"]


def test_a_refusal_is_told_as_one() -> None:
    [item] = whole(completion("", refusal="No."))["output"]
    assert item["content"] == [{"type": "refusal", "refusal": "No."}]


# -- live, with the official client --------------------------------------------------------------


async def test_the_official_client_gets_an_answer_and_the_books_a_row(here: Site) -> None:
    raw = await here.client.responses.with_raw_response.create(
        model="suffice", input="What is 2 + 2?", instructions="Be brief."
    )
    made = raw.parse()
    assert made.output_text == "4"
    assert (made.usage.input_tokens, made.usage.output_tokens) == (20, 5)
    assert made.instructions == "Be brief."
    assert raw.headers["x-suffice-rung"] == "big"
    assert raw.headers["x-suffice-cost-usd"] == "0.000025"
    assert made.model_extra["suffice"]["cost_usd"] == "0.000025"
    row = await here.row()
    assert (row["status"], row["charge_picousd"]) == ("ok", 25_000_000)
    assert made.id == f"resp_{row['request_id']}"
    roles = [message["role"] for message in here.upstream.calls[0].body["messages"]]
    assert roles == ["system", "user"]


async def test_the_official_client_reads_the_stream(here: Site) -> None:
    seen = asyncio.Event()

    async def script(call: Call) -> None:
        await call.events()
        await call.write(chunk("fo", role="assistant"))
        await seen.wait()
        parts = [{"index": 0, "id": "c1", "function": {"name": "add", "arguments": "{}"}}]
        await call.write(chunk("ur") + chunk(tool_calls=parts) + chunk(finish="tool_calls"))
        await call.write(event({"choices": [], "usage": USAGE}) + b"data: [DONE]\n\n")

    here.upstream.script = script
    stream = await here.client.responses.create(model="big", input="x", stream=True)
    kinds, deltas = [], []
    async for told in stream:
        kinds.append(told.type)
        if told.type == "response.output_text.delta":
            deltas.append(told.delta)
            seen.set()  # the first came before the rest was written
    assert deltas == ["fo", "ur"]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert told.response.output_text == "four"
    assert told.response.output[1].name == "add"
    assert told.response.usage.output_tokens_details.reasoning_tokens == 2
    assert told.response.model_extra["suffice"]["rung"] == "big"
    assert (await here.row())["output_tokens"] == 5


async def test_structured_output_works_through_the_clients_helper(here: Site) -> None:
    from pydantic import BaseModel

    class Sum(BaseModel):
        value: int

    async def script(call: Call) -> None:
        await call.reply(completion('{"value": 4}'))

    here.upstream.script = script
    made = await here.client.responses.parse(model="big", input="2 + 2?", text_format=Sum)
    assert made.output_parsed == Sum(value=4)
    sent = here.upstream.calls[0].body["response_format"]
    assert sent["json_schema"]["schema"]["required"] == ["value"]


async def test_a_broken_stream_raises_and_is_never_completed(here: Site) -> None:
    async def script(call: Call) -> None:
        await call.events()
        await call.write(chunk("The answer is "))

    here.upstream.script = script
    stream = await here.client.responses.create(model="big", input="x", stream=True)
    with pytest.raises(openai.APIError):
        assert "response.completed" not in [told.type async for told in stream]
    assert (await here.row())["status"] == "failed"


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "gpt-9"}, 404, "model"),
        ({"store": True}, 400, "store"),
        ({"model": "suffice", "reasoning": {"effort": "huge"}}, 400, "reasoning.effort"),
    ],
)
async def test_errors_have_the_apis_shape_and_a_row(
    here: Site, fields: dict[str, Any], status: int, param: str
) -> None:
    got, body = await here.post(ASK | fields, path=PATH)
    assert (got, body["error"]["param"]) == (status, param)
    assert body["error"]["hint"]
    assert (await here.row())["status"] == "refused"


@pytest.mark.parametrize("sent", [b"", b"[]", b'{"model": "big", "input": "\xff"}', b"[" * 900])
async def test_what_is_no_request_is_refused(here: Site, sent: bytes) -> None:
    got, body = await here.post(sent, path=PATH)
    assert got == 400
    assert json.dumps(body["error"]["hint"])
