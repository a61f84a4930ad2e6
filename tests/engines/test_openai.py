"""The HTTP engine against servers that misbehave; what it does well is in contract/."""

import asyncio
import contextlib
import json
from contextlib import aclosing
from typing import Self

import msgspec
import pytest

from suffice.config import EngineConfig
from suffice.engines.base import last
from suffice.engines.openai import OpenAIEngine
from suffice.errors import (
    ConfigError,
    EngineError,
    EngineProtocolError,
    EngineRefused,
    EngineUnreachable,
)
from suffice.types import (
    JSON,
    Completion,
    Count,
    CountSource,
    Effort,
    Finish,
    Request,
    Rung,
    Usage,
)

SECRET = "sk-never-show-this"
ASKED = Request(request_id="r1", messages=({"role": "user", "content": "Twice two?"},))
RUNG = Rung(name="r", engine="e", model="m")
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
HANG = b"HANG"
RESET = b"RESET"
PAUSE = b"PAUSE"


class RawServer:
    """Plays one scripted reply a connection, byte for byte; the last one for all that follow."""

    def __init__(self, *replies: bytes) -> None:
        self._replies = list(replies)
        self.requests: list[bytes] = []
        self.url = ""
        self._serving: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.append(asyncio.current_task())
        try:
            await self._play(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        body = await reader.readexactly(int(fields[b"Content-Length"]))
        self.requests.append(head + body)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        for piece in reply.split(PAUSE):
            writer.write(piece.removesuffix(HANG).removesuffix(RESET))
            await writer.drain()
            if PAUSE in reply:
                await asyncio.sleep(0.05)
        if reply.endswith(HANG):
            await reader.read()
        if reply.endswith(RESET):
            writer.transport.abort()

    @property
    def body(self) -> JSON:
        return json.loads(self.requests[-1].partition(b"\r\n\r\n")[2])


def http(body: bytes | JSON, *headers: str, status: str = "200 OK") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", "Connection: close", *headers]
    if not any(header.startswith("Content-Type") for header in headers):
        lines.append("Content-Type: application/json")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def sse(*events: str | JSON, end: bytes = b"0\r\n\r\n") -> bytes:
    """Write a chunked stream; without its `end` the body is cut off."""
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    pieces = [f"data: {text}\n\n".encode() for text in texts]
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def delta(finish: str | None = None, index: int = 0, **part: object) -> JSON:
    return {"choices": [{"index": index, "delta": part, "finish_reason": finish}]}


def whole(usage: JSON | None = USAGE, finish: str = "stop", **message: object) -> JSON:
    reply: JSON = {
        "model": "m-1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    return reply if usage is None else reply | {"usage": usage}


FOUR = whole(content="4")
CHARGED: JSON = {"choices": [], "usage": USAGE}
STREAM = sse(delta(content="fo"), delta(content="ur"), delta("stop"), "[DONE]")


def engine_for(server: RawServer, **config: object) -> OpenAIEngine:
    settings: JSON = {"max_retries": 0, "timeout_s": 5.0, **config}
    return OpenAIEngine(EngineConfig(kind="openai", url=server.url, **settings), api_key=SECRET)


async def completed(
    *replies: bytes, rung: Rung = RUNG, stream: bool = False, **config: object
) -> Completion:
    async with RawServer(*replies) as server, engine_for(server, **config) as engine:
        if stream:
            return await last(engine.stream(ASKED, rung))
        return await engine.complete(ASKED, rung)


async def failed(*replies: bytes, stream: bool = False, **config: object) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await completed(*replies, stream=stream, **config)
    assert caught.value.hint
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    return caught.value


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def note(delay_s: float) -> None:
        waits.append(delay_s)
        await sleep(0)

    monkeypatch.setattr("suffice.engines.base.asyncio.sleep", note)
    return waits


async def test_key_goes_into_the_header_and_nowhere_else() -> None:
    async with RawServer(http(FOUR)) as server, engine_for(server) as engine:
        await engine.complete(ASKED, RUNG)
        assert f"Authorization: Bearer {SECRET}".encode() in server.requests[0]
        assert SECRET not in repr(engine)
        assert server.body["stream"] is False
        assert "stream_options" not in server.body


async def test_key_is_blotted_out_of_what_a_server_says() -> None:
    said = {"error": {"message": f"Incorrect API key provided: {SECRET}"}}
    error = await failed(http(said, status="401 Unauthorized"), api_key_env="MY_KEY")
    assert isinstance(error, EngineRefused)
    assert error.status == 401
    assert "***" in error.body
    assert SECRET not in error.body
    assert "MY_KEY" in (error.hint or "")
    assert not error.retryable


@pytest.mark.parametrize(
    ("key", "shown"),
    [("x", "maximum context length, max_tokens"), ("token", "(***): maximum context length")],
)
async def test_a_placeholder_of_a_key_spoils_no_words(key: str, shown: str) -> None:
    """Local servers are given any key; who blots out each `x` no longer knows what was refused."""
    words = "(token): maximum context length, max_tokens x"
    reply = http({"error": {"message": words}}, status="400 Bad Request")
    async with RawServer(reply) as server:
        config = EngineConfig(kind="openai", url=server.url, max_retries=0)
        async with OpenAIEngine(config, api_key=key) as engine:
            with pytest.raises(EngineRefused) as caught:
                await engine.complete(ASKED, RUNG)
    assert caught.value.detail.code == "context_length_exceeded"
    assert shown in caught.value.body
    assert caught.value.body.count("***") == 1


@pytest.mark.parametrize("url", [None, "", "127.0.0.1:8000", "ftp://x/v1", "http://me:pw@x/v1"])
def test_urls_that_cannot_be_are_refused(url: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAIEngine(EngineConfig(kind="openai", url=url))
    assert "api_key_env" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        ("400 Bad Request", False),
        ("404 Not Found", False),
        ("408 Request Timeout", True),
        ("422 Unprocessable Entity", False),
        ("425 Too Early", True),
        ("429 Too Many Requests", True),
        ("500 Internal Server Error", True),
        ("501 Not Implemented", False),
        ("502 Bad Gateway", True),
        ("503 Service Unavailable", True),
        ("504 Gateway Timeout", True),
        ("529 Overloaded", True),
        ("302 Found", False),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_http_errors_are_refusals(status: str, retryable: bool, stream: bool) -> None:
    error = await failed(http(b"why not", status=status), stream=stream)
    assert isinstance(error, EngineRefused)
    assert error.status == int(status[:3])
    assert error.body == "why not"
    assert error.retryable is retryable


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("400 Bad Request", "params"),
        ("403 Forbidden", "api_key_env"),
        ("404 Not Found", "/v1"),
        ("422 Unprocessable Entity", "dialect"),
        ("429 Too Many Requests", "concurrency"),
        ("500 Internal Server Error", "log"),
    ],
)
async def test_http_errors_come_with_advice(status: str, advice: str) -> None:
    assert advice in ((await failed(http(b"why not", status=status))).hint or "")


async def test_long_bodies_are_cut() -> None:
    error = await failed(http(b"x" * 100_000, status="500 Oops"))
    assert isinstance(error, EngineRefused)
    assert len(error.body) == 500


async def test_a_prompt_that_is_too_long_is_told_apart() -> None:
    said = {"message": "This model's maximum context length is 8192 tokens.", "code": 400}
    error = await failed(http({"error": said}, status="400 Bad Request"))
    assert "shorten the prompt" in (error.hint or "")


@pytest.mark.parametrize("stream", [False, True])
async def test_no_server_is_unreachable(stream: bool) -> None:
    async with RawServer(http(FOUR)) as server:
        engine = engine_for(server)
    async with engine:
        for _ in range(2):
            with pytest.raises(EngineUnreachable, match="no connection") as caught:
                await last(engine.stream(ASKED, RUNG)) if stream else await engine.complete(
                    ASKED, RUNG
                )
            assert caught.value.retryable


@pytest.mark.parametrize(
    ("reply", "stream"),
    [
        (HANG, False),
        (HANG, True),
        (sse(delta(content="fo"), end=HANG), True),
    ],
)
async def test_silence_ends_at_the_timeout(reply: bytes, stream: bool) -> None:
    error = await failed(reply, stream=stream, timeout_s=0.1)
    assert isinstance(error, EngineUnreachable)
    assert "silent for 0.1 s" in error.message
    assert error.retryable


async def test_comments_keep_a_stream_alive() -> None:
    head, _, rest = STREAM.partition(b"\r\n\r\n")
    slow = head + b"\r\n\r\n" + 12 * (PAUSE + b"8\r\n: alive\n\r\n") + rest
    assert (await completed(slow, stream=True, timeout_s=0.5)).text == "four"


@pytest.mark.parametrize(
    "reply",
    [
        sse(delta(content="fo"), end=b""),
        sse(delta(content="fo")),
        sse(delta(content="fo"), "[DONE]"),
        sse("[DONE]"),
        sse(),
        sse(delta(content="a"), delta("stop"), delta(content="b", index=1), "[DONE]"),
        sse(delta(content="fo"), end=RESET),
        http(FOUR)[:-5],
        http(whole(None, finish="") | {"choices": []}),
        http({"choices": [{"index": 0, "message": {"content": "4"}, "finish_reason": None}]}),
    ],
)
async def test_cut_off_answers_are_never_taken_for_whole(reply: bytes) -> None:
    error = await failed(reply, stream=b"event-stream" in reply)
    assert isinstance(error, EngineProtocolError)
    assert error.retryable


@pytest.mark.parametrize(
    "reply",
    [
        sse("{not json"),
        sse("[1, 2]"),
        sse('{"choices": "none"}'),
        sse('{"choices": [{"index": 0, "delta": {"tool_calls": [3]}}]}'),
        http(b"<html>Welcome</html>", "Content-Type: text/html"),
        http(b"\xff\xfe"),
        http(b"[]"),
        http(b'"4"'),
        http(whole(content=4)),
    ],
)
async def test_what_is_no_chat_completion_is_a_protocol_error(reply: bytes) -> None:
    error = await failed(reply, stream=b"event-stream" in reply)
    assert isinstance(error, EngineProtocolError)
    assert not error.retryable


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"message": "out of memory", "code": 500}},
        {"object": "error", "message": "out of memory", "code": 500},
        {"error": "out of memory"},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_behind_status_200_are_errors(said: JSON, stream: bool) -> None:
    reply = sse(delta(content="fo"), said, "[DONE]") if stream else http(said)
    error = await failed(reply, stream=stream)
    assert isinstance(error, EngineRefused)
    assert error.status == 500
    assert "out of memory" in error.message
    assert error.retryable


