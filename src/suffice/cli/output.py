"""What commands print: tables and sentences for people, one JSON object for programs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table

from suffice.units import show_share, show_usd

if TYPE_CHECKING:
    from suffice.batch import BatchResult
    from suffice.bench.run import BenchResult
    from suffice.certify.policy import CertifyResult
    from suffice.compound import Compound
    from suffice.selective.timeline import TimedStep
    from suffice.stream import StreamResult
    from suffice.trials.frontier import Frontier
    from suffice.trials.resample import Estimate
    from suffice.types import Say, Spend

PIPE_WIDTH = 120
NAMES = {
    "always_reference": "always the reference",
    "always_cheapest": "always the cheapest",
    "cost_matched_random": "random, matched",
    "oracle": "oracle (hindsight)",
}


def print_json(value: Any) -> None:
    """Print one JSON object; Decimals become strings, so that no digit is lost."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    sys.stdout.buffer.flush()


def note(text: str) -> None:
    """Say something on standard error, where it cannot spoil a program's input."""
    print(text, file=sys.stderr)


@contextmanager
def stages() -> Iterator["Say"]:
    """Show which stage a long computation is in, while it runs, if somebody is watching."""
    with Console(stderr=True).status("starting") as status:
        yield status.update


def print_result(result: "CertifyResult") -> None:
    """Print what certifying said: the promise, what it costs and saves, and what it is held to."""
    print(_promise(result))
    table = Table("", "risk", "saving", "quality", box=None, pad_edge=False)
    table.add_row("[b]suffice[/b]", *_figures(result))
    for name, baseline in result.baselines.items():
        table.add_row(NAMES[name], *_figures(baseline))
    _console().print(table)
    answered = ", ".join(f"{rung} {show_share(share)}" for rung, share in result.share.items())
    rows = ", ".join(f"{rows:,} {name}" for name, rows in result.rows.items())
    print(f"answered by: {answered}\nrows: {rows}" + _left_out(result))
    if result.saving is not None and result.saving_unit is not None:
        print(f"saving is counted in {result.saving_unit.replace('_', ' ')}")


def print_frontier(frontier: "Frontier") -> None:
    """Print the rungs with what a right answer costs on each, and what a reader must know."""
    from suffice.trials.frontier import frontier_table

    _console().print(frontier_table(frontier))
    for line in frontier.notes:
        note(f"note: {line}")


def print_compound(found: "Compound") -> None:
    """Print what levers are worth together and apart, and what a reader must know."""
    rows = {
        "all levers together": found.reduction,
        "the levers alone, multiplied": found.product_of_factors,
        "interaction": found.interaction,
        "against the competent baseline": found.reduction_competent,
    }
    table = Table("times cheaper", "", "95 % interval", box=None, pad_edge=False)
    for name, estimate in rows.items():
        table.add_row(name, *_times(estimate))
    for factor in found.factors:
        table.add_row(f"  {factor.vector}: {factor.lever} alone", *_times(factor.alone))
    _console().print(table)
    promise = f"{'' if found.certified else 'NOT '}certified at alpha {found.alpha:g}"
    quality = f"{show_share(found.quality)}, {show_share(found.reference_quality)} before"
    print(f"{promise}; right answers {quality}; {found.requests:,} requests")
    for line in found.notes:
        note(f"note: {line}")


def print_bench(result: "BenchResult") -> None:
    """Print how a bench ended: what was answered now, what was kept, and what it cost."""
    from suffice.trials.frontier import frontier

    print(f"{result.answered:,} answers now, {result.kept:,} kept from before")
    print(f"spent on this file: {_spend(result.spend)}")
    if any(trial.quality is not None for trial in result.trials):
        print_frontier(frontier(result.trials))


def print_answers(result: "BatchResult") -> None:
    """Print how a batch of requests went: who answered, what it cost, and what fell back."""
    shares = ", ".join(f"{rung} {show_share(share)}" for rung, share in result.share.items())
    print(f"{result.answered:,} answered ({shares or 'none'}), {result.failed:,} failed")
    if result.kept:
        print(f"{result.kept:,} were in the ledger already and were not asked again")
    if result.kept_unanswered:
        note(
            f"note: {result.kept_unanswered:,} of those had failed or been cancelled; "
            "to ask again, give them new ids"
        )
    print(f"spent: {_spend(result.spend)}")
    if result.audited:
        print(f"audited: {result.audited:,} requests, {_spend(result.audit_spend)} on top")
    for reason, requests in result.fallbacks.items():
        note(f"note: the reference answered {requests:,} requests because {reason}")


def print_step(shown: "TimedStep") -> None:
    """Print one event of a stream: when, why it was decoded (or that it was held), the answer."""
    step = shown.step
    why = "held" if step.reason is None else step.reason.value
    print(f"{shown.at_s:10.1f}  {why:8}{step.answer}", flush=True)


def print_stream(result: "StreamResult") -> None:
    """Print what a stream took beside the bounds that hold for every stream."""
    print(
        f"{result.decodes:,} of {result.events:,} events decoded "
        f"({show_share(result.saving)} saved); bound: {result.most_decodes:,.0f}\n"
        f"the oldest held answer was {result.longest_stale_events:,} events old; "
        f"bound: {result.most_stale_events:,}"
    )


def _console() -> Console:
    """Write to standard output; in a pipe, wide enough that no table is folded."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


def _promise(result: "CertifyResult") -> str:
    if not result.certified:
        return (
            f"NOT certified at alpha {result.alpha:g}: of {result.n:,} certifying requests "
            f"{result.losses:g} lost, which certifies no risk below {show_share(result.bound)}."
        )
    return (
        f"certified: with {show_share(1 - result.delta)} confidence the risk is at most "
        f"{show_share(result.alpha)} ({result.losses:g} of {result.n:,} lost; bound "
        f"{show_share(result.bound)})"
    )


def _figures(found: Any) -> tuple[str, str, str]:
    return show_share(found.risk), show_share(found.saving), show_share(found.quality)


def _times(estimate: "Estimate | None") -> tuple[str, str]:
    """Write a factor of cost and its interval; ratios of costs have no unbounded end."""
    if estimate is None:
        return "not certified", ""
    low, high = estimate.interval or (estimate.value, estimate.value)
    return f"{estimate.value:.3g}", f"{low:.3g} to {high:.3g}"


def _left_out(result: "CertifyResult") -> str:
    return f"; {result.unscored:,} unscored left out" if result.unscored else ""


def _spend(spend: "Spend") -> str:
    parts = []
    if spend.reported_count or not (spend.estimated_count or spend.unknown_count):
        parts.append(show_usd(spend.reported_usd))
    if spend.estimated_count:
        parts.append(f"about {show_usd(spend.estimated_usd)}, estimated")
    if spend.unknown_count:
        parts.append(f"{spend.unknown_count:,} calls of unknown charge")
    return "; ".join(parts)
