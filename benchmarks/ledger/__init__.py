"""What a ledger of millions of rows costs to read: dashboard, report, start, keys, recertify."""
