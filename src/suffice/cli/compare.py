"""`suffice compare`: whether a setting can replace another."""

from suffice.cli.options import (
    Alpha,
    Delta,
    Explain,
    Figure,
    Json,
    LadderOrNone,
    Reference,
    TrialFiles,
    ZeroCosts,
)
from suffice.files import check_figure, save_figure


def compare(
    trials: TrialFiles,
    reference: Reference,
    alpha: Alpha = 0.05,
    delta: Delta = 0.1,
    zero_cost: ZeroCosts = None,
    ladder: LadderOrNone = None,
    figure: Figure = None,
    explain: Explain = False,
    json: Json = False,
) -> None:
    """Say for every setting whether it is as good as the reference, worse, or undecided.

    A setting is a rung of the trials: a model, an effort, an agent. Repeated runs of a task count
    as one task, and so do requests of one cluster or of the same text.
    """
    from suffice.certify.compare import compare as compare_settings
    from suffice.cli.output import note, print_comparisons, print_json
    from suffice.trials.importers import read_trials
    from suffice.trials.pricing import ladder_prices

    if figure is not None:
        check_figure(figure)
    prices = ladder_prices(ladder)
    read = read_trials(*trials, zero_cost=zero_cost, prices=prices, note=note)
    result = compare_settings(read, reference=reference, alpha=alpha, delta=delta)
    if json:
        print_json("compare", result)
    else:
        print_comparisons(result, explain=explain)
    if figure is not None:
        from suffice.report.comparison import comparison_chart

        save_figure(figure, comparison_chart(result))
        note(f"wrote {figure}")
