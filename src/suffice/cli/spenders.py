"""A table of who spends, for `suffice report --by` and `suffice launch`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from suffice.ledger import Ledger, Window
    from suffice.ledger.cache_misses import CacheMisses
    from suffice.ledger.spenders import SpenderTotals
    from suffice.types import Spend

_SHOWN = 12  # characters of a hash that stands for a session or an agent


def print_spenders(
    totals: "Sequence[SpenderTotals]", *, by: str, whole: "Spend | None" = None
) -> None:
    """Print a line for each spender, and what they came to together.

    `whole` is the spend of all requests, for tags: a request with several is in the line of each.
    """
    from suffice.cli.output import print_table, say

    hashes = by in ("session", "agent")
    print_table(
        (by, "requests", "agents", "cost", "saved", "read", "written", "other input", "output"),
        (
            (
                ("none" if one.name is None else one.name[:_SHOWN] if hashes else one.name),
                f"{one.requests:,}",
                f"{one.agents:,}",
                _usd(one.spend),
                _usd(one.saved),
                f"{one.cache_read_tokens:,}",
                f"{one.cache_write_tokens:,}",
                f"{one.input_tokens - one.cache_read_tokens - one.cache_write_tokens:,}",
                f"{one.output_tokens:,}",
            )
            for one in totals
        ),
    )
    if not totals:
        return
    spend = sum((one.spend for one in totals[1:]), totals[0].spend) if whole is None else whole
    say(f"in all: {_usd(spend)}; tokens read from and written to caches are part of the input")
    if by == "tag":
        say("a request with several tags is in the line of each: the lines come to more than all")


def missed(ledger: "Ledger", *, by: str, window: "Window") -> "tuple[CacheMisses, ...]":
    """Return the calls that read a prompt anew, by session or agent; none by anything else."""
    from suffice.config.sections import CACHE_LIFE_S
    from suffice.ledger.cache_misses import cache_misses
    from suffice.sessions.boundary import COMPACTED_SHARE

    if by not in ("session", "agent"):
        return ()
    return cache_misses(
        ledger,
        by="session" if by == "session" else "agent",
        cache_life_s=CACHE_LIFE_S,
        compacted_share=COMPACTED_SHARE,
        window=window,
    )


def print_misses(misses: "Sequence[CacheMisses]") -> None:
    """Say in a line for each cause how many calls read a prompt anew."""
    from suffice.cli.output import say
    from suffice.ledger.cache_misses import CAUSES

    for cause, words in CAUSES.items():
        ones = [one for one in misses if one.cause == cause]
        if ones:
            calls, tokens = sum(one.calls for one in ones), sum(one.tokens for one in ones)
            say(f"{calls:,} calls read {tokens:,} tokens anew: {words}")


def _usd(spend: "Spend") -> str:
    """Show dollars; `~` marks an estimate, `+` that some are unknown."""
    if not spend.reported_count and not spend.estimated_count:
        return "unknown" if spend.unknown_count else "$0"
    estimated = "~" if spend.estimated_count else ""
    return f"{estimated}${spend.known_usd:.4f}{'+' if spend.unknown_count else ''}"
