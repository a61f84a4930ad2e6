"""Traces that go on through the gateway, spans and counts of what was refused, and CORS."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from gateway_support import CHAT, Call, Site, answer, chunk, site

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
    called, span = spans.get_finished_spans()
    assert (span.name, span.kind.name) == (f"{operation} big", "SERVER")
    assert f"{span.context.trace_id:032x}" == PARENT.split("-")[1] == sent[1]
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
    assert f"{called.context.span_id:016x}" == sent[2]
    assert called.parent.span_id == span.context.span_id
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
    *calls, span = spans.get_finished_spans()
    assert [call.attributes["error.type"] for call in calls] == (
        ["400"] if error == "upstream_refused" else []
    )
    assert span.attributes["error.type"] == error
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes["suffice.status"] == booked
    assert span.status.status_code.name == "ERROR"


# -- calls to engines ------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"), [(CHAT, ASK), ("/v1/responses", {"model": "big", "input": "Hi"})]
)
async def test_a_call_to_an_engine_is_a_client_span_that_says_what_came_of_it(
    tmp_path: Path, spans: Any, path: str, body: dict[str, Any], stream: bool
) -> None:
    async with site(tmp_path) as here:
        async with here.http.post(here.url + path, json=body | {"stream": stream}) as response:
            assert response.status == 200
            await response.read()
        sent = here.upstream.calls[-1].headers["traceparent"].split("-")
    call, request = spans.get_finished_spans()
    assert (call.name, call.kind.name, request.kind.name) == ("chat big-model", "CLIENT", "SERVER")
    assert (sent[1], sent[2]) == (f"{call.context.trace_id:032x}", f"{call.context.span_id:016x}")
    assert call.parent.span_id == request.context.span_id
    facts = call.attributes
    assert facts["gen_ai.provider.name"] == "openai"
    assert (facts["gen_ai.request.model"], facts["suffice.rung"]) == ("big-model", "big")
    assert facts["gen_ai.response.model"] == "served-model"
    assert (facts["gen_ai.usage.input_tokens"], facts["gen_ai.usage.output_tokens"]) == (20, 5)
    assert facts["gen_ai.response.finish_reasons"] == ("stop",)
    assert (facts["server.address"], facts["server.port"] > 0) == ("127.0.0.1", True)
    assert ("gen_ai.response.time_to_first_chunk" in facts) is stream


@pytest.mark.parametrize("stream", [False, True])
async def test_every_attempt_has_its_own_span(tmp_path: Path, spans: Any, stream: bool) -> None:
    async def script(call: Call) -> None:
        await (fails if call.body["model"] == "small-model" else answer)(call)

    async with site(tmp_path, more="failover = true\n") as here:
        here.upstream.script = script
        body = ASK | {"model": "small", "stream": stream}
        async with here.http.post(here.url + CHAT, json=body) as response:
            assert response.status == 200
            await response.read()
    small, big, request = spans.get_finished_spans()
    assert (small.attributes["suffice.rung"], big.attributes["suffice.rung"]) == ("small", "big")
    assert (small.attributes["error.type"], small.attributes["http.response.status_code"]) == (
        "400",
        400,
    )
    assert "error.type" not in big.attributes
    assert {small.parent.span_id, big.parent.span_id} == {request.context.span_id}


async def test_a_call_that_the_client_leaves_is_cancelled(tmp_path: Path, spans: Any) -> None:
    async def hangs(call: Call) -> None:
        await call.events()
        await call.write(chunk("4"))
        await call.gone()

    async with site(tmp_path) as here:
        here.upstream.script = hangs
        response = await here.http.post(here.url + CHAT, json=ASK | {"stream": True})
        await response.content.readany()
        response.close()
        await here.row()
    call = next(s for s in spans.get_finished_spans() if s.kind.name == "CLIENT")
    assert call.attributes["error.type"] == "cancelled"


@pytest.mark.parametrize(
    ("path", "operation"),
    [("/v1/completions", "text_completion"), ("/v1/embeddings", "embeddings")],
)
async def test_what_is_forwarded_is_traced_too(
    tmp_path: Path, spans: Any, path: str, operation: str
) -> None:
    async def script(call: Call) -> None:
        if operation == "embeddings":
            await call.reply({"data": [], "usage": {"prompt_tokens": 3}})
        else:
            await call.reply({"choices": [{"text": "4", "finish_reason": "stop"}]})

    async with site(tmp_path) as here:
        here.upstream.script = script
        status, _ = await here.post({"model": "big", "prompt": "2 +", "input": "2 +"}, path=path)
        assert status == 200
    call, request = spans.get_finished_spans()
    assert (call.name, request.name) == (f"{operation} big-model", f"{operation} big")
    assert call.attributes["gen_ai.operation.name"] == operation
    assert call.parent.span_id == request.context.span_id


async def test_an_audit_belongs_to_the_trace_of_the_request_that_it_audits(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def script(call: Call) -> None:
        if call.body["model"] == "small-model":
            await asked.wait()
        await answer(call)

    async with site(tmp_path, observe=True) as here:
        here.upstream.script = script
        toml = here.folder / "suffice.toml"
        toml.write_text(toml.read_text().replace("audit_share = 0", "audit_share = 1"))
        await here.gateway.worker.reload()
        traces = [PARENT.replace("4bf92f", f"00000{number}") for number in range(9)]
        for trace in traces:
            assert (await here.post(ASK | {"model": "suffice"}, traceparent=trace))[0] == 200
        asked.set()
        for _ in range(200):
            if len(here.upstream.calls) == 18 and not here.gateway.worker.auditor.waiting:
                break
            await asyncio.sleep(0.01)
        audits = [c for c in here.upstream.calls if c.body["model"] == "small-model"]
        assert sorted(call.headers["traceparent"] for call in audits) == traces


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
