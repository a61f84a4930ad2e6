"""What the settings of a comparison cost, in the one unit that most of them have."""

from collections.abc import Mapping, Sequence

from suffice.trials.table import CostUnit
from suffice.trials.tabulate import cost_of
from suffice.types import Trial

KNOWN_SHARE = 0.9  # of a setting's trials whose cost must be known for its mean to be shown


def cost_unit_of(by_setting: Mapping[str, Sequence[Trial]]) -> CostUnit | None:
    """Return the unit that the most settings have a mean cost in; of equals, dollars come first.

    Dollars that are all 0 are no unit: they tell no setting from another.
    """
    known = {
        unit: sum(mean_costs(trials, unit)[0] is not None for trials in by_setting.values())
        for unit in CostUnit
    }
    if not any(trial.charge_usd for trials in by_setting.values() for trial in trials):
        known[CostUnit.USD] = 0
    best = max(known, key=known.__getitem__)
    return best if known[best] else None


def mean_costs(trials: Sequence[Trial], unit: CostUnit | None) -> tuple[float | None, float | None]:
    """Return the cost of a task and of a success, None where too few costs are known."""
    pairs = [(cost_of(trial, unit), trial.quality or 0.0) for trial in trials]
    known = [(cost, quality) for cost, quality in pairs if cost is not None]
    if not known or len(known) < KNOWN_SHARE * len(pairs):
        return None, None
    total, successes = sum(cost for cost, _ in known), sum(quality for _, quality in known)
    return total / len(known), total / successes if successes else None
