"""Chat requests through a real server with the official client: passed through, chosen, booked."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from gateway_support import (
    DONE,
    Call,
    Site,
    answer,
    chunk,
    completion,
    event,
    running,
    site,
    usage_event,
)

from suffice.certify.bundling import Certification
from suffice.gateway.app import Gateway
from suffice.gateway.serving import Settings
from suffice.ledger import Ledger, entries
from support import path_of


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


async def test_an_answer_passes_through_with_our_account_of_it(here: Site) -> None:
    raw = await here.client.chat.completions.with_raw_response.create(
        model="suffice", messages=[{"role": "user", "content": "What is 2 + 2?"}]
    )
    given = raw.parse()
    assert given.id == "chatcmpl-upstream"
    assert given.system_fingerprint == "fp_1"
    assert given.choices[0].message.content == "4"
    assert raw.headers["x-suffice-rung"] == "big"
    assert raw.headers["x-suffice-certificate"] == "none"
    assert raw.headers["x-suffice-cost-usd"] == "0.000025"
    assert given.model_extra["suffice"]["cost_usd"] == "0.000025"
    row = await here.row()
    assert (row["status"], row["rung"], row["charge_picousd"]) == ("ok", "big", 25_000_000)
    assert row["request_id"] == raw.headers["x-suffice-request-id"]


async def test_bytes_that_we_do_not_know_come_through_unchanged(here: Site) -> None:
    choice = b'{"index":0,"message":{"content":"x"},"finish_reason":"stop","odd":0.10000}'
    odd = (
        b'{ "choices":[' + choice + b'],"usage":{"prompt_tokens":1,"completion_tokens":1},"e":1E5}'
    )

    async def script(call: Call) -> None:
        await call.head(**{"content-type": "application/json", "content-length": str(len(odd))})
        await call.write(odd)

    here.upstream.script = script
    body = {"model": "big", "messages": [{"role": "user", "content": "x"}]}
    async with here.http.post(f"{here.url}/v1/chat/completions", json=body) as response:
        data = await response.read()
    assert data.startswith(odd[:-1])


async def test_fields_of_the_request_reach_the_engine_unchanged(here: Site) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    fields = {
        "tools": tools,
        "response_format": {"type": "json_object"},
        "logprobs": True,
        "seed": 7,
        "some_new_field": {"deep": [1, None]},
    }
    message = {"role": "user", "content": parts, "name": "me"}
    await here.post({"model": "big", "messages": [message], **fields})
    sent = here.upstream.calls[0].body
    assert sent["messages"] == [message]
    assert {name: sent[name] for name in fields} == fields
    assert sent["model"] == "big-model"
    assert here.upstream.calls[0].headers["authorization"] == "Bearer sk-upstream-secret"


async def test_chunks_reach_the_client_as_they_arrive(here: Site) -> None:
    seen = asyncio.Event()

    async def script(call: Call) -> None:
        await call.events()
        await call.write(chunk("first"))
        await seen.wait()
        for piece in (chunk(" second"), chunk(finish="stop"), usage_event(), DONE):
            await call.write(piece)

    here.upstream.script = script
    texts = []
    async for part in await here.chat(model="big", stream=True):
        texts.append(part.choices[0].delta.content)
        seen.set()
    assert texts == ["first", " second", None]
    assert (await here.row())["output_tokens"] == 5


@pytest.mark.parametrize("wanted", [True, False])
async def test_the_usage_chunk_comes_only_where_it_was_asked_for(here: Site, wanted: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if wanted else {}
    parts = [part async for part in await here.chat(stream=True, **options)]
    assert here.upstream.calls[0].body["stream_options"] == {"include_usage": True}
    with_usage = [part for part in parts if part.usage is not None]
    assert len(with_usage) == wanted
    if wanted:
        assert parts[-1].usage.completion_tokens == 5
        assert parts[-1].model_extra["suffice"]["cost_usd"] == "0.000025"


async def test_reasoning_that_the_engine_does_not_count_is_counted_and_marked(
    tmp_path: Path,
) -> None:
    async def script(call: Call) -> None:
        if "prompt" in call.body:  # POST /tokenize
            await call.reply({"tokens": [1, 2, 3]})
        else:
            await call.reply(completion(reasoning="let me see"))

    async with site(tmp_path, dialect="vllm") as here:
        here.upstream.script = script
        given = await here.chat(model="big")
    assert given.usage.completion_tokens_details.reasoning_tokens == 3
    assert given.model_extra["suffice"]["counted_here"] == {"reasoning_tokens": "counted"}
    assert given.usage.completion_tokens == 5


async def test_several_choices_of_an_engine_that_counts_one_are_counted(tmp_path: Path) -> None:
    async def script(call: Call) -> None:
        if "content" in call.body:  # POST /tokenize
            await call.reply({"tokens": [1, 2, 3]})
            return
        two = completion()
        two["choices"].append({**two["choices"][0], "index": 1})
        await call.reply(two)

    async with site(tmp_path, dialect="llamacpp") as here:
        here.upstream.script = script
        given = await here.chat(model="big", n=2)
        row = await here.row()
    assert given.usage.completion_tokens == row["output_tokens"] == 2 * (3 + 1)
    assert given.usage.total_tokens == 28
    assert given.model_extra["suffice"]["counted_here"]["completion_tokens"] == "counted"


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_policy_chooses_and_may_look_before_an_answer_stays(
    tmp_path: Path, settled: Certification, streamed: bool
) -> None:
    made = {(t.request_id, t.rung): t for t in settled.trials}
    texts = {t.text: t.request_id for t in settled.trials}

    async def script(call: Call) -> None:
        rung = call.body["model"].removesuffix("-model")
        trial = made[texts[call.body["messages"][0]["content"]], rung]
        logprobs = {"content": [{"token": "x", "logprob": trial.mean_logprob}]}
        if not call.body["stream"]:
            whole = completion(trial.answer)
            whole["choices"][0]["logprobs"] = logprobs
            await call.reply(whole)
            return
        await call.events()
        choice = {"index": 0, "delta": {"content": trial.answer}, "logprobs": logprobs}
        await call.write(event({"choices": [choice]}))
        await call.write(chunk(finish="stop") + usage_event() + DONE)

    kept = [f"r{i}" for i in range(60) if path_of(settled, f"r{i}") == ["small"]][:2]
    climbed = [f"r{i}" for i in range(60) if path_of(settled, f"r{i}") == ["small", "big"]][:2]
    async with site(tmp_path, bundle=settled.bundle) as here:
        here.upstream.script = script
        for request_id in kept + climbed:
            trial = made[request_id, "small"]
            headers = {"x-suffice-group": trial.group}
            given = await here.chat(trial.text, extra_headers=headers, stream=streamed)
            if streamed:
                parts = [part.choices[0].delta.content or "" async for part in given]
                text = "".join(parts)
            else:
                text = given.choices[0].message.content
            assert text == made[request_id, "small" if request_id in kept else "big"].answer
        rows = here.rows()
    asked = [(row["rung"], row["asked"], row["role"]) for row in rows]
    assert (
        asked
        == [("small", "small", "answer")] * 2
        + [
            ("big", "small", "discarded"),
            ("big", "big", "answer"),
        ]
        * 2
    )
    certificate_id = settled.bundle.certificate.certificate_id
    assert {row["certificate_id"] for row in rows} == {certificate_id}


async def test_route_only_streams_go_to_the_reference_where_an_answer_would_be_reviewed(
    tmp_path: Path, settled: Certification
) -> None:
    request_id = next(f"r{i}" for i in range(60) if path_of(settled, f"r{i}")[0] == "small")
    trial = next(t for t in settled.trials if t.request_id == request_id)
    more = 'defer_streams = "route"\n'
    async with site(tmp_path, bundle=settled.bundle, more=more) as here:
        stream = await here.chat(
            trial.text, stream=True, extra_headers={"x-suffice-group": trial.group}
        )
        assert [part async for part in stream]
        assert [call.body["model"] for call in here.upstream.calls] == ["big-model"]


async def test_an_alpha_below_the_certificate_is_kept_by_the_reference(
    tmp_path: Path, settled: Certification
) -> None:
    async with site(tmp_path, bundle=settled.bundle) as here:
        for alpha, covered in (("0.01", False), ("0.5", True)):
            headers = {"x-suffice-alpha": alpha, "x-suffice-group": "sums"}
            given = await here.chat(extra_headers=headers)
            account = given.model_extra["suffice"]
            assert (account["certificate"] is not None) == covered
            assert ("fallback" in account) != covered


async def test_observing_answers_with_the_reference(tmp_path: Path, settled: Certification) -> None:
    async with site(tmp_path, bundle=settled.bundle, observe=True) as here:
        given = await here.chat(extra_headers={"x-suffice-group": "sums"})
        assert given.model_extra["suffice"]["rung"] == "big"
        assert (await here.row())["certificate_id"] is None


async def test_an_audited_request_is_answered_by_the_other_rungs_and_scored(
    tmp_path: Path, settled: Certification
) -> None:
    async with site(tmp_path, bundle=settled.bundle, observe=True) as here:
        toml = here.folder / "suffice.toml"
        toml.write_text(toml.read_text().replace("audit_share = 0", "audit_share = 1"))
        await here.gateway.worker.reload()
        given = await here.chat()
        for _ in range(200):
            if len(here.rows()) == 2 and not here.gateway.worker.auditor.waiting:
                break
            await asyncio.sleep(0.01)
        answered, audit = here.rows()
    assert (answered["audited"], answered["asked"], answered["role"]) == (1, "big", "answer")
    assert (audit["asked"], audit["role"]) == ("small", "audit")
    assert given.model_extra["suffice"]["cost_usd"] == "0.000025"  # what audits cost is not its


async def test_an_answer_that_the_client_cut_off_is_asked_for_again_and_audited(
    tmp_path: Path, settled: Certification
) -> None:
    async def half(call: Call) -> None:
        if call.body.get("stream") and len(here.upstream.calls) == 1:
            await call.events()
            await call.write(chunk("The answer is "))
            await call.gone()
        else:
            await answer(call)

    async with site(tmp_path, bundle=settled.bundle, observe=True) as here:
        toml = here.folder / "suffice.toml"
        toml.write_text(toml.read_text().replace("audit_share = 0", "audit_share = 1"))
        await here.gateway.worker.reload()
        here.upstream.script = half
        response = await here.chat(stream=True)
        async for _ in response:
            await response.close()
            break
        for _ in range(200):
            if len(here.rows()) == 3 and not here.gateway.worker.auditor.waiting:
                break
            await asyncio.sleep(0.01)
        cut, *audits = here.rows()
    assert (cut["status"], cut["audited"], cut["asked"], cut["role"]) == (
        *("cancelled", 1, "big", "answer"),
    )
    assert [(row["asked"], row["role"]) for row in audits] == [("small", "audit"), ("big", "audit")]


async def test_feedback_is_booked_as_a_score(here: Site) -> None:
    given = await here.chat()
    said = {"request_id": given.model_extra["suffice"]["request_id"], "score": 0.5}
    assert await here.post(said, path="/v1/feedback") == (200, {"status": "booked"})
    status, answer = await here.post({"request_id": "none", "score": 1}, path="/v1/feedback")
    assert status == 404
    assert "x-suffice-request-id" in answer["error"]["hint"]


async def test_the_models_are_the_policy_the_rungs_and_their_aliases(tmp_path: Path) -> None:
    async with site(tmp_path, more='models = {"gpt-4o" = "small"}\n') as here:
        names = [model.id async for model in here.client.models.list()]
        assert names == ["suffice", "small", "big", "gpt-4o"]
        await here.chat(model="gpt-4o")
        assert here.upstream.calls[0].body["model"] == "small-model"


async def test_the_official_client_understands_our_errors(here: Site) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await here.chat(model="gpt-9")
    assert caught.value.code == "model_not_found"
    assert "small" in json.loads(caught.value.response.content)["error"]["hint"]


EMBEDDED = """
reference = "tiny"

