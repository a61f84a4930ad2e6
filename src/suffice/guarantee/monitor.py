"""Watch a certified risk live: an alarm that may be looked at after every audit.

A bettor starts with a wealth of 1 and stakes it on `risk > alpha`. While the risk stays at or
below `alpha` no way of betting makes wealth grow on average, so the chance that it *ever* reaches
`1 / delta` is at most `delta` (Ville's inequality; arXiv 2210.01948 reviews such e-processes).
A bet kept running through a quiet time would lose nearly everything and answer a late change
late. So part of the wealth is held back, and a slice of it is staked anew at each audit (a mixture
over starting times, as in arXiv 2203.03532, paid for out of the one unit of wealth).

Audited requests must be drawn at random with one probability, whatever the request or answer.
"""

from collections.abc import Iterable
from functools import reduce
from math import log, log1p

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import ArrayLike

from suffice.errors import InputError
from suffice.guarantee.bounds import first_true, hoeffding_bentkus_p_value
from suffice.guarantee.losses import Floats, check_losses, check_probability

BETS = 2.0 ** -np.arange(1, 13)  # as shares of 1 / alpha; best for a risk of alpha + (1-alpha) BETS
_MOST_AUDITS = 2**40


class Monitor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The state of one watched risk; a plain value that survives a restart as JSON.

    `losses` is their sum over `audits`; `staked` the wealth that rides on each of `BETS`;
    `alarm_at` the audit at which wealth first reached `1 / delta`. An alarm is final: further
    audits change nothing, and a new certificate starts a new monitor.
    """

    alpha: float
    delta: float
    audits: int = 0
    losses: float = 0.0
    staked: tuple[float, ...] = (0.0,) * len(BETS)
    alarm_at: int | None = None

    def __post_init__(self) -> None:
        check_probability("alpha", self.alpha)
        check_probability("delta", self.delta)
        if len(self.staked) != len(BETS) or min(self.staked) < 0.0 or self.audits < 0:
            raise InputError(
                "the saved state of a monitor is damaged",
                hint="replay the audited losses from the ledger through update_many",
            )

    @property
    def wealth(self) -> float:
        """The evidence that the risk passed `alpha`: an e-value at every moment."""
        return sum(self.staked) + _reserve(self.audits)


class GroupMonitors(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One monitor for each declared group and one, `rest`, for all other requests together."""

    groups: dict[str, Monitor]
    rest: Monitor

    @property
    def alarms(self) -> tuple[str, ...]:
        """Names of the declared groups whose alarm has fallen; see `rest` for the others."""
        return tuple(name for name, one in self.groups.items() if one.alarm_at is not None)


def watch_groups(groups: Iterable[str], *, alpha: float, delta: float) -> GroupMonitors:
    """Start a monitor for each group and one for the rest, which share `delta` equally.

    The chance that any of them ever raises a false alarm is then at most `delta`.
    """
    names = list(dict.fromkeys(groups))
    check_probability("delta", delta)
    fresh = Monitor(alpha=alpha, delta=delta / (len(names) + 1))
    return GroupMonitors(groups=dict.fromkeys(names, fresh), rest=fresh)


def update(monitor: Monitor, loss: float) -> Monitor:
    """Return the state after one more audited loss in [0, 1]; `InputError` for any other value."""
    value = check_losses(loss)
    if monitor.alarm_at is not None:
        return monitor
    audits = monitor.audits + 1
    staked = tuple(
        _bet(np.array(monitor.staked), value, audit=audits, alpha=monitor.alpha).tolist()
    )
    return Monitor(
        alpha=monitor.alpha,
        delta=monitor.delta,
        audits=audits,
        losses=monitor.losses + float(value),
        staked=staked,
        alarm_at=audits if sum(staked) + _reserve(audits) >= 1.0 / monitor.delta else None,
    )


def update_many(monitor: Monitor, losses: ArrayLike) -> Monitor:
    """Return the state after each of the losses in turn, in the order they were audited."""
    return reduce(update, check_losses(losses).tolist(), monitor)


