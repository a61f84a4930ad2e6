"""What `suffice plan` prints: the ranking, formats, and what traffic and stock come to."""

from decimal import Decimal
from typing import TYPE_CHECKING

from suffice.units import show_seconds

if TYPE_CHECKING:
    from suffice.silicon.option import Option
    from suffice.silicon.plan import Plan

SHOWN_CHIPS = 12


def print_plan(plan: "Plan", *, explain: bool) -> None:
    """Print the cheapest option, the ranking with its 90 % intervals, and its notes.

    Without `explain`, chips without a price are one line, and sources are left out.
    """
    from suffice.cli.output import note, print_notes, print_table, say
    from suffice.silicon.plan import overlaps
    from suffice.silicon.weights import describe_formats

    priced = [option for option in plan.ranking if option.usd_per_mtok is not None]
    unpriced = [option for option in plan.ranking if option.usd_per_mtok is None]
    visible = plan.ranking if explain else (priced or unpriced)[:SHOWN_CHIPS]
    if priced:
        ties = [option.chip for option in priced[1:] if overlaps(priced[0], option)]
        order = f"; not settled against {', '.join(ties)}" if ties else ""
        say(f"cheapest: {_describe(priced[0])}{order}")
    else:
        say("cheapest: unknown, because no chip has a price")
    mean = (
        "seconds of the usual request, a constant number in flight"
        if plan.percentile is None
        else f"seconds at the {plan.percentile:g}th percentile, requests arriving at random"
    )
    say(
        f"{plan.model}: {plan.workload.input_tokens:g} tokens in, "
        f"{plan.workload.output_tokens:g} out; {mean}"
    )
    say(f"formats: {describe_formats(plan.weights, plan.formats)}")
    if plan.workload.cache_hit:
        say(f"prefix cache: holds {plan.workload.cache_hit:.0%} of prompt tokens")
    if plan.tokens_per_step > 1:
        say(f"guessed tokens: {plan.tokens_per_step:.2f} tokens a step")
    if explain:
        print_table(
            ("part", "parameters", "format", "bytes"),
            (
                (
                    part.part,
                    _billions(part.parameters),
                    part.format,
                    "unknown" if part.bytes is None else f"{part.bytes / 1e9:.2f} GB",
                )
                for part in plan.weights
            ),
        )
        say(
            f"parameters: {_billions(plan.total_parameters)} in all, "
            f"{_billions(plan.active_parameters)} active for each token, "
            f"{_billions(plan.active_parameters_with_embedding)} with the embedding"
        )
    print_table(
        ("chip", "$/Mtok out", "90 %", "TPOT", "TTFT", "layout"),
        (
            (
                option.chip,
                *_show_cost(option),
                show_seconds(option.tpot_s),
                show_seconds(option.ttft_s),
                _show_layout(option),
            )
            for option in visible
        ),
    )
    if len(priced) > len(visible):
        say(f"{len(priced) - len(visible)} dearer chips: --explain")
    if unpriced and not explain:
        names = ", ".join(option.chip for option in unpriced)
        say(f"{len(unpriced)} without a price: {names} (--price CHIP=DOLLARS)")
    _print_demand(plan)
    if plan.left_out:
        say(f"nothing fits or meets the target on: {', '.join(plan.left_out)}")
    print_notes(
        ((option.chip, text) for option in visible for text in option.notes), explain=explain
    )
    if explain:
        for option in priced:
            note(f"price: {option.chip} ${option.chip_usd_per_hour}/h: {option.price_source}")


def _print_demand(plan: "Plan") -> None:
    """Print what a mixture, a day's curve and a stock of chips come to, where they were named."""
    from suffice.cli.output import print_table, say

    if plan.by_workload:
        print_table(
            (f"workload on {plan.ranking[0].chip}", "share of time", "$ a request"),
            (
                (
                    f"{part.workload.input_tokens:g} in, {part.workload.output_tokens:g} out, "
                    f"{part.workload.requests_per_s:g} a second",
                    f"{part.share_of_time:.0%}",
                    "no price" if part.usd_per_request is None else f"{part.usd_per_request:.6f}",
                )
                for part in plan.by_workload
            ),
        )
    if plan.day:
        print_table(
            ("chip, over a day", "replicas", "chip-hours", "$ a day", "all day at the peak"),
            (
                (
                    day.chip,
                    f"{min(day.replicas)} to {max(day.replicas)}",
                    f"{day.chip_hours:,.0f}",
                    _show_usd(day.usd),
                    f"{day.fixed_chip_hours:,.0f} chip-hours, {_show_usd(day.fixed_usd)}",
                )
                for day in plan.day[:SHOWN_CHIPS]
            ),
        )
    for use in plan.stock:
        say(
            f"from stock: {use.chips} {use.chip} (replicas: {use.replicas}) "
            f"serve {use.requests_per_s:.3g} requests a second"
        )


def _describe(option: "Option") -> str:
    cost, interval = _show_cost(option)
    return f"{option.chip} at ${cost} a million output tokens (90 %: {interval})"


def _show_cost(option: "Option") -> tuple[str, str]:
    if option.usd_per_mtok is None:
        return "no price", ""
    return (
        f"{option.usd_per_mtok:.3f}",
        f"{option.usd_per_mtok_low:.3f}-{option.usd_per_mtok_high:.3f}",
    )


def _show_layout(option: "Option") -> str:
    peak = "" if option.chips_needed is None else f", {option.chips_needed} chips for the peak"
    return f"{option.layout}, batch {option.batch}{peak}"


def _billions(count: float | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.2f} billion"


def _show_usd(usd: Decimal | None) -> str:
    return "no price" if usd is None else f"${usd:,.0f}"
