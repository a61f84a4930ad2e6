"""A rung becomes worse in the middle of traffic: how soon the live guarantee notices.

Half of the requests are audited, and half of the cheap rung's answers no longer agree with the
reference's from one moment on. For each group that the policy keeps on the cheap rung, the audits
that the alarm took are counted in the ledger and held against the bound of
`suffice.guarantee.monitor.delay_limit`, which is passed with a probability of one in a thousand.
- `audits_to_alarm`, `audits_bound`: the slowest group, and its bound, with the audits of one look
  at the ledger added: the gateway takes it once a second;
- `requests_to_alarm`, `requests_bound`: the same in requests, audited or not;
- `late_groups`: groups beyond their bound, which must be 0;
- `false_alarms`: share of quiet runs in which any alarm fell, the risk being all that is allowed,
  alpha, in every group; it must be at most `delta`. These runs feed the guard without HTTP.
"""

import time
from contextlib import closing
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from benchmarks.gateway import ours
from benchmarks.gateway.bed import Bed, say
from benchmarks.gateway.load import LoadSize, LoadTarget
from benchmarks.gateway.ours import ALPHA, CHEAP, DELTA, REFERENCE, Policies, Setup
from benchmarks.gateway.processes import Broken
from benchmarks.gateway.stub import Manner
from suffice.certify.bundle import load_bundle
from suffice.guarantee import Certificate, delay_limit
from suffice.ledger import AuditedRequest, Label, Score
from suffice.scoring.audit_rule import AuditRule
from suffice.scoring.guard_state import fresh, watch

AUDIT_SHARE = 0.5
WORSE_SHARE = 0.5
MISS = 0.001
QUIET_ROUNDS, MOST_ROUNDS = 6, 60
EACH_GROUP = 4  # requests in a round
LOOK_S = 1.5  # in which the guard has read the ledger
QUIET_RUNS, QUIET_AUDITS = 500, 1350

_ROWS = """
SELECT group_name, audited, certificate_id IS NOT NULL AS certified, time_us
FROM suffice_requests ORDER BY id
"""


class Alarm(Struct, frozen=True, kw_only=True):
    """What it took until the policy no longer chose for a group; None where it never stopped."""

    quiet_audits: int
    audits: int
    requests: int
    fell: bool


def run_drift(ready: Bed, policies: Policies) -> tuple[dict[str, Any], bool]:
    """Drift once through the served gateway, then simulate quiet runs; figures, and if all hold."""
    drifted = _drift(ready, policies)
    false_alarms = _false_alarms(load_bundle(policies.routes).certificate)
    figures = {
        **drifted,
        "false_alarms": false_alarms,
        "delta": DELTA,
        "quiet_runs": QUIET_RUNS,
        "audits_in_each": QUIET_AUDITS,
    }
    return figures, drifted["late_groups"] == 0 and false_alarms <= DELTA


def _drift(ready: Bed, policies: Policies) -> dict[str, Any]:
    lines = f"audit_share = {AUDIT_SHARE}\naudit_concurrency = 16"
    setup = Setup(name="drift", upstream=ready.stub.port, policy=policies.routes, gateway=lines)
    ledger = ready.folder / setup.name / "suffice.db"
    with ready.gateway(setup) as server:
        target = LoadTarget(
            name="drift",
            port=server.port,
            model="suffice",
            questions=ours.questions(policies.groups),
        )
        _traffic(ready, target, rounds=QUIET_ROUNDS)
        kept = _groups_on(ledger, CHEAP)
        say(f"the cheap rung becomes worse; it answers {len(kept)} groups")
        began_us = int(time.time() * 1e6)
        manner = Manner(models=(ours.MODELS[CHEAP],), worse_share=WORSE_SHARE)
        ours.set_manner(ready.stub.port, manner)
        for _ in range(MOST_ROUNDS):
            _traffic(ready, target, rounds=1)
            alarms = {group: _alarm(ledger, group, began_us=began_us) for group in kept}
            if all(alarm.fell for alarm in alarms.values()):
                break
        ours.set_manner(ready.stub.port, Manner())
    return _compared(list(alarms.values()), groups=len(policies.groups))


