"""Faults that clients of the Responses API reported in public, tried on the engine."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from response_server import CALL, SEARCH, THOUGHT, asking, events_of, text_item

from suffice.config import EngineConfig
from suffice.deployment import request_fields
from suffice.engines.base import Retries, last
from suffice.engines.response_replies import ResponseEvents, completion_of
from suffice.engines.response_requests import left_out, response_body
from suffice.engines.responses import ResponsesEngine
from suffice.errors import ConfigError, EngineError, EngineProtocolError, EngineRefused
from suffice.types import Completion, Count, CountSource, Effort, Finish, Request, Rung

JSON = dict[str, Any]
RUNG = Rung(name="r", engine="o", model="gpt-5.5", effort=Effort.HIGH)
ASKED = {"role": "user", "content": "How is it?"}
USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}


def chat(*messages: JSON, **params: object) -> Request:
    return Request(request_id="r", messages=messages or (ASKED,), params=params)


def response(*output: JSON, **changes: object) -> JSON:
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5.5"}
    return {**head, "status": "completed", "output": [*output], "usage": USAGE, **changes}


def message_of(*output: JSON) -> JSON:
    message: JSON = completion_of(response(*output), origin="o/gpt-5.5")["choices"][0]["message"]
    return message


def joined(events: list[JSON]) -> JSON:
    """Add up the deltas of a stream, its calls by their index."""
    reader, message, calls = ResponseEvents(origin="o/gpt-5.5"), {}, {}
    for event in events:
        chunk = reader.chunk(event)
        for choice in chunk["choices"] if chunk else ():
            for name, value in choice["delta"].items():
                if name == "tool_calls":
                    for part in value:
                        calls.setdefault(part["index"], []).append(part["function"]["arguments"])
                else:
                    message[name] = value if name not in message else message[name] + value
    return message | {"calls": ["".join(parts) for _, parts in sorted(calls.items())]}


def sent(*messages: JSON, rung: Rung = RUNG, **params: object) -> JSON:
    return response_body(chat(*messages, **params), rung, stream=False)


class Script:
    """A server that sends its events, and stays on the line where it is told to."""

    def __init__(self) -> None:
        self.events: list[JSON] = []
        self.scripts: list[list[JSON]] = []  # of the next calls, in place of `events`
        self.stays = False
        self.last_line_end = "\n\n"
        self.head: dict[str, str] = {}
        self.asked: list[JSON] = []
        self.refusals: list[tuple[int, JSON]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        self.events = self.scripts.pop(0) if self.scripts else self.events
        if self.refusals:
            status, error = self.refusals.pop(0)
            return web.json_response({"error": error}, status=status)
        if not self.asked[-1]["stream"]:
            return web.json_response(self.events[-1]["response"])
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"} | self.head)
        await stream.prepare(request)
        data = "\n\n".join(f"data: {json.dumps(event)}" for event in self.events)
        await stream.write(b": keep-alive\n\n" + (data + self.last_line_end).encode())
        if self.stays:
            await asyncio.sleep(60)
        return stream


@pytest.fixture
async def script() -> AsyncIterator[tuple[Script, ResponsesEngine]]:
    script = Script()
    async with asking(script.answer) as engine:
        yield script, engine


def test_phases_go_back_with_their_messages() -> None:
    """https://github.com/pydantic/pydantic-ai/pull/5229: without them models stop early."""
    message = message_of(
        THOUGHT,
        text_item("I look it up.") | {"phase": "commentary"},
        SEARCH,
        text_item("It rains.") | {"phase": "final_answer"},
    )
    assert message["content"] == "I look it up.\n\nIt rains."
    _, thought, first, search, second, _ = sent(ASKED, message, ASKED)["input"]
    assert thought["type"] == "reasoning"
    assert (first["phase"], second["phase"]) == ("commentary", "final_answer")
    assert (first["content"], second["content"]) == ("I look it up.", "It rains.")
    assert search == {name: value for name, value in SEARCH.items() if name != "id"}
    alone = message_of(text_item("It rains.") | {"phase": "final_answer"})
    assert "response_items" not in alone, "what has no phase is taken for the answer"
    changed = sent(ASKED, message | {"content": "It rains."}, ASKED)["input"]
    assert [item["type"] for item in changed[1:-1]] == ["reasoning", "web_search_call", "message"]
    assert "phase" not in changed[-2]


