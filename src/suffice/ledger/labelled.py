"""Trials for the next certificate: requests that several rungs answered, with their marks."""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple, NoReturn

import sqlalchemy as sa
from msgspec import Struct

from suffice.errors import LedgerError
from suffice.ledger.database import Ledger
from suffice.ledger.records import ALL_TIME, Attempt, Entry, Label, Role, Score, TrialSample, Window
from suffice.ledger.rows import entries, scores_in_order
from suffice.ledger.schema import outcomes, requests
from suffice.types import Charge, Finish, Trial, TrialStatus

Marks = dict[str | None, Score]  # by rung, the last of each; None is the rung that answered


class CheckedAttempt(NamedTuple):
    """The last answer of a rung to a request, and the checks that looked at it."""

    answer: Attempt
    checks: tuple[Attempt, ...] = ()


class LabelledTrials(Struct, frozen=True, kw_only=True):
    """Trials for the next certificate, and what could not be used.

    Only audited requests or shadowed ones count: they are a random share, which a certificate
    needs; feedback on others is not. `labels` says where the scores come from.
    """

    trials: tuple[Trial, ...]
    labels: tuple[Label, ...]
    audited: int
    unscored: int
    without_text: int


def labelled_trials(
    ledger: Ledger, *, window: Window = ALL_TIME, sample: TrialSample = TrialSample.AUDITS
) -> LabelledTrials:
    """Collect the trials of a sample of requests; raises LedgerError when there are none to use.

    The answers of one request are compared by marks of one kind: the kind that marks most of them,
    of several the strongest. Feedback comes from those who care to give it, and replaces no mark:
    it counts only in a ledger that has no other kind. Shadows compare the reference with the rung
    that was tried most.
    """
    marks = _marks(ledger, window=window, sample=sample)
    rungs = None
    if sample is TrialSample.SHADOWS:
        rungs = _tried(entries(ledger, window=window, shadowed=True))
    trials: list[Trial] = []
    drawn = without_text = 0
    labels: set[Label] = set()
    for entry in entries(ledger, window=window, **_only(sample)):
        drawn += 1
        if entry.text is None:
            without_text += 1
            continue
        judged = _one_kind(entry, marks.get(entry.request_id, {}))
        for attempt in _last_of_each_rung(entry):
            if rungs is not None and attempt.answer.rung not in rungs:
                continue
            score = _score_of(entry, attempt.answer.rung, judged)
            trials.append(_trial(entry, attempt, quality=score.quality if score else None))
            labels |= {score.label} if score else set()
    if drawn == without_text:
        _refuse(ledger, drawn, window=window, sample=sample)
    return LabelledTrials(
        trials=tuple(trials),
        labels=tuple(sorted(labels)),
        audited=drawn,
        unscored=sum(trial.status is TrialStatus.UNSCORED for trial in trials),
        without_text=without_text,
    )


def _only(sample: TrialSample) -> dict[str, bool]:
    return {"audited" if sample is TrialSample.AUDITS else "shadowed": True}


def _refuse(ledger: Ledger, drawn: int, *, window: Window, sample: TrialSample) -> NoReturn:
    since = "" if window.since is None else f" since {window.since:%Y-%m-%d %H:%M} UTC"
    kind = "audited requests" if sample is TrialSample.AUDITS else "requests with a shadow"
    if drawn:
        raise LedgerError(
            f"{ledger.where} has {drawn} {kind}{since} but not the text of any",
            hint="open the ledger with store_text on: a certificate needs what the policy reads",
        )
    raise LedgerError(
        f"{ledger.where} has no {kind}{since}",
        hint=_elsewhere(ledger)
        or "audit a random share of traffic, and score it, before certifying from it"
        if sample is TrialSample.AUDITS
        else "name the rung to try: gateway.shadow_rung",
    )


