"""The live guarantee: who is audited, what the audits have shown, and whom the policy may serve.

Every worker keeps a guard of its own, and all of them agree, because what a guard knows is a
function of the ledger: the audited answers given under its certificate, in the order that the
ledger keeps them, each with its first label. A restart reads them again.
"""

import threading
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from suffice.errors import InputError
from suffice.guarantee import (
    Certificate,
    GroupMonitors,
    LabelSource,
    RiskKind,
    update_group,
    watch_groups,
)
from suffice.guarantee.monitor import Monitor
from suffice.ledger import AuditedRequest, Label, Ledger, Window, audit_spend, audited_under
from suffice.scoring.audits import is_drawn
from suffice.types import Spend

BLIND_AFTER = 10  # audits in a row of which nobody said how good the answer was
_RIGHT_BY_RULE = frozenset({Label.AGREEMENT, Label.FEEDBACK})
_SLACK = timedelta(minutes=1)  # for a label that came in time and is still being written


class AuditRule(Struct, frozen=True, kw_only=True):
    """How traffic is audited: a `share` drawn by `seed`, under a budget, labelled by `labels`.

    Without `labels` they are those of `watching_labels`. A label counts when it is given within
    `label_wait_s` of its request. `assumed_usd` stands for an audit whose charge is
    unknown; a budget needs one. Audits in flight may overrun the budget by what they cost.
    Raises InputError for a share outside [0, 1], or a budget without `assumed_usd`.
    """

    share: float
    seed: int = 0
    usd_per_day: Decimal | None = None
    assumed_usd: Decimal | None = None
    labels: tuple[Label, ...] = ()
    label_wait_s: float = 3600.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise InputError(f"audit share {self.share} is outside [0, 1]", hint="0.02 is usual")
        if self.usd_per_day is not None and self.assumed_usd is None:
            raise InputError(
                "an audit budget needs to know what an audit of unknown charge counts as",
                hint="give assumed_usd, such as twice the reference's mean charge",
            )


class GroupWatch(Struct, frozen=True, kw_only=True):
    """One watched group: evidence `wealth` raises the alarm when it reaches `limit`, for good.

    A `group` of None is the rest. `alarm_time` is that of the audited request at which it fell.
    """

    group: str | None
    audits: int
    losses: float
    wealth: float
    limit: float
    alarm_time: datetime | None


class GuardState(Struct, frozen=True, kw_only=True):
    """What the ledger has shown up to the audited request `cursor`; None for no certificate.

    `unlabelled` audits got none of the `labels` in time and say nothing; `silent` counts those
    since the last that did. `audit_spend` is today's, in UTC; audits pause from `paused_since`
    until its end. `as_of` is when the ledger was last read, None before the first time.
    """

    certificate_id: str | None
    monitors: GroupMonitors | None
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
        """The declared groups in order, then the rest."""
        if self.monitors is None:
            return ()
        return tuple(
            _watch(name, monitor, alarm_time=self.alarm_times.get(name))
            for name, monitor in (*self.monitors.groups.items(), (None, self.monitors.rest))
        )


class Guard:
    """Watches one certificate; `catch_up` blocks on the ledger, everything else is quick.

    Without a certificate it only draws and counts audits, and allows nobody. `allowed` may be
    asked from any thread, and says no until `catch_up` has read the ledger once.
    """

    def __init__(self, ledger: Ledger, certificate: Certificate | None, *, rule: AuditRule) -> None:
        self.rule = rule
        self.state = fresh(certificate)
        self._ledger = ledger
        self._certificate = certificate
        self._lock = threading.Lock()

    def drawn(self, request_id: str) -> bool:
        """Say, before anything else is known of a request, whether it will be audited."""
        paused = self.state.paused_since is not None
        return not paused and is_drawn(request_id, share=self.rule.share, seed=self.rule.seed)

    def allowed(self, group: str | None) -> bool:
        """Say whether the policy may choose for this group; an alarm of the rest ends it for all.

        A group of None, or one that the certificate does not name, belongs to the rest.
        """
        state = self.state
        if state.monitors is None or state.as_of is None:
            return False
        return None not in state.alarm_times and group not in state.alarm_times

    def catch_up(self, *, now: datetime) -> GuardState:
        """Take in what the ledger holds by now; call it at the start, and every second or so.

        Raises LedgerError, and then nothing has changed.
        """
        with self._lock:
            state = self._read_on(self.state, now=now)
            self.state = _with_budget(state, self._ledger, rule=self.rule, now=now)
            return self.state

    def _read_on(self, state: GuardState, *, now: datetime) -> GuardState:
        if self._certificate is None:
            return state
        audits = audited_under(self._ledger, self._certificate.certificate_id, after=state.cursor)
        with closing(audits) as rows:
            return watch(state, rows, certificate=self._certificate, rule=self.rule, now=now)


def fresh(certificate: Certificate | None) -> GuardState:
    """Return the state before the first audit: `delta` is shared among groups and the rest."""
    if certificate is None:
        return GuardState(certificate_id=None, monitors=None)
    groups = certificate.terms.scope.groups
    return GuardState(
        certificate_id=certificate.certificate_id,
        monitors=watch_groups(groups, alpha=certificate.alpha, delta=certificate.delta),
    )


