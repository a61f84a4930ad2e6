"""Kinds, tiers and fees: a second, independent calculation over the whole catalogue."""

from datetime import UTC, datetime
from decimal import Decimal

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot

from suffice.config import PriceConfig
from suffice.errors import PriceError
from suffice.meter import Price, charge, max_usd, price_for
from suffice.types import Count, CountSource, Usage

AT = datetime(2026, 11, 12, 7, tzinfo=UTC)
REPORTED = CountSource.REPORTED


def usage(kinds: dict[str, int], *, tier: str | None = None, **tokens: int) -> Usage:
    return Usage(
        **{f"{name}_tokens": Count(number, REPORTED) for name, number in tokens.items()},
        kinds={name: Count(number, REPORTED) for name, number in kinds.items()},
        service_tier=tier,
    )


def listed(provider: str, model: str) -> Price:
    return price_for("x", PriceConfig(provider=provider, model=model))


def test_every_kind_and_tier_of_the_catalogue_agrees_with_genai_prices() -> None:
    compared = 0
    for provider in get_snapshot().providers:
        for model in provider.models:
            try:
                price = listed(provider.id, model.id)
            except PriceError:
                continue
            kinds = {"web_searches": 3, "output_image_tokens": 50, "cache_write_1h_tokens": 120}
            kinds |= {"input_audio_tokens": 900, "output_audio_tokens": 40}
            kinds = {name: n for name, n in kinds.items() if name in price.rates[0].kinds}
            tokens = {"input": 300_000, "cache_read": 1234, "cache_write": 321, "output": 777}
            for tier in (None, *price.tiers):
                theirs = genai_prices.calc_price(
                    genai_prices.Usage(
                        **{f"{name}_tokens": number for name, number in tokens.items()}, **kinds,
                        **({"cache_audio_read_tokens": 0} if "input_audio_tokens" in kinds else {}),
                    ),
                    model.id,
                    provider_id=provider.id,
                    genai_request_timestamp=AT,
                    price_context=context_of(tier, provider.id),
                )  # fmt: skip
                charged = charge(usage(kinds, tier=tier, **tokens), price, at=AT)
                assert charged.usd is not None
                assert abs(charged.usd - theirs.total_price) <= Decimal("0.5e-12"), (model.id, tier)
                assert charged.usd <= max_usd(price, input_tokens=300_000, output_tokens=777) + 1
                compared += 1
    assert compared > 2000


def context_of(tier: str | None, provider_id: str) -> dict[str, str] | None:
    if tier is None:
        return None
    if provider_id == "anthropic" and tier == "fast":
        return {"speed": tier}
    return {"processing": "batch"} if tier == "batch" else {"service_tier": tier}


@pytest.mark.parametrize(
    ("kinds", "tier", "estimated"),
    [
        ({}, None, False),
        ({}, "default", False),
        ({}, "flex", False),
        ({}, "flex (asked)", True),
        ({}, "unheard of", True),
        ({"web_searches": 2}, None, False),
        ({"input_audio_tokens": 5}, None, True),
        ({"code_executions": 1}, None, True),
        ({"cache_write_5m_tokens": 5}, None, False),
    ],
)
def test_what_is_counted_and_not_priced_makes_an_estimate(
    kinds: dict[str, int], tier: str | None, estimated: bool
) -> None:
    price = listed("openai", "gpt-5")
    call = usage(kinds, tier=tier, input=1000, output=500, cache_read=0)
    charged = charge(call, price, at=AT)
    assert charged.usd is not None
    assert charged.estimated is estimated


def test_a_stated_price_may_have_rates_by_kind() -> None:
    rates = {"input_audio_tokens": Decimal(40), "web_searches": Decimal(10)}
    price = price_for(
        "x", PriceConfig(input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2), kinds=rates)
    )
    call = usage({"input_audio_tokens": 100, "web_searches": 3}, input=1000, output=50)
    right = (900 + Decimal(40) * 100 + 2 * 50) / 10**6 + Decimal("0.03")
    charged = charge(call, price, at=AT)
    assert (charged.usd, charged.estimated) == (right, False)
    images = usage({"input_image_tokens": 5}, input=1000, output=50)
    assert charge(images, price, at=AT).estimated


def test_tiers_have_their_own_rates() -> None:
    price = listed("openai", "gpt-5")
    calls = {
        tier: charge(usage({}, tier=tier, input=1000, output=500, cache_read=0), price, at=AT).usd
        for tier in (None, "flex", "priority", "batch", "flex (asked)")
    }
    assert calls == {
        None: Decimal("0.00625"),
        "flex": Decimal("0.003125"),
        "priority": Decimal("0.0125"),
        "batch": Decimal("0.003125"),
        "flex (asked)": Decimal("0.003125"),
    }


def test_cache_writes_are_charged_by_their_lifetime() -> None:
    price = listed("anthropic", "claude-sonnet-4-5")
    call = usage(
        {"cache_write_5m_tokens": 10_000, "cache_write_1h_tokens": 20_000},
        input=33_000, cache_read=1000, cache_write=30_000, output=0,
    )  # fmt: skip
    rates = price.rates[0]
    hour = rates.kinds["cache_write_1h_tokens"]
    assert rates.cache_write_usd_per_mtok is not None
    assert rates.cache_read_usd_per_mtok is not None
    right = (
        2000 * rates.input_usd_per_mtok
        + 1000 * rates.cache_read_usd_per_mtok
        + 10_000 * rates.cache_write_usd_per_mtok
        + 20_000 * hour
    ) / 10**6
    charged = charge(call, price, at=AT)
    assert (charged.usd, charged.estimated) == (right, False)
