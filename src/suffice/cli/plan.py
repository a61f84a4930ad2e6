"""`suffice plan`: rank chips, calibrate on measured points, probe this machine, consolidate."""

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suffice.cli.options import Explain, Figure, Json, Shape, out
from suffice.errors import InputError, PriceError
from suffice.files import check_figure, check_file, save_figure, write_file
from suffice.units import show_seconds

if TYPE_CHECKING:
    from suffice.silicon.plan import Option, Plan
from suffice.cli.plan_options import parse_kind, parse_prices, parse_slo, parse_workload

SHOWN_CHIPS = 12

app = typer.Typer(
    help="Rank chips and layouts by dollars per million tokens, under a latency target."
)


@app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    model: Shape = "",
    workload: Annotated[
        str, typer.Option(help="in=TOKENS,out=TOKENS[,rps=PEAK][,variation=SHARE].")
    ] = "in=1000,out=500",
    slo: Annotated[
        str, typer.Option(help="Latency target: ttft=DURATION,tpot=DURATION, or one of them.")
    ] = "",
    percentile: Annotated[
        float | None,
        typer.Option(help="Percentile of requests arriving at random that --slo holds for."),
    ] = None,
    chips: Annotated[
        str, typer.Option(help="Chips to consider, by commas.", show_default="all")
    ] = "",
    engine: Annotated[
        str, typer.Option(help="vllm, sglang or trtllm; any other is unknown.")
    ] = "vllm",
    model_file: Annotated[
        Path | None, typer.Option(help="TOML with model entries of your own.")
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            "--format",
            help="Number format of all linear layers.",
            show_default="the checkpoint's own",
        ),
    ] = "",
    experts: Annotated[
        str,
        typer.Option(
            help="Number format of the routed experts alone.", show_default="the checkpoint's own"
        ),
    ] = "",
    cache_format: Annotated[
        str,
        typer.Option(
            help="Number format of the KV cache.", show_default="the checkpoint's own, else bf16"
        ),
    ] = "",
    price: Annotated[
        list[str] | None, typer.Option(help="CHIP=DOLLARS per hour; repeatable.")
    ] = None,
    price_kind: Annotated[str, typer.Option(help="owning, contract or on_demand.")] = "contract",
    safe: Annotated[
        bool, typer.Option("--safe", help="Latency target at the interval's end, not its middle.")
    ] = False,
    chip_file: Annotated[
        Path | None, typer.Option(help="TOML with chip entries of your own.")
    ] = None,
    measured: Annotated[Path | None, typer.Option(help="CSV of your own measurements.")] = None,
    figure: Figure = None,
    as_price: Annotated[
        str, typer.Option(help="Name for the winner as a price section of suffice.toml.")
    ] = "",
    explain: Explain = False,
    json: Json = False,
) -> None:
    """Rank chips for a model: `suffice plan --model mistral-small-4 --slo ttft=1s,tpot=50ms`."""
    if context.invoked_subcommand is not None:
        return
    from suffice.cli.output import note, print_json, say
    from suffice.silicon.calibrate import calibrate as read_points
    from suffice.silicon.catalog import catalogue, load_chips
    from suffice.silicon.models import find_shape, load_shapes
    from suffice.silicon.plan import make_plan, price_block
    from suffice.silicon.question import PlanRequest

    if not model:
        raise InputError("no model named", hint="suffice plan --model mistral-small-4")
    if figure is not None:
        check_figure(figure)
    known = load_chips(chip_file) if chip_file else catalogue()
    request = PlanRequest(
        known_chips=known,
        model=find_shape(model, load_shapes(model_file) if model_file else None),
        workload=parse_workload(workload),
        slo=parse_slo(slo),
        chips=tuple(name.strip() for name in chips.split(",") if name.strip()),
        engine=engine,
        weight_format=weights or None,
        expert_format=experts or None,
        cache_format=cache_format or None,
        prices=parse_prices(price or [], known=known),
        price_kind=parse_kind(price_kind),
        safe=safe,
        percentile=percentile,
    )
    result = make_plan(request, calibration=read_points([measured]) if measured else None)
    if as_price:
        best = result.ranking[0]
        if best.chip_usd_per_hour is None:
            raise PriceError(
                f"no {price_kind} price for {best.chip}",
                hint=f"name one: --price {best.chip}=DOLLARS",
            )
        today = dt.datetime.now(tz=dt.UTC).date().isoformat()
        say(price_block(best, name=as_price, plan=result, date=today))
    elif json:
        print_json("plan", result)
    else:
        print_plan(result, explain=explain)
    if figure is not None:
        from suffice.silicon.figures import frontier_chart

        save_figure(figure, frontier_chart(result))
        note(f"wrote {figure}")