def test_thoughts_that_nothing_follows_stay_here() -> None:
    """https://github.com/openai/codex/pull/15542: the API refuses them."""
    searched = {"id": "ws_2", "type": "web_search_call", "status": "incomplete"}
    message = message_of(THOUGHT, searched)
    assert [item["type"] for item in sent(ASKED, message, ASKED)["input"]] == ["message"] * 2


def test_thoughts_stay_with_the_engine_that_gave_them() -> None:
    """https://github.com/openai/codex/issues/8145: another account cannot decrypt them."""
    message = message_of(THOUGHT, text_item("4"))
    for rung, thinks in ((RUNG, True), (Rung(name="r", engine="azure", model="gpt-5.5"), False)):
        kinds = [item["type"] for item in sent(ASKED, message, ASKED, rung=rung)["input"]]
        assert ("reasoning" in kinds) == thinks


@pytest.mark.parametrize("stream", [False, True])
async def test_thoughts_that_the_account_cannot_read_are_left_out(
    script: tuple[Script, ResponsesEngine], stream: bool
) -> None:
    """https://github.com/openai/codex/issues/8119: such a session never went on."""
    server, engine = script
    server.events = list(events_of(response(text_item("4"))))
    unreadable = (400, {"code": "invalid_encrypted_content", "message": "could not be verified"})
    chats = chat(ASKED, message_of(THOUGHT, text_item("4")), ASKED), chat()
    for request, answers in zip(chats, (True, False), strict=True):
        server.refusals = [unreadable]
        call = last(engine.stream(request, RUNG)) if stream else engine.complete(request, RUNG)
        if answers:
            assert (await call).finish is Finish.STOP
            kinds = [[item["type"] for item in body["input"]] for body in server.asked]
            assert kinds == [["message", "reasoning", "message", "message"], ["message"] * 3]
        else:
            with pytest.raises(EngineRefused):
                await call


UNREADABLE = {"code": "invalid_encrypted_content", "message": "could not be verified"}


@pytest.mark.parametrize(
    "last_event",
    [
        {"type": "error", **UNREADABLE, "param": None},
        {"type": "error", "error": UNREADABLE | {"type": "invalid_request_error"}},
        {"type": "response.failed", "response": response(status="failed", error=UNREADABLE)},
    ],
)
@pytest.mark.parametrize("began", [False, True])
async def test_a_stream_that_begins_with_thoughts_nobody_can_read_is_asked_again(
    script: tuple[Script, ResponsesEngine], last_event: JSON, began: bool
) -> None:
    """A stream is answered with HTTP 200 before its thoughts are read."""
    server, engine = script
    sound = list(events_of(response(text_item("four"))))
    text = next(i for i, event in enumerate(sound) if event["type"].endswith("text.delta"))
    failed = last_event
    if "response" in failed:
        failed = failed | {"response": {**failed["response"], "usage": None}}
    server.scripts = [[*sound[: text + 1 if began else text], failed], sound]
    request = chat(ASKED, message_of(THOUGHT, text_item("4")), ASKED)
    if began:
        with pytest.raises(EngineRefused, match="could not be verified"):
            await last(engine.stream(request, RUNG))
        assert len(server.asked) == 1
        return
    completion = await last(engine.stream(request, RUNG))
    assert (completion.text, completion.finish) == ("four", Finish.STOP)
    assert completion.usage.output_tokens == Count(4, CountSource.REPORTED)
    kinds = [[item["type"] for item in body["input"]] for body in server.asked]
    assert kinds == [["message", "reasoning", "message", "message"], ["message"] * 3]