async def test_an_answer_that_ends_in_an_error_is_one() -> None:
    error = await failed(sse(delta(content="fo"), delta("error"), "[DONE]"), stream=True)
    assert error.retryable


async def test_a_stream_without_done_is_whole_once_it_said_why_it_ended() -> None:
    completion = await completed(sse(delta(content="four"), delta("length")), stream=True)
    assert completion.text == "four"
    assert completion.finish is Finish.LENGTH


@pytest.mark.parametrize("end", ["data: [DONE]", "data: [DONE]\n", "", ": bye"])
async def test_a_stream_needs_no_blank_line_at_its_end(end: str) -> None:
    events = [delta(content="4"), delta("stop")]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + end
    reply = http(body.encode(), "Content-Type: text/event-stream")
    assert (await completed(reply, stream=True)).text == "4"
    unended = http(body.encode().removesuffix(b"\n\n"), "Content-Type: text/event-stream")
    assert (await completed(unended, stream=True)).text == "4"


async def test_a_stream_may_be_answered_in_one_piece_and_the_other_way_round() -> None:
    assert (await completed(http(FOUR), stream=True)).text == "4"
    assert (await completed(STREAM, stream=False)).text == "four"


async def test_retryable_failures_are_tried_again(no_waiting: list[float]) -> None:
    busy = http(b"busy", status="503 Busy")
    completion = await completed(busy, busy, http(FOUR), max_retries=2)
    assert completion.text == "4"
    assert len(no_waiting) == 2
    assert 0.25 <= no_waiting[0] <= 0.5 <= no_waiting[1] <= 1.0


