"""One way each to break a promise: what a run of it certifies, or whether its alarm comes."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from benchmarks.promise.traffic import (
    CHEAP,
    REFERENCE,
    USD,
    WORST,
    Flags,
    draw_requests,
    draw_wrong,
    entry_of,
    fresh_requests,
    kept_cheap,
    marks_of,
    observed,
    trials_of,
    true_risk,
    worst_for,
)
from suffice.certify.bundle import Bundle
from suffice.certify.bundling import Certification, certify_files, certify_ledger
from suffice.certify.lineage import write_lineage
from suffice.certify.promise import Promise
from suffice.errors import CertificateError, InputError
from suffice.guarantee import delay_limit
from suffice.ledger import Entry, Label, Ledger, Role, Score
from suffice.scoring.audit_rule import AuditRule
from suffice.scoring.guard import Guard
from suffice.trials.importers import write_trials
from suffice.types import Trial, TrialStatus

ALPHA, SESSION_ALPHA, DELTA = 0.05, 0.25, 0.1
MISS = 0.1  # of the alarms, that may come later than the bound
START = datetime(2026, 3, 1, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PROMISE = Promise(reference=REFERENCE, alpha=ALPHA, delta=DELTA)
BASES = 4  # certificates that the runs about live traffic share


class RunOutcome(Struct, frozen=True, kw_only=True):
    """How one run ended: a false certificate, or an alarm that is late, is `violated`.

    `acted` says that there was a certificate, or an alarm, at all.
    """

    violated: bool
    acted: bool


def copies(seed: int, folder: Path) -> RunOutcome:
    """Certify 300 requests that stand five times each in the trials."""
    rng = np.random.default_rng(seed)
    sample = draw_requests(rng, 300)
    return _judged(_certify(folder, trials_of(sample, draw_wrong(rng, sample), copies=5), seed))


def sessions(seed: int, folder: Path, *, correlation: float) -> RunOutcome:
    """Certify 60 sessions of 20 turns, some of which are right or wrong as a whole."""
    rng = np.random.default_rng(seed)
    sample = draw_requests(rng, 60 * 20)
    wrong = draw_wrong(rng, sample, session=20, correlation=correlation)
    promise = replace(PROMISE, alpha=SESSION_ALPHA)
    return _judged(_certify(folder, trials_of(sample, wrong, session=20), seed, promise=promise))


def unscored(seed: int, folder: Path) -> RunOutcome:
    """Certify where a third of the wrong cheap answers has no score: its scorer raised on them."""
    rng = np.random.default_rng(seed)
    sample = draw_requests(rng, 1500)
    wrong = draw_wrong(rng, sample)
    silent = {
        f"r{sample.numbers[at]}-0" for at in np.flatnonzero(wrong & (rng.random(1500) < 0.33))
    }

    def blank(trial: Trial) -> Trial:
        if trial.rung == REFERENCE or trial.request_id not in silent:
            return trial
        return replace(trial, quality=None, status=TrialStatus.UNSCORED)

    return _judged(_certify(folder, map(blank, trials_of(sample, wrong)), seed))


def ten_seeds(seed: int, folder: Path) -> RunOutcome:
    """Certify the same trials under ten seeds, and keep the best by the share that is reported."""
    rng = np.random.default_rng(seed)
    sample = draw_requests(rng, 400)
    trials = list(trials_of(sample, draw_wrong(rng, sample)))
    promise = replace(PROMISE, looks=10)
    drawn = (_certify(folder, trials, seed, promise=promise) for seed in range(10))
    issued = [c for c in drawn if c is not None and c.bundle is not None]
    best = max(issued, key=lambda c: c.result.share[CHEAP], default=None)
    return _judged(best)


def five_looks(seed: int, folder: Path) -> RunOutcome:
    """Certify anew at 200, 400 and up to 1,000 audits of one ledger, and use each certificate."""
    with LiveTraffic.opened(folder, seed, label=Label.AGREEMENT) as live:
        certifications = []
        for look in range(5):
            live.audit(200, at=START + look * DAY)
            certifications.append(_recertify(folder, live.ledger))
    outcomes = [_judged(certification) for certification in certifications]
    return RunOutcome(
        violated=any(outcome.violated for outcome in outcomes),
        acted=any(outcome.acted for outcome in outcomes),
    )


def drift(seed: int, folder: Path) -> RunOutcome:
    """Certify anew 200 audits after the risk has risen to 12 %, and again when the alarm is old."""
    base = _base(seed % BASES)
    worst = _worst_at(seed % BASES, 0.12)
    outcomes = []
    with LiveTraffic.opened(folder, seed, base=base) as live:
        Guard(live.ledger, base.certificate, rule=AuditRule(share=1.0)).begin()
        live.audit(600, at=START)
        for day, audits in ((1, 200), (2, 600)):
            live.audit(audits, at=START + day * DAY, worst=worst)
            outcomes.append(_judged(_recertify(folder, live.ledger), worst=worst))
    return RunOutcome(
        violated=any(outcome.violated for outcome in outcomes),
        acted=any(outcome.acted for outcome in outcomes),
    )


def few_labels(seed: int, folder: Path) -> RunOutcome:
    """Watch a risk of 10 % with labels for a tenth of the cheap answers, given at random."""
    base = _base(seed % BASES)
    worst = _worst_at(seed % BASES, 0.1)
    rule = AuditRule(share=1.0, label_wait_s=60.0)
    with LiveTraffic.opened(folder, seed, base=base) as live:
        guard = Guard(live.ledger, base.certificate, rule=rule)
        limit = _limit(base, risk=0.1)
        at = START
        while not guard.state.alarm_times and _counted(guard) < limit:
            live.stream(1000, at=at, worst=worst, told=0.1)
            at += DAY
            guard.catch_up(now=at)
        return _watched(guard, limit=limit)


def budget(seed: int, folder: Path) -> RunOutcome:
    """Watch easy nights and hard days, with a budget for a third of the audits that are drawn."""
    base = _base(seed % BASES)
    night, day = (_worst_at(seed % BASES, risk) for risk in (0.02, 0.22))
    rule = AuditRule(
        share=0.5, seed=seed, usd_per_day=150 * USD[REFERENCE], assumed_usd=Decimal("0.01")
    )
    with LiveTraffic.opened(folder, seed, base=base) as live:
        guard = Guard(live.ledger, base.certificate, rule=rule)
        limit = _limit(base, risk=0.12) + 150
        hour = 0
        while not guard.state.alarm_times and _counted(guard) < limit and hour < 24 * 14:
            at = START + hour * HOUR
            guard.catch_up(now=at)
            worst = night if hour % 24 < 12 else day
            live.stream(42, at=at, worst=worst, drawn=guard.drawn)
            hour += 1
        guard.catch_up(now=START + hour * HOUR)
        return _watched(guard, limit=limit)


def feedback(seed: int, folder: Path) -> RunOutcome:
    """Certify anew where the well-disposed call three in five wrong answers right."""
    with LiveTraffic.opened(folder, seed, label=Label.AGREEMENT) as live:
        live.audit(800, at=START, praised=0.6)
        return _judged(_recertify(folder, live.ledger))


CELLS: dict[str, Callable[[int, Path], RunOutcome]] = {
    "ten_seeds": ten_seeds,
    "five_looks": five_looks,
    "drift_recertify": drift,
    "copies": copies,
    "sessions_0.3": partial(sessions, correlation=0.3),
    "sessions_0.9": partial(sessions, correlation=0.9),
    "sessions_1": partial(sessions, correlation=1.0),
    "unscored": unscored,
    "labels_for_a_tenth": few_labels,
    "budget_by_hour": budget,
    "feedback": feedback,
}


def run_cell(name: str, seed: int) -> RunOutcome:
    """Run one cell in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return CELLS[name](seed, Path(folder))


