"""What the audits of a certificate have shown, as a value that takes in one answer at a time."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from suffice.guarantee import (
    Certificate,
    GroupMonitors,
    MonitorChange,
    RiskKind,
    skip,
    spare,
    update,
    update_group,
    watch_groups,
)
from suffice.guarantee.monitor import Monitor
from suffice.ledger import AuditedRequest, Label
from suffice.scoring.audit_rule import AuditRule
from suffice.scoring.audits import audited_loss, labels_of
from suffice.types import Spend

BLIND_AFTER = 10  # audits in a row of which nobody said how good the answer was
_SLACK = timedelta(minutes=1)  # for a label that was given in time and is still being written


class GroupWatch(Struct, frozen=True, kw_only=True):
    """One watched risk: evidence `wealth` raises the alarm when it reaches `limit`, for good.

    A `group` of None is all requests together. The evidence is against a risk of `alpha`.
    `alarm_time` is that of the audited request at which the alarm fell.
    """

    group: str | None
    alpha: float
    audits: int
    losses: float
    wealth: float
    limit: float
    alarm_time: datetime | None


class GuardState(Struct, frozen=True, kw_only=True):
    """What the ledger has shown up to the audited request `cursor`; None for no certificate.

    `unlabelled` audits got none of the `labels` in time and say nothing; `silent` counts those
    since the last that did. An alarm of the group None is one of all requests together. `share` of
    requests is drawn for audits at present, so that `audit_spend`, today's in UTC, lasts the
    day; audits pause from `paused_since` until its end. `as_of` is when the ledger was last read,
    None before the first time.
    """

    certificate_id: str | None
    monitors: GroupMonitors | None
    share: float = 1.0
    paced_at: datetime | None = None
    alarm_times: dict[str | None, datetime] = {}
    cursor: int = 0
    labels: tuple[Label, ...] = ()
    unlabelled: int = 0
    silent: int = 0
    audit_spend: Spend = Spend()
    paused_since: datetime | None = None
    as_of: datetime | None = None

    @property
    def blind(self) -> bool:
        """Whether audits come and labels do not, so that no alarm can fall."""
        return self.silent >= BLIND_AFTER

    @property
    def watches(self) -> tuple[GroupWatch, ...]:
        """The declared groups in order, then all requests together."""
        if self.monitors is None:
            return ()
        return tuple(
            _watch(name, monitor, alarm_time=self.alarm_times.get(name))
            for name, monitor in (*self.monitors.groups.items(), (None, self.monitors.pooled))
        )


def fresh(certificate: Certificate | None, *, share: float = 1.0) -> GuardState:
    """Return the state before the first audit.

    Half of `delta` watches all requests together against `alpha`; the groups share the other half,
    each against what was promised of it.
    """
    if certificate is None:
        return GuardState(certificate_id=None, monitors=None, share=share)
    scope = certificate.terms.scope
    promised = {name: scope.promised.get(name, certificate.alpha) for name in scope.groups}
    return GuardState(
        certificate_id=certificate.certificate_id,
        share=share,
        monitors=watch_groups(
            {name: risk for name, risk in promised.items() if risk < 1.0},
            alpha=certificate.alpha,
            delta=certificate.delta,
            net=certificate.risk_kind is RiskKind.NET_LOSS,
        ),
    )


def watch(
    state: GuardState,
    rows: Iterable[AuditedRequest],
    *,
    certificate: Certificate,
    rule: AuditRule,
    now: datetime,
) -> GuardState:
    """Take in audited answers in order, up to the first whose label may still come."""
    kind, labels = certificate.risk_kind, labels_of(certificate, rule)
    monitors, alarms = state.monitors, dict(state.alarm_times)
    cursor, unlabelled, silent = state.cursor, state.unlabelled, state.silent
    wait = timedelta(seconds=rule.label_wait_s)
    assert monitors is not None
    for row in rows:
        change: MonitorChange = spare
        if row.rung != row.reference_rung:
            final = now >= row.time + wait + _SLACK or not _may_come(row, labels)
            loss = audited_loss(row, kind, labels=labels, by=row.time + wait, final=final)
            if loss is None and not final:
                break
            if loss is None:
                unlabelled, silent, change = unlabelled + 1, silent + 1, skip
            else:
                silent, change = 0, partial(update, loss=loss)
        cursor = row.id
        if change is spare and kind is RiskKind.ERROR_AMONG_ANSWERED:
            continue  # which is one of the other answers
        monitors = update_group(monitors, row.group, change=change)
        if monitors.pooled.alarm_at is not None:
            alarms.setdefault(None, row.time)
        if row.group in monitors.groups and monitors.groups[row.group].alarm_at is not None:
            alarms.setdefault(row.group, row.time)
    return replace(
        state,
        monitors=monitors,
        alarm_times=alarms,
        cursor=cursor,
        labels=labels,
        unlabelled=unlabelled,
        silent=silent,
    )


def _may_come(row: AuditedRequest, labels: Iterable[Label]) -> bool:
    """Without the reference's answer, only an application can still say how good an answer was."""
    return not row.reference_failed or Label.FEEDBACK in labels


def _watch(name: str | None, monitor: Monitor, *, alarm_time: datetime | None) -> GroupWatch:
    return GroupWatch(
        group=name,
        alpha=monitor.alpha,
        audits=monitor.audits,
        losses=monitor.losses,
        wealth=monitor.wealth,
        limit=1.0 / monitor.delta,
        alarm_time=alarm_time,
    )