@app.command()
def calibrate(
    measurements: Annotated[
        list[Path], typer.Argument(help="CSV files; docs/silicon.md lists the columns.")
    ],
    json: Json = False,
) -> None:
    """Compare measured points with the prediction, before and after calibration."""
    from suffice.cli.output import print_json, print_table
    from suffice.silicon.calibrate import calibrate as read_points
    from suffice.silicon.calibrate import summary

    groups = summary(read_points(measurements))
    if json:
        print_json("plan calibrate", {"groups": groups})
        return
    print_table(
        (
            *("model", "chip", "points", "TPOT measured / predicted", "TTFT measured / predicted"),
            "TPOT error, left out one by one",
        ),
        (
            (
                group.model,
                group.chip,
                str(group.points),
                *(
                    "not measured" if ratio is None else f"{ratio:.2f}"
                    for ratio in (group.tpot_ratio, group.ttft_ratio)
                ),
                f"{_percent(group.tpot_error_before)} -> {_percent(group.tpot_error_after)}",
            )
            for group in groups
        ),
    )


@app.command()
def probe(
    out: Annotated[Path | None, out("TOML file for the chip entry.")] = None,
    name: Annotated[str, typer.Option(help="Key of the chip entry.")] = "this-machine",
    json: Json = False,
) -> None:
    """Measure this machine's memory bandwidth and matrix rate, and write a chip entry."""
    from suffice.cli.output import note, print_json, say
    from suffice.silicon.catalog import chip_entry
    from suffice.silicon.probe import run_probe

    if out is not None:
        check_file(out)
    result = run_probe()
    entry = chip_entry(result, key=name)
    print_json("plan probe", result) if json else say(entry.rstrip("\n"))
    if out is not None:
        write_file(out, entry)
        note(f"wrote {out}")


@app.command()
def consolidate(
    fleet: Annotated[Path, typer.Argument(help="TOML with `deployment` and `together` tables.")],
    json: Json = False,
) -> None:
    """Compare chips and dollars of several deployments with one that takes all their requests."""
    from suffice.cli.output import print_json, say
    from suffice.silicon.fleet_file import compare

    result = compare(fleet)
    if json:
        print_json("plan consolidate", result)
        return
    before, after = result.apart, result.together
    say(
        f"saved: {result.deployments_saved:.0%} of deployments, {result.chips_saved:.0%} of chips, "
        f"{_percent(result.usd_saved)} of dollars\n"
        f"separate: {before.deployments} deployments, "
        f"{before.replicas} replicas, {before.chips} chips\n"
        f"together: {after.deployments} deployment, {after.replicas} replicas, {after.chips} chips"
    )


@app.command()
def law(model: Shape, figure: Figure = None, json: Json = False) -> None:
    """Show how many experts a batch of tokens reads: neither all of them nor only the active."""
    from suffice.cli.output import note, print_json, print_table, say
    from suffice.silicon.models import find_shape
    from suffice.silicon.roofline import law_of_experts

    experts = find_shape(model).experts
    if experts is None:
        raise InputError(f"{model} has no experts", hint="name a mixture-of-experts model")
    counts = law_of_experts(experts.count, experts.active)
    if json:
        print_json("plan law", {"law": counts})
    else:
        say(f"{model}: {experts.count} experts, {experts.active} active; experts read in one layer")
        print_table(
            ("tokens", "uniform", "skewed"),
            ((str(row.tokens), f"{row.uniform:.1f}", f"{row.skewed:.1f}") for row in counts),
        )
    if figure is not None:
        from suffice.silicon.figures import law_chart

        save_figure(figure, law_chart(experts=experts.count, active=experts.active))
        note(f"wrote {figure}")


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
    if plan.left_out:
        say(f"nothing fits or meets the target on: {', '.join(plan.left_out)}")
    print_notes(
        ((option.chip, text) for option in visible for text in option.notes), explain=explain
    )
    if explain:
        for option in priced:
            note(f"price: {option.chip} ${option.chip_usd_per_hour}/h: {option.price_source}")


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


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.0%}"
