"""Traces that go on through the gateway, spans and counts of what was refused, and CORS."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from gateway_support import CHAT, Call, Site, site

from suffice.gateway.keys import KeyLimits, add_key

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ASK = {"model": "big", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Collect the spans of a provider that is set up, and unset it at the end."""
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry import trace as api
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), trace.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(api, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


@pytest.mark.parametrize(
    ("headers", "carried"),
    [
        ({"traceparent": PARENT, "tracestate": "a=1"}, (PARENT, "a=1")),
        ({"traceparent": PARENT}, (PARENT, None)),
        ({"traceparent": "00-" + "0" * 32 + "-00f067aa0ba902b7-01"}, (None, None)),
        ({"traceparent": "nonsense", "tracestate": "a=1"}, (None, None)),
        ({"tracestate": "a=1"}, (None, None)),
    ],
)
async def test_without_a_provider_a_callers_trace_is_handed_on(
    here: Site, headers: dict[str, str], carried: tuple[str | None, str | None]
) -> None:
    assert (await here.post(ASK, **headers))[0] == 200
    sent = here.upstream.calls[-1].headers
    assert (sent.get("traceparent"), sent.get("tracestate")) == carried
    assert (await here.post(ASK))[0] == 200
    assert "traceparent" not in here.upstream.calls[-1].headers  # one request's is not the next's


@pytest.mark.parametrize(
    ("path", "body", "operation"),
    [
        (CHAT, ASK, "chat"),
        ("/v1/responses", {"model": "big", "input": "Hello"}, "chat"),
        ("/v1/messages", ASK | {"max_tokens": 9}, "chat"),
    ],
)
async def test_a_request_is_a_server_span_of_its_callers_trace(
    tmp_path: Path, spans: Any, path: str, body: dict[str, Any], operation: str
) -> None:
    async with site(tmp_path) as here:
        assert (await here.post(body, path=path, traceparent=PARENT))[0] == 200
        sent = here.upstream.calls[-1].headers["traceparent"].split("-")
    [span] = spans.get_finished_spans()
    assert (span.name, span.kind.name) == (f"{operation} big", "SERVER")
    assert f"{span.context.trace_id:032x}" == PARENT.split("-")[1] == sent[1]
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
    assert f"{span.context.span_id:016x}" == sent[2]
    facts = span.attributes
    assert facts["gen_ai.operation.name"] == operation
    assert (facts["gen_ai.usage.input_tokens"], facts["http.response.status_code"]) == (20, 200)
    assert (facts["url.path"], facts["suffice.rung"]) == (path, "big")
    assert "What is" not in str(facts)


async def fails(call: Call) -> None:
    await call.reply({"error": {"message": "no"}}, status=400)


@pytest.mark.parametrize(
    ("body", "status", "error", "booked"),
    [
        (ASK | {"model": "nobody"}, 404, "model_not_found", "refused"),
        (b"{", 400, "400", "refused"),
        (ASK, 400, "upstream_refused", "failed"),
    ],
)
async def test_what_is_refused_is_traced_counted_and_booked(
    tmp_path: Path, spans: Any, body: Any, status: int, error: str, booked: str
) -> None:
    async with site(tmp_path) as here:
        here.upstream.script = fails
        assert (await here.post(body))[0] == status
        assert here.rows()[-1]["status"] == booked
        async with here.http.get(f"{here.url}/metrics") as response:
            text = await response.text()
    assert f'suffice_requests_total{{rung="none",status="{booked}",' in text
    assert f'suffice_error_responses_total{{code="{error}",' in text
    [span] = spans.get_finished_spans()
    assert span.attributes["error.type"] == error
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes["suffice.status"] == booked
    assert span.status.status_code.name == "ERROR"


async def test_a_stranger_is_traced_and_counted_but_writes_nothing_into_the_books(
    tmp_path: Path, spans: Any
) -> None:
    add_key(tmp_path / "keys.json", "mine", limits=KeyLimits())
    async with site(tmp_path, more=f'keys = "{tmp_path / "keys.json"}"\n') as here:
        with pytest.raises(openai.AuthenticationError):
            await here.chat()
        assert here.rows() == []
    [span] = spans.get_finished_spans()
    assert span.attributes["error.type"] == "invalid_api_key"


# -- browsers --------------------------------------------------------------------------------------

ORIGIN = "https://app.example"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, x-stainless-os",
}


@pytest.mark.parametrize("allowed", [[ORIGIN], ["https://other.example", ORIGIN], ["*"]])
async def test_pages_of_named_origins_may_call(tmp_path: Path, allowed: list[str]) -> None:
    async with site(tmp_path, more=f"cors_origins = {allowed}\n") as here:
        async with here.http.options(here.url + CHAT, headers=PREFLIGHT) as response:
            assert response.status == 204
            told = response.headers
            expected = "*" if allowed == ["*"] else ORIGIN
            assert told["access-control-allow-origin"] == expected
            assert (
                told["access-control-allow-headers"] == PREFLIGHT["access-control-request-headers"]
            )
            assert "access-control-allow-credentials" not in told
        for body, status in ((ASK, 200), ({}, 400)):  # an error is to be read too
            async with here.http.post(
                here.url + CHAT, json=body, headers={"origin": ORIGIN}
            ) as response:
                assert response.status == status
                assert response.headers["access-control-allow-origin"] == expected


async def test_other_origins_and_no_origins_are_allowed_nothing(tmp_path: Path) -> None:
    other = 'cors_origins = ["https://other.example"]\n'
    async with (
        site(tmp_path, more=other) as here,
        here.http.options(here.url + CHAT, headers=PREFLIGHT) as response,
    ):
        assert "access-control-allow-origin" not in response.headers
    async with site(tmp_path) as here:
        async with here.http.options(here.url + CHAT, headers=PREFLIGHT) as response:
            assert response.status == 405
        headers = {"origin": ORIGIN}
        async with here.http.post(here.url + CHAT, json=ASK, headers=headers) as response:
            assert "access-control-allow-origin" not in response.headers
