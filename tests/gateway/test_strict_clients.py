"""What strict clients look for in answers of lax engines: reasons to finish, indices, heads."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway_support import CHAT, DONE, HEAD, Call, Site, completion, event, site, usage_event

USER = [{"role": "user", "content": "Name a river."}]
BODIES = {
    CHAT: {"model": "big", "messages": USER},
    "/v1/messages": {"model": "big", "max_tokens": 99, "messages": USER},
    "/v1/responses": {"model": "big", "input": "Name a river."},
}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


def choice(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def streamed(here: Site, *choices: dict[str, Any], **fields: Any) -> None:
    """Let the engine stream these choices, each in an event with other `fields`."""

    async def script(call: Call) -> None:
        await call.events()
        for part in choices:
            await call.write(event({**HEAD, **fields, "choices": [part]}))
        await call.write(usage_event() + DONE)

    here.upstream.script = script


def whole(here: Site, reply: dict[str, Any]) -> None:
    async def script(call: Call) -> None:
        await call.reply(reply)

    here.upstream.script = script


async def events(here: Site, path: str = CHAT, **fields: Any) -> list[Any]:
    body = BODIES[path] | {"stream": True} | fields
    async with here.http.post(here.url + path, json=body) as response:
        assert response.status == 200
        data = b""
        with contextlib.suppress(aiohttp.ClientPayloadError):  # a stream that broke off
            async for piece in response.content.iter_any():
                data += piece
    lines = [line[5:].strip() for line in data.split(b"\n") if line.startswith(b"data:")]
    return [json.loads(item) for item in lines if item != b"[DONE]"]


async def finishes(here: Site, **fields: Any) -> list[str | None]:
    return [c["finish_reason"] for e in await events(here, **fields) for c in e["choices"]]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("stop", "stop"),
        ("end_turn", "stop"),
        ("STOP", "stop"),
        ("end", "stop"),
        ("eos", "stop"),
        ("tool_use", "stop"),  # and there is no call
        ("tool_calls", "stop"),
        ("function_call", "function_call"),
        ("MAX_TOKENS", "length"),
        ("model_context_window_exceeded", "length"),
        ("sensitive", "content_filter"),
        ("guardrail_intervened", "content_filter"),
        ("whatever", "whatever"),
    ],
)
async def test_known_reasons_to_finish_are_told_in_the_words_of_openai(
    here: Site, word: str, told: str
) -> None:
    reply = completion("The Rhine.")
    reply["choices"][0]["finish_reason"] = word
    whole(here, reply)
    status, body = await here.post(BODIES[CHAT])
    assert (status, body["choices"][0]["finish_reason"]) == (200, told)
    streamed(here, choice(content="The Rhine."), choice(word))
    assert await finishes(here) == [None, told]
    assert {row["status"] for row in here.rows()} == {"ok"}


@pytest.mark.parametrize(
    ("forced", "told"),
    [(None, "tool_calls"), ("auto", "tool_calls"), ("required", "stop")],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_calls_says_so_but_for_a_call_that_was_forced(
    here: Site, forced: str | None, told: str, stream: bool
) -> None:
    fields = {} if forced is None else {"tool_choice": forced}
    if stream:
        streamed(here, choice(tool_calls=[{**CALL, "index": 0}]), choice("stop"))
        assert await finishes(here, **fields) == [None, told]
    else:
        reply = completion("", tool_calls=[CALL])
        whole(here, reply)
        _, body = await here.post(BODIES[CHAT] | fields)
        assert body["choices"][0]["finish_reason"] == told


async def test_an_empty_reason_to_finish_is_none_until_the_answer_is_whole(here: Site) -> None:
    streamed(here, choice("", content="The "), choice("", content="Rhine."), choice("stop"))
    assert await finishes(here) == [None, None, "stop"]
    reply = completion("The Rhine.")
    reply["choices"][0]["finish_reason"] = ""
    whole(here, reply)
    status, body = await here.post(BODIES[CHAT])
    assert (status, body["choices"][0]["finish_reason"]) == (200, "stop")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("told", [{"index": None}, {}])
async def test_an_answer_without_an_index_is_the_first(
    here: Site, path: str, told: dict[str, Any]
) -> None:
    reply = completion("The Rhine.")
    del reply["choices"][0]["index"]
    reply["choices"][0] |= told
    whole(here, reply)
    status, body = await here.post(BODIES[path], path=path)
    assert status == 200
    assert "The Rhine." in json.dumps(body)
    parts = [choice(content="The Rhine."), choice("stop")]
    for part in parts:
        del part["index"]
    streamed(here, *(part | told for part in parts))
    found = await events(here, path)
    assert "The Rhine." in json.dumps(found)
    if path == CHAT:
        assert body["choices"][0]["index"] == 0
        assert [c["index"] for e in found for c in e["choices"]] == [0, 0]


async def test_a_reply_without_a_head_gets_one_and_stays_as_it_is_else(here: Site) -> None:
    reply = completion("The Rhine.")
    bare = {name: reply[name] for name in ("choices", "usage")}
    whole(here, bare)
    _, body = await here.post(BODIES[CHAT])
    assert (body["object"], body["model"]) == ("chat.completion", "big-model")
    assert body["id"].startswith("chatcmpl-")
    assert body["created"] > 1_700_000_000
    assert body["choices"] == bare["choices"]


async def test_every_event_of_a_stream_has_choices(here: Site) -> None:
    async def script(call: Call) -> None:
        await call.events()
        await call.write(event({**HEAD, "progress": 0.5}))
        await call.write(event({**HEAD, "choices": [choice(content="The Rhine.")]}))
        await call.write(event({**HEAD, "choices": [choice("stop")]}))
        usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
        await call.write(event({"id": "x", "usage": usage}) + DONE)

    here.upstream.script = script
    found = await events(here, stream_options={"include_usage": True})
    assert [len(e["choices"]) for e in found] == [0, 1, 1, 0]
    assert found[0]["progress"] == 0.5
    assert found[-1]["usage"]["completion_tokens"] == 5
    assert here.rows()[-1]["output_tokens"] == 5


@pytest.mark.parametrize(
    "odd", [{"tool_calls": {}}, {"tool_calls": ""}, {"logprobs": []}, {"model": 5}]
)
async def test_an_empty_value_of_another_kind_loses_no_answer(
    here: Site, odd: dict[str, Any]
) -> None:
    delta = {name: value for name, value in odd.items() if name == "tool_calls"}
    part = choice(content="The Rhine.", **delta)
    part |= {name: value for name, value in odd.items() if name == "logprobs"}
    streamed(here, part, choice("stop"), **{n: v for n, v in odd.items() if n == "model"})
    assert "The Rhine." in json.dumps(await events(here))
    assert here.rows()[-1]["status"] == "ok"


@pytest.mark.parametrize("name", ["reasoning_text", "thinking", "reasoning_details"])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_a_thought_is_read_under_any_vendors_name(here: Site, path: str, name: str) -> None:
    details = [{"type": "reasoning.text", "text": "So "}, {"summary": "it is."}]
    thought = details if name == "reasoning_details" else "So it is."
    whole(here, completion("The Rhine.", **{name: thought}))
    _, body = await here.post(BODIES[path], path=path)
    assert "So it is." in json.dumps(body)
    assert "dropped" not in body["suffice"]
    streamed(here, choice(**{name: thought}), choice(content="The Rhine."), choice("stop"))
    assert "So it is." in json.dumps(await events(here, path))


def pieces(told: list[Any]) -> list[str]:
    """Read the pieces of text in the events of any API."""
    parts = [one["choices"][0] for one in told if one.get("choices")]
    assert all("message" not in part for part in parts)
    texts = [part["delta"].get("content") for part in parts]  # the openai SDK fails without one
    texts += [one["delta"].get("text") for one in told if one.get("type") == "content_block_delta"]
    texts += [one["delta"] for one in told if one.get("type") == "response.output_text.delta"]
    return [text for text in texts if text]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", ["message", "delta", "text"])
async def test_a_text_is_read_in_a_message_a_delta_or_alone(
    here: Site, path: str, name: str
) -> None:
    def part(text: str, finish: str | None = None) -> dict[str, Any]:
        told = text if name == "text" else {"content": text}
        return {"index": 0, name: told, "finish_reason": finish}

    streamed(here, part("The "), part("Rhine."), {"index": 0, "finish_reason": "stop"})
    assert pieces(await events(here, path)) == ["The ", "Rhine."]
    whole(here, {**completion(), "choices": [part("The Rhine.", "stop")]})
    _, body = await here.post(BODIES[path], path=path)
    [message] = [one["message"] for one in body.get("choices", ())] or [body]
    assert "The Rhine." in json.dumps(message.get("output") or message["content"])
    assert {row["output_tokens"] for row in here.rows()} == {5}


THOUGHT = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "So "}]},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "it is."}]},
]
SAID = [{"type": "text", "text": "The "}, {"type": "output_text", "text": "Rhine."}]


@pytest.mark.parametrize("path", BODIES)
async def test_a_list_of_texts_and_thoughts_is_told_as_text(here: Site, path: str) -> None:
    """vercel/ai#17782, databricks/appkit#559: Mistral, and gpt-oss at Databricks, write lists."""
    cited = {"type": "reference", "reference_ids": [1]}
    streamed(
        *(here, choice(content=THOUGHT), choice(content=SAID[:1])),
        *(choice(content=[*SAID[1:], cited]), choice("stop", content=[])),
    )
    told = await events(here, path)
    assert pieces(told) == ["The ", "Rhine."]
    assert "So it is." in json.dumps(told)
    assert not any(
        isinstance(one["choices"][0]["delta"].get("content"), list)
        for one in told
        if one.get("choices")
    )
    whole(here, completion([*THOUGHT, *SAID]))  # type: ignore[arg-type]
    _, body = await here.post(BODIES[path], path=path)
    assert "So it is." in json.dumps(body)
    assert "The Rhine." in json.dumps(body)
    if path == CHAT:
        message = body["choices"][0]["message"]
        assert (message["content"], message["reasoning_content"]) == ("The Rhine.", "So it is.")
        assert told[2]["choices"][0]["delta"]["references"] == [cited]


