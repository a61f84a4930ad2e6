"""What clients need beside answers: counts, models, plain words for errors, and no WebSocket."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from gateway_support import CHAT, Call, Site, site

USER = [{"role": "user", "content": "What is 2 + 2?"}]
MESSAGE = {"model": "suffice", "max_tokens": 9, "messages": USER}
LONG = {
    "message": "This model's maximum context length is 8 tokens",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "context_length_exceeded",
}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


COUNTS = [
    ("/v1/messages/count_tokens?beta=true", {"model": "suffice", "messages": USER, "tools": []}),
    ("/v1/responses/input_tokens", {"model": "suffice", "input": "What is 2 + 2?"}),
]


@pytest.mark.parametrize(("path", "body"), COUNTS)
async def test_a_prompt_is_estimated_where_nothing_can_count_it(
    here: Site, path: str, body: dict[str, Any]
) -> None:
    status, answer = await here.post(body, path=path)
    assert status == 200
    assert answer["input_tokens"] == 4
    assert answer["suffice"] == {"rung": "big", "source": "estimated"}
    assert here.rows() == []
    assert not here.upstream.calls


@pytest.mark.parametrize(("path", "body"), COUNTS)
@pytest.mark.parametrize("dialect", ["vllm", "llamacpp"])
async def test_a_prompt_is_counted_by_the_engines_own_tokenizer(
    tmp_path: Path, dialect: str, path: str, body: dict[str, Any]
) -> None:
    async def script(call: Call) -> None:
        laid_out = "messages" in call.body and dialect == "llamacpp"
        await call.reply({"prompt": "<user>x"} if laid_out else {"tokens": list(range(17))})

    async with site(tmp_path, dialect=dialect) as here:
        here.upstream.script = script
        status, answer = await here.post(body, path=path)
        assert (status, answer["input_tokens"]) == (200, 17)
        assert answer["suffice"]["source"] == "counted"
        if dialect == "llamacpp":
            assert here.upstream.calls[-1].body["content"] == "<user>x"


async def test_a_count_that_cannot_be_is_an_error_of_that_api(here: Site) -> None:
    status, body = await here.post({"model": "gpt-9", "messages": USER}, path=COUNTS[0][0])
    assert (status, body["type"]) == (404, "error")


async def test_models_are_shown_one_by_one_to_clients_of_both_apis(here: Site) -> None:
    async with here.http.get(f"{here.url}/v1/models") as response:
        models = await response.json()
    assert (models["first_id"], models["has_more"]) == ("suffice", False)
    async with here.http.get(f"{here.url}/v1/models/small") as response:
        model = await response.json()
    assert model in models["data"]
    assert (model["object"], model["type"]) == ("model", "model")
    async with here.http.get(f"{here.url}/v1/models/none") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (
            404,
            "model_not_found",
        )


async def test_a_websocket_is_told_at_once_to_use_http(here: Site) -> None:
    headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    async with here.http.get(f"{here.url}/v1/responses", headers=headers) as response:
        assert (response.status, response.headers["upgrade"]) == (426, "HTTP/1.1")
        assert (await response.json())["error"]["hint"]


@pytest.mark.parametrize("stream", [False, True])
async def test_clients_see_by_code_field_and_words_that_a_prompt_is_too_long(
    here: Site, stream: bool
) -> None:
    async def script(call: Call) -> None:
        await call.reply({"error": LONG}, status=400)

    here.upstream.script = script
    for path, body, param in (
        (CHAT, {"model": "big", "messages": USER}, "messages"),
        ("/v1/responses", {"model": "big", "input": "Hi"}, "input"),
        ("/v1/messages", MESSAGE, "messages"),
    ):
        status, answer = await here.post(body | {"stream": stream}, path=path)
        error = answer["error"]
        assert (status, error["code"], error["param"]) == (400, LONG["code"], param)
        assert LONG["message"] in error["message"]
        assert "prompt is too long" in error["message"]


async def test_a_client_finds_its_request_again_by_its_own_id_or_ours(here: Site) -> None:
    for sent in ("trace-7", None, "two words", "x" * 999):
        headers = {} if sent is None else {"x-request-id": sent}
        body = json.dumps({"model": "suffice", "messages": USER}).encode()
        async with here.http.post(here.url + CHAT, data=body, headers=headers) as response:
            ours = response.headers["x-suffice-request-id"]
            assert response.headers["x-request-id"] == ("trace-7" if sent == "trace-7" else ours)
        assert (await here.row())["request_id"] == ours
    async with here.http.post(
        here.url + CHAT, data=b"{", headers={"x-request-id": "t"}
    ) as response:
        assert (response.status, response.headers["x-request-id"]) == (400, "t")


# -- base URLs, and bodies that cannot be read -----------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", {"model": "big", "messages": USER}),
        ("/v1/v1/chat/completions", {"model": "big", "messages": USER}),
        ("/v1/messages/", {**MESSAGE, "model": "big"}),
        ("/v1/v1/messages?beta=true", {**MESSAGE, "model": "big"}),
        ("/responses", {"model": "big", "input": "What is 2 + 2?"}),
        ("/v1/v1/messages/count_tokens", {"model": "big", "messages": USER}),
    ],
)
async def test_a_base_url_with_a_v1_too_many_or_too_few_is_understood(
    here: Site, path: str, body: dict[str, Any]
) -> None:
    assert (await here.post(body, path=path))[0] == 200


@pytest.mark.parametrize("path", ["/v1//metrics", "/v1/metrics", "//", "/v2/messages"])
async def test_no_other_path_has_a_second_name(here: Site, path: str) -> None:
    async with here.http.get(here.url + path) as response:
        assert response.status == 404


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses"])
async def test_a_compressed_body_is_refused_in_plain_words(here: Site, path: str) -> None:
    status, body = await here.post(b"\x1f\x8b", path=path, **{"content-encoding": "gzip"})
    assert status == 415
    assert "compressed" in body["error"]["message"]


# -- tools, or none --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/responses",
            {
                "model": "big",
                "input": "Go on.",
                "tools": [],
                "tool_choice": "auto",
                "parallel_tool_calls": True,
            },
        ),
        (
            "/v1/messages",
            {
                **MESSAGE,
                "model": "big",
                "tools": [],
                "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            },
        ),
    ],
)
async def test_no_choice_of_tools_goes_out_where_there_are_none(
    here: Site, path: str, body: dict[str, Any]
) -> None:
    assert (await here.post(body, path=path))[0] == 200
    sent = here.upstream.calls[-1].body
    assert sent.keys().isdisjoint({"tools", "tool_choice", "parallel_tool_calls"})


MARKED = {"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("dialect", "marks", "named"),
    [("openrouter", 4, None), ("qwen", 4, None), ("vllm", 0, "cache_control")],
)
async def test_marks_of_what_to_cache_reach_the_engines_that_heed_them(
    tmp_path: Path, dialect: str, marks: int, named: str | None
) -> None:
    tool = {"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "4", **MARKED}
    del result["text"]
    result["type"] = "tool_result"
    called = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    body = {
        **MESSAGE,
        "model": "big",
        "system": [MARKED],
        "tools": [tool],
        "messages": [
            {"role": "user", "content": [MARKED]},
            {"role": "assistant", "content": [called]},
            {"role": "user", "content": [result]},
        ],
    }
    async with site(tmp_path, dialect=dialect) as here:
        async with here.http.post(f"{here.url}/v1/messages", json=body) as response:
            assert response.status == 200
            assert response.headers.get("x-suffice-ignored") == named
        sent = here.upstream.calls[-1].body
        assert json.dumps(sent).count("cache_control") == marks
