"""`suffice claims`: the public claims, what the evidence says, and where to measure each."""

from typing import Annotated

import typer

from suffice.evidence.claims import Claim, claims, find_claim


def claims_command(
    name: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Show one claim whole.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of text.")
    ] = False,
) -> None:
    """List the public claims about inference cost, what is left of each, and how to measure it."""
    found = claims() if name is None else (find_claim(name),)
    if as_json:
        import msgspec

        print(msgspec.json.encode({"claims": found}).decode())
    elif name is None:
        _print_table(found)
    else:
        print(_whole(found[0]))


def _print_table(found: tuple[Claim, ...]) -> None:
    """Fit a table to the terminal; in a pipe, print every claim on lines that nothing cuts."""
    import sys

    from rich.console import Console
    from rich.table import Table

    if not sys.stdout.isatty():
        for claim in found:
            print(f"{claim.id}: {claim.claim}\n  {_sentence(claim)}\n  measure it: {claim.where}")
        return
    table = Table(show_lines=True)
    for title in ("claim", "what the evidence says", "measure it"):
        table.add_column(title, overflow="fold", ratio=2 if title == "measure it" else 3)
    for claim in found:
        table.add_row(f"[b]{claim.id}[/b]\n{claim.claim}", _sentence(claim), claim.where)
    Console().print(table)


def _sentence(claim: Claim) -> str:
    return f"{claim.verdict} ({claim.grade}): {claim.range}. {claim.evidence}"


def _whole(claim: Claim) -> str:
    rows = {
        "claim": claim.claim,
        "who": claim.who,
        "baseline": claim.baseline,
        "workload": claim.workload,
        "share of cost": claim.share_of_cost,
        "verdict": claim.verdict,
        "range": claim.range,
        "grade": claim.grade,
        "evidence": claim.evidence,
        "date": claim.date.isoformat(),
        "source": "  ".join(claim.source),
        "measure it": claim.where,
    }
    return "\n".join(f"{name:14}{text}" for name, text in rows.items())
