"""The tables of sums, as the migrations create them."""


def _table_of_sums(name: str, *columns: str) -> str:
    sums = "".join(f", {column} BIGINT NOT NULL" for column in " ".join(columns).split())
    return (
        f"CREATE TABLE {name} (dimension TEXT NOT NULL, hours BIGINT NOT NULL, "
        f"hour BIGINT NOT NULL, value TEXT NOT NULL{sums}, "
        "PRIMARY KEY (dimension, hours, hour, value))"
    )


def _spend_sums(name: str) -> str:
    parts = ("count", "high", "low")
    return f"{name}_unknown_count " + " ".join(
        f"{name}_{known}_{part}" for known in ("reported", "estimated") for part in parts
    )


def _token_sums(name: str) -> str:
    return " ".join(
        f"{name}_{kind}" for kind in ("unknown_calls", "reported", "counted", "estimated")
    )


SUMS = {
    "suffice_request_sums": (
        "requests audited ok failed cancelled refused",
        *map(_spend_sums, ("spend", "reference", "compared", "saved")),
    ),
    "suffice_call_sums": (
        "calls failed",
        _spend_sums("spend"),
        *map(_token_sums, ("input", "cache_read", "cache_write", "output", "reasoning")),
    ),
    "suffice_flow_sums": ("requests",),
    "suffice_audit_sums": ("audits beyond_high beyond_low squares_high squares_low",),
}
TABLES_OF_SUMS = tuple(_table_of_sums(name, *columns) for name, columns in SUMS.items())
