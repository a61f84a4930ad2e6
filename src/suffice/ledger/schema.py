"""The ledger's tables as SQLAlchemy sees them, and rows made from values and back.

The tables are created by `suffice.ledger.migrations`, never from here.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import sqlalchemy as sa

from suffice.ledger.records import (
    Attempt,
    Entry,
    Label,
    ReferenceKnown,
    Role,
    Score,
    Status,
    Window,
)
from suffice.types import Charge, Count, CountSource, Finish, Usage, Vector
from suffice.units import picousd, usd_from_picousd

Row = dict[str, Any]

COUNTS = ("input", "cache_read", "cache_write", "output", "reasoning")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_METADATA = sa.MetaData()

requests = sa.Table(
    "suffice_requests",
    _METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("rung", sa.Text),
    sa.Column("reference_rung", sa.Text, nullable=False),
    sa.Column("vector", sa.Text, nullable=False),
    sa.Column("group_name", sa.Text),
    sa.Column("conversation_id", sa.Text),
    sa.Column("key_id", sa.Text),
    sa.Column("audited", sa.Boolean, nullable=False),
    sa.Column("charge_picousd", sa.BigInteger),
    sa.Column("charge_estimated", sa.Boolean, nullable=False),
    sa.Column("reference_picousd", sa.BigInteger),
    sa.Column("reference_known", sa.Text, nullable=False),
    sa.Column("certificate_id", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("text", sa.Text),
)

attempts = sa.Table(
    "suffice_attempts",
    _METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("rung", sa.Text, nullable=False),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    *(
        column
        for name in COUNTS
        for column in (
            sa.Column(f"{name}_tokens", sa.BigInteger),
            sa.Column(f"{name}_source", sa.Text),
        )
    ),
    sa.Column("charge_picousd", sa.BigInteger),
    sa.Column("charge_estimated", sa.Boolean, nullable=False),
    sa.Column("price", sa.Text),
    sa.Column("finish", sa.Text),
    sa.Column("duration_s", sa.Double),
    sa.Column("ttft_s", sa.Double),
    sa.Column("mean_logprob", sa.Double),
    sa.Column("effort_seen", sa.Boolean),
    sa.Column("error", sa.Text),
    sa.Column("answer", sa.Text),
    sa.Column("reasoning", sa.Text),
    sa.Column("samples", sa.Text),
)

scores = sa.Table(
    "suffice_scores",
    _METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("rung", sa.Text),
    sa.Column("quality", sa.Double, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("time_us", sa.BigInteger, nullable=False),
)

TABLES = (requests, attempts, scores)

_AUDIT: sa.ColumnElement[str] = sa.literal_column(
    f"'{Role.AUDIT.value}'"
)  # spelt out, for the partial indexes
is_audit = attempts.c.role == _AUDIT
is_audited = sa.literal_column("suffice_requests.audited", sa.Boolean)  # spelt out likewise
audits = attempts.alias("audits")
audited_by_reference = sa.and_(
    audits.c.request_id == requests.c.request_id,
    audits.c.role == _AUDIT,
    audits.c.rung == requests.c.reference_rung,
)


def time_us(at: datetime) -> int:
    """Turn an aware time into whole microseconds since 1970 in UTC, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def time_from_us(microseconds: int) -> datetime:
    """Turn microseconds since 1970 back into a time in UTC, exactly."""
    return _EPOCH + timedelta(microseconds=microseconds)


def usd(amount: int | None) -> Decimal | None:
    """Turn a `_picousd` column into dollars; unknown stays unknown."""
    return None if amount is None else usd_from_picousd(amount)


def within(column: sa.ColumnElement[int], window: Window) -> list[sa.ColumnElement[bool]]:
    """Say which rows a window keeps, by their `time_us` column."""
    conditions = []
    if window.since is not None:
        conditions.append(column >= time_us(window.since))
    if window.until is not None:
        conditions.append(column < time_us(window.until))
    return conditions


def request_row(entry: Entry, *, store_text: bool) -> Row:
    """Make the row of an entry in `suffice_requests`."""
    charge = entry.charge
    return {
        "request_id": entry.request_id,
        "time_us": time_us(entry.time),
        "status": entry.status.value,
        "rung": entry.rung,
        "reference_rung": entry.reference_rung,
        "vector": entry.vector.value,
        "group_name": _storable(entry.group),
        "conversation_id": _storable(entry.conversation_id),
        "key_id": _storable(entry.key_id),
        "audited": entry.audited,
        "charge_picousd": _picousd(charge.usd),
        "charge_estimated": charge.estimated,
        "reference_picousd": _picousd(entry.reference_usd),
        "reference_known": entry.reference_known.value,
        "certificate_id": entry.certificate_id,
        "error": _storable(entry.error),
        "text": _storable(entry.text) if store_text else None,
    }


