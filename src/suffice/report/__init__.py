"""Reports on trials or a ledger: one self-contained HTML page, or the same numbers as JSON."""

from suffice.report.summary import (
    BaselineFigures,
    CertifyVerdict,
    LedgerReport,
    Report,
    Side,
    TokenSpread,
    TrialsReport,
    ledger_report,
    side,
    token_spreads,
)

__all__ = [
    "BaselineFigures",
    "CertifyVerdict",
    "LedgerReport",
    "Report",
    "Side",
    "TokenSpread",
    "TrialsReport",
    "ledger_report",
    "side",
    "token_spreads",
]
