"""Budgets of sessions and tags, reserved before a request goes on."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, time
from functools import partial

from suffice.gateway.access import worst_case
from suffice.gateway.problems import Problem
from suffice.gateway.serving import Serving
from suffice.gateway.wire import ChatRequest
from suffice.ledger import Ledger, Window, totals
from suffice.ledger.reserves import Overdrawn, SpendLimit, reserve
from suffice.ledger.spenders import session_spend
from suffice.types import Spend
from suffice.units import show_usd

_IN_FLIGHT_S = 1.0  # soon enough to ask again once other requests have been booked
_HINTS = {
    "session": "begin a new session, or raise gateway.session_budget_usd",
    "tag": "wait until midnight UTC, or raise gateway.tag_budget_usd_per_day",
}


async def hold_budgets(
    ledger: Ledger,
    serving: Serving,
    *,
    session_id: str | None,
    key_id: str | None,
    tags: Sequence[str],
    chat: ChatRequest,
) -> None:
    """Reserve the worst case of a request in the budgets of its session and of its tags.

    Raises Problem where one of them has no room, and LedgerError.
    """
    gateway = serving.config.gateway
    today = datetime.combine(datetime.now(UTC).date(), time(), UTC)
    by_tag = gateway.tag_budget_usd_per_day
    budgets = [
        SpendLimit(
            account=f"tag {tag}",
            usd=by_tag[tag],
            since=today,
            spent=partial(_tag_spend, ledger, tag, since=today),
        )
        for tag in tags
        if tag in by_tag
    ]
    if gateway.session_budget_usd is not None and session_id is not None:
        budgets.append(
            SpendLimit(
                account=f"session {session_id} {key_id or ''}",
                usd=gateway.session_budget_usd,
                spent=partial(session_spend, ledger, session_id, key_id=key_id),
            )
        )
    if not budgets:
        return
    worst = worst_case(chat, assumed_tokens=gateway.assumed_output_tokens)
    known_usd = worst.usd(chat, serving.pipeline)
    overdrawn = await asyncio.to_thread(
        reserve,
        *(ledger, budgets),
        request_id=chat.request.request_id,
        worst_usd=gateway.assumed_usd if known_usd is None else known_usd,
        assumed_usd=gateway.assumed_usd,
        now=datetime.now(UTC),
    )
    if overdrawn is not None:
        raise _problem(overdrawn)


def _tag_spend(ledger: Ledger, tag: str, *, since: datetime) -> Spend:
    sums = totals(ledger, by="tag", window=Window(since=since))
    return next((one.spend for one in sums if one.key == tag), Spend())


def _problem(overdrawn: Overdrawn) -> Problem:
    """Say which budget is spent, or taken up by requests that have not ended yet."""
    kind, _, name = overdrawn.budget.account.partition(" ")
    what = "this session" if kind == "session" else f"the tag {name!r} today"
    budget_usd, booked_usd = overdrawn.budget.usd, overdrawn.booked_usd
    if booked_usd < budget_usd:
        return Problem(
            f"the rest of the budget of {what} is reserved for requests in flight: "
            f"{show_usd(booked_usd)} of {show_usd(budget_usd)} spent, "
            f"{show_usd(overdrawn.reserved_usd)} reserved",
            status=429,
            code="rate_limit_exceeded",
            hint="ask again once they have been answered, or lower max_tokens",
            retry_after_s=_IN_FLIGHT_S,
        )
    return Problem(
        f"the budget of {what} is spent: {show_usd(booked_usd)} of {show_usd(budget_usd)}",
        status=429,
        code="insufficient_quota",
        hint=_HINTS[kind],
    )
