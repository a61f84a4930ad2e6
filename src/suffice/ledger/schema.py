"""The ledger's tables as SQLAlchemy sees them, and rows made from values.

The tables are created by `suffice.ledger.migrations`, never from here.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from suffice.ledger.records import (
    OFF_PATH,
    Attempt,
    Entry,
    Role,
    Score,
    Window,
)
from suffice.masking import masked
from suffice.types import Finish
from suffice.units import picousd, usd_from_picousd

Row = dict[str, Any]


class GenerationColumn(NamedTuple):
    """How one field of a generation stands in its column; `is_text` is kept only with text on.

    Without `from_column` the column holds the value itself. The column has the name of the field,
    unless `column` names it.
    """

    type: type[sa.types.TypeEngine[Any]]
    to_column: Callable[[Any], Any] = lambda value: value
    from_column: Callable[[Any], Any] | None = None
    is_text: bool = False
    column: str | None = None


def _storable(text: str | None) -> str | None:
    """Replace what a database cannot hold, NUL and lone surrogates, so that no row is lost."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _masked(text: str | None) -> str | None:
    return _storable(text and masked(text))


def _texts_to_column(texts: tuple[str, ...]) -> str | None:
    return msgspec.json.encode([_storable(text) for text in texts]).decode() if texts else None


def _texts_from_column(column: str | None) -> tuple[str, ...]:
    return msgspec.json.decode(column, type=tuple[str, ...]) if column else ()


_FINISHES = {finish.value: finish for finish in Finish}
# Every field of a generation but `usage`, whose counts have two columns each.
GENERATION_COLUMNS: Mapping[str, GenerationColumn] = {
    "finish": GenerationColumn(
        sa.Text,
        to_column=lambda finish: finish and finish.value,
        from_column=lambda column: column and _FINISHES[column],
    ),
    "duration_s": GenerationColumn(sa.Double),
    "ttft_s": GenerationColumn(sa.Double),
    "mean_logprob": GenerationColumn(sa.Double),
    "effort_seen": GenerationColumn(sa.Boolean),
    "check": GenerationColumn(sa.Boolean, column="check_passed"),  # `check` is a word of SQL
    "error": GenerationColumn(sa.Text, to_column=_masked),
    "answer": GenerationColumn(sa.Text, to_column=_storable, is_text=True),
    "reasoning": GenerationColumn(sa.Text, to_column=_storable, is_text=True),
    "samples": GenerationColumn(
        sa.Text, to_column=_texts_to_column, from_column=_texts_from_column, is_text=True
    ),
}
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
    sa.Column("session_id", sa.Text),
    sa.Column("key_id", sa.Text),
    sa.Column("tag", sa.Text),
    sa.Column("turn", sa.Integer),
    sa.Column("arm", sa.Text),
    sa.Column("arm_chance", sa.Double),
    sa.Column("wish", sa.Text),
    sa.Column("shadow_chance", sa.Double),
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
    sa.Column("usage_kinds", sa.Text),
    sa.Column("service_tier", sa.Text),
    sa.Column("stated_picousd", sa.BigInteger),
    sa.Column("charge_picousd", sa.BigInteger),
    sa.Column("charge_estimated", sa.Boolean, nullable=False),
    sa.Column("price", sa.Text),
    *(sa.Column(field.column or name, field.type) for name, field in GENERATION_COLUMNS.items()),
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

certificates = sa.Table(
    "suffice_certificates",
    _METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("certificate_id", sa.Text, nullable=False),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)

TABLES = (requests, attempts, scores, certificates)

states = sa.Table(
    "suffice_states",
    _METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("state_id", sa.Text, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("previous_id", sa.Text),
    sa.Column("conversation_id", sa.Text),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("expires_us", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)

sessions = sa.Table(
    "suffice_sessions",
    _METADATA,
    sa.Column("session_id", sa.Text, primary_key=True),
    sa.Column("agent", sa.Text, primary_key=True),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)

outcomes = sa.Table(
    "suffice_outcomes",
    _METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("session_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("score", sa.Double, nullable=False),
    sa.Column("key_id", sa.Text),
    sa.Column("time_us", sa.BigInteger, nullable=False),
)

_AUDIT: sa.ColumnElement[str] = sa.literal_column(
    f"'{Role.AUDIT.value}'"
)  # spelt out, for the partial indexes
is_audit = attempts.c.role == _AUDIT
on_path = sa.and_(*(attempts.c.role != role.value for role in sorted(OFF_PATH)))
is_audited: sa.ColumnElement[bool] = sa.literal_column("suffice_requests.audited")
# SQLite's dialect writes `audited = 1` for a column of the type Boolean, and reads no index for it
is_sampled = sa.or_(requests.c.audited, requests.c.shadow_chance.is_not(None))  # for a certificate
audits = attempts.alias("audits")
answers = attempts.alias("answers")
answered_by = sa.and_(
    answers.c.request_id == requests.c.request_id, answers.c.role == Role.ANSWER.value
)
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
        "session_id": _storable(entry.session_id),
        "key_id": _storable(entry.key_id),
        "tag": _storable(",".join(entry.tags) or None),
        "turn": entry.turn,
        "arm": entry.arm,
        "arm_chance": entry.arm_chance,
        "wish": entry.wish,
        "shadow_chance": entry.shadow_chance,
        "audited": entry.audited,
        "charge_picousd": _picousd(charge.usd),
        "charge_estimated": charge.estimated,
        "reference_picousd": _picousd(entry.reference_usd),
        "reference_known": entry.reference_known.value,
        "certificate_id": entry.certificate_id,
        "error": _masked(entry.error),
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
    }
    for name, field in GENERATION_COLUMNS.items():
        kept = store_text or not field.is_text
        row[field.column or name] = field.to_column(getattr(attempt, name)) if kept else None
    for name in COUNTS:
        count = getattr(attempt.usage, f"{name}_tokens")
        row[f"{name}_tokens"] = count and count.tokens
        row[f"{name}_source"] = count and count.source.value
    usage = attempt.usage
    row["usage_kinds"] = msgspec.json.encode(usage.kinds).decode() if usage.kinds else None
    row["service_tier"] = _storable(usage.service_tier)
    row["stated_picousd"] = _picousd(usage.stated_usd)
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


def _picousd(amount: Decimal | None) -> int | None:
    return None if amount is None else picousd(amount)
