"""The values of a report on a ledger; other modules draw and write them."""

from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from suffice.ledger import (
    CallTotals,
    Flow,
    Ledger,
    SavingEstimate,
    Totals,
    Window,
    calls,
    compared_totals,
    flow,
    totals,
)


class LedgerReport(Struct, frozen=True, kw_only=True):
    """The values of a report on a ledger; `whole` sums all requests of the window."""

    kind: Literal["ledger"] = "ledger"
    source: str
    made: datetime
    window: Window
    references: tuple[str, ...]
    whole: Totals
    saving: SavingEstimate
    days: tuple[Totals, ...]
    vectors: tuple[Totals, ...]
    rungs: tuple[Totals, ...]
    groups: tuple[Totals, ...]
    roles: tuple[CallTotals, ...]
    calls: CallTotals
    flow: tuple[Flow, ...]


def ledger_report(ledger: Ledger, *, made: datetime, window: Window) -> LedgerReport:
    """Query the values of a report from a ledger.

    Rows after `made` do not count, so all queries agree while requests are still being written.
    """
    window = replace(window, until=window.until or made)
    compared = compared_totals(ledger, window=window)
    return LedgerReport(
        source=ledger.where,
        made=made,
        window=window,
        references=compared.references,
        whole=compared.whole,
        saving=compared.saving,
        days=totals(ledger, by="day", window=window),
        vectors=totals(ledger, by="vector", window=window),
        rungs=compared.rungs,
        groups=totals(ledger, by="group", window=window),
        roles=calls(ledger, by="role", window=window),
        calls=calls(ledger, window=window)[0],
        flow=flow(ledger, window=window),
    )