async def test_retries_end(no_waiting: list[float]) -> None:
    error = await failed(http(b"busy", status="503 Busy"), max_retries=2)
    assert error.retryable
    assert len(no_waiting) == 2


async def test_other_failures_are_not_tried_again(no_waiting: list[float]) -> None:
    await failed(http(b"no", status="400 No"), http(FOUR), max_retries=2)
    assert no_waiting == []


async def test_retry_after_is_heeded(no_waiting: list[float]) -> None:
    busy = http(b"busy", "Retry-After: 7", status="429 Busy")
    assert (await completed(busy, http(FOUR), max_retries=1)).text == "4"
    assert no_waiting == [7.0]


async def test_a_long_retry_after_is_left_to_the_caller(no_waiting: list[float]) -> None:
    error = await failed(http(b"busy", "Retry-After: 3600", status="429 Busy"), max_retries=2)
    assert isinstance(error, EngineRefused)
    assert error.retry_after_s == 3600.0
    assert no_waiting == []


async def test_a_stream_is_tried_again_only_where_it_was_refused(
    no_waiting: list[float],
) -> None:
    busy = http(b"busy", status="503 Busy")
    assert (await completed(busy, STREAM, stream=True, max_retries=1)).text == "four"
    assert len(no_waiting) == 1
    await failed(sse(), STREAM, stream=True, max_retries=1)
    assert len(no_waiting) == 1
    await failed(sse(delta(content="fo"), end=b""), STREAM, stream=True, max_retries=1)
    assert len(no_waiting) == 1


