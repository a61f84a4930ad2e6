"""The append-only log of every request, exact to 1e-12 dollars, and the questions asked of it."""

from suffice.ledger.database import Ledger
from suffice.ledger.labelled import LabelledTrials, TrialSample, labelled_trials
from suffice.ledger.records import (
    Attempt,
    Entry,
    Label,
    ReferenceKnown,
    Role,
    Score,
    Status,
    Window,
)
from suffice.ledger.rows import (
    AuditedRequest,
    audited_under,
    entries,
    kept_certificates,
    scores_of,
)
from suffice.ledger.savings import (
    AuditedCosts,
    SavingEstimate,
    audited_costs,
    compared_totals,
)
from suffice.ledger.sums import (
    AuditSpend,
    CallTotals,
    Flow,
    TokenSum,
    Totals,
    Traffic,
    answer_seconds,
    audit_spend,
    calls,
    flow,
    totals,
    traffic,
)

__all__ = [
    "Attempt",
    "AuditSpend",
    "AuditedCosts",
    "AuditedRequest",
    "CallTotals",
    "Entry",
    "Flow",
    "Label",
    "LabelledTrials",
    "Ledger",
    "ReferenceKnown",
    "Role",
    "SavingEstimate",
    "Score",
    "Status",
    "TokenSum",
    "Totals",
    "Traffic",
    "TrialSample",
    "Window",
    "answer_seconds",
    "audit_spend",
    "audited_costs",
    "audited_under",
    "calls",
    "compared_totals",
    "entries",
    "flow",
    "kept_certificates",
    "labelled_trials",
    "scores_of",
    "totals",
    "traffic",
]