def _certify(
    folder: Path, trials: Iterable[Trial], seed: int, *, promise: Promise = PROMISE
) -> Certification | None:
    """Do what `suffice certify TRIALS --seed SEED --out FOLDER` does; None where it refuses."""
    path = folder / "trials.jsonl"
    write_trials(path, trials)
    out = folder / "policy"
    variant = replace(promise, seed=seed, folder=out)
    try:
        certification = certify_files([path], variant)
    except InputError:
        return None
    write_lineage(out, certification.looks)
    return certification


def _recertify(folder: Path, ledger: Ledger) -> Certification | None:
    """Do what `suffice recertify LEDGER --out FOLDER` does; None where it refuses."""
    out = folder / "policy"
    try:
        variant = replace(PROMISE, folder=out)
        certification = certify_ledger(ledger, variant, say=lambda _stage: None)
    except (InputError, CertificateError):
        return None
    write_lineage(out, certification.looks)
    return certification


def _judged(certification: Certification | None, *, worst: float = WORST) -> RunOutcome:
    """Compare what was certified with the truth."""
    if certification is None or certification.bundle is None:
        return RunOutcome(violated=False, acted=False)
    risk = true_risk(certification.bundle.policy, worst=worst)
    return RunOutcome(violated=risk > certification.bundle.certificate.alpha, acted=True)


