"""`suffice plan`: rank chips, calibrate on measured points, probe this machine, consolidate."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.options import Explain, Figure, Json, Shape, out
from suffice.cli.plan_options import (
    parse_adapters,
    parse_day,
    parse_kind,
    parse_prices,
    parse_slo,
    parse_speculation,
    parse_stock,
    parse_workload,
)
from suffice.errors import InputError, PriceError
from suffice.files import check_figure, check_file, save_figure, write_file

app = typer.Typer(
    help="Rank chips and layouts by dollars per million tokens, under a latency target."
)


@app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    model: Shape = "",
    workload: Annotated[
        list[str] | None,
        typer.Option(
            help="in=TOKENS,out=TOKENS[,rps=PEAK][,variation=SHARE][,hit=SHARE]; repeatable.",
            show_default="in=1000,out=500",
        ),
    ] = None,
    cache_hit: Annotated[
        float, typer.Option(help="Share of prompt tokens that a prefix cache holds.")
    ] = 0.0,
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
    speculate: Annotated[
        str,
        typer.Option(help="Guessed tokens a step: tokens=N,accept=RATE[,draft=COST or MODEL]."),
    ] = "",
    context_parallel: Annotated[
        bool,
        typer.Option(
            "--context-parallel", help="Layouts that split the tokens of a request's cache too."
        ),
    ] = False,
    lora: Annotated[str, typer.Option(help="LoRA adapters in memory: count=N,rank=N.")] = "",
    day: Annotated[
        str, typer.Option(help="Requests a second in equal intervals of a day, by commas.")
    ] = "",
    stock: Annotated[
        str, typer.Option(help="Chips in stock to fill the demand from: CHIP=COUNT, by commas.")
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
    from suffice.silicon.catalog import catalogue, load_chips
    from suffice.silicon.demand import mixture
    from suffice.silicon.models import find_shape, load_shapes
    from suffice.silicon.plan import make_plan, price_block
    from suffice.silicon.question import PlanRequest

    if not model:
        raise InputError("no model named", hint="suffice plan --model mistral-small-4")
    if figure is not None:
        check_figure(figure)
    known = load_chips(chip_file) if chip_file else catalogue()
    works = [parse_workload(text, cache_hit=cache_hit) for text in workload or ["in=1000,out=500"]]
    in_stock = parse_stock(stock, known=known)
    named = tuple(name.strip() for name in chips.split(",") if name.strip())
    request = PlanRequest(
        known_chips=known,
        model=find_shape(
            model, load_shapes(model_file) if model_file else None, formats=not weights
        ),
        workload=mixture(works, percentile=percentile),
        mixture=tuple(works) if len(works) > 1 else (),
        speculation=parse_speculation(speculate) if speculate else None,
        adapters=parse_adapters(lora) if lora else None,
        context_parallel=context_parallel,
        day=parse_day(day),
        stock=in_stock,
        slo=parse_slo(slo),
        chips=named or tuple(in_stock),
        engine=engine,
        weight_format=weights or None,
        expert_format=experts or None,
        cache_format=cache_format or None,
        prices=parse_prices(price or [], known=known),
        price_kind=parse_kind(price_kind),
        safe=safe,
        percentile=percentile,
    )
    calibration = None
    if measured is not None:
        from suffice.silicon.calibrate import calibrate as read_points

        calibration = read_points([measured], note=note)
    result = make_plan(request, calibration=calibration, with_frontier=json or figure is not None)
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
        from suffice.cli.plan_output import print_plan

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
    from suffice.cli.output import note, print_json, print_table
    from suffice.silicon.calibrate import calibrate as read_points
    from suffice.silicon.calibrate import summary

    groups = summary(read_points(measurements, note=note))
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
    from suffice.silicon.routing import law_of_experts

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


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.0%}"
