"""The append-only log of every request, exact to 1e-12 dollars, and the questions asked of it.

The words of the books come at once; what reads and writes them, and with it SQLAlchemy, is imported
when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from suffice.ledger.records import (
    Attempt,
    AuditedRequest,
    Entry,
    Label,
    ReferenceKnown,
    Role,
    Score,
    Status,
    TrialSample,
    Window,
)

if TYPE_CHECKING:
    from suffice.ledger.database import Ledger
    from suffice.ledger.labelled import LabelledTrials, labelled_trials
    from suffice.ledger.rows import audited_under, entries, kept_certificates, scores_of
    from suffice.ledger.savings import AuditedCosts, SavingEstimate, audited_costs, compared_totals
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
_LATER = ("database", "labelled", "rows", "savings", "sums")  # modules


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in (import_module(f"{__name__}.{later}") for later in _LATER):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
