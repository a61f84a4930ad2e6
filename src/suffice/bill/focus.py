"""The bill as FOCUS 1.2 rows: one a day, model, key, tier, tags and kind of token."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from suffice.bill.charges import PARTS
from suffice.files import write_file
from suffice.units import usd_from_picousd

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Columns that FOCUS 1.2 requires of every row, and those of its optional ones that a log can fill.
COLUMNS = (
    "BillingAccountId",
    "BillingCurrency",
    "BillingPeriodStart",
    "BillingPeriodEnd",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ProviderName",
    "PublisherName",
    "InvoiceIssuerName",
    "ServiceCategory",
    "ServiceName",
    "SubAccountId",
    "SkuId",
    "PricingQuantity",
    "PricingUnit",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ListCost",
    "ContractedCost",
    "EffectiveCost",
    "BilledCost",
    "Tags",
)
_TOKENS = {
    "input": "input_tokens - coalesce(cache_read_tokens, 0) - coalesce(cache_write_tokens, 0)",
    "read": "coalesce(cache_read_tokens, 0)",
    "write": "coalesce(cache_write_tokens, 0)",
    "output": "output_tokens - coalesce(reasoning_tokens, 0)",
    "reasoning": "coalesce(reasoning_tokens, 0)",
}
_MILLION = 10**6


def focus_csv(store: "DuckDBPyConnection") -> str:
    """Write the rows as CSV; list cost is computed, and billed too, for a log is no invoice.

    Requests without a price but a stated cost are one row without a quantity of tokens; requests of
    unknown cost are left out, for FOCUS knows no unknown.
    """
    parts = " UNION ALL ".join(
        f"SELECT time, model, provider, key, tier, tags, '{part}' AS part, "
        f"greatest({_TOKENS[part]}, 0) AS tokens, pico_{part} AS pico FROM bill "
        "WHERE computed IS NOT NULL AND usd IS NOT NULL"
        for part in PARTS
    )
    rows = store.execute(
        f"""SELECT strftime(time AT TIME ZONE 'UTC', '%Y-%m-%d'), coalesce(model, 'unknown'),
            coalesce(provider, split_part(model, '-', 1), 'unknown'), coalesce(key, ''),
            coalesce(tier, ''), coalesce(array_to_string(tags, ','), ''), part, sum(tokens),
            sum(pico)
        FROM ({parts} UNION ALL SELECT time, model, provider, key, tier, tags, 'stated', NULL, usd
            FROM bill WHERE computed IS NULL AND usd > 0)
        WHERE time IS NOT NULL GROUP BY ALL HAVING sum(pico) <> 0 ORDER BY ALL"""
    ).fetchall()
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for day, model, provider, key, tier, tags, part, tokens, pico in rows:
        usd = _plain(usd_from_picousd(int(pico)))
        quantity = "" if tokens is None else _plain(Decimal(int(tokens)) / _MILLION)
        unit = "" if tokens is None else "Tokens"
        writer.writerow(
            (
                key or "unknown",
                "USD",
                f"{day[:7]}-01T00:00:00Z",
                _next_month(day),
                f"{day}T00:00:00Z",
                _next_day(day),
                "Usage",
                "",
                f"{model} {part} tokens",
                "Usage-Based",
                provider,
                provider,
                provider,
                "AI and Machine Learning",
                model,
                key,
                f"{model}/{part}" + (f"/{tier}" if tier else ""),
                quantity,
                f"1M {unit}" if unit else "",
                "" if tokens is None else int(tokens),
                unit,
                usd,
                usd,
                usd,
                usd,
                json.dumps({"tag": tags} if tags else {}),
            )
        )
    return out.getvalue()


def write_focus(store: "DuckDBPyConnection", path: Path) -> None:
    """Write the rows as CSV, or to a `.parquet` file with numbers and times in place of texts."""
    if path.suffix != ".parquet":
        write_file(path, focus_csv(store))
        return
    kinds = {
        name: "TIMESTAMPTZ"
        if name.endswith(("Start", "End"))
        else "DECIMAL(38, 12)"
        if name.endswith(("Cost", "Quantity"))
        else "VARCHAR"
        for name in COLUMNS
    }
    with TemporaryDirectory() as folder:
        rows, out = Path(folder, "rows.csv"), Path(folder, "rows.parquet")
        rows.write_text(focus_csv(store), "utf-8")
        columns = ", ".join(f"'{name}': '{kind}'" for name, kind in kinds.items())
        store.execute(
            f"COPY (SELECT * FROM read_csv('{rows}', header = true, columns = {{{columns}}})) "
            f"TO '{out}' (FORMAT parquet)"
        )
        write_file(path, out.read_bytes())


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def _next_day(day: str) -> str:
    import datetime as dt

    return f"{dt.date.fromisoformat(day) + dt.timedelta(days=1)}T00:00:00Z"


def _next_month(day: str) -> str:
    year, month = int(day[:4]), int(day[5:7])
    return f"{year + month // 12}-{month % 12 + 1:02d}-01T00:00:00Z"