def attempt_row(
    attempt: Attempt, *, request_id: str, ordinal: int, at: datetime, store_text: bool
) -> Row:
    """Make the row of an attempt in `suffice_attempts`; `at` stands in for a time not given."""
    row = {
        "request_id": request_id,
        "ordinal": ordinal,
        "role": attempt.role.value,
        "rung": attempt.rung,
        "time_us": time_us(attempt.time or at),
        "charge_picousd": _picousd(attempt.charge.usd),
        "charge_estimated": attempt.charge.estimated,
        "price": attempt.charge.price,
        "finish": attempt.finish and attempt.finish.value,
        "duration_s": attempt.duration_s,
        "ttft_s": attempt.ttft_s,
        "mean_logprob": attempt.mean_logprob,
        "effort_seen": attempt.effort_seen,
        "error": _storable(attempt.error),
        "answer": _storable(attempt.answer) if store_text else None,
        "reasoning": _storable(attempt.reasoning) if store_text else None,
        "samples": _samples(attempt.samples) if store_text else None,
    }
    for name in COUNTS:
        count = getattr(attempt.usage, f"{name}_tokens")
        row[f"{name}_tokens"] = count and count.tokens
        row[f"{name}_source"] = count and count.source.value
    return row


def score_row(score: Score) -> Row:
    """Make the row of a score in `suffice_scores`."""
    return {
        "request_id": score.request_id,
        "rung": score.rung,
        "quality": score.quality,
        "label": score.label.value,
        "time_us": time_us(score.time),
    }


def entry_from_row(row: Any, made: tuple[Attempt, ...]) -> Entry:
    """Make the entry of a row of `suffice_requests` and its attempts."""
    return Entry(
        request_id=row.request_id,
        time=time_from_us(row.time_us),
        status=Status(row.status),
        rung=row.rung,
        reference_rung=row.reference_rung,
        attempts=made,
        vector=Vector(row.vector),
        group=row.group_name,
        conversation_id=row.conversation_id,
        key_id=row.key_id,
        audited=row.audited,
        reference_usd=usd(row.reference_picousd),
        reference_known=ReferenceKnown(row.reference_known),
        certificate_id=row.certificate_id,
        error=row.error,
        text=row.text,
    )


def attempt_from_row(row: Any) -> Attempt:
    """Make the attempt of a row of `suffice_attempts`."""
    return Attempt(
        rung=row.rung,
        role=Role(row.role),
        time=time_from_us(row.time_us),
        usage=_usage(row._mapping),
        charge=Charge(usd=usd(row.charge_picousd), estimated=row.charge_estimated, price=row.price),
        finish=row.finish and Finish(row.finish),
        duration_s=row.duration_s,
        ttft_s=row.ttft_s,
        mean_logprob=row.mean_logprob,
        effort_seen=row.effort_seen,
        error=row.error,
        answer=row.answer,
        reasoning=row.reasoning,
        samples=msgspec.json.decode(row.samples, type=tuple[str, ...]) if row.samples else (),
    )


def score_from_row(row: Any) -> Score:
    """Make the score of a row of `suffice_scores`."""
    return Score(
        request_id=row.request_id,
        time=time_from_us(row.time_us),
        quality=row.quality,
        label=Label(row.label),
        rung=row.rung,
    )


def _picousd(amount: Decimal | None) -> int | None:
    return None if amount is None else picousd(amount)


def _storable(text: str | None) -> str | None:
    """Replace what a database cannot hold, NUL and lone surrogates, so that no row is lost."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _samples(samples: tuple[str, ...]) -> str | None:
    if not samples:
        return None
    return msgspec.json.encode([_storable(sample) for sample in samples]).decode()


def _usage(row: Any) -> Usage:
    counts = {}
    for name in COUNTS:
        tokens = row[f"{name}_tokens"]
        if tokens is not None:
            counts[f"{name}_tokens"] = Count(tokens, CountSource(row[f"{name}_source"]))
    return Usage(**counts)
