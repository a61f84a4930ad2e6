"""Reports on trials or a ledger: one self-contained HTML page, or the same numbers as JSON."""
