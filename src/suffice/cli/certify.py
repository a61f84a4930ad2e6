"""Commands that certify."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suffice.cli.options import (
    AlphaOrNone,
    BundleOut,
    DeltaOrNone,
    JsonFlag,
    Lapses,
    ReferenceOrNone,
    Seed,
    TargetsFrom,
    TrialFiles,
)
from suffice.errors import CertificateError

if TYPE_CHECKING:
    from suffice.certify.bundling import Certification


def certify(
    trials: TrialFiles,
    reference: ReferenceOrNone = None,
    alpha: AlphaOrNone = None,
    delta: DeltaOrNone = None,
    seed: Seed = 0,
    labels: Annotated[
        Path | None, typer.Option(help="Human labels (request_id, rung, quality) of judged trials.")
    ] = None,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Take the reference's own answers for right.")
    ] = False,
    lapses_after: Lapses = None,
    ladder: TargetsFrom = None,
    out: BundleOut = None,
    json: JsonFlag = False,
) -> None:
    """Fit a policy, certify how far it may go, and report on requests that took no part.

    Exits with 3 when nothing cheaper than the reference could be certified.
    """
    from suffice.certify.bundling import certify_files
    from suffice.certify.promise import PromiseOptions
    from suffice.cli.output import stages

    given = PromiseOptions(reference=reference, alpha=alpha, delta=delta, lapses_after=lapses_after)
    promise = given.promise(ladder, seed=seed)
    with stages() as say:
        settled = certify_files(trials, promise, labels=labels, agreement=agreement, say=say)
    _conclude(settled, out=out, json=json)


def recertify(
    ledger: Annotated[str, typer.Argument(help="Ledger file, or a database URL.")],
    reference: ReferenceOrNone = None,
    alpha: AlphaOrNone = None,
    delta: DeltaOrNone = None,
    seed: Seed = 0,
    lapses_after: Lapses = None,
    ladder: TargetsFrom = None,
    out: BundleOut = None,
    json: JsonFlag = False,
) -> None:
    """Make the next certificate from the audited and scored requests of a ledger.

    Exits with 3 when nothing cheaper than the reference could be certified.
    """
    from suffice.certify.bundling import certify_ledger
    from suffice.certify.promise import PromiseOptions, reference_of
    from suffice.cli.output import stages
    from suffice.ledger import Ledger

    with stages() as say, Ledger.open(ledger, read_only=True) as opened:
        if reference is None and ladder is None:
            reference = reference_of(opened)
        given = PromiseOptions(
            reference=reference, alpha=alpha, delta=delta, lapses_after=lapses_after
        )
        settled = certify_ledger(opened, given.promise(ladder, seed=seed), say=say)
    _conclude(settled, out=out, json=json)


def _conclude(settled: "Certification", *, out: Path | None, json: bool) -> None:
    """Print what certifying came to, keep the bundle, and exit with 3 if nothing was certified."""
    from suffice.certify.bundle import save_bundle
    from suffice.cli.output import note, print_json, print_result

    print_json(settled.result) if json else print_result(settled.result)
    if settled.bundle is None:
        note(settled.advice)
        raise typer.Exit(CertificateError.exit_status)
    if out is not None:
        save_bundle(out, settled.bundle)
        note(f"wrote the policy and its certificate to {out}")
