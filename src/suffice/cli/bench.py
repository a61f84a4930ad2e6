"""Commands that make trials and measure on them."""

from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.options import JsonFlag, LadderFile, TrialFiles, amount
from suffice.errors import CertificateError


def bench(
    tasks: Annotated[str, typer.Argument(help="JSONL of tasks, or reasoning-gym:NAME[,NAME]?...")],
    ladder: LadderFile,
    out: Annotated[Path, typer.Option(help="Trials file; an existing one is resumed.")],
    max_usd: Annotated[
        str | None, typer.Option(help="Stop before more than this many dollars are spent.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Name of the rung that marks open-ended answers.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Run tasks on every rung into trials; resumable after a kill at any point."""
    from suffice.bench.progress import show_progress
    from suffice.bench.run import bench_tasks
    from suffice.cli.output import print_bench, print_json
    from suffice.config import load_config

    cap = None if max_usd is None else amount(max_usd)
    result = bench_tasks(
        load_config(ladder), tasks, out=out, max_usd=cap, judge=judge, show=show_progress
    )
    print_json(result) if json else print_bench(result)


def frontier(trials: TrialFiles, json: JsonFlag = False) -> None:
    """Show quality per generated token: what a right answer costs on each rung."""
    from suffice.cli.output import print_frontier, print_json
    from suffice.trials.frontier import frontier as work_out
    from suffice.trials.importers import read_trials

    found = work_out(read_trials(*trials))
    print_json(found) if json else print_frontier(found)


def compound(
    workload: Annotated[Path, typer.Argument(help="The workload file, fixed before measuring.")],
    trials: TrialFiles,
    out: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("compound.html"),
    seed: Annotated[int, typer.Option(min=0, help="Deals the splits, draws the resamples.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Replay every combination of levers: what they are worth together, and apart.

    Exits with 3 when the combination of all levers could not be certified.
    """
    from datetime import UTC, datetime

    from suffice.cli.output import note, print_compound, print_json, stages
    from suffice.compound import compound_files
    from suffice.report.compound import compound_page
    from suffice.report.gather import write_page

    with stages() as say:
        found = compound_files(workload, trials, made=datetime.now(UTC), seed=seed, say=say)
    if json:
        print_json(found)
    else:
        print_compound(found)
        write_page(out, compound_page(found))
        note(f"wrote {out}")
    if not found.certified:
        raise typer.Exit(CertificateError.exit_status)
