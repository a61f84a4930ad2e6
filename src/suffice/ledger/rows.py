"""Rows of a ledger as values: entries with their attempts, scores, labelled trials."""

from collections.abc import Generator, Iterator
from datetime import datetime
from itertools import groupby
from typing import Any, NoReturn

import sqlalchemy as sa
from msgspec import Struct

from suffice.errors import LedgerError
from suffice.ledger import schema
from suffice.ledger.database import Ledger
from suffice.ledger.records import ALL_TIME, Attempt, Entry, Label, Score, Status, Window
from suffice.ledger.schema import (
    answered_by,
    answers,
    attempts,
    audited_by_reference,
    audits,
    requests,
    scores,
    within,
)
from suffice.types import Finish, Trial, TrialStatus

Marks = dict[str | None, Score]  # by rung, the last of each; None is the rung that answered

_PAGE = 1000
_AUDITED_PAGE = 100  # a reader often stops at the first row that is not scored yet
_AUDITED_COLUMNS = (
    requests.c.id,
    requests.c.request_id,
    requests.c.time_us,
    sa.func.coalesce(requests.c.rung, answers.c.rung).label("rung"),
    requests.c.reference_rung,
    requests.c.group_name,
    sa.func.coalesce(requests.c.session_id, requests.c.conversation_id).label("session"),
    audits.c.error.is_not(None).label("reference_failed"),
)
_AUDITED = (
    sa.select(*_AUDITED_COLUMNS)
    .select_from(
        requests.outerjoin(audits, audited_by_reference).outerjoin(
            answers, sa.and_(requests.c.rung.is_(None), answered_by)
        )
    )
    .where(
        schema.is_audited,
        requests.c.certificate_id.in_(sa.bindparam("ids", expanding=True)),
        requests.c.status.in_([Status.OK.value, Status.CANCELLED.value]),
        sa.func.coalesce(requests.c.rung, answers.c.rung).is_not(None),
        requests.c.id > sa.bindparam("last"),
    )
    .order_by(requests.c.id)
    .limit(_AUDITED_PAGE)
)


class LabelledTrials(Struct, frozen=True, kw_only=True):
    """Trials for the next certificate, and what could not be used.

    Only audited requests count: they are a random share of traffic, which a certificate needs;
    feedback on others is not. `labels` says where the scores come from.
    """

    trials: tuple[Trial, ...]
    labels: tuple[Label, ...]
    audited: int
    unscored: int
    without_text: int


class AuditedRequest(Struct, frozen=True, kw_only=True):
    """An answered request that was audited: who answered, and its scores in the order written.

    `id` is its place in the order of audits; `session` the session that it belongs to,
    or else the conversation.
    `reference_failed` says that the reference rung was asked and gave no answer, so that there is
    none to compare with. An answer that the client cut off counts: the audit had it written anew.
    """

    id: int
    request_id: str
    time: datetime
    rung: str
    reference_rung: str
    group: str | None = None
    session: str | None = None
    reference_failed: bool = False
    scores: tuple[Score, ...] = ()


def entries(
    ledger: Ledger, *, window: Window = ALL_TIME, audited: bool | None = None
) -> Iterator[Entry]:
    """Yield every request with its attempts, audits included, in the order they were written."""
    chosen = sa.select(requests).where(*within(requests.c.time_us, window))
    if audited is not None:
        chosen = chosen.where(requests.c.audited == audited)
    page = chosen.where(requests.c.id > sa.bindparam("last")).order_by(requests.c.id).limit(_PAGE)
    last = 0
    with ledger.reading() as connection:
        while rows := connection.execute(page, {"last": last}).all():
            attempts_by_request = _attempts_of([row.request_id for row in rows], connection)
            for row in rows:
                yield schema.entry_from_row(row, attempts_by_request.get(row.request_id, ()))
            last = rows[-1].id


def kept_certificates(ledger: Ledger) -> tuple[str, ...]:
    """Return the certificates that requests were answered under, as text, the earliest first."""
    query = sa.select(schema.certificates.c.document).order_by(schema.certificates.c.id)
    with ledger.reading() as connection:
        return tuple(connection.execute(query).scalars())


def audited_under(
    ledger: Ledger, *certificate_ids: str, after: int = 0
) -> Generator[AuditedRequest, None, None]:
    """Yield the audited answers given under certificates, in the one order that all readers see.

    Only those of an `id` above `after`, so that a reader can go on where it stopped.
    """
    last = after
    with ledger.reading() as connection:
        while rows := connection.execute(_AUDITED, {"ids": certificate_ids, "last": last}).all():
            scored = _scores_in([row.request_id for row in rows], connection)
            for row in rows:
                yield _audited(row, scored.get(row.request_id, ()))
            last = rows[-1].id


def scores_of(
    ledger: Ledger, *, window: Window = ALL_TIME, audited: bool | None = None
) -> dict[tuple[str, str | None], Score]:
    """Map request id and rung to the last score given; a rung of None is the answering one."""
    in_order = _scores_in_order(ledger, window=window, audited=audited)
    return {(score.request_id, score.rung): score for score in in_order}


