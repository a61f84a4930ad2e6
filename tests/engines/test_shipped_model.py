"""The model that ships, on the engine that serves it: the dial turns, and bad input is harmless."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from suffice.config import parse_config
from suffice.engines.embedded import EmbeddedEngine
from suffice.errors import EffortRefused, EngineRefused
from suffice.ladder import Ladder, build_ladder, example_text
from suffice.types import Completion, Effort, Finish, Request

pytestmark = pytest.mark.asyncio(loop_scope="module")

SUM = "State the final answer to the following arithmetic problem: 8 + 5 ="
OUTSIDE = "Write me a limerick about the sea, and tell me who won the cup in 1998."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[EmbeddedEngine]:
    config = parse_config(example_text("embedded"))
    async with EmbeddedEngine(config.engine["here"]) as engine:
        yield engine


@pytest.fixture(scope="module")
def ladder() -> Ladder:
    return build_ladder(parse_config(example_text("embedded")))


async def ask(engine: EmbeddedEngine, ladder: Ladder, effort: str, text: str) -> Completion:
    request = Request(request_id="r", messages=({"role": "user", "content": text},))
    return await engine.complete(request, ladder.rung(effort))


async def test_more_effort_is_more_tokens_of_visible_reasoning(
    engine: EmbeddedEngine, ladder: Ladder
) -> None:
    none, low, high = [await ask(engine, ladder, each, SUM) for each in ("none", "low", "high")]
    assert none.text.isdigit()  # which it may well have wrong
    assert low.text == high.text == "13"
    assert not none.reasoning
    assert low.reasoning is not None
    assert "8+5=13" in low.reasoning
    assert high.reasoning is not None
    assert "verify" in high.reasoning
    tokens = [each.usage.output_tokens for each in (none, low, high)]
    counts = [each.tokens for each in tokens if each is not None]
    assert counts == sorted(set(counts))
    assert low.usage.reasoning_tokens is not None
    assert low.usage.reasoning_tokens.tokens > 0
    assert none.effort_seen is True
    assert low.effort_seen is True


async def test_log_probabilities_are_those_of_all_tokens(
    engine: EmbeddedEngine, ladder: Ladder
) -> None:
    for effort in ("none", "high"):
        found = await ask(engine, ladder, effort, SUM)
        assert found.logprobs is not None
        assert found.usage.output_tokens is not None
        assert abs(len(found.logprobs) - found.usage.output_tokens.tokens) <= 1  # the end token
        assert max(found.logprobs) <= 0


async def test_an_effort_that_it_does_not_know_is_refused() -> None:
    text = example_text("embedded").replace('effort = "low"', 'effort = "medium"')
    with pytest.raises(EffortRefused, match="medium") as caught:
        build_ladder(parse_config(text))
    assert "none, low, high" in (caught.value.hint or "")


async def test_a_server_refuses_an_unknown_effort_too(
    engine: EmbeddedEngine, ladder: Ladder
) -> None:
    rung = ladder.rung("low")
    request = Request(request_id="r", messages=({"role": "user", "content": SUM},))
    medium = type(rung)(**{**_fields(rung), "effort": Effort.MEDIUM})
    with pytest.raises(EngineRefused, match="none, low or high"):
        await engine.complete(request, medium)


def _fields(rung: object) -> dict[str, object]:
    return {name: getattr(rung, name) for name in rung.__struct_fields__}  # type: ignore[attr-defined]


async def test_a_prompt_longer_than_the_context_is_refused_with_what_to_do(
    engine: EmbeddedEngine, ladder: Ladder
) -> None:
    with pytest.raises(EngineRefused) as caught:
        await ask(engine, ladder, "none", "word " * 3000)
    assert "shorten the prompt" in (caught.value.hint or "")


@pytest.mark.parametrize("effort", ["none", "low", "high"])
@pytest.mark.parametrize("text", ["", " ", OUTSIDE, "日本語で答えて", "7" * 400])
async def test_any_other_prompt_ends_within_the_budget(
    engine: EmbeddedEngine, ladder: Ladder, effort: str, text: str
) -> None:
    found = await ask(engine, ladder, effort, text)
    limit = ladder.rung(effort).max_output_tokens
    assert limit is not None
    assert found.usage.output_tokens is not None
    assert found.usage.output_tokens.tokens <= limit
    assert found.finish in (Finish.STOP, Finish.LENGTH)
