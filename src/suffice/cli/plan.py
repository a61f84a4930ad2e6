"""`suffice plan`: rank chips, calibrate on measured points, probe this machine, consolidate."""

import datetime as dt
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from suffice.errors import InputError
from suffice.units import seconds, show_seconds

if TYPE_CHECKING:
    from suffice.silicon.catalog import Chip
    from suffice.silicon.plan import Option, Plan
    from suffice.silicon.question import PlanRequest, Slo, Workload

app = typer.Typer(
    help="Rank chips and layouts by dollars per million tokens, under a latency target.",
    add_completion=False,
    rich_markup_mode=None,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


@app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="A known model, or the path of its config.json.")] = "",
    workload: Annotated[
        str, typer.Option(help="in=TOKENS,out=TOKENS[,rps=PEAK][,variation=SHARE].")
    ] = "in=1000,out=500",
    slo: Annotated[
        str, typer.Option(help="ttft=DURATION,tpot=DURATION; either may be left out.")
    ] = "",
    percentile: Annotated[
        float | None,
        typer.Option(help="Requests arrive at random; --slo holds for this percentile."),
    ] = None,
    chips: Annotated[str, typer.Option(help="Chips to consider, by commas; all when empty.")] = "",
    engine: Annotated[
        str, typer.Option(help="vllm, sglang, trtllm; any other is unknown.")
    ] = "vllm",
    weights: Annotated[
        str, typer.Option("--format", help="Weight format; the model's own if empty.")
    ] = "",
    price: Annotated[
        list[str] | None, typer.Option(help="CHIP=DOLLARS per hour; repeatable.")
    ] = None,
    price_kind: Annotated[str, typer.Option(help="owning, contract or on_demand.")] = "contract",
    safe: Annotated[
        bool, typer.Option("--safe", help="Meet the target at the interval's end.")
    ] = False,
    chip_file: Annotated[
        Path | None, typer.Option(help="TOML with chip entries of your own.")
    ] = None,
    measured: Annotated[Path | None, typer.Option(help="CSV of your own measurements.")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Write the frontier as an HTML figure.")
    ] = None,
    as_price: Annotated[
        str, typer.Option(help="Print the winner as [price.NAME] for suffice.toml.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Rank chips for a model: `suffice plan --model mistral-small-4 --slo ttft=1s,tpot=50ms`."""
    if context.invoked_subcommand is not None:
        return
    from suffice.silicon.calibrate import calibrate as read_points
    from suffice.silicon.catalog import catalogue, load_chips
    from suffice.silicon.models import find_shape
    from suffice.silicon.plan import make_plan, price_block
    from suffice.silicon.question import PlanRequest

    if not model:
        raise InputError("no model named", hint="suffice plan --model mistral-small-4")
    known = load_chips(chip_file) if chip_file else catalogue()
    request = PlanRequest(
        known_chips=known,
        model=find_shape(model),
        workload=parse_workload(workload),
        slo=parse_slo(slo),
        chips=tuple(name.strip() for name in chips.split(",") if name.strip()),
        engine=engine,
        weight_format=weights or None,
        prices=parse_prices(price or [], known=known),
        price_kind=_kind(price_kind),
        safe=safe,
        percentile=percentile,
    )
    made = make_plan(request, calibration=read_points([measured]) if measured else None)
    if figure is not None:
        from suffice.silicon.figures import frontier_figure

        figure.write_text(frontier_figure(made), "utf-8")
        print(f"wrote {figure}", file=sys.stderr)
    if as_price:
        today = dt.datetime.now(tz=dt.UTC).date().isoformat()
        print(price_block(_priced(made, request), name=as_price, plan=made, date=today))
    else:
        print(_json(made) if as_json else plan_table(made))


@app.command()
def calibrate(
    measurements: Annotated[
        list[Path], typer.Argument(help="CSV files; docs/silicon.md lists the columns.")
    ],
    as_json: JsonFlag = False,
) -> None:
    """Compare measured points with the prediction, and show what calibration makes of them."""
    from suffice.silicon.calibrate import calibrate as read_points
    from suffice.silicon.calibrate import summary

    groups = summary(read_points(measurements))
    if as_json:
        print(_json(groups))
        return
    for group in groups:
        print(
            f"{group.model} on {group.chip} ({group.points} points): measured / predicted "
            f"TPOT {_ratio(group.tpot_ratio)}, TTFT {_ratio(group.ttft_ratio)}; "
            f"left out one by one, TPOT error {_share(group.tpot_error_before)} -> "
            f"{_share(group.tpot_error_after)}"
        )


@app.command()
def probe(
    out: Annotated[
        Path | None, typer.Option(help="Write the chip entry to this TOML file.")
    ] = None,
    name: Annotated[str, typer.Option(help="Key of the chip entry.")] = "this-machine",
    as_json: JsonFlag = False,
) -> None:
    """Measure this machine's memory bandwidth and matrix rate, and write a chip entry."""
    from suffice.silicon.catalog import chip_entry
    from suffice.silicon.probe import run_probe

    result = run_probe()
    if out is not None:
        out.write_text(chip_entry(result, key=name), "utf-8")
        print(f"wrote {out}", file=sys.stderr)
    print(
        _json(result) if as_json else chip_entry(result, key=name), end="" if not as_json else "\n"
    )


@app.command()
def consolidate(
    fleet: Annotated[Path, typer.Argument(help="TOML with [[deployment]] and [together] tables.")],
    as_json: JsonFlag = False,
) -> None:
    """Count chips and dollars of several deployments against one that takes all their requests."""
    from suffice.silicon.fleet_file import compare

    result = compare(fleet)
    if as_json:
        print(_json(result))
        return
    before, after = result.apart, result.together
    print(
        f"separate: {before.deployments} deployments, "
        f"{before.replicas} replicas, {before.chips} chips"
    )
    print(
        f"together: {after.deployments} deployment, {after.replicas} replicas, {after.chips} chips"
    )
    usd = result.usd_saved
    print(
        f"saved: {result.deployments_saved:.0%} of deployments, {result.chips_saved:.0%} of chips, "
        f"{'unknown' if usd is None else f'{usd:.0%}'} of dollars"
    )


@app.command()
def law(
    model: Annotated[str, typer.Option(help="A known model, or the path of its config.json.")],
    figure: Annotated[Path | None, typer.Option(help="Write the law as an HTML figure.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show how many experts a batch of tokens reads: neither all of them nor only the active."""
    from suffice.silicon.models import find_shape
    from suffice.silicon.roofline import law_of_experts

    experts = find_shape(model).experts
    if experts is None:
        raise InputError(f"{model} has no experts", hint="name a mixture-of-experts model")
    counts = law_of_experts(experts.count, experts.active)
    if figure is not None:
        from suffice.silicon.figures import law_figure

        figure.write_text(law_figure(experts=experts.count, active=experts.active), "utf-8")
        print(f"wrote {figure}", file=sys.stderr)
    if as_json:
        print(_json(counts))
        return
    print(f"{model}: {experts.count} experts, {experts.active} active; experts read in one layer")
    print(f"{'tokens':>8} {'uniform':>8} {'skewed':>8}")
    for row in counts:
        print(f"{row.tokens:8} {row.uniform:8.1f} {row.skewed:8.1f}")


def parse_workload(text: str) -> "Workload":
    """Read `in=1000,out=500,rps=20,variation=0.5`; raises InputError."""
    from suffice.silicon.question import Workload

    hint = "in=1000,out=500,rps=20,variation=0.5"
    given = _pairs(text, allowed=("in", "out", "rps", "variation"), flag="--workload")
    try:
        numbers = {key: float(value) for key, value in given.items()}
    except ValueError as error:
        raise InputError(f"--workload {text!r}: {error}", hint=hint) from error
    variation = numbers.pop("variation", 0.0)
    if not {"in", "out"} <= numbers.keys() or not all(0 < n < 1e9 for n in numbers.values()):
        raise InputError(f"--workload {text!r} needs positive in and out", hint=hint)
    if not 0 <= variation <= 3:
        raise InputError(f"--workload: variation {variation:g} lies outside 0 to 3", hint=hint)
    return Workload(
        input_tokens=numbers["in"],
        output_tokens=numbers["out"],
        requests_per_s=numbers.get("rps"),
        variation=variation,
    )


def parse_slo(text: str) -> "Slo":
    """Read `ttft=1s,tpot=50ms`; raises InputError."""
    from suffice.silicon.question import Slo

    given = _pairs(text, allowed=("ttft", "tpot"), flag="--slo")
    try:
        limits = {f"{key}_s": seconds(value) for key, value in given.items()}
    except ValueError as error:
        raise InputError(f"--slo: {error}", hint="ttft=1s,tpot=50ms") from error
    if not all(limit > 0 for limit in limits.values()):
        raise InputError("--slo: a limit must be above zero", hint="ttft=1s,tpot=50ms")
    return Slo(**limits)


def parse_prices(given: list[str], *, known: "dict[str, Chip]") -> dict[str, Decimal]:
    """Read CHIP=DOLLARS pairs; raises InputError or PriceError."""
    from suffice.silicon.catalog import find_chip
    from suffice.silicon.prices import stated_offer

    prices = {}
    for text in given:
        name, _, dollars = text.partition("=")
        chip = find_chip(name.strip(), known)
        prices[chip.key] = stated_offer(chip.key, dollars.strip()).usd_per_hour
    return prices


def plan_table(made: "Plan") -> str:
    """Lay the ranking out as text: cost and speed with their 90 % intervals, then every note."""
    lines = [
        f"{made.model}: {made.workload.input_tokens:g} tokens in, "
        f"{made.workload.output_tokens:g} out; {_seconds_mean(made)}"
    ]
    lines.append(f"{'chip':11}{'$/Mtok out':>11} {'90 %':>15}  {'TPOT':>9} {'TTFT':>9}  layout")
    lines += [_row(option) for option in made.ranking]
    ties = _ties(made)
    if ties:
        lines.append(f"not settled (intervals overlap the first): {', '.join(ties)}")
    if made.left_out:
        lines.append(f"nothing fits or meets the target on: {', '.join(made.left_out)}")
    lines += [f"note: {option.chip}: {note}" for option in made.ranking for note in option.notes]
    sources = {
        f"{o.chip} ${o.chip_usd_per_hour}/h: {o.price_source}"
        for o in made.ranking
        if o.price_source
    }
    return "\n".join([*lines, *(f"price: {source}" for source in sorted(sources))])


def _row(option: "Option") -> str:
    if option.usd_per_mtok is None:
        cost, between = "no price", ""
    else:
        cost, between = (
            f"{option.usd_per_mtok:.3f}",
            f"{option.usd_per_mtok_low:.3f}-{option.usd_per_mtok_high:.3f}",
        )
    needed = "" if option.chips_needed is None else f", {option.chips_needed} chips for the peak"
    return (
        f"{option.chip:11}{cost:>11} {between:>15}  {show_seconds(option.tpot_s):>9} "
        f"{show_seconds(option.ttft_s):>9}  {option.layout}, batch {option.batch}{needed}"
    )


def _seconds_mean(made: "Plan") -> str:
    if made.percentile is None:
        return "seconds of the usual request, a constant number in flight"
    return f"seconds at the {made.percentile:g}th percentile, requests arriving at random"


def _ties(made: "Plan") -> list[str]:
    from suffice.silicon.plan import overlaps

    priced = [option for option in made.ranking if option.usd_per_mtok is not None]
    return [option.chip for option in priced[1:] if overlaps(priced[0], option)]


def _priced(made: "Plan", request: "PlanRequest") -> "Option":
    best = made.ranking[0]
    if best.chip_usd_per_hour is None:
        from suffice.errors import PriceError

        raise PriceError(
            f"no {request.price_kind} price for {best.chip}",
            hint=f"name one: --price {best.chip}=DOLLARS",
        )
    return best


def _pairs(text: str, *, allowed: tuple[str, ...], flag: str) -> dict[str, str]:
    found = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or key not in allowed:
            raise InputError(
                f"{flag}: {part!r}", hint=f"write {', '.join(f'{name}=VALUE' for name in allowed)}"
            )
        found[key] = value
    return found


def _kind(text: str) -> Any:
    from suffice.config import nearest
    from suffice.silicon.prices import KINDS

    if text not in KINDS:
        raise InputError(f"--price-kind {text!r}", hint=nearest(text, KINDS))
    return text


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


def _ratio(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%}"