async def test_a_failure_that_used_tokens_is_not_asked_again_unseen(
    script: tuple[Script, ResponsesEngine],
) -> None:
    server, engine = script
    failed = response(status="failed", error=UNREADABLE)
    server.events = [{"type": "response.failed", "response": failed}]
    request = chat(ASKED, message_of(THOUGHT, text_item("4")), ASKED)
    for call in (last(engine.stream(request, RUNG)), engine.complete(request, RUNG)):
        with pytest.raises(EngineRefused) as caught:
            await call
        assert caught.value.used.output_tokens == Count(4, CountSource.REPORTED)
    assert len(server.asked) == 2


def test_clients_cannot_add_items_of_their_own() -> None:
    items = [
        {"origin": "o/gpt-5.5", "item": {"type": "item_reference", "id": "rs_of_somebody_else"}}
    ]
    body = sent(ASKED, {"role": "assistant", "content": "4", "response_items": items}, ASKED)
    assert [item["type"] for item in body["input"]] == ["message"] * 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_message_that_only_repeats_another_is_told_once(stream: bool) -> None:
    """https://github.com/BerriAI/litellm/issues/41109: GPT-5.4 mini does so with tools."""
    twice = [text_item(text) | {"id": f"m{n}"} for n, text in enumerate(["It rains."] * 2)]
    more = [twice[0], text_item("It rains. Take care.") | {"id": "m2"}]
    for output, text in ((twice, "It rains."), (more, "It rains.\n\nIt rains. Take care.")):
        whole = response(*output)
        message = joined(list(events_of(whole))) if stream else message_of(*output)
        assert message["content"] == text


@pytest.mark.parametrize("ids", ["same", "different"])
def test_items_with_one_index_are_told_once(ids: str) -> None:
    """https://github.com/theopenco/llmgateway/pull/2908, and other routers."""
    calls = [CALL | {"id": f"fc_{n}", "call_id": f"call_{n}"} for n in range(2)]
    events = []
    for plain in events_of(response(THOUGHT, text_item("Let me see."), *calls)):
        event = plain | ({"output_index": 0} if "output_index" in plain else {})
        if "response" in event and ids == "different":  # vllm-project/vllm#47916
            event["response"] = json.loads(json.dumps(event["response"]))
            for number, item in enumerate(event["response"]["output"]):
                item["id"] = f"other_{number}"
        events.append(event)
    message = joined(events)
    assert message["content"] == "Let me see."
    assert message["reasoning_content"] == "Twice two is four.\n\nSo I say it."
    assert message["calls"] == [CALL["arguments"]] * 2


def test_pieces_that_come_in_one_event_are_told() -> None:
    """https://github.com/Sophomoresty/gemini-web2api/pull/57: text came without deltas or items."""
    events = [
        event
        for event in events_of(response(text_item("Let me see."), CALL))
        if not event["type"].endswith((".delta", "output_item.done", ".completed"))
    ]
    message = joined([*events, {"type": "response.completed", "response": response()}])
    assert message["content"] == "Let me see."
    assert message["calls"] == [CALL["arguments"]]


async def test_a_line_that_stays_open_does_not_hold_up_the_answer(
    script: tuple[Script, ResponsesEngine],
) -> None:
    """https://github.com/vastsa/PI-Desktop/issues/130: proxies keep it after the last event."""
    server, engine = script
    server.events, server.stays = list(events_of(response(text_item("4")))), True
    async with asyncio.timeout(5):
        completion = await last(engine.stream(chat(), RUNG))
    assert isinstance(completion, Completion)
    assert completion.usage.output_tokens == Count(4, CountSource.REPORTED)