def update_group(monitors: GroupMonitors, group: str | None, *, loss: float) -> GroupMonitors:
    """Return the monitors after one more audited loss of `group`; None and others are the rest."""
    if group is None or group not in monitors.groups:
        return replace(monitors, rest=update(monitors.rest, loss))
    changed = update(monitors.groups[group], loss)
    return replace(monitors, groups={**monitors.groups, group: changed})


def wealth_path(losses: ArrayLike, *, alpha: float) -> Floats:
    """Return the wealth after each audit, shape as `losses`: (..., audits), streams side by side.

    The same betting as `update`, without the stop at an alarm.
    """
    check_probability("alpha", alpha)
    array = check_losses(losses)
    staked = np.zeros((*array.shape[:-1], len(BETS)))
    wealth = np.empty_like(array)
    for at in range(array.shape[-1]):
        staked = _bet(staked, array[..., at], audit=at + 1, alpha=alpha)
        wealth[..., at] = staked.sum(axis=-1) + _reserve(at + 1)
    return wealth


def expected_delay(risk: float, *, alpha: float, delta: float, quiet: int = 0) -> float:
    """Return a number of audits that the mean delay of the alarm does not exceed.

    The risk is at least `risk`, above `alpha`, from audit `quiet + 1` on; before it anything may
    have happened. Holds for all losses in [0, 1] (Wald's identity for the slice staked at
    `quiet + 1`; log wealth is concave in the loss, so that losses of 0 and 1 are the slowest).
    """
    target, lose, gain = _race(risk, alpha=alpha, delta=delta, quiet=quiet)
    growth = risk * gain + (1.0 - risk) * lose
    with np.errstate(divide="ignore"):
        delays = np.where(growth > 0.0, (target + gain) / np.maximum(growth, 0.0), np.inf)
    return float(delays.min())


def delay_limit(
    risk: float, *, alpha: float, delta: float, miss: float, quiet: int = 0
) -> int | None:
    """Return a number of audits within which the alarm falls but for probability `miss`.

    The setting of `expected_delay`. None where a million million audits would not do.
    """
    check_probability("miss", miss)
    target, lose, gain = _race(risk, alpha=alpha, delta=delta, quiet=quiet)

    def sure(audits: int) -> bool:
        mean = np.minimum((target / audits - lose) / (gain - lose), 1.0)
        return bool(hoeffding_bentkus_p_value(mean, audits, alpha=risk).min() <= miss)

    high = 1
    while not sure(high):
        if high > _MOST_AUDITS:
            return None
        high *= 2
    return first_true(sure, high=high)


def _bet(staked: Floats, loss: Floats, *, audit: int, alpha: float) -> Floats:
    """Stake this audit's slice anew and settle all bets on its loss; shape (..., bets)."""
    slice_ = (_reserve(audit - 1) - _reserve(audit)) / len(BETS)
    settled: Floats = (staked + slice_) * (1.0 + BETS / alpha * (loss[..., None] - alpha))
    return settled


def _reserve(audits: int) -> float:
    """Return the wealth not yet staked: 1 at first, and falling so slowly that slices last."""
    return 1.0 / (1.0 + log1p(audits))


def _race(risk: float, *, alpha: float, delta: float, quiet: int) -> tuple[Floats, Floats, Floats]:
    """Return for each bet the log growth that raises the alarm, and that of a loss of 0 and 1."""
    check_probability("alpha", alpha)
    check_probability("delta", delta)
    if not alpha < risk <= 1.0:
        raise InputError(f"a delay needs a risk between alpha {alpha} and 1, got {risk}")
    slice_ = (_reserve(quiet) - _reserve(quiet + 1)) / len(BETS)
    target = np.full(len(BETS), -log(delta * slice_))
    return target, np.log1p(-BETS), np.log1p(BETS / alpha * (1.0 - alpha))
