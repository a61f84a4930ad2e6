"""A spending cap that is never passed: each call reserves the most that it can cost.

Calls that an engine repeats by itself (refused, unreachable, silent) are assumed not to be billed.
"""

import asyncio
from decimal import Decimal

import msgspec

from suffice.errors import BudgetExceeded, InputError, PriceError
from suffice.meter import Price, max_usd
from suffice.types import Request, Rung
from suffice.units import show_usd

# What a chat template can add to the text of the messages, generously.
TEMPLATE_TOKENS = 256
TEMPLATE_TOKENS_PER_MESSAGE = 16

_OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens")


class Budget:
    """Dollars under a cap; `spent_usd` and what is reserved by calls in flight never exceed it."""

    def __init__(self, cap_usd: Decimal | None, *, spent_usd: Decimal) -> None:
        self._cap_usd = cap_usd
        self._spent_usd = spent_usd
        self._reserved_usd = Decimal(0)
        self._changed = asyncio.Condition()

    async def reserve(self, most_usd: Decimal | None) -> None:
        """Reserve the most that a call can cost; wait while calls in flight may leave room for it.

        Raises BudgetExceeded if it does not fit. `most_usd` may be None only if there is no cap.
        """
        if self._cap_usd is None:
            return
        assert most_usd is not None, "calls without a bound are refused before the first one"
        async with self._changed:
            while self._spent_usd + self._reserved_usd + most_usd > self._cap_usd:
                if not self._reserved_usd:
                    raise BudgetExceeded(
                        f"the next call can cost {show_usd(most_usd)}, and "
                        f"{show_usd(self._cap_usd - self._spent_usd)} of the cap of "
                        f"{show_usd(self._cap_usd)} is left",
                        hint="all answers are kept: raise the cap and run it again to go on",
                    )
                await self._changed.wait()
            self._reserved_usd += most_usd

    async def settle(self, most_usd: Decimal | None, usd: Decimal | None) -> None:
        """Replace a reservation by the charge of its call; an unknown charge counts in full."""
        if self._cap_usd is None or most_usd is None:
            return
        async with self._changed:
            self._reserved_usd -= most_usd
            self._spent_usd += most_usd if usd is None else usd
            self._changed.notify_all()


def most_usd(
    request: Request, rung: Rung, *, price: Price | None, fewest_tokens: int = 0
) -> Decimal | None:
    """Return the most that a call can cost, or None if its price or its length is unbounded.

    A text has at least as many bytes as tokens, so the bytes of the messages and parameters bound
    the input; images and sound have no such bound. The smallest limit of the rung and the request,
    times the number of samples, bounds the answer; free output needs no limit. An engine whose API
    takes no limit under `fewest_tokens` is asked for that many. A rung that stops early reads its
    prompt again for each probe, so it has no bound.
    """
    params = {**request.params, **rung.params}
    limits = [rung.max_output_tokens, *(params.get(name) for name in _OUTPUT_LIMITS)]
    free = price is not None and not any(
        rates.output_usd_per_mtok or rates.reasoning_usd_per_mtok for rates in price.rates
    )
    limit = min((bound for bound in limits if isinstance(bound, int)), default=0 if free else None)
    if price is None or limit is None or rung.early_stop is not None or not _is_text(request):
        return None
    text = msgspec.json.encode((request.messages, params))
    input_tokens = len(text) + TEMPLATE_TOKENS + TEMPLATE_TOKENS_PER_MESSAGE * len(request.messages)
    output_tokens = max(limit, fewest_tokens) * (params.get("n") or 1)
    return max_usd(price, input_tokens=input_tokens, output_tokens=output_tokens)


def spent_at_most(calls: list[Decimal | None]) -> Decimal:
    """Add up the most that earlier calls can have cost; raises InputError if one is unbounded."""
    known = [usd for usd in calls if usd is not None]
    if len(known) < len(calls):
        raise InputError(
            f"{len(calls) - len(known)} earlier calls of this file have an unknown cost, so no cap "
            "can be kept",
            hint="go on without a cap, or start a new output file",
        )
    return sum(known, Decimal(0))


def refuse_unbounded(request: Request, rung: Rung, *, price: Price | None) -> None:
    """Raise PriceError or InputError for a call whose cost has no bound."""
    if price is None:
        raise PriceError(
            f"rung {rung.name!r} has no price, so a spending cap cannot be kept",
            hint="give the rung a price, or leave the cap out",
        )
    if most_usd(request, rung, price=price) is None:
        raise InputError(
            f"request {request.request_id!r} on rung {rung.name!r} has no bound on its cost",
            hint="set max_output_tokens on the rung; images, sound and early_stop cannot be capped",
        )


def _is_text(request: Request) -> bool:
    parts = [m["content"] for m in request.messages if isinstance(m.get("content"), list)]
    return all(
        isinstance(p, dict) and p.get("type") == "text" for content in parts for p in content
    )