async def test_a_last_event_without_a_blank_line_counts(
    script: tuple[Script, ResponsesEngine],
) -> None:
    server, engine = script
    server.events, server.last_line_end = list(events_of(response(text_item("4")))), "\n"
    completion = await last(engine.stream(chat(), RUNG))
    assert completion.finish is Finish.STOP


async def test_a_failure_without_a_reason_waits_for_the_event_that_tells_it(
    script: tuple[Script, ResponsesEngine],
) -> None:
    """https://github.com/earendil-works/pi/issues/7983: Azure sends two events."""
    server, engine = script
    failed = {"type": "response.failed", "response": response(status="failed", error=None)}
    error = {"code": "rate_limit_exceeded", "type": "too_many_requests", "message": "Slow down."}
    server.events, server.head = [failed, {"type": "error", "error": error}], {"Retry-After": "7"}
    with pytest.raises(EngineRefused) as refused:
        await last(engine.stream(chat(), RUNG))
    assert refused.value.status == 429
    assert refused.value.retry_after_s == 7
    server.events = [failed]
    for call in (last(engine.stream(chat(), RUNG)), engine.complete(chat(), RUNG)):
        with pytest.raises(EngineError, match="ended the answer with an error") as caught:
            await call
        assert caught.value.retryable
        assert caught.value.used is not None
        assert caught.value.used.output_tokens == Count(4, CountSource.REPORTED)


async def test_a_response_that_is_still_queued_is_no_answer(
    script: tuple[Script, ResponsesEngine],
) -> None:
    server, engine = script
    server.events = [{"response": response(status="queued", usage=None)}]
    with pytest.raises(EngineProtocolError, match="still queued") as caught:
        await engine.complete(chat(), RUNG)
    assert not caught.value.retryable
    server.events = [{"response": response(text_item("4"), status="cancelled")}]
    assert (await engine.complete(chat(), RUNG)).finish is Finish.CANCELLED


async def test_what_a_stream_does_not_count_is_unknown_or_estimated(
    script: tuple[Script, ResponsesEngine],
) -> None:
    """An answer without a usage still costs: its thoughts are hidden, its text is not."""
    server, engine = script
    silent = response(text_item("The answer is four."), usage=None)
    server.events = list(events_of(silent))
    plain = Rung(name="r", engine="o", model="m", effort=Effort.NONE)
    for rung, output in ((RUNG, None), (plain, CountSource.ESTIMATED)):
        for call in (engine.complete(chat(), rung), last(engine.stream(chat(), rung))):
            usage = (await call).usage
            assert usage.input_tokens is not None
            source = usage.output_tokens.source if usage.output_tokens is not None else None
            assert source is output


async def test_a_client_that_leaves_pays_for_its_searches_and_its_tier(
    script: tuple[Script, ResponsesEngine],
) -> None:
    server, engine = script
    server.events = list(events_of(response(SEARCH, text_item("It rains."))))[:-1]
    relay = engine.relay(chat(service_tier="priority"), RUNG)
    with pytest.raises(EngineProtocolError):
        async for _ in relay.items:
            pass
    usage = relay.used()
    assert usage.kinds["web_searches"] == Count(1, CountSource.REPORTED)
    assert usage.service_tier is not None
    assert usage.service_tier.startswith("priority")


