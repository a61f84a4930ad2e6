"""`suffice report` and `suffice compound`: an HTML page about trials, a ledger, or all levers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from suffice.cli.options import (
    Alpha,
    Delta,
    Explain,
    Json,
    ReferenceOrNone,
    Seed,
    Since,
    TrialFiles,
    ZeroCosts,
    moment,
    out,
)
from suffice.errors import CertificateError, InputError
from suffice.files import check_file

if TYPE_CHECKING:
    from suffice.ledger.spenders import Spender


def report(
    source: Annotated[str, typer.Argument(help="Ledger (file or URL), or file of trials.")],
    out: Annotated[Path, out("HTML page.")] = Path("report.html"),
    reference: ReferenceOrNone = None,
    zero_cost: ZeroCosts = None,
    alpha: Alpha = 0.05,
    delta: Delta = 0.1,
    seed: Seed = 0,
    by: Annotated[
        Literal["key", "team", "tag", "session", "agent"] | None,
        typer.Option(help="Who spent, as a table in place of the page; for a ledger."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="File of API keys, which names their teams.")
    ] = None,
    since: Since = None,
    json: Json = False,
) -> None:
    """Write one self-contained HTML page about trials or a ledger, or print who spent.

    With --reference, trials are certified against that rung, and the page shows the result.
    """
    if by is not None:
        _report_spenders(source, by, keys=keys, since=since, json=json)
        return
    if keys is not None:
        raise InputError("--keys names the teams of a table", hint="add --by team")
    from suffice.cli.output import note, print_json, stages
    from suffice.report.gather import report_on, write_report

    if not json:
        check_file(out)
    promise = None
    if reference is not None:
        from suffice.certify.promise import Promise

        promise = Promise(reference=reference, alpha=alpha, delta=delta, seed=seed)
    with stages() as say:
        start = None if since is None else moment(since)
        contents = report_on(source, promise, zero_cost=zero_cost, since=start, say=say)
    if json:
        print_json("report", contents)
    else:
        write_report(out, contents)
        note(f"wrote {out}")


def _report_spenders(
    source: str, by: str, *, keys: Path | None, since: str | None, json: bool
) -> None:
    from suffice.cli.output import print_json
    from suffice.cli.spenders import missed, print_misses, print_spenders
    from suffice.gateway.keys import read_keys
    from suffice.ledger import Ledger, Window, totals
    from suffice.ledger.spenders import by_team, spenders

    if by == "team" and keys is None:
        raise InputError("teams stand in the file of keys", hint="name it: --keys keys.json")
    window = Window(since=None if since is None else moment(since))
    with Ledger.open(source, read_only=True) as books:
        if by == "team" and keys is not None:
            teams = {key.name: key.team for key in read_keys(keys).keys}
            spent = by_team(spenders(books, by="key", window=window), teams)
        else:
            spent = spenders(books, by=cast("Spender", by), window=window)
        whole = totals(books, window=window)[0].spend
        misses = missed(books, by=by, window=window)
    if json:
        print_json("report", {"by": by, "spenders": spent, "spend": whole, "misses": misses})
    else:
        print_spenders(spent, by=by, whole=whole)
        print_misses(misses)


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