async def test_a_picture_in_a_list_stays_there(here: Site) -> None:
    parts = [*SAID, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    streamed(here, choice(content=parts), choice("stop"))
    assert (await events(here))[0]["choices"][0]["delta"]["content"] == parts


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({"created": 1771279826.5, "id": 7}, {"created": 1771279826, "id": "7"}),
        ({"created": 1771279826123, "id": "a"}, {"created": 1771279826, "id": "a"}),
        ({"created": 1771279826, "id": "a"}, {"created": 1771279826, "id": "a"}),
    ],
)
async def test_a_head_of_other_types_is_mended(
    here: Site, told: dict[str, Any], shown: dict[str, Any]
) -> None:
    """BoundaryML/baml#1746, EricLBuehler/mistral.rs#1805: typed clients stop at a decimal."""
    streamed(here, choice(content="The Rhine."), choice("stop"), **told)
    for one in await events(here):
        assert shown.items() <= one.items()
    whole(here, completion("The Rhine.") | told)
    _, body = await here.post(BODIES[CHAT])
    assert shown.items() <= body.items()


@pytest.mark.parametrize("role", ["", "model", 5])
async def test_an_answer_is_the_assistants_whatever_its_role_says(here: Site, role: Any) -> None:
    """MiniMax-AI/MiniMax-M2.5#2, anomalyco/opencode#28427: Vercel's SDK stops at any other."""
    streamed(here, choice(role=role, content="The Rhine."), choice("stop", role=role))
    told = [one["choices"][0]["delta"] for one in await events(here)]
    assert [delta.get("role") for delta in told] == ["assistant", "assistant"]
    whole(here, completion("The Rhine.", role=role))
    _, body = await here.post(BODIES[CHAT])
    assert body["choices"][0]["message"]["role"] == "assistant"