def test_tools_of_the_vendor_are_counted() -> None:
    files = {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": []}
    code = {"id": "ci_1", "type": "code_interpreter_call", "status": "completed", "code": "1"}
    usage = completion_of(response(files, code, code), origin="o/m")["usage"]
    assert usage["server_side_tool_usage_details"] == {"file_search_calls": 1}
    assert usage["server_tool_use"] == {"code_execution_requests": 2}


def test_sampling_that_a_thinking_rung_would_refuse_is_left_out() -> None:
    """https://platform.openai.com/docs/guides/latest-model: only without an effort."""
    asked = {"temperature": 0.2, "top_p": 0.9, "logprobs": True, "top_logprobs": 2}
    assert not sent(**asked).keys() & {*asked, "logprobs"}
    assert sent(**asked)["include"] == ["reasoning.encrypted_content"]
    params = {"include": ["reasoning.encrypted_content"]}
    twice = sent(rung=Rung(name="r", engine="o", model="m", effort=Effort.LOW, params=params))
    assert twice["include"] == params["include"]
    open_rung = Rung(name="r", engine="o", model="m")
    for effort in ({"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}):
        assert "temperature" not in sent(rung=open_rung, **asked, **effort)
        assert left_out({**asked, **effort}, open_rung) == tuple(sorted(asked))
    plain = Rung(name="r", engine="o", model="m", effort=Effort.NONE)
    assert sent(rung=plain, **asked).items() >= {"temperature": 0.2, "top_p": 0.9}.items()


def test_a_result_of_texts_is_one_text() -> None:
    """https://github.com/BerriAI/litellm/pull/18226: not every server takes a list."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    parts = [{"type": "text", "text": text} for text in ("20", "degrees")]
    result = {"role": "tool", "tool_call_id": "a", "content": parts}
    body = sent(ASKED, {"role": "assistant", "tool_calls": [call]}, result)
    assert body["input"][-1]["output"] == "20\n\ndegrees"


def test_a_refusal_of_an_earlier_turn_goes_back_as_what_was_said() -> None:
    refusal = {"type": "refusal", "refusal": "I will not."}
    message = message_of({"id": "m", "type": "message", "content": [refusal]})
    _, said, _ = sent(ASKED, message, ASKED)["input"]
    assert said["content"] == "I will not."


@pytest.mark.parametrize(("usage", "calls"), [(USAGE, 1), (None, 3)])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_that_has_used_tokens_is_not_tried_again_unbooked(
    script: tuple[Script, ResponsesEngine], stream: bool, usage: JSON | None, calls: int
) -> None:
    server, engine = script
    error = {"code": "server_error", "message": "Try again."}
    failed = response(status="failed", error=error, usage=usage)
    server.events = [{"type": "response.failed", "response": failed}]
    engine._retries = Retries(limit=2, first_s=0.001)
    with pytest.raises(EngineRefused) as caught:
        await (last(engine.stream(chat(), RUNG)) if stream else engine.complete(chat(), RUNG))
    assert (caught.value.used is not None) == (usage is not None)
    assert len(server.asked) == calls


@pytest.mark.parametrize("params", [{"background": True}, {"n": 2}, {"functions": [{"name": "f"}]}])
def test_params_that_no_response_can_hold_are_refused_before_any_call(params: JSON) -> None:
    rung = Rung(name="r", engine="o", model="m", params=params)
    with pytest.raises(ConfigError, match=f"'r'.*{next(iter(params))}"):
        request_fields(rung, EngineConfig(kind="responses", url="http://127.0.0.1/v1"))


def test_names_of_other_apis_are_shortened() -> None:
    """https://github.com/theopenco/llmgateway/pull/3110: OpenAI takes 64 characters at most."""
    long = "user_" + "a" * 64 + "_account__session_1"
    names = {"user": long, "prompt_cache_key": long, "safety_identifier": "short"}
    body = sent(**names)
    assert len(body["user"]) == len(body["prompt_cache_key"]) == 64
    assert body["user"] == sent(**names)["user"]
    assert body["user"] != sent(user=long + "2")["user"]
    assert body["safety_identifier"] == "short"


def test_a_file_has_a_name() -> None:
    """https://github.com/laravel/ai/pull/324: the API refuses data without one."""
    data, named = {"file_data": "data:application/pdf;base64,AA=="}, {"filename": "a.pdf"}
    for file, name in ((data, "document"), (data | named, "a.pdf"), ({"file_id": "f"}, None)):
        (asked,) = sent({"role": "user", "content": [{"type": "file", "file": file}]})["input"]
        assert asked["content"][0].get("filename") == name
