"""The append-only log of every request, exact to 1e-12 dollars, and the questions asked of it."""

from suffice.ledger.database import Ledger
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
    LabelledTrials,
    audited_under,
    entries,
    labelled_trials,
    scores_of,
)
from suffice.ledger.sums import (
    AuditSpend,
    CallTotals,
    Flow,
    TokenSum,
    Totals,
    answer_seconds,
    audit_spend,
    calls,
    flow,
    totals,
)

__all__ = [
    "Attempt",
    "AuditSpend",
    "AuditedRequest",
    "CallTotals",
    "Entry",
    "Flow",
    "Label",
    "LabelledTrials",
    "Ledger",
    "ReferenceKnown",
    "Role",
    "Score",
    "Status",
    "TokenSum",
    "Totals",
    "Window",
    "answer_seconds",
    "audit_spend",
    "audited_under",
    "calls",
    "entries",
    "flow",
    "labelled_trials",
    "scores_of",
    "totals",
]
