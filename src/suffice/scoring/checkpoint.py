"""What a guard has taken in, kept in the ledger: a restart goes on from there.

A checkpoint says what taking in every audit again would say, to the last bit: numbers are written
so that they are read back exactly, and all that decides besides the rows is in the checkpoint's id.
Rows are taken in for good: none before a checkpoint may still change.
"""

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from suffice.errors import InputError
from suffice.guarantee import Certificate, GroupMonitors
from suffice.ledger import Label
from suffice.scoring.audit_rule import AuditRule
from suffice.scoring.audits import labels_of
from suffice.scoring.guard_state import GuardState

FORM = 1  # of the betting and of the losses: another form makes its own checkpoints


class _Checkpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a guard's state that follows from audits."""

    cursor: int
    monitors: GroupMonitors
    alarm_times: list[tuple[str | None, datetime]]
    unlabelled: int
    silent: int


def watch_id(
    certificate: Certificate,
    rule: AuditRule,
    *,
    certificate_ids: tuple[str, ...],
    alarm_times: Mapping[str | None, datetime],
) -> str:
    """Name what a state follows from besides the rows: promise, labels, and what was inherited."""
    alarms = sorted((name is None, name or "", at) for name, at in alarm_times.items())
    labels = labels_of(certificate, rule)
    parts = (FORM, certificate, labels, rule.label_wait_s, certificate_ids, alarms)
    return blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()


def saved(state: GuardState) -> str:
    """Write a state as the text of a checkpoint."""
    assert state.monitors is not None
    checkpoint = _Checkpoint(
        cursor=state.cursor,
        monitors=state.monitors,
        alarm_times=list(state.alarm_times.items()),
        unlabelled=state.unlabelled,
        silent=state.silent,
    )
    return msgspec.json.encode(checkpoint).decode()


def restored(state: GuardState, document: str | None, *, labels: tuple[Label, ...]) -> GuardState:
    """Return a fresh state moved on to a checkpoint; as it is where there is none to be read."""
    if document is None:
        return state
    try:
        checkpoint = msgspec.json.decode(document, type=_Checkpoint)
    except (msgspec.DecodeError, InputError):
        return state
    return replace(
        state,
        cursor=checkpoint.cursor,
        monitors=checkpoint.monitors,
        alarm_times=state.alarm_times | dict(checkpoint.alarm_times),
        labels=labels,
        unlabelled=checkpoint.unlabelled,
        silent=checkpoint.silent,
    )
