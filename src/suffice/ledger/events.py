"""The log of what operators changed: keys, configuration and certificate, append-only."""

from collections.abc import Mapping
from datetime import datetime

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from suffice.ledger.database import Ledger
from suffice.ledger.migrations import EVENTS_LOCK, take_turns
from suffice.ledger.schema import time_from_us, time_us
from suffice.types import JSON

_METADATA = sa.MetaData()
_events = sa.Table(
    "suffice_events",
    _METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("state", sa.Text),
    sa.Column("origin", sa.Text, nullable=False),
)


class Event(Struct, frozen=True, kw_only=True):
    """A change of a `subject` to a new `state`, None where it is gone; `origin` saw it first."""

    time: datetime
    subject: str
    state: JSON | None
    origin: str


def note_states(
    ledger: Ledger, states: Mapping[str, JSON], *, origin: str, now: datetime
) -> tuple[str, ...]:
    """Log which subjects are not as the log last says, and return them; raises LedgerError.

    `states` are all there are: a subject that the log has and they have not is gone. Replicas that
    see the same change log it once.
    """
    with ledger.writing() as connection:
        take_turns(connection, EVENTS_LOCK)
        newest = sa.select(sa.func.max(_events.c.id)).group_by(_events.c.subject)
        query = sa.select(_events.c.subject, _events.c.state).where(_events.c.id.in_(newest))
        before = {row.subject: row.state for row in connection.execute(query)}
        after: dict[str, str | None] = dict.fromkeys(before)
        after |= {
            subject: msgspec.json.encode(state, order="sorted").decode()
            for subject, state in states.items()
        }
        changed = {name: state for name, state in after.items() if state != before.get(name)}
        rows = [
            {"time_us": time_us(now), "subject": subject, "state": state, "origin": origin}
            for subject, state in sorted(changed.items())
        ]
        if rows:
            connection.execute(sa.insert(_events), rows)
    return tuple(changed)


def events(ledger: Ledger) -> tuple[Event, ...]:
    """List all changes in the order that they were seen."""
    with ledger.reading() as connection:
        rows = connection.execute(sa.select(_events).order_by(_events.c.id)).all()
    return tuple(
        Event(
            time=time_from_us(row.time_us),
            subject=row.subject,
            state=None if row.state is None else msgspec.json.decode(row.state),
            origin=row.origin,
        )
        for row in rows
    )