async def test_a_kept_connection_that_was_closed_is_no_failure() -> None:
    """As llama.cpp does: keep-alive is promised, and the connection closed all the same."""
    kept = http(FOUR).replace(b"Connection: close", b"Keep-Alive: timeout=5")
    async with RawServer(kept) as server, engine_for(server) as engine:
        for _ in range(20):
            assert (await engine.complete(ASKED, RUNG)).text == "4"


async def test_reported_counts_are_taken_as_they_are() -> None:
    usage = USAGE | {
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    completion = await completed(http(whole(usage, content="4")))
    assert completion.usage == Usage(
        input_tokens=Count(9, CountSource.REPORTED),
        cache_read_tokens=Count(4, CountSource.REPORTED),
        cache_write_tokens=Count(5, CountSource.REPORTED),
        output_tokens=Count(3, CountSource.REPORTED),
        reasoning_tokens=Count(2, CountSource.REPORTED),
    )
    assert completion.model == "m-1"


async def test_without_usage_counts_are_estimates() -> None:
    completion = await completed(http(whole(None, content="x" * 41)))
    assert completion.usage.input_tokens == Count(3, CountSource.ESTIMATED)
    assert completion.usage.output_tokens == Count(12, CountSource.ESTIMATED)
    assert completion.usage.reasoning_tokens is None


async def test_hidden_reasoning_leaves_the_output_unknown() -> None:
    rung = msgspec.structs.replace(RUNG, effort=Effort.HIGH)
    completion = await completed(http(whole(None, content="4")), rung=rung)
    assert completion.usage.output_tokens is None
    assert completion.usage.reasoning_tokens is None
    assert completion.effort_seen is None


async def test_missing_counts_come_from_the_servers_tokenizer() -> None:
    reply = http(whole(None, content="four", reasoning="two and two"))
    tokens = http({"count": 3, "tokens": [1, 2, 3], "max_model_len": 99})
    async with RawServer(reply, tokens) as server:
        async with engine_for(server, dialect="vllm") as engine:
            completion = await engine.complete(ASKED, RUNG)
        assert completion.usage.output_tokens == Count(4, CountSource.COUNTED)  # and the last one
        assert completion.usage.reasoning_tokens == Count(3, CountSource.COUNTED)
        assert completion.usage.input_tokens == Count(3, CountSource.ESTIMATED)
        assert server.requests[-1].startswith(b"POST /tokenize ")
        assert server.body == {"model": "m", "prompt": "two and two", "add_special_tokens": False}


@pytest.mark.parametrize(
    "reply",
    [
        http(b"no", status="404 Not Found"),
        http(b"<html>"),
        http({"count": 3}),
        http({"tokens": None}),
        RESET,
    ],
)
async def test_without_a_tokenizer_counts_are_estimates(reply: bytes) -> None:
    answer = http(whole(USAGE, content="four", reasoning="12345678"))
    completion = await completed(answer, reply, dialect="vllm")
    assert completion.usage.output_tokens == Count(3, CountSource.REPORTED)
    assert completion.usage.reasoning_tokens == Count(2, CountSource.ESTIMATED)


async def test_reasoning_that_was_kept_back_is_not_counted_as_none() -> None:
    rung = msgspec.structs.replace(RUNG, params={"include_reasoning": False})
    kept_back = await completed(http(FOUR), rung=rung, dialect="vllm")
    assert kept_back.usage.reasoning_tokens is None
    shown = await completed(http(FOUR), dialect="vllm")
    assert shown.usage.reasoning_tokens == Count(0, CountSource.COUNTED)


async def test_llama_cpp_repeats_a_prefill_in_whole_replies_only() -> None:
    messages = (*ASKED.messages, {"role": "assistant", "content": "It is"})
    asked = Request(request_id="r1", messages=messages)
    streamed = sse(delta(content=" It is 4"), delta("stop"), "[DONE]")
    repeated = http(whole(content="It is 4"))
    async with RawServer(repeated, streamed, repeated) as server:
        async with engine_for(server, dialect="llamacpp") as engine:
            assert (await engine.complete(asked, RUNG)).text == " 4"
            assert (await last(engine.stream(asked, RUNG))).text == " It is 4"
        async with engine_for(server, dialect="vllm") as engine:
            assert (await engine.complete(asked, RUNG)).text == "It is 4"


async def test_the_time_to_the_first_chunk_is_not_the_role() -> None:
    opening = sse(delta(role="assistant", content=""), delta(content="4"), delta("stop"))
    async with RawServer(opening) as server, engine_for(server) as engine:
        items = [item async for item in engine.stream(ASKED, RUNG)]
    assert len(items) == 2
    assert isinstance(items[-1], Completion)
    assert items[-1].ttft_s is not None


async def test_closing_twice_is_harmless_and_a_later_call_opens_again() -> None:
    async with RawServer(http(FOUR)) as server:
        engine = engine_for(server)
        await engine.close()
        assert (await engine.complete(ASKED, RUNG)).text == "4"
        await engine.close()
        await engine.close()
        assert (await engine.complete(ASKED, RUNG)).text == "4"
        await engine.close()


async def test_leaving_a_stream_early_frees_the_connection() -> None:
    endless = sse(delta(content="a"), end=HANG)
    async with RawServer(endless) as server, engine_for(server) as engine:
        items = engine.stream(ASKED, RUNG)
        async with asyncio.timeout(1), aclosing(items):
            await anext(items)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", Finish.STOP),
        ("STOP", Finish.STOP),
        ("MAX_TOKENS", Finish.LENGTH),
        ("model_context_window_exceeded", Finish.LENGTH),
        ("sensitive", Finish.CONTENT_FILTER),
        ("because", Finish.OTHER),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_no_reason_to_finish_loses_an_answer(
    reason: str, finish: Finish, stream: bool
) -> None:
    streamed = sse(delta(content="4"), delta(reason), CHARGED, "[DONE]")
    completion = await completed(
        streamed if stream else http(whole(content="4", finish=reason)), stream=stream
    )
    assert (completion.text, completion.finish) == ("4", finish)
    assert completion.usage.output_tokens == Count(3, CountSource.REPORTED)


FILTERED = http(whole(content="") | {"choices": []})


@pytest.mark.parametrize(
    ("reply", "stream"),
    [
        (FILTERED, False),
        (FILTERED, True),
        (sse(CHARGED, "[DONE]"), True),
        (sse(delta(content="fo"), delta("error"), CHARGED), True),
        (http(whole(content="fo", finish="network_error")), False),
        (sse(delta(content="fo"), CHARGED), True),
    ],
)
async def test_errors_carry_the_usage_that_was_reported(reply: bytes, stream: bool) -> None:
    error = await failed(reply, stream=stream)
    assert isinstance(error.used, Usage)
    assert error.used.output_tokens == Count(3, CountSource.REPORTED)


async def test_an_empty_answer_that_was_charged_is_not_asked_for_again(
    no_waiting: list[float],
) -> None:
    await failed(FILTERED, http(FOUR), max_retries=2)
    await failed(FILTERED, http(FOUR), stream=True, max_retries=2)
    assert no_waiting == []


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/octet-stream"])
async def test_what_came_decides_and_not_its_content_type(kind: str) -> None:
    labelled = f"Content-Type: {kind}"
    whole_reply = http(json.dumps(FOUR).encode(), labelled)
    events = [delta(content="4"), delta("stop"), CHARGED]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    stream = http(body.encode(), labelled)
    for reply in (whole_reply, stream):
        for streamed in (False, True):
            completion = await completed(reply, stream=streamed)
            assert completion.text == "4"
            assert completion.usage.output_tokens == Count(3, CountSource.REPORTED)


LIMITED = {"error": {"message": "Opens at 08:00.", "type": "rate_limit_error", "code": 429}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (LIMITED, 429, None),
        ([LIMITED], 429, None),
        ({"code": 1302, "msg": "Opens at 08:00.", "success": False}, 429, "1302"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Opens at 08:00."}},
         529, None),
        ({"error": {"message": "Opens at 08:00.", "code": "insufficient_quota"}}, 429,
         "insufficient_quota"),
        ({"code": "InvalidParameter", "message": "Opens at 08:00.", "request_id": "r"}, 400,
         "InvalidParameter"),
        ({"error": {"status": "UNAVAILABLE", "message": "Opens at 08:00."}}, 503, None),
        ({"detail": "Opens at 08:00."}, 500, None),
    ],
)  # fmt: skip
async def test_an_error_in_place_of_an_answer_is_read(
    body: JSON, status: int, code: str | None, stream: bool
) -> None:
    error = await failed(http(json.dumps(body).encode(), "Retry-After: 9"), stream=stream)
    assert isinstance(error, EngineRefused)
    assert (error.status, error.detail.code, error.retry_after_s) == (status, code, 9.0)
    assert error.detail.message == "Opens at 08:00."
    assert "08:00" in error.message


