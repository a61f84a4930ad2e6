"""`suffice forecast` and `suffice contract`: the fan of costs, and the contract to sign."""

import datetime as dt
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suffice.errors import writing

if TYPE_CHECKING:
    from suffice.forecast.advice import Advice
    from suffice.forecast.fan import Forecast

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Regime = Annotated[
    str | None, typer.Option(help="What prices do now: still, falling or rising; unknown if empty.")
]
Paths = Annotated[int, typer.Option(help="How many paths to draw.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the draws.")]
SHOWN_MONTHS = 6


def forecast(
    chip: Annotated[str, typer.Option(help="The chip you rent.")] = "h100",
    usd: Annotated[float, typer.Option(help="A request's cost today; 1 gives factors.")] = 1.0,
    rent: Annotated[
        float | None, typer.Option(help="Your rent per chip and hour; else the newest public one.")
    ] = None,
    hosted: Annotated[
        bool, typer.Option("--hosted", help="You pay a hosted model's list price, and no rent.")
    ] = False,
    regime: Regime = None,
    until: Annotated[str, typer.Option(help="Last month, as YYYY-MM.")] = "2028-12",
    paths: Paths = 20_000,
    seed: Seed = 0,
    figure: Annotated[Path | None, typer.Option(help="Write the fan as an HTML figure.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Forecast cost per request to 2028 as a fan: rent, chips, software and models apart."""
    from suffice.forecast.fan import ForecastQuestion
    from suffice.forecast.fan import forecast as draw

    question = ForecastQuestion(
        start=_today(),
        chip=chip,
        kind="hosted" if hosted else "market",
        usd=usd,
        rent_usd=rent,
        regime=regime,
        until=until,
        paths=paths,
        seed=seed,
    )
    found = draw(question)
    if figure is not None:
        _write_figure(figure, found)
        print(f"wrote {figure}", file=sys.stderr)
    print(_json(found) if as_json else forecast_text(found))


def contract(
    chip: Annotated[str, typer.Option(help="The chip to rent.")] = "h100",
    on_demand: Annotated[
        float | None, typer.Option(help="Dollars per hour on demand; else the newest public one.")
    ] = None,
    reserved: Annotated[
        float | None,
        typer.Option("--contract", help="Dollars per hour of the contract, used or not."),
    ] = None,
    months: Annotated[int, typer.Option(help="Length of the contract.")] = 12,
    busy: Annotated[float, typer.Option(help="Share of hours that you use the chip.")] = 1.0,
    lasts: Annotated[
        float, typer.Option(help="Chance that you need it until the contract ends.")
    ] = 0.8,
    usage_rate: Annotated[
        float, typer.Option(help="Share of the price on demand that use costs on top.")
    ] = 0.0,
    spent: Annotated[
        float, typer.Option(help="Dollars that went on demand for a chip in the last term.")
    ] = 0.0,
    regime: Regime = None,
    paths: Paths = 20_000,
    seed: Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Advise on a contract: on demand, reserve, or wait, and what being wrong would cost."""
    from suffice.forecast.advice import Situation, advise

    situation = Situation(
        start=_today(),
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
    found = advise(situation)
    print(_json(found) if as_json else advice_text(found))


def forecast_text(found: "Forecast") -> str:
    """Lay the fan out every half-year, then what each process does, and what it all rests on."""
    subject = "hosted model" if found.chip is None else found.chip
    lines = [f"{subject}: dollars per request, {found.usd:g} today; 10 %, 50 % and 90 % of paths"]
    lines.append(f"{'month':9}{'chip and model kept':>29}{'moved to the cheapest':>29}")
    shown = [*found.points[:-1:SHOWN_MONTHS], found.points[-1]]
    lines += [f"{p.month:9}{_three(p.kept):>29}{_three(p.moved):>29}" for p in shown]
    last = found.points[-1].month
    lines += [
        f"{name:10} changes cost by {_three(f)} by {last}" for name, f in found.factors.items()
    ]
    lines.append(f"kept, cost rises by {last} with probability {found.rising:.0%}")
    lines += [f"note: {text}" for text in found.notes]
    return "\n".join([*lines, *(f"from: {text}" for text in found.basis)])


def advice_text(found: "Advice") -> str:
    """Say what to do, then lay out dollars and regret of each choice, and the rule's word."""
    lines = [
        f"{found.chip}: {found.choice.replace('_', ' ')} "
        f"(${found.on_demand_usd:.2f} on demand, ${found.contract_usd:.2f} by contract, an hour)",
        f"{'dollars a chip':16}{'mean':>10}{'dearer than hindsight: half':>30}{'9 in 10':>10}"
        f"{'99 in 100':>11}{'best':>7}",
    ]
    for choice, outcome in found.outcomes.items():
        half, most, nearly_all = outcome.regret_usd
        lines.append(
            f"{choice.replace('_', ' '):16}{outcome.mean_usd:>10,.0f}{half:>30,.0f}{most:>10,.0f}"
            f"{nearly_all:>11,.0f}{outcome.best_share:>7.0%}"
        )
    lines.append(
        f"with a guarantee: sign once ${found.trust * found.sign_at_usd:,.0f} to "
        f"${found.sign_at_usd / found.trust:,.0f} went on demand within a term, as the forecast "
        f"says; {'that is now' if found.rule_signs else 'not yet'}. Never above "
        f"{found.guaranteed_ratio:.2f} times hindsight while contracts get no dearer"
    )
    return "\n".join([*lines, *(f"price {text}" for text in found.basis)])


def _three(values: tuple[float, ...]) -> str:
    return "  ".join(f"{values[at]:.3g}" for at in (0, 2, 4))


def _today() -> dt.date:
    return dt.datetime.now(tz=dt.UTC).date()


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


def _write_figure(path: Path, found: "Forecast") -> None:
    from suffice.forecast.figures import fan_figure

    with writing(path):
        path.write_text(fan_figure(found), "utf-8")
