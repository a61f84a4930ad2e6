"""The bill as one page of text: where the money goes, what would change it, what to do next."""

from collections.abc import Iterator

from suffice.bill.sums import Bill, Line
from suffice.bill.what_if import WhatIf
from suffice.units import show_share, show_usd

SHOWN_MODELS, SHOWN_CHANGES = 5, 9
_BAR = 24
PART_NAMES = {
    "input": "input, uncached",
    "read": "cache reads",
    "write": "cache writes",
    "output": "output",
    "reasoning": "reasoning",
}


def show_bill(bill: Bill) -> Iterator[str]:
    """Yield the lines of the page: at most 40 without notes."""
    yield from _head(bill)
    yield ""
    yield from _parts(bill.whole)
    yield ""
    yield from _lines("by model", bill.lines["model"])
    agents = bill.lines["agent"]
    if len(agents) > 1:
        yield from _lines("by agent", agents, most=2)
    days = bill.lines["day"]
    if len(days) > 1:
        dear = max(days, key=lambda line: line.usd)
        yield f"dearest day {dear.name}: {show_usd(dear.usd)}"
    if bill.mishaps.errors or bill.mishaps.retries:
        yield (
            f"errors {bill.mishaps.errors:,} ({show_usd(bill.mishaps.error_usd)}), "
            f"retries {bill.mishaps.retries:,} ({show_usd(bill.mishaps.retry_usd)})"
        )
    for one in bill.stated[:2]:
        yield (
            f"stated for {one.model} {show_usd(one.stated_usd)}, at list prices "
            f"{show_usd(one.computed_usd)}: {one.reason}"
        )
    yield ""
    yield from show_changes(bill)
    yield ""
    yield next_step(bill)


def _head(bill: Bill) -> Iterator[str]:
    whole, span = bill.whole, bill.period
    days = ""
    if span.first is not None and span.last is not None and span.first.year > 1971:
        days = f", {span.first:%-d %b %Y} to {span.last:%-d %b %Y}"
    yield (
        f"{show_usd(whole.usd)} for {show_requests(whole.requests)} of "
        f"{', '.join(bill.formats)}{days}"
    )
    if whole.unknown_requests:
        yield f"and {whole.unknown_requests:,} requests whose cost is unknown"


def _parts(whole: Line) -> Iterator[str]:
    tokens = {kind: count or 0 for kind, count in whole.tokens.items()}
    counts = {
        "input": tokens["input"] - tokens["cache_read"] - tokens["cache_write"],
        "read": tokens["cache_read"],
        "write": tokens["cache_write"],
        "output": tokens["output"] - tokens["reasoning"],
        "reasoning": tokens["reasoning"],
    }
    for part, name in PART_NAMES.items():
        usd = getattr(whole, f"{part}_usd")
        if usd or counts[part]:
            share = whole.share(part)
            bar = "\u2588" * round(share * _BAR)
            yield (
                f"{name:<16}{show_usd(usd):>12} {show_share(share):>7}  "
                f"{show_tokens(counts[part]):>7}  {bar}"
            )
    if whole.unsplit_usd:
        yield f"{'stated only':<16}{show_usd(whole.unsplit_usd):>12}"


def _lines(title: str, lines: tuple[Line, ...], most: int = SHOWN_MODELS) -> Iterator[str]:
    for line in lines[:most]:
        cost = f"{show_usd(line.usd):>12}  {show_requests(line.requests, width=9)}"
        yield f"{title:<10}{line.name[:38]:<40}{cost}"
        title = ""
    if len(lines) > most:
        yield f"{'':<10}{len(lines) - most} more: --explain"


def show_changes(bill: Bill, most: int = SHOWN_CHANGES) -> Iterator[str]:
    """Yield one line a change, with what is saved or what it costs more."""
    yield "what if (same answers assumed; quality is for an experiment to say)"
    for change in bill.what_if[:most]:
        yield f"  {show_effect(change):>22}  {change.title}"


def show_effect(change: WhatIf) -> str:
    """Write what a change saves, or costs more, with its share of what it touches."""
    if change.usd_before is not None and change.usd_after is not None:
        share = float(change.usd_after / change.usd_before) - 1 if change.usd_before else 0.0
        amount = show_usd(abs(change.usd_before - change.usd_after))
        sign = "\u2212" if change.usd_after <= change.usd_before else "+"
        return f"{sign}{amount} ({100 * share:+.0f} %)".replace("(-", "(\u2212")
    if change.high is not None:
        return f"up to \u2212{show_usd(change.high)}"
    return "unknown"


def next_step(bill: Bill) -> str:
    """Name the experiment behind the largest saving, and the command that begins it."""
    proven = [
        change
        for change in bill.what_if
        if change.proof is not None and (change.saving_usd or 0) > 0
    ]
    log = bill.sources[0] if len(bill.sources) == 1 else "LOG"
    command = f"suffice bill {log} --sample 200 --out tasks.jsonl"
    if not proven:
        return f"next: {command}"
    best = max(proven, key=lambda change: change.saving_usd or 0)
    proof = best.proof
    assert proof is not None
    cost = "" if proof.usd is None else f", about {show_usd(proof.usd)}"
    return (
        f"to prove \u201c{best.title}\u201d: {proof.labels} {proof.unit}s answered both ways and "
        f"none worse ({proof.labels_if_2_percent} if 2 % are){cost}\nnext: {command}"
    )


def show_details(bill: Bill) -> Iterator[str]:
    """Yield everything else: each change with its three kinds of knowledge, and every line."""
    for change in bill.what_if:
        yield f"{change.title}: {show_effect(change)}"
        if change.low is not None and change.high is not None:
            yield f"  between {show_usd(change.low)} and {show_usd(change.high)}"
        yield f"  measured: {change.measured}"
        yield f"  modelled: {change.modelled}"
        yield f"  unknown: {change.unknown}"
        if change.proof is not None:
            cost = "unknown" if change.proof.usd is None else show_usd(change.proof.usd)
            yield (
                f"  proof: {change.proof.labels} {change.proof.unit}s, {cost}: "
                f"{change.proof.command}"
            )
    for name, lines in bill.lines.items():
        for line in lines:
            yield f"{name:<8}{line.name:<48}{show_usd(line.usd):>12}  {line.requests:,}"
    for one in bill.skipped:
        rows = "whole file" if one.rows is None else f"{one.rows:,} rows"
        yield f"skipped {rows} of {one.path}: {one.reason}"


def show_requests(count: int, *, width: int = 0) -> str:
    """Write a number of requests; a report or the sum of a run need not count its own."""
    return f"{count:>{width},} requests" if count else f"{'uncounted':>{width}} requests"


def show_tokens(count: int | None) -> str:
    """Write a number of tokens with the unit that keeps it short; `unknown` for None."""
    if count is None:
        return "unknown"
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