def watching_labels(certificate: Certificate) -> tuple[Label, ...]:
    """Say which labels watch a certificate unless the operator chooses.

    The gateway writes agreement and takes feedback; labels of other kinds come from elsewhere.
    Marks against a target depend on the final answer alone. Answers that agree get the same mark,
    so disagreement is at least the excess over the reference: it stands in, and can sound early but
    not late. A program or a judge may read more than the final answer, and an answer that agrees
    with the reference may still be wrong: there agreement bounds nothing, and feedback must do.
    """
    source = certificate.terms.label_source
    own = Label(source.value)
    if source is LabelSource.AGREEMENT:
        return (own,)
    excess = certificate.risk_kind is RiskKind.EXCESS_OVER_REFERENCE
    return (own, Label.AGREEMENT if excess and source is LabelSource.TARGET else Label.FEEDBACK)


def watch(
    state: GuardState,
    rows: Iterable[AuditedRequest],
    *,
    certificate: Certificate,
    rule: AuditRule,
    now: datetime,
) -> GuardState:
    """Take in audited answers in order, up to the first whose label may still come."""
    labels = rule.labels or watching_labels(certificate)
    state = replace(state, labels=labels)
    wait = timedelta(seconds=rule.label_wait_s)
    for row in rows:
        if certificate.risk_kind is RiskKind.EXCESS_OVER_REFERENCE:
            loss = excess_loss(row, labels=labels, by=row.time + wait)
        elif row.rung == row.reference_rung:
            state = replace(state, cursor=row.id)  # the risk is that of the other answers
            continue
        else:
            loss = wrong_loss(row, labels=labels, by=row.time + wait)
        if loss is None and now < row.time + wait + _SLACK and _may_come(row, labels):
            break
        state = _take(state, row, loss)
    return state


def excess_loss(row: AuditedRequest, *, labels: Iterable[Label], by: datetime) -> float | None:
    """Say how much worse the answer was than the reference's; None while no label tells.

    Labels of one kind are compared with each other, and the kind that is complete first counts,
    so that a later label changes nothing. The reference is right by rule where agreement with it
    is the label, and where feedback is: an application scores only the answer that it got, and
    to suppose the reference right can only bring the alarm forward.
    """
    if row.rung == row.reference_rung:
        return 0.0
    known: dict[Label, dict[str, float]] = {label: {} for label in labels}
    for label in _RIGHT_BY_RULE & known.keys():
        known[label][row.reference_rung] = 1.0
    for score in row.scores:
        if score.label in known and score.time <= by:
            quality = known[score.label]
            quality.setdefault(score.rung or row.rung, score.quality)
            if row.rung in quality and row.reference_rung in quality:
                return max(0.0, quality[row.reference_rung] - quality[row.rung])
    return None


def wrong_loss(row: AuditedRequest, *, labels: Iterable[Label], by: datetime) -> float | None:
    """Say how wrong the answer was, whatever the reference's; None while no label tells."""
    for score in row.scores:
        mine = score.rung is None or score.rung == row.rung
        if mine and score.label in labels and score.time <= by:
            return 1.0 - score.quality
    return None


def _may_come(row: AuditedRequest, labels: Iterable[Label]) -> bool:
    """Without the reference's answer, only an application can still say how good an answer was."""
    return not row.reference_failed or Label.FEEDBACK in labels


def _take(state: GuardState, row: AuditedRequest, loss: float | None) -> GuardState:
    """Move past one audited answer, and bet on its loss where it is known."""
    if loss is None:
        unlabelled, silent = state.unlabelled + 1, state.silent + 1
        return replace(state, cursor=row.id, unlabelled=unlabelled, silent=silent)
    assert state.monitors is not None
    monitors = update_group(state.monitors, row.group, loss=loss)
    alarms = state.alarm_times
    name = row.group if row.group in monitors.groups else None
    monitor = monitors.rest if name is None else monitors.groups[name]
    if monitor.alarm_at is not None and name not in alarms:
        alarms = {**alarms, name: row.time}
    silent = state.silent if row.rung == row.reference_rung else 0  # that one needs no label
    return replace(state, cursor=row.id, monitors=monitors, alarm_times=alarms, silent=silent)


def _watch(name: str | None, monitor: Monitor, *, alarm_time: datetime | None) -> GroupWatch:
    return GroupWatch(
        group=name,
        audits=monitor.audits,
        losses=monitor.losses,
        wealth=monitor.wealth,
        limit=1.0 / monitor.delta,
        alarm_time=alarm_time,
    )


def _with_budget(
    state: GuardState, ledger: Ledger, *, rule: AuditRule, now: datetime
) -> GuardState:
    """Add what today's audits have cost, and whether that leaves room for more."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    today = audit_spend(ledger, window=Window(since=midnight))
    assumed_usd = today.spend.unknown_count * (rule.assumed_usd or Decimal(0))
    spent_usd = today.spend.known_usd + assumed_usd
    over = rule.usd_per_day is not None and spent_usd >= rule.usd_per_day
    paused_since = (today.last or now) if over else None
    return replace(state, audit_spend=today.spend, paused_since=paused_since, as_of=now)
