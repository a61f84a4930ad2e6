"""What the commands do, without the printing: files and settings in, values out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace as replace_part
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from suffice.certify.bundle import Bundle
from suffice.certify.checking import without_checks
from suffice.certify.labelling import LabelPlan, plan_labels, read_plan
from suffice.certify.lineage import LineageFile, add_look, look_at, read_lineage
from suffice.certify.policy import CertifiedPolicy, certify
from suffice.certify.promise import Promise
from suffice.certify.recent import since_change
from suffice.certify.result import CertifyResult
from suffice.certify.target import Target
from suffice.encoders.base import default_encoder
from suffice.errors import InputError
from suffice.guarantee import RENEWALS, LabelSource, Lineage
from suffice.ledger import Label, TrialSample, Window
from suffice.scoring.labels import label_source, read_labels, score_by_agreement
from suffice.trials.importers import read_trials
from suffice.trials.order import on_ladder
from suffice.trials.pricing import AS_WRITTEN, TrialCosts
from suffice.trials.table import TrialTable
from suffice.trials.tabulate import pair_runs, tabulate
from suffice.types import Say, Trial, TrialStatus, ZeroCost

if TYPE_CHECKING:
    from suffice.ledger import Ledger

MOST_UNMARKED = 0.2  # of the requests, that may lack any mark without a plan
_LABELS = {
    Label.TARGET: LabelSource.TARGET,
    Label.SCORER: LabelSource.SCORER,
    Label.FEEDBACK: LabelSource.SCORER,
    Label.JUDGE: LabelSource.JUDGE,
    Label.AGREEMENT: LabelSource.AGREEMENT,
}


class Certification(Struct, frozen=True, kw_only=True, eq=False):
    """What certifying some trials came to; `bundle` is None when nothing was certified.

    `table` holds the trials as arrays; `notes` say what was left out of the trials, and why.
    `looks` are all that were taken, this one included: write them down whatever came of it.
    """

    trials: tuple[Trial, ...]
    table: TrialTable
    certified: CertifiedPolicy
    bundle: Bundle | None
    notes: tuple[str, ...] = ()
    looks: LineageFile = LineageFile()

    @property
    def result(self) -> CertifyResult:
        """The figures that are printed."""
        return self.certified.result


def certify_files(
    paths: Sequence[Path],
    promise: Promise,
    *,
    labels: Path | None = None,
    agreement: bool = False,
    costs: TrialCosts = AS_WRITTEN,
    say: Say = lambda _stage: None,
) -> Certification:
    """Certify the trials in some files; `agreement` takes the reference's answers for right.

    Raises InputError where delta is spent, or where many requests are not marked and no plan says
    which.
    """
    plan = None if promise.plan is None else read_plan(promise.plan)
    if plan is not None and labels is not None:
        raise InputError(
            "labels that mend a judge and a plan of labels do not go together",
            hint="leave one of them out",
        )
    say("reading trials")
    notes: list[str] = []
    trials = read_trials(*paths, zero_cost=costs.zero_cost, prices=costs.prices, note=notes.append)
    if agreement:
        trials = score_by_agreement(trials, reference=promise.reference)
    if plan is None:
        _refuse_unmarked(trials)
    human = None if labels is None else read_labels(labels)
    target = promise.ask(label_source(trials))
    look = look_at(trials, target, planned=promise.looks or 1, renewal=False, labels=human)
    looks, lineage = add_look(_known_looks(promise), look)
    settled = settle(
        trials,
        replace(target, lineage=lineage),
        labels=human,
        plan=plan,
        say=say,
    )
    return replace(settled, looks=looks, notes=(*notes, *settled.notes))


def plan_files(
    paths: Sequence[Path],
    promise: Promise,
    *,
    zero_cost: ZeroCost | None = None,
    say: Say = lambda _stage: None,
) -> LabelPlan:
    """Say which requests in some files to mark."""
    say("reading trials")
    trials = read_trials(*paths, zero_cost=zero_cost)
    table = on_ladder(tabulate(trials), reference=promise.reference)
    target = promise.ask(label_source(trials))
    target = replace(target, lineage=Lineage(planned=promise.looks or 1))
    say("choosing what to mark")
    return plan_labels(table, target, encoder=default_encoder())


def _refuse_unmarked(trials: Iterable[Trial]) -> None:
    """Raise InputError where many requests have answers and no mark on any rung.

    Marks that were given to some requests and not to others may follow the answers.
    """
    marked: dict[str, bool] = {}
    for trial in trials:
        if trial.status is not TrialStatus.FAILED:
            known = marked.get(trial.request_id, False)
            marked[trial.request_id] = known or trial.quality is not None
    unmarked = len(marked) - sum(marked.values())
    if 0 < unmarked < len(marked) and unmarked > MOST_UNMARKED * len(marked):
        raise InputError(
            f"{unmarked:,} of {len(marked):,} requests have no mark on any rung, and nothing says "
            "how those with marks were chosen",
            hint="let `suffice label-plan` choose, and give its file with --plan; "
            "or leave the others out of the trials, if marks were given at random",
        )


def certify_ledger(
    ledger: "Ledger",
    promise: Promise,
    *,
    since: datetime | None = None,
    watched_by: Iterable[Label] = (),
    sample: TrialSample = TrialSample.AUDITS,
    say: Say = lambda _stage: None,
) -> Certification:
    """Certify a sample of a ledger's requests; the weakest label names the promise.

    Only requests from `since` on count, those after the last alarm, and those after losses have
    become more frequent. `watched_by` are the labels that the gateway watches by, if chosen.
    Raises InputError where delta is spent, LedgerError where no request is left.
    """
    from suffice.ledger import labelled_trials  # with SQLAlchemy, which certifying does without
    from suffice.scoring.audit_rule import AuditRule
    from suffice.scoring.guard import alarms_of

    say("reading the ledger")
    rule = AuditRule(share=1.0, labels=tuple(watched_by))
    served = [
        (one.certificate_id, alarm)
        for one, alarm in alarms_of(ledger, rule=rule, now=datetime.now(UTC))
        if one.terms.reference == promise.reference
    ]
    notes: list[str] = []
    ended = max((alarm for _, alarm in served if alarm is not None), default=None)
    if ended is not None and (since is None or since <= ended):
        since = ended + timedelta(microseconds=1)
        notes.append(f"an alarm fell at {ended:%Y-%m-%d %H:%M} UTC: only requests after it count")
    labelled = labelled_trials(ledger, window=Window(since=since), sample=sample)
    if sample is TrialSample.SHADOWS:
        notes.append("these are first turns of sessions: the promise says nothing of later turns")
    trials = since_change(labelled.trials, reference=promise.reference, note=notes.append)
    sources = [_LABELS[label] for label in labelled.labels]
    source = max(sources, key=list(LabelSource).index, default=LabelSource.AGREEMENT)
    paired, target = _all_pairs(trials), promise.ask(source)
    look = look_at(paired, target, planned=promise.looks or RENEWALS, renewal=True)
    looks, lineage = add_look(_known_looks(promise), look)
    lineage = replace(lineage, carries=tuple(name for name, alarm in served if alarm is None))
    settled = settle(paired, replace(target, lineage=lineage), say=say)
    return replace(settled, looks=looks, notes=(*notes, *settled.notes))


def _known_looks(promise: Promise) -> LineageFile:
    return LineageFile() if promise.folder is None else read_lineage(promise.folder)


def _all_pairs(trials: Sequence[Trial]) -> list[Trial]:
    """Stand in for audits that were cut off by trials that failed, so that they are counted."""
    one_each = {trial.request_id: trial for trial in trials}
    rungs = dict.fromkeys(trial.rung for trial in trials)
    by_pair = {(trial.request_id, trial.rung): trial for trial in trials}
    return [
        by_pair.get((request_id, rung)) or _cut_off(trial, rung)
        for request_id, trial in one_each.items()
        for rung in rungs
    ]


def _cut_off(trial: Trial, rung: str) -> Trial:
    return Trial(
        request_id=trial.request_id,
        rung=rung,
        status=TrialStatus.FAILED,
        text=trial.text,
        group=trial.group,
        error="its audit was cut off",
    )


def settle(
    trials: Sequence[Trial],
    ask: Target,
    *,
    labels: Mapping[tuple[str, str], float] | None = None,
    plan: LabelPlan | None = None,
    say: Say,
) -> Certification:
    """Certify trials and bundle the policy with its certificate and what its rungs cost."""
    table = tabulate(trials)
    certified = certify(table, ask, encoder=default_encoder(), labels=labels, plan=plan, say=say)
    if certified.result.checks:
        saving = _saving_without_checks(trials, ask, say=say)
        certified = replace_part(certified, result=replace(certified.result, without_checks=saving))
    certificate = certified.result.certificate
    bundle = None
    if certificate is not None:
        rows = pair_runs(trials)
        mean = mean_usd(
            [trial for request_id in certified.kept_cheap for trial in rows[request_id].values()]
        )
        bundle = Bundle(policy=certified.policy, certificate=certificate, mean_usd=mean)
    return Certification(
        trials=tuple(trials),
        table=table,
        certified=certified,
        bundle=bundle,
        notes=table.notes,
    )


def _saving_without_checks(trials: Sequence[Trial], ask: Target, *, say: Say) -> float | None:
    say("certifying without the checks, to compare")
    try:
        unchecked = tabulate(without_checks(trials))
        return certify(unchecked, ask, encoder=default_encoder()).result.saving
    except InputError:  # nothing saves anything without them
        return 0.0


def mean_usd(trials: Sequence[Trial]) -> dict[str, Decimal]:
    """Return the mean charge of each rung whose every answer has one."""
    charges: dict[str, list[Decimal | None]] = {}
    for trial in trials:
        if trial.status is not TrialStatus.FAILED:
            charges.setdefault(trial.rung, []).append(trial.charge_usd)
    known = {rung: [usd for usd in each if usd is not None] for rung, each in charges.items()}
    return {
        rung: sum(usd, Decimal(0)) / len(usd)
        for rung, usd in known.items()
        if usd and len(usd) == len(charges[rung])
    }
