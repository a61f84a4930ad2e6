"""What any policy must be compared with: no thought, luck, and hindsight."""

import numpy as np
from msgspec import Struct

from suffice.policy.fit import Outcomes
from suffice.policy.observe import Floats


class Baseline(Struct, frozen=True, kw_only=True):
    """Share of requests by rung, mean loss against the reference, quality, and saving.

    `saving` is the fraction of the reference's cost that is not spent; None without costs.
    """

    share: dict[str, float]
    risk: float
    quality: float
    saving: float | None


def always_reference(known: Outcomes) -> Baseline:
    """Answer everything with the reference."""
    return _fixed(known, rung=len(known.rungs) - 1)


def always_cheapest(known: Outcomes) -> Baseline:
    """Answer everything with the cheapest rung."""
    return _fixed(known, rung=0)


def cost_matched_random(known: Outcomes, *, share: float, saving: float | None) -> Baseline:
    """Send a random part to the cheapest rung, so large that it saves as much as the policy does.

    Without costs, as large as the `share` of requests that the policy keeps from the reference.
    Values are expectations over the draw.
    """
    low, high = always_cheapest(known), always_reference(known)
    part = share
    if saving is not None and low.saving:
        part = min(1.0, max(0.0, saving / low.saving))
    mixed = dict.fromkeys(known.rungs, 0.0)
    mixed[known.rungs[0]] = part
    mixed[known.rungs[-1]] += 1.0 - part
    return Baseline(
        share=mixed,
        risk=part * low.risk,
        quality=part * low.quality + (1 - part) * high.quality,
        saving=None if low.saving is None else part * low.saving,
    )


def oracle(known: Outcomes) -> Baseline:
    """Answer with the cheapest rung that is as good as the reference, known in hindsight."""
    good = (known.quality >= known.quality[:, -1:]) & ~known.abstained
    return _described(known, good.argmax(axis=1))


def saving(spent: Floats, reference: Floats) -> float | None:
    """Return the fraction of the reference's cost that is not spent; None if a cost is unknown."""
    whole, part = float(reference.sum()), float(spent.sum())
    if not (np.isfinite(whole) and np.isfinite(part)) or whole <= 0:
        return None
    return 1.0 - part / whole


def _fixed(known: Outcomes, *, rung: int) -> Baseline:
    return _described(known, np.full(len(known.quality), rung))


def _described(known: Outcomes, chosen: "np.ndarray[tuple[int], np.dtype[np.intp]]") -> Baseline:
    rows = np.arange(len(chosen))
    reached, wanted = known.quality[rows, chosen], known.quality[:, -1]
    return Baseline(
        share={rung: float((chosen == at).mean()) for at, rung in enumerate(known.rungs)},
        risk=float(np.maximum(0.0, wanted - reached).mean()),
        quality=float(reached.mean()),
        saving=saving(known.cost[rows, chosen], known.cost[:, -1]),
    )
