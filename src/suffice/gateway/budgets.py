"""Budgets of sessions and tags, held against the books before a request goes on.

Nothing is reserved: requests in flight at the same time may overrun a budget by what they cost.
"""

import asyncio
from datetime import UTC, datetime, time
from decimal import Decimal

from suffice.config import GatewayConfig
from suffice.gateway.problems import Problem
from suffice.ledger import Ledger, Window, totals
from suffice.ledger.spenders import session_spend
from suffice.types import Spend
from suffice.units import show_usd


async def check_budgets(
    ledger: Ledger, gateway: GatewayConfig, *, session_id: str | None, tag: str | None
) -> None:
    """Raise Problem where a session, or a tag today, has spent its budget; LedgerError."""
    session_usd = gateway.session_budget_usd
    if session_usd is not None and session_id is not None:
        spend = await asyncio.to_thread(session_spend, ledger, session_id)
        _hold(
            *(spend, session_usd, gateway.assumed_usd),
            what="this session",
            hint="begin a new session, or raise gateway.session_budget_usd",
        )
    tag_usd = None if tag is None else gateway.tag_budget_usd_per_day.get(tag)
    if tag_usd is not None:
        today = datetime.combine(datetime.now(UTC).date(), time(), UTC)
        sums = await asyncio.to_thread(totals, ledger, by="tag", window=Window(since=today))
        spend = next((one.spend for one in sums if one.key == tag), Spend())
        _hold(
            *(spend, tag_usd, gateway.assumed_usd),
            what=f"the tag {tag!r} today",
            hint="wait until midnight UTC, or raise gateway.tag_budget_usd_per_day",
        )


def _hold(spend: Spend, budget_usd: Decimal, assumed_usd: Decimal, *, what: str, hint: str) -> None:
    """Raise Problem over a budget; a request of unknown cost counts as `assumed_usd`."""
    spent_usd = spend.known_usd + spend.unknown_count * assumed_usd
    if spent_usd >= budget_usd:
        raise Problem(
            f"the budget of {what} is spent: {show_usd(spent_usd)} of {show_usd(budget_usd)}",
            status=429,
            code="insufficient_quota",
            hint=hint,
        )
