"""`suffice economy`: what shorter answers are worth, in score, characters, tokens and dollars."""

from typing import TYPE_CHECKING, Annotated

import typer

from suffice.cli.options import Explain, Json, LadderOrNone, ReferenceOrNone, Seed, TrialFiles

if TYPE_CHECKING:
    from suffice.trials.economy import Economy, RungEconomy
    from suffice.trials.resample import Estimate


def economy(
    trials: TrialFiles,
    ladder: LadderOrNone = None,
    reference: ReferenceOrNone = None,
    estimate_tokens: Annotated[
        bool,
        typer.Option(
            "--estimate-tokens", help="Output tokens from characters, where runs state none."
        ),
    ] = False,
    seed: Seed = 0,
    explain: Explain = False,
    json: Json = False,
) -> None:
    """Compare models and efforts by score, length and dollars, with and without cached input."""
    from suffice.cli.output import note, print_json, print_notes, print_table
    from suffice.trials.economy import economy as compute
    from suffice.trials.importers import read_trials
    from suffice.trials.pricing import ladder_prices
    from suffice.types import ZeroCost

    result = compute(
        read_trials(*trials, zero_cost=ZeroCost.FREE, note=note),  # no recorded cost is looked at
        reference=reference,
        prices=ladder_prices(ladder),
        estimate_tokens=estimate_tokens,
        seed=seed,
    )
    if json:
        print_json("economy", result)
        return
    print_table(
        ("rung", "answers", "score", "characters", "tokens", "$ uncached", "$ cached"),
        (_row(point) for point in result.rungs),
    )
    print_notes((("", text) for text in _notes(result)), explain=explain)


def _row(point: "RungEconomy") -> tuple[str, ...]:
    low, high = point.score.interval or (None, None)
    interval = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    return (
        point.rung,
        str(point.answers),
        f"{point.score.value or 0.0:.2f}{interval}",
        *(
            _figure(getattr(point, name), point.less.get(name), digits=digits)
            for name, digits in (
                ("characters", ",.0f"),
                ("output_tokens", ",.0f"),
                ("usd_uncached", ".5f"),
                ("usd_cached", ".5f"),
            )
        ),
    )


def _figure(figure: "Estimate | None", less: "Estimate | None", *, digits: str) -> str:
    """Show a mean, and by how much it is below the reference's, with the interval of that."""
    if figure is None or figure.value is None:
        return "unknown"
    text = format(figure.value, digits)
    if less is None or less.value is None:
        return text
    low, high = less.interval or (None, None)
    ends = "" if low is None or high is None else f" ({-high:+.0%} to {-low:+.0%})"
    return f"{text} {-less.value:+.1%}{ends}"


def _notes(result: "Economy") -> tuple[str, ...]:
    base = f"Percentages are against {result.reference!r}, over {result.clusters:,} clusters."
    return (base, *result.notes)
