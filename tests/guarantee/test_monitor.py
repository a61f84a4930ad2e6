from collections.abc import Callable
from math import inf, log

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.errors import InputError
from suffice.guarantee.bounds import hoeffding_bentkus_p_value
from suffice.guarantee.monitor import (
    BETS,
    Monitor,
    delay_limit,
    expected_delay,
    skip,
    spare,
    update,
    update_group,
    update_many,
    watch_groups,
    wealth_path,
)

ALPHA, DELTA = 0.05, 0.1
FRESH = Monitor(alpha=ALPHA, delta=DELTA)
losses = st.lists(st.floats(0.0, 1.0), max_size=40)


@given(seen=losses, alpha=st.floats(0.01, 0.9))
@settings(deadline=None, max_examples=60)
def test_the_game_is_fair_at_alpha_and_unfair_below(seen: list[float], alpha: float) -> None:
    """Exactly: one more audit at risk alpha leaves expected wealth where it is."""
    now = update_many(Monitor(alpha=alpha, delta=1e-9), seen)
    if now.alarm_at is not None:
        return
    kept, lost = update(now, 0.0).wealth, update(now, 1.0).wealth
    assert alpha * lost + (1 - alpha) * kept == pytest.approx(now.wealth, rel=1e-12)
    assert kept < now.wealth < lost
    assert update(now, alpha).wealth == pytest.approx(now.wealth, rel=1e-12)


def test_wealth_starts_at_one_and_can_never_be_lost_wholly() -> None:
    assert FRESH.wealth == 1.0
    quiet = update_many(FRESH, np.zeros(2000))
    assert 0.0 < quiet.wealth < 1.0
    assert min(quiet.staked) > 0.0
    assert quiet.alarm_at is None


@given(seen=losses)
@settings(deadline=None, max_examples=40)
def test_one_by_one_and_all_at_once_agree(seen: list[float]) -> None:
    path = wealth_path(np.array([seen, seen]), alpha=ALPHA)
    now = FRESH
    for at, loss in enumerate(seen):
        now = update(now, loss)
        if now.alarm_at is not None:
            break
        assert now.wealth == pytest.approx(path[1, at], rel=1e-12)
    crossed = np.flatnonzero(path[0] >= 1 / DELTA) if seen else np.zeros(0)
    assert now.alarm_at == (crossed[0] + 1 if len(crossed) else None)


def test_state_survives_a_restart() -> None:
    rng = np.random.default_rng(2)
    before, after = (rng.random((2, 200)) < 0.04).astype(float)
    running = update_many(FRESH, before)
    restored = msgspec.json.decode(msgspec.json.encode(running), type=Monitor)
    assert restored == running
    assert update_many(restored, after) == update_many(running, after)
    assert (running.audits, running.losses) == (200, before.sum())


def test_an_alarm_is_final() -> None:
    alarmed = update_many(FRESH, np.ones(20))
    assert alarmed.alarm_at is not None
    assert alarmed.alarm_at <= 5
    assert alarmed.audits == alarmed.alarm_at
    assert alarmed.wealth >= 1 / DELTA
    assert update_many(alarmed, np.zeros(500)) is alarmed


def test_parts_of_a_loss_count_in_part() -> None:
    some = update_many(FRESH, np.full(100, 0.2))
    assert some.alarm_at is not None
    assert update_many(FRESH, np.full(100, 0.04)).alarm_at is None


def test_the_alarm_counts_the_wealth_held_back() -> None:
    path = wealth_path(np.ones(10), alpha=ALPHA)
    for at in range(3):
        just = Monitor(alpha=ALPHA, delta=1 / (path[at] - 1e-9))
        not_yet = Monitor(alpha=ALPHA, delta=1 / (path[at] + 1e-9))
        assert update_many(just, np.ones(10)).alarm_at == at + 1
        assert update_many(not_yet, np.ones(10)).alarm_at == at + 2


def lost(loss: float) -> Callable[[Monitor], Monitor]:
    return lambda monitor: update(monitor, loss)


def test_groups_share_half_of_delta_and_do_not_mix() -> None:
    watched = watch_groups({"a": 0.2, "b": ALPHA}, alpha=ALPHA, delta=0.12)
    assert list(watched.groups) == ["a", "b"]
    assert (watched.groups["a"].alpha, watched.groups["b"].alpha) == (0.2, ALPHA)
    assert watched.groups["a"].delta == watched.groups["b"].delta == pytest.approx(0.03)
    assert (watched.pooled.alpha, watched.pooled.delta) == (ALPHA, pytest.approx(0.06))
    for _ in range(60):
        watched = update_group(watched, "a", change=lost(0.1))
        watched = update_group(watched, "b", change=lost(0.0))
        watched = update_group(watched, "c", change=lost(0.0))
        watched = update_group(watched, None, change=lost(0.0))
    assert watched.alarms == ()
    assert watched.groups["b"].audits == 60
    assert watched.pooled.audits == 240
    for _ in range(20):
        watched = update_group(watched, "a", change=lost(1.0))
    assert watched.alarms == ("a",)
    assert watched.groups["b"].alarm_at is None
    restored = msgspec.json.decode(msgspec.json.encode(watched), type=type(watched))
    assert restored == watched


def test_no_groups_leave_delta_whole() -> None:
    assert watch_groups({}, alpha=ALPHA, delta=DELTA).pooled == FRESH


