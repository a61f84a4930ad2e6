"""Bad requests: the OpenAI error shape with a hint, the right status, and a row of their own."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from gateway_support import CHAT, Site, site

from suffice.gateway.keys import KeyLimits, KeyRights, add_key

USER = [{"role": "user", "content": "What is 2 + 2?"}]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, more="body_limit_bytes = 1000\n") as made:
        yield made


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "suffice", "messages": USER} | fields).encode()


@pytest.mark.parametrize(
    ("sent", "status", "param"),
    [
        (b"", 400, None),
        (b'{"model": ', 400, None),
        (b"[]", 400, None),
        (b'{"model": "suffice", "messages": [{"role": "user", "content": "\xff"}]}', 400, None),
        (b"[" * 900, 400, None),
        (body(pad="x" * 2000), 413, None),
        (body(messages=[]), 400, "messages"),
        (body(messages="hi"), 400, "messages"),
        (body(messages=["hi"]), 400, "messages"),
        (body(model=None), 400, "model"),
        (body(model="gpt-9"), 404, "model"),
        (body(stream="yes"), 400, "stream"),
        (body(stream_options=1), 400, "stream_options"),
        (body(n=0), 400, "n"),
        (body(max_tokens="16"), 400, "max_tokens"),
        (body(max_completion_tokens=16.5), 400, "max_completion_tokens"),
        (body(n_predict=True), 400, "n_predict"),
        (body(n="two"), 400, "n"),
        (body(reasoning_effort="huge"), 400, "reasoning_effort"),
        (body(model="big", reasoning_effort="huge"), 400, "reasoning_effort"),
    ],
)
async def test_a_bad_body_is_explained_and_booked_as_refused(
    here: Site, sent: bytes, status: int, param: str | None
) -> None:
    got, answer = await here.post(sent)
    assert got == status
    assert answer["error"]["param"] == param
    assert answer["error"]["hint"]
    assert answer["error"]["type"]
    row = await here.row()
    assert (row["status"], row["charge_picousd"], row["rung"]) == ("refused", 0, None)
    assert not here.upstream.calls


@pytest.mark.parametrize(
    ("model", "headers", "param"),
    [
        ("small", {"x-suffice-rung": "big"}, "x-suffice-rung"),
        ("suffice", {"x-suffice-alpha": "0"}, "x-suffice-alpha"),
        ("suffice", {"x-suffice-alpha": "much"}, "x-suffice-alpha"),
        ("suffice", {"x-suffice-alpha": "nan"}, "x-suffice-alpha"),
        ("small", {"x-suffice-alpha": "0.1"}, "x-suffice-alpha"),
    ],
)
async def test_contradictory_headers_are_refused(
    here: Site, model: str, headers: dict[str, str], param: str
) -> None:
    status, answer = await here.post(body(model=model), **headers)
    assert (status, answer["error"]["param"]) == (400, param)


async def test_a_rung_can_be_asked_for_by_header(here: Site) -> None:
    _, answer = await here.post(body(), **{"x-suffice-rung": "small"})
    assert answer["suffice"]["rung"] == "small"


async def test_effort_auto_asks_the_policy_and_does_not_reach_the_engine(here: Site) -> None:
    _, answer = await here.post(body(model="small", reasoning_effort="auto"))
    assert answer["suffice"]["rung"] == "big"
    assert "reasoning_effort" not in here.upstream.calls[0].body


async def test_an_effort_reaches_a_rung_that_has_none_of_its_own(here: Site) -> None:
    await here.post(body(model="small", reasoning_effort="low"))
    assert here.upstream.calls[0].body["reasoning_effort"] == "low"


OSS = """
[[ladder]]
name = "oss"
engine = "stub"
model = "gpt-oss-120b"

