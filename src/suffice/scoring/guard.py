"""The live guarantee: who is audited, what the audits have shown, and whom the policy may serve.

Every worker keeps a guard of its own, and all of them agree, because what a guard knows is a
function of the ledger: the audited answers given under its certificate, in the order that the
ledger keeps them, each with its first label. A restart reads them again.

The ledger keeps every certificate that was served. A new one does not begin with a clean slate:
where it rests on requests of an earlier one, the alarms of that one hold for it too, and the audits
of certificates that it renews go on counting. While the risk of whatever policy was in force is at
most alpha, wealth does not grow on average, so carrying it over is as valid as one certificate.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from suffice.errors import CertificateError, InputError
from suffice.guarantee import (
    Certificate,
    GroupMonitors,
    MonitorChange,
    RiskKind,
    from_json,
    share_requests,
    skip,
    spare,
    update,
    update_group,
    watch_groups,
)
from suffice.guarantee.monitor import Monitor
from suffice.ledger import (
    AuditedRequest,
    Label,
    Ledger,
    Window,
    audit_spend,
    audited_under,
    kept_certificates,
)
from suffice.scoring.audit_rule import AuditRule, share_within
from suffice.scoring.audits import audited_loss, is_drawn, watching_labels
from suffice.types import Spend

BLIND_AFTER = 10  # audits in a row of which nobody said how good the answer was
_SLACK = timedelta(minutes=1)  # for a label that was given in time and is still being written
_PACE_EVERY = timedelta(minutes=1)


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


class Heritage(Struct, frozen=True, kw_only=True):
    """What a certificate takes over from earlier ones: whose audits count, and their alarms."""

    certificate_ids: tuple[str, ...]
    alarm_times: dict[str | None, datetime] = {}


class Guard:
    """Watches one certificate; `catch_up` blocks on the ledger, everything else is quick.

    Without a certificate it only draws and counts audits, and allows nobody. `allowed` may be
    called from any thread, and says no until `catch_up` has read the ledger once. A certificate
    about sessions counts each session once: at most one request of the longest session is drawn on
    average, and the first that was audited counts.
    """

    def __init__(
        self,
        ledger: Ledger,
        certificate: Certificate | None,
        *,
        rule: AuditRule,
        heritage: Heritage | None = None,
    ) -> None:
        self.rule = rule
        self.state = fresh(certificate, share=rule.share)
        self._ledger = ledger
        self._certificate = certificate
        self._heritage = heritage
        self._sessions: set[str] = set()
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Keep the certificate in the ledger; call it before the first answer under it."""
        if self._certificate is not None:
            document = msgspec.json.encode(self._certificate).decode()
            self._ledger.keep_certificate(self._certificate.certificate_id, document)

    def drawn(self, request_id: str) -> bool:
        """Say, before anything else is known of a request, whether it will be audited."""
        state = self.state
        paused = state.paused_since is not None
        return not paused and is_drawn(request_id, share=state.share, seed=self.rule.seed)

    def allowed(self, group: str | None) -> bool:
        """Say whether the policy may choose for this group; a pooled alarm ends it for all."""
        state = self.state
        if state.monitors is None or state.as_of is None:
            return False
        return None not in state.alarm_times and group not in state.alarm_times

    def catch_up(self, *, now: datetime) -> GuardState:
        """Take in what the ledger holds by now; call it at the start, and every second or so.

        Raises LedgerError, and then nothing has changed.
        """
        with self._lock:
            sessions = set[str]()
            state = self._read_on(self.state, sessions, now=now)
            self.state = self._within_budget(state, now=now)
            self._sessions |= sessions
            return self.state

    def read_on(self, *, now: datetime) -> GuardState:
        """Return what the audits in the ledger say by now, without what they cost; keeps nothing.

        Raises LedgerError.
        """
        return self._read_on(self.state, set(), now=now)

    def _read_on(self, state: GuardState, sessions: set[str], *, now: datetime) -> GuardState:
        """Take in new audits, and note the `sessions` that now have counted."""
        certificate = self._certificate
        if certificate is None:
            return state
        if self._heritage is None:
            self._heritage = heritage_of(self._ledger, certificate, rule=self.rule, now=now)
        state = replace(state, alarm_times=self._heritage.alarm_times | state.alarm_times)
        ids = self._heritage.certificate_ids
        audited = audited_under(self._ledger, *ids, after=state.cursor)
        with closing(audited) as rows:
            for row in rows:
                counted = row.session in self._sessions or row.session in sessions
                if counted and certificate.largest > 1:
                    state = replace(state, cursor=row.id)
                    continue
                after = watch(state, [row], certificate=certificate, rule=self.rule, now=now)
                if after.cursor == state.cursor:
                    return after
                state = after
                sessions |= set() if row.session is None else {row.session}
        return state

    def _within_budget(self, state: GuardState, *, now: datetime) -> GuardState:
        """Add what today's audits have cost, and how much may be drawn so that they last."""
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        today = audit_spend(self._ledger, window=Window(since=midnight))
        rule, share = self.rule, _most(self.rule, self._certificate)
        spent_usd = today.spend.known_usd + today.spend.unknown_count * rule.counted_usd
        over = rule.usd_per_day is not None and spent_usd >= rule.usd_per_day
        state = replace(
            state,
            audit_spend=today.spend,
            paused_since=(today.last or now) if over else None,
            as_of=now,
        )
        if rule.usd_per_day is None:
            return replace(state, share=share)
        if state.paced_at is not None and now - state.paced_at < _PACE_EVERY:
            return state
        pace = share_within(self._ledger, rule, left_usd=rule.usd_per_day - spent_usd, now=now)
        return replace(state, share=min(share, pace), paced_at=now)