def test_spared_requests_count_with_the_next_cheap_answer_or_not_at_all() -> None:
    waiting = spare(spare(spare(FRESH)))
    assert (waiting.audits, waiting.spared, waiting.wealth) == (0, 3, 1.0)
    assert update(waiting, 1.0) == update_many(FRESH, [0.0, 0.0, 0.0, 1.0])
    assert update(skip(waiting), 1.0) == update(FRESH, 1.0)
    alarmed = update_many(FRESH, np.ones(20))
    assert spare(alarmed) == skip(alarmed) == alarmed


@given(seen=st.lists(st.floats(-1.0, 1.0), max_size=30), alpha=st.floats(0.01, 0.9))
@settings(deadline=None, max_examples=40)
def test_the_net_game_is_fair_at_alpha_too(seen: list[float], alpha: float) -> None:
    now = update_many(Monitor(alpha=alpha, delta=1e-9, net=True), seen)
    better, worse = update(now, -1.0).wealth, update(now, 1.0).wealth
    chance = (1 + alpha) / 2  # of a loss of 1, where the others are -1
    assert chance * worse + (1 - chance) * better == pytest.approx(now.wealth, rel=1e-12)
    assert 0.0 < better < now.wealth < worse


def test_a_monitor_of_net_losses_takes_gains_and_no_other_does() -> None:
    gains = update_many(Monitor(alpha=ALPHA, delta=DELTA, net=True), [-1.0] * 10)
    assert gains.wealth < 1.0
    with pytest.raises(InputError, match="losses"):
        update(FRESH, -1.0)
    with pytest.raises(InputError, match="losses"):
        update(gains, -1.1)


@pytest.mark.parametrize("bad", [float("nan"), -0.1, 1.1])
def test_losses_outside_0_to_1_are_refused(bad: float) -> None:
    for monitor in (FRESH, update_many(FRESH, np.ones(20))):
        with pytest.raises(InputError, match="losses"):
            update(monitor, bad)


@pytest.mark.parametrize(
    "field",
    [
        {"staked": [0.1]},
        {"staked": [-1.0] * len(BETS)},
        {"audits": -1},
        {"spared": -1},
        {"alpha": 2.0},
    ],
)
def test_damaged_state_is_refused(field: dict[str, object]) -> None:
    state = msgspec.to_builtins(FRESH) | field
    with pytest.raises(InputError) as caught:
        msgspec.convert(state, Monitor)
    assert caught.value.hint
    with pytest.raises(msgspec.ValidationError, match="unknown"):
        msgspec.convert(msgspec.to_builtins(FRESH) | {"unknown": 1}, Monitor)


@given(risk=st.floats(0.06, 0.99), quiet=st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_worse_drift_is_seen_sooner_and_a_long_quiet_costs_little(risk: float, quiet: int) -> None:
    delay = expected_delay(risk, alpha=ALPHA, delta=DELTA, quiet=quiet)
    assert expected_delay(risk + 0.01, alpha=ALPHA, delta=DELTA, quiet=quiet) < delay
    assert expected_delay(risk, alpha=ALPHA, delta=DELTA / 2, quiet=quiet) > delay
    fresh = expected_delay(risk, alpha=ALPHA, delta=DELTA)
    assert delay < 4 * fresh + 3


@pytest.mark.parametrize("quiet", [0, 700])
def test_delays_by_a_second_calculation(quiet: int) -> None:
    risk, miss = 0.15, 0.1
    slice_ = 1 / (1 + log(1 + quiet)) - 1 / (1 + log(2 + quiet))
    means, limits = [], []
    for share in (2.0**-j for j in range(1, 13)):
        win, lose = log(1 + share / ALPHA * (1 - ALPHA)), log(1 - share)
        needed = -log(DELTA * slice_ / 12)
        growth = risk * win + (1 - risk) * lose
        means.append((needed + win) / growth if growth > 0 else inf)
        for n in range(1, 2000):
            mean = min(max((needed - n * lose) / (win - lose) / n, 0.0), 1.0)
            if hoeffding_bentkus_p_value(mean, n, alpha=risk) <= miss:
                limits.append(n)
                break
    setting = {"alpha": ALPHA, "delta": DELTA} | ({"quiet": quiet} if quiet else {})
    assert expected_delay(risk, **setting) == pytest.approx(min(means))
    found = delay_limit(risk, miss=miss, **setting)
    assert min(limits) <= found <= min(limits) + 10  # the bound has teeth: halving may miss a few


def test_delay_limit_tightens_with_the_miss_it_may_have() -> None:
    strict = delay_limit(0.15, alpha=ALPHA, delta=DELTA, miss=0.01, quiet=500)
    loose = delay_limit(0.15, alpha=ALPHA, delta=DELTA, miss=0.2, quiet=500)
    assert strict is not None
    assert loose is not None
    assert loose < strict


def test_a_certain_loss_raises_the_alarm_within_the_limit() -> None:
    limit = delay_limit(1.0, alpha=ALPHA, delta=DELTA, miss=0.01)
    alarmed = update_many(FRESH, np.ones(50))
    assert limit is not None
    assert alarmed.alarm_at <= limit


@pytest.mark.parametrize("risk", [ALPHA, 0.01, 1.1, float("nan")])
def test_no_delay_is_promised_for_a_risk_that_is_not_too_high(risk: float) -> None:
    with pytest.raises(InputError, match="delay"):
        expected_delay(risk, alpha=ALPHA, delta=DELTA)
    with pytest.raises(InputError, match="delay"):
        delay_limit(risk, alpha=ALPHA, delta=DELTA, miss=0.1)


def test_a_drift_too_small_to_see_has_no_limit() -> None:
    assert delay_limit(ALPHA + 1e-9, alpha=ALPHA, delta=DELTA, miss=0.1) is None
    assert expected_delay(ALPHA + 1e-9, alpha=ALPHA, delta=DELTA) == float("inf")
