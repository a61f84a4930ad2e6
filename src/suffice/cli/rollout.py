"""`suffice rollout`: how the sessions of a roll-out came out, and what another policy would do."""

from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.options import Alpha, Delta, Json, LedgerArgument, Since, moment


def rollout(
    ledger: LedgerArgument,
    kind: Annotated[
        str | None, typer.Option(help="Kind of outcome that counts.", show_default="all")
    ] = None,
    candidate: Annotated[
        Path | None, typer.Option(help="Certified policy that was never served, to estimate.")
    ] = None,
    alpha: Alpha = 0.05,
    delta: Delta = 0.1,
    since: Since = None,
    json: Json = False,
) -> None:
    """Compare the sessions of a roll-out by their outcomes; the alarm may be read at any time.

    Exit status 3 says that the policy's sessions came out worse than alpha allows.
    """
    from suffice.certify.rollout import compare_arms
    from suffice.cli.output import print_json, print_table, say
    from suffice.errors import CertificateError
    from suffice.guarantee.canary import LEAST_P
    from suffice.ledger import Ledger, Window
    from suffice.ledger.outcomes import arm_outcomes

    window = Window(since=None if since is None else moment(since))
    with Ledger.open(ledger, read_only=True) as books:
        records = arm_outcomes(books, kind=kind, window=window)
    result = compare_arms(records, alpha=alpha, delta=delta, candidate=candidate)
    if json:
        print_json("rollout", result)
    else:
        rows = ((arm, f"{one.outcomes:,}", _mean(one.mean)) for arm, one in result.arms.items())
        print_table(("arm", "outcomes", "mean"), rows)
        say(
            f"{'STOP' if result.stopped else 'go on'}: the evidence that the policy loses more "
            f"than {alpha:g} is {result.evidence:.3g}, an alarm at {1 / delta:g}"
        )
        if result.imbalance < LEAST_P:
            say(
                "the arms have not as many outcomes as were drawn for them (p = "
                f"{result.imbalance:.1g}): those of one arm are missing, so do not compare them"
            )
        other = result.candidate
        if other is not None and other.score is None:
            say(
                f"the candidate is not identifiable: on {other.unseen:.0%} of the sessions it "
                "would choose what nobody was given; roll it out to "
                f"{other.sessions_needed:,} of them"
            )
        elif other is not None:
            error = "" if other.standard_error is None else f" +- {other.standard_error:.3f}"
            count = f"{other.sessions:,} sessions"
            say(f"the candidate would come to {other.score:.3f}{error} ({count})")
    if result.stopped:
        raise typer.Exit(CertificateError.exit_status)


def _mean(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
