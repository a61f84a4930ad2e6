"""Charges are checked by a second calculation: integers of 1e-12 dollars, written another way."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal

import genai_prices
import pytest
from genai_prices.data_snapshot import DataSnapshot, get_snapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
)
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from suffice.config import PriceConfig
from suffice.errors import Abstained, ConfigError, EngineRefused, EngineUnreachable, PriceError
from suffice.meter import Price, Rates, charge, charge_without_answer, price_for, total
from suffice.types import Charge, Count, CountSource, Spend, Usage

REPORTED, COUNTED, ESTIMATED = CountSource.REPORTED, CountSource.COUNTED, CountSource.ESTIMATED


def usage(*, source: CountSource = REPORTED, **tokens: int) -> Usage:
    return Usage(**{f"{name}_tokens": Count(n, source) for name, n in tokens.items()})


def stated(**rates: str) -> Price:
    """A price from rates in dollars per million tokens."""
    keys = {f"{name}_usd_per_mtok": Decimal(rate) for name, rate in rates.items()}
    return price_for("list", PriceConfig(**keys))


LIST = stated(input="2.5", cache_read="0.25", cache_write="3.125", output="10")


@st.composite
def priced_calls(draw: st.DrawFn) -> tuple[dict[str, int], dict[str, int]]:
    """Draw token counts whose parts fit their whole, and rates in 1e-12 dollars per token."""
    fresh, read, write, output = (draw(st.integers(0, 2_000_000)) for _ in range(4))
    tokens = {"fresh": fresh, "cache_read": read, "cache_write": write, "output": output}
    names = ("input", "cache_read", "cache_write", "output")
    return tokens, {name: draw(st.integers(0, 200_000_000)) for name in names}


@given(priced_calls())
def test_a_charge_equals_the_same_sum_in_whole_picodollars(
    call: tuple[dict[str, int], dict[str, int]],
) -> None:
    tokens, rates = call
    expected = (
        tokens["fresh"] * rates["input"]
        + tokens["cache_read"] * rates["cache_read"]
        + tokens["cache_write"] * rates["cache_write"]
        + tokens["output"] * rates["output"]
    )
    price = stated(**{name: str(Decimal(rate) / 10**6) for name, rate in rates.items()})
    whole = tokens["fresh"] + tokens["cache_read"] + tokens["cache_write"]
    parts = {name: tokens[name] for name in ("cache_read", "cache_write", "output")}
    charged = charge(usage(input=whole, **parts), price)
    assert charged.usd is not None
    assert charged.usd * 10**12 == expected


def test_cached_tokens_are_charged_once_at_their_own_rate() -> None:
    call = usage(input=1_000_000, cache_read=600_000, cache_write=0, output=0)
    assert charge(call, LIST).usd == Decimal("0.4") * Decimal("2.5") + Decimal("0.6") * Decimal(
        "0.25"
    )


def test_reasoning_tokens_are_part_of_the_output() -> None:
    silent = usage(input=0, cache_read=0, cache_write=0, output=1000)
    thinking = usage(input=0, cache_read=0, cache_write=0, output=1000, reasoning=900)
    assert charge(thinking, LIST) == charge(silent, LIST)


@pytest.mark.parametrize("cached", [0, 700])
@pytest.mark.parametrize("prompt", [1_000, 199_999, 200_000, 200_001, 300_000])
@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-5"),
        ("mistral", "mistral-small-2603"),
        ("anthropic", "claude-sonnet-4-5"),
        ("google", "gemini-2.5-pro"),
        ("deepseek", "deepseek-v4-pro"),
        ("groq", "openai/gpt-oss-120b"),
    ],
)
def test_list_prices_agree_with_genai_prices(
    provider: str, model: str, prompt: int, cached: int
) -> None:
    at = datetime(2026, 10, 1, 7, 30, tzinfo=UTC)
    price = price_for("list", PriceConfig(provider=provider, model=model))
    call = usage(input=prompt, cache_read=cached, cache_write=cached // 7, output=512)
    theirs = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=prompt,
            cache_read_tokens=cached,
            cache_write_tokens=cached // 7,
            output_tokens=512,
        ),
        model,
        provider_id=provider,
        genai_request_timestamp=at,
    )
    assert charge(call, price, at=at).usd == theirs.total_price


def test_every_text_model_of_the_catalogue_agrees_with_genai_prices() -> None:
    at = datetime(2026, 9, 12, 7, tzinfo=UTC)
    call = usage(input=300_000, cache_read=1234, cache_write=321, output=777, reasoning=100)
    theirs = genai_prices.Usage(
        input_tokens=300_000,
        cache_read_tokens=1234,
        cache_write_tokens=321,
        output_tokens=777,
        output_reasoning_tokens=100,
    )
    compared = 0
    for provider in get_snapshot().providers:
        for model in provider.models:
            try:
                price = price_for("x", PriceConfig(provider=provider.id, model=model.id))
            except PriceError:
                continue
            listed = genai_prices.calc_price(
                theirs, model.id, provider_id=provider.id, genai_request_timestamp=at
            )
            charged = charge(call, price, at=at).usd
            assert charged is not None
            assert abs(charged - listed.total_price) <= Decimal("0.5e-12"), model.id
            compared += 1
    assert compared > 1000


def test_a_dated_price_holds_that_days_rates() -> None:
    section = PriceConfig(provider="deepseek", model="deepseek-v4-pro", date="2026-08-01")
    before, after = (datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))
    call = usage(input=1_000_000, cache_read=0, output=0)
    held = price_for("held", section)
    following = price_for("following", PriceConfig(provider="deepseek", model="deepseek-v4-pro"))
    assert charge(call, following, at=before).usd != charge(call, following, at=after).usd
    assert charge(call, held, at=after).usd == charge(call, following, at=before).usd
    assert "2026-08-01" in held.source


def test_a_rate_is_in_force_from_its_first_day() -> None:
    sections = {
        day: PriceConfig(provider="deepseek", model="deepseek-v4-pro", date=day)
        for day in ("2026-08-16", "2026-08-17")
    }
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    rates = {
        day: price_for("held", section).rates_at(noon, input_tokens=1).input_usd_per_mtok
        for day, section in sections.items()
    }
    assert rates["2026-08-16"] < rates["2026-08-17"]


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModelInfo], None]:
    def install(model: ModelInfo) -> None:
        lab = Provider(id="lab", name="Lab", api_pattern="lab", models=[model])
        snapshot = DataSnapshot(providers=[lab], from_auto_update=False)
        monkeypatch.setattr("genai_prices.data_snapshot._custom_snapshot", snapshot)

    return install


def test_before_any_rate_begins_the_first_one_holds(
    catalogue: Callable[[ModelInfo], None],
) -> None:
    rates = [ModelPrice(input_mtok=Decimal(n), output_mtok=Decimal(n)) for n in (3, 5)]
    starts = [StartDateConstraint(start_date=date(year, 1, 1)) for year in (2030, 2031)]
    prices = [
        ConditionalPrice(prices=rate, constraint=start)
        for rate, start in zip(rates, starts, strict=True)
    ]
    catalogue(ModelInfo(id="m", match=ClauseEquals(equals="m"), prices=prices))
    price = price_for("p", PriceConfig(provider="lab", model="m"))
    call = usage(input=1_000_000, output=0)
    costs = [charge(call, price, at=datetime(y, 6, 1, tzinfo=UTC)).usd for y in (2026, 2030, 2031)]
    assert costs == [3, 3, 5]


def test_hours_may_cross_midnight() -> None:
    price = Price(
        name="night",
        rates=(
            Rates(input_usd_per_mtok=Decimal(4), output_usd_per_mtok=Decimal(4)),
            Rates(
                input_usd_per_mtok=Decimal(1),
                output_usd_per_mtok=Decimal(1),
                hours_utc=(time(22), time(6)),
            ),
        ),
        source="stated",
    )
    costs = {
        hour: charge(
            usage(input=1_000_000, output=0), price, at=datetime(2026, 1, 1, hour, tzinfo=UTC)
        ).usd
        for hour in (5, 6, 21, 22)
    }
    assert costs == {5: 1, 6: 4, 21: 4, 22: 1}


def test_a_rate_of_its_own_for_reasoning_is_charged_apart() -> None:
    price = Price(
        name="deep",
        rates=(
            Rates(
                input_usd_per_mtok=Decimal(0),
                output_usd_per_mtok=Decimal(8),
                reasoning_usd_per_mtok=Decimal(3),
                usd_per_thousand_requests=Decimal(5),
            ),
        ),
        source="stated",
    )
    call = usage(input=0, output=1_000_000, reasoning=250_000)
    assert charge(call, price).usd == 6 + Decimal("0.75") + Decimal("0.005")


def test_a_fee_for_each_request_is_an_estimate_where_the_vendor_states_another_cost() -> None:
    rates = Rates(
        input_usd_per_mtok=Decimal(1),
        output_usd_per_mtok=Decimal(1),
        usd_per_thousand_requests=Decimal(12),
    )
    price = Price(name="sonar", rates=(rates,), source="stated")
    call = usage(input=14, output=200)
    for stated, estimated in ((None, False), ("0.012214", False), ("0.005214", True)):
        told = replace(call, stated_usd=None if stated is None else Decimal(stated))
        assert charge(told, price) == Charge(
            usd=Decimal("0.012214"), estimated=estimated, price="sonar"
        )


def test_chips_and_measured_speed_make_a_price() -> None:
    section = PriceConfig(
        chip_usd_per_hour=Decimal("2.50"),
        chips=2,
        input_tokens_per_s=20_000.0,
        output_tokens_per_s=1_250.0,
    )
    price = price_for("own", section)
    hour_of_reading = usage(input=20_000 * 3600, output=0)
    hour_of_writing = usage(input=0, output=1_250 * 3600)
    assert charge(hour_of_reading, price).usd == pytest.approx(Decimal(5), abs=Decimal("1e-11"))
    assert charge(hour_of_writing, price).usd == pytest.approx(Decimal(5), abs=Decimal("1e-11"))
    assert not charge(hour_of_reading, price).estimated


def test_no_price_means_no_charge_rather_than_a_free_call() -> None:
    assert charge(usage(input=5, output=5), None) == Charge(usd=None)


@pytest.mark.parametrize("missing", ["input", "output"])
def test_without_a_needed_count_the_charge_is_unknown(missing: str) -> None:
    counts = {"input": 5, "cache_read": 0, "cache_write": 0, "output": 5}
    del counts[missing]
    assert charge(usage(**counts), LIST) == Charge(usd=None, price="list")


@pytest.mark.parametrize(
    "parts", [{"cache_read": 11}, {"cache_read": 6, "cache_write": 5}, {"cache_write": 11}]
)
def test_parts_beyond_their_whole_make_the_charge_unknown(parts: dict[str, int]) -> None:
    call = usage(**({"input": 10, "output": 1, "cache_read": 0, "cache_write": 0} | parts))
    assert charge(call, LIST).usd is None


def test_an_unreported_cache_count_makes_an_estimate_at_the_full_rate() -> None:
    charged = charge(usage(input=1_000_000, output=0), LIST)
    assert charged == Charge(usd=Decimal("2.5"), estimated=True, price="list")


def test_an_unreported_count_without_a_rate_of_its_own_is_not_needed() -> None:
    plain = stated(input="1", output="2")
    assert not charge(usage(input=10, output=10), plain).estimated


@pytest.mark.parametrize("field", ["input", "cache_read", "cache_write", "output"])
@pytest.mark.parametrize(
    ("source", "estimated"), [(REPORTED, False), (COUNTED, False), (ESTIMATED, True)]
)
def test_one_estimated_count_makes_the_charge_an_estimate(
    field: str, source: CountSource, estimated: bool
) -> None:
    counts = {
        f"{name}_tokens": Count(10, source if name == field else REPORTED)
        for name in ("input", "cache_read", "cache_write", "output")
    }
    counts["input_tokens"] = Count(30, counts["input_tokens"].source)
    assert charge(Usage(**counts), LIST).estimated is estimated


def test_an_estimated_count_that_changes_nothing_is_no_estimate() -> None:
    call = Usage(
        input_tokens=Count(1, REPORTED),
        cache_read_tokens=Count(0, REPORTED),
        cache_write_tokens=Count(0, REPORTED),
        output_tokens=Count(10, REPORTED),
        reasoning_tokens=Count(9, ESTIMATED),
    )
    assert not charge(call, LIST).estimated


@given(st.lists(st.tuples(st.none() | st.decimals(0, 100, places=12), st.booleans()), max_size=20))
def test_a_total_keeps_reported_estimated_and_unknown_apart(
    amounts: list[tuple[Decimal | None, bool]],
) -> None:
    spent = total([Charge(usd=usd, estimated=flag) for usd, flag in amounts])
    reported = [usd for usd, flag in amounts if usd is not None and not flag]
    estimated = [usd for usd, flag in amounts if usd is not None and flag]
    assert (spent.reported_usd, spent.reported_count) == (sum(reported), len(reported))
    assert (spent.estimated_usd, spent.estimated_count) == (sum(estimated), len(estimated))
    assert spent.unknown_count == len(amounts) - len(reported) - len(estimated)
    assert (spent.usd is None) is (spent.unknown_count > 0)


def test_spends_add_part_by_part() -> None:
    one = total([Charge(usd=Decimal(1)), Charge(usd=None)])
    other = total([Charge(usd=Decimal(2), estimated=True), Charge(usd=Decimal(4))])
    assert one + other == Spend(
        reported_usd=Decimal(5),
        estimated_usd=Decimal(2),
        reported_count=2,
        estimated_count=1,
        unknown_count=1,
    )


HOSTED = {"provider": "openai", "model": "gpt-5"}
STATED = {"input_usd_per_mtok": Decimal(1), "output_usd_per_mtok": Decimal(2)}
OWN = {
    "chip_usd_per_hour": Decimal(2),
    "input_tokens_per_s": 1e4,
    "output_tokens_per_s": 1e3,
}


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({}, "price.p.provider: missing"),
        ({"chips": 4}, "price.p.chip_usd_per_hour: missing"),
        ({"provider": "openai"}, "price.p.model: missing"),
        ({"cache_read_usd_per_mtok": Decimal(1)}, "price.p.input_usd_per_mtok: missing"),
        (OWN | {"output_tokens_per_s": None}, "price.p.output_tokens_per_s: missing"),
        (HOSTED | STATED, "price.p.input_usd_per_mtok: a second kind of price, beside model"),
        (HOSTED | OWN, "price.p.chip_usd_per_hour: a second kind"),
        (STATED | {"chips": 2}, "price.p.chips: a second kind"),
        (OWN | {"output_tokens_per_s": 0.0}, "price.p.output_tokens_per_s: 0"),
        (OWN | {"chips": 0}, "price.p.chips: 0"),
        (OWN | {"input_tokens_per_s": float("inf")}, "price.p.input_tokens_per_s"),
        (STATED | {"input_usd_per_mtok": Decimal(-1)}, "price.p.input_usd_per_mtok: -1"),
        (STATED | {"output_usd_per_mtok": Decimal("NaN")}, "price.p.output_usd_per_mtok: NaN"),
        (STATED | {"kinds": {"input_audio": Decimal(6)}}, "price.p.kinds.input_audio: no kind"),
        (
            STATED | {"kinds": {"web_searches": Decimal(-1)}},
            "price.p.kinds.web_searches: -1 is not an amount",
        ),
        (HOSTED | {"kinds": {"web_searches": Decimal(1)}}, "price.p.kinds: a second kind"),
        (HOSTED | {"date": "yesterday"}, "price.p.date: 'yesterday' is not a date"),
    ],
)
def test_a_section_that_is_not_one_whole_price_is_refused_by_its_key(
    section: dict[str, object], named: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        price_for("p", PriceConfig(**section))
    assert refusal.value.message.startswith(named)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("section", "named", "hint"),
    [
        ({"provider": "opnai", "model": "gpt-5"}, "price.p.provider", "openai"),
        ({"provider": "openai", "model": "gtp-5-mini"}, "price.p.model", "gpt-5-mini"),
        ({"provider": "mistral", "model": "qqqqqqqq"}, "price.p.model", "input_usd_per_mtok"),
        (
            {"provider": "perplexity", "model": "sonar-deep-research"},
            "price.p.model: sonar-deep-research is not priced by tokens in and out alone",
            "state input_usd_per_mtok",
        ),
    ],
)
def test_an_unknown_model_is_refused_with_the_nearest_names(
    section: dict[str, str], named: str, hint: str
) -> None:
    with pytest.raises(PriceError) as refusal:
        price_for("p", PriceConfig(**section))
    assert refusal.value.message.startswith(named)
    assert hint in str(refusal.value.hint)


def test_a_price_says_where_it_comes_from() -> None:
    assert price_for("p", PriceConfig(**HOSTED)).source.endswith("openai gpt-5")
    quoted = PriceConfig(**STATED, source="contract 7", date="2026-01-01")
    assert price_for("p", quoted).source == "contract 7 2026-01-01"


def test_rates_that_do_not_come_out_even_are_charged_to_the_nearest_picodollar() -> None:
    third = Price(
        name="third",
        rates=(Rates(input_usd_per_mtok=Decimal(1) / Decimal(3), output_usd_per_mtok=Decimal(0)),),
        source="stated",
    )
    assert charge(usage(input=1, output=0), third).usd == Decimal("333333e-12")
    assert charge(usage(input=5, output=0), third).usd == Decimal("1666667e-12")


def test_rates_since_a_day_hold_from_its_first_moment_in_utc() -> None:
    rates = Rates(
        input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(1), since=date(2026, 2, 1)
    )
    price = Price(
        name="p",
        rates=(Rates(input_usd_per_mtok=Decimal(2), output_usd_per_mtok=Decimal(2)), rates),
        source="",
    )
    new_year_east = datetime.fromisoformat("2026-02-01T01:00:00+02:00")
    assert price.rates_at(new_year_east, input_tokens=1).input_usd_per_mtok == 2
    assert price.rates_at(datetime(2026, 2, 1, tzinfo=UTC), input_tokens=1) is rates


def test_a_call_without_an_answer_is_free_unknown_or_a_call_without_tokens() -> None:
    by_request = price_for(
        "p",
        PriceConfig(
            input_usd_per_mtok=Decimal(5),
            output_usd_per_mtok=Decimal(7),
            usd_per_thousand_requests=Decimal("0.003"),
            assumed=True,
        ),
    )
    refused = charge_without_answer(EngineRefused("no", status=429), by_request)
    assert refused == Charge(usd=Decimal(0), estimated=True)
    for error in (EngineUnreachable("gone"), EngineRefused("busy", status=503), KeyError("x")):
        assert charge_without_answer(error, by_request).usd is None
    abstained = charge_without_answer(Abstained("not sure"), by_request)
    assert abstained == Charge(usd=Decimal("0.000003"), estimated=True, price="p")
    assert charge_without_answer(Abstained("not sure"), None).usd is None


def test_a_tier_is_priced_before_the_day_that_the_list_took_it_up() -> None:
    price = price_for("x", PriceConfig(provider="anthropic", model="claude-sonnet-4-5"))
    call = replace(usage(input=1_000_000, output=0), service_tier="batch")
    for year in (2026, 2027):
        assert charge(call, price, at=datetime(year, 1, 1, tzinfo=UTC)).usd == Decimal(3)
    small = replace(usage(input=100_000, output=0), service_tier="batch")
    assert charge(small, price, at=datetime(2026, 1, 1, tzinfo=UTC)).usd == Decimal("0.15")
