"""What every engine promises, held against all of them."""

import asyncio
import json
from contextlib import aclosing

import aiohttp
import pytest
from engine_cases import LIVE, REAL, TRANSLATED, WIRES, WITH_EFFORT, WITH_LOGPROBS, Case

from suffice.engines.base import last
from suffice.engines.chunk import Chunk
from suffice.errors import EngineError
from suffice.types import JSON, Completion, CountSource, Effort, Finish, Request

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOOLS: list[JSON] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
TOOLS_OF = {
    "anthropic": [
        {
            "name": "get_weather",
            "description": "",
            "input_schema": TOOLS[0]["function"]["parameters"],
        }
    ],
    "responses": [
        {
            "type": "function",
            "name": "get_weather",
            "parameters": TOOLS[0]["function"]["parameters"],
            "strict": False,
        }
    ],
}
SIGNED = {"google": {"thought_signature": "c2lnbmVk"}}  # Gemini wants it back with the call
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "schema": {
            "type": "object",
            "properties": {"ok": {"type": "boolean"}},
            "required": ["ok"],
            "additionalProperties": False,
        },
    },
}


def ask(content: str = "Say hello.", *, request_id: str = "hello", **params: object) -> Request:
    message: JSON = {"role": "user", "content": content}
    return Request(request_id=request_id, messages=(message,), params=params)


def on(*names: str) -> pytest.MarkDecorator:
    """Run a test on some engines instead of on all."""
    return pytest.mark.parametrize("case", names, indirect=True)


async def chunks_of(case: Case, request: Request) -> tuple[list[Chunk], Completion]:
    items = [item async for item in case.engine.stream(request, case.rung)]
    chunks = [item for item in items[:-1] if isinstance(item, Chunk)]
    assert len(chunks) == len(items) - 1
    assert isinstance(items[-1], Completion)
    return chunks, items[-1]


async def test_complete_answers(case: Case) -> None:
    completion = await case.engine.complete(ask(), case.rung)
    assert completion.text
    assert completion.finish in {Finish.STOP, Finish.LENGTH}
    assert completion.duration_s > 0
    assert completion.samples == ()
    assert completion.tool_calls == ()


async def test_stream_ends_in_what_complete_gives(case: Case) -> None:
    whole = await case.engine.complete(ask(), case.rung)
    chunks, streamed = await chunks_of(case, ask())
    assert "".join(chunk.text for chunk in chunks) == streamed.text == whole.text
    assert "".join(chunk.reasoning for chunk in chunks) == (streamed.reasoning or "")
    assert streamed.reasoning == whole.reasoning
    assert streamed.finish == whole.finish
    assert streamed.model == whole.model
    assert streamed.usage.input_tokens == whole.usage.input_tokens
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert streamed.usage.reasoning_tokens == whole.usage.reasoning_tokens
    assert streamed.ttft_s is not None
    assert 0 < streamed.ttft_s <= streamed.duration_s


async def test_usage_says_how_it_is_known(case: Case) -> None:
    usage = (await case.engine.complete(ask(), case.rung)).usage
    for count in (usage.input_tokens, usage.output_tokens):
        assert count is not None
        assert count.tokens > 0
        assert count.source is CountSource.REPORTED
    if usage.cache_read_tokens is not None:
        assert usage.cache_read_tokens.tokens <= usage.input_tokens.tokens


@on(*WITH_EFFORT)
async def test_no_thinking_is_seen_to_be_so(case: Case) -> None:
    completion = await case.engine.complete(ask(), case.with_rung(effort=Effort.NONE).rung)
    assert completion.reasoning is None
    assert completion.effort_seen is (None if case.name == "mistral" else True)


HIDDEN = frozenset(
    {"openai", "azure", "gemini", "responses"}
)  # they count their reasoning, and do not show it
COUNTED_HERE = {
    "llamacpp": CountSource.COUNTED,  # with POST /tokenize
    **dict.fromkeys(("mistral", "kimi", "ollama", "lmstudio"), CountSource.ESTIMATED),
}


@on(*WITH_EFFORT)
@pytest.mark.parametrize("streamed", [False, True])
async def test_thinking_is_parted_counted_and_seen(case: Case, streamed: bool) -> None:
    budget = 4 if case.name == "llamacpp" else None  # its model never stops thinking by itself
    rung = case.with_rung(
        effort=Effort.HIGH, thinking_budget_tokens=budget, max_output_tokens=12
    ).rung
    if streamed:
        completion = await last(case.engine.stream(ask(), rung))
    else:
        completion = await case.engine.complete(ask(), rung)
    usage = completion.usage
    assert completion.text
    assert "think" not in completion.text
    assert completion.effort_seen is True
    assert (completion.reasoning is None) == (case.name in HIDDEN)
    assert usage.reasoning_tokens is not None
    assert usage.output_tokens is not None
    assert 0 < usage.reasoning_tokens.tokens < usage.output_tokens.tokens
    assert usage.output_tokens.source is CountSource.REPORTED
    assert usage.reasoning_tokens.source is COUNTED_HERE.get(case.name, CountSource.REPORTED)


async def test_an_engine_that_ignores_effort_is_found_out(cases: dict[str, Case]) -> None:
    case = cases["embedded"].with_rung(effort=Effort.HIGH)
    completion = await case.engine.complete(ask(), case.rung)
    assert completion.effort_seen is False
    assert completion.usage.reasoning_tokens is not None
    assert completion.usage.reasoning_tokens.tokens == 0