@pytest.mark.parametrize(
    "told",
    [
        {
            "message": "maximum context length is 8192 tokens",
            "type": "BadRequestError",
            "code": 400,
        },
        {"message": "too much", "code": "context_length_exceeded", "param": "messages"},
        {"message": "prompt is too long: 9 > 8", "type": "invalid_request_error"},
        {"message": "request (9 tokens) exceeds", "type": "exceed_context_size_error", "code": 400},
    ],
)
async def test_programs_can_tell_a_prompt_that_is_too_long(told: JSON) -> None:
    for reply in (http({"error": told}, status="400 Bad Request"), http({"error": told})):
        error = await failed(reply)
        assert isinstance(error, EngineRefused)
        assert error.status == 400
        assert error.detail.code == "context_length_exceeded"
        assert error.detail.message == told["message"]
        assert error.detail.param == told.get("param")
        assert not error.retryable


FORBIDDEN = [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "No."}]


@pytest.mark.parametrize(
    "told",
    [
        {"detail": FORBIDDEN},
        {"error": {"message": "Unrecognized request argument supplied: stream_options"}},
    ],
)
async def test_usage_is_not_asked_for_where_a_server_refuses_the_field(told: JSON) -> None:
    """NousResearch/hermes-agent#109143: Azure AI Foundry, Databricks and other strict servers."""
    refusal = http(told, status="422 Unprocessable Entity")
    async with RawServer(refusal, STREAM, STREAM) as server, engine_for(server) as engine:
        for _ in range(2):
            assert (await last(engine.stream(ASKED, RUNG))).text == "four"
        fields = [b'"stream_options"' in request for request in server.requests]
    assert fields == [True, False, False]


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "max_completion_tokens",
        ),
        ("max_completion_tokens: Extra inputs are not permitted", "max_tokens"),
        ("max_tokens is too large: 9. At most 8 is possible.", None),
    ],
)
async def test_one_name_of_a_limit_is_enough(words: str, left: str | None) -> None:
    """Servers that nobody knows get both names; a proxy before OpenAI's models refuses one."""
    refusal = http({"error": {"message": words}}, status="400 Bad Request")
    rung = msgspec.structs.replace(RUNG, max_output_tokens=9)
    async with RawServer(refusal, http(FOUR)) as server, engine_for(server) as engine:
        if left is None:
            with pytest.raises(EngineRefused):
                await engine.complete(ASKED, rung)
            return
        for _ in range(2):
            assert (await engine.complete(ASKED, rung)).text == "4"
            limits = {"max_tokens", "max_completion_tokens"} & server.body.keys()
            assert limits == {left}
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "words",
    [
        "Stream must be set to true",
        "This model only support stream mode, please enable the stream parameter.",
        "parameter.enable_thinking must be set to false for non-streaming calls",
        "enable thinking can not be support when `stream=False`.",
    ],
)
async def test_a_server_that_only_streams_is_asked_for_a_stream(words: str) -> None:
    """HKUDS/nanobot#1978 (NewAPI), and models of DashScope."""
    refusal = http({"detail": words}, status="400 Bad Request")
    async with RawServer(refusal, STREAM, STREAM) as server, engine_for(server) as engine:
        for _ in range(2):
            assert (await engine.complete(ASKED, RUNG)).text == "four"
        bodies = [json.loads(r.partition(b"\r\n\r\n")[2]) for r in server.requests]
    assert [body["stream"] for body in bodies] == [False, True, True]
    assert ["stream_options" in body for body in bodies] == [False, True, True]


