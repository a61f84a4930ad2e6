"""A monitor that is looked at after every audit raises false alarms at most delta of the time."""

import numpy as np
import pytest
from simulate import DRAWS, bernoulli, net_losses, too_often

from suffice.guarantee.bounds import binomial_p_value
from suffice.guarantee.monitor import (
    BETS,
    Monitor,
    delay_limit,
    expected_delay,
    skip,
    spare,
    update,
    update_group,
    watch_groups,
    wealth_path,
)

DELTA, STREAMS, AUDITS = 0.1, 1500, 1500


def ever(wealth: np.ndarray) -> np.ndarray:
    return (wealth >= 1 / DELTA).any(axis=-1)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("alpha", [0.02, 0.2, 0.5])
def test_quiet_streams_at_exactly_alpha_rarely_alarm(draw, alpha: float) -> None:
    losses = draw(np.random.default_rng(4), alpha, (STREAMS, AUDITS))
    assert not too_often(ever(wealth_path(losses, alpha=alpha)), DELTA)


def test_a_risk_that_wanders_below_alpha_rarely_alarms() -> None:
    rng, alpha = np.random.default_rng(8), 0.1
    risk = alpha * np.abs(np.sin(np.arange(AUDITS) / 40))
    losses = (rng.random((STREAMS, AUDITS)) < risk).astype(float)
    assert not too_often(ever(wealth_path(losses, alpha=alpha)), DELTA)


def peeking_at_a_fixed_n_test(losses: np.ndarray, alpha: float) -> np.ndarray:
    """The evidence 1 / p for a risk above alpha, looked at every 50 audits."""
    n = np.arange(50, losses.shape[1], 50)
    kept = n - np.cumsum(losses, axis=1)[:, n - 1]
    return 1 / binomial_p_value(kept, n, alpha=1 - alpha)


def wealth_of_slices_never_paid_for(losses: np.ndarray, alpha: float) -> np.ndarray:
    """A whole unit staked at every audit: counts runs, not false alarms ever."""
    staked, wealth = np.zeros((len(losses), len(BETS))), np.empty_like(losses)
    for at in range(losses.shape[1]):
        change = 1 + BETS / alpha * (losses[:, at, None] - alpha)
        staked = (staked + 1 / len(BETS)) * change
        wealth[:, at] = staked.sum(axis=1)
    return wealth


LOOSE = {
    "fixed-n test, many looks": peeking_at_a_fixed_n_test,
    "slices never paid for": wealth_of_slices_never_paid_for,
    "alpha 10 % smaller": lambda losses, alpha: wealth_path(losses, alpha=0.9 * alpha),
    "running mean": lambda losses, alpha: np.where(
        losses.cumsum(axis=1) > alpha * np.arange(1, AUDITS + 1), np.inf, 0.0
    ),
}


@pytest.mark.parametrize("name", LOOSE)
def test_a_loosened_monitor_is_caught(name: str) -> None:
    losses = bernoulli(np.random.default_rng(4), 0.2, (STREAMS, AUDITS))
    assert too_often(ever(LOOSE[name](losses, 0.2)), DELTA)


def test_groups_together_rarely_alarm() -> None:
    rng, alarms = np.random.default_rng(6), []
    for _ in range(150):
        watched = watch_groups({"a": 0.2, "b": 0.2}, alpha=0.2, delta=0.3)
        for losses in bernoulli(rng, 0.2, (80, 3)).tolist():
            for group, loss in zip(("a", "b", None), losses, strict=True):
                watched = update_group(watched, group, change=lambda m, loss=loss: update(m, loss))
        alarms.append(bool(watched.alarms) or watched.pooled.alarm_at is not None)
    assert not too_often(np.array(alarms), 0.3)


def delays(draw, *, risk: float, alpha: float, quiet: int, most: int) -> np.ndarray:
    """Audits from the change to the alarm; streams that alarmed before it are left out."""
    rng = np.random.default_rng(9)
    before = draw(rng, alpha / 3, (400, quiet))
    after = draw(rng, risk, (400, most))
    wealth = wealth_path(np.concatenate([before, after], axis=1), alpha=alpha)
    alarmed = wealth >= 1 / DELTA
    assert alarmed.any(axis=1).all()
    at = alarmed.argmax(axis=1) - quiet + 1
    return at[at > 0]


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("quiet", [0, 600])
def test_the_alarm_falls_within_the_delay_that_is_promised(draw, quiet: int) -> None:
    setting = {"alpha": 0.05, "delta": DELTA, "quiet": quiet}
    limit = delay_limit(0.2, miss=0.1, **setting)
    seen = delays(draw, risk=0.2, alpha=0.05, quiet=quiet, most=4 * limit)
    assert seen.mean() <= expected_delay(0.2, **setting)
    assert not too_often(seen > limit, 0.1)