@on(*LIVE)
@pytest.mark.parametrize("streamed", [False, True])
async def test_samples_are_all_returned_and_all_counted(case: Case, streamed: bool) -> None:
    one = await case.engine.complete(ask(), case.rung)
    rung = case.with_params(n=2).rung
    if streamed:
        completion = await last(case.engine.stream(ask(), rung))
    else:
        completion = await case.engine.complete(ask(), rung)
    assert completion.text
    assert len(completion.samples) == 1
    assert completion.samples[0]
    assert completion.usage.output_tokens is not None
    assert one.usage.output_tokens is not None
    assert completion.usage.output_tokens.tokens == 2 * one.usage.output_tokens.tokens


@on(*LIVE)
async def test_chunks_say_which_sample_they_belong_to(case: Case) -> None:
    chunks, completion = await chunks_of(case.with_params(n=2), ask())
    for sample, text in enumerate((completion.text, *completion.samples)):
        assert "".join(chunk.text for chunk in chunks if chunk.sample == sample) == text


@on(*WIRES, *TRANSLATED)
@pytest.mark.parametrize("streamed", [False, True])
async def test_tools_pass_through(case: Case, streamed: bool) -> None:
    request = ask("Weather in Paris?", tools=TOOLS, tool_choice="auto")
    if streamed:
        chunks, completion = await chunks_of(case, request)
        assert any(chunk.tool_calls for chunk in chunks)
    else:
        completion = await case.engine.complete(request, case.rung)
    assert case.wire is not None
    in_messages = case.name == "anthropic"
    assert case.wire.sent[-1]["tools"] == TOOLS_OF.get(case.name, TOOLS)
    assert case.wire.sent[-1]["tool_choice"] == ({"type": "auto"} if in_messages else "auto")
    assert completion.finish is Finish.TOOL_CALLS
    (call,) = completion.tool_calls
    assert call["id"]
    assert call["type"] == "function"
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    assert call.get("extra_content") == (SIGNED if case.name == "gemini" else None)


@on(*LIVE)
async def test_a_schema_holds(case: Case) -> None:
    request = ask("Is water wet?", response_format=SCHEMA)
    rung = case.with_rung(max_output_tokens=40).rung
    completion = await case.engine.complete(request, rung)
    answer = json.loads(completion.text)
    assert answer.keys() == {"ok"}
    assert isinstance(answer["ok"], bool)
    if case.wire is not None:
        assert case.wire.sent[-1]["response_format"] == SCHEMA


@on(*WIRES)
async def test_messages_arrive_unchanged(case: Case) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]},
    )
    await case.engine.complete(Request(request_id="hello", messages=messages), case.rung)
    assert case.wire is not None
    assert case.wire.sent[-1]["messages"] == list(messages)


@on(*WITH_LOGPROBS)
async def test_logprobs_are_one_a_token(case: Case) -> None:
    asked = case.with_params(logprobs=True)
    whole = await case.engine.complete(ask(), asked.rung)
    streamed = await last(case.engine.stream(ask(), asked.rung))
    assert whole.logprobs
    assert streamed.logprobs == pytest.approx(whole.logprobs, abs=0.05)
    assert all(logprob <= 0 for logprob in whole.logprobs)
    if case.wire is None:
        assert whole.usage.output_tokens is not None
        assert len(whole.logprobs) == whole.usage.output_tokens.tokens


async def test_fields_of_other_engines_do_not_reach_a_strict_server(case: Case) -> None:
    request = ask(top_k=1, chat_template_kwargs={"enable_thinking": False}, cache_prompt=True)
    assert (await case.engine.complete(request, case.rung)).text


async def test_many_at_once_are_all_answered(case: Case) -> None:
    answers = await asyncio.gather(*(case.engine.complete(ask(), case.rung) for _ in range(4)))
    assert len({answer.text for answer in answers}) == 1


@on(*WIRES, *TRANSLATED)
@pytest.mark.parametrize("streamed", [False, True])
async def test_cancelling_closes_the_upstream_call(case: Case, streamed: bool) -> None:
    assert case.wire is not None
    case.wire.left.clear()
    if streamed:
        async with aclosing(case.engine.stream(ask("hang"), case.rung)) as items:
            assert await anext(items)
    else:
        task = asyncio.create_task(case.engine.complete(ask("hang"), case.rung))
        sent = len(case.wire.sent)
        while len(case.wire.sent) == sent:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(1):
        await case.wire.left.wait()


async def test_cancelling_frees_the_slot_of_llama_cpp(cases: dict[str, Case]) -> None:
    case = cases["llamacpp"].with_rung(max_output_tokens=None).with_params(ignore_eos=True)
    async with aclosing(case.engine.stream(ask("Count for ever."), case.rung)) as items:
        assert await anext(items)
        assert await busy_slots(case) == 1
    async with asyncio.timeout(1):
        while await busy_slots(case):
            await asyncio.sleep(0.02)


async def test_cancelling_frees_the_embedded_engine(cases: dict[str, Case]) -> None:
    endless = cases["embedded"].with_rung(max_output_tokens=None).with_params(ignore_eos=True)
    for _ in range(4):  # twice as many as it has slots
        async with aclosing(endless.engine.stream(ask("Go on."), endless.rung)) as items:
            assert await anext(items)
    assert (await endless.engine.complete(ask(), cases["embedded"].rung)).text


async def test_refusals_say_what_to_do(case: Case) -> None:
    request = ask("refuse", request_id="unknown")
    if case.name in REAL:
        request = ask("word " * 3000)
    for answer in (
        case.engine.complete(request, case.rung),
        last(case.engine.stream(request, case.rung)),
    ):
        with pytest.raises(EngineError) as caught:
            await answer
        assert caught.value.message
        assert caught.value.hint
        assert not caught.value.retryable


async def busy_slots(case: Case) -> int:
    assert case.url is not None
    address = case.url.removesuffix("/v1") + "/slots"
    async with aiohttp.ClientSession() as session, session.get(address) as response:
        return sum(slot["is_processing"] for slot in await response.json())
