"""Rows of a ledger as values: entries with their attempts, scores, audited answers."""

from collections.abc import Generator, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from suffice.ledger import schema
from suffice.ledger.database import Ledger
from suffice.ledger.records import ALL_TIME, Attempt, AuditedRequest, Entry, Score, Status, Window
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
from suffice.ledger.values import ATTEMPTED, attempt_from_columns, entry_from_row, score_from_row

_PAGE = 1000
_FIRST_PAGE, _AUDITED_PAGE = 100, 2_000  # one often stops at a first row without a score
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
_ANSWERED_UNDER = (
    schema.is_audited,
    requests.c.certificate_id.in_(sa.bindparam("ids", expanding=True)),
    requests.c.status.in_([Status.OK.value, Status.CANCELLED.value]),
    sa.func.coalesce(requests.c.rung, answers.c.rung).is_not(None),
    requests.c.id > sa.bindparam("last"),
)
_ANSWER_OF_NO_RUNG = requests.outerjoin(answers, sa.and_(requests.c.rung.is_(None), answered_by))
_AUDITED = (
    sa.select(*_AUDITED_COLUMNS)
    .select_from(_ANSWER_OF_NO_RUNG.outerjoin(audits, audited_by_reference))
    .where(*_ANSWERED_UNDER)
    .order_by(requests.c.id)
    .limit(sa.bindparam("page"))
)
_AUDITED_SCORES = (
    sa.select(scores)
    .join(requests, requests.c.request_id == scores.c.request_id)
    .where(
        schema.is_audited,
        requests.c.certificate_id.in_(sa.bindparam("ids", expanding=True)),
        requests.c.id > sa.bindparam("last"),
        requests.c.id <= sa.bindparam("upto"),
    )
    .order_by(requests.c.id, scores.c.id)
)
_AUDITED_SESSIONS = (
    sa.select(_AUDITED_COLUMNS[-2])
    .select_from(_ANSWER_OF_NO_RUNG)
    .where(*_ANSWERED_UNDER, requests.c.id <= sa.bindparam("upto"))
    .distinct()
)


def entries(
    ledger: Ledger,
    *,
    window: Window = ALL_TIME,
    audited: bool | None = None,
    shadowed: bool | None = None,
) -> Iterator[Entry]:
    """Yield every request with its attempts, audits included, in the order they were written."""
    chosen = sa.select(requests).where(
        *within(requests.c.time_us, window), *_sampled(audited=audited, shadowed=shadowed)
    )
    page = chosen.where(requests.c.id > sa.bindparam("last")).order_by(requests.c.id).limit(_PAGE)
    last = 0
    with ledger.reading() as connection:
        while rows := connection.execute(page, {"last": last}).all():
            attempts_by_request = _attempts_of([row.request_id for row in rows], connection)
            for row in rows:
                yield entry_from_row(row, attempts_by_request.get(row.request_id, ()))
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
    last, page = after, _FIRST_PAGE
    with ledger.reading() as connection:
        while True:
            stretch = {"ids": certificate_ids, "last": last}
            rows = connection.execute(_AUDITED, stretch | {"page": page}).all()
            if not rows:
                return
            scored = _scores_by_request(
                _AUDITED_SCORES, stretch | {"upto": rows[-1].id}, connection
            )
            for row in rows:
                yield _audited(row, scored.get(row.request_id, ()))
            last, page = rows[-1].id, min(2 * page, _AUDITED_PAGE)


def audited_sessions(ledger: Ledger, *certificate_ids: str, upto: int) -> set[str]:
    """Return the sessions of what `audited_under` yields up to an `id`; raises LedgerError."""
    stretch = {"ids": certificate_ids, "last": 0, "upto": upto}
    with ledger.reading() as connection:
        return set(connection.execute(_AUDITED_SESSIONS, stretch).scalars()) - {None}


def scores_of(
    ledger: Ledger, *, window: Window = ALL_TIME, audited: bool | None = None
) -> dict[tuple[str, str | None], Score]:
    """Map request id and rung to the last score given; a rung of None is the answering one."""
    in_order = scores_in_order(ledger, window=window, audited=audited)
    return {(score.request_id, score.rung): score for score in in_order}


def scores_in_order(
    ledger: Ledger,
    *,
    window: Window = ALL_TIME,
    audited: bool | None = None,
    shadowed: bool | None = None,
) -> list[Score]:
    """List the scores of requests in the order in which they were written."""
    query = (
        sa.select(scores)
        .join(requests, requests.c.request_id == scores.c.request_id)
        .where(*within(requests.c.time_us, window), *_sampled(audited=audited, shadowed=shadowed))
        .order_by(scores.c.id)
    )
    with ledger.reading() as connection:
        return [score_from_row(row) for row in connection.execute(query)]


def _sampled(*, audited: bool | None, shadowed: bool | None) -> list[sa.ColumnElement[bool]]:
    """Say which requests are meant; None means both kinds."""
    conditions = [] if audited is None else [requests.c.audited == audited]
    if shadowed is not None:
        drawn = requests.c.shadow_chance.is_not(None)
        conditions.append(drawn if shadowed else sa.not_(drawn))
    return conditions


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


def _scores_by_request(
    query: sa.Select[Any], values: Mapping[str, Any], connection: sa.Connection
) -> dict[str, tuple[Score, ...]]:
    rows = connection.execute(query, values)
    return {
        request_id: tuple(score_from_row(row) for row in group)
        for request_id, group in groupby(rows, key=lambda row: row.request_id)
    }


def _attempts_of(
    request_ids: list[str], connection: sa.Connection
) -> dict[str, tuple[Attempt, ...]]:
    query = (
        sa.select(*ATTEMPTED)
        .where(attempts.c.request_id.in_(request_ids))
        .order_by(attempts.c.request_id, attempts.c.ordinal)
    )
    rows = connection.execute(query)
    return {
        request_id: tuple(attempt_from_columns(row) for row in group)
        for request_id, group in groupby(rows, key=itemgetter(0))
    }
