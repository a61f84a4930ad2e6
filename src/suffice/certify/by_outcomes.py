"""A certificate for a policy that was rolled out, by how its sessions came out.

A session has one outcome, under the arm that it was drawn for, so no two answers can be compared.
But arms are drawn at random with a known chance. A session of the reference's arm counts its
outcome y, less a constant c, over the chance of that arm; one of the policy's arm the negative of
the same. The mean of these values is the net loss of the policy whatever c is (Horvitz and
Thompson, J. Am. Stat. Assoc. 47, 1952); c, from sessions that certify nothing, only makes them vary
less. Over their largest size they are losses in [-1, 1], and the test for net losses applies.

A session whose outcome nobody reported counts in neither arm, as far as both arms lack outcomes
equally often. Of the arm that lacks more, the rest counts as what is worst for the policy, and so
does a session that both arms answered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from suffice.certify.bundle import Bundle, load_bundle
from suffice.certify.lineage import LineageFile, add_look, look_at, read_lineage
from suffice.certify.policy import CALIBRATED, SPLITS
from suffice.certify.promise import Promise, lapses_after_s
from suffice.certify.result import CertifyResult
from suffice.errors import InputError
from suffice.guarantee import (
    RENEWALS,
    Certificate,
    Clusters,
    Evidence,
    LabelSource,
    Lineage,
    Method,
    Per,
    RiskKind,
    Scope,
    Splits,
    Terms,
    calibrate,
    content_hash,
    issue,
)
from suffice.guarantee.canary import LEAST_P, DrawnArm, imbalance
from suffice.ledger import Ledger, Window
from suffice.ledger.outcomes import DrawnSession, drawn_sessions, outcome_kinds
from suffice.policy import Baseline, Policy, from_reference, policy_hash
from suffice.scoring.audit_rule import AuditRule
from suffice.scoring.guard import alarms_of
from suffice.trials.resample import drawn_sums, estimate
from suffice.trials.table import CostUnit, Flags, Floats, Rows, split_rows
from suffice.types import Say, Trial, TrialStatus

ROUNDING = 1e-9
FRACTIONS = (0.1, 0.7, 0.2)  # of the sessions, for the constant, the test and the report
PARTS = 100  # of the sessions that the policy chose for, that are tested, from few to all


class OutcomeCertification(Struct, frozen=True, kw_only=True, eq=False):
    """What the outcomes of a roll-out came to; `bundle` is None when nothing was certified."""

    result: CertifyResult
    bundle: Bundle | None
    notes: tuple[str, ...] = ()
    looks: LineageFile = LineageFile()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Arms:
    """Sessions that count, as arrays of shape (sessions,).

    `chance` is that of the arm that a session was drawn for, `differs` whether the policy chose
    another rung than the reference; `score` is its outcome, 0 where none is `known` and it makes no
    difference, and `weight` makes up for those like it that do not count. An unknown `usd` is NaN.
    """

    names: tuple[str, ...]
    wishes: tuple[str, ...]
    by_policy: Flags
    differs: Flags
    chance: Floats
    score: Floats
    known: Flags
    weight: Floats
    usd: Floats

    def losses(self, constant: float) -> Floats:
        """Return values whose mean is the net loss of the policy."""
        sign = np.where(self.by_policy, -1.0, 1.0)
        values = sign * self.differs * self.weight * (self.score - constant) / self.chance
        return np.asarray(values)

    def only(self, rows: Rows) -> "_Arms":
        """Return some sessions."""
        arrays = ("by_policy", "differs", "chance", "score", "known", "weight", "usd")
        return _Arms(
            names=tuple(self.names[row] for row in rows.tolist()),
            wishes=tuple(self.wishes[row] for row in rows.tolist()),
            **{name: getattr(self, name)[rows] for name in arrays},
        )

    def means(self) -> Floats:
        """Return the mean outcome of the policy's sessions and of the reference's."""
        arms = (self.by_policy & self.known, ~self.by_policy & self.known)
        return np.array([self.score[arm].mean() for arm in arms])


def certify_outcomes(
    ledger: Ledger,
    promise: Promise,
    *,
    folder: Path,
    kind: str | None = None,
    since: datetime | None = None,
    say: Say = lambda _stage: None,
) -> OutcomeCertification:
    """Certify the policy in `folder` by the sessions of a ledger that it was rolled out to.

    Late outcomes count like others, and of each kind the first word. Raises InputError where
    outcomes are of several kinds and none is named, where this policy was not rolled out alone,
    where sessions of one arm are missing, or where delta is spent.
    """
    say("reading outcomes")
    bundle = load_bundle(folder)
    if bundle.policy.reference != promise.reference:
        raise InputError(
            f"the policy in {folder} has the reference {bundle.policy.reference!r}, "
            f"not {promise.reference!r}",
            hint="name the reference rung that it was certified against",
        )
    served = [
        (one, alarm)
        for one, alarm in alarms_of(ledger, rule=AuditRule(share=1.0), now=datetime.now(UTC))
        if one.terms.reference == promise.reference
    ]
    notes = []
    ended = max((alarm for _, alarm in served if alarm is not None), default=None)
    if ended is not None and (since is None or since <= ended):
        since = ended + timedelta(microseconds=1)
        notes.append(f"an alarm fell at {ended:%Y-%m-%d %H:%M} UTC: only sessions after it count")
    sessions = _under(
        bundle.policy,
        [one for one, _ in served],
        drawn_sessions(ledger, kind=_kind(ledger, kind), window=Window(since=since)),
    )
    mixed = sum(one.mixed for one in sessions)
    if mixed:
        notes.append(
            f"both arms answered {mixed:,} sessions, because gateway.rollout changed meanwhile: "
            "they count as the worst for the policy"
        )
    looks, lineage = _look(sessions, promise)
    carries = tuple(one.certificate_id for one, alarm in served if alarm is None)
    certified = _certified(bundle, sessions, promise, replace(lineage, carries=carries), say=say)
    return replace(certified, looks=looks, notes=(*notes, *certified.notes))


def _kind(ledger: Ledger, kind: str | None) -> str:
    kinds = outcome_kinds(ledger)
    if kind is not None and kind in kinds:
        return kind
    if kind is None and len(kinds) == 1:
        return next(iter(kinds))
    listed = ", ".join(f"{name} ({count:,})" for name, count in kinds.items())
    wrong = f"no outcome of the kind {kind!r}" if kind else f"outcomes of {len(kinds)} kinds"
    raise InputError(
        f"{ledger.where} has {wrong}" + (f": {listed}" if listed else ""),
        hint="say which one to promise by: --kind" if kinds else "send some: POST /v1/outcomes",
    )


def _under(
    policy: Policy, served: Sequence[Certificate], sessions: Sequence[DrawnSession]
) -> list[DrawnSession]:
    """Keep the sessions of the time in which the policy was rolled out; raises InputError."""
    mine = {c.certificate_id for c in served if c.terms.policy_hash == policy_hash(policy)}
    own = [s.time for s in sessions if s.by_policy and s.certificate_id in mine]
    if not own:
        raise InputError(
            "no session was drawn for this policy",
            hint="roll it out, and leave the reference a part of the sessions: gateway.rollout",
        )
    during = [s for s in sessions if min(own) <= s.time <= max(own)]
    if any(s.by_policy and s.certificate_id not in mine for s in during):
        raise InputError(
            "another policy was rolled out at the same time, and nobody knows whose sessions the "
            "reference answered",
            hint="name a time from which on only this one was: --since",
        )
    between = [s for s in during if min(own) < s.time < max(own)]  # the ends are its own by choice
    arms = [
        DrawnArm(s.by_policy, s.arm_chance if s.by_policy else 1 - s.arm_chance) for s in between
    ]
    if imbalance(arms) < LEAST_P:
        sizes = (sum(one.by_policy for one in arms), sum(one.policy_chance for one in arms))
        raise InputError(
            f"the policy has {sizes[0]:,} of {len(arms):,} sessions, where {sizes[1]:,.0f} were to "
            "be expected: sessions of one arm are missing in the books",
            hint="find out where they went, and name a time from which on all are there: --since",
        )
    return during


def _look(sessions: Sequence[DrawnSession], promise: Promise) -> tuple[LineageFile, Lineage]:
    """Count this look among those at the same sessions; raises InputError where delta is spent."""
    trials = [
        Trial(
            request_id=one.session_id,
            rung=f"{one.wish} by policy" if one.by_policy else promise.reference,
            status=TrialStatus.UNSCORED if one.score is None else TrialStatus.SCORED,
            text="",
            quality=one.score,
            cluster=one.session_id,
        )
        for one in sessions
    ]
    target = replace(promise, risk=RiskKind.NET_LOSS, per=Per.SESSION).ask(LabelSource.OUTCOME)
    look = look_at(trials, target, planned=promise.looks or RENEWALS, renewal=True)
    known = LineageFile() if promise.folder is None else read_lineage(promise.folder)
    return add_look(known, look)


def _arms(sessions: Sequence[DrawnSession], *, reference: str) -> _Arms:
    """Decide which sessions count, and as what where nobody reported their outcome."""
    differs = np.array([one.wish != reference for one in sessions])
    by_policy = np.array([one.by_policy for one in sessions])
    score = np.array([np.nan if one.score is None else one.score for one in sessions])
    mixed = differs & np.array([one.mixed for one in sessions])
    score[mixed] = np.where(by_policy[mixed], 0.0, 1.0)  # the worst for the policy
    lacking = {arm: differs & (by_policy == arm) & np.isnan(score) for arm in (True, False)}
    sizes = {arm: max(1, int((differs & (by_policy == arm)).sum())) for arm in lacking}
    usual = min(lacking[arm].sum() / sizes[arm] for arm in lacking)
    for arm, missing in lacking.items():
        beyond = ceil(missing.sum() - usual * sizes[arm] - ROUNDING)
        score[np.flatnonzero(missing)[:beyond]] = 0.0 if arm else 1.0
    known = ~np.isnan(score)
    counts = known | ~differs
    weight = differs.sum() / max(1, (differs & counts).sum())
    whole = _Arms(
        names=tuple(one.session_id for one in sessions),
        wishes=tuple(one.wish for one in sessions),
        by_policy=by_policy,
        differs=differs,
        chance=np.array([one.arm_chance for one in sessions]),
        score=np.nan_to_num(score),
        known=known,
        weight=np.full(len(sessions), weight),
        usd=np.array([np.nan if one.usd is None else float(one.usd) for one in sessions]),
    )
    return whole.only(np.flatnonzero(counts))


def _certified(
    bundle: Bundle,
    sessions: Sequence[DrawnSession],
    promise: Promise,
    lineage: Lineage,
    *,
    say: Say,
) -> OutcomeCertification:
    arms = _arms(sessions, reference=promise.reference)
    deal = split_rows(len(arms.names), seed=promise.seed, fractions=FRACTIONS)
    fit, test, report = (arms.only(rows) for rows in deal)
    if any(len(set(part.by_policy[part.known].tolist())) < 2 for part in (test, report)):
        raise InputError(
            f"{len(arms.names):,} sessions with outcomes are too few, or all of one arm",
            hint="roll out to more sessions, and leave the reference some: gateway.rollout",
        )
    say(f"certifying on {len(test.names):,} sessions")
    constant = float(fit.score[fit.known].mean()) if fit.known.any() else 0.5
    size = max(constant, 1 - constant) * float((arms.weight / arms.chance).max())
    shares = np.geomspace(promise.alpha, 1.0, PARTS + 1)[1:]
    evidence = Evidence(
        losses=np.tile((test.losses(constant) / size)[:, None], (1, PARTS)),
        clusters=Clusters(codes=np.arange(len(test.names)), largest=1, per=Per.SESSION),
        net=True,
        parts=shares,
    )
    level = promise.delta / lineage.planned
    scaled = calibrate(evidence, alpha=promise.alpha / size, delta=level, method=Method.BETTING)
    calibration = replace(
        scaled,
        index=scaled.index + 1,
        alpha=promise.alpha,
        delta=promise.delta,
        tests=lineage.planned,
        losses=scaled.losses * size,
        bound=min(1.0, scaled.bound * size),
    )
    policy = _path_of(bundle.policy, shares).at(calibration.index if scaled.certified else 0)
    certified = None
    if scaled.certified:
        hashes = [content_hash((part.names, part.score.tolist())) for part in (fit, test, report)]
        splits = Splits(**dict(zip(SPLITS, hashes, strict=True)))
        terms = _terms(policy, bundle, promise, lineage=lineage, splits=splits)
        certificate = issue(calibration, terms)
        certified = Bundle(policy=policy, certificate=certificate, mean_usd=bundle.mean_usd)
    found = _measured(report, policy, constant=constant, share=scaled.part * scaled.certified)
    left_out = len(sessions) - len(arms.names)
    return OutcomeCertification(
        result=CertifyResult(
            certified=scaled.certified,
            family=policy.family,
            part=policy.part,
            use_as_reference=None,
            reference=promise.reference,
            seed=promise.seed,
            beyond_largest=0,
            saving_unit=CostUnit.USD,
            label_source=LabelSource.OUTCOME,
            fixed_rungs={},
            rung_bounds=(),
            rows={n: len(p.names) for n, p in zip(SPLITS, (fit, test, report), strict=True)},
            unscored=left_out,
            worthless=0,
            unmarked=0,
            left_out={"no outcome": left_out} if left_out else {},
            lineage=lineage,
            certificate=None if certified is None else certified.certificate,
            checks=bundle.certificate.terms.checks,
            alpha=promise.alpha,
            delta=promise.delta,
            **{name: getattr(calibration, name) for name in CALIBRATED},
            **found,
        ),
        bundle=certified,
    )


def _path_of(policy: Policy, shares: Floats) -> Policy:
    """Return the policy on a path on which the share of sessions that it chooses for grows."""
    path = policy.path.take(np.full(len(shares), policy.point))
    grown = replace(path, parts=shares * policy.part)
    return replace(policy, path=from_reference(grown), point=0)


def _terms(
    policy: Policy, bundle: Bundle, promise: Promise, *, lineage: Lineage, splits: Splits
) -> Terms:
    created, before = datetime.now(UTC), bundle.certificate.terms
    groups = before.scope.groups
    return Terms(
        policy_hash=policy_hash(policy),
        reference=promise.reference,
        label_source=LabelSource.OUTCOME,
        splits=splits,
        scope=Scope(groups=groups, promised=dict.fromkeys(groups, 1.0)),
        created=created,
        lapses_at=created + timedelta(seconds=lapses_after_s(promise.lapses_after)),
        lineage=lineage,
        checks=before.checks,
    )


def _measured(report: _Arms, policy: Policy, *, constant: float, share: float) -> dict[str, Any]:
    """Measure the policy for a share of the sessions on those that took no part in the test."""
    by_policy, wanted = report.means().tolist()
    wishes = [wish for wish, own in zip(report.wishes, report.by_policy, strict=True) if own]
    shares = {rung: share * wishes.count(rung) / len(wishes) for rung in policy.rungs}
    shares[policy.reference] += 1.0 - share
    known = ~np.isnan(report.usd)
    columns = [
        column * (report.by_policy == arm) * known
        for arm in (True, False)
        for column in (np.nan_to_num(report.usd), np.ones(len(known)))
    ]
    drawn = drawn_sums(np.column_stack(columns), seed=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        savings = share * (1.0 - drawn[:, 0] / drawn[:, 1] / (drawn[:, 2] / drawn[:, 3]))
    saved = estimate(savings, clusters=len(known))
    whole = {rung: float(rung == policy.reference) for rung in policy.rungs}
    always = Baseline(share=whole, risk=0.0, quality=wanted, saving=0.0)
    interval = None if saved is None else saved.interval
    ends = None if interval is None or None in interval else (interval[0], interval[1])
    return {
        "share": shares,
        "risk": share * float(report.losses(constant).mean()),
        "saving": None if saved is None else saved.value,
        "saving_interval": ends,
        "quality": share * by_policy + (1.0 - share) * wanted,
        "reference_quality": wanted,
        "baselines": {"always_reference": always},
    }
