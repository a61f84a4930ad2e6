"""`suffice report` and `suffice compound`: an HTML page about trials, a ledger, or all levers."""

from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.options import (
    Alpha,
    Delta,
    Explain,
    Json,
    ReferenceOrNone,
    Seed,
    TrialFiles,
    ZeroCosts,
    out,
)
from suffice.errors import CertificateError
from suffice.files import check_file


def report(
    source: Annotated[str, typer.Argument(help="Ledger (file or URL), or file of trials.")],
    out: Annotated[Path, out("HTML page.")] = Path("report.html"),
    reference: ReferenceOrNone = None,
    zero_cost: ZeroCosts = None,
    alpha: Alpha = 0.05,
    delta: Delta = 0.1,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Write one self-contained HTML page about trials or a ledger.

    With --reference, trials are certified against that rung, and the page shows the result.
    """
    from suffice.certify.promise import Promise
    from suffice.cli.output import note, print_json, stages
    from suffice.report.gather import report_on, write_report

    if not json:
        check_file(out)
    promise = None
    if reference is not None:
        promise = Promise(reference=reference, alpha=alpha, delta=delta, seed=seed)
    with stages() as say:
        contents = report_on(source, promise, zero_cost=zero_cost, say=say)
    if json:
        print_json("report", contents)
    else:
        write_report(out, contents)
        note(f"wrote {out}")


def compound(
    workload: Annotated[Path, typer.Argument(help="Workload file, fixed before measuring.")],
    trials: TrialFiles,
    out: Annotated[Path, out("HTML page.")] = Path("compound.html"),
    seed: Seed = 0,
    explain: Explain = False,
    json: Json = False,
) -> None:
    """Replay every combination of levers: what they are worth together, and apart.

    Exit status 3 says that the combination of all levers could not be certified.
    """
    from datetime import UTC, datetime

    from suffice.cli.output import note, print_compound, print_json, stages
    from suffice.compound import compound_files
    from suffice.files import write_file
    from suffice.report.compound import compound_page

    if not json:
        check_file(out)
    with stages() as say:
        result = compound_files(workload, trials, made=datetime.now(UTC), seed=seed, say=say)
    if json:
        print_json("compound", result)
    else:
        print_compound(result, explain=explain)
        write_file(out, compound_page(result))
        note(f"wrote {out}")
    if not result.certified:
        raise typer.Exit(CertificateError.exit_status)
