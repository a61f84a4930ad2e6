"""Which rung answers a request: scores fitted on trials, and a path of policies over a ladder.

Policies route (choose before an attempt) and defer (look at a rung's answer and go up). This part
knows nothing of guarantees: it offers an ordered path, and a certificate picks the point.
"""

from suffice.policy.baselines import (
    Baseline,
    always,
    always_cheapest,
    always_reference,
    cost_matched_random,
    described,
    oracle,
    saving,
)
from suffice.policy.candidates import foreseen_losses
from suffice.policy.choose import Goal, from_reference
from suffice.policy.fit import (
    FEWEST_ROWS,
    FittedPolicies,
    Outcomes,
    fit_policies,
    fit_policy,
    outcomes,
)
from suffice.policy.observe import Observations, observe, observe_table
from suffice.policy.online import PolicyStep, Router
from suffice.policy.path import ExpectedLosses, PathOutcomes, Policy, PolicyPath, harms, play
from suffice.policy.store import load_policy, policy_hash, save_policy

__all__ = [
    "FEWEST_ROWS",
    "Baseline",
    "ExpectedLosses",
    "FittedPolicies",
    "Goal",
    "Observations",
    "Outcomes",
    "PathOutcomes",
    "Policy",
    "PolicyPath",
    "PolicyStep",
    "Router",
    "always",
    "always_cheapest",
    "always_reference",
    "cost_matched_random",
    "described",
    "fit_policies",
    "fit_policy",
    "foreseen_losses",
    "from_reference",
    "harms",
    "load_policy",
    "observe",
    "observe_table",
    "oracle",
    "outcomes",
    "play",
    "policy_hash",
    "save_policy",
    "saving",
]