[engine.here]
kind = "embedded"
packaged = "SmolLM2-135M-Instruct"
context_tokens = 512
parallel = 1

[[ladder]]
name = "tiny"
engine = "here"
model = "SmolLM2-135M-Instruct"
max_output_tokens = 6

[gateway]
ledger = "{ledger}"
"""


async def test_a_real_model_streams_through_and_is_counted(tmp_path: Path) -> None:
    toml = tmp_path / "suffice.toml"
    toml.write_text(EMBEDDED.format(ledger=tmp_path / "books.db"))
    messages = [{"role": "user", "content": "Count to ten."}]
    ask = {"model": "suffice", "messages": messages, "temperature": 0}  # else it may stop early
    async with (
        running(Gateway(Settings(ladder=toml))) as (url, _),
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client,
    ):
        whole = await client.chat.completions.create(**ask)
        stream = await client.chat.completions.create(
            **ask, stream=True, stream_options={"include_usage": True}
        )
        parts = [part async for part in stream]
    assert whole.usage.completion_tokens == parts[-1].usage.completion_tokens == 6
    assert whole.choices[0].message.content
    assert sum(bool(part.choices and part.choices[0].delta.content) for part in parts) > 1
    with Ledger.open(tmp_path / "books.db", read_only=True) as ledger:
        attempts = [entry.attempts[0] for entry in entries(ledger)]
    assert [attempt.usage.output_tokens.tokens for attempt in attempts] == [6, 6]
    assert [attempt.charge.usd for attempt in attempts] == [None, None]  # it has no price
