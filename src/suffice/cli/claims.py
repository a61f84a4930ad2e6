"""`suffice claims`: the public claims, the evidence for each, and a command to measure it."""

from typing import TYPE_CHECKING, Annotated

import typer

from suffice.cli.options import Explain, Json

if TYPE_CHECKING:
    from suffice.evidence.claims import Claim


def claims(
    name: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of a claim to show in full.")
    ] = None,
    explain: Explain = False,
    json: Json = False,
) -> None:
    """List the public claims about the cost of inference, the evidence, and how to measure each."""
    from suffice.cli.output import note, print_json, print_table, say
    from suffice.evidence.claims import claims as read_claims
    from suffice.evidence.claims import find_claim

    selection = read_claims() if name is None else (find_claim(name),)
    if json:
        print_json("claims", {"claims": selection})
    elif name is None and not explain:
        print_table(
            ("claim", "verdict", "what the evidence supports", "measure it"),
            ((claim.id, claim.verdict, claim.range, claim.where) for claim in selection),
        )
        note("a claim with its evidence: suffice claims ID; all of them: --explain")
    else:
        say("\n\n".join(map(_describe, selection)))


def _describe(claim: "Claim") -> str:
    rows = {
        "id": claim.id,
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
