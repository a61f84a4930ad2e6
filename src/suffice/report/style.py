"""The style of every page: its head, its colours, and its words for money and factors."""

from decimal import Decimal
from html import escape

from suffice.ledger import SavingEstimate, Totals
from suffice.ledger.savings import LEAST_AUDITS
from suffice.types import Spend
from suffice.units import show_share, show_usd

PALETTE = {  # name: (on a light page, on a dark page)
    "paper": ("#f6f7f8", "#111417"),
    "card": ("#ffffff", "#191d21"),
    "wash": ("#eaf3fa", "#16242f"),
    "ink": ("#16191d", "#eceff2"),
    "muted": ("#5c6670", "#9aa5af"),
    "grid": ("#e4e8ec", "#2b3137"),
    "grey": ("#868f98", "#8a949e"),
    "blue": ("#0068b5", "#58b0f0"),
    "sky": ("#4aa8e0", "#9fd6f7"),
    "green": ("#00876a", "#33c79d"),
    "amber": ("#d99000", "#f0b13c"),
    "purple": ("#b0609a", "#dc9ccb"),
    "vermilion": ("#bd4500", "#ff8a4c"),
}
VECTORS = {
    "paradigm": "No decoding",
    "output": "Fewer tokens",
    "architecture": "Cheaper model",
    "silicon": "Cheaper chips",
    "none": "Reference",
}


def escaped(value: str) -> str:
    """Escape text for HTML; a percent sign stays on the line of its number."""
    return escape(value.encode("utf-8", "replace").decode()).replace(" %", "&nbsp;%")


def head_of_page(title: str, *, style: str, policy: str) -> str:
    """Return the head of a page; `policy` is its Content-Security-Policy."""
    light, dark = (
        " ".join(f"--{name}: {hues[theme]};" for name, hues in PALETTE.items()) for theme in (0, 1)
    )
    return f"""<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escaped(title)}</title>
<style>
:root {{ {light} }}
@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}
{style}
</style>"""


def some(number: int, noun: str) -> str:
    """Return a number of things as text, with a singular for one."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def baseline_usd(totals: Totals) -> Decimal:
    """Return the cost of the reference, over the requests with both costs known."""
    return totals.compared.known_usd + totals.saved.known_usd


def saved_share(totals: Totals) -> float | None:
    """Return the saving as a share of the reference's cost; None if unknown."""
    baseline = baseline_usd(totals)
    return float(totals.saved.known_usd / baseline) if baseline else None


def saving_words(totals: Totals) -> str:
    """Return the saving or the extra cost in words, as a share of the reference's cost."""
    share = saved_share(totals)
    if share is None:
        return "saving unknown"
    return f"{show_share(abs(share))} {'less' if share >= 0 else 'more'}"


def known_words(saving: SavingEstimate) -> str:
    """Say how well the dollars saved are known; nothing where all of it is measured."""
    if saving.usd is None or not saving.estimated:
        return ""
    basis = f"The reference's cost of {some(saving.estimated, 'request')} is an estimate"
    if saving.interval is None:
        known = f"there are {saving.audits}" if saving.audits else "there is none"
        return f"{basis}: {LEAST_AUDITS} audits say how far it is off, and {known}."
    low, high = map(signed_usd, saving.interval)
    return (
        f"{basis} that {some(saving.audits, 'audit')} corrected: {signed_usd(saving.usd)} saved, "
        f"with 95 % {low} to {high}."
    )


def signed_usd(amount: Decimal) -> str:
    """Return an amount of dollars as text; it may be negative."""
    return show_usd(amount) if amount >= 0 else f"\u2212{show_usd(-amount)}"


def show_spend(spend: Spend) -> str:
    """Return the known part of a spend as text; "unknown" if no part is known."""
    known = spend.reported_count + spend.estimated_count
    return show_usd(spend.known_usd if known or not spend.unknown_count else None)


def change_words(times: float) -> str:
    """Return a factor on cost as a division, or as a multiplication if the cost rose."""
    return f"\u00f7 {times:.3g}" if times >= 1 else f"\u00d7 {1 / times:.3g}"