[[ladder]]
name = "oss-low"
engine = "stub"
model = "gpt-oss-120b"
effort = "low"
"""


@asynccontextmanager
async def site_with_oss(folder: Path, rule: str) -> AsyncIterator[Site]:
    async with site(folder, more=f'effort = "{rule}"\n') as here:
        toml = here.folder / "suffice.toml"
        toml.write_text(toml.read_text().replace("\n[gateway]", OSS + "\n[gateway]"))
        await here.gateway.worker.reload()
        yield here


async def test_an_effort_that_a_model_or_a_rung_does_not_take_is_refused_by_that_rule(
    tmp_path: Path,
) -> None:
    async with site_with_oss(tmp_path, "refuse") as here:
        for model, effort in (("oss", "none"), ("oss-low", "high"), ("suffice", "low")):
            status, answer = await here.post(body(model=model, reasoning_effort=effort))
            assert status == 400
            assert effort in answer["error"]["message"]
        assert (await here.post(body(model="oss-low", reasoning_effort="low")))[0] == 200


@pytest.mark.parametrize(
    ("rule", "model", "effort", "sent", "ignored"),
    [
        ("limit", "suffice", "high", None, True),
        ("limit", "oss-low", "high", "low", True),
        ("limit", "oss-low", "low", "low", False),
        ("limit", "oss", "max", "high", True),
        ("limit", "oss", "none", None, True),
        ("limit", "big", "xhigh", "xhigh", False),
        ("ignore", "suffice", "high", None, True),
        ("ignore", "big", "huge", None, True),
        ("ignore", "oss-low", "high", "low", True),
    ],
)
async def test_an_effort_is_a_limit_or_nothing_and_what_had_no_effect_is_named(
    tmp_path: Path, rule: str, model: str, effort: str, sent: str | None, ignored: bool
) -> None:
    async with site_with_oss(tmp_path, rule) as here:
        data = body(model=model, reasoning_effort=effort)
        async with here.http.post(here.url + CHAT, data=data) as response:
            assert response.status == 200
            assert response.headers.get("x-suffice-ignored") == (
                "reasoning_effort" if ignored else None
            )
        assert here.upstream.calls[-1].body.get("reasoning_effort") == sent


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_what_a_rung_overrules_is_named_at_every_api(
    tmp_path: Path, path: str, stream: bool
) -> None:
    asked = {
        CHAT: {"chat_template": "{{ 1 }}", "min_tokens": 9, "top_k": 2, "temperature": 0.5},
        "/v1/messages": {"max_tokens": 99, "top_k": 2, "temperature": 0.5},
        "/v1/responses": {"temperature": 0.5, "input": "Hi", "seed": 3},
    }[path]
    ask = {"model": "oss-low", "messages": USER, "stream": stream, **asked}
    ask = {name: value for name, value in ask.items() if name != "messages" or "input" not in ask}
    async with site_with_oss(tmp_path, "limit") as here:
        toml = here.folder / "suffice.toml"
        params = 'effort = "low"\nparams = {temperature = 0.0}'
        toml.write_text(toml.read_text().replace('effort = "low"', params))
        await here.gateway.worker.reload()
        async with here.http.post(here.url + path, json=ask) as response:
            assert response.status == 200
            named = set(response.headers["x-suffice-ignored"].split(", "))
        assert named == asked.keys() - {"max_tokens", "input", "seed"}
        sent = here.upstream.calls[-1].body
        assert not {name for name in named if sent.get(name) == asked[name]}


async def test_thousands_of_messages_and_odd_characters_are_no_trouble(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        many = [
            {"role": ("user", "assistant")[i % 2], "content": f"\0 {i} 😀"} for i in range(5000)
        ]
        status, _ = await here.post({"model": "suffice", "messages": many})
        assert status == 200
        assert here.upstream.calls[0].body["messages"] == many


@pytest.mark.parametrize(("method", "path", "status"), [("GET", CHAT, 405), ("GET", "/x", 404)])
async def test_wrong_doors(here: Site, method: str, path: str, status: int) -> None:
    async with here.http.request(method, here.url + path) as response:
        assert response.status == status
        assert json.loads(await response.read())["error"]["hint"]


async def test_only_known_keys_are_let_in_and_named_in_the_books(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    rights = KeyRights(scopes=("admin",))
    secret = add_key(keys, "app", limits=KeyLimits(requests_per_minute=2), rights=rights)
    async with site(tmp_path, more=f'keys = "{keys}"\n') as here:
        known = {"authorization": f"Bearer {secret}"}
        for headers in ({}, {"authorization": "Bearer sk-wrong"}, {"authorization": secret}):
            status, answer = await here.post(body(), **headers)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        assert here.rows() == []  # strangers do not fill the disk
        statuses = [(await here.post(body(), **known))[0] for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert {(row["key_id"], row["status"]) for row in here.rows()} == {
            ("app", "ok"),
            ("app", "refused"),
        }
        browser = {"authorization": "Basic " + b64encode(f"me:{secret}".encode()).decode()}
        async with here.http.get(here.url, headers=browser) as response:
            assert "suffice" in await response.text()
        for path in ("/v1/models", "/metrics", "/"):
            async with here.http.get(here.url + path) as response:
                assert response.status == 401
            async with here.http.get(here.url + path, headers=known) as response:
                assert response.status == 200


async def test_metrics_count_what_was_served_and_refused(here: Site) -> None:
    await here.post(body())
    await here.post(b"{")
    async with here.http.get(f"{here.url}/metrics") as response:
        text = await response.text()
    assert 'suffice_requests_total{rung="big",status="ok"' in text
    assert 'suffice_error_responses_total{code="400"' in text
    assert 'suffice_inflight_requests{rung="big"' in text


async def test_the_openapi_document_names_every_path(here: Site) -> None:
    async with here.http.get(f"{here.url}/openapi.json") as response:
        document = json.loads(await response.read())
    assert set(document["paths"]) == set(here.gateway._routes)