@cache
def _base(number: int) -> Bundle:
    """Certify a policy whose live traffic is then watched."""
    rng = np.random.default_rng([number, 7])
    sample = draw_requests(rng, 1500)
    with tempfile.TemporaryDirectory() as folder:
        certification = _certify(Path(folder), trials_of(sample, draw_wrong(rng, sample)), number)
    assert certification is not None
    assert certification.bundle is not None
    return certification.bundle


@cache
def _kept(certificate_id: str) -> Flags:
    """Mark the fresh requests whose cheap answer the policy of a base keeps."""
    bases = (_base(number) for number in range(BASES))
    base = next(base for base in bases if base.certificate.certificate_id == certificate_id)
    return kept_cheap(base.policy, fresh_requests()[1])


@cache
def _worst_at(number: int, risk: float) -> float:
    return worst_for(_base(number).policy, risk)


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveTraffic:
    """Requests answered under a certificate, or all by the cheap rung while nothing is promised."""

    ledger: Ledger
    rng: np.random.Generator
    base: Bundle | None = None
    label: Label = Label.TARGET

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, seed: int, **fields: Any) -> "Iterator[LiveTraffic]":
        """Open a ledger that keeps texts."""
        with Ledger.open(folder / "books.db", store_text=True) as ledger:
            yield cls(ledger=ledger, rng=np.random.default_rng(seed), **fields)

    def audit(
        self, requests: int, *, at: datetime, worst: float = WORST, praised: float = 0.0
    ) -> None:
        """Book new requests, half a minute apart, all audited; feedback praises a share of them."""
        sample = draw_requests(self.rng, requests)
        wrong = draw_wrong(self.rng, sample, worst=worst).tolist()
        kept = np.ones(requests, np.bool_)
        if self.base is not None:
            kept = kept_cheap(self.base.policy, observed(sample))
        booked = [
            entry_of(sample, i, cheap=bool(kept[i]), time=at + i * MINUTE / 2)
            for i in range(requests)
        ]
        self._book(booked, list(zip(booked, wrong, strict=True)))
        praise = np.flatnonzero(self.rng.random(requests) < praised).tolist()
        self.ledger.score(
            Score(
                request_id=booked[i].request_id,
                time=booked[i].time + MINUTE,
                quality=1.0,
                label=Label.FEEDBACK,
            )
            for i in praise
        )

    def stream(
        self,
        requests: int,
        *,
        at: datetime,
        worst: float,
        told: float = 1.0,
        drawn: Callable[[str], bool] = lambda _request_id: True,
    ) -> None:
        """Book requests of an hour or a day, some `drawn` for audits; `told` of them are marked."""
        assert self.base is not None
        fresh, _ = fresh_requests()
        kept, chances = _kept(self.base.certificate.certificate_id), fresh.chances(worst=worst)
        booked, marked = [], []
        for number, i in enumerate(self.rng.integers(len(fresh), size=requests).tolist()):
            entry = entry_of(fresh, i, cheap=bool(kept[i]), time=at + number * 80 * SECOND)
            entry = replace(entry, request_id=f"q{self.rng.integers(2**62)}")
            if not drawn(entry.request_id):
                answers = tuple(a for a in entry.attempts if a.role is Role.ANSWER)
                entry = replace(entry, audited=False, attempts=answers)
            booked.append(entry)
            if entry.audited and self.rng.random() < told:
                marked.append((entry, bool(self.rng.random() < chances[i])))
        self._book(booked, marked)

    def _book(self, booked: list[Entry], marked: list[tuple[Entry, bool]]) -> None:
        """Write requests under the certificate, and the marks of those whose fate is known."""
        if self.base is not None:
            under = self.base.certificate.certificate_id
            booked = [replace(entry, certificate_id=under) for entry in booked]
        self.ledger.append_many(booked)
        self.ledger.score(
            mark
            for entry, wrong in marked
            for mark in marks_of(entry, wrong=wrong, label=self.label)
        )


def _limit(base: Bundle, *, risk: float) -> int:
    """Return the audits that count within which the alarm falls, but for a chance of `MISS`."""
    certificate = base.certificate
    limit = delay_limit(risk, alpha=certificate.alpha, delta=certificate.delta, miss=MISS)
    assert limit is not None
    return limit


def _counted(guard: Guard) -> int:
    return 0 if guard.state.monitors is None else guard.state.monitors.pooled.audits


def _watched(guard: Guard, *, limit: int) -> RunOutcome:
    monitors = guard.state.monitors
    alarm_at = None if monitors is None else monitors.pooled.alarm_at
    return RunOutcome(violated=alarm_at is None or alarm_at > limit, acted=alarm_at is not None)