def _traffic(ready: Bed, target: LoadTarget, *, rounds: int) -> None:
    """Send some requests of every group, and give the guard the time to see their audits."""
    for _ in range(rounds):
        ready.load(target, LoadSize(connections=4, requests=EACH_GROUP * len(target.questions)))
        time.sleep(LOOK_S)


def _groups_on(ledger: Path, rung: str) -> list[str]:
    query = "SELECT DISTINCT group_name FROM suffice_requests WHERE rung = ? ORDER BY 1"
    with closing(ours.reading(ledger)) as database:
        found = [row[0] for row in database.execute(query, (rung,))]
    if not found:
        raise Broken("the policy keeps no group on the cheap rung, so nothing can drift")
    return found


def _alarm(ledger: Path, group: str, *, began_us: int) -> Alarm:
    """Count the rows of a group since the drift until the first that the policy did not choose."""
    quiet = audits = requests = 0
    with closing(ours.reading(ledger)) as database:
        for row in database.execute(_ROWS):
            if row["group_name"] != group:
                continue
            if row["time_us"] < began_us:
                quiet += row["audited"]
                continue
            if not row["certified"]:
                return Alarm(quiet_audits=quiet, audits=audits, requests=requests, fell=True)
            requests += 1
            audits += row["audited"]
    return Alarm(quiet_audits=quiet, audits=audits, requests=requests, fell=False)


def _compared(alarms: list[Alarm], *, groups: int) -> dict[str, Any]:
    bounds = [_bound(alarm.quiet_audits, groups=groups) for alarm in alarms]
    late = [
        not alarm.fell or alarm.audits > bound for alarm, bound in zip(alarms, bounds, strict=True)
    ]
    slowest = max(range(len(alarms)), key=lambda at: alarms[at].audits)
    return {
        "drifted_groups": len(alarms),
        "audits_to_alarm": alarms[slowest].audits,
        "audits_bound": bounds[slowest],
        "requests_to_alarm": alarms[slowest].requests,
        "requests_bound": ceil(bounds[slowest] / AUDIT_SHARE),
        "late_groups": sum(late),
    }


def _bound(quiet: int, *, groups: int) -> int:
    """Bound the audits to the alarm of one group, which has its share of delta."""
    limit = delay_limit(
        WORSE_SHARE, alpha=ALPHA, delta=DELTA / (groups + 1), miss=MISS, quiet=quiet
    )
    if limit is None:
        raise Broken("the monitor predicts no bound for this drift")
    return limit + EACH_GROUP


def _false_alarms(certificate: Certificate) -> float:
    """Feed the guard audits whose risk is alpha in every group, in many runs."""
    say(f"simulating {QUIET_RUNS} quiet runs")
    groups = certificate.terms.scope.groups
    rule = AuditRule(share=AUDIT_SHARE)
    now = datetime.now(UTC)
    alarmed = 0
    for seed in range(QUIET_RUNS):
        lost = np.random.default_rng(seed).random(QUIET_AUDITS) < certificate.alpha
        rows = (
            _audited(at, group=groups[at % len(groups)], lost=bool(lost[at]), now=now)
            for at in range(QUIET_AUDITS)
        )
        state = watch(fresh(certificate), rows, certificate=certificate, rule=rule, now=now)
        if state.unlabelled:
            raise Broken("the guard did not take the labels of the quiet runs")
        alarmed += bool(state.alarm_times)
    return alarmed / QUIET_RUNS


def _audited(at: int, *, group: str, lost: bool, now: datetime) -> AuditedRequest:
    """Make an audited answer of the cheap rung, right or wrong by agreement."""
    request_id = str(at)
    score = Score(
        request_id=request_id,
        time=now,
        quality=0.0 if lost else 1.0,
        label=Label.AGREEMENT,
        rung=CHEAP,
    )
    return AuditedRequest(
        id=at + 1,
        request_id=request_id,
        time=now,
        rung=CHEAP,
        reference_rung=REFERENCE,
        group=group,
        scores=(score,),
    )