def labelled_trials(ledger: Ledger, *, window: Window = ALL_TIME) -> LabelledTrials:
    """Collect the trials of audited requests; raises LedgerError when there are none to use.

    The answers of one request are compared by marks of one kind: the kind that marks most of them,
    of several the strongest. Feedback comes from those who care to give it, and replaces no mark:
    it counts only in a ledger that has no other kind.
    """
    marks = _marks(ledger, window=window)
    trials: list[Trial] = []
    audited = without_text = 0
    labels: set[Label] = set()
    for entry in entries(ledger, window=window, audited=True):
        audited += 1
        if entry.text is None:
            without_text += 1
            continue
        judged = _one_kind(entry, marks.get(entry.request_id, {}))
        for attempt in _last_of_each_rung(entry):
            score = _score_of(entry, attempt.rung, judged)
            trials.append(_trial(entry, attempt, quality=score.quality if score else None))
            labels |= {score.label} if score else set()
    if audited == without_text:
        _refuse(ledger, audited, window=window)
    return LabelledTrials(
        trials=tuple(trials),
        labels=tuple(sorted(labels)),
        audited=audited,
        unscored=sum(trial.status is TrialStatus.UNSCORED for trial in trials),
        without_text=without_text,
    )


def _refuse(ledger: Ledger, audited: int, *, window: Window) -> NoReturn:
    since = "" if window.since is None else f" since {window.since:%Y-%m-%d %H:%M} UTC"
    if audited:
        raise LedgerError(
            f"{ledger.where} has {audited} audited requests{since} but not the text of any",
            hint="open the ledger with store_text on: a certificate needs what the policy reads",
        )
    raise LedgerError(
        f"{ledger.where} has no audited requests{since}",
        hint="audit a random share of traffic, and score it, before certifying from it",
    )


def _last_of_each_rung(entry: Entry) -> list[Attempt]:
    return list({attempt.rung: attempt for attempt in entry.attempts}.values())


def _marks(ledger: Ledger, *, window: Window) -> dict[str, dict[Label, Marks]]:
    """Map audited requests to their marks of each kind, feedback only where there is no other."""
    scores = _scores_in_order(ledger, window=window, audited=True)
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


def _trial(entry: Entry, attempt: Attempt, *, quality: float | None) -> Trial:
    if attempt.error is not None:
        status, quality = TrialStatus.FAILED, None
    elif attempt.finish is Finish.ABSTAINED:
        status, quality = TrialStatus.SCORED, 0.0  # no answer is worth nothing, whoever scores it
    else:
        status = TrialStatus.UNSCORED if quality is None else TrialStatus.SCORED
    return Trial(
        request_id=entry.request_id,
        rung=attempt.rung,
        status=status,
        text=entry.text or "",
        group=entry.group,
        quality=quality,
        charge_usd=attempt.charge.usd,
        charge_estimated=attempt.charge.estimated,
        cluster=entry.session_id or entry.conversation_id,
        **attempt.generation_fields,
    )


def _audited(row: sa.Row[Any], scored: tuple[Score, ...]) -> AuditedRequest:
    return AuditedRequest(
        id=row.id,
        request_id=row.request_id,
        time=schema.time_from_us(row.time_us),
        rung=row.rung,
        reference_rung=row.reference_rung,
        group=row.group_name,
        session=row.session,
        reference_failed=bool(row.reference_failed),
        scores=scored,
    )


def _scores_in_order(ledger: Ledger, *, window: Window, audited: bool | None) -> list[Score]:
    query = (
        sa.select(scores)
        .join(requests, requests.c.request_id == scores.c.request_id)
        .where(*within(requests.c.time_us, window))
        .order_by(scores.c.id)
    )
    if audited is not None:
        query = query.where(requests.c.audited == audited)
    with ledger.reading() as connection:
        return [schema.score_from_row(row) for row in connection.execute(query)]


def _scores_in(request_ids: list[str], connection: sa.Connection) -> dict[str, tuple[Score, ...]]:
    query = (
        sa.select(scores)
        .where(scores.c.request_id.in_(request_ids))
        .order_by(scores.c.request_id, scores.c.id)
    )
    rows = connection.execute(query)
    return {
        request_id: tuple(schema.score_from_row(row) for row in group)
        for request_id, group in groupby(rows, key=lambda row: row.request_id)
    }


def _attempts_of(
    request_ids: list[str], connection: sa.Connection
) -> dict[str, tuple[Attempt, ...]]:
    query = (
        sa.select(attempts)
        .where(attempts.c.request_id.in_(request_ids))
        .order_by(attempts.c.request_id, attempts.c.ordinal)
    )
    rows = connection.execute(query)
    return {
        request_id: tuple(schema.attempt_from_row(row) for row in group)
        for request_id, group in groupby(rows, key=lambda row: row.request_id)
    }
