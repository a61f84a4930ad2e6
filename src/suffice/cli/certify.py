"""`suffice certify` and `suffice recertify`: a policy and its certificate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from suffice.cli.options import (
    AlphaOrTarget,
    DeltaOrTarget,
    Groups,
    Json,
    LadderOrNone,
    LapsesAfterOrTarget,
    LedgerArgument,
    Looks,
    PromiseUnit,
    PromiseUnitOrNone,
    RandomPart,
    ReferenceOrNone,
    Risk,
    RiskOrNone,
    Seed,
    Since,
    TrialFiles,
    ZeroCosts,
    moment,
    out,
)
from suffice.errors import CertificateError, InputError

if TYPE_CHECKING:
    from suffice.certify.bundling import Certification
    from suffice.certify.by_outcomes import OutcomeCertification

SigningKey = Annotated[
    Path | None,
    typer.Option("--sign", help="Private Ed25519 key (PEM) that signs the certificate in --out."),
]
SampleKind = Annotated[
    Literal["audits", "shadows", "outcomes"],
    typer.Option(
        "--from",
        help="Evidence: audited requests, shadows, or outcomes of the sessions of a roll-out.",
    ),
]
Bundle = Annotated[Path | None, out("Folder for the policy and its certificate.")]


def certify(
    trials: TrialFiles,
    reference: ReferenceOrNone = None,
    alpha: AlphaOrTarget = None,
    delta: DeltaOrTarget = None,
    risk: Risk = "excess_over_reference",
    per: PromiseUnit = "request",
    random_part: RandomPart = True,
    groups: Groups = "declared",
    looks: Looks = None,
    seed: Seed = 0,
    labels: Annotated[
        Path | None,
        typer.Option(help="Human labels (request_id, rung, quality) of judged trials."),
    ] = None,
    agreement: Annotated[
        bool,
        typer.Option("--agreement", help="Agreement with the reference rung in place of scores."),
    ] = False,
    lapses_after: LapsesAfterOrTarget = None,
    zero_cost: ZeroCosts = None,
    plan: Annotated[
        Path | None,
        typer.Option(help="Label plan that says which requests were to be marked."),
    ] = None,
    ladder: LadderOrNone = None,
    out: Bundle = None,
    sign: SigningKey = None,
    json: Json = False,
) -> None:
    """Fit a policy, certify how far it may go, and report on requests that took no part.

    The reference rung and the targets of --ladder hold where no option says otherwise.
    Exit status 3 says that nothing cheaper than the reference could be certified.
    """
    from suffice.certify.bundling import certify_files
    from suffice.certify.promise import PromiseOptions
    from suffice.certify.target import GroupSource
    from suffice.cli.output import stages
    from suffice.guarantee import Per, RiskKind
    from suffice.trials.pricing import TrialCosts, ladder_prices

    _check_signing(sign, out)
    options = PromiseOptions(
        reference=reference,
        alpha=alpha,
        delta=delta,
        lapses_after=lapses_after,
        risk=RiskKind(risk),
        per=Per(per),
        random_part=random_part,
        looks=looks,
        folder=out,
        groups=GroupSource(groups),
        plan=plan,
    )
    promise = options.promise(ladder, seed=seed)
    with stages() as say:
        certification = certify_files(
            trials,
            promise,
            labels=labels,
            agreement=agreement,
            costs=TrialCosts(zero_cost=zero_cost, prices=ladder_prices(ladder)),
            say=say,
        )
    _conclude("certify", certification, out=out, sign=sign, json=json)


def label_plan(
    trials: TrialFiles,
    out: Annotated[Path, out("File for the plan.")],
    reference: ReferenceOrNone = None,
    alpha: AlphaOrTarget = None,
    delta: DeltaOrTarget = None,
    risk: Risk = "excess_over_reference",
    per: PromiseUnit = "request",
    looks: Looks = None,
    seed: Seed = 0,
    zero_cost: ZeroCosts = None,
    ladder: LadderOrNone = None,
    json: Json = False,
) -> None:
    """Choose which requests to mark, where marks are dear; run it again once they are marked.

    The first run draws requests at random. The next ones, with their marks in the trials, add
    those of the certifying split that a policy might keep. Then certify takes the plan.
    """
    from suffice.certify.bundling import plan_files
    from suffice.certify.labelling import write_plan
    from suffice.certify.promise import PromiseOptions
    from suffice.cli.output import print_json, say, stages
    from suffice.files import check_file
    from suffice.guarantee import Per, RiskKind

    check_file(out)
    options = PromiseOptions(
        reference=reference,
        alpha=alpha,
        delta=delta,
        risk=RiskKind(risk),
        per=Per(per),
        looks=looks,
    )
    with stages() as stage:
        promise = options.promise(ladder, seed=seed)
        plan = plan_files(trials, promise, zero_cost=zero_cost, say=stage)
    write_plan(out, plan)
    if json:
        print_json("label-plan", plan)
        return
    parts = f"{len(plan.fit):,} to fit on, {len(plan.report):,} to report on"
    if plan.certify is not None:
        parts += f", {len(plan.certify):,} to certify on"
    say(f"marks planned for {plan.planned:,} of {plan.total:,} requests: {parts}")
    if plan.to_mark:
        say(f"to mark now: {len(plan.to_mark):,} (`to_mark` in {out}); then run this command again")
    else:
        say(f"all are marked: run suffice certify with --plan {out}")


def recertify(
    ledger: LedgerArgument,
    sample: SampleKind = "audits",
    reference: ReferenceOrNone = None,
    alpha: AlphaOrTarget = None,
    delta: DeltaOrTarget = None,
    risk: RiskOrNone = None,
    per: PromiseUnitOrNone = None,
    random_part: RandomPart = True,
    groups: Groups = "declared",
    looks: Looks = None,
    seed: Seed = 0,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Folder that certify wrote.", show_default="none; needed by outcomes"),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="Kind of outcome that counts.", show_default="the only one"),
    ] = None,
    since: Since = None,
    lapses_after: LapsesAfterOrTarget = None,
    ladder: LadderOrNone = None,
    out: Bundle = None,
    sign: SigningKey = None,
    json: Json = False,
) -> None:
    """Make the next certificate from the audited and scored requests of a ledger, or from shadows.

    The reference rung is that of --ladder, or else the only one that the ledger has had. After an
    alarm, or where losses have become more frequent, only requests from then on count.
    Exit status 3 says that nothing cheaper than the reference could be certified.
    """
    from suffice.certify.bundling import certify_ledger
    from suffice.certify.by_outcomes import certify_outcomes
    from suffice.certify.promise import PromiseOptions, reference_of
    from suffice.certify.target import GroupSource
    from suffice.cli.output import stages
    from suffice.config import load_config
    from suffice.guarantee import Per, RiskKind
    from suffice.ledger import Label, Ledger, TrialSample

    _check_signing(sign, out)
    if (sample == "outcomes") != (certificate is not None) or (kind and sample != "outcomes"):
        raise InputError(
            "--certificate and --kind go with --from outcomes, which needs the policy that was "
            "rolled out",
            hint="recertify LEDGER --from outcomes --certificate FOLDER [--kind tests]",
        )
    if sample == "outcomes" and (risk or "net_loss", per or "session") != ("net_loss", "session"):
        raise InputError(
            "a session has one outcome: only its net loss per session can be promised",
            hint="leave --risk and --per out",
        )
    with stages() as say, Ledger.open(ledger, read_only=True) as books:
        if reference is None and ladder is None:
            reference = reference_of(books)
        options = PromiseOptions(
            reference=reference,
            alpha=alpha,
            delta=delta,
            lapses_after=lapses_after,
            risk=RiskKind(risk or "excess_over_reference"),
            per=Per(per or "request"),
            random_part=random_part,
            groups=GroupSource(groups),
            looks=looks,
            folder=out,
        )
        promise, start = (
            options.promise(ladder, seed=seed),
            None if since is None else moment(since),
        )
        certification: Certification | OutcomeCertification
        if certificate is not None:
            certification = certify_outcomes(
                books, promise, folder=certificate, kind=kind, since=start, say=say
            )
        else:
            certification = certify_ledger(
                books,
                promise,
                since=start,
                watched_by=()
                if ladder is None
                else map(Label, load_config(ladder).gateway.audit_labels),
                sample=TrialSample(sample),
                say=say,
            )
    _conclude("recertify", certification, out=out, sign=sign, json=json)


def _check_signing(sign: Path | None, out: Path | None) -> None:
    if sign is not None and out is None:
        raise InputError("--sign signs a certificate in a folder", hint="name the folder: --out")


def _conclude(
    command: str,
    certification: "Certification | OutcomeCertification",
    *,
    out: Path | None,
    sign: Path | None,
    json: bool,
) -> None:
    """Print the result, save the bundle, and exit with 3 if nothing was certified."""
    from suffice.certify.bundle import save_bundle
    from suffice.certify.lineage import write_lineage
    from suffice.cli.certify_output import print_certified
    from suffice.cli.output import note, print_json, print_notes, say
    from suffice.files import check_folder

    result = certification.result
    if json:
        print_json(command, result)
    else:
        print_certified(result)
        for sentence in certification.result.about_checks:
            say(sentence)
    print_notes((("", text) for text in certification.notes), explain=False)
    if out is None:
        note("nobody counts this look: choose no seed and no alpha by it, or name a folder (--out)")
    else:
        check_folder(out)
        write_lineage(out, certification.looks)
    if certification.bundle is None:
        note(certification.result.advice)
        raise typer.Exit(CertificateError.exit_status)
    if out is not None:
        save_bundle(out, certification.bundle, sign=sign)
        note(f"wrote the policy and its certificate to {out}")
    for sentence in certification.bundle.about_groups():
        note(sentence)