async def test_other_refusals_are_not_asked_again() -> None:
    refusal = http({"error": {"message": "no such model"}}, status="400 Bad Request")
    async with RawServer(refusal, STREAM) as server, engine_for(server) as engine:
        with pytest.raises(EngineRefused):
            await last(engine.stream(ASKED, RUNG))
        assert len(server.requests) == 1


async def test_milliseconds_to_wait_are_read() -> None:
    for header, wait_s in (("retry-after-ms: 1500", 1.5), ("retry-after-ms: soon", None)):
        reply = http(LIMITED, header, status="429 Too Many Requests")
        error = await failed(reply)
        assert isinstance(error, EngineRefused)
        assert error.retry_after_s == wait_s


async def test_geminis_advice_to_wait_is_read() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"}]
    body = [{"error": {"code": 429, "message": "Quota", "details": details}}]
    error = await failed(http(json.dumps(body).encode(), status="429 Too Many Requests"))
    assert isinstance(error, EngineRefused)
    assert error.retry_after_s == 17.5


async def test_a_file_path_that_a_server_calls_its_model_is_not_shown() -> None:
    path = "/home/me/models/tiny.gguf"
    event = delta(content="4") | {"model": path}
    last_events = [event | {"model": path} for event in (delta("stop"), CHARGED)]
    stream = sse(event, *last_events)
    for reply, streamed in ((http(FOUR | {"model": path}), False), (stream, True)):
        completion = await completed(reply, stream=streamed)
        assert completion.model == "tiny.gguf"
        assert b"/home" not in (completion.wire or b"")
    async with RawServer(stream) as server, engine_for(server) as engine:
        items = [item async for item in engine.relay(ASKED, RUNG).items]
    assert b"/home" not in b"".join(item for item in items if isinstance(item, bytes))


