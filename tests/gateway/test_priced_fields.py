"""Fields that change the price of a request: reserved and charged, left out, or refused."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from gateway_support import CHAT, CLAUDE, Site, answer, site

from suffice.engines.surcharges import most_searches
from suffice.gateway.keys import KeyLimits, add_key
from suffice.gateway.priced_fields import SAMPLES
from suffice.meter.charges import Price, Rates, max_usd

ASK: dict[str, Any] = {"model": "big", "messages": [{"role": "user", "content": "Hi"}]}
LADDER = """
[price.tiered]
provider = "openai"
model = "o4-mini"

[price.searched]
input_usd_per_mtok = 1
output_usd_per_mtok = 1
kinds = {web_searches = 10}

[[ladder]]
name = "tiered"
engine = "stub"
model = "tiered-model"
price = "tiered"

[[ladder]]
name = "searched"
engine = "stub"
model = "searched-model"
price = "searched"
"""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, more=LADDER + CLAUDE) as made:
        yield made


@pytest.fixture
async def poor(tmp_path: Path) -> AsyncIterator[tuple[Site, dict[str, str]]]:
    """A gateway, and the header of a key that may spend 5 cents a day on it."""
    limits = KeyLimits(budget_usd_per_day=Decimal("0.05"))
    secret = add_key(tmp_path / "keys.json", "poor", limits=limits)
    more = f'keys = "{tmp_path / "keys.json"}"\n'
    async with site(tmp_path, more=more + LADDER + CLAUDE) as made:
        yield made, {"authorization": f"Bearer {secret}"}


@pytest.mark.parametrize("name", SAMPLES)
async def test_every_name_of_a_number_of_answers_is_reserved(
    poor: tuple[Site, dict[str, str]], name: str
) -> None:
    here, headers = poor
    for path, ask in ((CHAT, ASK), ("/v1/completions", {"model": "big", "prompt": "Hi"})):
        body = ask | {"max_tokens": 1000, name: 60}  # 6 cents
        status, reply = await here.post(body, path=path, **headers)
        assert (status, reply["error"]["code"]) == (429, "insufficient_quota")
        for odd in ("60", 0, -1, 60.0, [60]):
            status, reply = await here.post(body | {name: odd}, path=path, **headers)
            assert (status, reply["error"]["param"]) == (400, name), odd
    assert here.upstream.calls == []


async def test_a_prediction_is_reserved_as_if_it_were_written(
    poor: tuple[Site, dict[str, str]],
) -> None:
    here, headers = poor
    body = ASK | {"max_tokens": 10, "prediction": {"type": "content", "content": "x" * 60_000}}
    assert (await here.post(body, **headers))[0] == 429


@pytest.mark.parametrize(
    ("model", "tier", "passed"),
    [
        ("big", "priority", False),
        ("big", "Priority", False),
        ("big", ["priority"], False),
        ("big", "flex", True),
        ("big", "auto", True),
        ("tiered", "priority", True),
        ("tiered", "ludicrous", False),
        ("suffice", "priority", False),
    ],
)
async def test_a_tier_is_passed_on_only_where_it_is_priced_or_never_dearer(
    here: Site, model: str, tier: Any, passed: bool
) -> None:
    body = ASK | {"model": model, "service_tier": tier}
    async with here.http.post(here.url + CHAT, json=body) as reply:
        assert reply.status == 200
        assert reply.headers.get("x-suffice-ignored") == (None if passed else "service_tier")
    sent = here.upstream.calls[-1].body
    assert sent.get("service_tier") == (tier if passed else None)


async def test_a_message_of_the_fast_mode_goes_out_at_the_price_that_is_stated(here: Site) -> None:
    body = ASK | {"model": "claude", "max_tokens": 9, "speed": "fast", "models": ["dear"]}
    await here.post(body, path="/v1/messages")
    assert not {"speed", "models"} & here.upstream.calls[-1].body.keys()


async def test_forwarded_fields_lift_no_limit_and_choose_no_model(here: Site) -> None:
    body = {"model": "big", "prompt": "Hi", "max_tokens": 5, "service_tier": "priority"}
    await here.post(
        body | {"n_predict": 10**6, "models": ["dear"], "fallbacks": ["dear"]},
        path="/v1/completions",
    )
    sent = here.upstream.calls[-1].body
    assert sent == {"model": "big-model", "prompt": "Hi", "max_tokens": 5}


async def test_no_field_leads_past_a_rung_whose_engine_is_a_router(here: Site) -> None:
    """LiteLLM obeys them: its own proxy let some through (BerriAI/litellm#29538)."""
    elsewhere = "http://127.0.0.1:9/"
    detours = {
        **dict.fromkeys(("api_base", "base_url", "api_key", "custom_llm_provider"), elsewhere),
        **dict.fromkeys(("mock_response", "organization", "route", "preset"), elsewhere),
        **{name: [elsewhere] for name in ("models", "model_list", "fallbacks", "user_config")},
        "extra_headers": {"x": elsewhere},
        "extra_body": {"api_base": elsewhere, "n_predict": 10**6},
    }
    for path, body in ((CHAT, ASK | {"model": "big"}), ("/v1/completions", {"model": "big"})):
        asked = body | detours | ({"prompt": "Hi"} if path != CHAT else {})
        calls = len(here.upstream.calls)
        async with here.http.post(here.url + path, json=asked) as response:
            named = response.headers["x-suffice-ignored"].split(", ")
        assert detours.keys() <= set(named)
        assert len(here.upstream.calls) > calls
        assert not detours.keys() & here.upstream.calls[-1].body.keys()
    google = {"google": {"thinking_config": {"include_thoughts": True}}}
    await here.post(ASK | {"model": "big", "extra_body": google | {"api_base": elsewhere}})
    assert here.upstream.calls[-1].body["extra_body"] == google


@pytest.mark.parametrize(
    "fields",
    [
        {"web_search_options": {}},
        {"enable_search": True},
        {"search_parameters": {"mode": "on"}},
        {"plugins": [{"id": "web"}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    ],
)
async def test_a_search_without_a_price_spends_no_budget(
    poor: tuple[Site, dict[str, str]], fields: dict[str, Any]
) -> None:
    here, headers = poor
    status, reply = await here.post(ASK | {"max_tokens": 9} | fields, **headers)
    assert status == 400
    assert "rung 'big' has no price for a search" in reply["error"]["message"]
    status, _ = await here.post(ASK | {"max_tokens": 9}, **headers)
    assert status == 200


async def test_a_search_that_the_engine_does_not_count_is_charged_as_an_estimate(
    poor: tuple[Site, dict[str, str]],
) -> None:
    here, headers = poor
    here.upstream.script = answer
    fields = {"model": "searched", "max_tokens": 9, "web_search_options": {}}
    dear = [{"type": "web_search_20250305", "max_uses": 9}]
    assert (await here.post(ASK | fields | {"tools": dear}, **headers))[0] == 429
    fields["tools"] = [{"type": "web_search_20250305", "max_uses": 1}]
    del fields["web_search_options"]
    for stream in (False, True):
        async with here.http.post(
            here.url + CHAT, json=ASK | fields | {"stream": stream}, headers=headers
        ) as reply:
            assert reply.status == 200
            await reply.read()
        row = await here.row()
        assert row["charge_picousd"] == 25 * 10**6 + 10 * 10**9
        assert row["charge_estimated"]


def test_searches_are_counted_wherever_a_request_asks_for_them() -> None:
    assert most_searches({}) == 0
    assert most_searches({"web_search_options": None, "enable_search": False}) == 0
    assert most_searches({"tools": [{"type": "tool_search_tool_regex_20251119"}]}) == 0
    assert most_searches({"tools": [{"type": "function", "function": {"name": "web_search"}}]}) == 0
    assert most_searches({"tools": [{"type": "web_search_20250305", "max_uses": 3}]}) == 3
    several = [{"type": "web_search_20250305", "max_uses": 3}, {"type": "web_search"}]
    assert most_searches({"tools": several}) == 3 + 5, "five stand for an unlimited tool"
    assert most_searches({"tools": several, "max_tool_calls": 2}) == 2
    assert most_searches({"tools": several, "max_tool_calls": 20}) == 3 + 5
    for odd in (0, -1, True, "2", None):
        assert most_searches({"tools": several, "max_tool_calls": odd}) == 3 + 5
        assert most_searches({"tools": [several[0] | {"max_uses": odd}]}) == 5
    assert most_searches({"max_tool_calls": 2}) == 0
    assert most_searches({"tools": "x", "plugins": {"id": "web"}}) == 0


def test_searches_are_part_of_the_worst_case() -> None:
    rates = Rates(
        input_usd_per_mtok=Decimal(1),
        output_usd_per_mtok=Decimal(1),
        kinds={"web_searches": Decimal(10)},
    )
    price = Price(name="p", rates=(rates,), source="test")
    assert max_usd(price, input_tokens=0, output_tokens=0, searches=5) == Decimal("0.05")
