"""Watch a certified risk live: an alarm that may be looked at after every audit.

A bettor starts with a wealth of 1 and stakes it on `risk > alpha`. While the risk stays at or
below `alpha` no way of betting makes wealth grow on average, so the chance that it *ever* reaches
`1 / delta` is at most `delta` (Ville's inequality; arXiv 2210.01948 reviews such e-processes).
A bet kept running through a quiet time would lose nearly everything and answer a late change
late. So part of the wealth is held back, and a slice of it is staked anew at each audit (a mixture
over starting times, as in arXiv 2203.03532, paid for out of the one unit of wealth).

Audited requests must be drawn at random with one probability, whatever the request or answer, and
at most one of a session.

**Missing labels.** A request that the reference answered loses nothing, and nobody has to say so.
A cheap answer needs a label, and labels may be missing. If the first kind counted at once and
unlabelled answers were dropped, the risk would look smaller than it is. So spared requests wait
for the cheap answer after them: with its label they count together, without it they are dropped
together. Why that is valid: take the audits after the last cheap answer up to and with the next
one. While the risk is at most `alpha`, each factor of wealth has a mean of at most 1 given those
before it, and so has their product up to the next cheap answer, which is a stopping time. A label
that comes or not whatever the losses (missing completely at random) multiplies wealth by that
product or by 1, so the mean stays at most 1. Neither the share of cheap answers nor the share of
labels needs to be known, and both may change.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, reduce
from math import log, log1p
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import ArrayLike

from suffice.errors import InputError
from suffice.guarantee.bounds import first_true, hoeffding_bentkus_p_value
from suffice.guarantee.losses import Floats, check_losses, check_probability

BETS = 2.0 ** -np.arange(1, 13)  # as shares of 1 / alpha; best for a risk of alpha + (1-alpha) BETS
_MOST_AUDITS = 2**40

MonitorChange = Callable[["Monitor"], "Monitor"]


class Monitor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The state of one watched risk; a plain value that survives a restart as JSON.

    `losses` is their sum over `audits`; `staked` the wealth that rides on each of `BETS`; `spared`
    how many audits of the reference's own answers wait for the next cheap one. Losses lie in
    [0, 1], with `net` in [-1, 1]. `alarm_at` is the audit at which wealth first reached
    `1 / delta`. An alarm is final: further audits change nothing.
    """

    alpha: float
    delta: float
    net: bool = False
    audits: int = 0
    losses: float = 0.0
    staked: tuple[float, ...] = (0.0,) * len(BETS)
    spared: int = 0
    alarm_at: int | None = None

    def __post_init__(self) -> None:
        check_probability("alpha", self.alpha)
        check_probability("delta", self.delta)
        damaged = len(self.staked) != len(BETS) or min(self.staked) < 0.0
        if damaged or min(self.audits, self.spared) < 0:
            raise InputError(
                "the saved state of a monitor is damaged",
                hint="replay the audited losses from the ledger through update_many",
            )

    @property
    def wealth(self) -> float:
        """The evidence that the risk passed `alpha`: an e-value at every moment."""
        return sum(self.staked) + _reserve(self.audits)


