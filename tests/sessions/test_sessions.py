"""Where a session may change its rung, what a switch costs, and what is remembered of it."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.config import PriceConfig
from suffice.meter import price_for
from suffice.sessions import (
    AgentState,
    AgentTurn,
    Boundary,
    Choice,
    SessionOutlook,
    TokenRates,
    after,
    boundary_of,
    choose,
)
from suffice.sessions.rates import token_rates

DEAR = TokenRates(read_usd=0.5e-6, write_usd=6.25e-6, output_usd=25e-6)
CHEAP = TokenRates(read_usd=0.3e-6, write_usd=3.75e-6, output_usd=15e-6)
RATES = {"cheap": CHEAP, "dear": DEAR}
LADDER = ("cheap", "dear")
WEEK_S = 7 * 86_400


def turn(time_s: float, prompt_tokens: int = 10_000, **fields: object) -> AgentTurn:
    return AgentTurn(time_s=time_s, prompt_tokens=prompt_tokens, **fields)  # type: ignore[arg-type]


def state(rung: str = "dear", **fields: object) -> AgentState:
    return msgspec.structs.replace(after(None, turn(0), rung=rung), **fields)


def chosen(held: AgentState | None, now: AgentTurn, wish: str, **changes: object) -> Choice:
    known = {"ladder": LADDER, "rates": RATES, "outlook": SessionOutlook()} | changes
    return choose(held, now, wish=wish, **known)  # type: ignore[arg-type]


# -- boundaries ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "boundary"),
    [
        (turn(10), None),
        (turn(300), None),
        (turn(301), Boundary.PAUSE),
        (turn(WEEK_S), Boundary.PAUSE),  # an id that is used again after a week
        (turn(-50), None),  # a clock that ran back
        (turn(10, idle_s=400), Boundary.PAUSE),
        (turn(10, prompt_tokens=3_000), Boundary.COMPACTION),
        (turn(10, prompt_tokens=12_000, shared_tokens=2_000), Boundary.COMPACTION),
        (turn(10, prompt_tokens=9_000), None),
        (turn(WEEK_S, in_tool_loop=True), None),
        (turn(10, prompt_tokens=3_000, in_tool_loop=True), None),
    ],
)
def test_a_session_may_change_after_a_pause_or_a_compaction_only(
    now: AgentTurn, boundary: Boundary | None
) -> None:
    assert boundary_of(state(), now, cache_life_s=300) is boundary


def test_an_unknown_agent_starts() -> None:
    assert boundary_of(None, turn(0, in_tool_loop=True), cache_life_s=300) is Boundary.START
    assert chosen(None, turn(0), "cheap").reason == "start"


def test_a_rung_that_the_ladder_has_lost_makes_a_new_start() -> None:
    choice = chosen(state(rung="gone"), turn(1), "cheap")
    assert (choice.rung, choice.reason) == ("cheap", "start")


# -- choices -------------------------------------------------------------------------------------


@given(
    held=st.sampled_from(LADDER),
    wish=st.sampled_from(LADDER),
    time_s=st.floats(-WEEK_S, WEEK_S),
    prompt_tokens=st.integers(0, 1_000_000),
    in_tool_loop=st.booleans(),
)
def test_between_boundaries_the_rung_is_held(
    held: str, wish: str, time_s: float, prompt_tokens: int, in_tool_loop: bool
) -> None:
    now = turn(time_s, prompt_tokens=prompt_tokens, in_tool_loop=in_tool_loop)
    choice = chosen(state(rung=held), now, wish)
    assert (choice.rung == held) or choice.boundary is not None
    if in_tool_loop:
        assert choice.rung == held


def test_a_way_down_is_taken_when_the_cache_is_lost_anyway() -> None:
    choice = chosen(state(), turn(400), "cheap")
    assert (choice.rung, choice.reason) == ("cheap", "moved")
    assert choice.stay_usd is not None
    assert choice.move_usd is not None
    assert choice.move_usd == pytest.approx(0.6 * choice.stay_usd)


def test_a_way_down_that_costs_more_than_it_saves_is_not_taken() -> None:
    """After a compaction the held rung still has half of the prompt, and the session soon ends."""
    now = turn(10, prompt_tokens=5_500, shared_tokens=5_500)
    short = SessionOutlook(turns=0, growth_tokens=0, output_tokens=0)
    choice = chosen(state(), now, "cheap", outlook=short)
    assert choice.boundary is Boundary.COMPACTION
    assert (choice.rung, choice.reason) == ("dear", "dear")
    assert choice.stay_usd == pytest.approx(5_500 * 0.5e-6)
    assert choice.move_usd == pytest.approx(5_500 * 3.75e-6)


def test_a_way_down_at_an_unknown_price_is_not_taken() -> None:
    choice = chosen(state(), turn(400), "cheap", rates={"dear": DEAR})
    assert (choice.rung, choice.reason, choice.move_usd) == ("dear", "dear", None)


def test_a_session_goes_up_once() -> None:
    up = chosen(state(rung="cheap"), turn(400), "dear")
    assert (up.rung, up.reason, up.escalated) == ("dear", "escalated", True)
    held = after(state(rung="cheap"), turn(400), rung="dear", escalated=True)
    down = chosen(held, turn(800), "cheap")
    assert down.reason == "moved"
    again = chosen(after(held, turn(800), rung="cheap"), turn(1_200), "dear")
    assert (again.rung, again.reason) == ("cheap", "spent")


# -- what is remembered --------------------------------------------------------------------------


def test_a_cache_holds_no_more_than_was_sent_to_its_rung_and_is_still_shared() -> None:
    held = after(state(), turn(10, prompt_tokens=20_000), rung="cheap")
    now = turn(20, prompt_tokens=30_000, shared_tokens=19_000)
    assert held.warm_tokens("cheap", now, cache_life_s=300) == 19_000
    assert held.warm_tokens("dear", now, cache_life_s=300) == 10_000
    assert held.warm_tokens("dear", turn(305, 30_000), cache_life_s=300) == 0
    assert held.warm_tokens("other", now, cache_life_s=300) == 0


def test_a_state_is_under_a_kilobyte_and_comes_back() -> None:
    held = None
    for i in range(1_000):
        held = after(held, turn(i * 1e9, 10**7), rung=f"a-rung-with-a-long-name-{i % 8}")
    assert held is not None
    data = msgspec.json.encode(held)
    assert len(data) < 1_000
    assert msgspec.json.decode(data, type=AgentState) == held


@given(st.integers(0, 50), st.integers(0, 10**6), st.integers(0, 5_000), st.integers(0, 2_000))
def test_the_forecast_is_the_sum_of_its_requests(
    turns: int, prompt_tokens: int, growth: int, output: int
) -> None:
    outlook = SessionOutlook(turns=turns, growth_tokens=growth, output_tokens=output)
    prompt, warm, usd = prompt_tokens, 0, 0.0
    for _ in range(turns + 1):
        usd += DEAR.turn_usd(prompt_tokens=prompt, warm_tokens=warm, output_tokens=output)
        prompt, warm = prompt + growth, prompt
    assert outlook.rest_usd(DEAR, prompt_tokens=prompt_tokens, warm_tokens=0) == pytest.approx(usd)


def test_rates_come_from_a_price() -> None:
    stated = PriceConfig(
        input_usd_per_mtok=Decimal(5),
        cache_read_usd_per_mtok=Decimal("0.5"),
        output_usd_per_mtok=Decimal(25),
    )
    rates = token_rates(price_for("p", stated), at=datetime.now(UTC))
    assert rates.read_usd == pytest.approx(0.5e-6)
    assert rates.write_usd == pytest.approx(5e-6)
    assert rates.output_usd == pytest.approx(25e-6)
