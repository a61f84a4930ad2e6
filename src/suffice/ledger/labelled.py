"""Trials for the next certificate: requests that several rungs answered, with their marks.

A year has hundreds of thousands of them: their rows are read page by page and by position, and
only trials become values.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, NoReturn

import sqlalchemy as sa
from msgspec import Struct

from suffice.errors import LedgerError
from suffice.ledger.database import Ledger
from suffice.ledger.records import ALL_TIME, Label, Role, TrialSample, Window
from suffice.ledger.schema import attempts, is_audited, outcomes, requests, scores, usd, within
from suffice.ledger.values import GENERATED, generation_fields
from suffice.types import Finish, Trial, TrialStatus

Row = Sequence[Any]
Marks = Mapping[str | None, float]  # by rung, the last of each; None is the rung that answered
Conditions = Sequence[sa.ColumnElement[bool]]

_PAGE = 5_000  # of many pages, PostgreSQL reads all scores for each
_REQUEST = (
    *(requests.c[name] for name in ("id", "request_id", "rung", "group_name", "text")),
    sa.func.coalesce(requests.c.session_id, requests.c.conversation_id),
)
_CALL = ("role", "rung", "charge_picousd", "charge_estimated")
_ROLE, _RUNG, _PICOUSD, _ESTIMATED = range(1, 5)  # places in a call's row, after the request's id
_GENERATED = slice(5, None)
_STRENGTH = {label.value: -place for place, label in enumerate(Label)}


class _SampledRequest(NamedTuple):
    """A request of the sample: its columns, its calls in order, and its marks of each kind."""

    columns: Row
    calls: Sequence[Row]
    kinds: Mapping[str, Marks]


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
    drawn = is_audited if sample is TrialSample.AUDITS else requests.c.shadow_chance.is_not(None)
    sampled = (*within(requests.c.time_us, window), drawn)
    trials: list[Trial] = []
    count = without_text = 0
    labels: set[str] = set()
    with ledger.reading() as connection:
        rungs = _tried(connection, sampled) if sample is TrialSample.SHADOWS else None
        for columns, calls, kinds in _requests(connection, sampled):
            count += 1
            _, request_id, answering, group, text, cluster = columns
            if text is None:
                without_text += 1
                continue
            label, marks = _one_kind(answering, calls, kinds)
            for rung, answer in _last_of_each_rung(calls).items():
                if rungs is not None and rung not in rungs:
                    continue
                quality = marks.get(rung)
                if quality is None and rung == answering:
                    quality = marks.get(None)
                if quality is not None:
                    labels.add(label)
                trials.append(
                    Trial(
                        request_id=request_id,
                        rung=rung,
                        text=text,
                        group=group,
                        cluster=cluster,
                        **_answer_fields(answer, quality=quality),
                    )
                )
    if count == without_text:
        _refuse(ledger, count, window=window, sample=sample)
    return LabelledTrials(
        trials=tuple(trials),
        labels=tuple(sorted(map(Label, labels))),
        audited=count,
        unscored=sum(trial.status is TrialStatus.UNSCORED for trial in trials),
        without_text=without_text,
    )


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


def _tried(connection: sa.Connection, sampled: Conditions) -> set[str]:
    """Name the references, and the rung that answered most of the requests beside one."""
    beside = attempts.alias("beside")
    by_reference = sa.and_(
        beside.c.request_id == requests.c.request_id,
        beside.c.rung == requests.c.reference_rung,
        beside.c.role != Role.CHECK.value,
    )
    most = (
        sa.select(attempts.c.rung)
        .join(requests, requests.c.request_id == attempts.c.request_id)
        .join(beside, by_reference)
        .where(
            *sampled,
            attempts.c.role != Role.CHECK.value,
            attempts.c.rung != requests.c.reference_rung,
        )
        .group_by(attempts.c.rung)
        .order_by(sa.func.count(sa.distinct(requests.c.id)).desc(), attempts.c.rung)
        .limit(1)
    )
    references = sa.select(requests.c.reference_rung).where(*sampled).distinct()
    return {*connection.execute(references).scalars(), *connection.execute(most).scalars()}


def _requests(connection: sa.Connection, sampled: Conditions) -> Iterator[_SampledRequest]:
    """Yield the requests of a sample in the order written, feedback only where no other marks."""
    after = requests.c.id > sa.bindparam("last")
    no_feedback = scores.c.label != Label.FEEDBACK.value
    marked = sa.exists().where(scores.c.request_id == requests.c.request_id, no_feedback)
    first = sa.select(requests.c.id).where(*sampled, after, marked).order_by(requests.c.id).limit(1)
    values = {"last": 0}
    counted = [no_feedback] if connection.execute(first, values).first() else []
    page = sa.select(*_REQUEST).where(*sampled, after).order_by(requests.c.id).limit(_PAGE)
    stretch = (*sampled, after, requests.c.id <= sa.bindparam("upto"))
    calls = (
        sa.select(requests.c.id, *(attempts.c[name] for name in _CALL), *GENERATED)
        .join(requests, requests.c.request_id == attempts.c.request_id)
        .where(*stretch)
        .order_by(requests.c.id, attempts.c.ordinal)
    )
    marks = (
        sa.select(requests.c.id, scores.c.label, scores.c.rung, scores.c.quality)
        .join(requests, requests.c.request_id == scores.c.request_id)
        .where(*stretch, *counted)
        .order_by(requests.c.id, scores.c.id)
    )
    while rows := connection.execute(page, values).all():
        values["upto"] = rows[-1].id
        by_request = {
            number: tuple(group)
            for number, group in groupby(connection.execute(calls, values).all(), key=itemgetter(0))
        }
        kinds: dict[int, dict[str, dict[str | None, float]]] = {}
        for number, label, rung, quality in connection.execute(marks, values).all():
            kinds.setdefault(number, {}).setdefault(label, {})[rung] = quality
        for row in rows:
            yield _SampledRequest(row, by_request.get(row.id, ()), kinds.get(row.id, {}))
        values = {"last": rows[-1].id}


def _one_kind(
    answering: str | None, calls: Sequence[Row], kinds: Mapping[str, Marks]
) -> tuple[str, Marks]:
    """Return the marks of the kind that marks most answers, of several the strongest."""
    if len(kinds) < 2:
        return next(iter(kinds.items()), ("", {}))
    rungs = {call[_RUNG] for call in calls}

    def rank(label: str) -> tuple[int, int]:
        marked = {answering if rung is None else rung for rung in kinds[label]}
        return len(marked & rungs), _STRENGTH[label]

    label = max(kinds, key=rank)
    return label, kinds[label]


def _last_of_each_rung(calls: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the last answer of each rung with its checks, which stand behind it in the books."""
    last: dict[str, list[Row]] = {}
    rung = ""
    for call in calls:
        if call[_ROLE] != Role.CHECK.value:
            rung = call[_RUNG]
            last[rung] = [call]
        elif rung in last:
            last[rung].append(call)
    return last


def _answer_fields(checked: Sequence[Row], *, quality: float | None) -> dict[str, Any]:
    """Return the fields of a trial that an answer and the checks behind it have."""
    answer, *checks = checked
    fields = generation_fields(answer[_GENERATED])
    if fields["error"] is not None:
        status, quality = TrialStatus.FAILED, None
    elif fields["finish"] is Finish.ABSTAINED:
        status, quality = TrialStatus.SCORED, 0.0  # no answer is worth nothing, whoever scores it
    else:
        status = TrialStatus.UNSCORED if quality is None else TrialStatus.SCORED
    durations_s = [generation_fields(check[_GENERATED])["duration_s"] or 0.0 for check in checks]
    return fields | {
        "status": status,
        "quality": quality,
        "charge_usd": _usd_of(checked),
        "charge_estimated": any(call[_ESTIMATED] for call in checked),
        "check_usd": _usd_of(checks) if checks else None,
        "check_s": max(durations_s, default=None),
    }


def _usd_of(calls: Sequence[Row]) -> Decimal | None:
    """Add up what calls cost; a sum with an unknown part is unknown."""
    amounts = [call[_PICOUSD] for call in calls]
    return None if None in amounts else usd(sum(amounts))