def _elsewhere(ledger: Ledger) -> str | None:
    """Say what else of a ledger without audits a certificate can be made from."""
    kinds = {
        "shadows": sa.select(requests.c.id).where(requests.c.shadow_chance.is_not(None)),
        "outcomes": sa.select(outcomes.c.id),
    }
    with ledger.reading() as connection:
        there = [
            kind for kind, query in kinds.items() if connection.execute(query.limit(1)).first()
        ]
    return f"it has {' and '.join(there)}: recertify with --from {there[0]}" if there else None


def _tried(sampled: Iterable[Entry]) -> set[str]:
    """Name the reference and the rung that answered most of the requests beside it."""
    counts, references = Counter[str](), set[str]()
    for entry in sampled:
        references.add(entry.reference_rung)
        answered = {a.answer.rung for a in _last_of_each_rung(entry)}
        if entry.reference_rung in answered:
            counts.update(answered - {entry.reference_rung})
    return references | {rung for rung, _ in counts.most_common(1)}


def _last_of_each_rung(entry: Entry) -> list[CheckedAttempt]:
    """Return the last answer of each rung with its checks, which stand behind it in the books."""
    last: dict[str, CheckedAttempt] = {}
    rung = ""
    for attempt in entry.attempts:
        if attempt.role is not Role.CHECK:
            rung = attempt.rung
            last[rung] = CheckedAttempt(attempt)
        elif rung in last:
            last[rung] = CheckedAttempt(last[rung].answer, (*last[rung].checks, attempt))
    return list(last.values())


def _marks(ledger: Ledger, *, window: Window, sample: TrialSample) -> dict[str, dict[Label, Marks]]:
    """Map sampled requests to their marks of each kind, feedback only where there is no other."""
    scores = scores_in_order(ledger, window=window, **_only(sample))
    only_feedback = all(score.label is Label.FEEDBACK for score in scores)
    marks: dict[str, dict[Label, Marks]] = {}
    for score in scores:
        if only_feedback or score.label is not Label.FEEDBACK:
            kinds = marks.setdefault(score.request_id, {})
            kinds.setdefault(score.label, {})[score.rung] = score
    return marks


def _one_kind(entry: Entry, kinds: dict[Label, Marks]) -> Marks:
    """Return the marks of the kind that marks most answers, of several the strongest."""
    rungs = {attempt.rung for attempt in entry.attempts}
    strength = list(Label)

    def rank(label: Label) -> tuple[int, int]:
        marked = {entry.rung if rung is None else rung for rung in kinds[label]}
        return len(marked & rungs), -strength.index(label)

    return kinds[max(kinds, key=rank)] if kinds else {}


def _score_of(entry: Entry, rung: str, judged: Marks) -> Score | None:
    """Find the score of a rung's answer, or the one of the answer given if that rung gave it."""
    return judged.get(rung) or (judged.get(None) if rung == entry.rung else None)


def _trial(entry: Entry, checked: CheckedAttempt, *, quality: float | None) -> Trial:
    attempt, checks = checked
    if attempt.error is not None:
        status, quality = TrialStatus.FAILED, None
    elif attempt.finish is Finish.ABSTAINED:
        status, quality = TrialStatus.SCORED, 0.0  # no answer is worth nothing, whoever scores it
    else:
        status = TrialStatus.UNSCORED if quality is None else TrialStatus.SCORED
    check_usd = sum((one.charge for one in checks), Charge(usd=Decimal(0)))
    charge = attempt.charge + check_usd
    return Trial(
        request_id=entry.request_id,
        rung=attempt.rung,
        status=status,
        text=entry.text or "",
        group=entry.group,
        quality=quality,
        charge_usd=charge.usd,
        charge_estimated=charge.estimated,
        cluster=entry.session_id or entry.conversation_id,
        check_usd=check_usd.usd if checks else None,
        check_s=max((one.duration_s or 0.0 for one in checks), default=None),
        **attempt.generation_fields,
    )
