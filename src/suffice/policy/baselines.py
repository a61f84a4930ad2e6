"""What any policy must be compared with: no thought, luck, and hindsight."""

import numpy as np
from msgspec import Struct

from suffice.policy.fit import Outcomes
from suffice.policy.observe import Floats
from suffice.policy.path import PathOutcomes


class Baseline(Struct, frozen=True, kw_only=True):
    """Share of requests by rung, mean loss against the reference, quality, and saving.

    `saving` is the fraction of the reference's cost that is not spent; None without costs.
    """

    share: dict[str, float]
    risk: float
    quality: float
    saving: float | None


def always(known: Outcomes, rung: str) -> Baseline:
    """Answer everything with one rung."""
    return _chosen(known, np.full(len(known.quality), known.rungs.index(rung)))


def always_reference(known: Outcomes) -> Baseline:
    """Answer everything with the reference."""
    return always(known, known.rungs[-1])


def always_cheapest(known: Outcomes) -> Baseline:
    """Answer everything with the cheapest rung."""
    return always(known, known.rungs[0])


def cost_matched_random(known: Outcomes, *, share: float, saving: float | None) -> Baseline:
    """Choose rungs at random so that as much is saved as by the policy, at the least risk.

    That takes two rungs at most. Without costs, the reference is spared as large a `share` of
    requests as by the policy. Values are expectations over the draw.
    """
    fixed = [always(known, rung) for rung in known.rungs]
    savings = [way.saving for way in fixed]
    wanted, worth = share, [0.0 if way is fixed[-1] else 1.0 for way in fixed]
    if saving is not None and None not in savings:
        worth = [value or 0.0 for value in savings]
        wanted = min(max(worth), max(0.0, saving))
    pairs = [
        (low, high)
        for low in range(len(fixed))
        for high in range(len(fixed))
        if worth[low] <= wanted <= worth[high]
    ]
    mixtures = [
        _mixture(fixed[low], fixed[high], part=_part(worth[low], worth[high], wanted))
        for low, high in pairs
    ]
    return min(mixtures, key=lambda way: way.risk)


def described(known: Outcomes, plays: PathOutcomes) -> Baseline:
    """Describe what one point of a path did, discarded attempts paid."""
    return Baseline(
        share=dict(zip(known.rungs, plays.shares()[:, 0].tolist(), strict=True)),
        risk=known.mean(plays.losses(known.quality)[:, 0]),
        quality=known.mean(plays.qualities(known.quality)[:, 0]),
        saving=saving(plays.costs(known.cost)[:, 0], known.cost[:, -1]),
    )


def _part(low: float, high: float, wanted: float) -> float:
    """Return the share of the higher of two savings that makes up the wanted one."""
    return 1.0 if high <= low else (wanted - low) / (high - low)


def _mixture(low: Baseline, high: Baseline, *, part: float) -> Baseline:
    """Draw a random part of the requests for one way, and the rest for another."""

    def mean(one: float, other: float) -> float:
        return (1.0 - part) * one + part * other

    known = low.saving is not None and high.saving is not None
    return Baseline(
        share={rung: mean(low.share[rung], high.share[rung]) for rung in low.share},
        risk=mean(low.risk, high.risk),
        quality=mean(low.quality, high.quality),
        saving=mean(low.saving or 0.0, high.saving or 0.0) if known else None,
    )


def oracle(known: Outcomes) -> Baseline:
    """Answer with the cheapest rung that is as good as the reference, known in hindsight."""
    good = (known.quality >= known.quality[:, -1:]) & ~known.abstained
    return _chosen(known, good.argmax(axis=1))


def saving(spent: Floats, reference: Floats) -> float | None:
    """Return the fraction of the reference's cost that is not spent; None if a cost is unknown."""
    whole, part = float(reference.sum()), float(spent.sum())
    if not (np.isfinite(whole) and np.isfinite(part)) or whole <= 0:
        return None
    return 1.0 - part / whole


def _chosen(known: Outcomes, chosen: "np.ndarray[tuple[int], np.dtype[np.intp]]") -> Baseline:
    rows = np.arange(len(chosen))
    reached, wanted = known.quality[rows, chosen], known.quality[:, -1]
    return Baseline(
        share={rung: float((chosen == at).mean()) for at, rung in enumerate(known.rungs)},
        risk=known.mean(np.maximum(0.0, wanted - reached)),
        quality=known.mean(reached),
        saving=saving(known.cost[rows, chosen], known.cost[:, -1]),
    )
