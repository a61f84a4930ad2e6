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