@pytest.mark.parametrize("path", BODIES)
async def test_a_message_that_repeats_a_stream_at_its_end_is_told_once(
    here: Site, path: str
) -> None:
    """abundantbeing/hermes-browser-extension#11: the whole answer stood there twice."""
    last = {"index": 0, "message": {"content": "The Rhine."}, "finish_reason": "stop"}
    streamed(here, choice(content="The "), choice(content="Rhine."), last)
    assert pieces(await events(here, path)) == ["The ", "Rhine."]


@pytest.mark.parametrize("path", BODIES)
async def test_an_answer_is_read_whatever_number_it_has(here: Site, path: str) -> None:
    told = [choice(content="The Rhine."), choice("stop")]
    streamed(here, *({**part, "index": 1} for part in told))
    assert pieces(await events(here, path)) == ["The Rhine."]
    reply = completion("The Rhine.")
    reply["choices"][0]["index"] = 1
    whole(here, reply)
    _, body = await here.post(BODIES[path], path=path)
    assert "The Rhine." in json.dumps(body)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_a_call_that_is_never_named_is_text(here: Site, path: str) -> None:
    """No client has a tool without a name: agents ask again for one that they cannot run."""
    nameless = {"id": "c1", "type": "function", "function": {"arguments": '{"x": 1}'}}
    streamed(here, choice(tool_calls=[{**nameless, "index": 0}]), choice("tool_calls"))
    told = await events(here, path)
    assert "".join(pieces(told)) == 'A call of no tool: {"x": 1}'
    assert '"stop_reason": "tool_use"' not in json.dumps(told)
    whole(here, completion("", tool_calls=[nameless, {**CALL, "id": "c2"}]))
    _, body = await here.post(BODIES[path], path=path)
    assert "A call of no tool" in json.dumps(body)
    items = body.get("output") or body["content"]
    assert [one["name"] for one in items if "name" in one] == ["f"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_a_call_in_the_older_form_is_a_call(here: Site, path: str) -> None:
    reply = completion("", function_call=CALL["function"])
    reply["choices"][0]["finish_reason"] = "function_call"
    whole(here, reply)
    _, body = await here.post(BODIES[path], path=path)
    [call] = body.get("output") or body["content"]
    assert (call["name"], call["type"] in ("tool_use", "function_call")) == ("f", True)
    streamed(
        here,
        choice(function_call={"name": "f", "arguments": "{"}),
        choice(function_call={"arguments": "}"}),
        choice("function_call"),
    )
    assert '"name": "f"' in json.dumps(await events(here, path))


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_what_stands_beside_the_message_is_named_where_it_has_no_place(
    here: Site, path: str
) -> None:
    reply = completion("The Rhine.") | {"citations": ["https://rhine.example"]}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    parts = [{"type": "text", "text": "The Rhine."}, picture]
    reply["choices"][0]["message"]["content"] = parts
    whole(here, reply)
    _, body = await here.post(BODIES[path], path=path)
    assert "The Rhine." in json.dumps(body)
    assert body["suffice"]["dropped"] == ["citations", "image_url"]


async def test_a_tier_that_only_the_first_event_tells_is_booked(here: Site) -> None:
    async def script(call: Call) -> None:
        await call.events()
        first = {**HEAD, "service_tier": "priority", "choices": [choice(content="The Rhine.")]}
        await call.write(event(first) + event({**HEAD, "choices": [choice("stop")]}))
        await call.write(usage_event() + DONE)

    here.upstream.script = script
    await events(here)
    assert here.rows()[-1]["charge_estimated"] == 1


# -- a stream of the Responses API that breaks off -------------------------------------------------


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (b"", "upstream_broken"),
        (event({"error": {"message": "busy", "code": "server_is_overloaded"}}), "upstream_refused"),
        (
            event({"error": {"message": "maximum context length is 9", "code": 400}}),
            "context_length_exceeded",
        ),
    ],
)
async def test_agents_are_told_that_a_response_failed_and_why(
    here: Site, last: bytes, code: str
) -> None:
    async def script(call: Call) -> None:
        await call.events()
        await call.write(event({**HEAD, "choices": [choice(content="The")]}))
        await asyncio.sleep(0.05)
        await call.write(last)
        call.writer.close()

    here.upstream.script = script
    found = await events(here, "/v1/responses")
    failed, error = found[-2:]
    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["code"] == code == error["code"] == error["error"]["code"]
    assert failed["response"]["error"]["message"]
    numbers = [e["sequence_number"] for e in found]
    assert numbers == list(range(len(found)))


@pytest.mark.parametrize("store_text", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_within_a_choice_keeps_what_was_used_and_its_words_where_texts_are_kept(
    tmp_path: Path, stream: bool, store_text: bool
) -> None:
    error = {"code": 502, "message": "Upstream idle timeout exceeded"}
    usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
    async with site(tmp_path, more=f"store_text = {str(store_text).lower()}\n") as here:
        if stream:

            async def script(call: Call) -> None:
                await call.events()
                await call.write(event({**HEAD, "choices": [choice(content="The Rhine")]}))
                await asyncio.sleep(0.05)
                broken = choice("error") | {"error": error}
                await call.write(event({**HEAD, "choices": [broken], "usage": usage}))

            here.upstream.script = script
            answer = (await events(here))[-1]
        else:
            reply = completion("The Rhine", usage=usage)
            reply["choices"][0] |= {"finish_reason": "error", "error": error}
            whole(here, reply)
            status, answer = await here.post(BODIES[CHAT])
            assert status == 502
        assert "error" in answer
        row = here.rows()[-1]
    assert row["status"] == "failed"
    words = ": Upstream idle timeout exceeded" if store_text else ""
    assert row["error"] == f"the engine broke off with an error{words}"
    assert row["output_tokens"] is not None