class GroupMonitors(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One monitor of all requests together, `pooled`, and one for each declared group beside it."""

    groups: dict[str, Monitor]
    pooled: Monitor

    @property
    def alarms(self) -> tuple[str, ...]:
        """Names of the declared groups whose alarm has fallen; see `pooled` for all together."""
        return tuple(name for name, one in self.groups.items() if one.alarm_at is not None)


def watch_groups(
    promised: Mapping[str, float], *, alpha: float, delta: float, net: bool = False
) -> GroupMonitors:
    """Start a monitor of everything against `alpha`, and one for each group against its promise.

    `promised` maps a group to the risk that was promised of it: an average over groups promises
    nothing of each. The pooled monitor gets half of `delta`, all of it without groups, and the
    groups share the rest: any false alarm ever has a chance of at most `delta`.
    """
    check_probability("delta", delta)
    half = delta / 2 if promised else delta
    return GroupMonitors(
        groups={
            name: Monitor(alpha=risk, delta=half / len(promised), net=net)
            for name, risk in promised.items()
        },
        pooled=Monitor(alpha=alpha, delta=half, net=net),
    )


def update(monitor: Monitor, loss: float) -> Monitor:
    """Return the state after one more audited loss, and after the spared audits before it.

    Raises `InputError` for a loss outside [0, 1], with `net` outside [-1, 1].
    """
    if not (-1.0 if monitor.net else 0.0) <= loss <= 1.0:
        check_losses(loss, net=monitor.net)
    if monitor.alarm_at is not None:
        return monitor
    staked, audits, alpha = monitor.staked, monitor.audits, monitor.alpha
    bets, reserve = _bets(alpha, net=monitor.net), _reserve(audits)
    for outcome in (*(0.0,) * monitor.spared, loss):
        audits += 1
        before, reserve = reserve, _reserve(audits)
        fresh, excess = (before - reserve) / len(BETS), outcome - alpha
        staked = tuple(
            [(old + fresh) * (1.0 + bet * excess) for old, bet in zip(staked, bets, strict=True)]
        )
    return Monitor(
        alpha=alpha,
        delta=monitor.delta,
        net=monitor.net,
        audits=audits,
        losses=monitor.losses + loss,
        staked=staked,
        alarm_at=audits if sum(staked) + reserve >= 1.0 / monitor.delta else None,
    )


def spare(monitor: Monitor) -> Monitor:
    """Return the state after an audit that cannot lose: the reference's own answer was given."""
    if monitor.alarm_at is not None:
        return monitor
    return replace(monitor, spared=monitor.spared + 1)


def skip(monitor: Monitor) -> Monitor:
    """Return the state after a cheap answer without a label: the spared before it go with it."""
    return replace(monitor, spared=0)


def update_many(monitor: Monitor, losses: ArrayLike) -> Monitor:
    """Return the state after each of the losses in turn, in the order they were audited."""
    return reduce(update, check_losses(losses, net=monitor.net).tolist(), monitor)


def update_group(
    monitors: GroupMonitors, group: str | None, *, change: MonitorChange
) -> GroupMonitors:
    """Return the monitors after one more audit of `group`; None and others are pooled alone.

    `change` is `spare`, `skip`, or `update` with a loss.
    """
    groups = monitors.groups
    if group is not None and group in groups:
        groups = {**groups, group: change(groups[group])}
    return GroupMonitors(groups=groups, pooled=change(monitors.pooled))


def wealth_path(losses: ArrayLike, *, alpha: float, net: bool = False) -> Floats:
    """Return the wealth after each audit, shape as `losses`: (..., audits), streams side by side.

    The same betting as `update`, without the stop at an alarm.
    """
    check_probability("alpha", alpha)
    array = check_losses(losses, net=net)
    staked = np.zeros((*array.shape[:-1], len(BETS)))
    wealth, bets = np.empty_like(array), np.array(_bets(alpha, net=net))
    for at in range(array.shape[-1]):
        change = 1.0 + bets * (array[..., at, None] - alpha)
        staked = (staked + _slice(at + 1)) * change
        wealth[..., at] = staked.sum(axis=-1) + _reserve(at + 1)
    return wealth


def expected_delay(
    risk: float, *, alpha: float, delta: float, quiet: int = 0, net: bool = False
) -> float:
    """Return a number of audits that the mean delay of the alarm does not exceed.

    The risk is at least `risk`, above `alpha`, from audit `quiet + 1` on; before it anything may
    have happened. Holds for all losses in [0, 1] (Wald's identity for the slice staked at
    `quiet + 1`; log wealth is concave in the loss, so that losses of 0 and 1 are the slowest), and
    with `net` for all in [-1, 1].
    """
    race = _AlarmRace.of(risk, alpha=alpha, delta=delta, quiet=quiet, net=net)
    growth = race.chance * race.gain + (1.0 - race.chance) * race.lose
    with np.errstate(divide="ignore"):
        delays = np.where(growth > 0.0, (race.target + race.gain) / np.maximum(growth, 0.0), np.inf)
    return float(delays.min())


def delay_limit(
    risk: float, *, alpha: float, delta: float, miss: float, quiet: int = 0, net: bool = False
) -> int | None:
    """Return a number of audits within which the alarm falls but for probability `miss`.

    The setting of `expected_delay`. None where a million million audits would not do.
    """
    check_probability("miss", miss)
    race = _AlarmRace.of(risk, alpha=alpha, delta=delta, quiet=quiet, net=net)

    def sure(audits: int) -> bool:
        mean = np.minimum((race.target / audits - race.lose) / (race.gain - race.lose), 1.0)
        misses = hoeffding_bentkus_p_value(mean, audits, alpha=race.chance)
        return bool(misses.min() <= miss)

    high = 1
    while not sure(high):
        if high > _MOST_AUDITS:
            return None
        high *= 2
    return first_true(sure, high=high)


@lru_cache
def _bets(alpha: float, *, net: bool) -> tuple[float, ...]:
    """Return what a loss multiplies: the largest bet is 1 over the way from alpha to the best loss.

    That best loss is 0, with `net` -1, and a bet below the largest survives it.
    """
    return tuple((BETS / (alpha + net)).tolist())


def _slice(audit: int) -> float:
    """Return what is staked anew on each bet at an audit."""
    return (_reserve(audit - 1) - _reserve(audit)) / len(BETS)


def _reserve(audits: int) -> float:
    """Return the wealth not yet staked: 1 at first, and falling so slowly that slices last."""
    return 1.0 / (1.0 + log1p(audits))


class _AlarmRace(NamedTuple):
    """For each bet the log growth that raises the alarm, and that of the best and worst loss.

    `chance` is how often the worst one comes where the risk is what was asked about.
    """

    chance: float
    target: Floats
    lose: Floats
    gain: Floats

    @classmethod
    def of(cls, risk: float, *, alpha: float, delta: float, quiet: int, net: bool) -> "_AlarmRace":
        check_probability("alpha", alpha)
        check_probability("delta", delta)
        if not alpha < risk <= 1.0:
            raise InputError(f"a delay needs a risk between alpha {alpha} and 1, got {risk}")
        return cls(
            chance=(risk + net) / (1.0 + net),
            target=np.full(len(BETS), -log(delta * _slice(quiet + 1))),
            lose=np.log1p(-BETS),
            gain=np.log1p(BETS / (alpha + net) * (1.0 - alpha)),
        )
