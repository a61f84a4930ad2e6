"""`suffice forecast` and `suffice contract`: the fan of costs, and advice on contracts."""

import datetime as dt
from typing import TYPE_CHECKING, Annotated

import typer

from suffice.cli.options import Chip, Explain, Figure, Json, Paths, Regime, Seed
from suffice.errors import InputError
from suffice.files import check_figure, save_figure

if TYPE_CHECKING:
    from suffice.forecast.advice import Advice
    from suffice.forecast.fan import Forecast

STEP_MONTHS = 6


def forecast(
    chip: Chip = "h100",
    usd: Annotated[
        float, typer.Option(help="Cost of a request today, in dollars; 1 gives factors.")
    ] = 1.0,
    rent: Annotated[
        float | None,
        typer.Option(
            help="Rent per chip and hour, in dollars.", show_default="newest public price"
        ),
    ] = None,
    hosted: Annotated[
        bool, typer.Option("--hosted", help="List price of a hosted model in place of rent.")
    ] = False,
    regime: Regime = None,
    until: Annotated[str, typer.Option(help="Last month, as YYYY-MM.")] = "2028-12",
    as_of: Annotated[
        str,
        typer.Option(
            help="Day to forecast from, with what was known then, as YYYY-MM-DD.",
            show_default="today",
        ),
    ] = "",
    paths: Paths = 20_000,
    seed: Seed = 0,
    figure: Figure = None,
    explain: Explain = False,
    json: Json = False,
) -> None:
    """Forecast cost per request as a fan, from rent, chips, software and models."""
    from suffice.cli.output import note, print_json
    from suffice.forecast.fan import ForecastQuestion
    from suffice.forecast.fan import forecast as draw

    if figure is not None:
        check_figure(figure)
    question = ForecastQuestion(
        start=_day(as_of) if as_of else dt.datetime.now(tz=dt.UTC).date(),
        as_of_start=bool(as_of),
        chip=chip,
        kind="hosted" if hosted else "market",
        usd=usd,
        rent_usd=rent,
        regime=regime,
        until=until,
        paths=paths,
        seed=seed,
    )
    result = draw(question)
    print_json("forecast", result) if json else _print_forecast(result, explain=explain)
    if figure is not None:
        from suffice.forecast.figures import fan_chart

        save_figure(figure, fan_chart(result))
        note(f"wrote {figure}")


def contract(
    chip: Chip = "h100",
    on_demand: Annotated[
        float | None,
        typer.Option(
            help="Price on demand, in dollars per hour.", show_default="newest public price"
        ),
    ] = None,
    reserved: Annotated[
        float | None,
        typer.Option(
            "--contract",
            help="Price by contract, in dollars per hour, used or not.",
            show_default="newest public price",
        ),
    ] = None,
    months: Annotated[int, typer.Option(help="Length of the contract, in months.")] = 12,
    busy: Annotated[float, typer.Option(help="Share of hours in use.")] = 1.0,
    lasts: Annotated[
        float, typer.Option(help="Probability that the need lasts to the end of the contract.")
    ] = 0.8,
    usage_rate: Annotated[
        float, typer.Option(help="Cost of use under contract, as a share of the on-demand price.")
    ] = 0.0,
    spent: Annotated[
        float, typer.Option(help="Dollars spent on demand for one chip in the last term.")
    ] = 0.0,
    regime: Regime = None,
    paths: Paths = 20_000,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Advise on a contract: on demand, reserve, or wait, with the regret of each."""
    from suffice.cli.output import print_json
    from suffice.forecast.advice import Situation, advise

    situation = Situation(
        start=dt.datetime.now(tz=dt.UTC).date(),
        chip=chip,
        on_demand_usd=on_demand,
        contract_usd=reserved,
        months=months,
        busy=busy,
        lasts=lasts,
        usage_rate=usage_rate,
        spent_usd=spent,
        regime=regime,
        paths=paths,
        seed=seed,
    )
    result = advise(situation)
    print_json("contract", result) if json else _print_advice(result)


def _print_forecast(result: "Forecast", *, explain: bool) -> None:
    """Print the last month, then the fan for every half-year, and the factor of each process."""
    from suffice.cli.output import note, print_notes, print_table, say

    last = result.points[-1]
    subject = "a hosted model" if result.chip is None else result.chip
    say(
        f"{last.month}, {subject}: ${result.usd:g} a request becomes ${last.kept[2]:.3g} with chip "
        f"and model kept, ${last.moved[2]:.3g} moved to the cheapest; kept, cost rises with "
        f"probability {result.rising:.0%}"
    )
    points = [*result.points[:-1:STEP_MONTHS], last]
    print_table(
        ("10 %, 50 % and 90 % of paths", "chip and model kept", "moved to the cheapest"),
        ((point.month, _quantiles(point.kept), _quantiles(point.moved)) for point in points),
    )
    print_table(
        (f"factor on cost by {last.month}", "10 %, 50 % and 90 % of paths"),
        ((name, _quantiles(factor)) for name, factor in result.factors.items()),
    )
    print_notes((("", text) for text in result.notes), explain=explain)
    if explain:
        for source in result.basis:
            note(f"from: {source}")
    else:
        note(f"{len(result.basis)} sources: --explain")


def _print_advice(result: "Advice") -> None:
    """Print the best choice, the cost and regret of each, and the rule with a guarantee."""
    from suffice.cli.output import note, print_table, say

    say(
        f"{result.chip}: {result.choice.replace('_', ' ')} "
        f"(${result.on_demand_usd:.2f} on demand, ${result.contract_usd:.2f} by contract, an hour)"
    )
    print_table(
        ("dollars a chip", "mean", "dearer than hindsight: half", "9 in 10", "99 in 100", "best"),
        (
            (
                choice.replace("_", " "),
                f"{cost.mean_usd:,.0f}",
                *(f"{usd:,.0f}" for usd in cost.regret_usd),
                f"{cost.best_share:.0%}",
            )
            for choice, cost in result.outcomes.items()
        ),
    )
    say(
        f"with a guarantee: sign once ${result.trust * result.sign_at_usd:,.0f} to "
        f"${result.sign_at_usd / result.trust:,.0f} went on demand within a term, as the forecast "
        f"says; {'that is now' if result.rule_signs else 'not yet'}. Never above "
        f"{result.guaranteed_ratio:.2f} times hindsight while contracts get no dearer"
    )
    for source in result.basis:
        note(f"price {source}")


def _day(text: str) -> dt.date:
    try:
        day = dt.date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"--as-of {text!r} is not a day", hint="write 2025-11-30") from error
    if day > dt.datetime.now(tz=dt.UTC).date():
        raise InputError(f"--as-of {day} is still to come", hint="leave it out for today")
    return day


def _quantiles(values: tuple[float, ...]) -> str:
    return "  ".join(f"{values[at]:.3g}" for at in (0, 2, 4))