def test_a_promised_delay_that_forgets_the_quiet_time_is_caught() -> None:
    seen = delays(bernoulli, risk=0.2, alpha=0.05, quiet=2000, most=2000)
    assert seen.mean() > expected_delay(0.2, alpha=0.05, delta=DELTA, quiet=0)


# -- labels that are missing ---------------------------------------------------------------------

ALPHA_LIVE = 0.2


def live(
    rng: np.random.Generator, *, risk: float, cheap: float, labelled: float, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Audits in order: which were answered cheaply, and the losses, NaN where no label came."""
    kept = rng.random(most) < cheap
    losses = np.where(kept, rng.random(most) < risk / cheap, False).astype(float)
    return kept, np.where(kept & (rng.random(most) >= labelled), np.nan, losses)


def blocks(kept: np.ndarray, losses: np.ndarray) -> bool:
    monitor = Monitor(alpha=ALPHA_LIVE, delta=DELTA)
    for cheap, loss in zip(kept.tolist(), losses.tolist(), strict=True):
        if not cheap:
            monitor = spare(monitor)
        else:
            monitor = skip(monitor) if np.isnan(loss) else update(monitor, loss)
    return monitor.alarm_at is not None


def zeros_at_once(kept: np.ndarray, losses: np.ndarray) -> bool:
    """Count the reference's answers at once, and drop cheap ones without a label: diluted."""
    return bool(ever(wealth_path(losses[~np.isnan(losses)], alpha=ALPHA_LIVE)))


def cheap_alone(kept: np.ndarray, losses: np.ndarray) -> bool:
    """Bet on labelled cheap answers against alpha itself, not alpha over their share."""
    return bool(ever(wealth_path(losses[kept & ~np.isnan(losses)], alpha=ALPHA_LIVE)))


@pytest.mark.parametrize("labelled", [0.1, 1.0])
@pytest.mark.parametrize("cheap", [0.3, 0.8])
@pytest.mark.parametrize("runs", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_missing_labels_raise_no_false_alarm(labelled: float, cheap: float, runs: int) -> None:
    rng = np.random.default_rng(runs)
    alarms = [
        blocks(*live(rng, risk=ALPHA_LIVE, cheap=cheap, labelled=labelled, most=300))
        for _ in range(runs)
    ]
    assert not too_often(np.array(alarms), DELTA)


def test_missing_labels_do_not_hide_a_risk_that_has_doubled() -> None:
    """Ten times the limit of audits, since a tenth of the labels come, and hardly one is missed."""
    limit, miss = delay_limit(2 * ALPHA_LIVE, alpha=ALPHA_LIVE, delta=DELTA, miss=0.1), 0.1
    rng, seen, diluted = np.random.default_rng(3), [], []
    for _ in range(60):
        draw = live(rng, risk=2 * ALPHA_LIVE, cheap=0.5, labelled=0.1, most=12 * limit)
        seen.append(blocks(*draw))
        diluted.append(zeros_at_once(*draw))
    assert not too_often(~np.array(seen), miss)
    assert np.mean(diluted) < 0.5


def test_a_watch_of_cheap_answers_alone_is_caught() -> None:
    rng = np.random.default_rng(6)
    alarms = [
        cheap_alone(*live(rng, risk=ALPHA_LIVE, cheap=0.3, labelled=0.5, most=400))
        for _ in range(150)
    ]
    assert too_often(np.array(alarms), DELTA)


@pytest.mark.parametrize("runs", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_net_loss_at_alpha_rarely_alarms(runs: int) -> None:
    losses = net_losses(np.random.default_rng(2), 0.1, (runs, 1500), noise=0.3, repeats=1)
    assert not too_often(ever(wealth_path(losses, alpha=0.1, net=True)), DELTA)


def test_a_net_loss_watched_as_an_excess_is_caught() -> None:
    losses = net_losses(np.random.default_rng(2), 0.1, (300, 1500), noise=0.3, repeats=1)
    assert too_often(ever(wealth_path(losses.clip(0, 1), alpha=0.1)), DELTA)