@pytest.mark.parametrize("stream", [False, True])
async def test_the_service_tier_that_answered_is_noted(stream: bool) -> None:
    tier = {"service_tier": "flex"}
    events = [event | tier for event in (delta(content="4"), delta("stop"), CHARGED)]
    reply = sse(*events, "[DONE]") if stream else http(FOUR | tier)
    assert (await completed(reply, stream=stream)).usage.service_tier == "flex"


async def test_whole_replies_are_mended_where_clients_could_not_read_them() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    told = {"input_tokens": 3, "cache_read_input_tokens": 6, "output_tokens": 3}
    completion = await completed(http(whole(told, content="cut \ud83c", tool_calls=[call, call])))
    assert completion.text == "cut \ufffd"
    body = json.loads(completion.wire or b"")
    calls = body["choices"][0]["message"]["tool_calls"]
    assert [json.loads(c["function"]["arguments"]) for c in calls] == [{"x": 1}] * 2
    assert len({c["id"] for c in calls}) == 2
    assert body["usage"]["prompt_tokens"] == 9


async def test_a_whole_reply_that_needs_no_mending_stays_byte_for_byte() -> None:
    data = json.dumps(FOUR, indent=1).encode()
    assert (await completed(http(data))).wire == data


@pytest.mark.parametrize("stream", [False, True])
async def test_a_log_probability_of_null_leaves_them_unknown(stream: bool) -> None:
    entries = {"content": [{"token": "4", "logprob": -0.5}, {"token": "!", "logprob": None}]}
    reply = whole(content="4!")
    reply["choices"][0]["logprobs"] = entries
    chunk = delta(content="4!")
    chunk["choices"][0]["logprobs"] = entries
    streamed = sse(chunk, delta("stop"), "[DONE]")
    completion = await completed(streamed if stream else http(reply), stream=stream)
    assert completion.text == "4!"
    assert completion.logprobs is None


async def test_a_count_that_was_told_before_the_text_is_a_lower_bound() -> None:
    early = {"choices": [], "usage": USAGE | {"completion_tokens": 1, "total_tokens": 10}}
    words = [delta(content=f"word{i} ") for i in range(100)]
    completion = await completed(sse(early, *words, delta("stop"), "[DONE]"), stream=True)
    output = completion.usage.output_tokens
    assert output is not None
    assert output.source is CountSource.ESTIMATED
    assert output.tokens >= 100
    assert completion.usage.input_tokens == Count(9, CountSource.REPORTED)