def heritage_of(
    ledger: Ledger, certificate: Certificate, *, rule: AuditRule, now: datetime
) -> Heritage:
    """Find out what a certificate takes over from those that were served before it."""
    served = _readable(kept_certificates(ledger))
    ids = [one.certificate_id for one in served]
    if certificate.certificate_id in ids:
        served = served[: ids.index(certificate.certificate_id)]
    line = [certificate]
    for earlier in reversed(served):
        if any(_takes_over(one, earlier) for one in line):
            line.insert(0, earlier)
    before = line[:-1]
    return _inherited(certificate, before, *_follow(before, ledger, rule=rule, now=now))


def alarms_of(
    ledger: Ledger, *, rule: AuditRule, now: datetime
) -> list[tuple[Certificate, datetime | None]]:
    """List the certificates that were served, each with the time of its last alarm, if any."""
    served = _readable(kept_certificates(ledger))
    alarms = _follow(served, ledger, rule=rule, now=now)[1]
    return [(one, max(alarms[one.certificate_id].values(), default=None)) for one in served]


def _follow(
    line: Sequence[Certificate], ledger: Ledger, *, rule: AuditRule, now: datetime
) -> tuple[dict[str, Heritage], dict[str, dict[str | None, datetime]]]:
    """Go through certificates in the order they were served: what each inherits, and its alarms."""
    heritages: dict[str, Heritage] = {}
    alarms: dict[str, dict[str | None, datetime]] = {}
    for at, certificate in enumerate(line):
        heritage = _inherited(certificate, line[:at], heritages, alarms)
        own, guard = (
            certificate.certificate_id,
            Guard(ledger, certificate, rule=rule, heritage=heritage),
        )
        heritages[own], alarms[own] = heritage, guard.read_on(now=now).alarm_times
    return heritages, alarms


def _inherited(
    certificate: Certificate,
    before: Sequence[Certificate],
    heritages: Mapping[str, Heritage],
    alarms: Mapping[str, Mapping[str | None, datetime]],
) -> Heritage:
    """Say what a certificate takes over from those `before`, given what they took over."""
    audits, inherited = dict[str, None](), dict[str | None, datetime]()
    for earlier in (one for one in before if _takes_over(certificate, one)):
        if _is_no_stricter(certificate, earlier):
            audits |= dict.fromkeys(heritages[earlier.certificate_id].certificate_ids)
        if _rest_on_the_same(certificate, earlier):
            inherited |= alarms[earlier.certificate_id]
    return Heritage(certificate_ids=(*audits, certificate.certificate_id), alarm_times=inherited)


def _readable(documents: Iterable[str]) -> list[Certificate]:
    """Read certificates; those of earlier forms have no lineage, and nothing is taken over."""
    certificates = []
    for document in documents:
        with suppress(CertificateError, InputError):
            certificates.append(from_json(document))
    return certificates


def _takes_over(certificate: Certificate, earlier: Certificate) -> bool:
    return _rest_on_the_same(certificate, earlier) or (
        earlier.certificate_id in certificate.terms.lineage.carries
    )


def _rest_on_the_same(certificate: Certificate, earlier: Certificate) -> bool:
    """Whether two certificates are about one reference, and rest on requests that they share."""
    same = certificate.terms.reference == earlier.terms.reference
    return same and share_requests(certificate.terms.lineage.sketch, earlier.terms.lineage.sketch)


def _is_no_stricter(certificate: Certificate, earlier: Certificate) -> bool:
    """Whether audits of an earlier policy may count: its own promise must not have allowed more."""
    same = (certificate.risk_kind, certificate.per) == (earlier.risk_kind, earlier.per)
    return same and certificate.alpha >= earlier.alpha


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
    kind, labels = certificate.risk_kind, rule.labels or watching_labels(certificate)
    state = replace(state, labels=labels)
    wait = timedelta(seconds=rule.label_wait_s)
    for row in rows:
        if row.rung == row.reference_rung:
            state = replace(state, cursor=row.id)
            if kind is not RiskKind.ERROR_AMONG_ANSWERED:  # which is one of the other answers
                state = _take(state, row, change=spare)
            continue
        final = now >= row.time + wait + _SLACK or not _may_come(row, labels)
        loss = audited_loss(row, kind, labels=labels, by=row.time + wait, final=final)
        if loss is None and not final:
            break
        if loss is None:
            unlabelled, silent = state.unlabelled + 1, state.silent + 1
            state = replace(state, cursor=row.id, unlabelled=unlabelled, silent=silent)
            state = _take(state, row, change=skip)
        else:
            state = replace(state, cursor=row.id, silent=0)
            state = _take(state, row, change=partial(update, loss=loss))
    return state


def _most(rule: AuditRule, certificate: Certificate | None) -> float:
    """Return the largest share to draw: of the longest session one request on average."""
    return rule.share if certificate is None else min(rule.share, 1.0 / certificate.largest)


def _may_come(row: AuditedRequest, labels: Iterable[Label]) -> bool:
    """Without the reference's answer, only an application can still say how good an answer was."""
    return not row.reference_failed or Label.FEEDBACK in labels


def _take(state: GuardState, row: AuditedRequest, *, change: MonitorChange) -> GuardState:
    """Let the pooled monitor and that of its group take in one audited answer."""
    assert state.monitors is not None
    monitors, alarms = update_group(state.monitors, row.group, change=change), state.alarm_times
    for name, monitor in (
        (None, monitors.pooled),
        (row.group, monitors.groups.get(row.group or "")),
    ):
        if monitor is not None and monitor.alarm_at is not None and name not in alarms:
            alarms = {**alarms, name: row.time}
    return replace(state, monitors=monitors, alarm_times=alarms)


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
