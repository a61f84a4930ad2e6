"""What is measured of a request, an audit and the guard: from their values into the metrics."""

from collections.abc import Iterable

from msgspec import Struct

from suffice.engines.hedge import HedgeOutcome
from suffice.gateway.metrics import families as f
from suffice.gateway.metrics.registry import Metrics
from suffice.guarantee import Certificate
from suffice.ledger import Attempt, Entry, ReferenceKnown, Role
from suffice.scoring.guard_state import GuardState
from suffice.types import Count

ALL = "all"
_NONE = "none"
_KNOWN = {False: "reported", True: "estimated"}


class Times(Struct, frozen=True, kw_only=True):
    """How long a request took as its client saw it; None where it did not come to that."""

    total_s: float
    first_token_s: float | None = None
    decision_s: float | None = None


def measure_request(metrics: Metrics, entry: Entry, *, times: Times) -> None:
    """Add an ended request, just as it was booked."""
    rung = entry.rung or _NONE
    metrics.add(f.REQUESTS, (rung, entry.status.value))
    metrics.observe(f.REQUEST_SECONDS, (rung, entry.status.value), value=times.total_s)
    if times.decision_s is not None:
        metrics.observe(f.DECISION_SECONDS, value=times.decision_s)
    for attempt in entry.attempts:
        _measure_call(metrics, attempt)
    if times.first_token_s is not None:
        metrics.observe(f.FIRST_TOKEN_SECONDS, (rung,), value=times.first_token_s)
        _measure_pace(metrics, entry, rung, times.total_s - times.first_token_s)
    _measure_money(metrics, entry)


def measure_hedges(metrics: Metrics, hedges: Iterable[tuple[str, HedgeOutcome]]) -> None:
    """Add what became of the second calls of a request, by rung."""
    for rung, outcome in hedges:
        metrics.add(f.HEDGES, (rung, outcome.value))


def measure_off_path(metrics: Metrics, attempt: Attempt) -> None:
    """Add a call that was made off the client's path, for an audit or a shadow."""
    _measure_call(metrics, attempt)
    usd, audit = attempt.charge.usd, attempt.role is Role.AUDIT
    if usd is None:
        metrics.add(f.AUDIT_UNKNOWN if audit else f.SHADOW_UNKNOWN)
    else:
        known = f.AUDIT_USD if audit else f.SHADOW_USD
        metrics.add(known, (_KNOWN[attempt.charge.estimated],), float(usd))


def measure_guard(metrics: Metrics, state: GuardState, *, certificate: Certificate | None) -> None:
    """Show the guard as it stands; series of an earlier certificate go."""
    for family in (
        f.GUARD_AUDITS, f.GUARD_LOSSES, f.GUARD_WEALTH, f.GUARD_LIMIT, f.GUARD_ALARM, f.LAPSES,
    ):  # fmt: skip
        metrics.clear(family)
    for watch in state.watches:
        labels = (ALL if watch.group is None else watch.group,)
        metrics.set(f.GUARD_AUDITS, labels, to=float(watch.audits))
        metrics.set(f.GUARD_LOSSES, labels, to=watch.losses)
        metrics.set(f.GUARD_WEALTH, labels, to=watch.wealth)
        metrics.set(f.GUARD_LIMIT, labels, to=watch.limit)
        metrics.set(f.GUARD_ALARM, labels, to=float(watch.alarm_time is not None))
    metrics.set(f.GUARD_UNLABELLED, to=float(state.unlabelled))
    metrics.set(f.GUARD_BLIND, to=float(state.blind))
    metrics.set(f.AUDITS_PAUSED, to=float(state.paused_since is not None))
    if certificate is not None:
        lapses_at = certificate.terms.lapses_at.timestamp()
        metrics.set(f.LAPSES, (certificate.certificate_id,), to=lapses_at)


def _measure_call(metrics: Metrics, attempt: Attempt) -> None:
    rung, role = attempt.rung, attempt.role.value
    metrics.add(f.CALLS, (rung, role, "ok" if attempt.error is None else "failed"))
    if attempt.duration_s is not None:
        metrics.observe(f.CALL_SECONDS, (rung, role), value=attempt.duration_s)
    _measure_tokens(metrics, rung, "input", attempt.usage.input_tokens)
    _measure_tokens(metrics, rung, "output", attempt.usage.output_tokens)


def _measure_tokens(metrics: Metrics, rung: str, kind: str, count: Count | None) -> None:
    if count is not None:
        labels = (rung, kind, count.source.value)
        metrics.observe(f.TOKEN_USAGE, labels, value=float(count.tokens))


def _measure_pace(metrics: Metrics, entry: Entry, rung: str, rest_s: float) -> None:
    """Spread what came after the first token over the other tokens of the answer given."""
    answers = [a.usage.output_tokens for a in entry.attempts if a.role is Role.ANSWER]
    if answers and answers[-1] is not None and answers[-1].tokens > 1:
        metrics.observe(f.PER_TOKEN_SECONDS, (rung,), value=rest_s / (answers[-1].tokens - 1))


def _measure_money(metrics: Metrics, entry: Entry) -> None:
    vector, charge, reference_usd = entry.vector.value, entry.charge, entry.reference_usd
    guessed = entry.reference_known is not ReferenceKnown.MEASURED
    if charge.usd is None:
        metrics.add(f.CHARGE_UNKNOWN, (vector,))
    else:
        metrics.add(f.CHARGE_USD, (vector, _KNOWN[charge.estimated]), float(charge.usd))
    if reference_usd is None:
        metrics.add(f.REFERENCE_UNKNOWN, (vector,))
    else:
        metrics.add(f.REFERENCE_USD, (vector, _KNOWN[guessed]), float(reference_usd))
    if charge.usd is not None and reference_usd is not None:
        known = _KNOWN[charge.estimated or guessed]
        metrics.add(f.SAVING_USD, (vector, known), float(reference_usd - charge.usd))
