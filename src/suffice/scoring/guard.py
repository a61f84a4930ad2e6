"""The live guarantee: who is audited, what the audits have shown, and whom the policy may serve.

Every worker keeps a guard of its own, and all of them agree, because what a guard knows is a
function of the ledger: the audited answers given under its certificate, in the order that the
ledger keeps them, each with its first label. A restart reads them again, those after a checkpoint.

The ledger keeps every certificate that was served. A new one does not begin with a clean slate:
where it rests on requests of an earlier one, the alarms of that one hold for it too, and the audits
of certificates that it renews go on counting. While the risk of whatever policy was in force is at
most alpha, wealth does not grow on average, so carrying it over is as valid as one certificate.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from suffice.errors import CertificateError, InputError, LedgerError
from suffice.guarantee import Certificate, from_json, share_requests
from suffice.ledger import (
    AuditedRequest,
    Ledger,
    Window,
    audit_spend,
    audited_under,
    kept_certificates,
)
from suffice.ledger.rows import audited_sessions
from suffice.ledger.watches import find_watch, keep_watch
from suffice.scoring.audit_rule import AuditRule, share_within
from suffice.scoring.audits import is_drawn, labels_of
from suffice.scoring.checkpoint import restored, saved, watch_id
from suffice.scoring.guard_state import GuardState, fresh, watch

CHECKPOINT_EVERY = 1_000  # audits, which a restart then takes in anew
_PACE_EVERY = timedelta(minutes=1)


class Heritage(Struct, frozen=True, kw_only=True):
    """What a certificate takes over from earlier ones: whose audits count, and their alarms."""

    certificate_ids: tuple[str, ...]
    alarm_times: dict[str | None, datetime] = {}


@dataclass(kw_only=True)
class _Reading:
    """What reading on comes to: the state, the sessions that now have counted, and how far."""

    state: GuardState
    sessions: set[str] = field(default_factory=set)
    audits: int = 0
    passed: int = 0

    def counting(self, rows: Iterable[AuditedRequest]) -> Iterator[AuditedRequest]:
        for row in rows:
            self.audits += 1
            yield row


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
        self._unsaved = 0  # audits since the last checkpoint
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
            reading = self._read_on(now=now)
            self.state = self._within_budget(reading.state, now=now)
            self._sessions |= reading.sessions
            self._unsaved += reading.audits
            if self._unsaved >= CHECKPOINT_EVERY and self._save():
                self._unsaved = 0
            return self.state

    def read_on(self, *, now: datetime) -> GuardState:
        """Return what the audits in the ledger say by now, without what they cost; keeps nothing.

        Raises LedgerError.
        """
        return self._read_on(now=now).state

    def _read_on(self, *, now: datetime) -> _Reading:
        """Take in new audits, after those that a checkpoint holds."""
        reading, certificate = _Reading(state=self.state), self._certificate
        if certificate is None:
            return reading
        if self._heritage is None:
            self._heritage = heritage_of(self._ledger, certificate, rule=self.rule, now=now)
        heritage, state = self._heritage, self.state
        state = replace(state, alarm_times=heritage.alarm_times | state.alarm_times)
        ids, once = heritage.certificate_ids, certificate.largest > 1
        if state.cursor == 0:
            document = find_watch(self._ledger, self._watch_id())
            state = restored(state, document, labels=labels_of(certificate, self.rule))
            if once and state.cursor:
                reading.sessions |= audited_sessions(self._ledger, *ids, upto=state.cursor)
        audited = audited_under(self._ledger, *ids, after=state.cursor)
        with closing(audited) as rows:
            unseen = self._counted_once(rows, reading) if once else reading.counting(rows)
            state = watch(state, unseen, certificate=certificate, rule=self.rule, now=now)
        reading.state = replace(state, cursor=max(state.cursor, reading.passed))
        return reading

    def _counted_once(
        self, rows: Iterable[AuditedRequest], reading: _Reading
    ) -> Iterator[AuditedRequest]:
        """Leave out those whose session has counted; who asks for the next has taken the last."""
        for row in reading.counting(rows):
            if row.session in self._sessions or row.session in reading.sessions:
                reading.passed = row.id
                continue
            yield row
            reading.sessions |= set() if row.session is None else {row.session}

    def _watch_id(self) -> str:
        assert self._certificate is not None
        assert self._heritage is not None
        ids, alarms = self._heritage.certificate_ids, self._heritage.alarm_times
        return watch_id(self._certificate, self.rule, certificate_ids=ids, alarm_times=alarms)

    def _save(self) -> bool:
        """Keep a checkpoint; where that fails, the ledger itself still says everything."""
        try:
            keep_watch(
                self._ledger, self._watch_id(), last=self.state.cursor, body=saved(self.state)
            )
        except LedgerError:
            return False
        return True

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


def _most(rule: AuditRule, certificate: Certificate | None) -> float:
    """Return the largest share to draw: of the longest session one request on average."""
    return rule.share if certificate is None else min(rule.share, 1.0 / certificate.largest)
