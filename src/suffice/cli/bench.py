"""`suffice bench` and `suffice frontier`: make trials, and compare rungs on them."""

from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.options import (
    AllowCode,
    Explain,
    Figure,
    Json,
    Ladder,
    LadderOrNone,
    TrialFiles,
    ZeroCosts,
    amount,
    out,
)
from suffice.errors import InputError
from suffice.files import check_figure, save_figure


def bench(
    tasks: Annotated[
        str, typer.Argument(help="Tasks: a JSONL file, or reasoning-gym:NAME[,NAME]?...")
    ],
    ladder: Ladder,
    out: Annotated[Path, out("Trials file; an existing one is resumed.")],
    max_usd: Annotated[
        str | None, typer.Option(help="Spending cap in dollars, such as 2.50.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Name of the rung that marks open-ended answers.")
    ] = None,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Run tasks on every rung into trials; a run that was killed is resumed."""
    from suffice.bench.progress import show_progress
    from suffice.bench.run import bench_tasks
    from suffice.bench.sources import load_tasks
    from suffice.cli.output import print_bench, print_json
    from suffice.config import load_config

    cap = None if max_usd is None else amount(max_usd)
    result = bench_tasks(
        load_config(ladder),
        load_tasks(tasks, allow_code=allow_code),
        out=out,
        max_usd=cap,
        judge=judge,
        show=show_progress,
    )
    print_json("bench", result) if json else print_bench(result)


def frontier(
    trials: TrialFiles,
    zero_cost: ZeroCosts = None,
    ladder: LadderOrNone = None,
    history: Annotated[
        bool, typer.Option("--history", help="Checkpoints of a training run, in their order.")
    ] = False,
    figure: Figure = None,
    explain: Explain = False,
    json: Json = False,
) -> None:
    """Show quality per generated token: what a right answer costs on each rung."""
    from suffice.cli.output import note, print_frontier, print_json
    from suffice.trials.frontier import frontier as compute
    from suffice.trials.importers import read_trials
    from suffice.trials.pricing import ladder_prices

    if figure is not None:
        check_figure(figure)
        if not history:
            raise InputError("only a history has a figure", hint="give --history, or use report")
    prices = ladder_prices(ladder)
    result = compute(read_trials(*trials, zero_cost=zero_cost, prices=prices, note=note))
    if not history:
        print_json("frontier", result) if json else print_frontier(result, explain=explain)
        return
    from suffice.cli.history_output import print_history
    from suffice.trials.history import history as read_history

    checkpoints = read_history(result)
    if json:
        print_json("frontier", checkpoints)
    else:
        print_history(checkpoints, explain=explain)
    if figure is not None:
        from suffice.report.history_chart import history_chart

        save_figure(figure, history_chart(checkpoints))
        note(f"wrote {figure}")
