"""Text completions and embeddings: forwarded to a rung that serves them, booked, or refused."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
from gateway_support import DONE, Call, Site, event, site

from suffice.config import parse_config
from suffice.errors import ConfigError
from suffice.gateway.keys import KeyLimits, add_key

EMBEDDING = """
models = {"text-embedding-3-small" = "vectors"}

[[embedding]]
name = "vectors"
engine = "stub"
model = "embedding-model"
price = "flat"
params = {dimensions = 2}

[engine.claude]
kind = "anthropic"
url = "http://127.0.0.1:9/v1"

[[ladder]]
name = "claude"
engine = "claude"
model = "claude-x"
"""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, more=EMBEDDING) as made:
        made.upstream.script = answers
        yield made


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def text_chunk(text: str, *, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
    return event({"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": [choice]})


async def answers(call: Call) -> None:
    if "input" in call.body:
        vector = {"object": "embedding", "index": 0, "embedding": [0.1, 1e-7]}
        usage = {"prompt_tokens": 4, "total_tokens": 4}
        await call.reply({"object": "list", "data": [vector], "model": "m", "usage": usage})
    elif not call.body.get("stream"):
        choice = {"index": 0, "text": "4.", "finish_reason": "stop", "logprobs": {"tokens": ["4"]}}
        await call.reply(
            {"id": "cmpl-1", "object": "text_completion", "choices": [choice], "usage": USAGE}
        )
    else:
        await call.events()
        usage = event({"id": "cmpl-1", "choices": [], "usage": USAGE})
        for piece in (text_chunk("4"), text_chunk(".", finish="stop"), usage, DONE):
            await call.write(piece)


@pytest.mark.parametrize("wants_usage", [False, True])
async def test_a_text_completion_streams_and_is_booked(here: Site, wants_usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if wants_usage else {}
    stream = await here.client.completions.create(
        model="small", prompt="2 + 2 =", stream=True, **options
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].text for c in chunks if c.choices) == "4."
    told = [c.usage.total_tokens for c in chunks if c.usage]
    assert told == ([10] if wants_usage else [])
    row = here.rows()[-1]
    assert (row["status"], row["rung"], row["input_tokens"]) == ("ok", "small", 7)
    assert row["charge_picousd"] == 10_000_000
    sent = here.upstream.calls[-1].body
    assert (sent["model"], sent["max_tokens"]) == ("small-model", 16)
    assert sent["stream_options"]["include_usage"] is True


async def test_an_engine_that_does_not_stream_completes_texts_in_one_event(here: Site) -> None:
    async def whole(call: Call) -> None:
        choice = {"index": 0, "text": "4.", "finish_reason": "stop"}
        await call.reply({"id": "cmpl-1", "choices": [choice], "usage": USAGE})

    here.upstream.script = whole
    stream = await here.client.completions.create(model="small", prompt="2 + 2 =", stream=True)
    assert [chunk.choices[0].text async for chunk in stream] == ["4."]
    row = await here.row()
    assert (row["status"], row["input_tokens"], row["output_source"]) == ("ok", 7, "reported")


async def test_a_whole_text_completion_is_the_engines_own_with_our_account(here: Site) -> None:
    status, body = await here.post(
        {"model": "suffice", "prompt": ["2 + 2 =", "3 + 1 ="], "logprobs": 1, "odd": [1]},
        path="/v1/completions",
    )
    assert status == 200
    assert body["choices"][0]["logprobs"] == {"tokens": ["4"]}
    assert body["suffice"]["rung"] == "big"
    assert body["suffice"]["fallback"]
    assert Decimal(body["suffice"]["cost_usd"]) == Decimal("0.00001")
    assert here.upstream.calls[-1].body["odd"] == [1]
    assert here.rows()[-1]["conversation_id"] is None


@pytest.mark.parametrize("model", ["vectors", "text-embedding-3-small"])
async def test_embeddings_are_the_engines_own_and_save_nothing(here: Site, model: str) -> None:
    made = await here.client.embeddings.create(model=model, input="Hello", encoding_format="float")
    assert made.data[0].embedding == [0.1, 1e-7]
    sent = here.upstream.calls[-1]
    assert (sent.body["model"], sent.body["dimensions"]) == ("embedding-model", 2)
    row = here.rows()[-1]
    assert (row["rung"], row["vector"], row["charge_picousd"]) == ("vectors", "none", 4_000_000)
    assert (row["reference_picousd"], row["reference_known"]) == (4_000_000, "measured")
    assert model in [m.id for m in (await here.client.models.list()).data]


@pytest.mark.parametrize("tokens", [[5, 6, 7], [[5, 6], [7]]])
async def test_prompts_of_tokens_are_counted_where_the_engine_does_not(
    here: Site, tokens: Any
) -> None:
    async def silent(call: Call) -> None:
        await call.reply({"choices": [{"index": 0, "text": "4", "finish_reason": "length"}]})

    here.upstream.script = silent
    status, body = await here.post({"model": "big", "prompt": tokens}, path="/v1/completions")
    assert (status, body["usage"]["prompt_tokens"]) == (200, 3)
    assert body["suffice"]["estimated"] is True
    assert here.rows()[-1]["input_tokens"] == 3


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/embeddings", {"model": "suffice", "input": "a"}, "policy"),
        ("/v1/embeddings", {"model": "claude", "input": "a"}, "anthropic"),
        ("/v1/embeddings", {"model": "vectors", "input": []}, "input must be"),
        ("/v1/embeddings", {"model": "vectors", "input": [[1], "a"]}, "input must be"),
        ("/v1/embeddings", {"model": 3, "input": "a"}, "name"),
        ("/v1/completions", {"model": "claude", "prompt": "a"}, "anthropic"),
        ("/v1/completions", {"model": "big"}, "prompt must be"),
        ("/v1/completions", {"model": "big", "prompt": "a", "max_tokens": -1}, "max_tokens"),
        ("/v1/completions", {"prompt": "a"}, "model"),
    ],
)
async def test_what_no_rung_serves_is_refused_with_a_hint_and_booked(
    here: Site, path: str, body: Any, words: str
) -> None:
    status, told = await here.post(body, path=path)
    assert status == 400
    assert words in told["error"]["message"]
    assert told["error"]["hint"]
    assert here.rows()[-1]["status"] == "refused"
    assert not here.upstream.calls


@pytest.mark.parametrize("model", ["vectors", "nobody"])
async def test_embedding_models_do_not_chat(here: Site, model: str) -> None:
    message = {"role": "user", "content": "Hello"}
    status, _ = await here.post({"model": model, "messages": [message]})
    assert status == 404


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_an_engine_without_the_path_is_said_to_be_one(here: Site, status: int) -> None:
    async def refuses(call: Call) -> None:
        await call.reply({"error": {"message": "no embeddings here"}}, status=status)

    here.upstream.script = refuses
    with pytest.raises(openai.NotFoundError, match="'big' does not serve /v1/embeddings"):
        await here.client.embeddings.create(model="big", input="Hello")
    assert here.rows()[-1]["status"] == "failed"


async def test_a_stream_that_breaks_off_is_an_error_and_booked_with_what_came(here: Site) -> None:
    async def breaks(call: Call) -> None:
        await call.events()
        await call.write(text_chunk("four words and more"))

    here.upstream.script = breaks
    stream = await here.client.completions.create(model="small", prompt="2 + 2 =", stream=True)
    with pytest.raises(openai.APIError):
        async for _ in stream:
            pass
    row = await here.row()
    assert (row["status"], row["output_source"]) == ("failed", "estimated")
    assert row["output_tokens"] > 0


async def test_an_error_inside_a_reply_keeps_its_words(here: Site) -> None:
    async def fails(call: Call) -> None:
        await call.reply({"error": {"message": "too long", "code": "context_length_exceeded"}})

    here.upstream.script = fails
    with pytest.raises(openai.BadRequestError) as caught:
        await here.client.completions.create(model="small", prompt="2 + 2 =")
    assert caught.value.code == "context_length_exceeded"


async def test_budgets_hold_for_what_is_forwarded(tmp_path: Path) -> None:
    secret = add_key(
        tmp_path / "keys.json", "poor", limits=KeyLimits(budget_usd_per_day=Decimal("0.00003"))
    )
    more = f'keys = "{tmp_path / "keys.json"}"\n' + EMBEDDING
    async with site(tmp_path, more=more) as here:
        here.upstream.script = answers
        headers = {"authorization": f"Bearer {secret}"}
        long = {"model": "vectors", "input": "x" * 50}
        status, _ = await here.post(long, path="/v1/embeddings", **headers)
        assert status == 429
        short = {"model": "vectors", "input": "x" * 5}
        status, _ = await here.post(short, path="/v1/embeddings", **headers)
        assert status == 200
        assert here.rows()[-1]["key_id"] == "poor"


LADDER = """
reference = "a"
[engine.e]
kind = "openai"
url = "http://127.0.0.1:9/v1"
[engine.c]
kind = "anthropic"
url = "http://127.0.0.1:9/v1"
[[ladder]]
name = "a"
engine = "e"
model = "m"
[[embedding]]
"""


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ('name = "a"\nengine = "e"\nmodel = "m"', "two rungs"),
        ('name = "b"\nengine = "c"\nmodel = "m"', "makes no embeddings"),
        ('name = "b"\nengine = "x"\nmodel = "m"', "no engine"),
        ('name = "b"\nengine = "e"\nmodel = "m"\neffort = "low"', "no output"),
    ],
)
def test_sections_that_cannot_embed_are_refused(section: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(LADDER + section)


async def test_vectors_reach_the_client_byte_by_byte(here: Site) -> None:
    text = b'{"object":"list","data":[{"embedding":[1.50,-0.0,1e-07]}],"usage":{"prompt_tokens":1}}'

    async def exact(call: Call) -> None:
        await call.head(**{"content-length": str(len(text)), "content-type": "application/json"})
        await call.write(text)

    here.upstream.script = exact
    asked = {"model": "vectors", "input": "a"}
    async with here.http.post(f"{here.url}/v1/embeddings", json=asked) as response:
        body = await response.read()
    assert body.startswith(text[:-1] + b',"suffice":')


@pytest.mark.parametrize("choices", [[None], "abc", [{"text": 5}], {"a": 1}, [[]]])
async def test_odd_events_of_a_stream_are_the_engines_fault_and_booked(
    here: Site, choices: object
) -> None:
    async def odd(call: Call) -> None:
        await call.events()
        await call.write(text_chunk("4"))
        await call.write(event({"id": "cmpl-1", "choices": choices}))

    here.upstream.script = odd
    with pytest.raises(openai.APIError, match="did not give a whole answer"):
        async for _ in await here.client.completions.create(
            model="small", prompt="2 + 2 =", stream=True
        ):
            pass
    row = await here.row()
    assert (row["status"], row["output_source"]) == ("failed", "estimated")


@pytest.mark.parametrize("usage", ["x", [1], 5, {"prompt_tokens": "seven"}])
async def test_an_answer_outlives_usage_that_is_none(here: Site, usage: object) -> None:
    async def odd(call: Call) -> None:
        choice = {"index": 0, "text": "4.", "finish_reason": "stop"}
        await call.reply({"id": "cmpl-1", "choices": [choice], "usage": usage})

    here.upstream.script = odd
    reply = await here.client.completions.create(model="small", prompt="2 + 2 =")
    assert reply.choices[0].text == "4."
    assert (await here.row())["output_source"] == "estimated"
